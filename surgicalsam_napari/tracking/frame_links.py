"""Decide which tracklets the regions of one frame continue, from where its pixels were in the frame before."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from surgicalsam_napari.tracking.looks import JAWS_SHARE, NEAR_ENTRY, Look, border_gap, entry_distance
from surgicalsam_napari.tracking.regions import Regions
from surgicalsam_napari.tracking.sight import NEAR, Sight
from surgicalsam_napari.tracking.tracklets import Tracklets

LEAST_OF_BEST = 0.5  # a region covers at least so much of a tracklet as the region that fits and covers most of it
LEAST_COVER = 0.4  # of a tracklet's pixels lie in the region into which it runs
LEAST_PART = 0.25  # of the usual area of a tracklet; with less, it is hidden
LEAST_PART_OF_OTHER_CLASS = 0.6  # the same in a region of another class
PIECE_COVER = 0.5  # of a region's pixels belonged to an instrument that has another region: it is a piece of it
ONE_SEGMENT = 0.03  # picture widths: border pixels so near are one place of entry
FAR_ENTRY = 0.15  # picture widths: an instrument does not enter so far from where it entered before
FAR = 0.12  # picture widths
GROWN_UP = 8  # frames after which a tracklet is no passing piece
SAME_CLASS_BONUS = 0.05  # of overlap


@dataclass
class FrameLinks:
    """What continues what.

    Attributes
    ----------
    owners : the keys of each region; none for a region that begins a tracklet
    part_of : for regions that begin a tracklet, the region whose instrument it is a piece of
    absorbed : keys that run into a region of their own instrument
    """

    owners: list[list[int]]
    part_of: dict[int, int] = field(default_factory=dict)
    absorbed: list[int] = field(default_factory=list)


def linked(sight: Sight, carried: np.ndarray, tracklets: Tracklets) -> FrameLinks:
    """Link the regions of a frame; joins tracklets that turn out to be pieces of one instrument.

    Parameters
    ----------
    carried : (h, w) int32, the key of the tracklet to which each pixel belonged in the frame before; 0 for none
    """
    return _Linking(sight, carried, tracklets).result()


class _Linking:
    def __init__(self, sight: Sight, carried: np.ndarray, tracklets: Tracklets) -> None:
        self._sight, self._carried, self._tracklets = sight, carried, tracklets
        self._regions = sight.regions
        self._keys = list(tracklets.live)
        self._areas, self._overlap = _overlaps(carried, self._regions, self._keys)

    def result(self) -> FrameLinks:
        links = FrameLinks([[] for _ in range(len(self._regions))])
        matched = self._matched()
        for row, region in matched.items():
            links.owners[region].append(self._keys[row])
        for row in np.argsort(-self._areas).tolist():
            if row not in matched and self._areas[row] and len(self._regions):
                self._run_into(row, links)
        self._let_go(links)
        self._find_pieces(links)
        return links

    def _matched(self) -> dict[int, int]:
        """Region by row of the table of overlaps: the assignment with the largest sum of overlaps (IoU)."""
        if not self._overlap.size:
            return {}
        union = self._areas[:, None] + self._regions.areas - self._overlap
        same = np.array([[self._tracklets[key].latest_class] for key in self._keys]) == self._regions.class_ids
        fits = np.zeros(self._overlap.shape, bool)
        for row, region in np.argwhere(self._overlap > 0).tolist():
            fits[row, region] = self._fits(self._keys[row], region)
        score = np.where(fits, self._overlap / np.maximum(union, 1) + SAME_CLASS_BONUS * same, 0)
        rows, columns = linear_sum_assignment(-score)
        most = np.where(fits, self._overlap, 0).max(axis=1)[rows]
        is_link = (score[rows, columns] > 0) & (self._overlap[rows, columns] >= LEAST_OF_BEST * most)
        return dict(zip(rows[is_link].tolist(), columns[is_link].tolist(), strict=True))

    def _fits(self, key: int, region: int) -> bool:
        """Whether a region that enters the picture does so where the tracklet did."""
        return not len(self._sight.border(region)) or self._sight.entry_gap(region, self._tracklets[key].end) < 2 * FAR_ENTRY

    def _run_into(self, row: int, links: FrameLinks) -> None:
        """A tracklet without a region of its own: it shares one with another instrument, or joins the rest of its own."""
        key, region = self._keys[row], int(self._overlap[row].argmax())
        if self._overlap[row, region] < LEAST_COVER * self._areas[row] or not links.owners[region]:
            return
        for owner in links.owners[region]:
            is_one = self._tracklets.root(owner) == self._tracklets.root(key)
            if is_one or self._is_mere_piece(row):
                links.absorbed.append(key)
                return
            if self._are_pieces(key, owner, region):
                self._tracklets.join(*sorted((key, owner), key=lambda one: self._tracklets[one].age))
                links.absorbed.append(key)
                return
        if self._is_beside(key, region, int(self._overlap[row, region])):
            links.owners[region].append(key)

    def _is_mere_piece(self, row: int) -> bool:
        """Whether a larger tracklet of the same instrument is followed, too."""
        roots = [self._tracklets.root(key) for key in self._keys]
        return any(
            roots[other] == roots[row] and self._areas[other] > self._areas[row]
            for other in range(len(roots))
            if other != row
        )

    def _is_beside(self, key: int, region: int, pixels: int) -> bool:
        """Whether a tracklet goes on in a region of others: enough of it is there, and it still reaches where it enters."""
        tracklet = self._tracklets[key]
        is_same_class = tracklet.class_id == self._regions.class_ids[region]
        if tracklet.end.entry is not None and is_same_class:
            return self._sight.entry_gap(region, tracklet.end) < FAR_ENTRY
        if pixels < (LEAST_PART if is_same_class else LEAST_PART_OF_OTHER_CLASS) * tracklet.area:
            return False
        return self._sight.entry_gap(region, tracklet.end) < FAR_ENTRY

    def _are_pieces(self, key: int, owner: int, region: int) -> bool:
        """Whether two tracklets that run into one region are pieces of one instrument, and not two that touch."""
        first, second = self._tracklets[key], self._tracklets[owner]
        if first.end.is_of_jaws and second.end.is_of_jaws and self._enter_together(first.end, second.end, region):
            return True
        distance = entry_distance(first.end, second.end)
        of_instruments = entry_distance(*(self._tracklets[self._tracklets.root(one)].end for one in (key, owner)))
        if any(one is not None and one > NEAR_ENTRY for one in (distance, of_instruments)):
            return False
        parts = [self._regions.mask(region) & (self._carried == one) for one in (key, owner)]
        gap = border_gap(*(self._sight.look_of(part) for part in parts)) if all(part.any() for part in parts) else None
        if gap is not None and distance is not None:
            return gap < ONE_SEGMENT
        return min(first.age, second.age) < GROWN_UP

    def _enter_together(self, first: Look, second: Look, region: int) -> bool:
        """Whether a region has one shaft where two looks enter."""
        border = self._sight.border(region)
        if not len(border):
            return False
        shafts = _contiguous(border)
        nearest = [int(np.hypot(*(border - look.entry).T).argmin()) for look in (first, second)]
        return bool(shafts[nearest[0]] == shafts[nearest[1]])

    def _let_go(self, links: FrameLinks) -> None:
        """Regions of an instrument that has left the picture are pieces of another one that is still there.

        An instrument comes from outside. It has left if nothing is where it entered: neither it nor one that may cover it.
        """
        for region, owners in enumerate(links.owners):
            for key in owners.copy():
                root = self._tracklets.root(key)
                entry = self._tracklets[root].end.entry
                if entry is None or len(self._sight.border(region)) or self._sight.regions_near(entry):
                    continue
                others = [owner for owner in owners if self._tracklets.root(owner) != root]
                heir = None if others else self._entering_whole(region, links, besides=root)
                if others or heir is not None:
                    owners.remove(key)
                    if heir is not None and not owners:
                        links.part_of[region] = heir

    def _entering_whole(self, region: int, links: FrameLinks, besides: int | None = None) -> int | None:
        """The region of an instrument of its class that enters, and of which a region behind another one may be a piece."""
        if not self._sight.is_covered(region):
            return None
        found: list[tuple[bool, float, int]] = []
        for other, owners in enumerate(links.owners):
            is_known = other != region and owners and self._tracklets.root(owners[0]) != besides
            is_same_class = self._regions.class_ids[other] == self._regions.class_ids[region]
            if is_known and is_same_class and len(self._sight.border(other)):
                found.append((not self._sight.is_bridged(region, other), self._sight.gap(region, other), other))
        return min(found)[2] if found else None

    def _find_pieces(self, links: FrameLinks) -> None:
        """Of the regions that begin a tracklet, those that are pieces of an instrument that has another region."""
        for region in np.argsort(-self._regions.areas).tolist():
            if links.owners[region] or region in links.part_of:
                continue
            whole = self._whole_of(region, links)
            if whole is not None:
                links.part_of[region] = whole

    def _whole_of(self, region: int, links: FrameLinks) -> int | None:
        by_pixels = self._whole_by_pixels(region, links)
        if by_pixels is not None and self._regions.class_ids[by_pixels] == self._regions.class_ids[region]:
            return by_pixels
        if self._sight.look(region).entry is not None:
            return self._other_jaw(region, links) if by_pixels is None else by_pixels
        of_class = (whole(region, links) for whole in (self._whole_nearby, self._entering_whole))
        return next((whole for whole in of_class if whole is not None), by_pixels)

    def _whole_by_pixels(self, region: int, links: FrameLinks) -> int | None:
        """The region of the instrument to which most of a region's pixels belonged."""
        if not self._keys:
            return None
        row = int(self._overlap[:, region].argmax())
        if self._overlap[row, region] < PIECE_COVER * self._regions.areas[region]:
            return None
        for other, owners in enumerate(links.owners):
            if self._keys[row] in owners:
                distance = border_gap(self._sight.look(region), self._sight.look(other))
                if distance is not None and len(owners) > 1:  # others enter in that region, too
                    distance = self._sight.entry_gap(region, self._tracklets[self._tracklets.root(self._keys[row])].end)
                return other if distance is None or distance < NEAR_ENTRY else None
        return None

    def _other_jaw(self, region: int, links: FrameLinks) -> int | None:
        """The region beside it that has its class, if both are only jaws: their instrument enters or leaves."""
        if not self._keys:  # in the first frame of a scene, nothing is on its way
            return None
        most, areas = JAWS_SHARE * self._regions.map.size, self._regions.areas
        found: list[tuple[float, int]] = []
        for other, owners in enumerate(links.owners):
            goes_first = bool(owners) or (areas[other] > areas[region] and other not in links.part_of)
            are_jaws = max(areas[region], areas[other]) < most
            if goes_first and are_jaws and self._regions.class_ids[other] == self._regions.class_ids[region]:
                gap = border_gap(self._sight.look(region), self._sight.look(other))
                if gap is not None and gap < NEAR_ENTRY:
                    found.append((gap, other))
        return min(found)[1] if found else None

    def _whole_nearby(self, region: int, links: FrameLinks) -> int | None:
        """A larger region of the same class that is near, or that passes below another instrument on the way to it."""
        found: list[tuple[float, int]] = []
        for other in range(len(self._regions)):
            is_larger = self._regions.areas[other] > self._regions.areas[region]
            if (
                is_larger
                and self._regions.class_ids[other] == self._regions.class_ids[region]
                and other not in links.part_of
            ):
                gap = self._sight.gap(region, other)
                if gap < NEAR or self._sight.is_bridged(region, other):
                    found.append((gap, other))
        return min(found)[1] if found else None


def _contiguous(border: np.ndarray) -> np.ndarray:
    """(N,) the number of the contiguous part to which each pixel of a border belongs; (N, 2) in the order along it."""
    steps = np.hypot(*np.diff(border, axis=0).T)
    return np.concatenate([[0], np.cumsum(steps > ONE_SEGMENT)])


def _overlaps(carried: np.ndarray, regions: Regions, keys: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """(K,) pixels of each key, and (K, R) those that lie in each region."""
    row_of = np.zeros(max([0, int(carried.max()), *keys]) + 1, int)
    row_of[keys] = np.arange(1, len(keys) + 1)
    pairs = row_of[carried].ravel() * (len(regions) + 1) + regions.map.ravel()
    counts = np.bincount(pairs, minlength=(len(keys) + 1) * (len(regions) + 1))
    counts = counts.reshape(len(keys) + 1, len(regions) + 1)[1:]
    return counts.sum(axis=1), counts[:, 1:]
