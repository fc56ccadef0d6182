"""The banner that says what the model in use does not know about the open video, and what to do."""

from __future__ import annotations

from qtpy.QtCore import Signal

from surgicalsam_napari.formatting import counted
from surgicalsam_napari.model.encoders import DEFAULT_CHECKPOINT
from surgicalsam_napari.session import Session
from surgicalsam_napari.store.corrections import corrected_frames, predicted_frames
from surgicalsam_napari.store.validity import is_real_video
from surgicalsam_napari.widgets.parts.hint import Hint

CORRECT_FIRST = (
    "The bundled model has seen synthetic scenes only. On a real video its masks are often wrong, and nothing says how "
    "good they are. Correct one frame, then Learn: it takes seconds."
)
LEARN_NOW = "Until you Learn, the model knows synthetic scenes only. You have corrected {frames}: learn from {them}."
PARTS_FIRST = "The model in use knows no parts. Paint the parts in a few frames, then Learn: it takes seconds."
PARTS_LEARN = "The model in use knows no parts. You have corrected {frames}: learn from {them}."
CORRECT, LEARN = "correct", "learn"


class ModelLimits(Hint):
    """Shown while the bundled model is in use on a real video; on the phantom, after a run, until a frame is corrected."""

    tab_wanted = Signal(str)  # CORRECT or LEARN

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._next_tab = CORRECT
        self.next_requested.connect(lambda: self.tab_wanted.emit(self._next_tab))

    def refresh(self) -> None:
        """Follow the session, and the person's corrections."""
        project, model = self.session.project, self.session.model
        if project is not None and model is not None and self.session.shows_parts:
            self._refresh_on_parts(len(corrected_frames(project)))
            return
        if project is None or model is None or model.name != DEFAULT_CHECKPOINT:
            self.hide()
            return
        corrected = len(corrected_frames(project))
        self._next_tab = LEARN if corrected else CORRECT
        if corrected and is_real_video(project):
            self.show_due(LEARN_NOW.format(frames=counted(corrected, "frame"), them=_them(corrected)), "Go to Learn")
        elif is_real_video(project) or (not corrected and predicted_frames(project)):
            self.show_due(CORRECT_FIRST, "Correct this frame")
        else:
            self.hide()

    def _refresh_on_parts(self, corrected: int) -> None:
        if self.session.trained_class_ids():
            self.hide()
            return
        self._next_tab = LEARN if corrected else CORRECT
        if corrected:
            self.show_due(PARTS_LEARN.format(frames=counted(corrected, "frame"), them=_them(corrected)), "Go to Learn")
        else:
            self.show_due(PARTS_FIRST, "Correct this frame")


def _them(count: int) -> str:
    return "it" if count == 1 else "them"
