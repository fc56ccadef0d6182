"""The EndoVis 2018 instruments and a vessel sealer, built of tubes; lengths in shaft radii, x to the tip, y to its right."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from surgicalsam_napari.instruments import ENDOVIS2018, PALETTE, ClassSet, InstrumentClass
from surgicalsam_napari.phantom import finish
from surgicalsam_napari.phantom.look import RGB, Look
from surgicalsam_napari.phantom.raster import Finish, Tube

NEW_TOOL = InstrumentClass(
    8, "Vessel Sealer", PALETTE[7]
)  # only in scenes with `new_tool`: the bundled weights are not trained on it
PHANTOM_CLASSES = ClassSet("Phantom", (*ENDOVIS2018, NEW_TOOL))
SHAFT, WRIST, CLASPER = 1, 2, 3
PHANTOM_PARTS = ClassSet(
    "Phantom parts",
    (
        InstrumentClass(SHAFT, "Shaft", PALETTE[0]),
        InstrumentClass(WRIST, "Wrist", PALETTE[1]),
        InstrumentClass(CLASPER, "Clasper", PALETTE[2]),
    ),
)
# Other surfaces belong to the wrist. Probe and suction tube have no joint, so they are all shaft.
SHAFT_SURFACES = ("shaft", "relief", "body", "bore")
CLASPER_SURFACES = ("jaw", "yoke", "gold", "blade", "edge", "plate", "liner", "clip")
SHAFT_SKIN = 16.0  # length of the shaft's colour map; beyond it the last row repeats
CLIP_COLORS: tuple[RGB, ...] = ((0.92, 0.92, 0.95), (0.62, 0.42, 0.85), (0.35, 0.80, 0.55))


@dataclass(frozen=True)
class Pose:
    """Position and joint angles of an instrument at one moment.

    Attributes
    ----------
    wrist : (2,) where the shaft ends; port : (2,) where it comes from, outside the picture; in frame widths
    radius : of the shaft at the wrist, in frame widths
    bend : angle of the wrist against the shaft; opening : angle of each jaw against their middle; radians
    roll : turn about the long axis, radians; 0 shows the jaws from the side, pi / 2 from above
    depth : visible length beyond the wrist, relative to its true length
    """

    wrist: np.ndarray
    port: np.ndarray
    radius: float
    bend: float
    opening: float
    roll: float
    depth: float


@dataclass(frozen=True)
class Joint:
    """A place on the instrument with its own axes, from which the parts beyond it are measured."""

    origin: np.ndarray
    heading: float
    scale: float
    stretch: float = 1.0

    def place(self, points: Sequence[tuple[float, float]]) -> np.ndarray:
        """(N, 2) in frame widths, from points in shaft radii along and across."""
        local = np.array(points, float) * (self.scale * self.stretch, self.scale)
        cos, sin = math.cos(self.heading), math.sin(self.heading)
        return self.origin + local @ np.array(((cos, sin), (-sin, cos)))

    def turned(self, along: float, angle: float, across: float = 0.0) -> Joint:
        """The next joint, `along` this one's axis, turned by `angle`."""
        return Joint(self.place([(along, across)])[0], self.heading + angle, self.scale, self.stretch)

    def tube(
        self,
        points: Sequence[tuple[float, float]],
        radii: Sequence[float],
        surface: Surface,
        slots: Sequence[tuple[float, float, float, float, float]] = (),
        flat: tuple[bool, bool] = (False, False),
        teeth: tuple[float, float, int] | None = None,
    ) -> Tube:
        """A part in this joint's axes; a slot is (x0, y0, x1, y1, radius)."""
        cut = tuple((self.place([(x0, y0), (x1, y1)]), radius * self.scale) for x0, y0, x1, y1, radius in slots)
        teeth = None if teeth is None else (teeth[0] * self.scale, teeth[1] * self.scale, teeth[2])
        length = surface.length * self.scale
        line, wide = self.place(points), np.array(radii) * self.scale
        return Tube(line, wide, surface.skin, surface.finish, length, cut, flat, teeth, surface.part)


@dataclass(frozen=True)
class Surface:
    """A skin, the length it is stretched over in shaft radii, its finish, and the part of the instrument it lies on."""

    skin: np.ndarray
    length: float
    finish: Finish
    part: int = WRIST


