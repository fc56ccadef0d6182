"""The metrics against the authors' numbers, and against a case worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from surgicalsam_training.scoring.metrics import evaluate_label_maps

CLASS_IDS = range(1, 8)


def test_metrics_equal_the_authors(shared_folder):
    expected = json.loads((shared_folder / "reference" / "expected.json").read_text())["metrics"]
    with np.load(shared_folder / "reference" / "metrics.npz") as file:
        metrics = evaluate_label_maps(zip(file["predictions"], file["ground_truth"], strict=True), CLASS_IDS)
    found = (metrics.challenge_iou, metrics.iou, metrics.mean_class_iou, metrics.overall_iou)
    names = ("challengIoU", "IoU", "mcIoU", "mIoU")
    assert [round(value, 3) for value in found] == [expected[name] for name in names]
    assert [round(value, 3) for value in metrics.class_iou.values()] == expected["cIoU_per_class"]


def test_a_case_worked_out_by_hand():
    truth = np.array([[1, 1, 2, 0]])
    prediction = np.array([[1, 0, 3, 0]])
    metrics = evaluate_label_maps([(prediction, truth)], (1, 2, 3))
    assert metrics.challenge_iou == pytest.approx(25.0)  # class 1: 1/2, class 2: 0
    assert metrics.iou == pytest.approx(50 / 3)  # and class 3, which is not there: 0
    assert metrics.absent_false_positive_rate == 100.0 and metrics.missed_rate == 50.0


def test_an_empty_frame_rightly_left_empty_counts_for_nothing():
    empty = np.zeros((2, 2), int)
    perfect = np.array([[1, 0], [0, 2]])
    metrics = evaluate_label_maps([(empty, empty), (perfect, perfect)], (1, 2))
    assert metrics.challenge_iou == 100.0 and metrics.absent_false_positive_rate == 0.0
