"""Write the overlay of a project: a video at the speed of its own, or a picture of one frame."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from surgicalsam_napari.errors import VideoError
from surgicalsam_napari.files import write_file
from surgicalsam_napari.overlay.drawing import DEFAULT_STYLE, OverlayStyle, draw_overlay
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.checking import check_intact
from surgicalsam_napari.store.disk.files import writing
from surgicalsam_napari.video import VideoReader, writing_video

VIDEO_SUFFIXES, PICTURE_SUFFIXES = (".mp4", ".mov", ".mkv"), (".png", ".jpg", ".jpeg")
IMAGES_PER_SECOND = 25.0  # of a folder of images, which has no times
UNEVEN = 0.25  # of a frame's duration; a larger deviation from even steps is a varying frame rate


@dataclass(frozen=True)
class OverlayReport:
    """One frame was drawn and written."""

    frame_index: int
    done: int
    total: int


def overlay_frame(project: Project, frame_index: int, style: OverlayStyle = DEFAULT_STYLE) -> np.ndarray:
    """The frame of a project's video with its masks: (H, W, 3) uint8 RGB."""
    return draw_overlay(project.video.frame(frame_index), project.labels[frame_index], project.classes, style)


def write_overlay_video(
    project: Project, path: Path | str, frame_indices: Sequence[int], style: OverlayStyle = DEFAULT_STYLE
) -> Generator[OverlayReport, None, Path]:
    """Write frames with their masks as H.264 without sound; each frame is shown when the project's video shows it.

    An odd width or height gets one more column or row, because many players show only even sizes. The file appears at the
    end. If the generator is closed before, or fails, no file appears and an old one stays.

    Parameters
    ----------
    path : ends in .mp4, .mov or .mkv
    frame_indices : ascending

    Returns
    -------
    the path

    Raises
    ------
    VideoError
        another suffix, no frames, an unreadable frame, the project's own video, or a file that cannot be written
    DiskSpaceError
        the disk is full
    """
    check_intact(project)
    path = _checked(project, path, VIDEO_SUFFIXES)
    frames = list(frame_indices)
    rate, times = timing(project.video, frames)
    with writing_video(path, rate, times) as write:
        for done, frame_index in enumerate(frames, 1):
            write(_with_even_sides(overlay_frame(project, frame_index, style)))
            yield OverlayReport(frame_index, done, len(frames))
    return path


def write_overlay_picture(project: Project, path: Path | str, frame_index: int, style: OverlayStyle = DEFAULT_STYLE) -> Path:
    """Write one frame with its masks as a picture.

    Parameters
    ----------
    path : ends in .png, .jpg or .jpeg

    Raises
    ------
    VideoError, ProjectError, DiskSpaceError
        another suffix, an unreadable frame, or a file that cannot be written; an old file stays
    """
    check_intact(project)
    path = _checked(project, path, PICTURE_SUFFIXES)
    picture = cv2.cvtColor(overlay_frame(project, frame_index, style), cv2.COLOR_RGB2BGR)
    with writing("The picture", path.parent):
        write_file(path, cv2.imencode(path.suffix.lower(), picture)[1].tobytes())
    return path


def is_picture(path: Path | str) -> bool:
    """Whether this name is that of a picture, rather than a video."""
    return Path(path).suffix.lower() in PICTURE_SUFFIXES


def timing(video: VideoReader, frame_indices: Sequence[int]) -> tuple[float, np.ndarray | None]:
    """Frames per second, and the seconds at which each frame is shown; None if they are shown in even steps.

    Every n-th frame is shown at an n-th of the rate, so that the speed stays that of the video.
    """
    rate = video.info.frame_rate or IMAGES_PER_SECOND
    steps = np.diff(frame_indices)
    if not len(steps):
        return rate, None
    all_times = video.frame_times()
    times = np.asarray(frame_indices) / rate if all_times is None else all_times[frame_indices]
    times = times - times[0]
    step = int(steps[0])
    even = np.arange(len(times)) * step / rate
    if (steps == step).all() and np.abs(times - even).max() <= UNEVEN / rate:
        return rate / step, None
    return (len(times) - 1) / times[-1], times


def _with_even_sides(picture: np.ndarray) -> np.ndarray:
    """The picture, with its last row or column twice if their number is odd."""
    height, width, _ = picture.shape
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") if height % 2 or width % 2 else picture


def _checked(project: Project, path: Path | str, suffixes: tuple[str, ...]) -> Path:
    path = Path(path).expanduser().absolute()
    if path.suffix.lower() not in suffixes:
        raise VideoError(f"The name of the overlay must end in {', '.join(suffixes)}; got {path.name}. Choose another name.")
    if path.resolve() == project.manifest.video_path.resolve():
        raise VideoError(f"{path.name} is the video of this project; an overlay must not replace it. Choose another name.")
    return path
