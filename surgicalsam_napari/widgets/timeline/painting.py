"""Drawing around and over the timeline's cells: names, axis, notes, and the frame in view."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from qtpy.QtCore import QPointF, QRect, QRectF, Qt
from qtpy.QtGui import QColor, QFont, QFontMetrics, QPainter, QPalette, QPen, QPolygonF

from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.widgets.parts.theme import ACCENT
from surgicalsam_napari.widgets.timeline.colors import NOTE, PAGE, TRACK
from surgicalsam_napari.widgets.timeline.layout import AXIS_HEIGHT, MARKS_HEIGHT, ROWS_TOP, StripLayout
from surgicalsam_napari.widgets.timeline.rows import Row
from surgicalsam_napari.widgets.timeline.view import FrameView

SWATCH_SIDE = 9
TEXT_LEFT = 22
ARROW_WIDTH = 12  # before the squares, if any class has tracks
TRACK_INDENT = 10
SMALLEST_NAMES, LARGEST_NAMES = 104, 210
TICK_DISTANCE = 84  # pixels per label of the axis
LARGEST_TEXT = 12
FLAG_PADDING = 5
DIMMED = 190  # of 255: lighter text would be below a contrast of 4.5:1 in napari's light theme


def text_font(base: QFont, height: int, *, is_bold: bool = False) -> QFont:
    """A font that fits into rows of this height."""
    font = QFont(base)
    font.setPixelSize(min(height - 3, LARGEST_TEXT))
    font.setBold(is_bold)
    return font


def names_width(classes: ClassSet, base: QFont, row_height: int, width: int, indent: int = 0) -> int:
    """Width in pixels for the longest name, within limits, at most a third of the strip."""
    metrics = QFontMetrics(text_font(base, row_height, is_bold=True))
    longest = max((metrics.horizontalAdvance(name) for name in classes.names), default=0) + TEXT_LEFT + 8 + indent
    return min(max(longest, SMALLEST_NAMES), LARGEST_NAMES, max(width // 3, 1))


def dimmed(palette: QPalette) -> QColor:
    """The text colour of the theme, partly transparent."""
    color = QColor(palette.windowText().color())
    color.setAlpha(DIMMED)
    return color


def draw_captions(painter: QPainter, layout: StripLayout, base: QFont, palette: QPalette) -> None:
    """Draw the captions of the axis and of the review marks, in the column of names."""
    painter.setPen(dimmed(palette))
    painter.setFont(text_font(base, MARKS_HEIGHT + 1))
    width = layout.names_width - TEXT_LEFT - layout.indent - 6
    align = int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft)
    painter.drawText(QRect(TEXT_LEFT + layout.indent, 0, width, AXIS_HEIGHT), align, "Frame")
    painter.drawText(QRect(TEXT_LEFT + layout.indent, AXIS_HEIGHT - 1, width, MARKS_HEIGHT), align, "Needs review")


def draw_names(
    painter: QPainter,
    layout: StripLayout,
    classes: ClassSet,
    rows: Sequence[Row],
    opened: Mapping[int, bool],
    current: int | None,
    hidden: Collection[int],
    base: QFont,
    palette: QPalette,
) -> None:
    """Draw a square and a name per row; the current class is bold, the square of a hidden one hollow.

    Parameters
    ----------
    opened : by id of each class that has tracks, whether they are shown: the direction of its arrow
    """
    height, instruments = layout.row_height, tuple(classes)
    painter.save()
    painter.setClipRect(QRect(0, ROWS_TOP, layout.names_width, max(layout.bottom - ROWS_TOP, 0)))
    for index, row in enumerate(rows):
        top = layout.top_of(index)
        if not ROWS_TOP - height < top < layout.bottom:
            continue
        instrument = instruments[row.place]
        painter.setPen(palette.windowText().color() if instrument.id == current else dimmed(palette))
        if row.line is None:
            if instrument.id in opened:
                _draw_arrow(painter, QRect(3, top, ARROW_WIDTH, height - 1), is_open=opened[instrument.id])
            font = text_font(base, height, is_bold=instrument.id == current)
            _draw_name(painter, layout, top, layout.indent, instrument.name, font)
            _draw_square(painter, layout, top, layout.indent, instrument.color, is_hollow=instrument.id in hidden)
        else:
            indent = layout.indent + TRACK_INDENT
            _draw_name(painter, layout, top, indent, row.line.title, text_font(base, height))
            _draw_square(painter, layout, top, indent, row.line.color, is_hollow=instrument.id in hidden)
    painter.restore()


def _draw_name(painter: QPainter, layout: StripLayout, top: int, indent: int, name: str, font: QFont) -> None:
    """The name of a row; too long, it loses its middle, so that the number of a track stays."""
    painter.setFont(font)
    left = TEXT_LEFT + indent
    width = layout.names_width - left - 6
    text = QFontMetrics(font).elidedText(name, Qt.TextElideMode.ElideMiddle, width)
    align = int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft)
    painter.drawText(QRect(left, top - 1, width, layout.row_height), align, text)


def _draw_square(painter: QPainter, layout: StripLayout, top: int, indent: int, color: str, *, is_hollow: bool) -> None:
    side = min(SWATCH_SIDE, layout.row_height - 3)
    square = QRect(7 + indent, top + (layout.row_height - 1 - side) // 2, side, side)
    if is_hollow:
        painter.setPen(QColor(color))
        painter.drawRect(square.adjusted(0, 0, -1, -1))
    else:
        painter.fillRect(square, QColor(color))


def _draw_arrow(painter: QPainter, place: QRect, *, is_open: bool) -> None:
    """A small triangle: to the right for a class that can be opened, down for an open one."""
    x, y = place.center().x() + 0.5, place.center().y() + 0.5
    corners = [(-4, -2.5), (4, -2.5), (0, 3)] if is_open else [(-2.5, -4), (-2.5, 4), (3, 0)]
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setBrush(painter.pen().color())
    painter.setPen(Qt.PenStyle.NoPen)
    painter.drawPolygon(QPolygonF([QPointF(x + dx, y + dy) for dx, dy in corners]))
    painter.restore()


def tick_step(view: FrameView) -> int:
    """Frames between labels of the axis: 1, 2 or 5 times a power of ten."""
    wanted, power = TICK_DISTANCE / view.scale, 1
    while True:
        for step in (power, 2 * power, 5 * power):
            if step >= wanted:
                return step
        power *= 10


def draw_axis(painter: QPainter, layout: StripLayout, view: FrameView, flag: QRect, base: QFont, palette: QPalette) -> None:
    """Draw ticks and frame numbers; skip numbers under the flag."""
    step = tick_step(view)
    painter.setFont(text_font(base, AXIS_HEIGHT - 3))
    metrics = painter.fontMetrics()
    color = dimmed(palette)
    painter.setPen(color)
    first = -(-int(view.edges[0]) // step) * step
    for frame in range(first, int(view.edges[-1]), step):
        x = layout.left + middle_of(view, frame)
        painter.drawLine(round(x), AXIS_HEIGHT - 4, round(x), AXIS_HEIGHT - 1)
        text = f"{frame:,}"
        half = metrics.horizontalAdvance(text) / 2
        x = min(max(x, layout.left + half), layout.left + layout.columns - half)
        place = QRectF(x - half - 1, 0, 2 * half + 2, AXIS_HEIGHT - 4)
        if not place.intersects(QRectF(flag)):
            painter.drawText(place, int(Qt.AlignmentFlag.AlignCenter), text)


def draw_notes(painter: QPainter, layout: StripLayout, view: FrameView, frames: Iterable[int]) -> None:
    """Draw a triangle for each frame with a note; it points at the rows."""
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QPen(QColor(TRACK), 1))
    painter.setBrush(QColor(NOTE))
    for frame in frames:
        if view.columns_of(frame, frame) is None:
            continue
        x = layout.left + middle_of(view, frame) + 0.5
        top, tip = AXIS_HEIGHT + 2.5, ROWS_TOP - 1.5
        painter.drawPolygon(QPolygonF([QPointF(x - 5, top), QPointF(x + 5, top), QPointF(x, tip)]))
    painter.restore()


def draw_frame_notes(painter: QPainter, layout: StripLayout, view: FrameView, frames: Iterable[int]) -> None:
    """Draw a small written page for each frame with a person's note."""
    for frame in frames:
        if view.columns_of(frame, frame) is None:
            continue
        draw_page(painter, round(layout.left + middle_of(view, frame)) - 4, AXIS_HEIGHT + 1)


