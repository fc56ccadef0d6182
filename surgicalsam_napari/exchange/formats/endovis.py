"""The layout of the SurgicalSAM authors' processed EndoVis folders: grey annotations, and a mask per frame and class.

::

    images/<sequence>/<frame>.png                             RGB
    annotations/<sequence>/<frame>.png                        grey, class ids
    binary_annotations/<sequence>/<frame>_class<c>.png        0 and 255
    classes.json                                              only in our exports

The authors' own code can read an export. That code ends a frame's name at the first underscore, so frames are named
`00012` and sequences have no underscore. Exports and the authors' folders can be read, also `train/0`, `val` and `0`
(but not the augmented versions 1 to 40).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame, merged_masks, needed_classes
from surgicalsam_napari.exchange.files import (
    files_by_stem,
    folders_in,
    grey_png,
    has_files,
    image_size,
    picture_png,
    pictures_by_stem,
    read_labels,
    write_file,
)
from surgicalsam_napari.exchange.format import ExportTarget, Format, FrameToWrite, FrameWriter, OwnedFiles, ReadOptions
from surgicalsam_napari.exchange.frame_names import PictureName, read_frame_names, read_picture_names
from surgicalsam_napari.exchange.overlaps import ClassMask, class_masks
from surgicalsam_napari.exchange.sidecar import check_complete, read_sidecar
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store.label_maps import present_ids

NAME = "endovis"
_MASK = re.compile(r"(.+)_class(\d+)(?:_inst\d+)?")


@dataclass
class EndovisWriter(FrameWriter):
    """Writes frames into a new folder."""

    target: ExportTarget

    def write(self, frame: FrameToWrite) -> None:
        folder, name = self.target.folder, f"{frame.frame_index:05d}"
        if frame.image is not None:
            write_file(folder / "images" / frame.sequence / f"{name}.png", picture_png(frame.image))
        for class_id in present_ids(frame.label_map):
            mask = np.where(frame.label_map == class_id, np.uint8(255), np.uint8(0))
            write_file(folder / "binary_annotations" / frame.sequence / f"{name}_class{class_id}.png", grey_png(mask))
        write_file(folder / "annotations" / frame.sequence / f"{name}.png", grey_png(frame.label_map))


@dataclass(frozen=True)
class _FrameFiles:
    """The files of a frame: its label map, and its masks, each with a class id."""

    labels: Path | None
    masks: tuple[tuple[int, Path], ...]


def recognizes(path: Path) -> bool:
    return path.is_dir() and bool(_parts(path))


def read_dataset(path: Path, options: ReadOptions) -> Dataset:
    sidecar = read_sidecar(path)
    keeps_folders = sidecar is not None  # an export of the video `test` is in a folder of this name
    parts = _parts(path)
    files = {frame: found for part in parts for frame, found in _frames(part, options.frame_pattern, keeps_folders)}
    check_complete(path, sidecar, list(files))
    class_set = sidecar.classes if sidecar else needed_classes(options.classes, path, "00012_class1.png")

    def read(frame: DatasetFrame) -> np.ndarray | tuple[ClassMask, ...]:
        return _read(frame, files[frame], class_set, check_masks=sidecar is not None)

    if sidecar is not None:
        annotated = sidecar.annotated_frames(list(files))
        return Dataset(path, NAME, class_set, tuple(files), read, annotated, is_export=True)
    unannotated = frozenset(frame for frame, found in files.items() if found.labels is None and not found.masks)
    return Dataset(path, NAME, class_set, tuple(files), read, unannotated=unannotated)


def _parts(path: Path) -> list[Path]:
    """The folders with annotations of frames without augmentation: this folder, or the authors' folders in it."""

    def is_part(folder: Path) -> bool:
        return any(has_files(folder / name, "*/*.png") for name in ("annotations", "binary_annotations"))

    if is_part(path):
        return [path]
    return [folder for name in ("0", "train/0", "train", "val") if is_part(folder := path / name)]


