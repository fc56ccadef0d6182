"""The actions in napari's command palette and menus, by real events in a real window with the plugin's manifest."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

pytest.importorskip("qtpy.QtWidgets")

from napari._app_model.constants import MenuId
from npe2 import PluginManager, PluginManifest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QMenu
from window import TIMEOUT, settle

from surgicalsam_napari.widgets.actions.action import PLUGIN
from surgicalsam_napari.widgets.actions.registry import ACTIONS, GROUPS, action_by_id
from surgicalsam_napari.widgets.contributions import commands
from surgicalsam_napari.widgets.main_widget import MainWidget
from surgicalsam_napari.widgets.opening import PluginDock

MANIFEST = Path(__file__).parents[1] / "napari.yaml"
SUFFIX = " (SurgicalSAM)"  # napari adds the name of the plugin


# The manifest and the list --------------------------------------------------------------------------------------------


def menu_of(group: str) -> str:
    return f"{commands.MENU}/{group.lower().replace(' ', '_')}"


def test_the_manifest_has_a_command_for_every_action_and_no_other() -> None:
    contributions = PluginManifest.from_file(MANIFEST).contributions
    module = commands.__name__
    found = [
        (c.id, c.title, c.python_name) for c in contributions.commands or [] if (c.python_name or "").startswith(module)
    ]
    assert found == [(action.command, action.menu_title, f"{module}:{action.id}") for action in ACTIONS]
    assert all(callable(getattr(import_module(module), action.id)) for action in ACTIONS)


def test_the_manifest_sorts_the_actions_into_submenus_as_the_list_does() -> None:
    contributions = PluginManifest.from_file(MANIFEST).contributions
    menus = contributions.menus
    assert [submenu.label for submenu in contributions.submenus or []][: len(GROUPS) + 1] == ["SurgicalSAM", *GROUPS]
    assert [item.submenu for item in menus["napari/layers/segment"]] == [commands.MENU]
    assert [item.submenu for item in menus[commands.MENU]] == [menu_of(group) for group in GROUPS]
    for group in GROUPS:
        of_group = [action.command for action in ACTIONS if action.group == group]
        assert [item.command for item in menus[menu_of(group)]] == of_group
        assert [item.group for item in menus[menu_of(group)]] == [f"actions@{place}" for place in range(len(of_group))]


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("napari/layers/annotate", {menu_of("Review"), menu_of("Correct")}),
        ("napari/layers/track", {"surgicalsam-napari.propagate", "surgicalsam-napari.fill_between"}),
        ("napari/layers/measure", {"surgicalsam-napari.statistics"}),
        ("napari/file/io_utilities", {"surgicalsam-napari.open_video", "surgicalsam-napari.export"}),
    ],
)
def test_the_actions_are_also_in_the_menus_where_napari_users_look(place: str, expected: set[str]) -> None:
    contributions = PluginManifest.from_file(MANIFEST).contributions
    labels = {submenu.id: submenu.label for submenu in contributions.submenus or []}
    (entry,) = contributions.menus[place]
    assert place in set(MenuId.contributables()) and labels[entry.submenu] == "SurgicalSAM"
    content = {getattr(item, "command", None) or item.submenu for item in contributions.menus[entry.submenu]}
    assert expected <= content and content <= {*labels, *(action.command for action in ACTIONS)}


def test_commands_that_need_a_file_cannot_be_chosen_in_the_palette() -> None:
    contributions = PluginManifest.from_file(MANIFEST).contributions
    with_file = {r.command for r in contributions.readers or []} | {w.command for w in contributions.writers or []}
    assert {c.id for c in contributions.commands or [] if c.enablement == "False"} == with_file


def test_ids_are_unique_and_an_unknown_one_is_no_command() -> None:
    assert len({action.id for action in ACTIONS}) == len(ACTIONS)
    with pytest.raises(AttributeError, match="has no action sing"):
        _ = commands.sing


# In a window ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def inactive_plugin() -> None:
    """As after a start of napari: no command of the plugin has been used."""
    if PLUGIN in PluginManager.instance():
        PluginManager.instance().deactivate(PLUGIN)


@pytest.fixture
def viewer(inactive_plugin, make_napari_viewer, bundled_tiny):
    """A shown window without the plugin's dock."""
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.activateWindow()
    return viewer


def plugin_in(viewer) -> PluginDock | None:
    return next((widget for widget in viewer.window.dock_widgets.values() if isinstance(widget, PluginDock)), None)


def opened_in(viewer, qtbot) -> MainWidget:
    """The window's part of the plugin, as soon as it is imported."""
    plugin = plugin_in(viewer)
    qtbot.waitUntil(lambda: plugin.main is not None and plugin.main.parentWidget() is plugin, timeout=TIMEOUT)
    return plugin.main


@pytest.fixture
def dock(viewer, qtbot, clip):
    """The dock as the menu opens it, with a video."""
    commands.opened_dock()
    dock = opened_in(viewer, qtbot)
    settle(qtbot, dock)
    dock.open(clip)
    settle(qtbot, dock)
    dock.layers.show_frame(0)
    return dock


def choose_in_palette(viewer, qtbot, words: str) -> list[str]:
    """Open the palette by its key, type, press Enter; returns what it offered."""
    canvas = viewer.window._qt_viewer.canvas.native
    QTest.keyClick(canvas, Qt.Key.Key_P, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier)
    palette = viewer.window._qt_window._command_palette
    qtbot.waitUntil(palette.isVisible, timeout=TIMEOUT)
    QTest.keyClicks(palette._line, words)
    offered = [command.title for command in palette._list.iter_command()]
    QTest.keyClick(palette._line, Qt.Key.Key_Return)
    return offered


