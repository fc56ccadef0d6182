"""Points on every instrument that appears, and the propagation of its mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from baselines_stand_ins import Box, StandInSAM, box_dataset, box_label_map

from surgicalsam_training.baselines.tracking import five_points, one_point, predict_by_tracking
from surgicalsam_training.scoring.protocol import every_class, present_classes


def square(left: int, top: int = 80) -> Box:
    return (left, top, left + 64, top + 64)


def iou(label_map: np.ndarray, truth: np.ndarray, class_id: int = 1) -> float:
    predicted, true = label_map == class_id, truth == class_id
    return float((predicted & true).sum() / (predicted | true).sum())


def points_asked(model: StandInSAM) -> list:
    return [points.tolist() for points, _, _ in model.asked if points is not None]


def test_five_points_are_the_centroid_and_the_extremes_inside_the_margin() -> None:
    mask = box_label_map({1: (20, 40, 80, 100)}) == 1
    assert one_point(mask).tolist() == [[50, 70]]
    assert five_points(mask, margin=10).tolist() == [[50, 70], [30.5, 69.5], [49.5, 50.5], [69.5, 69.5], [49.5, 89.5]]


def test_an_instrument_is_prompted_once_and_followed(tmp_path: Path) -> None:
    model = StandInSAM(reach=32)
    frames = [{1: square(left)} for left in (40, 48, 56, 64)]
    data = box_dataset(tmp_path / "clip", frames, model)
    predictions = dict(predict_by_tracking(model, data, range(4), present_classes(data)))  # type: ignore[arg-type]
    ((points, _, _),) = model.asked
    assert points is not None and points.tolist() == [[72, 112]]
    np.testing.assert_array_equal(predictions[0], box_label_map(frames[0]))
    assert [iou(predictions[frame], box_label_map(frames[frame])) > 0.8 for frame in (1, 2, 3)] == [True] * 3
    assert iou(predictions[3], box_label_map(frames[0])) < 0.6  # it has moved


def test_an_instrument_that_comes_back_is_not_new(tmp_path: Path) -> None:
    model = StandInSAM(reach=32)
    data = box_dataset(tmp_path / "clip", [{1: square(40)}, {1: square(40)}, {}, {1: square(40)}, {1: square(48)}], model)
    predictions = dict(predict_by_tracking(model, data, range(5), present_classes(data)))  # type: ignore[arg-type]
    assert points_asked(model) == [[[72, 112]]]
    assert not predictions[2].any()
    assert iou(predictions[4], box_label_map({1: square(48)})) > 0.8


def test_every_instrument_is_prompted_in_the_frame_where_a_new_one_appears(tmp_path: Path) -> None:
    model = StandInSAM(reach=32)
    frames = [{1: square(40)}, {1: square(56)}, {1: square(72), 2: square(160)}, {1: square(72), 2: square(160)}]
    data = box_dataset(tmp_path / "clip", frames, model)
    predictions = dict(predict_by_tracking(model, data, range(4), present_classes(data)))  # type: ignore[arg-type]
    assert points_asked(model) == [[[72, 112]], [[104, 112]], [[192, 112]]]
    for frame in (2, 3):
        assert iou(predictions[frame], box_label_map(frames[frame]), 1) > 0.8
        assert iou(predictions[frame], box_label_map(frames[frame]), 2) > 0.8


def test_an_instrument_that_was_away_at_the_last_prompting_is_new(tmp_path: Path) -> None:
    model = StandInSAM(reach=32)
    data = box_dataset(tmp_path / "clip", [{1: square(40)}, {2: square(160)}, {1: square(40), 2: square(160)}], model)
    list(predict_by_tracking(model, data, range(3), every_class(model, data)))  # type: ignore[arg-type]
    assert points_asked(model) == [[[72, 112]], [[192, 112]], [[72, 112]], [[192, 112]]]


def test_each_instrument_gets_its_five_points(tmp_path: Path) -> None:
    model = StandInSAM(reach=32)
    data = box_dataset(tmp_path / "clip", [{}, {1: square(40), 2: square(160)}], model)
    predictions = dict(predict_by_tracking(model, data, range(2), present_classes(data), points=5))  # type: ignore[arg-type]
    first, second = points_asked(model)
    assert (len(first), len(second)) == (5, 5)
    assert second[0] == [192, 112]
    assert set(np.unique(predictions[1])) == {0, 1, 2}


def test_with_every_class_asked_an_instrument_is_followed_until_it_is_gone(tmp_path: Path) -> None:
    model = StandInSAM(reach=32)
    data = box_dataset(tmp_path / "clip", [{1: square(40)}, {}, {}], model)
    predictions = dict(predict_by_tracking(model, data, range(3), every_class(model, data)))  # type: ignore[arg-type]
    assert len(model.asked) == 1  # classes that never appear are never prompted
    assert set(np.unique(predictions[0])) == {0, 1}
    for frame in (1, 2):
        assert set(np.unique(predictions[frame])) <= {0, 1}


def test_each_sequence_is_tracked_separately(tmp_path: Path) -> None:
    from surgicalsam_training.data.training_data import open_training_data

    model = StandInSAM(reach=32)
    for name, left in (("a", 40), ("b", 120)):
        box_dataset(tmp_path / name, [{1: square(left)}, {1: square(left)}], model).close()
    data = open_training_data([tmp_path / "a", tmp_path / "b"], base=model.classes)
    frames = [3, 0, 2, 1]  # in any order: tracking follows the order of the sequences
    predictions = list(predict_by_tracking(model, data, frames, present_classes(data)))  # type: ignore[arg-type]
    assert [frame for frame, _ in predictions] == [2, 3, 0, 1]
    assert points_asked(model) == [[[152, 112]], [[72, 112]]]


def test_the_number_of_points_is_one_or_five(tmp_path: Path) -> None:
    model = StandInSAM()
    data = box_dataset(tmp_path / "clip", [{1: square(40)}], model)
    with pytest.raises(ValueError, match="1 point or 5; got 3"):
        next(predict_by_tracking(model, data, [0], present_classes(data), points=3))  # type: ignore[arg-type]
