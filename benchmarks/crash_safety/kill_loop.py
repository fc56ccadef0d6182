"""Kill processes that work in a project at random moments, open the project again, and check that nothing is lost.

In each round one or two processes paint, predict, import, undo or train, as the window does. They are killed (SIGKILL) after
up to 400 ms of work (a training: at any point), mostly during a write. The project is then opened again and compared with
the records that the processes sent through a pipe. These must hold:

- Every completed stroke is stored. The interrupted stroke is stored completely or not at all.
- The tables, the painted record and the labels of every frame are consistent. (Three variants of the bundled weights
  predict; their predictions differ in numbers and pixels.)
- Undoing an interrupted action restores exactly the state before it, except for later strokes.
- An interrupted undo can be finished.
- An interrupted training can be resumed.

Needs Linux: it forks, which saves the seconds of importing in each round.

`kills_inside_a_write` counts the rounds after which a partly written file was left in the folders. The last line printed
with `--json` is one JSON object; the exit code is 1 if anything was lost, mixed or unreadable.
"""

from __future__ import annotations

import copy
import importlib
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
    check_checksums,
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
    edit_and_undo,
    import_labels,
    paint,
    paint_beside_imports,
    predict,
    predict_and_undo,
    records,
    run_config,
    train_run,
)
from PIL import Image

sys.path.append(str(Path(__file__).parents[1]))
from common.options import new_parser, parse, print_json

from surgicalsam_napari.exchange.formats.indexed_png import write_classes, write_label_map
from surgicalsam_napari.inference.embed import embed_frames
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.digest import checkpoint_record
from surgicalsam_napari.model.zoo import bundled_checkpoint
from surgicalsam_napari.phantom import write_phantom_clip
from surgicalsam_napari.store import Project, Span, Track, TrackTable
from surgicalsam_napari.store.disk.files import STAGING
from surgicalsam_napari.store.disk.journal import JOURNAL
from surgicalsam_napari.store.history import FOLDER as HISTORY
from surgicalsam_napari.store.snapshots import FOLDER as SNAPSHOTS
from surgicalsam_napari.video import VideoReader
from surgicalsam_training.loop.trainer import train
from surgicalsam_training.run.run_folder import RunFolder

SIZE, FRAMES, CLASSES = (96, 128), 10, 3
ROUNDS_PER_PROJECT = 8  # then a new one: imports paint every pixel, and leave no pixel to predict
LONGEST_WORK = 0.4  # seconds
MOST_REPORTS = 12  # of a training, before it is killed: a whole run has about ten
IMPORTED_LATE = ("matplotlib.figure", "matplotlib.backends.backend_agg", "torch._dynamo")  # by training, again in every fork
PATIENCE = 20.0  # seconds, for these


def train_beside(scene: Scene, project: Project, ledger: Ledger, rng: np.random.Generator) -> None:
    train_run(scene, ledger)


KINDS: dict[str, tuple[tuple[Work, ...], ...]] = {  # processes, each with its threads
    "painting": ((paint,),),
    "predicting": ((predict,),),
    "importing": ((import_labels,),),
    "taking back": ((edit_and_undo,),),
    "training": ((train_beside,),),
    "painting + predicting": ((paint,), (predict,)),
    "painting + predicting, threads": ((paint, predict),),
    "painting + importing": ((paint_beside_imports,), (import_labels,)),
    "painting + taking back": ((paint,), (predict_and_undo,)),
    "painting + training": ((paint,), (train_beside,)),
}


# The project ---------------------------------------------------------------------------------------------------------


@dataclass
class Stage:
    """The folder of a scene, and the template of its projects.

    Attributes
    ----------
    template : the project that every new one is a copy of
    """

    folder: Path
    template: Path
    scene: Scene
    project_count: int = 0

    def new_project(self) -> None:
        """Copy the template, without the embeddings of two frames, so that predicting computes some."""
        if self.scene.folder != self.template:
            shutil.rmtree(self.scene.folder)
        self.project_count += 1
        self.scene.folder = self.template.with_name(f"round_{self.project_count}.surgicalsam")
        shutil.copytree(self.template, self.scene.folder)
        for frame in (FRAMES - 2, FRAMES - 1):
            next(self.scene.folder.glob(f"embeddings/*/embeddings/c.{frame}.0.0.0")).unlink()
        self.scene.snapshots.clear()


