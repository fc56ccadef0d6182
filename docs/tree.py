"""Print the tree of docs/architecture.md from the files on disk; `python docs/tree.py --write` writes it into the page.

A folder is described by the first sentence of the docstring of its `__init__.py`, a module by that of its own docstring.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
PAGE = TOP / "docs/architecture.md"
ROOTS = ("surgicalsam_napari", "training/surgicalsam_training", "benchmarks", "release")
BEGIN, END = "<!-- tree: python docs/tree.py --write -->\n```\n", "```\n<!-- end of tree -->"
NAME_WIDTH = 34

# descriptions of folders whose `__init__.py` is missing or has no docstring
FOLDERS = {
    "training/surgicalsam_training": "Tuning SurgicalSAM on corrected frames, scoring it, and the paper's experiments.",
    "surgicalsam_napari/widgets/runs": "Long work in the background: an action, an export, a segmentation, a training.",
    "benchmarks": "Scripts that measure; nothing imports them.",
    "benchmarks/common": "What the benchmarks share: timing, the command line, and changes of a timeline.",
    "benchmarks/crash_safety": "Checks of the files on disk after a process was killed.",
    "benchmarks/quality": "How good masks, corrections and trainings are.",
    "benchmarks/scaling": "How cost grows with frames, sizes and classes.",
    "benchmarks/speed": "How fast every step is, compared with a simple implementation.",
    "release": "What a release needs: its checks, the conda recipes, the container file.",
}


def first_sentence(path: Path) -> str:
    """The first sentence of a file's docstring, on one line; empty if it has none."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s+(?=[A-Z`])", paragraph)[0]


def description(folder: Path) -> str:
    """A folder's description; empty if it has none."""
    own = first_sentence(folder / "__init__.py") if (folder / "__init__.py").exists() else ""
    return own or FOLDERS.get(folder.relative_to(TOP).as_posix(), "")


def lines_of(folder: Path, depth: int = 0) -> Iterator[str]:
    """The line of a folder, then those of its modules, then those of its sub-folders."""
    name = folder.relative_to(TOP).as_posix() if depth == 0 else folder.name
    yield _line(f"{name}/", description(folder), depth)
    for path in sorted(folder.glob("*.py")):
        if path.name != "__init__.py":
            yield _line(path.name, first_sentence(path), depth + 1)
    for child in sorted(folder.iterdir()):
        if child.is_dir() and any(child.rglob("*.py")):
            yield from lines_of(child, depth + 1)


def tree() -> str:
    """The tree of every root, one line per folder or module."""
    return "".join(f"{line}\n" for root in ROOTS for line in lines_of(TOP / root))


def tree_in(page: str) -> str:
    """The tree in the text of the page."""
    return page.split(BEGIN, 1)[1].split(END, 1)[0]


def _line(name: str, text: str, depth: int) -> str:
    return f"{'  ' * depth}{name}".ljust(NAME_WIDTH) + f"  {text}" if text else f"{'  ' * depth}{name}"


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(page.replace(BEGIN + tree_in(page) + END, BEGIN + tree() + END), encoding="utf-8")
    else:
        sys.stdout.write(tree())
