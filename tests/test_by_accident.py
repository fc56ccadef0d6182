"""Nothing changes by accident: real mouse and keys in a real window, and what is the same afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("qtpy.QtWidgets")

from canvas_mouse import CTRL, LEFT, CanvasMouse, turn_wheel
from qtpy.QtCore import QPoint, Qt, QThreadPool
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractSpinBox, QComboBox, QDialog, QSlider, QSpinBox, QTabBar, QVBoxLayout, QWidget
from window import settle

from surgicalsam_napari.model.surgical_sam import FramePrediction
from surgicalsam_napari.phantom import write_phantom_clip
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.widgets.main_widget import MainWidget

DRIVER, SCISSORS, PROBE = 3, 4, 5
FRAMES, TIMEOUT = 12, 60_000


@pytest.fixture
def dock(make_napari_viewer, qtbot, clip, bundled_tiny) -> Iterator[MainWidget]:
    """A window with an open clip, the Correct tab in view, and the needle driver selected."""
    viewer = make_napari_viewer(show=True)
    dock = MainWidget(viewer)
    viewer.window.add_dock_widget(dock, name="SurgicalSAM")
    settle(qtbot, dock)
    open_in(dock, clip, qtbot)
    dock.tabs.show_panel(dock.correct_panel)
    dock.session.select_class(DRIVER)
    viewer.reset_view()
    qtbot.wait(50)
    yield dock
    settle(qtbot, dock)
    QThreadPool.globalInstance().waitForDone(TIMEOUT)
    dock.session.close()


@pytest.fixture
def mouse(dock) -> CanvasMouse:
    return CanvasMouse(dock.layers.viewer)


@pytest.fixture
def other_clip(tmp_path) -> Path:
    return write_phantom_clip(tmp_path / "other", size=(160, 128), frame_count=6)


def open_in(dock: MainWidget, path: Path, qtbot) -> None:
    dock.open(path)
    settle(qtbot, dock)


def click(button: QWidget) -> None:
    assert button.isEnabled()
    QTest.mouseClick(button, LEFT)


def predict(project: Project, worst: dict[int, tuple[int, float]] | None = None) -> None:
    """Predict a needle driver and scissors everywhere, with a high IoU except for these classes in these frames."""
    label_map = np.zeros(project.labels.shape[1:], np.uint8)
    label_map[20:50, 30:60], label_map[60:80, 70:110] = DRIVER, SCISSORS
    for frame in range(len(project.labels)):
        iou = np.full(2, 0.95, np.float32)
        if worst is not None and frame in worst:
            iou[(DRIVER, SCISSORS).index(worst[frame][0])] = worst[frame][1]
        present, none = np.ones(2, bool), np.zeros(2, np.float32)
        score = np.full(2, 0.99, np.float32)
        project.labels.write_prediction(frame, FramePrediction((DRIVER, SCISSORS), label_map, iou, score, present, none))


def stored(project: Project) -> dict[str, bytes]:
    """Everything that is stored about the labels, by file; without what holds only fill values."""
    folders = ("labels", "painted", "provenance", "before_verified", "predicted_iou", "presence", "predicted_by")
    files = [path for folder in folders for path in (project.folder / folder).glob("c.*")]
    content = {f"{path.parent.name}/{path.name}": path.read_bytes() for path in files}
    return {name: data for name, data in content.items() if name.startswith(("labels", "painted")) or any(data)}


# Strokes ---------------------------------------------------------------------------------------------------------------


def test_a_stroke_and_its_undo_leave_no_trace_also_after_a_restart(dock, mouse, clip, qtbot):
    project = dock.session.project
    predict(project)
    before = stored(project)
    labels = dock.layers.labels
    labels.brush_size, labels.mode = 9, "paint"
    mouse.drag((30, 40), (70, 100))
    labels.mode = "fill"
    mouse.click(5, 5)
    assert (project.labels[0] == DRIVER).sum() > 96 * 128 / 2
    assert project.labels.is_edited(0, DRIVER)
    for _ in range(2):
        mouse.key(Qt.Key.Key_Z, CTRL)
    assert stored(project) == before
    mouse.key(Qt.Key.Key_Z, CTRL | Qt.KeyboardModifier.ShiftModifier)
    assert project.labels.is_edited(0, DRIVER)
    assert project.labels.painted(0).any()
    mouse.key(Qt.Key.Key_Z, CTRL)
    dock.layers.viewer.layers.remove(dock.layers.image)
    settle(qtbot, dock)
    open_in(dock, clip, qtbot)
    assert stored(dock.session.project) == before
    assert not (dock.session.project.labels.provenance_table() >= Provenance.EDITED).any()


def test_every_painting_tool_changes_only_the_frame_in_view(dock, mouse, notes):
    labels, project = dock.layers.labels, dock.session.project
    dock.layers.show_frame(5)
    labels.n_edit_dimensions = 3
    assert labels.n_edit_dimensions == 2
    assert notes == ["Instruments are painted in one frame at a time, so “n edit dim” stays at 2."]
    labels.brush_size = 21
    for mode in ("paint", "erase", "fill"):
        labels.mode = mode
        labels.n_edit_dimensions = 3
        mouse.click(30, 40)
    labels.mode = "polygon"
    for place in ((60, 60), (60, 90), (80, 90)):
        mouse.click(*place)
    mouse.key(Qt.Key.Key_Enter)
    corrected = (project.labels.provenance_table() >= Provenance.EDITED).any(axis=1)
    assert np.flatnonzero(corrected).tolist() == [5]
    assert project.labels[5].any()


def test_the_control_of_napari_cannot_make_the_brush_three_dimensional(dock):
    window = dock.layers.viewer.window._qt_window
    (box,) = (box for box in window.findChildren(QSpinBox) if box.toolTip() == "Number of dimensions for label editing")
    box.setFocus()
    QTest.keyClick(box, Qt.Key.Key_Up)
    assert dock.layers.labels.n_edit_dimensions == 2
    assert box.value() == 2


def test_nothing_is_painted_while_the_viewer_shows_many_frames(dock, mouse, notes):
    labels, dims = dock.layers.labels, dock.layers.viewer.dims
    for turn, turn_back in (
        (dims.roll, dims.roll),
        (lambda: setattr(dims, "ndisplay", 3), lambda: setattr(dims, "ndisplay", 2)),
    ):
        labels.mode = "paint"
        turn()
        assert str(labels.mode) == "pan_zoom"
        labels.mode = "fill"
        mouse.click(5, 5)
        assert str(labels.mode) == "pan_zoom"
        while tuple(dims.order) != (0, 1, 2) or dims.ndisplay != 2:
            turn_back()
        labels.mode = "paint"
        assert str(labels.mode) == "paint"
    assert not (dock.session.project.labels.provenance_table() >= Provenance.EDITED).any()
    assert "in the picture of one frame only" in notes[0]


# The wheel -------------------------------------------------------------------------------------------------------------


def value_of(field: QWidget) -> object:
    if isinstance(field, QComboBox | QTabBar):
        return field.currentIndex()
    return field.text() if isinstance(field, QAbstractSpinBox) else field.value()


def test_the_wheel_changes_no_field_of_the_panel(dock):
    fields = [field for kind in (QComboBox, QAbstractSpinBox, QSlider, QTabBar) for field in dock.findChildren(kind)]
    assert len(fields) > 20
    before = [value_of(field) for field in fields]
    for field in fields:
        for notches in (-1, 1, -1):
            assert not turn_wheel(field, notches)  # the panel scrolls instead
        assert field.focusPolicy() != Qt.FocusPolicy.WheelFocus
    assert [value_of(field) for field in fields] == before


def test_a_field_with_the_focus_follows_the_wheel(dock, qtbot):
    radius = dock.correct_panel.frames.radius
    dock.correct_panel._folds[dock.correct_panel.frames].open()
    qtbot.wait(20)
    dock.window().activateWindow()
    radius.setFocus()
    qtbot.waitUntil(radius.hasFocus)
    before = radius.value()
    turn_wheel(radius, 1)
    assert radius.value() == before + 1


def test_fields_and_dialogs_that_are_made_later_are_guarded(dock, qtbot):
    form = QWidget()
    column = QVBoxLayout(form)
    number, choice = QSpinBox(), QComboBox()
    choice.addItems(["first", "second"])
    column.addWidget(number)
    dock.segment_panel.column.addWidget(form)
    dialog = QDialog(dock)
    QVBoxLayout(dialog).addWidget(choice)
    dialog.show()
    qtbot.wait(50)
    for field in (number, choice):
        turn_wheel(field, 1)
        turn_wheel(field, -1)
        turn_wheel(field, 1)
    assert (number.value(), choice.currentIndex()) == (0, 0)
    dialog.close()


# The class of the brush --------------------------------------------------------------------------------------------------


def test_a_click_on_the_frames_of_the_timeline_keeps_the_class(dock):
    strip = dock.timeline.timeline.strip
    layout = strip.layout_now
    y = layout.top_of(1) + layout.row_height // 2
    x = layout.left + layout.columns // 2
    QTest.mousePress(strip.viewport(), LEFT, pos=QPoint(x, y))
    for step in range(0, 60, 10):
        QTest.mouseMove(strip.viewport(), QPoint(x + step, y + step))
    QTest.mouseRelease(strip.viewport(), LEFT, pos=QPoint(x + 60, y + 60))
    assert dock.layers.current_frame > 3
    assert dock.session.selected_class_id == DRIVER
    QTest.mouseClick(strip.viewport(), LEFT, pos=QPoint(layout.left // 2, y))  # on the name, right of the coloured square
    assert dock.session.selected_class_id == dock.session.classes.ids[1]


def test_next_and_verify_suggest_a_class_and_keep_the_brush(dock, mouse, qtbot):
    predict(dock.session.project, {3: (SCISSORS, 0.2), 9: (SCISSORS, 0.1), 6: (DRIVER, 0.15)})
    review = dock.correct_panel.review
    mouse.key(Qt.Key.Key_N)
    assert dock.layers.current_frame == 9
    assert dock.session.selected_class_id == dock.layers.labels.selected_label == DRIVER
    assert review.suggestion.text() == "Select Monopolar Curved Scissors"
    mouse.key(Qt.Key.Key_D)
    assert dock.layers.current_frame != 9
    assert dock.session.selected_class_id == DRIVER
    while dock.layers.current_frame != 3:
        mouse.key(Qt.Key.Key_N)
    click(review.suggestion)
    assert dock.session.selected_class_id == dock.layers.labels.selected_label == SCISSORS
    assert not review.suggestion.isVisible()
    dock.session.select_class(DRIVER)
    mouse.key(Qt.Key.Key_Q)
    assert dock.session.selected_class_id == SCISSORS


def test_the_buttons_of_the_review_stay_in_place(dock, mouse, qtbot):
    predict(dock.session.project, {3: (SCISSORS, 0.2), 9: (DRIVER, 0.1)})
    review = dock.correct_panel.review
    qtbot.waitUntil(lambda: not review.feed.is_busy, timeout=TIMEOUT)
    places = set()
    for key in (Qt.Key.Key_N, Qt.Key.Key_N, Qt.Key.Key_D, Qt.Key.Key_N, Qt.Key.Key_D):
        mouse.key(key)
        qtbot.wait(30)
        places.add((review.next_button.y(), review.verify_button.y()))
    review.reason.setText("Monopolar Curved Scissors: another class also claims 100 % of the mask")
    qtbot.wait(30)
    places.add((review.next_button.y(), review.verify_button.y()))
    review.reason.setText("")
    qtbot.wait(30)
    places.add((review.next_button.y(), review.verify_button.y()))
    assert len(places) == 1


# Several frames ----------------------------------------------------------------------------------------------------------


def test_a_range_is_verified_only_after_a_question_with_the_number(dock, qtbot):
    project, review = dock.session.project, dock.correct_panel.review
    predict(project)
    project.labels.verify(5)
    project.labels[6, 0:5, 0:5] = PROBE
    dock.layers.show_frame(4)
    click(review.several)
    verify = review.range
    assert verify.scope.frame_indices(0, FRAMES) == range(4, 5)
    verify.scope.last.setValue(7)
    click(verify.verify_button)
    qtbot.wait(50)
    assert not project.labels.locked_class_ids(4)
    assert verify.question.isVisible()
    assert verify.question.text.text() == (
        "Verify frames 4 to 7: 3 frames not verified yet; nobody corrected 2 of them. Nothing can change them until you "
        "unlock them."
    )
    click(verify.question.stop)
    assert verify.question.isHidden()
    assert not project.labels.locked_class_ids(4)
    click(verify.verify_button)
    qtbot.wait(50)
    assert verify.question.go_on.text() == "Verify 3 frames"
    click(verify.question.go_on)
    settle(qtbot, dock)
    assert [frame for frame in range(FRAMES) if project.labels.locked_class_ids(frame)] == [4, 5, 6, 7]
    assert verify.outcome.text() == "3 frames verified."


def test_unlocking_marks_nothing_as_edited_that_nobody_edited(dock, mouse):
    project = dock.session.project
    predict(project)
    project.labels[2, 60:64, 70:74] = PROBE  # the scissors lose pixels
    before = project.labels.provenance_table()[:3].tolist()
    click(dock.correct_panel.review.then_next)
    for frame in (1, 2):
        dock.layers.show_frame(frame)
        mouse.key(Qt.Key.Key_D)
        assert len(project.labels.locked_class_ids(frame)) == 7
        mouse.key(Qt.Key.Key_D, Qt.KeyboardModifier.ShiftModifier)
    assert project.labels.provenance_table()[:3].tolist() == before


# Another video -----------------------------------------------------------------------------------------------------------


def test_another_video_begins_with_the_whole_picture_at_the_frame_visited_last(dock, clip, other_clip, qtbot):
    viewer = dock.layers.viewer
    dock.layers.show_frame(8)
    viewer.camera.zoom, viewer.camera.center = 40.0, (0.0, 90.0, 10.0)
    open_in(dock, other_clip, qtbot)
    assert dock.layers.current_frame == 0
    whole = viewer.camera.center, viewer.camera.zoom
    viewer.reset_view()
    assert (viewer.camera.center, viewer.camera.zoom) == whole
    dock.layers.show_frame(3)
    open_in(dock, clip, qtbot)
    assert dock.layers.current_frame == 8
    assert dock.timeline.timeline.strip.current_frame == 8
    open_in(dock, other_clip, qtbot)
    assert dock.layers.current_frame == 3


def test_opening_the_same_video_again_keeps_the_view(dock, clip, qtbot):
    viewer = dock.layers.viewer
    dock.layers.show_frame(8)
    viewer.camera.zoom = 7.0
    open_in(dock, clip, qtbot)
    assert dock.layers.current_frame == 8
    assert viewer.camera.zoom == 7.0
