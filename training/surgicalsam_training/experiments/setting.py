"""What an experiment is run on: data and the settings of its trainings, as in the paper or small on the phantom."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.instruments import ENDOVIS2017
from surgicalsam_training.config import TrainingConfig, preset
from surgicalsam_training.data.opening import open_source


@dataclass(frozen=True)
class Stage:
    """How far an experiment is: `done` of `total` of what the title names."""

    title: str
    done: int
    total: int


@dataclass(frozen=True)
class Setting:
    """
    Attributes
    ----------
    configs : of the training on each dataset; experiments on one dataset take the first
    out : the folder of all that is made: trainings, tables, figures
    """

    configs: tuple[TrainingConfig, ...]
    out: Path
    is_phantom: bool = False

    @property
    def config(self) -> TrainingConfig:
        return self.configs[0]

    @property
    def cells(self) -> Path:
        """Where the trainings lie; experiments share those of the same settings."""
        return self.out / "cells"

    @property
    def notes(self) -> tuple[str, ...]:
        """What every table of this setting says about itself."""
        config = self.config
        names = " and ".join(path.name for one in self.configs for path in one.data)
        size = "the logits' own" if config.loss_resolution == "logits" else "the frame's"
        trained = (
            f"Each training: {config.epochs} epochs, batches of {config.batch_size} prompts, learning rate "
            f"{config.learning_rate:g} ({config.schedule}), {config.augmented_versions} augmented copies, losses at {size} "
            "size."
        )
        if self.is_phantom:
            return ("Drawn phantom frames on the demo encoder, not surgery; see the paper for real figures.", trained)
        return (f"On {names}, image encoder {config.encoder or 'of the checkpoint'}.", trained)


def phantom_setting(out: Path, settings: Sequence[str] = ()) -> Generator[Stage, None, Setting]:
    """The small version: two phantom datasets, drawn where they are missing, and trainings of about two minutes each.

    Parameters
    ----------
    settings : as for `changed_by`
    """
    from surgicalsam_training.experiments.sets import FIRST, SECOND, write_set

    out = out.expanduser().absolute()  # the trainings keep the paths of their data, which must hold from anywhere
    configs = []
    for phantom in (FIRST, SECOND):
        path = yield from write_set(out / "data", phantom, TRAINING_FRAMES, VALIDATION_FRAMES)
        config = preset("endovis2018").changed(**PHANTOM_SETTINGS, data=[path], validation=phantom.validation_names)
        configs.append(changed_by(config, settings))
    return Setting(tuple(configs), out, is_phantom=True)


# The paper's losses and optimiser on a hundredth of its data and its epochs: smaller batches, so that there are enough
# steps; five times its learning rate, so that new prototypes, which are long vectors of noise, can turn to their classes in
# so few; and a rate that falls, so that ten epochs end in rest.
PHANTOM_SETTINGS: dict[str, Any] = {
    "encoder": "demo",
    "epochs": 10,
    "validate_every": 5,
    "learning_rate": 5e-3,
    "schedule": "cosine",
    "batch_size": 8,
    "micro_batch_size": 8,
    "augmented_versions": 0,
    "loss_resolution": "logits",
}
TRAINING_FRAMES, VALIDATION_FRAMES = 5, 5  # of each clip


def data_setting(
    data: Sequence[Path], out: Path, *, preset_name: str | None, settings: Sequence[str] = (), together: bool = False
) -> Setting:
    """The paper's trainings on data of a reader's own.

    Parameters
    ----------
    preset_name : of `presets/`; None takes endovis2017 for data with its classes, and endovis2018 for any other
    settings : as for `changed_by`
    together : all paths are one dataset, rather than each of them one

    Raises
    ------
    TrainingError, ExchangeError, ProjectError
        a path cannot be read, or a setting does not fit
    """
    paths = [Path(path).expanduser().absolute() for path in data]
    groups = [paths] if together else [[path] for path in paths]
    configs = [changed_by(preset(preset_name or _preset_for(group[0])).changed(data=group), settings) for group in groups]
    return Setting(tuple(configs), out.expanduser().absolute())


def changed_by(config: TrainingConfig, settings: Sequence[str]) -> TrainingConfig:
    """The configuration with some settings changed, each written as "name=value".

    Raises
    ------
    TrainingError
        one is not written so, is not known, or has a value that does not fit
    """
    given = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals:
            raise TrainingError(f'A setting looks like epochs=20; got "{text}".')
        try:
            given[name.strip().replace("-", "_")] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise TrainingError(f'A setting looks like epochs=20; got "{text}".') from error
    return config.changed(**given)


def _preset_for(path: Path) -> str:
    source = open_source(path, "frame", 0)
    names = {name.casefold() for name in source.classes.names}
    source.close()
    return "endovis2017" if names == {name.casefold() for name in ENDOVIS2017.names} else "endovis2018"
