"""Exports labels of a project as a dataset: all frames or nothing."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import numpy as np

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.files import safe_name
from surgicalsam_napari.exchange.format import ExportTarget, Format, FrameToWrite
from surgicalsam_napari.exchange.instances import Instances
from surgicalsam_napari.exchange.registry import EXPORT_FORMATS
from surgicalsam_napari.exchange.sidecar import frame_name
from surgicalsam_napari.exchange.writing import ExportReport, check_target, export_format, write_frames
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.store.checking import check_intact
from surgicalsam_napari.store.label_maps import present_ids


def export_frames(
    project: Project,
    frame_indices: Sequence[int],
    out: Path | str,
    format: str,
    *,
    class_ids: Sequence[int] | None = None,
    polygons: bool = False,
    images: bool = True,
    overwrite: bool = False,
) -> Generator[ExportReport, None, None]:
    """Write the label maps of these frames, and their pictures, as a dataset. The files appear only after the last frame.

    Parameters
    ----------
    out : the folder; other files in it stay
    format : a key of `registry.EXPORT_FORMATS`
    class_ids : the classes to export; pixels of others become background; None for all
    polygons : write polygons, in a format that can hold masks, too
    images : also write the frames themselves
    overwrite : replace an earlier export in that folder completely; if False, an earlier export is an error

    Raises
    ------
    ExchangeError, ClassSetError, DiskSpaceError, ProjectError, VideoError
        at once for problems that can be checked before; after a later error the folder is as it was
    """
    check_intact(project)
    out = Path(out).expanduser().absolute()
    chosen = export_format(format, polygons=polygons)
    if not frame_indices:
        raise ExchangeError("No frame is selected for the export. Select at least one frame.")
    if out == project.top.folder or project.top.folder in out.parents:
        raise ExchangeError(f"{out} is inside the project folder. Choose a folder outside the project.")
    classes = selected_classes(project.classes, class_ids)
    check_target(out, overwrite=overwrite)
    if images:
        _ = project.video  # raises the ProjectError now if the video is missing
    indices = sorted(set(map(int, frame_indices)))
    has_tracks = chosen.instances and bool(project.tracks.table.tracks)
    parts = project.parts
    target = ExportTarget(
        out,
        classes,
        project.manifest.video_path.name,
        polygons,
        project.work_log.annotators(),
        has_instances=has_tracks or (chosen.instances and any(project.tracks.numbers(index).any() for index in indices)),
        has_tracks=has_tracks,
        parts=parts.classes if chosen.parts and parts is not None else None,
    )
    return write_frames(target, chosen, _frames(project, indices, target, images), len(indices))


def about_instruments(project: Project, format: str) -> str:
    """What an export does with instruments of a class and their parts, in sentences for the user; "" if it keeps all."""
    chosen, has_tracks = EXPORT_FORMATS[format], bool(project.tracks.table.tracks)
    lost = lost_in(chosen, has_instances=has_tracks, has_parts=project.parts is not None)
    if chosen.instances and not has_tracks:
        return f"The project has no tracks (surgicalsam track makes them), so each class is one object. {lost}".strip()
    return lost


def lost_in(format: Format, *, has_instances: bool, has_parts: bool) -> str:
    """What a format does not keep, as sentences for the user, with the formats that do; "" if it keeps all."""
    sentences = []
    if has_instances and not format.instances:
        able = ", ".join(name for name, other in EXPORT_FORMATS.items() if other.instances)
        sentences.append(f"The instruments of a class are not kept apart; {able} can.")
    if has_parts and not format.parts:
        able = ", ".join(name for name, other in EXPORT_FORMATS.items() if other.parts)
        sentences.append(f"Parts are not in it; {able} keep them.")
    return " ".join(sentences)


def selected_classes(classes: ClassSet, class_ids: Sequence[int] | None) -> ClassSet:
    """The classes of a set with these ids; an ExchangeError if there is none, a ClassSetError for an unknown id."""
    classes = classes.without_parts()  # the labels that are written have none
    if class_ids is None:
        return classes
    if not class_ids:
        raise ExchangeError("No class is selected for the export. Select at least one class.")
    wanted = {classes.by_id(class_id).id for class_id in class_ids}
    return classes.having([instrument for instrument in classes if instrument.id in wanted])


def _frames(project: Project, frame_indices: list[int], target: ExportTarget, images: bool) -> Iterator[FrameToWrite]:
    classes, sequence = target.classes, safe_name(project.manifest.video_path.stem)
    notes = {note.frame: note.text for note in project.notes.entries()}
    part_labels = project.parts if target.parts is not None else None
    for index in frame_indices:
        label_map = np.asarray(project.labels[index])
        if len(classes) < len(project.classes):
            label_map = np.where(np.isin(label_map, classes.ids), label_map, 0).astype(np.uint8)
        image = np.asarray(project.video[index]) if images else None
        annotated = tuple(class_id for class_id in _annotated(project, index, label_map) if class_id in classes.ids)
        instances = _instances(project, index) if target.has_instances else None
        parts = np.where(label_map, part_labels.labels[index], 0).astype(np.uint8) if part_labels is not None else None
        note = notes.get(index, "")
        yield FrameToWrite(sequence, index, frame_name(index), label_map, image, annotated, note, instances, parts)


def _instances(project: Project, frame_index: int) -> Instances:
    numbers = project.tracks.numbers(frame_index).astype(np.uint16)
    tracks = project.tracks.table.in_frame(frame_index)
    return Instances(numbers, {number: track.id for number, track in tracks.items()})


def _annotated(project: Project, frame_index: int, label_map: np.ndarray) -> tuple[int, ...]:
    """The classes that were predicted, edited or verified in a frame, present or absent."""
    present = present_ids(label_map)
    provenance = project.labels.row("provenance", frame_index)
    known = zip(project.classes.ids, provenance, strict=True)
    return tuple(class_id for class_id, kind in known if class_id in present or kind != Provenance.EMPTY)
