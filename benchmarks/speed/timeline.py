"""How long the timeline takes to draw itself, and what live changes cost, in a real window.

Needs a display (`xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/speed/timeline.py --json`).
Every figure is the time from a change until all of the strip is painted again, though the window itself would paint only
what changed. Beside the time by the clock stands the time that this process was computing, which depends less on what else
the machine does.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
from qtpy.QtWidgets import QApplication

from surgicalsam_napari.instruments import PALETTE, ClassSet, InstrumentClass
from surgicalsam_napari.store import Provenance
from surgicalsam_napari.widgets.timeline.view import FrameView
from surgicalsam_napari.widgets.timeline.widget import Timeline

WIDTH = 1400
LIVE_SECONDS, UPDATES_PER_SECOND = 5, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    application = QApplication.instance() or QApplication([])
    timeline = shown_timeline(arguments.frames, arguments.classes)
    result: dict[str, object] = {"frames": arguments.frames, "classes": arguments.classes, "width": WIDTH}
    for name, step in steps(timeline, np.random.default_rng(1)).items():
        durations = np.array([painted(timeline, step) for _ in range(arguments.rounds)])
        median, p95 = np.median(durations, axis=0).round(2), np.quantile(durations, 0.95, axis=0).round(2)
        result[name] = {"median_ms": median[0], "p95_ms": p95[0], "cpu_median_ms": median[1], "cpu_p95_ms": p95[1]}
        print(f"{name:20} median {median[0]:.1f} ms, p95 {p95[0]:.1f} ms; computing {median[1]:.1f} ms, p95 {p95[1]:.1f} ms")
    share = live_share(application, timeline)
    result["live_share_of_a_core"] = round(share, 3)
    print(f"{UPDATES_PER_SECOND} changed frames a second take {share:.1%} of a core")
    if arguments.json:
        print(json.dumps(result))


def shown_timeline(frames: int, classes: int) -> Timeline:
    """A timeline of every provenance, marks and notes, painted once."""
    rng = np.random.default_rng(0)
    instruments = (InstrumentClass(i + 1, f"Instrument {i + 1}", PALETTE[i % len(PALETTE)]) for i in range(classes))
    provenance = rng.choice(len(Provenance), (frames, classes), p=(0.2, 0.2, 0.5, 0.05, 0.05)).astype(np.uint8)
    timeline = Timeline()
    predicted_iou = rng.random((frames, classes), dtype=np.float32)
    timeline.show_tables(ClassSet("benchmark", tuple(instruments)), provenance, predicted_iou)
    timeline.set_marks(rng.random(frames))
    timeline.set_notes({int(frame): "stopped" for frame in rng.integers(0, frames, 20)})
    timeline.resize(WIDTH, 60 + 15 * classes)
    timeline.show()
    QApplication.processEvents()
    timeline.strip.viewport().repaint()
    return timeline


def steps(timeline: Timeline, rng: np.random.Generator) -> dict[str, Callable[[], None]]:
    """The changes to be measured, by name."""
    strip = timeline.strip
    assert strip.overview is not None and strip.view is not None
    frames, classes, whole = strip.overview.frame_count, strip.overview.class_count, strip.view

    def zoom() -> None:
        strip.use_view(whole.zoomed(float(np.exp(rng.uniform(0, 6))), float(rng.uniform(0, whole.width))))

    def zoom_out() -> None:
        # a hair's breadth in, so that each is a view of its own and holds nearly all frames
        strip.use_view(FrameView.whole(frames, whole.width).zoomed(float(rng.uniform(1.0001, 1.01)), 0))

    def scrub() -> None:
        timeline.set_current_frame(int(rng.integers(strip.view.edges[0], strip.view.edges[-1])))  # type: ignore[union-attr]

    def change() -> None:
        row = rng.integers(0, len(Provenance), (1, classes)), rng.random((1, classes))
        timeline.update_frames([int(rng.integers(frames))], *row)
        timeline.flush()

    return {"zoom, anywhere": zoom, "zoom, nearly whole": zoom_out, "scrub": scrub, "one frame changed": change}


def painted(timeline: Timeline, step: Callable[[], None]) -> tuple[float, float]:
    """Milliseconds until a change is painted: by the clock, and of this process's computing."""
    start, busy = time.perf_counter(), time.process_time()
    step()
    timeline.strip.viewport().repaint()
    elapsed = 1000 * (time.perf_counter() - start), 1000 * (time.process_time() - busy)
    QApplication.processEvents()
    return elapsed


def live_share(application: QApplication, timeline: Timeline) -> float:
    """CPU seconds per second while frame after frame is predicted, less what an idle window takes."""
    classes = timeline.strip.overview.class_count  # type: ignore[union-attr]
    row = np.full((1, classes), Provenance.PREDICTED), np.full((1, classes), 0.9)
    shares = []
    for is_changing in (False, True):
        start, busy = time.perf_counter(), time.process_time()
        for frame in range(LIVE_SECONDS * UPDATES_PER_SECOND):
            if is_changing:
                timeline.update_frames([frame], *row)
            application.processEvents()
            time.sleep(max(start + (frame + 1) / UPDATES_PER_SECOND - time.perf_counter(), 0))
        shares.append((time.process_time() - busy) / (time.perf_counter() - start))
    return shares[1] - shares[0]


if __name__ == "__main__":
    main()
