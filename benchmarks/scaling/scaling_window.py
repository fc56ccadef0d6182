"""The window, with projects of 100 to 100,000 frames: what a stroke or a predicted frame sets going, until all is quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
from common.options import has_display
from scaling_frames import QuickModel
from scaling_meter import Meter

QUIET_SECONDS = 1.5  # after which all that a change sets going has at least begun
CHANGES = 4


def why_no_window() -> str | None:
    """What is missing; None where a window can be opened."""
    if not has_display():
        return 'there is no display (xvfb-run -a -s "-screen 0 1600x1000x24" gives one)'
    return None


class Window:
    """napari with the plugin docked, opened once for all projects."""

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
        """All series of one project; it is closed with the next one, or with the window."""
        dock = self.dock
        meter.take("window: open a project", size, lambda: self._open(folder), scope="all", repeats=1)
        assert dock.session.project is not None and dock.layers.labels is not None
        project, layer, frames = dock.session.project, dock.layers.labels, [size // 2 + i for i in range(CHANGES)]
        self._wait_until(lambda: dock.correct_panel.review.feed.left_to_compare == 0, 1800, "compare all masks")
        live(2 * QUIET_SECONDS)
        meter.take_each(
            "window: go to a frame", size, [lambda t=t: self._show(t) for t in frames], scope="one", memory=False
        )
        meter.take("window: draw labels again", size, lambda: (layer.refresh(), live(0.01)), scope="one", memory=False)
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
        """Until nothing is due and nothing goes on in the background; on a busy machine that takes longer by the clock."""
        feed, counts = self.dock.correct_panel.review.feed, self.dock.train_panel.data
        change(frame_index)
        live(QUIET_SECONDS)
        while feed.is_busy or not counts.is_counted:
            live(QUIET_SECONDS / 5)


def live(seconds: float) -> None:
    """Let the window do what is due."""
    from qtpy.QtWidgets import QApplication

    until = time.monotonic() + seconds
    while True:
        QApplication.processEvents()
        if time.monotonic() >= until:
            return
        time.sleep(0.002)


def measure_timeline(meter: Meter, size: int, class_count: int) -> None:
    """The timeline by itself, drawn to the last pixel."""
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
