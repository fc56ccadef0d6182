"""Polygons of a mask, in the two ways in which other tools read them: drawn again, no pixel differs.

*Edges*: the points lie on the corners of pixels, so that pixel (0, 0) is the square from (0, 0) to (1, 1). COCO, CVAT and
Label Studio read polygons so; pycocotools draws them (`rleFrPoly` in its maskApi.c: a grid five times finer, even-odd).

*Centres*: the points lie on the centres of pixels, and every pixel on the outline belongs to the mask. Ultralytics and
supervision read YOLO's polygons so, with OpenCV's `fillPoly` on whole numbers; LabelMe uses Pillow's `ImageDraw.polygon`.

A hole becomes part of the outline: a cut of width 0 leads from the outline to the hole and back (a *keyhole*). All readers
above draw it exactly. `tests/test_outlines.py` measures it on random masks. `polygons` has the way back.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

Point = tuple[int, int]
Ring = list[Point]  # (x, y)


def edge_polygons(mask: np.ndarray) -> list[Ring]:
    """One polygon for each region of 4-connected pixels, with its holes cut in.

    Parameters
    ----------
    mask : (H, W) bool

    Returns
    -------
    points (x, y) on corners of pixels, clockwise on the screen
    """
    outlines, up_side_at = _edge_outlines(mask)
    for x, y, hole in outlines.holes():  # its leftmost corner, left of which lies the region
        left = _left_end(mask, x - 1, y)
        side = int(up_side_at[y, left])
        end = outlines.following[side]
        if outlines.points[end] == (left, y):
            outlines.cut_in(hole, end)
        else:
            back = outlines.cut_in(hole, outlines.insert_after(side, (left, y)))
            up_side_at[outlines.points[end][1] : y, left] = back
    return outlines.polygons()


def center_polygons(mask: np.ndarray) -> list[Ring]:
    """One polygon for each region of 8-connected pixels, with its holes cut in.

    Parameters
    ----------
    mask : (H, W) bool

    Returns
    -------
    points (x, y) on centres of pixels, counted in whole numbers; at least three, which may be the same point
    """
    contours, hierarchy = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return []
    outlines = _Outlines()
    for contour, parent in zip(contours, hierarchy.reshape(-1, 4)[:, 3], strict=True):
        outlines.add([(x, y) for x, y in contour[:, 0].tolist()], is_hole=bool(parent >= 0))
    joined = {outlines.points[node]: node for region in outlines.regions for node in outlines.chain(region)}
    for x, y, hole in outlines.holes():  # the leftmost pixel around the hole
        around = {outlines.points[node]: node for node in outlines.chain(hole)}
        outlines.cut_in(hole, joined[_left_end(mask, x, y), y])
        joined |= around
    return [_corners(ring) for ring in outlines.polygons()]


class _Outlines:
    """Closed outlines as chains of points, into which holes can be cut in a time that does not grow with their length."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.following: list[int] = []  # for each point, the index of the next one
        self.regions: list[int] = []  # the first point of each outline
        self._holes: list[tuple[int, int, int]] = []  # x, y and index of the leftmost point

    def add(self, ring: Ring, *, is_hole: bool) -> None:
        first, count = len(self.points), len(ring)
        self.points += ring
        self.following += [*range(first + 1, first + count), first]
        if is_hole:
            leftmost = min(range(count), key=ring.__getitem__)
            self._holes.append((*ring[leftmost], first + leftmost))
        else:
            self.regions.append(first)

    def holes(self) -> list[tuple[int, int, int]]:
        """x, y and index of the leftmost point of each hole, from left to right: what lies left of it is already joined."""
        return sorted(self._holes)

    def insert_after(self, node: int, point: Point) -> int:
        self.points.append(point)
        self.following.append(self.following[node])
        self.following[node] = len(self.points) - 1
        return self.following[node]

    def cut_in(self, hole: int, node: int) -> int:
        """Lead the outline from a point of it to a point of the hole, around the hole, and back; returns the point after."""
        last = self.chain(hole)[-1]
        back = self.insert_after(node, self.points[node])
        end = self.insert_after(last, self.points[hole])
        self.following[end], self.following[node] = back, hole
        return back

    def chain(self, first: int) -> list[int]:
        """The points of an outline, from this one on."""
        nodes = [first]
        while (node := self.following[nodes[-1]]) != first:
            nodes.append(node)
        return nodes

    def polygons(self) -> list[Ring]:
        return [[self.points[node] for node in self.chain(region)] for region in self.regions]


