"""Panel *Correct*: find wrong frames, correct them, verify them."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton

from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Provenance
from surgicalsam_napari.widgets.actions.keys_dialog import KeysDialog
from surgicalsam_napari.widgets.actions.registry import ACTIONS
from surgicalsam_napari.widgets.correct.canvas_keys import CanvasKeys
from surgicalsam_napari.widgets.correct.frames_section import FramesSection
from surgicalsam_napari.widgets.correct.history_section import HistorySection
from surgicalsam_napari.widgets.correct.instances_section import InstancesSection
from surgicalsam_napari.widgets.correct.propagate_section import PropagateSection
from surgicalsam_napari.widgets.correct.refine_section import RefineSection
from surgicalsam_napari.widgets.correct.review_section import ReviewSection
from surgicalsam_napari.widgets.correct.section_parts import show_text
from surgicalsam_napari.widgets.correct.similarity_layer import SimilarityLayer
from surgicalsam_napari.widgets.correct.undo_bar import UndoBar
from surgicalsam_napari.widgets.correct.wrong_class_section import WrongClassSection
from surgicalsam_napari.widgets.parts.class_picker import ClassPicker, ClassRow
from surgicalsam_napari.widgets.parts.collapsible import Collapsible
from surgicalsam_napari.widgets.parts.parts import SPACING, TaskPanel, note
from surgicalsam_napari.widgets.runs.run import Run
from surgicalsam_napari.widgets.viewer.label_changes import LabelChanges
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers
from surgicalsam_napari.widgets.viewer.session_signals import SessionSignals


class CorrectPanel(TaskPanel):
    """The selected class and the state of the frame in view; below them the sections, which can be collapsed.

    Parameters
    ----------
    changes : signals of the open project's labels
    """

    running_changed = Signal(bool)

    def __init__(self, session: Session, layers: ViewerLayers, changes: LabelChanges) -> None:
        super().__init__("Correct")
        self.session, self.layers, self.changes = session, layers, changes
        self.run = Run(self)
        self.run.unblock = session.stop_waiting
        self.similarity = SimilarityLayer(session, layers, self)
        self._waits_for: str | None = None
        self._shown_class_id: int | None = None
        self._build()
        tools = self.refine.tool.mouse, self.wrong_class.mouse, self.instances.mouse
        self.canvas_keys = CanvasKeys(session, layers, self.refine.tool, tools, self)
        self._dialog: KeysDialog | None = None
        self._connect()
        self.refresh()

    def subscribe(self, signals: SessionSignals) -> None:
        """Refresh whenever the session or the frame in view changes."""
        for changed in (signals.project_changed, signals.model_changed, signals.contents_replaced):
            changed.connect(self.refresh)
        signals.class_selected.connect(self._on_class_selected)
        self.layers.viewer.dims.events.current_step.connect(self.show_frame)

    def refresh(self) -> None:
        """Update after a change of project, model, class or frame, or after a run."""
        self._shown_class_id = self.session.selected_class_id
        self.picker.show_classes(self.session.classes, self._is_trained)
        self.picker.show_class(self.session.selected_class_id)
        self.class_row.show_parts(self.session.shows_parts)
        self._show_state()
        self._show_similarity()
        self.similarity.follow()
        for section in (*self._sections, self.undo_bar):
            section.refresh()

    def show_frame(self, _event: Any = None) -> None:
        """Update for the frame in view; a hidden panel waits for `refresh`."""
        if self.isHidden():
            return
        self._show_state()
        for section, fold in self._folds.items():
            if fold.is_open:  # the others are refreshed when they are opened
                section.refresh()

    def set_waiting(self, reason: str | None) -> None:
        """Show why nothing can be corrected now; None if it can. Review stays possible."""
        self._waits_for = reason
        show_text(self.waiting, reason or "")
        for section in self._sections:
            if section is not self.review:
                section.setEnabled(reason is None)
        self.review.set_waiting(reason is not None)
        self.undo_bar.set_waiting(reason)

    def toggle_similarity(self) -> None:
        """Switch the similarity map on or off."""
        self.similarity.switch(not self.similarity.is_on)
        self._show_similarity()

    def show_keys(self) -> None:
        """Open the list of keys."""
        if self._dialog is None:
            self._dialog = KeysDialog(ACTIONS, self)
        self._dialog.show()
        self._dialog.raise_()

    def release(self) -> None:
        """Remove the keys, tools and layers of this panel when the dock closes."""
        self.canvas_keys.unbind()
        self.run.cancel()
        self.review.feed.close()
        self.similarity.switch(False)
        self.refine.tool.switch(False)
        self.wrong_class.mouse.switch(False)
        self.instances.mouse.switch(False)
        self.instances.colors.switch(False)
        if self._dialog is not None:
            self._dialog.close()

    def _build(self) -> None:
        self.picker = ClassPicker()
        self.state, self.waiting = note(), note()
        self.similarity_button, self.keys_button = QPushButton("Similarity map"), QPushButton("Keys…")
        self.similarity_button.setCheckable(True)
        self.similarity_button.setToolTip("How similar each part of this frame is to the class, as the model sees it")
        self.keys_button.setToolTip("What each key does")
        self.class_row = ClassRow(self.picker)
        self.head.addLayout(self.class_row)
        self.head.addWidget(self.state)
        self.head.addWidget(self.waiting)
        self.waiting.hide()
        buttons = QHBoxLayout()
        buttons.setSpacing(SPACING)
        buttons.addWidget(self.similarity_button, 1)
        buttons.addWidget(self.keys_button, 1)
        self.column.addLayout(buttons)
        arguments = (self.session, self.layers, self.run)
        self.review = ReviewSection(*arguments, self.changes)
        self.refine, self.wrong_class = RefineSection(*arguments), WrongClassSection(*arguments)
        self.instances = InstancesSection(*arguments, self.changes)
        self.propagate, self.frames = PropagateSection(*arguments), FramesSection(*arguments)
        self.history = HistorySection(*arguments)
        self.undo_bar = UndoBar(*arguments)  # the dock shows it below all tabs
        self._folds = {section: Collapsible(section) for section in self._sections}
        for section, fold in self._folds.items():
            self.column.addWidget(fold)
            fold.toggled.connect(lambda _is_open, section=section: section.refresh())
            if section in (self.review, self.refine):
                fold.open()
        self.foot.addWidget(self.refine.actions)

    @property
    def _sections(self) -> tuple:
        return self.review, self.refine, self.wrong_class, self.instances, self.propagate, self.frames, self.history

    def _connect(self) -> None:
        self.picker.picked.connect(self.session.select_class)
        self.similarity_button.clicked.connect(self.toggle_similarity)
        self.keys_button.clicked.connect(self.show_keys)
        self.similarity.switched.connect(lambda _is_on: self._show_similarity())
        self.similarity.changed.connect(self._show_similarity)
        self.run.started.connect(lambda: self.running_changed.emit(True))
        self.run.finished.connect(self._on_finished)
        self.canvas_keys.left.connect(self.refresh)
        self.changes.frames_changed.connect(self._on_frames_changed)
        self.changes.history_changed.connect(self.history.reread)
        self.changes.history_changed.connect(self.undo_bar.reread)

    def _on_class_selected(self, class_id: int) -> None:
        if class_id != self._shown_class_id:  # opening a project selects its class and refreshes anyway
            self.refresh()

    def _is_trained(self, class_id: int) -> bool:
        return self.session.model is None or self.session.is_trained(class_id)

    def _show_state(self) -> None:
        project, frame = self.session.project, self.layers.current_frame
        if project is None:
            show_text(self.state, "Open a video first.")
        else:
            show_text(self.state, f"Frame {frame:,} · {frame_state(project.labels.row('provenance', frame))}")

    def _show_similarity(self) -> None:
        missing = self.similarity.what_is_missing
        self.similarity_button.setEnabled(missing is None or self.similarity.is_on)
        self.similarity_button.setChecked(self.similarity.is_on)
        self.similarity_button.setText("Computing the map…" if self.similarity.is_computing else "Similarity map")

    def _on_frames_changed(self, frames: set[int]) -> None:
        frame = self.layers.current_frame
        if frame in frames:
            self.layers.refresh_frame(frame)
            self.show_frame()

    def _on_finished(self, _is_complete: bool) -> None:
        self.refresh()
        self.running_changed.emit(False)


def frame_state(provenance: np.ndarray) -> str:
    """A frame's state, as text for the user.

    Parameters
    ----------
    provenance : (C,) uint8, of `Provenance`
    """
    if (provenance == Provenance.VERIFIED).all():
        return "verified"
    if (provenance == Provenance.VERIFIED).any():
        return "partly verified"
    if (provenance == Provenance.EDITED).any():
        return "corrected, not yet verified"
    if (provenance != Provenance.EMPTY).any():
        return "predicted, not yet reviewed"
    return "not yet segmented"
