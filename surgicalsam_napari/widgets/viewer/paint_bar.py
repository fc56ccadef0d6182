"""The brush in the dock: napari's modes of the Labels layer and its brush size, for when the layer controls are hidden."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from napari.layers import Labels
from napari.resources import get_colorized_svg, get_icon_path
from qtpy.QtCore import QByteArray, QEvent, QSignalBlocker, QSize, Qt
from qtpy.QtGui import QAction, QIcon, QPixmap
from qtpy.QtWidgets import QButtonGroup, QHBoxLayout, QSpinBox, QToolButton, QWidget

from surgicalsam_napari.widgets.parts.theme import ACCENT
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers

MODES = (  # mode of the layer, icon, tooltip
    ("pan_zoom", "pan_arrows", "Move and zoom"),
    ("paint", "paint", "Brush"),
    ("erase", "erase", "Eraser"),
    ("fill", "fill", "Fill a region"),
    ("polygon", "polygon_lasso", "Draw an outline, and fill it"),
)
ICON_SIDE, LARGEST_BRUSH = 18, 200
STYLE = f"""
QToolButton {{ border: none; background: transparent; padding: 3px; border-radius: 3px; }}
QToolButton:hover {{ background: rgba(127, 127, 127, 70); }}
QToolButton:checked {{ background: {ACCENT}; }}
"""


class PaintBar(QWidget):
    """One row: the modes of the Labels layer, the brush size, and a switch for napari's layer docks.

    Parameters
    ----------
    layer_docks : the action that shows or hides napari's layer list and layer controls
    """

    def __init__(self, layers: ViewerLayers, layer_docks: QAction | None = None) -> None:
        super().__init__()
        self.layers = layers
        self._labels: Labels | None = None
        self.buttons: dict[str, QToolButton] = {}
        self.brush_size = QSpinBox()
        self.brush_size.setRange(1, LARGEST_BRUSH)
        self.brush_size.setPrefix("⌀ ")
        self.brush_size.setSuffix(" px")
        self.brush_size.setButtonSymbols(QSpinBox.ButtonSymbols.NoButtons)  # napari's would make the dock too wide
        self.brush_size.setStyleSheet("QSpinBox { min-width: 52px; max-width: 52px; }")
        self.brush_size.setToolTip("Brush size in pixels of the frame; the keys [ and ] change it, too")
        self.brush_size.valueChanged.connect(self._on_size)
        self._build(layer_docks)
        layers.labels_swapped.connect(self._follow)
        self._follow()

    def _build(self, layer_docks: QAction | None) -> None:
        self.setStyleSheet(STYLE)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        group = QButtonGroup(self)
        for mode, _, tooltip in MODES:
            button = self.buttons[mode] = QToolButton()
            button.setCheckable(True)
            button.setToolTip(tooltip)
            button.setAccessibleName(tooltip)
            button.setIconSize(QSize(ICON_SIDE, ICON_SIDE))
            button.clicked.connect(lambda _checked, mode=mode: self._choose(mode))
            group.addButton(button)
            row.addWidget(button)
        row.addWidget(self.brush_size)
        row.addStretch(1)
        if layer_docks is not None:
            self.layers_button = QToolButton()
            self.layers_button.setDefaultAction(layer_docks)
            self.layers_button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextOnly)
            row.addWidget(self.layers_button)
        self._draw_icons()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.StyleChange, QEvent.Type.PaletteChange) and self.buttons:
            self._draw_icons()

    def _draw_icons(self) -> None:
        plain = self.palette().windowText().color().name()
        for mode, icon, _ in MODES:
            self.buttons[mode].setIcon(icon_of(icon, plain))

    def _follow(self) -> None:
        """Show the state of the project's Labels layer from now on."""
        labels = self.layers.labels
        if labels is not self._labels:
            if self._labels is not None:
                self._labels.events.mode.disconnect(self._show)
                self._labels.events.brush_size.disconnect(self._show)
            self._labels = labels
            if labels is not None:
                labels.events.mode.connect(self._show)
                labels.events.brush_size.connect(self._show)
        self._show()

    def _show(self, _event: Any = None) -> None:
        labels = self._labels
        self.setEnabled(labels is not None)
        if labels is None:
            return
        if str(labels.mode) in self.buttons:
            self.buttons[str(labels.mode)].setChecked(True)
        with QSignalBlocker(self.brush_size):
            self.brush_size.setValue(round(float(labels.brush_size)))

    def _choose(self, mode: str) -> None:
        if self._labels is not None:
            self.layers.viewer.layers.selection.active = self._labels
            self._labels.mode = mode

    def _on_size(self, size: int) -> None:
        if self._labels is not None:
            self._labels.brush_size = size


@lru_cache
def icon_of(name: str, color: str) -> QIcon:
    """An icon of napari in this colour."""
    pixmap = QPixmap()
    pixmap.loadFromData(QByteArray(get_colorized_svg(get_icon_path(name), color).encode()), "svg")
    return QIcon(pixmap)
