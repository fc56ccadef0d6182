"""Ctrl+Z, Ctrl+Shift+Z and Esc on the canvas of a real window, after strokes, clicks and corrections."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("qtpy.QtWidgets")

from canvas_mouse import CTRL, LEFT, SHIFT, CanvasMouse
from qtpy.QtCore import Qt, QThreadPool
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QWidget
from window import settle

from surgicalsam_napari.editing import clear_class
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.widgets.main_widget import MainWidget

DRIVER, SCISSORS, TIMEOUT = 3, 4, 60_000


@pytest.fixture
def dock(make_napari_viewer, qtbot, clip, bundled_tiny) -> Iterator[MainWidget]:
    """A window with an open clip, the Correct tab in view, and the needle driver selected."""
    viewer = make_napari_viewer(show=True)
    dock = MainWidget(viewer)
    viewer.window.add_dock_widget(dock, name="SurgicalSAM")
    settle(qtbot, dock)
    dock.open(clip)
    settle(qtbot, dock)
    dock.tabs.show_panel(dock.correct_panel)
    dock.session.select_class(DRIVER)
    dock.layers.labels.brush_size = 9
    qtbot.wait(50)
    yield dock
    settle(qtbot, dock)
    QThreadPool.globalInstance().waitForDone(TIMEOUT)
    dock.session.close()


@pytest.fixture
def mouse(dock) -> CanvasMouse:
    return CanvasMouse(dock.layers.viewer)


@pytest.fixture
def project(dock) -> Project:
    return dock.session.project


def click(button: QWidget) -> None:
    assert button.isEnabled()
    QTest.mouseClick(button, LEFT)


def state(project: Project) -> tuple:
    """The labels, the painted pixels and the provenance of all frames, to compare."""
    painted = [project.labels.painted(frame) for frame in range(len(project.labels))]
    return project.labels[:].tobytes(), np.stack(painted).tobytes(), project.labels.provenance_table().tobytes()


def undo(mouse: CanvasMouse) -> None:
    mouse.key(Qt.Key.Key_Z, CTRL)


def redo(mouse: CanvasMouse) -> None:
    mouse.key(Qt.Key.Key_Z, CTRL | SHIFT)


def stroke(dock: MainWidget, mouse: CanvasMouse, row: int) -> None:
    dock.layers.labels.mode = "paint"
    mouse.drag((row, 20), (row, 90))
    dock.layers.labels.mode = "pan_zoom"


def refine(dock: MainWidget, mouse: CanvasMouse, qtbot) -> None:
    """Click once with the tool, and wait for the preview."""
    tool = dock.correct_panel.refine.tool
    mouse.key(Qt.Key.Key_R)
    mouse.click(50, 60)
    qtbot.waitUntil(lambda: tool.refinement is not None, timeout=TIMEOUT)


def test_ctrl_z_after_accept_undoes_it(dock, mouse, project, qtbot, notes):
    before = state(project)
    refine(dock, mouse, qtbot)
    mouse.key(Qt.Key.Key_A)
    assert project.labels.is_edited(0, DRIVER)
    accepted = state(project)
    dock.layers.show_frame(7)
    undo(mouse)
    assert state(project) == before
    assert dock.layers.current_frame == 0
    assert notes == ["Undone: Refine Large Needle Driver in frame 0."]
    redo(mouse)
    assert state(project) == accepted


def test_strokes_and_corrections_are_undone_in_their_order(dock, mouse, project, qtbot):
    states = [state(project)]
    stroke(dock, mouse, 20)
    states.append(state(project))
    refine(dock, mouse, qtbot)
    mouse.key(Qt.Key.Key_A)
    mouse.key(Qt.Key.Key_Escape)
    states.append(state(project))
    stroke(dock, mouse, 80)
    states.append(state(project))
    assert len(set(states)) == 4
    for expected in reversed(states[:-1]):
        undo(mouse)
        assert state(project) == expected
    for expected in states[1:]:
        redo(mouse)
        assert state(project) == expected
    undo(mouse)
    undo(mouse)
    stroke(dock, mouse, 60)
    kept = state(project)
    redo(mouse)  # of the correction: something was done since
    assert state(project) == kept


def test_ctrl_z_works_while_the_video_is_selected(dock, mouse, project, qtbot):
    before = state(project)
    stroke(dock, mouse, 20)
    dock.layers.viewer.layers.selection.active = dock.layers.image
    undo(mouse)
    assert state(project) == before


def test_ctrl_z_undoes_the_last_click_first(dock, mouse, project, qtbot):
    refine(dock, mouse, qtbot)
    tool = dock.correct_panel.refine.tool
    mouse.click(30, 90)
    assert len(tool.refinement.clicks) == 2
    undo(mouse)
    assert len(tool.refinement.clicks) == 1
    undo(mouse)
    assert tool.refinement is None
    assert not project.labels[:].any()


def test_ctrl_z_never_undoes_an_action_on_many_frames(dock, mouse, project, notes):
    project.labels[2:6, 10:20, 10:20] = DRIVER
    for _report in clear_class(project, DRIVER, range(2, 6)):
        pass
    before = state(project)
    undo(mouse)
    assert state(project) == before
    assert notes == ["Press U to undo “Clear Large Needle Driver in frames 2 to 5”, in 4 frames."]


def test_ctrl_z_leaves_the_actions_of_an_earlier_window_alone(dock, mouse, project, clip, qtbot):
    project.labels[2, 10:20, 10:20] = DRIVER
    for _report in clear_class(project, DRIVER, [2]):
        pass
    before = state(project)
    dock.open(clip)
    settle(qtbot, dock)
    undo(mouse)
    assert state(dock.session.project) == before


def test_a_stroke_on_a_frame_that_is_verified_now_stays_until_it_is_unlocked(dock, mouse, project, notes):
    before = state(project)
    stroke(dock, mouse, 20)
    painted = project.labels[0]
    project.labels.verify(0)
    undo(mouse)
    assert notes == ["Frame 0 is verified. Unlock it (Shift+D) to change it."]
    np.testing.assert_array_equal(project.labels[0], painted)
    project.labels.unlock(0)
    undo(mouse)
    assert state(project) == before


def test_an_aborted_brush_stroke_leaves_the_frame_as_it_was(dock, mouse, project):
    before = state(project)
    dock.layers.labels.mode = "paint"
    mouse.click(30, 30, Qt.MouseButton.RightButton)  # napari's brush that encircles and fills
    mouse.move((30, 30), (30, 80), Qt.MouseButton.NoButton)
    assert (project.labels.provenance_table() == Provenance.EDITED).any()
    mouse.key(Qt.Key.Key_Escape)
    assert state(project) == before
    assert str(dock.layers.labels.mode) == "paint"


# Esc -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [Qt.Key.Key_R, Qt.Key.Key_W])
def test_esc_leaves_a_tool(dock, mouse, key, qtbot):
    panel = dock.correct_panel
    tool, switch = {
        Qt.Key.Key_R: (panel.refine.tool.mouse, panel.refine.switch),
        Qt.Key.Key_W: (panel.wrong_class.mouse, panel.wrong_class.switch),
    }[key]
    mouse.key(key)
    assert tool.is_on and switch.isChecked()
    mouse.key(Qt.Key.Key_Escape)
    assert not tool.is_on and not switch.isChecked()
    qtbot.wait(50)
    click(switch)
    assert tool.is_on
    QTest.keyClick(switch, Qt.Key.Key_Escape)  # the button has the keyboard focus
    assert not tool.is_on


def test_esc_leaves_the_brush_and_first_drops_an_unfinished_polygon(dock, mouse, project):
    labels = dock.layers.labels
    for mode in ("paint", "erase", "fill", "pick"):
        labels.mode = mode
        mouse.key(Qt.Key.Key_Escape)
        assert str(labels.mode) == "pan_zoom"
    labels.mode = "polygon"
    for place in ((20, 20), (20, 60), (60, 60)):
        mouse.click(*place)
    mouse.key(Qt.Key.Key_Escape)
    assert str(labels.mode) == "polygon"
    mouse.key(Qt.Key.Key_Escape)
    assert str(labels.mode) == "pan_zoom"
    assert not project.labels[:].any()
