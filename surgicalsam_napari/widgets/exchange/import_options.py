"""The choices of the import dialog: what each class becomes, frames without annotations, overlapping masks."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QGridLayout, QLabel, QVBoxLayout, QWidget

from surgicalsam_napari.exchange.class_matching import LEAVE_OUT, NEW_CLASS, ClassMatch, MatchKind
from surgicalsam_napari.exchange.import_plan import ImportChoices, ImportPlan, plan_import
from surgicalsam_napari.exchange.import_preview import preview_lines, shown_classes
from surgicalsam_napari.exchange.overlaps import FILE_ORDER, LARGER_BELOW
from surgicalsam_napari.exchange.survey import ImportSurvey
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store import Project
from surgicalsam_napari.widgets.parts.parts import SPACING, caption, note, swatch
from surgicalsam_napari.widgets.parts.theme import WARNING, set_look

CAPTIONS = 132  # pixels; the width of the captions in the dialog
CHOOSE = "Choose…"
TEXTS = ("Frames", "Skipped", "Your work", "Tracks", "Parts", "Note")  # lines of the preview that are shown as they are


class ImportOptions(QWidget):
    """The plan in words, with a field for each choice."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.class_fields: dict[str, QComboBox] = {}  # by name in the dataset
        self.unannotated, self.overlaps = QComboBox(), QComboBox()
        self.unannotated.addItem("Leave them alone", False)
        self.unannotated.addItem("They show no instrument", True)
        self.unannotated.setToolTip("Frames that the dataset lists without any annotation")
        self.overlaps.setToolTip("Which class a pixel gets if masks of two classes cover it")
        self.texts = {name: note() for name in (*TEXTS, "unannotated", "overlaps")}
        self._captions: dict[str, QLabel] = {}
        self._classes = QGridLayout()
        self._build()
        for field in (self.unannotated, self.overlaps):
            field.currentIndexChanged.connect(lambda _index: self.changed.emit())

    def show_survey(self, survey: ImportSurvey) -> ImportPlan:
        """Fill the fields for a dataset, with suggestions; returns the plan that follows them."""
        plan = plan_import(survey, ImportChoices(accept_similar=True, add_classes=True))
        self._show_classes(plan, survey.project_classes)
        for field in (self.unannotated, self.overlaps):
            field.blockSignals(True)
        self.unannotated.setCurrentIndex(0)
        self._show_orders(plan)
        for field in (self.unannotated, self.overlaps):
            field.blockSignals(False)
        return plan_import(survey, self.choices())

    def choices(self) -> ImportChoices:
        """The choices as they are now."""
        return ImportChoices(
            classes={name: field.currentData() for name, field in self.class_fields.items()},
            add_classes=True,  # of classes that only other frames show
            unannotated_are_empty=bool(self.unannotated.currentData()),
            overlaps=self.overlaps.currentData(),
        )

    def show_plan(self, plan: ImportPlan, project: Project) -> None:
        """Say what the plan will do."""
        lines: dict[str, list[str]] = {}
        for line in preview_lines(plan, project):
            lines.setdefault(line.caption, []).append(line.text)
        for name in TEXTS:
            self._show_row(name, "; ".join(lines.get(name, ())))
        count = sum(not one.is_annotated for one in plan.survey.frames)
        self._show_row("unannotated", f"{counted(count, 'frame')} in the dataset" if count else "", self.unannotated)
        self._show_row("overlaps", _overlaps_in_words(plan), self.overlaps)

    def _build(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2 * SPACING)
        grid = QGridLayout()
        grid.setHorizontalSpacing(SPACING)
        grid.setVerticalSpacing(SPACING)
        grid.setColumnMinimumWidth(0, CAPTIONS)
        grid.setColumnStretch(1, 1)
        rows: tuple[tuple[str, str, QWidget | None], ...] = (
            ("Frames", "Frames", None),
            ("unannotated", "Without annotations", self.unannotated),
            ("overlaps", "Overlaps", self.overlaps),
            ("Tracks", "Tracks", None),
            ("Parts", "Parts", None),
            ("Note", "Note", None),
            ("Skipped", "Skipped", None),
            ("Your work", "Your work", None),
        )
        for row, (name, title, field) in enumerate(rows):
            self._captions[name] = label = caption(title)
            grid.addWidget(label, 2 * row, 0, Qt.AlignmentFlag.AlignTop)
            grid.addWidget(self.texts[name], 2 * row, 1)
            if field is not None:
                grid.addWidget(field, 2 * row + 1, 1)
        column.addLayout(grid)
        self._classes.setHorizontalSpacing(2 * SPACING)
        self._classes.setVerticalSpacing(SPACING)
        self._classes.setColumnStretch(2, 1)
        column.addLayout(self._classes)

    def _show_row(self, name: str, text: str, field: QWidget | None = None) -> None:
        self.texts[name].setText(text)
        for widget in (self._captions[name], self.texts[name], *(() if field is None else (field,))):
            widget.setVisible(bool(text))

    def _show_classes(self, plan: ImportPlan, classes: ClassSet) -> None:
        """A row for each class: its name, its frames, and what it becomes."""
        while (item := self._classes.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.hide()
                widget.deleteLater()
        self.class_fields = {}
        for column, title in enumerate(("Class in the dataset", "Frames", "Becomes")):
            self._classes.addWidget(note(title), 0, column)
        row = 0
        for match, count in shown_classes(plan):
            row += 2
            field = _class_field(match, classes)
            field.currentIndexChanged.connect(lambda _index: self.changed.emit())
            self.class_fields[match.instrument.name] = field
            self._classes.addWidget(caption(match.instrument.name), row, 0)
            self._classes.addWidget(note(f"{count:,}"), row, 1)
            self._classes.addWidget(field, row, 2)
            if match.kind is MatchKind.SIMILAR_NAME:
                check = note("A similar name: please check.")
                set_look(check, tone=WARNING)
                self._classes.addWidget(check, row + 1, 2)

    def _show_orders(self, plan: ImportPlan) -> None:
        self.overlaps.clear()
        self.overlaps.addItem(CHOOSE, None)
        self.overlaps.addItem("Smaller masks on top", LARGER_BELOW)
        self.overlaps.addItem("Later masks in the file on top", FILE_ORDER)
        overlapping = {class_id for one in plan.overlapping for overlap in one.overlaps for class_id in overlap.class_ids}
        for class_id in sorted(overlapping):
            name = plan.survey.dataset.classes.by_id(class_id).name
            self.overlaps.addItem(f"{name} on top", name)


def _class_field(match: ClassMatch, classes: ClassSet) -> QComboBox:
    """A dropdown of what a class of the dataset becomes, with the suggestion chosen."""
    field = QComboBox()
    for instrument in classes:
        field.addItem(swatch(instrument.color), instrument.name, instrument.name)
    field.insertSeparator(field.count())
    field.addItem("Add it as a new class", NEW_CLASS)
    field.addItem("Leave it out (background)", LEAVE_OUT)
    suggestion = NEW_CLASS if match.target is None else match.target.name
    field.setCurrentIndex(field.findData(suggestion))
    return field


def _overlaps_in_words(plan: ImportPlan) -> str:
    if not plan.overlapping:
        return ""
    pixels = sum(overlap.pixels for one in plan.overlapping for overlap in one.overlaps)
    return f"{counted(len(plan.overlapping), 'frame')}, {counted(pixels, 'pixel')} that two classes share. Which is on top?"
