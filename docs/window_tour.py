"""Walk through the whole window with real mouse and keys, on the phantom, and save a picture of each step in a folder.

`xvfb-run -a -s "-screen 0 1366x768x24" python docs/window_tour.py OUT --size 1366 768 --theme light`. For a screen at 150 %,
set QT_SCALE_FACTOR=1.5 and give the size that is left: 1280 720 on 1920 x 1080.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import napari
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget

from surgicalsam_napari.preferences import VARIABLE
from surgicalsam_napari.widgets.demo import wait_until
from surgicalsam_napari.widgets.main_widget import MainWidget
from surgicalsam_napari.widgets.opening import PluginDock

LEFT, PLAIN = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
SECONDS = 600


class WindowTour:
    """A person at the window: each step clicks or types, waits, and takes a picture."""

    def __init__(self, out: Path, size: tuple[int, int], theme: str) -> None:
        self.out, self.count = out, 0
        self.viewer = napari.Viewer(show=True)
        self.viewer.theme = theme
        self.viewer.window.resize(*size)
        plugin = PluginDock(self.viewer)
        self.viewer.window.add_dock_widget(plugin, name="SurgicalSAM")
        wait_until(lambda: plugin.main is not None, SECONDS, "open the plugin")
        assert plugin.main is not None
        self.dock: MainWidget = plugin.main
        self.wait()
        self.picture("start")

    def wait(self) -> None:
        """Until nothing works any more."""
        self.settle(0.3)
        wait_until(lambda: not self.dock.is_busy, SECONDS, "finish")

    def settle(self, seconds: float = 0.6) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            QApplication.processEvents()
            time.sleep(0.01)

    def picture(self, name: str, widget: QWidget | None = None) -> None:
        """Save the window, or another one."""
        self.settle()
        self.count += 1
        path = self.out / f"{self.count:02d}_{name}.png"
        (widget or self.viewer.window._qt_window).grab().save(str(path))
        print(path, flush=True)

    def click(self, widget: QWidget, at: QPoint | None = None) -> None:
        self.dock.reveal(widget)
        self.settle(0.2)
        QTest.mouseClick(widget, LEFT, PLAIN, widget.rect().center() if at is None else at)
        self.settle(0.3)

    def key(self, key: Qt.Key, modifier: Qt.KeyboardModifier = PLAIN) -> None:
        """Press a key in the canvas."""
        QTest.keyClick(self.viewer.window._qt_viewer.canvas.native, key, modifier)
        self.settle(0.3)

    def click_canvas(self, row: float, column: float) -> None:
        """Click on a pixel of the frame in view."""
        canvas = self.viewer.window._qt_viewer.canvas
        camera = self.viewer.camera
        height, width = canvas.native.height(), canvas.native.width()
        x = width / 2 + (column - camera.center[2]) * camera.zoom / canvas.native.devicePixelRatioF()
        y = height / 2 + (row - camera.center[1]) * camera.zoom / canvas.native.devicePixelRatioF()
        QTest.mouseClick(canvas.native, LEFT, PLAIN, QPoint(round(x), round(y)))
        self.settle(0.8)

    def show_tab(self, position: int) -> None:
        bar = self.dock.tabs.bar
        QTest.mouseClick(bar, LEFT, PLAIN, bar.tabRect(position).center())
        self.settle(0.3)

    def walk(self) -> None:
        """From an empty window to an export, and through the dialogs."""
        steps: tuple[Callable[[], None], ...] = (self.segment, self.correct, self.train, self.export, self.dialogs)
        for step in steps:
            step()

    def segment(self) -> None:
        self.click(self.dock.start.page.sample_button)
        wait_until(lambda: self.dock.session.project is not None, SECONDS, "open the sample")
        self.wait()
        self.picture("opened")
        self.click(self.dock.segment_panel.all_classes)
        self.click(self.dock.segment_panel.segment)
        self.settle(1.5)
        self.picture("segmenting")
        self.wait()
        self.picture("segmented")

    def correct(self) -> None:
        panel = self.dock.correct_panel
        self.show_tab(1)
        self.picture("correct")
        self.key(Qt.Key.Key_N)
        self.picture("next")
        self.click(panel.refine.switch)
        self.click_canvas(*(side / 2 for side in self.dock.layers.labels.data.shape[1:]))
        self.wait()
        self.picture("refine")
        self.click(panel.refine.accept_button)
        self.key(Qt.Key.Key_Escape)
        self.key(Qt.Key.Key_D)
        self.picture("verified")
        self.click(panel.review.several)
        self.picture("several")

    def train(self) -> None:
        self.show_tab(2)
        self.settle(1)
        self.picture("train")
        self.click(self.dock.train_panel.learn.learn_button)
        self.settle(2)
        self.picture("learning")
        self.wait()
        self.picture("learned")
        self.click(self.dock.train_panel.more.header)
        self.picture("training_form")

    def export(self) -> None:
        self.show_tab(3)
        self.picture("export")
        results = self.dock.export_panel.results
        self.click(results.statistics_button)
        self.wait()
        self._picture_dialogs("statistics")
        self.click(results.overlay_button)
        self.settle(1)
        self._picture_dialogs("overlay")

    def dialogs(self) -> None:
        self.show_tab(1)
        self.click(self.dock.correct_panel.keys_button)
        self._picture_dialogs("keys")
        self.dock.classes_dialog.open()
        self._picture_dialogs("classes")
        self.dock.start.videos.show_list()
        self._picture_dialogs("videos")
        self.dock.model_fold.open()
        self.dock.video_fold.open()
        self.picture("video_and_model")
        self.click(self.dock.model_panel.download)
        self._picture_dialogs("download")

    def _picture_dialogs(self, name: str) -> None:
        """Save the windows of the plugin that are open beside the main one, and close them."""
        self.settle(1)
        main = self.viewer.window._qt_window
        for widget in QApplication.topLevelWidgets():
            if widget is not main and widget.isVisible() and widget.isWindow() and widget.width() > 150:
                self.picture(name, widget)
                widget.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the pictures")
    parser.add_argument("--size", type=int, nargs=2, default=(1600, 1000), metavar=("W", "H"))
    parser.add_argument("--theme", choices=("dark", "light"), default="dark")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[VARIABLE] = str(Path(folder) / "preferences.json")  # the user's own stay untouched
        WindowTour(arguments.out, tuple(arguments.size), arguments.theme).walk()
        napari.Viewer.close_all()


if __name__ == "__main__":
    main()
