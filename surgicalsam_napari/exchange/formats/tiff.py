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

NAME = "tiff-stack"
LABELS = "labels.tif"
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
    pictures = []
    with tifffile.TiffFile(file) as tiff:
        for number, page in enumerate(tiff.pages):
            assert isinstance(page, tifffile.TiffPage)
            pictures.append(_listed(file, number, page, sidecar))
    return listed_dataset(path, NAME, classes, pictures, options, sidecar=sidecar)


def _file(path: Path) -> Path | None:
    """A file with several pages, or our `labels.tif`."""
    if path.is_file():
        candidates = [path] if path.suffix.lower() in SUFFIXES else []
    else:
        files = [file for suffix in SUFFIXES for file in path.glob(f"*{suffix}")]
        candidates = [path / LABELS] if (path / LABELS).is_file() else files if len(files) == 1 else []
    return next((file for file in candidates if file.name == LABELS or _page_count(file) > 1), None)


def _page_count(file: Path) -> int:
    try:
        with tifffile.TiffFile(file) as tiff:
            return len(tiff.pages)
    except (*DAMAGED, tifffile.TiffFileError):
        return 0


def _listed(file: Path, number: int, page: tifffile.TiffPage, sidecar: Sidecar | None) -> ListedPicture:
    if len(page.shape) != 2 or page.dtype is None or page.dtype.kind not in "ui":
        raise ExchangeError(
            f"Page {number} of {file.name} has the shape {page.shape} and {page.dtype}, but labels are (H, W) integers. "
            "Save a Labels layer, not a picture."
        )
    sequence, index = file.stem, number
    if sidecar is not None:
        sequence, _, digits = page.description.rpartition(" ")
        index = int(digits) if digits.isdecimal() else number
    several = sidecar is not None and len(sidecar.frames) > 1
    name = frame_name(index, sequence if several else None)
    picture = find_picture(PurePosixPath(f"{name}.png"), [file.parent / "images"])

    def read(frame: DatasetFrame) -> np.ndarray:
        return _labels(file, number, frame.name)

    is_labelled = bool(_labels(file, number, name).any())
    return ListedPicture(
        PurePosixPath(name), page.shape, read, picture, is_labelled, sequence=sequence, frame_index=index
    )  # fmt: skip


def _labels(file: Path, number: int, name: str) -> np.ndarray:
    try:
        with tifffile.TiffFile(file) as tiff:
            labels = tiff.pages[number].asarray()
    except (*DAMAGED, tifffile.TiffFileError, IndexError) as error:
        raise ExchangeError(f"{name}: page {number} of {file.name} is damaged ({error}). Restore the file.") from error
    if labels.size and (labels.min() < 0 or labels.max() > 255):
        raise ExchangeError(
            f"{name}: page {number} of {file.name} has the value {int(labels.max())}, but class ids are 0 to 255. "
            "Save classes, not numbers of objects."
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
