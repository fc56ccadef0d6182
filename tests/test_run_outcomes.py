"""The line that a run of Segment ends with: what was found, what was left alone, and how to go on."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("qtpy.QtWidgets")

from qtpy.QtCore import Qt, QThreadPool
from window import settle

from surgicalsam_napari.store import Provenance
from surgicalsam_napari.widgets.main_widget import MainWidget
from surgicalsam_napari.widgets.parts.frame_scope import THIS_FRAME

DRIVER, SCISSORS, FRAMES, TIMEOUT = 3, 4, 12, 60_000
NAME, OTHER = "Large Needle Driver", "Monopolar Curved Scissors"


@pytest.fixture
def dock(make_napari_viewer, qtbot, clip, bundled_tiny) -> Iterator[MainWidget]:
    viewer = make_napari_viewer()
    dock = MainWidget(viewer)
    viewer.window.add_dock_widget(dock, name="SurgicalSAM")
    settle(qtbot, dock)
    dock.open(clip)
    settle(qtbot, dock)
    dock.session.select_class(DRIVER)
    yield dock
    dock.segment_panel.run.cancel()
    settle(qtbot, dock)
    QThreadPool.globalInstance().waitForDone(TIMEOUT)  # the trial frame that measures the speed
    dock.session.close()


def predict_everywhere(dock: MainWidget, monkeypatch, class_id: int | None, seconds: float = 0.0) -> None:
    """The model predicts this class, or nothing, in the whole picture of every frame."""
    predict = dock.session.model.predict

    def predicted(*arguments):
        time.sleep(seconds)
        return [
            replace(
                each,
                label_map=np.full_like(each.label_map, class_id or 0),
                present=np.array([id == class_id for id in each.class_ids]),
            )
            for each in predict(*arguments)
        ]

    monkeypatch.setattr(dock.session.model, "predict", predicted)


def segment(qtbot, dock: MainWidget) -> str:
    """Press Segment; the line at the end."""
    qtbot.mouseClick(dock.segment_panel.segment, Qt.MouseButton.LeftButton)
    assert dock.segment_panel.run.is_running and not dock.segment_panel.outcome.isVisibleTo(dock.segment_panel)
    settle(qtbot, dock)
    assert dock.segment_panel.outcome.isVisibleTo(dock.segment_panel)
    return dock.segment_panel.outcome.text()


def test_a_run_says_in_how_many_frames_it_found_the_class(dock, qtbot, monkeypatch):
    predict_everywhere(dock, monkeypatch, DRIVER)
    assert segment(qtbot, dock) == f"Found {NAME} in 12 of 12 frames."
    dock.segment_panel.scope.choice.setCurrentText(THIS_FRAME)
    assert segment(qtbot, dock) == f"Found {NAME} in 1 of 1 frame."


def test_verified_and_corrected_frames_are_named_as_left_alone(dock, qtbot, monkeypatch):
    predict_everywhere(dock, monkeypatch, DRIVER)
    dock.session.project.labels.verify(2)
    dock.session.project.labels.verify(3, [DRIVER])
    dock.layers.labels.paint((5, 40, 40), DRIVER)
    line = segment(qtbot, dock)
    assert line.startswith(f"Found {NAME} in 10 of 12 frames. 2 verified frames were left alone.")
    assert line.endswith("1 corrected frame was not painted over.")
    assert dock.session.project.labels.provenance(2, DRIVER) == Provenance.VERIFIED


def test_a_class_that_is_found_nowhere_says_what_to_do(dock, qtbot, monkeypatch):
    predict_everywhere(dock, monkeypatch, None)
    expected = f"Not found in any of 12 frames: {NAME}. If you can see it, paint it in one frame, then Learn (Train tab)."
    assert segment(qtbot, dock) == expected
    predict_everywhere(dock, monkeypatch, SCISSORS)
    qtbot.mouseClick(dock.segment_panel.all_classes, Qt.MouseButton.LeftButton)
    line = segment(qtbot, dock)
    assert line.startswith(f"Found {OTHER} in 12 of 12 frames. Not found in any of 12 frames: ")
    assert NAME in line and line.endswith(
        "If you can see one of them, paint one of them in one frame, then Learn (Train tab)."
    )


def test_a_cancelled_run_says_after_how_many_frames_and_resumes_with_the_others(dock, qtbot, monkeypatch):
    panel = dock.segment_panel
    predict_everywhere(dock, monkeypatch, DRIVER, seconds=0.1)
    panel.run.reported.connect(lambda report: report.done == 2 and report.total == FRAMES and panel.progress.cancel.click())
    line = segment(qtbot, dock)
    done = panel.run.findings.done
    assert 2 <= done < FRAMES and line.startswith(
        f"Cancelled after {done} of 12 frames. Found {NAME} in {done} of {done} frames."
    )
    assert panel.outcome.button.text() == f"Resume: {FRAMES - done} frames"
    first = set(np.flatnonzero(dock.session.project.labels.provenance_table()[:, DRIVER - 1] != Provenance.EMPTY))
    resumed: list[int] = []
    panel.run.reported.connect(lambda report: resumed.append(report.frame_index) if not panel.run.is_voting else None)
    qtbot.mouseClick(panel.outcome.button, Qt.MouseButton.LeftButton)
    settle(qtbot, dock)
    assert set(resumed) == set(range(FRAMES)) - first
    assert not panel.outcome.button.isVisibleTo(panel)
    assert (dock.session.project.labels.provenance_table()[:, DRIVER - 1] != Provenance.EMPTY).all()


def test_a_failed_run_says_what_was_done_and_resumes(dock, qtbot, monkeypatch):
    panel, run = dock.segment_panel, dock.session.segment

    def fail_after_three(*arguments, **options):
        for report in run(*arguments, **options):
            yield report
            if report.done == 3:
                raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(dock.session, "segment", fail_after_three)
    assert segment(qtbot, dock).startswith("Stopped after 3 of 12 frames.")
    assert "CUDA out of memory" in panel.message.text()
    assert panel.outcome.button.text() == "Resume: 9 frames"


def test_the_line_is_about_the_open_project(dock, qtbot, monkeypatch, tmp_path, phantom_clip):
    predict_everywhere(dock, monkeypatch, DRIVER)
    segment(qtbot, dock)
    dock.open(Path(shutil.copy(phantom_clip, tmp_path / "other.mp4")))
    settle(qtbot, dock)
    assert not dock.segment_panel.outcome.isVisibleTo(dock.segment_panel)
