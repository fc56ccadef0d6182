"""The window with projects of 100 to 100,000 frames: the cost of a stroke or a predicted frame, until the window is idle."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
from common.options import has_display
from scaling_frames import QuickModel
from scaling_meter import Meter

QUIET_SECONDS = 1.5  # after a change; all its follow-up work has started by then
CHANGES = 4


def why_no_window() -> str | None:
    """The reason why no window can be opened; None if one can."""
    if not has_display():
        return 'there is no display (xvfb-run -a -s "-screen 0 1600x1000x24" gives one)'
    return None


class Window:
    """napari with the docked plugin, opened once for all projects."""

    def __init__(self) -> None:
        import napari

        from surgicalsam_napari.widgets.demo import dock_plugin, wait_until

        self._wait_until = wait_until
        self.viewer = napari.Viewer()
        self.viewer.window.resize(1600, 1000)
        self.dock = dock_plugin(self.viewer)
        wait_until(lambda: not self.dock.is_busy, 600, "load the checkpoint")

    def close(self) -> None:
        self.viewer.close()

    def measure(self, meter: Meter, size: int, folder: Path) -> None:
        """Measure all series of one project; the project stays open until the next one or until the window closes."""
        dock = self.dock
        meter.take("window: open a project", size, lambda: self._open(folder), scope="all", repeats=1)
        assert dock.session.project is not None and dock.layers.labels is not None
        project, layer, frames = dock.session.project, dock.layers.labels, [size // 2 + i for i in range(CHANGES)]
        self._wait_until(lambda: dock.correct_panel.review.feed.left_to_compare == 0, 1800, "compare all masks")
        live(2 * QUIET_SECONDS)
        meter.take_each(
            "window: go to a frame", size, [lambda t=t: self._show(t) for t in frames], scope="one", memory=False
        )
        meter.take("window: redraw labels", size, lambda: (layer.refresh(), live(0.01)), scope="one", memory=False)
        model = QuickModel(project.classes)
        size_of_frame = project.labels.shape[1:]

        def predict(frame_index: int) -> None:
            project.labels.write_prediction(frame_index, model.answer(project.classes.ids, size_of_frame), 1)

        def paint(frame_index: int) -> None:
            layer.paint((frame_index, 20, 20 + frame_index % 9), 2)

        changes: dict[str, Callable[[int], None]] = {"a stroke": paint, "a predicted frame": predict}
        for name, change in changes.items():
            calls = [lambda t=t, c=change: self._settled(c, t) for t in frames]
            meter.take_each(f"window: {name}, until quiet", size, calls, scope="one", memory=False)

    def _open(self, folder: Path) -> None:
        self.dock.open(folder)
        self._wait_until(lambda: not self.dock.is_busy, 600, "open the project")

    def _show(self, frame_index: int) -> None:
        self.dock.layers.show_frame(frame_index)
        live(0.01)

    def _settled(self, change: Callable[[int], None], frame_index: int) -> None:
        """Make a change, and wait until no follow-up work is left."""
        feed, counts = self.dock.correct_panel.review.feed, self.dock.train_panel.data
        change(frame_index)
        live(QUIET_SECONDS)
        while feed.is_busy or not counts.is_counted:
            live(QUIET_SECONDS / 5)


def live(seconds: float) -> None:
    """Handle the window's events for so many seconds."""
    from qtpy.QtWidgets import QApplication

    until = time.monotonic() + seconds
    while True:
        QApplication.processEvents()
        if time.monotonic() >= until:
            return
        time.sleep(0.002)


def measure_timeline(meter: Meter, size: int, class_count: int) -> None:
    """Measure the timeline alone, painted completely."""
    import numpy as np
    from common.timeline_steps import painted, shown_timeline, steps
    from qtpy.QtWidgets import QApplication

    _application = QApplication.instance() or QApplication([])
    timeline = shown_timeline(size, class_count)
    for name, step in steps(timeline, np.random.default_rng(1)).items():
        if name in ("zoom, nearly whole", "one frame changed"):
            call = lambda step=step: painted(timeline, step)  # noqa: E731
            meter.take(f"timeline: {name}", size, call, scope="one", repeats=20, memory=False)
    timeline.close()
