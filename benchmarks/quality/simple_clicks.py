"""Masks from clicks: the tool's *Click to refine*, GrabCut (OpenCV) and the random walker (scikit-image)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from annotated_video import GOOD_IOU
from simulated_annotator import iou, next_click
from skimage.segmentation import random_walker

from surgicalsam_napari.inference.refine import Click, Refinement
from surgicalsam_napari.instruments import knows_class
from surgicalsam_napari.model.surgical_sam import SurgicalSAM

MOST_CLICKS = 20
DISC = 0.01  # of the frame's longer side: radius of the disc of sure pixels around a click
GRABCUT_SIDE, WALKER_SIDE = 360, 180  # longer side in pixels at which they run; at full size a click takes seconds
GRABCUT_ROUNDS = 3
INSIDE = 0.01  # of the longer side: so deep in a given mask, or so far from it, the random walker takes it as sure

Answer = Callable[[Click], np.ndarray]  #: the mask (H, W) after one more click


def clicked_through(mask: np.ndarray, truth: np.ndarray, answer: Answer, most: int = MOST_CLICKS) -> list[float]:
    """IoU before the first click and after each; each click is in the middle of the largest wrong region.

    It ends at an IoU of 0.85, or after `most` clicks.
    """
    ious = [iou(mask, truth)]
    while ious[-1] < GOOD_IOU and len(ious) <= most:
        mask = answer(next_click(mask, truth))
        ious.append(iou(mask, truth))
    return ious


def summary(curves: Sequence[Sequence[float]], most: int = MOST_CLICKS) -> dict[str, float]:
    """Mean number of clicks to an IoU of 0.85, percent that never reach it, mean IoU in percent after 0, 1, 3, 10 clicks.

    A mask that never reaches it counts as `most`; a curve that ended early keeps its last IoU.
    """
    needed = [next((count for count, value in enumerate(curve) if value >= GOOD_IOU), most) for curve in curves]
    figures = {
        "clicks": round(float(np.mean(needed)), 2),
        "never": round(100 * float(np.mean([max(curve) < GOOD_IOU for curve in curves])), 1),
    }
    for count in (0, 1, 3, 10):
        ious = [curve[min(count, len(curve) - 1)] for curve in curves]
        figures[f"iou_{count}"] = round(100 * float(np.mean(ious)), 1)
    return figures


def tool_answer(model: SurgicalSAM, embedding: np.ndarray, mask: np.ndarray, name: str) -> Answer:
    """*Click to refine* of the class with this name, with this model."""
    class_id = model.classes.by_name(name).id if knows_class(model.classes, name) else None
    refinement = Refinement(model, embedding, mask, class_id=class_id)

    def answer(click: Click) -> np.ndarray:
        refinement.add_click(click)
        return refinement.mask

    return answer


def grabcut_answer(picture: np.ndarray, mask: np.ndarray) -> Answer:
    """GrabCut (Rother et al. 2004): discs around clicks are sure; the rest is probable, as the given mask has it."""
    small, mask_there = _reduced(picture, mask, GRABCUT_SIDE)
    start = np.where(mask_there, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    clicks: list[Click] = []

    def answer(click: Click) -> np.ndarray:
        clicks.append(click)
        marked = _with_discs(start, clicks, picture.shape, cv2.GC_FGD, cv2.GC_BGD)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(small, marked, None, *models, GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
        return _full_size((marked == cv2.GC_FGD) | (marked == cv2.GC_PR_FGD), picture.shape)

    return answer


def walker_answer(picture: np.ndarray, mask: np.ndarray) -> Answer:
    """The random walker (Grady 2006): seeds are discs around the clicks, and what is well inside or outside a given mask.

    Without a given mask, the border of the frame is a seed of the background, too.
    """
    small, mask_there = _reduced(picture, mask, WALKER_SIDE)
    seeds = _sure(mask_there) if mask.any() else np.zeros(mask_there.shape, np.uint8)
    clicks: list[Click] = []

    def answer(click: Click) -> np.ndarray:
        clicks.append(click)
        marked = seeds.copy()
        if not mask.any():
            marked[0], marked[-1], marked[:, 0], marked[:, -1] = 2, 2, 2, 2
        marked = _with_discs(marked, clicks, picture.shape, 1, 2)
        if len(np.unique(marked[marked > 0])) < 2:
            return np.full(mask.shape, bool((marked == 1).any()))
        walked = random_walker(small / 255, marked, beta=130, mode="bf", channel_axis=-1)
        return _full_size(walked == 1, picture.shape)

    return answer


def _sure(mask: np.ndarray) -> np.ndarray:
    depth = INSIDE * max(mask.shape)
    inside, outside = (cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, 5) > depth for part in (mask, ~mask))
    return np.where(inside, 1, np.where(outside, 2, 0)).astype(np.uint8)


def _reduced(picture: np.ndarray, mask: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    scale = min(side / max(mask.shape), 1)
    size = round(scale * mask.shape[1]), round(scale * mask.shape[0])
    return (
        cv2.resize(picture, size, interpolation=cv2.INTER_AREA),
        cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5,
    )


def _with_discs(
    marked: np.ndarray, clicks: Sequence[Click], size: tuple[int, ...], positive: int, negative: int
) -> np.ndarray:
    """A copy with discs around the clicks, given in pixels of a frame of another size; later clicks lie on top."""
    marked = marked.copy()
    scale = marked.shape[0] / size[0]
    radius = max(round(DISC * max(marked.shape)), 1)
    for click in clicks:
        middle = round(click.column * scale), round(click.row * scale)
        cv2.circle(marked, middle, radius, positive if click.is_positive else negative, -1)
    return marked


def _full_size(mask: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    return cv2.resize(mask.astype(np.float32), (size[1], size[0]), interpolation=cv2.INTER_LINEAR) > 0.5
