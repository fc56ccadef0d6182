"""The keys of the actions, pressed on the canvas of a real viewer, together with napari's keys."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("qtpy.QtWidgets")

from napari._app_model import get_app_model
from napari.layers import Image, Labels
from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QPushButton, QWidget

from surgicalsam_napari.widgets.actions.action import Action
from surgicalsam_napari.widgets.actions.keys import BoundKeys
from surgicalsam_napari.widgets.actions.keys_dialog import KeysDialog
from surgicalsam_napari.widgets.actions.registry import ACTIONS

SHIFT = Qt.KeyboardModifier.ShiftModifier


def press(viewer, key: str) -> None:
    """Press a key on the canvas, by its name."""
    code = getattr(Qt.Key, f"Key_{key.removeprefix('Shift+')}")
    modifier = SHIFT if key.startswith("Shift+") else Qt.KeyboardModifier(0)
    QTest.keyClick(viewer.window._qt_viewer.canvas.native, code, modifier)


class Dock:
    """Two buttons in a dock, as far as keys need it."""

    session = SimpleNamespace(project=object())
    tabs = SimpleNamespace(show_panel=lambda _panel: None)
    is_busy = False

    def __init__(self, qtbot) -> None:
        self.box = QWidget()
        qtbot.addWidget(self.box)
        self.next, self.previous = QPushButton("Next", self.box), QPushButton("Previous", self.box)


TABLE = (
    Action("next_frame", "Next frame", "Review", "next", "N"),
    Action("previous_frame", "Previous frame", "Review", "previous", "Shift+N"),
    Action("other", "Without a key", "Review", "next"),
)


@pytest.fixture
def bound(make_napari_viewer, qtbot):
    """A viewer with two layers and two bound keys, the dock of the buttons, and a list of the presses."""
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((8, 8)))
    viewer.add_labels(np.zeros((8, 8), np.uint8))
    dock, done = Dock(qtbot), []
    dock.next.clicked.connect(lambda: done.append("next"))
    dock.previous.clicked.connect(lambda: done.append("previous"))
    return viewer, dock, BoundKeys(viewer, TABLE, dock), done


def test_a_key_acts_like_its_button_for_every_selected_layer(bound):
    viewer, _, _, done = bound
    for layer in (*viewer.layers, None):
        viewer.layers.selection.active = layer
        press(viewer, "N")
        press(viewer, "Shift+N")
    assert done == ["next", "previous"] * 3


def test_a_key_does_nothing_while_its_button_is_disabled(bound):
    viewer, dock, _, done = bound
    dock.next.setEnabled(False)
    press(viewer, "N")
    assert done == []


def test_unbinding_removes_the_keys(bound):
    viewer, _, keys, done = bound
    keys.unbind()
    press(viewer, "N")
    assert (done, dict(viewer.keymap)) == ([], {})


def test_a_key_that_is_already_bound_keeps_its_function(make_napari_viewer, qtbot):
    viewer, dock = make_napari_viewer(), Dock(qtbot)
    calls: list[str] = []
    viewer.bind_key("N", lambda _viewer: calls.append("existing"))
    dock.next.clicked.connect(lambda: calls.append("new"))
    keys = BoundKeys(viewer, TABLE[:1], dock)
    press(viewer, "N")
    keys.unbind()
    press(viewer, "N")
    assert calls == ["existing", "existing"]
    assert keys.keys == ()


def test_the_tooltip_of_a_button_shows_its_key(bound):
    _, dock, _, _ = bound
    assert dock.previous.toolTip() == "Previous frame (key Shift+N)"


def test_the_list_shows_every_key(qtbot):
    dialog = KeysDialog(TABLE)
    qtbot.addWidget(dialog)
    assert dialog.listed == [("N", "Next frame"), ("Shift+N", "Previous frame")]


def keys_of_napari(viewer) -> set[str]:
    """Keys of the viewer, of Image and Labels layers, and of the menus."""
    providers = (Image, Labels, *type(viewer).__mro__)
    taken = {str(key) for provider in providers for key in getattr(provider, "class_keymap", {})}
    taken |= {str(rule.keybinding) for rule in get_app_model().keybindings}
    return {QKeySequence(key).toString() for key in taken}


@pytest.fixture
def dock(make_napari_viewer, qtbot, bundled_tiny):
    from surgicalsam_napari.widgets.main_widget import MainWidget

    viewer = make_napari_viewer()
    dock = MainWidget(viewer)
    viewer.window.add_dock_widget(dock)
    qtbot.waitUntil(lambda: not dock.is_busy, timeout=60_000)
    return dock


def test_the_list_has_the_keys_in_the_order_of_the_tabs(dock):
    assert [(action.key, action.button_in(dock).text()) for action in ACTIONS if action.key] == [
        ("N", "Next  ▶"),
        ("Shift+N", "◀  Previous"),
        ("Q", ""),  # names a class when there is one to suggest
        ("D", "Verify frame"),
        ("Shift+D", "Unlock frame"),
        ("R", "Start refining"),
        ("A", "Accept"),
        ("Shift+A", "Discard"),
        ("W", "Click the wrong region"),
        ("Shift+S", "Same as…"),
        ("Shift+X", "Split here"),
        ("Shift+Y", "Swap left and right from here on"),
        ("Shift+W", "This track is a…"),
        ("T", "Forward  ▶"),
        ("Shift+T", "◀  Backward"),
        ("G", "Fill from previous frame"),
        ("K", "Keep largest region"),
        ("H", "Fill holes"),
        ("S", "Smooth"),
        ("Shift+C", "Clear"),
        ("U", "Undo"),
        ("Shift+U", "Redo"),
        ("J", "Similarity map"),
        ("Shift+J", "Colours by instance"),
        ("Shift+L", "Tracks in the timeline"),
    ]


def test_every_button_of_an_action_names_its_key(dock):
    unnamed = [
        action.id for action in ACTIONS if action.key and f"(key {action.key})" not in action.button_in(dock).toolTip()
    ]
    assert unnamed == []


def test_no_key_is_used_by_napari(dock, make_napari_viewer):
    taken = keys_of_napari(make_napari_viewer())
    assert {"P", "E", "1", "V", "C", "Ctrl+Z", "Left", "Ctrl+O"} <= taken  # of Labels, the viewer, Image, and a menu
    keys = [action.key for action in ACTIONS if action.key]
    assert len(keys) == len(set(keys))
    assert not {QKeySequence(key).toString() for key in keys} & taken
    assert set(dock.keys.keys) == set(keys)
