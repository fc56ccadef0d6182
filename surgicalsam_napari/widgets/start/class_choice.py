"""Which classes the queue looks for: all that the checkpoint knows, or some of them."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QMenu, QPushButton, QWidgetAction

from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.widgets.parts.parts import swatch

ALL = "All classes"


class ClassChoice(QPushButton):
    """A button with a menu of classes; it stays open while classes are checked."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setAutoDefault(False)
        self.setToolTip("The classes to look for in the queued videos; the names are those that the checkpoint knows")
        self.setMenu(QMenu(self))
        self.boxes: list[QCheckBox] = []
        self._update_text()

    def show_classes(self, classes: ClassSet | None) -> None:
        """Offer the classes of a checkpoint, all checked; None: there is no checkpoint yet. Known ones keep their choice."""
        unchecked = {box.text() for box in self.boxes if not box.isChecked()}
        self.menu().clear()
        self.boxes = []
        for instrument in classes or ():
            box = QCheckBox(instrument.name)
            box.setIcon(swatch(instrument.color))
            box.setStyleSheet("padding: 4px 10px;")
            box.setChecked(instrument.name not in unchecked)
            box.toggled.connect(lambda _checked: self._update_text())
            action = QWidgetAction(self.menu())
            action.setDefaultWidget(box)
            self.menu().addAction(action)
            self.boxes.append(box)
        self._update_text()

    def chosen(self) -> tuple[str, ...] | None:
        """The names of the checked classes; empty for all; None if none is checked."""
        names = tuple(box.text() for box in self.boxes if box.isChecked())
        if len(names) == len(self.boxes):
            return ()
        return names or None

    def _update_text(self) -> None:
        chosen = self.chosen()
        if chosen is None:
            self.setText("No class")
        elif not chosen:
            self.setText(ALL)
        else:
            self.setText(chosen[0] if len(chosen) == 1 else f"{len(chosen)} of {len(self.boxes)} classes")
        self.changed.emit()
