"""A button with a list of classes that can be checked: which classes to export."""

from __future__ import annotations

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtWidgets import QListWidget, QListWidgetItem, QMenu, QPushButton, QWidgetAction

from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.widgets.parts.parts import swatch

ALL = "All classes"
_ROWS_SHOWN = 12


class ClassChecks(QPushButton):
    """Says how many classes are checked; the list opens under it and stays open for several clicks."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._shown: ClassSet | None = None
        self.list = QListWidget()
        self.list.setIconSize(QSize(14, 14))
        action = QWidgetAction(self)
        action.setDefaultWidget(self.list)
        menu = QMenu(self)
        menu.addAction(action)
        self.setMenu(menu)
        self.setStyleSheet("QPushButton { text-align: left; padding-left: 8px; }")  # as the dropdowns above and below it
        self.setToolTip("Pixels of other classes become background in the export.")
        self.list.itemChanged.connect(self._on_changed)
        self.setText(ALL)

    def show_classes(self, classes: ClassSet) -> None:
        """List these classes; a class stays unchecked if it was unchecked before, and new ones are checked."""
        if classes == self._shown:
            return
        self._shown = classes
        unchecked = {item.text() for item in self._items() if item.checkState() != Qt.CheckState.Checked}
        self.list.blockSignals(True)
        self.list.clear()
        for instrument in classes:
            item = QListWidgetItem(swatch(instrument.color), instrument.name)
            item.setData(Qt.ItemDataRole.UserRole, instrument.id)
            is_checked = instrument.name not in unchecked
            item.setCheckState(Qt.CheckState.Checked if is_checked else Qt.CheckState.Unchecked)
            self.list.addItem(item)
        rows = min(len(classes), _ROWS_SHOWN)
        self.list.setFixedHeight(rows * max(self.list.sizeHintForRow(0), 1) + 8)
        self.list.setMinimumWidth(self.list.sizeHintForColumn(0) + 30)
        self.list.blockSignals(False)
        self._on_changed()

    @property
    def class_ids(self) -> list[int]:
        """The ids of the checked classes."""
        checked = (item for item in self._items() if item.checkState() == Qt.CheckState.Checked)
        return [item.data(Qt.ItemDataRole.UserRole) for item in checked]

    @property
    def is_some(self) -> bool:
        """Whether a class is not checked."""
        return len(self.class_ids) < self.list.count()

    def _items(self) -> list[QListWidgetItem]:
        return [self.list.item(row) for row in range(self.list.count())]

    def _on_changed(self) -> None:
        count, total = len(self.class_ids), self.list.count()
        names = [item.text() for item in self._items() if item.checkState() == Qt.CheckState.Checked]
        self.setText(ALL if count == total else names[0] if count == 1 else f"{count} of {total} classes")
        self.changed.emit()
