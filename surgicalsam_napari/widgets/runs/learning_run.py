"""One press of *Learn*: learn from the corrected frames, load the result, predict the other frames again, fill between."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject

from surgicalsam_napari.inference import SegmentReport, outward_order
from surgicalsam_napari.inference.findings import Findings
from surgicalsam_napari.propagation.fill_between import FillReport
from surgicalsam_napari.session import Session
from surgicalsam_napari.store.corrections import corrected_frames, predicted_frames, untouched_frames
from surgicalsam_napari.widgets.runs.run import Run
from surgicalsam_training.learn import Learned, LearnReport, learning_steps

if TYPE_CHECKING:
    from surgicalsam_napari.tracking.link_instances import TrackReport
    from surgicalsam_napari.tracking.vote_classes import VoteOutcome

STEP_SECONDS = {"cpu": 0.08}  # measured on two cores; the first run of a window replaces it
STEP_SECONDS_ON_A_GPU = 0.01


class LearningRun(Run):
    """A run whose progress and time left cover checking and learning together.

    Attributes
    ----------
    learned : of the current or last run; None until the new model is in use
    findings : what it has found in the frames that it predicted; None before the first of them
    predicted : number of frames that the current or last run has predicted
    to_predict : number of frames that it predicts
    filled : number of them that it has then filled from corrected frames
    vote : what the vote over time changed at the end; None if there was none
    seconds_per_step : of the last learning; None before the first one
    """

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.session, self.unblock = session, session.stop_waiting
        self.learned: Learned | None = None
        self.findings: Findings | None = None
        self.predicted = self.to_predict = self.filled = 0
        self.vote: VoteOutcome | None = None
        self.seconds_per_step: float | None = None
        self._with_vote = True
        self._by_new_model: set[int] = set()  # frames that the learned model has predicted
        self._phase, self._phase_began, self._steps = "", 0.0, (0, 0)

    def learn(self, frame_count: int, start: dict[str, Any], center: int, *, with_vote: bool = True) -> None:
        """Learn; then predict again the frames that a model has predicted and nobody corrected.

        Parameters
        ----------
        frame_count : number of corrected frames
        start : arguments of `Session.learn`
        center : the frame to predict first
        with_vote : afterwards, let neighbouring frames vote on the classes
        """
        self.learned, self._steps, self._by_new_model = None, learning_steps(frame_count), set()
        self._begin(with_vote)
        self.start(lambda: self._learn(start, center))

    def predict_rest(self, center: int, *, with_vote: bool = True) -> None:
        """Predict the `rest` with the learned model; then all frames that it has predicted vote."""
        frames = outward_order(self.rest(), center)
        self._begin(with_vote)
        self.start(lambda: self._predict(frames))

    def rest(self) -> list[int]:
        """The frames that nobody corrected and that the learned model has not predicted yet; none without such a model."""
        project = self.session.project
        if project is None or self.learned is None:
            return []
        return [frame for frame in untouched_frames(project) if frame not in self._by_new_model]

    def seconds_to_learn(self, frame_count: int) -> float:
        """An estimate for so many corrected frames; frames without an embedding cost more."""
        model = self.session.model
        device = "cpu" if model is None else model.device.type
        per_step = self.seconds_per_step or STEP_SECONDS.get(device, STEP_SECONDS_ON_A_GPU)
        return sum(learning_steps(frame_count)) * per_step

    def progress(self, report: LearnReport | SegmentReport | FillReport | TrackReport) -> tuple[int, int]:
        """(done, total) of what the bar shows: of a learning all its steps, with the check before it."""
        if isinstance(report, LearnReport) and report.phase in ("checking", "learning"):
            checking, learning = self._steps
            return report.done + (checking if report.phase == "learning" else 0), checking + learning
        return report.done, report.total

    def _begin(self, with_vote: bool) -> None:
        self.findings, self.vote, self._with_vote = None, None, with_vote
        self.predicted = self.to_predict = self.filled = 0
        self._phase = ""

    def _learn(self, start: dict[str, Any], center: int) -> Generator[Any, None, None]:
        project = self.session.project
        assert project is not None
        with closing(self.session.learn(**start)) as reports:
            yield from reports
        if frames := predicted_frames(project):
            yield from self._predict(outward_order(frames, center))

    def _predict(self, frame_indices: list[int]) -> Generator[SegmentReport | FillReport | TrackReport, None, None]:
        project = self.session.project
        assert project is not None
        self.to_predict = len(frame_indices)
        voting = {*frame_indices, *self._by_new_model, *corrected_frames(project)} if self._with_vote else set()
        with closing(self.session.predict_again(frame_indices, voting_frames=voting)) as reports:
            self.vote = yield from reports
        if self.findings is not None and self.vote is not None and self.vote.changed:
            self.findings.count_again()

    def _time_left(self, report: Any) -> float | None:
        """Seconds to the end of the bar, from the speed since it began."""
        if isinstance(report, Learned):
            return None
        phase = "steps" if getattr(report, "phase", "") in ("checking", "learning") else type(report).__name__
        if phase != self._phase:
            self._phase, self._phase_began = phase, time.monotonic()
            return None
        done, total = self.progress(report)
        per_unit = (time.monotonic() - self._phase_began) / max(done - 1, 1)
        if phase == "steps" and done == total:
            self.seconds_per_step = per_unit
        return per_unit * (total - done)

    def _find(self, report: SegmentReport) -> None:
        if self.findings is None and self.session.project is not None:
            self.findings = Findings(self.session.project, self.session.trained_class_ids(), report.total)
        if self.findings is not None:
            self.findings.add(report)

    def _on_report(self, report: Any) -> None:
        if isinstance(report, Learned):
            self.learned = report
        elif isinstance(report, SegmentReport):
            self.predicted = report.done
            self._find(report)
            self._by_new_model.add(report.frame_index)
        elif isinstance(report, FillReport):
            self.filled += bool(report.agreement)
        super()._on_report(report)
