"""Checks of a project after the processes that worked in it were killed; for `kill_loop.py`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from kill_work import Scene, frame_states, run_config, undoable

from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.store.checking import Damage, checking
from surgicalsam_napari.store.disk.files import STAGING
from surgicalsam_napari.store.disk.journal import JOURNAL
from surgicalsam_napari.store.history import FOLDER as HISTORY
from surgicalsam_napari.store.provenance import TABLES
from surgicalsam_napari.store.snapshots import FOLDER as SNAPSHOTS
from surgicalsam_training.run.run_folder import RunFolder

Records = Sequence[tuple[str, dict[str, Any]]]
UNTOUCHED = -1  # by any stroke
OF_PREDICTIONS = ("predicted_iou", "presence", "contested")


@dataclass
class Findings:
    """The detected faults, one line each."""

    lost_strokes: list[str] = field(default_factory=list)
    mixed_frames: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.lost_strokes or self.mixed_frames or self.unreadable)


@dataclass
class Knowledge:
    """The expected state of a project between two rounds.

    Attributes
    ----------
    labels, painted : (T, H, W), at the end of the last round
    strokes : (T, H, W) int16, the label of the last stroke on a pixel; UNTOUCHED if there was none
    stroke_ids : (T, H, W) int32, the number of that stroke
    before_of, after_of : by number of an action, the state of every frame before and after it; None for painted frames
    """

    labels: np.ndarray
    painted: np.ndarray
    strokes: np.ndarray
    stroke_ids: np.ndarray
    stroke_count: int = 0
    before_of: dict[int, list[bytes | None]] = field(default_factory=dict)
    after_of: dict[int, list[bytes | None]] = field(default_factory=dict)

    @classmethod
    def of(cls, project: Project) -> Knowledge:
        labels, painted = pixels(project)
        return cls(labels, painted, np.full(labels.shape, UNTOUCHED, np.int16), np.zeros(labels.shape, np.int32))

    def end_round(self, project: Project) -> None:
        """Record the current state as the start of the next round."""
        self.labels, self.painted = pixels(project)
        self.strokes[~(self.painted & (self.labels == self.strokes))] = UNTOUCHED  # undone by the work itself


def pixels(project: Project) -> tuple[np.ndarray, np.ndarray]:
    """(T, H, W) uint8 and bool: labels, and which pixels a person has set."""
    return project.labels[:], np.stack([project.labels.painted(frame) for frame in range(len(project.labels))])


# Single frames -------------------------------------------------------------------------------------------------------


def check_frames(scene: Scene, project: Project) -> list[str]:
    """The frames whose tables, painted record and labels are inconsistent, one line each."""
    labels, painted = pixels(project)
    tables = {name: project.labels.table(name) for name in TABLES}
    variants = [scene.digests.index(checkpoint["digest"]) for checkpoint in project.manifest.checkpoints]
    problems = []
    for frame in range(len(labels)):
        rows = {name: table[frame] for name, table in tables.items()}
        numbers = set(rows["predicted_by"].tolist())
        if len(numbers) > 1 or max(numbers) > len(variants):
            problems.append(f"frame {frame} is predicted by the checkpoints {numbers}")
            continue
        variant = None if numbers == {0} else variants[numbers.pop() - 1]
        problem = _mixed(scene, project, frame, labels[frame], painted[frame], rows, variant)
        if problem is not None:
            problems.append(f"frame {frame}: {problem}")
    return problems


def _mixed(
    scene: Scene,
    project: Project,
    frame: int,
    labels: np.ndarray,
    painted: np.ndarray,
    rows: dict[str, np.ndarray],
    variant: int | None,
) -> str | None:
    """The first inconsistency of a frame, if any; its last prediction is by `variant`, None if it has none."""
    expected = np.zeros_like(labels)
    is_present: Iterable[bool | None] = [None] * len(project.classes)
    numbers = {name: np.full(len(project.classes), np.nan, np.float32) for name in OF_PREDICTIONS}
    if variant is not None:
        prediction = scene.predictions[variant][frame]
        expected, is_present = prediction.label_map, prediction.present.tolist()
        numbers = {name: getattr(prediction, name) for name in OF_PREDICTIONS}
    for name, of_prediction in numbers.items():
        if not np.array_equal(rows[name], of_prediction, equal_nan=True):
            return f"{name} should be {of_prediction}, as predicted; it is {rows[name]}"
    if np.any(project.tracks.numbers(frame)[labels == 0]):
        return "background has a number of an instance"
    if not np.array_equal(labels[~painted], expected[~painted]):
        return "unpainted pixels differ from the prediction"
    expected_provenance = {None: Provenance.EMPTY, False: Provenance.ABSENT, True: Provenance.PREDICTED}
    painted_ids = set(np.unique(labels[painted]).tolist())
    for class_id, present, provenance in zip(project.classes.ids, is_present, rows["provenance"].tolist(), strict=True):
        if provenance == Provenance.EDITED:
            continue
        if class_id in painted_ids:
            return f"class {class_id} was painted, but is {Provenance(provenance).name}"
        if provenance != expected_provenance[present]:
            return f"class {class_id} should be {expected_provenance[present].name}; it is {Provenance(provenance).name}"
    return None


# Strokes -------------------------------------------------------------------------------------------------------------


def touched_frames(painting: Records) -> set[int]:
    return {int(frame) for what, stroke in painting if what == "stroke" for frame in np.unique(stroke["pixels"][0])}


def check_strokes(
    knowledge: Knowledge, project: Project, painting: Records, imported: list[dict[int, np.ndarray]], findings: Findings
) -> None:
    """Check that no painted pixel is lost.

    Completed strokes are stored; the interrupted one is stored completely or not at all; other painted pixels are unchanged.

    Parameters
    ----------
    imported : label maps by frame of the datasets that may have been imported meanwhile
    """
    labels, painted = pixels(project)
    interrupted = None
    for what, stroke in painting:
        if what == "stroke":
            interrupted = stroke
        elif what == "lifted" and interrupted is not None:
            knowledge.stroke_count += 1
            knowledge.strokes[interrupted["pixels"]] = interrupted["values"]
            knowledge.stroke_ids[interrupted["pixels"]] = knowledge.stroke_count
            interrupted = None
    with_interrupted = knowledge.strokes.copy()
    if interrupted is not None:
        with_interrupted[interrupted["pixels"]] = interrupted["values"]
    for frame in range(len(labels)):
        strokes = knowledge.strokes[frame]
        maps = [label_maps[frame] for label_maps in imported if frame in label_maps]
        before = knowledge.labels[frame], knowledge.painted[frame]
        if _fits(strokes, labels[frame], painted[frame], before, maps):
            continue
        if _fits(with_interrupted[frame], labels[frame], painted[frame], before, maps):
            knowledge.strokes[frame] = with_interrupted[frame]
            continue
        missing = (strokes != UNTOUCHED) & ~(painted[frame] & (labels[frame] == strokes))
        missing &= ~((with_interrupted[frame] != strokes) & (labels[frame] == with_interrupted[frame]))
        ids = np.unique(knowledge.stroke_ids[frame][missing]).tolist()
        findings.lost_strokes += [f"frame {frame}: stroke {number}" for number in ids]
        if not ids:
            findings.mixed_frames.append(f"frame {frame}: painted pixels match neither the state before nor after a write")


def _fits(
    strokes: np.ndarray,
    labels: np.ndarray,
    painted: np.ndarray,
    before: tuple[np.ndarray, np.ndarray],
    imported: list[np.ndarray],
) -> bool:
    """Whether a frame has these strokes and the earlier painted pixels, and no others except a complete import."""
    stroked, (labels_before, painted_before) = strokes != UNTOUCHED, before
    kept = painted_before & ~stroked
    if not np.all(painted[stroked | kept]):
        return False
    if np.any(labels[stroked] != strokes[stroked]) or np.any(labels[kept] != labels_before[kept]):
        return False
    new = painted & ~painted_before & ~stroked
    if not new.any():
        return True
    return bool(painted.all()) and any(np.array_equal(labels[new], label_map[new]) for label_map in imported)


# Whole actions -------------------------------------------------------------------------------------------------------


def check_actions(
    scene: Scene, knowledge: Knowledge, project: Project, acting: Records, touched: set[int], rng: np.random.Generator
) -> list[str]:
    """Follow the ledger, undo or finish the interrupted action, and check the state of the frames.

    Parameters
    ----------
    touched : frames that another process painted; they are not checked here
    """
    watch = _Watch(scene, knowledge, project, [f for f in range(len(project.labels)) if f not in touched])
    for what, details in acting:
        watch.follow(what, details)
    watch.settle(rng)
    return watch.problems


class _Watch:
    def __init__(self, scene: Scene, knowledge: Knowledge, project: Project, watched: list[int]) -> None:
        self.problems: list[str] = []
        self._scene, self._knowledge, self._project = scene, knowledge, project
        self._watched = watched
        self._unfinished: tuple[str, dict[str, Any]] | None = None
        self._states: list[bytes] | None = None  # by the ledger, after the last completed action
        self._reported: dict[int, bytes] = {}
        self._edits: dict[int, np.ndarray] = {}

    def follow(self, what: str, details: dict[str, Any]) -> None:
        if what in ("action", "restore", "undo or redo"):
            self._expect(details["before"], "before an action")
            self._unfinished, self._states = (what, details), None
            self._reported, self._edits = {}, {}
        elif what == "frame":
            self._reported[details["frame"]] = details["state"]
        elif what == "editing":
            self._edits[details["frame"]] = details["label_map"]
        elif what == "snapped":
            self._scene.snapshots[details["folder"]] = details["states"]
        elif what in ("acted", "undone or redone") and self._unfinished is not None:
            kind, started = self._unfinished
            self._unfinished, self._states = None, details["after"]
            if kind == "undo or redo":
                self._check_undo_or_redo(started, details["after"], is_whole=True)
            elif details["number"] not in started["undoable"]:
                self._remember(details["number"], started["before"], details["after"])
            if kind == "restore" and started["folder"] in self._scene.snapshots:
                self._same(details["after"], self._scene.snapshots[started["folder"]], "differ from the snapshot")

    def settle(self, rng: np.random.Generator) -> None:
        now = frame_states(self._project)
        if self._unfinished is None:
            self._expect(now, "after the last action")
        elif self._unfinished[0] == "undo or redo":
            self._settle_undo_or_redo(self._unfinished[1], now)
        else:
            self._settle_action(*self._unfinished, now, rng)

    def _settle_action(self, what: str, started: dict[str, Any], now: list[bytes], rng: np.random.Generator) -> None:
        """Check an interrupted action: its reported frames are stored, and undoing it restores the state before."""
        changed = [frame for frame in self._watched if now[frame] != started["before"][frame]]
        for frame in set(self._reported).intersection(self._watched):
            if now[frame] != self._reported[frame]:
                self.problems.append(f"frame {frame} differs from its report")
        in_flight = [frame for frame in changed if frame not in self._reported]
        if len(in_flight) > 1:
            self.problems.append(f"frames {in_flight} changed without a report")
        for frame in in_flight:
            if what == "restore" and now[frame] != self._scene.snapshots[started["folder"]][frame]:
                self.problems.append(f"frame {frame} matches neither the state before nor the snapshot")
            edit = self._edits.get(frame)
            if edit is not None and not np.array_equal(self._project.labels[frame], edit):
                self.problems.append(f"frame {frame} matches neither the state before nor the edit")
        interrupted = [number for number in undoable(self._project) if number not in started["undoable"]]
        if not interrupted:
            if changed:
                self.problems.append(f"frames {changed} changed, but the history has no action")
            return
        self._remember(interrupted[-1], started["before"], now)
        choice = rng.random()
        if what == "restore" and choice < 0.4:
            kept = {snapshot.folder.name: snapshot for snapshot in self._project.snapshots.entries()}
            self._project.snapshots.restore(kept[started["folder"]])
            after = frame_states(self._project)
            self._same(
                after, self._scene.snapshots[started["folder"]], "differ from the snapshot after the restore was finished"
            )
            self._remember(undoable(self._project)[-1], now, after)
        elif choice < 0.8:
            self._project.history.undo()
            self._same(frame_states(self._project), started["before"], "differ from the state before the undone action")
            if choice < 0.6:
                self._project.history.redo()
                self._same(frame_states(self._project), now, "differ after undo and redo")

    def _settle_undo_or_redo(self, started: dict[str, Any], now: list[bytes]) -> None:
        """Check an interrupted undo or redo: each frame has its old or new state; once finished, all have the new state."""
        self._check_undo_or_redo(started, now, is_whole=False)
        history, is_undo = self._project.history, started["is_undo"]
        entry = next((entry for entry in history.entries() if entry.number == started["number"]), None)
        if entry is not None and entry.is_undone != is_undo:
            _ = history.undo() if is_undo else history.redo()
        self._check_undo_or_redo(started, frame_states(self._project), is_whole=True)

    def _check_undo_or_redo(self, started: dict[str, Any], now: list[bytes], *, is_whole: bool) -> None:
        before_of, after_of = (kept.get(started["number"]) for kept in (self._knowledge.before_of, self._knowledge.after_of))
        if before_of is None or after_of is None:
            return
        source, target = (after_of, before_of) if started["is_undo"] else (before_of, after_of)
        for frame in self._watched:
            start = started["before"][frame]
            if source[frame] is None or target[frame] is None:
                continue
            end = target[frame] if start == source[frame] else start
            if now[frame] != end and (is_whole or now[frame] != start):
                self.problems.append(
                    f"frame {frame} differs from the state {'before' if started['is_undo'] else 'after'} the action"
                )

    def _remember(self, number: int, before: list[bytes], after: list[bytes]) -> None:
        def watched(states: list[bytes]) -> list[bytes | None]:
            return [state if frame in self._watched else None for frame, state in enumerate(states)]

        self._knowledge.before_of[number], self._knowledge.after_of[number] = watched(before), watched(after)

    def _expect(self, states: list[bytes], when: str) -> None:
        if self._states is not None:
            self._same(states, self._states, f"differ from the last recorded state, {when}")

    def _same(self, states: list[bytes], expected: list[bytes], what: str) -> None:
        differing = [frame for frame in self._watched if states[frame] != expected[frame]]
        if differing:
            self.problems.append(f"frames {differing} {what}")


# Files ---------------------------------------------------------------------------------------------------------------


def check_files(scene: Scene, project: Project) -> list[str]:
    """Check that no partly written file is left, and that all files can be read."""
    root, problems = project.folder, []
    left = [path.name for path in (root / STAGING).glob("*")] + [JOURNAL] * (root / JOURNAL).exists()
    if left:
        problems.append(f"left over after opening: {left}")
    for path in (root / HISTORY).glob("*.json"):
        json.loads(path.read_bytes())
    kept = [path for path in (root / SNAPSHOTS).glob("*") if not path.name.startswith(".")]
    if len(kept) != len(project.snapshots.entries()):
        problems.append(f"{len(kept)} snapshots, of which {len(project.snapshots.entries())} can be read")
    project.work_log.per_frame()
    if not project.tracks.table.tracks:
        problems.append("the table of tracks is empty")
    store = project.embeddings(scene.models[0].encoder_digest, scene.models[0].embedding_shape)
    valid = [frame for frame in range(len(project.labels)) if frame not in store.missing(range(len(project.labels)))]
    store.read(valid)
    return problems


def check_checksums(project: Project, rng: np.random.Generator) -> list[str]:
    """Check that a kill leaves nothing that looks damaged, and that a damaged file is still noticed after it."""
    problems = [f"looks damaged: {damage}" for damage in damage_of(project)]
    files = [path for name in ("labels", "painted", "instances") for path in (project.folder / name).glob("c.*")]
    files += [*(project.folder / HISTORY).glob("*.undo"), project.folder / "tracks.json"]
    files = [path for path in files if _recorded(path)]
    if files:
        path = files[rng.integers(len(files))]
        good = path.read_bytes()
        bad = bytearray(good)
        bad[int(rng.integers(_recorded(path)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(bad)
        if path not in {damage.path for damage in damage_of(project)}:
            problems.append(f"a changed byte of {path} was not noticed")
        path.write_bytes(good)
    return problems


def _recorded(path: Path) -> int:
    """The bytes of a file in which every change must be noticed: all, or in the record of an action its complete lines.

    The end of the last line is left out: a kill may leave it away.
    """
    return max(0, path.read_bytes().rfind(b"\n")) if path.suffix == ".undo" else path.stat().st_size


def damage_of(project: Project) -> tuple[Damage, ...]:
    found: tuple[Damage, ...] = ()
    for report in checking(project):
        found = report.found
    return found


def check_run(scene: Scene, path: Path) -> list[str]:
    """Check that the folder of a killed training can be opened, has complete files, and can be resumed."""
    problems: list[str] = []
    if not path.exists():
        return problems
    if not (path / "result.json").exists():
        RunFolder.create(path, run_config(scene))
    run = RunFolder.open(path)
    if run.is_running:
        problems.append("a run counts as running, but its process is dead")
    run.record, run.result(), run.load_state()
    epochs = [row["epoch"] for row in run.metrics()]
    if epochs != sorted(set(epochs)):
        problems.append(f"metrics.csv has the epochs {epochs}")
    if run.best_checkpoint.exists():
        load_checkpoint(run.best_checkpoint, device="cpu")
    elif run.last_state.exists() or run.result() is not None:
        problems.append("an epoch was saved, but no checkpoint")
    return problems
