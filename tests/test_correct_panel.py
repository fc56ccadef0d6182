"""The Correct tab in a real viewer: what a person presses and selects, and the labels afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("qtpy.QtWidgets")

from qtpy.QtCore import Qt, QThreadPool
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog
from window import settle

from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.model.surgical_sam import FramePrediction
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.store.ownership import Owner
from surgicalsam_napari.widgets.actions.registry import ACTIONS
from surgicalsam_napari.widgets.main_widget import MainWidget
from surgicalsam_napari.widgets.parts.message import Message
from surgicalsam_napari.widgets.source.video_panel import why_read_only
from surgicalsam_napari.widgets.work_clock import WorkClock

DRIVER, SCISSORS, PROBE, FRAMES, TIMEOUT = 3, 4, 5, 12, 60_000
SHIFT = Qt.KeyboardModifier.ShiftModifier


@pytest.fixture
def empty_dock(make_napari_viewer, qtbot, bundled_tiny) -> Iterator[MainWidget]:
    viewer = make_napari_viewer()
    dock = MainWidget(viewer)
    viewer.window.add_dock_widget(dock, name="SurgicalSAM")
    settle(qtbot, dock)
    yield dock
    settle(qtbot, dock)
    QThreadPool.globalInstance().waitForDone(TIMEOUT)
    dock.session.close()


@pytest.fixture
def dock(empty_dock, qtbot, clip) -> MainWidget:
    """A dock with an open clip, the Correct tab in view, and the needle driver selected."""
    open_in(empty_dock, clip, qtbot)
    empty_dock.tabs.show_panel(empty_dock.correct_panel)
    empty_dock.session.select_class(DRIVER)
    empty_dock.layers.show_frame(0)
    return empty_dock


@pytest.fixture
def segmented(dock, qtbot) -> MainWidget:
    """A dock with predictions of all classes in every frame, without a vote, which takes long over so many regions."""
    dock.segment_panel.all_classes.click()
    dock.segment_panel.vote.setChecked(False)
    dock.segment_panel.start()
    settle(qtbot, dock)
    dock.tabs.show_panel(dock.correct_panel)
    return dock


def open_in(dock: MainWidget, path: Path, qtbot) -> None:
    dock.open(path)
    settle(qtbot, dock)


def click(qtbot, button) -> None:
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def press(dock: MainWidget, key: str) -> None:
    """Press a key on the canvas, by its name."""
    code = getattr(Qt.Key, f"Key_{key.removeprefix('Shift+')}")
    canvas = dock.layers.viewer.window._qt_viewer.canvas.native
    QTest.keyClick(canvas, code, SHIFT if key.startswith("Shift+") else Qt.KeyboardModifier(0))


def paint(dock: MainWidget, frame: int, class_id: int, rows: slice = slice(10, 40), columns: slice = slice(10, 60)) -> None:
    dock.session.project.labels[frame, rows, columns] = class_id


def edit_as_action(project: Project, name: str, frames: range) -> None:
    with project.history.action(name) as action:
        for frame in frames:
            label_map = project.labels[frame]
            label_map[:20, :20] = SCISSORS
            project.labels.write_edit(frame, label_map, action=action)


# The frame in view ---------------------------------------------------------------------------------------------------


def test_the_tab_is_between_segment_and_train(empty_dock):
    titles = [empty_dock.tabs.bar.tabText(index) for index in range(empty_dock.tabs.bar.count())]
    assert titles == ["Segment", "Correct", "Train", "Export / Import"]


def test_nothing_can_be_corrected_without_a_video(empty_dock):
    panel = empty_dock.correct_panel
    assert panel.state.text() == "Open a video first."
    enabled = [action.title for action in ACTIONS if action.key and action.what_is_missing(empty_dock) is None]
    assert enabled == []


def test_the_state_of_the_frame_in_view_is_shown(dock, qtbot):
    panel, labels = dock.correct_panel, dock.session.project.labels
    assert panel.state.text() == "Frame 0 · not yet segmented"
    paint(dock, 3, DRIVER)
    dock.layers.show_frame(3)
    assert panel.state.text() == "Frame 3 · corrected, not yet verified"
    labels.verify(3, [DRIVER])
    qtbot.waitUntil(lambda: panel.state.text() == "Frame 3 · partly verified", timeout=TIMEOUT)
    labels.verify(3)
    qtbot.waitUntil(lambda: panel.state.text() == "Frame 3 · verified", timeout=TIMEOUT)


def test_a_predicted_frame_is_not_yet_reviewed(segmented):
    assert segmented.correct_panel.state.text() == "Frame 0 · predicted, not yet reviewed"


def test_the_class_is_the_same_in_both_tabs_and_for_the_brush(dock):
    picker = dock.correct_panel.picker
    picker.setCurrentIndex(picker.findData(SCISSORS))
    assert dock.layers.labels.selected_label == SCISSORS
    assert dock.segment_panel.picker.class_id == SCISSORS
    dock.layers.labels.selected_label = PROBE
    assert picker.class_id == PROBE


def test_sections_can_be_collapsed(dock, qtbot):
    panel = dock.correct_panel
    fold = panel.frames.parentWidget()
    assert panel.frames.isHidden()
    assert not panel.review.isHidden()
    click(qtbot, fold.header)
    assert not panel.frames.isHidden()
    click(qtbot, fold.header)
    assert panel.frames.isHidden()


# Review --------------------------------------------------------------------------------------------------------------


def quality(dock: MainWidget, worst: dict[int, float]) -> None:
    """Predict a needle driver everywhere, with high IoU except in these frames."""
    labels = dock.session.project.labels
    label_map = np.zeros(labels.shape[1:], np.uint8)
    label_map[20:60, 30:80] = DRIVER
    for frame in range(FRAMES):
        labels.write_prediction(frame, prediction_of(label_map, worst.get(frame, 0.95)))


def prediction_of(label_map: np.ndarray, iou: float) -> FramePrediction:
    """A prediction of the needle driver only."""
    values = {"predicted_iou": iou, "presence": 0.99, "contested": 0.0, "present": True}
    kinds = {"predicted_iou": np.float32, "presence": np.float32, "contested": np.float32, "present": bool}
    arrays = {name: np.array([value], kinds[name]) for name, value in values.items()}
    return FramePrediction(class_ids=(DRIVER,), label_map=label_map, **arrays)


def test_next_goes_to_the_worst_frame_and_previous_back(dock, qtbot):
    quality(dock, {3: 0.3, 9: 0.1})
    review = dock.correct_panel.review
    dock.session.select_class(1)
    press(dock, "N")
    assert dock.layers.current_frame == 9
    assert dock.correct_panel.picker.currentText().startswith("Bipolar Forceps")
    assert review.suggestion.text() == "Select Large Needle Driver"
    assert review.reason.text() == "Large Needle Driver: low confidence, 0.10"
    assert review.count.text() == "1 frame needs review"
    click(qtbot, review.next_button)
    assert dock.layers.current_frame == 3
    press(dock, "Shift+N")
    assert dock.layers.current_frame == 9


def test_done_verifies_the_frame_and_goes_to_the_next(dock, qtbot):
    quality(dock, {3: 0.3, 9: 0.1})
    labels, review = dock.session.project.labels, dock.correct_panel.review
    press(dock, "N")
    press(dock, "D")
    assert dock.layers.current_frame == 3
    click(qtbot, review.then_next)
    click(qtbot, review.verify_button)
    assert dock.layers.current_frame == 3
    verified = (labels.provenance_table() == Provenance.VERIFIED).all(axis=1)
    assert np.flatnonzero(verified).tolist() == [3, 9]
    assert review.count.text() == "No frame left that needs review"
    assert not review.verify_button.isEnabled()
    press(dock, "Shift+D")
    assert labels.locked_class_ids(3) == []
    assert review.verify_button.isEnabled()


def test_the_queue_can_be_filtered_by_class(dock, qtbot):
    quality(dock, {3: 0.3, 9: 0.1})
    review = dock.correct_panel.review
    qtbot.waitUntil(lambda: review.count.text() == "2 frames need review", timeout=TIMEOUT)
    for class_id, count in ((SCISSORS, "No frame left that needs review"), (DRIVER, "2 frames need review")):
        row = review.which_class.findData(class_id)
        review.which_class.setCurrentIndex(row)
        review.which_class.activated.emit(row)
        assert review.count.text() == count


def test_a_range_is_verified_as_one_action(dock, qtbot):
    review, labels = dock.correct_panel.review, dock.session.project.labels
    assert review.range.isHidden()
    click(qtbot, review.several)
    review.range.scope.first.setValue(4)
    review.range.scope.last.setValue(7)
    click(qtbot, review.range.verify_button)
    click(qtbot, review.range.question.go_on)
    settle(qtbot, dock)
    assert [frame for frame in range(FRAMES) if labels.locked_class_ids(frame)] == [4, 5, 6, 7]
    assert dock.correct_panel.undo_bar.undo_button.text() == "Undo: Verify all in frames 4 to 7"
    press(dock, "U")
    settle(qtbot, dock)
    assert not any(labels.locked_class_ids(frame) for frame in range(FRAMES))
    for button in (review.range.verify_button, review.range.unlock_button):
        click(qtbot, button)
        click(qtbot, review.range.question.go_on)
        settle(qtbot, dock)
    assert not any(labels.locked_class_ids(frame) for frame in range(FRAMES))


def test_a_key_brings_the_tab_and_its_section_into_view(dock):
    panel = dock.correct_panel
    dock.tabs.show_panel(dock.segment_panel)
    assert panel.isHidden()
    press(dock, "H")
    assert not panel.isHidden()
    assert not panel.frames.isHidden()


# Timeline and similarity map -------------------------------------------------------------------------------------------


def test_the_timeline_and_the_slider_show_the_same_frame(dock):
    timeline = dock.timeline.timeline
    dock.layers.show_frame(7)
    assert timeline.strip.current_frame == 7
    timeline.frame_picked.emit(2)
    assert dock.layers.current_frame == 2
    timeline.class_picked.emit(PROBE)
    assert dock.session.selected_class_id == PROBE
    assert timeline.strip.current_class == PROBE


def test_the_timeline_shows_new_labels(dock, qtbot):
    overview = dock.timeline.timeline.strip.overview
    paint(dock, 4, DRIVER)
    column = dock.session.classes.ids.index(DRIVER)
    qtbot.waitUntil(lambda: overview.provenance[4, column] == Provenance.EDITED, timeout=TIMEOUT)


def test_the_timeline_marks_frames_that_need_review(dock, qtbot):
    quality(dock, {3: 0.3, 9: 0.1})
    strip = dock.timeline.timeline.strip
    qtbot.waitUntil(lambda: strip.marks is not None and np.nan_to_num(strip.marks).argmax() == 9, timeout=TIMEOUT)


def test_the_timeline_marks_where_a_propagation_stopped_until_the_frame_changes(dock, qtbot):
    dock.correct_panel.propagate.stopped.emit(6, "another class is there")
    assert dock.timeline.timeline.strip.notes == {6: "another class is there"}
    paint(dock, 6, DRIVER)
    qtbot.waitUntil(lambda: dock.timeline.timeline.strip.notes == {}, timeout=TIMEOUT)


def similarity_layers(dock: MainWidget) -> list:
    return [layer for layer in dock.layers.viewer.layers if layer.name.startswith("Similarity")]


def test_the_similarity_map_follows_the_frame_and_the_class(dock, qtbot):
    viewer, panel = dock.layers.viewer, dock.correct_panel
    click(qtbot, panel.similarity_button)
    qtbot.waitUntil(lambda: bool(similarity_layers(dock)), timeout=TIMEOUT)
    (layer,) = similarity_layers(dock)
    assert layer.name == "Similarity: Large Needle Driver"
    assert [other.name for other in viewer.layers] == ["clip", layer.name, "Instruments"]
    assert viewer.layers.selection.active is dock.layers.labels
    first = layer.data.copy()
    assert first.shape == (1, 96, 128)
    dock.layers.show_frame(8)
    qtbot.waitUntil(lambda: layer.translate[0] == 8, timeout=TIMEOUT)
    assert viewer.dims.nsteps[0] == FRAMES
    dock.session.select_class(SCISSORS)
    qtbot.waitUntil(lambda: layer.name == "Similarity: Monopolar Curved Scissors", timeout=TIMEOUT)
    assert not np.array_equal(layer.data, first)
    press(dock, "J")
    assert similarity_layers(dock) == []


def test_deleting_the_similarity_map_switches_it_off(dock, qtbot):
    button = dock.correct_panel.similarity_button
    click(qtbot, button)
    qtbot.waitUntil(lambda: bool(similarity_layers(dock)), timeout=TIMEOUT)
    dock.layers.viewer.layers.remove(similarity_layers(dock)[0])
    assert not button.isChecked()


# Actions -------------------------------------------------------------------------------------------------------------


def test_buttons_undo_and_redo_an_action(dock, qtbot):
    project, section = dock.session.project, dock.correct_panel.undo_bar
    edit_as_action(project, "Mark the corners", range(2, 6))
    qtbot.waitUntil(lambda: section.undo_button.text() == "Undo: Mark the corners", timeout=TIMEOUT)
    assert section.redo_button.isHidden()
    click(qtbot, section.undo_button)
    settle(qtbot, dock)
    assert not project.labels[2:6].any()
    assert section.outcome.text() == "4 frames restored."
    assert not section.undo_button.isEnabled()
    click(qtbot, section.redo_button)
    settle(qtbot, dock)
    assert (project.labels[2:6, :20, :20] == SCISSORS).all()
    assert section.outcome.text() == "4 frames redone."


def test_a_run_is_undone_without_leaving_its_tab(segmented, qtbot):
    bar, labels = segmented.correct_panel.undo_bar, segmented.session.project.labels
    segmented.tabs.show_panel(segmented.segment_panel)
    assert bar.isVisibleTo(segmented) and bar.undo_button.text().startswith("Undo: ")
    click(qtbot, bar.undo_button)
    settle(qtbot, segmented)
    assert (labels.provenance_table() == Provenance.EMPTY).all()
    assert bar.outcome.isVisibleTo(segmented) and bar.redo_button.text().startswith("Redo: ")


def test_undo_reports_the_frames_that_it_kept(dock, qtbot):
    section = dock.correct_panel.undo_bar
    edit_as_action(dock.session.project, "Mark the corners", range(2, 6))
    paint(dock, 4, PROBE, slice(50, 60), slice(50, 60))
    qtbot.waitUntil(section.undo_button.isEnabled, timeout=TIMEOUT)
    press(dock, "U")
    settle(qtbot, dock)
    assert section.outcome.text() == "3 frames restored; 1 changed later and was kept."
    assert dock.session.project.labels[4, 55, 55] == PROBE


def test_an_action_in_the_frame_in_view_is_visible_at_once(dock, qtbot):
    edit_as_action(dock.session.project, "Mark the corners", range(0, 2))
    qtbot.waitUntil(lambda: dock.layers.labels._slice.image.raw[5, 5] == SCISSORS, timeout=TIMEOUT)


def test_corrections_and_other_runs_wait_for_each_other(dock, qtbot):
    project, panel = dock.session.project, dock.correct_panel
    edit_as_action(project, "Mark the corners", range(FRAMES))
    waited: list[tuple[bool, bool]] = []
    panel.run.reported.connect(
        lambda _report: waited.append((dock.segment_panel.segment.isEnabled(), dock.video_panel.open_file.isEnabled()))
    )
    qtbot.waitUntil(panel.undo_bar.undo_button.isEnabled, timeout=TIMEOUT)
    press(dock, "U")
    settle(qtbot, dock)
    assert len(waited) == FRAMES
    assert set(waited) == {(False, False)}
    assert dock.segment_panel.segment.isEnabled()
    while_segmenting: list[tuple[bool, bool]] = []
    dock.segment_panel.run.reported.connect(
        lambda _: while_segmenting.append((panel.frames.clear_button.isEnabled(), panel.review.next_button.isEnabled()))
    )
    dock.segment_panel.start()
    settle(qtbot, dock)
    assert set(while_segmenting) == {(False, True)}
    assert panel.frames.clear_button.isEnabled()


# Snapshots and the log -------------------------------------------------------------------------------------------------


def test_a_snapshot_is_taken_returned_to_and_removed(dock, qtbot):
    project, snapshots = dock.session.project, dock.correct_panel.history.snapshots
    assert not snapshots.nothing.isHidden()
    paint(dock, 1, DRIVER)
    assert not snapshots.take_button.isEnabled()
    qtbot.keyClicks(snapshots.name, "first round")
    click(qtbot, snapshots.take_button)
    settle(qtbot, dock)
    assert snapshots.list.item(0).text().startswith("first round · ")
    assert snapshots.name.text() == ""
    paint(dock, 1, SCISSORS)
    project.labels.verify(2)
    snapshots.list.setCurrentRow(0)
    click(qtbot, snapshots.return_button)
    assert "also the 1 frame verified now" in snapshots.question.text.text()
    assert project.labels[1, 20, 20] == SCISSORS
    click(qtbot, snapshots.question.go_on)
    settle(qtbot, dock)
    assert project.labels[1, 20, 20] == DRIVER
    assert project.labels.locked_class_ids(2) == []
    snapshots.list.setCurrentRow(0)
    click(qtbot, snapshots.remove_button)
    click(qtbot, snapshots.question.go_on)
    assert snapshots.list.count() == 0
    assert project.labels[1, 20, 20] == DRIVER


def test_the_work_log_is_saved_as_csv(dock, tmp_path, monkeypatch, qtbot):
    paint(dock, 3, DRIVER, slice(0, 10), slice(0, 10))
    target = tmp_path / "log.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(target), ""))
    click(qtbot, dock.correct_panel.history.save_log_button)
    header, *rows = target.read_text().splitlines()
    assert header == "frame,seconds,strokes,changed_pixels,annotators"
    (row,) = (row.split(",") for row in rows if row.startswith("3,"))
    assert row[2:4] == ["1", "100"]
    assert dock.correct_panel.history.outcome.text().startswith("log.csv lists the work on ")


def test_a_damaged_project_is_checked_restored_and_backed_up(dock, tmp_path, monkeypatch, qtbot):
    project, safety = dock.session.project, dock.correct_panel.history.safety
    paint(dock, 1, DRIVER)
    click(qtbot, safety.check_button)
    settle(qtbot, dock)
    assert safety.outcome.text() == "Nothing is damaged."
    assert not safety.dialog.isVisible()
    project.snapshots.create("good")
    (project.folder / "painted" / "c.1.0.0").unlink()
    click(qtbot, safety.check_button)
    settle(qtbot, dock)
    assert safety.outcome.text() == "1 damaged file."
    assert safety.dialog.isVisible()
    assert "frame 1" in safety.dialog.lines.toPlainText()
    click(qtbot, safety.dialog.repair_button)
    settle(qtbot, dock)
    assert safety.outcome.text() == "1 file restored. Nothing is damaged."
    assert 'snapshot "good"' in safety.dialog.lines.toPlainText()
    assert project.labels.painted(1).any()
    file, restored = tmp_path / "backup.surgicalsam.zip", tmp_path / "restored.surgicalsam"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(file), ""))
    click(qtbot, safety.back_up_button)
    settle(qtbot, dock)
    assert safety.outcome.text() == "Backed up to backup.surgicalsam.zip."
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, **__: (str(file), ""))
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(restored), ""))
    click(qtbot, safety.restore_button)
    settle(qtbot, dock)
    assert safety.outcome.text().startswith(f"Restored to {restored}.")
    with Project.open(restored, require_video=False) as copy:
        np.testing.assert_array_equal(copy.labels[:], project.labels[:])


def test_a_damaged_frame_is_shown_with_a_message_and_not_painted(dock, qtbot):
    paint(dock, 1, DRIVER)
    folder = dock.session.project.folder
    with Project.open(folder, require_video=False) as elsewhere:  # nothing of frame 2 is in the memory of the window
        elsewhere.labels[2, 10:20, 10:20] = DRIVER
    (folder / "labels" / "c.2.0.0").unlink()
    dock.layers.show_frame(2)
    settle(qtbot, dock)
    assert any("Frame 2 should have its labels" in message.text() for message in dock.findChildren(Message))
    with pytest.raises(ProjectError, match="Frame 2"):
        dock.layers.labels.data[2, 0:5, 0:5] = DRIVER
    dock.layers.show_frame(1)
    dock.open(folder)
    settle(qtbot, dock)
    assert "files of 1 frame are damaged (2)" in dock.session.project.notice


def test_the_time_on_a_frame_excludes_long_pauses(dock):
    log, now = dock.session.project.work_log, [100.0]
    dock.work_clock.stop()
    clock = WorkClock(dock.layers, now=lambda: now[0])
    clock.follow(dock.session.project)
    before = {work.frame_index: work.seconds for work in log.per_frame()}
    for seconds in (5, 20, 45, 3):  # the third is a pause
        now[0] += seconds
        clock.note_activity()
    dock.layers.show_frame(4)
    now[0] += 2
    clock.note_activity()
    now[0] += 7
    clock.note_activity()
    clock.stop()
    after = {work.frame_index: work.seconds for work in log.per_frame()}
    assert after[0] - before.get(0, 0) == pytest.approx(30)  # 5 + 20 + 3, and 2 until the next frame was shown
    assert after[4] - before.get(4, 0) == pytest.approx(7)


# Verified ------------------------------------------------------------------------------------------------------------


def test_a_stroke_on_a_verified_frame_is_reported_once_and_removed(dock, qtbot, notes):
    dock.session.project.labels.verify(0)
    layer = dock.layers.labels
    for column in range(20, 40, 4):
        layer.paint((0, 20, column), DRIVER)
    qtbot.waitUntil(lambda: not layer._slice.image.raw.any(), timeout=TIMEOUT)
    assert dock.correct_panel.message.text() == "Frame 0 is verified. Unlock it (Shift+D) to change it."
    assert notes == ["Correct: see the message in the panel"]
    dock.layers.show_frame(1)
    layer.paint((1, 20, 20), DRIVER)
    assert dock.session.project.labels[1, 20, 20] == DRIVER
    assert len(notes) == 1


def test_a_stroke_on_one_verified_class_names_it(dock, qtbot, notes):
    paint(dock, 0, SCISSORS)
    dock.session.project.labels.verify(0, [SCISSORS])
    dock.layers.labels.paint((0, 20, 20), DRIVER)
    qtbot.waitUntil(lambda: bool(notes), timeout=TIMEOUT)
    why = "Monopolar Curved Scissors is verified in frame 0. Unlock the frame (Shift+D) to change it."
    assert dock.correct_panel.message.text() == why
    assert dock.session.project.labels[0, 20, 20] == SCISSORS


# Read-only -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def owned_elsewhere(empty_dock, clip, qtbot) -> Iterator[tuple[MainWidget, Project]]:
    """Another window has the project open, with one label; this window opens it as well."""
    from surgicalsam_napari.instruments import ENDOVIS2018
    from surgicalsam_napari.video import VideoReader

    other = Project.open_or_create(VideoReader(clip), ENDOVIS2018)
    other.labels[0, 10:20, 10:20] = DRIVER
    assert other.claim() is None
    open_in(empty_dock, clip, qtbot)
    empty_dock.tabs.show_panel(empty_dock.correct_panel)
    yield empty_dock, other
    other.close()


def test_a_project_that_is_open_elsewhere_is_read_only(owned_elsewhere, qtbot):
    dock, _ = owned_elsewhere
    assert not dock.video_panel.banner.isHidden()
    assert dock.video_panel.read_only.text().startswith("Read-only: ")
    assert not dock.layers.labels.editable
    assert not dock.segment_panel.segment.isEnabled()
    assert "Read-only" in dock.segment_panel.cost.text()
    assert not dock.export_panel.import_form.from_folder.isEnabled()
    assert "Read-only" in dock.export_panel.import_form.result.text()
    panel = dock.correct_panel
    looking = {panel.review.next_button, panel.review.previous_button, panel.similarity_button}
    changing = [action for action in ACTIONS if action.key and action.button_in(dock) not in looking]
    assert [action.title for action in changing if action.what_is_missing(dock) is None] == []
    dock.layers.show_frame(3)
    assert not dock.layers.labels.editable


def test_the_project_can_be_edited_after_the_other_window_closes_it(owned_elsewhere, qtbot):
    dock, other = owned_elsewhere
    click(qtbot, dock.video_panel.try_again)
    settle(qtbot, dock)
    assert not dock.video_panel.banner.isHidden()
    other.close()
    click(qtbot, dock.video_panel.try_again)
    settle(qtbot, dock)
    assert dock.video_panel.banner.isHidden()
    assert dock.layers.labels.editable
    dock.layers.labels.paint((2, 20, 20), SCISSORS)
    assert dock.session.project.labels[2, 20, 20] == SCISSORS
    assert dock.session.project.labels[0, 15, 15] == DRIVER


def test_the_banner_says_who_and_since_when():
    today = datetime.now().astimezone().replace(hour=10, minute=42).isoformat(" ", timespec="minutes")
    assert why_read_only(Owner("anna", "or-pc", 7, today)) == (
        "Read-only: anna on or-pc has had it open since 10:42. Close it there, then open it again here."
    )
    assert "since 03 Jan, " in why_read_only(Owner("anna", "or-pc", 7, "2020-01-03 10:42+00:00"))
    assert "since some time." in why_read_only(Owner("anna", "or-pc", 7, "some time"))
    assert "cannot be written to" in why_read_only(None)


# The dock closes -------------------------------------------------------------------------------------------------------


def test_closing_the_dock_removes_the_timeline_the_keys_and_the_claim(dock, qtbot, clip):
    viewer, project = dock.layers.viewer, dock.session.project
    window = viewer.window
    assert "Timeline" in window.dock_widgets
    bound = {action.key for action in ACTIONS if action.key}
    assert set(dock.keys.keys) == bound
    assert bound < set(map(str, viewer.keymap))
    window.remove_dock_widget(dock)
    qtbot.waitUntil(lambda: dock.session.project is None, timeout=TIMEOUT)
    assert "Timeline" not in window.dock_widgets
    assert len(viewer.keymap) == 0
    with Project.open(project.folder) as opened_again:
        assert opened_again.claim() is None


def test_the_time_on_the_last_frame_is_saved_when_the_dock_closes(dock, qtbot):
    folder, now = dock.session.project.folder, dock.work_clock._now
    dock.work_clock._now = lambda: now() + 4
    dock.layers.show_frame(2)
    dock.work_clock._now = lambda: now() + 9
    dock.work_clock.note_activity()
    dock.layers.viewer.window.remove_dock_widget(dock)
    with Project.open(folder, require_video=False) as project:
        assert {work.frame_index: round(work.seconds) for work in project.work_log.per_frame()}[2] == 5
