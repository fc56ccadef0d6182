"""Kill whoever works in a project, at random moments, open it again and see what is there.

A round: one or two processes paint, predict, import, take back or train, as the window has it done; they are killed
(SIGKILL) after up to 400 ms of work (a training: anywhere in it), mostly just when a write is under way; the project is
opened again and compared with what they had told through a pipe. What must hold: every stroke that had ended is there, the
one under way is there or not at all; the tables, the painted record and the labels of every frame belong together
(predictions by three variants of the demo weights can be told apart by their numbers and pixels); an action that was cut
off is undone to exactly the state before, but for what was painted since; an undo that was cut off can be finished; a
training run can be gone on with. Needs Linux (it forks, to spare each round seconds of imports).

`kills_inside_a_write` counts rounds after which something half-written lay in the folders. The last line printed with
`--json` is one JSON object; the exit code is 1 if anything was lost, mixed or unreadable.
"""

from __future__ import annotations

import copy
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a pool of threads does not survive a fork

import numpy as np
import torch
import torch._dynamo
from kill_checks import (
    Findings,
    Knowledge,
    check_actions,
    check_files,
    check_frames,
    check_run,
    check_strokes,
    touched_frames,
)
from kill_work import (
    Ledger,
    Scene,
    Work,
    import_labels,
    paint,
    predict,
    records,
    run_config,
    take_back,
    take_back_own,
    train_run,
)
from PIL import Image

sys.path.append(str(Path(__file__).parents[1]))
from common.options import new_parser, parse

from surgicalsam_napari.exchange.formats.indexed_png import write_classes, write_label_map
from surgicalsam_napari.inference.embed import embed_frames
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.digest import checkpoint_record
from surgicalsam_napari.model.zoo import demo_checkpoint
from surgicalsam_napari.phantom import write_phantom_clip
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.files import STAGING
from surgicalsam_napari.store.history import FOLDER as HISTORY
from surgicalsam_napari.store.journal import JOURNAL
from surgicalsam_napari.store.snapshots import FOLDER as SNAPSHOTS
from surgicalsam_napari.video import VideoReader
from surgicalsam_training.loop.trainer import train
from surgicalsam_training.run.run_folder import RunFolder

SIZE, FRAMES, CLASSES = (96, 128), 10, 3
ROUNDS_PER_PROJECT = 8  # then a fresh one: imports paint every pixel, and leave nothing to predict
LONGEST_WORK = 0.4  # seconds
MOST_REPORTS = 12  # of a training, before it is killed: a whole run has about ten
IMPORTED_LATE = ("matplotlib.figure", "matplotlib.backends.backend_agg", "torch._dynamo")  # by training, in every fork anew
PATIENCE = 20.0  # seconds, for these


def train_beside(scene: Scene, project: Project, ledger: Ledger, rng: np.random.Generator) -> None:
    train_run(scene, ledger)


KINDS: dict[str, tuple[tuple[Work, ...], ...]] = {  # processes, each with its threads
    "painting": ((paint,),),
    "predicting": ((predict,),),
    "importing": ((import_labels,),),
    "taking back": ((take_back,),),
    "training": ((train_beside,),),
    "painting + predicting": ((paint,), (predict,)),
    "painting + predicting, threads": ((paint, predict),),
    "painting + importing": ((paint,), (import_labels,)),
    "painting + taking back": ((paint,), (take_back_own,)),
    "painting + training": ((paint,), (train_beside,)),
}


# What is worked on ---------------------------------------------------------------------------------------------------


@dataclass
class Stage:
    """Where a scene is set up, and set up again.

    Attributes
    ----------
    template : the project that every fresh one is a copy of
    """

    folder: Path
    template: Path
    scene: Scene
    fresh_count: int = 0

    def fresh_project(self) -> None:
        """A copy of the template in which two frames lack their embeddings, to be computed on the way."""
        if self.scene.folder != self.template:
            shutil.rmtree(self.scene.folder)
        self.fresh_count += 1
        self.scene.folder = self.template.with_name(f"round_{self.fresh_count}.surgicalsam")
        shutil.copytree(self.template, self.scene.folder)
        for frame in (FRAMES - 2, FRAMES - 1):
            next(self.scene.folder.glob(f"embeddings/*/embeddings/c.{frame}.0.0.0")).unlink()
        self.scene.snapshots.clear()


