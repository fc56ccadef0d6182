"""EndoVis 2018 (Robotic Scene Segmentation) as distributed, with the instrument types that ISINet's authors annotated.

The challenge's own labels are colours of parts and anatomy; they do not show instrument types. The types are distributed
separately, as grey pictures with the ids 1 to 7 (González et al., MICCAI 2020). They can be in any of these places::

    annotations/seq_1_frame000.png      labels/seq_1_frame000.png       for images/seq_1_frame000.png
    annotations/seq_1/frame000.png      seq_1/annotations/frame000.png  for seq_1/left_frames/frame000.png
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame, needed_classes
from surgicalsam_napari.exchange.files import (
    files_by_stem,
    folders_in,
    image_size,
    is_color_picture,
    pictures_by_stem,
    read_labels,
)
from surgicalsam_napari.exchange.format import Format, ReadOptions
from surgicalsam_napari.exchange.frame_names import FrameName
from surgicalsam_napari.exchange.sidecar import SIDECAR
from surgicalsam_napari.instruments import ENDOVIS2018

NAME = "endovis2018"
LABEL_FOLDERS = ("annotations", "labels", "instrument_types", "type_annotations")
_FRAME = re.compile(r"(?:(seq_?\d+)_)?frame_?(\d+)")
_SEQUENCE = re.compile(r"seq_?\d+")


def recognizes(path: Path) -> bool:
    """Whether sequences are named seq_1 and frames frame000; the authors of SurgicalSAM name them seq1 and 00000."""
    return path.is_dir() and not (path / SIDECAR).exists() and next(_labels(path), None) is not None


def read_dataset(path: Path, options: ReadOptions) -> Dataset:
    pictures = _pictures(path)
    files: dict[DatasetFrame, Path] = {}
    for (sequence, number), file in sorted(_typed_labels(path).items(), key=lambda item: _order(item[0])):
        picture = pictures.get((_plain(sequence), number))
        size = image_size(picture or file)
        name = FrameName(sequence, number, f"{number:03d}")
        files[DatasetFrame(sequence, number, f"{sequence}/frame{number:03d}", size, picture, name)] = file
    # EndoVis 2018 itself writes seq_1; other tools write seq1, for both years
    is_2018 = all(frame.sequence.startswith("seq_") for frame in files)
    class_set = options.classes or (ENDOVIS2018 if is_2018 else needed_classes(options.classes, path, "values of pixels"))

    def read(frame: DatasetFrame) -> np.ndarray:
        return read_labels(files[frame], f"{files[frame].parent.name}/{files[frame].name}")

    return Dataset(path, NAME, class_set, tuple(files), read)


def _order(key: tuple[str, int]) -> tuple[int, int]:
    return int(key[0].removeprefix("seq").removeprefix("_")), key[1]


def _plain(sequence: str) -> str:
    return sequence.replace("_", "")


def _typed_labels(path: Path) -> dict[tuple[str, int], Path]:
    """The files of instrument types by sequence and frame; an ExchangeError if only the challenge's own labels exist."""
    typed: dict[tuple[str, int], Path] = {}
    colored: dict[Path, bool] = {}  # checked once per folder, because all files of a folder are alike
    for key, file in _labels(path):
        if file.parent not in colored:
            colored[file.parent] = is_color_picture(file)
        if not colored[file.parent]:
            typed.setdefault(key, file)
    if not typed and colored:
        raise ExchangeError(
            f"{path} contains the challenge's own labels ({next(iter(colored)).name}): colours of parts and anatomy, which "
            "do not show instrument types. Add the type annotations (grey, ids 1 to 7, published with ISINet) as "
            "annotations/seq_1_frame000.png."
        )
    return typed


def _labels(path: Path) -> Iterator[tuple[tuple[str, int], Path]]:
    """Sequence, frame and file of every label picture; those outside the sequence folders come first."""
    for part in _parts(path):
        for name in LABEL_FOLDERS:
            yield from _named(files_by_stem(part / name), None)
            for folder in folders_in(part / name):
                yield from _named(files_by_stem(folder), folder.name)
        for sequence in _sequences(part):
            for name in LABEL_FOLDERS:
                yield from _named(files_by_stem(sequence / name), sequence.name)


def _pictures(path: Path) -> dict[tuple[str, int], Path]:
    pictures: dict[tuple[str, int], Path] = {}
    for part in _parts(path):
        places = [(part / "images", None), *((folder, folder.name) for folder in folders_in(part / "images"))]
        places += [(folder / "left_frames", folder.name) for folder in _sequences(part)]
        for folder, sequence in places:
            pictures |= {(_plain(key[0]), key[1]): file for key, file in _named(pictures_by_stem(folder), sequence)}
    return pictures


def _parts(path: Path) -> list[Path]:
    return [path, *folders_in(path)]  # train and val, or the challenge's four releases


def _sequences(part: Path) -> list[Path]:
    return [folder for folder in (part, *folders_in(part)) if _SEQUENCE.fullmatch(folder.name)]


def _named(files: dict[str, Path], sequence: str | None) -> Iterator[tuple[tuple[str, int], Path]]:
    """The files named seq_1_frame000, or frame000 if the folder is named after the sequence."""
    for stem, file in files.items():
        frame = _FRAME.fullmatch(stem)
        if frame is None:
            continue
        name = frame[1] or sequence
        if name is not None and _SEQUENCE.fullmatch(name):
            yield (name, int(frame[2])), file


FORMAT = Format(
    name=NAME,
    title="EndoVis 2018 as distributed",
    looks_like="seq_1/left_frames/frame000.png with type annotations as annotations/seq_1_frame000.png or labels/",
    recognizes=recognizes,
    read_dataset=read_dataset,
)
