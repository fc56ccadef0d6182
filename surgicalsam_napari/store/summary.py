"""What a video's project contains, read without opening it: quick, without a lock, and also if the video is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.store.disk.cell_table import CellTable
from surgicalsam_napari.store.locating import (
    byte_count,
    is_project_folder,
    project_of,
    projects_in,
    video_candidates,
)
from surgicalsam_napari.store.manifest import MANIFEST, Manifest, VideoRecord, read_manifest
from surgicalsam_napari.store.ownership import RUN_FOLDER, Owner, Ownership
from surgicalsam_napari.store.part_labels import PARTS
from surgicalsam_napari.store.provenance import TABLES, Provenance, is_corrected
from surgicalsam_napari.video import VideoReader, is_video
from surgicalsam_napari.video.fingerprint import fingerprint
from surgicalsam_napari.video.image_folder import is_numbered_frames

DEEPEST = 3  # levels of folders in which videos are looked for
DATASET = "classes.json"  # lies in every exported dataset


@dataclass(frozen=True)
class VideoSummary:
    """The content of a video's project.

    Attributes
    ----------
    folder : the project; None for a video that has none yet
    video : the last known place of the video
    is_video_found : whether the video is there, or beside the project under any name
    segmented, corrected, verified : frames in which a model predicted a class, and frames in which a person edited or
        verified, or verified, any class
    parts_corrected : frames in which a person edited or verified any part of an instrument
    owner : the window or run that has the project open now, or None
    """

    folder: Path | None
    video: Path
    is_video_found: bool
    frame_count: int
    segmented: int = 0
    corrected: int = 0
    verified: int = 0
    parts_corrected: int = 0
    owner: Owner | None = None


def summarize(path: Path) -> VideoSummary:
    """Summarize a project, or the project beside a video, or a video without a project.

    Raises
    ------
    ProjectError, VideoError
        there is nothing at this path, the project is damaged, or the video cannot be read
    """
    if not path.exists():
        raise ProjectError(
            f"{path} is not there. Connect its disk, or move it back; if it was moved, open it at its new place."
        )
    if is_project_folder(path):
        return _summarize_project(path)
    folder = project_of(path)
    if is_project(folder):
        return _summarize_project(folder)
    with closing(VideoReader(path)) as video:
        return VideoSummary(None, path, True, video.info.frame_count)


def _summarize_project(folder: Path) -> VideoSummary:
    manifest = read_manifest(folder)
    record, video = manifest.video, _found_video(folder, manifest.video)
    table = _provenance(folder, manifest)
    parts = folder / PARTS
    has_parts = (parts / MANIFEST).is_file()
    top = folder.parent if manifest.is_parts else folder
    predicted = (table == Provenance.PREDICTED) | (table == Provenance.ABSENT)
    return VideoSummary(
        folder,
        manifest.video_path if video is None else video,
        video is not None,
        record.frame_count,
        segmented=int(predicted.any(axis=1).sum()),
        corrected=int(is_corrected(table).sum()),
        verified=int((table == Provenance.VERIFIED).any(axis=1).sum()),
        parts_corrected=int(is_corrected(_provenance(parts, read_manifest(parts))).sum()) if has_parts else 0,
        owner=Ownership(top).current or Ownership(top, RUN_FOLDER).current,
    )


def _provenance(folder: Path, manifest: Manifest) -> np.ndarray:
    """(T, C) uint8, the provenance of every frame and class."""
    columns = len(manifest.project_classes.columns)
    return CellTable(folder / "provenance", manifest.video.frame_count, columns, *TABLES["provenance"]).table()


def _found_video(folder: Path, record: VideoRecord) -> Path | None:
    """The file of a project's video, or None; a file under another name is compared by its content.

    Another file at its place counts as found: the recording may have grown, and opening it says what was found.
    """
    may_have_grown = None
    for path in video_candidates(folder, record):
        with suppress(OSError, IndexError):
            if path.name == Path(record.path).name and byte_count(path) == record.byte_count:
                return path
            if fingerprint(path) in (record.fingerprint, *record.known_files):
                return path
            if path == Path(record.path):
                may_have_grown = path
    return may_have_grown


def find_videos(folder: Path, depth: int = DEEPEST) -> Iterator[Path]:
    """The projects in a folder and the folders below it, and the videos there that have no project; in order of names.

    Left out are datasets of labels (exports, and a folder `clip_labels` beside `clip.mp4`) and folders that cannot be read.
    """
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return
    labels = {f"{path.stem}_labels" for path in entries if is_video(path)}
    projects = list(projects_in(folder))
    for path in entries:
        if is_listable(path):
            has_project = not is_project(path) and is_project(project_of(path, among=projects))
            if not has_project and path.name not in labels:
                yield path
        elif depth > 1 and path.is_dir() and not (path / DATASET).exists():
            yield from find_videos(path, depth - 1)


def is_listable(path: Path) -> bool:
    """Whether this is a project, a video file, or a folder of at least two images that are all numbered."""
    try:
        return is_project(path) or (is_numbered_frames(path) if path.is_dir() else is_video(path))
    except OSError:
        return False


def is_project(path: Path) -> bool:
    """Whether there is a project folder at this path."""
    return path.is_dir() and is_project_folder(path)
