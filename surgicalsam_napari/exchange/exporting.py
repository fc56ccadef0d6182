"""Labels of a project written as a dataset: all of it, or nothing."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.files import not_written, safe_name
from surgicalsam_napari.exchange.formats import coco, endovis, indexed_png
from surgicalsam_napari.exchange.sidecar import SIDECAR, read_sidecar
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.store.corrections import corrected_frames
from surgicalsam_napari.store.label_maps import present_ids


class FrameWriter(Protocol):
    """What writes a format: a call per frame, then `close`."""

    def write(
        self, frame_index: int, label_map: np.ndarray, image: np.ndarray | None, annotated: tuple[int, ...]
    ) -> None: ...
    def close(self) -> None: ...


class WriterFactory(Protocol):
    def __call__(self, folder: Path, classes: ClassSet, video: str, sequence: str) -> FrameWriter: ...


FORMATS: dict[str, str] = {reader.FORMAT: reader.TITLE for reader in (endovis, indexed_png, coco)}
_WRITERS: dict[str, WriterFactory] = {
    endovis.FORMAT: endovis.EndovisWriter,
    indexed_png.FORMAT: indexed_png.IndexedPngWriter,
    coco.FORMAT: coco.CocoWriter,
}
_PARTIAL = ".partial-export"
_RANGE = re.compile(r"\s*(-?\d+|(-?\d+)?:(-?\d+)?(:\d*[1-9]\d*)?)\s*")


@dataclass(frozen=True)
class ExportReport:
    """One frame was written."""

    frame_index: int
    done: int
    total: int


def frames_to_export(project: Project, which: str) -> list[int]:
    """Frame indices: "corrected" (a person edited or verified something in them), "all", or a range as 12 or 0:500:5.

    Raises
    ------
    ExchangeError
        the text is none of these, or selects no frame
    """
    frame_count = len(project.labels)
    if which.strip().casefold() == "all":
        return list(range(frame_count))
    if which.strip().casefold() == "corrected":
        corrected = corrected_frames(project)
        if not corrected:
            raise ExchangeError(
                f"{project.folder.name} has no frame that a person edited or verified. Correct some, or export all frames."
            )
        return corrected
    if not _RANGE.fullmatch(which):
        raise ExchangeError(f'Frames to export are "corrected", "all", 12, or start:stop:step like 0:500:5; got "{which}".')
    start, stop, step = (int(part) if part.strip() else None for part in [*which.split(":"), "", ""][:3])
    if ":" not in which:
        assert start is not None
        stop = start + 1 or None  # -1 is the last frame
    frames = list(range(frame_count)[start:stop:step])
    if not frames:
        raise ExchangeError(f'"{which}" selects no frame: the video has the frames 0 to {frame_count - 1}. Choose of these.')
    return frames


def export_frames(
    project: Project,
    frame_indices: Sequence[int],
    out: Path | str,
    format: str,
    *,
    images: bool = True,
    overwrite: bool = False,
) -> Generator[ExportReport, None, None]:
    """Write label maps of these frames, and their pictures, as a dataset; all appears at the end, or nothing does.

    Parameters
    ----------
    out : the folder; what else lies in it stays
    format : a key of FORMATS
    images : also write the frames themselves
    overwrite : replace an earlier export in that folder, whole; without, it is refused

    Raises
    ------
    ExchangeError, DiskSpaceError, ProjectError, VideoError
        at once for what can be seen beforehand; later, the folder is as it was before
    """
    out = Path(out).expanduser().absolute()
    if format not in FORMATS:
        raise ExchangeError(f'Formats to export are {", ".join(FORMATS)}; got "{format}".')
    if not frame_indices:
        raise ExchangeError("There is no frame to export. Choose some.")
    if out == project.folder or project.folder in out.parents:
        raise ExchangeError(f"{out} is in the project itself. Choose a folder outside it.")
    earlier = list(_earlier_export(out))
    if earlier and not overwrite:
        raise ExchangeError(
            f"{out} holds an export already ({earlier[0].name}). Choose another folder, or replace it (--overwrite)."
        )
    if earlier and (others := _not_of_export(earlier, out)):
        raise ExchangeError(f"{out} holds labels that were not exported from here ({others[0]}). Choose another folder.")
    if images:
        _ = project.video  # a ProjectError now, if it is gone
    return _exported(project, sorted(set(map(int, frame_indices))), out, format, images)


def _exported(
    project: Project, frame_indices: list[int], out: Path, format: str, images: bool
) -> Generator[ExportReport, None, None]:
    partial = out / _PARTIAL
    made = not out.exists()
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    try:
        video = project.manifest.video_path
        writer = _WRITERS[format](partial, project.classes, video.name, safe_name(video.stem))
        for done, frame_index in enumerate(frame_indices, 1):
            label_map = np.asarray(project.labels[frame_index])
            image = np.asarray(project.video[frame_index]) if images else None
            writer.write(frame_index, label_map, image, _annotated(project, frame_index, label_map))
            yield ExportReport(frame_index, done, len(frame_indices))
        writer.close()
        _publish(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if made and out.is_dir() and not any(out.iterdir()):
            out.rmdir()


def _annotated(project: Project, frame_index: int, label_map: np.ndarray) -> tuple[int, ...]:
    """The classes that were predicted, edited or verified in a frame, present or not."""
    present = present_ids(label_map)
    provenance = project.labels.row("provenance", frame_index)
    known = zip(project.classes.ids, provenance, strict=True)
    return tuple(class_id for class_id, kind in known if class_id in present or kind != Provenance.EMPTY)


def _publish(partial: Path, out: Path) -> None:
    """Put a whole export in place of an earlier one."""
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
    """Those of the files that the export in this folder did not write."""
    sidecar = read_sidecar(out)
    if sidecar is None:
        return files
    return [path for path in files if path.parent not in (out, out / "images") and path.parent.name != sidecar.sequence]


def _earlier_export(out: Path) -> Iterator[Path]:
    """The files in a folder that are called as an export calls its own."""
    for name in (SIDECAR, coco.ANNOTATIONS):
        if (out / name).exists():
            yield out / name
    patterns = [("frame_*.png", r"frame_\d{5,}"), ("images/frame_*.png", r"frame_\d{5,}")]
    patterns += [(f"{folder}/*/*.png", r"\d{5,}") for folder in ("images", "annotations")]
    patterns.append(("binary_annotations/*/*_class*.png", r"\d{5,}_class\d+"))
    for pattern, name in patterns:
        yield from (path for path in out.glob(pattern) if re.fullmatch(name, path.stem))
