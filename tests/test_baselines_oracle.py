"""SAM prompted from the truth: points and boxes computed by hand, and the resulting masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from baselines_stand_ins import StandInSAM, box_dataset, box_label_map

from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_training.baselines.answers import box_in_square, grid_share, in_square
from surgicalsam_training.baselines.box_jitter import (
    AMOUNTS,
    KINDS,
    box_jitter_curve,
    draw_box_jitter,
    jittered_box,
)
from surgicalsam_training.baselines.oracle import (
    box_of,
    centroid,
    extremes,
    predict_from_boxes,
    predict_from_centroids,
)
from surgicalsam_training.scoring.protocol import every_class, present_classes

ONE, OTHER = (20, 40, 60, 80), (100, 120, 180, 160)


def mask_of(*box: int) -> np.ndarray:
    return box_label_map({1: box}) == 1  # type: ignore[dict-item]


def test_the_centroid_of_a_box_is_its_middle() -> None:
    assert centroid(mask_of(20, 40, 60, 100)).tolist() == [40, 70]


def test_the_centroid_of_two_instruments_lies_between_them() -> None:
    two = mask_of(0, 0, 10, 10) | mask_of(40, 0, 50, 10)
    assert centroid(two).tolist() == [25, 5]
    assert not two[5, 25]


def test_the_box_of_a_mask_ends_after_its_last_pixel() -> None:
    mask = np.zeros((50, 60), bool)
    mask[10, 20] = mask[30, 5] = True
    assert box_of(mask).tolist() == [5, 10, 21, 31]


def test_extremes_keep_ten_pixels_from_the_edge() -> None:
    # inside the margin, columns 30 to 69 and rows 50 to 89 remain; the middle pixel of the first column is in row 69
    left, top, right, bottom = extremes(mask_of(20, 40, 80, 100)).tolist()
    assert left == [30.5, 69.5]
    assert top == [49.5, 50.5]
    assert right == [69.5, 69.5]
    assert bottom == [49.5, 89.5]


def test_extremes_of_a_thin_instrument_lie_on_its_middle_line() -> None:
    thin = mask_of(20, 40, 120, 45)  # five pixels thick: the middle line is row 42
    points = extremes(thin)
    assert set(points[:, 1]) == {42.5}
    assert points[0].tolist() == [22.5, 42.5]
    assert points[2].tolist() == [117.5, 42.5]


def test_an_instrument_may_end_at_the_border_of_the_frame() -> None:
    points = extremes(mask_of(0, 100, 60, 160))
    assert points[0].tolist() == [0.5, 129.5]  # the border is no edge of the instrument
    assert points[2].tolist() == [49.5, 129.5]


def test_points_of_a_frame_are_scaled_to_the_padded_square() -> None:
    geometry = FrameGeometry((100, 200), 256)  # resized to 128 x 256
    assert in_square(np.array([[50, 30], [200, 100]]), geometry).tolist() == [[64, pytest.approx(38.4)], [256, 128]]
    assert box_in_square((0, 25, 100, 100), geometry).tolist() == [0, 32, 128, 128]
    mask = np.zeros((100, 200), bool)
    mask[50:, :50] = True
    share = grid_share(mask, geometry, 8)  # cells of 32 pixels of the square: 25 of the frame
    assert (share > 0.9).nonzero().tolist() == [[2, 0], [2, 1], [3, 0], [3, 1]]


def test_boxes_from_the_truth_reproduce_the_label_map(tmp_path: Path) -> None:
    model = StandInSAM()
    data = box_dataset(tmp_path / "clip", [{1: ONE, 2: OTHER}, {}], model)
    predictions = dict(predict_from_boxes(model, data, [0, 1], present_classes(data)))  # type: ignore[arg-type]
    np.testing.assert_array_equal(predictions[0], box_label_map({1: ONE, 2: OTHER}))
    assert not predictions[1].any()


def test_each_true_centroid_becomes_one_positive_point(tmp_path: Path) -> None:
    model = StandInSAM(reach=20)
    data = box_dataset(tmp_path / "clip", [{1: ONE, 3: OTHER}], model)
    ((_, label_map),) = predict_from_centroids(model, data, [0], present_classes(data))  # type: ignore[arg-type]
    (points, marks, box), (other, _, _) = model.asked
    assert points is not None and marks is not None and other is not None
    assert (points.tolist(), marks.tolist(), box) == ([[40, 60]], [1], None)
    assert other.tolist() == [[140, 140]]
    np.testing.assert_array_equal(label_map, box_label_map({1: ONE, 3: (120, 120, 160, 160)}))


def test_an_oracle_does_not_prompt_an_absent_class(tmp_path: Path) -> None:
    model = StandInSAM()
    data = box_dataset(tmp_path / "clip", [{1: ONE}], model)
    ((_, label_map),) = predict_from_boxes(model, data, [0], every_class(model, data))  # type: ignore[arg-type]
    assert len(model.asked) == 1
    assert set(np.unique(label_map)) == {0, 1}


def test_of_overlapping_masks_the_higher_predicted_iou_wins(tmp_path: Path) -> None:
    model = StandInSAM(reach=30, quality=[0.9, 0.4])
    data = box_dataset(tmp_path / "clip", [{1: (20, 20, 60, 60), 2: (60, 20, 100, 60)}], model)
    ((_, label_map),) = predict_from_centroids(model, data, [0], present_classes(data))  # type: ignore[arg-type]
    assert (label_map[40, 52], label_map[40, 68], label_map[40, 72]) == (1, 1, 2)  # they overlap from 50 to 70


@pytest.mark.parametrize(
    ("kind", "amount", "expected"),
    [
        ("scale", 0.5, [10, 15, 70, 105]),
        ("scale", -0.5, [30, 45, 50, 75]),
        ("position", 0.25, [30, 45, 70, 105]),
        ("position", -0.5, [0, 0, 40, 60]),
        ("scale", 0.0, [20, 30, 60, 90]),
    ],
)
def test_a_box_is_jittered_around_its_middle(kind: str, amount: float, expected: list[float]) -> None:
    assert jittered_box(np.array([20, 30, 60, 90]), kind, amount, (200, 100)).tolist() == expected


def test_a_jittered_box_is_clipped_to_the_frame() -> None:
    assert jittered_box(np.array([0, 0, 80, 80]), "position", 0.5, (100, 100)).tolist() == [40, 40, 100, 100]
    assert jittered_box(np.array([0, 0, 80, 80]), "scale", 0.5, (100, 100)).tolist() == [0, 0, 100, 100]


def test_the_score_falls_as_boxes_differ_from_the_instrument(tmp_path: Path) -> None:
    model = StandInSAM()
    data = box_dataset(tmp_path / "clip", [{1: (80, 80, 120, 160)}], model)
    rows = list(box_jitter_curve(model, data, [0], amounts=(-0.5, 0.0, 0.5)))  # type: ignore[arg-type]
    # half of each side: a quarter of the area; one and a half: 1 / 2.25; moved by half: (1 / 4) / (7 / 4)
    expected = {
        ("scale", -0.5): 25.0,
        ("scale", 0.0): 100.0,
        ("scale", 0.5): 100 / 2.25,
        ("position", -0.5): 100 / 7,
        ("position", 0.0): 100.0,
        ("position", 0.5): 100 / 7,
    }
    assert {(row.kind, row.amount): row.challenge_iou for row in rows} == pytest.approx(expected)
    assert [(row.done, row.total) for row in rows] == [(n, 6) for n in range(1, 7)]
    picture = draw_box_jitter(rows, tmp_path / "figures" / "jitter.png")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_default_kinds_and_amounts_are_those_of_the_paper() -> None:
    assert KINDS == ("scale", "position")
    assert (AMOUNTS[0], AMOUNTS[5], AMOUNTS[-1], len(AMOUNTS)) == (-0.5, 0.0, 0.5, 11)
