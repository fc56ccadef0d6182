"""Write phantom scenes to disk: a video, and beside it folders of label maps, instances and parts."""

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
    alike: int = 0,
    with_instances: bool = False,
    with_parts: bool = False,
) -> Path:
    """Write `phantom_<seed>.mp4` and `phantom_<seed>_labels/frame00000.png` ... (grey PNG of class ids) into `folder`.

    All is written completely or not at all. If all is already complete, nothing is done.

    Parameters
    ----------
    size, frame_count, look, new_tool, alike : as for PhantomScene
    with_instances, with_parts : whether to write `phantom_<seed>_instances` (numbers of the instruments, the same through
        the whole clip) and `phantom_<seed>_parts` (ids of PHANTOM_PARTS), too

    Returns
    -------
    The path of the video.
    """
    from surgicalsam_napari.video import write_video  # the phantom itself must work without a video codec

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kinds = ["labels", *["instances"] * with_instances, *["parts"] * with_parts]
    video, maps = folder / f"phantom_{seed}.mp4", {kind: folder / f"phantom_{seed}_{kind}" for kind in kinds}
    # Rename the video last: if it exists, the label maps are complete.
    if video.is_file() and all(_are_complete(path, size, frame_count) for path in maps.values()):
        return video
    with tempfile.TemporaryDirectory(prefix=f".phantom_{seed}_", dir=folder) as scratch:
        new_video, new_maps = Path(scratch) / video.name, {kind: Path(scratch) / kind for kind in kinds}
        for path in new_maps.values():
            path.mkdir()
        scene = PhantomScene(seed, size, frame_count, look, new_tool, alike)
        write_video(new_video, _images(scene, new_maps), scene.frame_rate)
        video.unlink(missing_ok=True)
        for kind, path in maps.items():
            shutil.rmtree(path, ignore_errors=True)
            new_maps[kind].rename(path)
        new_video.rename(video)
    return video


def sample_clip(look: str = "first") -> Path:
    """The sample clip of a look in the user's cache folder; made on the first call, with its exact masks beside it."""
    import pooch

    return write_phantom_clip(Path(pooch.os_cache("surgicalsam-napari")) / "demo", SAMPLE_SEEDS[look], look=look)


def is_phantom_clip(path: Path) -> bool:
    """Whether a video has the name that `write_phantom_clip` gives."""
    return path.name.startswith("phantom_") and path.stem.removeprefix("phantom_").isdecimal()


def _are_complete(maps: Path, size: tuple[int, int], frame_count: int) -> bool:
    files = sorted(maps.glob("frame*.png"))
    if len(files) != frame_count:
        return False
    with Image.open(files[0]) as first:
        return first.size == (size[1], size[0])


def _images(scene: PhantomScene, maps: dict[str, Path]) -> Iterator[np.ndarray]:
    """Yield the scene's pictures and write each kind of map (an attribute of a frame), so that each frame is drawn once."""
    for index, frame in enumerate(scene):
        for kind, folder in maps.items():
            Image.fromarray(getattr(frame, kind)).save(folder / f"frame{index:05d}.png")
        yield frame.image
