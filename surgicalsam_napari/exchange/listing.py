"""A dataset from a list of pictures with their masks: what the readers of annotation files have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

import numpy as np

from surgicalsam_napari.errors import ClassSetError, ExchangeError
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame, Skipped
from surgicalsam_napari.exchange.files import LABEL_SUFFIXES
from surgicalsam_napari.exchange.format import ReadOptions
from surgicalsam_napari.exchange.frame_names import FrameName, read_picture_names, stem
from surgicalsam_napari.exchange.label_colors import read_pixels
from surgicalsam_napari.exchange.overlaps import ClassMask
from surgicalsam_napari.exchange.sidecar import Sidecar, check_complete
from surgicalsam_napari.instruments import LARGEST_CLASS_ID, PALETTE, ClassSet, InstrumentClass, plain
from surgicalsam_napari.untrusted import read_plain
from surgicalsam_napari.video.image_folder import IMAGE_SUFFIXES

FILES_SCANNED = 200  # for pixels without a class
Read = Callable[[DatasetFrame], np.ndarray | Sequence[ClassMask]]


@dataclass(frozen=True)
class ListedPicture:
    """One picture of a dataset.

    Attributes
    ----------
    name : as the dataset lists it, relative to the dataset; its last part names the frame
    size : (H, W)
    read : reads its labels, or its masks in the order of the file
    image_path : the picture itself, if it is there
    is_annotated : whether it has any mask, or is marked as empty
    unknown : names of classes that are not known in this picture, for example because their annotations are only boxes. A
        picture with nothing else is left out
    sequence, frame_index : if the file says them; otherwise they come from the name
    """

    name: PurePath
    size: tuple[int, int]
    read: Read = field(repr=False)
    image_path: Path | None = None
    is_annotated: bool = True
    unknown: frozenset[str] = frozenset()
    sequence: str | None = None
    frame_index: int | None = None


@dataclass
class Skips:
    """Counts what a reader leaves out."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, what: str, example: str, count: int = 1) -> None:
        """what: in the plural, such as "boxes"; example: where it is"""
        self.counts[what] += count
        self.examples.setdefault(what, example)

    def __call__(self) -> tuple[Skipped, ...]:
        return tuple(Skipped(what, count, self.examples[what]) for what, count in self.counts.items())


def listed_dataset(
    path: Path,
    format: str,
    classes: ClassSet,
    pictures: Sequence[ListedPicture],
    options: ReadOptions,
    *,
    sidecar: Sidecar | None = None,
    skips: Skips | None = None,
) -> Dataset:
    """The dataset of these pictures, sorted by sequence and frame, without those that have only boxes and the like.

    Raises
    ------
    ExchangeError
        a name cannot be read, a frame is listed twice, or an exported frame is missing
    """
    pictures = [picture for picture in pictures if picture.is_annotated or not picture.unknown]
    frames: dict[DatasetFrame, ListedPicture] = {}
    names: dict[tuple[str, int, str], ListedPicture] = {}
    for frame, picture in zip(_frames(path, pictures, options, sidecar), pictures, strict=True):
        key = frame.sequence, frame.frame_index, frame.name
        if key in names:
            raise ExchangeError(
                f"{path.name} lists {names[key].name} and {picture.name}, which are the same frame. Remove one of the two."
            )
        names[key] = frames[frame] = picture
    ordered = tuple(sorted(frames, key=lambda frame: (frame.sequence, frame.frame_index, frame.name)))
    check_complete(path, sidecar, ordered)
    by_frame = {frame: picture.read for frame, picture in frames.items()}

    def read(frame: DatasetFrame) -> np.ndarray | Sequence[ClassMask]:
        return by_frame[frame](frame)

    exported = {} if sidecar is None else sidecar.annotated_frames(ordered)
    annotated = {frame: known for frame in ordered if (known := _known(frames[frame], classes)) is not None} | exported
    empty = frozenset(frame for frame in ordered if not frames[frame].is_annotated and frame not in exported)
    skipped = skips() if skips is not None else ()
    return Dataset(path, format, classes, ordered, read, annotated, sidecar is not None, empty, skipped)


def _frames(
    path: Path, pictures: Sequence[ListedPicture], options: ReadOptions, sidecar: Sidecar | None
) -> list[DatasetFrame]:
    root = path.name if path.is_dir() else path.stem
    unread = [_posix(picture) for picture in pictures if _known_frame(picture, sidecar) is None]
    named = read_picture_names(unread, root, options.frame_pattern)
    frames = []
    for picture in pictures:
        known = _known_frame(picture, sidecar)
        file_name: FrameName | None = None
        if known is None:
            file_name = named[_posix(picture)].frame
        sequence, number = known or (named[_posix(picture)].sequence, named[_posix(picture)].frame.number)
        name = f"{sequence}/{stem(picture.name)}"
        frames.append(DatasetFrame(sequence, number, name, picture.size, picture.image_path, file_name))
    return frames


def _posix(picture: ListedPicture) -> PurePosixPath:
    return PurePosixPath(picture.name.as_posix())


