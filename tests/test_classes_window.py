"""Classes in the window: list, add, rename, recolour, reorder, remove, hide, and choose by key, with real events."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("qtpy.QtWidgets")

from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QColor
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QColorDialog, QFileDialog, QLineEdit

from surgicalsam_napari.instruments import ENDOVIS2018, ClassSet, InstrumentClass
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Provenance
from surgicalsam_napari.store.corrections import Corrections
from surgicalsam_napari.store.project_classes import ProjectClasses
from surgicalsam_napari.widgets.classes.class_list import COLOR, EYE, FRAMES, NAME
from surgicalsam_napari.widgets.classes.classes_dialog import ClassesDialog
from surgicalsam_napari.widgets.main_widget import MainWidget
from surgicalsam_napari.widgets.parts.class_picker import EDIT
from surgicalsam_napari.widgets.train.data_table import warnings_about
from surgicalsam_napari.widgets.viewer.label_changes import LabelChanges
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers
from surgicalsam_napari.widgets.viewer.session_signals import SessionSignals

BIPOLAR, DRIVER, SCISSORS = 1, 3, 4
LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def dock(make_napari_viewer, qtbot, phantom_clip, tmp_path, bundled_tiny) -> Iterator[MainWidget]:
    viewer = make_napari_viewer(show=True)
    made = MainWidget(viewer)
    viewer.window.add_dock_widget(made)
    qtbot.waitUntil(lambda: not made.is_busy, timeout=60_000)
    made.open(Path(shutil.copy(phantom_clip, tmp_path / "clip.mp4")))
    qtbot.waitUntil(lambda: made.session.project is not None and not made.is_busy, timeout=60_000)
    yield made
    made.session.close()


@dataclass
class Window:
    """The dialog on a project in a viewer, without the other panels."""

    session: Session
    layers: ViewerLayers
    dialog: ClassesDialog


@pytest.fixture
def window(make_napari_viewer, qtbot, clip) -> Iterator[Window]:
    session = Session(ENDOVIS2018)
    layers, changes, signals = ViewerLayers(make_napari_viewer(), session), LabelChanges(), SessionSignals(session)
    dialog = ClassesDialog(session, layers, changes)
    qtbot.addWidget(dialog)
    for part in (changes, layers, dialog):
        part.subscribe(signals)
    session.open(clip)
    session.select_class(BIPOLAR)
    dialog.open()
    yield Window(session, layers, dialog)
    dialog.close()
    session.close()


def choose_in_list(picker, text: str) -> None:
    """Open a dropdown, and click on an entry."""
    QTest.keyClick(picker, Qt.Key.Key_F4)  # after a click, Qt ignores the mouse for the time of a double click
    index = picker.model().index(picker.findText(text), 0)
    picker.view().scrollTo(index)
    QTest.mouseClick(picker.view().viewport(), LEFT, pos=picker.view().visualRect(index).center())
    QApplication.processEvents()


def click_cell(dialog, class_id: int, column: int, *, double: bool = False) -> None:
    dialog.list.choose(class_id)
    place = dialog.list.visualItemRect(dialog.list.currentItem()).center()
    x = dialog.list.columnViewportPosition(column) + 12
    QTest.mouseClick(dialog.list.viewport(), LEFT, pos=QPoint(x, place.y()))
    if double:
        QTest.mouseDClick(dialog.list.viewport(), LEFT, pos=QPoint(x, place.y()))


def rename(dialog, class_id: int, name: str) -> None:
    """Double-click on a name, write another one, press Enter."""
    click_cell(dialog, class_id, NAME, double=True)
    editor = dialog.list.findChild(QLineEdit)
    editor.selectAll()
    QTest.keyClicks(editor, name)
    QTest.keyClick(editor, Qt.Key.Key_Return)
    for _ in range(3):  # Qt stores the text and closes the editor later, then the dialog renames the class
        QApplication.processEvents()


def names_in(picker) -> list[str]:
    return [picker.itemText(row) for row in range(picker.count()) if picker.itemData(row) is not None]


def click(button) -> None:
    QTest.mouseClick(button, LEFT)
    QApplication.processEvents()


def press(dock, key: Qt.Key) -> None:
    canvas = dock.layers.viewer.window._qt_viewer.canvas.native
    QTest.keyClick(canvas, key, Qt.KeyboardModifier.ControlModifier)


# ---- in the whole window


def test_the_last_entry_of_the_dropdown_opens_the_list_and_changes_appear_everywhere(dock, qtbot):
    picker, strip = dock.segment_panel.picker, dock.timeline.timeline.strip
    dock.session.project.labels[2, 0:9, 0:9] = DRIVER
    choose_in_list(picker, EDIT)
    qtbot.waitUntil(dock.classes_dialog.isVisible)
    assert dock.session.selected_class_id == picker.class_id == BIPOLAR
    rename(dock.classes_dialog, DRIVER, "Driver")
    assert dock.session.is_trained(DRIVER)  # the checkpoint knows it by its old name
    dock.classes_dialog.list.choose(DRIVER)
    click(dock.classes_dialog.up_button)
    QTest.keyClicks(dock.classes_dialog.name, "Stapler")
    QTest.keyClick(dock.classes_dialog.name, Qt.Key.Key_Return)
    names = ["Bipolar Forceps", "Driver", "Prograsp Forceps", "Monopolar Curved Scissors", "Ultrasound Probe"]
    names += ["Suction Instrument", "Clip Applier", "Stapler (not yet trained)"]
    for shown in (picker, dock.correct_panel.picker):
        assert names_in(shown) == names
    assert dock.correct_panel.review.which_class.itemText(2) == "Driver"
    assert strip.tooltip_at(QPoint(40, strip.layout_now.top_of(1) + 4)) == "Driver"
    features = dock.layers.labels.features
    assert features.loc[features["index"] == DRIVER, "class"].item() == "Driver"
    dock.changes.emit_now()
    dock.timeline.timeline.flush()
    assert strip.overview.provenance[2].tolist() == [0, Provenance.EDITED, 0, 0, 0, 0, 0, 0]


def test_an_arrow_key_at_the_end_of_the_dropdown_changes_nothing(dock):
    picker = dock.segment_panel.picker
    dock.session.select_class(7)
    QTest.keyClick(picker, Qt.Key.Key_Down)
    assert (picker.class_id, dock.session.selected_class_id) == (7, 7)
    assert not dock.classes_dialog.isVisible()
    for key, chosen in ((Qt.Key.Key_3, DRIVER), (Qt.Key.Key_1, BIPOLAR), (Qt.Key.Key_9, BIPOLAR)):  # there is no ninth
        press(dock, key)
        assert dock.session.selected_class_id == dock.layers.labels.selected_label == chosen
    dock.session.reorder_classes((7, 6, 5, 4, 3, 2, 1))
    press(dock, Qt.Key.Key_1)
    assert dock.session.selected_class_id == 7


# ---- changes


def test_a_name_in_use_is_refused_in_the_dialog_and_the_old_one_stays(window):
    rename(window.dialog, DRIVER, "clip applier")
    assert "Choose another name" in window.dialog.problem.text()
    assert window.dialog.problem.isVisible()
    assert window.dialog.list.topLevelItem(2).text(NAME) == "Large Needle Driver"
    assert window.session.classes == ENDOVIS2018


def test_a_class_is_added_with_its_own_colour_and_can_be_painted(window, qtbot):
    QTest.keyClicks(window.dialog.name, "Stapler")
    QTest.keyClick(window.dialog.name, Qt.Key.Key_Return)
    assert window.dialog.name.text() == ""
    added = window.session.classes.by_name("Stapler")
    assert added.id == 8
    assert added.color not in {c.color for c in ENDOVIS2018}
    window.session.select_class(8)
    window.layers.labels.paint((0, 20, 20), 8)
    qtbot.waitUntil(lambda: window.dialog.list.topLevelItem(7).text(FRAMES) == "1", timeout=20_000)
    assert window.session.project.labels.provenance(0, 8) == Provenance.EDITED


def test_a_former_name_of_another_class_is_asked_about(window):
    rename(window.dialog, DRIVER, "Driver")
    QTest.keyClicks(window.dialog.name, "Large Needle Driver")
    click(window.dialog.add_button)
    assert window.dialog.question.isVisible()
    assert len(window.session.classes) == 7
    click(window.dialog.question.go_on)
    assert window.session.classes.by_name("Large Needle Driver").id == 8


def test_a_colour_is_changed_in_the_canvas_and_the_lists(window, monkeypatch):
    monkeypatch.setattr(QColorDialog, "getColor", lambda *_: QColor("#123456"))
    click_cell(window.dialog, DRIVER, COLOR)
    assert window.session.classes.by_id(DRIVER).color == "#123456"
    assert window.layers.labels.get_color(DRIVER)[:3] == pytest.approx(np.array([0x12, 0x34, 0x56]) / 255, abs=0.01)


def test_classes_are_reordered_everywhere_and_labels_stay(window):
    window.session.project.labels[2, 0:9, 0:9] = DRIVER
    window.dialog.list.choose(DRIVER)
    click(window.dialog.up_button)
    click(window.dialog.up_button)
    assert window.session.classes.ids[:3] == (DRIVER, 1, 2)
    assert window.dialog.list.current_id == DRIVER
    assert window.session.selected_class_id == BIPOLAR
    assert window.session.project.labels.row("provenance", 2).tolist() == [Provenance.EDITED, 0, 0, 0, 0, 0, 0]
    assert window.session.project.labels[2][4, 4] == DRIVER
    click(window.dialog.down_button)
    assert window.session.classes.ids[:3] == (1, DRIVER, 2)


def test_a_class_with_labels_is_not_removed_and_the_dialog_says_what_to_do(window):
    window.session.project.labels[2, 0:9, 0:9] = DRIVER
    window.dialog.list.choose(DRIVER)
    click(window.dialog.remove_button)
    assert "frame 2 shows it" in window.dialog.problem.text()
    assert len(window.session.classes) == 7


def test_the_selected_class_is_removed_and_comes_back_by_undo(window):
    window.dialog.list.choose(BIPOLAR)
    click(window.dialog.remove_button)
    assert window.session.classes.ids == (2, 3, 4, 5, 6, 7)
    assert window.session.selected_class_id == 2
    assert window.layers.labels.selected_label == 2
    click(window.dialog.undo_button)
    assert window.session.classes == ENDOVIS2018
    assert not window.dialog.undo_button.isEnabled()


def test_every_change_can_be_undone_in_turn(window):
    rename(window.dialog, DRIVER, "Driver")
    QTest.keyClicks(window.dialog.name, "Stapler")
    click(window.dialog.add_button)
    window.dialog.list.choose(8)
    click(window.dialog.up_button)
    for _ in range(3):
        click(window.dialog.undo_button)
    assert window.session.classes == ENDOVIS2018
    QTest.keyClicks(window.dialog.name, "Swab")
    click(window.dialog.add_button)
    assert window.session.classes.ids[-1] == 9  # 8 is never used again for another class


def test_undo_leaves_classes_alone_that_a_class_set_or_an_import_added(window):
    rename(window.dialog, DRIVER, "Driver")
    window.session.use_class_set(ClassSet("more", (*ENDOVIS2018, InstrumentClass(9, "Swab", "#112233"))))
    assert not window.dialog.undo_button.isEnabled()
    window.session.undo_classes()
    assert window.session.classes.by_id(9).name == "Swab"
    assert window.session.classes.by_id(DRIVER).name == "Driver"


def test_the_next_new_video_has_the_edited_classes_and_a_file_keeps_them(window, clip, tmp_path, monkeypatch):
    rename(window.dialog, DRIVER, "Driver")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "ours.yaml"), ""))
    click(window.dialog.save_button)
    edited = window.session.classes
    assert ClassSet.from_yaml(tmp_path / "ours.yaml") == edited
    shutil.copy(clip, tmp_path / "next.mp4")
    assert window.session.open(tmp_path / "next.mp4").classes == edited
    assert not window.dialog.undo_button.isEnabled()


def test_a_read_only_project_shows_the_reason_and_only_the_eyes_work(window):
    window.session.project.writable = False
    window.dialog.refresh()
    assert window.dialog.state.text().startswith("Read-only")
    for widget in (
        window.dialog.name,
        window.dialog.add_button,
        window.dialog.rename_button,
        window.dialog.up_button,
        window.dialog.remove_button,
    ):
        assert not widget.isEnabled()
    click_cell(window.dialog, DRIVER, NAME, double=True)
    assert window.dialog.list.findChild(QLineEdit) is None
    click_cell(window.dialog, DRIVER, EYE)
    assert window.layers.hidden_classes == {DRIVER}


def test_classes_are_not_reordered_or_removed_during_a_run(window):
    window.dialog.set_waiting("The video is being segmented. Wait until this is done.")
    assert not window.dialog.remove_button.isEnabled()
    assert not window.dialog.up_button.isEnabled()
    assert window.dialog.add_button.isEnabled()
    assert window.dialog.state.text().startswith("The video is being segmented")


# ---- eyes and keys


def test_a_hidden_class_is_not_drawn_and_its_labels_stay(window):
    window.session.project.labels[2, 0:9, 0:9] = DRIVER
    click_cell(window.dialog, DRIVER, EYE)
    assert window.layers.labels.get_color(DRIVER)[3] == 0
    assert window.layers.labels.get_color(SCISSORS)[3] > 0
    assert window.session.project.labels[2][4, 4] == DRIVER
    click_cell(window.dialog, DRIVER, EYE)
    assert window.layers.labels.get_color(DRIVER)[3] > 0


def test_a_hidden_class_is_shown_again_when_it_is_chosen_or_painted(window):
    click_cell(window.dialog, DRIVER, EYE)
    window.session.select_class(DRIVER)
    assert window.layers.hidden_classes == frozenset()
    click_cell(window.dialog, DRIVER, EYE)
    assert window.layers.hidden_classes == {DRIVER}
    window.layers.labels.paint((0, 20, 20), DRIVER)
    assert window.layers.hidden_classes == frozenset()


# ---- training data


def test_the_warning_about_few_frames_counts_a_renamed_class_once() -> None:
    old, new = ENDOVIS2018.by_id(DRIVER), ProjectClasses.of(ENDOVIS2018).renamed(DRIVER, "Driver").in_use.by_id(DRIVER)
    counts = [Corrections(Path("a"), "a.mp4", 1, {new: 1}), Corrections(Path("b"), "b.mp4", 5, {old: 5})]
    assert warnings_about(counts) == []
    assert "Driver is in one frame only" in warnings_about(counts[:1])[0]
