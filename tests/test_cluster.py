"""Process many videos with a real cluster of two processes; one of them is killed during the work."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("distributed")

from distributed import WorkerPlugin

from surgicalsam_napari import cli
from surgicalsam_napari.cluster import connection
from surgicalsam_napari.cluster.connection import Cluster, connected
from surgicalsam_napari.cluster.scheduling import RangeReport, VideoReport, VideoWork, work_on_cluster
from surgicalsam_napari.cluster.worker import FrameRange, ModelRecipe, work_on_range
from surgicalsam_napari.errors import ClusterError, ProjectError, VideoError
from surgicalsam_napari.inference import segment_frames
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.digest import checkpoint_record
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.phantom import write_phantom_clip
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.store.ownership import RUN_FOLDER, Ownership
from surgicalsam_napari.video import VideoReader

FRAMES = 12  # of the phantom clip
CLASSES = (1, 3)


class CountEmbeddedFrames(WorkerPlugin):
    """Makes a worker, also a restarted one, record each frame that it embeds in a file, and wait before each frame."""

    name = "count-embedded-frames"

    def __init__(self, log: str, seconds: float) -> None:
        self.log, self.seconds = log, seconds

    def setup(self, worker: object) -> None:
        log, seconds, embed = self.log, self.seconds, SurgicalSAM.embed

        def counted(model, frames, dtype="float16"):
            time.sleep(seconds)
            with open(log, "a") as file:
                file.write(f"{os.getpid()} {len(frames)}\n")
            return embed(model, frames, dtype)

        self.embed, SurgicalSAM.embed = embed, counted

    def teardown(self, worker: object) -> None:
        SurgicalSAM.embed = self.embed


class KnowTinyEncoder(WorkerPlugin):
    """Adds the tests' small encoder to a worker, also to a restarted one."""

    def setup(self, worker: object) -> None:
        import tiny_encoder  # noqa: F401


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with connected("local:2") as cluster:
        cluster.client.register_plugin(KnowTinyEncoder())
        yield cluster


@pytest.fixture
def clips(phantom_clip: Path, tmp_path: Path) -> list[Path]:
    return [Path(shutil.copy(phantom_clip, tmp_path / f"{name}.mp4")) for name in ("morning", "noon")]


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> SurgicalSAM:
    """Loaded from the file, as the workers do: other tests may have changed the shared model in memory."""
    return load_checkpoint(tiny_checkpoint, device="cpu")


@pytest.fixture
def recipe(tiny_checkpoint: Path, model: SurgicalSAM) -> ModelRecipe:
    return ModelRecipe(tiny_checkpoint, None, "cpu", None, checkpoint_record(model)["digest"], 1)


def opened(path: Path) -> Project:
    return Project.open_or_create(VideoReader(path), ENDOVIS2018)


def segmenting(model: SurgicalSAM, frames: range = range(FRAMES)):
    """Prepares the work of a video: both classes in these frames."""

    def prepare(path: Path) -> VideoWork:
        project = opened(path)
        return VideoWork(project, frames, CLASSES, project.record_checkpoint(checkpoint_record(model)))

    return prepare


def done_frames(project: Project) -> list[int]:
    return np.flatnonzero((project.labels.provenance_table() != Provenance.EMPTY).any(axis=1)).tolist()


def embedding_files(project: Project) -> dict[str, int]:
    """When each embedding was written, in ns."""
    return {path.name: path.stat().st_mtime_ns for path in project.folder.glob("embeddings/*/embeddings/c.*")}


@pytest.mark.slow
def test_workers_do_what_one_process_does_as_one_action_per_video(cluster, clips, model, recipe, tmp_path):
    with Project.create(tmp_path / "here.surgicalsam", VideoReader(clips[0]), ENDOVIS2018) as here:
        list(segment_frames(here, model, CLASSES, range(FRAMES)))
        expected = here.labels[:], here.labels.table("predicted_iou")
    reports = list(work_on_cluster(cluster, clips, segmenting(model), recipe))
    ranges = [report for report in reports if isinstance(report, RangeReport)]
    ended = [report for report in reports if isinstance(report, VideoReport)]
    assert [(report.video, report.done, report.failure) for report in ended] == [(clip, FRAMES, None) for clip in clips]
    for clip in clips:
        indices = [index for report in ranges if report.video == clip for index in report.frame_indices]
        assert sorted(indices) == list(range(FRAMES))
        with opened(clip) as project:
            np.testing.assert_array_equal(project.labels[:], expected[0])
            np.testing.assert_allclose(project.labels.table("predicted_iou"), expected[1], atol=1e-3)
            assert [(entry.name, entry.frame_count) for entry in project.history.entries()] == [
                (f"Segment 2 classes in {FRAMES} frames", FRAMES)
            ]
            project.history.undo()
            assert done_frames(project) == []
    assert len({report.worker for report in ranges}) == 2


