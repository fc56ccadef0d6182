"""Average precision of instance masks, as COCO computes it, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


@dataclass(frozen=True)
class Instance:
    """One instance in a frame: its class, its mask, (H, W) bool, and how sure the prediction is."""

    class_id: int
    mask: np.ndarray
    score: float = 1.0


@dataclass(frozen=True)
class AveragePrecision:
    """Percent; NaN if the truth has no instance.

    Attributes
    ----------
    ap : mean over the classes, and over thresholds of the IoU from 0.50 to 0.95
    ap50 : at an IoU of 0.50
    """

    ap: float
    ap50: float


class PrecisionMeter:
    """Collects the instances of frames; `result` scores them."""

    def __init__(self) -> None:
        self._images: list[dict] = []
        self._true: list[dict] = []
        self._predicted: list[dict] = []

    def add(self, truth: Iterable[Instance], predicted: Iterable[Instance]) -> None:
        """Add a frame."""
        image_id = len(self._images) + 1
        for known, instances in ((self._true, list(truth)), (self._predicted, list(predicted))):
            known += [_annotation(len(known) + number, image_id, one) for number, one in enumerate(instances, start=1)]
        height, width = self._true[-1]["segmentation"]["size"] if self._true else (1, 1)
        self._images.append({"id": image_id, "height": height, "width": width})

    def result(self) -> AveragePrecision:
        if not self._true:
            return AveragePrecision(float("nan"), float("nan"))
        evaluation = COCOeval(self._coco(self._true), self._coco(self._predicted), "segm")
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return AveragePrecision(100 * float(evaluation.stats[0]), 100 * float(evaluation.stats[1]))

    def _coco(self, annotations: list[dict]) -> COCO:
        classes = sorted({one["category_id"] for one in self._true + self._predicted})
        coco = COCO()
        coco.dataset = {
            "images": self._images,
            "annotations": annotations,
            "categories": [{"id": class_id} for class_id in classes],
        }
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
        return coco


def _annotation(id: int, image_id: int, instance: Instance) -> dict:
    encoded = coco_mask.encode(np.asfortranarray(instance.mask.astype(np.uint8)))
    return {
        "id": id,
        "image_id": image_id,
        "category_id": instance.class_id,
        "segmentation": encoded,
        "area": float(coco_mask.area(encoded)),
        "iscrowd": 0,
        "score": instance.score,
    }
