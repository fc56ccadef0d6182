"""Measure in the background how fast the model in use is here, so that a run can say its time before it starts."""

from __future__ import annotations

from collections.abc import Callable

from surgicalsam_napari.inference.encoder_speed import probe
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.session import Session
from surgicalsam_napari.widgets.runs.background import run_in_background


def measure_speed(session: Session, frame_index: int, done: Callable[[object], None]) -> None:
    """Run the model on one frame, then call `done`; a large encoder on a CPU would take too long, so its time is guessed.

    A failure is not shown: nobody asked for the trial, and the run itself will show it.
    """
    project, model, class_ids = session.project, session.model, session.trained_class_ids()
    if project is None or model is None or not class_ids:
        return
    is_slow = model.embeds_on == "cpu" and not ENCODERS[model.encoder_id].is_light

    def measure() -> None:
        if is_slow:
            probe(model.device)
        else:
            session.estimate(class_ids, [frame_index], trial=True)

    run_in_background(measure, done, lambda _error: None)
