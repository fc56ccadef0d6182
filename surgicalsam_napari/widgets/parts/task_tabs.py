"""The tabs of the tasks: Segment, Correct, Train, Export / Import; one panel is shown at a time."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QTabBar, QVBoxLayout, QWidget

from surgicalsam_napari.widgets.parts.parts import SPACING, TaskPanel
from surgicalsam_napari.widgets.parts.theme import ACCENT

BUSY_MARK = " ●"
FONTS, ROOMY = (11, 9), 350  # points in a dock of this width in pixels, and in a narrower one
STYLE = """
QTabBar {{ background: transparent; border: none; }}
QTabBar::tab {{
    background: transparent; border: none; border-bottom: 2px solid rgba(127, 127, 127, 70);
    padding: 6px 3px 7px 3px; font-size: {points}pt; min-width: 0px;
}}
QTabBar::tab:hover {{ border-bottom: 2px solid rgba(127, 127, 127, 160); }}
QTabBar::tab:selected {{ background: transparent; border-bottom: 2px solid {accent}; font-weight: bold; }}
"""


class TaskTabs(QWidget):
    """A bar of tabs above the chosen panel; hidden panels take no space, and keep their content and runs."""

    shown = Signal(object)  # TaskPanel

    def __init__(self) -> None:
        super().__init__()
        self.bar = QTabBar()
        self.bar.setExpanding(True)
        self.bar.setDrawBase(False)
        self.bar.setUsesScrollButtons(False)
        self.bar.setElideMode(Qt.TextElideMode.ElideRight)
        self._points = 0
        self._use_font(FONTS[0])
        self._titles: list[str] = []
        self._panels: list[TaskPanel] = []
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(SPACING)
        self._column.addWidget(self.bar)
        self.bar.currentChanged.connect(self._on_current_changed)

    def add(self, panel: TaskPanel, title: str) -> None:
        """Add a panel under a tab with this title, which replaces its heading; the first panel is shown."""
        panel.heading.hide()
        panel.setVisible(not self._panels)
        self._panels.append(panel)
        self._titles.append(title)
        self._column.addWidget(panel, 1)
        self.bar.addTab(title)

    @property
    def titles(self) -> tuple[str, ...]:
        """The titles of the tabs, from left to right."""
        return tuple(self._titles)

    @property
    def current_panel(self) -> TaskPanel:
        return self._panels[self.bar.currentIndex()]

    def show_panel(self, panel: TaskPanel) -> None:
        """Show this panel."""
        self.bar.setCurrentIndex(self._panels.index(panel))

    def show_child(self, child: QWidget) -> None:
        """Show the panel that a widget is in."""
        for panel in self._panels:
            if panel is child or panel.isAncestorOf(child):
                self.show_panel(panel)

    def mark_busy(self, panel: TaskPanel, is_busy: bool) -> None:
        """Mark the tab of a working panel, also while another panel is shown."""
        index = self._panels.index(panel)
        self.bar.setTabText(index, self._titles[index] + BUSY_MARK * is_busy)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._use_font(FONTS[0] if self.width() >= ROOMY else FONTS[1])

    def _use_font(self, points: int) -> None:
        if points != self._points:
            self._points = points
            self.bar.setStyleSheet(STYLE.format(points=points, accent=ACCENT))

    def _on_current_changed(self, index: int) -> None:
        if index < len(self._panels):  # not yet while the tab is being added
            for position, panel in enumerate(self._panels):
                panel.setVisible(position == index)
            self.shown.emit(self._panels[index])
