"""The names of classes as small dark tags: white text that can be read on any picture and at any resolution."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TEXT_SHARE = 0.03  # height of the text, as a share of the frame's shorter side,
SMALLEST_TEXT = 11  # and in pixels
WIDEST_TAG = 0.9  # of the frame's width; a longer name is broken into lines
TAG_OPACITY = 0.75


@dataclass(frozen=True)
class Place:
    """A rectangle in pixels of the frame."""

    top: int
    left: int
    height: int
    width: int

    def grown(self, by: int) -> Place:
        """The rectangle with this many pixels more on each side."""
        return Place(self.top - by, self.left - by, self.height + 2 * by, self.width + 2 * by)

    def overlaps(self, other: Place) -> bool:
        """Whether both have a pixel in common."""
        return (
            self.top < other.top + other.height
            and other.top < self.top + self.height
            and self.left < other.left + other.width
            and other.left < self.left + self.width
        )


@lru_cache(maxsize=256)
def name_tag(name: str, color: str, frame_size: tuple[int, int]) -> np.ndarray:
    """The tag of a class: (h, w, 3) uint8, not to be changed; smaller than the frame if the frame has room for any text.

    Parameters
    ----------
    color : "#rrggbb", shown as a square beside the name
    frame_size : (H, W)
    """
    size = max(round(TEXT_SHARE * min(frame_size)), SMALLEST_TEXT)
    font, margin, line = ImageFont.load_default(size=size), max(size // 4, 2), round(1.25 * size)
    lines = _broken(name, font, WIDEST_TAG * frame_size[1] - size - 3 * margin)
    width = round(max(font.getlength(text) for text in lines)) + size + 3 * margin
    picture = Image.new("RGB", (width, len(lines) * line + margin))
    draw = ImageDraw.Draw(picture)
    top = (margin + line - size) // 2
    draw.rectangle((margin, top + 1, margin + size - 2, top + size - 1), fill=color)
    for row, text in enumerate(lines):
        draw.text((2 * margin + size, (margin + line) // 2 + row * line), text, font=font, fill="white", anchor="lm")
    return np.asarray(picture)


def place_tag(size: tuple[int, int], region: Place, taken: Sequence[Place], frame_size: tuple[int, ...]) -> Place:
    """Where to put a tag: above its region, else below or on it, else the first free place further down.

    Parameters
    ----------
    size : (h, w) of the tag
    region : the bounding box of the mask
    taken : tags that are already in the picture
    frame_size : (H, W)
    """
    places = list(_possible_places(size, region, frame_size))
    return next((place for place in places if not any(place.overlaps(other) for other in taken)), places[0])


def draw_tag(picture: np.ndarray, tag: np.ndarray, place: Place) -> None:
    """Blend a tag into (H, W, 3) uint8; what does not fit is cut off."""
    below = picture[place.top : place.top + place.height, place.left : place.left + place.width]
    tag = tag[: below.shape[0], : below.shape[1]]
    # the text and the square are opaque, the dark ground lets the picture through
    below[:] = np.maximum(tag, ((1 - TAG_OPACITY) * below).astype(np.uint8))


def _possible_places(size: tuple[int, int], region: Place, frame_size: tuple[int, ...]) -> Iterator[Place]:
    """Above, below and on the region; then every line from the top to the bottom of the frame."""
    height, width = size
    lowest = max(frame_size[0] - height, 0)
    left = min(max(region.left + (region.width - width) // 2, 0), max(frame_size[1] - width, 0))
    gap = max(height // 8, 1)
    above, below = region.top - height - gap, region.top + region.height + gap
    tops = [top for top in (above, below) if 0 <= top <= lowest]
    middle = region.top + (region.height - height) // 2
    for top in (*tops, min(max(middle, 0), lowest), *range(0, lowest + 1, height)):
        yield Place(top, left, height, width)


def _broken(name: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> list[str]:
    """The name in lines of at most `width` pixels, broken between words."""
    lines: list[str] = []
    for word in name.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
