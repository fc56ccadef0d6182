"""Hard cases of instances in the real window: many specks, a cut, a class that changes, old projects, a lost share."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("qtpy.QtWidgets")

from canvas_mouse import CanvasMouse
from qtpy.QtCore import Qt, QThreadPool

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.surgical_sam import FramePrediction
from surgicalsam_napari.store import Project
from surgicalsam_napari.video import VideoReader, write_video
from surgicalsam_napari.widgets.main_widget import MainWidget
from surgicalsam_napari.widgets.source import lost_folder

DRIVER, SCISSORS = 3, 4
COUNT, CUT, TIMEOUT = 12, 6, 60_000
SIZE = 288, 320
LEFT, RIGHT = (slice(60, 200), slice(0, 80)), (slice(60, 200), slice(230, 320))
IN_LEFT, IN_RIGHT = (120, 40), (120, 280)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project of two needle drivers, predicted, before and after a cut."""
    rng = np.random.default_rng(0)
    scenes = [rng.integers(0, 255, (*SIZE, 3), np.uint8) for _ in range(2)]
    pictures = [scenes[index >= CUT] for index in range(COUNT)]
    (tmp_path / "share").mkdir()
    video = write_video(tmp_path / "share" / "cut.mp4", pictures, 25.0) or tmp_path / "share" / "cut.mp4"
    with Project.create(tmp_path / "share" / "cut.surgicalsam", VideoReader(video), ENDOVIS2018) as project:
        predict(project, {index: (DRIVER, DRIVER) for index in range(COUNT)})
        return project.folder


def predict(project: Project, classes: dict[int, tuple[int, int]]) -> None:
    """Write the classes of the left and the right instrument, by frame."""
    score = np.ones(2, np.float32)
    with project.action("Segment", len(classes)) as action:
        for frame, (left, right) in classes.items():
            labels = np.zeros(SIZE, np.uint8)
            labels[LEFT], labels[RIGHT] = left, right
            present = np.array([DRIVER in (left, right), SCISSORS in (left, right)])
            predicted = FramePrediction((DRIVER, SCISSORS), labels, score, score, present, score * 0)
            project.labels.write_prediction(frame, predicted, 1, action=action)


@pytest.fixture
def dock(make_napari_viewer, qtbot, tiny_checkpoint, monkeypatch) -> Iterator[MainWidget]:
    """A window without a video."""
    monkeypatch.setattr("surgicalsam_napari.model.zoo.bundled_checkpoint", lambda: tiny_checkpoint)
    monkeypatch.setattr(lost_folder, "TRY_AGAIN_MS", 50)
    dock = MainWidget(make_napari_viewer())
    dock.layers.viewer.window.add_dock_widget(dock, name="SurgicalSAM")
    settle(qtbot, dock)
    yield dock
    settle(qtbot, dock)
    QThreadPool.globalInstance().waitForDone(TIMEOUT)
    dock.session.close()


def show(qtbot, dock: MainWidget, folder: Path) -> Project:
    """Open the project, with the section Instances in view."""
    dock.open(folder)
    settle(qtbot, dock)
    dock.tabs.show_panel(dock.correct_panel)
    dock.correct_panel._folds[dock.correct_panel.instances].open()
    dock.session.select_class(DRIVER)
    settle(qtbot, dock)
    return dock.session.project


def settle(qtbot, dock: MainWidget) -> None:
    qtbot.waitUntil(lambda: not dock.is_busy, timeout=TIMEOUT)
    dock.changes.emit_now()
    qtbot.wait(60)


def press(qtbot, dock: MainWidget, button) -> None:
    dock.reveal(button)
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    settle(qtbot, dock)


def titles(project: Project, frame: int) -> list[str]:
    table = project.tracks.table
    return sorted(table.title(track, project.classes) for track in table.in_frame(frame).values())


def test_more_than_255_instances_name_the_frame_and_the_remedy_and_nothing_is_lost(dock, qtbot, folder):
    project, section = show(qtbot, dock, folder), dock.correct_panel.instances
    specks = np.zeros(SIZE, np.uint8)
    for row in range(0, 288, 18):
        for column in range(0, 306, 18):
            specks[row : row + 9, column : column + 9] = DRIVER  # 272 of them
    for frame in range(COUNT):
        project.labels.write_edit(frame, specks if frame == CUT else np.zeros_like(specks))
    press(qtbot, dock, section.find_button)
    assert "Frame 6 has more than 255 instances: the smallest got no number. Remove specks first" in section.outcome.text()
    assert len(project.tracks.table.in_frame(CUT)) == 255 and np.array_equal(project.labels[CUT], specks)


