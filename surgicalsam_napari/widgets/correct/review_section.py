"""Section *Review*: go through the frames that need review, and verify them."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import Signal
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QPushButton, QWidget

from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.review.queue import LONGEST_REASON, ReviewQueue, Status
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project
from surgicalsam_napari.widgets.correct.review_feed import ReviewFeed
from surgicalsam_napari.widgets.correct.verify_range import VerifyRange
from surgicalsam_napari.widgets.parts.message import show_failure
from surgicalsam_napari.widgets.parts.parts import SPACING, Panel, RoomyLabel, caption, let_shrink, primary_button, swatch
from surgicalsam_napari.widgets.parts.theme import DIM, NOTE, set_look
from surgicalsam_napari.widgets.runs.run import Run
from surgicalsam_napari.widgets.viewer.label_changes import LabelChanges
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers

SHOWN_FROM = 200  # frames with masks still to compare; fewer are done in a moment
ALL_CLASSES = "All classes"
STATUS_WORDS = {
    Status.ANY: "For any reason",
    Status.PREDICTED: "Predicted masks",
    Status.NEARLY_PRESENT: "Absent, but perhaps there",
    Status.CONTESTED: "Claimed by two classes",
    Status.JUMPED: "Mask jumps between frames",
}


class ReviewSection(Panel):
    """Next and Previous, the reason for this frame and its class, Verify and Unlock, the filters of the queue, whole ranges.

    Parameters
    ----------
    changes : signals of the open project's labels
    """

    scores_changed = Signal(object)  # (T,) float, NaN for no need of review; None without a project

    def __init__(self, session: Session, layers: ViewerLayers, run: Run, changes: LabelChanges) -> None:
        super().__init__("Review")
        self.session, self.layers, self.run, self.changes = session, layers, run, changes
        self.feed = ReviewFeed(changes, self)
        self._project: Project | None = None
        self._is_waiting = False
        self._shown_classes: ClassSet | None = None
        self._build()
        self._connect()
        self.refresh()

    def refresh(self) -> None:
        """Enable the controls that can be used now, and show what is missing."""
        project = self.session.project
        if project is not self._project:
            self._project = project
            self.which_class.setCurrentIndex(0)  # a new queue has no filter
            self.which_status.setCurrentIndex(0)
        self._show_classes()
        self.feed.show_project(project)
        can_write = project is not None and project.writable
        frame = self.layers.current_frame
        locked = [] if project is None else project.labels.locked_class_ids(frame)
        is_verified = project is not None and len(locked) == len(project.classes)
        self.next_button.setEnabled(project is not None)
        self.previous_button.setEnabled(project is not None)
        self.verify_button.setEnabled(can_write and not is_verified)
        self.unlock_button.setEnabled(can_write and bool(locked))
        self.range.refresh(is_free=can_write and not self._is_waiting and not self.run.is_running)
        self._show_queue()

    def set_waiting(self, is_waiting: bool) -> None:
        """Disable ranges while a run of another tab is active."""
        self._is_waiting = is_waiting
        self.refresh()

    # Without arguments, for buttons and keys ----------------------------------------------------------------------------

    def next(self) -> None:
        """Show the next frame that needs review; its most suspicious class is suggested, the brush keeps its class."""
        queue = self._queue_up_to_date()
        if queue is not None and self.next_button.isEnabled():
            self._go_to(queue.next(self.layers.current_frame))

    def previous(self) -> None:
        """Show the frame that was reviewed before."""
        queue = self._queue_up_to_date()
        if queue is not None and self.previous_button.isEnabled():
            self._go_to(queue.previous())

    def verify(self) -> None:
        """Verify the presence or absence of every class in this frame; then go to the next frame, if selected."""
        if self._project is not None and self.verify_button.isEnabled():
            project = self._project
            if self._write(lambda: project.labels.verify(self.layers.current_frame)) and self.then_next.isChecked():
                self.next()

    def unlock(self) -> None:
        """Unlock this frame: its verified classes can change again."""
        if self._project is not None and self.unlock_button.isEnabled():
            project = self._project
            self._write(lambda: project.labels.unlock(self.layers.current_frame))

    def follow_suggestion(self) -> None:
        """Select the class that most needs review in this frame."""
        if self.suggestion.isEnabled() and self.feed.queue is not None:
            suspect = self.feed.queue.suspect(self.layers.current_frame)
            if suspect is not None:
                self.session.select_class(suspect)

    def showEvent(self, event: QShowEvent) -> None:
        self.suggestion.setFixedHeight(self.fontMetrics().height() + 12)  # its own hint is lower while it is enabled
        super().showEvent(event)

    # Building -----------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.previous_button, self.next_button = QPushButton("◀  Previous"), primary_button("Next  ▶")
        self.verify_button, self.unlock_button = QPushButton("Verify frame"), QPushButton("Unlock frame")
        self.next_button.setToolTip("The frame that most needs review")
        self.previous_button.setToolTip("The frame reviewed before")
        self.verify_button.setToolTip("Confirm that this whole frame is right; it cannot change until you unlock it")
        self.then_next = QCheckBox("then go to the next")
        self.then_next.setChecked(True)
        self.count, self.reason, self.suggestion = RoomyLabel(), RoomyLabel(), QPushButton()
        set_look(self.count, role=NOTE, tone=DIM)
        self.suggestion.setToolTip("Paint and refine this class, which needs review most in this frame")
        _keep_room(self.suggestion)
        self.which_class, self.which_status = QComboBox(), QComboBox()
        self.which_class.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        let_shrink(self.which_status)
        for status, words in STATUS_WORDS.items():
            self.which_status.addItem(words, status)
        self.several = QPushButton("Several…")
        self.several.setCheckable(True)
        self.several.setToolTip("Verify or unlock several frames at once")
        self.range = VerifyRange(self.session, self.layers, self.run)
        self.range.hide()
        self.column.addWidget(self.count)
        self.column.addLayout(_row((self.previous_button, 1), (self.next_button, 1)))
        self.column.addWidget(self.reason)
        self.column.addWidget(self.suggestion)
        self.column.addLayout(_row((self.verify_button, 1), (self.unlock_button, 1)))
        self.column.addLayout(_row((self.then_next, 1), (self.several, 0)))
        self.column.addWidget(self.range)
        grid = self.add_grid()
        grid.addWidget(caption("Look for"), 0, 0)
        grid.addWidget(self.which_class, 0, 1)
        grid.addWidget(self.which_status, 1, 1)

    def _connect(self) -> None:
        for button, act in (
            (self.next_button, self.next),
            (self.previous_button, self.previous),
            (self.verify_button, self.verify),
            (self.unlock_button, self.unlock),
            (self.suggestion, self.follow_suggestion),
        ):
            button.clicked.connect(lambda _checked=False, act=act: act())
        self.several.toggled.connect(self._on_several)
        self.which_class.activated.connect(lambda _index: self._filter())
        self.which_status.activated.connect(lambda _index: self._filter())
        self.feed.changed.connect(self._on_feed_changed)
        self.run.started.connect(self.refresh)
        self.run.finished.connect(lambda _is_complete: self.refresh())

    def _show_classes(self) -> None:
        """Update the classes of the filter if they changed."""
        classes = self.session.classes
        if classes == self._shown_classes:
            return
        self._shown_classes, chosen = classes, self.which_class.currentData()
        self.reason.make_room(f"{max(classes.names, key=len)}: {LONGEST_REASON}")
        self.which_class.clear()
        self.which_class.addItem(ALL_CLASSES, None)
        for instrument in classes:
            self.which_class.addItem(swatch(instrument.color), instrument.name, instrument.id)
        self.which_class.setCurrentIndex(max(self.which_class.findData(chosen), 0))

    # The queue ----------------------------------------------------------------------------------------------------------

    def _queue_up_to_date(self) -> ReviewQueue | None:
        self.changes.emit_now()
        self.feed.catch_up()
        return self.feed.queue

    def _go_to(self, frame_index: int | None) -> None:
        if frame_index is not None:
            self.layers.show_frame(frame_index)
        self._on_feed_changed()

    def _filter(self) -> None:
        if self.feed.queue is not None:
            class_id = self.which_class.currentData()
            self.feed.queue.filter(None if class_id is None else [class_id], self.which_status.currentData())
            self._on_feed_changed()

    def _on_feed_changed(self) -> None:
        self._show_queue()
        self.scores_changed.emit(self.feed.marks())

    def _show_queue(self) -> None:
        queue, frame = self.feed.queue, self.layers.current_frame
        self._show_suggestion()
        if queue is None:
            self.count.setText("Open a video first." if self._project is None else "")
            self.reason.setText("")
            return
        left = queue.remaining
        verb = "needs" if left == 1 else "need"
        text = f"{counted(left, 'frame')} {verb} review" if left else "No frame left that needs review"
        if self.feed.left_to_compare >= SHOWN_FROM:
            text += f" · masks of {self.feed.left_to_compare:,} frames not compared yet"
        self.count.setText(text)
        self.reason.setText(queue.reason(frame))

    def _show_suggestion(self) -> None:
        """Offer the most suspicious class of the frame in view, unless it is selected."""
        queue = self.feed.queue
        suspect = None if queue is None else queue.suspect(self.layers.current_frame)
        is_other = suspect is not None and suspect != self.session.selected_class_id
        if is_other and suspect is not None:
            instrument = self.session.classes.by_id(suspect)
            self.suggestion.setText(f"Select {instrument.name}")
            self.suggestion.setIcon(swatch(instrument.color))
        self.suggestion.setEnabled(is_other)
        self.suggestion.setVisible(is_other)

    # Writing ------------------------------------------------------------------------------------------------------------

    def _on_several(self, is_shown: bool) -> None:
        self.range.setVisible(is_shown)
        if is_shown:
            self.range.open_at(self.layers.current_frame)

    def _write(self, write: Callable[[], None]) -> bool:
        try:
            write()
        except SurgicalSAMError as error:
            show_failure(error, self)
            return False
        self.changes.emit_now()
        return True


def _keep_room(widget: QWidget) -> None:
    """Let a hidden widget take its room, so that nothing below it moves."""
    policy = widget.sizePolicy()
    policy.setRetainSizeWhenHidden(True)
    widget.setSizePolicy(policy)


def _row(*widgets: tuple[QWidget, int]) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(SPACING)
    for widget, stretch in widgets:
        row.addWidget(widget, stretch)
    return row
