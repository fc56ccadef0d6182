"""The numbers kept in this folder, its rare cases as parameters of tests, and the model that they are of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from reference.reduce import Arrays
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.surgical_sam import SurgicalSAM

HERE = Path(__file__).parent
FRAME = FrameGeometry((1024, 1280))
EDGE = json.loads((HERE / "edge.json").read_text())


def load(name: str) -> Arrays:
    """The arrays of an .npz file of this folder."""
    with np.load(HERE / f"{name}.npz") as file:
        return dict(file)


def edge_cases(kind: str) -> list:
    """The cases of edge.json."""
    return [pytest.param(case, id=case["case"]) for case in EDGE[kind]]


def painted(array: dict, dtype: type) -> np.ndarray:
    """An array of edge.json, from its shape, fill and rectangles."""
    result = np.full(array["shape"], array["fill"], dtype)
    for top, left, bottom, right, value in array["rectangles"]:
        result[top:bottom, left:right] = value
    return result


def load_model(folder: Path) -> SurgicalSAM:
    """The model of the numbers, from the folder that `write_checkpoint` filled."""
    return load_checkpoint(
        folder / "model_ckp.pth",
        encoder_weights=folder / "sam_prompt_encoder.pth",
        classes=ENDOVIS2018,
        load_image_encoder=False,
        device="cpu",
    )
