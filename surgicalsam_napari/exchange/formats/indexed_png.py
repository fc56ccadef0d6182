"""Indexed PNG: one label map per frame, coloured by its palette; classes.json names the classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame, Skipped, needed_classes
from surgicalsam_napari.exchange.files import (
    files_by_stem,
    image_size,
    is_color_picture,
    is_id_mask,
    picture_png,
    pictures_by_stem,
    png_bytes,
    read_labels,
    write_file,
)
from surgicalsam_napari.exchange.format import Format, OwnedFiles, ReadOptions
from surgicalsam_napari.exchange.frame_names import read_picture_names
from surgicalsam_napari.exchange.sidecar import Sidecar, check_complete, read_sidecar, write_sidecar
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.video.image_folder import IMAGE_SUFFIXES, without_mask_ending

NAME = "indexed-png"
LABEL_FOLDERS = ("labels", "masks", "annotations")


def write_classes(folder: Path, classes: ClassSet, video_name: str) -> Path:
    """Write `classes.json`: the video's name, and id, name and colour of each class; creates the folder if needed."""
    return write_sidecar(folder, Sidecar(classes, video_name))


def write_label_map(folder: Path, frame_index: int, label_map: np.ndarray, classes: ClassSet) -> Path:
    """Write `frame_00012.png`.

    Parameters
    ----------
    label_map : (H, W) uint8, class ids; the file has the same values

    Raises
    ------
    ExchangeError, DiskSpaceError
        the folder cannot be written; an earlier file stays unchanged
    """
    image = Image.fromarray(np.ascontiguousarray(label_map, np.uint8)).convert("P")
    image.putpalette(_palette(classes))
    return write_file(folder / f"{frame_name(frame_index)}.png", png_bytes(image))


def frame_name(frame_index: int) -> str:
    return f"frame_{frame_index:05d}"


def _palette(classes: ClassSet) -> list[int]:
    colors = np.zeros((256, 3), np.uint8)
    for instrument in classes:
        colors[instrument.id] = instrument.rgb
    return colors.ravel().tolist()


@dataclass
class IndexedPngWriter:
    """Writes the frames of one video into a new folder; call `close` after the last frame."""

    folder: Path
    classes: ClassSet
    video: str
    sequence: str
    annotated: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def write(self, frame_index: int, label_map: np.ndarray, image: np.ndarray | None, annotated: tuple[int, ...]) -> None:
        write_label_map(self.folder, frame_index, label_map, self.classes)
        if image is not None:
            write_file(self.folder / "images" / f"{frame_name(frame_index)}.png", picture_png(image))
        self.annotated[frame_index] = annotated

    def close(self) -> None:
        write_sidecar(self.folder, Sidecar(self.classes, self.video, NAME, self.sequence, self.annotated))


def recognizes(path: Path) -> bool:
    return path.is_dir() and _labels_folder(path) is not None


def read_dataset(path: Path, options: ReadOptions) -> Dataset:
    folder = _labels_folder(path) or path
    sidecar = read_sidecar(path)
    labels = files_by_stem(folder, is_wanted=_may_be_labels)
    pictures = files_by_stem(folder, IMAGE_SUFFIXES, is_wanted=is_color_picture) | pictures_by_stem(path / "images")
    names = read_picture_names([PurePosixPath(f"{stem}.png") for stem in labels], path.name, options.frame_pattern)
    files: dict[DatasetFrame, Path] = {}
    for name, (stem, label) in zip(names.values(), labels.items(), strict=True):
        sequence = name.sequence if sidecar is None else sidecar.sequence or Path(sidecar.video).stem or path.name
        picture = pictures.pop(stem, None) or pictures.pop(without_mask_ending(stem), None)
        size = image_size(picture or label)
        files[DatasetFrame(sequence, name.frame.number, f"{sequence}/{stem}", size, picture, name.frame)] = label
    frames = tuple(sorted(files, key=lambda frame: (frame.sequence, frame.frame_index)))
    check_complete(path, sidecar, frames)
    class_set = needed_classes(options.classes, path, "values of pixels") if sidecar is None else sidecar.classes

    def read(frame: DatasetFrame) -> np.ndarray:
        return read_labels(files[frame], frame.name)

    annotated = {} if sidecar is None else sidecar.annotated_frames(frames)
    skipped = (Skipped("pictures without labels", len(pictures), next(iter(pictures))),) if pictures else ()
    return Dataset(path, NAME, class_set, frames, read, annotated, is_export=sidecar is not None, skipped=skipped)


def _labels_folder(path: Path) -> Path | None:
    """The folder with pictures of class ids: this one, or `labels`, `masks` or `annotations` in it."""
    folders = (path, *(path / name for name in LABEL_FOLDERS))
    return next((folder for folder in folders if folder.is_dir() and any(map(is_id_mask, folder.iterdir()))), None)


def _may_be_labels(file: Path) -> bool:
    """Whether a file is no colour picture: labels, or a damaged file, which the check of the frames reports."""
    return not is_color_picture(file)


FORMAT = Format(
    name=NAME,
    title="Indexed PNG",
    looks_like="grey or indexed pictures of class ids, such as frame_00012.png, with images/frame_00012.png",
    recognizes=recognizes,
    read_dataset=read_dataset,
    precedence=3,
    writer=IndexedPngWriter,
    owned_files=(OwnedFiles("frame_*.png", r"frame_\d{5,}"), OwnedFiles("images/frame_*.png", r"frame_\d{5,}")),
    napari_name="folder of indexed PNG",
)
