"""OME-Zarr 0.5 labels: zarr arrays of the frames and of their class ids, with the names and colours of the classes.

::

    labels.ome.zarr/                     a group; "ome": version, multiscales (axes t, y, x and c), the pictures in array 0
    labels.ome.zarr/labels/              a group; "ome": labels, the names of the label images
    labels.ome.zarr/labels/instruments/  a group; "ome": multiscales (axes t, y, x), image-label (colors, properties)
    labels.ome.zarr/labels/instruments/0 the class ids, (T, H, W) uint8, one chunk a frame

Source: https://ngff.openmicroscopy.org/specifications/0.5/. The index on the axis t is the frame of the video, so labels
and video lie on each other in napari. Frames that are not exported have no chunk and take no space. The names of classes are
in `properties`, under "name" or "class". A frame without labels says nothing about whether it is empty, because a chunk of
zeros is usually not stored. Chunks are written one by one, so an export may be larger than the memory. OME-Zarr 0.4 (zarr 2)
is read, too. Not taken from the library ome-zarr: it needs dask, and writes whole arrays.

The pictures are in the same zarr group, as OME-Zarr wants; this reader does not read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import zarr

from surgicalsam_napari.errors import ClassSetError, ExchangeError
from surgicalsam_napari.exchange.coordinates import MOST_FRAMES, picture_size
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame, needed_classes
from surgicalsam_napari.exchange.files import not_written
from surgicalsam_napari.exchange.format import ExportTarget, Format, FrameToWrite, FrameWriter, OwnedFiles, ReadOptions
from surgicalsam_napari.exchange.listing import ListedPicture, listed_dataset
from surgicalsam_napari.exchange.sidecar import frame_name, read_sidecar
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.untrusted import plain_file

NAME = "ome-zarr"
FOLDER, LABELS, IMAGE = "labels.ome.zarr", "labels", "instruments"
VERSION = "0.5"
_SPACE = ({"name": "y", "type": "space", "unit": "pixel"}, {"name": "x", "type": "space", "unit": "pixel"})
_TIME, _CHANNEL = {"name": "t", "type": "time"}, {"name": "c", "type": "channel"}


@dataclass
class OmeZarrWriter(FrameWriter):
    """Writes frames of one video into a new folder; `close` writes the metadata."""

    target: ExportTarget
    sequence: str | None = None
    labels: zarr.Array | None = None
    images: zarr.Array | None = None

    def write(self, frame: FrameToWrite) -> None:
        if self.sequence not in (None, frame.sequence):
            raise ExchangeError(
                f"OME-Zarr holds one video, but these are frames of {self.sequence} and {frame.sequence}. "
                "Choose one of them, or another format."
            )
        self.sequence = frame.sequence
        root, index = self.target.folder / FOLDER, frame.frame_index
        try:
            if self.labels is None:
                self.labels = _new_array(root / LABELS / IMAGE / "0", (1, *frame.size), ("t", "y", "x"))
            _append(self.labels, index, frame.label_map)
            if frame.image is not None:
                if self.images is None:
                    self.images = _new_array(root / "0", (1, 3, *frame.size), ("t", "c", "y", "x"))
                _append(self.images, index, np.moveaxis(frame.image, 2, 0))
        except OSError as error:
            raise not_written(error, root) from error

    def close(self) -> None:
        root = self.target.folder / FOLDER
        try:
            ome: dict[str, Any] = {"version": VERSION}
            if self.images is not None:
                ome["multiscales"] = [_multiscale(self.target.video, [_TIME, _CHANNEL, *_SPACE])]
            zarr.open_group(root, mode="a", zarr_format=3).attrs["ome"] = ome
            group = zarr.open_group(root / LABELS, mode="a", zarr_format=3)
            group.attrs["ome"] = {"version": VERSION, "labels": [IMAGE]}
            group = zarr.open_group(root / LABELS / IMAGE, mode="a", zarr_format=3)
            group.attrs["ome"] = {
                "version": VERSION,
                "multiscales": [_multiscale(IMAGE, [_TIME, *_SPACE])],
                "image-label": _image_label(self.target.classes),
            }
        except OSError as error:
            raise not_written(error, root) from error


def _new_array(folder: Path, shape: tuple[int, ...], names: tuple[str, ...]) -> zarr.Array:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return zarr.create_array(folder, shape=shape, chunks=(1, *shape[1:]), dtype="uint8", dimension_names=names)


def _append(array: zarr.Array, index: int, values: np.ndarray) -> None:
    """Write one frame, and make the array long enough for it."""
    if array.shape[1:] != values.shape:
        raise ExchangeError(f"Frame {index} has another size than the first frame, but the frames of an array are alike.")
    if index >= array.shape[0]:
        array.resize((index + 1, *array.shape[1:]))
    array[index] = values


def _multiscale(name: str, axes: list[dict[str, str]]) -> dict[str, Any]:
    scale = {"type": "scale", "scale": [1.0] * len(axes)}
    return {"name": name, "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": [scale]}]}


def _image_label(classes: ClassSet) -> dict[str, Any]:
    return {
        "colors": [{"label-value": c.id, "rgba": [*c.rgb, 255]} for c in classes],
        "properties": [{"label-value": c.id, "name": c.name} for c in classes],
        "source": {"image": "../../"},
    }


METADATA = ("zarr.json", ".zattrs", ".zgroup")
DAMAGED_ZARR = (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError)


def recognizes(path: Path) -> bool:
    return path.is_dir() and _group(path) is not None


def read_dataset(path: Path, options: ReadOptions) -> Dataset:
    group = _group(path)
    assert group is not None
    metadata = _metadata(group)
    sidecar = read_sidecar(path)
    classes = sidecar.classes if sidecar is not None else _classes(metadata, path)
    if classes is None:
        classes = needed_classes(options.classes, path, "values of pixels")
    array, time_axis = _array(group, metadata)
    size = picture_size(int(array.shape[-2]), int(array.shape[-1]), f"{group}")
    if time_axis is not None and array.shape[time_axis] > MOST_FRAMES:
        raise ExchangeError(f"{group} has {array.shape[time_axis]:,} frames, more than any video. Restore its zarr.json.")
    sequence = (sidecar.sequence if sidecar is not None else None) or path.name.partition(".")[0]
    exported = () if sidecar is None else sidecar.frames.get(sequence, {})
    indices = sorted(exported) if exported else range(array.shape[time_axis] if time_axis is not None else 1)
    pictures = []
    for index in indices:

        def read(frame: DatasetFrame, index: int = index) -> np.ndarray:
            return _labels(array, index, time_axis, frame.name)

        is_labelled = bool(exported) or bool(_labels(array, index, time_axis, frame_name(index)).any())
        name = PurePosixPath(frame_name(index))
        pictures.append(ListedPicture(name, size, read, None, is_labelled, sequence=sequence, frame_index=index))
    return listed_dataset(path, NAME, classes, pictures, options, sidecar=sidecar)


def _group(path: Path) -> Path | None:
    """The group of a label image: this one, one in `labels`, or one in a folder *.zarr in it."""
    roots = [path, path / LABELS, *(place for folder in sorted(path.glob("*.zarr")) for place in (folder, folder / LABELS))]
    groups = [place for root in roots for place in (root, *sorted(root.glob("*"))) if _has_metadata(place)]
    return next((group for group in groups if "image-label" in _metadata(group)), None)


def _has_metadata(folder: Path) -> bool:
    return (folder / "zarr.json").is_file() or (folder / ".zattrs").is_file()


def _metadata(group: Path) -> dict[str, Any]:
    """The OME metadata of a group; empty for an array, or if it is damaged."""
    try:
        for name in METADATA:
            if (group / name).exists():
                plain_file(group / name)
        attributes = dict(zarr.open_group(group, mode="r").attrs)
    except DAMAGED_ZARR:
        return {}
    ome = attributes.get("ome", attributes)  # 0.4 has no "ome"
    return ome if isinstance(ome, dict) else {}


def _classes(metadata: dict[str, Any], path: Path) -> ClassSet | None:
    """The classes of `properties` with the colours of `colors`; None if there are no names."""
    label = metadata.get("image-label")
    entries = label.get("properties") if isinstance(label, dict) else None
    names: dict[int, str] = {}
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict):
            continue
        name = entry.get("name", entry.get("class"))
        if isinstance(entry.get("label-value"), int) and isinstance(name, str) and entry["label-value"] > 0:
            names[entry["label-value"]] = name
    if not names:
        return None
    listed = label.get("colors") if isinstance(label, dict) else None
    colors = {
        entry.get("label-value"): entry.get("rgba")
        for entry in (listed if isinstance(listed, list) else [])
        if isinstance(entry, dict) and isinstance(entry.get("label-value"), int)
    }
    records = [{"id": value, "name": name, **_color(colors.get(value))} for value, name in sorted(names.items())]
    try:
        return ClassSet.from_json({"name": path.name, "classes": records})
    except ClassSetError as error:
        raise ExchangeError(f"{path.name} names its labels in a way that cannot be classes: {error}") from error


def _color(rgba: Any) -> dict[str, str]:
    is_color = isinstance(rgba, list) and len(rgba) >= 3 and all(isinstance(v, int) and 0 <= v <= 255 for v in rgba[:3])
    return {"color": "#" + bytes(rgba[:3]).hex()} if is_color else {}


def _array(group: Path, metadata: dict[str, Any]) -> tuple[zarr.Array, int | None]:
    """The full resolution, and the axis of time, which is None for a single picture."""
    try:
        multiscale = metadata["multiscales"][0]
        axes = [str(axis["name"] if isinstance(axis, dict) else axis) for axis in multiscale["axes"]]
        folder = group / multiscale["datasets"][0]["path"]
        for file in folder.rglob("*"):
            if not file.is_dir():
                plain_file(file)
        array = zarr.open_array(folder, mode="r")
    except DAMAGED_ZARR as error:
        raise ExchangeError(
            f"{group} should have an array of labels named by its multiscales ({error}). Restore the files."
        ) from error
    extra = [name for position, name in enumerate(axes[:-2]) if name != "t" and array.shape[position] != 1]
    if axes[-2:] != ["y", "x"] or len(axes) != array.ndim or extra:
        raise ExchangeError(
            f"{group.name} has the axes {', '.join(axes)} and the shape {array.shape}, but labels of a video have t, y, x. "
            "Save a video, not a volume."
        )
    return array, axes.index("t") if "t" in axes else None


def _labels(array: zarr.Array, index: int, time_axis: int | None, name: str) -> np.ndarray:
    try:
        key = tuple(index if axis == time_axis else 0 for axis in range(array.ndim - 2))
        labels = np.asarray(array[key])
    except (*DAMAGED_ZARR, RuntimeError) as error:
        raise ExchangeError(f"{name} is damaged and cannot be read ({error}). Restore the files.") from error
    if labels.size and (labels.min() < 0 or labels.max() > 255):
        raise ExchangeError(
            f"{name} has the value {int(labels.max())}, but class ids are 0 to 255. Save classes, not numbers of objects."
        )
    return labels.astype(np.uint8)


FORMAT = Format(
    name=NAME,
    title="OME-Zarr 0.5 labels",
    looks_like="labels.ome.zarr/labels/instruments with image-label in its zarr.json",
    recognizes=recognizes,
    read_dataset=read_dataset,
    precedence=0,
    writer=OmeZarrWriter,
    note="The pictures are in the zarr array, not in files.",
    owned_files=(OwnedFiles(FOLDER, r"labels\.ome"),),
    napari_name="folder of OME-Zarr",
)
