"""One class set and one set of sequence names for data from several sources; classes are matched by name, not by id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.instruments import ClassSet, InstrumentClass, plain
from surgicalsam_napari.store.project import SUFFIX
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
    ignored = {plain(name) for name in ignored_classes}
    wanted = None if classes is None else {plain(name) for name in classes} - ignored
    shown = {plain(instrument.name): instrument for _, instrument in _shown(sources, ignored, wanted)}
    if base is None:
        base = _first_classes(sources[0].classes, shown, ignored, wanted)
    base_names = {plain(name) for name in base.names}
    new = tuple(instrument for name, instrument in shown.items() if name not in base_names)
    for name in classes or ():
        if plain(name) not in base_names | shown.keys() | ignored:
            listed = ", ".join([*base.names, *(instrument.name for instrument in new)])
            raise TrainingError(
                f'"{name}" should be trained, but no corrected frame shows it (known are {listed}). Check the name, correct '
                "frames that show it, or leave it out of classes."
            )
    ids = range(max(base.ids) + 1, max(base.ids) + 1 + len(new))
    added = tuple(replace(instrument, id=class_id) for instrument, class_id in zip(new, ids, strict=True))
    return ClassSet(base.name, base.classes + added) if added else base


def ids_to_common(source: Source, common: ClassSet, classes: Sequence[str] | None, ignored: Sequence[str]) -> dict[int, int]:
    """Map the source's class ids to the common ids; classes that are not trained are left out."""
    by_name = {plain(instrument.name): instrument.id for instrument in common}
    trained = by_name.keys() if classes is None else {plain(name) for name in classes}
    left_out = {plain(name) for name in ignored}
    names = {instrument.id: plain(instrument.name) for instrument in source.classes}
    return {
        class_id: by_name[name]
        for class_id, name in names.items()
        if name in by_name and name in trained and name not in left_out
    }


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
) -> Iterator[tuple[AnnotatedFrame, InstrumentClass]]:
    """Every class that the data show, in the sources' order, with the first frame that shows it."""
    for source in sources:
        first: dict[int, AnnotatedFrame] = {}
        for frame, known, present in zip(source.frames, source.known, source.present, strict=True):
            for class_id in known & present:
                first.setdefault(class_id, frame)
        for instrument in source.classes:
            if instrument.id not in first or plain(instrument.name) in ignored:
                continue
            frame = first[instrument.id]
            if wanted is not None and plain(instrument.name) not in wanted:
                raise TrainingError(
                    f"{frame.name} of {source.path.name} shows {instrument.name}, which is not among the classes to train. "
                    "Add it to classes, or to ignored_classes (background)."
                )
            yield frame, instrument


def _first_classes(
    classes: ClassSet, shown: dict[str, InstrumentClass], ignored: set[str], wanted: set[str] | None
) -> ClassSet:
    """The classes of the first source that are trained; without any, the first class that the data show."""

    def is_trained(instrument: InstrumentClass) -> bool:
        name = plain(instrument.name)
        return name not in ignored and (wanted is None or name in wanted)

    first = tuple(filter(is_trained, classes)) or tuple(shown.values())[:1]
    if not first:
        raise TrainingError("No corrected frame shows a class to train. Correct frames that show instruments.")
    return ClassSet(classes.name, first)


def _naming_folder(path: Path) -> Path:
    """The folder that distinguishes sources of the same name; a project itself is named like its video."""
    return path.parent if path.suffix == SUFFIX else path


def _renamed(frame: AnnotatedFrame, sequence: str) -> AnnotatedFrame:
    if sequence == frame.sequence:
        return frame
    return replace(frame, sequence=sequence, name=f"{sequence}/{frame.name.rpartition('/')[2]}")
