"""One synthetic surgical scene: tissue, moving instruments, and the camera."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.phantom.effects import SensorNoise, Smoke, contact_shadow, defocused, smeared, vignette
from surgicalsam_napari.phantom.look import LOOKS, Look
from surgicalsam_napari.phantom.motion import Handling, Visit, Wander
from surgicalsam_napari.phantom.raster import Layer
from surgicalsam_napari.phantom.tissue import draw_tissue
from surgicalsam_napari.phantom.tools import NEW_TOOL, Instrument, Pose

ALWAYS = Visit(-1e9, 1e9, 1.0)
EXPOSURE_TIME = 0.4  # share of the frame interval during which the shutter is open
BLURRED_FROM = 1.5  # pixels of motion during the exposure
PORTS = ("left", "right", "bottom", "top")
PORT_CHANCES = (0.34, 0.34, 0.2, 0.12)


@dataclass(frozen=True)
class PhantomFrame:
    """A picture and its exact labels.

    Attributes
    ----------
    image : (H, W, 3) uint8 RGB
    labels : (H, W) uint8 class ids of PHANTOM_CLASSES, 0 background; a pixel has the class that covers at least half of it
    """

    image: np.ndarray
    labels: np.ndarray


class PhantomScene:
    """A scene of `frame_count` frames, each computed on demand; the same seed gives the same bytes.

    Parameters
    ----------
    seed : 0 or more
    size : (H, W) in pixels; the scene's content does not depend on the resolution, only on the aspect
    frame_count : length of the clip at 25 frames a second
    look : a name in LOOKS
    new_tool : whether the scene's first instrument is a vessel sealer; no other scene shows one

    Attributes
    ----------
    classes : ids of the classes that can occur in the scene, ascending
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
    ):
        if look not in LOOKS:
            raise ValueError(f'There is no look called "{look}"; choose one of {", ".join(LOOKS)}.')
        if min(size) < 16 or frame_count < 1:
            raise ValueError(f"A scene needs at least 16x16 pixels and one frame; got {size} and {frame_count}.")
        self.size, self.frame_count = size, frame_count
        # Separate random streams: numbers sampled per pixel must not change those sampled per scene.
        content, tissue, camera, noise = (np.random.default_rng((seed, part)) for part in range(4))
        self._tissue = Image.fromarray(draw_tissue(tissue, size, LOOKS[look]))
        self._handlings = _cast(content, size[0] / size[1], frame_count / self.frame_rate, LOOKS[look], new_tool)
        self.classes = tuple(sorted({handling.instrument.class_id for handling in self._handlings}))
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
        return PhantomFrame(defocused(image, radius), layer.labels)

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
        """All instruments in view, each over the earlier ones."""
        layer = Layer(self.size)
        for handling in self._handlings:
            pose = handling.pose(time)
            if pose is None:
                continue
            class_id = handling.instrument.class_id
            shift = self._shift(handling, pose, time)
            if max(map(abs, shift)) < BLURRED_FROM:
                for tube in handling.instrument.tubes(pose):
                    layer.draw(tube, class_id)
                continue
            # A moving instrument is blurred separately: the others stay sharp.
            own = Layer(self.size)
            for tube in handling.instrument.tubes(pose):
                own.draw(tube, class_id)
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


def _cast(rng: np.random.Generator, aspect: float, duration: float, look: Look, new_tool: bool) -> list[Handling]:
    """The scene's instruments, in drawing order: 1 to 4 ports, each with one instrument or two in turn."""
    count = rng.choice((1, 2, 3, 4), p=(0.2, 0.42, 0.28, 0.1))
    sides = rng.choice(PORTS, count, replace=False, p=PORT_CHANCES)
    ids = list(rng.permutation(ENDOVIS2018.ids)) + list(rng.permutation(ENDOVIS2018.ids))
    if rng.random() < 0.12:
        ids[1] = ids[0]
    if new_tool:
        ids[0] = NEW_TOOL.id
    blood = rng.uniform(0.1, 0.6) if rng.random() < look.blood_chance else 0.0
    ramp = min(0.9, 0.3 * duration)
    # In some scenes all instruments are outside for a while: a model must not assume that one is present.
    break_start = rng.uniform(0, 0.7) * duration if rng.random() < 0.07 else None
    handlings = []
    for place, side in enumerate(sides):
        port, target = _port(rng, side, aspect), _target(rng, side, aspect)
        for visits in _visits(rng, duration, ramp, break_start, steady=place == 0):
            instrument = Instrument(int(ids.pop(0)), rng, look, blood)
            handlings.append(Handling(rng, instrument, port, target, visits))
    return [handlings[i] for i in rng.permutation(len(handlings))]


def _visits(
    rng: np.random.Generator, duration: float, ramp: float, break_start: float | None, steady: bool
) -> list[tuple[Visit, ...]]:
    """The visits of each instrument of one port; a steady port is rarely empty."""
    if break_start is not None:
        back = break_start + duration * rng.uniform(0.3, 0.5)
        return [(Visit(-1e9, break_start + ramp * 0.5, ramp), Visit(back, 1e9, ramp))]
    kind = rng.random()
    if kind < (0.85 if steady else 0.4):
        return [(ALWAYS,)]
    moment = rng.uniform(0.15, 0.75) * duration
    if kind < 0.6 and not steady:
        return [(Visit(moment, 1e9, ramp),)]
    if kind < 0.75 and not steady:
        return [(Visit(-1e9, moment + ramp, ramp),)]
    if kind < 0.9:
        return [(Visit(moment - 0.25 * duration, moment + 0.4 * duration + ramp, ramp),)]
    return [(Visit(-1e9, moment, ramp),), (Visit(moment, 1e9, ramp),)]


def _port(rng: np.random.Generator, side: str, aspect: float) -> np.ndarray:
    """A pivot so far outside the picture that a withdrawn instrument is not visible."""
    away = rng.uniform(0.75, 1.1)
    if side in ("left", "right"):
        y = aspect * rng.uniform(0.15, 1.15)
        return np.array((-away if side == "left" else 1 + away, y))
    x = rng.uniform(0.0, 1.0)
    return np.array((x, aspect + away if side == "bottom" else -away))


def _target(rng: np.random.Generator, side: str, aspect: float) -> np.ndarray:
    """Where the tip works, about 38 to 72 % into the picture: instruments meet but rarely cross."""
    deep = rng.uniform(0.38, 0.72)
    along = rng.uniform(0.25, 0.75)
    if side in ("left", "right"):
        return np.array((deep if side == "left" else 1 - deep, aspect * along))
    return np.array((along, aspect * (1 - deep if side == "bottom" else deep)))
