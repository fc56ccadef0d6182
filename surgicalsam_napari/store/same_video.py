"""Is this file the video of a project? By its bytes if they are known, else by samples of its frames."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

import numpy as np

from surgicalsam_napari.errors import VideoError
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.store.manifest import VideoRecord
from surgicalsam_napari.video import VideoInfo, VideoReader
from surgicalsam_napari.video.fingerprint import frame_sample, sample_difference

SAME_LEVELS = 2  # of 255; the same pixels, converted to RGB by two versions of FFmpeg, differ by no more at any point
NEAR_LEVELS = 6  # on average; encoding a frame again changes it by less, another scene by more


class Finding(Enum):
    """What a file is to a project."""

    SAME_FILE = auto()
    SAME_FRAMES = auto()  #: other bytes, such as another container
    GROWN = auto()  #: the same frames, and more after them
    SHORTER = auto()  #: the first of the same frames
    CUT_AT_START = auto()  #: the last of the same frames
    ENCODED_AGAIN = auto()  #: nearly the same frames
    OTHER = auto()
    UNKNOWN = auto()  #: other bytes, and the project has no samples


@dataclass(frozen=True)
class Comparison:
    """A file compared with the video of a project.

    Attributes
    ----------
    project : the project folder
    record : the video of the project
    info : the file
    compared, same : number of frames that were compared, and how many of them are the same
    difference : of the compared frames, on average, in levels of 0 to 255
    """

    finding: Finding
    project: Path
    record: VideoRecord
    info: VideoInfo
    compared: int = 0
    same: int = 0
    difference: float = 0.0

    @property
    def is_same(self) -> bool:
        """Whether every frame of the project is in this file, under its number."""
        return self.finding in (Finding.SAME_FILE, Finding.SAME_FRAMES, Finding.GROWN)

    @property
    def is_changed(self) -> bool:
        """Whether the file has other bytes or more frames than the project knows."""
        return self.finding in (Finding.SAME_FRAMES, Finding.GROWN)

    @property
    def facts(self) -> str:
        """What was found, for a file that `is_same`; empty if there is nothing to say."""
        name, old = self.info.path.name, Path(self.record.path)
        if self.finding is Finding.GROWN:
            kind = "folder" if self.info.path.is_dir() else "recording"
            first = f"first {self.record.frame_count:,} are" if self.record.frame_count > 1 else "first one is"
            grown = f"from {self.record.frame_count:,} to {counted(self.info.frame_count, 'frame')}"
            return f"This {kind} has grown {grown}; the {first} the same."
        frames = f"its {counted(self.record.frame_count, 'frame')} are the same"
        if self.finding is Finding.SAME_FRAMES:
            return f"{name} is another file than {old.name if name != old.name else 'before'}, but {frames}."
        if name != old.name:
            return f"{name} is {old.name} under a new name. Its project {self.project.name} goes on."
        return ""

    @property
    def question(self) -> str:
        return f"{self.facts} Go on with its project?"

    @property
    def refusal(self) -> str:
        """Why a file that is not `is_same` is refused, and what can be done."""
        return f"{self._difference} Nothing was changed. {self._remedy}"

    @property
    def _difference(self) -> str:
        name, old, project = self.info.path.name, Path(self.record.path).name, self.project.name
        theirs, ours = self.record.frame_count, self.info.frame_count
        if self.finding is Finding.SHORTER:
            return f"{project} needs {counted(theirs, 'frame')} of its video; {name} has only the first {ours:,} of them."
        if self.finding is Finding.CUT_AT_START:
            return (
                f"{project} needs {counted(theirs, 'frame')} of its video; {name} lacks the first {theirs - ours:,} of "
                "them, so every label would be on a wrong frame."
            )
        if self.finding is Finding.ENCODED_AGAIN:
            return (
                f"{project} belongs to the video {old}; {name} shows the same, but was encoded again: its pixels differ by "
                f"{self.difference:.1f} of 255 levels on average."
            )
        if self.finding is Finding.UNKNOWN:
            return (
                f"{project} belongs to the video {old}; {name} is another file, and the project, of an earlier version, has "
                "no samples of frames to compare it with."
            )
        other = f"{name} is another one{' now' if name == old else ''}"
        return f"{project} belongs to the video {old} ({self._facts_of_other}), but {other}."

    @property
    def _facts_of_other(self) -> str:
        (height, width), (own_height, own_width) = self.record.size, self.info.size
        if self.record.size != self.info.size:
            return f"{width} x {height} pixels, not {own_width} x {own_height}"
        return f"{self.same} of {counted(self.compared, 'compared frame')} {'is' if self.same == 1 else 'are'} the same"

    @property
    def _remedy(self) -> str:
        path = self.info.path
        back = {
            Finding.SHORTER: "Put the complete recording back and open it",
            Finding.CUT_AT_START: "Put the complete recording back and open it",
            Finding.ENCODED_AGAIN: "Put the original file back and open it",
            Finding.UNKNOWN: "Put the original file back and open it: this version then samples its frames",
            Finding.OTHER: "Open the right video",
        }[self.finding]
        new_name = f"{path.name if path.is_dir() else path.stem}-2{'' if path.is_dir() else path.suffix}"
        own = f"To give {path.name} a project of its own, rename it, for example to {new_name}, and open it again"
        labels = (
            f"; labels go from one project to the other by `surgicalsam export {self.project.name} --no-images --out "
            f"labels` and `surgicalsam import labels {new_name}`"
        )
        return f"{back}. {own}{labels if self.finding in (Finding.SHORTER, Finding.ENCODED_AGAIN) else ''}."


def compare(project: Path, record: VideoRecord, video: VideoReader) -> Comparison:
    """Compare a file with the video of a project; decodes frames only if its bytes are not known."""

    def found(finding: Finding, *numbers: float) -> Comparison:
        return Comparison(finding, project, record, video.info, *numbers)  # type: ignore[arg-type]

    count = video.info.frame_count
    if video.info.size != record.size:
        return found(Finding.OTHER)
    if count == record.frame_count and video.info.fingerprint in (record.fingerprint, *record.known_files):
        return found(Finding.SAME_FILE)
    if not record.samples:
        return found(Finding.UNKNOWN)
    differences = _differences(record.samples, video)
    numbers = (len(differences), sum(map(_is_same, differences)), float(np.mean(differences)) if differences else 255.0)
    if differences and all(map(_is_same, differences)):
        same = Finding.SAME_FRAMES if count == record.frame_count else Finding.GROWN
        return found(Finding.SHORTER if count < record.frame_count else same, *numbers)
    if count < record.frame_count:
        shifted = _differences(record.samples, video, record.frame_count - count)
        if len(shifted) > 1 and all(map(_is_same, shifted)):
            return found(Finding.CUT_AT_START, *numbers)
    is_near = bool(differences) and all(difference.mean() <= NEAR_LEVELS for difference in differences)
    return found(Finding.ENCODED_AGAIN if is_near else Finding.OTHER, *numbers)


def may_be(record: VideoRecord, video: VideoReader) -> bool:
    """Whether the first sampled frame is the same; a quick look before `compare`, where there are many projects."""
    first = dict(list(record.samples.items())[:1])
    return video.info.size == record.size and any(map(_is_same, _differences(first, video)))


def _differences(samples: Mapping[int, str], video: VideoReader, cut: int = 0) -> list[np.ndarray]:
    """The differences of the sampled frames from those of `video`, which lacks the first `cut` frames."""
    differences = []
    for frame_index, sample in samples.items():
        if 0 <= frame_index - cut < len(video):
            with suppress(VideoError):  # a damaged frame
                differences.append(sample_difference(sample, frame_sample(video.frame(frame_index - cut))))
    return differences


def _is_same(difference: np.ndarray) -> bool:
    return bool(difference.max() <= SAME_LEVELS)
