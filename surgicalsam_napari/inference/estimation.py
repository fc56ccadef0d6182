"""How long a run will take, and how much disk it needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary

from surgicalsam_napari.inference.embed import failures_reported
from surgicalsam_napari.inference.encoder_speed import guessed_seconds
from surgicalsam_napari.inference.frame_selection import checked_frames
from surgicalsam_napari.instruments import matching_class_ids
from surgicalsam_napari.store import free_bytes

if TYPE_CHECKING:
    from surgicalsam_napari.model.surgical_sam import SurgicalSAM
    from surgicalsam_napari.store import Project

Result = TypeVar("Result")
MASK_SHARE = 0.01  # of an embedding, for the masks of one class; for a guess
LONG_TRIAL = 1.0  # seconds; a shorter trial runs twice, because the first run includes warming up


@dataclass(frozen=True)
class Estimate:
    """The expected cost of a run.

    Attributes
    ----------
    frame_count : frames to segment
    frames_to_embed : how many of these have no embedding yet
    seconds : None if nothing is known
    is_measured : False if the time is only guessed, from the encoder's arithmetic and a short probe (`encoder_speed`)
    disk_bytes : of the missing embeddings
    free_bytes : on the project's disk
    """

    frame_count: int
    frames_to_embed: int
    seconds: float | None
    disk_bytes: int
    free_bytes: int
    is_measured: bool = True

    @property
    def fits(self) -> bool:
        """Whether the disk has room for the embeddings."""
        return self.disk_bytes <= self.free_bytes


@dataclass(frozen=True)
class Speed:
    """On this machine: seconds to embed a frame, and to predict one class in one frame."""

    seconds_per_embedding: float | None
    seconds_per_mask: float
    is_measured: bool = True


_measured: WeakKeyDictionary[SurgicalSAM, Speed] = WeakKeyDictionary()


def estimate(
    project: Project,
    model: SurgicalSAM,
    class_ids: Sequence[int],
    frame_indices: Sequence[int],
    *,
    seconds_per_embedding: float | None = None,
    seconds_per_frame: float | None = None,
    trial: bool = True,
) -> Estimate:
    """Time and disk space that `segment_frames` would need.

    Parameters
    ----------
    seconds_per_embedding, seconds_per_frame : of a frame's embedding, and of its masks, if already known
    trial : if they are not known, measure them on one frame, once per model (this takes about a frame's time; pass False
        in a thread that must answer at once: `seconds` is then a guess, or None, until something was measured)

    Raises
    ------
    ClassSetError, CheckpointError, VideoError
        as `segment_frames` would
    """
    frame_indices = checked_frames(frame_indices, project.video.info.frame_count)
    class_ids = list(dict.fromkeys(class_ids))
    model_ids = matching_class_ids(project.classes, model.classes, class_ids, model.name)
    embeddings = project.embeddings(model.encoder_digest, model.embedding_shape)
    missing = embeddings.missing(frame_indices)
    known = seconds_per_frame is not None and (seconds_per_embedding is not None or not missing)
    is_measured = True
    if not known and frame_indices:
        speed = _speed(project, model, model_ids, frame_indices, missing, trial) or _guess(model)
        if speed is not None:
            is_measured = speed.is_measured
            seconds_per_embedding = seconds_per_embedding or speed.seconds_per_embedding
            seconds_per_frame = seconds_per_frame or speed.seconds_per_mask * len(class_ids)
    return Estimate(
        frame_count=len(frame_indices),
        frames_to_embed=len(missing),
        seconds=_total_seconds(len(frame_indices), len(missing), seconds_per_embedding, seconds_per_frame),
        disk_bytes=len(missing) * embeddings.frame_bytes,
        free_bytes=free_bytes(project.folder),
        is_measured=is_measured,
    )


def _total_seconds(
    frame_count: int, to_embed: int, seconds_per_embedding: float | None, seconds_per_frame: float | None
) -> float | None:
    if frame_count == 0:
        return 0.0
    if seconds_per_frame is None or (to_embed and seconds_per_embedding is None):
        return None
    return frame_count * seconds_per_frame + to_embed * (seconds_per_embedding or 0.0)


def _speed(
    project: Project,
    model: SurgicalSAM,
    model_ids: Sequence[int],
    frame_indices: Sequence[int],
    missing: Sequence[int],
    trial: bool,
) -> Speed | None:
    known = _measured.get(model)
    if known is not None and (known.seconds_per_embedding is not None or not missing):
        return known
    if not trial or (missing and not model.has_image_encoder):
        return None
    _measured[model] = measure_speed(project, model, model_ids, missing[0] if missing else frame_indices[0])
    return _measured[model]


def known_speed(model: SurgicalSAM) -> Speed | None:
    """As far as it was measured here, else guessed; None if nothing is known. Answers at once."""
    measured, guessed = _measured.get(model), _guess(model)
    if measured is None or measured.seconds_per_embedding is not None or guessed is None:
        return measured or guessed
    return Speed(guessed.seconds_per_embedding, measured.seconds_per_mask, is_measured=False)


def _guess(model: SurgicalSAM) -> Speed | None:
    if model.embeds_on == "elsewhere":
        return None  # the speed of this machine says nothing
    seconds = guessed_seconds(model.encoder_id, model.device)
    return None if seconds is None else Speed(seconds, MASK_SHARE * seconds, is_measured=False)


def measure_speed(project: Project, model: SurgicalSAM, model_ids: Sequence[int], frame_index: int) -> Speed:
    """Embed one frame, unless its embedding is stored, and predict these model classes in it; nothing is written."""
    embeddings = project.embeddings(model.encoder_digest, model.embedding_shape)
    embedding_seconds = None
    with failures_reported():
        if embeddings.is_valid(frame_index):
            embedding = embeddings.read([frame_index])
        else:
            frame = project.video.frame(frame_index)
            embedding, embedding_seconds = _timed(lambda: model.embed([frame]))
        _predictions, prediction_seconds = _timed(lambda: model.predict(embedding, model_ids, project.video.info.size))
    return Speed(embedding_seconds, prediction_seconds / len(model_ids))


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """The result, and the shorter time of two runs, or the time of the first run if that is long."""
    durations: list[float] = []
    while not durations or (len(durations) < 2 and durations[0] < LONG_TRIAL):
        start = time.perf_counter()
        result = work()
        durations.append(time.perf_counter() - start)
    return result, min(durations)
