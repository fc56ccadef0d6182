"""Label Studio's run lengths of brush masks: the bits of the library rle-pack.

A stream of bits, the highest bit of a byte first (https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack)::

    32 bits      number of values
    5 bits       bits of a value, minus 1
    4 x 4 bits   the four sizes of a length, minus 1
    then runs:   1 bit, whether one value repeats; 2 bits, which size; a length of this size, minus 1; the value or values

The values are red, green, blue and alpha of each pixel, row by row; a pixel is in the mask if its alpha is not 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

WORD_SIZE = 8
SIZES = (3, 4, 8, 16)  # those of Label Studio's own converter
LONGEST = 2 ** SIZES[-1]


def encode(mask: np.ndarray) -> list[int]:
    """Bytes of a mask (H, W) bool."""
    pixels = mask.ravel()
    ends = np.append(np.flatnonzero(np.diff(pixels)) + 1, len(pixels))
    lengths, values = np.diff(ends, prepend=0) * 4, pixels[ends - 1]
    bits = [f"{4 * len(pixels):032b}{WORD_SIZE - 1:05b}", *(f"{size - 1:04b}" for size in SIZES)]
    for length, value in zip(lengths.tolist(), values.tolist(), strict=True):
        word = "1" * WORD_SIZE if value else "0" * WORD_SIZE
        for start in range(0, length, LONGEST):
            part = min(length - start, LONGEST)
            which = next(index for index, size in enumerate(SIZES) if part <= 2**size)
            bits.append(f"1{which:02b}{part - 1:0{SIZES[which]}b}{word}")
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def decode(data: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """The mask (H, W) bool; a ValueError if the data are damaged or of another size."""
    raw = bytes(data)
    text = f"{int.from_bytes(raw, 'big'):0{8 * len(raw)}b}" if raw else ""
    position = 0

    def take(count: int) -> int:
        nonlocal position
        position += count
        if position > len(text):
            raise ValueError("its run lengths end too early")
        return int(text[position - count : position], 2)

    total, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    if total != 4 * size[0] * size[1]:
        raise ValueError(f"its run lengths have {total} values, but the picture has {size[1]} x {size[0]} pixels")
    values = np.zeros(total, bool)
    done = 0
    while done < total:
        is_run = take(1)
        count = take(sizes[take(2)]) + 1
        if done + count > total:
            raise ValueError("its run lengths are longer than the picture")
        if is_run:
            values[done : done + count] = take(word) > 0
        else:
            values[done : done + count] = [take(word) > 0 for _ in range(count)]
        done += count
    return values.reshape(*size, 4)[..., 3]
