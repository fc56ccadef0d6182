"""`surgicalsam evaluate --instances`: tracks of a project or a dataset against those of another."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from surgicalsam_napari import cli
from surgicalsam_napari.exchange.exporting import export_frames
from surgicalsam_napari.phantom import PHANTOM_CLASSES, PhantomScene, write_phantom_clip
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.tracks import Span
from surgicalsam_napari.video import VideoReader

SIZE, COUNT, SEED = (96, 128), 12, 1
Run = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit code, and the lines on stdout and stderr, of a command line."""

    def run_line(*arguments: object) -> tuple[int, list[str], list[str]]:
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err.splitlines()

    return run_line


@pytest.fixture(scope="module")
def scene() -> PhantomScene:
    return PhantomScene(SEED, SIZE, COUNT, alike=2)


@pytest.fixture
def make(tmp_path: Path, scene: PhantomScene) -> Callable[..., Path]:
    """A project of the phantom clip with tracks: the exact ones, or those that a change of the table makes of them."""

    def project_with(name: str, change=lambda table: table, verified: bool = False) -> Path:
        video = write_phantom_clip(tmp_path / name, SEED, SIZE, COUNT, alike=2)
        folder = tmp_path / f"{name}.surgicalsam"
        with Project.create(folder, VideoReader(video), PHANTOM_CLASSES) as project:
            for index, frame in enumerate(scene):
                project.labels[index] = frame.labels
                project.tracks.write_numbers(index, frame.instances)
                if verified:
                    project.labels.verify(index)
            table = project.tracks.table
            for number, class_id in enumerate(scene.instruments, start=1):
                table = table.with_new(class_id, [Span(0, COUNT - 1, number)])
            project.tracks.edit("tracks", change(table))
        return folder

    return project_with


@pytest.fixture
def truth(make: Callable[..., Path]) -> Iterator[Path]:
    yield make("truth", verified=True)


def test_equal_tracks_score_one_hundred(run: Run, make: Callable[..., Path], truth: Path) -> None:
    code, out, _ = run("evaluate", "--instances", "--predictions", make("same"), truth, "--json")
    scores = json.loads(out[-1])
    assert code == 0
    assert scores["idf1"] == scores["hota"] == 100 and scores["ap50"] == pytest.approx(100)
    assert scores["id_switches_per_minute"] == scores["class_flips_per_minute"] == 0
    assert (scores["frames"], scores["instruments"]) == (COUNT, 2)


def test_a_swap_is_two_switches_in_the_table(run: Run, make: Callable[..., Path], truth: Path, tmp_path: Path) -> None:
    swapped = make("swapped", lambda table: table.swapped(1, 2, COUNT // 2))
    code, out, _ = run("evaluate", "--instances", "--predictions", swapped, truth, "--out", tmp_path / "scores")
    rows = {cells[1].strip(): cells[2].strip() for cells in (line.split("|") for line in out if line.startswith("| "))}
    assert code == 0 and out[0] == f"**swapped.surgicalsam on 2 instruments in {COUNT} frames of truth.surgicalsam**"
    assert rows["Switches of identity"] == "2"
    assert float(rows["Switches of identity per minute of video"]) == pytest.approx(2 * 60 * 25 / COUNT)
    assert float(rows["IDF1, %"]) == pytest.approx(50)
    assert (tmp_path / "scores" / "scores.csv").is_file()


@pytest.mark.parametrize("format", ["coco", "youtube-vis", "mots", "davis", "endovis2017"])
def test_a_dataset_with_tracks_is_scored_against_a_project(
    run: Run, make: Callable[..., Path], truth: Path, tmp_path: Path, format: str
) -> None:
    folder = make("exported", lambda table: table.swapped(1, 2, COUNT // 2), verified=True)
    with Project.open(folder) as project:
        for _ in export_frames(project, range(COUNT), tmp_path / "out", format):
            pass
    scores = json.loads(run("evaluate", "--instances", "--predictions", tmp_path / "out", truth, "--json")[1][-1])
    assert scores["id_switches"] == 2 and scores["idf1"] == pytest.approx(50)
    assert scores["ap50"] == pytest.approx(100)


def test_a_project_without_tracks_is_refused_with_the_remedy(run: Run, truth: Path, tmp_path: Path) -> None:
    video = write_phantom_clip(tmp_path / "plain", SEED, SIZE, COUNT, alike=2)
    Project.create(tmp_path / "plain.surgicalsam", VideoReader(video), PHANTOM_CLASSES).close()
    code, _, errors = run("evaluate", "--instances", "--predictions", tmp_path / "plain.surgicalsam", truth)
    assert code != 0 and "has no tracks" in errors[-1] and "surgicalsam track" in errors[-1]


def test_a_dataset_without_instances_is_refused(run: Run, truth: Path, tmp_path: Path) -> None:
    with Project.open(truth) as project:
        for _ in export_frames(project, range(COUNT), tmp_path / "plain", "indexed-png"):
            pass
    code, _, errors = run("evaluate", "--instances", "--predictions", tmp_path / "plain", truth)
    assert code != 0 and "tell the instruments of a class apart" in errors[-1]


def test_without_predictions_the_message_shows_the_command(run: Run, truth: Path) -> None:
    code, _, errors = run("evaluate", "--instances", truth)
    assert code == 2 and any("--predictions" in line for line in errors)


def test_a_truth_that_nobody_corrected_is_refused(run: Run, truth: Path, tmp_path: Path) -> None:
    video = write_phantom_clip(tmp_path / "open", SEED, SIZE, COUNT, alike=2)
    with Project.create(tmp_path / "open.surgicalsam", VideoReader(video), PHANTOM_CLASSES) as project:
        numbers = np.zeros(SIZE, np.uint8)
        project.tracks.write_numbers(0, numbers)
        project.tracks.edit("tracks", project.tracks.table.with_new(3, [Span(0, 1, 1)]))
    code, _, errors = run("evaluate", "--instances", "--predictions", truth, tmp_path / "open.surgicalsam")
    assert code != 0 and "no frame is corrected" in errors[-1]
