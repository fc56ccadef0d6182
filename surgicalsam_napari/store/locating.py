"""Where the project of a video is, and where the video of a project is; also after one of them was renamed or moved."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from surgicalsam_napari.errors import ProjectError, VideoError
from surgicalsam_napari.store.manifest import MANIFEST, VideoRecord, read_manifest
from surgicalsam_napari.store.same_video import Comparison, compare, may_be
from surgicalsam_napari.video import VideoReader, is_video
from surgicalsam_napari.video.fingerprint import fingerprint

SUFFIX = ".surgicalsam"
KNOWN_FILES = 16  # of a video, in its record


def is_project_folder(path: Path) -> bool:
    """Whether this is a project rather than a video or a folder of images, by its name or its manifest."""
    return path.suffix == SUFFIX or (path / MANIFEST).is_file()


# ---- the project of a video


def default_folder(video_path: Path) -> Path:
    """Beside the video: clip.surgicalsam for clip.mp4, frames.surgicalsam for a folder of images called frames."""
    video_path = video_path.absolute()
    stem = video_path.name if video_path.is_dir() else video_path.stem
    return video_path.with_name(stem + SUFFIX)


def project_of(
    video_path: Path, default: Path | None = None, *, among: Sequence[tuple[Path, VideoRecord]] | None = None
) -> Path:
    """The project of a video: by its name, or one beside it whose video was renamed. Nothing is decoded.

    Parameters
    ----------
    default : where the project would be by its name, if that is not beside the video
    among : `projects_in` the folder with the project, if they were read already

    Returns
    -------
    `default` if there is no project yet
    """
    default = default_folder(video_path) if default is None else default
    if (default / MANIFEST).is_file() or not video_path.exists():
        return default
    projects = list(projects_in(default.parent)) if among is None else among
    return _by_place(video_path, projects) or _by_bytes(video_path, projects) or default


def project_for(video: VideoReader, default: Path) -> Path:
    """As `project_of`, for an open video: also one beside it whose video was renamed and has grown, or is another file.

    A project by the name of the video that is not its own is passed over if another one has its bytes.
    """
    path = video.info.path
    is_by_name = (default / MANIFEST).is_file()
    if is_by_name:
        with suppress(ProjectError):  # a damaged one: opening it says so
            record = read_manifest(default).video
            if video.info.fingerprint in (record.fingerprint, *record.known_files):
                return default
    projects = list(projects_in(default.parent))
    if is_by_name:
        return _by_bytes(path, projects) or default
    found = _by_place(path, projects) or _by_bytes(path, projects)
    return found or _by_frames(video, projects) or default


def projects_in(folder: Path) -> Iterator[tuple[Path, VideoRecord]]:
    """The projects directly in a folder that have the name of their video, or one of its former names; each with its record.

    A project under another name was put there on purpose, for example a second one for the same video.
    """
    with suppress(OSError):
        for project in sorted(folder.glob(f"*{SUFFIX}")):
            with suppress(ProjectError):
                record = read_manifest(project).video
                names = (Path(name) for name in (record.path, *record.former_names))
                if project.stem in (name.name if record.byte_count is None else name.stem for name in names):
                    yield project, record


def _by_place(video_path: Path, projects: Iterable[tuple[Path, VideoRecord]]) -> Path | None:
    """The project whose video was at this place last."""
    named = (each for each in projects if each[1].path.endswith(video_path.name))  # quick, for many projects
    return next((folder for folder, record in named if video_path.absolute() in _places(folder, record)), None)


def _by_bytes(video_path: Path, projects: Iterable[tuple[Path, VideoRecord]]) -> Path | None:
    """The project that has this file as its video, under another name until now; for a copy beside the original, none."""
    with suppress(OSError, IndexError):
        own, own_bytes = None, byte_count(video_path)
        for folder, record in projects:
            if record.byte_count == own_bytes and _is_without_video(folder, record, video_path):
                own = fingerprint(video_path) if own is None else own
                if own in (record.fingerprint, *record.known_files):
                    return folder
    return None


def _by_frames(video: VideoReader, projects: Iterable[tuple[Path, VideoRecord]]) -> Path | None:
    """The project whose video is gone, and whose frames this one has."""
    for folder, record in projects:
        is_gone = may_be(record, video) and _is_without_video(folder, record, video.info.path)
        if is_gone and compare(folder, record, video).is_same:
            return folder
    return None


def _is_without_video(folder: Path, record: VideoRecord, but: Path) -> bool:
    """Whether the video of a project is not where it was, or is this one."""
    places = _places(folder, record)
    return but.absolute() in places or not any(place.exists() for place in places)


# ---- the video of a project


def find_video(folder: Path, record: VideoRecord) -> tuple[VideoReader, Comparison]:
    """Open the video at its last place (relative to the project, or absolute), or beside the project under any name.

    Raises
    ------
    ProjectError
        it is not there, or the file there is another video: what was found
    """
    refusal = None
    for path in video_candidates(folder, record):
        with suppress(VideoError, OSError, IndexError):
            is_at_its_place = path in _places(folder, record)
            if not is_at_its_place and fingerprint(path) not in (record.fingerprint, *record.known_files):
                continue
            video = VideoReader(path)
            try:
                return checked(folder, record, video)
            except ProjectError as error:
                video.close()
                refusal = refusal or str(error)
    raise ProjectError(
        refusal
        or f"The video of {folder.name} should be at {record.path} or beside the project; it is not there. Move it there, "
        "or show where it is now: in the window Videos…, Find the video…; in Python "
        "Project.open(folder, video=VideoReader(path))."
    )


def checked(folder: Path, record: VideoRecord, video: VideoReader) -> tuple[VideoReader, Comparison]:
    """The reader for the video of a project, usually `video`, and what was found; a ProjectError if it is another one."""
    if video.info.left_out and video.info.fingerprint != record.fingerprint:  # an earlier version counted every image
        every_image = VideoReader(video.info.path, every_image=True)
        if every_image.info.fingerprint == record.fingerprint:
            video.close()
            video = every_image
        else:
            every_image.close()
    comparison = compare(folder, record, video)
    if not comparison.is_same:
        raise ProjectError(comparison.refusal)
    return video, comparison


def video_candidates(folder: Path, record: VideoRecord) -> Iterator[Path]:
    """Existing files that may be the video of a project: at its last place, or beside the project; none was read yet."""
    tried = set()
    for path in _places(folder, record):
        if path not in tried and path.exists():
            tried.add(path)
            yield path
    with suppress(OSError):
        for path in sorted(folder.parent.iterdir()):
            if path not in tried and is_video(path) and (path.is_dir() or path.stat().st_size == record.byte_count):
                yield path


def _places(folder: Path, record: VideoRecord) -> list[Path]:
    """Where the video of a project may be under its own name: the same relative to the project, absolute, and beside it."""
    relative = [] if record.relative_path is None else [Path(os.path.normpath(folder / record.relative_path))]
    return [*relative, Path(record.path), folder.parent / Path(record.path).name]


def recorded(record: VideoRecord, video: VideoReader, folder: Path) -> VideoRecord:
    """The record of the same video at its present place; samples are taken if an earlier version took none."""
    now = VideoRecord.of(video.info, folder)
    fields: dict[str, Any] = {"path": now.path, "relative_path": now.relative_path, "byte_count": now.byte_count}
    if now.fingerprint not in (record.fingerprint, *record.known_files) and now.frame_count == record.frame_count:
        fields["known_files"] = (*record.known_files, now.fingerprint)[-KNOWN_FILES:]
    if not record.samples:
        fields["samples"] = video.frame_samples
    if (old_name := Path(record.path).name) != video.info.path.name:
        fields["former_names"] = tuple(dict.fromkeys((*record.former_names, old_name)))
    return record.model_copy(update=fields)


def byte_count(path: Path) -> int | None:
    """The size of a video's file; None for a folder of images."""
    return None if path.is_dir() else path.stat().st_size
