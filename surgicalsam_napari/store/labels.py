"""The instrument labels of a video: read as an array, written by edits, predictions and imports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from psygnal import Signal, SignalInstance

from surgicalsam_napari.errors import ClassSetError, ProjectError
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store.action import Action
from surgicalsam_napari.store.frame_files import FrameFiles
from surgicalsam_napari.store.history import History
from surgicalsam_napari.store.indexing import FrameEdit, as_tuple, frame_edits
from surgicalsam_napari.store.label_array import LabelArray
from surgicalsam_napari.store.label_maps import known_labels
from surgicalsam_napari.store.label_tables import LabelTables
from surgicalsam_napari.store.merging import (
    FrameBefore,
    MergedEdit,
    MergedImport,
    merged_edit,
    merged_import,
    merged_prediction,
)
from surgicalsam_napari.store.provenance import TABLE_NOTES, Provenance, class_attributes
from surgicalsam_napari.store.snapshots import Snapshots

if TYPE_CHECKING:
    from surgicalsam_napari.model.surgical_sam import FramePrediction


class LabelStore(LabelArray, LabelTables):
    """Labels of shape (T, H, W), uint8 class ids, 0 for background: read as a numpy array, written frame by frame.

    **An assignment is an edit by a person**: `labels[t, 10:20, 10:20] = 3`. napari's paint, fill, erase, undo and redo
    arrive in the same way, through `ViewerLabels`. The `painted` record marks the pixels that the edit sets, and every class
    that gains or loses a pixel becomes EDITED. A single number or index arrays mark every pixel of the key. An array
    assigned to a box marks the pixels that differ from the frame. `write_prediction` never changes a painted pixel.

    A frame changes completely or not at all (see `Journal`); provenance is written first, then the painted record, then the
    labels. Threads and processes may share a project: a cached frame is no longer used after its file was replaced.

    Parameters
    ----------
    root : the project folder
    shape : (T, H, W)
    classes : the columns of the tables, in this order
    """

    edited: ClassVar[Signal] = Signal(int, int)  #: frame index, number of changed pixels; emitted for each edited frame
    refused: ClassVar[Signal] = Signal(int)  #: frame index; emitted if an edit concerned VERIFIED classes, whose pixels stay

    def __init__(self, root: Path, shape: tuple[int, int, int], classes: ClassSet, *, writable: bool = True) -> None:
        LabelArray.__init__(self, shape)
        LabelTables.__init__(self, FrameFiles(root, shape, classes, writable=writable), classes)
        self._root = root
        self.lock = self._files.lock
        self.history = History(root, self._files)
        self.snapshots = Snapshots(root, self._files, self.history)

    @staticmethod
    def create(root: Path, shape: tuple[int, int, int], classes: ClassSet) -> None:
        """Make the empty arrays in a new project folder; may raise OSError."""
        FrameFiles.create(root, shape, classes)

    @property
    def changed(self) -> SignalInstance:
        """Emits the frame index after every write of this process, in the thread that wrote."""
        return self._files.changed

    def frame(self, frame_index: int) -> np.ndarray:
        """(H, W) uint8, read-only; a ProjectError if the frame's files are damaged."""
        return self._files.labels(frame_index)

    def __repr__(self) -> str:
        return f"LabelStore({self._root.name}, shape={self.shape}, uint8)"

    # ---- edits

    def __setitem__(self, key: Any, values: Any) -> None:
        """An edit by a person; see `edit`."""
        self.edit(key, values)

    def edit(self, key: Any, values: Any, *, as_read: Mapping[int, np.ndarray] | None = None) -> None:
        """`labels[key] = values`, as an edit by a person (see the class).

        Parameters
        ----------
        as_read : by frame index, (H, W) uint8: the frame that the person saw; it may have changed since. An array assigned
            to a box then sets only the pixels in which it differs from that frame

        Raises
        ------
        ClassSetError
            a value that is neither 0 nor a class of this project; nothing is changed
        ProjectError, DiskSpaceError
            the frame could not be written; it is unchanged
        """
        values = known_labels(values, self._classes)
        done = []
        try:
            for edit in frame_edits(as_tuple(key), values, self.shape):
                with self._files.exclusively("The edit"):
                    done.append((edit.frame_index, self._edit_frame(edit, (as_read or {}).get(edit.frame_index))))
        finally:
            for frame_index, edited in done:
                self._report(frame_index, edited)

    def write_edit(
        self, frame_index: int, label_map: np.ndarray, *, decided: np.ndarray | None = None, action: Action | None = None
    ) -> int:
        """Set a person's labels for a whole frame; pixels of VERIFIED classes stay.

        Every changed pixel is marked as painted, and its old and new class become EDITED.

        Parameters
        ----------
        label_map : (H, W) uint8
        decided : (H, W) bool, pixels that a person has confirmed: they are marked as painted even if they do not change
        action : the action that this edit is a part of, so that it can be undone

        Returns
        -------
        the number of changed pixels

        Raises
        ------
        ClassSetError, ProjectError, DiskSpaceError
            an unknown label, a wrong size, a failed write; the frame is unchanged
        """
        self._check_frame(frame_index)
        self._check_size(label_map, "An edit of")
        values = known_labels(label_map, self._classes)
        with self._files.exclusively("The edit"):
            chosen = values != self._files.labels(frame_index)
            if decided is not None:
                chosen |= decided
            edited = self._set_pixels(frame_index, (slice(None), slice(None)), values, chosen, action)
        self._report(frame_index, edited)
        return edited.changed_pixels

    def _report(self, frame_index: int, edited: MergedEdit) -> None:
        if edited.free.any():
            self.edited.emit(frame_index, edited.changed_pixels)
        if edited.is_refused:
            self.refused.emit(frame_index)

    # ---- predictions and imports

    def write_prediction(
        self, frame_index: int, prediction: FramePrediction, checkpoint: int = 0, *, action: Action | None = None
    ) -> bool:
        """Replace the predicted pixels of the prompted classes; what a person painted or verified stays.

        If a prompted class overlaps predicted pixels of another class, the higher predicted IoU wins; in a tie, the
        higher class id. An EDITED class stays EDITED: its painted pixels stay, and its other pixels are predicted again.

        Parameters
        ----------
        prediction : in the class ids of this project
        checkpoint : number of the checkpoint in the manifest (`Project.record_checkpoint`), 0 if unknown
        action : the action that this prediction is a part of, so that it can be undone

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
                    rows["provenance"][column] = Provenance.PREDICTED if prediction.present[k] else Provenance.ABSENT
                rows["predicted_iou"][column] = prediction.predicted_iou[k]
                rows["presence"][column] = prediction.presence[k]
                rows["contested"][column] = prediction.contested[k]
                rows["predicted_by"][column] = checkpoint
            changed = not np.array_equal(labels, current)
            self._files.commit(frame_index, rows, labels=labels if changed else None, action=action)
            return changed

    def forget_predictions(self, frame_index: int, class_ids: Sequence[int], *, action: Action | None = None) -> bool:
        """Remove the predictions of these classes from a frame: they are EMPTY then, and their pixels background.

        Classes that a person edited or verified stay, and so does every painted pixel.

        Returns
        -------
        whether a class of the frame was predicted
        """
        self._check_frame(frame_index)
        columns = [self._column(class_id) for class_id in class_ids]
        with self._files.exclusively("The removal of predictions"):
            rows = self._files.rows(frame_index)
            due = [column for column in columns if rows["provenance"][column] in (Provenance.ABSENT, Provenance.PREDICTED)]
            if not due:
                return False
            current = self._frame_to_replace(frame_index, rows)
            goes = np.isin(current, [self._classes.ids[column] for column in due])
            if (painted := self._files.painted(frame_index)) is not None:
                goes &= ~painted
            for name, table in self._tables.items():
                rows[name][due] = table.fill
            labels = np.where(goes, np.uint8(0), current) if goes.any() else None
            self._files.commit(frame_index, rows, labels=labels, action=action)
            return True

    def write_import(
        self, frame_index: int, label_map: np.ndarray, class_ids: Sequence[int], *, action: Action | None = None
    ) -> int:
        """Replace a frame with a dataset's labels, as EDITED; pixels that a person painted and VERIFIED classes stay.

        The whole frame is then marked as painted, including background: a dataset's frame is complete. There is one
        exception: classes that it does not annotate. Where it has background, their predicted pixels stay predictions.

        Parameters
        ----------
        label_map : (H, W) uint8, in the class ids of this project
        class_ids : the classes annotated in this frame, including absent ones; if empty, nothing is written
        action : the action that this import is a part of, so that it can be undone

        Returns
        -------
        the number of pixels in which the person's label was kept although the dataset differs

        Raises
        ------
        ProjectError, ClassSetError, DiskSpaceError
            a wrong size, a label outside `class_ids`, a failed write; the frame is unchanged
        """
        self._check_frame(frame_index)
        self._check_size(label_map, "An import into")
        columns = [self._column(class_id) for class_id in class_ids]
        unknown = set(np.flatnonzero(np.bincount(label_map.ravel(), minlength=256)).tolist()) - {0, *class_ids}
        if unknown:
            raise ClassSetError(
                f"The import has the label {min(unknown)}, its annotated classes are {class_ids}. Add that class to them."
            )
        if not columns:
            return 0
        with self._files.exclusively("The import"):
            rows = self._files.rows(frame_index)
            merged = merged_import(self._before_import(frame_index, rows), label_map, class_ids)
            free = [column for column in columns if rows["provenance"][column] != Provenance.VERIFIED]
            rows["provenance"][free] = Provenance.EDITED
            self._files.commit(frame_index, rows, labels=merged.labels, painted=merged.painted, action=action)
            return merged.kept_pixels

    def preview_import(self, frame_index: int, label_map: np.ndarray, class_ids: Sequence[int]) -> MergedImport:
        """The frame as `write_import` would leave it; nothing is written. New classes may be among `class_ids`."""
        self._check_frame(frame_index)
        self._check_size(label_map, "An import into")
        before = self._before_import(frame_index, self._files.rows(frame_index))
        return merged_import(before, label_map, class_ids)

    def _before_import(self, frame_index: int, rows: dict[str, np.ndarray]) -> FrameBefore:
        labels = self._frame_to_replace(frame_index, rows)
        return FrameBefore(labels, self._files.painted(frame_index), self._by_class_id(rows["provenance"]))

    def _frame_to_replace(self, frame_index: int, rows: dict[str, np.ndarray]) -> np.ndarray:
        """The frame's labels. If they are damaged and hold no work of a person: background; `rows` are cleared."""
        try:
            return self._files.labels(frame_index)
        except ProjectError:
            if self._files.has_work_of_a_person(frame_index, rows["provenance"]):
                raise
        for name, table in self._tables.items():
            rows[name][:] = table.fill
        return self._files.blank

    # ---- provenance

    def verify(self, frame_index: int, class_ids: Sequence[int] | None = None, *, action: Action | None = None) -> None:
        """Confirm classes in a frame, or their absence; by default all. They stay so until `unlock` or `reset_frame`."""
        self._check_frame(frame_index)
        columns = [self._column(class_id) for class_id in (self._classes.ids if class_ids is None else class_ids)]
        with self._files.exclusively("The verification"):
            provenance = self._tables["provenance"].row(frame_index)
            provenance[columns] = Provenance.VERIFIED
            self._files.commit(frame_index, {"provenance": provenance}, action=action)

    def unlock(self, frame_index: int, class_ids: Sequence[int] | None = None, *, action: Action | None = None) -> None:
        """Unlock verified classes: EDITED if a person painted in this frame, else the result of the last prediction."""
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
                    predicted = Provenance.PREDICTED if present[self._classes.ids[column]] else Provenance.ABSENT
                    provenance[column] = predicted if was_asked else Provenance.EMPTY
            self._files.commit(frame_index, {"provenance": provenance}, action=action)

    def reset_frame(self, frame_index: int) -> None:
        """Remove everything that is stored for a frame, including the work of a person; for frames with damaged files."""
        self._check_frame(frame_index)
        self._files.reset(frame_index)

    def add_columns(self, classes: ClassSet) -> None:
        """Add table columns on disk for new classes; part of `Project.extend_classes`."""
        with self._files.exclusively("The new classes"):
            for name, table in self._tables.items():
                table.widen(len(classes), {**TABLE_NOTES[name], **class_attributes(classes)})

    def use_classes(self, classes: ClassSet) -> None:
        """Use these classes from now on; the tables on disk must have a column for each."""
        with self.lock:
            self._classes = classes
            for table in self._tables.values():
                table.class_count = len(classes)

    def set_read_only(self, reason: str | None) -> None:
        """Refuse all writes from now on, with this reason for the user; None allows them again."""
        self._files.read_only_reason = reason

    def check_writable(self, what: str) -> None:
        """A ProjectError if nothing may be written."""
        self._files.check_writable(what)

    def close(self) -> None:
        self._files.close()

    # ---- one frame

    def _edit_frame(self, edit: FrameEdit, as_read: np.ndarray | None) -> MergedEdit:
        current = self._files.labels(edit.frame_index)
        region, values = edit.region, edit.values
        if edit.whole_region:
            painted = self._files.painted(edit.frame_index)
            chosen = np.ones(values.shape, bool) if painted is None else ~painted[region] | (current[region] != values)
        else:
            chosen = values != (current if as_read is None else as_read)[region]
        return self._set_pixels(edit.frame_index, region, values, chosen)

    def _set_pixels(
        self, frame_index: int, region: tuple, values: np.ndarray, chosen: np.ndarray, action: Action | None = None
    ) -> MergedEdit:
        """Write a person's labels into the chosen pixels of a region, except those of VERIFIED classes."""
        provenance = self._tables["provenance"].row(frame_index)
        before = FrameBefore(
            self._files.labels(frame_index), self._files.painted(frame_index), self._by_class_id(provenance)
        )
        merged = merged_edit(before, region, values, chosen)
        if merged.free.any():
            provenance[[self._column(class_id) for class_id in merged.edited_class_ids]] = Provenance.EDITED
            rows = {"provenance": provenance}
            self._files.commit(frame_index, rows, labels=merged.labels, painted=merged.painted, action=action)
        return merged

    # ---- keys and classes

    def _check_size(self, label_map: np.ndarray, what: str) -> None:
        if label_map.shape != self.shape[1:]:
            raise ProjectError(
                f"{what} this project needs labels of {self.shape[1]} x {self.shape[2]} pixels, it has {label_map.shape}. "
                "Use labels made on the frames of this video."
            )
