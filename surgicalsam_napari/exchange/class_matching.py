"""Matches the classes of a dataset with those of a project: by name, by former name, or, after asking, by a similar name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from surgicalsam_napari.errors import ClassSetError, ExchangeError
from surgicalsam_napari.instruments import LARGEST_CLASS_ID, ClassSet, InstrumentClass, plain, similar

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
    dataset_classes: Iterable[InstrumentClass],
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
    classes = tuple(dataset_classes)
    if unknown := choices.keys() - {plain(instrument.name) for instrument in classes}:
        listed = ", ".join(instrument.name for instrument in classes)
        raise ExchangeError(f'The dataset has no class "{min(unknown)}"; it has {listed}. Choose one of these.')
    matches = []
    for instrument in classes:
        choice = choices.get(plain(instrument.name))
        if choice is not None:
            matches.append(_chosen(instrument, choice, project_classes))
            continue
        match = _by_name(instrument, project_classes)
        if match.kind is MatchKind.OPEN and match.target is not None and accept_similar:
            match = ClassMatch(instrument, MatchKind.SIMILAR_NAME, match.target)
        if match.kind is MatchKind.OPEN and match.target is None and add_classes:
            match = ClassMatch(instrument, MatchKind.NEW)
        matches.append(match)
    return tuple(matches)


def _by_name(instrument: InstrumentClass, classes: ClassSet) -> ClassMatch:
    for kind, key, names_of in (
        (MatchKind.SAME_NAME, plain, _name),
        (MatchKind.FORMER_NAME, plain, _former_names),
        (MatchKind.OPEN, similar, _all_names),
    ):
        for candidate in classes:
            if key(instrument.name) in map(key, names_of(candidate)):
                return ClassMatch(instrument, kind, candidate)
    return ClassMatch(instrument, MatchKind.OPEN)


def _name(instrument: InstrumentClass) -> tuple[str, ...]:
    return (instrument.name,)


def _former_names(instrument: InstrumentClass) -> tuple[str, ...]:
    return tuple(getattr(instrument, "former_names", ()))


def _all_names(instrument: InstrumentClass) -> tuple[str, ...]:
    return (instrument.name, *_former_names(instrument))


def _chosen(instrument: InstrumentClass, choice: str, classes: ClassSet) -> ClassMatch:
    if choice == LEAVE_OUT:
        return ClassMatch(instrument, MatchKind.LEFT_OUT)
    if choice == NEW_CLASS:
        return ClassMatch(instrument, MatchKind.NEW)
    try:
        return ClassMatch(instrument, MatchKind.CHOSEN, classes.by_name(choice))
    except ClassSetError as error:
        raise ExchangeError(f"{instrument.name} cannot become {choice}. {error}") from error


def new_classes(added: Iterable[InstrumentClass], free_ids: Sequence[int]) -> tuple[InstrumentClass, ...]:
    """The classes to add to a project, with ids that it does not use."""
    described = [(" ".join(c.name.split()), c.color) for c in added]
    if len(described) > len(free_ids):
        raise ClassSetError(
            f"{len(described)} new classes need as many free class ids up to {LARGEST_CLASS_ID}, but the project has only "
            f"{len(free_ids)}. Leave some classes out, or import into a project with smaller class ids."
        )
    return tuple(InstrumentClass(class_id, *of) for class_id, of in zip(free_ids, described, strict=False))
