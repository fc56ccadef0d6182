"""Pascal VOC masks, also CVAT's "Segmentation mask 1.1": a colour picture for each frame, and labelmap.txt with the colours.

::

    labelmap.txt                            # label:color_rgb:parts:actions
                                            background:0,0,0::
                                            Needle Driver:86,180,233::
    ImageSets/Segmentation/default.txt      the names of all frames
    SegmentationClass/frame_00012.png       the colour of each pixel's class
    JPEGImages/frame_00012.png              the picture

Sources: https://docs.cvat.ai/docs/manual/advanced/formats/format-smask/ and the development kit of Pascal VOC 2012. CVAT and
datumaro write and read this layout. Pascal VOC itself has indexed pictures with its own palette and no labelmap.txt: the
values are class numbers (`--classes`). Colours that two classes share, black and VOC's border colour are replaced by colours
of VOC's palette. `SegmentationObject`, the masks of single objects, is not needed to read classes, and is not written.

The border of objects in Pascal VOC (value 255, colour 224, 224, 192) belongs to no class. It is read as background.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame, needed_classes
from surgicalsam_napari.exchange.files import files_by_stem, folders_in, image_size, picture_png, write_file
from surgicalsam_napari.exchange.format import (
    FRAME_NAME,
    ExportTarget,
    Format,
    FrameToWrite,
    FrameWriter,
    OwnedFiles,
    ReadOptions,
)
from surgicalsam_napari.exchange.label_colors import (
    BACKGROUND,
    VOID,
    Color,
    distinct_colors,
    ids_of_colors,
    read_colors,
    read_pixels,
)
from surgicalsam_napari.exchange.listing import (
    ListedPicture,
    Skips,
    count_unlabelled,
    find_picture,
    listed_dataset,
    named_classes,
    text_lines,
)
from surgicalsam_napari.exchange.sidecar import Sidecar, read_sidecar
from surgicalsam_napari.instruments import ClassSet, plain

NAME = "voc"
LABEL_MAP, MASKS_FOLDER, IMAGES, FRAMES = "labelmap.txt", "SegmentationClass", "JPEGImages", "ImageSets/Segmentation"
VOID_VALUE = 255


@dataclass
class VocWriter(FrameWriter):
    """Writes frames into a new folder; `close` writes the colours and the list of frames."""

    target: ExportTarget
    names: list[str] = field(default_factory=list)
    colors: dict[int, Color] = field(init=False)

    def __post_init__(self) -> None:
        self.colors = distinct_colors(self.target.classes)
        for name in self.target.classes.names:
            if ":" in name or name.startswith("#") or plain(name) == "background":
                raise ExchangeError(
                    f'{LABEL_MAP} cannot hold the class name "{name}", because ":", a first "#" and "background" have a '
                    "meaning there. Rename the class, or choose another format."
                )

    def write(self, frame: FrameToWrite) -> None:
        folder = self.target.folder
        if frame.image is not None:
            write_file(folder / IMAGES / f"{frame.name}.png", picture_png(frame.image))
        palette = np.zeros((256, 3), np.uint8)
        for class_id, color in self.colors.items():
            palette[class_id] = color
        write_file(folder / MASKS_FOLDER / f"{frame.name}.png", picture_png(palette[frame.label_map]))
        self.names.append(frame.name)

    def close(self) -> None:
        lines = ["# label:color_rgb:parts:actions", "background:0,0,0::"]
        lines += [f"{c.name}:{','.join(map(str, self.colors[c.id]))}::" for c in self.target.classes]
        write_file(self.target.folder / LABEL_MAP, "".join(f"{line}\n" for line in lines).encode())
        names = "".join(f"{name}\n" for name in self.names)
        write_file(self.target.folder / FRAMES / "default.txt", names.encode())


def recognizes(path: Path) -> bool:
    return path.is_dir() and _root(path) is not None


def read_dataset(path: Path, options: ReadOptions) -> Dataset:
    root = _root(path)
    assert root is not None
    sidecar, skips = read_sidecar(root), Skips()
    labels = _label_map(root, sidecar)
    classes = needed_classes(options.classes, path, "values of pixels") if labels is None else labels[0]
    colors = None if labels is None else labels[1]
    pictures = []
    for file in _mask_files(root):
        name = file.relative_to(root / MASKS_FOLDER)
        picture = find_picture(name, [root / IMAGES, root / "images"])

        def read(frame: DatasetFrame, file: Path = file) -> np.ndarray:
            return _values(file, frame.name) if colors is None else _by_color(file, frame.name, colors)

        pictures.append(ListedPicture(name, image_size(picture or file), read, picture))
    count_unlabelled(_mask_files(root), _void_pixels, "border pixels without a class", skips, root)
    return listed_dataset(path, NAME, classes, pictures, options, sidecar=sidecar, skips=skips)


def _root(path: Path) -> Path | None:
    """The folder of the masks: this one, or one in it, such as VOCdevkit/VOC2012."""
    candidates = [path, *folders_in(path), *(inner for folder in folders_in(path) for inner in folders_in(folder))]
    return next((folder for folder in candidates if (folder / MASKS_FOLDER).is_dir()), None)


def _mask_files(root: Path) -> list[Path]:
    folders = [root / MASKS_FOLDER, *folders_in(root / MASKS_FOLDER)]
    return [file for folder in folders for file in files_by_stem(folder).values()]


def _label_map(root: Path, sidecar: Sidecar | None) -> tuple[ClassSet, dict[Color, int]] | None:
    """The classes of labelmap.txt, and class ids by colour; None if there is no such file."""
    file = root / LABEL_MAP
    if not file.is_file():
        return None
    colors: dict[str, Color] = {}
    for number, line in enumerate(text_lines(file), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        values = rest.split(":")[0].split(",")
        if len(values) != 3 or not all(value.strip().isdigit() and int(value) <= 255 for value in values):
            raise ExchangeError(
                f'{LABEL_MAP}, line {number}, should be name:red,green,blue::, with colours from 0 to 255; got "{line}". '
                "Correct the line."
            )
        red, green, blue = map(int, values)
        if (red, green, blue) in colors.values():
            raise ExchangeError(f"{LABEL_MAP}, line {number}, has a colour that another class has. Give it its own colour.")
        colors[name] = red, green, blue
    named = {name: color for name, color in colors.items() if plain(name) != "background"}
    classes = named_classes(named, file, sidecar, named)
    ids = {color: classes.by_name(name).id for name, color in named.items()}
    return classes, {BACKGROUND: 0, VOID: 0, **{color: 0 for name, color in colors.items() if name not in named}, **ids}


def _by_color(file: Path, name: str, ids: dict[Color, int]) -> np.ndarray:
    return ids_of_colors(read_colors(file, name), ids, name, LABEL_MAP)


def _values(file: Path, name: str) -> np.ndarray:
    pixels = read_pixels(file, name)
    if pixels.ndim == 3:
        raise ExchangeError(f"{name} has colours, but {LABEL_MAP} is missing, which names their classes. Add the file.")
    return np.where(pixels == VOID_VALUE, 0, pixels).astype(np.uint8)


def _void_pixels(pixels: np.ndarray) -> int:
    return int(np.count_nonzero(pixels == VOID_VALUE if pixels.ndim == 2 else (pixels == VOID).all(axis=2)))


FORMAT = Format(
    name=NAME,
    title="Pascal VOC / CVAT segmentation mask",
    looks_like="labelmap.txt, SegmentationClass/frame_00012.png, JPEGImages/frame_00012.png",
    recognizes=recognizes,
    read_dataset=read_dataset,
    writer=VocWriter,
    owned_files=(
        OwnedFiles(LABEL_MAP, "labelmap"),
        OwnedFiles(f"{FRAMES}/default.txt", "default"),
        OwnedFiles(f"{MASKS_FOLDER}/*.png", FRAME_NAME),
        OwnedFiles(f"{IMAGES}/*.png", FRAME_NAME),
    ),
    napari_name="Pascal VOC folder",
)
