"""COCO files as other tools write them: found by content; small faults are counted, impossible values refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.dataset import Dataset
from surgicalsam_napari.exchange.registry import open_dataset

SQUARE = [10, 20, 30, 20, 30, 40, 10, 40]


def record(*names: str) -> dict[str, Any]:
    """One annotation of class Grasper per image."""
    return {
        "images": [{"id": i, "file_name": name, "height": 96, "width": 128} for i, name in enumerate(names, 1)],
        "categories": [{"id": 3, "name": "Grasper"}, {"id": 4, "name": "Clip"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 3, "segmentation": [SQUARE]} for i, _ in enumerate(names, 1)
        ],
    }


def write(path: Path, content: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((96, 128, 3), np.uint8)).save(path)


LAYOUTS = {
    "datumaro": ("annotations/instances_default.json", "images/default/frame_1.png"),
    "fiftyone": ("labels.json", "data/frame_1.png"),
    "cvat": ("annotations/instances_default.json", "images/frame_1.png"),
    "detectron2": ("annotations/instances_train2017.json", "train2017/frame_1.png"),
    "roboflow": ("_annotations.coco.json", "frame_1.png"),
    "roboflow split": ("train/_annotations.coco.json", "train/frame_1.png"),
    "label studio": ("result.json", "images/frame_1.png"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_is_recognised_by_the_content_of_its_json(tmp_path: Path, layout: str) -> None:
    json_file, picture_file = (tmp_path / name for name in LAYOUTS[layout])
    name = "images\\\\frame_1.png".replace("\\\\", "\\") if layout == "label studio" else "frame_1.png"
    if layout == "fiftyone":
        name = "data/frame_1.png"
    write(json_file, record(name))
    picture(picture_file)
    dataset = open_dataset(tmp_path)
    (frame,) = dataset.frames
    assert (dataset.format, frame.frame_index, frame.image_path) == ("coco", 1, picture_file)
    assert np.count_nonzero(dataset.label_map(frame)) == 400


def test_several_files_are_one_dataset_with_one_class_set(tmp_path: Path) -> None:
    first, second = record("a_1.png"), record("a_2.png")
    second["categories"] = [{"id": 1, "name": "clip"}, {"id": 3, "name": "Needle"}, {"id": 9, "name": "grasper "}]
    second["annotations"][0]["category_id"] = 9
    write(tmp_path / "annotations/instances_train.json", first)
    write(tmp_path / "annotations/instances_val.json", second)
    dataset = open_dataset(tmp_path)
    assert dataset.classes.names == ("Grasper", "Clip", "Needle")
    assert [int(dataset.label_map(frame).max()) for frame in dataset.frames] == [1, 1]
    write(tmp_path / "annotations/instances_again.json", first)
    with pytest.raises(ExchangeError, match=r"instances_again.json and instances_train.json both list a_1.png"):
        open_dataset(tmp_path)


def test_other_json_files_are_no_coco_dataset(tmp_path: Path) -> None:
    write(tmp_path / "package.json", {"name": "x", "images": []})
    (tmp_path / "empty.json").touch()
    for path in (tmp_path, tmp_path / "package.json"):
        with pytest.raises(ExchangeError, match="not a dataset of a known format"):
            open_dataset(path)


@pytest.mark.parametrize("segmentation", [[], None, [[]], [[1, 2, 3, 4]], "missing"])
def test_annotations_with_only_a_box_are_skipped_with_a_count(tmp_path: Path, segmentation: Any) -> None:
    content = record("a_1.png", "a_2.png")
    box = {"id": 9, "image_id": 1, "category_id": 4, "bbox": [1, 2, 3, 4], "segmentation": segmentation}
    if segmentation == "missing":
        del box["segmentation"]
    content["annotations"].append(box)
    dataset = open_dataset(write(tmp_path / "labels.json", content))
    (skipped,) = dataset.skipped
    assert (skipped.what, skipped.count) == ("annotations without a mask (only a box)", 1)
    assert skipped.example == "annotations[2] of labels.json"
    first, second = dataset.frames
    assert np.unique(dataset.label_map(first)).tolist() == [0, 3]
    assert dataset.annotated_class_ids(first) == (3,)  # whether it shows a clip is not known
    assert dataset.annotated_class_ids(second) == (3, 4)


def test_a_frame_with_only_boxes_is_neither_imported_nor_empty(tmp_path: Path) -> None:
    content = record("a_1.png", "a_2.png", "a_3.png")
    content["annotations"][0]["segmentation"] = []
    del content["annotations"][2]
    dataset = open_dataset(write(tmp_path / "labels.json", content))
    assert [frame.frame_index for frame in dataset.frames] == [2, 3]
    assert [frame.frame_index for frame in dataset.unannotated] == [3]
    assert [(one.what, one.count) for one in dataset.skipped] == [
        ("annotations without a mask (only a box)", 1),
        ("frames in which no annotation has a mask", 1),
    ]


def read_all(dataset: Dataset) -> None:
    for frame in dataset.frames:
        dataset.label_map(frame)


IMPOSSIBLE: dict[str, tuple[Callable[[dict], Any], str]] = {
    "category without a name": (lambda r: r["categories"][1].update(name=None), r"categories\[1\] of .* has the name null"),
    "blank category": (lambda r: r["categories"][0].update(name=" "), r'categories\[0\] of .* has the name " "'),
    "category id": (lambda r: r["categories"][0].update(id=None), r"categories\[0\] of .* has the id None"),
    "two categories": (lambda r: r["categories"][1].update(name="grasper "), r"categories\[1\] .* of an earlier category"),
    "huge": (lambda r: mask_of(r).__setitem__(2, 1e308), r"annotations\[0\] of .*point 1 with x = 1e\+308.*128 x 96"),
    "not a number": (lambda r: mask_of(r).__setitem__(1, float("nan")), r"annotations\[0\] .*point 0 with y = nan"),
    "infinite": (lambda r: mask_of(r).__setitem__(1, float("inf")), r"point 0 with y = inf"),
    "far outside": (lambda r: mask_of(r).__setitem__(0, 700), r"point 0 with x = 700"),
    "text": (lambda r: mask_of(r).__setitem__(0, "10"), r"point 0 with x = 10"),
    "no height": (lambda r: r["images"][0].update(height=0), r"images\[0\] of .* has the height 0"),
    "huge width": (lambda r: r["images"][0].update(width=1e300), r"images\[0\] of .* has the width 1e\+300"),
    "no file name": (lambda r: r["images"][0].update(file_name=None), r"images\[0\] of .* has no file_name"),
    "image id": (lambda r: r["annotations"][0].update(image_id=7.5), r"annotations\[0\] of .* has the image_id 7.5"),
}


def mask_of(content: dict[str, Any]) -> list:
    return content["annotations"][0]["segmentation"][0]


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_values_that_cannot_be_are_refused_with_their_place(tmp_path: Path, case: str) -> None:
    change, message = IMPOSSIBLE[case]
    content = json.loads(json.dumps(record("a_1.png")))
    change(content)
    with pytest.raises(ExchangeError, match=message):
        read_all(open_dataset(write(tmp_path / "labels.json", content)))


def test_a_polygon_may_leave_the_picture_a_little(tmp_path: Path) -> None:
    content = record("a_1.png")
    content["annotations"][0]["segmentation"] = [[-3.5, -2, 50, -2, 50, 97.5, -3.5, 97.5]]
    dataset = open_dataset(write(tmp_path / "labels.json", content))
    assert (dataset.label_map(dataset.frames[0])[:, :49] == 3).all()
