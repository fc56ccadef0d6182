"""Synthetic datasets of boxes, and a stand-in for SAM with known answers, for the tests of the baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from surgicalsam_napari.exchange.formats.indexed_png import write_classes, write_label_map
from surgicalsam_napari.instruments import ENDOVIS2018, ClassSet
from surgicalsam_napari.model.surgical_sam import PromptedMask
from surgicalsam_training.data.training_data import TrainingData, open_training_data

SIZE = 256  # of the frames and of the stand-in's padded square, so that both have the same coordinates
SIDE = 128  # of its logits
TISSUE = (180, 40, 40)
COLOURS = {1: (40, 180, 40), 2: (40, 40, 180), 3: (180, 180, 40)}  # of the instruments, by class id

Box = tuple[
    int, int, int, int
]  # left, top, right, bottom; even numbers, so that half the resolution represents them exactly


@dataclass
class StandInSAM:
    """Embeds colours; answers a box with the box, and points with a square of `reach` around each positive point.

    Attributes
    ----------
    asked : all prompts so far: (points, marks, box), in the padded square
    quality : predicted IoU of the answers in their order; then 0.5
    """

    reach: int = 20
    classes: ClassSet = ENDOVIS2018
    quality: list[float] = field(default_factory=list)
    asked: list[tuple[Tensor | None, Tensor | None, Tensor | None]] = field(default_factory=list)
    name: str = "stand-in"
    encoder_id: str = "light"
    encoder_digest: str = "0" * 16
    input_size: int = SIZE
    embedding_shape: tuple[int, int, int] = (3, 32, 32)
    decoder_dim: int = 3
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    has_image_encoder: bool = True

    def embed(self, frames: Sequence[np.ndarray], dtype: np.dtype | str = "float16") -> np.ndarray:
        images = torch.stack([torch.from_numpy(np.array(frame)) for frame in frames]).permute(0, 3, 1, 2).float()
        return F.adaptive_avg_pool2d(images / 255, 32).half().numpy()

    def decode_prompts(
        self,
        embedding: Tensor,
        points: Tensor | None = None,
        marks: Tensor | None = None,
        box: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> PromptedMask:
        self.asked.append((points, marks, box))
        logits = torch.full((SIDE, SIDE), -8.0)
        boxes = [] if box is None else [box.tolist()]
        if points is not None and marks is not None:
            reach = self.reach
            boxes += [[x - reach, y - reach, x + reach, y + reach] for x, y in points[marks > 0].tolist()]
        for left, top, right, bottom in boxes:
            logits[round(top / 2) : round(bottom / 2), round(left / 2) : round(right / 2)] = 8.0
        return PromptedMask(logits, self.quality.pop(0) if self.quality else 0.5)


def box_label_map(boxes: Mapping[int, Box]) -> np.ndarray:
    """(SIZE, SIZE) uint8 with a box of each class."""
    label_map = np.zeros((SIZE, SIZE), np.uint8)
    for class_id, (left, top, right, bottom) in boxes.items():
        label_map[top:bottom, left:right] = class_id
    return label_map


def box_dataset(folder: Path, frames: Sequence[Mapping[int, Box]], model: StandInSAM | None = None) -> TrainingData:
    """A dataset with one frame per entry of `frames`, coloured by class; embedded if there is a model."""
    write_classes(folder, ENDOVIS2018, f"{folder.name}.mp4")
    (folder / "images").mkdir(parents=True)
    for index, boxes in enumerate(frames):
        label_map = box_label_map(boxes)
        image = np.full((SIZE, SIZE, 3), TISSUE, np.uint8)
        for class_id, colour in COLOURS.items():
            image[label_map == class_id] = colour
        write_label_map(folder, index, label_map, ENDOVIS2018)
        Image.fromarray(image).save(folder / "images" / f"frame_{index:05d}.png")
    data = open_training_data([folder], base=ENDOVIS2018)
    if model is not None:
        for _ in data.embed(range(len(data.frames)), 0, model):  # type: ignore[arg-type]
            pass
    return data
