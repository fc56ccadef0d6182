"""How the damage of a project is found and printed, by `surgicalsam check` and `info`."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from surgicalsam_napari.cli.terminal import with_progress
from surgicalsam_napari.formatting import counted

if TYPE_CHECKING:
    from surgicalsam_napari.store import Project
    from surgicalsam_napari.store.checking import Damage

LINES = 40


def damage_of(project: Project, *, repair: bool = False) -> tuple[Damage, ...]:
    """All damage of a project, with a progress bar."""
    from surgicalsam_napari.store.checking import checking

    found: tuple[Damage, ...] = ()
    for report in with_progress(checking(project, repair=repair), f"checking {project.folder.name}"):
        found = report.found
    return found


def damage_record(damage: Damage) -> dict[str, Any]:
    """A damage for JSON."""
    return {
        "frame": damage.frame_index,
        "file": str(damage.path),
        "how": damage.how,
        "remedy": damage.remedy,
        "restored_from": damage.restored_from,
    }


def damage_lines(found: tuple[Damage, ...]) -> list[str]:
    """One line for each damaged file with the same fault in neighbouring frames; the first of them."""
    lines = []
    for _, group in groupby(sorted(found, key=_order), key=_kind):
        damages = list(group)
        frames = [damage.frame_index for damage in damages]
        more = f" (and {counted(len(frames) - 1, 'other frame')} up to {frames[-1]})" if len(frames) > 1 else ""
        lines.append(f"{damages[0]}{more}")
    return lines if len(lines) <= LINES else [*lines[:LINES], f"… and {len(lines) - LINES:,} more; --json lists all"]


def _kind(damage: Damage) -> tuple[str, str, str]:
    return str(damage.path), damage.how, damage.restored_from


def _order(damage: Damage) -> tuple[str, str, str, int]:
    return *_kind(damage), -1 if damage.frame_index is None else damage.frame_index
