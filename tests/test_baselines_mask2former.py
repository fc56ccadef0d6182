"""A small Mask2Former, trained for a few steps."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from baselines_stand_ins import box_dataset
from safetensors.torch import load_file

from surgicalsam_napari.errors import CheckpointError, TrainingError
from surgicalsam_training.baselines.detections import read_detections, write_detections
from surgicalsam_training.baselines.mask2former import (
    CHECKPOINT,
    DetectorSettings,
    Examples,
    detect,
    load_detector,
    train_detector,
)
from surgicalsam_training.data.training_data import TrainingData

pytest.importorskip("transformers")
SETTINGS = DetectorSettings(size="tiny", side=64, steps=4, batch_size=2, checkpoint_every=2)
LEFT, RIGHT = (16, 64, 96, 192), (160, 64, 240, 192)


@pytest.fixture
def data(tmp_path: Path) -> TrainingData:
    return box_dataset(tmp_path / "clip", [{1: LEFT, 2: RIGHT}, {2: LEFT}, {}])


def test_examples_are_squares_with_a_mask_for_each_class(data: TrainingData) -> None:
    pixels, masks, labels = Examples(data, 64).read(0, is_mirrored=False)
    assert pixels.shape == (3, 64, 64)
    assert labels.tolist() == [0, 1]
    assert [tuple(map(int, corner)) for corner in (masks[0].nonzero().amin(0), masks[0].nonzero().amax(0))] == [
        (16, 4),
        (47, 23),
    ]
    mirrored, mirrored_masks, _ = Examples(data, 64).read(0, is_mirrored=True)
    assert torch.equal(mirrored_masks, masks.flip(-1))
    assert torch.equal(mirrored, pixels.flip(-1))
    _, none, no_labels = Examples(data, 64).read(2, is_mirrored=False)
    assert (none.shape, no_labels.shape) == ((0, 64, 64), (0,))


@pytest.mark.slow
def test_a_stopped_training_resumes_and_its_detector_detects(tmp_path: Path, data: TrainingData) -> None:
    whole = list(train_detector(tmp_path / "whole", data, range(3), SETTINGS, "cpu"))
    assert [(report.done, report.total) for report in whole] == [(n, 4) for n in (1, 2, 3, 4)]
    stopped = train_detector(tmp_path / "stopped", data, range(3), SETTINGS, "cpu")
    for _ in range(3):  # the checkpoint is that of step 2
        next(stopped)
    stopped.close()
    rest = list(train_detector(tmp_path / "stopped", data, range(3), SETTINGS, "cpu"))
    assert [report.done for report in rest] == [3, 4]
    assert [report.loss for report in rest] == pytest.approx([report.loss for report in whole[2:]], rel=1e-5)
    first, second = (load_file(tmp_path / name / CHECKPOINT) for name in ("whole", "stopped"))
    assert first.keys() == second.keys()
    for key, tensor in first.items():
        torch.testing.assert_close(second[key], tensor, atol=1e-6, rtol=1e-4)

    (again,) = train_detector(tmp_path / "whole", data, range(3), SETTINGS, "cpu")
    assert again.done == 4 and math.isnan(again.loss)
    with pytest.raises(TrainingError, match="other settings, classes or data"):
        next(train_detector(tmp_path / "whole", data, range(3), replace(SETTINGS, seed=1), "cpu"))

    detector = load_detector(tmp_path / "whole", "cpu")
    assert detector.class_names == data.classes.names
    detections_by_frame = list(detect(detector, data, range(3)))
    assert [frame for frame, _ in detections_by_frame] == [0, 1, 2]
    path = write_detections(tmp_path / "found.json", data, detections_by_frame)
    if any(detections for _, detections in detections_by_frame):
        assert read_detections(path, data).keys() <= {0, 1, 2}

    (tmp_path / "whole" / CHECKPOINT).write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="missing or damaged"):
        load_detector(tmp_path / "whole", "cpu")


@pytest.mark.slow
def test_it_learns_where_the_instruments_are(tmp_path: Path) -> None:
    data = box_dataset(tmp_path / "clip", [{1: LEFT, 2: RIGHT}])
    settings = replace(SETTINGS, steps=150, checkpoint_every=150, learning_rate=2e-3)
    losses = [report.loss for report in train_detector(tmp_path / "run", data, [0], settings, "cpu")]
    assert losses[-1] < losses[0] / 3
    ((_, detections),) = detect(load_detector(tmp_path / "run", "cpu"), data, [0])
    for class_id, box in ((1, LEFT), (2, RIGHT)):
        best = max((d for d in detections if d.class_id == class_id), key=lambda d: d.score)
        assert best.box == pytest.approx(box, abs=24)  # at most one and a half cells of its masks


def test_a_folder_without_a_detector_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no detector \(detector.json"):
        load_detector(tmp_path)


def test_missing_weights_are_an_error(tmp_path: Path, data: TrainingData) -> None:
    settings = replace(SETTINGS, weights=str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match="should be a folder with a Mask2Former"):
        next(train_detector(tmp_path / "run", data, [0], settings, "cpu"))


def test_frames_without_pictures_are_an_error(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "image", lambda index: None)
    with pytest.raises(TrainingError, match="A detector needs pictures; clip/frame_00000 has none"):
        Examples(data, 64).pixels(0)
