"""Notes on frames: a person's text for a frame, in a file of the project."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import google_crc32c
import numpy as np
from psygnal import Signal

from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.files import write_file
from surgicalsam_napari.store.disk.file_records import FileRecords
from surgicalsam_napari.store.disk.files import STAGING, writing
from surgicalsam_napari.untrusted import read_json
from surgicalsam_napari.video.time_code import in_time_code

if TYPE_CHECKING:
    from surgicalsam_napari.store.labels.label_store import LabelStore

NOTES = "notes.json"
COLUMNS = ("frame", "time", "text", "annotator", "written")


@dataclass(frozen=True)
class Note:
    """A note on a frame.

    Attributes
    ----------
    annotator : who wrote it; empty if unknown
    written : ISO 8601, UTC
    """

    frame: int
    text: str
    annotator: str = ""
    written: str = ""


class Notes:
    """The notes of a project, at most one per frame.

    Parameters
    ----------
    root : the project folder
    labels : the labels of the project; its lock protects the file
    """

    changed: ClassVar[Signal] = Signal()  #: emitted in the thread that wrote

    def __init__(self, root: Path, labels: LabelStore) -> None:
        self._root, self._labels = root, labels
        self._read: tuple[tuple[int, int] | None, dict[int, Note]] = (None, {})  # signature of the file, and its content

    def entries(self) -> list[Note]:
        """All notes, ordered by frame; a ProjectError if the file is damaged."""
        return [note for _, note in sorted(self._by_frame().items())]

    def text(self, frame_index: int) -> str:
        """The note on a frame; empty if there is none."""
        note = self._by_frame().get(frame_index)
        return "" if note is None else note.text

    def write(self, frame_index: int, text: str, annotator: str = "") -> None:
        """Write or replace the note on a frame; an empty text removes it.

        Raises
        ------
        ProjectError, DiskSpaceError
            no such frame, a read-only project, a damaged file, a failed write; the notes stay as they were
        """
        if not 0 <= frame_index < len(self._labels):
            raise ProjectError(
                f"This video has the frames 0 to {len(self._labels) - 1}; got {frame_index}. Choose one of them."
            )
        self._labels.check_writable("The note")
        text = text.strip()
        with writing("The note", self._root), self._labels.lock:
            notes = dict(self._by_frame())
            if text == notes.get(frame_index, Note(frame_index, "")).text:
                return
            notes.pop(frame_index, None)
            if text:
                now = datetime.now(UTC).isoformat(timespec="seconds")
                notes[frame_index] = Note(frame_index, text, annotator.strip(), now)
            record: dict[str, Any] = {"notes": [asdict(note) for _, note in sorted(notes.items())]}
            record["crc32c"] = google_crc32c.value(json.dumps(record["notes"]).encode())
            content = json.dumps(record, indent=1, ensure_ascii=False).encode("utf-8")
            with FileRecords(self._root).replacing(NOTES, content):
                write_file(self._root / NOTES, content, staging=self._root / STAGING, durable=True)
        self.changed.emit()

    def write_csv(self, path: Path | str, times: np.ndarray | None = None) -> int:
        """Write all notes as CSV; returns their number. A ProjectError if the file cannot be written.

        Parameters
        ----------
        times : (T,) seconds at which the frames begin; None leaves the column `time` empty
        """
        rows = self.rows(times)
        try:
            with Path(path).open("w", newline="", encoding="utf-8") as stream:
                csv.writer(stream).writerows([COLUMNS, *rows])
        except OSError as error:
            raise ProjectError(f"The notes cannot be written to {path} ({error.strerror}). Choose another file.") from error
        return len(rows)

    def rows(self, times: np.ndarray | None = None) -> list[tuple[int, str, str, str, str]]:
        """All notes as rows of `COLUMNS`."""
        return [
            (note.frame, "" if times is None else in_time_code(times[note.frame]), note.text, note.annotator, note.written)
            for note in self.entries()
        ]

    def _by_frame(self) -> dict[int, Note]:
        path = self._root / NOTES
        try:
            status = path.stat()
        except FileNotFoundError:
            return {}
        signature = status.st_mtime_ns, status.st_size
        if signature != self._read[0]:
            try:
                record = read_json(path)
                written = google_crc32c.value(json.dumps(record["notes"]).encode())
                if record.get("crc32c", written) != written or not set(record) <= {"notes", "crc32c"}:
                    raise ValueError("it was changed outside of this program")
                notes = [
                    Note(int(n["frame"]), str(n["text"]), str(n.get("annotator", "")), str(n.get("written", "")))
                    for n in record["notes"]
                ]
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise ProjectError(
                    f"{path} should hold the notes of this project, but cannot be read ({error}). Restore it from a backup, "
                    "or remove it: then the notes start empty."
                ) from error
            self._read = signature, {note.frame: note for note in notes if 0 <= note.frame < len(self._labels)}
        return self._read[1]