def _known_frame(picture: ListedPicture, sidecar: Sidecar | None) -> tuple[str, int] | None:
    if picture.frame_index is not None:
        return picture.sequence or "", picture.frame_index
    return None if sidecar is None else sidecar.frame_of(stem(picture.name))


def _known(picture: ListedPicture, classes: ClassSet) -> tuple[int, ...] | None:
    """The classes known in a picture; None if all are."""
    unknown = set(map(plain, picture.unknown))
    return tuple(c.id for c in classes if plain(c.name) not in unknown) if unknown else None


def named_classes(
    names: Iterable[str],
    path: Path,
    sidecar: Sidecar | None = None,
    colors: Mapping[str, tuple[int, int, int]] | None = None,
) -> ClassSet:
    """Classes with these names: the ids of the sidecar, if there is one; other classes get the next ids.

    Parameters
    ----------
    names : in the order of the file; names that differ only in blanks or case are one class
    path : the file or folder that names them, for messages

    Raises
    ------
    ExchangeError
        a name is empty, or there are too many
    """
    known = {plain(c.name): c for c in (() if sidecar is None else sidecar.classes.without_parts())}
    free = iter(number for number in range(1, LARGEST_CLASS_ID + 1) if number not in {c.id for c in known.values()})
    classes = dict(known)
    for position, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise ExchangeError(f"{path.name} has a class without a name ({name!r}). Give every class a name.")
        if plain(name) in classes:
            continue
        number = next(free, None)
        if number is None:
            raise ExchangeError(f"{path.name} has more than {LARGEST_CLASS_ID} classes, but labels are 1 to 255. Split it.")
        color = (colors or {}).get(name)
        code = PALETTE[position % len(PALETTE)] if color is None else "#" + bytes(color).hex()
        classes[plain(name)] = InstrumentClass(number, " ".join(name.split()), code)
    if not classes:
        raise ExchangeError(f"{path.name} names no class, so it has no labels. Choose a dataset with annotations.")
    try:
        return ClassSet(path.stem if sidecar is None else sidecar.classes.name, tuple(classes.values()))
    except ClassSetError as error:
        raise ExchangeError(f"{path.name}: {error}") from error


def numbered_classes(name: str, names: Sequence[str]) -> ClassSet:
    """The classes of a known dataset: the ids are 1, 2, …"""
    return ClassSet(
        name, tuple(InstrumentClass(i + 1, text, PALETTE[i % len(PALETTE)]) for i, text in enumerate(names))
    )  # fmt: skip


def count_unlabelled(files: Sequence[Path], count: Callable[[np.ndarray], int], what: str, skips: Skips, root: Path) -> None:
    """Count pixels without a class, which are read as background, in the first files.

    Parameters
    ----------
    count : the number of such pixels in a picture as `label_colors.read_pixels` returns it
    what : in the plural
    """
    scanned = files[:FILES_SCANNED]
    where = "" if len(scanned) == len(files) else f" in the first {FILES_SCANNED} files"
    for file in scanned:
        try:
            number = count(read_pixels(file, file.name))
        except ExchangeError:
            continue  # its own error comes when the frame is read
        if number:
            skips.add(f"{what}{where}", file.relative_to(root).as_posix(), number)


def class_ids_by_name(classes: ClassSet) -> dict[str, int]:
    """Class ids by `plain` name."""
    return {plain(c.name): c.id for c in classes}


def text_lines(file: Path) -> list[str]:
    """The lines of a text file; an ExchangeError if it is no text."""
    try:
        return read_plain(file).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ExchangeError(f"{file} is damaged: it is not UTF-8 text. Restore it, or save it as UTF-8.") from error


def posix(name: str) -> PurePosixPath:
    """A listed name of a picture, written on any system, as a relative path."""
    path = PureWindowsPath(name)
    return PurePosixPath(*path.relative_to(path.anchor).parts) if path.parts else PurePosixPath("?")


def find_picture(name: PurePath, folders: Iterable[Path]) -> Path | None:
    """The file of a listed picture, with its own suffix or another one, in the first folder that has it."""
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
        for suffix in dict.fromkeys((*IMAGE_SUFFIXES, *LABEL_SUFFIXES)):
            if (path := (folder / name.parent / f"{stem(name)}{suffix}")).is_file():
                return path
    return None


def layered(masks: Sequence[tuple[int, ClassMask]]) -> list[ClassMask]:
    """Masks without the pixels that masks of a higher layer cover; masks of the same layer may still overlap.

    Parameters
    ----------
    masks : each with its layer, such as CVAT's z_order, in the order of the file
    """
    layers = sorted({layer for layer, _ in masks}, reverse=True)
    covered: np.ndarray | None = None
    visible: list[tuple[int, ClassMask]] = []
    for layer in layers:
        here = [(position, one) for position, (its_layer, one) in enumerate(masks) if its_layer == layer]
        if covered is not None:
            here = [(position, replace(one, mask=one.mask & ~covered)) for position, one in here]
        visible += here
        for _, one in here:
            covered = one.mask if covered is None else covered | one.mask
    return [one for _, one in sorted(visible, key=lambda entry: entry[0])]
