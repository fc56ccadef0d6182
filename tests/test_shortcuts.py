"""The keys of the Correct tab, pressed on the canvas of a real viewer, together with napari's keys."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("qtpy.QtWidgets")

from napari._app_model import get_app_model
from napari.layers import Image, Labels
from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QPushButton

from surgicalsam_napari.widgets.correct.keys_dialog import KeysDialog
from surgicalsam_napari.widgets.correct.shortcuts import BoundKeys, Shortcut

SHIFT = Qt.KeyboardModifier.ShiftModifier


def press(viewer, key: str) -> None:
    """Press a key on the canvas, by its name."""
    code = getattr(Qt.Key, f"Key_{key.removeprefix('Shift+')}")
    modifier = SHIFT if key.startswith("Shift+") else Qt.KeyboardModifier(0)
    QTest.keyClick(viewer.window._qt_viewer.canvas.native, code, modifier)


@pytest.fixture
def bound(make_napari_viewer, qtbot):
    """A viewer with two layers and two bound keys, and a list of the calls."""
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((8, 8)))
    viewer.add_labels(np.zeros((8, 8), np.uint8))
    done: list[str] = []
    buttons = QPushButton("Next"), QPushButton("Previous")
    for button in buttons:
        qtbot.addWidget(button)
    table = (
        Shortcut("N", "Next frame", "Review", lambda: done.append("next"), buttons[0]),
        Shortcut("Shift+N", "Previous frame", "Review", lambda: done.append("previous"), buttons[1]),
    )
    return viewer, table, BoundKeys(viewer, table, before=lambda shortcut: done.append(f"before {shortcut.key}")), done


def test_a_key_acts_like_its_button_for_every_selected_layer(bound):
    viewer, _, _, done = bound
    for layer in (*viewer.layers, None):
        viewer.layers.selection.active = layer
        press(viewer, "N")
        press(viewer, "Shift+N")
    assert done == ["before N", "next", "before Shift+N", "previous"] * 3


def test_a_key_does_nothing_while_its_button_is_disabled(bound):
    viewer, table, _, done = bound
    table[0].button.setEnabled(False)
    press(viewer, "N")
    assert done == ["before N"]


def test_unbinding_removes_the_keys(bound):
    viewer, _, keys, done = bound
    keys.unbind()
    press(viewer, "N")
    assert (done, dict(viewer.keymap)) == ([], {})


def test_a_key_that_is_already_bound_keeps_its_function(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    calls: list[str] = []
    viewer.bind_key("N", lambda _viewer: calls.append("existing"))
    button = QPushButton()
    qtbot.addWidget(button)
    keys = BoundKeys(viewer, [Shortcut("N", "Next frame", "Review", lambda: calls.append("new"), button)], lambda _: None)
    press(viewer, "N")
    keys.unbind()
    press(viewer, "N")
    assert calls == ["existing", "existing"]
    assert keys.keys == ()


def test_the_tooltip_of_a_button_shows_its_key(bound):
    _, table, _, _ = bound
    assert table[1].button.toolTip() == "Previous frame (key Shift+N)"


def test_the_list_shows_every_key(bound, qtbot):
    _, table, _, _ = bound
    dialog = KeysDialog(table)
    qtbot.addWidget(dialog)
    assert dialog.listed == [("N", "Next frame"), ("Shift+N", "Previous frame")]


def keys_of_napari(viewer) -> set[str]:
    """Keys of the viewer, of Image and Labels layers, and of the menus."""
    providers = (Image, Labels, *type(viewer).__mro__)
    taken = {str(key) for provider in providers for key in getattr(provider, "class_keymap", {})}
    taken |= {str(rule.keybinding) for rule in get_app_model().keybindings}
    return {QKeySequence(key).toString() for key in taken}


@pytest.fixture
def correct_panel(make_napari_viewer, qtbot, tiny_checkpoint, monkeypatch):
    from surgicalsam_napari.widgets.main_widget import MainWidget

    monkeypatch.setattr("surgicalsam_napari.model.zoo.bundled_checkpoint", lambda: tiny_checkpoint)
    viewer = make_napari_viewer()
    dock = MainWidget(viewer)
    viewer.window.add_dock_widget(dock)
    qtbot.waitUntil(lambda: not dock.is_busy, timeout=60_000)
    return dock.correct_panel


def test_the_table_lists_the_keys_in_the_order_of_the_sections(correct_panel):
    assert [(shortcut.group, shortcut.key, shortcut.button.text()) for shortcut in correct_panel.shortcuts] == [
        ("Review", "N", "Next  ▶"),
        ("Review", "Shift+N", "◀  Previous"),
        ("Review", "Q", ""),  # names a class when there is one to suggest
        ("Review", "D", "Verify frame"),
        ("Review", "Shift+D", "Unlock frame"),
        ("Fix", "R", "Start refining"),
        ("Fix", "A", "Accept"),
        ("Fix", "Shift+A", "Discard"),
        ("Fix", "W", "Click the wrong region"),
        ("Fix", "T", "Forward  ▶"),
        ("Fix", "Shift+T", "◀  Backward"),
        ("Fix", "G", "Fill from previous frame"),
        ("Fix", "K", "Keep largest region"),
        ("Fix", "H", "Fill holes"),
        ("Fix", "S", "Smooth"),
        ("Fix", "Shift+C", "Clear"),
        ("History", "U", "Undo"),
        ("History", "Shift+U", "Redo"),
        ("View", "J", "Similarity map"),
    ]


def test_no_key_is_used_by_napari(correct_panel, make_napari_viewer):
    taken = keys_of_napari(make_napari_viewer())
    assert {"P", "E", "1", "V", "C", "Ctrl+Z", "Left", "Ctrl+O"} <= taken  # of Labels, the viewer, Image, and a menu
    keys = [shortcut.key for shortcut in correct_panel.shortcuts]
    assert len(keys) == len(set(keys))
    assert not {QKeySequence(key).toString() for key in keys} & taken
    assert set(correct_panel.keys.keys) == set(keys)
