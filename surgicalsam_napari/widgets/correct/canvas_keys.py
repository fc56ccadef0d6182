"""Ctrl+Z, Ctrl+Shift+Z and Esc in the canvas: undo the last thing that a person did, redo it, leave a tool."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from napari.layers import Labels
from napari.utils.key_bindings import coerce_keybinding
from napari.utils.notifications import show_info
from qtpy.QtCore import QObject, Signal

from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import HistoryEntry, Project
from surgicalsam_napari.store.history import Undone
from surgicalsam_napari.widgets.correct.mouse_tool import PAN_ZOOM, MouseTool
from surgicalsam_napari.widgets.correct.refine_tool import RefineTool
from surgicalsam_napari.widgets.correct.refusals import why_refused
from surgicalsam_napari.widgets.parts.message import show_failure
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers

UNDO_KEY, REDO_KEY, LEAVE_KEY = "Control-Z", "Control-Shift-Z", "Escape"
KEPT_STROKES = 100  # as many as napari keeps


@dataclass(frozen=True)
class Stroke:
    """A stroke that napari can undo.

    Attributes
    ----------
    after : the number of the last action of the history at that time
    """

    frame_index: int
    after: int


class CanvasKeys(QObject):
    """One order of undo for strokes and for actions on one frame, such as an accepted preview.

    An action on several frames is never undone by Ctrl+Z, because most of its frames are out of view: a message names the
    key that does it. Actions from before the project was opened are left alone. While there are clicks, they are undone
    first.

    Parameters
    ----------
    refine : its clicks are undone, too
    tools : the tools that Esc leaves
    """

    left = Signal()  # Esc has switched a tool off

    def __init__(
        self,
        session: Session,
        layers: ViewerLayers,
        refine: RefineTool,
        tools: Sequence[MouseTool],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self.session, self.layers, self.refine, self.tools = session, layers, refine, tools
        self._labels: Labels | None = None
        self._project: Project | None = None
        self._opened_at = 0  # the number of the last action at that time
        self._done: deque[Stroke] = deque(maxlen=KEPT_STROKES)
        self._undone: deque[Stroke] = deque(maxlen=KEPT_STROKES)
        self._acts: dict[str, Callable[[], None]] = {UNDO_KEY: self.undo, REDO_KEY: self.redo, LEAVE_KEY: self.leave}
        self._bound: list[str] = []
        self._bind_to_viewer()
        layers.labels_shown.connect(self._follow)
        self._follow()

    def undo(self) -> None:
        """Undo the last click, stroke, or action on one frame."""
        if self.refine.is_on and self.refine.refinement is not None:
            self.refine.undo_last()
            return
        entry, stroke = self._entry_to_undo(), self._done[-1] if self._done else None
        if stroke is not None and (entry is None or stroke.after >= entry.number):
            self._turn_stroke(self._done, self._undone, lambda labels: labels.undo())
        elif entry is not None and self._project is not None:
            self._turn_action(entry, "U", "undo", self._project.history.undo)

    def redo(self) -> None:
        """Redo what `undo` has undone last, unless something was done since."""
        entry = None if self._project is None else self._project.history.to_redo
        if entry is not None and entry.number <= self._opened_at:
            entry = None
        stroke, last = (strokes[-1] if strokes else None for strokes in (self._undone, self._done))
        if stroke is not None and (entry is None or stroke.after < entry.number):
            self._turn_stroke(self._undone, self._done, lambda labels: labels.redo())
        elif entry is not None and self._project is not None and (last is None or last.after < entry.number):
            self._turn_action(entry, "Shift+U", "redo", self._project.history.redo)

    def leave(self) -> None:
        """Leave the tool that is on: a tool of this tab, or a brush of napari."""
        for tool in self.tools:
            if tool.is_on:
                tool.switch(False)
                self.left.emit()
                return
        labels = self._labels
        if labels is None:
            return
        if labels._overlays["polygon"].points or labels._overlays["brush_stroke"].active:  # type: ignore[attr-defined]
            Labels.class_keymap[coerce_keybinding(LEAVE_KEY)](labels)  # napari drops the unfinished polygon or stroke
        else:
            labels.mode = PAN_ZOOM

    def unbind(self) -> None:
        """Remove the keys from the viewer."""
        for key in self._bound:
            self.layers.viewer.bind_key(key, None)
        self._bound = []

    # Following ----------------------------------------------------------------------------------------------------------

    def _bind_to_viewer(self) -> None:
        """For the times when the video is selected; another layer of the user keeps its own keys."""
        for key, act in self._acts.items():
            with suppress(ValueError):  # somebody else has bound it
                self.layers.viewer.bind_key(key, self._for_own_layers(act))
                self._bound.append(key)

    def _for_own_layers(self, act: Callable[[], None]) -> Callable[[Any], None]:
        def press(_viewer: Any) -> None:
            if self.layers.viewer.layers.selection.active in (None, self.layers.image, self._labels):
                act()

        return press

    def _follow(self) -> None:
        labels, project = self.layers.labels, self.session.project
        if labels is not None and labels is not self._labels:
            for key, act in self._acts.items():
                labels.bind_key(key, lambda _layer, act=act: act(), overwrite=True)
            labels.events.paint.connect(self._on_paint)
            labels.events.editable.connect(self._forget)  # napari forgets its strokes then
        if labels is not self._labels or project is not self._project:
            self._labels, self._project = labels, project
            self._opened_at = 0 if project is None else project.history.last_number
            self._forget()

    def _forget(self, _event: Any = None) -> None:
        self._done.clear()
        self._undone.clear()

    def _on_paint(self, _event: Any) -> None:
        if self._project is not None:
            self._undone.clear()
            self._done.append(Stroke(self.layers.current_frame, self._project.history.last_number))

    # Undo and redo ------------------------------------------------------------------------------------------------------

    def _entry_to_undo(self) -> HistoryEntry | None:
        """The last action of this window; None also while a run is still writing one."""
        entry = None if self._project is None else self._project.history.to_undo
        return None if entry is None or entry.is_open or entry.number <= self._opened_at else entry

    def _turn_stroke(self, source: deque[Stroke], target: deque[Stroke], turn: Callable[[Labels], None]) -> None:
        stroke, labels, project = source[-1], self._labels, self._project
        if labels is None or project is None:
            return
        self.layers.show_frame(stroke.frame_index)
        if len(project.labels.locked_class_ids(stroke.frame_index)) == len(project.classes):
            show_info(why_refused(project.classes.names, list(project.classes.names), stroke.frame_index))
            return
        target.append(source.pop())
        turn(labels)

    def _turn_action(self, entry: HistoryEntry, key: str, verb: str, turn: Callable[[], Undone | None]) -> None:
        if entry.frame_count > 1:
            show_info(f"Press {key} to {verb} “{entry.name}”, in {counted(entry.frame_count, 'frame')}.")
            return
        try:
            undone = turn()
        except SurgicalSAMError as error:
            show_failure(error, self)
            return
        if undone is None:
            return
        for frame_index in (*undone.frame_indices, *undone.kept)[:1]:
            self.layers.show_frame(frame_index)
            self.layers.refresh_frame(frame_index)
        did = "Undone" if verb == "undo" else "Redone"
        is_done = undone.frame_indices or undone.has_tracks
        show_info(f"{did}: {entry.name}." if is_done else f"{entry.name}: changed since, so it stays.")
