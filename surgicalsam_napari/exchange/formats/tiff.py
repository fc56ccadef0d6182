"""Multi-page TIFF: one page of class ids for each frame, as napari and ImageJ save a Labels layer.

::

    labels.tif                     pages of (H, W) uint8, or 16 or more bits from other tools
    images/frame_00012.png         only in our exports

In a file of another tool, page 0 is frame 0 of the video. In our exports, the description of each page says which frame it
is, such as "clip-1 12". A TIFF has no class names: give the classes (`--classes`).

A page without labels says nothing about whether its frame is empty: in a Labels layer, most pages are only not labelled yet.
Pages are written one by one, so an export may be larger than the memory. It is a BigTIFF, which may be larger than 4 GB.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import tifffile

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame, needed_classes
from surgicalsam_napari.exchange.files import DAMAGED, not_written, picture_png, write_file
from surgicalsam_napari.exchange.format import (
    FRAME_NAME,
    ExportTarget,
    Format,
    FrameToWrite,
    FrameWriter,
    OwnedFiles,
    ReadOptions,
)
from surgicalsam_napari.exchange.listing import ListedPicture, find_picture, listed_dataset
from surgicalsam_napari.exchange.sidecar import Sidecar, frame_name, read_sidecar
from surgicalsam_napari.untrusted import plain_file

NAME = "tiff-stack"
LABELS = "labels.tif"
DAMAGED_TIFF = (
    *DAMAGED,
    tifffile.TiffFileError,
    IndexError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    zlib.error,
)
SUFFIXES = (".tif", ".tiff")


@dataclass
class TiffStackWriter(FrameWriter):
    """Writes frames into a new folder, each as the next page."""

    target: ExportTarget
    file: tifffile.TiffWriter | None = None
    size: tuple[int, int] | None = None

    def write(self, frame: FrameToWrite) -> None:
        if self.size not in (None, frame.size):
            raise ExchangeError(f"{frame.name} has another size than the first frame, but the pages of a TIFF are alike.")
        self.size = frame.size
        path = self.target.folder / LABELS
        if frame.image is not None:
            write_file(self.target.folder / "images" / f"{frame.name}.png", picture_png(frame.image))
        try:
            if self.file is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                self.file = tifffile.TiffWriter(path, bigtiff=True)
            name = f"{frame.sequence} {frame.frame_index}"  # the description of the page
            self.file.write(
                np.ascontiguousarray(frame.label_map), compression="zlib", metadata=None, contiguous=False, description=name
            )
        except OSError as error:
            raise not_written(error, path) from error

    def close(self) -> None:
        if self.file is not None:
            self.file.close()

    abort = close


def recognizes(path: Path) -> bool:
    return _file(path) is not None


def read_dataset(path: Path, options: ReadOptions) -> Dataset:
    file = _file(path)
    assert file is not None
    sidecar = read_sidecar(file.parent)
    classes = needed_classes(options.classes, path, "values of pixels") if sidecar is None else sidecar.classes
    try:
        with tifffile.TiffFile(plain_file(file)) as tiff:
            size = _frame_size(tiff, file)
            descriptions = [getattr(page, "description", "") for page in tiff.pages]
            pictures = [
                _listed(file, number, labels, size, descriptions, sidecar)
                for number, labels in enumerate(_frames(tiff, file))
            ]
    except DAMAGED_TIFF as error:
        raise ExchangeError(f"{file} is damaged and cannot be read as TIFF ({error}). Restore it.") from error
    return listed_dataset(path, NAME, classes, pictures, options, sidecar=sidecar)


def _file(path: Path) -> Path | None:
    """A file with several pages, or our `labels.tif`."""
    if path.is_file():
        candidates = [path] if path.suffix.lower() in SUFFIXES else []
    else:
        files = [file for suffix in SUFFIXES for file in path.glob(f"*{suffix}")]
        candidates = [path / LABELS] if (path / LABELS).is_file() else files if len(files) == 1 else []
    return next((file for file in candidates if file.name == LABELS or _is_stack(file)), None)


def _is_stack(file: Path) -> bool:
    try:
        with tifffile.TiffFile(plain_file(file)) as tiff:
            return len(tiff.series[0].shape) == 3 and not tiff.series[0].axes.endswith("S")
    except DAMAGED_TIFF:
        return False


def _frame_size(tiff: tifffile.TiffFile, file: Path) -> tuple[int, int]:
    """(H, W) of every frame; an ExchangeError if these are no labels."""
    stack = tiff.series[0]
    if len(stack.shape) not in (2, 3) or stack.axes.endswith("S") or stack.dtype is None or stack.dtype.kind not in "ui":
        raise ExchangeError(
            f"{file.name} has the shape {stack.shape} and {stack.dtype}, but labels are integers, (H, W) for each frame. "
            "Save a Labels layer, not a picture."
        )
    return int(stack.shape[-2]), int(stack.shape[-1])


def _frames(tiff: tifffile.TiffFile, file: Path) -> Iterator[np.ndarray]:
    """The labels of one frame after the other. tifffile writes three frames as one page of three planes."""
    stack = tiff.series[0]
    count = stack.shape[0] if len(stack.shape) == 3 else 1
    for number in range(count):
        yield _labels(tiff, number, count, f"page {number} of {file.name}")


def _listed(
    file: Path, number: int, labels: np.ndarray, size: tuple[int, int], descriptions: list[str], sidecar: Sidecar | None
) -> ListedPicture:
    sequence, index = file.stem, number
    if sidecar is not None and number < len(descriptions):
        sequence, _, digits = descriptions[number].rpartition(" ")
        index = int(digits) if digits.isdecimal() else number
    several = sidecar is not None and len(sidecar.frames) > 1
    name = frame_name(index, sequence if several else None)
    picture = find_picture(PurePosixPath(f"{name}.png"), [file.parent / "images"])

    def read(frame: DatasetFrame) -> np.ndarray:
        with tifffile.TiffFile(plain_file(file)) as tiff:
            count = tiff.series[0].shape[0] if len(tiff.series[0].shape) == 3 else 1
            return _labels(tiff, number, count, f"page {number} of {file.name}")

    is_labelled = bool(labels.any())
    return ListedPicture(
        PurePosixPath(name), size, read, picture, is_labelled, sequence=sequence, frame_index=index
    )  # fmt: skip


def _labels(tiff: tifffile.TiffFile, number: int, count: int, place: str) -> np.ndarray:
    try:
        stack = tiff.series[0]
        if len(tiff.pages) == count:
            labels = tiff.pages[number].asarray()
        else:
            labels = stack.asarray()[number]
    except DAMAGED_TIFF as error:
        raise ExchangeError(f"{place} is damaged ({error}). Restore the file.") from error
    if labels.shape != stack.shape[-2:]:
        raise ExchangeError(f"{place} is damaged: it has the shape {labels.shape}. Restore the file.")
    if labels.size and (labels.min() < 0 or labels.max() > 255):
        raise ExchangeError(
            f"{place} has the value {int(labels.max())}, but class ids are 0 to 255. Save classes, not numbers of objects."
        )
    return labels.astype(np.uint8)


FORMAT = Format(
    name=NAME,
    title="Multi-page TIFF",
    looks_like="labels.tif with a page of class ids for each frame (napari's own Save)",
    recognizes=recognizes,
    read_dataset=read_dataset,
    precedence=2,
    writer=TiffStackWriter,
    owned_files=(OwnedFiles(LABELS, "labels"), OwnedFiles("images/*.png", FRAME_NAME)),
    napari_name="folder of a multi-page TIFF",
)