class Instrument:
    """One instrument of a scene: its class, and surfaces drawn once.

    Parameters
    ----------
    class_id : of PHANTOM_CLASSES
    blood : 0 to 1, how bloody its tip is

    Attributes
    ----------
    reach : from wrist to tip, in shaft radii
    """

    def __init__(self, class_id: int, rng: np.random.Generator, look: Look, blood: float = 0.0):
        self.class_id = class_id
        self.rng, self.look = rng, look
        self._blood = blood
        self._tilt = float(rng.uniform(-1, 1))
        make = _MAKES[PHANTOM_CLASSES.by_id(class_id).name]
        self.reach, self._build = make.reach, make.build
        self._surfaces = {name: replace(surface, part=_part(name)) for name, surface in make.dress(self).items()}

    def tubes(self, pose: Pose) -> Iterator[Tube]:
        """The instrument's parts in drawing order, back to front."""
        return self._build(self._surfaces, pose)

    def surface(
        self, length: float, color: RGB, make_finish: Callable[[float], Finish], grain: float = 0.06, streak: float = 0.05
    ) -> Surface:
        """A worn surface of one colour; the class's `_dress_...` function adds rings and print to its skin."""
        varied = np.array(color) * self.rng.uniform(0.88, 1.12)
        skin = finish.plain_skin(self.rng, length, tuple(varied), grain, streak)
        return Surface(skin, length, make_finish(self._tilt))

    def shaft(self, color: RGB, make_finish: Callable[[float], Finish], grain: float = 0.08, streak: float = 0.1) -> Surface:
        tinted = np.array(color) * self.look.shaft_tint * self.look.shaft_gain
        surface = self.surface(SHAFT_SKIN, tuple(tinted), make_finish, grain, streak)
        # The near end of a shaft is close to the light.
        surface.skin[:] *= np.linspace(1, 1.7, len(surface.skin))[:, None, None]
        return surface

    def steel(self, length: float, gain: float = 1.0, bloody: bool = False) -> Surface:
        """Bare metal, for wrists and jaws."""
        gain *= 0.6 + 0.4 * self.look.shaft_gain
        surface = self.surface(length, (0.58 * gain, 0.57 * gain, 0.58 * gain), finish.polished, 0.07, 0.04)
        if bloody and self._blood > 0:
            finish.stain(self.rng, surface.skin, self._blood)
        return surface

    def dark(self) -> Surface:
        return self.surface(1.0, (0.07, 0.065, 0.07), finish.matte)


Surfaces = dict[str, Surface]


def _part(surface: str) -> int:
    return SHAFT if surface in SHAFT_SURFACES else CLASPER if surface in CLASPER_SURFACES else WRIST


def _shaft(surfaces: Surfaces, pose: Pose, end: float = 0.0, taper: float = 1.25) -> tuple[Joint, Tube]:
    """The straight shaft from the port to `end` before the wrist; it looks wider near the port, closer to the camera."""
    run = pose.wrist - pose.port
    joint = Joint(pose.wrist, math.atan2(run[1], run[0]), pose.radius)
    # Twice the distance to the port: a withdrawn shaft must still reach the edge of the picture.
    away = -2 * (float(np.hypot(*run)) + 1) / pose.radius
    wide = 1 + (taper - 1) * min(3.0, -away * pose.radius)
    return joint, joint.tube([(away, 0), (end, 0)], [wide, 1.0], surfaces["shaft"], flat=(True, True))


def _wristed(
    surfaces: Surfaces, pose: Pose, jaws: Callable[[Surfaces, Joint, Pose], Iterator[Tube]], slim: float
) -> Iterator[Tube]:
    """Shaft, steel collar, fork, pulleys and clevis, and on its hinge the jaws; `slim` is the clevis's half-width."""
    joint, shaft = _shaft(surfaces, pose)
    fork = Joint(joint.origin, joint.heading, joint.scale, 0.5 + 0.5 * pose.depth)
    clevis = fork.turned(1.3, pose.bend)
    yield shaft
    yield fork.tube([(-0.35, 0), (0.25, 0)], [1.03, 0.98], surfaces["collar"], flat=(True, True))
    for side in (-1, 1):
        yield fork.tube([(0.2, 0.45 * side), (1.35, 0.4 * side)], [0.42, 0.34], surfaces["fork"])
    yield clevis.tube([(-0.25, 0), (0.25, 0)], [0.5, 0.5], surfaces["dark"])
    yield clevis.tube([(0, 0), (1.05, 0)], [slim, slim * 0.86], surfaces["clevis"])
    yield clevis.tube([(-0.02, 0), (0.02, 0)], [0.36, 0.36], surfaces["pulley"])
    yield clevis.tube([(-0.01, 0), (0.01, 0)], [0.12, 0.12], surfaces["dark"])
    yield from jaws(surfaces, clevis.turned(1.05, 0.0), pose)


