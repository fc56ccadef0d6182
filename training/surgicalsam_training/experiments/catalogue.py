"""The experiments by name, and the files that each writes."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from surgicalsam_napari.errors import TrainingError
from surgicalsam_training.experiments import comparison, figures, jitter, speed, studies
from surgicalsam_training.experiments.comparison import has_folds
from surgicalsam_training.experiments.figures import Figure
from surgicalsam_training.experiments.sets import EIGHT, FIRST, SECOND, PhantomSet
from surgicalsam_training.experiments.setting import Setting
from surgicalsam_training.experiments.stage import Stage
from surgicalsam_training.scoring.tables import Table, write_table


@dataclass(frozen=True)
class Outcome:
    """The result of an experiment: a table with the experiment's name, and pictures."""

    name: str
    table: Table | None
    figures: tuple[Figure, ...] = ()


Run = Callable[[Setting], Generator[Stage, None, Outcome]]


@dataclass(frozen=True)
class Experiment:
    """
    Attributes
    ----------
    title : one line for the user
    fewest, most : number of datasets that it accepts
    phantom_sets : the datasets of its small version
    needs_folds : whether it needs EndoVis 2017 with its folds
    """

    name: str
    title: str
    run: Run
    fewest: int = 1
    most: int = 1
    phantom_sets: tuple[PhantomSet, ...] = (FIRST, SECOND)
    needs_folds: bool = False

    def fits(self, setting: Setting) -> bool:
        """Whether the setting has the datasets that it needs."""
        return len(setting.configs) >= self.fewest and (not self.needs_folds or any(map(has_folds, setting.configs)))


def _tabled(name: str, make: Callable[[Setting], Generator[Stage, None, Table]]) -> Run:
    def run(setting: Setting) -> Generator[Stage, None, Outcome]:
        return Outcome(name, (yield from make(setting)))

    return run


def _figure2(setting: Setting) -> Generator[Stage, None, Outcome]:
    table, figure = yield from jitter.figure2(setting)
    return Outcome("fig2", table, (figure,))


def _figures(setting: Setting) -> Generator[Stage, None, Outcome]:
    return Outcome("figures", None, tuple((yield from figures.figures(setting))))


EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment("table1", "SurgicalSAM, the baselines and published figures", _tabled("table1", comparison.table1)),
        Experiment(
            "table2",
            "the same in four folds (EndoVis 2017)",
            _tabled("table2", comparison.table2),
            most=2,
            phantom_sets=(EIGHT,),
            needs_folds=True,
        ),
        Experiment("fig2", "SAM's accuracy with inexact boxes", _figure2),
        Experiment("table3", "tokens per class, learned and fixed prototypes", _tabled("table3", studies.table3)),
        Experiment("table4", "trained on one dataset, tested on another", _tabled("table4", studies.table4), 2, 2),
        Experiment("table5", "speed and memory", _tabled("table5", speed.table5)),
        Experiment("table6", "effect of each part of the prompts", _tabled("table6", studies.table6)),
        Experiment("table7", "three further seeds", _tabled("table7", studies.table7)),
        Experiment("figures", "masks beside the truth, similarity maps", _figures, 1, 2),
    )
}


def experiment_named(name: str) -> Experiment:
    """One of `EXPERIMENTS`; a TrainingError if there is no such name."""
    if name not in EXPERIMENTS:
        raise TrainingError(f'There is no experiment "{name}". Choose one of {", ".join(EXPERIMENTS)}.')
    return EXPERIMENTS[name]


def run_experiment(experiment: Experiment, setting: Setting) -> Generator[Stage, None, Outcome]:
    """Run an experiment, and write `<name>.md`, `.csv`, `.json` and its pictures into the setting's folder.

    Results of an earlier run with the same settings are used again. Closing the generator stops the run; running it again
    resumes it.

    Raises
    ------
    SurgicalSAMError
        the data or settings do not fit, or a file cannot be written
    """
    outcome = yield from experiment.run(setting)
    if outcome.table is not None:
        write_table(outcome.table, setting.out, experiment.name)
    return outcome


def written(outcome: Outcome, setting: Setting) -> list[Path]:
    """The files of an outcome."""
    tables = (
        [] if outcome.table is None else [setting.out / f"{outcome.name}{suffix}" for suffix in (".md", ".csv", ".json")]
    )
    return [*tables, *(figure.path for figure in outcome.figures)]
