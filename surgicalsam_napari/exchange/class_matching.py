"""Matches the classes of a dataset with those of a project: by name, by former name, or, after asking, by a similar name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from surgicalsam_napari.errors import ClassSetError, ExchangeError
from surgicalsam_napari.instruments import ClassSet, InstrumentClass, plain, same_classes, similar
from surgicalsam_napari.store.project_classes import ProjectClasses

NEW_CLASS, LEAVE_OUT = "new class", "leave out"  # choices besides the name of a class of the project


class MatchKind(StrEnum):
    """How a class of the dataset became a class of the project."""

    SAME_NAME = "same name"
    FORMER_NAME = "former name"
    SIMILAR_NAME = "similar name"
    CHOSEN = "chosen"
    NEW = NEW_CLASS
    LEFT_OUT = "left out"
    OPEN = "not decided"


@dataclass(frozen=True)
class ClassMatch:
    """A class of the dataset, and what it becomes.

    Attributes
    ----------
    instrument : as in the dataset
    target : the class of the project; of an open match, the one with a similar name; None if there is none
    """

    instrument: InstrumentClass
    kind: MatchKind
    target: InstrumentClass | None = None


def match_classes(
    dataset_classes: ClassSet,
    project_classes: ClassSet,
    chosen: Mapping[str, str],
    *,
    accept_similar: bool = False,
    add_classes: bool = False,
) -> tuple[ClassMatch, ...]:
    """Match each class of a dataset.

    Parameters
    ----------
    chosen : by name in the dataset, a name in the project, NEW_CLASS or LEAVE_OUT
    accept_similar : use names that differ only in `_` and `-`; if False, such a match is open
    add_classes : the other classes are new; if False, they are open

    Raises
    ------
    ExchangeError
        a choice names a class that does not exist
    """
    choices = {plain(name): choice for name, choice in chosen.items()}
    if unknown := choices.keys() - set(map(plain, dataset_classes.names)):
        listed = ", ".join(dataset_classes.names)
        raise ExchangeError(f'The dataset has no class "{min(unknown)}"; it has {listed}. Choose one of these.')
    same = same_classes(dataset_classes, project_classes)
    matches = []
    for instrument in dataset_classes:
        choice = choices.get(plain(instrument.name))
        if choice is not None:
            matches.append(_chosen(instrument, choice, project_classes))
            continue
        match = _by_name(instrument, same.get(instrument.id), project_classes)
        if match.kind is MatchKind.OPEN and match.target is not None and accept_similar:
            match = ClassMatch(instrument, MatchKind.SIMILAR_NAME, match.target)
        if match.kind is MatchKind.OPEN and match.target is None and add_classes:
            match = ClassMatch(instrument, MatchKind.NEW)
        matches.append(match)
    return tuple(matches)


def _by_name(instrument: InstrumentClass, target_id: int | None, classes: ClassSet) -> ClassMatch:
    """The match by name, which has this id in the project, else an open match with a similar name."""
    if target_id is not None:
        same = classes.by_id(target_id)
        kind = MatchKind.SAME_NAME if plain(instrument.name) == plain(same.name) else MatchKind.FORMER_NAME
        return ClassMatch(instrument, kind, same)
    wanted = set(map(similar, instrument.all_names))
    target = next((candidate for candidate in classes if wanted & set(map(similar, candidate.all_names))), None)
    return ClassMatch(instrument, MatchKind.OPEN, target)


def _chosen(instrument: InstrumentClass, choice: str, classes: ClassSet) -> ClassMatch:
    if choice == LEAVE_OUT:
        return ClassMatch(instrument, MatchKind.LEFT_OUT)
    if choice == NEW_CLASS:
        if (holder := classes.find(instrument.name)) is not None:
            raise ExchangeError(
                f"{instrument.name} cannot become a new class: it is the name, or an earlier name, of {holder.name}. Choose "
                f"{holder.name}, or leave it out."
            )
        return ClassMatch(instrument, MatchKind.NEW)
    try:
        return ClassMatch(instrument, MatchKind.CHOSEN, classes.by_name(choice))
    except ClassSetError as error:
        raise ExchangeError(f"{instrument.name} cannot become {choice}. {error}") from error


def new_classes(present: ProjectClasses, added: Sequence[InstrumentClass]) -> tuple[InstrumentClass, ...]:
    """The classes to add to a project, with ids that it has never used, without former names that mean another class."""
    class_ids = present.unused_ids(len(added))
    return tuple(
        InstrumentClass(
            class_id,
            " ".join(instrument.name.split()),
            instrument.color,
            tuple(name for name in instrument.former_names if present.in_use.find(name) is None),
        )
        for class_id, instrument in zip(class_ids, added, strict=True)
    )