def _jaw_angles(pose: Pose) -> Iterator[tuple[int, float]]:
    """Side (-1, 1) and visible angle of both jaws, the rear jaw first."""
    seen = pose.opening * (0.45 + 0.55 * abs(math.cos(pose.roll)))
    order = (-1, 1) if math.sin(pose.roll) >= 0 else (1, -1)
    for side in order:
        yield side, side * seen


def _face(pose: Pose, narrow: float, wide: float) -> float:
    """Visible half-width of a jaw: narrow from the side, wide from above."""
    return narrow + (wide - narrow) * abs(math.sin(pose.roll))


def _dress_wrist(tool: Instrument, gain: float = 1.0) -> Surfaces:
    clevis = tool.steel(1.6, gain * 0.9)
    finish.flutes(clevis.skin, 0.3, 1.3, 3, 0.35)
    collar = tool.steel(0.6, gain)
    finish.ribs(collar.skin, 0.0, 0.6, 0.3, 0.5)
    return {
        "collar": collar,
        "fork": tool.steel(1.6, gain * 0.85),
        "clevis": clevis,
        "pulley": tool.steel(0.7, gain * 1.2),
        "dark": tool.dark(),
    }


def _dress_bipolar(tool: Instrument) -> Surfaces:
    shaft = tool.shaft((0.085, 0.08, 0.085), finish.satin)
    finish.band(shaft.skin, 0.5, 0.75, (0.5, 0.5, 0.52))
    finish.band(shaft.skin, 1.2, 2.0, tool.look.insulation)
    yoke = tool.surface(1.2, tool.look.insulation, finish.matte, 0.08, 0.02)
    finish.flutes(yoke.skin, 0.1, 0.8, 4, 0.5)
    return {"shaft": shaft, "yoke": yoke, "jaw": tool.steel(2.6, 0.85, bloody=True), **_dress_wrist(tool, 0.9)}


def _bipolar_jaws(surfaces: Surfaces, hinge: Joint, pose: Pose) -> Iterator[Tube]:
    width = _face(pose, 0.32, 0.5)
    for side, angle in _jaw_angles(pose):
        jaw = hinge.turned(-0.1, angle, across=0.22 * side)
        # They bow outwards and meet at narrow tips; an insulated heel carries each.
        arc = [(0.3, 0.04 * side), (1.0, 0.34 * side), (1.9, 0.30 * side), (2.75, -0.14 * side)]
        slot = [(1.05, 0.32 * side, 1.85, 0.28 * side, width * 0.44)]
        yield jaw.tube(arc, [width * 0.9, width, width * 0.85, width * 0.36], surfaces["jaw"], slots=slot)
        heel = [(-0.35, 0.12 * side), (0.62, 0.18 * side)]
        yield jaw.tube(heel, [0.5, width * 1.08], surfaces["yoke"], flat=(True, True))
    yield hinge.tube([(-0.02, 0), (0.02, 0)], [0.2, 0.2], surfaces["pulley"])


def _dress_prograsp(tool: Instrument) -> Surfaces:
    shaft = tool.shaft((0.30, 0.295, 0.30), finish.satin, 0.1, 0.14)
    finish.band(shaft.skin, 0.0, 1.6, (0.62, 0.62, 0.63))
    finish.ribs(shaft.skin, 0.5, 1.1, 0.3, 0.6)
    finish.band(shaft.skin, 2.6, 2.75, (0.08, 0.08, 0.08))
    return {"shaft": shaft, "jaw": tool.steel(4.0, 1.05, bloody=True), **_dress_wrist(tool, 1.1)}