def set_up(folder: Path, rng: np.random.Generator) -> Stage:
    for name in IMPORTED_LATE:
        importlib.import_module(name)
    video = write_phantom_clip(folder, size=SIZE, frame_count=FRAMES)
    truth = [np.asarray(Image.open(path)) for path in sorted(video.with_name(f"{video.stem}_labels").glob("*.png"))]
    model = load_checkpoint(demo_checkpoint(), device="cpu")
    classes = _frequent_classes(model.classes, truth)
    truth = [np.where(np.isin(label_map, classes.ids), label_map, 0).astype(np.uint8) for label_map in truth]
    models = [model]
    for _ in range(2):
        models.append(copy.deepcopy(model))
        weight = models[-1].prototypes.class_embeddings.weight
        noise = torch.from_numpy(rng.standard_normal(tuple(weight.shape)).astype(np.float32))
        weight.data += 0.3 * weight.std() * noise
    with Project.create(folder / "template.surgicalsam", VideoReader(video), classes) as project:
        list(embed_frames(project, model, range(FRAMES)))
        store = project.embeddings(model.encoder_digest, model.embedding_shape)
        predictions = [
            [each.predict(store.read([frame]), classes.ids, SIZE)[0] for frame in range(FRAMES)] for each in models
        ]
        checkpoints = [checkpoint_record(each) for each in models]
        for checkpoint in checkpoints[:2]:  # the third is told to the project by whoever predicts with it
            project.record_checkpoint(checkpoint)
        for frame in (0, 2):
            project.labels[frame, 20:60] = truth[frame][20:60]
    training = folder / "training.surgicalsam"
    shutil.copytree(project.folder, training)
    with Project.open(training) as labelled:
        for frame in range(3):
            labelled.labels[frame] = truth[frame]
            labelled.labels.verify(frame)
    datasets = list(_write_datasets(folder, project, truth))
    scene = Scene(
        project.folder, models, predictions, [str(checkpoint["digest"]) for checkpoint in checkpoints],
        [path for path, _ in datasets], [label_maps for _, label_maps in datasets],
        demo_checkpoint(), tuple(classes.names), folder / "runs" / "run", training,
    )  # fmt: skip
    _check_can_be_told_apart(scene)
    return Stage(folder, project.folder, scene)


def _frequent_classes(classes: ClassSet, label_maps: list[np.ndarray]) -> ClassSet:
    """Those that most pixels show: few, since each takes time to predict."""
    pixels = np.bincount(np.concatenate(label_maps, axis=None), minlength=256)
    chosen = sorted(classes, key=lambda each: -pixels[each.id])[:CLASSES]
    return ClassSet("frequent", tuple(each for each in classes if each in chosen))


def _write_datasets(folder: Path, project: Project, truth: list[np.ndarray]) -> Iterator[tuple[Path, dict[int, np.ndarray]]]:
    """One of every frame, and one of every second, upside down."""
    for name, frames, turned in (("all", range(FRAMES), False), ("second", range(0, FRAMES, 2), True)):
        label_maps = {frame: truth[frame][::-1] if turned else truth[frame] for frame in frames}
        path = folder / name
        write_classes(path, project.classes, project.manifest.video_path.name)
        for frame, label_map in label_maps.items():
            write_label_map(path, frame, label_map, project.classes)
        yield path, label_maps


def _check_can_be_told_apart(scene: Scene) -> None:
    """Mixed states can only be seen where predictions differ."""
    for frame in range(FRAMES):
        per_variant = [predictions[frame] for predictions in scene.predictions]
        predicted_iou = np.stack([prediction.predicted_iou for prediction in per_variant])
        assert all(len(np.unique(column)) == len(per_variant) for column in predicted_iou.T), frame
        assert len({prediction.label_map.tobytes() for prediction in per_variant}) == len(per_variant), frame


# One process that is killed ------------------------------------------------------------------------------------------


class Worker:
    """A forked process; what its ledger says is collected here."""

    def __init__(self, scene: Scene, works: Sequence[Work], seed: int, others: Sequence[Worker]) -> None:
        sys.stdout.flush()
        self.read_end, write_end = os.pipe()
        self.data = bytearray()
        self.pid = os.fork()
        if self.pid == 0:
            for worker in (self, *others):
                os.close(worker.read_end)
            _work(scene, works, seed, Ledger(write_end))
        os.close(write_end)
        os.set_blocking(self.read_end, False)
        self.is_alive = True

    def drain(self) -> bool:
        """Read what there is; False at its end."""
        while True:
            try:
                data = os.read(self.read_end, 1 << 20)
            except BlockingIOError:
                return True
            if not data:
                return False
            self.data += data

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self) -> None:
        """Read on to its end."""
        os.set_blocking(self.read_end, True)
        self.drain()
        os.waitpid(self.pid, 0)
        os.close(self.read_end)
        self.is_alive = False