def _frames(part: Path, pattern: str | None, keeps_folders: bool) -> Iterator[tuple[DatasetFrame, _FrameFiles]]:
    found: dict[PurePosixPath, tuple[_FrameFiles, Path | None]] = {}  # by folder and frame
    places = [part / "annotations", part / "binary_annotations"]
    for folder in dict.fromkeys(folder.name for place in places for folder in folders_in(place)):
        labels = files_by_stem(part / "annotations" / folder)
        masks = _masks_by_frame(part / "binary_annotations" / folder)
        pictures = pictures_by_stem(part / "images" / folder)
        # if there are only masks, a picture without a mask is a frame that shows no instrument, or that nobody annotated
        for stem in dict.fromkeys([*labels, *masks] if labels else [*masks, *pictures]):
            files = _FrameFiles(labels.get(stem), tuple(masks.get(stem, ())))
            found[PurePosixPath(folder, f"{stem}.png")] = files, pictures.get(stem)
    names = _names(list(found), part.name, pattern, keeps_folders)
    order = {folder: position for position, folder in enumerate(dict.fromkeys(path.parent for path in found))}
    for path in sorted(found, key=lambda path: (order[path.parent], names[path].frame.number, path.stem)):
        (files, picture), name = found[path], names[path]
        first = picture or files.labels or files.masks[0][1]
        frame_name = f"{name.sequence}/{path.stem}"
        yield DatasetFrame(name.sequence, name.frame.number, frame_name, image_size(first), picture, name.frame), files


def _names(
    paths: list[PurePosixPath], sequence: str, pattern: str | None, keeps_folders: bool
) -> dict[PurePosixPath, PictureName]:
    """Sequence and frame of each path; folders of an export are its sequences."""
    if not keeps_folders:
        return read_picture_names(paths, sequence, pattern)
    frames = read_frame_names([path.stem for path in paths])
    return {path: PictureName(path.parent.name, frames[path.stem]) for path in paths}


def _masks_by_frame(folder: Path) -> dict[str, list[tuple[int, Path]]]:
    masks: dict[str, list[tuple[int, Path]]] = {}
    for stem, path in files_by_stem(folder).items():
        name = _MASK.fullmatch(stem)
        if name is None:
            raise ExchangeError(f"{path} needs a name like 00012_class1.png, with frame and class. Rename or remove it.")
        masks.setdefault(name[1], []).append((int(name[2]), path))
    return masks


def _read(
    frame: DatasetFrame, files: _FrameFiles, classes: ClassSet, *, check_masks: bool
) -> np.ndarray | tuple[ClassMask, ...]:
    """The annotation, or else the masks. In an export both must agree, because somebody may have corrected only one."""
    labels = None if files.labels is None else read_labels(files.labels, frame.name)
    if labels is not None and (not check_masks or _will_be_rejected(labels, frame, classes)):
        return labels
    masks = _masks(frame, files.masks, classes)
    if labels is None:
        return class_masks(masks)
    merged = merged_masks(masks, frame.name, classes) if masks else np.zeros_like(labels)
    if not np.array_equal(labels, merged):
        raise ExchangeError(
            f"{frame.name} differs in annotations and binary_annotations, which must be equal. "
            "Correct one of the two, or export the frame again."
        )
    return labels


def _will_be_rejected(labels: np.ndarray, frame: DatasetFrame, classes: ClassSet) -> bool:
    """Whether `Dataset.label_map` will reject these labels for their size or values, with a clearer message."""
    return labels.shape != frame.size or not set(present_ids(labels)) <= set(classes.ids)


def _masks(frame: DatasetFrame, files: tuple[tuple[int, Path], ...], classes: ClassSet) -> Mapping[int, np.ndarray]:
    """(H, W) bool by class id; several masks of one class are its instances."""
    masks: dict[int, np.ndarray] = {}
    for class_id, path in files:
        if class_id not in classes.ids:
            listed = ", ".join(f"{c.id} {c.name}" for c in classes)
            raise ExchangeError(
                f"{path.name} of {frame.sequence} is a mask of class {class_id}, but {classes.name} has only {listed}. "
                "Choose the class set that was used for labelling (--classes on the command line)."
            )
        pixels = read_labels(path, f"{frame.sequence}/{path.name}")
        other = set(present_ids(pixels)) - {1, 255}
        if other:
            raise ExchangeError(
                f"{frame.sequence}/{path.name} has the value {min(other)}, but a mask has only 0 and 255. "
                "Set the pixels of the instrument to 255."
            )
        mask = pixels > 0
        masks[class_id] = mask | masks[class_id] if class_id in masks else mask
    return masks


FORMAT = Format(
    name=NAME,
    title="SurgicalSAM / EndoVis folders",
    looks_like="annotations/seq5/00012.png or binary_annotations/seq5/00012_class1.png, also inside train/0 and val",
    recognizes=recognizes,
    read_dataset=read_dataset,
    precedence=2,
    writer=EndovisWriter,
    owned_files=(
        OwnedFiles("images/*/*.png", r"\d{5,}"),
        OwnedFiles("annotations/*/*.png", r"\d{5,}"),
        OwnedFiles("binary_annotations/*/*_class*.png", r"\d{5,}_class\d+"),
    ),
    napari_name="EndoVis folders",
)