def _prograsp_jaws(surfaces: Surfaces, hinge: Joint, pose: Pose) -> Iterator[Tube]:
    width = _face(pose, 0.36, 0.56)
    for side, angle in _jaw_angles(pose):
        jaw = hinge.turned(-0.1, angle * 0.8, across=0.2 * side)
        slot = [(1.25, 0.16 * side, 2.75, 0.10 * side, width * 0.46)]
        line = [(0.0, 0.0), (0.9, 0.16 * side), (3.1, 0.08 * side)]
        yield jaw.tube(line, [0.40, width, width * 0.86], surfaces["jaw"], slots=slot, teeth=(0.24, 0.11, -side))
    yield hinge.tube([(-0.02, 0), (0.02, 0)], [0.3, 0.3], surfaces["pulley"])


def _dress_needle_driver(tool: Instrument) -> Surfaces:
    shaft = tool.shaft((0.20, 0.20, 0.165), finish.satin, 0.16, 0.28)
    finish.band(shaft.skin, 0.25, 0.5, (0.05, 0.05, 0.05))
    finish.band(shaft.skin, 0.8, 1.05, (0.05, 0.05, 0.05))
    finish.band(shaft.skin, 1.35, 1.6, (0.05, 0.05, 0.05))
    gold = tool.surface(1.6, (0.66, 0.47, 0.17), finish.polished, 0.08, 0.02)
    finish.ribs(gold.skin, 0.0, 1.4, 0.2, 0.6)
    return {"shaft": shaft, "jaw": tool.steel(2.0, 0.55, bloody=True), "gold": gold, **_dress_wrist(tool, 0.75)}


def _needle_driver_jaws(surfaces: Surfaces, hinge: Joint, pose: Pose) -> Iterator[Tube]:
    width = _face(pose, 0.36, 0.46)
    for side, angle in _jaw_angles(pose):
        jaw = hinge.turned(-0.05, angle * 0.8, across=0.2 * side)
        yield jaw.tube([(0.0, 0.0), (0.7, 0.14 * side), (1.6, 0.05 * side)], [0.46, width, width * 0.6], surfaces["jaw"])
        inner = [(0.65, -0.10 * side), (1.66, -0.06 * side)]
        yield jaw.tube(inner, [width * 0.52, width * 0.5], surfaces["gold"], teeth=(0.16, 0.06, -side))
    yield hinge.tube([(-0.02, 0), (0.02, 0)], [0.32, 0.32], surfaces["pulley"])


def _dress_scissors(tool: Instrument) -> Surfaces:
    shaft = tool.shaft((0.13, 0.125, 0.10), finish.satin)
    sleeve = tool.surface(9.0, tool.look.sleeve, finish.matte, 0.03, 0.02)
    finish.band(sleeve.skin, 0.0, 0.35, (0.55, 0.30, 0.12))
    finish.band(sleeve.skin, 3.2, 3.35, (0.14, 0.16, 0.18))
    finish.lettering(tool.rng, sleeve.skin, 4.0, 7.6, (0.66, 0.70, 0.74))
    blade = tool.steel(2.4, 0.5, bloody=True)
    return {"shaft": shaft, "sleeve": sleeve, "blade": blade, "edge": tool.steel(2.4, 1.15), "dark": tool.dark()}


def _scissors(surfaces: Surfaces, pose: Pose) -> Iterator[Tube]:
    joint, shaft = _shaft(surfaces, pose, end=-6.0)
    yield shaft
    bent = joint.turned(0.0, pose.bend * 0.6)
    middle, tip = bent.place([(0.5, 0), (1.15, 0)])
    line = np.stack((*joint.place([(-6.4, 0), (-2.0, 0), (-0.4, 0)]), middle, tip))
    sleeve = surfaces["sleeve"]
    radii = np.array((1.16, 1.08, 0.86, 0.74, 0.60)) * joint.scale
    hinge = Joint(tip, bent.heading + pose.bend * 0.4, joint.scale, pose.depth)
    for side, angle in _jaw_angles(pose):
        blade = hinge.turned(-0.2, angle, across=0.1 * side)
        arc = [(0.0, 0.0), (0.8, -0.02), (1.5, 0.16), (2.1, 0.46)]
        width = _face(pose, 0.2, 0.27)
        yield blade.tube(arc, [width, width, width * 0.8, width * 0.3], surfaces["blade"])
        yield blade.tube([(x, y - 0.07 * side) for x, y in arc], [0.06, 0.07, 0.06, 0.03], surfaces["edge"])
    yield hinge.tube([(-0.05, 0), (0.2, 0)], [0.42, 0.36], surfaces["dark"])
    yield Tube(line, radii, sleeve.skin, sleeve.finish, sleeve.length * joint.scale, flat=(True, True), part=WRIST)


