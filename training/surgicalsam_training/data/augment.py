"""The paper's augmentations: flips, scale and crop, rotation, colour jitter; a frame and its labels change alike.

An augmentation depends on the random generator only, not on the labels. Kept embeddings of augmented frames therefore stay
valid after their labels are corrected.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance

LARGEST_ZOOM = 1.8  # a crop of the frame's size / 1.8, enlarged to the frame's size
LARGEST_ANGLE = 30.0  # degrees; half of the copies are not rotated
BRIGHTNESS = CONTRAST = SATURATION = 0.2  # factors between 1 - x and 1 + x
HUE = 0.03  # part of the colour circle: tissue stays red
_REVISION = 1  # raise it if the sampling or the computation changes, so that kept embeddings are computed again


@dataclass(frozen=True)
class Augmentation:
    """One random change of a frame.

    Attributes
    ----------
    center : (y, x), 0 to 1, position of the crop within its free range
    hue : shift, as a part of the colour circle
    """

    flip_horizontally: bool
    flip_vertically: bool
    zoom: float
    angle: float
    center: tuple[float, float]
    brightness: float
    contrast: float
    saturation: float
    hue: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Augmentation:
        draws = rng.random(11)

        def around(index: int, center: float, reach: float) -> float:
            return float(center + reach * (2 * draws[index] - 1))

        return cls(
            flip_horizontally=bool(draws[0] < 0.5),
            flip_vertically=bool(draws[1] < 0.5),
            zoom=float(LARGEST_ZOOM ** draws[2]),
            angle=around(4, 0, LARGEST_ANGLE) if draws[3] < 0.5 else 0.0,
            center=(float(draws[5]), float(draws[6])),
            brightness=around(7, 1, BRIGHTNESS),
            contrast=around(8, 1, CONTRAST),
            saturation=around(9, 1, SATURATION),
            hue=around(10, 0, HUE),
        )

    def image(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 to the same size: bilinear; black outside the frame."""
        picture = ImageEnhance.Brightness(Image.fromarray(image)).enhance(self.brightness)
        picture = ImageEnhance.Contrast(picture).enhance(self.contrast)
        picture = ImageEnhance.Color(picture).enhance(self.saturation)
        hue, saturation, value = picture.convert("HSV").split()
        shift = round(self.hue * 256)
        shifted_hue = hue.point([(old + shift) % 256 for old in range(256)])
        picture = Image.merge("HSV", (shifted_hue, saturation, value)).convert("RGB")
        return np.asarray(self._warped(picture, Image.Resampling.BILINEAR))

    def labels(self, label_map: np.ndarray) -> np.ndarray:
        """(H, W) uint8 to the same size: nearest neighbour; background outside the frame."""
        return np.asarray(self._warped(Image.fromarray(label_map), Image.Resampling.NEAREST))

    def _warped(self, picture: Image.Image, resampling: Image.Resampling) -> Image.Image:
        """Maps each output pixel (x, y) to x_in = a x + b y + c and y_in = d x + e y + f."""
        width, height = picture.size
        radians = np.deg2rad(self.angle)
        cos, sin = np.cos(radians) / self.zoom, np.sin(radians) / self.zoom
        mirror_x, mirror_y = 1 - 2 * self.flip_horizontally, 1 - 2 * self.flip_vertically
        a, b, d, e = cos * mirror_x, -sin * mirror_y, sin * mirror_x, cos * mirror_y
        free_range = 1 - 1 / self.zoom
        x = width * (0.5 + free_range * (self.center[1] - 0.5))
        y = height * (0.5 + free_range * (self.center[0] - 0.5))
        c, f = x - a * width / 2 - b * height / 2, y - d * width / 2 - e * height / 2
        return picture.transform(picture.size, Image.Transform.AFFINE, (a, b, c, d, e, f), resampling)


def augmentation_rng(seed: int, version: int, frame_name: str) -> np.random.Generator:
    """The random generator of one copy of one frame; the same on every machine."""
    name = int.from_bytes(hashlib.sha256(frame_name.encode()).digest()[:8], "big")
    return np.random.default_rng((seed, version, name))


def augmented_image(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An augmented copy of a frame: (H, W, 3) uint8 RGB, same size."""
    return Augmentation.draw(rng).image(image)


def augmented_labels(label_map: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The labels of `augmented_image` with a generator in the same state: (H, W) uint8."""
    return Augmentation.draw(rng).labels(label_map)


def augmentation_digest(seed: int) -> str:
    """Eight hexadecimal digits that identify a seed and these settings, for kept embeddings."""
    settings = (_REVISION, LARGEST_ZOOM, LARGEST_ANGLE, BRIGHTNESS, CONTRAST, SATURATION, HUE, seed)
    return hashlib.sha256(repr(settings).encode()).hexdigest()[:8]
