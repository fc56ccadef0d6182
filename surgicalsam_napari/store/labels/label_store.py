"""The instrument labels of a video: read as an array, written by edits, predictions and imports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from psygnal import Signal, SignalInstance

from surgicalsam_napari.errors import ClassSetError, ProjectError, SurgicalSAMError
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store.disk.action import Action
from surgicalsam_napari.store.disk.frame_files import FrameFiles
from surgicalsam_napari.store.disk.merging import (
    FrameBefore,
    MergedEdit,
    MergedImport,
    followed_numbers,
    merged_edit,
    merged_import,
    merged_prediction,
    within,
)
from surgicalsam_napari.store.history import History
from surgicalsam_napari.store.label_maps import known_labels, present_ids
from surgicalsam_napari.store.labels.indexing import FrameEdit, as_tuple, bounds, frame_edits
from surgicalsam_napari.store.labels.label_array import LabelArray
from surgicalsam_napari.store.labels.recent_edits import FrameState, RecentEdits
from surgicalsam_napari.store.labels.verification import LabelVerification
from surgicalsam_napari.store.labels.whole import Whole
from surgicalsam_napari.store.project_classes import ProjectClasses
from surgicalsam_napari.store.provenance import TABLE_NOTES, Provenance, is_by_person
from surgicalsam_napari.store.snapshots import Snapshots

if TYPE_CHECKING:
    from surgicalsam_napari.model.surgical_sam import FramePrediction


class LabelStore(LabelArray, LabelVerification):
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
    columns : the class ids of the columns on disk, if they differ (`ProjectClasses`)
    has_checksums : whether every frame has checksums; those of an earlier version get them when written or checked
    whole : for labels of parts: the instruments in which they lie. Parts outside are not shown, and not written
    """

    edited: ClassVar[Signal] = Signal(int, int)  #: frame index, number of changed pixels; emitted for each edited frame
    edit_failed: ClassVar[Signal] = Signal(str)  #: why an edit by a person could not be written; the frame is unchanged
    unreadable: ClassVar[Signal] = Signal(str)  #: why a viewer shows a frame as empty: its files are damaged
    outside: ClassVar[Signal] = Signal(int, bool)  #: frame index, whether some pixels were inside; emitted if an edit put a
    #: part outside its instrument, where it is not written
    refused: ClassVar[Signal] = Signal(int)  #: frame index; emitted if an edit concerned VERIFIED classes, whose pixels stay

    def __init__(
        self,
        root: Path,
        shape: tuple[int, int, int],
        classes: ClassSet,
        columns: Sequence[int] | None = None,
        *,
        writable: bool = True,
        has_checksums: bool = True,
        whole: Whole | None = None,
    ) -> None:
        columns = classes.ids if columns is None else columns
        LabelArray.__init__(self, shape)
        files = FrameFiles(root, shape, classes, len(columns), writable=writable, has_checksums=has_checksums)
        LabelVerification.__init__(self, files, classes, columns)
        self._root, self._whole = root, whole
        self.lock = self._files.lock
        self.history = History(root, self._files)
        self.snapshots = Snapshots(root, self._files, self.history)

    @staticmethod
    def create(root: Path, shape: tuple[int, int, int], classes: ClassSet) -> None:
        """Make the empty arrays in a new project folder; may raise OSError."""
        FrameFiles.create(root, shape, classes)

    @property
    def files(self) -> FrameFiles:
        """The files of the frames and their checksums; for `checking`."""
        return self._files

    @property
    def changed(self) -> SignalInstance:
        """Emits the frame index after every write of this process, in the thread that wrote."""
        return self._files.changed

    def frame(self, frame_index: int) -> np.ndarray:
        """(H, W) uint8, read-only; a ProjectError if the frame's files are damaged."""
        labels = self._files.labels(frame_index)
        return labels if self._whole is None else self._whole.clipped(frame_index, labels)

    def last_known(self, frame_index: int) -> np.ndarray:
        """(H, W) uint8, read-only: the frame as it was read last, for the time while the project cannot be reached."""
        labels = self._files.last_known_labels(frame_index)
        return labels if self._whole is None else self._whole.clipped_last_known(frame_index, labels)

    def may_hold(self, frame_index: int, values: np.ndarray | int, region: tuple = ()) -> np.ndarray:
        """Shaped like the region, bool: where these values may be written. Parts lie inside an instrument that has them
        (`Whole.may_hold`); other labels may be everywhere.
        """
        if self._whole is not None:
            return self._whole.may_hold(frame_index, values, region)
        return np.ones(self._files.blank[region].shape, bool)

    def __repr__(self) -> str:
        return f"LabelStore({self._root.name}, shape={self.shape}, uint8)"

    # ---- edits

    def __setitem__(self, key: Any, values: Any) -> None:
        """An edit by a person; see `edit`."""
        self.edit(key, values)

    def edit(
        self,
        key: Any,
        values: Any,
        *,
        as_read: Mapping[int, np.ndarray] | None = None,
        recent: RecentEdits | None = None,
    ) -> None:
        """`labels[key] = values`, as an edit by a person (see the class).

        Parameters
        ----------
        as_read : by frame index, (H, W) uint8: the frame that the person saw; it may have changed since. An array assigned
            to a box then sets only the pixels in which it differs from that frame
        recent : the edits of the same viewer before; an assignment that takes back the last of them restores the frame
            as it was, with its provenance and painted record

        Raises
        ------
        ClassSetError
            a value that is neither 0 nor a class of this project; nothing is changed
        ProjectError, DiskSpaceError
            the frame could not be written; it is unchanged
        """
        edits = self.frame_edits(key, values)
        done = []
        try:
            for edit in edits:
                with self._files.exclusively("The edit"):
                    seen = (as_read or {}).get(edit.frame_index)
                    done.append((edit.frame_index, self._edit_frame(edit, seen, recent)))
        except SurgicalSAMError as error:
            self.edit_failed.emit(str(error))
            raise
        finally:
            for frame_index, edited in done:
                self._report(frame_index, edited)

    def save_unsaved(self) -> None:
        """Write the edits that could not be written when they were made; see `UnsavedEdits.save`."""
        self.unsaved.save(lambda e: self.edit((e.frame_index, e.rows, e.columns), e.values, recent=e.recent))

    def frame_edits(self, key: Any, values: Any) -> Iterator[FrameEdit]:
        """`labels[key] = values`, frame by frame; nothing is written. A ClassSetError if a value is not a class."""
        return frame_edits(as_tuple(key), known_labels(values, self._classes), self.shape)

    def write_edit(
        self,
        frame_index: int,
        label_map: np.ndarray,
        *,
        decided: np.ndarray | None = None,
        keeps_instances: bool = False,
        action: Action | None = None,
    ) -> int:
        """Set a person's labels for a whole frame; pixels of VERIFIED classes stay.

        Every changed pixel is marked as painted, and its old and new class become EDITED.

        Parameters
        ----------
        label_map : (H, W) uint8
        decided : (H, W) bool, pixels that a person has confirmed: they are marked as painted even if they do not change
        keeps_instances : a region that gets another class stays the same instance; by default it leaves it
        action : the action that this edit is a part of, so that it can be undone

        Returns
        -------
        the number of changed pixels

        Raises
        ------
        ClassSetError, ProjectError, DiskSpaceError
            an unknown label, a wrong size, a failed write; the frame is unchanged
        """
        self.check_frame(frame_index)
        self._check_size(label_map, "An edit of")
        values = known_labels(label_map, self._classes)
        with self._files.exclusively("The edit"):
            chosen = values != self.frame(frame_index)
            if decided is not None:
                chosen |= decided
            if self._whole is not None:
                chosen &= self._whole.may_hold(frame_index, values)
            everywhere = slice(None), slice(None)
            edited = self._set_pixels(frame_index, everywhere, values, chosen, action, keeps_instances=keeps_instances)
        self._report(frame_index, edited)
        return edited.changed_pixels

    def _report(self, frame_index: int, edited: MergedEdit) -> None:
        if edited.free.any():
            self.edited.emit(frame_index, edited.changed_pixels)
        if edited.is_refused:
            self.refused.emit(frame_index)
        if edited.is_outside:
            self.outside.emit(frame_index, bool(edited.free.any()))

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
        self.check_frame(frame_index)
        self._check_size(prediction.label_map, "A prediction for")
        columns = [self._column(class_id) for class_id in prediction.class_ids]
        if self._whole is not None:
            prediction = within(prediction, self._whole.may_hold(frame_index, prediction.label_map))
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
                rows["voted"][column] = 0
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
        self.check_frame(frame_index)
        columns = [self._column(class_id) for class_id in class_ids]
        with self._files.exclusively("The removal of predictions"):
            rows = self._files.rows(frame_index)
            due = [column for column in columns if rows["provenance"][column] in (Provenance.ABSENT, Provenance.PREDICTED)]
            if not due:
                return False
            current = self._frame_to_replace(frame_index, rows)
            goes = np.isin(current, [self._columns[column] for column in due])
            if (painted := self._files.painted(frame_index)) is not None:
                goes &= ~painted
            for name, table in self._tables.items():
                rows[name][due] = table.fill
            labels = np.where(goes, np.uint8(0), current) if goes.any() else None
            self._files.commit(frame_index, rows, labels=labels, action=action)
            return True

    def relabel_predictions(
        self,
        frame_index: int,
        label_map: np.ndarray,
        *,
        keeps_instances: bool = True,
        is_vote: bool = True,
        action: Action | None = None,
    ) -> int:
        """Replace the predicted pixels of a frame after a run, as a vote over time does; they stay predictions.

        What a person painted stays, and so does every pixel whose old or new class is VERIFIED.

        Parameters
        ----------
        label_map : (H, W) uint8
        keeps_instances : as for `write_edit`
        is_vote : whether the table `voted` remembers the changed classes
        action : the action that this is a part of, so that it can be undone

        Returns
        -------
        the number of changed pixels

        Raises
        ------
        ClassSetError, ProjectError, DiskSpaceError
            an unknown label, a wrong size, a failed write; the frame is unchanged
        """
        self.check_frame(frame_index)
        self._check_size(label_map, "Predictions for")
        values = known_labels(label_map, self._classes)
        with self._files.exclusively("The prediction"):
            provenance, voted = (self._tables[name].row(frame_index) for name in ("provenance", "voted"))
            current, painted = self._files.labels(frame_index), self._files.painted(frame_index)
            everywhere, chosen = (slice(None), slice(None)), current != values
            if self._whole is not None:
                chosen &= self._whole.may_hold(frame_index, values)
            before = FrameBefore(current, painted, self._by_class_id(provenance))
            merged = merged_edit(before, everywhere, values, chosen)
            labels = merged.labels if painted is None else np.where(painted, current, merged.labels)
            changed = labels != current
            if not changed.any():
                return 0
            present = set(present_ids(labels))
            for class_id in {*present_ids(current[changed]), *present_ids(labels[changed])}:
                column = self._column(class_id)
                if not is_by_person(provenance[column]):
                    provenance[column] = Provenance.PREDICTED if class_id in present else Provenance.ABSENT
                    voted[column] |= is_vote
            numbers = self._kept_numbers(frame_index, labels) if keeps_instances else None
            rows = {"provenance": provenance, "voted": voted}
            self._files.commit(frame_index, rows, labels=labels, numbers=numbers, action=action)
            return int(np.count_nonzero(changed))

    def write_import(
        self, frame_index: int, label_map: np.ndarray, class_ids: Sequence[int], *, action: Action | None = None
    ) -> int:
        """Replace a frame with a dataset's labels, as EDITED; pixels that a person painted and VERIFIED classes stay.

        The whole frame is then marked as painted, including background: a dataset's frame is complete. There is one
        exception: classes that it does not annotate. Where it has background, their predicted pixels stay predictions. A
        frame whose annotated classes are all VERIFIED is left alone.

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
        self.check_frame(frame_index)
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
            before, merged = self._merged_import(frame_index, rows, label_map, class_ids)
            free = [column for column in columns if rows["provenance"][column] != Provenance.VERIFIED]
            if not free:
                return merged.kept_pixels
            is_same = before.painted is not None and np.array_equal(merged.painted, before.painted)
            if (
                is_same
                and np.array_equal(merged.labels, before.labels)
                and (rows["provenance"][free] == Provenance.EDITED).all()
            ):
                return merged.kept_pixels
            rows["provenance"][free] = Provenance.EDITED
            self._files.commit(frame_index, rows, labels=merged.labels, painted=merged.painted, action=action)
            return merged.kept_pixels

    def preview_import(self, frame_index: int, label_map: np.ndarray, class_ids: Sequence[int]) -> MergedImport:
        """The frame as `write_import` would leave it; nothing is written. New classes may be among `class_ids`."""
        self.check_frame(frame_index)
        self._check_size(label_map, "An import into")
        return self._merged_import(frame_index, self._files.rows(frame_index), label_map, class_ids)[1]

    def _merged_import(
        self, frame_index: int, rows: dict[str, np.ndarray], label_map: np.ndarray, class_ids: Sequence[int]
    ) -> tuple[FrameBefore, MergedImport]:
        labels = self._frame_to_replace(frame_index, rows)
        before = FrameBefore(labels, self._files.painted(frame_index), self._by_class_id(rows["provenance"]))
        merged = merged_import(before, label_map, class_ids)
        if self._whole is not None:
            merged = merged.only(self._whole.may_hold(frame_index, label_map), before)
        return before, merged

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

    # ---- the whole store

    def reset_frame(self, frame_index: int) -> None:
        """Remove everything that is stored for a frame, including the work of a person; for frames with damaged files."""
        self.check_frame(frame_index)
        self._files.reset(frame_index)

    def add_columns(self, classes: ProjectClasses) -> None:
        """Add table columns on disk for new classes, and note their names there; part of every change of the classes."""
        with self._files.exclusively("The classes"):
            for name, table in self._tables.items():
                table.widen(len(classes.columns), {**TABLE_NOTES[name], "classes": classes.to_json()["classes"]})

    def use_classes(self, classes: ProjectClasses) -> None:
        """Use these classes from now on; the tables on disk must have their columns."""
        with self.lock:
            for table in self._tables.values():
                table.class_count = len(classes.columns)
            self._show_columns(classes.in_use, classes.columns)

    def frame_with(self, class_id: int) -> int | None:
        """The first frame that has pixels of a class; None if there is none. Reads the frames that may have some."""
        stored = self._files.labels  # also parts that lie outside their instrument
        return next((i for i in self.frames_that_may_have(class_id) if class_id in present_ids(stored(i))), None)

    def frames_that_may_have(self, class_id: int) -> list[int]:
        """The frames that may have pixels of a class, according to their provenance; no pixels are read."""
        kinds = self._tables["provenance"].table()[:, self._column(class_id)]
        return np.flatnonzero((kinds != Provenance.EMPTY) & (kinds != Provenance.ABSENT)).tolist()

    def set_read_only(self, reason: str | None) -> None:
        """Refuse all writes from now on, with this reason for the user; None allows them again."""
        self._files.read_only_reason = reason

    def check_writable(self, what: str) -> None:
        """A ProjectError if nothing may be written."""
        self._files.check_writable(what)

    def close(self) -> None:
        self._files.close()

    # ---- one frame

    def _edit_frame(self, edit: FrameEdit, as_read: np.ndarray | None, recent: RecentEdits | None) -> MergedEdit:
        frame_index, region, values = edit.frame_index, edit.region, edit.values
        now, shown = self._state(frame_index), self.frame(frame_index)
        if edit.whole_region:
            chosen = np.ones(values.shape, bool) if now.painted is None else ~now.painted[region]
            chosen |= shown[region] != values
        else:
            chosen = values != (shown if as_read is None else as_read)[region]
        is_outside = False
        if self._whole is not None:
            may_hold = self._whole.may_hold(frame_index, values, region)
            is_outside = bool(np.any(chosen & ~may_hold & (values != 0)))
            chosen &= may_hold
        if recent is None:
            return replace(self._set_pixels(frame_index, region, values, chosen), is_outside=is_outside)
        shown_at = None if self._whole is None else partial(self._whole.shown_at, frame_index)
        if (last := recent.take_back(frame_index, region, values, chosen, now, shown_at)) is not None:
            undone = last.undone(now)
            assert undone.painted is not None
            rows = {"provenance": undone.provenance}
            self._files.commit(frame_index, rows, labels=undone.labels, painted=undone.painted, numbers=undone.numbers)
            return MergedEdit(undone.labels, undone.painted, chosen, [], len(last.pixels), is_refused=False)
        edited = replace(self._set_pixels(frame_index, region, values, chosen), is_outside=is_outside)
        if edited.free.any():
            provenance = self._tables["provenance"].row(frame_index)
            checksum = 0 if now.numbers is None else self._files.numbers_checksum(frame_index)
            after = FrameState(edited.labels, edited.painted, provenance, now.presence, self._columns, None, checksum)
            recent.add(frame_index, region, edited.free, now, after)
        return edited

    def _state(self, frame_index: int) -> FrameState:
        provenance, presence = (self._tables[name].row(frame_index) for name in ("provenance", "presence"))
        labels, painted = self._files.labels(frame_index), self._files.painted(frame_index)
        numbers = self._files.readable_numbers(frame_index)
        checksum = 0 if numbers is None else self._files.numbers_checksum(frame_index)
        return FrameState(labels, painted, provenance, presence, self._columns, numbers, checksum)

    def _set_pixels(
        self,
        frame_index: int,
        region: tuple,
        values: np.ndarray,
        chosen: np.ndarray,
        action: Action | None = None,
        *,
        keeps_instances: bool = False,
    ) -> MergedEdit:
        """Write a person's labels into the chosen pixels of a region, except those of VERIFIED classes."""
        provenance = self._tables["provenance"].row(frame_index)
        before = FrameBefore(
            self._files.labels(frame_index), self._files.painted(frame_index), self._by_class_id(provenance)
        )
        merged = merged_edit(before, region, values, chosen)
        if merged.free.any():
            provenance[[self._column(class_id) for class_id in merged.edited_class_ids]] = Provenance.EDITED
            rows, numbers = {"provenance": provenance}, None
            if keeps_instances:
                numbers = self._kept_numbers(frame_index, merged.labels)
            self._files.commit(
                frame_index,
                rows,
                labels=merged.labels,
                painted=merged.painted,
                numbers=numbers,
                within=bounds(region, self.shape[1:]),
                action=action,
            )
        return merged

    def _kept_numbers(self, frame_index: int, labels: np.ndarray) -> np.ndarray | None:
        """(H, W) uint8: the numbers of the instances if regions keep theirs with another class; None without any."""
        if (numbers := self._files.readable_numbers(frame_index)) is None:
            return None
        current = self._files.labels(frame_index)
        return followed_numbers(np.where((current > 0) & (labels > 0), labels, current), labels, numbers)

    # ---- keys and classes

    def _check_size(self, label_map: np.ndarray, what: str) -> None:
        if label_map.shape != self.shape[1:]:
            raise ProjectError(
                f"{what} this project needs labels of {self.shape[1]} x {self.shape[2]} pixels, it has {label_map.shape}. "
                "Use labels made on the frames of this video."
            )
