"""Output of the command line: progress bars and errors on stderr, results on stdout."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from surgicalsam_napari.formatting import counted, in_bytes, in_time

if TYPE_CHECKING:
    from surgicalsam_napari.store import Project


class Counted(Protocol):
    """A report of a run: `done` of `total`."""

    @property
    def done(self) -> int: ...

    @property
    def total(self) -> int: ...


_NO_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
Report = TypeVar("Report", bound=Counted)
Item = TypeVar("Item")


def project_text(record: dict) -> str:
    kinds = ("predicted", "edited", "verified", "absent", "empty")
    height, width = record["size"]
    lines = [
        f"project      {record['project']} ({in_bytes(record['disk_bytes'])})",
        f"video        {record['video']}, {record['frames']} frames of {width} x {height}",
        "",
        f"{record['class_set']['name']:<30}" + "".join(f"{kind:>11}" for kind in kinds),
    ]
    tables = [(record["class_set"]["classes"], record["provenance"])]
    if "parts" in record:
        tables.append((record["class_set"]["parts"], record["parts"]["provenance"]))
    for position, (instruments, provenance) in enumerate(tables):
        lines += ["", "Parts"] if position else []
        for instrument in instruments:
            counts = provenance[instrument["name"]]
            number = f"{instrument['id']:>3} {instrument['name']:<26}"
            lines.append(number + "".join(f"{counts[kind]:>11}" for kind in kinds))
    lines.append("")
    for store in record["embeddings"]:
        lines.append(f"embeddings   {store['frames']} frames, encoder {store['encoder_digest']}, {in_bytes(store['bytes'])}")
    for checkpoint in record["checkpoints"]:
        lines.append(f"checkpoint   {checkpoint.get('name')} ({checkpoint.get('encoder_id')})")
    return "\n".join(lines).rstrip()


def result_text(result: dict[str, Any]) -> str:
    done = "embedded" if "embedded" in result else "segmented"
    frames = counted(result["frames"], "frame")
    text = f"{result['video']}: {result[done]:,} of {frames} {done} in {in_time(result['seconds'])}"
    if result["skipped"]:
        text += f", {result['skipped']:,} skipped because they were done before"
    return f"{text}; project {result['project']}" + (f", masks in {result['out']}" if result.get("out") else "")


@contextmanager
def progress(counts_bytes: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Progress bars on stderr with the remaining time, one for each title; yields a function (title, done, total)."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    amounts = (DownloadColumn(), TransferSpeedColumn()) if counts_bytes else (MofNCompleteColumn(),)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), *amounts, TimeRemainingColumn())
    # a frame may take half a minute on a CPU, so the speed is averaged over a long time
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=300) as bar:
        tasks: dict[str, TaskID] = {}

        def advance(title: str, done: int, total: int) -> None:
            if title not in tasks:
                tasks[title] = bar.add_task(title, total=total)
            bar.update(tasks[title], completed=done, total=total)

        yield advance


def with_outcome(reports: Generator[Report, None, Item], title: str | Callable[[Report], str]) -> Item:
    """Run to the end with a progress bar, as `with_progress`; the result of the run."""
    outcome: list[Item] = []

    def all_reports() -> Generator[Report, None, None]:
        outcome.append((yield from reports))

    for _report in with_progress(all_reports(), title):
        pass
    return outcome[0]


def with_progress(reports: Generator[Report, None, Any], title: str | Callable[[Report], str]) -> Iterator[Report]:
    """The same reports (with `done` and `total`), with a progress bar; one for each title, if the title depends on them."""
    with closing(reports), progress() as advance:
        for report in reports:
            advance(title if isinstance(title, str) else title(report), report.done, report.total)
            yield report


def with_bar(items: Sequence[int], title: str) -> Iterator[int]:
    yield from with_count(items, len(items), title)


def with_count(items: Iterable[Item], total: int, title: str) -> Iterator[Item]:
    """The same items, counted by a progress bar."""
    with progress() as advance:
        for position, item in enumerate(items):
            yield item
            advance(title, position + 1, total)


def print_notice(project: Project) -> None:
    """Print what was found when the project's video was opened, if there is something to say, on stderr."""
    if project.notice:
        print(project.notice, file=sys.stderr)


def print_error(message: str, code: int) -> int:
    """Print an error in one line on stderr; returns the exit code."""
    print(f"surgicalsam: {one_line(message)}", file=sys.stderr)
    return code


def one_line(message: str) -> str:
    """The message in one line, without characters of file names that would control the terminal or are no text."""
    return _NO_TEXT.sub(lambda found: ascii(found.group())[1:-1], " ".join(message.split()))
