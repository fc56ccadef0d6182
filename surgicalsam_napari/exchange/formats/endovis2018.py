"""EndoVis 2018 (Robotic Scene Segmentation) as distributed, with the instrument types that ISINet's authors annotated.

The challenge's own labels are colours of parts and anatomy (its labels.json); they do not show instrument types. The types
are distributed separately, as grey pictures with the ids 1 to 7 (González et al., MICCAI 2020). They can be in any of these
places::

    annotations/seq_1_frame000.png      labels/seq_1_frame000.png       for images/seq_1_frame000.png
    annotations/seq_1/frame000.png      seq_1/annotations/frame000.png  for seq_1/left_frames/frame000.png

With both, the colours give the parts. With colours alone, all instruments that have parts are one class.

An export has the types in `clip/annotations`, and in `clip/labels` the colours, if there are parts. Pixels without a part or
a colour of the challenge are black there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame, needed_classes
from surgicalsam_napari.exchange.files import (
    files_by_stem,
    folders_in,
    grey_png,
    has_files,
    image_size,
    is_color_picture,
    picture_png,
    pictures_by_stem,
    read_labels,
    write_file,
)
from surgicalsam_napari.exchange.format import ExportTarget, Format, FrameToWrite, FrameWriter, OwnedFiles, ReadOptions
from surgicalsam_napari.exchange.frame_names import FrameName, read_frame_names
from surgicalsam_napari.exchange.label_colors import ids_of_colors, read_colors
from surgicalsam_napari.exchange.listing import numbered_classes
from surgicalsam_napari.exchange.overlaps import ClassMask
from surgicalsam_napari.exchange.parts import ENDOVIS_PARTS, marks_of_parts
from surgicalsam_napari.exchange.sidecar import SIDECAR, Sidecar, check_complete, read_sidecar
from surgicalsam_napari.instruments import ENDOVIS2018, ClassSet, similar
from surgicalsam_napari.store.label_maps import present_ids

NAME = "endovis2018"
TYPES, COLORS = "annotations", "labels"
LABEL_FOLDERS = (TYPES, COLORS, "instrument_types", "type_annotations")
_PART_COLORS = {"Shaft": (0, 255, 0), "Wrist": (125, 255, 12), "Clasper": (0, 255, 255), "Probe": (12, 255, 141)}
_SCENE_COLORS = {
    "Kidney Parenchyma": (255, 55, 0),
    "Covered Kidney": (24, 55, 125),
    "Thread": (187, 155, 25),
    "Clamps": (0, 255, 125),
    "Suturing Needle": (255, 255, 125),
    "Suction Instrument": (123, 15, 175),
    "Small Intestine": (124, 155, 5),
    "Ultrasound Probe": (12, 255, 141),
}
_SCENE = numbered_classes("EndoVis 2018 scene", ("Instrument", *_SCENE_COLORS))
SCENE = replace(  # only the instrument has parts
    _SCENE, classes=(replace(_SCENE.classes[0], parts=ENDOVIS_PARTS.ids), *_SCENE.classes[1:]), parts=ENDOVIS_PARTS
)
_NO_TYPES = (
    "These are the challenge's own labels, colours of parts and anatomy, which do not show instrument types. For the types, "
    "add the type annotations (grey, ids 1 to 7, published with ISINet) as annotations/seq_1_frame000.png."
)
_FRAME = re.compile(r"(?:(seq_?\d+)_)?frame_?(\d+)")
_SEQUENCE = re.compile(r"seq_?\d+")


@dataclass
class Endovis2018Writer(FrameWriter):
    """Writes frames into a new folder."""

    target: ExportTarget

    def __post_init__(self) -> None:
        self.part_colors = np.zeros((256, 3), np.uint8)
        self.class_colors = np.zeros((256, 3), np.uint8)
        if self.target.parts is not None:
            for part_id, color in marks_of_parts(self.target.parts, _PART_COLORS, "EndoVis 2018").items():
                self.part_colors[part_id] = color
        scene = {similar(name): color for name, color in _SCENE_COLORS.items()}
        for instrument in self.target.classes:
            self.class_colors[instrument.id] = scene.get(similar(instrument.name), (0, 0, 0))

    def write(self, frame: FrameToWrite) -> None:
        place, name = self.target.folder / frame.sequence, f"frame{frame.frame_index:03d}.png"
        if frame.image is not None:
            write_file(place / "left_frames" / name, picture_png(frame.image))
        write_file(place / TYPES / name, grey_png(frame.label_map))
        if self.target.parts is not None:
            parts = np.zeros_like(frame.label_map) if frame.parts is None else frame.parts
            colors = np.where(parts[..., None] > 0, self.part_colors[parts], self.class_colors[frame.label_map])
            write_file(place / COLORS / name, picture_png(colors))


def recognizes(path: Path) -> bool:
    """Whether sequences are named seq_1 and frames frame000; the authors of SurgicalSAM name them seq1 and 00000."""
    if not path.is_dir():
        return False
    if (path / SIDECAR).exists():
        return has_files(path, f"*/{TYPES}/frame*.png")
    return next(_labels(path), None) is not None


def read_dataset(path: Path, options: ReadOptions) -> Dataset:
    sidecar = read_sidecar(path)
    if sidecar is not None:
        return _read_export(path, sidecar, options)
    pictures = _pictures(path)
    typed, colored = _label_files(path)
    files: dict[DatasetFrame, Path] = {}
    for (sequence, number), file in sorted((typed or colored).items(), key=lambda item: _order(item[0])):
        picture = pictures.get((_plain(sequence), number))
        size = image_size(picture or file)
        name = FrameName(sequence, number, f"{number:03d}")
        files[DatasetFrame(sequence, number, f"{sequence}/frame{number:03d}", size, picture, name)] = file
    # EndoVis 2018 itself writes seq_1; other tools write seq1, for both years
    colors = {frame: colored.get((frame.sequence, frame.frame_index)) for frame in files}
    if not typed:
        return _scene_dataset(path, files)
    is_2018 = all(frame.sequence.startswith("seq_") for frame in files)
    class_set = options.classes or (ENDOVIS2018 if is_2018 else needed_classes(options.classes, path, "values of pixels"))

    def read(frame: DatasetFrame) -> list[ClassMask]:
        return _read(frame, files[frame], colors[frame], ENDOVIS_PARTS)

    return Dataset(path, NAME, class_set, tuple(files), read, parts=ENDOVIS_PARTS if colored else None)


def _read(frame: DatasetFrame, types: Path, colors: Path | None, known: ClassSet) -> list[ClassMask]:
    """A mask for each class, with its parts from the colours; colours of anatomy are no parts."""
    labels = read_labels(types, f"{types.parent.name}/{types.name}")
    if colors is None:
        return [ClassMask(class_id, labels == class_id) for class_id in present_ids(labels)]
    name = f"{colors.parent.name}/{colors.name}"
    pixels = read_colors(colors, name)
    if pixels.shape[:2] != labels.shape:
        raise ExchangeError(
            f"{name} of {frame.name} has {pixels.shape[1]} x {pixels.shape[0]} pixels, but its type annotations have "
            f"{labels.shape[1]} x {labels.shape[0]}. Replace the file that has the wrong size."
        )
    parts = np.zeros(labels.shape, np.uint8)
    for part_id, color in marks_of_parts(known, _PART_COLORS, "EndoVis 2018").items():
        parts[(pixels == np.array(color, np.uint8)).all(axis=-1)] = part_id
    return [ClassMask(class_id, labels == class_id, parts=parts) for class_id in present_ids(labels)]


def _scene_dataset(path: Path, files: dict[DatasetFrame, Path]) -> Dataset:
    """The challenge's own labels: colours of parts and anatomy."""
    part_ids = {color: ENDOVIS_PARTS.by_name(name).id for name, color in _PART_COLORS.items() if name != "Probe"}
    scene_ids = {color: SCENE.by_name(name).id for name, color in _SCENE_COLORS.items()}
    codes = {color: 100 + part_id for color, part_id in part_ids.items()} | scene_ids

    def read(frame: DatasetFrame) -> list[ClassMask]:
        name = f"{frame.sequence}/{files[frame].name}"
        values = ids_of_colors(read_colors(files[frame], name), {(0, 0, 0): 0} | codes, name, "EndoVis 2018's labels.json")
        parts = np.where(values > 100, values - 100, 0).astype(np.uint8)
        labels = np.where(values > 100, SCENE.by_name("Instrument").id, values)
        return [ClassMask(class_id, labels == class_id, parts=parts) for class_id in present_ids(labels)]

    return Dataset(path, NAME, SCENE, tuple(files), read, parts=ENDOVIS_PARTS, notes=(_NO_TYPES,))


