"""Give broken and hostile files of every kind to every command that reads them, and see what happens.

::

    python benchmarks/crash_safety/bad_inputs.py --json
    python benchmarks/crash_safety/bad_inputs.py --kind checkpoint --kind "dataset coco"

Each row is one input: a file that is cut, empty, exchanged, of wrong numbers, nested too deep, or made to run code, to fill
the memory or to lead out of its folder. The command runs in a process of its own, as a person would start it. It should end
with one clear message and the exit code 1 or 2. These are counted, and should be 0:

- `tracebacks`: an error that nobody foresaw. `crashes`: a signal.
- `hangs`: no end after 30 seconds of work, or two minutes. `memory`: over 3 GiB.
- `data_changed`: the input, or files of a person that the command was not given, are different afterwards.
- `code_executed`: code in the input ran.
- `silently_accepted`: exit code 0, and nothing says that something is wrong. A row that is accepted for a reason names it.
- `unclear`: an error without a message.

The same seed makes the same inputs. Needs Linux: it forks, and limits the memory.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a pool of threads does not survive a fork

import bad_datasets
import bad_models
import bad_projects
import bad_videos
import numpy as np
from bad_runs import Case, Row, Scene, run

sys.path.append(str(Path(__file__).parents[1]))
from common.options import new_parser, parse, print_json

from surgicalsam_napari import cli
from surgicalsam_napari.exchange.registry import EXPORT_FORMATS
from surgicalsam_napari.instruments import ENDOVIS2018, ENDOVIS_PARTS, ClassSet
from surgicalsam_napari.model.surgical_sam import FramePrediction
from surgicalsam_napari.model.zoo import bundled_checkpoint
from surgicalsam_napari.phantom import write_phantom_clip
from surgicalsam_napari.store import Project, Span, TrackTable
from surgicalsam_napari.video import VideoReader

SIZE, FRAMES = (96, 128), 4
MODULES = (bad_videos, bad_projects, bad_models, bad_datasets)
IMPORTED_LATE = (  # by commands: once here, and not again in every process
    "rich.progress", "torch._dynamo", "zarr", "cv2", "pydicom", "tifffile", "pycocotools.mask", "surgicalsam_napari.session",
    "surgicalsam_napari.store.backup", "surgicalsam_napari.store.checking", "surgicalsam_napari.exchange.import_preview",
    "surgicalsam_training.loop.trainer", "surgicalsam_training.learn.learning", "surgicalsam_training.scoring.evaluate",
)  # fmt: skip
COUNTED = {  # key of the result -> verdict of a row
    "tracebacks": "traceback",
    "hangs": "hang",
    "memory": "memory",
    "crashes": "crash",
    "unclear": "unclear",
    "silently_accepted": "silently accepted",
    "refused": "refused",
    "accepted_and_right": "accepted, and right",
}


# The intact examples ----------------------------------------------------------------------------------------------------


def set_up(folder: Path) -> None:
    """Write a video with its project, a backup, a checkpoint, a dataset of each format, and the data of a person."""
    write_phantom_clip(folder, size=SIZE, frame_count=FRAMES).rename(folder / "clip.mp4")
    shutil.copy(bundled_checkpoint(), folder / "light.safetensors")
    project, canary = folder / "clip.surgicalsam", folder / "canary"
    _write_project(project, folder / "clip.mp4", first_class=3)
    canary.mkdir()
    (canary / "notes.txt").write_text("notes of a person")
    shutil.copy(folder / "clip.mp4", canary / "patient.mp4")
    _write_project(canary / "patient.surgicalsam", canary / "patient.mp4", first_class=1)
    _surgicalsam("embed", folder / "clip.mp4", "--frames", "0")
    _surgicalsam("backup", project, folder / "clip.surgicalsam.zip")
    for name in EXPORT_FORMATS.keys() - set(bad_datasets.READ_ONLY):
        _surgicalsam("export", project, "--out", folder / "datasets" / name, "--format", name)
    bad_datasets.write_read_only(folder / "datasets")


def _write_project(folder: Path, video: Path, *, first_class: int) -> None:
    """Predictions, tracks, parts, strokes, a verified class, notes, a work log, a snapshot and a history."""
    label_map = np.zeros(SIZE, np.uint8)
    label_map[:20] = 2
    score = np.array([0.9], np.float32)
    prediction = FramePrediction((2,), label_map, score, score, np.array([True]), np.zeros(1, np.float32))
    tracks = TrackTable().with_new(2, [Span(0, FRAMES - 1, first_class)])
    classes = tuple(replace(instrument, parts=(1, 2)) for instrument in ENDOVIS2018)
    with Project.create(folder, VideoReader(video), ClassSet("EndoVis 2018", classes, ENDOVIS_PARTS)) as project:
        with project.action("Segment", FRAMES) as action:
            for frame in range(FRAMES):
                project.labels.write_prediction(frame, prediction, 1, action=action)
                project.tracks.write_numbers(frame, first_class * (label_map > 0), action=action)
            project.tracks.write_table(tracks, action=action)
        parts = project.open_parts()
        parts.labels[1, 5:15, 10:30] = 1
        parts.snapshots.create("by hand")
        parts.labels[2, 5:15, 10:30] = 1 + (first_class == 1)
        project.snapshots.create("by hand")
        project.labels[1, 40:50, 40:50] = first_class
        project.labels[2, 60:80, 60:80] = first_class + 1
        project.labels.verify(1, [first_class])
        project.notes.write(1, f"a note on class {first_class}")
        project.work_log.note_view(1, 2.5)


def _surgicalsam(*arguments: object) -> None:
    with redirect_stdout(sys.stderr):
        code = cli.main(list(map(str, arguments)))
    if code:
        raise SystemExit(f"surgicalsam {' '.join(map(str, arguments))} ended with {code}")


def _in_a_process(function: partial[None]) -> None:
    """Run it in a process of its own: its threads would not survive the forks of this one."""
    process = multiprocessing.get_context("fork").Process(target=function)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit("The intact examples could not be written; the reason is above.")


# The table ------------------------------------------------------------------------------------------------------------


def all_cases(seed: int) -> list[Case]:
    return [case for module in MODULES for case in module.cases(seed)]


def chosen(cases: Sequence[Case], kinds: Sequence[str] | None, every: int) -> list[Case]:
    """The cases of these kinds, or every n-th case of each kind."""
    if kinds:
        cases = [case for case in cases if case.kind in kinds]
    of_kind: dict[str, list[Case]] = {}
    for case in cases:
        of_kind.setdefault(case.kind, []).append(case)
    return [case for group in of_kind.values() for case in group[::every]]


_cases: list[Case] = []  # for the processes that `rows` forks: what prepares a case cannot be sent to them


def _row(number: int, scene: Scene, work: Path) -> Row:
    return run(_cases[number], scene, work / str(number))


def rows(cases: Sequence[Case], scene: Scene, work: Path, jobs: int) -> Iterator[Row]:
    _cases[:] = cases
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        yield from pool.imap(partial(_row, scene=scene, work=work), range(len(cases)))


def result_of(table: Sequence[Row], seed: int) -> dict[str, object]:
    counts = Counter(row.verdict for row in table)
    return {
        "tried": len(table),
        **{key: counts[verdict] for key, verdict in COUNTED.items()},
        "data_changed": sum(bool(row.data_changed) for row in table),
        "code_executed": sum(row.code_executed for row in table),
        "by_kind": dict(Counter(row.kind for row in table)),
        "longest_seconds": max((row.seconds for row in table), default=None),
        "most_megabytes": max((row.megabytes for row in table), default=None),
        "seed": seed,
        "rows": [asdict(row) for row in table],
    }


def main() -> int:
    parser = new_parser(__doc__)
    parser.add_argument("--kind", action="append", help="only inputs of this kind; may be given several times")
    parser.add_argument("--every", type=int, default=1, help="only every n-th input of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="commands at a time")
    arguments = parse(parser, {"every": 30})
    with tempfile.TemporaryDirectory() as temporary:
        folder, work = Path(temporary) / "examples", Path(temporary) / "work"
        folder.mkdir()
        for name in IMPORTED_LATE:
            importlib.import_module(name)
        _in_a_process(partial(set_up, folder))
        cases = chosen(all_cases(arguments.seed), arguments.kind, arguments.every)
        table = []
        for row in rows(cases, Scene(folder, folder / "canary"), work, arguments.jobs):
            table.append(row)
            if not row.is_fine:
                print(
                    f"{row.verdict:18} {row.kind}: {row.fault}: {row.message} {' '.join(row.data_changed)}", file=sys.stderr
                )
    result = result_of(table, arguments.seed)
    for name, value in result.items():
        if name != "rows":
            print(f"{name:20} {value}")
    if arguments.json:
        print_json(result)
    return 0 if all(row.is_fine for row in table) else 1


if __name__ == "__main__":
    sys.exit(main())
