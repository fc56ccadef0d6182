"""One class set and one set of sequence names for data from several sources; classes are matched by name, not by id.

A class that was renamed matches by its former names, too (`instruments.same_classes`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.instruments import ClassSet, InstrumentClass, plain, same_classes
from surgicalsam_napari.store.locating import SUFFIX
from surgicalsam_training.data.source import AnnotatedFrame, Source


def common_classes(
    sources: Sequence[Source], base: ClassSet | None, classes: Sequence[str] | None, ignored_classes: Sequence[str]
) -> ClassSet:
    """The classes of `base` with their ids, then the other classes that the data show.

    Parameters
    ----------
    base : the classes of the checkpoint to tune; None starts from the classes of the first source, with its ids
    classes : names to train; None for all
    ignored_classes : names that count as background

    Raises
    ------
    TrainingError
        the data show a class that is not in `classes`, or no data show a class of `classes`
    """
    sets = [source.classes for source in sources]
    ignored = all_names(ignored_classes, sets)
    wanted = None if classes is None else all_names(classes, sets) - ignored
    shown = list(_shown(sources, ignored, wanted))
    if base is None:
        base = _first_classes(sources[0].classes, [instrument for _, instrument in shown], ignored, wanted)
    new = _new_to(base, shown)
    known = set().union(*(_names(instrument) for instrument in (*base, *new)))
    for name in classes or ():
        if plain(name) not in known | ignored:
            listed = ", ".join([*base.names, *(instrument.name for instrument in new)])
            raise TrainingError(
                f'"{name}" should be trained, but no corrected frame shows it (known are {listed}). Check the name, correct '
                "frames that show it, or leave it out of classes."
            )
    return ClassSet(base.name, base.classes + new) if new else base


def ids_to_common(source: Source, common: ClassSet, classes: Sequence[str] | None, ignored: Sequence[str]) -> dict[int, int]:
    """Map the source's class ids to the common ids; classes that are not trained are left out."""
    sets = (source.classes, common)
    trained = None if classes is None else all_names(classes, sets)
    left_out = all_names(ignored, sets)
    names = {instrument.id: _names(instrument) for instrument in source.classes}
    return {
        class_id: common_id
        for class_id, common_id in same_classes(source.classes, common).items()
        if (trained is None or names[class_id] & trained) and not names[class_id] & left_out
    }


def all_names(names: Sequence[str], class_sets: Sequence[ClassSet]) -> set[str]:
    """These names, and all present and former names of the classes that have one of them; in plain spelling."""
    found = {plain(name) for name in names}
    instruments = [_names(instrument) for classes in class_sets for instrument in classes]
    while more := set().union(*(known for known in instruments if known & found)) - found:
        found |= more
    return found


def unique_sequences(sources: Sequence[Source]) -> list[tuple[AnnotatedFrame, ...]]:
    """The frames of every source; equal sequence names in several sources get their folder's name as a prefix."""
    used = Counter(name for source in sources for name in {frame.sequence.casefold() for frame in source.frames})
    taken: set[str] = set()
    named = []
    for source in sources:
        names: dict[str, str] = {}
        for sequence in dict.fromkeys(frame.sequence for frame in source.frames):
            name = sequence
            if used[sequence.casefold()] > 1:
                name = f"{_naming_folder(source.path).name}/{sequence}"
            if name.casefold() in taken:
                name = f"{_naming_folder(source.path)}/{sequence}"
            names[sequence] = name
        taken |= {name.casefold() for name in names.values()}
        named.append(tuple(_renamed(frame, names[frame.sequence]) for frame in source.frames))
    return named


def _shown(
    sources: Sequence[Source], ignored: set[str], wanted: set[str] | None
) -> Iterator[tuple[ClassSet, InstrumentClass]]:
    """Every class that the data show, in the sources' order, with the class set of its source."""
    for source in sources:
        first: dict[int, AnnotatedFrame] = {}
        for frame, known, present in zip(source.frames, source.known, source.present, strict=True):
            for class_id in known & present:
                first.setdefault(class_id, frame)
        for instrument in source.classes:
            if instrument.id not in first or _names(instrument) & ignored:
                continue
            frame = first[instrument.id]
            if wanted is not None and not _names(instrument) & wanted:
                raise TrainingError(
                    f"{frame.name} of {source.path.name} shows {instrument.name}, which is not among the classes to train. "
                    "Add it to classes, or to ignored_classes (background)."
                )
            yield source.classes, instrument


def _new_to(base: ClassSet, shown: Sequence[tuple[ClassSet, InstrumentClass]]) -> tuple[InstrumentClass, ...]:
    """The classes that are not in `base`, each once, in the order in which they are shown, with free ids."""
    common = base
    for classes, instrument in shown:
        if instrument.id not in same_classes(classes, common):
            added = replace(instrument, id=max(common.ids) + 1)
            common = ClassSet(base.name, (*common, added))
    return common.classes[len(base) :]


def _first_classes(
    classes: ClassSet, shown: Sequence[InstrumentClass], ignored: set[str], wanted: set[str] | None
) -> ClassSet:
    """The classes of the first source that are trained; without any, the first class that the data show."""

    def is_trained(instrument: InstrumentClass) -> bool:
        names = _names(instrument)
        return not names & ignored and (wanted is None or bool(names & wanted))

    first = tuple(filter(is_trained, classes)) or tuple(shown[:1])
    if not first:
        raise TrainingError("No corrected frame shows a class to train. Correct frames that show instruments.")
    return ClassSet(classes.name, first)


def _names(instrument: InstrumentClass) -> set[str]:
    return {plain(name) for name in (instrument.name, *instrument.former_names)}


def _naming_folder(path: Path) -> Path:
    """The folder that distinguishes sources of the same name; a project itself is named like its video."""
    return path.parent if path.suffix == SUFFIX else path


def _renamed(frame: AnnotatedFrame, sequence: str) -> AnnotatedFrame:
    if sequence == frame.sequence:
        return frame
    return replace(frame, sequence=sequence, name=f"{sequence}/{frame.name.rpartition('/')[2]}")
