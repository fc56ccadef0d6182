"""Motion over time: smooth random motion, and how an instrument enters and leaves through its port."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from surgicalsam_napari.phantom.tools import Instrument, Pose


class Wander:
    """A smooth random function of time: a sum of slow sines, of about -1 to 1."""

    def __init__(self, rng: np.random.Generator, speed: float = 1.0):
        self._rates = rng.uniform(0.12, 0.75, 4) * 2 * math.pi * speed
        self._phases = rng.uniform(0, 2 * math.pi, 4)
        self._weights = rng.uniform(0.5, 1, 4) / np.array((1.0, 1.4, 1.8, 2.2)) / 1.9

    def __call__(self, time: float) -> float:
        return float(np.sin(self._rates * time + self._phases) @ self._weights)


@dataclass(frozen=True)
class Visit:
    """When an instrument is present: it enters during `ramp` seconds from `start`, and leaves during `ramp` up to `stop`."""

    start: float
    stop: float
    ramp: float

    def presence(self, time: float) -> float:
        """0 outside the body, 1 at work, in between while it moves through the port."""
        share = min((time - self.start) / self.ramp, (self.stop - time) / self.ramp)
        share = min(max(share, 0.0), 1.0)
        return share * share * (3 - 2 * share)


@dataclass(frozen=True)
class Sweep:
    """A move to and fro by `reach` (x, y) frame widths, once every `period` seconds; `phase` (0 to 1) is where it starts."""

    reach: np.ndarray
    period: float
    phase: float

    def __call__(self, time: float) -> np.ndarray:
        return self.reach * math.sin(2 * math.pi * (time / self.period + self.phase))


class Handling:
    """How one instrument is handled through a scene.

    Parameters
    ----------
    port : (2,) pivot outside the picture, frame widths
    target : (2,) about where the tip works
    visits : when it is present
    sweep : how the target moves; None: it rests
    """

    def __init__(
        self,
        rng: np.random.Generator,
        instrument: Instrument,
        port: np.ndarray,
        target: np.ndarray,
        visits: tuple[Visit, ...],
        sweep: Sweep | None = None,
    ):
        self.instrument = instrument
        self._port, self._target, self._visits, self._sweep = port, target, visits, sweep
        self._radius = rng.uniform(0.055, 0.1)
        pace = rng.uniform(0.5, 1.5)
        self._swing = rng.uniform(0.03, 0.12)
        self._x, self._y, self._z, self._bend, self._jaw, self._roll = (Wander(rng, pace) for _ in range(6))
        self._bend_mean, self._bend_range = rng.normal(0, 0.25), rng.uniform(0.1, 0.45)
        self._jaw_mean, self._jaw_range = rng.uniform(0.12, 0.4), rng.uniform(0.1, 0.4)
        self._roll_mean = rng.choice((-1, 1)) * rng.uniform(0.5, 1.3)
        self._depth_mean = rng.uniform(0.8, 1.0)

    def pose(self, time: float) -> Pose | None:
        """The pose at a time in seconds, or None while the instrument is outside the body."""
        presence = max((visit.presence(time) for visit in self._visits), default=0.0)
        if presence <= 0:
            return None
        depth = self._z(time)
        radius = self._radius * (1 + 0.08 * depth)
        tip = self._target + self._swing * np.array((self._x(time), self._y(time)))
        if self._sweep is not None:
            tip = tip + self._sweep(time)
        way = tip - self._port
        length = float(np.hypot(*way))
        wrist_at = (length - self.instrument.reach * radius) * presence
        return Pose(
            wrist=self._port + way * (wrist_at / length),
            port=self._port,
            radius=radius,
            bend=self._bend_mean + self._bend_range * self._bend(time),
            opening=max(0.03, self._jaw_mean + self._jaw_range * self._jaw(time)),
            roll=self._roll_mean + 0.35 * self._roll(time),
            depth=min(1.0, self._depth_mean + 0.1 * depth),
        )
