"""The boxes of a detector as prompts: the paper's rule, and the matching of detection files with frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from baselines_stand_ins import StandInSAM, box_dataset, box_label_map

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.surgical_sam import PromptedMask
from surgicalsam_training.baselines.answers import mask_in_frame, painted
from surgicalsam_training.baselines.detections import Detection, read_detections, write_detections
from surgicalsam_training.baselines.detector import (
    MASK2FORMER_ALPHA,
    MASKTRACK_RCNN_ALPHA,
    chosen_boxes,
    predict_from_detections,
    united,
)
from surgicalsam_training.baselines.mask2former import DetectorSettings, boxes_of
from surgicalsam_training.data.training_data import TrainingData, open_training_data
from surgicalsam_training.scoring.protocol import every_class

LEFT, MIDDLE, RIGHT = (20, 40, 60, 80), (80, 40, 120, 80), (140, 40, 180, 80)


def detection(box: tuple[float, ...], score: float, class_id: int = 1) -> Detection:
    return Detection(class_id, box, score)  # type: ignore[arg-type]


# The rule ------------------------------------------------------------------------------------------------------------


def test_a_single_box_is_used_whatever_its_score() -> None:
    assert chosen_boxes([detection(LEFT, 0.1)], alpha=0.7) == [detection(LEFT, 0.1)]
    assert chosen_boxes([], alpha=0.7) == []


def test_of_several_boxes_only_those_above_alpha_are_used() -> None:
    three = [detection(LEFT, 0.9), detection(MIDDLE, 0.7), detection(RIGHT, 0.71)]
    assert chosen_boxes(three, alpha=0.7) == [three[0], three[2]]  # greater than alpha, as in the paper
    assert chosen_boxes(three, alpha=0.5) == three
    assert chosen_boxes(three, alpha=0.95) == []


def test_the_masks_of_a_class_are_united(tmp_path: Path) -> None:
    model = StandInSAM()
    data = box_dataset(tmp_path / "clip", [{1: LEFT}, {1: LEFT}], model)
    detections = {
        0: [detection(LEFT, 0.9), detection(MIDDLE, 0.2), detection(RIGHT, 0.8), detection((20, 120, 60, 160), 0.05, 2)]
    }
    predictions = predict_from_detections(
        model, data, [0, 1], every_class(model, data), detections=detections, alpha=0.7  # type: ignore[arg-type]
    )  # fmt: skip
    label_maps = dict(predictions)
    expected = box_label_map({1: LEFT, 2: (20, 120, 60, 160)}) | box_label_map({1: RIGHT})
    np.testing.assert_array_equal(label_maps[0], expected)
    assert not label_maps[1].any()  # no box, no mask


def test_united_masks_are_the_union_at_the_frames_size() -> None:
    """Between two masks, logits that are united first would give pixels that neither mask has."""
    first, second = torch.full((64, 64), -4.0), torch.full((64, 64), -4.0)
    first[10:20, 10:20], second[10:20, 21:30] = 3.0, 3.0
    geometry = FrameGeometry((256, 256), 256)
    answers = [PromptedMask(first, 0.6), PromptedMask(second, 0.8)]
    mask, quality = united(answers, geometry)
    expected = [mask_in_frame(answer.low_res_logits, geometry) for answer in answers]
    np.testing.assert_array_equal(mask, expected[0] | expected[1])
    assert quality == 0.8


def test_of_two_classes_the_one_with_the_higher_predicted_iou_lies_on_top() -> None:
    geometry = FrameGeometry((4, 4), 4)
    left, upper = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    left[:, :2], upper[:2] = True, True
    assert painted({1: (left, 0.9), 2: (upper, 0.4)}, geometry)[0].tolist() == [1, 1, 2, 2]
    assert painted({1: (left, 0.2), 2: (upper, 0.4)}, geometry)[0].tolist() == [2, 2, 2, 2]


def test_the_thresholds_are_those_of_the_paper() -> None:
    assert (MASKTRACK_RCNN_ALPHA, MASK2FORMER_ALPHA) == (0.7, 0.5)


def test_a_box_is_clipped_to_the_frame(tmp_path: Path) -> None:
    model = StandInSAM()
    data = box_dataset(tmp_path / "clip", [{1: LEFT}], model)
    detections = {0: [detection((-10.0, 40.0, 300.0, 80.0), 0.9)]}
    list(predict_from_detections(model, data, [0], data.present_class_ids, detections=detections))  # type: ignore[arg-type]
    ((_, _, box),) = model.asked
    assert box is not None and box.tolist() == [0, 40, 256, 80]


# Files ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> TrainingData:
    """Two sequences of two frames."""
    for name in ("seq_1", "seq_2"):
        box_dataset(tmp_path / name, [{1: LEFT}, {2: RIGHT}]).close()
    return open_training_data([tmp_path / "seq_1", tmp_path / "seq_2"], base=StandInSAM().classes)


def written(tmp_path: Path, record: Any, name: str = "found.json") -> Path:
    path = tmp_path / name
    path.write_text(record if isinstance(record, str) else json.dumps(record))
    return path


def result(image: Any, **changed: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": 2, "bbox": [10, 20, 30, 40], "score": 0.5, **changed}


EXPECTED = Detection(2, (10, 20, 40, 60), 0.5)


@pytest.mark.parametrize(
    "picture",
    [
        "seq_2/frame_00001",
        "seq_2/frame_00001.png",
        "seq_2/images/frame_00001.jpg",
        "data/val/seq_2/00001.png",
        "seq_2_frame001.png",
        "images/seq_2_00001.png",
        "seq_2\\frame_00001.png",
        "SEQ_2/Frame_00001.PNG",
    ],
)
def test_pictures_are_matched_by_sequence_and_frame(tmp_path: Path, data: TrainingData, picture: str) -> None:
    assert read_detections(written(tmp_path, [result(picture)]), data) == {3: [EXPECTED]}


def test_a_list_of_results_needs_the_file_that_lists_its_pictures(tmp_path: Path, data: TrainingData) -> None:
    results = written(tmp_path, [result(71, category_id=9), result(70, category_id=8), result(72, category_id=9)])
    listing = {
        "images": [
            {"id": 70, "file_name": "seq_1/frame_00000.png"},
            {"id": 71, "file_name": "seq_2/frame_00001.png"},
            {"id": 72, "file_name": "seq_9/frame_00001.png"},  # a picture of other data; it is ignored
        ],
        "categories": [{"id": 8, "name": "bipolar forceps"}, {"id": 9, "name": "Prograsp Forceps"}],
    }
    assert read_detections(results, data, written(tmp_path, listing, "val.json")) == {
        3: [EXPECTED],
        0: [Detection(1, (10, 20, 40, 60), 0.5)],
    }
    with pytest.raises(ExchangeError, match=r"entry 1 of found.json is of the image 71, and no list .*--images"):
        read_detections(results, data)


def test_written_detections_can_be_read_again(tmp_path: Path, data: TrainingData) -> None:
    detections = [(0, [detection(LEFT, 0.25), detection(RIGHT, 0.75, 3)]), (3, []), (2, [detection(MIDDLE, 1.0, 7)])]
    path = write_detections(tmp_path / "out" / "detections.json", data, detections)
    assert read_detections(path, data) == {0: detections[0][1], 2: detections[2][1]}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("[", "is damaged, it is not JSON"),
        ({"images": []}, "a list of COCO results, or a COCO file with annotations"),
        ([3], "entry 1 of found.json should be an object"),
        (
            [result("seq_2/frame_00001", score=None)],
            r"entry 1 .* should have a bbox .* and a score; it has \[10, 20, 30, 40\]",
        ),
        ([result("seq_2/frame_00001", bbox=[1, 2, 0, 4])], r"it has \[1, 2, 0, 4\]"),
        ([result("seq_2/frame_00001", score=3)], "and 3"),
        ([result("seq_2/frame_00001"), result("seq_2/frame_00001", category_id=40)], "entry 2 .* the category 40, and the"),
        ([result("frame_00001.png")], "may be seq_1/frame_00001, seq_2/frame_00001"),
        (
            [result("seq_9/frame_00001")],
            r"names no picture of the data: its first is seq_9/frame_00001, the data's is seq_1/",
        ),
    ],
)
def test_an_error_names_the_fault_of_a_detection_file(tmp_path: Path, data: TrainingData, record: Any, message: str) -> None:
    with pytest.raises(ExchangeError, match=message):
        read_detections(written(tmp_path, record), data)


def test_a_missing_file_is_an_error(tmp_path: Path, data: TrainingData) -> None:
    with pytest.raises(ExchangeError, match="cannot be read"):
        read_detections(tmp_path / "none.json", data)


# Mask2Former's queries -----------------------------------------------------------------------------------------------


def test_queries_become_boxes_with_scores() -> None:
    # a frame of 100 x 200 in a square of 256: resized to 128 x 256, masks of cells of 8 pixels, padding below row 16
    class_logits = torch.full((4, 3), -9.0)
    class_logits[[0, 1, 2, 3], [1, 2, 0, 1]] = 9.0  # query 1 is "no object", the class of query 2 is left out
    mask_logits = torch.full((4, 32, 32), -20.0)
    mask_logits[:, 4:10, 8:20] = 20.0
    mask_logits[0, 20:25, 3:6] = 20.0  # in the padding
    mask_logits[3] = -20.0  # an empty mask
    (detection,) = boxes_of(class_logits, mask_logits, FrameGeometry((100, 200), 256), [None, 6])
    assert detection.class_id == 6
    assert detection.box == pytest.approx((8 * 8 * 200 / 256, 4 * 8 * 100 / 128, 20 * 8 * 200 / 256, 10 * 8 * 100 / 128))
    assert detection.score == pytest.approx(1, abs=1e-4)


def test_an_uncertain_mask_lowers_the_score() -> None:
    class_logits = torch.tensor([[np.log(4), 0.0]])  # 0.8
    mask_logits = torch.full((1, 32, 32), -20.0)
    mask_logits[0, :4, :4] = float(np.log(3))  # 0.75
    (detection,) = boxes_of(class_logits, mask_logits, FrameGeometry((256, 256), 256), [1])
    assert detection.score == pytest.approx(0.8 * 0.75)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"size": "huge"}, 'swin_t, tiny; got "huge"'),
        ({"side": 100}, "multiple of 32 pixels; got 100"),
        ({"steps": 0}, "1 or"),
    ],
)
def test_settings_of_the_detector_are_checked(changed: dict[str, Any], message: str) -> None:
    from surgicalsam_napari.errors import TrainingError

    with pytest.raises(TrainingError, match=message):
        DetectorSettings(**changed)
