"""Time the plain and our implementation of one task in turn, and report the ratio of each pair.

The machine's speed drifts by tens of percent over minutes, but hardly within a pair. The median of paired ratios is
therefore stable, while the quotient of two averages is not.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from .options import new_parser, parse, print_figures


@dataclass(frozen=True)
class Paired:
    """Seconds of each repeat, pair by pair.

    Attributes
    ----------
    plain, ours : of equal length
    """

    plain: tuple[float, ...]
    ours: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The speed-up: the median of plain / ours over the pairs."""
        return statistics.median(plain / ours for plain, ours in zip(self.plain, self.ours, strict=True))

    @property
    def ratios(self) -> tuple[float, float]:
        """The lowest and the highest ratio of a pair."""
        ratios = [plain / ours for plain, ours in zip(self.plain, self.ours, strict=True)]
        return min(ratios), max(ratios)

    @property
    def plain_ms(self) -> float:
        return 1000 * statistics.median(self.plain)

    @property
    def ours_ms(self) -> float:
        return 1000 * statistics.median(self.ours)


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def paired(plain: Callable[[], object], ours: Callable[[], object], repeats: int, *, warm_up: int = 1) -> Paired:
    """Time both in turn. The order alternates from pair to pair; the first `warm_up` pairs do not count."""
    pairs = []
    for repeat in range(warm_up + repeats):
        if repeat % 2:
            second = timed(ours)
            pairs.append((timed(plain), second))
        else:
            first = timed(plain)
            pairs.append((first, timed(ours)))
    plain_seconds, our_seconds = zip(*pairs[warm_up:], strict=True)
    return Paired(plain_seconds, our_seconds)


def figures(name: str, times: Paired, units: int = 1) -> dict[str, object]:
    """The ratio, its spread, and the milliseconds of both implementations per unit of work."""
    return {
        name: round(times.ratio, 2),
        f"{name}_spread": [round(ratio, 2) for ratio in times.ratios],
        f"{name}_plain_ms": round(times.plain_ms / units, 3),
        f"{name}_ours_ms": round(times.ours_ms / units, 3),
    }


class PeakMemory:
    """The highest resident memory of this process while a `with` block runs, in MB.

    On Linux the kernel records the peak. Elsewhere the memory is sampled every 5 ms, which misses short peaks.

    Attributes
    ----------
    before, megabytes : at the start, and at the peak
    """

    def __enter__(self) -> PeakMemory:
        self.before = self.megabytes = psutil.Process().memory_info().rss / 1e6
        self._is_marked = _reset_peak()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        if not self._is_marked:
            self._thread.start()
        return self

    def _watch(self) -> None:
        process = psutil.Process()
        while not self._stop.wait(0.005):
            self.megabytes = max(self.megabytes, process.memory_info().rss / 1e6)

    def __exit__(self, *_: object) -> None:
        if self._is_marked:
            self.megabytes = _peak_megabytes()
        else:
            self._stop.set()
            self._thread.join()

    @property
    def added(self) -> float:
        """The peak above the memory at the start, in MB."""
        return self.megabytes - self.before


def _reset_peak() -> bool:
    """Reset the kernel's record of peak memory; False if the system has none."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _peak_megabytes() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def run(measure: Callable[..., dict[str, object]], about: str | None, repeats: int) -> None:
    """The command line of a script that compares two implementations. It prints the figures, with `--json` as one object.

    Parameters
    ----------
    measure : called with the number of counted pairs and `is_quick`
    """
    import torch

    parser = new_parser(about)
    parser.add_argument("--repeats", type=int, default=repeats, help="counted pairs")
    parser.add_argument("--threads", type=int, default=2)
    options = parse(parser, quick={"repeats": 1, "threads": 1})
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    print_figures(measure(options.repeats, is_quick=options.quick), as_json=options.json)
