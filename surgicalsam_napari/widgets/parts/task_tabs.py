"""The tabs of the tasks: Segment, Correct, Train, Export / Import; one panel is shown at a time."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QTabBar, QVBoxLayout, QWidget

from surgicalsam_napari.widgets.parts.parts import ACCENT, SPACING, Panel

BUSY_MARK = " ●"
STYLE = f"""
QTabBar {{ background: transparent; border: none; }}
QTabBar::tab {{
    background: transparent; border: none; border-bottom: 2px solid rgba(127, 127, 127, 70);
    padding: 6px 4px 7px 4px; font-size: 11pt;
}}
QTabBar::tab:hover {{ border-bottom: 2px solid rgba(127, 127, 127, 160); }}
QTabBar::tab:selected {{ background: transparent; border-bottom: 2px solid {ACCENT}; font-weight: bold; }}
"""


class TaskTabs(QWidget):
    """A bar of tabs above the chosen panel; hidden panels take no space, and keep their content and runs."""

    shown = Signal(object)  # Panel

    def __init__(self) -> None:
        super().__init__()
        self.bar = QTabBar()
        self.bar.setExpanding(True)
        self.bar.setDrawBase(False)
        self.bar.setUsesScrollButtons(False)
        self.bar.setStyleSheet(STYLE)
        self._titles: list[str] = []
        self._panels: list[Panel] = []
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(2 * SPACING)
        self._column.addWidget(self.bar)
        self.bar.currentChanged.connect(self._on_current_changed)

    def add(self, panel: Panel, title: str) -> None:
        """Add a panel under a tab with this title, which replaces its heading; the first panel is shown."""
        panel.heading.hide()
        panel.setVisible(not self._panels)
        self._panels.append(panel)
        self._titles.append(title)
        self._column.addWidget(panel)
        self.bar.addTab(title)

    @property
    def titles(self) -> tuple[str, ...]:
        """The titles of the tabs, from left to right."""
        return tuple(self._titles)

    def show_panel(self, panel: Panel) -> None:
        """Show this panel."""
        self.bar.setCurrentIndex(self._panels.index(panel))

    def mark_busy(self, panel: Panel, is_busy: bool) -> None:
        """Mark the tab of a working panel, also while another panel is shown."""
        index = self._panels.index(panel)
        self.bar.setTabText(index, self._titles[index] + BUSY_MARK * is_busy)

    def _on_current_changed(self, index: int) -> None:
        if index < len(self._panels):  # not yet while the tab is being added
            for position, panel in enumerate(self._panels):
                panel.setVisible(position == index)
            self.shown.emit(self._panels[index])
