"""The metrics against cases computed by hand; those of the authors are in test_reference_training.py."""

from __future__ import annotations

import numpy as np
import pytest

from surgicalsam_training.scoring.metrics import evaluate_label_maps


def test_a_case_computed_by_hand():
    truth = np.array([[1, 1, 2, 0]])
    prediction = np.array([[1, 0, 3, 0]])
    metrics = evaluate_label_maps([(prediction, truth)], (1, 2, 3))
    assert metrics.challenge_iou == pytest.approx(25.0)  # class 1: 1/2, class 2: 0
    assert metrics.iou == pytest.approx(50 / 3)  # and class 3, which is absent: 0
    assert metrics.absent_false_positive_rate == 100.0 and metrics.missed_rate == 50.0


def test_a_frame_without_instruments_and_predictions_does_not_count():
    empty = np.zeros((2, 2), int)
    perfect = np.array([[1, 0], [0, 2]])
    metrics = evaluate_label_maps([(empty, empty), (perfect, perfect)], (1, 2))
    assert metrics.challenge_iou == 100.0 and metrics.absent_false_positive_rate == 0.0
