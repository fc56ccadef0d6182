"""Colours of classes in label pictures: palettes, distinct colours, and the class ids of a colour picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.files import DAMAGED
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.untrusted import plain_file

Color = tuple[int, int, int]
BACKGROUND: Color = (0, 0, 0)
VOID: Color = (224, 224, 192)  # in Pascal VOC: the border of an object, value 255


def voc_palette() -> np.ndarray:
    """The palette of Pascal VOC, DAVIS and YouTube-VOS: (256, 3) uint8.

    The bits of the value are dealt to red, green and blue in turn, the highest bit of each colour first (VOCdevkit's
    VOClabelcolormap): 1 is (128, 0, 0), 2 is (0, 128, 0), 3 is (128, 128, 0), 255 is VOID.
    """
    values = np.arange(256)
    colors = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            position = 3 * bit + channel
            if position < 8:
                colors[:, channel] |= (((values >> position) & 1) << (7 - bit)).astype(np.uint8)
    return colors


def distinct_colors(classes: ClassSet) -> dict[int, Color]:
    """A colour for each class id, none twice, none black or VOID: the classes' own, or else one of Pascal VOC's."""
    colors: dict[int, Color] = {}
    spare = ((red, green, blue) for red, green, blue in voc_palette()[1:255].tolist())
    own = {c.rgb for c in classes}
    for instrument in classes:
        color = instrument.rgb
        while color in (*colors.values(), BACKGROUND, VOID) or (color != instrument.rgb and color in own):
            color = next(spare)
        colors[instrument.id] = color
    return colors


def ids_of_colors(pixels: np.ndarray, ids: Mapping[Color, int], name: str, what: str) -> np.ndarray:
    """Class ids (H, W) uint8 of a colour picture (H, W, 3) uint8.

    Parameters
    ----------
    ids : class id by colour
    name : of the frame, for messages
    what : where the colours are named, for messages, such as "labelmap.txt"

    Raises
    ------
    ExchangeError
        a pixel has another colour
    """
    packed = (pixels[..., 0].astype(np.uint32) << 16) | (pixels[..., 1].astype(np.uint32) << 8) | pixels[..., 2]
    present, inverse = np.unique(packed, return_inverse=True)
    table = np.zeros(len(present), np.uint8)
    for position, value in enumerate(present.tolist()):
        color = (value >> 16, value >> 8 & 255, value & 255)
        if color not in ids:
            y, x = np.argwhere(packed == value)[0].tolist()
            raise ExchangeError(
                f"{name} has the colour {color} in {int((packed == value).sum())} pixels (the first at x = {x}, y = {y}), "
                f"which is not a colour of {what}. Label pictures must keep their exact colours: a JPEG or a resized "
                "picture does not. Restore the file, or add the colour."
            )
        table[position] = ids[color]
    return table[inverse].reshape(packed.shape)


def read_pixels(path: Path, name: str) -> np.ndarray:
    """The pixels of a label picture: (H, W) ids if it is grey or indexed, (H, W, 3) uint8 if it has colours.

    Raises
    ------
    ExchangeError
        the file is missing or damaged
    """
    try:
        with Image.open(plain_file(path)) as image:
            image.load()
            if image.mode in ("L", "P", "1", "I;16", "I"):
                return np.asarray(image if image.mode != "1" else image.convert("L"))
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError as error:
        raise ExchangeError(f"{name} is missing. Restore the file.") from error
    except DAMAGED as error:
        raise ExchangeError(
            f"{name} is damaged and cannot be read as a picture. Restore the file from its source."
        ) from error


def color_count(path: Path, most: int) -> int:
    """How many colours a picture has; `most` + 1 if there are more, or if it cannot be read."""
    try:
        with Image.open(plain_file(path)) as image:
            colors = image.convert("RGB").getcolors(most)
    except DAMAGED:
        return most + 1
    return most + 1 if colors is None else len(colors)


def read_colors(path: Path, name: str) -> np.ndarray:
    """The colours of a label picture: (H, W, 3) uint8, also of a grey or indexed one; errors as above."""
    try:
        with Image.open(plain_file(path)) as image:
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError as error:
        raise ExchangeError(f"{name} is missing. Restore the file.") from error
    except DAMAGED as error:
        raise ExchangeError(
            f"{name} is damaged and cannot be read as a picture. Restore the file from its source."
        ) from error
