"""Pictures with more than 8 bits: how many bits they use, and the scaling to 8 bits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_DEPTHS = (8, 10, 12, 14, 16)
_MOST_VALUE, _MOST_SIGNED_VALUE, _DESCRIPTION = 281, 341, 270  # tags of TIFF
_OME_BITS = re.compile(r'SignificantBits="(\d+)"')
_IMAGEJ_MOST = re.compile(r"^max=([0-9.]+)", re.MULTILINE)


def is_deep(image: Image.Image) -> bool:
    """Whether a picture has more than 8 bits a sample; Pillow would cut 16-bit colours to the upper 8."""
    return image.mode.startswith("I") or any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def deep_samples(image: Image.Image, path: Path, page: int) -> np.ndarray:
    """The samples of a picture with more than 8 bits: (H, W) or (H, W, 3), not scaled; a ValueError if it cannot be read."""
    if image.mode.startswith("I"):
        samples = np.asarray(image)
    elif image.format == "TIFF":
        samples = _deep_tiff(path, page)
    else:
        import cv2  # 16 MB of memory that most videos do not need

        samples = _rgb(cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED))
    if samples.min() < 0 or samples.max() > 65535 or samples.dtype.kind not in "iu":
        raise ValueError("samples do not fit in 16 bits")
    return samples.astype(np.uint16)


def _deep_tiff(path: Path, page: int) -> np.ndarray:
    import tifffile  # only for few videos, and slow to import

    try:
        samples = tifffile.imread(path, key=page)
        samples = np.moveaxis(samples, 0, -1) if samples.shape[0] in (3, 4) < samples.shape[-1:] else samples
        return samples[..., :3]
    except ValueError:  # a compression that tifffile reads only with another library
        import cv2

        _, images = cv2.imdecodemulti(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED, None, (page, page + 1))
        return _rgb(images[0] if images else None)


def _rgb(decoded: np.ndarray | None) -> np.ndarray:
    """OpenCV has blue first, and gives None for what it cannot read."""
    if decoded is None:
        raise ValueError("OpenCV cannot read this picture")
    return decoded[..., 2::-1] if decoded.ndim == 3 else decoded


def stated_bits(image: Image.Image) -> int:
    """The bits that a TIFF says it uses, by its largest value or its significant bits; 0 if it does not say."""
    tags: Any = getattr(image, "tag_v2", {})
    description = str(tags.get(_DESCRIPTION, ""))
    if found := _OME_BITS.search(description):
        return int(found[1])
    most = [float(np.max(tags[tag])) for tag in (_MOST_VALUE, _MOST_SIGNED_VALUE) if tag in tags]
    if description.startswith("ImageJ") and (found := _IMAGEJ_MOST.search(description)):
        most.append(float(found[1]))
    return bits_for(max(most)) if most else 0


def bits_for(value: float) -> int:
    """The smallest usual depth that holds a value."""
    return next((bits for bits in _DEPTHS if value < 1 << bits), _DEPTHS[-1])


def to_8_bits(samples: np.ndarray, bits: int) -> np.ndarray:
    """Scale samples to (H, W, 3) uint8: the largest value of `bits` bits becomes white; larger ones are white, too."""
    scaled = np.minimum(samples >> bits - 8 if bits >= 8 else samples << 8 - bits, 255).astype(np.uint8)
    return np.repeat(scaled[..., None], 3, axis=2) if scaled.ndim == 2 else np.ascontiguousarray(scaled)
