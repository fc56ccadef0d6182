"""The dropdown of instrument classes."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QModelIndex, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QPainter, QPaintEvent
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionComboBox,
    QStyleOptionViewItem,
    QStylePainter,
)

from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.widgets.parts.parts import CAPTION_WIDTH, SPACING, caption, swatch

NOT_TRAINED = "not yet trained"
EDIT = "Edit classes…"
TRAINED_ROLE = Qt.ItemDataRole.UserRole + 1
GREYED_OPACITY = 0.75  # still at a contrast of 4.5:1 in napari's themes


class ClassDelegate(QStyledItemDelegate):
    """Draws untrained classes faintly; napari's style sheet overrides a foreground colour."""

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        painter.save()
        if not index.data(TRAINED_ROLE):
            painter.setOpacity(GREYED_OPACITY)
        super().paint(painter, option, index)
        painter.restore()


class ClassPicker(QComboBox):
    """Classes with their colours; a class that the checkpoint does not know is grey, but can be painted."""

    picked = Signal(int)  # class id, chosen by the user
    edit_requested = Signal()  # the last entry, below the classes, was chosen

    def __init__(self) -> None:
        super().__init__()
        self.setIconSize(QSize(14, 14))
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        self.setMaxVisibleItems(20)
        self.setItemDelegate(ClassDelegate(self))
        self._is_choosing = False  # the list is open
        self._shown_index = -1
        self.currentIndexChanged.connect(self._on_index_changed)

    def show_classes(self, classes: ClassSet, is_trained: Callable[[int], bool]) -> None:
        """List these classes; keep the chosen id if it still exists."""
        chosen = self.class_id
        self.blockSignals(True)
        self.clear()
        for instrument in classes:
            trained = is_trained(instrument.id)
            text = instrument.name if trained else f"{instrument.name} ({NOT_TRAINED})"
            self.addItem(swatch(instrument.color, hollow=not trained), text, instrument.id)
            self.setItemData(self.count() - 1, trained, TRAINED_ROLE)
        self.insertSeparator(self.count())
        self.addItem(EDIT)
        self.setItemData(self.count() - 1, True, TRAINED_ROLE)
        self.show_class(chosen if chosen in classes.ids else classes.ids[0])
        self._shown_index = self.currentIndex()
        self.blockSignals(False)

    @property
    def class_id(self) -> int | None:
        """The id in the dropdown; None while it is empty."""
        return self.currentData()

    def show_class(self, class_id: int | None) -> None:
        """Select this class without emitting `picked`; an id that is not listed changes nothing."""
        index = -1 if class_id is None else self.findData(class_id)
        if index >= 0 and index != self.currentIndex():
            blocked = self.blockSignals(True)
            self.setCurrentIndex(index)
            self.blockSignals(blocked)
            self._shown_index = index

    def paintEvent(self, _event: QPaintEvent) -> None:
        """A name that does not fit ends with an ellipsis."""
        option, painter = QStyleOptionComboBox(), QStylePainter(self)
        self.initStyleOption(option)
        room = self.style().subControlRect(
            QStyle.ComplexControl.CC_ComboBox, option, QStyle.SubControl.SC_ComboBoxEditField, self
        )
        for_text = room.width() - self.iconSize().width() - 2 * SPACING
        option.currentText = self.fontMetrics().elidedText(option.currentText, Qt.TextElideMode.ElideRight, for_text)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)

    def showPopup(self) -> None:
        self._is_choosing = True
        super().showPopup()

    def hidePopup(self) -> None:
        super().hidePopup()
        QTimer.singleShot(0, self._stop_choosing)  # Qt changes the index after it hides the list

    def _stop_choosing(self) -> None:
        self._is_choosing = False

    def _on_index_changed(self, index: int) -> None:
        if index < 0:
            return
        if (class_id := self.itemData(index)) is not None:
            self._shown_index = index
            self.picked.emit(class_id)
            return
        blocked = self.blockSignals(True)
        self.setCurrentIndex(self._shown_index)
        self.blockSignals(blocked)
        if self._is_choosing:  # an arrow key that reaches the end of the list changes nothing
            self.edit_requested.emit()


class ClassRow(QHBoxLayout):
    """The picker with its caption, level with the fields of a panel's grid."""

    def __init__(self, picker: ClassPicker) -> None:
        super().__init__()
        self.title = caption("Class")
        self.title.setMinimumWidth(CAPTION_WIDTH)
        self.setSpacing(SPACING)
        self.addWidget(self.title)
        self.addWidget(picker, 1)

    def show_parts(self, are_shown: bool) -> None:
        """Name what is chosen: a class, or a part."""
        self.title.setText("Part" if are_shown else "Class")
