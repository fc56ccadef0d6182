"""The fields of the import dialog that say how to read a dataset: its sequence, class names and names of frames."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QGridLayout, QLabel, QLineEdit, QWidget

from surgicalsam_napari.exchange.dataset import Dataset
from surgicalsam_napari.exchange.frame_names import PATTERN_HELP
from surgicalsam_napari.exchange.matching import sequence_sizes
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.instruments import CLASS_SETS, ClassSet
from surgicalsam_napari.widgets.exchange.import_options import CAPTIONS
from surgicalsam_napari.widgets.parts.parts import SPACING, caption

AS_IN_DATASET, AS_IN_PROJECT, BY_NAME = "As in the dataset", "As in this project", "Find it by the names"


class ReadingFields(QWidget):
    """A row for each field; those that a dataset does not need are hidden.

    Signals
    -------
    changed : class names or the pattern; the dataset must be read again
    sequence_chosen : another sequence; the dataset must be checked again
    """

    changed = Signal()
    sequence_chosen = Signal()

    def __init__(self, project_classes: ClassSet) -> None:
        super().__init__()
        self.names, self.sequence, self.pattern = QComboBox(), QComboBox(), QLineEdit()
        self.names.addItem(AS_IN_DATASET, None)
        self.names.addItem(AS_IN_PROJECT, project_classes)
        for class_set in CLASS_SETS.values():
            self.names.addItem(f"As in {class_set.name}", class_set)
        self.names.setToolTip("The class names of a dataset that has only class numbers")
        self.pattern.setPlaceholderText("only if frames are read wrongly, such as {video}_{frame}_*")
        self.pattern.setToolTip(f"How to read the names of the frames: {PATTERN_HELP}. Press Enter to read them again.")
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(SPACING)
        grid.setVerticalSpacing(SPACING)
        grid.setColumnMinimumWidth(0, CAPTIONS)
        grid.setColumnStretch(1, 1)
        self._captions: dict[QWidget, QLabel] = {}
        rows = (("Sequence", self.sequence), ("Class names", self.names), ("Name pattern", self.pattern))
        for row, (title, field) in enumerate(rows):
            self._captions[field] = label = caption(title)
            grid.addWidget(label, row, 0)
            grid.addWidget(field, row, 1)
        for field in (self.sequence, self.names):
            self._show(field, False)
        self.names.currentIndexChanged.connect(lambda _index: self.changed.emit())
        self.pattern.returnPressed.connect(self.changed.emit)
        self.sequence.currentIndexChanged.connect(lambda _index: self.sequence_chosen.emit())

    def show_sequences(self, dataset: Dataset) -> None:
        """List the sequences, if there are several."""
        sizes = sequence_sizes(dataset)
        self.sequence.blockSignals(True)
        self.sequence.clear()
        self.sequence.addItem(BY_NAME, None)
        for name, count in sizes.items():
            self.sequence.addItem(f"{name} ({counted(count, 'frame')})", name)
        self.sequence.blockSignals(False)
        self._show(self.sequence, len(sizes) > 1)

    def offer_class_names(self) -> None:
        """Show the field of class names: the dataset could not be read without."""
        self._show(self.names, True)

    def _show(self, field: QWidget, is_shown: bool) -> None:
        field.setVisible(is_shown)
        self._captions[field].setVisible(is_shown)
