"""Gain and cost of a cluster on this machine, and the share of a run's time in which the model computes.

Phantom clips, bundled weights, one torch thread in every process:

- One worker against two workers, on two videos: frames per second, and the paired ratio of their times.
- The cost of scheduling: milliseconds per empty task, scheduled like ranges of frames; and the same work in this process
  against a cluster of one worker.
- The pipeline: decoding, computing and (on a GPU) writing in parallel against one after the other: the ratio of their times,
  and the share of the time in which the model computes. On a CUDA device the share comes from events on the GPU's streams.

    python benchmarks/speed/cluster.py --json
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: the workers inherit their number of threads

import torch

sys.path.append(str(Path(__file__).parents[1]))
from common.measuring import Paired, paired, timed
from common.options import new_parser, parse, print_json

from surgicalsam_napari.cluster.connection import Cluster, connected
from surgicalsam_napari.cluster.scheduling import RANGES_PER_WORKER, VideoReport, VideoWork, work_on_cluster
from surgicalsam_napari.cluster.worker import ModelRecipe
from surgicalsam_napari.inference import embed_frames, segment_frames
from surgicalsam_napari.inference.embed import BATCH_SIZES
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.device import describe_device
from surgicalsam_napari.model.digest import checkpoint_record
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.model.zoo import bundled_checkpoint
from surgicalsam_napari.phantom import write_phantom_clip
from surgicalsam_napari.store import Project
from surgicalsam_napari.video import VideoReader

SIZE = (1024, 1280)  # of EndoVis frames


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--frames", type=int, default=48, help="length of each of the two clips")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--empty-tasks", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2, help="of the larger cluster")
    parser.add_argument("--only", choices=("cluster", "pipeline"))
    parser.add_argument("--device", default="auto", help="device of the pipeline; the workers of the cluster use the CPU")
    arguments = parse(parser, quick={"frames": 1, "repeats": 1, "size": (128, 160), "empty_tasks": 10, "workers": 1})
    torch.set_num_threads(1)
    result: dict = {"frames": arguments.frames, "frame_size": list(arguments.size), "repeats": arguments.repeats}
    result |= {"workers": arguments.workers, "cores": os.cpu_count(), "load_before": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        clip = write_phantom_clip(Path(folder) / "made", size=tuple(arguments.size), frame_count=arguments.frames)
        clips = [Path(shutil.copy(clip, Path(folder) / f"{name}.mp4")) for name in ("morning", "noon")]
        if arguments.only != "pipeline":
            result |= measured_cluster(clips, arguments.frames, arguments.repeats, arguments.empty_tasks, arguments.workers)
        if arguments.only != "cluster":
            result |= measured_pipeline(clips[0], arguments.frames, arguments.repeats, arguments.device)
    if arguments.json:
        print_json(result)


# ---- the cluster


def measured_cluster(clips: list[Path], frames: int, repeats: int, empty_tasks: int, workers: int) -> dict:
    model = load_checkpoint(bundled_checkpoint(), device="cpu")
    with connected("local:1") as one, connected(f"local:{workers}") as larger:
        empty_ms = 1000 * empty_task_seconds(one, empty_tasks)
        print(f"an empty task: {empty_ms:.2f} ms")
        times = paired(lambda: by_cluster(one, clips, model), lambda: by_cluster(larger, clips, model), repeats)
        print(described(f"one worker -> {workers}", times, frames * len(clips)))
        in_process = paired(lambda: by_cluster(one, clips[:1], model), lambda: in_this_process(clips[0], model), repeats)
        print(described("one worker -> this process", in_process, frames))
    return {
        "empty_task_ms": round(empty_ms, 3),
        "one_worker_fps": per_second(times.plain, frames * len(clips)),
        "two_workers_fps": per_second(times.ours, frames * len(clips)),
        "two_workers_speed_up": rounded(times),
        "this_process_fps": per_second(in_process.ours, frames),
        "one_worker_same_work_fps": per_second(in_process.plain, frames),
        "one_worker_time_over_this_process": rounded(in_process),
    }


def by_cluster(cluster: Cluster, clips: list[Path], model: SurgicalSAM) -> None:
    """Segment every class in every frame of new projects."""
    for clip in clips:
        shutil.rmtree(Project.default_folder(clip), ignore_errors=True)
    recipe = ModelRecipe(None, None, "cpu", None, checkpoint_record(model)["digest"], 1)

    def prepare(clip: Path) -> VideoWork:
        project = Project.open_or_create(VideoReader(clip), model.classes)
        every_frame = range(project.video.info.frame_count)
        return VideoWork(project, every_frame, model.classes.ids, project.record_checkpoint(checkpoint_record(model)))

    for report in work_on_cluster(cluster, clips, prepare, recipe):
        if isinstance(report, VideoReport) and report.failure is not None:
            raise report.failure


def in_this_process(clip: Path, model: SurgicalSAM) -> None:
    with new_project(clip, model) as project:
        for _report in segment_frames(project, model, model.classes.ids, range(project.video.info.frame_count)):
            pass


def empty_task_seconds(cluster: Cluster, count: int) -> float:
    """Seconds per empty task, with as many tasks in flight as there are ranges per worker."""
    from distributed import wait

    def run(count: int) -> None:
        futures: list = []
        for number in range(count):
            futures.append(cluster.client.submit(_nothing, number, pure=False))
            if len(futures) == RANGES_PER_WORKER:
                wait([futures.pop(0)])
        wait(futures)

    with cluster.client.as_current():
        run(20)
        return timed(lambda: run(count)) / count


def _nothing(number: int) -> int:
    return number


# ---- the pipeline


def measured_pipeline(clip: Path, frames: int, repeats: int, device: str) -> dict:
    model = load_checkpoint(bundled_checkpoint(), device=device)
    result: dict = {"pipeline_device": describe_device(model.device)}
    ways: dict[str, tuple[Callable[..., object], Callable[..., object]]] = {
        "embedding": (embed_in_turn, embed_overlapped),
        "segmenting": (segment_in_turn, segment_overlapped),
    }
    for name, (in_turn, overlapped) in ways.items():
        shares: dict[str, list[float]] = {"in_turn": [], "overlapped": []}

        def run(way: Callable[..., object], noted: list[float]) -> None:
            with new_project(clip, model) as project, computing_share(model, noted):
                way(project, model, range(frames))

        timing = paired(lambda: run(in_turn, shares["in_turn"]), lambda: run(overlapped, shares["overlapped"]), repeats)  # noqa: B023
        share = {way: round(statistics.median(noted[1:]), 3) for way, noted in shares.items()}
        print(described(f"{name}, in turn -> overlapped", timing, frames))
        print(f"  the model computes {share['in_turn']:.1%} -> {share['overlapped']:.1%} of the time")
        result[name] = {
            "in_turn_fps": per_second(timing.plain, frames),
            "overlapped_fps": per_second(timing.ours, frames),
            "speed_up": rounded(timing),
            "model_busy_share": share,
        }
    return result


def embed_overlapped(project: Project, model: SurgicalSAM, frames: range) -> None:
    for _report in embed_frames(project, model, frames):
        pass


def embed_in_turn(project: Project, model: SurgicalSAM, frames: range) -> None:
    """Decode, compute and write, batch by batch."""
    store = project.embeddings(model.encoder_digest, model.embedding_shape)
    size = BATCH_SIZES.get(model.device.type, 1)
    for batch in (frames[start : start + size] for start in range(0, len(frames), size)):
        store.write(batch, model.embed([project.video.frame(index) for index in batch]))


def segment_overlapped(project: Project, model: SurgicalSAM, frames: range) -> None:
    for _report in segment_frames(project, model, model.classes.ids, frames):
        pass


def segment_in_turn(project: Project, model: SurgicalSAM, frames: range) -> None:
    """As `embed_in_turn`, and decode masks and write labels for each batch."""
    store = project.embeddings(model.encoder_digest, model.embedding_shape)
    size, checkpoint = BATCH_SIZES.get(model.device.type, 1), project.record_checkpoint(checkpoint_record(model))
    with project.action("Segment in turn", len(frames)) as action:
        for batch in (frames[start : start + size] for start in range(0, len(frames), size)):
            embeddings = model.embed([project.video.frame(index) for index in batch])
            store.write(batch, embeddings)
            predictions = model.predict(embeddings, model.classes.ids, project.video.info.size)
            for index, prediction in zip(batch, predictions, strict=True):
                project.labels.write_prediction(index, prediction, checkpoint, action=action)


@contextmanager
def computing_share(model: SurgicalSAM, shares: list[float]) -> Iterator[None]:
    """Append to `shares` the share of the block's time in which the image encoder or the mask decoder computes."""
    clock = _GpuClock(model.device) if model.device.type == "cuda" else _CpuClock()
    assert model.image_encoder is not None
    decode = model.decode

    def timed_decode(*inputs, **options):
        start = clock.now()
        try:
            return decode(*inputs, **options)
        finally:
            clock.note(start)

    started: dict[int, object] = {}
    hooks = [
        model.image_encoder.register_forward_pre_hook(lambda *_: started.__setitem__(_thread(), clock.now())),
        model.image_encoder.register_forward_hook(lambda *_: clock.note(started.pop(_thread()))),
    ]
    model.decode = timed_decode  # type: ignore[method-assign]
    block_start = time.perf_counter()
    try:
        yield
    finally:
        seconds = time.perf_counter() - block_start
        del model.decode
        for hook in hooks:
            hook.remove()
    shares.append(union_seconds(clock.spans()) / seconds)


