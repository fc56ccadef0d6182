"""Removes what could not be painted from the canvas, and shows a message that says why; also why a frame is shown empty."""

from __future__ import annotations

import time

from qtpy.QtCore import QObject, QTimer

from surgicalsam_napari.session import Session
from surgicalsam_napari.widgets.actions.registry import UNLOCK_KEY
from surgicalsam_napari.widgets.parts.message import show_notice
from surgicalsam_napari.widgets.viewer.label_changes import LabelChanges
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers

QUIET_SECONDS = 5.0  # each mouse move of a stroke is refused; show one message only
QUIET_OUTSIDE = 60.0  # strokes along the edge of an instrument are usual
OUTSIDE = (
    "A part lies inside its instrument, and here is no instrument that has {part}: nothing was painted. Label the "
    "instrument first (Labels: Instruments)."
)


class Refusals(QObject):
    """Handles the signals `LabelStore.refused`, `outside` and `unreadable`.

    Parameters
    ----------
    parent : a panel; the message is shown there
    """

    def __init__(self, session: Session, layers: ViewerLayers, changes: LabelChanges, parent: QObject) -> None:
        super().__init__(parent)
        self.session, self.layers = session, layers
        self._message_frame: int | None = None
        self._message_at = 0.0
        self._outside_at = -QUIET_OUTSIDE
        changes.refused.connect(self._on_refused)
        changes.outside.connect(self._on_outside)
        changes.unreadable.connect(lambda reason: show_notice(reason, self))

    def _on_outside(self, frame_index: int, is_partly_inside: bool) -> None:
        self._show_what_is_stored(frame_index)
        now, chosen = time.monotonic(), self.session.selected_class_id
        if is_partly_inside or chosen is None or now - self._outside_at < QUIET_OUTSIDE:
            return
        self._outside_at = now
        show_notice(OUTSIDE.format(part=self.session.classes.by_id(chosen).name), self)

    def _show_what_is_stored(self, frame_index: int) -> None:
        # napari draws the stroke after this handler, so remove it afterwards
        QTimer.singleShot(0, lambda: self.layers.refresh_frame(frame_index))

    def _on_refused(self, frame_index: int) -> None:
        self._show_what_is_stored(frame_index)
        now = time.monotonic()
        is_repeated = frame_index == self._message_frame and now - self._message_at < QUIET_SECONDS
        self._message_frame, self._message_at = frame_index, now
        if not is_repeated and self.session.project is not None:
            show_notice(why_refused(self.session.classes.names, self._locked_names(frame_index), frame_index), self)

    def _locked_names(self, frame_index: int) -> list[str]:
        project = self.session.project
        assert project is not None
        return [project.classes.by_id(class_id).name for class_id in project.labels.locked_class_ids(frame_index)]


def why_refused(all_names: tuple[str, ...], locked_names: list[str], frame_index: int) -> str:
    """ "Frame 12 is verified. Unlock it (Shift+D) to change it."; names the classes if only some are verified."""
    if len(locked_names) == len(all_names):
        return f"Frame {frame_index:,} is verified. Unlock it ({UNLOCK_KEY}) to change it."
    are = "is" if len(locked_names) == 1 else "are"
    names = ", ".join(locked_names)
    return f"{names} {are} verified in frame {frame_index:,}. Unlock the frame ({UNLOCK_KEY}) to change it."
