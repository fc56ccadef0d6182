"""What a project keeps of each frame: labels, the painted record and table rows, in files that change together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store.arrays import CellTable, FrameArray, FrameCache
from surgicalsam_napari.store.files import WriteLock, writing
from surgicalsam_napari.store.journal import Journal
from surgicalsam_napari.store.provenance import (
    TABLE_NOTES,
    TABLES,
    Provenance,
    class_attributes,
    expects_labels,
    expects_painted,
)

CACHE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class SavedFrame:
    """A frame's table rows and the contents of its files (None for one that is not there); `version` tells changes."""

    frame_index: int
    version: tuple
    rows: dict[str, np.ndarray]
    chunks: dict[Path, bytes | None]

    def without_contents(self) -> SavedFrame:
        """Enough to see whether the frame has changed."""
        return replace(self, rows={}, chunks={})


class FrameFiles:
    """The files of a LabelStore, read through a cache and changed through a journal.

    Attributes
    ----------
    tables : CellTable by name
    lock : held by who writes
    blank : (H, W) uint8 of background, not to be written to
    """

    def __init__(self, root: Path, shape: tuple[int, int, int], class_count: int, *, writable: bool) -> None:
        self._root = root
        self._pixels = FrameArray(root / "labels", shape, "uint8")
        self._painted = FrameArray(root / "painted", shape, "bool")
        self.tables = {
            name: CellTable(root / name, shape[0], class_count, *properties) for name, properties in TABLES.items()
        }
        self._journal = Journal(root, self.tables)
        self.lock = WriteLock(root)
        self._cache = FrameCache(CACHE_BYTES)
        self.blank = np.zeros(shape[1:], np.uint8)
        self.blank.flags.writeable = False
        self._interrupted = None
        if writable:
            with writing("The project", root), self.lock:
                self._journal.recover(clean=True)
        else:
            self._interrupted = self._journal.interrupted_frame()

    @staticmethod
    def create(root: Path, shape: tuple[int, int, int], classes: ClassSet) -> None:
        """Make the empty arrays in a new project folder; may raise OSError."""
        about = class_attributes(classes)
        FrameArray.create(root / "labels", shape, "uint8", {"background": 0, **about})
        painted = "True where a person set the label, also to background; no prediction changes these pixels"
        FrameArray.create(root / "painted", shape, "bool", {"description": painted})
        for name, (dtype, fill) in TABLES.items():
            CellTable.create(root / name, shape[0], len(classes), dtype, fill, {**TABLE_NOTES[name], **about})

    def close(self) -> None:
        self._cache.clear()
        self.lock.close()

    def rows(self, frame_index: int) -> dict[str, np.ndarray]:
        """(C,) of every table, copies."""
        return {name: table.row(frame_index) for name, table in self.tables.items()}

    def commit(
        self,
        frame_index: int,
        rows: dict[str, np.ndarray],
        *,
        labels: np.ndarray | None = None,
        painted: np.ndarray | None = None,
    ) -> None:
        """Change one frame on disk, then in memory. Provenance comes first, pixels last."""
        chunks: dict[Path, bytes | None] = {}
        if painted is not None:
            chunks[self._painted.path(frame_index)] = self._painted.encode(painted)
        if labels is None and self._pixels.signature(frame_index) is None and expects_labels(rows["provenance"]):
            labels = self.blank  # an all-background chunk tells an emptied frame from one whose file was lost
        if labels is not None:
            chunks[self._pixels.path(frame_index)] = self._pixels.encode(labels)
        try:
            self._journal.commit(frame_index, rows, chunks)
        except OSError:
            self._cache.drop(frame_index)
            raise
        for array, frame in ((self._painted, painted), (self._pixels, labels)):
            if frame is not None:
                frame.flags.writeable = False
                self._cache.put(array, frame_index, array.signature(frame_index), frame)

    @contextmanager
    def exclusively(self, what: str) -> Iterator[None]:
        """Hold the lock, with every change that a killed process had committed carried out."""
        with writing(what, self._root), self.lock:
            self._journal.recover()
            yield

    def labels(self, frame_index: int) -> np.ndarray:
        """(H, W) uint8, not to be written to."""
        frame = self._read_expected(self._pixels, frame_index, expects_labels)
        return self.blank if frame is None else frame

    def painted(self, frame_index: int) -> np.ndarray | None:
        """(H, W) bool, not to be written to; None if nobody painted."""
        return self._read_expected(self._painted, frame_index, expects_painted)

    def _read_expected(
        self, array: FrameArray, frame_index: int, is_expected: Callable[[np.ndarray], bool]
    ) -> np.ndarray | None:
        """A frame of an array; None without a file, if the frame's provenance expects none."""
        provenance = self.tables["provenance"]
        frame = self._read(array, frame_index)
        if frame is not None or not is_expected(provenance.row(frame_index)):
            return frame
        with suppress(OSError), self.lock:  # provenance is written first: wait until the file has followed
            self._journal.recover()
        frame = self._read(array, frame_index)
        if frame is None and is_expected(provenance.row(frame_index)):
            raise self._damaged(array, frame_index, "missing")
        return frame

    def _read(self, array: FrameArray, frame_index: int) -> np.ndarray | None:
        if frame_index == self._interrupted:
            raise ProjectError(
                f"Frame {frame_index} was being written when the program ended, and {self._root} is read-only, so it cannot "
                "be completed. Make the folder writable and open the project again; the other frames are intact."
            )
        try:
            signature = array.signature(frame_index)
            if signature is None:
                return None
            if (cached := self._cache.get(array, frame_index, signature)) is not None:
                return cached
            if (frame := array.read(frame_index)) is None:
                return None
        except ValueError as error:
            raise self._damaged(array, frame_index, f"damaged ({error})") from error
        except OSError as error:
            raise self._damaged(array, frame_index, f"unreadable ({error.strerror})") from error
        frame.flags.writeable = False
        self._cache.put(array, frame_index, signature, frame)
        return frame

    def _damaged(self, array: FrameArray, frame_index: int, how: str) -> ProjectError:
        if self.has_work_of_a_person(frame_index, self.tables["provenance"].row(frame_index)):
            remedy = f"Restore the file from a backup, or start the frame afresh with labels.reset_frame({frame_index})"
        else:
            remedy = f"Segment frame {frame_index} again"
        return ProjectError(
            f"Frame {frame_index} should have its {array.folder.name} in {array.path(frame_index)}, which is {how}. "
            f"{remedy}; the other frames are intact."
        )

    def saved(self, frame_index: int) -> SavedFrame:
        """Everything about a frame as it is on disk, for `put_back`."""
        with self.exclusively("The frame"):
            rows = self.rows(frame_index)
            paths = [array.path(frame_index) for array in (self._painted, self._pixels)]
            chunks = {path: path.read_bytes() if path.exists() else None for path in paths}
            return SavedFrame(frame_index, self._version(frame_index), rows, chunks)

    def put_back(self, saved: SavedFrame, unless_changed_since: SavedFrame | None) -> bool:
        """Undo what was written to a frame; False if somebody else has changed it since, which stays."""
        frame_index = saved.frame_index
        with self.exclusively("The frame"):
            version = self._version(frame_index)
            if unless_changed_since is not None and version != unless_changed_since.version:
                return False
            if version != saved.version:
                self._journal.commit(frame_index, saved.rows, saved.chunks)
                self._cache.drop(frame_index)
            return True

    def _version(self, frame_index: int) -> tuple:
        signatures = [array.signature(frame_index) for array in (self._painted, self._pixels)]
        return *signatures, self.tables["provenance"].row(frame_index).tobytes()

    def has_work_of_a_person(self, frame_index: int, provenance: np.ndarray) -> bool:
        return bool(np.any(provenance >= Provenance.EDITED)) or self._painted.signature(frame_index) is not None

    def reset(self, frame_index: int) -> None:
        """Back to a frame that nothing was ever done to."""
        with self.exclusively("The reset"):
            rows = {name: np.full(table.class_count, table.fill, table.dtype) for name, table in self.tables.items()}
            chunks = {array.path(frame_index): None for array in (self._painted, self._pixels)}
            self._journal.commit(frame_index, rows, chunks)
            self._cache.drop(frame_index)
