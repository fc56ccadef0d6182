"""The parts of one class, in the dialog *Classes*: which parts it has, and the parts of all classes."""

from __future__ import annotations

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from surgicalsam_napari.instruments import ClassSet, InstrumentClass
from surgicalsam_napari.widgets.parts.parts import SPACING, caption, swatch

ID_ROLE = Qt.ItemDataRole.UserRole + 1
ROW_HEIGHT, MOST_ROWS = 24, 5
STYLE = "QListView::item { padding: 3px 2px; }"


class PartsEditor(QWidget):
    """A tick for each part that the class has. It knows no project; a double click or F2 edits a name."""

    ticked = Signal(object)  # ids of the parts that the class shall have
    added = Signal(str)
    renamed = Signal(int, str)
    color_wanted = Signal(int)
    removed = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.title, self.list, self.name = caption("Parts"), QListWidget(), QLineEdit()
        self.name.setPlaceholderText("Name of a new part, such as Shaft")
        self.add_button, self.color_button = QPushButton("Add"), QPushButton("Colour…")
        self.rename_button, self.remove_button = QPushButton("Rename"), QPushButton("Remove")
        self.remove_button.setToolTip("Remove a part that no frame shows, for all classes")
        self.list.setIconSize(QSize(16, 16))
        self.list.setStyleSheet(STYLE)
        self.list.setEditTriggers(QAbstractItemView.EditTrigger.DoubleClicked)
        buttons, new = QHBoxLayout(), QHBoxLayout()
        for button in (self.rename_button, self.color_button, self.remove_button):
            buttons.addWidget(button, 1)
        new.addWidget(self.name, 1)
        new.addWidget(self.add_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, SPACING, 0, 0)
        for layout in (column, buttons, new):
            layout.setSpacing(SPACING)
        column.addWidget(self.title)
        column.addWidget(self.list)
        column.addLayout(buttons)
        column.addLayout(new)
        self.list.itemChanged.connect(self._on_changed)
        self.list.currentItemChanged.connect(lambda *_items: self._update_buttons())
        self.name.returnPressed.connect(self._add)
        self.add_button.clicked.connect(self._add)
        self.rename_button.clicked.connect(self.edit_name)
        self.color_button.clicked.connect(lambda: self.color_wanted.emit(self.current_id))
        self.remove_button.clicked.connect(lambda: self.removed.emit(self.current_id))
        self._names: dict[int, str] = {}

    def show_parts(self, classes: ClassSet, instrument: InstrumentClass) -> None:
        """List the parts of a class set, with a tick for those of one class."""
        current, blocked = self.current_id, self.list.blockSignals(True)
        parts = () if classes.parts is None else classes.parts.classes
        self._names = {part.id: part.name for part in parts}
        self.title.setText(f"Parts of {instrument.name}")
        self.list.clear()
        for part in parts:
            item = QListWidgetItem(swatch(part.color), part.name)
            item.setData(ID_ROLE, part.id)
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable | Qt.ItemFlag.ItemIsUserCheckable)
            item.setCheckState(Qt.CheckState.Checked if part.id in instrument.parts else Qt.CheckState.Unchecked)
            item.setToolTip(f"Tick it if {instrument.name} has this part. Double-click to rename it.")
            self.list.addItem(item)
            if part.id == current:
                self.list.setCurrentItem(item)
        self.list.blockSignals(blocked)
        rows = min(len(parts), MOST_ROWS)
        self.list.setFixedHeight(rows * ROW_HEIGHT + 6)
        for widget in (self.list, self.rename_button, self.color_button, self.remove_button):
            widget.setVisible(bool(parts))
        self._update_buttons()

    def clear_name(self) -> None:
        """Empty the field after a part was added."""
        self.name.clear()

    @property
    def current_id(self) -> int | None:
        """The part of the current row."""
        item = self.list.currentItem()
        return None if item is None else item.data(ID_ROLE)

    def choose(self, part_id: int) -> None:
        """Make the row of this part the current one."""
        for item in self._items():
            if item.data(ID_ROLE) == part_id:
                self.list.setCurrentItem(item)

    def edit_name(self) -> None:
        """Edit the name in the current row."""
        if (item := self.list.currentItem()) is not None:
            self.list.editItem(item)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_F2:
            self.edit_name()
        else:
            super().keyPressEvent(event)

    def _items(self) -> list[QListWidgetItem]:
        return [self.list.item(row) for row in range(self.list.count())]

    def _update_buttons(self) -> None:
        for button in (self.rename_button, self.color_button, self.remove_button):
            button.setEnabled(self.list.currentItem() is not None)

    def _add(self) -> None:
        self.added.emit(self.name.text())

    def _on_changed(self, item: QListWidgetItem) -> None:
        part_id = item.data(ID_ROLE)
        if item.text() != self._names.get(part_id):
            self.renamed.emit(part_id, item.text())
        else:
            chosen = [each.data(ID_ROLE) for each in self._items() if each.checkState() == Qt.CheckState.Checked]
            self.ticked.emit(chosen)