def test_tracks_end_at_a_cut_and_a_person_may_join_them_over_it(dock, qtbot, folder):
    project, section, mouse = show(qtbot, dock, folder), dock.correct_panel.instances, CanvasMouse(dock.layers.viewer)
    press(qtbot, dock, section.find_button)
    assert section.outcome.text().startswith("4 instances followed in 12 frames.")
    assert not set(titles(project, CUT - 1)) & set(titles(project, CUT))
    dock.layers.show_frame(CUT - 1)
    press(qtbot, dock, section.same_button)
    mouse.click(*IN_LEFT)
    dock.layers.show_frame(CUT)
    mouse.click(*IN_LEFT)
    settle(qtbot, dock)
    assert len(set(titles(project, CUT - 1)) & set(titles(project, CUT))) == 1
    press(qtbot, dock, section.find_button)  # what a person joined stays joined
    assert len(set(titles(project, CUT - 1)) & set(titles(project, CUT))) == 1


def test_a_class_that_changes_in_a_track_is_named_and_put_right_with_one_action(dock, qtbot, folder):
    project, section, mouse = show(qtbot, dock, folder), dock.correct_panel.instances, CanvasMouse(dock.layers.viewer)
    predict(project, {index: (DRIVER, SCISSORS) for index in (4, 5)})
    press(qtbot, dock, section.find_button)
    assert dock.correct_panel.instances.names.name_at(3, *IN_RIGHT).startswith("Large Needle Driver")
    name = dock.correct_panel.instances.names.name_at(4, *IN_RIGHT)
    assert name.startswith("Large Needle Driver") and name.endswith(", here Monopolar Curved Scissors")
    section.right_class.show_class(DRIVER)
    section.refresh()
    dock.layers.show_frame(4)
    press(qtbot, dock, section.class_button)
    mouse.click(*IN_RIGHT)
    settle(qtbot, dock)
    assert project.labels[4][IN_RIGHT] == project.labels[5][IN_RIGHT] == DRIVER
    assert "Undo (U) takes it back." in section.outcome.text()


def test_a_project_from_before_shows_how_to_find_its_instances(dock, qtbot, folder):
    shutil.rmtree(folder / "instances")
    shutil.rmtree(folder / "voted")
    (folder / "tracks.json").unlink(missing_ok=True)
    (folder / "files.json").unlink()
    manifest = json.loads((folder / "project.json").read_text())
    del manifest["has_file_records"]
    (folder / "project.json").write_text(json.dumps(manifest))
    project, section = show(qtbot, dock, folder), dock.correct_panel.instances
    assert "Find the instances, then each region has a name" in section.missing.text()
    press(qtbot, dock, section.find_button)
    assert len(titles(project, 0)) == 2


def test_a_share_that_goes_away_while_instances_are_found_says_so_and_finding_again_goes_on(dock, qtbot, folder):
    project, section = show(qtbot, dock, folder), dock.correct_panel.instances
    before, share = project.labels[:].copy(), folder.parent
    section.run.reported.connect(lambda report: report.done == 3 and share.rename(share.with_name("away")))
    dock.reveal(section.find_button)
    qtbot.mouseClick(section.find_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not section.run.is_running, timeout=TIMEOUT)
    section.run.reported.disconnect()
    section.run.reported.connect(section.strip._on_report)
    assert "Connect its disk or share again" in section.message.text()
    share.with_name("away").rename(share)
    settle(qtbot, dock)
    press(qtbot, dock, section.find_button)
    assert len(titles(project, 0)) == len(titles(project, COUNT - 1)) == 2
    assert np.array_equal(project.labels[:], before)


def test_parts_have_no_instances_of_their_own(dock, qtbot, folder):
    project, section = show(qtbot, dock, folder), dock.correct_panel.instances
    dock.session.add_part("Shaft")
    dock.session.show_parts(True)
    settle(qtbot, dock)
    assert not section.find_button.isEnabled() and "Switch to the instruments" in section.missing.text()
    dock.session.show_parts(False)
    settle(qtbot, dock)
    assert dock.session.project is project and section.find_button.isEnabled()
