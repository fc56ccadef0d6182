"""A filled timeline, the changes that are measured on it, and the time until each change is painted."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from qtpy.QtWidgets import QApplication

from surgicalsam_napari.instruments import PALETTE, ClassSet, InstrumentClass
from surgicalsam_napari.store import Provenance
from surgicalsam_napari.widgets.timeline.view import FrameView
from surgicalsam_napari.widgets.timeline.widget import Timeline

WIDTH = 1400


def shown_timeline(frames: int, classes: int) -> Timeline:
    """A timeline with every provenance, marks and notes, painted once."""
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
    """The measured changes, by name."""
    strip = timeline.strip
    assert strip.overview is not None and strip.view is not None
    frames, classes, whole = strip.overview.frame_count, strip.overview.class_count, strip.view

    def zoom() -> None:
        strip.use_view(whole.zoomed(float(np.exp(rng.uniform(0, 6))), float(rng.uniform(0, whole.width))))

    def zoom_out() -> None:
        # slightly zoomed in, so that each view is new and still shows nearly all frames
        strip.use_view(FrameView.whole(frames, whole.width).zoomed(float(rng.uniform(1.0001, 1.01)), 0))

    def scrub() -> None:
        timeline.set_current_frame(int(rng.integers(strip.view.edges[0], strip.view.edges[-1])))  # type: ignore[union-attr]

    def change() -> None:
        row = rng.integers(0, len(Provenance), (1, classes)), rng.random((1, classes))
        timeline.update_frames([int(rng.integers(frames))], *row)
        timeline.flush()

    return {"zoom, anywhere": zoom, "zoom, nearly whole": zoom_out, "scrub": scrub, "one frame changed": change}


def painted(timeline: Timeline, step: Callable[[], None]) -> tuple[float, float]:
    """Milliseconds until a change is painted: wall-clock time, and CPU time of this process."""
    start, busy = time.perf_counter(), time.process_time()
    step()
    timeline.strip.viewport().repaint()
    elapsed = 1000 * (time.perf_counter() - start), 1000 * (time.process_time() - busy)
    QApplication.processEvents()
    return elapsed