def set_up(folder: Path, rng: np.random.Generator) -> Stage:
    for name in IMPORTED_LATE:
        importlib.import_module(name)
    video = write_phantom_clip(folder, size=SIZE, frame_count=FRAMES)
    truth = [np.asarray(Image.open(path)) for path in sorted(video.with_name(f"{video.stem}_labels").glob("*.png"))]
    model = load_checkpoint(bundled_checkpoint(), device="cpu")
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
        for checkpoint in checkpoints[:2]:  # the third is recorded by the process that predicts with it
            project.record_checkpoint(checkpoint)
        for frame in (0, 2):
            project.labels[frame, 20:60] = truth[frame][20:60]
            project.tracks.write_numbers(frame, truth[frame])  # one instrument of each class
        # in no action, so that no undo takes the table away
        with project.labels.files.exclusively("The table of tracks"):
            project.labels.files.write_tracks(_one_of_each(classes).to_bytes())
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
        bundled_checkpoint(), tuple(classes.names), folder / "runs" / "run", training,
    )  # fmt: skip
    _check_predictions_differ(scene)
    return Stage(folder, project.folder, scene)


def _frequent_classes(classes: ClassSet, label_maps: list[np.ndarray]) -> ClassSet:
    """The classes with the most pixels; few, because predicting each class takes time."""
    pixels = np.bincount(np.concatenate(label_maps, axis=None), minlength=256)
    chosen = sorted(classes, key=lambda each: -pixels[each.id])[:CLASSES]
    return ClassSet("frequent", tuple(each for each in classes if each in chosen))


def _one_of_each(classes: ClassSet) -> TrackTable:
    return TrackTable(tuple(Track(c.id, c.id, (Span(0, FRAMES - 1, c.id),)) for c in sorted(classes, key=lambda c: c.id)))


def _write_datasets(folder: Path, project: Project, truth: list[np.ndarray]) -> Iterator[tuple[Path, dict[int, np.ndarray]]]:
    """Write a dataset of every frame, and one of every second frame, upside down."""
    for name, frames, flipped in (("all", range(FRAMES), False), ("second", range(0, FRAMES, 2), True)):
        label_maps = {frame: truth[frame][::-1] if flipped else truth[frame] for frame in frames}
        path = folder / name
        write_classes(path, project.classes, project.manifest.video_path.name)
        for frame, label_map in label_maps.items():
            write_label_map(path, frame, label_map, project.classes)
        yield path, label_maps


def _check_predictions_differ(scene: Scene) -> None:
    """Mixed states can only be detected if the predictions of the variants differ."""
    for frame in range(FRAMES):
        per_variant = [predictions[frame] for predictions in scene.predictions]
        predicted_iou = np.stack([prediction.predicted_iou for prediction in per_variant])
        assert all(len(np.unique(column)) == len(per_variant) for column in predicted_iou.T), frame
        assert len({prediction.label_map.tobytes() for prediction in per_variant}) == len(per_variant), frame


# A process that is killed --------------------------------------------------------------------------------------------


class Worker:
    """A forked process, and the data of its ledger."""

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
        """Read the available data; False at its end."""
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
        """Read the remaining data, and wait for the process to end."""
        os.set_blocking(self.read_end, True)
        self.drain()
        os.waitpid(self.pid, 0)
        os.close(self.read_end)
        self.is_alive = False


def _work(scene: Scene, works: Sequence[Work], seed: int, ledger: Ledger) -> None:
    """Work until the process is killed; an error is written to the ledger."""

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
    """Names of the partly written files in the project and the run."""
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
    """Whether a record of the history is incomplete."""
    files = [path.read_bytes() for name in ("*.undo", "*.redo") for path in (scene.folder / HISTORY).glob(name)]
    return any(content and not content.endswith(b"\n") for content in files)