def _left_end(mask: np.ndarray, x: int, y: int) -> int:
    """The first pixel of the run of the mask that contains (x, y)."""
    background = np.flatnonzero(~mask[y, :x])
    return int(background[-1]) + 1 if len(background) else 0


# ---- outlines on the corners of pixels

RIGHT, DOWN, LEFT, UP = range(4)  # directions on the screen, clockwise
_Side = tuple[Point, int]  # a straight piece of an outline: its start and its direction


def _edge_outlines(mask: np.ndarray) -> tuple[_Outlines, np.ndarray]:
    """The closed outlines between mask and background, with the mask on their right.

    Returns
    -------
    outlines
    (H, W) int32, at each pixel at the left end of a run: the start of the side that leads up along its left edge
    """
    sides = _sides(mask)
    outlines, up_side_at = _Outlines(), np.full(mask.shape, -1, np.int32)
    while sides:
        side = next(iter(sides))
        ring: Ring = []
        while side in sides:
            (point, direction), (end, turn) = side, sides.pop(side)
            if direction == UP:
                up_side_at[end[1] : point[1], point[0]] = len(outlines.points) + len(ring)
            ring.append(point)
            side = (end, turn)
        outlines.add(ring, is_hole=not _is_clockwise(ring))
    return outlines, up_side_at


def _sides(mask: np.ndarray) -> dict[_Side, _Side]:
    """For each straight piece of an outline, the next one."""
    padded = np.pad(mask, 1)
    tops, bottoms = mask & ~padded[:-2, 1:-1], mask & ~padded[2:, 1:-1]
    lefts, rights = mask & ~padded[1:-1, :-2], mask & ~padded[1:-1, 2:]
    end_of = {
        RIGHT: {(first, y): (stop, y) for y, first, stop in _runs(tops)},
        LEFT: {(stop, y + 1): (first, y + 1) for y, first, stop in _runs(bottoms)},
        DOWN: {(x + 1, first): (x + 1, stop) for x, first, stop in _runs(rights.T)},
        UP: {(x, stop): (x, first) for x, first, stop in _runs(lefts.T)},
    }
    sides = {}
    for direction, ends in end_of.items():
        for start, end in ends.items():
            # where two regions touch at a corner, turn right: the outline stays with its own region
            turns = ((direction + 1) % 4, (direction - 1) % 4)
            sides[start, direction] = end, next(turn for turn in turns if end in end_of[turn])
    return sides


def _runs(lines: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Line, first and stop of each run of True, line by line."""
    changes = np.diff(np.pad(lines, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, positions = np.nonzero(changes)
    runs = np.stack((rows[::2], positions[::2], positions[1::2]), axis=1)
    yield from (tuple(run) for run in runs.tolist())


def _is_clockwise(ring: Ring) -> bool:
    x, y = np.array(ring).T
    return bool(np.dot(x, np.roll(y, -1)) > np.dot(y, np.roll(x, -1)))


def _corners(ring: Ring) -> Ring:
    """The ring without the points between two others on a straight line; at least three points."""
    points = np.array(ring)
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    kept = points[(before != after).any(axis=1)] if len(points) > 2 else points
    shortest = kept if len(kept) > 2 else np.resize(points, (max(3, len(points)), 2))
    return [(int(x), int(y)) for x, y in shortest]
