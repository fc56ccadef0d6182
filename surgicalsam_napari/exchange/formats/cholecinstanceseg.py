"""CholecInstanceSeg (Alabi et al., 2025): 41,933 frames of Cholec80 and CholecT50 with single instruments. Read only.

::

    train/VID03_t80_sparse/ann_dir/t80_VID03_000030.json     as LabelMe writes: label, points, group_id
    train/VID03_t80_sparse/img_dir/t80_VID03_000030.png      the picture, from Cholec80 or CholecT50

The number is that of the frame in the source, at one frame a second in CholecT50. The files have no size, so the pictures
are needed. The authors fill polygons with OpenCV, outline included, and later instruments cover earlier ones
(https://github.com/labdeeman7/cholec_instance_seg, `convert_to_semantic_maps_utils.py`); of an instrument with several
polygons, their script draws only the last, we draw all. Polygons of a class with the same group_id are one instance of their
frame; the group_id is no track. Files are read only when needed, because there are so many; the seven classes are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame
from surgicalsam_napari.exchange.files import image_size
from surgicalsam_napari.exchange.format import Format, ReadOptions
from surgicalsam_napari.exchange.formats.labelme import read_record
from surgicalsam_napari.exchange.instances import NO_TRACKS
from surgicalsam_napari.exchange.listing import (
    ListedPicture,
    Skips,
    class_ids_by_name,
    find_picture,
    listed_dataset,
    numbered_classes,
)
from surgicalsam_napari.exchange.overlaps import ClassMask
from surgicalsam_napari.exchange.polygons import filled_polygon_mask
from surgicalsam_napari.instruments import plain
from surgicalsam_napari.video.image_folder import natural_key

NAME = "cholecinstanceseg"
LABELS, IMAGES = "ann_dir", "img_dir"
CLASSES = numbered_classes("CholecInstanceSeg", ("Grasper", "Hook", "Irrigator", "Clipper", "Bipolar", "Scissors", "Snare"))
_DEPTHS = (LABELS, f"*/{LABELS}", f"*/*/{LABELS}")


def recognizes(path: Path) -> bool:
    return path.is_dir() and any(next(path.glob(f"{depth}/*.json"), None) is not None for depth in _DEPTHS)


def read_dataset(path: Path, options: ReadOptions) -> Dataset:
    skips, pictures = Skips(), []
    for file in sorted((file for depth in _DEPTHS for file in path.glob(f"{depth}/*.json")), key=natural_key):
        folder = file.parent.parent
        picture = find_picture(Path(f"{file.stem}.png"), [folder / IMAGES, file.parent])
        if picture is None:
            skips.add("annotations whose picture is missing", file.relative_to(path).as_posix())
            continue

        def read(frame: DatasetFrame, file: Path = file) -> Sequence[ClassMask]:
            return _masks(file, frame)

        name = (folder.relative_to(path) if folder != path else Path(path.name)) / file.name
        pictures.append(ListedPicture(name, image_size(picture), read, picture))
    if not pictures:
        raise ExchangeError(
            f"{path} has annotations but no pictures, whose size is needed. Copy the frames of Cholec80 or CholecT50 into "
            f"the folders {IMAGES}."
        )
    dataset = listed_dataset(path, NAME, CLASSES, pictures, options, skips=skips)
    return replace(dataset, has_instances=True, notes=(NO_TRACKS,))


def _masks(file: Path, frame: DatasetFrame) -> list[ClassMask]:
    ids, masks = class_ids_by_name(CLASSES), []
    instances: dict[tuple[str, object], int] = {}
    for position, shape in enumerate(read_record(file)["shapes"]):
        place = f"shapes[{position}] of {file.name}"
        if plain(shape["label"]) not in ids:
            raise ExchangeError(f"{place} has the label {shape['label']}; expected one of {', '.join(CLASSES.names)}.")
        points = [value for point in shape.get("points") or () for value in point]
        group = shape.get("group_id")
        key = plain(shape["label"]), f"alone {position}" if group is None else str(group)
        number = instances.setdefault(key, len(instances) + 1)
        masks.append(ClassMask(ids[key[0]], filled_polygon_mask(points, frame.size, place), instance=number))
    return masks


FORMAT = Format(
    name=NAME,
    title="CholecInstanceSeg",
    looks_like="VID03_t80_sparse/ann_dir/t80_VID03_000030.json with img_dir/t80_VID03_000030.png",
    recognizes=recognizes,
    read_dataset=read_dataset,
)
