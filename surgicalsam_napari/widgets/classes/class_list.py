"""The list of classes: an eye, the colour, the name, the number of frames and the key of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTreeWidget, QTreeWidgetItem

from surgicalsam_napari.instruments import ClassSet, InstrumentClass
from surgicalsam_napari.widgets.classes.class_keys import key_of
from surgicalsam_napari.widgets.parts.eye import eye_icon
from surgicalsam_napari.widgets.parts.parts import swatch

EYE, COLOR, NAME, FRAMES, KEY = range(5)
ID_ROLE = Qt.ItemDataRole.UserRole + 1
ICON_WIDTH = 30
ROW_HEIGHT, FEWEST_ROWS, MOST_ROWS = 24, 4, 10  # more rows scroll, unless the dialog is made larger
STYLE = "QTreeView::item { padding: 3px 2px; }"


class ClassList(QTreeWidget):
    """Shows classes in their order. It knows no project.

    A click on the eye or the colour asks for its change; a double click or F2 edits the name.
    """

    eye_clicked = Signal(int)
    color_clicked = Signal(int)
    renamed = Signal(int, str)

    def __init__(self) -> None:
        super().__init__()
        self._is_editable = True
        self.setColumnCount(5)
        self.setHeaderLabels(["", "", "Class", "Frames", "Key"])
        self.headerItem().setTextAlignment(FRAMES, Qt.AlignmentFlag.AlignRight)
        self.headerItem().setToolTip(FRAMES, "The number of frames that show the class")
        self.headerItem().setToolTip(KEY, "Chooses the class. Click on the canvas first.")
        self.setRootIsDecorated(False)
        self.setIconSize(QSize(16, 16))
        self.setStyleSheet(STYLE)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        header = self.header()
        header.setStretchLastSection(False)
        header.setMinimumSectionSize(ICON_WIDTH)
        for column in (EYE, COLOR):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.Fixed)
            header.resizeSection(column, ICON_WIDTH)
        header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        for column in (FRAMES, KEY):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        self.itemClicked.connect(self._on_clicked)
        self.itemDoubleClicked.connect(self._on_double_clicked)
        self.itemChanged.connect(self._on_changed)

    def show_classes(self, classes: ClassSet, hidden: Collection[int], selected: int | None) -> None:
        """List these classes; the current row stays on its class.

        Parameters
        ----------
        hidden : ids of the classes with a crossed out eye
        selected : the class that the brush paints, in bold
        """
        current = self.current_id
        blocked = self.blockSignals(True)
        self.clear()
        for position, instrument in enumerate(classes):
            item = QTreeWidgetItem(["", "", instrument.name, "", key_of(position)])
            self._fill(item, instrument, instrument.id in hidden, instrument.id == selected)
            self.addTopLevelItem(item)
            if instrument.id == current:
                self.setCurrentItem(item)
        self.blockSignals(blocked)
        rows = min(max(self.topLevelItemCount(), FEWEST_ROWS), MOST_ROWS)
        self.setMinimumHeight(self.header().sizeHint().height() + rows * ROW_HEIGHT + 6)

    def show_counts(self, counts: Mapping[int, int]) -> None:
        """Show how many frames show each class, by class id."""
        blocked = self.blockSignals(True)
        for item in self._items():
            count = counts.get(item.data(NAME, ID_ROLE))
            item.setText(FRAMES, "" if count is None else f"{count:,}")
        self.blockSignals(blocked)

    def set_editable(self, is_editable: bool) -> None:
        """Whether names and colours can be changed; the eyes always can."""
        self._is_editable = is_editable

    @property
    def current_id(self) -> int | None:
        """The class of the current row."""
        item = self.currentItem()
        return None if item is None else item.data(NAME, ID_ROLE)

    def choose(self, class_id: int) -> None:
        """Make the row of this class the current one."""
        for item in self._items():
            if item.data(NAME, ID_ROLE) == class_id:
                self.setCurrentItem(item)

    def edit_name(self) -> None:
        """Edit the name in the current row."""
        if self._is_editable and self.currentItem() is not None:
            self.editItem(self.currentItem(), NAME)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_F2:
            self.edit_name()
        else:
            super().keyPressEvent(event)

    def sizeHint(self) -> QSize:
        return QSize(380, self.minimumHeight())

    def _items(self) -> list[QTreeWidgetItem]:
        return [self.topLevelItem(row) for row in range(self.topLevelItemCount())]

    def _fill(self, item: QTreeWidgetItem, instrument: InstrumentClass, is_hidden: bool, is_selected: bool) -> None:
        item.setData(NAME, ID_ROLE, instrument.id)
        item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
        item.setIcon(EYE, eye_icon(not is_hidden, self.palette().windowText().color()))
        item.setToolTip(EYE, "Show it in the canvas" if is_hidden else "Hide it in the canvas")
        item.setIcon(COLOR, swatch(instrument.color))
        item.setToolTip(COLOR, "Change the colour…")
        former = f"\nEarlier names: {', '.join(instrument.former_names)}" if instrument.former_names else ""
        item.setToolTip(NAME, f"Double-click to rename{former}")
        item.setTextAlignment(FRAMES, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        font = item.font(NAME)
        font.setBold(is_selected)
        item.setFont(NAME, font)

    def _on_clicked(self, item: QTreeWidgetItem, column: int) -> None:
        if column == EYE:
            self.eye_clicked.emit(item.data(NAME, ID_ROLE))
        elif column == COLOR and self._is_editable:
            self.color_clicked.emit(item.data(NAME, ID_ROLE))

    def _on_double_clicked(self, _item: QTreeWidgetItem, column: int) -> None:
        if column == NAME:
            self.edit_name()

    def _on_changed(self, item: QTreeWidgetItem, column: int) -> None:
        if column == NAME:
            self.renamed.emit(item.data(NAME, ID_ROLE), item.text(NAME))