def titles(menu: QMenu) -> list[str]:
    return [entry.text() for entry in menu.actions() if entry.isVisible() and not entry.isSeparator()]


def submenu(menu: QMenu, title: str) -> QMenu:
    found = [entry.menu() for entry in menu.actions() if entry.text() == title and entry.menu() is not None]
    assert found, f"{title} is not among {titles(menu)}"
    return found[0]


def click_entry(menu: QMenu, title: str) -> None:
    """Show the menu, and click the entry with the mouse."""
    entry = next(entry for entry in menu.actions() if entry.text() == title)
    menu.popup(menu.parentWidget().mapToGlobal(menu.parentWidget().rect().topLeft()))
    QApplication.processEvents()
    QTest.mouseClick(menu, Qt.MouseButton.LeftButton, pos=menu.actionGeometry(entry).center())


def test_the_palette_offers_every_action_with_its_key(viewer, qtbot) -> None:
    offered = choose_in_palette(viewer, qtbot, "surgicalsam list of all keys")
    assert offered == [action_by_id("keys").menu_title + SUFFIX]
    everything = {command.title for command in viewer.window._qt_window._command_palette._list.all_commands}
    assert {action.menu_title + SUFFIX for action in ACTIONS} <= everything
    settle(qtbot, opened_in(viewer, qtbot))


def test_without_the_panel_a_command_opens_it_and_says_what_is_missing(viewer, qtbot, notes) -> None:
    assert plugin_in(viewer) is None
    choose_in_palette(viewer, qtbot, "next frame that needs review")
    dock = opened_in(viewer, qtbot)
    qtbot.waitUntil(lambda: bool(notes), timeout=TIMEOUT)
    qtbot.waitUntil(dock.isVisible, timeout=TIMEOUT)
    assert notes == ["Open a video first."]
    assert dock.tabs.bar.tabText(dock.tabs.bar.currentIndex()) == "Correct"
    settle(qtbot, dock)


def test_a_command_opens_the_same_panel_as_the_plugins_menu(dock, viewer) -> None:
    plugin = plugin_in(viewer)
    assert [name for name, widget in viewer.window.dock_widgets.items() if widget is plugin] == ["SurgicalSAM (SurgicalSAM)"]
    plugin.parentWidget().hide()
    assert commands.opened_dock() is plugin and dock.isVisible()


def test_a_command_of_the_palette_acts_on_the_open_panel(dock, viewer, qtbot) -> None:
    assert choose_in_palette(viewer, qtbot, "verify this frame") == ["Done: verify this frame [D]" + SUFFIX]
    assert dock.session.project.labels.locked_class_ids(0) == list(dock.session.classes.ids)
    choose_in_palette(viewer, qtbot, "unlock this frame")
    assert dock.session.project.labels.locked_class_ids(0) == []


def test_a_command_says_why_it_is_not_possible(dock, viewer, qtbot, notes) -> None:
    choose_in_palette(viewer, qtbot, "undo the last action")
    assert notes == ["Undo the last action: this is not possible now."]


def test_a_command_shows_the_section_of_its_button(dock, viewer, qtbot) -> None:
    assert not dock.correct_panel.frames.isVisible()
    choose_in_palette(viewer, qtbot, "fill the holes")
    settle(qtbot, dock)
    assert dock.correct_panel.frames.isVisible()


def test_every_action_has_its_button_in_the_dock(dock) -> None:
    assert [action.id for action in ACTIONS if action.button_in(dock) is None] == ["cancel"]


def test_the_work_that_runs_now_is_cancelled_from_the_palette(dock, viewer, qtbot, notes) -> None:
    run = dock.segment_panel.run
    run.reported.connect(lambda _report: commands.cancel())
    dock.segment_panel.start()
    settle(qtbot, dock)
    assert run.is_cancelled and run.last_report.done < run.last_report.total
    choose_in_palette(viewer, qtbot, "cancel the work")
    assert notes == ["Cancel the work that runs now: nothing runs now."]


def test_the_layers_and_the_plugins_menu_have_every_action(dock, viewer) -> None:
    window = viewer.window
    in_layers = submenu(submenu(window.layers_menu, "Segment"), "SurgicalSAM")
    in_plugins = submenu(window.plugins_menu, "SurgicalSAM actions")
    for menu in (in_layers, in_plugins):
        assert titles(menu) == list(GROUPS)
        for group in GROUPS:
            entries = [action.menu_title + SUFFIX for action in ACTIONS if action.group == group]
            assert titles(submenu(menu, group)) == entries


def test_a_click_in_the_menu_acts(dock, viewer, qtbot) -> None:
    menu = submenu(submenu(viewer.window.plugins_menu, "SurgicalSAM actions"), "Review")
    click_entry(menu, "Done: verify this frame [D]" + SUFFIX)
    assert dock.session.project.labels.locked_class_ids(0) == list(dock.session.classes.ids)


def test_the_list_of_keys_opens_from_the_menu(dock, viewer, qtbot) -> None:
    menu = submenu(submenu(submenu(viewer.window.layers_menu, "Segment"), "SurgicalSAM"), "View")
    click_entry(menu, "List of all keys" + SUFFIX)
    dialogs = [widget for widget in QApplication.topLevelWidgets() if widget.windowTitle() == "Keys" and widget.isVisible()]
    assert len(dialogs) == 1
    assert ("N", "Next frame that needs review") in dialogs[0].listed


def test_the_id_of_the_plugin_is_that_of_the_manifest() -> None:
    assert PluginManifest.from_file(MANIFEST).name == PLUGIN
