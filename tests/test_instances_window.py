"""Instances in the real window: find them, say who is who by clicks and keys, colours and names, bad projects."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("qtpy.QtWidgets")

from canvas_mouse import CanvasMouse
from matplotlib.colors import to_rgba
from napari.layers import Labels
from qtpy.QtCore import QPoint, Qt, QThreadPool
from qtpy.QtTest import QTest
from window import settle

from surgicalsam_napari.inference import SegmentReport
from surgicalsam_napari.model.surgical_sam import FramePrediction
from surgicalsam_napari.store import Provenance, Span, Track, TrackTable
from surgicalsam_napari.store.ownership import Owner
from surgicalsam_napari.widgets.main_widget import MainWidget
from surgicalsam_napari.widgets.timeline.colors import TRACK

DRIVER, SCISSORS = 3, 4
LEFT, RIGHT = (slice(10, 40), slice(10, 40)), (slice(10, 40), slice(80, 110))
IN_LEFT, IN_RIGHT, BESIDE = (20, 20), (20, 90), (60, 60)
COUNT, OUT, TIMEOUT = 12, 5, 60_000
NO_MODIFIER, SHIFT = Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.ShiftModifier


@pytest.fixture
def dock(make_napari_viewer, qtbot, clip, bundled_tiny) -> Iterator[MainWidget]:
    """Two needle drivers, predicted; the left one is out of view in frame 5. Nothing is linked. The section is in view."""
    viewer = make_napari_viewer()
    dock = MainWidget(viewer)
    viewer.window.add_dock_widget(dock, name="SurgicalSAM")
    settle(qtbot, dock)
    dock.open(clip)
    settle(qtbot, dock)
    project, score = dock.session.project, np.ones(1, np.float32)
    with project.action("Segment", COUNT) as action:
        for frame in range(COUNT):
            labels = np.zeros((96, 128), np.uint8)
            labels[RIGHT] = DRIVER
            labels[LEFT] = DRIVER if frame != OUT else 0
            predicted = FramePrediction((DRIVER,), labels, score, score, np.array([True]), score * 0)
            project.labels.write_prediction(frame, predicted, 1, action=action)
    dock.tabs.show_panel(dock.correct_panel)
    dock.session.select_class(DRIVER)
    dock.layers.show_frame(2)
    dock.correct_panel._folds[dock.correct_panel.instances].open()
    settle(qtbot, dock)
    yield dock
    settle(qtbot, dock)
    QThreadPool.globalInstance().waitForDone(TIMEOUT)
    dock.session.close()


@pytest.fixture
def linked(dock, qtbot) -> MainWidget:
    """As `dock`, with three tracks: the left one is another one after frame 5."""
    project = dock.session.project
    with project.action("Link", COUNT) as action:
        for frame in range(COUNT):
            numbers = np.zeros((96, 128), np.uint8)
            numbers[RIGHT] = 2
            numbers[LEFT] = 0 if frame == OUT else 1 if frame < OUT else 3
            project.tracks.write_numbers(frame, numbers, action=action)
        left, right, again = (Span(0, 4, 1),), (Span(0, 11, 2),), (Span(6, 11, 3),)
        tracks = (Track(1, DRIVER, left), Track(2, DRIVER, right), Track(3, DRIVER, again))
        project.tracks.write_table(TrackTable(tracks), action=action)
    settle(qtbot, dock)
    return dock


def mouse_of(dock: MainWidget) -> CanvasMouse:
    return CanvasMouse(dock.layers.viewer)


def press(qtbot, dock: MainWidget, button) -> None:
    """Click a button with the mouse, and wait for the work that it starts."""
    dock.reveal(button)
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    settle(qtbot, dock)


def table_of(dock: MainWidget) -> TrackTable:
    return dock.session.project.tracks.table


def test_find_instances_follows_both_and_names_them(dock, qtbot):
    section = dock.correct_panel.instances
    assert not section.swap_button.isEnabled()
    assert "Find the instances first" in section.swap_button.toolTip()
    press(qtbot, dock, section.find_button)
    table = table_of(dock)
    assert {track.class_id for track in table.tracks} == {DRIVER}
    assert len(table.in_frame(2)) == 2
    assert section.outcome.text().startswith(f"{len(table.tracks)} instances followed in 12 frames.")
    assert "Large Needle Driver 1, Large Needle Driver 2" in section.missing.text()
    press(qtbot, dock, dock.correct_panel.undo_bar.undo_button)
    assert table_of(dock).tracks == ()


def test_same_as_by_clicks_in_two_frames_and_undo_says_what_it_was(linked, qtbot):
    section, undo_bar, mouse, before = (
        linked.correct_panel.instances,
        linked.correct_panel.undo_bar,
        mouse_of(linked),
        table_of(linked),
    )
    mouse.key(Qt.Key.Key_S, SHIFT)
    assert section.same_button.isChecked()
    mouse.click(*BESIDE)
    assert section.outcome.text() == "There is no instrument at this place."
    mouse.click(*IN_LEFT)
    assert section.missing.text().startswith("First: Large Needle Driver 1, frame 2. Now click on the same one")
    linked.layers.show_frame(8)
    mouse.click(*IN_LEFT)
    assert [track.spans for track in table_of(linked).tracks] == [(Span(0, 4, 1), Span(6, 11, 3)), (Span(0, 11, 2),)]
    assert section.outcome.text() == "Large Needle Driver 3 is Large Needle Driver 1. Undo (U) takes it back."
    settle(qtbot, linked)
    assert undo_bar.undo_button.text() == "Undo: Large Needle Driver 3 is Large Needle Driver 1"
    press(qtbot, linked, undo_bar.undo_button)
    assert table_of(linked) == before
    assert undo_bar.outcome.text() == "Undone: Large Needle Driver 3 is Large Needle Driver 1."


def test_two_instruments_of_one_frame_are_not_joined_and_the_section_says_why(linked, qtbot):
    section, mouse, before = linked.correct_panel.instances, mouse_of(linked), table_of(linked)
    press(qtbot, linked, section.same_button)
    mouse.click(*IN_LEFT)
    mouse.click(*IN_RIGHT)
    assert "frame 0 shows Large Needle Driver 1 and Large Needle Driver 2" in section.outcome.text()
    assert table_of(linked) == before
    mouse.key(Qt.Key.Key_Escape)
    assert not section.same_button.isChecked()


def test_swap_from_here_on_is_one_key(linked, qtbot):
    section, mouse = linked.correct_panel.instances, mouse_of(linked)
    linked.layers.show_frame(8)
    mouse.key(Qt.Key.Key_Y, SHIFT)
    assert [track.spans for track in table_of(linked).tracks] == [
        (Span(0, 4, 1),),
        (Span(0, 7, 2), Span(8, 11, 3)),
        (Span(6, 7, 3), Span(8, 11, 2)),
    ]
    assert section.outcome.text().startswith("Swap Large Needle Driver 2 and Large Needle Driver 3 from frame 8 on.")
    linked.layers.show_frame(OUT)
    mouse.key(Qt.Key.Key_Y, SHIFT)
    assert section.outcome.text().startswith("Frame 5 shows only one instance of Large Needle Driver")


def test_split_here_by_a_click(linked, qtbot):
    linked.layers.show_frame(3)
    mouse_of(linked).key(Qt.Key.Key_X, SHIFT)
    mouse_of(linked).click(*IN_RIGHT)
    assert [(track.id, track.spans) for track in table_of(linked).of_class(DRIVER)][1] == (2, (Span(0, 2, 2),))
    assert table_of(linked).tracks[-1].spans == (Span(3, 11, 2),)
    press(qtbot, linked, linked.correct_panel.undo_bar.undo_button)
    assert len(table_of(linked).tracks) == 3


@pytest.mark.parametrize("changes_them", [True, False])
def test_the_class_of_a_track_asks_before_it_changes_a_persons_pixels(linked, qtbot, changes_them):
    section, project = linked.correct_panel.instances, linked.session.project
    painted = project.labels[7].copy()
    painted[10:12, 80:90] = 0
    project.labels.write_edit(7, painted)
    painted[10:12, 80:90] = DRIVER
    project.labels.write_edit(7, painted)
    settle(qtbot, linked)
    linked.layers.show_frame(2)
    section.right_class.setCurrentIndex(section.right_class.findData(SCISSORS))
    mouse_of(linked).key(Qt.Key.Key_W, SHIFT)
    mouse_of(linked).click(*IN_RIGHT)
    settle(qtbot, linked)
    question = section.class_change.question
    assert not section.class_change.isHidden()
    assert "In 1 frame, a person painted or verified pixels" in question.text.text()
    press(qtbot, linked, question.go_on if changes_them else question.stop)
    assert table_of(linked).by_id(2).class_id == SCISSORS
    assert project.labels[2][IN_RIGHT] == SCISSORS
    assert project.labels[7][10, 85] == (SCISSORS if changes_them else DRIVER)
    press(qtbot, linked, linked.correct_panel.undo_bar.undo_button)
    assert (table_of(linked).by_id(2).class_id, project.labels[2][IN_RIGHT]) == (DRIVER, DRIVER)


def color_at(dock: MainWidget, row: int, column: int) -> tuple[float, ...] | None:
    """The colour that the canvas shows over the video; None for none."""
    for layer in reversed([layer for layer in dock.layers.viewer.layers if isinstance(layer, Labels) and layer.visible]):
        color = layer.colormap.map(layer.data[dock.layers.current_frame, row, column])
        if color[3] > 0:
            return tuple(float(channel) for channel in color)
    return None


def test_colours_by_instance_differ_and_painting_stays_as_it_is(linked, qtbot):
    section, mouse, labels = linked.correct_panel.instances, mouse_of(linked), linked.layers.labels
    assert color_at(linked, *IN_LEFT) == color_at(linked, *IN_RIGHT)
    mouse.key(Qt.Key.Key_J, SHIFT)
    assert section.by_instance.isChecked()
    driver = to_rgba(linked.session.classes.by_id(DRIVER).color)
    assert color_at(linked, *IN_LEFT) == pytest.approx(driver, abs=0.01)  # the first one has the colour of its class
    assert np.abs(np.subtract(color_at(linked, *IN_RIGHT), driver)).sum() > 0.3
    assert color_at(linked, *BESIDE) is None
    assert linked.layers.viewer.layers.selection.active is labels
    labels.mode, labels.brush_size = "paint", 7
    mouse.drag((60, 60), (60, 70))
    settle(qtbot, linked)
    assert linked.session.project.labels[2, 60, 65] == DRIVER
    assert linked.session.project.labels.provenance(2, DRIVER) == Provenance.EDITED
    assert color_at(linked, 60, 65) == pytest.approx(driver, abs=0.01)
    labels.mode = "polygon"  # napari draws an unfinished outline in the colour of the class
    assert color_at(linked, *IN_LEFT) == color_at(linked, *IN_RIGHT)
    labels.mode = "pan_zoom"
    mouse.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert linked.session.project.labels[2, 60, 65] == 0
    mouse.key(Qt.Key.Key_D)
    assert linked.session.project.labels.provenance(2, DRIVER) == Provenance.VERIFIED
    mouse.key(Qt.Key.Key_J, SHIFT)
    assert color_at(linked, *IN_LEFT) == color_at(linked, *IN_RIGHT)


def test_the_status_bar_names_the_instance_under_the_mouse(linked):
    def status_at(row: int, column: int) -> str:
        status = linked.layers.labels.get_status(
            (2, row, column), view_direction=np.array([1, 0, 0]), dims_displayed=[1, 2], world=True
        )
        return status["coordinates"]

    assert status_at(*IN_RIGHT).endswith("Large Needle Driver 2")
    assert "Needle" not in status_at(*BESIDE)


def test_a_damaged_table_says_the_remedy_and_finding_again_is_it(linked, qtbot):
    section, project = linked.correct_panel.instances, linked.session.project
    (project.folder / "tracks.json").write_text("{")
    linked.layers.show_frame(3)
    linked.correct_panel.refresh()
    assert "link the instances again" in section.missing.text()
    assert not section.split_button.isEnabled()
    assert section.find_button.isEnabled()
    press(qtbot, linked, section.find_button)
    assert len(table_of(linked).in_frame(3)) == 2


def test_a_read_only_project_disables_the_buttons_with_the_reason(linked, monkeypatch):
    section = linked.correct_panel.instances
    monkeypatch.setattr(linked.session.project, "writable", False)
    linked.session.other_owner = Owner("anna", "theatre-2", 7, "2026-01-01T10:00:00")
    section.refresh()
    assert not any(button.isEnabled() for button in (section.find_button, *section.buttons.values()))
    assert section.missing.text() == "Read-only: anna on theatre-2 has this project open."
    assert "Read-only" in section.swap_button.toolTip()


def test_a_class_of_the_timeline_opens_into_its_tracks_and_a_click_goes_to_a_span(linked, qtbot):
    strip, section = linked.timeline.timeline.strip, linked.correct_panel.instances

    def click(x: int, row: int) -> QPoint:
        layout = strip.layout_now
        place = QPoint(x, layout.top_of(row) + layout.row_height // 2)
        QTest.mouseClick(strip.viewport(), Qt.MouseButton.LeftButton, pos=place)
        return place

    strip.verticalScrollBar().setValue(0)
    click(8, DRIVER - 1)
    place = QPoint(8, strip.layout_now.top_of(DRIVER - 1) + 5)
    assert strip.layout_now.top_of(DRIVER + 3) <= strip.viewport().height()  # all its tracks are in view
    assert [row.line.title for row in strip.rows if row.line] == [f"Large Needle Driver {number}" for number in (1, 2, 3)]
    assert section.rows_box.isChecked()
    assert strip.tooltip_at(place) == "Hide the 3 tracks of Large Needle Driver"
    columns, left = strip.view.columns_of(9, 9), strip.layout_now.left
    place = click(left + columns[len(columns) // 2], DRIVER + 2)  # the third track
    assert strip.tooltip_at(place) == "Frame 9 - Large Needle Driver 3"
    assert linked.layers.current_frame == 9
    place = click(left - 20, DRIVER + 2)
    assert strip.tooltip_at(place).startswith("Large Needle Driver 3: 6 frames from 6 to 11.")
    assert linked.layers.current_frame == 6
    picture = strip.viewport().grab().toImage()  # it also lays out the window, which nobody sees
    strip._scroll_to_class(DRIVER)
    first, last = (strip.layout_now.left + strip.view.columns_of(frame, frame)[2] for frame in (2, 9))
    y = strip.layout_now.top_of(DRIVER + 2) + strip.layout_now.row_height // 2
    picture = strip.viewport().grab().toImage()
    assert picture.pixelColor(first, y).name() == TRACK
    assert picture.pixelColor(last, y).name() == strip.rows[DRIVER + 2].line.color
    mouse_of(linked).key(Qt.Key.Key_L, SHIFT)
    assert [row for row in strip.rows if row.line] == []


def test_a_cancelled_vote_can_be_resumed_without_the_run(dock, qtbot, monkeypatch):
    project, panel = dock.session.project, dock.segment_panel

    def segment(class_ids, frames, *, action):
        score = np.ones(2, np.float32)
        for done, frame in enumerate(frames, start=1):
            labels = np.zeros((96, 128), np.uint8)
            labels[LEFT], labels[RIGHT] = DRIVER, SCISSORS if frame == 7 else DRIVER
            predicted = FramePrediction((DRIVER, SCISSORS), labels, score, score, np.array([True, True]), score * 0)
            project.labels.write_prediction(frame, predicted, 1, action=action)
            yield SegmentReport(frame, done, len(frames), predicted, True)

    monkeypatch.setattr(dock.session, "segment", segment)
    dock.tabs.show_panel(panel)
    panel.run.reported.connect(lambda _report: panel.run.is_voting and panel.run.cancel())
    panel.segment.click()
    settle(qtbot, dock)
    assert "The vote over time was stopped" in panel.outcome.text()
    assert panel.outcome.button.text() == "Resume: vote over time"
    panel.run.reported.disconnect()
    panel.run.reported.connect(panel._on_report)
    press(qtbot, dock, panel.outcome.button)
    assert project.labels[7][IN_RIGHT] == DRIVER
    assert "1 put right. Undo (U) takes back the vote." in panel.outcome.text() and panel.outcome.button.isHidden()


def test_after_a_run_the_vote_puts_a_single_wrong_class_right_and_undo_takes_it_back(dock, qtbot, monkeypatch):
    project, panel = dock.session.project, dock.segment_panel
    before = project.labels[7].copy()

    def segment(class_ids, frames, *, action):
        """Predicts two needle drivers; the right one is scissors in frame 7."""
        score = np.ones(2, np.float32)
        for done, frame in enumerate(frames, start=1):
            labels = np.zeros((96, 128), np.uint8)
            labels[LEFT], labels[RIGHT] = DRIVER, SCISSORS if frame == 7 else DRIVER
            predicted = FramePrediction((DRIVER, SCISSORS), labels, score, score, np.array([True, True]), score * 0)
            project.labels.write_prediction(frame, predicted, 1, action=action)
            yield SegmentReport(frame, done, len(frames), predicted, 0.0)

    monkeypatch.setattr(dock.session, "segment", segment)
    dock.tabs.show_panel(panel)
    assert panel.vote.isChecked()
    panel.segment.click()
    settle(qtbot, dock)
    assert project.labels[7][IN_RIGHT] == DRIVER
    voted = "The vote over time changed 1 region: 1 put right."
    assert f"{voted} Undo (U) takes back the run and its vote." in panel.outcome.text()
    assert "Found Large Needle Driver in 12 of 12 frames." in panel.outcome.text()
    assert "12 frames" in dock.correct_panel.undo_bar.undo_button.toolTip()  # each frame counts once
    strip = dock.timeline.timeline.strip
    row = strip.layout_now.top_of(SCISSORS - 1) + 5
    x = strip.layout_now.left + strip.view.columns_of(7, 7)[1]
    assert "changed by the vote over time" in strip.tooltip_at(QPoint(x, row))
    press(qtbot, dock, dock.correct_panel.undo_bar.undo_button)
    assert np.array_equal(project.labels[7], before)
    assert panel.outcome.text() == ""
    press(qtbot, dock, dock.correct_panel.undo_bar.redo_button)
    assert "redone" in dock.correct_panel.undo_bar.outcome.text()
    panel.segment.click()
    settle(qtbot, dock)
    assert "redone" not in dock.correct_panel.undo_bar.outcome.text()
    with project.action("Something else", 1) as action:
        project.labels.write_edit(3, np.zeros_like(before), action=action)
    settle(qtbot, dock)
    assert voted in panel.outcome.text() and "Undo" not in panel.outcome.text()
    panel.vote.setChecked(False)
    panel.segment.click()
    settle(qtbot, dock)
    assert project.labels[7][IN_RIGHT] == SCISSORS
    assert "vote" not in panel.outcome.text()
