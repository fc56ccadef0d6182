"""What something costs at several sizes, and how the cost grows: the exponent of a power law through the points.

Time is that in which this process computes, its calls of the system included: on a machine that is shared it depends less on
the others than the clock does. The time by the clock is kept beside it.
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

FLAT, LINEAR = 0.15, 1.15  # exponents up to which growth is called so

Scope = Literal["one", "all"]


@dataclass(frozen=True)
class Point:
    """
    Attributes
    ----------
    seconds : of computing in one call, the median
    clock_seconds : of one call, the median
    kilobytes : at the highest during one call, above what there was before; None where not measured
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
    grows : what becomes more: frames, classes, pixels or projects
    scope : "one": a call is about one of them, whose cost should be flat; "all": about all, whose cost should be linear
    """

    name: str
    grows: str
    scope: Scope
    points: list[Point] = field(default_factory=list)

    @property
    def exponent(self) -> float:
        """Of time against size, fitted to all points."""
        return _slope(self.points)

    @property
    def last_exponent(self) -> float:
        """The same between the two largest sizes, where constant costs weigh least and noise weighs most."""
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
    def is_as_it_should_be(self) -> bool:
        return self.exponent < FLAT or (self.scope == "all" and self.exponent <= LINEAR)

    def per_unit_ms(self, point: Point) -> float:
        """Milliseconds of a call about one; of a call about all, by their number."""
        return 1000 * point.seconds / (point.size if self.scope == "all" else 1)

    def per_unit_kilobytes(self, point: Point) -> float | None:
        return None if point.kilobytes is None else point.kilobytes / (point.size if self.scope == "all" else 1)


class Meter:
    """Collects the series of everything that grows in one way."""

    def __init__(self, grows: str, *, tells: bool = True) -> None:
        self.grows = grows
        self.series: dict[str, Series] = {}
        self._tells = tells

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
        """Time a call that may be repeated, and trace the memory of one more."""
        self.take_each(name, size, [call] * repeats, scope=scope, memory=memory)

    def take_each(
        self, name: str, size: int, calls: Sequence[Callable[[], object]], *, scope: Scope, memory: bool = True
    ) -> None:
        """Time several calls, such as the same about different frames; of the last one the memory is traced, and no time."""
        timed, traced = (calls[:-1], calls[-1]) if memory and len(calls) > 1 else (calls, None)
        gc.collect()
        durations = [_timed(call) for call in timed]
        busy, clock = (statistics.median(column) for column in zip(*durations, strict=True))
        kilobytes = None if traced is None else traced_kilobytes(traced)
        series = self.series.setdefault(name, Series(name, self.grows, scope))
        series.points.append(Point(size, busy, clock, kilobytes))
        if self._tells:
            room = "" if kilobytes is None else f", {kilobytes:,.0f} kB"
            times = f"{1000 * busy:11,.3f} ms computing, {1000 * clock:11,.3f} by the clock"
            print(f"{size:>9,} {self.grows:8} {name:34} {times}{room}", flush=True)


def _timed(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds of computing, and by the clock; at least a microsecond, for the logarithm's sake."""
    start, busy = time.perf_counter(), time.process_time()
    call()
    return max(time.process_time() - busy, 1e-6), max(time.perf_counter() - start, 1e-6)


def traced_kilobytes(call: Callable[[], object]) -> float:
    """The most that Python and numpy hold during a call, its result included, above what they held before."""
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
