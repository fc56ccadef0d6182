"""The cast of a scene: which instruments there are, where they come from, and when they come and leave."""

from __future__ import annotations

import numpy as np

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.phantom.look import Look
from surgicalsam_napari.phantom.motion import Handling, Sweep, Visit
from surgicalsam_napari.phantom.tools import NEW_TOOL, Instrument

ALWAYS = Visit(-1e9, 1e9, 1.0)
PORTS = ("left", "right", "bottom", "top")
PORT_CHANCES = (0.34, 0.34, 0.2, 0.12)
PAIRED = ("Bipolar Forceps", "Prograsp Forceps", "Large Needle Driver")  # a surgeon uses two of them at a time
CYCLE = 8.0  # seconds, in which instruments of one class cross twice and each leaves once


def mixed_cast(rng: np.random.Generator, aspect: float, duration: float, look: Look, new_tool: bool) -> list[Handling]:
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


def alike_cast(
    rng: np.random.Generator, aspect: float, duration: float, look: Look, new_tool: bool, count: int
) -> list[Handling]:
    """`count` instruments of one class from as many ports, and in half of the scenes one of another class.

    All work in the middle of the picture and move to and fro, so that they cross; each in turn leaves and returns.
    """
    class_id = NEW_TOOL.id if new_tool else ENDOVIS2018.by_name(str(rng.choice(PAIRED))).id
    sides = [*rng.permutation(PORTS[:3]), "top"]
    blood = rng.uniform(0.1, 0.6) if rng.random() < look.blood_chance else 0.0
    cycles = max(1, round(duration / CYCLE))
    cycle, phase = duration / cycles, rng.uniform(0, 1)
    handlings = []
    for place in range(count):
        port = _port(rng, sides[place], aspect)
        target = np.array((rng.uniform(0.42, 0.58), aspect * rng.uniform(0.4, 0.6)))
        inwards = (target - port) / float(np.hypot(*(target - port)))
        sweep = Sweep(inwards * rng.uniform(0.16, 0.26), cycle / 2, phase + rng.uniform(-0.12, 0.12))
        # In the first part of a cycle, so that it is back at the end.
        leaves = (0.05 + 0.7 * (place + rng.uniform(0.2, 0.8)) / count + np.arange(cycles)) * cycle
        visits = _visits_between(leaves, rng.uniform(0.14, 0.24, cycles) * cycle, 0.1 * cycle)
        handlings.append(Handling(rng, Instrument(class_id, rng, look, blood), port, target, visits, sweep))
    if rng.random() < 0.5:
        other = int(rng.choice([id for id in ENDOVIS2018.ids if id != class_id]))
        port, target = _port(rng, sides[count], aspect), _target(rng, sides[count], aspect)
        handlings.append(Handling(rng, Instrument(other, rng, look, blood), port, target, (ALWAYS,)))
    return [handlings[i] for i in rng.permutation(len(handlings))]


def _visits_between(leaves: np.ndarray, away: np.ndarray, ramp: float) -> tuple[Visit, ...]:
    """Visits of an instrument that starts to leave at each of `leaves` and starts to return `away` seconds later."""
    starts = np.append(-1e9, leaves + away)
    stops = np.append(leaves + ramp, 1e9)
    return tuple(Visit(float(start), float(stop), ramp) for start, stop in zip(starts, stops, strict=True))
