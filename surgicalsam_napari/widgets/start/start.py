"""Start and Videos, connected: the start page, the list of videos, their queue, and what is dropped on the window."""

from __future__ import annotations

from pathlib import Path

from napari.utils.notifications import show_info
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QWidget

from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.phantom import clip as phantom_clip
from surgicalsam_napari.preferences import Preferences, read_preferences, remember, with_videos, without_videos
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project
from surgicalsam_napari.widgets.parts.message import show_failure
from surgicalsam_napari.widgets.parts.vote_switch import VoteSwitch
from surgicalsam_napari.widgets.runs.background import run_in_background
from surgicalsam_napari.widgets.source.video_panel import VideoPanel
from surgicalsam_napari.widgets.start import texts
from surgicalsam_napari.widgets.start.drops import VideoDrops
from surgicalsam_napari.widgets.start.segmentation_queue import SegmentationQueue
from surgicalsam_napari.widgets.start.start_page import MOST_RECENT, StartPage
from surgicalsam_napari.widgets.start.summaries import Listed, Summaries
from surgicalsam_napari.widgets.start.videos_window import VideosWindow
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers
from surgicalsam_napari.widgets.viewer.session_signals import SessionSignals

IN_THE_QUEUE = "{} is being segmented in the list of videos. Wait until it is done, or cancel it there, then open it."


class Start(QObject):
    """Everything that leads to an open project.

    Parameters
    ----------
    video_fold : what the start page replaces, with the `video_panel` in it
    vote : the switch that the window *Videos* follows
    panel : the plugin's dock

    Attributes
    ----------
    page : the start page, for the dock
    queue : the videos that are being segmented
    """

    open_requested = Signal(object, object)  # Path; its project if that is not beside the video, or None

    def __init__(
        self,
        session: Session,
        layers: ViewerLayers,
        video_panel: VideoPanel,
        video_fold: QWidget,
        vote: VoteSwitch,
        panel: QWidget,
    ) -> None:
        super().__init__(panel)
        self.session, self.layers, self.panel = session, layers, panel
        self.video_panel, self.video_fold, self._vote = video_panel, video_fold, vote
        self.page, self.queue, self.drops = StartPage(), SegmentationQueue(session, self), VideoDrops(self)
        self._recent = Summaries(self)
        self._opened: dict[Path, str | None] = {}
        self._summaries = Summaries(self)
        self._window: VideosWindow | None = None
        self._connect()
        self._show_page()
        self._show_recent()

    @property
    def videos(self) -> VideosWindow:
        """The window *Videos*, made on first use."""
        if self._window is None:
            self._window = VideosWindow(self.session, self.queue, self._summaries, self.panel)
            self._window.vote.follow(self._vote)
            self._window.open_requested.connect(self.open_requested)
            self.drops.watch(self._window, into_list=True)
        return self._window

    def subscribe(self, signals: SessionSignals) -> None:
        """Show the start page while nothing is open, and remember what is opened."""
        signals.project_changed.connect(self._on_project_changed)
        signals.model_changed.connect(lambda: self._window.show_model() if self._window is not None else None)

    def refuses(self, path: Path) -> bool:
        """Whether this video cannot be opened now, because the queue works on it; the user is told."""
        if not self.queue.is_working_on(path):
            return False
        show_info(IN_THE_QUEUE.format(path.name))
        return True

    def show_opening(self, name: str | None) -> None:
        """Say what is being opened; None: nothing is any more."""
        self.page.show_working("" if name is None else f"Opening {name}…")

    def list_videos(self, paths: list[Path], left_out: list[Path]) -> None:
        """Put videos into the list, and show it."""
        self.videos.add([path.absolute() for path in paths])
        if left_out:
            names = ", ".join(path.name for path in left_out)
            show_info(f"{counted(len(paths), 'video')} added to the list. Left out, because they are no videos: {names}.")

    # Connections ---------------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self.page.open_file.connect(self.video_panel.choose_file)
        self.page.open_folder.connect(self.video_panel.choose_folder)
        self.page.sample_requested.connect(self._open_sample)
        self.page.recent_chosen.connect(self._open_recent)
        self.page.all_videos.connect(lambda: self.videos.show_list())
        self.video_panel.videos_requested.connect(lambda: self.videos.show_list())
        self._recent.read.connect(lambda _listed: self._fill_recent())
        self.drops.one_dropped.connect(lambda path: self.open_requested.emit(path, None))
        self.drops.several_dropped.connect(self.list_videos)
        self.drops.folder_dropped.connect(lambda folder: self.videos.show_folder(folder))
        self.drops.watch(self.panel)
        self.queue.run.reported.connect(self._on_report)
        self.queue.run.failed.connect(self._show_if_bug)
        self.queue.changed.connect(self._on_queued)

    def _on_project_changed(self) -> None:
        project = self.session.project
        if project is not None:
            self._remember_opened(project)
        self._show_page()
        if project is None:
            self._show_recent()
        if self._window is not None and self._window.isVisible():
            self._window.reload()

    def _remember_opened(self, project: Project) -> None:
        video = project.manifest.video_path  # it may be in the list, from before it had a project

        def update(preferences: Preferences) -> Preferences:
            return with_videos(without_videos(preferences, [video]), [project.top.folder], is_opened=True)

        remember(update)

    def _show_page(self) -> None:
        is_empty = self.session.project is None
        self.page.setVisible(is_empty)
        self.video_fold.setVisible(not is_empty)

    # The start page ------------------------------------------------------------------------------------------------------

    def _show_recent(self) -> None:
        videos = [video for video in read_preferences().videos if video.opened is not None][:MOST_RECENT]
        self._opened = {video.path: video.opened for video in videos}
        self._recent.show(self._opened)
        self._fill_recent()

    def _fill_recent(self) -> None:
        self.page.show_recent([self._entry(listed) for listed in self._recent.listed.values()])

    def _entry(self, listed: Listed) -> tuple[Path, str, str]:
        opened = texts.moment(self._opened.get(listed.path))
        name = listed.path.stem if listed.summary is None else listed.name
        return listed.path, name, texts.facts(listed, opened)

    def _open_recent(self, path: Path) -> None:
        listed = self._recent.listed[path]
        if listed.problem or (listed.summary is not None and not listed.summary.is_video_found):
            self.videos.show_list(select=[path])  # it says what to do
        else:
            self.open_requested.emit(path, None)

    def _open_sample(self) -> None:
        self.page.show_working("Making the sample video…")
        run_in_background(phantom_clip.sample_clip, self._on_sample, self._on_sample_failed)

    def _on_sample(self, clip: Path) -> None:
        self.page.show_working("")
        self.open_requested.emit(clip, None)

    def _on_sample_failed(self, error: Exception) -> None:
        self.page.show_working("")
        show_failure(error, self.page)

    # The queue -----------------------------------------------------------------------------------------------------------

    def _on_report(self, report: object) -> None:
        if self.queue.is_on_open_project:
            self.layers.refresh_frame(report.frame_index)  # type: ignore[attr-defined]

    def _on_queued(self, path: Path) -> None:
        if path != self.queue.current or not self.queue.is_running:
            self._summaries.refresh(path)

    def _show_if_bug(self, error: Exception) -> None:
        """The list says what a user can do about an error; a bug needs its traceback."""
        if not isinstance(error, SurgicalSAMError):
            show_failure(error, self.page if self.session.project is None else self.video_panel)
