"""Statistics of a project: how often, how long and how large each instrument is in the video, and how much was corrected."""

from __future__ import annotations

import csv
import io
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from surgicalsam_napari.errors import ProjectError, VideoError
from surgicalsam_napari.files import write_file
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.store.checking import check_intact
from surgicalsam_napari.store.disk.files import writing
from surgicalsam_napari.store.provenance import is_by_person

COLUMNS = (
    "class_id",
    "class",
    "frames",
    "seconds",
    "mean_area_pixels",
    "mean_area_percent",
    "total_area_pixels",
    "total_area_percent",
    "corrected_frames",
    "verified_frames",
)


@dataclass(frozen=True)
class ClassStatistics:
    """One class in the whole video.

    Attributes
    ----------
    frame_count : frames that show the class
    seconds : how long these frames are shown; None if the video has no times or was not found
    mean_pixels : area in the frames that show it; 0 if none does
    mean_share : the same, as a share of the picture
    total_pixels : area in all frames together
    total_share : the same, as a share of the picture in all frames of the video
    corrected_count : frames in which a person edited or verified the class
    verified_count : frames in which a person verified it
    """

    class_id: int
    name: str
    frame_count: int
    seconds: float | None
    mean_pixels: float
    mean_share: float
    total_pixels: int
    total_share: float
    corrected_count: int
    verified_count: int


@dataclass(frozen=True)
class VideoStatistics:
    """All classes of a project, in their order.

    Attributes
    ----------
    video : file name
    seconds : duration of the video; None if it has no times or was not found
    picture_pixels : pixels of the picture, without the black border of the endoscope
    """

    video: str
    frame_count: int
    seconds: float | None
    picture_pixels: int
    classes: tuple[ClassStatistics, ...]

    def rows(self) -> list[tuple]:
        """The values of `COLUMNS` for each class; empty seconds if they are unknown."""
        return [
            (
                entry.class_id,
                entry.name,
                entry.frame_count,
                "" if entry.seconds is None else round(entry.seconds, 3),
                round(entry.mean_pixels, 1),
                round(100 * entry.mean_share, 3),
                entry.total_pixels,
                round(100 * entry.total_share, 4),
                entry.corrected_count,
                entry.verified_count,
            )
            for entry in self.classes
        ]

    def write_csv(self, path: Path | str) -> None:
        """Write a line per class, completely or not at all; a ProjectError or DiskSpaceError if that fails."""
        path = Path(path).expanduser().absolute()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(self.rows())
        with writing("The statistics", path.parent):
            write_file(path, text.getvalue().encode())


@dataclass(frozen=True)
class StatisticsReport:
    """The labels of one frame were read."""

    frame_index: int
    done: int
    total: int


def measure_statistics(project: Project) -> Generator[StatisticsReport, None, VideoStatistics]:
    """Read the labels of all frames, and count; changes nothing.

    Raises
    ------
    ProjectError
        the labels of a frame are damaged
    """
    check_intact(project)
    classes, provenance = project.classes, project.labels.provenance_table()
    areas = np.zeros(provenance.shape, np.int64)  # pixels per frame and class
    labelled = np.flatnonzero((provenance != Provenance.EMPTY).any(axis=1)).tolist()
    for done, frame_index in enumerate(labelled, 1):
        areas[frame_index] = np.bincount(project.labels[frame_index].ravel(), minlength=256)[list(classes.ids)]
        yield StatisticsReport(frame_index, done, len(labelled))
    seconds, picture_pixels = _frame_seconds(project), _picture_pixels(project)
    return VideoStatistics(
        video=project.manifest.video_path.name,
        frame_count=len(provenance),
        seconds=None if seconds is None else float(seconds.sum()),
        picture_pixels=picture_pixels,
        classes=tuple(
            _of_class(instrument.id, instrument.name, areas[:, column], provenance[:, column], seconds, picture_pixels)
            for column, instrument in enumerate(classes)
        ),
    )


def _of_class(
    class_id: int, name: str, areas: np.ndarray, provenance: np.ndarray, seconds: np.ndarray | None, picture_pixels: int
) -> ClassStatistics:
    """
    Parameters
    ----------
    areas : (T,) pixels of the class
    provenance : (T,) of the class
    seconds : (T,) how long each frame is shown
    """
    is_shown, total = areas > 0, int(areas.sum())
    frame_count = int(is_shown.sum())
    mean = total / frame_count if frame_count else 0.0
    return ClassStatistics(
        class_id,
        name,
        frame_count,
        None if seconds is None else float(seconds[is_shown].sum()),
        mean,
        mean / picture_pixels,
        total,
        total / picture_pixels / len(areas),
        int(is_by_person(provenance).sum()),
        int((provenance == Provenance.VERIFIED).sum()),
    )


def _frame_seconds(project: Project) -> np.ndarray | None:
    """How long each frame is shown: (T,) seconds until the next one; the last frame like the middle one of the others."""
    try:
        times, rate = project.video.frame_times(), project.video.info.frame_rate
    except (ProjectError, VideoError):
        return None
    if times is None:
        return None
    steps = np.diff(times)
    last = float(np.median(steps)) if len(steps) else 1 / rate if rate else 0.0
    return np.append(steps, last)


def _picture_pixels(project: Project) -> int:
    try:
        return int(project.content_area.mask.sum())
    except (ProjectError, VideoError):  # the border cannot be seen without the video
        return int(np.prod(project.manifest.video.size))