def draw_page(painter: QPainter, left: int, top: int) -> None:
    """Draw a written page, 9 x 10 pixels with its dark edge."""
    painter.fillRect(QRect(left, top, 9, 10), QColor(TRACK))
    painter.fillRect(QRect(left + 1, top + 1, 7, 8), QColor(PAGE))
    for line in (3, 5):
        painter.fillRect(QRect(left + 2, top + line, 5, 1), QColor(TRACK))


def middle_of(view: FrameView, frame: int) -> float:
    """The middle of a frame in pixels from the left of the frames; just outside for a frame out of view."""
    columns = view.columns_of(frame, frame)
    if columns is None:
        return -1.0 if frame < view.start else float(view.width)
    return (columns.start + columns.stop - 1) / 2


def cursor_rects(layout: StripLayout, view: FrameView, frame: int, base: QFont) -> tuple[QRect, QRect]:
    """The rectangles of the frame mark: the line over the rows, and the flag with the number on the axis."""
    columns = view.columns_of(frame, frame)
    metrics = QFontMetrics(_flag_font(base))
    width = metrics.horizontalAdvance(flag_text(view, frame)) + 2 * FLAG_PADDING
    x = layout.left + middle_of(view, frame)
    left = min(max(round(x - width / 2), layout.left - FLAG_PADDING), layout.left + layout.columns - width + FLAG_PADDING)
    flag = QRect(left, 0, width, AXIS_HEIGHT - 3)
    if columns is None:
        return QRect(), flag
    wide = max(len(columns), 1)
    return QRect(layout.left + columns.start - 1, AXIS_HEIGHT - 3, wide + 2, layout.bottom - AXIS_HEIGHT + 3), flag


def flag_text(view: FrameView, frame: int) -> str:
    """The frame's number, with an arrow towards it if it is out of view."""
    if view.columns_of(frame, frame) is not None:
        return f"{frame:,}"
    return f"◂ {frame:,}" if frame < view.start else f"{frame:,} ▸"


def draw_cursor(painter: QPainter, layout: StripLayout, view: FrameView, frame: int, base: QFont) -> None:
    """Draw a bright line with dark edges over all rows, or an outline for wide frames; and the number on the axis."""
    line, flag = cursor_rects(layout, view, frame, base)
    if not line.isEmpty():
        if line.width() < 6:
            painter.fillRect(line, QColor(TRACK))
            painter.fillRect(line.adjusted(1, 0, -1, 0), QColor("white"))
        else:
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QColor("white"))
            painter.drawRect(line.adjusted(0, 0, -1, -1))
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(ACCENT))
    painter.drawRoundedRect(flag, 3, 3)
    painter.setPen(QColor("white"))
    painter.setFont(_flag_font(base))
    painter.drawText(flag, int(Qt.AlignmentFlag.AlignCenter), flag_text(view, frame))
    painter.restore()


def _flag_font(base: QFont) -> QFont:
    return text_font(base, AXIS_HEIGHT - 3, is_bold=True)