def _work(scene: Scene, works: Sequence[Work], seed: int, ledger: Ledger) -> None:
    """Until it is killed; an error is told to the ledger."""

    def guarded(work: Work, rng: np.random.Generator) -> None:
        try:
            work(scene, project, ledger, rng)
        except BaseException:
            ledger.note("failed", error=traceback.format_exc())
            os._exit(1)

    try:
        project = Project.open(scene.folder)
        ledger.note("ready")
        generators = [np.random.default_rng((seed, position)) for position in range(len(works))]
        for work, rng in list(zip(works, generators, strict=True))[1:]:
            threading.Thread(target=guarded, args=(work, rng), daemon=True).start()
        guarded(works[0], generators[0])
    except BaseException:
        ledger.note("failed", error=traceback.format_exc())
    finally:
        os._exit(0)


# One round -----------------------------------------------------------------------------------------------------------


def half_written(scene: Scene) -> Iterator[str]:
    """Names of what is being written in the project and the run; or was, when the writer died."""
    embeddings = [*scene.folder.glob("embeddings/*/"), *scene.run_data.glob("augmented/*/*/")]
    folders = [scene.folder, scene.run, *embeddings]
    if (scene.folder / JOURNAL).exists():
        yield JOURNAL
    for folder in folders:
        with suppress(FileNotFoundError, NotADirectoryError):
            yield from (f"{STAGING}/{name}" for name in os.listdir(folder / STAGING))
    with suppress(FileNotFoundError):
        yield from (name for name in os.listdir(scene.folder / SNAPSHOTS) if name.startswith("."))
    with suppress(FileNotFoundError):
        yield from (name for name in os.listdir(scene.run) if name.endswith(".part"))


def has_torn_line(scene: Scene) -> bool:
    """Whether a record of the history lacks its end."""
    files = [path.read_bytes() for name in ("*.undo", "*.redo") for path in (scene.folder / HISTORY).glob(name)]
    return any(content and not content.endswith(b"\n") for content in files)


