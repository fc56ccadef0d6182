"""A table of results and its files: Markdown to read, CSV for a spreadsheet, JSON for a script."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.exchange.files import write_file
from surgicalsam_napari.store.disk.files import writing
from surgicalsam_napari.untrusted import read_json

NOTHING = "–"  # in Markdown, for a missing value


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns.

    Attributes
    ----------
    rows : each as long as `columns`; numbers stay numbers, None is a missing value
    notes : sentences below the table: on which data, with which reading of the paper
    decimals : of numbers in Markdown; one is enough for percentages
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    notes: tuple[str, ...] = ()
    decimals: int = 1

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.title} has {len(self.columns)} columns; got a row of {len(row)}: {row}.")


def to_markdown(table: Table) -> str:
    """Title, table and notes as Markdown; floats with the table's decimals."""
    is_number = [
        bool(table.rows) and all(_is_number(row[column]) or row[column] is None for row in table.rows)
        for column in range(len(table.columns))
    ]
    lines = [
        f"**{_escaped(table.title)}**",
        "",
        _line([_escaped(column) for column in table.columns]),
        _line(["---:" if right else "---" for right in is_number]),
        *(_line([_cell(value, table.decimals) for value in row]) for row in table.rows),
    ]
    if table.notes:
        lines += ["", "  \n".join(_escaped(note) for note in table.notes)]
    return "\n".join(lines) + "\n"


def write_table(table: Table, folder: Path, name: str) -> None:
    """Write `<name>.md`, `<name>.csv` (the columns and rows) and `<name>.json` (everything) into the folder.

    Raises
    ------
    ExchangeError, DiskSpaceError
        the folder cannot be written; an existing file stays unchanged
    """
    rows = io.StringIO(newline="")
    writer = csv.writer(rows)
    writer.writerow(table.columns)
    writer.writerows(["" if value is None else value for value in row] for row in table.rows)
    with writing(f"The table {name}", folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / f"{name}.md", to_markdown(table).encode())
    write_file(folder / f"{name}.csv", rows.getvalue().encode())
    write_file(folder / f"{name}.json", (json.dumps(asdict(table), indent=1, ensure_ascii=False) + "\n").encode())


def read_table(path: Path) -> Table:
    """Read the `<name>.json` of `write_table`; a TrainingError if it is missing or damaged."""
    try:
        record = read_json(path)
        rows = tuple(tuple(row) for row in record["rows"])
        decimals = record.get("decimals", 1)
        return Table(record["title"], tuple(record["columns"]), rows, tuple(record["notes"]), decimals)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path} should hold a table, but cannot be read ({error}). Create it again.") from error


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: object, decimals: int) -> str:
    if value is None:
        return NOTHING
    return f"{value:.{decimals}f}" if isinstance(value, float) else _escaped(str(value))


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
