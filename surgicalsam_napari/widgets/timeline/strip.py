"""The drawing area of the timeline: cells of all classes over the frames in view, and the mouse."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
from qtpy.QtCore import QEvent, QPoint, QRect, QSignalBlocker, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QHelpEvent, QMouseEvent, QPainter, QPaintEvent, QPalette, QResizeEvent, QWheelEvent
from qtpy.QtWidgets import QAbstractScrollArea, QFrame, QToolTip, QWidget

from surgicalsam_napari.formatting import counted
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.review.overview import Overview
from surgicalsam_napari.widgets.timeline import painting
from surgicalsam_napari.widgets.timeline.cells import CellPicture, MarkPicture
from surgicalsam_napari.widgets.timeline.layout import (
    AXIS_HEIGHT,
    MARKS_HEIGHT,
    PREFERRED_ROW,
    ROWS_TOP,
    SMALLEST_ROW,
    StripLayout,
)
from surgicalsam_napari.widgets.timeline.rows import Lines, Row, rows_of
from surgicalsam_napari.widgets.timeline.tooltips import in_cell, in_frames, in_marks_row, in_track, on_track_name
from surgicalsam_napari.widgets.timeline.view import FrameView

FEWEST_ROWS = 7  # always in view, if there are so many: the classes of EndoVis
ZOOM_PER_NOTCH = 1.4
NOTCH = 120  # Qt's units of a wheel
PAN_PER_NOTCH = 120  # pixels
EDGE_PAN_MS = 30
LABEL_OVERHANG = 8  # pixels by which a frame number at the edge extends beyond it
SCROLL_BAR_STYLE = """
QScrollBar:horizontal { min-height: 9px; max-height: 9px; margin: 0px; }
QScrollBar:vertical { min-width: 9px; max-width: 9px; margin: 0px; }
QScrollBar::handle:disabled { background: transparent; }
QScrollBar::add-line, QScrollBar::sub-line { width: 0px; height: 0px; }
"""


class TimelineStrip(QAbstractScrollArea):
    """Frames from left to right, classes from top to bottom; click, drag, wheel, double-click.

    Signals: `frame_picked` (frame index); `class_picked` and `swatch_clicked` (class id), for a row or its name, and for the
    coloured square before it; `opened_changed` when other classes show their tracks.

    Attributes
    ----------
    overview : the tables; None without a video
    view : the frames in view; None without a video
    marks : (T,) float, review priorities, or None
    notes : why a propagation stopped, by frame index
    frame_notes : a person's notes, by frame index
    lines : the tracks by class id
    """

    frame_picked = Signal(int)
    class_picked = Signal(int)
    swatch_clicked = Signal(int)
    opened_changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.overview: Overview | None = None
        self.view: FrameView | None = None
        self.marks: np.ndarray | None = None
        self.notes: dict[int, str] = {}
        self.frame_notes: dict[int, str] = {}
        self.current_frame = 0
        self.current_class: int | None = None
        self.hidden_classes: frozenset[int] = frozenset()
        self.lines: Lines = {}
        self.opened: frozenset[int] = frozenset()  # ids of classes that show their tracks
        self.rows: tuple[Row, ...] = ()
        self._classes: ClassSet | None = None
        self._cells: CellPicture | None = None
        self._heat: MarkPicture | None = None
        self._panned_from: float | None = None
        self._is_scrubbing = False
        self._edge_timer = QTimer(self, interval=EDGE_PAN_MS)
        self._edge_timer.timeout.connect(self._pan_at_edge)
        self._pointer_x = 0.0
        self.caveat_of: Callable[[int, int], str] = lambda _frame_index, _class_id: ""  # what a confidence is worth
        self._set_up()

    def _set_up(self) -> None:
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # the canvas keeps the keyboard focus
        self.viewport().setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.viewport().setMouseTracking(True)
        self.viewport().setBackgroundRole(QPalette.ColorRole.Window)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
        self._below_names = QWidget()  # so that the scroll bar starts at the left of the frames
        self.addScrollBarWidget(self._below_names, Qt.AlignmentFlag.AlignLeft)
        for bar in (self.horizontalScrollBar(), self.verticalScrollBar()):
            bar.setStyleSheet(SCROLL_BAR_STYLE)
        self.horizontalScrollBar().valueChanged.connect(self._on_scrolled_sideways)
        self.verticalScrollBar().valueChanged.connect(lambda: self.viewport().update())

    # Content ------------------------------------------------------------------------------------------------------------

    def show_overview(self, classes: ClassSet | None, overview: Overview | None) -> None:
        """Show other tables; keep the view if the video has the same length."""
        before = self.view
        self._classes, self.overview, self._cells = classes, overview, None
        self._set_rows()
        if overview is None or overview.frame_count == 0:
            self.overview = self.view = None
        elif before is None or before.frame_count != overview.frame_count:
            self.view = FrameView.whole(overview.frame_count, self.layout_now.columns)
        else:
            self.view = before.resized(self.layout_now.columns)
        self.updateGeometry()
        self._update_scroll_bars()
        self.viewport().update()

    def show_changed(self, first_frame: int, last_frame: int) -> None:
        """Redraw the frames from `first_frame` to `last_frame` after their tables changed."""
        if self._cells is None:
            self.viewport().update()
            return
        columns = self._cells.update(first_frame, last_frame)
        if columns is not None:
            layout = self.layout_now
            self.viewport().update(layout.left + columns.start, ROWS_TOP, len(columns), layout.bottom - ROWS_TOP)

    def show_frame(self, frame_index: int) -> None:
        """Mark this frame as the current one and bring it into view, without redrawing the cells."""
        self._mark_frame(frame_index)
        if self.view is not None and not self._is_scrubbing:  # while scrubbing, the pointer moves the view
            self.use_view(self.view.showing(frame_index))

    def show_marks(self, marks: np.ndarray | None) -> None:
        self.marks, self._heat = marks, None
        self.viewport().update()

    def show_notes(self, notes: dict[int, str]) -> None:
        self.notes = notes
        self.viewport().update()

    def show_frame_notes(self, notes: dict[int, str]) -> None:
        self.frame_notes = notes
        self.viewport().update()

    def show_class(self, class_id: int | None) -> None:
        self.current_class = class_id
        self.viewport().update(0, 0, self.layout_now.names_width, self.viewport().height())

    def show_lines(self, lines: Lines) -> None:
        """Show these tracks below their classes, where those are open."""
        self.lines = lines
        self._update_rows()

    def open_classes(self, class_ids: Collection[int]) -> None:
        """Show the tracks of these classes only, and scroll to those of a class that was closed."""
        newly = frozenset(class_ids) - self.opened
        if frozenset(class_ids) != self.opened:
            self.opened = frozenset(class_ids)
            self._update_rows()
            if len(newly) == 1:
                self._scroll_to_class(*newly)
            self.opened_changed.emit()

    def _scroll_to_class(self, class_id: int) -> None:
        """Bring the rows of a class into view, its own one at least."""
        if self._classes is None:
            return
        place, layout, bar = self._classes.ids.index(class_id), self.layout_now, self.verticalScrollBar()
        rows = [index for index, row in enumerate(self.rows) if row.place == place]
        beyond = layout.top_of(rows[-1] + 1) - layout.height
        bar.setValue(bar.value() + min(max(beyond, 0), layout.top_of(rows[0]) - ROWS_TOP))

    def _update_rows(self) -> None:
        self._set_rows()
        if self.view is not None:
            self.view = self.view.resized(self.layout_now.columns)
        self.updateGeometry()
        self._update_scroll_bars()
        self.viewport().update()

    def _set_rows(self) -> None:
        self.rows = () if self._classes is None else rows_of(self._classes, self.lines, self.opened)

    def show_hidden(self, class_ids: frozenset[int]) -> None:
        self.hidden_classes = class_ids
        self.viewport().update()

    def use_view(self, view: FrameView) -> None:
        """Show these frames."""
        if view != self.view:
            self.view = view
            self._update_scroll_bars()
            self.viewport().update()

    @property
    def layout_now(self) -> StripLayout:
        """The layout for the viewport's current size."""
        width, height = self.viewport().width(), self.viewport().height()
        if self._classes is None:
            return StripLayout(width, height, 0, min(painting.SMALLEST_NAMES, width // 3))
        rows, indent = StripLayout(width, height, len(self.rows), 0), painting.ARROW_WIDTH if self.lines else 0
        names = painting.names_width(self._classes, self.font(), rows.row_height, width, indent)
        scrolled = min(self.verticalScrollBar().value(), rows.overflow)
        return StripLayout(width, height, len(self.rows), names, scrolled, indent)

    def sizeHint(self) -> QSize:
        rows = min(max(len(self.rows) if self._classes else 7, 3), 16)
        return QSize(720, ROWS_TOP + rows * PREFERRED_ROW + self.horizontalScrollBar().sizeHint().height() + 1)

    def minimumSizeHint(self) -> QSize:
        rows = min(len(self._classes) if self._classes else FEWEST_ROWS, FEWEST_ROWS)
        return QSize(240, ROWS_TOP + rows * SMALLEST_ROW + self.horizontalScrollBar().sizeHint().height() + 1)

    # Drawing ------------------------------------------------------------------------------------------------------------

    def paintEvent(self, event: QPaintEvent) -> None:
        layout, palette, font = self.layout_now, self.palette(), self.font()
        painter = QPainter(self.viewport())
        if self.view is None or self.overview is None or self._classes is None:
            painter.setPen(painting.dimmed(palette))
            painter.drawText(self.viewport().rect(), int(Qt.AlignmentFlag.AlignCenter), "Open a video to see its timeline")
            return
        dirty = event.region()
        if dirty.intersects(QRect(0, 0, layout.left - LABEL_OVERHANG, layout.height)):
            painting.draw_captions(painter, layout, font, palette)
            opened = {class_id: class_id in self.opened for class_id in self.lines}
            shown = self.rows, opened, self.current_class, self.hidden_classes
            painting.draw_names(painter, layout, self._classes, *shown, font, palette)
        if dirty.intersects(QRect(0, 0, layout.width, AXIS_HEIGHT)):
            _, flag = painting.cursor_rects(layout, self.view, self.current_frame, font)
            painting.draw_axis(painter, layout, self.view, flag, font, palette)
        self._draw_marks(painter, layout)
        self._draw_cells(painter, layout)
        painting.draw_notes(painter, layout, self.view, self.notes)
        painting.draw_frame_notes(painter, layout, self.view, self.frame_notes)
        painting.draw_cursor(painter, layout, self.view, self.current_frame, font)

    def _draw_cells(self, painter: QPainter, layout: StripLayout) -> None:
        assert self.view is not None and self.overview is not None
        if self._cells is None or not self._cells.shows(self.overview, self.view, layout.row_height, self.rows):
            self._cells = CellPicture(self.overview, self.view, layout.row_height, self.rows)
        source = QRect(0, layout.scrolled, layout.columns, layout.bottom - ROWS_TOP)
        painter.drawImage(QPoint(layout.left, ROWS_TOP), self._cells.image, source)

    def _draw_marks(self, painter: QPainter, layout: StripLayout) -> None:
        assert self.view is not None
        target = QRect(layout.left, AXIS_HEIGHT, layout.columns, MARKS_HEIGHT - 2)
        if self._heat is None or self._heat.view != self.view:
            self._heat = MarkPicture(self.marks, self.view)
        painter.drawImage(target, self._heat.image)

    def _mark_frame(self, frame_index: int) -> None:
        """Move the line to another frame; redraw its old and new place and the axis."""
        before, self.current_frame = self.current_frame, frame_index
        if self.view is None or frame_index == before:
            return
        layout = self.layout_now
        self.viewport().update(layout.left - LABEL_OVERHANG, 0, layout.width - layout.left + LABEL_OVERHANG, AXIS_HEIGHT)
        for frame in (before, frame_index):
            line, _ = painting.cursor_rects(layout, self.view, frame, self.font())
            self.viewport().update(line.adjusted(-1, 0, 1, 0))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if self.view is not None and self.view.width != self.layout_now.columns:
            self.view = self.view.resized(self.layout_now.columns)
        self._update_scroll_bars()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange, QEvent.Type.PaletteChange) and self.view:
            self.view = self.view.resized(self.layout_now.columns)
            self.viewport().update()

    # Scroll bars --------------------------------------------------------------------------------------------------------

    def _update_scroll_bars(self) -> None:
        bar, layout = self.horizontalScrollBar(), self.layout_now
        with QSignalBlocker(bar):
            pixels = 0 if self.view is None else round(self.view.frame_count * self.view.scale)
            bar.setRange(0, max(pixels - layout.columns, 0))
            bar.setEnabled(bar.maximum() > 0)
            bar.setPageStep(layout.columns)
            bar.setSingleStep(PAN_PER_NOTCH)
            bar.setValue(0 if self.view is None else round(self.view.start * self.view.scale))
        self._below_names.setFixedWidth(layout.left)
        rows = self.verticalScrollBar()
        rows.setRange(0, layout.overflow)
        rows.setPageStep(max(layout.height - ROWS_TOP, 1))
        rows.setSingleStep(layout.row_height)

    def _on_scrolled_sideways(self, pixels: int) -> None:
        if self.view is not None:
            self.use_view(self.view.placed(self.view.scale, pixels / self.view.scale))

    def scrollContentsBy(self, dx: int, dy: int) -> None:
        self.viewport().update()  # axis and names do not scroll

    # The mouse ----------------------------------------------------------------------------------------------------------

    def mousePressEvent(self, event: QMouseEvent) -> None:
        position, layout = event.position(), self.layout_now
        if self.view is None or self._classes is None:
            return
        if event.button() == Qt.MouseButton.MiddleButton:
            self._panned_from = position.x()
            self.viewport().setCursor(Qt.CursorShape.ClosedHandCursor)
        elif event.button() == Qt.MouseButton.LeftButton and (class_id := self._arrow_at(position.toPoint())) is not None:
            self.open_classes(self.opened ^ {class_id})
        elif event.button() == Qt.MouseButton.LeftButton and self._swatch_at(position.toPoint()) is not None:
            self.swatch_clicked.emit(self._swatch_at(position.toPoint()))
        elif event.button() == Qt.MouseButton.LeftButton:
            row = self._row_at(position.y())
            if position.x() < layout.left:
                if row is not None:  # only a name chooses its class: a click on a frame must not change the brush
                    self.class_picked.emit(self._classes.ids[row.place])
                    if row.line is not None:
                        self._pick(row.line.track.first)
            else:
                self._is_scrubbing = True
                QToolTip.hideText()
                self._pick(self._frame_to_look_at(position.x(), row))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        position = event.position()
        if self.view is None:
            return
        if self._panned_from is not None:
            self.use_view(self.view.panned(self._panned_from - position.x()))
            self._panned_from = position.x()
        elif self._is_scrubbing:
            self._scrub(position.x())
        elif QToolTip.isVisible():
            self._show_tooltip(position.toPoint(), event.globalPosition().toPoint())

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self._is_scrubbing = False
        self._panned_from = None
        self._edge_timer.stop()
        self.viewport().unsetCursor()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        is_on_frames = event.button() == Qt.MouseButton.LeftButton and event.position().x() >= self.layout_now.left
        if self.view is not None and is_on_frames:
            self.use_view(FrameView.whole(self.view.frame_count, self.view.width))

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Zoom around the pointer; with Shift or sideways, move along the video; over the names, scroll the rows."""
        sideways, notches = event.angleDelta().x() / NOTCH, event.angleDelta().y() / NOTCH
        layout = self.layout_now
        event.accept()
        if self.view is None:
            return
        if event.position().x() < layout.left:
            bar = self.verticalScrollBar()
            bar.setValue(round(bar.value() - 2 * layout.row_height * notches))
        elif event.modifiers() & Qt.KeyboardModifier.ShiftModifier or abs(sideways) > abs(notches):
            self.use_view(self.view.panned(-PAN_PER_NOTCH * (sideways + notches)))
        elif notches:
            self.use_view(self.view.zoomed(ZOOM_PER_NOTCH**notches, event.position().x() - layout.left))

    def _row_at(self, y: float) -> Row | None:
        index = self.layout_now.row_at(y)
        return None if index is None else self.rows[index]

    def _arrow_at(self, position: QPoint) -> int | None:
        """The class whose arrow is at this pixel of the viewport."""
        row = self._row_at(position.y())
        if row is None or row.line is not None or self._classes is None or position.x() >= self.layout_now.indent + 3:
            return None
        class_id = self._classes.ids[row.place]
        return class_id if class_id in self.lines else None

    def _swatch_at(self, position: QPoint) -> int | None:
        """The class whose coloured square is at this pixel of the viewport."""
        row = self._row_at(position.y())
        if row is None or row.line is not None or self._classes is None:
            return None
        return self._classes.ids[row.place] if position.x() < painting.TEXT_LEFT - 3 + self.layout_now.indent else None

    def _frame_to_look_at(self, x: float, row: Row | None) -> int:
        """The frame at a pixel; in a bin of several frames, the one that gives the bin its look in this row."""
        assert self.view is not None and self.overview is not None
        frames = self.view.frames_at(x - self.layout_now.left)
        if row is None or len(frames) == 1:
            return frames[0]
        if row.line is not None:
            found = row.line.frame_in(frames)
            return frames[0] if found is None else found
        return self.overview.frame_to_look_at(row.place, frames)

    def _scrub(self, x: float) -> None:
        assert self.view is not None
        layout = self.layout_now
        self._pointer_x = x
        is_outside = not layout.left <= x < layout.left + layout.columns
        if is_outside and not self._edge_timer.isActive():
            self._edge_timer.start()
        elif not is_outside:
            self._edge_timer.stop()
        frames = self.view.frames_at(x - layout.left)
        if self.current_frame not in frames:
            self._pick(frames[-1] if x >= layout.left + layout.columns else frames[0])

    def _pan_at_edge(self) -> None:
        """Move the view while the pointer is beyond an edge; faster if it is farther out."""
        if self.view is None:
            return
        layout = self.layout_now
        beyond = min(self._pointer_x - layout.left, 0) + max(self._pointer_x - layout.left - layout.columns, 0)
        self.use_view(self.view.panned(beyond / 3))
        self._scrub(self._pointer_x)

    def _pick(self, frame_index: int) -> None:
        self._mark_frame(frame_index)
        self.frame_picked.emit(frame_index)

    # Tooltips -----------------------------------------------------------------------------------------------------------

    def viewportEvent(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ToolTip and isinstance(event, QHelpEvent):
            self._show_tooltip(event.pos(), event.globalPos())
            return True
        return super().viewportEvent(event)

    def tooltip_at(self, position: QPoint) -> str:
        """The tooltip for this pixel of the viewport; empty if there is none."""
        layout = self.layout_now
        if self.view is None or self.overview is None or self._classes is None:
            return ""
        row = self._row_at(position.y())
        if (class_id := self._arrow_at(position)) is not None:
            verb, tracks = "Hide" if class_id in self.opened else "Show", counted(len(self.lines[class_id]), "track")
            return f"{verb} the {tracks} of {self._classes.by_id(class_id).name}"
        if (class_id := self._swatch_at(position)) is not None:
            verb = "Show" if class_id in self.hidden_classes else "Hide"
            return f"{verb} {self._classes.by_id(class_id).name} in the canvas"
        if position.x() < layout.left:
            if row is not None and row.line is not None:
                return on_track_name(row.line)
            return "" if row is None else self._classes.names[row.place]
        frames = self.view.frames_at(position.x() - layout.left)
        if row is not None and row.line is not None:
            return in_track(row.line, frames)
        if row is not None:
            tally, class_id = self.overview.tally(row.place, frames), self._classes.ids[row.place]
            caveat = "" if tally.lowest_frame is None else self.caveat_of(tally.lowest_frame, class_id)
            return in_cell(self._classes.names[row.place], frames, tally, caveat)
        return self._marks_tooltip(position.x(), frames) if layout.is_marks(position.y()) else in_frames(frames)

    def _marks_tooltip(self, x: int, frames: range) -> str:
        assert self.view is not None
        texts = [*self.notes.items(), *((frame, f"note: {text}") for frame, text in self.frame_notes.items())]
        near = [  # a triangle is wider than its frame
            (frame, text)
            for frame, text in sorted(texts)
            if abs(self.layout_now.left + painting.middle_of(self.view, frame) - x) <= 5 or frame in frames
        ]
        marks = np.full(1, np.nan) if self.marks is None else self.marks[frames.start : frames.stop]
        return in_marks_row(frames, float(np.fmax.reduce(marks)), near)

    def _show_tooltip(self, position: QPoint, global_position: QPoint) -> None:
        text = self.tooltip_at(position)
        if text:
            QToolTip.showText(global_position, text, self.viewport())
        else:
            QToolTip.hideText()
