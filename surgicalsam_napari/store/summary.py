"""What a project contains, read without opening it: quick, without a lock, and also if its video is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from surgicalsam_napari.store.arrays import CellTable
from surgicalsam_napari.store.manifest import read_manifest
from surgicalsam_napari.store.ownership import LOCK_FOLDER, RUN_FOLDER, Owner, Ownership
from surgicalsam_napari.store.project import Project, is_project_folder, video_candidates
from surgicalsam_napari.store.provenance import TABLES, Provenance, is_corrected
from surgicalsam_napari.video import is_video
from surgicalsam_napari.video.image_folder import is_numbered_frames

DEEPEST = 3  # levels of folders in which videos are looked for
DATASET = "classes.json"  # lies in every exported dataset


@dataclass(frozen=True)
class ProjectSummary:
    """The content of a project.

    Attributes
    ----------
    video : the last known place of the video
    is_video_found : whether a file that may be the video is there, or beside the project
    segmented, corrected, verified : frames in which a model predicted a class, and frames in which a person edited or
        verified, or verified, any class
    owner : the window or run that has the project open now, or None
    last_used : when a window opened or closed it last; None if none did
    """

    folder: Path
    video: Path
    is_video_found: bool
    frame_count: int
    segmented: int
    corrected: int
    verified: int
    owner: Owner | None
    last_used: datetime | None


def summarize(folder: Path) -> ProjectSummary:
    """Read the summary of a project; a ProjectError if it is damaged or there is none."""
    manifest = read_manifest(folder)
    record, videos = manifest.video, list(video_candidates(folder, manifest.video))
    table = CellTable(folder / "provenance", record.frame_count, len(manifest.classes), *TABLES["provenance"]).table()
    predicted = (table == Provenance.PREDICTED) | (table == Provenance.ABSENT)
    return ProjectSummary(
        folder,
        videos[0] if videos else manifest.video_path,
        bool(videos),
        record.frame_count,
        segmented=int(predicted.any(axis=1).sum()),
        corrected=int(is_corrected(table).sum()),
        verified=int((table == Provenance.VERIFIED).any(axis=1).sum()),
        owner=Ownership(folder).current or Ownership(folder, RUN_FOLDER).current,
        last_used=_last_used(folder),
    )


def _last_used(folder: Path) -> datetime | None:
    """Opening and closing add and remove a file in this folder, which sets its time."""
    with suppress(OSError):
        return datetime.fromtimestamp((folder / LOCK_FOLDER).stat().st_mtime).astimezone()
    return None


def find_videos(folder: Path, depth: int = DEEPEST) -> Iterator[Path]:
    """The projects in a folder and the folders below it, and the videos there that have no project; in order of names.

    Left out are datasets of labels (exports, and a folder `clip_labels` beside `clip.mp4`) and folders that cannot be read.
    """
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return
    labels = {f"{path.stem}_labels" for path in entries if is_video(path)}
    for path in entries:
        if is_listable(path):
            has_project = not is_project(path) and is_project(Project.default_folder(path))
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
