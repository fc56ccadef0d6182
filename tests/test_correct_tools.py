"""The correction tools in a real viewer: clicks in the canvas and on buttons, and the labels afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("qtpy.QtWidgets")

from qtpy.QtCore import QEvent, QPoint, QPointF, Qt, QThreadPool
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication, QVBoxLayout, QWidget

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.surgical_sam import FramePrediction
from surgicalsam_napari.propagation.propagate import PropagationReport
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Provenance
from surgicalsam_napari.store.ownership import Owner
from surgicalsam_napari.widgets.correct.frames_section import FramesSection
from surgicalsam_napari.widgets.correct.propagate_section import PropagateSection
from surgicalsam_napari.widgets.correct.refine_section import RefineSection
from surgicalsam_napari.widgets.correct.wrong_class_section import WrongClassSection
from surgicalsam_napari.widgets.runs.run import Run
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers

DRIVER, SCISSORS, PROBE = 3, 4, 5
FRAME, TIMEOUT = 5, 60_000
SHIFT, CTRL = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.ControlModifier
LEFT, RIGHT = Qt.MouseButton.LeftButton, Qt.MouseButton.RightButton


class Window:
    """A viewer with an open project and a dock for sections, with simulated mouse input."""

    def __init__(self, viewer, session: Session, qtbot) -> None:
        self.viewer, self.session, self.qtbot = viewer, session, qtbot
        self.layers = ViewerLayers(viewer, session)
        self.run = Run()
        self.sections: list[QWidget] = []
        session.project_changed.connect(self.refresh)
        session.class_selected.connect(lambda _class_id: self.refresh())

    @property
    def labels(self):
        return self.session.project.labels

    @property
    def names(self) -> list[str]:
        return [layer.name for layer in self.viewer.layers]

    def add(self, kind: type) -> QWidget:
        section = kind(self.session, self.layers, self.run)
        self.sections.append(section)
        dock = QWidget()
        QVBoxLayout(dock).addWidget(section)
        self.viewer.window.add_dock_widget(dock, name=kind.__name__)
        section.refresh()
        return section

    def refresh(self) -> None:
        if self.session.project is None:
            self.layers.forget()
        for section in self.sections:
            section.refresh()

    def press(self, button) -> None:
        assert all(button.isVisibleTo(section) for section in self.sections if section.isAncestorOf(button))
        assert button.isEnabled()
        self.qtbot.mouseClick(button, LEFT)

    def click(self, row: float, column: float, button=LEFT, modifiers=Qt.KeyboardModifier.NoModifier) -> None:
        self.qtbot.mouseClick(self._canvas.native, button, modifiers, self._point(row, column))

    def double_click(self, row: float, column: float) -> None:
        """The second of two quick clicks, as Qt sends it."""
        self.qtbot.mouseDClick(self._canvas.native, LEFT, pos=self._point(row, column))

    def drag(self, start: tuple[float, float], end: tuple[float, float], modifiers=Qt.KeyboardModifier.NoModifier) -> None:
        native = self._canvas.native
        self.qtbot.mousePress(native, LEFT, modifiers, self._point(*start))
        steps = np.linspace(start, end, 4)[1:]
        for step in steps:
            self._move(self._point(*step), modifiers)
        self.qtbot.mouseRelease(native, LEFT, modifiers, self._point(*end))

    def hover(self, row: float, column: float) -> None:
        self._move(self._point(row, column), Qt.KeyboardModifier.NoModifier, Qt.MouseButton.NoButton)

    def wait(self) -> None:
        self.qtbot.waitUntil(lambda: not self.run.is_running, timeout=TIMEOUT)
        self.qtbot.wait(20)

    @property
    def camera_center(self) -> tuple[float, ...]:
        return self._canvas.camera.center

    @property
    def _canvas(self):
        return self.viewer.window._qt_viewer.canvas

    def _point(self, row: float, column: float) -> QPoint:
        view = self._canvas.view
        x, y = (view.transform * view.scene.transform).map([column, row])[:2]
        return QPoint(round(x), round(y))

    def _move(self, point: QPoint, modifiers, buttons=LEFT) -> None:
        self.qtbot.wait(15)  # vispy ignores moves within 10 ms of the last one
        native = self._canvas.native
        where = QPointF(native.mapToGlobal(point))
        event = QMouseEvent(QEvent.Type.MouseMove, QPointF(point), where, Qt.MouseButton.NoButton, buttons, modifiers)
        QApplication.sendEvent(native, event)


@pytest.fixture
def window(make_napari_viewer, qtbot, clip, tiny_model) -> Iterator[Window]:
    session = Session(ENDOVIS2018)
    session.use_model(tiny_model)
    viewer = make_napari_viewer()
    shown = Window(viewer, session, qtbot)
    session.open(clip)
    shown.layers.show_project(session.project)
    session.select_class(DRIVER)
    shown.layers.show_frame(FRAME)
    viewer.reset_view()
    qtbot.wait(50)
    yield shown
    shown.run.cancel()
    shown.wait()
    QThreadPool.globalInstance().waitForDone(TIMEOUT)
    session.close()


def square(top: int, left: int, bottom: int, right: int, shape=(96, 128)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[top:bottom, left:right] = True
    return mask


def predict(labels, frame_index: int, masks: dict[int, np.ndarray]) -> None:
    """Write masks of classes as a model would predict them."""
    label_map = np.zeros(labels.shape[1:], np.uint8)
    for class_id, mask in masks.items():
        label_map[mask] = class_id
    count = len(masks)
    scores = np.full(count, 0.9, np.float32)
    prediction = FramePrediction(
        tuple(masks), label_map, scores, scores, present=np.ones(count, bool), contested=np.zeros(count, np.float32)
    )
    labels.write_prediction(frame_index, prediction)


def undo(window: Window) -> None:
    for _ in window.session.project.history.undoing():
        pass


# Click to refine -----------------------------------------------------------------------------------------------------


@pytest.fixture
def refine(window) -> RefineSection:
    predict(window.labels, FRAME, {DRIVER: square(20, 20, 50, 60)})
    section = window.add(RefineSection)
    window.press(section.switch)
    return section


def click_and_wait(window: Window, section: RefineSection, row: float, column: float, *args) -> np.ndarray:
    """Click, and return the mask of the new preview."""
    before = len(section.tool.refinement.clicks) if section.tool.refinement else 0
    window.click(row, column, *args)
    refinement = lambda: section.tool.refinement  # noqa: E731
    window.qtbot.waitUntil(lambda: refinement() is not None and len(refinement().clicks) > before, timeout=TIMEOUT)
    return section.tool.refinement.mask.copy()


def test_a_click_shows_a_preview_and_writes_nothing(window, refine):
    before = window.labels[FRAME]
    preview = click_and_wait(window, refine, 60, 70)
    assert window.names == ["clip", "Instruments", "Preview", "Clicks"]
    shown = np.asarray(window.viewer.layers["Preview"].data)
    assert ((shown == 1) | (shown == 2)).tolist() == preview.tolist()
    np.testing.assert_allclose(window.viewer.layers["Clicks"].data, [[60, 70]], atol=0.7)
    assert (window.labels[FRAME] == before).all()
    assert window.viewer.layers.selection.active is window.layers.labels


def test_accept_writes_the_preview_as_one_action(window, refine):
    before = window.labels[FRAME]
    preview = click_and_wait(window, refine, 60, 70)
    window.press(refine.accept_button)
    assert (window.labels[FRAME] == DRIVER).tolist() == preview.tolist()
    assert window.labels.provenance(FRAME, DRIVER) == Provenance.EDITED
    assert (window.labels.painted(FRAME) == (preview | (before == DRIVER))).all()
    assert window.session.project.history.to_undo.name == "Refine Large Needle Driver in frame 5"
    assert window.names == ["clip", "Instruments"]
    undo(window)
    assert (window.labels[FRAME] == before).all()


def test_discard_does_not_change_the_labels(window, refine):
    before = window.labels[FRAME]
    click_and_wait(window, refine, 60, 70)
    window.press(refine.discard_button)
    assert (window.labels[FRAME] == before).all()
    assert window.names == ["clip", "Instruments"]
    assert not refine.accept_button.isEnabled()


def test_the_last_click_can_be_undone(window, refine):
    first = click_and_wait(window, refine, 60, 70)
    click_and_wait(window, refine, 10, 100)
    window.press(refine.undo_button)
    assert (refine.tool.refinement.mask == first).all()
    window.press(refine.undo_button)
    assert refine.tool.refinement is None
    assert window.names == ["clip", "Instruments"]


def test_shift_or_the_right_button_makes_a_negative_click(window, refine):
    click_and_wait(window, refine, 60, 70)
    click_and_wait(window, refine, 30, 70, LEFT, SHIFT)
    click_and_wait(window, refine, 70, 30, RIGHT)
    assert [click.is_positive for click in refine.tool.refinement.clicks] == [True, False, False]
    assert [str(symbol) for symbol in window.viewer.layers["Clicks"].symbol] == ["cross", "hbar", "hbar"]


def test_dragging_with_ctrl_draws_a_box(window, refine):
    window.drag((20, 30), (60, 80), CTRL)
    window.qtbot.waitUntil(lambda: refine.tool.refinement is not None, timeout=TIMEOUT)
    box = refine.tool.refinement.box
    assert (box.top, box.left, box.bottom, box.right) == pytest.approx((20, 30, 61, 81), abs=1)
    assert "a box" in refine.status.text()


def test_dragging_moves_the_view_and_is_no_click(window, refine):
    center = window.camera_center
    window.drag((20, 30), (60, 80))
    assert window.camera_center != center
    assert not refine.tool.is_waiting
    assert refine.tool.refinement is None


def test_a_second_quick_click_counts_and_does_not_zoom(window, refine):
    zoom = window.viewer.camera.zoom
    click_and_wait(window, refine, 60, 70)
    window.double_click(60, 70)
    window.qtbot.waitUntil(lambda: len(refine.tool.refinement.clicks) > 1, timeout=TIMEOUT)
    assert window.viewer.camera.zoom == zoom


def test_a_preview_is_kept_in_its_frame(window, refine):
    preview = click_and_wait(window, refine, 60, 70)
    window.layers.show_frame(FRAME + 1)
    assert window.names == ["clip", "Instruments"]
    assert not refine.accept_button.isEnabled()
    assert refine.status.text() == "A preview waits in frame 5."
    window.layers.show_frame(FRAME)
    assert (refine.tool.refinement.mask == preview).all()
    assert "Preview" in window.names


def test_a_preview_is_kept_for_its_class(window, refine):
    click_and_wait(window, refine, 60, 70)
    window.session.select_class(SCISSORS)
    assert "Preview" not in window.names
    assert "Monopolar Curved Scissors" in refine.how.text()
    window.session.select_class(DRIVER)
    assert "Preview" in window.names


def test_choosing_the_brush_switches_the_tool_off(window, refine):
    click_and_wait(window, refine, 60, 70)
    window.layers.labels.mode = "paint"
    assert not refine.tool.is_on
    assert not refine.switch.isChecked()
    assert window.layers.labels.mode == "paint"
    assert window.names == ["clip", "Instruments"]


def test_switching_the_tool_off_restores_the_brush(window):
    window.layers.labels.mode = "paint"
    section = window.add(RefineSection)
    window.press(section.switch)
    window.click(60, 70)
    assert window.labels[FRAME].max() == 0
    window.press(section.switch)
    assert window.layers.labels.mode == "paint"


def test_painting_the_class_discards_its_preview(window, refine):
    click_and_wait(window, refine, 60, 70)
    window.layers.labels.mode = "paint"
    window.layers.labels.paint((FRAME, 80, 100), DRIVER)
    assert refine.tool.refinement is None
    assert "its preview is discarded" in refine.status.text()
    assert window.labels[FRAME][80, 100] == DRIVER


def test_a_verified_class_cannot_be_refined(window, refine):
    window.labels.verify(FRAME, [DRIVER])
    window.click(60, 70)
    assert refine.tool.refinement is None
    assert refine.status.text() == "Large Needle Driver is verified in frame 5. Unlock it to refine it."


def test_verified_pixels_of_other_classes_do_not_change(window, refine):
    window.labels[FRAME, 52:90, 40:100] = SCISSORS
    window.labels.verify(FRAME, [SCISSORS])
    preview = click_and_wait(window, refine, 60, 70)
    scissors = window.labels[FRAME] == SCISSORS
    assert (preview & scissors).any()
    assert not (np.isin(window.viewer.layers["Preview"].data, [1, 2]) & scissors).any()
    window.press(refine.accept_button)
    assert (window.labels[FRAME] == SCISSORS).tolist() == scissors.tolist()


def test_deleting_the_preview_layer_discards_it(window, refine):
    click_and_wait(window, refine, 60, 70)
    window.viewer.layers.remove("Preview")
    assert window.names == ["clip", "Instruments"]
    assert refine.tool.refinement is None


def test_deleting_the_labels_layer_switches_the_tool_off(window, refine):
    click_and_wait(window, refine, 60, 70)
    window.viewer.layers.remove(window.layers.labels)
    assert window.names == ["clip"]
    assert not refine.tool.is_on


def test_closing_the_project_removes_the_preview(window, refine):
    click_and_wait(window, refine, 60, 70)
    window.session.close()
    window.refresh()
    assert window.names == []
    assert not refine.switch.isEnabled()
    assert refine.status.text() == "Open a video first."


def test_a_project_that_another_window_has_open_cannot_be_corrected(window, monkeypatch):
    sections = [window.add(kind) for kind in (RefineSection, WrongClassSection, FramesSection, PropagateSection)]
    monkeypatch.setattr(window.session.project, "writable", False)
    window.session.other_owner = Owner("ann", "theatre-2", 7, "09:30")
    window.refresh()
    refine, wrong_class, frames, propagate = sections
    buttons = [refine.switch, wrong_class.switch, wrong_class.swap_button, frames.clear_button, propagate.forward_button]
    assert not any(button.isEnabled() for button in buttons)
    notes = [refine.status, wrong_class.hint, frames.hint, propagate.hint]
    assert {note.text() for note in notes} == {"Read-only: ann on theatre-2 has this project open."}


def test_a_checkpoint_without_a_decoder_for_clicks_is_reported(window, tiny_model, monkeypatch):
    section = window.add(RefineSection)
    monkeypatch.setitem(tiny_model._modules, "sam_mask_decoder", None)
    window.refresh()
    assert not section.switch.isEnabled()
    assert "has no decoder for clicks" in section.status.text()


# Wrong class ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def wrong_class(window) -> WrongClassSection:
    """Two regions of one class in every frame, moving slowly."""
    for frame_index in range(len(window.labels)):
        left = 20 + frame_index
        predict(window.labels, frame_index, {DRIVER: square(10, left, 30, left + 25) | square(60, left, 85, left + 25)})
    section = window.add(WrongClassSection)
    choose(section.right_class, SCISSORS)
    return section


def choose(picker, class_id: int) -> None:
    picker.setCurrentIndex(picker.findData(class_id))


def classes_at(window: Window, row: int) -> list[int]:
    """The class in the middle of a region, in every frame."""
    return [int(window.labels[frame_index][row, 32 + frame_index]) for frame_index in range(len(window.labels))]


def test_a_click_gives_a_region_the_right_class(window, wrong_class):
    window.press(wrong_class.switch)
    window.click(20, 37)
    window.wait()
    assert classes_at(window, 20) == [DRIVER] * FRAME + [SCISSORS] + [DRIVER] * 6
    assert classes_at(window, 70) == [DRIVER] * 12
    assert window.labels.provenance(FRAME, SCISSORS) == Provenance.EDITED
    assert wrong_class.outcome.text() == "1 frame changed."
    undo(window)
    assert classes_at(window, 20) == [DRIVER] * 12


def test_a_region_is_followed_through_the_frames_around(window, wrong_class):
    wrong_class.scope.choice.setCurrentText("Frames around it")
    wrong_class.around.setValue(2)
    window.press(wrong_class.switch)
    window.click(20, 37)
    window.wait()
    assert classes_at(window, 20) == [DRIVER] * 3 + [SCISSORS] * 5 + [DRIVER] * 4
    assert wrong_class.outcome.text() == "5 frames changed."


def test_the_region_under_the_mouse_is_outlined(window, wrong_class):
    window.press(wrong_class.switch)
    window.hover(20, 37)
    assert (np.asarray(window.viewer.layers["Preview"].data) > 0).sum() == 20 * 25
    window.hover(45, 100)
    assert (np.asarray(window.viewer.layers["Preview"].data) > 0).sum() == 0
    window.press(wrong_class.switch)
    assert window.names == ["clip", "Instruments"]


def test_a_click_on_background_or_a_verified_class_shows_why_nothing_changes(window, wrong_class):
    window.press(wrong_class.switch)
    window.click(45, 100)
    assert wrong_class.outcome.text() == "There is no instrument at this place."
    window.labels.verify(FRAME, [DRIVER])
    window.click(20, 37)
    window.wait()
    assert wrong_class.outcome.text() == "Large Needle Driver is verified in frame 5. Unlock it to change it."
    assert classes_at(window, 20) == [DRIVER] * 12


def test_only_one_tool_uses_the_mouse_at_a_time(window, wrong_class):
    refine = window.add(RefineSection)
    window.press(refine.switch)
    window.press(wrong_class.switch)
    assert wrong_class.switch.isChecked()
    assert not refine.switch.isChecked()
    window.press(wrong_class.switch)
    assert window.layers.labels.mode == "pan_zoom"


def test_two_classes_are_swapped_in_the_selected_frames(window, wrong_class):
    window.labels[4:7, 10:30, 26:51] = SCISSORS
    choose(wrong_class.first, SCISSORS)
    choose(wrong_class.second, DRIVER)
    wrong_class.scope.choice.setCurrentText("A range of frames")
    wrong_class.scope.first.setValue(5)
    wrong_class.scope.last.setValue(6)
    window.press(wrong_class.swap_button)
    window.wait()
    assert classes_at(window, 20)[4:7] == [SCISSORS, DRIVER, DRIVER]
    assert classes_at(window, 70)[4:7] == [DRIVER, SCISSORS, SCISSORS]


def test_a_class_is_not_swapped_with_itself(window, wrong_class):
    choose(wrong_class.first, DRIVER)
    choose(wrong_class.second, DRIVER)
    assert not wrong_class.swap_button.isEnabled()


# Operations on frames ------------------------------------------------------------------------------------------------


@pytest.fixture
def frames(window) -> FramesSection:
    for frame_index in (FRAME - 1, FRAME, FRAME + 1):
        mask = square(10, 20, 40, 60) | square(70, 90, 75, 95)
        mask[20:24, 30:34] = False
        predict(window.labels, frame_index, {DRIVER: mask})
    return window.add(FramesSection)


def press_and_wait(window: Window, button) -> np.ndarray:
    """Press a button, and return the mask of the class in the frame in view."""
    window.press(button)
    window.wait()
    return window.labels[FRAME] == DRIVER


def test_keep_the_largest_region(window, frames):
    mask = press_and_wait(window, frames.largest_button)
    assert mask[15, 25]
    assert not mask[72, 92]
    assert frames.outcome.text() == "1 frame changed."
    undo(window)
    assert window.labels[FRAME][72, 92] == DRIVER


def test_fill_holes(window, frames):
    assert press_and_wait(window, frames.holes_button)[21, 31]


def test_grow_and_shrink_by_the_radius_in_the_field(window, frames):
    frames.radius.setValue(2)
    assert press_and_wait(window, frames.grow_button)[8:42, 30].all()
    frames.radius.setValue(5)
    assert not press_and_wait(window, frames.shrink_button)[8:13, 40].any()


def test_smooth(window, frames):
    frames.radius.setValue(6)
    mask = press_and_wait(window, frames.smooth_button)
    assert not mask[72, 92]
    assert mask[22, 45]


def test_clear_the_class_in_a_range_except_in_verified_frames(window, frames):
    window.labels.verify(FRAME + 1, [DRIVER])
    frames.scope.choice.setCurrentText("A range of frames")
    frames.scope.first.setValue(FRAME - 1)
    frames.scope.last.setValue(FRAME + 1)
    press_and_wait(window, frames.clear_button)
    assert [bool(window.labels[t].any()) for t in (FRAME - 1, FRAME, FRAME + 1)] == [False, False, True]
    assert frames.outcome.text() == "2 frames changed, 1 verified frame kept."
    undo(window)
    assert window.labels[FRAME].any()


def test_fill_from_the_previous_frame(window, frames):
    window.layers.show_frame(FRAME + 2)
    window.press(frames.fill_button)
    window.wait()
    assert (window.labels[FRAME + 2] == window.labels[FRAME + 1]).all()
    assert window.labels.provenance(FRAME + 2, DRIVER) == Provenance.EDITED


# Propagation ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def propagate(window) -> PropagateSection:
    window.labels[FRAME, 20:50, 20:60] = DRIVER
    return window.add(PropagateSection)


def fake_propagation(monkeypatch, stop_at: int | None = None) -> list[list[int]]:
    """Replace the propagation by one that copies the mask; returns the lists of requested frames."""
    asked = []

    def propagate_class(project, model, class_id, start_frame, frame_indices, *, action=None):
        asked.append(list(frame_indices))
        for done, frame_index in enumerate(frame_indices, start=1):
            if frame_index == stop_at:
                yield PropagationReport(frame_index, done - 1, len(frame_indices), 0.2, "it no longer fits")
                return
            project.labels.write_edit(frame_index, project.labels[start_frame], action=action)
            yield PropagationReport(frame_index, done, len(frame_indices), 0.9, None)

    monkeypatch.setattr("surgicalsam_napari.propagation.propagate.propagate_class", propagate_class)
    return asked


def test_forward_goes_from_the_next_frame_up_to_the_limit(window, propagate, monkeypatch):
    asked = fake_propagation(monkeypatch)
    propagate.limit.setValue(3)
    window.press(propagate.forward_button)
    window.wait()
    assert asked == [[6, 7, 8]]
    assert propagate.outcome.text() == "Carried through 3 frames, to frame 8."
    assert not propagate.go_there.isVisibleTo(propagate)
    assert window.session.project.history.to_undo.name == "Propagate Large Needle Driver from frame 5 forward"
    undo(window)
    assert not window.labels[6].any()


def test_backward_goes_to_the_first_frame(window, propagate, monkeypatch):
    asked = fake_propagation(monkeypatch)
    propagate.to_the_end.click()
    window.press(propagate.backward_button)
    window.wait()
    assert asked == [[4, 3, 2, 1, 0]]


def test_the_stop_is_reported_and_go_there_shows_its_frame(window, propagate, monkeypatch):
    fake_propagation(monkeypatch, stop_at=8)
    stops = []
    propagate.stopped.connect(lambda frame_index, reason: stops.append((frame_index, reason)))
    window.press(propagate.forward_button)
    window.wait()
    assert stops == [(8, "it no longer fits")]
    assert propagate.outcome.text() == "Carried through 2 frames. Stopped at frame 8: it no longer fits."
    window.press(propagate.go_there)
    assert window.layers.current_frame == 8


def test_another_video_clears_the_outcome_of_the_last_propagation(window, propagate, clip, monkeypatch):
    fake_propagation(monkeypatch, stop_at=8)
    window.press(propagate.forward_button)
    window.wait()
    assert propagate.go_there.isVisibleTo(propagate)
    window.session.open(Path(shutil.copy(clip, clip.with_name("other.mp4"))))
    window.layers.show_project(window.session.project)
    assert propagate.outcome.text() == ""
    assert not propagate.go_there.isVisibleTo(propagate)
    window.layers.show_frame(0)
    propagate.go_to_stop()
    assert window.layers.current_frame == 0


def test_a_class_that_is_not_in_the_frame_is_not_propagated(window, propagate):
    window.session.select_class(PROBE)
    window.press(propagate.forward_button)
    assert propagate.outcome.text() == "There is no Ultrasound Probe in frame 5 to propagate. Click or paint it first."
    assert not window.run.is_running


def test_the_model_propagates_a_class_into_the_next_frame(window, propagate):
    propagate.limit.setValue(1)
    window.press(propagate.forward_button)
    window.wait()
    assert propagate.outcome.text()
    assert not window.labels.painted(FRAME + 1).any()


def test_filling_needs_two_corrected_frames(window, propagate):
    assert not propagate.fill_button.isEnabled()
    assert propagate.fill_hint.text() == "To fill between, correct Large Needle Driver in at least two frames."
    window.labels[FRAME + 4, 20:50, 20:60] = DRIVER
    window.refresh()
    assert propagate.fill_hint.text() == "Fills 3 frames in 1 gap. What you painted stays."
    window.session.select_class(PROBE)
    assert not propagate.fill_button.isEnabled()
    propagate.all_classes.click()
    assert propagate.fill_button.isEnabled()
    assert propagate.fill_hint.text() == "Fills 3 frames in 1 gap. What you painted stays."


def test_fill_between_carries_the_class_into_the_gap_as_one_action(window, propagate):
    window.labels[FRAME + 4, 20:50, 20:60] = DRIVER
    window.refresh()
    window.press(propagate.fill_button)
    assert not propagate.fill_button.isEnabled()
    window.wait()
    assert propagate.outcome.text() == "Filled 3 frames in 1 gap."
    assert all((window.labels[FRAME + index] == DRIVER).any() for index in (1, 2, 3))
    assert not window.labels.painted(FRAME + 1).any()
    assert window.session.project.history.to_undo.name == "Fill Large Needle Driver between corrected frames"
    undo(window)
    assert not window.labels[FRAME + 2].any()


def test_filling_works_without_a_checkpoint(window, propagate):
    window.labels[FRAME + 2, 20:50, 20:60] = DRIVER
    window.session.model = None
    window.refresh()
    assert not propagate.forward_button.isEnabled()
    window.press(propagate.fill_button)
    window.wait()
    assert propagate.outcome.text() == "Filled 1 frame in 1 gap."


def test_frames_cannot_be_edited_during_a_run(window, propagate, frames, monkeypatch):
    fake_propagation(monkeypatch)
    window.press(propagate.forward_button)
    assert not frames.clear_button.isEnabled()
    assert frames.hint.text() == "Another correction is running."
    window.wait()
    assert frames.clear_button.isEnabled()
