"""The work of the processes that `kill_loop.py` kills: painting, predicting, importing, undoing, training.

Each process writes to a ledger, a pipe to the parent process, before each step and after it. The parent can read every
written record, even after a kill.
"""

from __future__ import annotations

import os
import pickle
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from surgicalsam_napari.exchange.importing import check_import, import_frames
from surgicalsam_napari.exchange.registry import open_dataset
from surgicalsam_napari.inference import segment_frames
from surgicalsam_napari.model.surgical_sam import FramePrediction, SurgicalSAM
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.provenance import TABLES
from surgicalsam_training.config import TrainingConfig
from surgicalsam_training.loop.trainer import train
from surgicalsam_training.run.run_folder import RunFolder

LENGTH = struct.Struct("<I")


@dataclass
class Scene:
    """The project, models and data that the processes work on.

    Attributes
    ----------
    folder : of the project
    models : variants of the bundled weights; their predictions differ in numbers
    predictions : by variant and frame, for all classes
    digests : of the variants, as in the project's manifest
    datasets, imported : folders, and the label maps in each of them by frame
    run, run_data : the current training run, and the project that it reads
    snapshots : frame states by folder name, of the snapshots made by a person
    """

    folder: Path
    models: list[SurgicalSAM]
    predictions: list[list[FramePrediction]]
    digests: list[str]
    datasets: list[Path]
    imported: list[dict[int, np.ndarray]]
    checkpoint: Path
    class_names: tuple[str, ...]
    run: Path
    run_data: Path
    snapshots: dict[str, list[bytes]] = field(default_factory=dict)


