"""Videos with label maps and the true instances: phantom scenes, and what can be known of real ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from surgicalsam_napari.phantom import PhantomScene
from surgicalsam_napari.propagation.label_carrier import LabelCarrier, label_map_of
from surgicalsam_napari.video import VideoReader

INSTRUMENT = 1  # the class of all instruments in real videos
ANNOTATED = 6  # the frame of the EndoVis 2017 clip that has masks
SMALLEST_SHARE = 0.003  # of the picture: an instrument in a real video; smaller regions are crumbs of the annotation


@dataclass(frozen=True)
class LabelledVideo:
    """A video with its label maps.

    Attributes
    ----------
    pictures : each (H, W, 3) uint8, RGB
    labels : each (H, W) uint8, class ids
    truth : each (H, W), the number of the instrument; None where it is not known
    """

    name: str
    pictures: Sequence[np.ndarray]
    labels: Sequence[np.ndarray]
    truth: Sequence[np.ndarray | None]
    frame_rate: float


def phantom_video(
    seed: int, size: tuple[int, int], frame_count: int, alike: int, look: str = "first"
) -> tuple[LabelledVideo, PhantomScene]:
    """A scene with its exact label maps and instances."""
    scene = PhantomScene(seed, size, frame_count, look, alike=alike)
    frames = list(scene)
    pictures, labels, truth = zip(*((frame.image, frame.labels, frame.instances) for frame in frames), strict=True)
    return LabelledVideo(f"phantom {seed}", pictures, labels, truth, scene.frame_rate), scene


def endovis2015(folder: Path, name: str, count: int | None = None) -> LabelledVideo:
    """A video of EndoVis 2015 (robotic) with its masks, all of one class.

    Its masks tell no instruments apart. v2 shows one. v1 shows two, one on each side, which never change sides: the left
    region is 1, the right one 2; where they touch, or only one is seen, nothing is known.
    """
    with VideoReader(folder / f"{name}.avi") as video:
        pictures = [video.frame(index) for index in range(min(video.info.frame_count, count or video.info.frame_count))]
        rate = video.info.frame_rate or 25.0
    files = [folder / "labels" / name / f"frame_{index:05d}.png" for index in range(len(pictures))]
    labels = [np.where(np.asarray(Image.open(file)) > 0, INSTRUMENT, 0).astype(np.uint8) for file in files]
    truth = [_sides(label_map, 1 if name == "v2" else 2) for label_map in labels]
    return LabelledVideo(f"EndoVis 2015 {name}", pictures, labels, truth, rate)


def _sides(label_map: np.ndarray, expected: int) -> np.ndarray | None:
    """The instruments from left to right; None if the map shows not as many as expected."""
    if expected == 1:
        return label_map.astype(int)
    count, parts, stats, centroids = cv2.connectedComponentsWithStats(label_map)
    large = [part for part in range(1, count) if stats[part, cv2.CC_STAT_AREA] >= SMALLEST_SHARE * label_map.size]
    if len(large) != expected:
        return None
    numbers = np.zeros(count, int)
    for number, part in enumerate(sorted(large, key=lambda part: centroids[part, 0]), start=1):
        numbers[part] = number
    return numbers[parts]


def endovis2017(folder: Path) -> LabelledVideo:
    """The EndoVis 2017 clip. Only frame 6 has masks; they are carried to the other frames, so only frame 6 is true.

    The left and the right instrument are carried together, as 1 and 2; the label maps have them as one class.
    """
    with VideoReader(folder / "clip.mp4") as video:
        pictures = [video.frame(index) for index in range(video.info.frame_count)]
        rate = video.info.frame_rate or 25.0
    sides = np.zeros(pictures[0].shape[:2], np.uint8)
    for number, side in enumerate(("left", "right"), start=1):
        sides[np.asarray(Image.open(folder / f"frame{ANNOTATED:03d}_{side}_parts.png")) > 0] = number
    truth = {ANNOTATED: sides}
    truth |= _carried(pictures, sides, range(ANNOTATED + 1, len(pictures)))
    truth |= _carried(pictures, sides, range(ANNOTATED - 1, -1, -1))
    ordered = [truth[index] for index in range(len(pictures))]
    labels = [np.where(numbers > 0, INSTRUMENT, 0).astype(np.uint8) for numbers in ordered]
    return LabelledVideo("EndoVis 2017 clip", pictures, labels, ordered, rate)


def _carried(pictures: Sequence[np.ndarray], sides: np.ndarray, path: Sequence[int]) -> dict[int, np.ndarray]:
    carrier = LabelCarrier(pictures[ANNOTATED], sides, (0, 1, 2))
    return {index: label_map_of(carrier.carry(pictures[index]), (0, 1, 2), sides.shape) for index in path}


def real_videos(folder: Path, *, is_quick: bool) -> Iterator[LabelledVideo]:
    """Those that are in the folder."""
    if (folder / "endovis2017_clip" / "clip.mp4").is_file() and not is_quick:
        yield endovis2017(folder / "endovis2017_clip")
    for name in ("v1", "v2"):
        if (folder / "endovis2015_robotic" / f"{name}.avi").is_file() and not is_quick:
            yield endovis2015(folder / "endovis2015_robotic", name)
