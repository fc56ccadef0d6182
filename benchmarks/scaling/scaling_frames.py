"""Operations on projects of 100 to 100,000 frames, and runs over a growing number of frames.

The frames are tiny, and stand-ins replace the encoder and the model, so that only the cost of the program itself remains.
Each video is a real H.264 file that repeats the packets of 100 encoded frames. 100 frames of each project are segmented; the
files of the other frames are hard links to theirs, and the rows in the tables are copies.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
import zarr
from scaling_meter import Meter

from surgicalsam_napari.editing import clear_class, verify_frames
from surgicalsam_napari.exchange.exporting import export_frames
from surgicalsam_napari.inference import estimate, outward_order, segment_frames
from surgicalsam_napari.inference.segment import frames_to_segment
from surgicalsam_napari.instruments import PALETTE, ClassSet, InstrumentClass
from surgicalsam_napari.model.surgical_sam import FramePrediction
from surgicalsam_napari.review import MaskJumps, ReviewQueue
from surgicalsam_napari.review.overview import Overview
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.checking import damaged_frames
from surgicalsam_napari.store.corrections import corrected_frames, count_corrections, untouched_frames
from surgicalsam_napari.store.disk.checksums import sealed
from surgicalsam_napari.store.provenance import TABLES
from surgicalsam_napari.video import VideoReader, write_video

SIZE = (48, 64)
PERIOD = 100
CPU = torch.device("cpu")
SHORT_RUN = 40  # frames; enough for a bulk action of `Project.action`


def numbered_classes(count: int) -> ClassSet:
    """Classes with the ids 1 to `count`."""
    classes = (InstrumentClass(i + 1, f"Instrument {i + 1}", PALETTE[i % len(PALETTE)]) for i in range(count))
    return ClassSet(f"{count} classes", tuple(classes))


@dataclass(eq=False)
class QuickModel:
    """Replaces SurgicalSAM: returns a few rectangles immediately."""

    classes: ClassSet
    name: str = "stand-in"
    encoder_id: str = "light"
    encoder_digest: str = "standin"
    embedding_shape: tuple[int, int, int] = (4, 4, 4)
    has_image_encoder: bool = True
    presence_threshold: float = 0.5
    device: torch.device = CPU
    embeds_on: str = "cpu"
    embedder: None = None
    is_fast: bool = False
    answered: int = 0

    def state_dict(self) -> dict:
        return {}

    def parameters(self) -> tuple[torch.Tensor, ...]:
        return ()

    buffers = parameters

    def embed(self, frames: Sequence[np.ndarray], dtype: np.dtype | str = "float16") -> np.ndarray:
        return np.zeros((len(frames), *self.embedding_shape), np.float16)

    def predict(
        self, embeddings: np.ndarray, class_ids: Sequence[int], original_size: tuple[int, int]
    ) -> list[FramePrediction]:
        return [self.answer(class_ids, original_size) for _ in embeddings]

    def answer(self, class_ids: Sequence[int], size: tuple[int, int]) -> FramePrediction:
        """Three classes are present, in rectangles; each call returns other ones."""
        self.answered += 1
        rng = np.random.default_rng(self.answered % 64)
        labels = np.zeros(size, np.uint8)
        for class_id in class_ids[:3]:
            top, left = (int(rng.integers(0, side * 3 // 4)) for side in size)
            labels[top : top + size[0] // 4, left : left + size[1] // 4] = class_id
        scores = rng.random((3, len(class_ids)), dtype=np.float32)
        present = np.arange(len(class_ids)) < 3
        return FramePrediction(tuple(class_ids), labels, scores[0], np.where(present, 0.8, 0.2), present, scores[2] / 4)


def write_long_video(path: Path, frame_count: int) -> None:
    """A small H.264 video of any length: PERIOD frames are encoded once, and their packets are repeated."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        period = write_video(Path(folder) / "period.mp4", rng.integers(0, 255, (PERIOD, *SIZE, 3), np.uint8))
        with av.open(str(period)) as source, av.open(str(path), "w") as target:
            stream = target.add_stream_from_template(source.streams.video[0])
            time_base = source.streams.video[0].time_base
            assert time_base is not None
            packets = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in source.demux(video=0) if p.size]
            for repeat in range(-(-frame_count // PERIOD)):
                offset = round(repeat * PERIOD / 25 / time_base)
                for data, pts, dts, is_keyframe in packets:
                    assert pts is not None and dts is not None
                    packet = av.Packet(data)
                    packet.pts, packet.dts, packet.time_base = pts + offset, dts + offset, time_base
                    packet.is_keyframe, packet.stream = is_keyframe, stream
                    target.mux(packet)


def filled_project(place: Path, frame_count: int) -> Project:
    """A project with all frames predicted and embedded, and every tenth edited."""
    place.mkdir()
    write_long_video(place / "clip.mp4", frame_count)
    classes = numbered_classes(7)
    project = Project.create(place / "clip.surgicalsam", VideoReader(place / "clip.mp4"), classes)
    model = QuickModel(classes)
    for _report in segment_frames(project, model, classes.ids, range(PERIOD)):  # type: ignore[arg-type]
        pass
    for frame_index in range(0, PERIOD, 10):
        stroke(project, frame_index)
    multiply(project.folder, frame_count, model.encoder_digest)
    return project


def multiply(folder: Path, frame_count: int, encoder_digest: str) -> None:
    """Repeat the stored data of the first PERIOD frames for all other frames."""
    embeddings = folder / "embeddings" / encoder_digest
    for array in (folder / "labels", folder / "painted", embeddings / "embeddings"):
        for name in [name for name in os.listdir(array) if name.startswith("c.")]:
            prefix, first, *rest = name.split(".")
            for frame_index in range(int(first) + PERIOD, frame_count, PERIOD):
                os.link(array / name, array / ".".join([prefix, str(frame_index), *rest]))
    for table in (*(folder / name for name in TABLES), embeddings / "valid"):
        cells = zarr.open_array(table, mode="r+")
        cells[:] = np.resize(np.asarray(cells[:PERIOD]), cells.shape)
    checksums = zarr.open_array(folder / "checksums", mode="r+")
    repeated = np.resize(np.asarray(checksums[:PERIOD]), checksums.shape)
    checksums[:] = np.array([sealed(frame_index, record) for frame_index, record in enumerate(repeated)])


def measure_frames(sizes: Sequence[int], folder: Path, *, is_measured: bool = True) -> Iterator[tuple[Meter, int, Path]]:
    """Make and measure a project of each size; without `is_measured` only make it.

    Yields the meter, the size and the project's folder, which is deleted afterwards.
    """
    meter = Meter("frames")
    for size in sizes:
        place = folder / f"frames{size}"
        with filled_project(place, size) as project:
            model = QuickModel(project.classes)
        project_folder = project.folder
        if is_measured:
            measure_size(meter, size, project_folder, model)
        yield meter, size, project_folder
        shutil.rmtree(place)


def measure_size(meter: Meter, size: int, folder: Path, model: QuickModel) -> None:
    meter.take("open a project with its video", size, lambda f=folder: Project.open(f).close(), scope="all")
    call = lambda f=folder: Project.open(f, require_video=False).close()  # noqa: E731
    meter.take("open a project without video", size, call, scope="one", repeats=9)
    with Project.open(folder) as project:
        measure_one_frame(meter, size, project, model)
        measure_tables(meter, size, project, model)
        measure_review(meter, size, project)
        measure_history(meter, size, project, model, folder.parent)


def measure_runs(counts: Sequence[int], folder: Path) -> Meter:
    """One action over a growing number of frames: segment a new project, clear a class, undo and redo that."""
    meter = Meter("frames of a run")
    classes = numbered_classes(7)
    (folder / "runs").mkdir()
    write_long_video(folder / "runs" / "clip.mp4", max(counts))
    for count in counts:
        place = folder / "runs" / f"{count}.surgicalsam"
        with Project.create(place, VideoReader(folder / "runs" / "clip.mp4"), classes) as project:
            model = QuickModel(classes)
            run = segment_frames(project, model, classes.ids, range(count))  # type: ignore[arg-type]
            meter.take("segment, by a stand-in", count, lambda r=run: list(map(_frame_of, r)), scope="all", repeats=1)
            edit = clear_class(project, 1, range(count))
            meter.take("clear a class", count, lambda e=edit: list(map(_frame_of, e)), scope="all", repeats=1)
            meter.take("undo clearing", count, project.history.undo, scope="all", repeats=1)
            meter.take("redo clearing", count, project.history.redo, scope="all", repeats=1)
        shutil.rmtree(place)
    return meter


def _frame_of(report: object) -> int:
    return report.frame_index  # type: ignore[attr-defined]


def measure_one_frame(meter: Meter, size: int, project: Project, model: QuickModel) -> None:
    labels, class_ids = project.labels, project.classes.ids
    frames = np.random.default_rng(0).permutation(size)[:60].tolist()
    answers = [model.answer(class_ids, SIZE) for _ in frames]
    store = project.embeddings(model.encoder_digest, model.embedding_shape)
    embedding = np.zeros((1, *model.embedding_shape), np.float16)
    pairs = list(zip(frames, answers, strict=True))
    meter.take_each("read a frame of labels", size, [lambda t=t: labels[t] for t in frames], scope="one")
    calls = [lambda t=t, answer=answer: labels.write_prediction(t, answer, 1) for t, answer in pairs]
    meter.take_each("write a prediction", size, calls, scope="one")
    meter.take_each("a stroke", size, [lambda t=t: stroke(project, t) for t in frames], scope="one")
    meter.take_each("check for an embedding", size, [lambda t=t: store.is_valid(t) for t in frames], scope="one")
    meter.take_each("read an embedding", size, [lambda t=t: store.read([t]) for t in frames], scope="one")
    meter.take_each("write an embedding", size, [lambda t=t: store.write([t], embedding) for t in frames], scope="one")
    calls = [lambda t=t: list(verify_frames(project, [t])) for t in frames[:20]]
    meter.take_each("verify a frame, as an action", size, calls, scope="one")
    calls = [lambda: estimate(project, model, class_ids, [frames[0]], trial=False)] * 20  # type: ignore[arg-type]
    meter.take_each("estimate a run over one frame", size, calls, scope="one")


def stroke(project: Project, frame_index: int) -> None:
    top = frame_index % 30
    project.labels[frame_index, top : top + 6, top : top + 6] = 2 + frame_index % 2


def measure_tables(meter: Meter, size: int, project: Project, model: QuickModel) -> None:
    class_ids, every = project.classes.ids, range(size)
    store = project.embeddings(model.encoder_digest, model.embedding_shape)
    meter.take("provenance table", size, project.labels.provenance_table, scope="all", repeats=9)
    meter.take("rows and presence, before an export", size, lambda: damaged_frames(project), scope="all")
    meter.take("embeddings missing", size, lambda: store.missing(every), scope="all")
    meter.take("frames to segment", size, lambda: frames_to_segment(project, model, class_ids, every), scope="all")  # type: ignore[arg-type]
    meter.take("estimate a run over all", size, lambda: estimate(project, model, class_ids, every, trial=False), scope="all")  # type: ignore[arg-type]
    meter.take("order outward", size, lambda: outward_order(every, size // 2), scope="all")
    meter.take("untouched frames", size, lambda: untouched_frames(project), scope="all", repeats=9)
    known: dict[int, frozenset[int]] = {}
    meter.take("count corrections, first", size, lambda: count_corrections(project), scope="all", repeats=1)
    count_corrections(project, known_pixels=known)
    meter.take("count corrections, again", size, lambda: count_corrections(project, known_pixels=known), scope="all")
    meter.take("frames to export", size, lambda: corrected_frames(project), scope="all", repeats=9)
    meter.take("surgicalsam info", size, lambda: project_record(project), scope="all", repeats=1)


def project_record(project: Project) -> dict:
    from surgicalsam_napari.cli.commands import _project_record

    return _project_record(project)


def measure_review(meter: Meter, size: int, project: Project) -> None:
    labels = project.labels
    jumps = MaskJumps(labels, size, project.classes.ids)
    comparison = jumps.fill()
    calls: list[Callable[[], object]] = [lambda: next(comparison) for _ in range(min(size, 300))]
    meter.take_each("compare two masks", size, calls, scope="one", memory=False)
    meter.take("rank all frames", size, lambda: ReviewQueue.of(project, jumps), scope="all")
    queue = ReviewQueue.of(project, jumps)
    frames = np.random.default_rng(1).integers(0, size, 30).tolist()
    meter.take_each("rank a changed frame", size, [lambda t=t: queue.refresh([t]) for t in frames], scope="one")
    meter.take("next frame that needs review", size, queue.next, scope="all", repeats=9)
    tables = labels.table("provenance"), labels.table("predicted_iou")
    meter.take("overview for the timeline", size, lambda: Overview(*tables), scope="all")
    overview = Overview(*tables)
    calls = [lambda t=t: overview.update([t], tables[0][[t]], tables[1][[t]]) for t in frames]
    meter.take_each("overview, a changed frame", size, calls, scope="one")


def measure_history(meter: Meter, size: int, project: Project, model: QuickModel, place: Path) -> None:
    meter.take("list undoable actions", size, project.history.entries, scope="one", repeats=9)
    meter.take("take a snapshot", size, lambda: project.snapshots.create("state"), scope="all", repeats=1)
    first = range(size // 2, size // 2 + SHORT_RUN)
    run = segment_frames(project, model, project.classes.ids, first)  # type: ignore[arg-type]
    name = f"segment {SHORT_RUN} frames"
    meter.take(name, size, lambda: list(map(_frame_of, run)), scope="one", repeats=1)
    meter.take(f"undo {SHORT_RUN} frames", size, project.history.undo, scope="one", repeats=1)
    for frame_index in range(size):
        project.work_log.note_view(frame_index, 1.0)
    meter.take("work log", size, project.work_log.per_frame, scope="all")

    def export() -> None:
        shutil.rmtree(place / "out", ignore_errors=True)
        list(export_frames(project, range(10), place / "out", "indexed-png", images=False))

    meter.take("export ten frames", size, export, scope="one")
