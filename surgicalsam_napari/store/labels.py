"""Instrument labels of a whole video, and who set them: a prediction or a person."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from psygnal import Signal, SignalInstance

from surgicalsam_napari.errors import ClassSetError, ProjectError
from surgicalsam_napari.formatting import in_bytes
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store.action import Action
from surgicalsam_napari.store.frame_files import FrameFiles
from surgicalsam_napari.store.history import History
from surgicalsam_napari.store.indexing import FrameEdit, as_tuple, coordinates, expanded, frame_edits, is_basic
from surgicalsam_napari.store.merging import FrameBefore, merged_import, merged_prediction
from surgicalsam_napari.store.provenance import TABLE_NOTES, Provenance, class_attributes
from surgicalsam_napari.store.snapshots import Snapshots

if TYPE_CHECKING:
    from surgicalsam_napari.model.surgical_sam import FramePrediction

LARGEST_WHOLE_ARRAY = 2**31  # bytes that np.asarray(labels) may take
STALE_READ_SECONDS = 1.0  # between a viewer's read of a region and its writing back


@dataclass(frozen=True)
class _Edited:
    """What became of an edit of one frame: whether anything was written, and whether VERIFIED classes were in the way."""

    is_written: bool
    changed_pixels: int
    is_refused: bool


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

    edited: ClassVar[Signal] = Signal(int, int)  #: frame index, changed pixels: after each frame that an edit changed
    refused: ClassVar[Signal] = Signal(int)  #: frame index, where an edit met VERIFIED classes; their pixels stay
    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, root: Path, shape: tuple[int, int, int], classes: ClassSet, *, writable: bool = True) -> None:
        self.shape = shape
        self._root = root
        self._classes = classes
        self._files = FrameFiles(root, shape, classes, writable=writable)
        self._tables = self._files.tables
        self.lock = self._files.lock
        self.history = History(root, self._files)
        self.snapshots = Snapshots(root, self._files, self.history)
        self._last_read = threading.local()

    @staticmethod
    def create(root: Path, shape: tuple[int, int, int], classes: ClassSet) -> None:
        """Make the empty arrays in a new project folder; may raise OSError."""
        FrameFiles.create(root, shape, classes)

    @property
    def changed(self) -> SignalInstance:
        """Emits the frame index after every write of this process, whoever wrote, in the thread that wrote."""
        return self._files.changed

    def row(self, name: str, frame_index: int) -> np.ndarray:
        """(C,), a copy: one frame's row of `table`."""
        self._check_frame(frame_index)
        return self._tables[name].row(frame_index)

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
                f"All {len(self)} frames of labels would take {in_bytes(self.nbytes)} of memory. "
                "Ask for some of them, as in labels[0:100]."
            )
        return self[:].astype(dtype or self.dtype, copy=False)

    def __getitem__(self, key: Any) -> Any:
        """As for a numpy array, always a fresh copy; reads only the frames that are asked for."""
        key = as_tuple(key)
        if not is_basic(key):
            return self._gather(key)
        frames, rows, columns = expanded(key)
        if not isinstance(frames, slice):
            frame_index = range(len(self))[frames]
            self._remember_read(frame_index, frame := self._files.labels(frame_index))
            region = frame[rows, columns]
            return region.copy() if isinstance(region, np.ndarray) else region
        frame_indices = range(len(self))[frames]
        regions = np.zeros((len(frame_indices), *self._files.blank[rows, columns].shape), np.uint8)
        for region, frame_index in zip(regions, frame_indices, strict=True):
            region[...] = self._files.labels(frame_index)[rows, columns]
        if len(frame_indices) == 1:
            self._remember_read(frame_indices[0], self._files.labels(frame_indices[0]))
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
        key = as_tuple(key)
        values = self._known_labels(values)
        done = []
        try:
            for edit in frame_edits(key, values, self.shape):
                with self._files.exclusively("The edit"):
                    done.append((edit.frame_index, self._edit_frame(edit)))
        finally:
            self._last_read.frame_index = None
            for frame_index, edited in done:
                self._tell(frame_index, edited)

    def write_edit(
        self, frame_index: int, label_map: np.ndarray, *, decided: np.ndarray | None = None, action: Action | None = None
    ) -> int:
        """A person's labels for a whole frame; pixels of VERIFIED classes stay.

        Every pixel that differs from what is there counts as painted then, and its classes as EDITED.

        Parameters
        ----------
        label_map : (H, W) uint8
        decided : (H, W) bool, pixels that count as painted though they stay as they are: a person has confirmed them
        action : makes it part of a whole that can be undone

        Returns
        -------
        how many pixels changed

        Raises
        ------
        ClassSetError, ProjectError, DiskSpaceError
            an unknown label, another size, a failed write; the frame is unchanged
        """
        self._check_frame(frame_index)
        self._check_size(label_map, "An edit of")
        values = self._known_labels(label_map)
        with self._files.exclusively("The edit"):
            chosen = values != self._files.labels(frame_index)
            if decided is not None:
                chosen |= decided
            edited = self._set_pixels(frame_index, (slice(None), slice(None)), values, chosen, action)
        self._tell(frame_index, edited)
        return edited.changed_pixels

    def _tell(self, frame_index: int, edited: _Edited) -> None:
        if edited.is_written:
            self.edited.emit(frame_index, edited.changed_pixels)
        if edited.is_refused:
            self.refused.emit(frame_index)

    # ---- predictions and imports

    def write_prediction(
        self, frame_index: int, prediction: FramePrediction, checkpoint: int = 0, *, action: Action | None = None
    ) -> bool:
        """Replace what was predicted before for the prompted classes; what a person painted or verified stays.

        Where a class that was not prompted now has predicted pixels, the higher predicted IoU wins; a tie goes to the higher
        class id. A class that a person edited stays EDITED, and its painted pixels stay; the rest of it is predicted anew.

        Parameters
        ----------
        prediction : in the class ids of this project
        checkpoint : number of the checkpoint in the manifest (`Project.record_checkpoint`), 0 if unknown
        action : makes it part of a whole that can be undone

        Returns
        -------
        whether any pixel changed
        """
        self._check_frame(frame_index)
        self._check_size(prediction.label_map, "A prediction for")
        columns = [self._column(class_id) for class_id in prediction.class_ids]
        with self._files.exclusively("The prediction"):
            rows = self._files.rows(frame_index)
            free = [k for k, column in enumerate(columns) if rows["provenance"][column] != Provenance.VERIFIED]
            if not free:
                return False
            current = self._frame_to_replace(frame_index, rows)
            painted = self._files.painted(frame_index)
            before = FrameBefore(current, painted, self._by_class_id(rows["provenance"]))
            labels = merged_prediction(before, prediction, free, self._by_class_id(rows["predicted_iou"]))
            for k in free:
                column = columns[k]
                if rows["provenance"][column] != Provenance.EDITED:
                    found = Provenance.PREDICTED if prediction.present[k] else Provenance.ABSENT
                    rows["provenance"][column] = found
                rows["predicted_iou"][column] = prediction.predicted_iou[k]
                rows["presence"][column] = prediction.presence[k]
                rows["contested"][column] = prediction.contested[k]
                rows["predicted_by"][column] = checkpoint
            changed = not np.array_equal(labels, current)
            self._files.commit(frame_index, rows, labels=labels if changed else None, action=action)
            return changed

    def write_import(
        self, frame_index: int, label_map: np.ndarray, class_ids: Sequence[int], *, action: Action | None = None
    ) -> int:
        """Replace a frame by that of a dataset, as EDITED; pixels that a person painted and VERIFIED classes stay.

        The whole frame counts as painted afterwards, background too: a dataset's frame is complete. Only predictions of
        classes on which it is silent stay where it has background, and stay predictions.

        Parameters
        ----------
        label_map : (H, W) uint8, in the class ids of this project
        class_ids : the classes annotated in this frame, those that are absent included; none of them, nothing is written
        action : makes it part of a whole that can be undone

        Returns
        -------
        how many pixels stayed as a person had them, against the dataset

        Raises
        ------
        ProjectError, ClassSetError, DiskSpaceError
            another size, a label outside `class_ids`, a failed write; the frame is unchanged
        """
        self._check_frame(frame_index)
        self._check_size(label_map, "An import into")
        columns = [self._column(class_id) for class_id in class_ids]
        unknown = set(np.flatnonzero(np.bincount(label_map.ravel(), minlength=256)).tolist()) - {0, *class_ids}
        if unknown:
            raise ClassSetError(f"The import has the label {min(unknown)}; annotated are {class_ids}. Name that class, too.")
        if not columns:
            return 0
        with self._files.exclusively("The import"):
            rows = self._files.rows(frame_index)
            before = FrameBefore(
                self._frame_to_replace(frame_index, rows),
                self._files.painted(frame_index),
                self._by_class_id(rows["provenance"]),
            )
            merged = merged_import(before, label_map, class_ids)
            free = [column for column in columns if rows["provenance"][column] != Provenance.VERIFIED]
            rows["provenance"][free] = Provenance.EDITED
            self._files.commit(frame_index, rows, labels=merged.labels, painted=merged.painted, action=action)
            return merged.kept_pixels

    def _frame_to_replace(self, frame_index: int, rows: dict[str, np.ndarray]) -> np.ndarray:
        """The frame's labels; blank in place of damaged ones, if nothing in them was a person's."""
        try:
            return self._files.labels(frame_index)
        except ProjectError:
            if self._files.has_work_of_a_person(frame_index, rows["provenance"]):
                raise
        for name, table in self._tables.items():
            rows[name][:] = table.fill
        return self._files.blank

    # ---- provenance

    def provenance(self, frame_index: int, class_id: int) -> Provenance:
        return Provenance(int(self._cell("provenance", frame_index, class_id)))

    def provenance_table(self) -> np.ndarray:
        """(T, C) uint8, a copy; columns in the order of the project's classes."""
        return self._tables["provenance"].table()

    def table(self, name: str) -> np.ndarray:
        """(T, C), a copy of a table of `provenance.TABLES`; columns in the order of the project's classes."""
        return self._tables[name].table()

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
        painted = self._files.painted(frame_index)
        return np.zeros(self.shape[1:], bool) if painted is None else painted.copy()

    def verify(self, frame_index: int, class_ids: Sequence[int] | None = None, *, action: Action | None = None) -> None:
        """Confirm classes in a frame, or their absence; by default all. Nothing changes them then but `unlock`."""
        self._check_frame(frame_index)
        columns = [self._column(class_id) for class_id in (self._classes.ids if class_ids is None else class_ids)]
        with self._files.exclusively("The verification"):
            provenance = self._tables["provenance"].row(frame_index)
            provenance[columns] = Provenance.VERIFIED
            self._files.commit(frame_index, {"provenance": provenance}, action=action)

    def unlock(self, frame_index: int, class_ids: Sequence[int] | None = None, *, action: Action | None = None) -> None:
        """Take back `verify`: EDITED where a person painted in this frame, else what the last prediction found."""
        self._check_frame(frame_index)
        columns = [self._column(class_id) for class_id in (self._classes.ids if class_ids is None else class_ids)]
        with self._files.exclusively("The unlocking"):
            rows = self._files.rows(frame_index)
            provenance = rows["provenance"]
            locked = [column for column in columns if provenance[column] == Provenance.VERIFIED]
            if not locked:
                return
            painted = self._files.painted(frame_index)
            if painted is not None and painted.any():
                provenance[locked] = Provenance.EDITED
            else:
                present = np.bincount(self._files.labels(frame_index).ravel(), minlength=256) > 0
                for column in locked:
                    was_asked = not np.isnan(rows["presence"][column])
                    found = Provenance.PREDICTED if present[self._classes.ids[column]] else Provenance.ABSENT
                    provenance[column] = found if was_asked else Provenance.EMPTY
            self._files.commit(frame_index, {"provenance": provenance}, action=action)

    def locked_class_ids(self, frame_index: int) -> list[int]:
        """The classes that are VERIFIED in this frame."""
        self._check_frame(frame_index)
        row = self._tables["provenance"].row(frame_index)
        return [class_id for class_id, value in zip(self._classes.ids, row, strict=True) if value == Provenance.VERIFIED]

    def reset_frame(self, frame_index: int) -> None:
        """Forget everything about a frame, also what a person did; the way out when its files are damaged."""
        self._check_frame(frame_index)
        self._files.reset(frame_index)

    def make_room_for(self, classes: ClassSet) -> None:
        """Add columns for new classes behind those there are, on disk; part of `Project.extend_classes`."""
        with self._files.exclusively("The new classes"):
            for name, table in self._tables.items():
                table.widen(len(classes), {**TABLE_NOTES[name], **class_attributes(classes)})

    def use_classes(self, classes: ClassSet) -> None:
        """Take these classes for the columns that there is room for."""
        with self.lock:
            self._classes = classes
            for table in self._tables.values():
                table.class_count = len(classes)

    def lock_because(self, reason: str | None) -> None:
        """Write nothing from now on, and give this reason, in a user's words; None lifts it."""
        self._files.locked_because = reason

    def check_writable(self, what: str) -> None:
        """A ProjectError if nothing may be written."""
        self._files.check_writable(what)

    def close(self) -> None:
        self._last_read = threading.local()
        self._files.close()

    # ---- one frame

    def _edit_frame(self, edit: FrameEdit) -> _Edited:
        frame_index, region, values = edit.frame_index, edit.region, edit.values
        current = self._files.labels(frame_index)
        if edit.whole_region:
            painted = self._files.painted(frame_index)
            chosen = np.ones(values.shape, bool) if painted is None else ~painted[region] | (current[region] != values)
        else:
            chosen = values != self._frame_as_read(frame_index, current)[region]
        return self._set_pixels(frame_index, region, values, chosen)

    def _set_pixels(
        self, frame_index: int, region: tuple, values: np.ndarray, chosen: np.ndarray, action: Action | None = None
    ) -> _Edited:
        """Write a person's labels into the chosen pixels of a region, but for those of VERIFIED classes."""
        current = self._files.labels(frame_index)
        provenance = self._tables["provenance"].row(frame_index)
        before = current[region]
        free = chosen
        if np.any(provenance == Provenance.VERIFIED):
            locked = np.zeros(256, bool)
            locked[np.array(self._classes.ids)[provenance == Provenance.VERIFIED]] = True
            free = chosen & ~(locked[before] | locked[values])
            if provenance.min() == Provenance.VERIFIED:
                free = np.zeros_like(chosen)  # all of the frame was confirmed, its background, too
        is_refused = bool(np.any(chosen & ~free & (before != values)))
        if not free.any():
            return _Edited(False, 0, is_refused)
        for class_id in np.union1d(before[free], values[free]).tolist():
            if class_id:
                provenance[self._column(class_id)] = Provenance.EDITED
        painted = self._files.painted(frame_index)
        painted = np.zeros(current.shape, bool) if painted is None else painted.copy()
        painted[region] |= free
        labels = current.copy()
        labels[region] = np.where(free, values, before)
        self._files.commit(frame_index, {"provenance": provenance}, labels=labels, painted=painted, action=action)
        return _Edited(True, int(np.count_nonzero(free & (before != values))), is_refused)

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

    # ---- keys and classes

    def _check_frame(self, frame_index: int) -> None:
        if not 0 <= frame_index < len(self):
            raise ProjectError(f"This video has the frames 0 to {len(self) - 1}; got {frame_index}. Choose one of them.")

    def _check_size(self, label_map: np.ndarray, what: str) -> None:
        if label_map.shape != self.shape[1:]:
            raise ProjectError(
                f"{what} this project needs labels of {self.shape[1]} x {self.shape[2]} pixels, it has {label_map.shape}. "
                "Use labels made on the frames of this video."
            )

    def _column(self, class_id: int) -> int:
        self._classes.by_id(class_id)
        return self._classes.ids.index(class_id)

    def _by_class_id(self, row: np.ndarray) -> dict[int, Any]:
        return dict(zip(self._classes.ids, row.tolist(), strict=True))

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

    def _gather(self, key: tuple) -> np.ndarray:
        frames, rows, columns = coordinates(key, self.shape)
        labels = np.zeros(frames.shape, np.uint8)
        for frame_index in np.unique(frames).tolist():
            here = frames == frame_index
            labels[here] = self._files.labels(frame_index)[rows[here], columns[here]]
        return labels