def test_a_worker_keeps_its_model(cluster, clips, model, recipe):
    seen: dict[str, set[int]] = {}
    for frames in (range(2), range(2, 4)):
        for report in work_on_cluster(cluster, clips, segmenting(model, frames), recipe):
            if isinstance(report, RangeReport):
                seen.setdefault(report.worker, set()).add(report.model_loads)
    assert all(loads == {1} for loads in seen.values())


@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9")
@pytest.mark.slow
@pytest.mark.parametrize("is_repeat", [pytest.param(False, id="first run"), pytest.param(True, id="everything again")])
def test_a_killed_workers_frames_are_done_by_another_and_nothing_is_done_twice(
    cluster, clips, model, recipe, tmp_path, is_repeat
):
    """`is_repeat` predicts everything again: an earlier prediction by this checkpoint does not mean that a frame is done."""
    if is_repeat:
        list(work_on_cluster(cluster, clips, segmenting(model), recipe))
        with opened(clips[0]) as project:
            shutil.rmtree(project.folder / "embeddings" / model.encoder_digest)
    log = tmp_path / "embedded.txt"
    cluster.client.register_plugin(CountEmbeddedFrames(str(log), seconds=0.15))
    seen_before: dict[str, int] = {}
    killed: list[int] = []

    def kill_when_busy(project: Project) -> None:
        while len(files := embedding_files(project)) < 3:
            time.sleep(0.02)
        seen_before.update(files)
        killed.append(int(log.read_text().splitlines()[-1].split()[0]))
        os.kill(killed[0], signal.SIGKILL)

    with opened(clips[0]) as project:
        killer = threading.Thread(target=kill_when_busy, args=(project,))
        killer.start()
        reports = list(work_on_cluster(cluster, clips, segmenting(model), recipe))
        killer.join()
    cluster.client.unregister_worker_plugin(CountEmbeddedFrames.name)

    assert [report.failure for report in reports if isinstance(report, VideoReport)] == [None, None]
    assert len({line.split()[0] for line in log.read_text().splitlines()} - set(map(str, killed))) >= 1
    for clip in clips:
        with opened(clip) as project:
            assert done_frames(project) == list(range(FRAMES))
            last = project.history.to_undo
            recorded = [index for index, _ in project.history.joined(last.number).records()]
            assert set(recorded) == set(range(FRAMES))
            assert len(recorded) <= FRAMES + 1  # the frame that the killed worker was about to write
            project.history.undo()
            assert len(done_frames(project)) == (FRAMES if is_repeat else 0)
    with opened(clips[0]) as project:
        assert embedding_files(project).items() >= seen_before.items()
    embedded = sum(int(line.split()[1]) for line in log.read_text().splitlines())
    to_embed = FRAMES if is_repeat else 2 * FRAMES
    assert to_embed <= embedded <= to_embed + 2  # frames that the killed worker had computed but not yet written


def test_closing_the_run_stops_the_workers_and_the_rest_is_done_later(cluster, clips, model, recipe, tmp_path):
    cluster.client.register_plugin(CountEmbeddedFrames(str(tmp_path / "log.txt"), seconds=0.3))
    reports = work_on_cluster(cluster, clips[:1], segmenting(model), recipe)
    first = next(reports)
    reports.close()
    cluster.client.unregister_worker_plugin(CountEmbeddedFrames.name)
    with opened(clips[0]) as project:
        done = done_frames(project)
        assert set(first.frame_indices) <= set(done)
        assert len(done) < FRAMES
        assert [entry.frame_count for entry in project.history.entries()] == [len(done)]
        time.sleep(0.5)
        assert done_frames(project) == done  # no worker continues to write
    assert list(work_on_cluster(cluster, clips[:1], segmenting(model), recipe))[-1].failure is None


def test_a_video_that_fails_does_not_stop_the_others(cluster, clips, model, recipe, tmp_path):
    missing = tmp_path / "missing.mp4"
    moved = Path(shutil.copy(clips[0], tmp_path / "moved.mp4"))
    prepare = segmenting(model, range(4))

    def prepare_and_lose(path: Path) -> VideoWork:
        work = prepare(path)
        if path == moved:  # as on a worker that does not see this folder
            moved.rename(tmp_path.parent / "out_of_sight.mp4")
        return work

    shutil.rmtree(Project.default_folder(clips[1]), ignore_errors=True)
    for clip in clips:  # a file with the same content would be used instead of the lost one
        clip.rename(clip.with_suffix(".bak"))
    other = write_phantom_clip(tmp_path / "other", size=(96, 128), frame_count=4)
    reports = list(work_on_cluster(cluster, [missing, moved, other], prepare_and_lose, recipe))
    failures = {report.video: report.failure for report in reports if isinstance(report, VideoReport)}
    assert isinstance(failures[missing], VideoError)
    assert isinstance(failures[moved], ClusterError)
    assert "The worker tcp://" in str(failures[moved])
    assert "same paths" in str(failures[moved])
    assert failures[other] is None


