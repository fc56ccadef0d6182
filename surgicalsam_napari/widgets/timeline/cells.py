"""The cached image of all cells in view; live changes redraw only their columns."""

from __future__ import annotations

import numpy as np
from qtpy.QtGui import QImage

from surgicalsam_napari.review.overview import Overview, binned_marks
from surgicalsam_napari.widgets.timeline.colors import (
    cell_codes,
    cell_pixels,
    gap_pixel,
    image_over,
    mark_pixels,
    track_pixels,
)
from surgicalsam_napari.widgets.timeline.rows import Row
from surgicalsam_napari.widgets.timeline.view import FrameView

GAP_SCALE = 5.0  # pixels per frame from which gaps separate the frames


class CellPicture:
    """Rows of `row_height` pixels, for classes and tracks; one column per column of the view.

    Attributes
    ----------
    image : the image; it owns its memory
    """

    def __init__(self, overview: Overview, view: FrameView, row_height: int, rows: tuple[Row, ...]) -> None:
        self.overview, self.view, self.row_height, self.rows = overview, view, row_height, rows
        self._class_rows = [index for index, row in enumerate(rows) if row.line is None]
        self._codes = cell_codes(*overview.binned(view.edges))
        self._pixels = np.empty((len(rows), row_height, view.width), dtype=np.uint32)
        self._draw_tracks()
        self._draw(range(view.width))
        self.image: QImage = image_over(self._pixels.reshape(-1, view.width))

    def shows(self, overview: Overview, view: FrameView, row_height: int, rows: tuple[Row, ...]) -> bool:
        is_same = self.overview is overview and self.rows is rows
        return is_same and self.view == view and self.row_height == row_height

    def update(self, first_frame: int, last_frame: int) -> range | None:
        """Redraw these frames, `last_frame` included; returns the changed columns of pixels, None if none is in view."""
        bins, columns = self.view.bins_of(first_frame, last_frame), self.view.columns_of(first_frame, last_frame)
        if bins is None or columns is None:
            return None
        edges = self.view.edges[bins.start : bins.stop + 1]
        self._codes[:, bins.start : bins.stop] = cell_codes(*self.overview.binned(edges))
        self._draw(columns)
        return columns

    def _draw_tracks(self) -> None:
        for index, row in enumerate(self.rows):
            if row.line is not None:
                is_there = row.line.covers(self.view.edges)[self.view.bin_of_column]
                self._pixels[index] = track_pixels(self.row_height, row.line.color)[:, is_there.astype(int)]

    def _draw(self, columns: range) -> None:
        bin_of_column = self.view.bin_of_column[columns.start : columns.stop]
        codes = self._codes[:, bin_of_column]
        pixels = self._pixels[:, :, columns.start : columns.stop]
        for y, pixel_of_code in enumerate(cell_pixels(self.row_height)):
            pixels[self._class_rows, y] = pixel_of_code[codes]
        if self.view.scale >= GAP_SCALE:
            is_first = np.diff(self.view.bin_of_column, prepend=-1) > 0
            for index in self._class_rows:
                pixels[index, :, is_first[columns.start : columns.stop]] = gap_pixel()


class MarkPicture:
    """The review marks of the frames in view, one pixel high.

    Attributes
    ----------
    image : the image; it owns its memory
    """

    def __init__(self, marks: np.ndarray | None, view: FrameView) -> None:
        self.view = view
        binned = np.full(len(view.edges) - 1, np.nan) if marks is None else binned_marks(marks, view.edges)
        self._pixels = np.ascontiguousarray(mark_pixels(binned)[view.bin_of_column][None])
        self.image: QImage = image_over(self._pixels)
