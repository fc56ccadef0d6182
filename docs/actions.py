"""Write the commands and menus of all actions (widgets/actions/registry.py) into napari.yaml.

`python docs/actions.py --write` changes napari.yaml; without `--write`, the exit code says whether it is up to date.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from surgicalsam_napari.widgets.actions.action import PLUGIN, Action
from surgicalsam_napari.widgets.actions.registry import ACTIONS, FIX, GROUPS, REVIEW, action_by_id

MANIFEST = Path(__file__).parents[1] / "napari.yaml"
COMMANDS = "# commands of the actions: python docs/actions.py --write"  # these lines stand around what is written
MENUS = "# menus of the actions: python docs/actions.py --write"
END = "# end of actions"
MENU = f"{PLUGIN}/actions"
PLACES = {  # napari's menus, beside Layers > Segment with all actions: what of them is found there, below "SurgicalSAM"
    "napari/layers/annotate": (REVIEW, FIX),
    "napari/layers/track": ("propagate", "propagate_back", "fill_between", "copy_previous"),
    "napari/layers/measure": ("statistics", "overlay"),
    "napari/file/io_utilities": ("open_video", "open_folder", "videos", "export", "overlay"),
}
MODULE = "surgicalsam_napari.widgets.contributions.commands"


def with_actions(manifest: str) -> str:
    """The text of the manifest with the commands and menus of all actions."""
    for start, lines in ((COMMANDS, command_lines()), (MENUS, menu_lines())):
        before, rest = manifest.split(f"{start}\n", 1)
        _, after = rest.split(END, 1)
        indent = before[before.rindex("\n") + 1 :]
        body = "\n".join(lines)
        manifest = f"{before}{start}\n{body}\n{indent}{END}{after}"
    return manifest


def command_lines() -> list[str]:
    """The entries of `commands`."""
    lines = []
    for action in ACTIONS:
        lines += [
            f"    - id: {action.command}",
            f'      title: "{action.menu_title}"',
            f"      python_name: {MODULE}:{action.id}",
        ]
    return lines


def menu_lines() -> list[str]:
    """`submenus`, one for each group and each place, and `menus`."""
    lines = ["  submenus:"]
    for menu, label in ((MENU, "SurgicalSAM"), *((menu_of(group), group) for group in GROUPS)):
        lines += [f"    - id: {menu}", f"      label: {label}"]
    for place in PLACES:
        lines += [f"    - id: {menu_in(place)}", "      label: SurgicalSAM"]
    lines += ["", "  menus:"]
    for place, menu in (("napari/layers/segment", MENU), *((place, menu_in(place)) for place in PLACES)):
        lines += [f"    {place}:", f"      - submenu: {menu}"]
    lines += items(MENU, GROUPS)
    for group in GROUPS:
        lines += items(menu_of(group), [action.id for action in in_group(group)])
    for place, content in PLACES.items():
        lines += items(menu_in(place), content)
    return lines


def items(menu: str, content: Sequence[str]) -> list[str]:
    """A menu with groups, as submenus, and actions, by their ids, in this order."""
    lines = [f"    {menu}:"]
    for position, name in enumerate(content):
        item = f"submenu: {menu_of(name)}" if name in GROUPS else f"command: {action_by_id(name).command}"
        lines += [f"      - {item}", f"        group: actions@{position}"]
    return lines


def in_group(group: str) -> list[Action]:
    """The actions of a group, in their order."""
    return [action for action in ACTIONS if action.group == group]


def menu_of(group: str) -> str:
    """The id of a group's submenu."""
    return f"{MENU}/{group.lower().replace(' ', '_')}"


def menu_in(place: str) -> str:
    """The id of the plugin's submenu in one of napari's menus."""
    return f"{PLUGIN}/{place.removeprefix('napari/')}"


if __name__ == "__main__":
    text = MANIFEST.read_text(encoding="utf-8")
    if "--write" in sys.argv:
        MANIFEST.write_text(with_actions(text), encoding="utf-8")
    sys.exit("--write" not in sys.argv and with_actions(text) != text)
