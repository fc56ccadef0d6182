"""What the plugin's menu entry docks: it appears at once, while torch and the plugin are imported in the background."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import napari
from qtpy.QtCore import QEvent, QSize, Qt, QTimer, Signal
from qtpy.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

from surgicalsam_napari.widgets.parts.message import Message, show_failure
from surgicalsam_napari.widgets.runs.background import run_in_background
from surgicalsam_napari.widgets.viewer.dock_menu import dock_around
from surgicalsam_napari.widgets.viewer.layer_docks import PREFERRED_PANEL

if TYPE_CHECKING:
    from surgicalsam_napari.widgets.main_widget import MainWidget

STEP_MS = 20  # between two steps
OPENING = "Opening SurgicalSAM…"


class PluginDock(QWidget):
    """Shows "Opening…", then the plugin's window part, `main`.

    Torch takes seconds to import, and the widgets some tenths of a second to build and to style. Each step leaves the
    window time to respond.
    """

    opened = Signal(object)  # MainWidget

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = viewer
        self.main: MainWidget | None = None
        self._is_removed = False
        self.text = QLabel(OPENING)
        self.text.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.message = Message()
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)  # else napari adds a stretch below
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(0, 0, 0, 0)
        self.column.addWidget(self.message)
        self.column.addWidget(self.text)
        QTimer.singleShot(0, self._import)

    def sizeHint(self) -> QSize:
        return QSize(PREFERRED_PANEL, 560)

    def _import(self) -> None:
        others = [dock for dock in self.window().findChildren(PluginDock) if dock is not self]
        if others:  # napari docks another one if the first was not opened from its menu
            show_dock(others[0])
            self.viewer.window.remove_dock_widget(self)
        else:
            run_in_background(import_window, self._build, self._on_failed)

    def _build(self, main_widget: type[MainWidget]) -> None:
        if not self._is_removed:
            self.main = main_widget(self.viewer)
            QTimer.singleShot(STEP_MS, self._show)

    def _show(self) -> None:
        if self.main is not None and not self._is_removed:
            self.text.hide()
            self.column.addWidget(self.main)
            self.opened.emit(self.main)

    def _on_failed(self, error: Exception) -> None:
        self.text.setText("SurgicalSAM could not be opened.")
        show_failure(error, self)

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ParentChange:
            is_removed = self.parentWidget() is None
            if is_removed and not self._is_removed and self.main is not None:
                self.main.leave()
            self._is_removed = is_removed
        return super().event(event)


def show_dock(widget: QWidget) -> None:
    """Show the dock that this widget is in."""
    dock = dock_around(widget)
    if dock is not None:
        dock.show()
        dock.raise_()


def import_window() -> type[MainWidget]:
    """Import the window's parts, in any thread."""
    load_torch_libraries()
    main_widget: type[MainWidget] = import_module("surgicalsam_napari.widgets.main_widget").MainWidget
    return main_widget


def load_torch_libraries() -> None:
    """Load torch's libraries, which takes up to a second, while other threads run.

    `import torch` would hold Python's lock for that long. A foreign function call of ctypes does not. If the libraries are
    not where they are expected, `import torch` finds them.
    """
    spec = find_spec("torch")
    if "torch" in sys.modules or spec is None or not spec.submodule_search_locations:
        return
    folder = Path(spec.submodule_search_locations[0]) / "lib"
    with suppress(OSError, AttributeError):
        if sys.platform == "win32":
            ctypes.WinDLL("kernel32").LoadLibraryExW(str(folder / "torch_python.dll"), None, 0x1100)
        else:
            library = "libtorch_python" + (".dylib" if sys.platform == "darwin" else ".so")
            load = ctypes.CDLL(None).dlopen
            load.restype = ctypes.c_void_p
            load(str(folder / library).encode(), ctypes.c_int(2))  # RTLD_NOW
