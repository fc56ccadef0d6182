"""Compute image embeddings of many frames, and store them in the project."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from surgicalsam_napari.errors import CheckpointError, DiskSpaceError, WorkFailed
from surgicalsam_napari.formatting import in_bytes
from surgicalsam_napari.inference.frame_selection import checked_frames, prefetched_frames
from surgicalsam_napari.inference.pipeline import COMPUTED_AT_ONCE, computed_ahead, own_stream, written
from surgicalsam_napari.store import free_bytes

if TYPE_CHECKING:
    from surgicalsam_napari.model.surgical_sam import SurgicalSAM
    from surgicalsam_napari.store import Project

# by `SurgicalSAM.embeds_on`; on a CPU larger batches only cost memory, and over a slow line they delay the first results
BATCH_SIZES = {"cuda": 8, "mps": 2, "elsewhere": 2}


@dataclass(frozen=True)
class EmbedReport:
    """One more frame is embedded: `done` of `total`."""

    frame_index: int
    done: int
    total: int


def embed_frames(
    project: Project, model: SurgicalSAM, frame_indices: Sequence[int], *, batch_size: int | None = None
) -> Generator[EmbedReport, None, None]:
    """Embed the frames that have no valid embedding yet; can be stopped and resumed at any time.

    Parameters
    ----------
    batch_size : frames per call of the image encoder; by default 1 on a CPU and more on a GPU

    Yields
    ------
    EmbedReport for each frame that was missing

    Raises
    ------
    DiskSpaceError
        before anything is computed, if the embeddings would not fit on the disk
    VideoError, CheckpointError, DeviceError, ProjectError, WorkFailed
        frames embedded up to then stay valid
    """
    frame_indices = checked_frames(frame_indices, project.video.info.frame_count)
    missing = project.embeddings(model.encoder_digest, model.embedding_shape).missing(frame_indices)
    done = 0
    with closing(embedded_batches(project, model, missing, batch_size=batch_size)) as batches:
        for batch, _embeddings in batches:
            for frame_index in batch:
                done += 1
                yield EmbedReport(frame_index, done, len(missing))


def embedded_batches(
    project: Project, model: SurgicalSAM, frame_indices: Sequence[int], *, batch_size: int | None = None
) -> Generator[tuple[list[int], np.ndarray], None, None]:
    """Frame indices and their embeddings, batch by batch, in the order given; missing ones are computed and stored.

    Frames are decoded ahead; on a GPU, embeddings are written while the next ones are computed. A yielded batch is on disk.

    Yields
    ------
    B frame indices, (B, D, h, w) as they are stored
    """
    embeddings = project.embeddings(model.encoder_digest, model.embedding_shape)
    missing = embeddings.missing(frame_indices)
    if missing:
        _check_can_embed(model)
        check_disk_space(project, model, len(missing))

    def embed(batch: _Batch) -> np.ndarray | None:
        if not batch.missing:
            return None
        with failures_reported(), own_stream(model.device):
            return model.embed(batch.images, embeddings.dtype)

    def write(embedded: tuple[_Batch, np.ndarray | None]) -> None:
        batch, computed = embedded
        if computed is not None:
            embeddings.write(batch.missing, computed)

    place = model.embeds_on
    batches = _decoded_batches(project, frame_indices, missing, batch_size or BATCH_SIZES.get(place, 1))
    give_up = model.embedder.give_up if model.embedder is not None else None
    embedded = computed_ahead(batches, embed, COMPUTED_AT_ONCE.get(place, 1), give_up)
    with closing(written(embedded, write, place)) as done:
        for (batch, computed), _ in done:
            if computed is None or batch.missing != batch.frame_indices:
                computed = embeddings.read(batch.frame_indices)
            yield batch.frame_indices, computed


@dataclass(frozen=True)
class _Batch:
    """Frames of one batch.

    Attributes
    ----------
    missing : the `frame_indices` without an embedding
    images : of the missing frames, (H, W, 3) uint8
    """

    frame_indices: list[int]
    missing: list[int]
    images: list[np.ndarray]


def _decoded_batches(
    project: Project, frame_indices: Sequence[int], missing: Sequence[int], batch_size: int
) -> Generator[_Batch, None, None]:
    to_embed = set(missing)
    with closing(prefetched_frames(project.video, missing)) as frames:
        for batch in _batches(frame_indices, batch_size):
            missing_in_batch = [index for index in batch if index in to_embed]
            yield _Batch(batch, missing_in_batch, [next(frames) for _ in missing_in_batch])


def check_disk_space(project: Project, model: SurgicalSAM, frame_count: int) -> None:
    """A DiskSpaceError if the embeddings of this many frames would not fit on the project's disk."""
    needed = frame_count * project.embeddings(model.encoder_digest, model.embedding_shape).frame_bytes
    free = free_bytes(project.folder)
    if needed > free:
        raise DiskSpaceError(
            f"The embeddings of {frame_count} frames need {in_bytes(needed)} ({needed} bytes); {project.folder} has "
            f"{in_bytes(free)} ({free} bytes) free. Choose fewer frames, a larger step, or another disk."
        )


@contextmanager
def failures_reported() -> Iterator[None]:
    """Turn torch's RuntimeError into WorkFailed: napari's workers swallow a bare RuntimeError."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WorkFailed(
            f"The model failed: {reason}. Earlier results are kept. Try again, or choose the device cpu."
        ) from error


def _check_can_embed(model: SurgicalSAM) -> None:
    if not model.has_image_encoder:
        raise CheckpointError(
            f"Frames without embeddings need the image encoder {model.encoder_id}; {model.name} was loaded without it. "
            "Load it again with the encoder's weights (--encoder-weights)."
        )


def _batches(frame_indices: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """The first frame alone, so that its result shows at once; then `batch_size` at a time."""
    if frame_indices:
        yield [frame_indices[0]]
    for start in range(1, len(frame_indices), batch_size):
        yield list(frame_indices[start : start + batch_size])