def wait_for_a_moment(scene: Scene, workers: Sequence[Worker], is_training: bool, rng: np.random.Generator) -> None:
    """Return after some work, mostly during a write."""

    def wait(seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and all([worker.drain() for worker in workers]) and not until():
            pass

    if rng.random() < 0.9:  # otherwise return even while the project is being opened
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
    """Start the work, kill it, open the project again, and compare."""
    scene, processes = stage.scene, KINDS[kind]
    workers: list[Worker] = []
    for works in processes:
        workers.append(Worker(scene, works, int(rng.integers(2**31)), workers))
    wait_for_a_moment(scene, workers, "training" in kind, rng)
    for position in rng.permutation(len(workers)):
        workers[position].kill()
        if any(worker.is_alive for worker in workers) and rng.random() < 0.5:  # the other process continues for a moment
            time.sleep(rng.uniform(0, 0.05))
    ledger = [record for worker in workers for record in records(bytes(worker.data))]
    for what, details in ledger:
        if what == "run":
            scene.run = details["path"]
    outcome = Outcome(Findings(), next(half_written(scene), None) is not None or has_torn_line(scene))
    outcome.findings.unreadable += [details["error"] for what, details in ledger if what == "failed"]
    outcome.strokes = sum(what == "lifted" for what, _ in ledger)
    try:
        compare(scene, kind, knowledge, ledger, outcome.findings, rng)
    except Exception:
        outcome.findings.unreadable.append(traceback.format_exc())
    return outcome


def compare(
    scene: Scene, kind: str, knowledge: Knowledge, ledger: list, findings: Findings, rng: np.random.Generator
) -> None:
    """Open the project again and check all that must hold."""
    painting = [record for record in ledger if record[0] in ("stroke", "lifted")]
    acting = [record for record in ledger if record[0] not in ("stroke", "lifted", "ready", "run", "report", "failed")]
    touched = touched_frames(painting)
    imported = scene.imported if "importing" in kind else []
    with Project.open(scene.folder) as project:
        findings.unreadable += check_files(scene, project)
        findings.unreadable += check_checksums(project, rng)
        findings.mixed_frames += check_frames(scene, project)
        if kind != "taking back":  # this kind may undo strokes
            check_strokes(knowledge, project, painting, imported, findings)
        findings.mixed_frames += check_actions(scene, knowledge, project, acting, touched, rng)
        findings.mixed_frames += check_frames(scene, project)
        if kind != "taking back":
            check_strokes(knowledge, project, [], imported, findings)
        knowledge.end_round(project)
    if "training" in kind:
        findings.unreadable += check_run(scene, scene.run)


def finish_the_run(scene: Scene) -> bool:
    """Resume the last killed run until its end; returns whether it has a result."""
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
    started, needs_new_project = time.monotonic(), True
    for number in range(rounds):
        if needs_new_project or number % ROUNDS_PER_PROJECT == 0:
            stage.new_project()
            with Project.open(scene.folder) as project:
                knowledge = Knowledge.of(project)
        order = order or rng.permutation(list(kinds)).tolist()
        kind = order.pop()
        if kind == "training":  # resumed in later rounds, until it is finished
            scene.run, scene.run_data = training_run, training_data
            tally.resumed_runs += scene.run.exists() and RunFolder.open(scene.run).last_state.exists()
        else:
            scene.run, scene.run_data = stage.folder / "runs" / f"run_{number}", scene.folder
        outcome = play_round(stage, kind, knowledge, rng)
        tally.count(number, kind, outcome)
        needs_new_project = bool(outcome.findings)
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
        print("the last training run has no result")
        tally.unreadable += 1
    return tally


def main() -> int:
    parser = new_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="only this kind; may be given several times")
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
        print_json(result)
    return 1 if tally.violations else 0


if __name__ == "__main__":
    sys.exit(main())
