"""Growing the arrays of a project with its video. The old state stays readable until the manifest names the new length."""

from __future__ import annotations

import json
from pathlib import Path

from surgicalsam_napari.files import write_file
from surgicalsam_napari.store.disk.arrays import read_metadata
from surgicalsam_napari.store.disk.files import STAGING, writing
from surgicalsam_napari.store.disk.write_lock import WriteLock
from surgicalsam_napari.store.locating import recorded
from surgicalsam_napari.store.manifest import Manifest, read_manifest, write_manifest
from surgicalsam_napari.video import VideoReader


def grown(folder: Path, video: VideoReader) -> Manifest:
    """Give a project the length of its video; returns the new manifest.

    The manifest is written last: until then, the project has its old length.

    Raises
    ------
    ProjectError, DiskSpaceError
        a failed write; the project has its old length
    """
    lock = WriteLock(folder)
    try:
        with writing("The longer video", folder), lock:
            manifest = read_manifest(folder)
            count = video.info.frame_count
            if count > manifest.video.frame_count:
                grow_arrays(folder, count)
                longer = manifest.video.model_copy(update={"frame_count": count, "samples": video.frame_samples})
                manifest = manifest.changed(video=recorded(longer, video, folder))
                write_manifest(folder, manifest)
            return manifest
    finally:
        lock.close()


def grow_arrays(folder: Path, frame_count: int) -> None:
    """Give every array of a project at least this many frames; the new ones are empty. Call it while holding the lock.

    The manifest must be written after this. Until then, and after a kill at any line, the arrays have more frames than the
    manifest, which readers ignore; to repeat it does no harm. Snapshots keep their length. May raise OSError.
    """
    for metadata_file in sorted(folder.glob("*/zarr.json")) + _of_embeddings(folder):
        metadata = read_metadata(metadata_file.parent)
        shape = metadata.get("shape")  # none in a group
        if shape and shape[0] < frame_count:
            chunk_shape = metadata["chunk_grid"]["configuration"]["chunk_shape"]
            if len(shape) == 1:  # the flags of embeddings are one chunk
                _lengthen(metadata_file.with_name("c.0"), frame_count, folder)
                chunk_shape[0] = frame_count
            shape[0] = frame_count
            write_file(metadata_file, json.dumps(metadata, indent=2).encode(), staging=folder / STAGING)


def _of_embeddings(folder: Path) -> list[Path]:
    arrays = [*folder.glob("embeddings/[!.]*/*/zarr.json"), *folder.glob("augmented/[!.]*/[!.]*/*/zarr.json")]
    return sorted(arrays, key=lambda path: path.parent.name == "valid")


def _lengthen(flags: Path, frame_count: int, root: Path) -> None:
    if flags.exists():
        write_file(flags, flags.read_bytes().ljust(frame_count, b"\0")[:frame_count], staging=root / STAGING)
