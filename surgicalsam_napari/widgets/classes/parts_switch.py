"""The switch *Labels: Instruments | Parts*: which labels the whole window shows and changes."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QButtonGroup, QHBoxLayout, QPushButton, QWidget

from surgicalsam_napari.session import Session
from surgicalsam_napari.widgets.parts.parts import CAPTION_WIDTH, SPACING, caption
from surgicalsam_napari.widgets.viewer.session_signals import SessionSignals

TOOLTIPS = "Label whole instruments", "Label the parts of instruments; the outlines of the instruments stay visible"


class PartsSwitch(QWidget):
    """Shown while the open project has instruments with parts. It asks for the switch, and shows what the session does."""

    switch_requested = Signal(bool)  # whether the parts are wanted

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._waits_for: str | None = None
        self.instruments, self.parts = QPushButton("Instruments"), QPushButton("Parts")
        self._group = QButtonGroup(self)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(SPACING)
        title = caption("Labels")
        title.setMinimumWidth(CAPTION_WIDTH)
        row.addWidget(title)
        for button in (self.instruments, self.parts):
            button.setCheckable(True)
            self._group.addButton(button)
            row.addWidget(button, 1)
            button.clicked.connect(lambda _checked, shown=button is self.parts: self._on_clicked(shown))
        self.refresh()

    def subscribe(self, signals: SessionSignals) -> None:
        """Follow the open project and its classes."""
        for changed in (signals.project_changed, signals.contents_replaced):
            changed.connect(self.refresh)

    def set_waiting(self, reason: str | None) -> None:
        """Show why the labels cannot be switched while a run works on them; None if they can."""
        self._waits_for = reason
        self.refresh()

    def refresh(self) -> None:
        """Show which labels are shown now, and whether there are parts."""
        self.setVisible(self.session.can_show_parts or self.session.shows_parts)
        self.instruments.setChecked(not self.session.shows_parts)
        self.parts.setChecked(self.session.shows_parts)
        for button, tooltip in zip((self.instruments, self.parts), TOOLTIPS, strict=True):
            button.setEnabled(self._waits_for is None)
            button.setToolTip(self._waits_for or tooltip)

    def _on_clicked(self, shown: bool) -> None:
        if shown != self.session.shows_parts:
            self.switch_requested.emit(shown)
