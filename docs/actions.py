"""Write the commands and menus of all actions (widgets/actions/registry.py) into napari.yaml.

`python docs/actions.py --write` changes napari.yaml; without `--write`, the exit code says whether it is up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path

from surgicalsam_napari.widgets.actions.action import PLUGIN, Action
from surgicalsam_napari.widgets.actions.registry import ACTIONS, GROUPS

MANIFEST = Path(__file__).parents[1] / "napari.yaml"
COMMANDS = "# commands of the actions: python docs/actions.py --write"  # these lines stand around what is written
MENUS = "# menus of the actions: python docs/actions.py --write"
END = "# end of actions"
MENU = f"{PLUGIN}/actions"
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
    """`submenus`, one for each group, and `menus`."""
    lines = ["  submenus:", f"    - id: {MENU}", "      label: SurgicalSAM"]
    for group in GROUPS:
        lines += [f"    - id: {menu_of(group)}", f"      label: {group}"]
    lines += ["", "  menus:", "    napari/layers/segment:", f"      - submenu: {MENU}", f"    {MENU}:"]
    for place, group in enumerate(GROUPS):
        lines += [f"      - submenu: {menu_of(group)}", f"        group: actions@{place}"]
    for group in GROUPS:
        lines.append(f"    {menu_of(group)}:")
        for place, action in enumerate(in_group(group)):
            lines += [f"      - command: {action.command}", f"        group: actions@{place}"]
    return lines


def in_group(group: str) -> list[Action]:
    """The actions of a group, in their order."""
    return [action for action in ACTIONS if action.group == group]


def menu_of(group: str) -> str:
    """The id of a group's submenu."""
    return f"{MENU}/{group.lower().replace(' ', '_')}"


if __name__ == "__main__":
    text = MANIFEST.read_text(encoding="utf-8")
    if "--write" in sys.argv:
        MANIFEST.write_text(with_actions(text), encoding="utf-8")
    sys.exit("--write" not in sys.argv and with_actions(text) != text)
