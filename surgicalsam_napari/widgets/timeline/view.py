"""The frames that the timeline shows and their pixels; no Qt."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

LARGEST_SCALE = 8.0  # pixels per frame when zoomed in fully
ROUNDING = 1e-6  # of a frame
LEAD = 1 / 8  # share of the width between the edge and a frame that comes back into view


@dataclass(frozen=True)
class FrameView:
    """A part of a video over columns of pixels; each frame is in one bin, each bin in one or more columns.

    Attributes
    ----------
    frame_count : frames of the video, at least 1
    width : columns of pixels, at least 1
    scale : pixels per frame
    start : the frame at the left edge, with fraction
    """

    frame_count: int
    width: int
    scale: float
    start: float = 0.0

    @classmethod
    def whole(cls, frame_count: int, width: int) -> FrameView:
        """The whole video from edge to edge."""
        return cls(frame_count, width, width / frame_count)

    @property
    def is_whole(self) -> bool:
        return self.scale <= self.width / self.frame_count

    @property
    def visible(self) -> float:
        """Number of frames in view, with fraction."""
        return self.width / self.scale

    def placed(self, scale: float, start: float) -> FrameView:
        """The same columns at another scale and start, limited to the video and the zoom range."""
        smallest = self.width / self.frame_count
        scale = min(max(scale, smallest), max(LARGEST_SCALE, smallest))
        start = min(max(start, 0.0), self.frame_count - self.width / scale)
        return FrameView(self.frame_count, self.width, scale, max(start, 0.0))

    def zoomed(self, factor: float, x: float) -> FrameView:
        """Zoomed by this factor; the frame at pixel x stays there."""
        scale = self.placed(self.scale * factor, self.start).scale
        return self.placed(scale, self.start + x / self.scale - x / scale)

    def panned(self, pixels: float) -> FrameView:
        """Moved to later frames by this number of pixels."""
        return self.placed(self.scale, self.start + pixels / self.scale)

    def resized(self, width: int) -> FrameView:
        """With another number of columns: whole if it was whole, else at the same scale."""
        whole = FrameView.whole(self.frame_count, width)
        return whole if self.is_whole else whole.placed(self.scale, self.start)

    def showing(self, frame_index: int) -> FrameView:
        """With this frame in view: unchanged if it is visible; one page on if it just left the view; else centred."""
        end = self.start + self.visible
        if self.start <= frame_index and frame_index + 1 <= end:
            return self
        if end - 1 < frame_index <= end + self.visible:
            return self.placed(self.scale, frame_index - LEAD * self.visible)
        if self.start - self.visible <= frame_index < self.start:
            return self.placed(self.scale, frame_index - (1 - LEAD) * self.visible)
        return self.placed(self.scale, frame_index - self.visible / 2)

    @cached_property
    def edges(self) -> np.ndarray:
        """(N + 1,) edges of the N bins in view, as frame indices: one bin per frame, or per column of narrower frames."""
        if self.scale >= 1:
            return np.arange(self._frames_at_columns[0], self._frames_at_columns[-1] + 2)
        columns = np.arange(self.width + 1)
        # after rounding, every column must still have its own frame
        return np.minimum(self._whole_frames(columns), self.frame_count - self.width + columns)

    @cached_property
    def bin_of_column(self) -> np.ndarray:
        """(width,) the bin that each column of pixels shows, ascending."""
        if self.scale >= 1:
            return self._frames_at_columns - self._frames_at_columns[0]
        return np.arange(self.width)

    def frames_at(self, x: float) -> range:
        """The frames of the bin at pixel x; the bin at the nearest edge for an x outside."""
        bin_index = self.bin_of_column[min(max(int(x), 0), self.width - 1)]
        return range(int(self.edges[bin_index]), int(self.edges[bin_index + 1]))

    def columns_of(self, first_frame: int, last_frame: int) -> range | None:
        """The columns of pixels that show these frames or the bins they are in; None if none is in view."""
        bins = self.bins_of(first_frame, last_frame)
        if bins is None:
            return None
        start, stop = np.searchsorted(self.bin_of_column, (bins.start, bins.stop))
        return range(int(start), int(stop))

    def bins_of(self, first_frame: int, last_frame: int) -> range | None:
        """The bins in view that hold any frame from `first_frame` to `last_frame`, both included; None if there is none."""
        if last_frame < self.edges[0] or first_frame >= self.edges[-1]:
            return None
        first, last = np.searchsorted(self.edges, (first_frame, last_frame), side="right") - 1
        return range(max(int(first), 0), min(int(last), len(self.edges) - 2) + 1)

    @cached_property
    def _frames_at_columns(self) -> np.ndarray:
        """(width,) the frame at the left of each column."""
        return np.clip(self._whole_frames(np.arange(self.width)), 0, self.frame_count - 1)

    def _whole_frames(self, columns: np.ndarray) -> np.ndarray:
        return np.floor(self.start + columns / self.scale + ROUNDING).astype(np.intp)
