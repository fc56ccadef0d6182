"""The other settings of a training: fields that magicgui makes from the configuration's model."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge
from magicgui.widgets import CheckBox, ComboBox, LineEdit, SpinBox
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QGridLayout, QSizePolicy, QWidget

from surgicalsam_napari.widgets.parts.parts import SPACING, caption
from surgicalsam_napari.widgets.train.parts import BAD_COLOR, WheelGuard, colored_note
from surgicalsam_training.config import TrainingConfig, preset, preset_names

START_PRESET = "quick"
SET_ELSEWHERE = {"data", "checkpoint", "encoder_weights", "device", "epochs", "minutes"}  # elsewhere in this dock
ABLATIONS = {"prototypes", "prototypes_file", "dense_prompts", "sparse_prompts", "marks"}  # only on the command line
OF_DATASETS = {"data_classes", "frame_pattern", "overlaps", "unannotated"}  # the window trains on projects
LARGEST_NUMBER = 1_000_000
INVALID_STYLE = f"border: 1px solid {BAD_COLOR};"
EMPTY = "–"


class TrainingSettings(QWidget):
    """A dropdown of presets over a field for each setting; a problem with a value is shown under its field."""

    changed = Signal()
    preset_chosen = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.preset = QComboBox()
        self.preset.addItems(preset_names())
        self.fields: dict[str, Any] = {}  # magicgui widgets by the setting's name
        self.problems = {name: colored_note(BAD_COLOR) for name in setting_names()}
        self._wheel_guard = WheelGuard(self)
        self._is_showing = False
        self._lay_out()
        self.preset.activated.connect(lambda _index: self.preset_chosen.emit(self.preset.currentText()))

    def show_preset(self, name: str) -> None:
        """Fill the fields with a preset's values."""
        self.preset.setCurrentText(name)
        # a preset names validation sequences of its own dataset
        self.show_config(preset(name).changed(validation=()))

    def show_config(self, config: TrainingConfig) -> None:
        """Fill the fields with these values."""
        self._is_showing = True
        for name, field in self.fields.items():
            value = getattr(config, name)
            field.value = _as_text(value) if isinstance(field, LineEdit) else value
        self._is_showing = False
        self.changed.emit()

    def values(self) -> dict[str, Any]:
        """The values of the fields, not yet validated; an empty line means the default if the setting may be empty."""
        return {name: _entered(name, field.value) for name, field in self.fields.items()}

    def show_problems(self, problems: dict[str, str]) -> None:
        """Mark the fields with invalid values and say why; clear the marks of the others."""
        for name, label in self.problems.items():
            label.setText(problems.get(name, ""))
            label.setVisible(name in problems)
            self.fields[name].native.setStyleSheet(INVALID_STYLE if name in problems else "")

    def _lay_out(self) -> None:
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(SPACING)
        grid.setVerticalSpacing(4)
        grid.setColumnStretch(1, 1)
        grid.addWidget(caption("Preset"), 0, 0)
        grid.addWidget(self.preset, 0, 1)
        self.preset.setToolTip("quick: for a few corrected frames; the others have the values of the paper")
        self._wheel_guard.guard(self.preset)
        for position, (name, info) in enumerate(settings()):
            field = self.fields[name] = field_for(name, info)
            if isinstance(field, LineEdit) and info.default in (None, ()):
                field.native.setPlaceholderText(EMPTY)
            field.changed.connect(self._on_changed)
            title = caption(field.label)
            for widget in (title, field.native):
                widget.setToolTip(info.description or "")
            field.native.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            self._wheel_guard.guard(field.native)
            row = 2 * position + 1
            grid.addWidget(title, row, 0)
            grid.addWidget(field.native, row, 1)
            grid.addWidget(self.problems[name], row + 1, 0, 1, 2, Qt.AlignmentFlag.AlignTop)
            self.problems[name].hide()

    def _on_changed(self) -> None:
        if not self._is_showing:
            self.changed.emit()


def settings() -> Iterator[tuple[str, FieldInfo]]:
    """Name and description of every setting that has a field here."""
    without = SET_ELSEWHERE | ABLATIONS | OF_DATASETS
    return ((name, info) for name, info in TrainingConfig.model_fields.items() if name not in without)


def setting_names() -> list[str]:
    return [name for name, _ in settings()]


def problems_with(values: dict[str, Any]) -> dict[str, str]:
    """The problems of these values of a TrainingConfig, by the setting's name; "" if several settings are concerned."""
    try:
        TrainingConfig.model_validate(values)
    except ValidationError as error:
        problems: dict[str, str] = {}
        for problem in error.errors():
            name = str(problem["loc"][0]) if problem["loc"] else ""
            message = problem["msg"].removeprefix("Value error, ").split(", unable")[0]
            problems.setdefault(name, message[:1].upper() + message[1:] + ".")
        return problems
    return {}


def field_for(name: str, info: FieldInfo) -> Any:
    """A magicgui widget for one setting: a dropdown, a box to tick, a whole number, or else a line of text."""
    title = info.title or name
    choices = _choices(info.annotation)
    if choices:
        return ComboBox(name=name, label=title, choices=choices)
    if info.annotation is bool:
        box = CheckBox(name=name, label=title)
        box.text = ""  # the title stands beside it, as with every field
        return box
    if info.annotation is int:
        least: Any = next((bound.ge for bound in info.metadata if isinstance(bound, Ge)), 0)
        return SpinBox(name=name, label=title, min=least, max=LARGEST_NUMBER)
    return LineEdit(name=name, label=title)  # real numbers, lists of names, and optional values


def _choices(annotation: Any) -> list[tuple[str, Any]]:
    """Label and value of each; empty if any value is possible."""
    options = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    literals = [option for option in options if get_origin(option) is Literal]
    none = [(EMPTY, None)] if literals and type(None) in options else []
    return none + [(str(value), value) for literal in literals for value in get_args(literal)]


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def _entered(name: str, value: Any) -> Any:
    """The value of a line of text: names separated by commas, a text, or None."""
    if not isinstance(value, str):
        return value
    info = TrainingConfig.model_fields[name]
    if "tuple" in str(info.annotation):
        names = tuple(part.strip() for part in value.split(",") if part.strip())
        return names or info.default
    text = value.strip()
    return None if not text and info.default is None else text
