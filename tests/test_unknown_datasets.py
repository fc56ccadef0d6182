"""A folder that is no dataset of a known format: the message says what it looks like, and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.registry import open_dataset


def photographs(folder: Path) -> None:
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 50, 3)).astype(np.uint8)
        (folder / "frames").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / f"frames/{number:03d}.jpg")


def colour_masks(folder: Path) -> None:
    pixels = np.zeros((40, 50, 3), np.uint8)
    pixels[:9] = (255, 0, 0)
    Image.fromarray(pixels).save(folder / "mask_003.png")


def nested_grey_masks(folder: Path) -> None:
    (folder / "case 1" / "manual").mkdir(parents=True)
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(folder / "case 1/manual/frame_003.png")


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda folder: None, "The folder is empty"),
        (lambda folder: (folder / "data.zip").write_bytes(b"PK"), "Unpack it"),
        (lambda folder: (folder / "scan.nii").write_bytes(b""), "medical volumes"),
        (lambda folder: (folder / "a.mp4").write_bytes(b""), "only videos, and no labels"),
        (lambda folder: (folder / "x.json").write_text(json.dumps({"_via_img_metadata": {}})), "VGG Image Annotator"),
        (lambda folder: (folder / "x.json").write_text(json.dumps({"a": 1})), "Export as COCO"),
        (lambda folder: (folder / "x.json").write_text("{"), "damaged"),
        (photographs, "3 pictures, but no labels that are known .its folders are frames."),
        (colour_masks, "labelmap.txt with a line for each class"),
        (nested_grey_masks, "manual has grey pictures, which may be labels"),
    ],
)
def test_the_message_says_what_it_looks_like_and_what_to_do(
    tmp_path: Path, make: Callable[[Path], object], expected: str
) -> None:
    make(tmp_path)
    with pytest.raises(ExchangeError, match=expected):
        open_dataset(tmp_path)
