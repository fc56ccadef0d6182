"""A folder or file that is no dataset of a known format: the message says what it looks like, and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.registry import open_dataset


def colour_masks(folder: Path) -> None:
    pixels = np.zeros((40, 50, 3), np.uint8)
    pixels[:9] = (255, 0, 0)
    Image.fromarray(pixels).save(folder / "mask_003.png")


def nested_grey_masks(folder: Path) -> None:
    (folder / "case 1").mkdir(parents=True)
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(folder / "case 1/frame_003.png")


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda folder: (folder / "scan.nii").write_bytes(b""), "medical volumes"),
        (colour_masks, "labelmap.txt with a line for each class"),
        (nested_grey_masks, "case 1 looks like Indexed PNG"),
        (lambda folder: (folder / "notes.docx").write_bytes(b""), "export them as COCO"),
    ],
)
def test_the_message_about_a_folder(tmp_path: Path, make: Callable[[Path], object], expected: str) -> None:
    make(tmp_path)
    with pytest.raises(ExchangeError, match=expected):
        open_dataset(tmp_path)


def test_a_part_of_a_dataset_names_the_whole(tmp_path: Path) -> None:
    (tmp_path / "set/images/train").mkdir(parents=True)
    (tmp_path / "set/labels/train").mkdir(parents=True)
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "set/images/train/frame_1.png")
    (tmp_path / "set/labels/train/frame_1.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n")
    with pytest.raises(ExchangeError, match=r"The folder .*set looks like YOLO segmentation: choose that one"):
        open_dataset(tmp_path / "set/images")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"_via_img_metadata": {}}, "VGG Image Annotator. Export it there as COCO"),
        ({"assets": {}}, "VoTT"),
        ([{"id": 1, "image": "a.png", "tag": []}], "JSON-MIN"),
    ],
)
def test_the_message_about_a_json_file_of_another_tool(tmp_path: Path, content: object, expected: str) -> None:
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(ExchangeError, match=expected):
        open_dataset(tmp_path / "x.json")
