"""Process many videos on many machines: give ranges of frames to the workers of a Dask cluster."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgicalsam_napari.cluster.connection import Cluster, first_line
from surgicalsam_napari.cluster.worker import (
    FrameRange,
    ModelRecipe,
    RangeOutcome,
    Segmenting,
    close_project,
    work_on_range,
)
from surgicalsam_napari.errors import ClusterError, ProjectError, SurgicalSAMError, WorkFailed
from surgicalsam_napari.inference.segment import action_name
from surgicalsam_napari.store import Action, Project
from surgicalsam_napari.store.ownership import RUN_FOLDER, Ownership

if TYPE_CHECKING:
    from distributed import Future

    from surgicalsam_napari.tracking.link_instances import TrackReport

RANGE_SECONDS = 20.0  # per range: long compared with submitting it (milliseconds), short for users who watch progress
SHORTEST_RANGE = 8  # frames; also of the first ranges, while the time per frame is unknown
LONGEST_RANGE = 2000
RANGES_PER_WORKER = 2  # submitted at a time, so that no worker waits for its next range
WORKERLESS_SECONDS = 60.0  # without any worker before a run gives up
POLL_SECONDS = 5.0


@dataclass(frozen=True)
class VideoWork:
    """The work to do in one video.

    Attributes
    ----------
    project : open; closed when the work ends
    frame_indices : the frames to embed or segment, without those that are done
    class_ids : the project's classes to segment; empty if frames are only embedded
    checkpoint : the model's number in the manifest (`Project.record_checkpoint`); 0 if frames are only embedded
    vote : the vote over time, in this process, when all frames are done; its argument is the open action of the run, or
        None if there was nothing to segment
    """

    project: Project
    frame_indices: Sequence[int]
    class_ids: Sequence[int] = ()
    checkpoint: int = 0
    vote: Callable[[Action | None], Generator[TrackReport, None, None]] | None = None


@dataclass(frozen=True)
class RangeReport:
    """Some more frames of a video are done: `done` of `total`.

    Attributes
    ----------
    worker, device : the worker's address, and its device in words for the user
    model_loads : how many models that worker's process has loaded so far
    """

    video: Path
    frame_indices: tuple[int, ...]
    done: int
    total: int
    worker: str
    device: str
    model_loads: int


@dataclass(frozen=True)
class VoteReport:
    """The vote over time in a video goes on: `done` of `total` steps."""

    video: Path
    done: int
    total: int


@dataclass(frozen=True)
class VideoReport:
    """A video has ended: `done` of `total` frames.

    Attributes
    ----------
    work : its project is open until the next report is requested; None if the video failed before there was one
    failure : why some frames are not done, or None
    seconds : from its first range to its last
    """

    video: Path
    work: VideoWork | None
    done: int
    total: int
    seconds: float
    failure: SurgicalSAMError | None


def work_on_cluster(
    cluster: Cluster, videos: Iterable[Path], prepare: Callable[[Path], VideoWork], recipe: ModelRecipe
) -> Generator[RangeReport | VoteReport | VideoReport, None, None]:
    """Embed or segment many videos, ranges of several at a time; results go into the project of each video.

    Each video's labels are one action in its project's history, opened here and joined by the workers. If a worker dies,
    another one gets its range and skips the frames that are done. A video that fails does not stop the others. The vote over
    time is the end of the action; it runs in this process.

    Closing the generator lets every worker finish its current frame, and returns when all have.

    Parameters
    ----------
    prepare : opens a video's project and returns the work to do in it; called when the video's turn comes
    recipe : how every worker loads the model

    Yields
    ------
    RangeReport as ranges are done, VoteReport during a vote, and one VideoReport for each video

    Raises
    ------
    ClusterError
        the scheduler was lost, or there has been no worker for a minute; reported frames are on disk
    """
    waiting = deque(videos)
    runs: list[_VideoRun] = []
    in_flight: dict[Future, _VideoRun] = {}
    seconds_per_frame: float | None = None
    try:
        while True:
            worker_count = len(cluster.workers())
            while len(in_flight) < RANGES_PER_WORKER * worker_count or not in_flight:
                run = next((run for run in runs if run.left), None)
                if run is not None:
                    length = _range_length(len(run.left), seconds_per_frame, worker_count)
                    in_flight[cluster.client.submit(work_on_range, run.next_range(length), pure=False)] = run
                elif waiting:
                    started = _started(waiting.popleft(), prepare, recipe)
                    if isinstance(started, VideoReport):
                        yield started
                        continue
                    runs.append(started)
                    if not started.left:
                        yield from _ended(started, runs)
                else:
                    break
            if not in_flight:
                return
            for future in _next_finished(cluster, in_flight):
                run = in_flight.pop(future)
                outcome = _outcome(future)
                seconds_per_frame = outcome.seconds_per_frame or seconds_per_frame
                if outcome.frame_indices:
                    yield run.report(outcome)
                run.fail(outcome.failure)
                if not run.left and run not in in_flight.values():
                    yield from _ended(run, runs)
    finally:
        _stop(cluster, runs, in_flight)


@dataclass(eq=False)
class _VideoRun:
    """A video while it is processed.

    Attributes
    ----------
    left : frames that were not submitted yet
    claim : held during the run: without it workers stop
    action : entered; None if frames are only embedded
    """

    video: Path
    work: VideoWork
    recipe: ModelRecipe
    claim: Ownership
    left: deque[int]
    recording: ExitStack = field(default_factory=ExitStack)
    action: Any = None
    done: int = 0
    failure: SurgicalSAMError | None = None
    start: float = field(default_factory=time.perf_counter)

    def next_range(self, length: int) -> FrameRange:
        project, owner, segmenting = self.work.project, self.claim.owner, None
        assert owner is not None
        if self.action is not None:
            position = project.history.position(self.action)
            segmenting = Segmenting(tuple(self.work.class_ids), self.work.checkpoint, self.action.number, position)
        frame_indices = tuple(self.left.popleft() for _ in range(min(length, len(self.left))))
        return FrameRange(project.folder, frame_indices, owner, self.recipe, segmenting)

    def report(self, outcome: RangeOutcome) -> RangeReport:
        self.done += len(outcome.frame_indices)
        total = len(self.work.frame_indices)
        return RangeReport(
            self.video, outcome.frame_indices, self.done, total, outcome.worker, outcome.device, outcome.model_loads
        )

    def fail(self, failure: SurgicalSAMError | None) -> None:
        """Submit no more ranges of a video after one has failed; the first failure counts."""
        if failure is not None:
            self.failure = self.failure or failure
            self.left.clear()

    def close(self) -> None:
        self.recording.close()
        self.claim.release()
        self.work.project.close()


def _started(video: Path, prepare: Callable[[Path], VideoWork], recipe: ModelRecipe) -> _VideoRun | VideoReport:
    """A video that is ready to process, claimed and with its action open; or the report of its failure."""
    try:
        work = prepare(video)
    except SurgicalSAMError as error:
        return VideoReport(video, None, 0, 0, 0.0, error)
    project, total = work.project, len(work.frame_indices)
    claim = Ownership(project.folder, RUN_FOLDER)
    run = _VideoRun(video, work, recipe, claim, deque(work.frame_indices))
    try:
        if not claim.claim():
            raise ProjectError(
                f"{project.folder.name} is in use by another run ({claim.owner}). Wait until it ends, or stop it."
            )
        if work.class_ids and total:
            name = action_name(project.classes, work.class_ids, work.frame_indices)
            run.action = run.recording.enter_context(project.action(name, total))
    except SurgicalSAMError as error:
        run.close()
        return VideoReport(video, None, 0, total, 0.0, error)
    return run


def _ended(run: _VideoRun, runs: list[_VideoRun]) -> Generator[VoteReport | VideoReport, None, None]:
    if run.work.vote is not None and run.failure is None:
        try:
            with closing(run.work.vote(run.action)) as reports:
                for report in reports:
                    yield VoteReport(run.video, report.done, report.total)
        except SurgicalSAMError as error:
            run.fail(error)
    run.recording.close()
    seconds = time.perf_counter() - run.start
    yield VideoReport(run.video, run.work, run.done, len(run.work.frame_indices), seconds, run.failure)
    runs.remove(run)
    run.close()


def _range_length(left: int, seconds_per_frame: float | None, worker_count: int) -> int:
    """Frames of the next range: as many as take `RANGE_SECONDS`, fewer near the end so that workers end together."""
    longest = SHORTEST_RANGE
    if seconds_per_frame is not None:
        longest = int(RANGE_SECONDS / max(seconds_per_frame, RANGE_SECONDS / LONGEST_RANGE))
    fair = ceil(left / (RANGES_PER_WORKER * max(worker_count, 1)))
    return max(1, min(longest, max(fair, SHORTEST_RANGE)))


def _next_finished(cluster: Cluster, futures: Iterable[Future]) -> list[Future]:
    """The finished futures, at least one, in the order of submission."""
    from distributed import wait
    from distributed.client import CancelledError

    futures = list(futures)
    workers_seen = time.monotonic()
    while True:
        try:
            with cluster.client.as_current():
                finished = wait(futures, timeout=POLL_SECONDS, return_when="FIRST_COMPLETED").done
            return [future for future in futures if future in finished]
        except TimeoutError:
            pass
        except (CancelledError, OSError) as error:
            raise cluster.lost(error) from error
        if cluster.client.status != "running":
            raise cluster.lost(cluster.client.status)
        if cluster.workers():
            workers_seen = time.monotonic()
        elif time.monotonic() - workers_seen > WORKERLESS_SECONDS:
            raise ClusterError(
                f"The cluster at {cluster.address} has had no worker for {WORKERLESS_SECONDS:.0f} seconds. "
                "Start workers, and run the same command again: finished frames are kept."
            )


def _outcome(future: Future) -> RangeOutcome:
    """The outcome of a range; if its workers died again and again, that is a failure of its video."""
    from distributed import KilledWorker
    from distributed.client import CancelledError

    failure: SurgicalSAMError
    try:
        return future.result()
    except KilledWorker as error:
        failure = WorkFailed(
            f"Several workers tried the same frames, and each of them died (the last one: {error.last_worker.address}). "
            "Often the memory is too small for so many workers on one machine: use fewer, or a smaller encoder."
        )
    except CancelledError as error:
        failure = ClusterError(
            f"The cluster has cancelled a range of frames ({first_line(error)}). Run the same command again."
        )
    return RangeOutcome((), None, failure, "", "", 0)


def _stop(cluster: Cluster, runs: list[_VideoRun], in_flight: dict[Future, _VideoRun]) -> None:
    """Let workers finish their current frame, and wait for them: after that, no worker writes."""
    for run in runs:
        run.claim.release()
    try:
        left = set(in_flight)
        while left and cluster.workers():
            left -= set(_next_finished(cluster, left))
    except ClusterError:
        pass  # no worker is left to wait for
    finally:
        for run in runs:
            run.close()
    with suppress(OSError, RuntimeError):
        cluster.client.run(close_project, on_error="ignore")
