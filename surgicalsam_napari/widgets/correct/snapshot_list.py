"""The list of snapshots: take, return to, or remove named states of the labels."""

from __future__ import annotations

from collections.abc import Generator
from datetime import datetime

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QLineEdit, QListWidget, QListWidgetItem, QPushButton, QVBoxLayout, QWidget

from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.store.snapshots import Snapshot
from surgicalsam_napari.widgets.correct.section_parts import ActionStrip
from surgicalsam_napari.widgets.parts.message import show_failure
from surgicalsam_napari.widgets.parts.parts import SPACING, caption, note
from surgicalsam_napari.widgets.parts.progress_strip import Question
from surgicalsam_napari.widgets.runs.run import Run
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers

ROWS_SHOWN = 4  # rows visible at once


class SnapshotList(QWidget):
    """The snapshots, latest first; Take, Return, Remove. Returning asks first and can be undone."""

    def __init__(self, run: Run, layers: ViewerLayers) -> None:
        super().__init__()
        self._project: Project | None = None
        self._is_enabled = False
        self._on_confirmed = self._return_to_chosen
        self._build(run, layers)
        self._connect()

    def show_project(self, project: Project | None) -> None:
        """List the snapshots of this project."""
        chosen = self.chosen
        self._project = project
        self.question.hide()
        self.list.clear()
        for snapshot in reversed([] if project is None else project.snapshots.entries()):
            item = QListWidgetItem(f"{snapshot.name} · {when(snapshot.created)}")
            item.setData(Qt.ItemDataRole.UserRole, snapshot)
            item.setToolTip(item.text())
            self.list.addItem(item)
            if chosen is not None and snapshot.folder == chosen.folder:
                self.list.setCurrentItem(item)
        self._update()

    def set_enabled(self, is_enabled: bool) -> None:
        """Enable or disable the buttons."""
        self._is_enabled = is_enabled
        self._update()

    @property
    def chosen(self) -> Snapshot | None:
        """The snapshot selected in the list."""
        item = self.list.currentItem()
        return None if item is None else item.data(Qt.ItemDataRole.UserRole)

    def take(self) -> None:
        """Take a snapshot of the current labels, with the name in the field."""
        project, name = self._project, self.name.text().strip()
        if project is None or not self.take_button.isEnabled():
            return

        def taking() -> Generator[None, None, None]:
            project.snapshots.create(name)
            yield from ()

        if self.strip.start("Taking a snapshot", taking):
            self.name.clear()

    def ask_to_return(self) -> None:
        """Ask whether to return to the selected snapshot."""
        if self.chosen is not None and self._project is not None and self.return_button.isEnabled():
            table = self._project.labels.provenance_table()
            verified = int((table == Provenance.VERIFIED).any(axis=1).sum())
            self._on_confirmed = self._return_to_chosen
            self._ask(
                f'Return to "{self.chosen.name}"? Every frame is restored'
                + (f", also the {counted(verified, 'frame')} verified now. " if verified else ". ")
                + "You can undo this.",
                "Return to it",
            )

    def ask_to_remove(self) -> None:
        """Ask whether to remove the selected snapshot."""
        if self.chosen is not None and self.remove_button.isEnabled():
            self._on_confirmed = self._remove_chosen
            self._ask(f'Remove "{self.chosen.name}"? The labels do not change.', "Remove it")

    def _build(self, run: Run, layers: ViewerLayers) -> None:
        self.list = QListWidget()
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.nothing = note("No snapshot yet. One is taken automatically before an import or a run over many frames.")
        self.name = QLineEdit()
        self.name.setPlaceholderText("Name of a new snapshot")
        self.take_button = QPushButton("Take")
        self.return_button, self.remove_button = QPushButton("Return to it…"), QPushButton("Remove…")
        self.question, self.strip = Question(), ActionStrip(run, layers)
        self.question.hide()
        take_row, list_row = QHBoxLayout(), QHBoxLayout()
        take_row.addWidget(self.name, 1)
        take_row.addWidget(self.take_button)
        list_row.addWidget(self.return_button, 1)
        list_row.addWidget(self.remove_button, 1)
        for row in (take_row, list_row):
            row.setSpacing(SPACING)
        self._buttons = QWidget()
        list_row.setContentsMargins(0, 0, 0, 0)
        self._buttons.setLayout(list_row)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, SPACING, 0, 0)
        column.setSpacing(SPACING)
        column.addWidget(caption("Snapshots"))
        column.addWidget(self.nothing)
        column.addWidget(self.list)
        column.addWidget(self._buttons)
        column.addLayout(take_row)
        column.addWidget(self.question)
        column.addWidget(self.strip)

    def _connect(self) -> None:
        self.list.currentItemChanged.connect(lambda *_: self._update())
        self.name.textChanged.connect(lambda _text: self._update())
        self.name.returnPressed.connect(self.take)
        self.take_button.clicked.connect(self.take)
        self.return_button.clicked.connect(self.ask_to_return)
        self.remove_button.clicked.connect(self.ask_to_remove)
        self.question.confirmed.connect(self._confirm)
        self.question.declined.connect(self.question.hide)

    def _update(self) -> None:
        has_entries = self.list.count() > 0
        if has_entries:
            rows = min(self.list.count(), ROWS_SHOWN)
            self.list.setFixedHeight(rows * self.list.sizeHintForRow(0) + 2 * self.list.frameWidth() + 2)
        self.nothing.setVisible(not has_entries)
        self.list.setVisible(has_entries)
        self._buttons.setVisible(has_entries)
        can_act = self._is_enabled and self.chosen is not None
        self.return_button.setEnabled(can_act)
        self.remove_button.setEnabled(can_act)
        self.name.setEnabled(self._is_enabled)
        self.take_button.setEnabled(self._is_enabled and bool(self.name.text().strip()))

    def _ask(self, text: str, yes: str) -> None:
        self.question.put(text, yes)
        self.question.show()

    def _confirm(self) -> None:
        self.question.hide()
        if self._is_enabled:
            self._on_confirmed()

    def _return_to_chosen(self) -> None:
        project, snapshot = self._project, self.chosen
        if project is not None and snapshot is not None:
            self.strip.start(f'Returning to "{snapshot.name}"', lambda: project.snapshots.restoring(snapshot))

    def _remove_chosen(self) -> None:
        if self._project is not None and self.chosen is not None:
            try:
                self._project.snapshots.remove(self.chosen)
            except SurgicalSAMError as error:
                show_failure(error, self)
            self.show_project(self._project)


def when(created: str) -> str:
    """An ISO 8601 time as "10:42" if it was today, else as "24 Nov, 10:42", in local time."""
    try:
        local = datetime.fromisoformat(created).astimezone()
    except ValueError:
        return created
    is_today = local.date() == datetime.now().astimezone().date()
    return local.strftime("%H:%M" if is_today else "%d %b, %H:%M")
