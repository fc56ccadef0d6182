"""Indexed PNG: one label map per frame, coloured by its palette; classes.json names the classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame, needed_classes
from surgicalsam_napari.exchange.files import (
    files_by_stem,
    frame_number,
    has_files,
    image_size,
    picture_png,
    pictures_by_stem,
    png_bytes,
    read_labels,
    write_file,
)
from surgicalsam_napari.exchange.format import FRAME_NAME, ExportTarget, Format, FrameToWrite, OwnedFiles, ReadOptions
from surgicalsam_napari.exchange.sidecar import Sidecar, check_complete, frame_name, read_sidecar, write_sidecar
from surgicalsam_napari.instruments import ClassSet

NAME = "indexed-png"


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
class IndexedPngWriter:
    """Writes frames into a new folder."""

    target: ExportTarget

    def write(self, frame: FrameToWrite) -> None:
        folder = self.target.folder
        write_file(folder / f"{frame.name}.png", _indexed_png(frame.label_map, self.target.classes))
        if frame.image is not None:
            write_file(folder / "images" / f"{frame.name}.png", picture_png(frame.image))

    def close(self) -> None:
        pass


def recognizes(path: Path) -> bool:
    return path.is_dir() and has_files(path, "frame*.png")


def read_dataset(path: Path, options: ReadOptions) -> Dataset:
    sidecar = read_sidecar(path)
    sequence = path.name if sidecar is None else sidecar.sequence or Path(sidecar.video).stem or path.name
    pictures = pictures_by_stem(path / "images")
    frames = []
    for stem, file in files_by_stem(path).items():
        number = frame_number(stem)
        if number is None:
            raise ExchangeError(f"{file} needs a name like frame_00012.png, with its frame number. Rename or remove it.")
        picture = pictures.get(stem)
        size = image_size(file if picture is None else picture)
        frames.append(DatasetFrame(sequence, number, f"{sequence}/{stem}", size, picture))
    check_complete(path, sidecar, frames)
    class_set = needed_classes(options.classes, path, "values of pixels") if sidecar is None else sidecar.classes

    def read(frame: DatasetFrame) -> np.ndarray:
        return read_labels(path / f"{frame.name.rpartition('/')[2]}.png", frame.name)

    annotated = {} if sidecar is None else sidecar.annotated_frames(frames)
    return Dataset(path, NAME, class_set, tuple(frames), read, annotated, is_export=sidecar is not None)


FORMAT = Format(
    name=NAME,
    title="Indexed PNG",
    looks_like="frame_00012.png with class ids as values, classes.json, images/frame_00012.png",
    recognizes=recognizes,
    read_dataset=read_dataset,
    precedence=3,
    writer=IndexedPngWriter,
    owned_files=(OwnedFiles("*.png", FRAME_NAME), OwnedFiles("images/*.png", FRAME_NAME)),
    napari_name="folder of indexed PNG",
)
