"""Ways to link the regions of a video to tracks: ours, and two simple ones to compare with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from instance_videos import LabelledVideo
from scipy.optimize import linear_sum_assignment

from surgicalsam_napari.tracking.linking import LabelledFrame, LinkedTrack, link_frames

SMALLEST_SHARE = 0.0004  # of the picture: smaller regions are left out, by all ways
LEAST_IOU = 0.1  # of a region with that of the frame before
FARTHEST = 0.2  # of the width, from the centroid in the frame before

Linker = Callable[[LabelledVideo], list[np.ndarray]]  # track ids of each frame, (H, W)


def by_tracking(video: LabelledVideo) -> list[np.ndarray]:
    """`tracking.link_frames`, as *Link instances* does it, without embeddings."""
    return linked_maps(video.pictures, video.labels)[0]


def linked_maps(
    pictures: Sequence[np.ndarray], labels: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], tuple[LinkedTrack, ...]]:
    """The track ids of each frame, 1 and up, and the tracks, of which the first has the id 1."""
    numbers, tracks = linked_numbers(pictures, labels)
    ids = np.zeros((len(numbers), 256), int)
    for track_id, track in enumerate(tracks, start=1):
        for first, last, number in track.spans:
            ids[first : last + 1, number] = track_id
    ids[:, 0] = 0
    return [ids[index][number] for index, number in enumerate(numbers)], tracks


def linked_numbers(
    pictures: Sequence[np.ndarray], labels: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], tuple[LinkedTrack, ...]]:
    """The numbers in each frame, and the tracks: what *Link instances* writes."""
    frames = (LabelledFrame(index, *pair) for index, pair in enumerate(zip(pictures, labels, strict=True)))
    numbers, linked = [], link_frames(frames)
    while True:
        try:
            frame = next(linked)
        except StopIteration as end:
            return numbers, end.value
        numbers.append(frame.numbers(labels[frame.index]))


def by_overlap(video: LabelledVideo) -> list[np.ndarray]:
    """A region continues the one of its class that it overlaps most in the frame before."""

    def cost(mask: np.ndarray, before: np.ndarray) -> float:
        either = np.count_nonzero(mask | before)
        iou = np.count_nonzero(mask & before) / either
        return -iou if iou >= LEAST_IOU else np.inf

    return _linked_to_the_frame_before(video.labels, cost)


def by_centroid(video: LabelledVideo) -> list[np.ndarray]:
    """A region continues the one of its class whose centroid is nearest in the frame before."""

    def cost(mask: np.ndarray, before: np.ndarray) -> float:
        away = np.hypot(*np.subtract(_centroid(mask), _centroid(before))) / mask.shape[1]
        return away if away <= FARTHEST else np.inf

    return _linked_to_the_frame_before(video.labels, cost)


WAYS: dict[str, Linker] = {"ours": by_tracking, "overlap": by_overlap, "centroid": by_centroid}


def _linked_to_the_frame_before(
    labels: Sequence[np.ndarray], cost: Callable[[np.ndarray, np.ndarray], float]
) -> list[np.ndarray]:
    """Link connected regions of a class one to one with those of the frame before; all others are new tracks."""
    maps, before, count = [], dict[int, tuple[int, np.ndarray]](), 0
    for label_map in labels:
        regions = list(_regions(label_map))
        costs = np.full((len(regions), len(before)), np.inf)
        for row, (class_id, mask) in enumerate(regions):
            for column, (class_before, mask_before) in enumerate(before.values()):
                if class_id == class_before:
                    costs[row, column] = cost(mask, mask_before)
        rows, columns = linear_sum_assignment(np.where(np.isinf(costs), 1e6, costs))
        ids = {
            int(row): list(before)[column]
            for row, column in zip(rows, columns, strict=True)
            if np.isfinite(costs[row, column])
        }
        tracks, after = np.zeros(label_map.shape, int), dict[int, tuple[int, np.ndarray]]()
        for row, (class_id, mask) in enumerate(regions):
            if row not in ids:
                count += 1
                ids[row] = count
            tracks[mask] = ids[row]
            after[ids[row]] = class_id, mask
        maps.append(tracks)
        before = after
    return maps


def _regions(label_map: np.ndarray):
    """Class and mask of each connected region."""
    for class_id in np.unique(label_map[label_map > 0]).tolist():
        count, parts, stats, _ = cv2.connectedComponentsWithStats((label_map == class_id).astype(np.uint8))
        for part in range(1, count):
            if stats[part, cv2.CC_STAT_AREA] >= SMALLEST_SHARE * label_map.size:
                yield class_id, parts == part


def _centroid(mask: np.ndarray) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(rows.mean()), float(columns.mean())
