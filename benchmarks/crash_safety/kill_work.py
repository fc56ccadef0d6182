"""What `kill_loop.py` has done in a process that it kills: painting, predicting, importing, taking back, training.

Whoever works tells a ledger, a pipe to the process that kills, what is about to be done and what has ended. A record that
was written is read there, however this process died.
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
    """What everybody works on.

    Attributes
    ----------
    folder : of the project
    models : the demo weights in variants; what one of them predicted is told from the others' by its numbers
    predictions : by variant and frame, in all classes
    digests : of the variants, as the project's manifest has them
    datasets, imported : folders, and the label maps in each by frame
    run, run_data : the run of training that is being worked at, and the project that it reads
    snapshots : folder names of those made by hand
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
    """What a ledger was told; a last record that the kill cut off is left out."""
    position = 0
    while position + LENGTH.size <= len(data):
        (length,) = LENGTH.unpack_from(data, position)
        position += LENGTH.size
        if position + length > len(data):
            return
        yield pickle.loads(data[position : position + length])
        position += length


def frame_state(project: Project, frame: int) -> bytes:
    """Digest of all that is stored of a frame."""
    return _state(project, frame, [project.labels.row(name, frame) for name in TABLES])


def frame_states(project: Project) -> list[bytes]:
    tables = [project.labels.table(name) for name in TABLES]
    return [_state(project, frame, [table[frame] for table in tables]) for frame in range(len(project.labels))]


def _state(project: Project, frame: int, rows: list[np.ndarray]) -> bytes:
    content = [project.labels[frame], project.labels.painted(frame), *rows]
    return blake2b(b"".join(array.tobytes() for array in content), digest_size=12).digest()


def standing(project: Project) -> list[int]:
    """The numbers of the actions that could be undone."""
    return [entry.number for entry in project.history.entries() if not entry.is_undone]


Work = Callable[[Scene, Project, Ledger, np.random.Generator], None]


# Painting ------------------------------------------------------------------------------------------------------------


