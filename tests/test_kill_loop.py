"""A project is complete when it is opened again after a kill during work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.surgical_sam import FramePrediction
from surgicalsam_napari.store import Project
from surgicalsam_napari.video import VideoReader

KILL_LOOP = Path(__file__).parents[1] / "benchmarks" / "crash_safety" / "kill_loop.py"
KINDS = ("painting", "predicting", "importing", "taking back", "painting + importing", "painting + taking back")


@pytest.fixture
def project(clip: Path) -> Project:
    """A closed project in which one action has predicted every frame."""
    label_map = np.zeros((96, 128), np.uint8)
    label_map[:20] = 1
    score = np.array([0.9], np.float32)
    with Project.create(Project.default_folder(clip), VideoReader(clip), ENDOVIS2018) as new_project:
        with new_project.history.action("Segment") as action:
            for frame in range(4):
                prediction = FramePrediction((1,), label_map, score, score, np.array([True]), np.zeros(1, np.float32))
                new_project.labels.write_prediction(frame, prediction, 1, action=action)
        return new_project


@pytest.mark.skipif(sys.platform != "linux", reason="the benchmark forks")
@pytest.mark.slow
def test_a_kill_during_work_loses_and_mixes_no_frames() -> None:
    chosen = [argument for kind in KINDS for argument in ("--kind", kind)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        [sys.executable, str(KILL_LOOP), "--rounds", "6", "--seed", "0", "--json", *chosen],
        capture_output=True, text=True, timeout=280, env=environment,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    result = json.loads(process.stdout.splitlines()[-1])
    assert result["seed"] == 0
    assert result["by_kind"] == dict.fromkeys(KINDS, 1)
    assert result["lost_strokes"] == result["mixed_frames"] == result["unreadable"] == 0
    assert result["kills_inside_a_write"] > 0


def test_an_undo_killed_within_a_record_can_be_finished_and_redone(project: Project) -> None:
    with Project.open(project.folder) as killed:
        after = killed.labels[:]
        steps = killed.history.undoing()
        next(steps), next(steps)
        steps.close()
    with next((project.folder / "history").glob("*.redo")).open("ab") as file:
        file.write(b'{"frame": 1, "rows": {"prov')
    with Project.open(project.folder) as again:
        again.history.undo()
        assert not again.labels[:].any()
        again.history.redo()
        np.testing.assert_array_equal(again.labels[:], after)


def test_an_action_that_a_kill_has_half_removed_is_not_offered(project: Project) -> None:
    next((project.folder / "history").glob("*.undo")).unlink()
    with Project.open(project.folder) as again:
        assert again.history.to_undo is None
        assert again.history.undo() is None
