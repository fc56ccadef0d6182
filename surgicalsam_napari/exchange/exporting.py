"""Exports labels of a project as a dataset: all frames or nothing."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.files import not_written, safe_name
from surgicalsam_napari.exchange.format import WriterFactory
from surgicalsam_napari.exchange.registry import EXPORT_FORMATS
from surgicalsam_napari.exchange.sidecar import SIDECAR, read_sidecar, write_sidecar
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.store.label_maps import present_ids

_PARTIAL = ".partial-export"


@dataclass(frozen=True)
class ExportReport:
    """One frame was written."""

    frame_index: int
    done: int
    total: int


def export_frames(
    project: Project,
    frame_indices: Sequence[int],
    out: Path | str,
    format: str,
    *,
    images: bool = True,
    overwrite: bool = False,
) -> Generator[ExportReport, None, None]:
    """Write the label maps of these frames, and their pictures, as a dataset. The files appear only after the last frame.

    Parameters
    ----------
    out : the folder; other files in it stay
    format : a key of `registry.EXPORT_FORMATS`
    images : also write the frames themselves
    overwrite : replace an earlier export in that folder completely; if False, an earlier export is an error

    Raises
    ------
    ExchangeError, DiskSpaceError, ProjectError, VideoError
        at once for problems that can be checked before; after a later error the folder is as it was
    """
    out = Path(out).expanduser().absolute()
    writer_factory = EXPORT_FORMATS[format].writer if format in EXPORT_FORMATS else None
    if writer_factory is None:
        raise ExchangeError(f'The export formats are {", ".join(EXPORT_FORMATS)}; got "{format}". Choose one of these.')
    if not frame_indices:
        raise ExchangeError("No frame is selected for the export. Select at least one frame.")
    if out == project.folder or project.folder in out.parents:
        raise ExchangeError(f"{out} is inside the project folder. Choose a folder outside the project.")
    earlier = list(_earlier_export(out))
    if earlier and not overwrite:
        raise ExchangeError(
            f"{out} already contains an export ({earlier[0].name}). Choose another folder, or replace the export "
            "(--overwrite on the command line)."
        )
    if earlier and (others := _not_of_export(earlier, out)):
        raise ExchangeError(f"{out} contains labels that this program did not export ({others[0]}). Choose another folder.")
    if images:
        _ = project.video  # raises the ProjectError now if the video is missing
    return _exported(project, sorted(set(map(int, frame_indices))), out, writer_factory, images)


def _exported(
    project: Project, frame_indices: list[int], out: Path, writer_factory: WriterFactory, images: bool
) -> Generator[ExportReport, None, None]:
    partial = out / _PARTIAL
    is_new = not out.exists()
    shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
    try:
        video = project.manifest.video_path
        writer = writer_factory(partial, project.classes, video.name, safe_name(video.stem))
        for done, frame_index in enumerate(frame_indices, 1):
            label_map = np.asarray(project.labels[frame_index])
            image = np.asarray(project.video[frame_index]) if images else None
            writer.write(frame_index, label_map, image, _annotated(project, frame_index, label_map))
            yield ExportReport(frame_index, done, len(frame_indices))
        writer.close()
        _add_people(project, partial, frame_indices)
        _publish(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if is_new and out.is_dir() and not any(out.iterdir()):
            out.rmdir()


def _add_people(project: Project, folder: Path, frame_indices: list[int]) -> None:
    """Write into the sidecar who corrected labels, and the notes on the exported frames."""
    sidecar, frames = read_sidecar(folder), set(frame_indices)
    notes = {note.frame: note.text for note in project.notes.entries() if note.frame in frames}
    annotators = project.work_log.annotators()
    if sidecar is not None and (notes or annotators):
        write_sidecar(folder, replace(sidecar, annotators=annotators, notes=notes))


def _annotated(project: Project, frame_index: int, label_map: np.ndarray) -> tuple[int, ...]:
    """The classes that were predicted, edited or verified in a frame, present or absent."""
    present = present_ids(label_map)
    provenance = project.labels.row("provenance", frame_index)
    known = zip(project.classes.ids, provenance, strict=True)
    return tuple(class_id for class_id, kind in known if class_id in present or kind != Provenance.EMPTY)


def _publish(partial: Path, out: Path) -> None:
    """Remove an earlier export, then move the new files into the folder."""
    try:
        for path in list(_earlier_export(out)):
            path.unlink()
        for path in sorted(partial.rglob("*")):
            target = out / path.relative_to(partial)
            if path.is_dir():
                target.mkdir(exist_ok=True)
            else:
                os.replace(path, target)
    except OSError as error:
        raise not_written(error, out) from error


def _not_of_export(files: list[Path], out: Path) -> list[Path]:
    """The files that the export in this folder did not write."""
    sidecar = read_sidecar(out)
    if sidecar is None:
        return files
    return [path for path in files if path.parent not in (out, out / "images") and path.parent.name != sidecar.sequence]


def _earlier_export(out: Path) -> Iterator[Path]:
    """The files in a folder whose names are those of an export in any format; each file once."""
    if (out / SIDECAR).exists():
        yield out / SIDECAR
    owned_files = dict.fromkeys(files for format in EXPORT_FORMATS.values() for files in format.owned_files)
    for files in owned_files:
        yield from (path for path in out.glob(files.glob) if re.fullmatch(files.stem, path.stem))
