"""The timeline widget: shows the provenance of every class in every frame of the video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.review.overview import Overview
from surgicalsam_napari.widgets.timeline.frame_bar import FrameBar
from surgicalsam_napari.widgets.timeline.legend import TimelineLegend
from surgicalsam_napari.widgets.timeline.rows import Lines
from surgicalsam_napari.widgets.timeline.strip import TimelineStrip

UPDATE_MS = 40  # between two redraws of live changes


class Timeline(QWidget):
    """One row per class and, below an open class, per track; one column per frame or bin of frames. It knows no project and
    no viewer.

    Signals: `frame_picked` (frame index) when the user clicks or drags over frames; `class_picked` (class id) when the user
    clicks on the name of a row; `opened_changed` when other classes show their tracks.
    """

    frame_picked = Signal(int)
    class_picked = Signal(int)
    swatch_clicked = Signal(int)
    opened_changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName("Timeline")
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)
        self.bar = FrameBar()
        self.strip = TimelineStrip()
        self.legend = TimelineLegend()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 2, 0, 0)
        column.setSpacing(3)
        column.addWidget(self.bar)
        column.addWidget(self.strip, 1)
        column.addWidget(self.legend)
        self.strip.frame_picked.connect(self.frame_picked)
        self.strip.class_picked.connect(self.class_picked)
        self.strip.swatch_clicked.connect(self.swatch_clicked)
        self.strip.opened_changed.connect(self.opened_changed)
        self._changed: tuple[int, int] | None = None  # first and last frame
        self._timer = QTimer(self, interval=UPDATE_MS, singleShot=True)
        self._timer.timeout.connect(self.flush)

    def show_tables(
        self,
        classes: ClassSet,
        provenance: np.ndarray,
        predicted_iou: np.ndarray,
        voted: np.ndarray | None = None,
    ) -> None:
        """Show a video; marks and notes stay if the number of frames is the same (for another video, call `clear` first).

        Parameters
        ----------
        classes : C classes, the rows from top to bottom
        provenance : (T, C) uint8, of `Provenance`; copied
        predicted_iou : (T, C) float32, NaN where unknown; copied
        voted : (T, C), not 0 where the vote over time changed the prediction; copied

        Raises
        ------
        ValueError
            the tables do not both have the shape (T, C)
        """
        overview = Overview(provenance, predicted_iou, voted)
        if overview.class_count != len(classes):
            raise ValueError(f"the tables must have a column for each of {len(classes)} classes; got {overview.class_count}")
        if overview.frame_count != self._frame_count:
            self.clear()
        self._changed = None
        self.strip.show_overview(classes, overview)

    def update_frames(
        self,
        frame_indices: Sequence[int] | np.ndarray,
        provenance_rows: np.ndarray,
        predicted_iou_rows: np.ndarray,
        voted_rows: np.ndarray | None = None,
    ) -> None:
        """Update the rows of some frames; they are drawn shortly after, together with other changes.

        Parameters
        ----------
        frame_indices : N frames of the video
        provenance_rows : (N, C) uint8
        predicted_iou_rows : (N, C) float32
        voted_rows : (N, C)
        """
        if self.strip.overview is None or len(frame_indices) == 0:
            return
        self.strip.overview.update(frame_indices, provenance_rows, predicted_iou_rows, voted_rows)
        first, last = int(min(frame_indices)), int(max(frame_indices))
        if self._changed is not None:
            first, last = min(first, self._changed[0]), max(last, self._changed[1])
        self._changed = first, last
        if not self._timer.isActive():
            self._timer.start()

    def flush(self) -> None:
        """Draw pending changes."""
        self._timer.stop()
        if self._changed is not None:
            self.strip.show_changed(*self._changed)
            self._changed = None

    def set_current_frame(self, frame_index: int) -> None:
        """Mark the frame that the viewer shows and bring it into view; an index outside is moved into the video."""
        self.strip.show_frame(min(max(int(frame_index), 0), max(self._frame_count - 1, 0)))

    def set_current_class(self, class_id: int | None) -> None:
        """Show the name of this class in bold; None for no class."""
        self.strip.show_class(class_id)

    def set_marks(self, marks: np.ndarray | None) -> None:
        """Show the review priority of each frame as colours above the rows.

        Parameters
        ----------
        marks : (T,) float from 0 to 1, NaN for none; None removes all marks

        Raises
        ------
        ValueError
            the number of marks is not the number of frames
        """
        if marks is not None and np.shape(marks) != (self._frame_count,):
            raise ValueError(f"marks need one value for each of {self._frame_count} frames; got shape {np.shape(marks)}")
        self.strip.show_marks(None if marks is None else np.array(marks, dtype=float))

    def set_notes(self, notes: Mapping[int, str]) -> None:
        """Show where propagations stopped, as triangles above the rows; the text is the tooltip."""
        self.strip.show_notes(dict(notes))

    def set_frame_notes(self, notes: Mapping[int, str]) -> None:
        """Show which frames have a note, as small pages above the rows; the text is the tooltip."""
        self.strip.show_frame_notes(dict(notes))

    def show_tracks(self, lines: Lines) -> None:
        """Show these tracks, by class id, in rows below their classes, where those are open."""
        self.strip.show_lines(lines)

    def open_all(self, is_open: bool) -> None:
        """Open all classes that have tracks, or close all."""
        self.strip.open_classes(self.strip.lines if is_open else ())

    @property
    def opened_classes(self) -> frozenset[int]:
        """The ids of the classes whose tracks are shown."""
        return self.strip.opened & self.strip.lines.keys()

    def set_hidden_classes(self, class_ids: frozenset[int]) -> None:
        """Show which classes the canvas does not draw, as hollow squares."""
        self.strip.show_hidden(class_ids)

    def clear(self) -> None:
        """Show no video."""
        self._changed = None
        self._timer.stop()
        self.strip.show_overview(None, None)
        self.strip.show_lines({})
        self.strip.open_classes(())
        self.strip.show_marks(None)
        self.strip.show_notes({})
        self.strip.show_frame_notes({})
        self.strip.show_frame(0)

    @property
    def _frame_count(self) -> int:
        return 0 if self.strip.overview is None else self.strip.overview.frame_count
