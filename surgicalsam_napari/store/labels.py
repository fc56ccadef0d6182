"""Instrument labels of a whole video, and who set them: a prediction or a person."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import IntEnum
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from psygnal import Signal

from surgicalsam_napari.errors import ClassSetError, ProjectError
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store.arrays import CellTable, FrameArray, FrameCache
from surgicalsam_napari.store.files import WriteLock, writing
from surgicalsam_napari.store.journal import Journal

if TYPE_CHECKING:
    from surgicalsam_napari.model.surgical_sam import FramePrediction

CACHE_BYTES = 64 * 2**20
LARGEST_WHOLE_ARRAY = 2**31  # bytes that np.asarray(labels) may take
STALE_READ_SECONDS = 1.0  # between a viewer's read of a region and its writing back
TABLES = {  # name: dtype, fill value
    "provenance": ("uint8", 0),
    "predicted_iou": ("float32", np.nan),
    "presence": ("float32", np.nan),
    "predicted_by": ("uint16", 0),
}


class Provenance(IntEnum):
    """Where the labels of one class in one frame come from."""

    EMPTY = 0  #: never asked for
    ABSENT = 1  #: asked for, and found not to be in the frame
    PREDICTED = 2
    EDITED = 3  #: a person set pixels to it or from it
    VERIFIED = 4  #: a person confirmed it; no prediction touches it


class LabelStore:
    """Labels of shape (T, H, W), uint8 class ids, 0 for background: an array-like that napari takes as layer data.

    **Assigning is a person's edit**: `labels[t, 10:20, 10:20] = 3`, and napari's paint, fill, erase, undo and redo, which
    all arrive the same way. The pixels that change are kept in a `painted` record, and every class that gained or lost one
    becomes EDITED. An edit by a single number or by index arrays marks every pixel it names; an array assigned to a box
    marks those that differ, since viewers write back the whole box around a stroke. `write_prediction` never changes a
    painted pixel.

    Each change of a frame is all or nothing (see `Journal`): provenance, then the painted record, then pixels. Threads and
    processes may share a project; a frame in memory is dropped as soon as its file is replaced.

    Parameters
    ----------
    root : the project folder
    shape : (T, H, W)
    classes : the columns of the tables, in this order
    """

    edited: ClassVar[Signal] = Signal(int)  #: the frame index, after each frame that a person's edit changed
    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, root: Path, shape: tuple[int, int, int], classes: ClassSet, *, writable: bool = True) -> None:
        self.shape = shape
        self._root = root
        self._classes = classes
        self._pixels = FrameArray(root / "labels", shape, "uint8")
        self._painted = FrameArray(root / "painted", shape, "bool")
        self._tables = {
            name: CellTable(root / name, shape[0], len(classes), *properties) for name, properties in TABLES.items()
        }
        self._journal = Journal(root, self._tables)
        self.lock = WriteLock(root)
        self._cache = FrameCache(CACHE_BYTES)
        self._blank = np.zeros(shape[1:], np.uint8)
        self._blank.flags.writeable = False
        self._last_read = threading.local()
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
            CellTable.create(root / name, shape[0], len(classes), dtype, fill, {**_TABLE_NOTES[name], **about})

    # ---- array-like

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def nbytes(self) -> int:
        return self.size

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        return f"LabelStore({self._root.name}, shape={self.shape}, uint8)"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("Labels on disk cannot become an array without a copy; leave out copy=False.")
        if self.nbytes > LARGEST_WHOLE_ARRAY:
            raise ProjectError(
                f"All {len(self)} frames of labels would take {self.nbytes / 1e9:.1f} GB of memory. "
                "Ask for some of them, as in labels[0:100]."
            )
        return self[:].astype(dtype or self.dtype, copy=False)

    def __getitem__(self, key: Any) -> Any:
        """As for a numpy array, always a fresh copy; reads only the frames that are asked for."""
        key = _as_tuple(key)
        if not _is_basic(key):
            return self._gather(key)
        frames, rows, columns = self._expanded(key)
        if not isinstance(frames, slice):
            frame_index = range(len(self))[frames]
            self._remember_read(frame_index, frame := self._frame(frame_index))
            region = frame[rows, columns]
            return region.copy() if isinstance(region, np.ndarray) else region
        frame_indices = range(len(self))[frames]
        regions = np.zeros((len(frame_indices), *self._blank[rows, columns].shape), np.uint8)
        for region, frame_index in zip(regions, frame_indices, strict=True):
            region[...] = self._frame(frame_index)[rows, columns]
        if len(frame_indices) == 1:
            self._remember_read(frame_indices[0], self._frame(frame_indices[0]))
        return regions

    def __setitem__(self, key: Any, values: Any) -> None:
        """A person's edit (see the class).

        Raises
        ------
        ClassSetError
            a value that is neither 0 nor a class of this project; nothing is changed
        ProjectError, DiskSpaceError
            the frame could not be written; it is unchanged
        """
        key = _as_tuple(key)
        values = self._known_labels(values)
        edits = self._box_edits(key, values) if _is_basic(key) else self._scattered_edits(key, values)
        changed = []
        try:
            for frame_index, region, new, whole_region in edits:
                with self._exclusively("The edit"):
                    if self._edit_frame(frame_index, region, new, whole_region):
                        changed.append(frame_index)
        finally:
            self._last_read.frame_index = None
            for frame_index in changed:
                self.edited.emit(frame_index)

    # ---- predictions

    def write_prediction(self, frame_index: int, prediction: FramePrediction, checkpoint: int = 0) -> bool:
        """Replace what was predicted before for the prompted classes; what a person painted or verified stays.

        Where a class that was not prompted now has predicted pixels, the higher predicted IoU wins; a tie goes to the higher
        class id. A class that a person edited stays EDITED, and its painted pixels stay; the rest of it is predicted anew.

        Parameters
        ----------
        prediction : in the class ids of this project
        checkpoint : number of the checkpoint in the manifest (`Project.record_checkpoint`), 0 if unknown

        Returns
        -------
        whether any pixel changed
        """
        self._check_frame(frame_index)
        if prediction.label_map.shape != self.shape[1:]:
            raise ProjectError(
                f"A prediction for this project needs labels of {self.shape[1]} x {self.shape[2]} pixels, it has "
                f"{prediction.label_map.shape}. Predict with the size of the video's frames."
            )
        columns = [self._column(class_id) for class_id in prediction.class_ids]
        with self._exclusively("The prediction"):
            rows = {name: table.row(frame_index) for name, table in self._tables.items()}
            free = [k for k, column in enumerate(columns) if rows["provenance"][column] != Provenance.VERIFIED]
            if not free:
                return False
            current = self._frame_to_predict(frame_index, rows)
            painted = self._painted_frame(frame_index)
            labels = self._merged(current, painted, prediction, free, rows)
            for k in free:
                column = columns[k]
                if rows["provenance"][column] != Provenance.EDITED:
                    found = Provenance.PREDICTED if prediction.present[k] else Provenance.ABSENT
                    rows["provenance"][column] = found
                rows["predicted_iou"][column] = prediction.predicted_iou[k]
                rows["presence"][column] = prediction.presence[k]
                rows["predicted_by"][column] = checkpoint
            changed = not np.array_equal(labels, current)
            self._commit(frame_index, rows, labels=labels if changed else None)
            return changed

    def _merged(
        self,
        current: np.ndarray,
        painted: np.ndarray | None,
        prediction: FramePrediction,
        free: Sequence[int],
        rows: dict[str, np.ndarray],
    ) -> np.ndarray:
        """(H, W): `current` with the prediction of the classes at positions `free` drawn into it."""
        drawn = np.zeros(256, np.uint8)  # label values of the prediction -> those that it may draw
        kept = np.arange(256, dtype=np.uint8)  # label values now -> those that do not make way
        score = dict(zip(self._classes.ids, rows["predicted_iou"].tolist(), strict=True))
        for k in free:
            class_id = prediction.class_ids[k]
            drawn[class_id] = class_id if prediction.present[k] else 0
            if rows["provenance"][self._column(class_id)] in (Provenance.PREDICTED, Provenance.EDITED):
                kept[class_id] = 0
            score[class_id] = np.nan_to_num(float(prediction.predicted_iou[k]), nan=-np.inf)
        candidate = _looked_up(drawn, prediction.label_map)
        labels = _looked_up(kept, current)
        if painted is not None:
            candidate[painted] = 0
            np.copyto(labels, current, where=painted)
        rank = self._ranks(score, rows["provenance"], {prediction.class_ids[k] for k in free})
        np.copyto(labels, candidate, where=_looked_up(rank, candidate) > _looked_up(rank, labels))
        return labels

    def _ranks(self, score: dict[int, float], provenance: np.ndarray, prompted: set[int]) -> np.ndarray:
        """(256,) uint8 by class id: which lies on top of which. Background lowest; what must not be covered highest."""
        rank = np.full(256, 255, np.uint8)
        rank[0] = 0
        for position, class_id in enumerate(sorted(score, key=lambda class_id: (score[class_id], class_id))):
            stored = provenance[self._column(class_id)]
            predicted = stored in (Provenance.PREDICTED, Provenance.EDITED) and not np.isnan(score[class_id])
            if predicted or class_id in prompted:
                rank[class_id] = min(1 + position, 254)
        return rank

    def _frame_to_predict(self, frame_index: int, rows: dict[str, np.ndarray]) -> np.ndarray:
        """The frame's labels; blank in place of damaged ones, if nothing in them was a person's."""
        try:
            return self._frame(frame_index)
        except ProjectError:
            if self._has_work_of_a_person(frame_index, rows["provenance"]):
                raise
        for name, table in self._tables.items():
            rows[name][:] = table.fill
        return self._blank

    def _has_work_of_a_person(self, frame_index: int, provenance: np.ndarray) -> bool:
        return bool(np.any(provenance >= Provenance.EDITED)) or self._painted.signature(frame_index) is not None

    # ---- provenance

    def provenance(self, frame_index: int, class_id: int) -> Provenance:
        return Provenance(int(self._cell("provenance", frame_index, class_id)))

    def provenance_table(self) -> np.ndarray:
        """(T, C) uint8, a copy; columns in the order of the project's classes."""
        return self._tables["provenance"].table()

    def predicted_iou(self, frame_index: int, class_id: int) -> float:
        """The IoU that the model predicted last; nan if it was never asked."""
        return float(self._cell("predicted_iou", frame_index, class_id))

    def presence(self, frame_index: int, class_id: int) -> float:
        """The presence score, 0 to 1, of the last prediction; nan if there was none."""
        return float(self._cell("presence", frame_index, class_id))

    def prediction_checkpoint(self, frame_index: int, class_id: int) -> int:
        """Which checkpoint predicted last: its place in `Project.manifest.checkpoints`, from 1; 0 if none."""
        return int(self._cell("predicted_by", frame_index, class_id))

    def prediction_checkpoint_table(self) -> np.ndarray:
        """(T, C) uint16, a copy: `prediction_checkpoint` of every frame and class."""
        return self._tables["predicted_by"].table()

    def is_edited(self, frame_index: int, class_id: int) -> bool:
        return self.provenance(frame_index, class_id) == Provenance.EDITED

    def painted(self, frame_index: int) -> np.ndarray:
        """(H, W) bool, a copy: the pixels that a person set."""
        self._check_frame(frame_index)
        painted = self._painted_frame(frame_index)
        return np.zeros(self.shape[1:], bool) if painted is None else painted.copy()

    def verify(self, frame_index: int, class_ids: Sequence[int] | None = None) -> None:
        """Confirm classes in a frame, or their absence; by default all. No prediction changes them from then on."""
        self._check_frame(frame_index)
        columns = [self._column(class_id) for class_id in (self._classes.ids if class_ids is None else class_ids)]
        with self._exclusively("The verification"):
            provenance = self._tables["provenance"].row(frame_index)
            provenance[columns] = Provenance.VERIFIED
            self._commit(frame_index, {"provenance": provenance})

    def reset_frame(self, frame_index: int) -> None:
        """Forget everything about a frame, also what a person did; the way out when its files are damaged."""
        self._check_frame(frame_index)
        with self._exclusively("The reset"):
            rows = {name: np.full(len(self._classes), table.fill, table.dtype) for name, table in self._tables.items()}
            chunks = {array.path(frame_index): None for array in (self._painted, self._pixels)}
            self._journal.commit(frame_index, rows, chunks)
            self._cache.drop(frame_index)

    def make_room_for(self, classes: ClassSet) -> None:
        """Add columns for new classes behind those there are, on disk; part of `Project.extend_classes`."""
        with self._exclusively("The new classes"):
            for name, table in self._tables.items():
                table.widen(len(classes), {**_TABLE_NOTES[name], **class_attributes(classes)})

    def use_classes(self, classes: ClassSet) -> None:
        """Take these classes for the columns that there is room for."""
        with self.lock:
            self._classes = classes
            for table in self._tables.values():
                table.class_count = len(classes)

    def close(self) -> None:
        self._cache.clear()
        self.lock.close()

    # ---- one frame

    def _edit_frame(self, frame_index: int, region: tuple, values: np.ndarray, whole_region: bool) -> bool:
        """Write a person's labels, shaped like `frame[region]`; returns whether that changed anything."""
        current = self._frame(frame_index)
        painted = self._painted_frame(frame_index)
        before = current[region]
        if whole_region:
            chosen = np.ones(before.shape, bool) if painted is None else ~painted[region] | (before != values)
        else:
            chosen = values != self._frame_as_read(frame_index, current)[region]
        if not chosen.any():
            return False
        provenance = self._tables["provenance"].row(frame_index)
        for class_id in np.union1d(before[chosen], values[chosen]).tolist():
            if class_id:
                provenance[self._column(class_id)] = Provenance.EDITED
        labels = current.copy()
        labels[region] = np.where(chosen, values, before)
        painted = np.zeros(current.shape, bool) if painted is None else painted.copy()
        painted[region] |= chosen
        self._commit(frame_index, {"provenance": provenance}, labels=labels, painted=painted)
        return True

    def _frame_as_read(self, frame_index: int, current: np.ndarray) -> np.ndarray:
        """What the viewer saw when it took the region that it now writes back.

        A prediction may have been written in between. Compared with the frame as it is now, all that the viewer did not
        touch would then look like a person's edit and undo the prediction.
        """
        last = self._last_read
        recent = getattr(last, "frame_index", None) == frame_index and time.monotonic() - last.at < STALE_READ_SECONDS
        return last.frame if recent else current

    def _remember_read(self, frame_index: int, frame: np.ndarray) -> None:
        self._last_read.frame_index = frame_index
        self._last_read.frame = frame
        self._last_read.at = time.monotonic()

    def _commit(
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
        if labels is None and self._pixels.signature(frame_index) is None and _expects_labels(rows["provenance"]):
            labels = self._blank  # an all-background chunk tells an emptied frame from one whose file was lost
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
    def _exclusively(self, what: str) -> Iterator[None]:
        """Hold the lock, with every change that a killed process had committed carried out."""
        with writing(what, self._root), self.lock:
            self._journal.recover()
            yield

    def _frame(self, frame_index: int) -> np.ndarray:
        """(H, W) uint8, not to be written to."""
        frame = self._read_expected(self._pixels, frame_index, _expects_labels)
        return self._blank if frame is None else frame

    def _painted_frame(self, frame_index: int) -> np.ndarray | None:
        """(H, W) bool, not to be written to; None if nobody painted."""
        return self._read_expected(self._painted, frame_index, _expects_painted)

    def _read_expected(
        self, array: FrameArray, frame_index: int, is_expected: Callable[[np.ndarray], bool]
    ) -> np.ndarray | None:
        """A frame of an array; None without a file, if the frame's provenance expects none."""
        provenance = self._tables["provenance"]
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
        if self._has_work_of_a_person(frame_index, self._tables["provenance"].row(frame_index)):
            remedy = f"Restore the file from a backup, or start the frame afresh with labels.reset_frame({frame_index})"
        else:
            remedy = f"Segment frame {frame_index} again"
        return ProjectError(
            f"Frame {frame_index} should have its {array.folder.name} in {array.path(frame_index)}, which is {how}. "
            f"{remedy}; the other frames are intact."
        )

    # ---- keys and classes

    def _check_frame(self, frame_index: int) -> None:
        if not 0 <= frame_index < len(self):
            raise ProjectError(f"This video has the frames 0 to {len(self) - 1}; got {frame_index}. Choose one of them.")

    def _column(self, class_id: int) -> int:
        self._classes.by_id(class_id)
        return self._classes.ids.index(class_id)

    def _cell(self, table: str, frame_index: int, class_id: int) -> np.generic:
        self._check_frame(frame_index)
        return self._tables[table].row(frame_index)[self._column(class_id)]

    def _known_labels(self, values: Any) -> np.ndarray:
        values = np.asarray(values)
        if values.dtype.kind not in "iub":
            raise ClassSetError(f"Labels are whole numbers, the ids of classes; got {values.dtype}. Convert them first.")
        known = np.zeros(257, bool)
        known[[0, *self._classes.ids]] = True
        inside = values if values.dtype == np.uint8 else np.where((values >= 0) & (values <= 255), values, 256)
        unknown = ~known[inside]
        if np.any(unknown):
            listed = ", ".join(f"{c.id} {c.name}" for c in self._classes)
            raise ClassSetError(
                f"No class of this project has the label {values[unknown].flat[0]}; there are {listed}. "
                "Paint with one of these, or add the class to the class set."
            )
        return values.astype(np.uint8, copy=False)

    def _expanded(self, key: tuple) -> tuple:
        """A basic key as one item each for frames, rows and columns."""
        given = [item for item in key if item is not Ellipsis]
        if len(given) > self.ndim or len(key) - len(given) > 1:
            raise IndexError(f"Labels have {self.ndim} axes (frame, y, x); the index has {len(given)}.")
        position = next((i for i, item in enumerate(key) if item is Ellipsis), len(key))
        missing = [slice(None)] * (self.ndim - len(given))
        return (*given[:position], *missing, *given[position:])

    def _box_edits(self, key: tuple, values: np.ndarray) -> Iterator[tuple[int, tuple, np.ndarray, bool]]:
        frames, rows, columns = self._expanded(key)
        target = _shape_of(self.shape, (frames, rows, columns))
        if values.ndim > len(target):
            values = values.reshape(values.shape[values.ndim - len(target) :])  # numpy drops leading axes of length 1 too
        region = tuple(_as_slice(item, length) for item, length in zip((rows, columns), self.shape[1:], strict=True))
        frame_indices = range(len(self))[_as_slice(frames, len(self))]
        new = np.broadcast_to(values, target).reshape(len(frame_indices), *self._blank[region].shape)
        for position, frame_index in enumerate(frame_indices):
            yield frame_index, region, new[position], values.ndim == 0

    def _scattered_edits(self, key: tuple, values: np.ndarray) -> Iterator[tuple[int, tuple, np.ndarray, bool]]:
        frames, rows, columns = self._coordinates(key)
        values = np.broadcast_to(values, frames.shape)
        for frame_index in np.unique(frames).tolist():
            here = frames == frame_index
            yield frame_index, (rows[here], columns[here]), values[here], True

    def _gather(self, key: tuple) -> np.ndarray:
        frames, rows, columns = self._coordinates(key)
        labels = np.zeros(frames.shape, np.uint8)
        for frame_index in np.unique(frames).tolist():
            here = frames == frame_index
            labels[here] = self._frame(frame_index)[rows[here], columns[here]]
        return labels

    def _coordinates(self, key: tuple) -> list[np.ndarray]:
        """Frame, row and column of every pixel that a key of index arrays names, as numpy would index."""
        axes = np.ogrid[tuple(slice(length) for length in self.shape)]
        return [np.asarray(np.broadcast_to(axis, self.shape)[key]) for axis in axes]


_TABLE_NOTES: dict[str, dict[str, Any]] = {
    "provenance": {
        "description": "where the labels of a class in a frame come from",
        "flag_values": [int(value) for value in Provenance],
        "flag_meanings": " ".join(value.name.lower() for value in Provenance),
    },
    "predicted_iou": {"description": "IoU that the model predicted for its mask; NaN where it was not asked"},
    "presence": {"description": "score from 0 to 1 that the class is in the frame; NaN where the model was not asked"},
    "predicted_by": {"description": "number of the checkpoint, from 1, in project.json; 0 where there is no prediction"},
}


def class_attributes(classes: ClassSet) -> dict[str, Any]:
    """The classes as zarr attributes, so that the arrays can be read without project.json."""
    return {"classes": classes.to_json()["classes"]}


def _looked_up(table: np.ndarray, image: np.ndarray) -> np.ndarray:
    """`table[image]`, both uint8, a new array; ten times as fast as numpy's indexing."""
    looked_up = bytearray(image.astype(np.uint8, copy=False).tobytes()).translate(table.tobytes())
    return np.frombuffer(looked_up, np.uint8).reshape(image.shape)


def _expects_labels(provenance: np.ndarray) -> bool:
    """Whether a frame with this row of provenance has a chunk of labels, if only of background."""
    return bool(np.any((provenance == Provenance.PREDICTED) | (provenance == Provenance.EDITED)))


def _expects_painted(provenance: np.ndarray) -> bool:
    return bool(np.any(provenance == Provenance.EDITED))


def _as_tuple(key: Any) -> tuple:
    return key if isinstance(key, tuple) else (key,)


def _is_basic(key: tuple) -> bool:
    """Whether numpy would index by ints and slices alone."""
    basic = (int, np.integer, slice, EllipsisType)
    return all(isinstance(item, basic) and not isinstance(item, bool) for item in key)


def _as_slice(item: int | slice, length: int) -> slice:
    if isinstance(item, slice):
        return item
    index = range(length)[item]
    return slice(index, index + 1)


def _shape_of(shape: tuple[int, ...], key: tuple) -> tuple[int, ...]:
    return np.broadcast_to(np.uint8(0), shape)[key].shape
