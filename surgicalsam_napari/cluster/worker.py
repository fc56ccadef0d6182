"""The worker's part: process one range of a video's frames at a time, with a model that it keeps."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from surgicalsam_napari.errors import CheckpointError, ClusterError, SurgicalSAMError
from surgicalsam_napari.inference.embed import EmbedReport, embed_frames
from surgicalsam_napari.inference.segment import SegmentReport, segment_frames
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.model.digest import checkpoint_record
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.ownership import RUN_FOLDER, Owner, Ownership

if TYPE_CHECKING:
    from surgicalsam_napari.model.surgical_sam import SurgicalSAM

SAME_PATHS = "Workers need the same folders under the same paths as this machine, for example on a shared drive."


@dataclass(frozen=True)
class ModelRecipe:
    """How every worker loads the model; a worker keeps its model as long as the recipe is the same.

    Attributes
    ----------
    checkpoint : absolute; None for the bundled weights
    encoder_weights : absolute; None for the known weights on the worker's disk
    device : auto, cpu, cuda, cuda:1, … or mps
    classes : the class set for a .pth, which has no class names
    digest : the model's digest in `checkpoint_record`
    threads : of torch on a CPU; None for as many as the worker was started with
    fast : compute in bfloat16
    """

    checkpoint: Path | None
    encoder_weights: Path | None
    device: str
    classes: ClassSet | None
    digest: str
    threads: int | None
    fast: bool = False


@dataclass(frozen=True)
class Segmenting:
    """What to segment in a range, and the action that it becomes a part of.

    Attributes
    ----------
    class_ids : of the project
    checkpoint : the model's number in the manifest
    action : number of the run's open action in the project's history
    position : in the record of that action, before any frame of this range was done
    """

    class_ids: tuple[int, ...]
    checkpoint: int
    action: int
    position: int


@dataclass(frozen=True)
class FrameRange:
    """Some frames of one video, in ascending order; may be processed again after its worker died.

    Attributes
    ----------
    folder : of the project, absolute
    owner : the run that the range belongs to; it holds the project's claim
    segmenting : None if the frames are only embedded
    """

    folder: Path
    frame_indices: tuple[int, ...]
    owner: Owner
    recipe: ModelRecipe
    segmenting: Segmenting | None


@dataclass(frozen=True)
class RangeOutcome:
    """The outcome of a range.

    Attributes
    ----------
    frame_indices : the frames that are done, by any worker; all of the range, unless it failed or was stopped
    seconds_per_frame : of the frames computed for this task; None if there were none
    failure : the error that ended it early, or None
    worker : its address
    device : the device that computed, in words for the user
    model_loads : how many models its process has loaded so far
    """

    frame_indices: tuple[int, ...]
    seconds_per_frame: float | None
    failure: SurgicalSAMError | None
    worker: str
    device: str
    model_loads: int


@dataclass
class _Kept:
    """What this process keeps from one range to the next."""

    model: SurgicalSAM | None = None
    recipe: ModelRecipe | None = None
    project: Project | None = None
    owner: Owner | None = None
    loads: int = 0


_kept = _Kept()
_one_at_a_time = threading.Lock()  # a worker with several threads gives them all to torch


def work_on_range(task: FrameRange) -> RangeOutcome:
    """Embed or segment the frames that are not done yet; finished frames are kept if it ends early."""
    done: list[int] = []
    seconds_per_frame = failure = None
    with _one_at_a_time:
        try:
            if _is_wanted(task):
                project, model = _opened(task), _loaded(task.recipe)
                done += _done_before(task, project, model)
                left = [index for index in task.frame_indices if index not in set(done)]
                start = time.perf_counter()
                with closing(_frames(task, project, model, left)) as frame_indices:
                    for computed, frame_index in enumerate(frame_indices, 1):
                        done.append(frame_index)
                        seconds_per_frame = (time.perf_counter() - start) / computed
                        if not _is_wanted(task):
                            break
        except SurgicalSAMError as error:
            failure = error
        return RangeOutcome(tuple(done), seconds_per_frame, failure, _worker_name(), _device_name(), _kept.loads)


def close_project() -> None:
    """Close the video and files of the last project."""
    with _one_at_a_time:
        if _kept.project is not None:
            _kept.project.close()
            _kept.project = _kept.owner = None


def _done_before(task: FrameRange, project: Project, model: SurgicalSAM) -> list[int]:
    """The frames of the range that are done, for example by a worker that has died since."""
    if task.segmenting is None:
        missing = set(project.embeddings(model.encoder_digest, model.embedding_shape).missing(task.frame_indices))
        return [index for index in task.frame_indices if index not in missing]
    action = project.history.joined(task.segmenting.action)
    return sorted(project.history.written(action, task.frame_indices, task.segmenting.position))


def _frames(task: FrameRange, project: Project, model: SurgicalSAM, frame_indices: list[int]) -> Generator[int, None, None]:
    """Compute these frames; each is yielded when it is on disk."""
    reports: Generator[EmbedReport, None, None] | Generator[SegmentReport, None, None]
    if task.segmenting is None:
        reports = embed_frames(project, model, frame_indices)
    else:
        action = project.history.joined(task.segmenting.action)
        class_ids, checkpoint = task.segmenting.class_ids, task.segmenting.checkpoint
        reports = segment_frames(project, model, class_ids, frame_indices, action=action, checkpoint=checkpoint)
    with closing(reports):
        for report in reports:
            yield report.frame_index


def _is_wanted(task: FrameRange) -> bool:
    """Whether the run that the range belongs to is still active: it holds the project's claim.

    Raises
    ------
    ClusterError
        the claim is free although the run has not released it: locks do not work between machines here, and two workers
        would write into each other's files
    """
    claim = Ownership(task.folder, RUN_FOLDER)
    if claim.owner == task.owner and claim.is_free:
        raise ClusterError(
            f"The worker {_worker_name()} sees {task.folder} but not its lock. Several machines may write to one project "
            "only if the file system shares locks (NFS 4, SMB). Mount it with locks, or use --cluster local:N."
        )
    if claim.owner is None and not task.folder.is_dir():
        raise ClusterError(f"The worker {_worker_name()} should find {task.folder}; it does not. {SAME_PATHS}")
    return claim.owner == task.owner


def _opened(task: FrameRange) -> Project:
    """The project, opened once for consecutive ranges of a run."""
    if _kept.project is not None and (_kept.project.folder, _kept.owner) == (task.folder, task.owner):
        return _kept.project
    if _kept.project is not None:
        _kept.project.close()
        _kept.project = None
    try:
        _kept.project, _kept.owner = Project.open(task.folder), task.owner
    except SurgicalSAMError as error:
        raise ClusterError(f"The worker {_worker_name()} cannot open the project. {error} {SAME_PATHS}") from error
    return _kept.project


def _loaded(recipe: ModelRecipe) -> SurgicalSAM:
    """The model that this process keeps; loaded if it keeps none, or another one."""
    import torch

    torch.set_num_threads(recipe.threads or _thread_count())  # applies to the calling thread
    if _kept.model is not None and _kept.recipe == recipe:
        return _kept.model
    _kept.model = _kept.recipe = None  # freed before the next one is loaded: both might not fit
    _kept.model, _kept.recipe = _load(recipe), recipe
    _kept.loads += 1
    return _kept.model


def _load(recipe: ModelRecipe) -> SurgicalSAM:
    from surgicalsam_napari.model.checkpoint import load_checkpoint
    from surgicalsam_napari.model.zoo import bundled_checkpoint

    path = bundled_checkpoint() if recipe.checkpoint is None else recipe.checkpoint
    try:
        model = load_checkpoint(
            path,
            encoder_weights=recipe.encoder_weights,
            device=recipe.device,
            classes=recipe.classes,
            fast=recipe.fast,
        )
    except SurgicalSAMError as error:
        raise ClusterError(f"The worker {_worker_name()} cannot load the model. {error} {SAME_PATHS}") from error
    digest = checkpoint_record(model)["digest"]
    if digest != recipe.digest:
        raise CheckpointError(
            f"{path.name} holds the weights {recipe.digest} here and {digest} on the worker {_worker_name()}. "
            "Give the worker the same file, and the same version of surgicalsam-napari."
        )
    return model


def _worker_name() -> str:
    """The address of this worker."""
    from distributed import get_worker

    return str(get_worker().address)


def _thread_count() -> int:
    from distributed import get_worker

    return int(get_worker().state.nthreads)


def _device_name() -> str:
    from surgicalsam_napari.model.device import describe_device

    return "" if _kept.model is None else describe_device(_kept.model.device)