def paint(scene: Scene, project: Project, ledger: Ledger, rng: np.random.Generator) -> None:
    """Strokes as napari does them: a box read and written back, pixels by index arrays, and these taken back."""
    frame_count, height, width = project.labels.shape
    undoable: list[tuple[tuple[np.ndarray, ...], np.ndarray]] = []
    values = [0, *project.classes.ids]
    number = 0
    while True:
        number += 1
        value, radius = int(rng.choice(values)), int(rng.integers(2, 20))
        row, column = int(rng.integers(height)), int(rng.integers(width))
        frame = int(rng.integers(frame_count if rng.random() < 0.5 else 3))  # often where others have just been at work
        rows, columns = np.nonzero(np.hypot(*np.ogrid[-row : height - row, -column : width - column]) <= radius)
        how = rng.random()
        if undoable and how < 0.2:
            pixels, before = undoable.pop()
            ledger.note("stroke", number=number, pixels=pixels, values=before)
            project.labels[pixels] = before
        elif how < 0.6:
            box = (frame, slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
            as_read = project.labels[box]
            drawn = as_read.copy()
            drawn[rows - rows.min(), columns - columns.min()] = value
            changed = drawn != as_read
            if not changed.any():
                continue
            where = np.nonzero(changed)
            pixels = (np.full(len(where[0]), frame), where[0] + rows.min(), where[1] + columns.min())
            ledger.note("stroke", number=number, pixels=pixels, values=drawn[changed])
            project.labels[box] = drawn
            undoable.append((pixels, as_read[changed]))
        else:
            depth = min(int(rng.integers(1, 3)), frame_count - frame)  # napari paints in several frames, too
            pixels = (np.repeat(np.arange(frame, frame + depth), len(rows)), np.tile(rows, depth), np.tile(columns, depth))
            before = project.labels[pixels]
            ledger.note("stroke", number=number, pixels=pixels, values=np.full(len(before), value, np.uint8))
            project.labels[pixels] = value
            undoable.append((pixels, before))
        ledger.note("lifted", number=number)
        time.sleep(rng.exponential(0.001))


# Whole actions -------------------------------------------------------------------------------------------------------


def _acted(scene: Scene, project: Project, ledger: Ledger, kind: str, steps: Callable[[], Iterator[int]]) -> None:
    """Do an action whose steps give the frame that was written; the ledger knows every frame before and after."""
    ledger.note("action", kind=kind, standing=standing(project), before=frame_states(project))
    for frame in steps():
        ledger.note("frame", frame=frame, state=frame_state(project, frame))
    ledger.note("acted", number=max(standing(project), default=0), after=frame_states(project))


def _turned(project: Project, ledger: Ledger, *, back: bool) -> None:
    """Undo, or do again."""
    entry = project.history.to_undo if back else project.history.to_redo
    if entry is not None:
        ledger.note("turn", number=entry.number, back=back, before=frame_states(project))
        _ = project.history.undo() if back else project.history.redo()
        ledger.note("turned", after=frame_states(project))


def _some_frames(project: Project, rng: np.random.Generator) -> list[int]:
    first, last = sorted(rng.choice(len(project.labels), 2, replace=False).tolist())
    return list(range(first, last + 1))


def predict(scene: Scene, project: Project, ledger: Ledger, rng: np.random.Generator) -> None:
    """Runs of the demo weights over some frames; now and then given up half way."""
    while True:
        model, frames = scene.models[rng.integers(len(scene.models))], _some_frames(project, rng)
        most = int(rng.integers(1, 2 * len(frames)))

        def steps(model: SurgicalSAM = model, frames: list[int] = frames, most: int = most) -> Iterator[int]:
            for report in segment_frames(project, model, project.classes.ids, frames):
                yield report.frame_index
                if report.done == most:
                    return

        _acted(scene, project, ledger, "predict", steps)


def import_labels(scene: Scene, project: Project, ledger: Ledger, rng: np.random.Generator) -> None:
    """Datasets taken in, and taken back, that there may be frames to import into next time."""
    while True:
        dataset = open_dataset(scene.datasets[rng.integers(len(scene.datasets))])
        plan = check_import(project, dataset)
        _acted(scene, project, ledger, "import", lambda plan=plan: (r.frame_index for r in import_frames(project, plan)))
        _turned(project, ledger, back=True)


def take_back_own(scene: Scene, project: Project, ledger: Ledger, rng: np.random.Generator) -> None:
    """Predictions that are undone and done again, while somebody else may paint."""
    while True:
        _predict_at_once(scene, project, ledger, rng)
        for back in (True, False)[: int(rng.integers(3))]:
            _turned(project, ledger, back=back)


def take_back(scene: Scene, project: Project, ledger: Ledger, rng: np.random.Generator) -> None:
    """Edits of many frames and predictions, undone and done again; snapshots, made and returned to."""
    while True:
        match rng.choice(["edit", "predict", "undo", "redo", "undo", "redo", "snapshot", "restore"]):
            case "edit":
                _edit(scene, project, ledger, rng)
            case "predict":
                _predict_at_once(scene, project, ledger, rng)
            case "undo":
                _turned(project, ledger, back=True)
            case "redo":
                _turned(project, ledger, back=False)
            case "snapshot":
                states = frame_states(project)
                ledger.note("snapped", folder=project.snapshots.create("as it is").folder.name, states=states)
            case "restore":
                made = [kept for kept in project.snapshots.entries() if not kept.is_automatic]
                if made:
                    snapshot = made[rng.integers(len(made))]
                    before = frame_states(project)
                    ledger.note("restore", folder=snapshot.folder.name, standing=standing(project), before=before)
                    for report in project.snapshots.restoring(snapshot):
                        ledger.note("frame", frame=report.frame_index, state=frame_state(project, report.frame_index))
                    ledger.note("acted", number=max(standing(project), default=0), after=frame_states(project))


def _predict_at_once(scene: Scene, project: Project, ledger: Ledger, rng: np.random.Generator) -> None:
    """What a variant predicted before, written without asking it again: many writes in little time."""
    number = 1 + int(rng.integers(len(project.manifest.checkpoints)))
    variant = scene.digests.index(project.manifest.checkpoints[number - 1]["digest"])
    frames = _some_frames(project, rng)

    def steps() -> Iterator[int]:
        with project.history.action("Predict") as action:
            for frame in frames:
                project.labels.write_prediction(frame, scene.predictions[variant][frame], number, action=action)
                yield frame

    _acted(scene, project, ledger, "predict", steps)


def _edit(scene: Scene, project: Project, ledger: Ledger, rng: np.random.Generator) -> None:
    """Swap two classes, in some frames."""
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

    _acted(scene, project, ledger, "edit", steps)


# Training ------------------------------------------------------------------------------------------------------------


def run_config(scene: Scene) -> TrainingConfig:
    return TrainingConfig(
        data=(scene.run_data,), checkpoint=scene.checkpoint, classes=scene.class_names, epochs=3, batch_size=4,
        loss_resolution="logits", augmented_versions=1, absent_share=0.0, device="cpu", validation_share=0.3,
    )  # fmt: skip


def train_run(scene: Scene, ledger: Ledger) -> None:
    """Begin the run, or go on with it; a finished one is followed by the next."""
    path = scene.run
    while True:
        ledger.note("run", path=path)
        for report in train(RunFolder.create(path, run_config(scene))):
            ledger.note("report", kind=type(report).__name__)
        path = path.with_name(f"{path.name}-next")
