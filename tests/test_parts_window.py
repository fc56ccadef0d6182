"""Parts in the window: the switch, the layers, the class editor and the model of each, with real events."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("qtpy.QtWidgets")

from canvas_mouse import CanvasMouse
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from surgicalsam_napari.store import Project
from surgicalsam_napari.widgets.main_widget import MainWidget
from surgicalsam_napari.widgets.source.model_panel import LoadedFrom
from surgicalsam_napari.widgets.viewer.layers import OUTLINES_NAME

DRIVER, SCISSORS = 3, 4
SHAFT, WRIST = 1, 2
LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def dock(make_napari_viewer, qtbot, phantom_clip, tmp_path, bundled_tiny) -> Iterator[MainWidget]:
    """A project whose frame 1 shows a needle driver, in the upper left."""
    viewer = make_napari_viewer(show=True)
    made = MainWidget(viewer)
    viewer.window.add_dock_widget(made)
    qtbot.waitUntil(lambda: not made.is_busy, timeout=60_000)
    made.open(Path(shutil.copy(phantom_clip, tmp_path / "clip.mp4")))
    qtbot.waitUntil(lambda: made.session.project is not None and not made.is_busy, timeout=60_000)
    opened(made).labels[1, 10:40, 10:40] = DRIVER
    made.layers.show_frame(1)
    yield made
    made.session.close()


def opened(dock: MainWidget) -> Project:
    assert dock.session.project is not None
    return dock.session.project


def add_part(dock: MainWidget, class_id: int, name: str) -> None:
    """In the class editor, as a person does."""
    dialog = dock.classes_dialog
    dialog.open()
    dialog.list.choose(class_id)
    QTest.keyClicks(dialog.parts.name, name)
    QTest.keyClick(dialog.parts.name, Qt.Key.Key_Return)


def show_parts(dock: MainWidget, shown: bool = True) -> None:
    QTest.mouseClick(dock.parts_switch.parts if shown else dock.parts_switch.instruments, LEFT)


def listed(dock: MainWidget) -> list[str]:
    picker = dock.correct_panel.picker
    return [picker.itemText(row).partition(" (")[0] for row in range(picker.count()) if picker.itemData(row)]


def test_the_switch_appears_with_the_first_part(dock: MainWidget) -> None:
    assert dock.parts_switch.isHidden()
    add_part(dock, DRIVER, "Shaft")
    assert not dock.parts_switch.isHidden() and dock.parts_switch.instruments.isChecked()
    assert opened(dock).classes.by_id(DRIVER).parts == (SHAFT,)
    QTest.mouseClick(dock.classes_dialog.undo_button, LEFT)
    assert dock.parts_switch.isHidden() and not opened(dock).classes.has_parts


def test_the_switch_shows_the_parts_within_the_outlines(dock: MainWidget) -> None:
    add_part(dock, DRIVER, "Shaft")
    add_part(dock, DRIVER, "Wrist")
    whole, labels = opened(dock), dock.layers.labels
    show_parts(dock)
    assert opened(dock) is whole.parts and dock.layers.labels is labels and labels is not None
    assert labels.name == "Parts" and listed(dock) == ["Shaft", "Wrist"]
    outlines = dock.layers.viewer.layers[OUTLINES_NAME]
    assert outlines.contour and not outlines.editable
    np.testing.assert_array_equal(np.asarray(outlines.data[1]), whole.labels.frame(1))
    assert dock.layers.current_frame == 1

    labels.paint((1, 10, 10), WRIST)
    painted = opened(dock).labels.frame(1) == WRIST
    assert painted.any() and not painted[whole.labels.frame(1) != DRIVER].any()
    labels.undo()
    assert not opened(dock).labels.frame(1).any()

    show_parts(dock, False)
    assert opened(dock) is whole and labels.name == "Instruments"
    assert OUTLINES_NAME not in dock.layers.viewer.layers
    assert "Large Needle Driver" in listed(dock) and dock.layers.current_frame == 1


def test_a_stroke_outside_an_instrument_goes_from_the_canvas_and_the_window_says_why(dock: MainWidget, qtbot) -> None:
    add_part(dock, DRIVER, "Shaft")
    dock.classes_dialog.hide()
    show_parts(dock)
    assert dock.correct_panel.class_row.title.text() == dock.segment_panel.class_row.title.text() == "Part"
    dock.tabs.show_panel(dock.correct_panel)
    parts, labels, mouse = opened(dock), dock.layers.labels, CanvasMouse(dock.layers.viewer)
    labels.mode = "paint"
    mouse.drag((20, 30), (20, 60))
    qtbot.waitUntil(lambda: not labels._data_view[20, 45:70].any(), timeout=5_000)
    assert labels._data_view[20, 30] == SHAFT == parts.labels[1, 20, 30]
    dock.correct_panel.message.clear()
    dock._refusals._outside_at = float("-inf")
    mouse.drag((70, 80), (70, 90))
    qtbot.waitUntil(lambda: not labels._data_view[70].any(), timeout=5_000)
    assert "here is no instrument that has Shaft: nothing was painted" in dock.correct_panel.message.text()
    show_parts(dock, False)
    assert dock.correct_panel.class_row.title.text() == "Class"


def test_the_classes_and_their_buttons_do_not_overlap_when_parts_are_added(dock: MainWidget, qtbot) -> None:
    for name in ("Shaft", "Wrist", "Clasper"):
        add_part(dock, DRIVER, name)
    qtbot.wait(20)
    dialog = dock.classes_dialog
    assert dialog.list.geometry().bottom() < dialog.up_button.geometry().top()
    assert dialog.parts.list.geometry().bottom() < dialog.parts.rename_button.geometry().top()


def test_verify_undo_and_timeline_work_on_parts(dock: MainWidget) -> None:
    add_part(dock, DRIVER, "Shaft")
    show_parts(dock)
    parts = opened(dock)
    parts.labels[1, 10:20, 10:20] = SHAFT
    dock.tabs.show_panel(dock.correct_panel)
    dock.correct_panel.review.then_next.setChecked(False)
    QTest.mouseClick(dock.correct_panel.review.verify_button, LEFT)
    assert parts.labels.locked_class_ids(1) == [SHAFT] and parts.whole is not None
    assert not parts.whole.labels.locked_class_ids(1)
    assert "verified" in dock.correct_panel.state.text()


def test_a_model_without_parts_says_what_to_do(dock: MainWidget) -> None:
    add_part(dock, DRIVER, "Shaft")
    show_parts(dock)
    panel = dock.segment_panel
    assert not panel.segment.isEnabled() and not panel.limits.isHidden()
    assert "Paint the parts in a few frames, then Learn" in panel.limits.text.text()
    assert panel.class_set.isHidden() and panel.all_classes.text() == "all parts"


def test_parts_and_instruments_have_a_model_each(dock: MainWidget, qtbot, tiny_checkpoint, tmp_path: Path) -> None:
    add_part(dock, DRIVER, "Shaft")
    of_instruments = dock.session.model
    show_parts(dock)
    assert dock.session.model is of_instruments
    dock.model_panel.load(Path(shutil.copy(tiny_checkpoint, tmp_path / "parts.safetensors")))
    qtbot.waitUntil(lambda: not dock.is_busy and dock.session.model is not of_instruments, timeout=60_000)
    of_parts = dock.session.model
    show_parts(dock, False)
    assert dock.session.model is of_instruments and dock.model_panel.in_use == LoadedFrom()
    show_parts(dock)
    assert dock.session.model is of_parts and not dock.model_panel.is_loading
    assert dock.model_panel.in_use.checkpoint == tmp_path / "parts.safetensors"


def test_the_switch_waits_while_a_run_works(dock: MainWidget) -> None:
    add_part(dock, DRIVER, "Shaft")
    dock.parts_switch.set_waiting("The video is being segmented.")
    show_parts(dock)
    assert dock.session.shows_parts is False and dock.parts_switch.parts.toolTip() == "The video is being segmented."


def test_the_editor_ticks_renames_and_removes_parts(dock: MainWidget, qtbot) -> None:
    add_part(dock, DRIVER, "Shaft")
    add_part(dock, DRIVER, "Wrist")
    dialog, whole = dock.classes_dialog, opened(dock)
    dialog.list.choose(SCISSORS)
    assert [item.checkState() for item in dialog.parts._items()] == [Qt.CheckState.Unchecked] * 2
    dialog.parts._items()[0].setCheckState(Qt.CheckState.Checked)
    qtbot.waitUntil(lambda: whole.classes.by_id(SCISSORS).parts == (SHAFT,))
    dialog.parts._items()[0].setText("Tube")
    qtbot.waitUntil(lambda: whole.classes.parts is not None and whole.classes.parts.names == ("Tube", "Wrist"))

    whole.open_parts().labels[1, 10:20, 10:20] = WRIST
    dialog.parts.choose(WRIST)
    QTest.mouseClick(dialog.parts.remove_button, LEFT)
    assert "Wrist cannot be" in dialog.problem.text() and "frame 1 shows it" in dialog.problem.text()
    whole.open_parts().labels[1, 10:20, 10:20] = 0
    dialog.parts.choose(WRIST)
    QTest.mouseClick(dialog.parts.remove_button, LEFT)
    assert whole.classes.parts is not None and whole.classes.parts.names == ("Tube",) and not dialog.problem.text()


def test_a_part_added_while_parts_are_shown_is_for_all_instruments_with_parts(dock: MainWidget) -> None:
    add_part(dock, DRIVER, "Shaft")
    whole = opened(dock)
    show_parts(dock)
    dialog = dock.classes_dialog
    assert dialog.windowTitle() == "Parts" and dialog.parts.isHidden()
    QTest.keyClicks(dialog.name, "Tip")
    QTest.keyClick(dialog.name, Qt.Key.Key_Return)
    assert listed(dock) == ["Shaft", "Tip"]
    assert whole.classes.by_id(DRIVER).parts == (1, 2) and whole.classes.by_id(SCISSORS).parts == ()
