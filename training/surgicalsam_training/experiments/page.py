"""Write results into a page of documentation: the text between two markers is replaced, the prose around them stays.

::

    <!-- table3 -->
    (the table)
    <!-- end of table3 -->
"""

from __future__ import annotations

import re
from pathlib import Path

from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.exchange.files import write_file
from surgicalsam_training.experiments.catalogue import Outcome
from surgicalsam_training.scoring.tables import to_markdown

PAGE = "experiments.md"
IMAGES = "images/experiments"


def update_page(docs: Path, outcome: Outcome, command: str) -> Path:
    """Put an outcome into `experiments.md` of the docs folder, and its pictures below `images/experiments`.

    Parameters
    ----------
    command : the command that made it

    Raises
    ------
    TrainingError
        the page cannot be read, or has no markers for this outcome
    ExchangeError, DiskSpaceError
        it cannot be written
    """
    page = docs / PAGE
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise TrainingError(
            f"{page} should be the page to write into; it cannot be read ({error.strerror}). Name the folder of this page."
        ) from error
    name = re.escape(outcome.name)
    place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    if not place.search(text):
        raise TrainingError(
            f"{page} has no place for {outcome.name}. Add two lines at its position: <!-- {outcome.name} --> and "
            f"<!-- end of {outcome.name} -->."
        )
    for figure in outcome.figures:
        write_file(docs / IMAGES / figure.path.name, figure.path.read_bytes())
    content = block(outcome, command)
    return write_file(page, place.sub(lambda match: f"{match[1]}{content}{match[2]}", text).encode())


def block(outcome: Outcome, command: str) -> str:
    """The command, the table and the pictures as Markdown."""
    parts = [f"```\n{command}\n```\n"]
    if outcome.table is not None:
        parts.append(to_markdown(outcome.table))
    parts += [f"![{figure.caption}]({IMAGES}/{figure.path.name})\n\n{figure.caption}\n" for figure in outcome.figures]
    return "\n".join(parts)
