"""Panel *Video*: the open video, and buttons to open another."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from surgicalsam_napari.formatting import counted, in_time
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.ownership import Owner
from surgicalsam_napari.video import VideoInfo
from surgicalsam_napari.widgets.parts.file_dialogs import VIDEO_FILTER, FileKind, ask_for_file, ask_for_folder
from surgicalsam_napari.widgets.parts.parts import SPACING, ElidedLabel, Panel, note
from surgicalsam_napari.widgets.source.saved_mark import SavedMark
from surgicalsam_napari.widgets.viewer.label_changes import LabelChanges
from surgicalsam_napari.widgets.viewer.session_signals import SessionSignals

NOTHING_OPEN = "No video is open. Open one, or drop it on the viewer."
BANNER_STYLE = """
#readOnly { background-color: rgba(242, 161, 31, 40); border-left: 3px solid #f2a11f; }
"""


class VideoPanel(Panel):
    """File, size, frames and frame rate; two buttons.

    Signals: `summarized` (what the folded panel says) and `attention_wanted` (it says something that must be read).
    """

    open_requested = Signal(object)  # Path
    summarized = Signal(str)
    attention_wanted = Signal()
    videos_requested = Signal()  # the list of videos

    def __init__(self) -> None:
        super().__init__("Video")
        self.saved = SavedMark()  # the dock shows it at the end of the heading
        self._project_folder: Path | None = None
        self.file_name = ElidedLabel()
        self.facts, self.border = note(NOTHING_OPEN), note()
        self.border.setToolTip("No instrument is predicted on the black border around the picture")
        self.open_file = QPushButton("Open file…")
        self.open_folder = QPushButton("Open folder…")
        self.open_file.setToolTip(
            "A video (mp4, mov, mkv, avi, mpg, vob, ts, mxf, wmv …), a DICOM video, or a TIFF with several pages"
        )
        self.open_folder.setToolTip("A folder of numbered images, or a project (*.surgicalsam)")
        self.videos = QPushButton("Videos…")
        self.videos.setToolTip("The list of videos: how far each one is; segment several one after the other")
        self.open_file.clicked.connect(self.choose_file)
        self.open_folder.clicked.connect(self.choose_folder)
        self.videos.clicked.connect(self.videos_requested)
        buttons = QHBoxLayout()
        buttons.setSpacing(SPACING)
        buttons.addWidget(self.open_file, 1)
        buttons.addWidget(self.open_folder, 1)
        buttons.addWidget(self.videos, 1)
        self.column.addWidget(self.file_name)
        self.column.addWidget(self.facts)
        self.column.addWidget(self.border)
        self.column.addWidget(self._build_banner())
        self.column.addLayout(buttons)
        self.show_project(None)

    def _build_banner(self) -> QWidget:
        self.banner, self.read_only, self.try_again = QWidget(), note(), QPushButton("Open it again")
        self.banner.setObjectName("readOnly")
        self.banner.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.banner.setStyleSheet(BANNER_STYLE)
        self.read_only.setStyleSheet("padding: 0px; margin: 0px; background: transparent;")
        self.try_again.clicked.connect(self._open_again)
        column = QVBoxLayout(self.banner)
        column.setContentsMargins(SPACING + 2, SPACING, SPACING, SPACING)
        column.setSpacing(SPACING)
        column.addWidget(self.read_only)
        column.addWidget(self.try_again)
        return self.banner

    def subscribe(self, signals: SessionSignals, changes: LabelChanges) -> None:
        """From now on, describe the open project's video, and whether all work on it is saved."""
        session = signals.session
        changes.frames_changed.connect(lambda _frames: self._on_written(session.project))
        changes.edit_failed.connect(lambda reason: self._on_edit_failed(session.project, reason))
        signals.project_changed.connect(lambda: self.show_project(session.project, session.other_owner))

    def show_project(self, project: Project | None, other_owner: Owner | None = None) -> None:
        """Describe the open project's video; if it is read-only, say why."""
        self._project_folder = None if project is None else project.top.folder
        self.saved.show_project(project)
        self.file_name.setVisible(project is not None)
        self.banner.setVisible(project is not None and not project.writable)
        self.read_only.setText(why_read_only(other_owner))
        self.border.setText("" if project is None else describe_border(project))
        self.border.setVisible(bool(self.border.text()))
        if project is None:
            self.facts.setText(NOTHING_OPEN)
            self.summarized.emit("none is open")
            self.attention_wanted.emit()
            return
        info = project.video.info
        self.file_name.setText(info.path.name)
        self.file_name.setToolTip(f"{info.path}\nLabels and embeddings are kept in {project.top.folder}")
        self.facts.setText(describe_video(info))
        self.summarized.emit(f"{info.path.name} · {describe_video(info)}")
        if not project.writable or info.remarks:
            self.attention_wanted.emit()

    def _on_written(self, project: Project | None) -> None:
        if project is not None and not len(project.labels.unsaved):
            self.saved.show_saved()

    def _on_edit_failed(self, project: Project | None, reason: str) -> None:
        if project is not None and not len(project.labels.unsaved):  # else it is kept, and the mark says so
            self.saved.show_failed(reason)

    def set_enabled(self, enabled: bool) -> None:
        """Unlock the buttons, or lock them while a run uses the video."""
        self.open_file.setEnabled(enabled)
        self.open_folder.setEnabled(enabled)
        self.try_again.setEnabled(enabled)

    def show_opening(self, path: Path) -> None:
        """Say that a video is being opened."""
        self.facts.setText(f"Opening {path.name}…")
        self.summarized.emit(self.facts.text())

    def _open_again(self) -> None:
        if self._project_folder is not None:
            self.open_requested.emit(self._project_folder)

    def choose_file(self) -> None:
        """Ask for a video, and open it."""
        path = ask_for_file(self, FileKind.VIDEOS, "Open a surgical video", VIDEO_FILTER)
        if path is not None:
            self.open_requested.emit(path)

    def choose_folder(self) -> None:
        """Ask for a folder of images or a project, and open it."""
        path = ask_for_folder(self, FileKind.VIDEOS, "Open a folder of numbered images, or a project (*.surgicalsam)")
        if path is not None:
            self.open_requested.emit(path)


