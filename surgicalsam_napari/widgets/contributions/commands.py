"""The actions as commands of `napari.yaml`: for napari's command palette, its *Layers* menu, and its *Plugins* menu."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import napari
from app_model.types import SubmenuItem
from napari._app_model import get_app_model  # "public" by its docstring; there is no other door to the menus
from napari.utils.notifications import show_info

from surgicalsam_napari.errors import WorkFailed
from surgicalsam_napari.widgets.actions.action import PLUGIN, Action
from surgicalsam_napari.widgets.actions.registry import ACTIONS
from surgicalsam_napari.widgets.opening import PluginDock, show_dock

if TYPE_CHECKING:
    from surgicalsam_napari.widgets.main_widget import MainWidget

MENU = f"{PLUGIN}/actions"  # the submenu that napari.yaml puts into Layers > Segment
PLUGINS_MENU, BELOW_THE_WIDGETS = "napari/plugins", "4_actions"


def __getattr__(name: str) -> Callable[[], None]:
    """A function without arguments for each action, under the action's id."""
    for action in ACTIONS:
        if action.id == name:
            return partial(run, action)
    raise AttributeError(f"{__name__} has no action {name}")


def run(action: Action) -> None:
    """Do this in the dock of the current viewer, which is opened if there is none; or say what is missing."""
    dock = opened_dock()
    main = dock.main if isinstance(dock, PluginDock) else dock
    if main is not None:
        _do(action, main)
    elif isinstance(dock, PluginDock):
        dock.opened.connect(partial(_do, action))


def opened_dock() -> MainWidget | PluginDock:
    """The plugin's dock in the current viewer, shown; opened if there is none, and then it may still be importing.

    Raises
    ------
    WorkFailed
        napari has no window
    """
    viewer = napari.current_viewer()
    if viewer is None:
        raise WorkFailed("SurgicalSAM needs a napari window, and none is open. Open napari first.")
    if not (docks := _docks_in(viewer)):
        get_app_model().commands.execute_command(f"{PLUGIN}.open").result()  # as Plugins > SurgicalSAM does
        docks = _docks_in(viewer)
    show_dock(docks[0])
    return docks[0]


def _do(action: Action, dock: Any) -> None:
    missing = action.do(dock)
    if missing is not None:
        show_info(missing)


def add_to_plugins_menu(context: Any) -> None:
    """Show the submenu of the actions in napari's *Plugins* menu, too, which a manifest cannot do (napari 0.9).

    Parameters
    ----------
    context : npe2's `PluginContext`; npe2 calls this before the plugin's first command
    """
    item = SubmenuItem(submenu=MENU, title="SurgicalSAM actions", group=BELOW_THE_WIDGETS)
    context.register_disposable(get_app_model().menus.append_menu_items([(PLUGINS_MENU, item)]))


def _docks_in(viewer: napari.viewer.Viewer) -> list[MainWidget | PluginDock]:
    loaded = sys.modules.get("surgicalsam_napari.widgets.main_widget")  # importing it here would freeze the window
    kinds = (PluginDock,) if loaded is None else (PluginDock, loaded.MainWidget)
    return [widget for widget in viewer.window.dock_widgets.values() if isinstance(widget, kinds)]
