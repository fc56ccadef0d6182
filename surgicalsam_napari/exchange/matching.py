"""Matches the frames of a dataset with the frames of a project's video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame
from surgicalsam_napari.exchange.files import frame_number, safe_name
from surgicalsam_napari.store import Project
from surgicalsam_napari.video.image_folder import image_files


def frames_of_video(project: Project, dataset: Dataset, sequence: str | None) -> tuple[DatasetFrame, ...]:
    """The frames of one sequence: the given one, the only one, or the one that has the name of the video."""
    sequences = dataset.sequences
    if sequence is not None:
        name = next((name for name in sequences if name.casefold() == sequence.strip().casefold()), None)
        if name is None:
            raise ExchangeError(
                f'{dataset.path.name} has no sequence "{sequence}"; it has {_listed(sequences)}. Choose one of these.'
            )
    elif len(sequences) == 1:
        name = sequences[0]
    elif matched_frames := _frames_of_pictures(project, dataset):
        return matched_frames
    else:
        video = project.manifest.video_path
        names = {video.stem, video.name, safe_name(video.stem), video.parent.name}
        matching = [name for name in sequences if name in names]
        if len(matching) != 1:
            raise ExchangeError(
                f"{dataset.path.name} has {len(sequences)} sequences ({_listed(sequences)}), but a project has one video. "
                "Choose the sequence that shows this video (--sequence NAME on the command line)."
            )
        name = matching[0]
    return tuple(frame for frame in dataset.frames if frame.sequence == name)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _frames_of_pictures(project: Project, dataset: Dataset) -> tuple[DatasetFrame, ...]:
    """If the video is a folder of pictures: the frames, of any sequence, whose pictures are in it, by file name."""
    stems = [frame.image_path.stem for frame in dataset.frames if frame.image_path is not None]
    in_video = {path.stem for path in _pictures(project)}
    if len(set(stems)) < len(dataset.frames) or not in_video:
        return ()
    return tuple(frame for frame in dataset.frames if frame.image_path is not None and frame.image_path.stem in in_video)


def positions_in_video(project: Project, dataset: Dataset, frames: Sequence[DatasetFrame]) -> dict[DatasetFrame, int]:
    """The frame index in the video for each frame of the dataset; frames that are not in the video are left out.

    A folder of pictures is matched by file name, because its numbers may start anywhere and have gaps; a video by number.
    """
    pictures = [] if dataset.is_export else _pictures(project)
    if not pictures:
        return {frame: frame.frame_index for frame in frames}
    by_stem = {path.stem: position for position, path in enumerate(pictures)}
    numbers = [frame_number(path.stem) for path in pictures]
    by_number = {number: position for position, number in enumerate(numbers) if number is not None}
    if len(by_number) < len(numbers):
        by_number = {}
    position_of = {}
    for frame in frames:
        positions = [by_stem[stem] for stem in _stems(frame) if stem in by_stem]
        positions += [by_number[frame.frame_index]] if frame.frame_index in by_number else []
        if positions:
            position_of[frame] = positions[0]
    return position_of


def _stems(frame: DatasetFrame) -> Iterator[str]:
    """Possible names of the picture of a frame, without suffix."""
    if frame.image_path is not None:
        yield frame.image_path.stem
    stem = frame.name.rpartition("/")[2]
    yield f"{frame.sequence}_{stem}"
    yield stem


def _pictures(project: Project) -> list[Path]:
    """The files of the project's video, if it is a folder of pictures."""
    folder = project.manifest.video_path
    return image_files(folder) if folder.is_dir() else []
