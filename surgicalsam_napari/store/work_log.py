"""The work on each frame: strokes, changed pixels, seconds. The log stays in the project folder; nothing is sent."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from surgicalsam_napari.errors import ProjectError

if TYPE_CHECKING:
    from surgicalsam_napari.store.labels.label_store import LabelStore

WORK_LOG = "work.csv"
END_BYTES = 1024  # more than a line
STROKE_GAP = 0.4  # seconds; a brush writes at every mouse move, and a longer pause separates two strokes


@dataclass(frozen=True)
class FrameWork:
    """The work on one frame.

    Attributes
    ----------
    seconds : time that the frame was in view while a person worked
    strokes : brush strokes and edits of the whole frame
    changed_pixels : in all strokes; a pixel that changes twice counts twice
    annotators : who worked on it, in order; without those who gave no name
    """

    frame_index: int
    seconds: float
    strokes: int
    changed_pixels: int
    annotators: tuple[str, ...] = ()


COLUMNS = ("frame", "seconds", "strokes", "changed_pixels", "annotators")


class WorkLog:
    """Appends a line for each edit and each view of a frame: time, kind, frame, pixels or seconds, annotator.

    Parameters
    ----------
    file : a CSV file, made with the first line
    labels : the store whose edits are logged; None for reading only

    Attributes
    ----------
    annotator : who works now; empty if unknown
    """

    annotator: str = ""

    def __init__(self, file: Path, labels: LabelStore | None = None) -> None:
        self._file = file
        if labels is not None:
            labels.edited.connect(self._note_edit)

    def note_view(self, frame_index: int, seconds: float) -> None:
        """Log that a person looked at a frame for this time."""
        self._append("view", frame_index, round(seconds, 2))

    @property
    def last_frame(self) -> int | None:
        """The frame that was viewed or edited last; None without any. Reads only the end of the file."""
        with suppress(OSError), self._file.open("rb") as stream:
            stream.seek(max(stream.seek(0, os.SEEK_END) - END_BYTES, 0))
            for line in reversed(stream.read().split(b"\n")[:-1]):
                with suppress(ValueError):
                    _at, _what, frame_index, _amount, *_annotator = line.split(b",")
                    return int(frame_index)
        return None

    def per_frame(self) -> list[FrameWork]:
        """The work on every viewed or edited frame, ordered by frame index; incomplete lines are left out."""
        seconds: dict[int, float] = {}
        strokes: dict[int, int] = {}
        pixels: dict[int, int] = {}
        last_edit: dict[int, float] = {}
        names: dict[int, dict[str, None]] = {}
        for at, what, frame_index, amount, annotator in self._lines():
            if annotator:
                names.setdefault(frame_index, {})[annotator] = None
            if what == "view":
                seconds[frame_index] = seconds.get(frame_index, 0.0) + amount
            else:
                is_new = at - last_edit.get(frame_index, float("-inf")) > STROKE_GAP
                strokes[frame_index] = strokes.get(frame_index, 0) + is_new
                pixels[frame_index] = pixels.get(frame_index, 0) + int(amount)
                last_edit[frame_index] = at
        return [
            FrameWork(
                index,
                round(seconds.get(index, 0.0), 2),
                strokes.get(index, 0),
                pixels.get(index, 0),
                tuple(names.get(index, ())),
            )
            for index in sorted({*seconds, *strokes})
        ]

    def annotators(self) -> tuple[str, ...]:
        """Everyone who edited a frame and gave a name, in order."""
        return tuple(dict.fromkeys(name for _, what, _, _, name in self._lines() if what == "edit" and name))

    def rows(self) -> list[tuple[int, float, int, int, str]]:
        """`per_frame` as rows of `COLUMNS`; several annotators are separated by semicolons."""
        return [(f.frame_index, f.seconds, f.strokes, f.changed_pixels, "; ".join(f.annotators)) for f in self.per_frame()]

    def write_csv(self, path: Path | str) -> int:
        """Write `per_frame` as CSV; returns the number of frames. A ProjectError if the file cannot be written."""
        rows = self.rows()
        try:
            with Path(path).open("w", newline="", encoding="utf-8") as stream:
                csv.writer(stream).writerows([COLUMNS, *rows])
        except OSError as error:
            raise ProjectError(
                f"The work log cannot be written to {path} ({error.strerror}). Choose another file."
            ) from error
        return len(rows)

    def _note_edit(self, frame_index: int, changed_pixels: int) -> None:
        self._append("edit", frame_index, changed_pixels)

    def _append(self, what: str, frame_index: int, amount: float) -> None:
        with suppress(OSError), self._file.open("a", encoding="utf-8") as stream:  # an edit must not fail with the log
            csv.writer(stream, lineterminator="\n").writerow(
                (f"{time.time():.2f}", what, frame_index, amount, *([self.annotator] if self.annotator else []))
            )

    def _lines(self) -> Iterator[tuple[float, str, int, float, str]]:
        with suppress(FileNotFoundError), self._file.open(encoding="utf-8") as stream:
            for line in stream:
                with suppress(ValueError):
                    at, what, frame_index, amount, *annotator = next(csv.reader([line]))
                    if line.endswith("\n"):
                        yield float(at), what, int(frame_index), float(amount), "".join(annotator[:1])