class Ledger:
    """The writing end of the pipe; for the threads of one process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def note(self, what: str, **details: Any) -> None:
        record = pickle.dumps((what, details))
        data = memoryview(LENGTH.pack(len(record)) + record)
        with self._lock:
            while data:
                data = data[os.write(self._descriptor, data) :]


def records(data: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """The records of a ledger, without an incomplete last record."""
    position = 0
    while position + LENGTH.size <= len(data):
        (length,) = LENGTH.unpack_from(data, position)
        position += LENGTH.size
        if position + length > len(data):
            return
        yield pickle.loads(data[position : position + length])
        position += length


def frame_state(project: Project, frame: int) -> bytes:
    """Digest of all stored data of a frame, with the numbers of its instances."""
    return _state(project, frame, [project.labels.row(name, frame) for name in TABLES])


def frame_states(project: Project) -> list[bytes]:
    tables = [project.labels.table(name) for name in TABLES]
    return [_state(project, frame, [table[frame] for table in tables]) for frame in range(len(project.labels))]


def _state(project: Project, frame: int, rows: list[np.ndarray]) -> bytes:
    content = [project.labels[frame], project.labels.painted(frame), project.tracks.numbers(frame), *rows]
    return blake2b(b"".join(array.tobytes() for array in content), digest_size=12).digest()


def undoable(project: Project) -> list[int]:
    """The numbers of the actions that can be undone."""
    return [entry.number for entry in project.history.entries() if not entry.is_undone]


Work = Callable[[Scene, Project, Ledger, np.random.Generator], None]


# Painting ------------------------------------------------------------------------------------------------------------


def paint(scene: Scene, project: Project, ledger: Ledger, rng: np.random.Generator) -> None:
    """Paint strokes as napari does (write back a box, or set pixels by index arrays), and undo some of them."""
    _paint(scene, project, ledger, rng, [])


def paint_beside_imports(scene: Scene, project: Project, ledger: Ledger, rng: np.random.Generator) -> None:
    """Paint no pixel with its label in a dataset: what is not changed is no stroke, and is undone with an import."""
    _paint(scene, project, ledger, rng, scene.imported)


def _paint(
    scene: Scene, project: Project, ledger: Ledger, rng: np.random.Generator, others: list[dict[int, np.ndarray]]
) -> None:
    def differs(pixels: tuple[np.ndarray, ...], labels: np.ndarray | int) -> np.ndarray:
        """(N,) bool: where the labels differ from those of all other label maps, by frame."""
        frames, *places = pixels
        result = np.ones(len(frames), bool)
        for label_maps in others:
            for frame in label_maps.keys() & set(frames.tolist()):
                result &= (frames != frame) | (label_maps[frame][tuple(places)] != labels)
        return result

    frame_count, height, width = project.labels.shape
    painted: list[tuple[tuple[np.ndarray, ...], np.ndarray]] = []
    values = [0, *project.classes.ids]
    number = 0
    while True:
        number += 1
        value, radius = int(rng.choice(values)), int(rng.integers(2, 20))
        row, column = int(rng.integers(height)), int(rng.integers(width))
        frame = int(
            rng.integers(frame_count if rng.random() < 0.5 else 3)
        )  # often a frame that another process has just changed
        rows, columns = np.nonzero(np.hypot(*np.ogrid[-row : height - row, -column : width - column]) <= radius)
        how = rng.random()
        if painted and how < 0.2:
            pixels, before = painted.pop()
            chosen = differs(pixels, before)
            pixels, before = tuple(axis[chosen] for axis in pixels), before[chosen]
            ledger.note("stroke", number=number, pixels=pixels, values=before)
            project.labels[pixels] = before
        elif how < 0.6:
            box = (frame, slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
            seen = project.labels.frame(frame)  # as in the window: another process may change the frame before the write
            as_read = seen[box[1:]]
            edited = as_read.copy()
            chosen = differs((np.full(len(rows), frame), rows, columns), value)
            edited[rows[chosen] - rows.min(), columns[chosen] - columns.min()] = value
            changed = edited != as_read
            if not changed.any():
                continue
            changed_rows, changed_columns = np.nonzero(changed)
            pixels = (np.full(len(changed_rows), frame), changed_rows + rows.min(), changed_columns + columns.min())
            ledger.note("stroke", number=number, pixels=pixels, values=edited[changed])
            project.labels.edit(box, edited, as_read={frame: seen})
            painted.append((pixels, as_read[changed]))
        else:
            depth = min(int(rng.integers(1, 3)), frame_count - frame)  # napari paints in several frames, too
            pixels = (np.repeat(np.arange(frame, frame + depth), len(rows)), np.tile(rows, depth), np.tile(columns, depth))
            chosen = differs(pixels, value)
            pixels = tuple(axis[chosen] for axis in pixels)
            before = project.labels[pixels]
            ledger.note("stroke", number=number, pixels=pixels, values=np.full(len(before), value, np.uint8))
            project.labels[pixels] = value
            painted.append((pixels, before))
        ledger.note("lifted", number=number)
        time.sleep(rng.exponential(0.001))


# Whole actions -------------------------------------------------------------------------------------------------------


def _act(scene: Scene, project: Project, ledger: Ledger, kind: str, steps: Callable[[], Iterator[int]]) -> None:
    """Do an action whose steps yield the written frames; the ledger gets the state of every frame before and after."""
    ledger.note("action", kind=kind, undoable=undoable(project), before=frame_states(project))
    for frame in steps():
        ledger.note("frame", frame=frame, state=frame_state(project, frame))
    ledger.note("acted", number=max(undoable(project), default=0), after=frame_states(project))


def _undo_or_redo(project: Project, ledger: Ledger, *, is_undo: bool) -> None:
    entry = project.history.to_undo if is_undo else project.history.to_redo
    if entry is not None:
        ledger.note("undo or redo", number=entry.number, is_undo=is_undo, before=frame_states(project))
        _ = project.history.undo() if is_undo else project.history.redo()
        ledger.note("undone or redone", after=frame_states(project))


def _some_frames(project: Project, rng: np.random.Generator) -> list[int]:
    first, last = sorted(rng.choice(len(project.labels), 2, replace=False).tolist())
    return list(range(first, last + 1))


def predict(scene: Scene, project: Project, ledger: Ledger, rng: np.random.Generator) -> None:
    """Segment some frames with the bundled weights; some runs are stopped early."""
    while True:
        model, frames = scene.models[rng.integers(len(scene.models))], _some_frames(project, rng)
        most = int(rng.integers(1, 2 * len(frames)))

        def steps(model: SurgicalSAM = model, frames: list[int] = frames, most: int = most) -> Iterator[int]:
            for report in segment_frames(project, model, project.classes.ids, frames):
                yield report.frame_index
                if report.done == most:
                    return

        _act(scene, project, ledger, "predict", steps)


def import_labels(scene: Scene, project: Project, ledger: Ledger, rng: np.random.Generator) -> None:
    """Import datasets, and undo each import, so that the next one has frames to import into.

    What an earlier round imported stays.
    """
    while True:
        dataset = open_dataset(scene.datasets[rng.integers(len(scene.datasets))])
        plan = check_import(project, dataset)
        last = project.history.last_number
        _act(scene, project, ledger, "import", lambda plan=plan: (r.frame_index for r in import_frames(project, plan)))
        if (entry := project.history.to_undo) is not None and entry.number > last:
            _undo_or_redo(project, ledger, is_undo=True)


def predict_and_undo(scene: Scene, project: Project, ledger: Ledger, rng: np.random.Generator) -> None:
    """Predict, undo and redo, while another process may paint."""
    while True:
        _predict_at_once(scene, project, ledger, rng)
        for is_undo in (True, False)[: int(rng.integers(3))]:
            _undo_or_redo(project, ledger, is_undo=is_undo)


def edit_and_undo(scene: Scene, project: Project, ledger: Ledger, rng: np.random.Generator) -> None:
    """Edit many frames, predict, undo and redo; make and restore snapshots."""
    while True:
        match rng.choice(["edit", "predict", "undo", "redo", "undo", "redo", "snapshot", "restore"]):
            case "edit":
                _edit(scene, project, ledger, rng)
            case "predict":
                _predict_at_once(scene, project, ledger, rng)
            case "undo":
                _undo_or_redo(project, ledger, is_undo=True)
            case "redo":
                _undo_or_redo(project, ledger, is_undo=False)
            case "snapshot":
                states = frame_states(project)
                ledger.note("snapped", folder=project.snapshots.create("as it is").folder.name, states=states)
            case "restore":
                manual = [kept for kept in project.snapshots.entries() if not kept.is_automatic]
                if manual:
                    snapshot = manual[rng.integers(len(manual))]
                    before = frame_states(project)
                    ledger.note("restore", folder=snapshot.folder.name, undoable=undoable(project), before=before)
                    for report in project.snapshots.restoring(snapshot):
                        ledger.note("frame", frame=report.frame_index, state=frame_state(project, report.frame_index))
                    ledger.note("acted", number=max(undoable(project), default=0), after=frame_states(project))


def _predict_at_once(scene: Scene, project: Project, ledger: Ledger, rng: np.random.Generator) -> None:
    """Write the stored predictions of a variant without computing them: many writes in little time."""
    number = 1 + int(rng.integers(len(project.manifest.checkpoints)))
    variant = scene.digests.index(project.manifest.checkpoints[number - 1]["digest"])
    frames = _some_frames(project, rng)

    def steps() -> Iterator[int]:
        with project.history.action("Predict") as action:
            for frame in frames:
                project.labels.write_prediction(frame, scene.predictions[variant][frame], number, action=action)
                yield frame

    _act(scene, project, ledger, "predict", steps)


def _edit(scene: Scene, project: Project, ledger: Ledger, rng: np.random.Generator) -> None:
    """Swap two classes in some frames."""
    frames = _some_frames(project, rng)
    swapped = np.arange(256, dtype=np.uint8)
    one, other = rng.choice(project.classes.ids, 2, replace=False)
    swapped[[one, other]] = other, one

    def steps() -> Iterator[int]:
        with project.history.action("Swap") as action:
            for frame in frames:
                label_map = swapped[project.labels[frame]]
                ledger.note("editing", frame=frame, label_map=label_map)
                project.labels.write_edit(frame, label_map, action=action)
                yield frame

    _act(scene, project, ledger, "edit", steps)


# Training ------------------------------------------------------------------------------------------------------------


def run_config(scene: Scene) -> TrainingConfig:
    return TrainingConfig(
        data=(scene.run_data,), checkpoint=scene.checkpoint, classes=scene.class_names, epochs=3, batch_size=4,
        loss_resolution="logits", augmented_versions=1, absent_share=0.0, device="cpu", validation_share=0.3,
    )  # fmt: skip


def train_run(scene: Scene, ledger: Ledger) -> None:
    """Start or resume the run; after a finished run start the next one."""
    path = scene.run
    while True:
        ledger.note("run", path=path)
        for report in train(RunFolder.create(path, run_config(scene))):
            ledger.note("report", kind=type(report).__name__)
        path = path.with_name(f"{path.name}-next")
