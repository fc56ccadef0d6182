"""Follow the regions of a video from frame to frame, by dense optical flow and by what they look like.

Each pixel of a frame is looked up in the frame before, where it belonged to a tracklet. So regions keep it over a change of
class, and a region into which two instruments run is split between them.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import cv2
import numpy as np

from surgicalsam_napari.propagation.flow import pixel_grid, reduced, scene_changes, working_size
from surgicalsam_napari.tracking.frame_links import FAR, FAR_ENTRY, GROWN_UP, FrameLinks, linked
from surgicalsam_napari.tracking.looks import NEAR_ENTRY, Look, border_gap, content_box
from surgicalsam_napari.tracking.regions import Regions, regions_of
from surgicalsam_napari.tracking.sight import LEAST_ENTRY, Sight
from surgicalsam_napari.tracking.splitting import Before, split
from surgicalsam_napari.tracking.tracklets import Tracklets

LINKING_SIDE = 320  # pixels; larger frames are reduced
HELD_FRAMES = 5  # a tracklet without a region is carried on so long
MEMORY_SHARE = 0.1  # of the newest look in the memory of a tracklet, if it shows as much of it as those before
BEGIN_FRAMES = 25  # frames that say how a tracklet looks when it begins; to enter takes about so long
SWAP_MARGIN = 0.1  # by so much must the looks of two tracklets fit better exchanged, after they touched


class Linker:
    """Follows regions from frame to frame.

    Parameters
    ----------
    size : (H, W) of the frames

    Attributes
    ----------
    tracklets : of the present scene
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = working_size(size, LINKING_SIDE)
        self.tracklets = Tracklets()
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._grid = pixel_grid(self.size)
        self._picture: np.ndarray | None = None
        self._keys = np.zeros(self.size, np.int32)
        self._content: tuple[int, int, int, int] | None = None
        self._positions = self._grid  # of each pixel in the frame before
        self._hidden: dict[int, np.ndarray] = {}
        self._shifts: dict[int, np.ndarray] = {}
        self._next_key = 1
        self._touching: dict[tuple[int, int], tuple[Look, Look]] = {}

    def reduced(self, frame: np.ndarray) -> np.ndarray:
        """A frame, (H, W, 3) uint8 RGB, at the working size (h, w)."""
        return reduced(frame, self.size)

    def is_cut(self, picture: np.ndarray) -> bool:
        """Whether another scene begins with the next frame, (h, w, 3) uint8 RGB."""
        return self._picture is not None and scene_changes(self._picture, picture)

    def begin_scene(self) -> None:
        """Forget everything but the keys that are used up."""
        self.tracklets, self._touching, self._hidden, self._shifts = Tracklets(), {}, {}, {}
        self._keys = np.zeros(self.size, np.int32)
        self._picture = self._content = None

    def advance(
        self, frame_index: int, picture: np.ndarray, labels: np.ndarray, embedding: np.ndarray | None = None
    ) -> np.ndarray:
        """Follow the regions into the next frame.

        Parameters
        ----------
        picture : (h, w, 3) uint8 RGB, the frame at the working size
        labels : (H, W) uint8
        embedding : (D, h', w'), the part of the image embedding that shows the picture; None without one

        Returns
        -------
        (h, w) int32 of the working size, the key of the tracklet of each pixel; 0 without one
        """
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        carried = self._carried(grey)
        regions = regions_of(cv2.resize(labels, self.size[::-1], interpolation=cv2.INTER_NEAREST))
        sight = Sight(regions, picture, self._content_of(grey), embedding)
        self._anchor([list(self.tracklets.live)] * len(regions), sight, carried, only_free=True)
        links = linked(sight, carried, self.tracklets)
        self._begin_new(links, sight, carried)
        self._anchor(links.owners, sight, carried)
        keys = self._painted(sight, links.owners, carried, picture)
        keys = self._exchanged_after_touching(keys, links.owners, sight)
        for key in links.absorbed:
            self.tracklets.end(key)
        self._remember(frame_index, keys, links.owners, sight)
        self._keys = self._with_held(keys, carried, regions)
        self._picture, self._grey = picture, grey
        return keys

    def _carried(self, grey: np.ndarray) -> np.ndarray:
        """(h, w) int32: the key of the tracklet to which each pixel of the picture belonged in the frame before."""
        if self._picture is None or not self._keys.any():
            return np.zeros(self.size, np.int32)
        self._positions = self._grid + self._flow.calc(grey, self._grey, None)
        return cv2.remap(self._keys.astype(np.float32), self._positions, None, cv2.INTER_NEAREST).astype(np.int32)

    def _content_of(self, grey: np.ndarray) -> tuple[int, int, int, int]:
        top, bottom, left, right = content_box(grey)
        if self._content is not None:
            known = self._content
            top, left = min(top, known[0]), min(left, known[2])
            bottom, right = max(bottom, known[1]), max(right, known[3])
        self._content = top, bottom, left, right
        return self._content

    def _begin_new(self, links: FrameLinks, sight: Sight, carried: np.ndarray) -> None:
        """Begin tracklets for regions without one, and for instruments that enter in a region of others.

        A region with several places of entry begins as many. Their seeds are written into `carried`.
        """
        for region in np.argsort(-sight.regions.areas).tolist():
            owners, entries = links.owners[region], sight.entries(region)
            if not owners:
                whole = links.part_of.get(region)
                of_piece = carried[sight.regions.mask(region)]
                part_of = None if whole is None else self._whole_key(links.owners[whole], of_piece)
                for entry in entries if len(entries) > 1 else [None]:
                    owners.append(self._begun(sight.look(region), entry, part_of))
                    if entry is not None:
                        columns, rows = np.rint(entry * self.size[1]).astype(int).T
                        carried[rows, columns] = owners[-1]
            elif len(entries) > 1:
                self._begin_entering(links.owners[region], entries, region, sight, carried)

    def _whole_key(self, owners: list[int], of_piece: np.ndarray) -> int:
        """Of the tracklets of a region, the one to which most pixels of a piece elsewhere belonged."""
        counts = np.bincount(of_piece, minlength=self._next_key)
        return max(owners, key=lambda key: (counts[key], self.tracklets[key].end.entry is not None))

    def _begin_entering(
        self, owners: list[int], entries: list[np.ndarray], region: int, sight: Sight, carried: np.ndarray
    ) -> None:
        """Begin a tracklet at each place of entry that none of the owners of a region has."""
        known = [self.tracklets[key].end.entry for key in owners]
        for entry in entries:
            place = entry.mean(axis=0)
            if any(other is None or np.hypot(*(other - place)) < 1.5 * NEAR_ENTRY for other in known):
                continue
            key = self._begun(sight.look(region), entry, None)
            owners.append(key)
            known.append(place)
            self._sow(carried, sight.regions.mask(region), entry, key)

    def _begun(self, look: Look, entry: np.ndarray | None, part_of: int | None) -> int:
        """The key of a new tracklet."""
        if entry is not None:
            look = replace(look, entry=entry.mean(axis=0), border=entry, direction=None)
        key, self._next_key = self._next_key, self._next_key + 1
        self.tracklets.begin(key, look, part_of)
        return key

    def _sow(self, carried: np.ndarray, mask: np.ndarray, entry: np.ndarray, key: int) -> None:
        """Write the key where a tracklet enters, and into what nobody carried there."""
        columns, rows = np.rint(entry * self.size[1]).astype(int).T
        free = (mask & (carried == 0)).astype(np.uint8)
        free[rows, columns] = 1
        _, parts = cv2.connectedComponents(free)
        carried[np.isin(parts, np.unique(parts[rows, columns]))] = key

    def _anchor(self, owners: list[list[int]], sight: Sight, carried: np.ndarray, *, only_free: bool = False) -> None:
        """Where a region of several instruments meets the border, it belongs to the one that enters there.

        Parameters
        ----------
        only_free : leave pixels as they are that were carried; flow carries little at the border
        """
        for region, group in enumerate(owners):
            if len(group) < 2 or not len(border := sight.border(region)):
                continue
            entering = {key: entry for key in group if (entry := self.tracklets[key].end.entry) is not None}
            if entering:
                places = np.stack(list(entering.values()))
                distances = np.hypot(*(border[:, None] - places).transpose(2, 0, 1))
                is_near = distances.min(axis=1) < FAR_ENTRY
                columns, rows = np.rint(border * self.size[1]).astype(int).T
                if only_free:
                    is_near &= carried[rows, columns] == 0
                columns, rows = columns[is_near], rows[is_near]
                carried[rows, columns] = np.array(list(entering))[distances[is_near].argmin(axis=1)]

    def _painted(self, sight: Sight, owners: list[list[int]], carried: np.ndarray, picture: np.ndarray) -> np.ndarray:
        """(h, w) int32: the key of each pixel; a region of several owners is split between them."""
        first = np.array([0, *(group[0] for group in owners)], np.int32)
        keys = first[sight.regions.map]
        before = Before(picture if self._picture is None else self._picture, self._keys, self._hidden, self._shifts)
        self._hidden, self._shifts = {}, {}
        for region, group in enumerate(owners):
            if len(group) > 1:
                mask = sight.regions.mask(region)
                found = split(mask, group, carried, before, picture, self._positions)
                keys[mask] = found.keys[mask]
                self._hidden |= found.hidden
                self._shifts |= found.shifts
        return keys

    def _exchanged_after_touching(self, keys: np.ndarray, owners: list[list[int]], sight: Sight) -> np.ndarray:
        """The keys, exchanged where two instruments have parted and each looks like the other did before they touched."""
        shared = {pair for group in owners for pair in combinations(sorted(group), 2)}
        seen = {key: region for region, group in enumerate(owners) for key in group if len(group) == 1}
        for pair, before in list(self._touching.items()):
            if pair in shared:
                continue
            if not all(key in seen for key in pair):
                if not all(key in self.tracklets.live for key in pair):
                    del self._touching[pair]
                continue
            del self._touching[pair]
            now = [sight.look(seen[key]) for key in pair]
            straight = before[0].difference(now[0]) + before[1].difference(now[1])
            crossed = before[0].difference(now[1]) + before[1].difference(now[0])
            if crossed + SWAP_MARGIN < straight:
                first, second = (keys == key for key in pair)
                keys = keys.copy()
                keys[first], keys[second] = pair[1], pair[0]
                owners[seen[pair[0]]], owners[seen[pair[1]]] = [pair[1]], [pair[0]]
        for pair in shared - self._touching.keys():
            self._touching[pair] = self.tracklets[pair[0]].end, self.tracklets[pair[1]].end
        return keys

    def _remember(self, frame_index: int, keys: np.ndarray, owners: list[list[int]], sight: Sight) -> None:
        areas = np.bincount(keys.ravel(), minlength=self._next_key)
        region_of = {key: region for region, group in enumerate(owners) for key in group}
        for key, tracklet in list(self.tracklets.live.items()):
            if not areas[key]:
                tracklet.unseen += 1
                if tracklet.unseen > HELD_FRAMES:
                    self.tracklets.end(key)
                continue
            region, tracklet.unseen = region_of[key], 0
            tracklet.areas[frame_index] = int(areas[key])
            tracklet.classes[frame_index] = int(sight.regions.class_ids[region])
            share = max(MEMORY_SHARE, 1 / tracklet.age)
            if len(owners[region]) == 1 or tracklet.age == 1:
                tracklet.area += share * (float(areas[key]) - tracklet.area)
            if len(owners[region]) == 1:
                # A look counts as much as it shows of the instrument, which may be on its way in or out.
                tracklet.shown = (1 - MEMORY_SHARE) * tracklet.shown + float(areas[key])
                tracklet.end = tracklet.end.mixed(sight.look(region), float(areas[key]) / tracklet.shown)
            elif tracklet.end.entry is not None:
                # In the region of several, what is its own at the border still says where it enters.
                own = self._own_border(key, region, keys, sight)
                if len(own) >= LEAST_ENTRY * self.size[1]:
                    entry = tracklet.end.mixed(Look(None, own.mean(axis=0)), MEMORY_SHARE).entry
                    tracklet.end = replace(tracklet.end, entry=entry)
            if tracklet.age <= BEGIN_FRAMES:
                tracklet.begin = tracklet.end
            if tracklet.part_of is not None:
                self._check_apart(key, region, region_of, sight)

    def _own_border(self, key: int, region: int, keys: np.ndarray, sight: Sight) -> np.ndarray:
        """(N, 2) where the part of a region that belongs to a tracklet meets the border, in picture widths."""
        border = sight.border(region)
        columns, rows = np.rint(border * self.size[1]).astype(int).T
        return border[keys[rows, columns] == key]

    def _check_apart(self, key: int, region: int, region_of: dict[int, int], sight: Sight) -> None:
        """A piece that stays far from the rest of its instrument is an instrument of its own."""
        tracklet = self.tracklets[key]
        whole = region_of.get(tracklet.part_of or 0)
        if whole is None or whole == region:
            return
        apart = border_gap(sight.look(region), sight.look(whole))
        is_far = sight.gap(region, whole) > FAR and not sight.is_bridged(region, whole) and not sight.is_covered(region)
        is_far |= apart is not None and apart > NEAR_ENTRY
        is_far |= bool(sight.regions.class_ids[region] != sight.regions.class_ids[whole])
        tracklet.apart = tracklet.apart + 1 if is_far else 0
        if tracklet.apart > GROWN_UP:
            tracklet.part_of, tracklet.apart = None, 0

    def _with_held(self, keys: np.ndarray, carried: np.ndarray, regions: Regions) -> np.ndarray:
        """The keys, and where nothing is labelled those of tracklets that are only just out of sight."""
        held = [key for key, tracklet in self.tracklets.live.items() if tracklet.unseen]
        if not held:
            return keys
        return np.where((regions.map == 0) & np.isin(carried, held), carried, keys)