def _dress_probe(tool: Instrument) -> Surfaces:
    gain = 0.7 + 0.3 * tool.look.shaft_gain
    body = tool.surface(7.0, (0.66 * gain, 0.67 * gain, 0.68 * gain), finish.matte, 0.03, 0.01)
    window = slice(finish.COLUMNS // 8, finish.COLUMNS // 2)
    body.skin[round(0.8 * finish.ROWS) : round(4.2 * finish.ROWS), window] = (0.10, 0.10, 0.12)
    finish.band(body.skin, 5.0, 5.3, (0.12, 0.25, 0.55))
    for mark in range(6):
        row = round((1.0 + 0.55 * mark) * finish.ROWS)
        body.skin[row : row + 3, finish.COLUMNS // 2 + 4 : finish.COLUMNS // 2 + 12] = (0.15, 0.15, 0.16)
    relief = tool.surface(2.2, (0.13, 0.13, 0.14), finish.matte)
    finish.ribs(relief.skin, 0.0, 2.2, 0.36, 0.65)
    return {"shaft": tool.shaft((0.075, 0.075, 0.08), finish.matte, 0.05, 0.03), "body": body, "relief": relief}


def _probe(surfaces: Surfaces, pose: Pose) -> Iterator[Tube]:
    run = pose.wrist - pose.port
    joint = Joint(pose.wrist, math.atan2(run[1], run[0]), pose.radius)
    away = (float(np.hypot(*run)) + 1) / pose.radius
    bow = math.sin(pose.roll) * 1.6
    cable = surfaces["shaft"]
    line = [(-away, 0), (-14.0, bow), (-11.0, bow * 0.75), (-8.5, bow * 0.25), (-6.5, 0)]
    yield joint.tube(line, [0.62, 0.62, 0.6, 0.6, 0.6], cable, flat=(True, True))
    yield joint.tube([(-8.6, bow * 0.22), (-6.3, 0)], [0.64, 0.9], surfaces["relief"], flat=(True, True))
    yield joint.tube([(-6.6, 0), (-5.2, 0), (-0.95, 0)], [0.92, 1.06, 1.0], surfaces["body"], flat=(True, False))


def _dress_suction(tool: Instrument) -> Surfaces:
    shaft = tool.steel(SHAFT_SKIN, 0.92)
    for row, column in ((0.6, 0.34), (0.95, 0.66), (1.35, 0.4), (1.75, 0.62), (2.15, 0.36)):
        rows, columns = np.ogrid[: len(shaft.skin), : finish.COLUMNS]
        far = np.hypot((rows / finish.ROWS - row) / 0.11, (columns / finish.COLUMNS - column) / 0.1)
        shaft.skin[far < 1] = (0.05, 0.02, 0.02)
    finish.stain(tool.rng, shaft.skin[: 3 * finish.ROWS], 0.25)
    finish.band(shaft.skin, 2.8, 2.9, (0.3, 0.3, 0.3))
    return {"shaft": shaft, "bore": tool.dark()}


def _suction(surfaces: Surfaces, pose: Pose) -> Iterator[Tube]:
    slim = 0.62
    joint, shaft = _shaft(surfaces, pose)
    yield Tube(shaft.points, shaft.radii * slim, shaft.skin, shaft.finish, shaft.skin_length, flat=(True, False))
    yield joint.tube([(0.16, -0.2), (0.16, 0.2)], [0.22, 0.22], surfaces["bore"])


def _dress_clip_applier(tool: Instrument) -> Surfaces:
    shaft = tool.shaft((0.42, 0.40, 0.385), finish.satin, 0.08, 0.1)
    finish.band(shaft.skin, 0.3, 0.9, (0.10, 0.32, 0.42))
    finish.band(shaft.skin, 1.3, 1.45, (0.10, 0.32, 0.42))
    finish.lettering(tool.rng, shaft.skin, 2.4, 5.5, (0.16, 0.15, 0.15))
    color = CLIP_COLORS[tool.rng.choice(len(CLIP_COLORS), p=(0.6, 0.2, 0.2))]
    return {
        "shaft": shaft,
        "jaw": tool.steel(2.4, 0.8),
        "clip": tool.surface(2.0, color, finish.matte, 0.02, 0.01),
        **_dress_wrist(tool, 0.85),
    }


def _clip_applier_jaws(surfaces: Surfaces, hinge: Joint, pose: Pose) -> Iterator[Tube]:
    width = _face(pose, 0.22, 0.3)
    open_by = 0.32 + 0.6 * pose.opening
    for side in (-1, 1):
        jaw = hinge.turned(-0.1, side * open_by * 0.5 + 0.18, across=0.2 * side)
        hook = [(0.0, 0.0), (0.8, 0.32 * side), (1.75, 0.22 * side), (2.1, -0.1 * side)]
        yield jaw.tube(hook, [0.34, width * 1.1, width, width * 0.7], surfaces["jaw"])
    clip = hinge.turned(0.55, 0.18)
    for side in (-1, 1):
        leg = [(0.0, 0.0), (0.75, (0.12 + open_by * 0.62) * side), (1.75, (0.05 + open_by * 0.8) * side)]
        yield clip.tube(leg, [0.17, 0.16, 0.2], surfaces["clip"])


def _dress_sealer(tool: Instrument) -> Surfaces:
    shaft = tool.shaft((0.46, 0.43, 0.36), finish.matte, 0.05, 0.04)
    finish.band(shaft.skin, 0.2, 1.1, (0.36, 0.16, 0.42))
    finish.ribs(shaft.skin, 1.5, 2.3, 0.2, 0.5)
    finish.band(shaft.skin, 3.2, 3.5, (0.36, 0.16, 0.42))
    plate = tool.surface(4.2, (0.15, 0.14, 0.17), finish.satin, 0.06, 0.02)
    finish.flutes(plate.skin, 0.6, 3.6, 2, 0.35)
    liner = tool.surface(3.6, (0.70, 0.66, 0.56), finish.matte, 0.05, 0.02)
    return {"shaft": shaft, "plate": plate, "liner": liner, **_dress_wrist(tool, 0.7)}


def _sealer_jaws(surfaces: Surfaces, hinge: Joint, pose: Pose) -> Iterator[Tube]:
    width = _face(pose, 0.34, 0.66)
    for side, angle in _jaw_angles(pose):
        jaw = hinge.turned(-0.1, angle * 0.5, across=0.16 * side)
        # Long, blunt and parallel, with a pale sealing surface inside: unlike any jaw of EndoVis 2018.
        yield jaw.tube([(0.4, -0.12 * side), (3.5, -0.1 * side)], [width * 0.5, width * 0.5], surfaces["liner"])
        line = [(0.0, 0.0), (0.7, 0.2 * side), (3.7, 0.2 * side)]
        yield jaw.tube(line, [0.44, width, width], surfaces["plate"], flat=(False, True))
    yield hinge.tube([(-0.02, 0), (0.02, 0)], [0.3, 0.3], surfaces["pulley"])


@dataclass(frozen=True)
class Make:
    """How a class is made: its surfaces, its parts, and how far it reaches beyond the wrist (shaft radii)."""

    dress: Callable[[Instrument], Surfaces]
    build: Callable[[Surfaces, Pose], Iterator[Tube]]
    reach: float


_MAKES = {
    "Bipolar Forceps": Make(_dress_bipolar, partial(_wristed, jaws=_bipolar_jaws, slim=0.74), 4.6),
    "Prograsp Forceps": Make(_dress_prograsp, partial(_wristed, jaws=_prograsp_jaws, slim=0.7), 5.6),
    "Large Needle Driver": Make(_dress_needle_driver, partial(_wristed, jaws=_needle_driver_jaws, slim=0.66), 4.0),
    "Monopolar Curved Scissors": Make(_dress_scissors, _scissors, 3.2),
    "Ultrasound Probe": Make(_dress_probe, _probe, 0.0),
    "Suction Instrument": Make(_dress_suction, _suction, 0.0),
    "Clip Applier": Make(_dress_clip_applier, partial(_wristed, jaws=_clip_applier_jaws, slim=0.62), 4.4),
    "Vessel Sealer": Make(_dress_sealer, partial(_wristed, jaws=_sealer_jaws, slim=0.78), 5.4),
}
