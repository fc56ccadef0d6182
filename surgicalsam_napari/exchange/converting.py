"""Converts a dataset into another format, without a project: all frames or nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame
from surgicalsam_napari.exchange.exporting import selected_classes
from surgicalsam_napari.exchange.files import DAMAGED, safe_name
from surgicalsam_napari.exchange.format import ExportTarget, FrameToWrite
from surgicalsam_napari.exchange.sidecar import Sidecar, frame_name, read_sidecar
from surgicalsam_napari.exchange.writing import ExportReport, check_target, export_format, write_frames
from surgicalsam_napari.untrusted import plain_file


def convert_frames(
    dataset: Dataset,
    out: Path | str,
    format: str,
    *,
    class_ids: Sequence[int] | None = None,
    polygons: bool = False,
    images: bool = True,
    overwrite: bool = False,
) -> Generator[ExportReport, None, None]:
    """Write all frames of a dataset in another format, with their pictures. The files appear only after the last frame.

    Frames of several videos get names like `clip-1_00012`, so that they stay apart in one folder.

    Parameters
    ----------
    dataset : frames that nobody annotated are written as empty ones; `Dataset.without_unannotated` leaves them out
    class_ids : of the dataset; pixels of other classes become background; None for all
    polygons, images, overwrite : as in `exporting.export_frames`

    Raises
    ------
    ExchangeError, ClassSetError, DiskSpaceError
        at once for problems that can be checked before; after a later error the folder is as it was
    """
    out = Path(out).expanduser().absolute()
    chosen = export_format(format, polygons=polygons)
    if not dataset.frames:
        raise ExchangeError(f"{dataset.path.name} has no annotated frame. Choose another dataset.")
    if out in (dataset.path, *dataset.path.parents) or dataset.path in out.parents:
        raise ExchangeError(f"{out} is inside {dataset.path.name}, or contains it. Choose a folder beside it.")
    classes = selected_classes(dataset.classes, class_ids)
    _check_frames(dataset, images)
    check_target(out, overwrite=overwrite)
    sidecar = read_sidecar(dataset.path) if dataset.is_export else None
    target = ExportTarget(
        out,
        classes,
        dataset.path.name,
        polygons,
        () if sidecar is None else sidecar.annotators,
        has_instances=chosen.instances and dataset.has_instances,
        has_tracks=chosen.instances and dataset.has_tracks,
        parts=dataset.parts if chosen.parts else None,
    )
    return write_frames(target, chosen, _frames(dataset, target, images, sidecar), len(dataset.frames))


def _check_frames(dataset: Dataset, images: bool) -> None:
    numbers = Counter((frame.sequence, frame.frame_index) for frame in dataset.frames)
    repeated = [frame for frame in dataset.frames if numbers[frame.sequence, frame.frame_index] > 1]
    if repeated:
        raise ExchangeError(
            f"{repeated[0].name} and {repeated[1].name} are both frame {repeated[0].frame_index}. Give a pattern for the "
            "names (--frame-pattern on the command line), or remove one of the two."
        )
    missing = [frame for frame in dataset.frames if frame.image_path is None] if images else []
    if missing:
        raise ExchangeError(
            f"{len(missing)} of {len(dataset.frames)} frames of {dataset.path.name} have no picture (the first is "
            f"{missing[0].name}). Add the pictures, or convert only the labels (--no-images on the command line)."
        )


def _frames(dataset: Dataset, target: ExportTarget, images: bool, sidecar: Sidecar | None) -> Iterator[FrameToWrite]:
    names, classes = _sequence_names(dataset.sequences), target.classes
    for frame in dataset.frames:
        content = dataset.content(frame)
        label_map = content.label_map
        if len(classes) < len(dataset.classes):
            label_map = np.where(np.isin(label_map, classes.ids), label_map, 0).astype(np.uint8)
        sequence = names[frame.sequence]
        name = frame_name(frame.frame_index, sequence if len(names) > 1 else None)
        annotated = tuple(class_id for class_id in dataset.annotated_class_ids(frame) if class_id in classes.ids)
        image = _picture(frame, label_map.shape) if images else None
        note = "" if sidecar is None else sidecar.notes.get(frame.sequence, {}).get(frame.frame_index, "")
        instances = content.instances if target.has_instances else None
        parts = None if target.parts is None or content.parts is None else np.where(label_map, content.parts, np.uint8(0))
        yield FrameToWrite(sequence, frame.frame_index, name, label_map, image, annotated, note, instances, parts)


def _sequence_names(sequences: Sequence[str]) -> dict[str, str]:
    """A name for each sequence that is valid in files; none twice."""
    names: dict[str, str] = {}
    for sequence in sequences:
        name, number = safe_name(sequence), 2
        while name in names.values():
            name, number = f"{safe_name(sequence)}-{number}", number + 1
        names[sequence] = name
    return names


def _picture(frame: DatasetFrame, size: tuple[int, ...]) -> np.ndarray:
    """(H, W, 3) uint8."""
    assert frame.image_path is not None
    try:
        with Image.open(plain_file(frame.image_path)) as image:
            pixels = np.asarray(image.convert("RGB"))
    except DAMAGED as error:
        raise ExchangeError(f"The picture of {frame.name} cannot be read ({error}). Restore {frame.image_path}.") from error
    if pixels.shape[:2] != size:
        raise ExchangeError(
            f"{frame.name} has labels of {size[1]} x {size[0]} pixels for a picture of {pixels.shape[1]} x "
            f"{pixels.shape[0]} pixels. Replace the file that has the wrong size."
        )
    return pixels
