"""The start page: open a video, try the sample, or go on with a recent project. Shown while nothing is open."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from surgicalsam_napari.widgets.parts.parts import SPACING, ElidedLabel, Panel, caption, note, primary_button

MOST_RECENT = 5
WELCOME = "Open a surgical video, or drop one on the viewer. Each stroke is saved at once, in a project beside the video."
ROW_STYLE = """
QPushButton { text-align: left; border: none; border-radius: 3px; background: rgba(127, 127, 127, 28); padding: 0px; }
QPushButton:hover, QPushButton:focus { background: rgba(127, 127, 127, 70); }
"""


class StartPage(Panel):
    """Three ways to start."""

    open_file = Signal()
    open_folder = Signal()
    sample_requested = Signal()
    recent_chosen = Signal(object)  # Path of the list
    all_videos = Signal()

    def __init__(self) -> None:
        super().__init__("Start")
        self.status = note(WELCOME)
        self.open_button = primary_button("Open a video…")
        self.folder_button, self.sample_button = QPushButton("Open a folder…"), QPushButton("Try the sample")
        self.folder_button.setToolTip("A folder of numbered images, or a project (*.surgicalsam)")
        self.sample_button.setToolTip("A short synthetic video: nothing to download, no patient data")
        self.recent_title = caption("Recent projects")
        self.recent_title.setContentsMargins(0, SPACING, 0, 0)
        self.all_button = QPushButton("All videos…")
        self.all_button.setToolTip("Add several videos, see how far each one is, segment them one after the other")
        self.rows: list[RecentRow] = []
        self._lay_out()
        for button, signal in (
            (self.open_button, self.open_file),
            (self.folder_button, self.open_folder),
            (self.sample_button, self.sample_requested),
            (self.all_button, self.all_videos),
        ):
            button.clicked.connect(signal)
        self.show_recent([])

    def show_recent(self, entries: list[tuple[Path, str, str]]) -> None:
        """List the recent projects: path, name, and a line of facts."""
        shown = entries[:MOST_RECENT]
        self.recent_title.setVisible(bool(shown))
        if [row.path for row in self.rows] == [path for path, _name, _facts in shown]:
            for row, (_path, name, facts) in zip(self.rows, shown, strict=True):
                row.show_texts(name, facts)
            return
        for row in self.rows:
            self._recent.removeWidget(row)
            row.deleteLater()
        self.rows = []
        for path, name, facts in shown:
            row = RecentRow(path, name, facts)
            row.clicked.connect(lambda _checked, path=path: self.recent_chosen.emit(path))
            self._recent.addWidget(row)
            self.rows.append(row)

    def show_working(self, text: str) -> None:
        """Say what is being opened; empty: nothing is."""
        self.status.setText(text or WELCOME)
        for widget in (self.open_button, self.folder_button, self.sample_button, *self.rows):
            widget.setEnabled(not text)

    def _lay_out(self) -> None:
        secondary = QHBoxLayout()
        secondary.setSpacing(SPACING)
        secondary.addWidget(self.folder_button, 1)
        secondary.addWidget(self.sample_button, 1)
        self._recent = QVBoxLayout()
        self._recent.setSpacing(SPACING)
        for item in (self.status, self.open_button, secondary, self.recent_title, self._recent, self.all_button):
            self.column.addWidget(item) if isinstance(item, QWidget) else self.column.addLayout(item)


class RecentRow(QPushButton):
    """A recent project: the name of its video, and how far it is."""

    def __init__(self, path: Path, name: str, facts: str) -> None:
        super().__init__()
        self.path, self.name, self.facts = path, ElidedLabel(), ElidedLabel(mode=Qt.TextElideMode.ElideRight)
        self.name.setStyleSheet("font-weight: bold; background: transparent; padding: 0px; margin: 0px;")
        self.facts.setStyleSheet("background: transparent; font-size: 9pt; padding: 0px; margin: 0px;")
        column = QVBoxLayout(self)
        column.setContentsMargins(SPACING + 2, SPACING, SPACING + 2, SPACING)
        column.setSpacing(2)
        for label in (self.name, self.facts):
            label.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
            column.addWidget(label)
        self.setStyleSheet(ROW_STYLE)
        self.setToolTip(str(path))
        self.show_texts(name, facts)

    def show_texts(self, name: str, facts: str) -> None:
        """Show the name of the video, and how far it is."""
        self.name.setText(name)
        self.facts.setText(facts)
        self.setAccessibleName(f"{name}, {facts}")

    def sizeHint(self) -> QSize:
        return self.layout().sizeHint()  # a button counts only its own text

    def minimumSizeHint(self) -> QSize:
        return self.layout().minimumSize()
