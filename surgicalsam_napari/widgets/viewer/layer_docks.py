"""The room of the canvas: napari's layer list and layer controls are hidden where they would leave it too little."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtGui import QAction
from qtpy.QtWidgets import QDockWidget, QMainWindow

NAMES = ("layer controls", "layer list")  # as napari names its docks
WIDTH = 320  # of the controls of a Labels layer, in pixels
SMALLEST_CANVAS = 0.55  # of the window's width; with less, the docks are hidden
PANEL_SHARE, SMALLEST_PANEL, PREFERRED_PANEL = 0.28, 300, 384  # of the window's width; pixels


class LayerDocks(QObject):
    """Hides the two docks in a narrow window, and shows them again in a wide one, until the user decides.

    Attributes
    ----------
    action : shows or hides both docks; what the user chooses here, or in a menu of napari, is kept

    Signals: `shown_changed` (whether they are in view)
    """

    shown_changed = Signal(bool)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.action = QAction("Layer list and layer controls", self)
        self.action.setIconText("Layers")  # on a button
        self.action.setToolTip("Show or hide napari's layer list and layer controls")
        self.action.setCheckable(True)
        self.action.setChecked(True)
        self.action.triggered.connect(self._on_chosen)
        self._panel: QDockWidget | None = None
        self._docks: list[QDockWidget] = []
        self._is_chosen = self._is_fitting = False

    @property
    def are_shown(self) -> bool:
        return any(not dock.isHidden() for dock in self._docks)

    def follow(self, panel: QDockWidget) -> None:
        """Keep room for the canvas beside this dock of the plugin from now on."""
        window = panel.parentWidget()
        if panel is self._panel or not isinstance(window, QMainWindow):
            return
        self._panel = panel
        self._docks = [dock for name in NAMES for dock in window.findChildren(QDockWidget, name)]
        for dock in self._docks:
            dock.visibilityChanged.connect(self._on_visibility)
        window.installEventFilter(self)
        self.fit()
        window.resizeDocks([panel], [panel_width(window.width())], Qt.Orientation.Horizontal)

    def fit(self) -> None:
        """Hide or show the docks as the width of the window allows."""
        window = self._window
        if window is None or self._is_chosen:
            return
        beside = [dock for dock in self._docks if _is_beside(window, dock)]
        if beside and self._panel is not None and _is_beside(window, self._panel):
            room = window.width() - WIDTH - panel_width(window.width())
            self._show(beside, room >= SMALLEST_CANVAS * window.width())

    def release(self) -> None:
        """Show the docks again if they were hidden for the plugin's dock."""
        if not self._is_chosen:
            self._show(self._docks, True)
        self._panel, self._docks = None, []

    @property
    def _window(self) -> QMainWindow | None:
        # looked up: a window that is kept here would outlive its viewer
        window = None if self._panel is None else self._panel.parentWidget()
        return window if isinstance(window, QMainWindow) else None

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Resize and isinstance(watched, QMainWindow):
            self.fit()
        return super().eventFilter(watched, event)

    def _show(self, docks: list[QDockWidget], is_shown: bool) -> None:
        self._is_fitting = True
        for dock in docks:
            dock.setVisible(is_shown)
        self._is_fitting = False
        self._report()

    def _report(self) -> None:
        if self.action.isChecked() != self.are_shown:
            self.action.setChecked(self.are_shown)
            self.shown_changed.emit(self.are_shown)

    def _on_chosen(self, is_shown: bool) -> None:
        self._is_chosen = True
        self._show(self._docks, is_shown)

    def _on_visibility(self, _is_visible: bool) -> None:
        window = None if self._is_fitting else self._window
        if window is not None and window.isVisible():
            self._is_chosen = self._is_chosen or self.action.isChecked() != self.are_shown
            self._report()


def panel_width(window_width: int) -> int:
    """The width of the plugin's dock at first, in pixels."""
    return min(max(round(PANEL_SHARE * window_width), SMALLEST_PANEL), PREFERRED_PANEL)


def _is_beside(window: QMainWindow, dock: QDockWidget) -> bool:
    """Whether the dock takes from the canvas's width."""
    sides = (Qt.DockWidgetArea.LeftDockWidgetArea, Qt.DockWidgetArea.RightDockWidgetArea)
    return not dock.isFloating() and window.dockWidgetArea(dock) in sides