class _CpuClock:
    """Spans of wall-clock time in seconds."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []

    def now(self) -> float:
        return time.perf_counter()

    def note(self, start: float) -> None:
        self._spans.append((start, self.now()))

    def spans(self) -> list[tuple[float, float]]:
        return self._spans


class _GpuClock:
    """Spans of GPU time in seconds, by events on the current stream at the start and the end of the work."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._spans: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._zero = self.now()

    def now(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def note(self, start: torch.cuda.Event) -> None:
        self._spans.append((start, self.now()))

    def spans(self) -> list[tuple[float, float]]:
        torch.cuda.synchronize(self._device)
        return [(self._zero.elapsed_time(a) / 1000, self._zero.elapsed_time(b) / 1000) for a, b in self._spans]


def union_seconds(spans: list[tuple[float, float]]) -> float:
    """Seconds covered by at least one span."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _thread() -> int:
    return threading.get_ident()


# ---- both


def new_project(clip: Path, model: SurgicalSAM) -> Project:
    folder = Project.default_folder(clip)
    shutil.rmtree(folder, ignore_errors=True)
    return Project.create(folder, VideoReader(clip), model.classes)


def per_second(seconds: tuple[float, ...], frames: int) -> float:
    return round(frames / statistics.median(seconds), 2)


def rounded(timing: Paired) -> dict[str, float]:
    low, high = timing.ratios
    return {"median": round(timing.ratio, 3), "lowest": round(low, 3), "highest": round(high, 3)}


def described(title: str, timing: Paired, frames: int) -> str:
    low, high = timing.ratios
    speeds = f"{per_second(timing.plain, frames):.2f} -> {per_second(timing.ours, frames):.2f} frames a second"
    return f"{title}: {speeds}, x{timing.ratio:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