def wait_for_a_moment(scene: Scene, workers: Sequence[Worker], is_training: bool, rng: np.random.Generator) -> None:
    """Come back after some work, mostly while something is being written."""

    def wait(seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and all([worker.drain() for worker in workers]) and not until():
            pass

    if rng.random() < 0.9:  # else even while the project is being opened
        wait(PATIENCE, lambda: all(worker.data for worker in workers))
    if is_training:
        reports = int(rng.integers(MOST_REPORTS))
        wait(PATIENCE, lambda: sum(worker.data.count(b"report") for worker in workers) >= reports)
    wait(rng.uniform(0, LONGEST_WORK))
    if rng.random() < 0.8:
        wait(0.5, lambda: next(half_written(scene), None) is not None)
        wait(rng.exponential(0.0007))


@dataclass
class Outcome:
    findings: Findings
    was_writing: bool
    strokes: int = 0


def play_round(stage: Stage, kind: str, knowledge: Knowledge, rng: np.random.Generator) -> Outcome:
    """Work, kill, open again, compare."""
    scene, processes = stage.scene, KINDS[kind]
    workers: list[Worker] = []
    for works in processes:
        workers.append(Worker(scene, works, int(rng.integers(2**31)), workers))
    wait_for_a_moment(scene, workers, "training" in kind, rng)
    for position in rng.permutation(len(workers)):
        workers[position].kill()
        if any(worker.is_alive for worker in workers) and rng.random() < 0.5:  # the other one goes on a little
            time.sleep(rng.uniform(0, 0.05))
    told = [record for worker in workers for record in records(bytes(worker.data))]
    for what, details in told:
        if what == "run":
            scene.run = details["path"]
    outcome = Outcome(Findings(), next(half_written(scene), None) is not None or has_torn_line(scene))
    outcome.findings.unreadable += [details["error"] for what, details in told if what == "failed"]
    outcome.strokes = sum(what == "lifted" for what, _ in told)
    try:
        compare(scene, kind, knowledge, told, outcome.findings, rng)
    except Exception:
        outcome.findings.unreadable.append(traceback.format_exc())
    return outcome


def compare(scene: Scene, kind: str, knowledge: Knowledge, told: list, findings: Findings, rng: np.random.Generator) -> None:
    """Open the project again and look at all that must hold."""
    painting = [record for record in told if record[0] in ("stroke", "lifted")]
    acting = [record for record in told if record[0] not in ("stroke", "lifted", "ready", "run", "report", "failed")]
    touched = touched_frames(painting)
    imported = scene.imported if "importing" in kind else []
    with Project.open(scene.folder) as project:
        findings.unreadable += check_files(scene, project)
        findings.mixed_frames += check_frames(scene, project)
        if kind != "taking back":  # there, what was painted may be taken back
            check_strokes(knowledge, project, painting, imported, findings)
        findings.mixed_frames += check_actions(scene, knowledge, project, acting, touched, rng)
        findings.mixed_frames += check_frames(scene, project)
        if kind != "taking back":
            check_strokes(knowledge, project, [], imported, findings)
        knowledge.end_round(project)
    if "training" in kind:
        findings.unreadable += check_run(scene, scene.run)


def finish_the_run(scene: Scene) -> bool:
    """Go on with the run that was killed last, to its end; whether it has a result then."""
    if (scene.run / "result.json").exists():
        return True
    *_, result = train(RunFolder.create(scene.run, run_config(scene)))
    return RunFolder.open(scene.run).result() == result


# All rounds ----------------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    by_kind: Counter[str]
    kills_inside_a_write: int = 0
    lost_strokes: int = 0
    mixed_frames: int = 0
    unreadable: int = 0
    strokes: int = 0
    resumed_runs: int = 0

    @property
    def violations(self) -> int:
        return self.lost_strokes + self.mixed_frames + self.unreadable

    def count(self, number: int, kind: str, outcome: Outcome) -> None:
        self.by_kind[kind] += 1
        self.kills_inside_a_write += outcome.was_writing
        self.strokes += outcome.strokes
        for name in ("lost_strokes", "mixed_frames", "unreadable"):
            lines = getattr(outcome.findings, name)
            setattr(self, name, getattr(self, name) + len(lines))
            for line in lines:
                print(f"round {number}, {kind}: {name}: {line}")


def play(stage: Stage, rounds: int, kinds: Sequence[str], rng: np.random.Generator) -> Tally:
    tally, scene, order = Tally(Counter()), stage.scene, list[str]()
    training_run, training_data = scene.run, scene.run_data
    started, is_fresh_due = time.monotonic(), True
    for number in range(rounds):
        if is_fresh_due or number % ROUNDS_PER_PROJECT == 0:
            stage.fresh_project()
            with Project.open(scene.folder) as project:
                knowledge = Knowledge.of(project)
        order = order or rng.permutation(list(kinds)).tolist()
        kind = order.pop()
        if kind == "training":  # gone on with in later rounds, until it is finished
            scene.run, scene.run_data = training_run, training_data
            tally.resumed_runs += scene.run.exists() and RunFolder.open(scene.run).last_state.exists()
        else:
            scene.run, scene.run_data = stage.folder / "runs" / f"run_{number}", scene.folder
        outcome = play_round(stage, kind, knowledge, rng)
        tally.count(number, kind, outcome)
        is_fresh_due = bool(outcome.findings)
        if kind == "training":
            is_finished = (scene.run / "result.json").exists()
            training_run = scene.run.with_name(f"run_after_{number}") if is_finished else scene.run
        if (number + 1) % 20 == 0:
            print(
                f"{number + 1:4} rounds, {tally.kills_inside_a_write} kills inside a write, {tally.strokes} strokes, "
                f"{tally.violations} violations, {time.monotonic() - started:.0f} s",
                flush=True,
            )
    if tally.by_kind["training"] and not finish_the_run(replace(scene, run=training_run, run_data=training_data)):
        print("the last run of training does not end with a result")
        tally.unreadable += 1
    return tally


def main() -> int:
    parser = new_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="only this; may be given several times")
    arguments = parse(parser, quick={"rounds": 2, "kind": ["painting", "predicting"]})
    torch.set_num_threads(1)
    rng = np.random.default_rng(arguments.seed)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        stage = set_up(Path(folder), rng)
        print(f"set up in {time.monotonic() - started:.0f} s", flush=True)
        tally = play(stage, arguments.rounds, arguments.kind or list(KINDS), rng)
    result = {
        "seed": arguments.seed,
        "rounds": arguments.rounds,
        "by_kind": dict(tally.by_kind),
        "kills_inside_a_write": tally.kills_inside_a_write,
        "strokes": tally.strokes,
        "resumed_runs": tally.resumed_runs,
        "lost_strokes": tally.lost_strokes,
        "mixed_frames": tally.mixed_frames,
        "unreadable": tally.unreadable,
        "seconds": round(time.monotonic() - started, 1),
    }
    for name, value in result.items():
        print(f"{name:22} {value}")
    if arguments.json:
        print(json.dumps(result))
    return 1 if tally.violations else 0


if __name__ == "__main__":
    sys.exit(main())
