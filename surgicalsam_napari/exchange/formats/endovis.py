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
from pathlib import Path

import numpy as np

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame, merged_masks, needed_classes
from surgicalsam_napari.exchange.files import (
    files_by_stem,
    folders_in,
    frame_number,
    grey_png,
    has_files,
    image_size,
    picture_png,
    pictures_by_stem,
    read_labels,
    write_file,
)
from surgicalsam_napari.exchange.format import ExportTarget, Format, FrameToWrite, OwnedFiles, ReadOptions
from surgicalsam_napari.exchange.sidecar import check_complete, read_sidecar
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store.label_maps import present_ids

NAME = "endovis"
_MASK = re.compile(r"(.+)_class(\d+)(?:_inst\d+)?")


@dataclass
class EndovisWriter:
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

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class _FrameFiles:
    """The files of a frame: its label map, and its masks, each with a class id."""

    labels: Path | None
    masks: tuple[tuple[int, Path], ...]


def recognizes(path: Path) -> bool:
    return path.is_dir() and bool(_parts(path))


def read_dataset(path: Path, options: ReadOptions) -> Dataset:
    sidecar = read_sidecar(path)
    files = {frame: frame_files for part in _parts(path) for frame, frame_files in _frames(part)}
    check_complete(path, sidecar, list(files))
    class_set = sidecar.classes if sidecar else needed_classes(options.classes, path, "00012_class1.png")

    def read(frame: DatasetFrame) -> np.ndarray:
        return _read(frame, files[frame], class_set, check_masks=sidecar is not None)

    annotated = {} if sidecar is None else sidecar.annotated_frames(list(files))
    return Dataset(path, NAME, class_set, tuple(files), read, annotated, is_export=sidecar is not None)


def _parts(path: Path) -> list[Path]:
    """The folders with annotations of frames without augmentation: this folder, or the authors' folders in it."""

    def is_part(folder: Path) -> bool:
        return any(has_files(folder / name, "*/*.png") for name in ("annotations", "binary_annotations"))

    if is_part(path):
        return [path]
    return [folder for name in ("0", "train/0", "train", "val") if is_part(folder := path / name)]


def _frames(part: Path) -> Iterator[tuple[DatasetFrame, _FrameFiles]]:
    places = [part / "annotations", part / "binary_annotations"]
    for sequence in dict.fromkeys(folder.name for place in places for folder in folders_in(place)):
        labels = files_by_stem(part / "annotations" / sequence)
        masks = _masks_by_frame(part / "binary_annotations" / sequence)
        pictures = pictures_by_stem(part / "images" / sequence)
        # if there are only masks, a picture without a mask is a frame without instruments
        stems = [*labels, *masks] if labels else [*masks, *pictures]
        for stem in sorted(set(stems), key=lambda stem: (frame_number(stem) or 0, stem)):
            number = frame_number(stem)
            if number is None:
                raise ExchangeError(f"{part.name}/{sequence}/{stem} has no frame number in its name. Rename or remove it.")
            files = _FrameFiles(labels.get(stem), tuple(masks.get(stem, ())))
            first = pictures.get(stem) or files.labels or files.masks[0][1]
            yield DatasetFrame(sequence, number, f"{sequence}/{stem}", image_size(first), pictures.get(stem)), files


def _masks_by_frame(folder: Path) -> dict[str, list[tuple[int, Path]]]:
    masks: dict[str, list[tuple[int, Path]]] = {}
    for stem, path in files_by_stem(folder).items():
        name = _MASK.fullmatch(stem)
        if name is None:
            raise ExchangeError(f"{path} needs a name like 00012_class1.png, with frame and class. Rename or remove it.")
        masks.setdefault(name[1], []).append((int(name[2]), path))
    return masks


def _read(frame: DatasetFrame, files: _FrameFiles, classes: ClassSet, *, check_masks: bool) -> np.ndarray:
    """The annotation, or else the masks. In an export both must agree, because somebody may have corrected only one."""
    labels = None if files.labels is None else read_labels(files.labels, frame.name)
    if labels is not None and (not check_masks or _will_be_rejected(labels, frame, classes)):
        return labels
    merged = np.zeros(frame.size, np.uint8) if labels is None else np.zeros_like(labels)
    if files.masks:
        merged = merged_masks(_masks(frame, files.masks, classes), frame.name, classes)
    if labels is not None and not np.array_equal(labels, merged):
        raise ExchangeError(
            f"{frame.name} differs in annotations and binary_annotations, which must be equal. "
            "Correct one of the two, or export the frame again."
        )
    return merged


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
