"""Operations on projects of 1 to 32 classes, on frames from 480p to 4K, and on 1 to 100 projects."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from scaling_frames import QuickModel, numbered_classes, project_record
from scaling_meter import Meter

from surgicalsam_napari.exchange.exporting import export_frames
from surgicalsam_napari.model.checkpoint import build_parts
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.image_encoder import build_image_encoder, encoder_digest
from surgicalsam_napari.model.mask_decoder import build_mask_decoder
from surgicalsam_napari.model.surgical_sam import SurgicalSAM, build_presence_head
from surgicalsam_napari.review import MaskJumps, ReviewQueue
from surgicalsam_napari.review.overview import Overview
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.corrections import count_corrections
from surgicalsam_napari.video import VideoReader, write_video
from surgicalsam_training.data.training_data import open_training_data

CLASS_FRAMES, CLASS_SIZE = 60, (480, 640)
PIXEL_FRAMES = 24
PROJECT_FRAMES, PROJECT_SIZE, CORRECTED = 24, (240, 320), 12


def random_model(class_count: int) -> SurgicalSAM:
    """The bundled architecture with random weights; it predicts every class in every frame."""
    torch.manual_seed(0)
    encoder = build_image_encoder("light")
    return SurgicalSAM(
        numbered_classes(class_count),
        "light",
        encoder_digest(encoder.state_dict()),
        image_encoder=encoder,
        sam_mask_decoder=build_mask_decoder(128, 512),
        presence_head=build_presence_head(128),
        presence_threshold=0.0,
        **build_parts(ENCODERS["light"], class_count),
    ).eval()


def moving_noise(count: int, size: tuple[int, int], seed: int = 0) -> list[np.ndarray]:
    """Drifting coarse noise (H, W, 3) uint8, which a codec cannot compress to almost nothing."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (size[0] // 8 + count, size[1] // 8 + 1, 3), np.uint8)
    return [coarse[i : i + -(-size[0] // 8)].repeat(8, 0).repeat(8, 1)[: size[0], : size[1]] for i in range(count)]


def made_project(place: Path, frame_count: int, size: tuple[int, int], class_count: int, seed: int = 0) -> Project:
    """A new project in a new folder, with all frames predicted by a stand-in."""
    place.mkdir(parents=True)
    write_video(place / "clip.mp4", moving_noise(frame_count, size, seed))
    classes = numbered_classes(class_count)
    project = Project.create(place / "clip.surgicalsam", VideoReader(place / "clip.mp4"), classes)
    model = QuickModel(classes)
    for frame_index in range(frame_count):
        project.labels.write_prediction(frame_index, model.answer(classes.ids, size), 1)
    return project


def take_frames(meter: Meter, size: int, project: Project, frame_count: int) -> None:
    """Measure operations on single frames, for every growing quantity."""
    labels, ids, frame_size = project.labels, project.classes.ids, project.labels.shape[1:]
    model, frames = QuickModel(project.classes), list(range(frame_count))
    answers = [(t, model.answer(ids, frame_size)) for t in frames]
    calls: list[Callable[[], object]] = [lambda t=t, a=a: labels.write_prediction(t, a, 1) for t, a in answers]
    meter.take_each("write a prediction", size, calls, scope="all")
    meter.take_each("a stroke", size, [lambda t=t: stroke(project, t) for t in frames], scope="all")
    meter.take_each("read a frame of labels", size, [lambda t=t: labels[t] for t in frames], scope="all")
    jumps = MaskJumps(labels, len(labels), ids)
    comparison = jumps.fill()
    meter.take_each("compare two masks", size, [lambda: next(comparison) for _ in frames], scope="all")
    out = project.folder.parent / "out"

    def export() -> None:
        shutil.rmtree(out, ignore_errors=True)
        list(export_frames(project, frames[:4], out, "indexed-png", images=False))

    meter.take("export four frames", size, export, scope="all")


def stroke(project: Project, frame_index: int) -> None:
    top = 10 + frame_index % 20
    project.labels[frame_index, top : top + 24, top : top + 24] = 1


def measure_classes(counts: Sequence[int], folder: Path) -> Meter:
    meter = Meter("classes")
    for count in counts:
        with made_project(folder / f"classes{count}", CLASS_FRAMES, CLASS_SIZE, count) as project:
            take_frames(meter, count, project, 20)
            jumps = MaskJumps(project.labels, CLASS_FRAMES, project.classes.ids)
            meter.take("rank all frames", count, lambda p=project, j=jumps: ReviewQueue.of(p, j), scope="all", repeats=9)
            queue = ReviewQueue.of(project, jumps)
            meter.take("rank a changed frame", count, lambda q=queue: q.refresh([9]), scope="all", repeats=9)
            tables = project.labels.table("provenance"), project.labels.table("predicted_iou")
            meter.take("overview for the timeline", count, lambda t=tables: Overview(*t), scope="all", repeats=9)
            meter.take("count corrections", count, lambda p=project: count_corrections(p), scope="all")
            meter.take(
                "open a project",
                count,
                lambda f=project.folder: Project.open(f, require_video=False).close(),
                scope="all",
                repeats=9,
            )
        take_model(meter, count, random_model(count), (720, 1280), repeats=2)
    return meter


def take_model(meter: Meter, size: int, model: SurgicalSAM, frame_size: tuple[int, int], repeats: int) -> None:
    """Measure the label map of all the model's classes, at the frame's size."""
    embeddings = np.random.default_rng(0).normal(size=(1, *model.embedding_shape)).astype(np.float16)

    def predict() -> object:
        return model.predict(embeddings, model.classes.ids, frame_size)

    predict()
    meter.take("masks of all classes", size, predict, scope="all", repeats=repeats, memory=False)


def measure_pixels(sizes: Sequence[tuple[int, int]], folder: Path) -> Meter:
    meter = Meter("pixels")
    model = random_model(7)
    for height, width in sizes:
        count = height * width
        with made_project(folder / f"pixels{height}", PIXEL_FRAMES, (height, width), 7) as project:
            take_frames(meter, count, project, PIXEL_FRAMES)
            take_model(meter, count, model, (height, width), repeats=2)
            images = [project.video.frame(0)]
            meter.take("embed a frame (light encoder)", count, lambda i=images: model.embed(i), scope="all", memory=False)
            frames = range(PIXEL_FRAMES)
            meter.take("count corrections", count, lambda p=project: count_corrections(p), scope="all")
        with Project.open(project.folder) as project:
            calls: list[Callable[[], object]] = [lambda t=t, v=project.video: v.frame(t) for t in frames]
            meter.take_each("decode the next frame", count, calls, scope="all", memory=False)
    return meter


def measure_projects(counts: Sequence[int], folder: Path) -> Meter:
    """Measure projects whose videos have different names, and projects whose videos have the same name."""
    meter = Meter("projects")
    projects: dict[str, list[Path]] = {"": [], ", videos of one name": []}
    for number in range(max(counts)):
        for kind, paths in projects.items():
            place = folder / f"site{number}{'' if not kind else '-same'}"
            with made_project(place, PROJECT_FRAMES, PROJECT_SIZE, 7, seed=2 * number + (kind != "")) as project:
                for frame_index in range(CORRECTED):
                    stroke(project, frame_index)
            paths.append(project.folder if kind else renamed(project.folder, f"operation{number}"))
    for count in counts:
        for kind, paths in projects.items():
            chosen = paths[:count]
            meter.take(f"open as training data{kind}", count, lambda p=chosen: opened_and_closed(p), scope="all", repeats=2)
        chosen = projects[""][:count]
        meter.take("open each project", count, lambda p=chosen: [Project.open(path).close() for path in p], scope="all")
        meter.take("list with surgicalsam info", count, lambda p=chosen: listed(p), scope="all")
        data = open_training_data(chosen, base=None)
        batch = np.random.default_rng(0).integers(0, len(data.frames), 32).tolist()
        model = QuickModel(data.classes)
        meter.take("embed the training frames", count, lambda d=data, m=model: embedded(d, m), scope="all", repeats=1)
        meter.take("embeddings of a batch", count, lambda d=data, m=model, b=batch: d.embeddings(b, 0, m), scope="one")
        data.close()
        for path in chosen:
            shutil.rmtree(path / "embeddings" / model.encoder_digest)
    return meter


def renamed(folder: Path, name: str) -> Path:
    """The project and its video under another name."""
    (folder.parent / "clip.mp4").rename(folder.parent / f"{name}.mp4")
    renamed = folder.rename(folder.parent / f"{name}.surgicalsam")
    with Project.open(renamed, video=VideoReader(folder.parent / f"{name}.mp4")):
        return renamed


def opened_and_closed(paths: Sequence[Path]) -> object:
    data = open_training_data(paths, base=None)
    data.close()
    return data


def embedded(data: object, model: QuickModel) -> None:
    for _ in data.embed(range(len(data.frames)), 0, model):  # type: ignore[attr-defined]
        pass


def listed(paths: Sequence[Path]) -> list[dict]:
    records = []
    for path in paths:
        with Project.open(path, require_video=False) as project:
            records.append(project_record(project))
    return records
