"""The form of a training: start checkpoint, length, and all other settings under *More settings*."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QSizePolicy, QSpinBox, QToolButton

from surgicalsam_napari.remote.address import is_address
from surgicalsam_napari.widgets.parts.parts import ElidedLabel, Panel, caption
from surgicalsam_napari.widgets.source.model_panel import LoadedFrom
from surgicalsam_napari.widgets.train.parts import BAD_COLOR, colored_note
from surgicalsam_napari.widgets.train.setting_groups import plain_title
from surgicalsam_napari.widgets.train.settings import START_PRESET, TrainingSettings, problems_with, setting_names
from surgicalsam_training.config import TrainingConfig, parse_config, preset

MOST_EPOCHS, MOST_MINUTES = 100_000, 10_000
NO_LIMIT = "no limit"
FROM_SAM = "SAM's decoder, new prototypes"
MORE_STYLE = "QToolButton { border: none; background: transparent; padding: 2px 0px; }"


class TrainingForm(Panel):
    """Fields whose values make a TrainingConfig; `changed` is emitted for each change."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__("")
        self.heading.hide()
        self._start = LoadedFrom()
        self._start_title = ""
        self._build()
        self.settings.changed.connect(self._on_changed)
        self.settings.preset_chosen.connect(self.show_preset)
        self.more.toggled.connect(self._on_more)
        for field in (self.epochs, self.minutes):
            field.valueChanged.connect(self._on_changed)
        self.show_preset(START_PRESET)

    def show_preset(self, name: str) -> None:
        """Fill every field with a preset's values."""
        config = preset(name)
        self.settings.show_preset(name)
        self.epochs.setValue(config.epochs)
        self.minutes.setValue(round(config.minutes or 0))

    def show_start(self, start: LoadedFrom, title: str) -> None:
        """Start the training from this checkpoint, listed under this title."""
        self._start, self._start_title = start, title
        self._show_start()

    @property
    def trust(self) -> str:
        return self.settings.values()["trust"]

    @property
    def problem(self) -> str | None:
        """Why the values are not a valid configuration; the form already shows it."""
        problems = problems_with(self._values(()))
        return next(iter(problems.values()), None)

    def config(self, data: Sequence[Path]) -> TrainingConfig:
        """The configuration; a TrainingError if a value is not valid."""
        return parse_config(self._values(data))

    def _values(self, data: Sequence[Path]) -> dict[str, Any]:
        values = self.settings.values()
        from_sam = values["encoder"] is not None
        return {
            **values,
            "data": tuple(data),
            "checkpoint": None if from_sam else self._start.checkpoint,
            "encoder_weights": None if from_sam else self._start.encoder_weights,
            "device": "auto" if is_address(self._start.device) else self._start.device,  # a worker only embeds frames
            "epochs": self.epochs.value(),
            "minutes": self.minutes.value() or None,
        }

    def _build(self) -> None:
        self.start = ElidedLabel()
        self.epochs, self.minutes = _number_field(1, MOST_EPOCHS), _number_field(0, MOST_MINUTES)
        self.epochs.setToolTip("Epochs: each round uses every corrected frame once")
        self.minutes.setToolTip("Stop after this many minutes, at any round; 0 sets no limit")
        self.minutes.setSpecialValueText(NO_LIMIT)
        self.epochs.setSuffix(" rounds")
        self.minutes.setSuffix(" min")
        grid = self.add_grid()
        grid.addWidget(caption("Start from"), 0, 0)
        grid.addWidget(self.start, 0, 1)
        grid.addWidget(caption("Train for"), 1, 0)
        grid.addWidget(self.epochs, 1, 1)
        grid.addWidget(caption("At most"), 2, 0)
        grid.addWidget(self.minutes, 2, 1)
        self.more = QToolButton()
        self.more.setText("More settings")
        self.more.setCheckable(True)
        self.more.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.more.setArrowType(Qt.ArrowType.RightArrow)
        self.more.setStyleSheet(MORE_STYLE)
        self.settings, self.problem_note = TrainingSettings(), colored_note(BAD_COLOR)
        for widget in (self.more, self.settings, self.problem_note):
            self.column.addWidget(widget)
        self.settings.hide()
        self.problem_note.hide()

    def _show_start(self) -> None:
        encoder = self.settings.values()["encoder"]
        self.start.setText(self._start_title if encoder is None else f"{FROM_SAM} ({encoder})")
        self.start.setToolTip(
            str(self._start.checkpoint or "The model in use; choose another under Model")
            if encoder is None
            else "As chosen under More settings, Image encoder"
        )

    def _on_more(self, is_open: bool) -> None:
        self.more.setArrowType(Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow)
        self.settings.setVisible(is_open)
        self._show_problems()

    def _on_changed(self) -> None:
        self._show_start()
        self._show_problems()
        self.changed.emit()

    def _show_problems(self) -> None:
        problems = problems_with(self._values(()))
        self.settings.show_problems(problems)
        is_seen = self.more.isChecked() and problems.keys() <= set(setting_names())
        self.problem_note.setText("" if is_seen or not problems else _sentence(*next(iter(problems.items()))))
        self.problem_note.setVisible(bool(self.problem_note.text()))


def _sentence(name: str, problem: str) -> str:
    """The problem with the title of its field, which is not in view."""
    return f"{plain_title(name)}: {problem}" if name in TrainingConfig.model_fields else problem


def _number_field(least: int, most: int) -> QSpinBox:
    box = QSpinBox()
    box.setRange(least, most)
    box.setButtonSymbols(QSpinBox.ButtonSymbols.NoButtons)
    box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    box.setStyleSheet("QSpinBox { min-width: 30px; }")
    return box
