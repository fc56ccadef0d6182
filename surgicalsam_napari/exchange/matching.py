"""Matches the frames of a dataset with the frames of a project's video, by one rule for the whole dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame
from surgicalsam_napari.exchange.files import safe_name
from surgicalsam_napari.exchange.frame_names import FrameName, read_frame_names
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.store import Project
from surgicalsam_napari.video.image_folder import frame_files, image_files, without_mask_ending


class MatchRule(StrEnum):
    """How a frame of the dataset finds its frame in the video; the text is for the user."""

    NUMBER = "the number in the name is the frame of the video"
    TIME = "the time in the name, at the frame rate of the video"
    POSITION = "the number is the position in the video's folder, because this program exported it"
    PICTURE_NAME = "the picture with the same name in the video's folder"
    PICTURE_NUMBER = "the picture with the same number in the video's folder"


@dataclass(frozen=True)
class FrameMatching:
    """The frames of a dataset in the video.

    Attributes
    ----------
    positions : the frame index in the video; frames that are not in the video are left out
    in_video : what the video has instead, for messages
    """

    rule: MatchRule
    positions: Mapping[DatasetFrame, int]
    in_video: str

    def missing(self, frame: DatasetFrame) -> str:
        """Why a frame is not in the video."""
        name = None if self.rule is MatchRule.PICTURE_NAME else frame.file_name
        reading = "" if name is None else f" (read as {name.reading})"
        return (
            f"{frame.name} has no matching frame in the video, which has {self.in_video}{reading}. The rule for frames is: "
            f"{self.rule}. Import labels that were made on this video."
        )


def frames_of_video(project: Project, dataset: Dataset, sequence: str | None) -> tuple[DatasetFrame, ...]:
    """The frames of one sequence: the given one, the only one, or the one that has the name of the video."""
    sequences = dataset.sequences
    if sequence is not None:
        name = next((name for name in sequences if name.casefold() == sequence.strip().casefold()), None)
        if name is None:
            raise ExchangeError(
                f'{dataset.path.name} has no sequence "{sequence}"; it has {_listed(dataset)}. Choose one of these.'
            )
    elif len(sequences) == 1:
        name = sequences[0]
    elif matched_frames := _frames_of_pictures(project, dataset):
        return matched_frames
    else:
        video = project.manifest.video_path
        names = {name.casefold() for name in (video.stem, video.name, safe_name(video.stem), video.parent.name)}
        matching = [name for name in sequences if name.casefold() in names]
        if len(matching) != 1:
            raise ExchangeError(
                f"{dataset.path.name} has {len(sequences)} sequences ({_listed(dataset)}), but a project has one video. "
                "Choose the sequence that shows this video (--sequence NAME on the command line)."
            )
        name = matching[0]
    return tuple(frame for frame in dataset.frames if frame.sequence == name)


def sequence_sizes(dataset: Dataset) -> dict[str, int]:
    """The number of frames of each sequence."""
    sizes = dict.fromkeys(dataset.sequences, 0)
    for frame in dataset.frames:
        sizes[frame.sequence] += 1
    return sizes


def _listed(dataset: Dataset) -> str:
    sizes = [f"{name}: {counted(count, 'frame')}" for name, count in sequence_sizes(dataset).items()]
    return ", ".join(sizes[:10]) + (f" and {len(sizes) - 10} more" if len(sizes) > 10 else "")


def _frames_of_pictures(project: Project, dataset: Dataset) -> tuple[DatasetFrame, ...]:
    """If the video is a folder of pictures: the frames, of any sequence, whose pictures are in it, by file name."""
    stems = {frame: next(_stems(frame)) for frame in dataset.frames}
    in_video = {path.stem for path in _pictures(project)}
    if len(set(stems.values())) < len(dataset.frames):
        return ()
    return tuple(frame for frame, name in stems.items() if name in in_video)


def match_frames(project: Project, dataset: Dataset, frames: Sequence[DatasetFrame]) -> FrameMatching:
    """Find the frames of a dataset in the video.

    A folder of pictures is matched by the names of the pictures, because their numbers may start anywhere and have gaps,
    else by the numbers in their names; a video by number or time; an export of this program by position.

    Raises
    ------
    ExchangeError
        names are times, and the frame rate is unknown; or the pictures of the video have no clear numbers
    """
    frame_count = len(project.labels)
    pictures = _pictures(project)
    if dataset.is_export or not pictures:
        positions, is_time = _by_number(project, frames)
        positions = {frame: position for frame, position in positions.items() if 0 <= position < frame_count}
        rule = MatchRule.POSITION if pictures else MatchRule.TIME if is_time else MatchRule.NUMBER
        return FrameMatching(rule, positions, f"frames 0 to {frame_count - 1}")
    if by_name := _by_name(pictures, frames):
        names = f"{len(pictures)} pictures, {pictures[0].name} to {pictures[-1].name}"
        return FrameMatching(MatchRule.PICTURE_NAME, by_name, names)
    numbers = _numbers(pictures)
    by_number = {name.number: position for position, name in enumerate(numbers)}
    found = {frame: by_number[frame.frame_index] for frame in frames if frame.frame_index in by_number}
    range_text = f"{len(pictures)} pictures with the numbers {min(by_number)} to {max(by_number)}"
    return FrameMatching(MatchRule.PICTURE_NUMBER, found, range_text)


def _by_number(project: Project, frames: Sequence[DatasetFrame]) -> tuple[dict[DatasetFrame, int], bool]:
    """The position of each frame, and whether its name is a time."""
    is_time = any(frame.file_name is not None and frame.file_name.seconds is not None for frame in frames)
    if not is_time:
        return {frame: frame.frame_index for frame in frames}, False
    rate = project.manifest.video.frame_rate
    if not rate:
        raise ExchangeError(
            f"The names of the labels are times (such as {frames[0].name}), but the frame rate of the video is not known. "
            "Rename the labels with frame numbers."
        )
    seconds = {frame: _seconds(frame.file_name, rate) for frame in frames}
    return {frame: round(time * rate) for frame, time in seconds.items()}, True


def _seconds(name: FrameName | None, rate: float) -> float:
    if name is None:
        return 0.0
    return name.number / rate if name.seconds is None else name.seconds


def _by_name(pictures: Sequence[Path], frames: Sequence[DatasetFrame]) -> dict[DatasetFrame, int]:
    by_stem = {path.stem: position for position, path in enumerate(pictures)}
    found = {frame: next((by_stem[stem] for stem in _stems(frame) if stem in by_stem), None) for frame in frames}
    return {frame: position for frame, position in found.items() if position is not None}


def _numbers(pictures: Sequence[Path]) -> list[FrameName]:
    try:
        names = read_frame_names([path.stem for path in pictures])
    except ExchangeError as error:
        raise ExchangeError(
            f"The labels have other names than the pictures of the video, whose numbers are not clear. {error}"
        ) from error
    numbers = [names[path.stem] for path in pictures]
    if len({name.number for name in numbers}) < len(numbers):
        raise ExchangeError(
            f"The labels have other names than the pictures of the video, and some pictures have the same number (such as "
            f"{pictures[0].name}). Name the labels like the pictures."
        )
    return numbers


def _stems(frame: DatasetFrame) -> Iterator[str]:
    """Possible names of the picture of a frame, without suffix."""
    if frame.image_path is not None:
        yield frame.image_path.stem
    stem = frame.name.rpartition("/")[2]
    for name in (stem, without_mask_ending(stem)):
        yield f"{frame.sequence}_{name}"
        yield name


def _pictures(project: Project) -> list[Path]:
    """The files of the project's video, if it is a folder of pictures."""
    folder = project.manifest.video_path
    if not folder.is_dir():
        return []
    frames, _ = frame_files(folder)
    return frames if len(frames) == len(project.labels) else image_files(folder)
