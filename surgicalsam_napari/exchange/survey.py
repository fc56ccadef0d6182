"""The survey before an import: every frame of a dataset is read and compared with the video; nothing is written."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from surgicalsam_napari.errors import ExchangeError, SurgicalSAMError
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame
from surgicalsam_napari.exchange.matching import FrameMatching, MatchRule, frames_of_video, match_frames
from surgicalsam_napari.exchange.overlaps import FILE_ORDER, ClassMask, Overlap, masks_by_class, overlaps
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store import Project, TrackTable
from surgicalsam_napari.store.label_maps import present_ids
from surgicalsam_napari.store.project_classes import ProjectClasses
from surgicalsam_napari.store.tracks import LARGEST_NUMBER


@dataclass(frozen=True)
class ImportReport:
    """One frame was checked or written.

    Attributes
    ----------
    frame_index : of the video
    kept_pixels : number of pixels that differ from the dataset, because a person painted or verified them
    is_changed : whether the import changed the frame: its labels, or that they count as a person's
    """

    frame_index: int
    done: int
    total: int
    kept_pixels: int = 0
    is_changed: bool = False


@dataclass(frozen=True)
class SurveyedFrame:
    """One frame of the dataset.

    Attributes
    ----------
    index : of the video; None if the frame is not in it
    present : the class ids that its labels have
    overlaps : pixels that several classes share
    problem : why it cannot be imported; "" if it can
    is_annotated : False if the dataset lists the frame without any annotation
    tracks : class id and track id of each track in it
    """

    frame: DatasetFrame
    index: int | None
    present: tuple[int, ...] = ()
    overlaps: tuple[Overlap, ...] = ()
    problem: str = ""
    is_annotated: bool = True
    tracks: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class ImportSurvey:
    """What a dataset contains for the video of a project, before any choice.

    Attributes
    ----------
    project_name : of the project's folder
    all_classes : of the project, with those that were removed
    rule : how frames were matched
    tracks : of the project
    """

    dataset: Dataset
    project_name: str
    all_classes: ProjectClasses
    rule: MatchRule
    frames: tuple[SurveyedFrame, ...]
    tracks: TrackTable = field(default_factory=TrackTable)

    @property
    def project_classes(self) -> ClassSet:
        """The classes that the project uses."""
        return self.all_classes.in_use


def survey_frames(
    project: Project, dataset: Dataset, sequence: str | None = None
) -> Generator[ImportReport, None, ImportSurvey]:
    """Read every frame of the dataset, and match it with the video; nothing is written. Returns the survey.

    Parameters
    ----------
    sequence : the sequence of the dataset that shows this video; None if it can be found by name

    Raises
    ------
    ExchangeError
        the sequence is not clear, or the frames cannot be matched; problems of single frames are in the survey
    """
    frames = frames_of_video(project, dataset, sequence)
    matching = match_frames(project, dataset, frames)
    names: dict[int, str] = {}  # by frame of the video
    surveyed = []
    for done, frame in enumerate(frames, 1):
        one = _surveyed(project, dataset, frame, matching)
        index = frame.frame_index if one.index is None else one.index
        if not one.problem and names.setdefault(index, frame.name) != frame.name:
            both = f"{frame.name} and {names[index]} are both frame {index} of the video. Remove one of the two."
            one = replace(one, problem=both)
        surveyed.append(one)
        yield ImportReport(index, done, len(frames))
    rule, tracks = matching.rule, project.tracks.table
    return ImportSurvey(dataset, project.folder.name, project.all_classes, rule, tuple(surveyed), tracks)


def _surveyed(project: Project, dataset: Dataset, frame: DatasetFrame, matching: FrameMatching) -> SurveyedFrame:
    index = matching.positions.get(frame)
    is_annotated = frame not in dataset.unannotated
    try:
        size, present, shared, tracks = _content(dataset, frame)
        height, width = project.labels.shape[1:]
        if size != (height, width):
            raise ExchangeError(
                f"{frame.name} has {size[1]} x {size[0]} pixels, but the video has {width} x {height}. Import labels that "
                "were made on this video."
            )
        if index is None:
            raise ExchangeError(matching.missing(frame))
    except SurgicalSAMError as error:
        return SurveyedFrame(frame, index, problem=" ".join(str(error).split()), is_annotated=is_annotated)
    return SurveyedFrame(frame, index, present, shared, is_annotated=is_annotated, tracks=tracks)


def _content(
    dataset: Dataset, frame: DatasetFrame
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[Overlap, ...], tuple[tuple[int, int], ...]]:
    """The size of the labels, the class ids that they have, the overlaps of the masks, and class and id of the tracks."""
    read = dataset.read(frame)
    if isinstance(read, np.ndarray):
        label_map = dataset.checked(frame, read)
        return label_map.shape, tuple(present_ids(label_map)), (), ()
    label_map = dataset.checked(frame, dataset.with_overlaps(FILE_ORDER).stacked(frame, read))
    present = sorted(class_id for class_id, mask in masks_by_class(read).items() if mask.any())
    return label_map.shape, tuple(present), overlaps(read), _tracks(dataset, frame, read)


def _tracks(dataset: Dataset, frame: DatasetFrame, masks: Sequence[ClassMask]) -> tuple[tuple[int, int], ...]:
    if not dataset.has_instances:
        return ()
    found = [one for one in masks if one.mask.any()]
    count = len({(one.track_id, one.instance) for one in found} - {(None, None)})
    if count > LARGEST_NUMBER:
        raise ExchangeError(
            f"{frame.name} has {count} instances, but a frame of a project holds {LARGEST_NUMBER}. Remove the smallest ones "
            "from the dataset, or import it without instances."
        )
    return tuple(dict.fromkeys((one.class_id, one.track_id) for one in found if one.track_id is not None))
