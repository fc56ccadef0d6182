"""Indexed PNG: one label map per frame, coloured by its palette; classes.json names the classes."""

from __future__ import annotations

from dataclasses import dataclass
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
from surgicalsam_napari.exchange.format import (
    FRAME_NAME,
    ExportTarget,
    Format,
    FrameToWrite,
    FrameWriter,
    OwnedFiles,
    ReadOptions,
)
from surgicalsam_napari.exchange.frame_names import read_picture_names
from surgicalsam_napari.exchange.sidecar import Sidecar, check_complete, frame_name, read_sidecar, write_sidecar
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
    return write_file(folder / f"{frame_name(frame_index)}.png", _indexed_png(label_map, classes))


def _indexed_png(label_map: np.ndarray, classes: ClassSet) -> bytes:
    image = Image.fromarray(np.ascontiguousarray(label_map, np.uint8)).convert("P")
    image.putpalette(_palette(classes))
    return png_bytes(image)


def _palette(classes: ClassSet) -> list[int]:
    colors = np.zeros((256, 3), np.uint8)
    for instrument in classes:
        colors[instrument.id] = instrument.rgb
    return colors.ravel().tolist()


@dataclass
class IndexedPngWriter(FrameWriter):
    """Writes frames into a new folder."""

    target: ExportTarget

    def write(self, frame: FrameToWrite) -> None:
        folder = self.target.folder
        write_file(folder / f"{frame.name}.png", _indexed_png(frame.label_map, self.target.classes))
        if frame.image is not None:
            write_file(folder / "images" / f"{frame.name}.png", picture_png(frame.image))


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
        sequence = name.sequence if sidecar is None else _exported_sequence(sidecar, stem) or path.name
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


def _exported_sequence(sidecar: Sidecar, stem: str) -> str:
    """The video of a frame that we wrote; `surgicalsam segment --out` writes one video."""
    exported = sidecar.frame_of(stem)
    return exported[0] if exported is not None else sidecar.sequence or Path(sidecar.video).stem


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
    owned_files=(OwnedFiles("*.png", FRAME_NAME), OwnedFiles("images/*.png", FRAME_NAME)),
    napari_name="folder of indexed PNG",
)
