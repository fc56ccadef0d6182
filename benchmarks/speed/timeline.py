"""Time to paint the timeline in a real window, and the cost of live changes.

Needs a display (`xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/speed/timeline.py --json`).
Every figure is the time from a change until the whole strip is painted again; the window itself paints only the changed
part. Figures with cpu_ are CPU time of this process, which depends less on other processes than wall-clock time.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from qtpy.QtWidgets import QApplication

sys.path.append(str(Path(__file__).parents[1]))
from common.options import new_parser, parse, print_json, require_display
from common.timeline_steps import WIDTH, painted, shown_timeline, steps

from surgicalsam_napari.store import Provenance
from surgicalsam_napari.widgets.timeline.widget import Timeline

UPDATES_PER_SECOND = 100


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--live-seconds", type=float, default=5, help="duration of the live changes")
    arguments = parse(parser, quick={"frames": 1000, "rounds": 3, "live_seconds": 0.2})
    require_display()
    application = QApplication.instance() or QApplication([])
    timeline = shown_timeline(arguments.frames, arguments.classes)
    result: dict[str, object] = {"frames": arguments.frames, "classes": arguments.classes, "width": WIDTH}
    for name, step in steps(timeline, np.random.default_rng(1)).items():
        durations = np.array([painted(timeline, step) for _ in range(arguments.rounds)])
        median, p95 = np.median(durations, axis=0).round(2), np.quantile(durations, 0.95, axis=0).round(2)
        result[name] = {"median_ms": median[0], "p95_ms": p95[0], "cpu_median_ms": median[1], "cpu_p95_ms": p95[1]}
        print(f"{name:20} median {median[0]:.1f} ms, p95 {p95[0]:.1f} ms; CPU {median[1]:.1f} ms, p95 {p95[1]:.1f} ms")
    share = live_share(application, timeline, arguments.live_seconds)
    result["live_share_of_a_core"] = round(share, 3)
    print(f"{UPDATES_PER_SECOND} changed frames a second take {share:.1%} of a core")
    if arguments.json:
        print_json(result)


def live_share(application: QApplication, timeline: Timeline, seconds: float) -> float:
    """CPU seconds per second while frames are predicted, minus those of an idle window."""
    classes = timeline.strip.overview.class_count  # type: ignore[union-attr]
    row = np.full((1, classes), Provenance.PREDICTED), np.full((1, classes), 0.9)
    shares = []
    for is_changing in (False, True):
        start, busy = time.perf_counter(), time.process_time()
        for frame in range(round(seconds * UPDATES_PER_SECOND)):
            if is_changing:
                timeline.update_frames([frame], *row)
            application.processEvents()
            time.sleep(max(start + (frame + 1) / UPDATES_PER_SECOND - time.perf_counter(), 0))
        shares.append((time.process_time() - busy) / (time.perf_counter() - start))
    return shares[1] - shares[0]


if __name__ == "__main__":
    main()
