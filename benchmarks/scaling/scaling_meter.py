"""Measure an operation at several sizes, and fit the exponent of its growth.

Time is CPU time of this process, system calls included. On a shared machine it depends less on other processes than
wall-clock time, which is recorded too.
"""

from __future__ import annotations

import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

FLAT, LINEAR = 0.15, 1.15  # largest exponents of flat and of linear growth

Scope = Literal["one", "all"]


@dataclass(frozen=True)
class Point:
    """
    Attributes
    ----------
    seconds : median CPU seconds of one call
    clock_seconds : median wall-clock seconds of one call
    kilobytes : peak memory during one call, above the memory before; None if not measured
    """

    size: int
    seconds: float
    clock_seconds: float
    kilobytes: float | None = None


@dataclass
class Series:
    """One operation at several sizes.

    Attributes
    ----------
    grows : the growing quantity: frames, classes, pixels or projects
    scope : "one": a call works on one of them, its cost should be flat; "all": on all, its cost may be linear
    """

    name: str
    grows: str
    scope: Scope
    points: list[Point] = field(default_factory=list)

    @property
    def exponent(self) -> float:
        """The exponent of time against size, fitted to all points."""
        return _slope(self.points)

    @property
    def last_exponent(self) -> float:
        """The exponent between the two largest sizes: least influence of constant costs, most of noise."""
        return _slope(self.points[-2:])

    @property
    def memory_exponent(self) -> float | None:
        known = [point for point in self.points if point.kilobytes]
        return _slope(known, "kilobytes") if len(known) > 1 else None

    @property
    def verdict(self) -> str:
        exponent = self.exponent
        return "flat" if exponent < FLAT else "linear" if exponent <= LINEAR else "worse"

    @property
    def is_as_expected(self) -> bool:
        return self.exponent < FLAT or (self.scope == "all" and self.exponent <= LINEAR)

    def per_unit_ms(self, point: Point) -> float:
        """Milliseconds of a call on one; of a call on all, divided by their number."""
        return 1000 * point.seconds / (point.size if self.scope == "all" else 1)

    def per_unit_kilobytes(self, point: Point) -> float | None:
        return None if point.kilobytes is None else point.kilobytes / (point.size if self.scope == "all" else 1)


class Meter:
    """Collects the series of one growing quantity."""

    def __init__(self, grows: str, *, is_printing: bool = True) -> None:
        self.grows = grows
        self.series: dict[str, Series] = {}
        self._is_printing = is_printing

    def take(
        self,
        name: str,
        size: int,
        call: Callable[[], object],
        *,
        scope: Scope,
        repeats: int = 3,
        memory: bool = True,
    ) -> None:
        """Time a repeatable call, and trace the memory of one further call."""
        self.take_each(name, size, [call] * repeats, scope=scope, memory=memory)

    def take_each(
        self, name: str, size: int, calls: Sequence[Callable[[], object]], *, scope: Scope, memory: bool = True
    ) -> None:
        """Time several calls, for example on different frames; the last one is not timed, its memory is traced."""
        timed, traced = (calls[:-1], calls[-1]) if memory and len(calls) > 1 else (calls, None)
        gc.collect()
        durations = [_timed(call) for call in timed]
        busy, clock = (statistics.median(column) for column in zip(*durations, strict=True))
        kilobytes = None if traced is None else traced_kilobytes(traced)
        series = self.series.setdefault(name, Series(name, self.grows, scope))
        series.points.append(Point(size, busy, clock, kilobytes))
        if self._is_printing:
            memory_text = "" if kilobytes is None else f", {kilobytes:,.0f} kB"
            times = f"{1000 * busy:11,.3f} ms CPU, {1000 * clock:11,.3f} ms wall clock"
            print(f"{size:>9,} {self.grows:8} {name:34} {times}{memory_text}", flush=True)


def _timed(call: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds and wall-clock seconds; at least a microsecond, so that the logarithm is finite."""
    start, busy = time.perf_counter(), time.process_time()
    call()
    return max(time.process_time() - busy, 1e-6), max(time.perf_counter() - start, 1e-6)


def traced_kilobytes(call: Callable[[], object]) -> float:
    """Peak memory of Python and numpy during a call, its result included, above the memory before."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        result = call()
        _, peak = tracemalloc.get_traced_memory()
        del result
    finally:
        tracemalloc.stop()
    return max(peak - before, 0) / 1000


def _slope(points: Sequence[Point], cost: str = "seconds") -> float:
    if len(points) < 2:
        return float("nan")
    sizes, costs = (np.log([getattr(point, name) for point in points]) for name in ("size", cost))
    return float(np.polyfit(sizes, costs, 1)[0])
