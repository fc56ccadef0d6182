"""Write phantom scenes to disk: a video, and beside it a folder of label maps."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from surgicalsam_napari.phantom.scene import PhantomScene

SAMPLE_SEED = 307  # a needle driver leaves, an ultrasound probe enters; scissors and suction stay
SAMPLE_SEEDS = {"first": SAMPLE_SEED, "second": 700_002}  # by look; also the name of the file, so that projects differ


def write_phantom_clip(
    folder: Path | str,
    seed: int = SAMPLE_SEED,
    size: tuple[int, int] = (512, 640),
    frame_count: int = 60,
    look: str = "first",
    new_tool: bool = False,
) -> Path:
    """Write `phantom_<seed>.mp4` and `phantom_<seed>_labels/frame00000.png` ... (grey PNG of class ids) into `folder`.

    Both are written completely or not at all. If both are already complete, nothing is done.

    Parameters
    ----------
    size, frame_count, look, new_tool : as for PhantomScene

    Returns
    -------
    The path of the video.
    """
    from surgicalsam_napari.video import write_video  # the phantom itself must work without a video codec

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    video, labels = folder / f"phantom_{seed}.mp4", folder / f"phantom_{seed}_labels"
    # Rename the video last: if it exists, the labels are complete.
    if video.is_file() and _are_complete(labels, size, frame_count):
        return video
    with tempfile.TemporaryDirectory(prefix=f".phantom_{seed}_", dir=folder) as scratch:
        new_video, new_labels = Path(scratch) / video.name, Path(scratch) / labels.name
        new_labels.mkdir()
        scene = PhantomScene(seed, size, frame_count, look, new_tool)
        write_video(new_video, _images(scene, new_labels), scene.frame_rate)
        video.unlink(missing_ok=True)
        shutil.rmtree(labels, ignore_errors=True)
        new_labels.rename(labels)
        new_video.rename(video)
    return video


def sample_clip(look: str = "first") -> Path:
    """The sample clip of a look in the user's cache folder; made on the first call, with its exact masks beside it."""
    import pooch

    return write_phantom_clip(Path(pooch.os_cache("surgicalsam-napari")) / "demo", SAMPLE_SEEDS[look], look=look)


def is_phantom_clip(path: Path) -> bool:
    """Whether a video has the name that `write_phantom_clip` gives."""
    return path.name.startswith("phantom_") and path.stem.removeprefix("phantom_").isdecimal()


def _are_complete(labels: Path, size: tuple[int, int], frame_count: int) -> bool:
    files = sorted(labels.glob("frame*.png"))
    if len(files) != frame_count:
        return False
    with Image.open(files[0]) as first:
        return first.size == (size[1], size[0])


def _images(scene: PhantomScene, labels: Path) -> Iterator[np.ndarray]:
    """Yield the scene's pictures and write each label map, so that each frame is drawn only once."""
    for index, frame in enumerate(scene):
        Image.fromarray(frame.labels).save(labels / f"frame{index:05d}.png")
        yield frame.image