def why_read_only(other_owner: Owner | None) -> str:
    """ "Read-only: anna on or-pc has had it open since 10:42. …"; without an owner, the folder is not writable."""
    if other_owner is None:
        return "Read-only: its folder cannot be written to. Nothing is saved. Get write access, then open it again."
    since = other_owner.since
    with suppress(ValueError):
        at = datetime.fromisoformat(since).astimezone()
        is_today = at.date() == datetime.now().astimezone().date()
        since = at.strftime("%H:%M" if is_today else "%d %b, %H:%M")
    who = f"{other_owner.user} on {other_owner.host}"
    return f"Read-only: {who} has had it open since {since}. Close it there, then open it again here."


def describe_border(project: Project) -> str:
    """ "Black border left out: 37 % of the picture"; empty if there is none."""
    if not project.content_area.is_whole:
        return f"Black border left out: {project.content_area.border_share:.0%} of the picture".replace("%", " %")
    if not project.video.content_area.is_whole:
        return "Dark border kept: you labelled instruments on it"
    return ""


def describe_video(info: VideoInfo) -> str:
    """ "1280 × 1024 · 90,000 frames · 25 fps · 1 h 00 min"; images in a folder have no rate."""
    height, width = info.size
    facts = [f"{width} × {height}", counted(info.frame_count, "frame")]
    if info.frame_rate:
        facts += [f"{info.frame_rate:.4g} fps", in_time(info.frame_count / info.frame_rate)]
    if info.left_out:
        facts.append(
            f"{counted(len(info.left_out), 'file')} left out, such as {info.left_out[0]}: masks or doubles of frames"
        )
    return " · ".join([*facts, *info.remarks])