def test_weights_that_differ_on_a_worker_are_refused(cluster, clips, model, recipe):
    other = ModelRecipe(recipe.checkpoint, None, "cpu", None, "0123456789abcdef", 1)
    report = list(work_on_cluster(cluster, clips[:1], segmenting(model), other))[-1]
    assert "0123456789abcdef here" in str(report.failure)
    with opened(clips[0]) as project:
        assert done_frames(project) == project.history.entries() == []


def test_two_runs_do_not_share_a_project(cluster, clips, model, recipe):
    with opened(clips[0]) as project:
        claim = Ownership(project.folder, RUN_FOLDER)
        assert claim.claim()
        report = list(work_on_cluster(cluster, clips[:1], segmenting(model), recipe))[-1]
        assert isinstance(report.failure, ProjectError)
        assert "another run" in str(report.failure)
        claim.release()
    assert list(work_on_cluster(cluster, clips[:1], segmenting(model, range(2)), recipe))[-1].failure is None


def test_a_worker_that_does_not_see_the_runs_lock_writes_nothing(cluster, clips, recipe):
    with opened(clips[0]) as project:
        claim = Ownership(project.folder, RUN_FOLDER)
        assert claim.claim()
        owner, record = claim.owner, (project.folder / RUN_FOLDER / "owner.json").read_text()
        claim.release()
        task = FrameRange(project.folder, (0, 1), owner, recipe, None)
        ended = cluster.client.submit(work_on_range, task, pure=False).result()
        assert (ended.frame_indices, ended.failure) == ((), None)  # the run is over
        (project.folder / RUN_FOLDER / "owner.json").write_text(record)
        refused = cluster.client.submit(work_on_range, task, pure=False).result()
        assert "but not its lock" in str(refused.failure)
        assert not embedding_files(project)


@pytest.fixture
def run(capsys, tiny_checkpoint, cluster):
    def run(*arguments, on=cluster.client.scheduler.address):
        capsys.readouterr()
        arguments = [*map(str, arguments), "--checkpoint", str(tiny_checkpoint), "--device", "cpu", "--cluster", on]
        code = cli.main(arguments)
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), [line for line in printed.err.splitlines() if line.startswith("surgicalsam")]

    return run


def test_the_command_line_reports_each_video_and_resumes(run, clips, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"not a video")
    code, out, errors = run("segment", clips[0], bad, clips[1], "--all", "--frames", ":4", "--out", tmp_path / "o", "--json")
    record = json.loads(out[-1])
    assert code == len(errors) == 1
    assert [failure["video"] for failure in record["failures"]] == [str(bad)]
    assert [(video["video"], video["segmented"]) for video in record["videos"]] == [(str(clip), 4) for clip in clips]
    assert sum(worker["frames"] for worker in record["workers"]) == 8
    assert len(list((tmp_path / "o" / "noon").glob("*.png"))) == 4
    code, out, _ = run("segment", *clips, "--all", "--frames", ":6", "--json")
    again = json.loads(out[-1])["videos"]
    assert code == 0
    assert [(video["segmented"], video["skipped"]) for video in again] == [(2, 4), (2, 4)]
    with opened(clips[0]) as project:  # each run and its vote are one action
        names = [entry.name for entry in project.history.entries()]
        assert names == ["Segment 7 classes in 4 frames", "Segment 7 classes in 2 frames"]
        assert all(project.tracks.table.in_frame(frame) for frame in range(6))
    code, out, _ = run("embed", *clips, "--frames", ":8")
    assert code == 0
    assert all("2 of 8 frames embedded" in line for line in out)


def test_mistakes_about_clusters_get_one_line(run, clips, monkeypatch):
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 1.0)
    code, _, errors = run("embed", clips[0], on="tcp://127.0.0.1:9")
    assert code == len(errors) == 1
    assert "dask scheduler" in errors[0]
    code, _, errors = run("embed", clips[0], on="local:0")
    assert (code, len(errors)) == (2, 1)
    assert "local:2" in errors[0]
    monkeypatch.setitem(sys.modules, "distributed", None)
    code, _, errors = run("embed", clips[0], on="local:2")
    assert code == len(errors) == 1
    assert 'pip install "surgicalsam-napari[cluster]"' in errors[0]