def _read_export(path: Path, sidecar: Sidecar, options: ReadOptions) -> Dataset:
    files: dict[DatasetFrame, Path] = {}
    for folder in (folder for folder in folders_in(path) if (folder / TYPES).is_dir()):
        pictures, types = pictures_by_stem(folder / "left_frames"), files_by_stem(folder / TYPES)
        for stem, name in read_frame_names(types, options.frame_pattern).items():
            size = image_size(pictures.get(stem, types[stem]))
            frame_name = f"{folder.name}/{stem}"
            files[DatasetFrame(folder.name, name.number, frame_name, size, pictures.get(stem), name)] = types[stem]
    frames = tuple(sorted(files, key=lambda frame: (frame.sequence, frame.frame_index)))
    check_complete(path, sidecar, frames)

    def read(frame: DatasetFrame) -> list[ClassMask]:
        colors = files[frame].parent.parent / COLORS / files[frame].name
        if sidecar.parts is None:
            return _read(frame, files[frame], None, ENDOVIS_PARTS)
        return _read(frame, files[frame], colors, sidecar.parts)

    annotated = sidecar.annotated_frames(frames)
    return Dataset(path, NAME, sidecar.classes, frames, read, annotated, is_export=True, parts=sidecar.parts)


def _order(key: tuple[str, int]) -> tuple[int, int]:
    return int(key[0].removeprefix("seq").removeprefix("_")), key[1]


def _plain(sequence: str) -> str:
    return sequence.replace("_", "")


def _label_files(path: Path) -> tuple[dict[tuple[str, int], Path], dict[tuple[str, int], Path]]:
    """By sequence and frame, the files of instrument types, and the challenge's own coloured labels."""
    typed: dict[tuple[str, int], Path] = {}
    colored: dict[tuple[str, int], Path] = {}
    has_colors: dict[Path, bool] = {}  # checked once per folder, because all files of a folder are alike
    for key, file in _labels(path):
        if file.parent not in has_colors:
            has_colors[file.parent] = is_color_picture(file)
        (colored if has_colors[file.parent] else typed).setdefault(key, file)
    return typed, colored


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
    writer=Endovis2018Writer,
    note="The labels are the types of instruments, and the challenge's colours of parts.",
    owned_files=tuple(OwnedFiles(f"*/{name}/*.png", r"frame\d{3,}") for name in (TYPES, COLORS, "left_frames")),
    napari_name="EndoVis 2018 folders",
    parts=True,
)
