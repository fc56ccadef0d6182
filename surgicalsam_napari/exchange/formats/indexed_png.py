"""Indexed PNG: one label map per frame, coloured by its palette; classes.json names the classes."""

from __future__ import annotations

from dataclasses import dataclass, field
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
from surgicalsam_napari.exchange.format import Format, OwnedFiles, ReadOptions
from surgicalsam_napari.exchange.sidecar import Sidecar, check_complete, read_sidecar, write_sidecar
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
    owned_files=(OwnedFiles("frame_*.png", r"frame_\d{5,}"), OwnedFiles("images/frame_*.png", r"frame_\d{5,}")),
    napari_name="folder of indexed PNG",
)
