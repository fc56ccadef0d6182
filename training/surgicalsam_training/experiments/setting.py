"""The setting of an experiment: its data and the settings of its trainings, as in the paper or small on the phantom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.instruments import ENDOVIS2017, plain
from surgicalsam_training.baselines.mask2former import DetectorSettings
from surgicalsam_training.config import TrainingConfig, preset
from surgicalsam_training.data.opening import DatasetOptions, open_source


@dataclass(frozen=True)
class Setting:
    """
    Attributes
    ----------
    configs : one training configuration per dataset; experiments on one dataset use the first
    out : the folder of all results: trainings, tables, figures
    text : text embeddings of the class names (`text_prototypes.text_embeddings`); None: no text prototypes
    detector : the Mask2Former that the comparison trains
    comparison_notes : below the tables that compare methods
    """

    configs: tuple[TrainingConfig, ...]
    out: Path
    is_phantom: bool = False
    text: Path | None = None
    detector: DetectorSettings = field(default_factory=DetectorSettings)
    comparison_notes: tuple[str, ...] = ()

    @property
    def config(self) -> TrainingConfig:
        return self.configs[0]

    @property
    def cells(self) -> Path:
        """The folder of the trainings; experiments share those with the same settings."""
        return self.out / "cells"

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes below every table of this setting."""
        config = self.config
        names = " and ".join(path.name for one in self.configs for path in one.data)
        size = "the logits' own" if config.loss_resolution == "logits" else "the frame's"
        trained = (
            f"Each training: {config.epochs} epochs, batches of {config.batch_size} prompts, learning rate "
            f"{config.learning_rate:g} ({config.schedule}), {config.augmented_versions} augmented copies, losses at {size} "
            "size."
        )
        if self.is_phantom:
            return ("Synthetic phantom frames with the light encoder, not surgery; see the paper for real figures.", trained)
        return (f"On {names}, image encoder {config.encoder or 'of the checkpoint'}.", trained)


def data_setting(
    data: Sequence[Path],
    out: Path,
    *,
    preset_name: str | None,
    settings: Sequence[str] = (),
    together: bool = False,
    text: Path | None = None,
) -> Setting:
    """The paper's trainings on the user's own data.

    Parameters
    ----------
    preset_name : of `presets/`; None: endovis2017 for data with its classes, endovis2018 for others
    settings : as for `changed_by`
    together : all paths are one dataset; otherwise each path is one
    text : see `Setting`

    Raises
    ------
    TrainingError, ExchangeError, ProjectError
        a path cannot be read, or a setting does not fit
    """
    paths = [Path(path).expanduser().absolute() for path in data]
    groups = [paths] if together else [[path] for path in paths]
    configs = [changed_by(preset(preset_name or _preset_for(group[0])).changed(data=group), settings) for group in groups]
    return Setting(tuple(configs), out.expanduser().absolute(), text=None if text is None else text.expanduser().absolute())


def changed_by(config: TrainingConfig, settings: Sequence[str]) -> TrainingConfig:
    """The configuration with some settings changed, each written as "name=value".

    Raises
    ------
    TrainingError
        a setting has another form, is unknown, or has an invalid value
    """
    given = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals:
            raise TrainingError(f'A setting should look like epochs=20; got "{text}". Write NAME=VALUE.')
        try:
            given[name.strip().replace("-", "_")] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise TrainingError(f'A setting should look like epochs=20; got "{text}". Write NAME=VALUE.') from error
    return config.changed(**given)


def _preset_for(path: Path) -> str:
    source = open_source(path, "frame", 0, DatasetOptions())
    names = set(map(plain, source.classes.names))
    source.close()
    return "endovis2017" if names == set(map(plain, ENDOVIS2017.names)) else "endovis2018"
