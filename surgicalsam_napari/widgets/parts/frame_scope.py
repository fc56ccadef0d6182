"""Which frames to work on: this one, a range, every n-th, or all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QSizePolicy, QSpinBox, QVBoxLayout, QWidget

from surgicalsam_napari.widgets.parts.parts import SPACING, caption, let_shrink

THIS_FRAME, RANGE, EVERY_NTH, WHOLE_VIDEO = "This frame", "A range of frames", "Every n-th frame", "Whole video"


class FrameScope(QWidget):
    """A dropdown, and the number fields that the chosen scope needs. Frames count from 0, as on napari's slider.

    Parameters
    ----------
    choices : entries of the dropdown; a panel may add its own
    current_frame : the frame in view; a range that the user chooses begins and ends there, for work that nobody wants to do
        on the whole video by accident. Without it, a range begins as the whole video
    """

    changed = Signal()

    def __init__(
        self,
        choices: Sequence[str] = (WHOLE_VIDEO, THIS_FRAME, RANGE, EVERY_NTH),
        current_frame: Callable[[], int] | None = None,
    ) -> None:
        super().__init__()
        self._current_frame = current_frame
        self.choice = QComboBox()
        self.choice.addItems(choices)
        let_shrink(self.choice)
        self.first, self.last, self.step = _number_field(), _number_field(), _number_field()
        self.step.setRange(2, 1_000_000)
        self.step.setValue(5)
        self._range_row = _row(caption("from"), self.first, caption("to"), self.last)
        self._step_row = _row(caption("one frame in"), self.step)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACING)
        for widget in (self.choice, self._range_row, self._step_row):
            column.addWidget(widget)
        self.choice.currentTextChanged.connect(self._on_choice)
        self.choice.activated.connect(self._on_activated)
        for box in (self.first, self.last, self.step):
            box.valueChanged.connect(lambda _value: self.changed.emit())
        self._on_choice(self.choice.currentText())

    def set_frame_count(self, frame_count: int) -> None:
        """Set the range of the fields for a video of this length."""
        for box in (self.first, self.last):
            box.setRange(0, max(frame_count - 1, 0))
        self.first.setValue(0)
        self.last.setValue(frame_count - 1)

    def start_range(self, frame_index: int) -> None:
        """Let the range begin and end at this frame."""
        self.first.setValue(frame_index)
        self.last.setValue(frame_index)

    def frame_indices(self, current_frame: int, frame_count: int) -> range:
        """The frames in scope; a reversed range is put in order."""
        scope = self.choice.currentText()
        if scope == THIS_FRAME:
            return range(current_frame, current_frame + 1)
        if scope == RANGE:
            first, last = sorted((self.first.value(), self.last.value()))
            return range(first, last + 1)
        return range(0, frame_count, self.step.value() if scope == EVERY_NTH else 1)

    def _on_activated(self, _index: int) -> None:
        is_whole = self.first.value() == self.first.minimum() and self.last.value() == self.last.maximum()
        if self._current_frame is not None and self.choice.currentText() == RANGE and is_whole:
            self.start_range(self._current_frame())

    def _on_choice(self, scope: str) -> None:
        self._range_row.setVisible(scope == RANGE)
        self._step_row.setVisible(scope == EVERY_NTH)
        self.changed.emit()


def _number_field() -> QSpinBox:
    """A field that may be as narrow as its number: napari's step buttons would make the dock too wide."""
    box = QSpinBox()
    box.setButtonSymbols(QSpinBox.ButtonSymbols.NoButtons)
    box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    box.setStyleSheet("QSpinBox { min-width: 30px; }")
    return box


def _row(*widgets: QWidget) -> QWidget:
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(SPACING)
    for widget in widgets:
        layout.addWidget(widget, 1 if isinstance(widget, QSpinBox) else 0)
    return row
