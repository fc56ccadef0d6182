"""The window *Videos*: a list of videos and projects, and the queue that segments them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QComboBox, QDialog, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from surgicalsam_napari.formatting import counted
from surgicalsam_napari.preferences import read_preferences, remember, with_videos, without_videos
from surgicalsam_napari.session import Session
from surgicalsam_napari.store.summary import find_videos
from surgicalsam_napari.widgets.parts.file_dialogs import VIDEO_FILTER, FileKind, ask_for_file, ask_for_files, ask_for_folder
from surgicalsam_napari.widgets.parts.parts import SPACING, caption, primary_button
from surgicalsam_napari.widgets.parts.progress_strip import ProgressStrip
from surgicalsam_napari.widgets.parts.vote_switch import VoteSwitch
from surgicalsam_napari.widgets.runs.background import run_in_background
from surgicalsam_napari.widgets.start import texts
from surgicalsam_napari.widgets.start.class_choice import ClassChoice
from surgicalsam_napari.widgets.start.segmentation_queue import SegmentationQueue
from surgicalsam_napari.widgets.start.summaries import Listed, Summaries
from surgicalsam_napari.widgets.start.videos_table import VideosTable

REMEMBERED, CHOOSE_FOLDER = "Opened and added videos", "A folder…"
EMPTY = "The list is empty. Add videos, drop them on the viewer, or show those of a folder."
HOW_TO = "Double-click a video to open it. Select several, then Segment: they are done one after the other."
SIZE = (900, 460)


class VideosWindow(QDialog):
    """Opens, adds and segments videos; the state of each is in its row, and what to do about it below the table.

    Parameters
    ----------
    summaries : the list, shared with the start page
    """

    open_requested = Signal(object, object)  # Path of the list; its project, if that is not beside the video, or None

    def __init__(self, session: Session, queue: SegmentationQueue, summaries: Summaries, parent: QWidget) -> None:
        super().__init__(parent)
        self.session, self.queue, self.summaries = session, queue, summaries
        self._folder: Path | None = None  # whose videos are listed; None: the remembered list
        self._opened: dict[Path, str | None] = {}
        self._finding: object = None
        self._repaint = QTimer(self, singleShot=True, interval=0)
        self._repaint.timeout.connect(self._update)
        self.setWindowTitle("Videos")
        self.resize(*SIZE)
        self._build()
        self._connect()

    def show_list(self, select: Sequence[Path] = ()) -> None:
        """Show the remembered list, with these videos selected."""
        self._folder = None
        self.source.setCurrentIndex(0)
        self.reload()
        self.table.select(select)
        self._bring_up()

    def show_folder(self, folder: Path) -> None:
        """Show the videos and projects in a folder and the folders below it."""
        self._folder = folder
        if self.source.findData(folder) < 0:
            self.source.insertItem(1, folder.name, folder)
            self.source.setItemData(1, str(folder), Qt.ItemDataRole.ToolTipRole)
        self.source.setCurrentIndex(self.source.findData(folder))
        self.reload()
        self._bring_up()

    def reload(self) -> None:
        """Read the list again: videos may have come, and projects have changed."""
        self._opened = {video.path: video.opened for video in read_preferences().videos}
        self._finding = finding = object()
        if self._folder is None:
            self.summaries.show(self._opened)
            return
        folder = self._folder
        self.summaries.show([])
        self.details.setText(f"Looking for videos in {folder}…")
        run_in_background(
            lambda: list(find_videos(folder)),
            lambda paths: self._on_found(finding, paths),
            lambda error: self.details.setText(f"{folder} cannot be read: {error}"),
        )

    def add(self, paths: Sequence[Path]) -> None:
        """Add videos to the remembered list, and show them."""
        remember(lambda preferences: with_videos(preferences, paths))
        self.show_list(select=paths)

    def opened_at(self, listed: Listed) -> Any:
        """When a listed video was opened last; None if never."""
        return texts.moment(self._opened.get(listed.path))

    def update_state(self) -> None:
        """Show which buttons can be used now."""
        self._repaint.start()

    # Building ------------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.source, self.table, self.classes = QComboBox(), VideosTable(), ClassChoice()
        self.vote = VoteSwitch()
        self.source.addItem(REMEMBERED, None)
        self.source.addItem(CHOOSE_FOLDER, CHOOSE_FOLDER)
        self.add_button, self.remove_button = QPushButton("Add videos…"), QPushButton("Remove from list")
        self.remove_button.setToolTip("Only from this list: the video and its project stay")
        self.open_button, self.segment_button = QPushButton("Open"), primary_button("Segment")
        self.details, self.remedy = caption(""), QPushButton("Find the video…")
        self.details.setWordWrap(True)
        self.progress, self.result = ProgressStrip(), caption("")
        self.result.setWordWrap(True)
        top = _row(caption("Show"), self.source, None, self.add_button, self.remove_button)
        about = _row(self.details, self.remedy)
        about.setStretch(0, 1)
        about.setAlignment(self.remedy, Qt.AlignmentFlag.AlignTop)
        bottom = _row(self.open_button, None, self.vote, caption("Look for"), self.classes, self.segment_button)
        column = QVBoxLayout(self)
        column.setSpacing(2 * SPACING)
        column.addLayout(top)
        column.addWidget(self.table, 1)
        for item in (about, bottom):
            column.addLayout(item)
        column.addWidget(self.progress)
        column.addWidget(self.result)
        for button in (self.add_button, self.remove_button, self.open_button, self.segment_button, self.remedy):
            button.setAutoDefault(False)  # Enter belongs to the table
        self.progress.cancel.setAutoDefault(False)
        self.progress.hide()
        self.result.hide()

    def _connect(self) -> None:
        self.source.activated.connect(self._on_source)
        self.add_button.clicked.connect(self._choose_videos)
        self.remove_button.clicked.connect(self._remove)
        self.open_button.clicked.connect(lambda: self._open(self.table.selected()[0]))
        self.segment_button.clicked.connect(self._segment)
        self.remedy.clicked.connect(self._find_video)
        self.classes.changed.connect(self.update_state)
        self.table.opened.connect(self._open)
        self.table.removed.connect(self._remove)
        self.table.itemSelectionChanged.connect(self.update_state)
        self.summaries.list_changed.connect(self._on_list_changed)
        self.summaries.read.connect(lambda listed: self._show(listed.path))
        self.queue.changed.connect(self._show)
        self.queue.running_changed.connect(self._on_running_changed)
        self.queue.finished.connect(self._on_queue_finished)
        self.progress.cancelled.connect(self._on_cancel)

    def _bring_up(self) -> None:
        self.show()
        self.raise_()
        self.activateWindow()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.show_model()

    def show_model(self) -> None:
        """Offer the classes of the loaded checkpoint."""
        self.classes.show_classes(None if self.session.model is None else self.session.model.classes)

    # The list ------------------------------------------------------------------------------------------------------------

    def _on_source(self, index: int) -> None:
        chosen = self.source.itemData(index)
        if chosen == CHOOSE_FOLDER:
            chosen = ask_for_folder(self, FileKind.VIDEOS, "Show the videos and projects of a folder") or self._folder
        if chosen is None:
            self.show_list()
        else:
            self.show_folder(chosen)

    def _on_found(self, finding: object, paths: list[Path]) -> None:
        if finding is self._finding:
            self.summaries.show(paths)

    def _on_list_changed(self) -> None:
        self.table.show_paths(self.summaries.listed)
        for path in self.summaries.listed:
            self._show(path)
        self.update_state()

    def _show(self, path: Path) -> None:
        listed = self.summaries.listed.get(path)
        if listed is not None:
            is_open = self.session.is_open(path)
            self.table.show_video(listed, self.opened_at(listed), self.queue.videos.get(path), is_open=is_open)
        self.update_state()

    def show_open_project(self) -> None:
        """Another project is open now."""
        for path in self.summaries.listed:
            self._show(path)

    def _choose_videos(self) -> None:
        paths = ask_for_files(self, FileKind.VIDEOS, "Add videos to the list", VIDEO_FILTER)
        if paths:
            self.add(paths)

    def _remove(self) -> None:
        if self.remove_button.isEnabled():
            paths = self.table.selected()
            for path in paths:
                self.queue.remove(path)
            remember(lambda preferences: without_videos(preferences, paths))
            self.reload()

    # One video -----------------------------------------------------------------------------------------------------------

    def _open(self, path: Path) -> None:
        if self.summaries.listed[path].summary is None or self._is_video_found(path):
            self.open_requested.emit(path, None)
        else:
            self._find_video()

    def _is_video_found(self, path: Path) -> bool:
        summary = self.summaries.listed[path].summary
        return summary is not None and summary.is_video_found

    def _find_video(self) -> None:
        """Ask where the video of the selected project is now, and open the project with it."""
        listed = self.summaries.listed[self.table.selected()[0]]
        assert listed.summary is not None
        video = ask_for_file(self, FileKind.VIDEOS, f"Where is {listed.name} now?", "All files (*)")
        if video is not None:
            self.open_requested.emit(video, listed.summary.folder)

    # The queue -----------------------------------------------------------------------------------------------------------

    def _segment(self) -> None:
        class_names = self.classes.chosen()
        if class_names is not None:
            self.result.hide()
            self.queue.add(self._to_segment(), class_names, vote=self.vote.isChecked())
            self.update_state()

    def _to_segment(self) -> list[Path]:
        """The selected videos that can be queued now."""
        waiting = self.queue.waiting()
        can = [path for path in self.table.selected() if path not in waiting and self._can_segment(path)]
        return [path for path in can if not self.queue.is_working_on(path)]

    def _can_segment(self, path: Path) -> bool:
        summary = self.summaries.listed[path].summary
        is_free = summary is not None and (summary.owner is None or self.session.is_open(path))
        return is_free and self._is_video_found(path)

    def _on_running_changed(self, is_running: bool) -> None:
        if is_running:
            self.progress.show_start()
        self.update_state()

    def _on_cancel(self) -> None:
        self.progress.show_stopping()
        self.queue.cancel()

    def _on_queue_finished(self) -> None:
        self.result.setText(texts.summary_line(list(self.queue.videos.values())))
        self.result.show()
        self.update_state()

    # What is shown -------------------------------------------------------------------------------------------------------

    def _update(self) -> None:
        selected, to_segment = self.table.selected(), self._to_segment()
        self.open_button.setEnabled(len(selected) == 1)
        self.remove_button.setEnabled(bool(selected) and self._folder is None)
        self.segment_button.setEnabled(bool(to_segment and self.session.model and self.classes.chosen() is not None))
        self.segment_button.setText(f"Segment {counted(len(to_segment), 'video')}" if len(to_segment) > 1 else "Segment")
        self.details.setText(self._details(selected))
        is_missing = len(selected) == 1 and self._is_missing(selected[0])
        self.remedy.setVisible(is_missing)
        self._update_progress()

    def _is_missing(self, path: Path) -> bool:
        summary = self.summaries.listed[path].summary
        return summary is not None and not summary.is_video_found

    def _details(self, selected: list[Path]) -> str:
        if not self.summaries.listed:
            return EMPTY if self._folder is None else f"There is no video and no project in {self._folder}."
        if len(selected) == 1:
            path = selected[0]
            listed, queued = self.summaries.listed[path], self.queue.videos.get(path)
            return texts.explanation(listed, queued, is_open=self.session.is_open(path)) or HOW_TO
        left_out = len(selected) - len(self._to_segment()) - sum(path in self.queue.waiting() for path in selected)
        if len(selected) > 1 and left_out and not self.queue.is_running:
            return f"{left_out} of them cannot be segmented now. Select {'it' if left_out == 1 else 'one'} to see why."
        return HOW_TO

    def _update_progress(self) -> None:
        is_running, waiting = self.queue.is_running, self.queue.waiting()
        self.progress.setVisible(is_running)
        if not is_running:
            if waiting:
                self.result.setText(self.queue.waits_for or "")
                self.result.setVisible(bool(self.queue.waits_for))
            return
        assert self.queue.current is not None
        queued = self.queue.videos[self.queue.current]
        if queued.total and self.progress.cancel.isEnabled():
            show = self.progress.show_vote if queued.is_voting else self.progress.show_progress
            show(queued.done, queued.total, self.queue.run.seconds_left)
            more = f" · {counted(len(waiting), 'video')} waiting" if waiting else ""
            self.progress.text.setText(f"{queued.path.stem}: {self.progress.text.text()}{more}")


def _row(*items: QWidget | None) -> QHBoxLayout:
    """Widgets side by side; None is a stretch."""
    row = QHBoxLayout()
    row.setSpacing(SPACING)
    for item in items:
        if item is None:
            row.addStretch(1)
        else:
            row.addWidget(item)
    return row
