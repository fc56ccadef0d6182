"""The layout of the timeline: names at the left; axis, marks and the rows of classes and tracks at the right."""

from __future__ import annotations

from dataclasses import dataclass

AXIS_HEIGHT = 18
MARKS_HEIGHT = 13
ROWS_TOP = AXIS_HEIGHT + MARKS_HEIGHT
SMALLEST_ROW, PREFERRED_ROW, LARGEST_ROW = 11, 15, 20
RIGHT_MARGIN = 6


@dataclass(frozen=True)
class StripLayout:
    """Positions in pixels; rows shrink to a smallest height, then they scroll.

    Attributes
    ----------
    width, height : of the whole strip
    row_count : number of rows
    names_width : width of the column of names at the left
    scrolled : pixels by which the rows are scrolled up
    indent : pixels before the coloured squares, for the arrows that open a class; 0 without tracks
    """

    width: int
    height: int
    row_count: int
    names_width: int
    scrolled: int = 0
    indent: int = 0

    @property
    def row_height(self) -> int:
        room = (self.height - ROWS_TOP) // max(self.row_count, 1)
        return min(max(room, SMALLEST_ROW), LARGEST_ROW)

    @property
    def overflow(self) -> int:
        """Height in pixels of the rows that do not fit."""
        return max(self.row_count * self.row_height - (self.height - ROWS_TOP), 0)

    @property
    def left(self) -> int:
        """The left edge of the frames."""
        return self.names_width

    @property
    def columns(self) -> int:
        """Number of pixel columns for the frames."""
        return max(self.width - self.names_width - RIGHT_MARGIN, 1)

    @property
    def bottom(self) -> int:
        """The lower edge of the last row in view."""
        return min(self.height, ROWS_TOP + self.row_count * self.row_height)

    def top_of(self, row: int) -> int:
        return ROWS_TOP + row * self.row_height - self.scrolled

    def row_at(self, y: float) -> int | None:
        """The row at this height; None above and below the rows."""
        row = int(y - ROWS_TOP + self.scrolled) // self.row_height
        return row if ROWS_TOP <= y < self.bottom and 0 <= row < self.row_count else None

    @staticmethod
    def is_marks(y: float) -> bool:
        return AXIS_HEIGHT <= y < ROWS_TOP
