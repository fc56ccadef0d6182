"""One synthetic surgical scene: tissue, moving instruments, and the camera."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from surgicalsam_napari.phantom.cast import alike_cast, mixed_cast
from surgicalsam_napari.phantom.effects import SensorNoise, Smoke, contact_shadow, defocused, smeared, vignette
from surgicalsam_napari.phantom.look import LOOKS, Look
from surgicalsam_napari.phantom.motion import Handling, Wander
from surgicalsam_napari.phantom.raster import Layer
from surgicalsam_napari.phantom.tissue import draw_tissue
from surgicalsam_napari.phantom.tools import CLASPER, Pose

EXPOSURE_TIME = 0.4  # share of the frame interval during which the shutter is open
BLURRED_FROM = 1.5  # pixels of motion during the exposure
MARKS = CLASPER + 1  # a pixel's mark is `number * MARKS + part`


@dataclass(frozen=True)
class PhantomFrame:
    """A picture and its exact labels.

    Attributes
    ----------
    image : (H, W, 3) uint8 RGB
    labels : (H, W) uint8 class ids of PHANTOM_CLASSES, 0 background; a pixel has the class that covers at least half of it
    marks : (H, W) uint8, `number * MARKS + part` of each pixel, 0 background
    """

    image: np.ndarray
    labels: np.ndarray
    marks: np.ndarray

    @property
    def instances(self) -> np.ndarray:
        """(H, W) uint8 numbers of the instruments, 0 background.

        An instrument keeps its number through the whole scene, also after it was covered or outside the picture.
        """
        return self.marks // np.uint8(MARKS)

    @property
    def parts(self) -> np.ndarray:
        """(H, W) uint8 ids of PHANTOM_PARTS, 0 background."""
        return self.marks % np.uint8(MARKS)


class PhantomScene:
    """A scene of `frame_count` frames, each computed on demand; the same seed gives the same bytes.

    Parameters
    ----------
    seed : 0 or more
    size : (H, W) in pixels; the scene's content does not depend on the resolution, only on the aspect
    frame_count : length of the clip at 25 frames a second
    look : a name in LOOKS
    new_tool : whether the scene's first instrument is a vessel sealer; no other scene shows one
    alike : 2 or 3 for a scene with that many instruments of one class, which cross, cover one another, leave the picture
        and return, and with `new_tool` are vessel sealers; 0 for a scene of mixed instruments

    Attributes
    ----------
    classes : ids of the classes that can occur in the scene, ascending
    instruments : class id of each instrument; the instrument numbered k is at place k - 1
    frame_rate : frames a second
    """

    frame_rate = 25.0

    def __init__(
        self,
        seed: int,
        size: tuple[int, int] = (512, 640),
        frame_count: int = 60,
        look: str = "first",
        new_tool: bool = False,
        alike: int = 0,
    ):
        if look not in LOOKS:
            raise ValueError(f'There is no look called "{look}"; choose one of {", ".join(LOOKS)}.')
        if min(size) < 16 or frame_count < 1:
            raise ValueError(f"A scene needs at least 16x16 pixels and one frame; got {size} and {frame_count}.")
        if alike not in (0, 2, 3):
            raise ValueError(f"A scene has 2 or 3 instruments of one class, or 0 for mixed instruments; got alike={alike}.")
        self.size, self.frame_count = size, frame_count
        # Separate random streams: numbers sampled per pixel must not change those sampled per scene.
        content, tissue, camera, noise = (np.random.default_rng((seed, part)) for part in range(4))
        self._tissue = Image.fromarray(draw_tissue(tissue, size, LOOKS[look]))
        aspect, duration = size[0] / size[1], frame_count / self.frame_rate
        if alike:
            self._handlings = alike_cast(content, aspect, duration, LOOKS[look], new_tool, alike)
        else:
            self._handlings = mixed_cast(content, aspect, duration, LOOKS[look], new_tool)
        self.instruments = tuple(handling.instrument.class_id for handling in self._handlings)
        self.classes = tuple(sorted(set(self.instruments)))
        self._set_camera(camera, LOOKS[look])
        self._noise = SensorNoise(noise, size, noise.uniform(*LOOKS[look].noise))

    def _set_camera(self, rng: np.random.Generator, look: Look) -> None:
        aspect = self.size[0] / self.size[1]
        self._gain = np.array(look.light, np.float32) * np.float32(rng.uniform(*look.exposure))
        center = rng.uniform(0.4, 0.6), aspect * rng.uniform(0.4, 0.6)
        self._vignette = vignette(self.size, center, rng.uniform(*look.vignette))[..., None] * (255 * self._gain)
        angle = rng.uniform(0, 2 * math.pi)
        self._shadow = rng.uniform(0.008, 0.035) * math.cos(angle), rng.uniform(0.01, 0.04)
        self._shadow_strength = rng.uniform(0.35, 0.65)
        self._sway = [Wander(rng, 0.7) for _ in range(3)]
        self._sway_range = rng.uniform(0.05, 0.6)
        self._focus = Wander(rng, 0.8)
        self._defocus = rng.uniform(0.0008, 0.0024) if rng.random() < look.blur_chance else 0.0
        self._smoke = Smoke(rng) if rng.random() < look.smoke_chance else None
        self._smoke_density, self._plume = rng.uniform(0.25, 0.75), Wander(rng)

    def __len__(self) -> int:
        return self.frame_count

    def __iter__(self) -> Iterator[PhantomFrame]:
        return (self.frame(index) for index in range(self.frame_count))

    def frame(self, index: int) -> PhantomFrame:
        """Frame `index`, 0 to frame_count - 1; the order of the calls does not matter."""
        if not 0 <= index < self.frame_count:
            raise IndexError(f"The scene has frames 0 to {self.frame_count - 1}; got {index}.")
        time = index / self.frame_rate
        rgb = self._background(time)
        layer = self._instruments(time)
        if layer.labels.any():
            shade = contact_shadow(layer.cover, self._shadow, 0.014, self._shadow_strength)
            rgb *= (shade * (1 - layer.cover))[..., None]
            rgb += layer.rgb
        rgb *= self._vignette
        if self._smoke is not None:
            density = self._smoke_density * max(0.0, 0.55 + 0.6 * self._plume(time))
            self._smoke.over(rgb, time, density)
        radius = self._defocus * max(0.0, 0.35 + self._focus(time)) * self.size[1]
        self._noise.add(rgb, index)
        image = np.clip(rgb, 0, 255, out=rgb).astype(np.uint8)
        class_ids = np.repeat(np.array((0, *self.instruments), np.uint8), MARKS)
        return PhantomFrame(defocused(image, radius), class_ids.take(layer.labels), layer.labels)

    def _background(self, time: float) -> np.ndarray:
        """(H, W, 3) float32, 0 to 1: the part of the tissue that the swaying camera sees."""
        height, width = self.size
        dx, dy, zoom = (wander(time) * self._sway_range for wander in self._sway)
        half_width, half_height = width / 2 * (1 + 0.03 * zoom), height / 2 * (1 + 0.03 * zoom)
        middle_x, middle_y = self._tissue.width / 2 + 0.03 * width * dx, self._tissue.height / 2 + 0.03 * height * dy
        box = (middle_x - half_width, middle_y - half_height, middle_x + half_width, middle_y + half_height)
        view = self._tissue.resize((width, height), Image.Resampling.BILINEAR, box=box)
        return np.asarray(view, np.float32) * np.float32(1 / 255)

    def _instruments(self, time: float) -> Layer:
        """All instruments in view, each over the earlier ones; its labels are marks."""
        layer = Layer(self.size)
        for number, handling in enumerate(self._handlings, start=1):
            pose = handling.pose(time)
            if pose is None:
                continue
            shift = self._shift(handling, pose, time)
            if max(map(abs, shift)) < BLURRED_FROM:
                for tube in handling.instrument.tubes(pose):
                    layer.draw(tube, number * MARKS + tube.part)
                continue
            # A moving instrument is blurred separately: the others stay sharp.
            own = Layer(self.size)
            for tube in handling.instrument.tubes(pose):
                own.draw(tube, number * MARKS + tube.part)
            _lay_smeared(layer, own, shift)
        return layer

    def _shift(self, handling: Handling, pose: Pose, time: float) -> tuple[float, float]:
        """How far the wrist moves while the shutter is open, in pixels."""
        later = handling.pose(time + EXPOSURE_TIME / self.frame_rate)
        if later is None:
            return 0.0, 0.0
        dx, dy = (later.wrist - pose.wrist) * self.size[1]
        return float(dx), float(dy)


def _lay_smeared(layer: Layer, own: Layer, shift: tuple[float, float]) -> None:
    """Lay one instrument over the others with motion blur; its labels are those of the middle of the exposure."""
    box = own.bounds(math.ceil(max(map(abs, shift))))
    if box is None:
        return
    color, cover = smeared(own.rgb[box], shift), smeared(own.cover[box][..., None], shift)
    layer.rgb[box] = layer.rgb[box] * (1 - cover) + color
    layer.cover[box] = layer.cover[box] * (1 - cover[..., 0]) + cover[..., 0]
    np.copyto(layer.labels[box], own.labels[box], where=own.labels[box] > 0)
