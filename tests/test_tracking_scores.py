"""HOTA, IDF1, switches, flips and average precision of instances, on small maps whose scores follow by hand."""

from __future__ import annotations

import numpy as np
import pytest

from surgicalsam_napari.phantom import PhantomScene
from surgicalsam_training.scoring.average_precision import Instance, PrecisionMeter
from surgicalsam_training.scoring.instances import InstanceFrame, InstanceVideo, score_instances
from surgicalsam_training.scoring.tracking import (
    TrackingCounts,
    classes_of_instruments,
    count_flips,
    count_tracking,
    frame_overlap,
)


def row(*ids: int) -> np.ndarray:
    """A map of one row."""
    return np.array([ids])


def counted(*frames: tuple[np.ndarray, np.ndarray]) -> TrackingCounts:
    return count_tracking(frame_overlap(truth, predicted) for truth, predicted in frames)


TWO = row(1, 1, 0, 2, 2)


def test_a_perfect_result_scores_one_whatever_its_ids_are():
    counts = counted((TWO, TWO * 40), (row(0, 0, 0, 0, 0), row(0, 0, 0, 0, 0)), (TWO, TWO * 40))
    assert counts.hota == counts.idf1 == counts.detection_accuracy == counts.association_accuracy == 1
    assert counts.switches == 0


def test_a_swap_halves_the_identity_and_counts_two_switches():
    swapped = row(2, 2, 0, 1, 1)
    counts = counted((TWO, TWO), (TWO, TWO), (TWO, swapped), (TWO, swapped))
    assert counts.switches == 2
    assert counts.idf1 == pytest.approx(0.5)
    assert counts.detection_accuracy == 1
    # each track of the truth shares 2 of 6 frames with each predicted track
    assert counts.association_accuracy == pytest.approx(1 / 3)
    assert counts.hota == pytest.approx(np.sqrt(1 / 3))


def test_an_instrument_that_returns_with_another_track_is_one_switch():
    gone, new = row(1, 1, 0, 0, 0), row(1, 1, 0, 3, 3)
    counts = counted((TWO, TWO), (gone, gone), (TWO, new), (TWO, new))
    assert counts.switches == 1
    assert counts.idf1 == pytest.approx(2 * 6 / 14)


def test_masks_that_overlap_too_little_are_no_match():
    counts = counted((row(1, 1, 1, 1), row(5, 0, 0, 0)))
    assert counts.idf1 == 0 and counts.switches == 0
    assert counts.detection_accuracy == pytest.approx(5 / 19)  # an IoU of 0.25 passes 5 of the 19 thresholds


def test_missed_and_invented_instances_lower_the_detection():
    counts = counted((TWO, row(1, 1, 0, 0, 0)), (row(1, 1, 0, 0, 0), TWO))
    assert counts.detection_accuracy == pytest.approx(2 / 4)
    assert (counts.true, counts.predicted) == (3, 3)


def test_the_counts_of_videos_add_up():
    first, second = counted((TWO, TWO)), counted((TWO, row(1, 1, 0, 0, 0)))
    both = first + second
    assert both.idf1 == pytest.approx(2 * 3 / 7)
    assert both.detection_accuracy == pytest.approx(3 / 4)


def test_without_any_instance_there_is_no_score():
    nothing = np.zeros((2, 2), int)
    counts = counted((nothing, nothing))
    assert np.isnan([counts.hota, counts.idf1, counts.detection_accuracy]).all()
    assert counted((nothing, nothing + 1)).hota == 0


def test_the_class_of_an_instrument_is_the_one_on_most_of_its_pixels():
    instances, labels = row(1, 1, 1, 2, 2, 0), row(4, 4, 5, 0, 0, 5)
    assert classes_of_instruments(instances, labels) == {1: 4}


def test_flips_are_counted_along_an_instrument_over_frames_that_miss_it():
    assert count_flips([{1: 4, 2: 5}, {1: 4}, {}, {1: 5, 2: 5}, {1: 4}]) == 2


def instances(*of: tuple[int, np.ndarray, float]) -> list[Instance]:
    return [Instance(class_id, mask, score) for class_id, mask, score in of]


def test_average_precision_of_one_right_and_one_wrong_class():
    left, right = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    left[:, :8], right[:, 12:] = True, True
    meter = PrecisionMeter()
    meter.add(instances((1, left, 1), (2, right, 1)), instances((1, left, 0.9), (1, right, 0.8)))
    result = meter.result()
    assert result.ap == pytest.approx(50, abs=0.1) and result.ap50 == pytest.approx(50, abs=0.1)


def test_average_precision_falls_with_the_overlap_but_not_at_half_an_iou():
    truth = np.zeros((20, 20), bool)
    truth[:, :10] = True
    predicted = truth.copy()
    predicted[:, 7:] = False  # an IoU of 0.7
    meter = PrecisionMeter()
    meter.add(instances((1, truth, 1)), instances((1, predicted, 1)))
    assert meter.result().ap50 == pytest.approx(100)
    assert meter.result().ap == pytest.approx(50)  # 0.50 to 0.70 of the ten thresholds


def test_nothing_predicted_scores_zero_and_nothing_true_has_no_score():
    mask = np.ones((4, 4), bool)
    nothing_found, nothing_there = PrecisionMeter(), PrecisionMeter()
    nothing_found.add(instances((1, mask, 1)), [])
    nothing_there.add([], instances((1, mask, 1)))
    assert nothing_found.result().ap == 0
    assert np.isnan(nothing_there.result().ap)


def phantom_pairs(swap_from: int, wrong_class_at: int) -> list[tuple[InstanceFrame, InstanceFrame]]:
    """Frames of a phantom with two instruments of one class; the prediction has their numbers exchanged from a frame on."""
    scene = PhantomScene(1, (48, 60), 40, alike=2)
    pairs = []
    for index, frame in enumerate(scene):
        exchanged = np.array([0, 2, 1], np.uint8)[frame.instances]
        labels = np.where(frame.labels > 0, 5, 0) if index == wrong_class_at else frame.labels
        predicted = InstanceFrame(labels, exchanged if index >= swap_from else frame.instances)
        pairs.append((InstanceFrame(frame.labels, frame.instances), predicted))
    return pairs


def test_a_perfect_prediction_of_a_phantom_video_scores_one_hundred():
    scores = score_instances([InstanceVideo(phantom_pairs(40, 40), seconds=1.6)])
    assert scores.ap == pytest.approx(100) and scores.ap50 == pytest.approx(100)
    assert scores.idf1 == scores.hota == 100
    assert (scores.id_switches, scores.class_flips, scores.frames, scores.instruments) == (0, 0, 40, 2)


def test_switches_and_flips_are_given_per_minute():
    scores = score_instances([InstanceVideo(phantom_pairs(20, 5), seconds=1.6)])
    assert scores.id_switches == 2 and scores.id_switches_per_minute == pytest.approx(2 * 60 / 1.6)
    # both instruments are in the picture in frame 5: wrong and right again, each
    assert scores.class_flips == 4
    assert scores.class_flips_per_minute > 4 * 60 / (2 * 1.6)
    assert scores.ap50 < 100 and scores.idf1 < 75


def test_without_a_frame_rate_the_counts_remain():
    scores = score_instances([InstanceVideo(phantom_pairs(20, 5), seconds=None)])
    assert scores.id_switches == 2 and np.isnan(scores.id_switches_per_minute)
