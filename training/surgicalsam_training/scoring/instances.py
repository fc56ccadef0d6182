"""Scores of instances in videos: how well masks are found, and how well instruments keep their identity and class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce

import numpy as np

from surgicalsam_training.scoring.average_precision import Instance, PrecisionMeter
from surgicalsam_training.scoring.tracking import (
    FrameOverlap,
    TrackingCounts,
    classes_of_instruments,
    count_flips,
    count_tracking,
    frame_overlap,
)


@dataclass(frozen=True)
class InstanceFrame:
    """The instances of one frame.

    Attributes
    ----------
    labels : (H, W) class ids, 0 background
    tracks : (H, W) track ids, the same for an instrument in all frames of its video; 0 where there is no instance
    confidence : by class id, 0 to 1; 1 for a class that is not listed
    """

    labels: np.ndarray
    tracks: np.ndarray
    confidence: Mapping[int, float] = field(default_factory=dict)

    def instances(self) -> Iterator[Instance]:
        """A mask for each track; its class is the one on most of its pixels."""
        for track_id in np.unique(self.tracks[self.tracks > 0]):
            mask = self.tracks == track_id
            class_id = int(np.bincount(self.labels[mask]).argmax())
            yield Instance(class_id, mask, self.confidence.get(class_id, 1.0))


@dataclass(frozen=True)
class InstanceVideo:
    """The frames of one video to score, in order.

    Attributes
    ----------
    frames : truth and prediction of each frame
    seconds : from the first of these frames to the last, both included; None if the frame rate is not known
    """

    frames: Iterable[tuple[InstanceFrame, InstanceFrame]]
    seconds: float | None


@dataclass(frozen=True)
class InstanceScores:
    """Scores of one or several videos, in percent unless another unit is named; NaN if there is nothing to score.

    Attributes
    ----------
    ap, ap50 : average precision of masks as in COCO, mean over IoU of 0.50 to 0.95, and at 0.50; by class
    idf1, hota, detection_accuracy, association_accuracy : of tracks, whatever their class
    id_switches, class_flips : how often an instrument of the truth got another track, or another class, than before; None
        if instruments are not followed
    id_switches_per_minute : of video; NaN without a frame rate
    class_flips_per_minute : of an instrument's time in the picture; NaN without a frame rate
    frames, instruments : how many were scored; an instrument is a track of the truth
    """

    ap: float
    ap50: float
    idf1: float
    hota: float
    detection_accuracy: float
    association_accuracy: float
    id_switches: int | None
    id_switches_per_minute: float
    class_flips: int | None
    class_flips_per_minute: float
    frames: int
    instruments: int


def score_instances(videos: Iterable[InstanceVideo]) -> InstanceScores:
    """Score predicted instances; reads the frames of each video once."""
    meter = PrecisionMeter()
    counted = [_count_video(video, meter) for video in videos]
    if not counted:
        raise ValueError("There should be one video or more to score; got none.")
    tracking = reduce(TrackingCounts.__add__, (one.tracking for one in counted))
    precision = meter.result()
    flips = sum(one.flips for one in counted)
    return InstanceScores(
        precision.ap,
        precision.ap50,
        100 * tracking.idf1,
        100 * tracking.hota,
        100 * tracking.detection_accuracy,
        100 * tracking.association_accuracy,
        tracking.switches,
        _per_minute(tracking.switches, sum(one.seconds for one in counted)),
        flips,
        _per_minute(flips, sum(one.instrument_seconds for one in counted)),
        sum(one.frames for one in counted),
        sum(one.instruments for one in counted),
    )


@dataclass(frozen=True)
class _Counted:
    """Of one video; seconds are NaN without a frame rate."""

    tracking: TrackingCounts
    flips: int
    frames: int
    instruments: int
    seconds: float
    instrument_seconds: float


def _count_video(video: InstanceVideo, meter: PrecisionMeter) -> _Counted:
    overlaps: list[FrameOverlap] = []
    classes: list[dict[int, int]] = []
    for truth, predicted in video.frames:
        overlaps.append(frame_overlap(truth.tracks, predicted.tracks))
        classes.append(classes_of_instruments(truth.tracks, predicted.labels))
        meter.add(truth.instances(), predicted.instances())
    seen = np.concatenate([one.true_ids for one in overlaps]) if overlaps else np.array([], int)
    seconds = float("nan") if video.seconds is None else video.seconds
    each = seconds / len(overlaps) if overlaps else 0.0
    return _Counted(
        count_tracking(overlaps), count_flips(classes), len(overlaps), len(set(seen.tolist())), seconds, each * len(seen)
    )


def _per_minute(count: int, seconds: float) -> float:
    return 60 * count / seconds if seconds else float("nan")
