"""One run of Segment: estimate, ask before a long one, run to the end, then let neighbouring frames vote on the classes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from surgicalsam_napari.errors import DiskSpaceError, SurgicalSAMError
from surgicalsam_napari.formatting import in_bytes
from surgicalsam_napari.inference import Estimate, SegmentReport, outward_order
from surgicalsam_napari.inference.findings import Findings
from surgicalsam_napari.inference.segment import action_name
from surgicalsam_napari.session import Session
from surgicalsam_napari.widgets.parts.message import show_failure
from surgicalsam_napari.widgets.runs.run import Run

if TYPE_CHECKING:
    from surgicalsam_napari.tracking.vote_classes import VoteOutcome

LONG_RUN_SECONDS = 600
VOTE_SECONDS = 0.04  # per frame, linking included: measured at 720p with three instruments on one core
FEWEST_TO_VOTE = 3
MOST_OF_THE_DISK = 0.5  # of the free space; a run that needs more asks first


class SegmentationRun(Run):
    """A run that asks before it starts if it is long or the disk is short; it starts at the frame in view, works outward,
    and is stopped only by Cancel.

    Attributes
    ----------
    findings : of the current or last run; None before the first one
    is_voting : whether the frames are predicted, and the vote over time goes on
    vote : what the vote of the last run changed; None if there was none
    is_vote_alone : whether this vote was resumed, so that it is an action of its own
    """

    confirmation_wanted = Signal(object)  # Estimate

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.session, self.unblock = session, session.stop_waiting
        self.findings: Findings | None = None
        self.is_voting = False
        self.vote: VoteOutcome | None = None
        self.is_vote_alone = False
        self._with_vote = False
        self._to_vote: set[int] = set()  # all frames of the run, also before it was resumed
        self._waiting: tuple[list[int], list[int]] | None = None  # class ids and frame indices
        self._class_ids: list[int] = []
        self._rest: list[int] = []

    @property
    def rest(self) -> list[int]:
        """The frames that the last run was cancelled or failed before."""
        return list(self._rest)

    @property
    def is_vote_left(self) -> bool:
        """Whether all frames of the last run are predicted, and its vote was cancelled or failed."""
        return self.is_voting and not self.is_running and not self.is_complete and not self._rest

    def request(
        self, class_ids: Sequence[int], frame_indices: Sequence[int], center: int, *, with_vote: bool = False
    ) -> None:
        """Start, or ask first if the run is long or the disk is short; on an error, show it and do not start.

        Parameters
        ----------
        with_vote : afterwards, let neighbouring frames vote on the classes
        """
        if not self.is_running:
            self._with_vote, self._to_vote = with_vote, set(frame_indices)
            self._request(class_ids, frame_indices, center)

    def estimate(self, class_ids: Sequence[int], frame_indices: Sequence[int], *, with_vote: bool) -> Estimate:
        """What `request` would cost, with the time of its vote; the errors of `Session.estimate`."""
        estimate = self.session.estimate(class_ids, frame_indices, trial=False)
        if not with_vote or estimate.seconds is None or len(frame_indices) < FEWEST_TO_VOTE:
            return estimate
        return replace(estimate, seconds=estimate.seconds + VOTE_SECONDS * len(frame_indices))

    def _request(self, class_ids: Sequence[int], frame_indices: Sequence[int], center: int) -> None:
        frames = outward_order(frame_indices, center)
        try:
            estimate = self.estimate(class_ids, frames, with_vote=self._with_vote)
            check_space(estimate)
        except SurgicalSAMError as error:
            show_failure(error, self)
            return
        self._waiting = (list(class_ids), frames)
        if is_long(estimate) or is_large(estimate):
            self.confirmation_wanted.emit(estimate)
        else:
            self.confirm()

    def confirm(self) -> None:
        """Start the run that `request` asked about."""
        if self._waiting is None or self.is_running or self.session.project is None:
            return
        (class_ids, frames), self._waiting = self._waiting, None
        self.findings = Findings(self.session.project, class_ids, len(frames))
        self._class_ids, self._rest = class_ids, list(frames)
        self.is_voting, self.vote, self.is_vote_alone = False, None, False
        self.start(lambda: self._reports(class_ids, frames))

    def _reports(self, class_ids: list[int], frames: list[int]) -> Generator[Any, None, None]:
        project = self.session.project
        assert project is not None
        name = action_name(project.classes, class_ids, frames)
        with project.action(name, len(frames)) as action:  # one undo takes back the run and its vote
            with closing(self.session.segment(class_ids, frames, action=action)) as reports:
                yield from reports
            if self._with_vote:
                # imported here because it imports torch, which takes seconds
                from surgicalsam_napari.tracking.track import vote_after_run

                self.vote = yield from vote_after_run(project, sorted(self._to_vote), action)
                self._count_again()

    def resume(self, center: int) -> None:
        """Segment the frames that the last run did not come to; if only its vote was stopped, vote."""
        if self.is_running:
            return
        if self._rest:
            self._request(self._class_ids, self._rest, center)
        elif self.is_vote_left:
            self.is_vote_alone = True
            self.start(self._vote_reports)

    def _vote_reports(self) -> Generator[Any, None, None]:
        from surgicalsam_napari.tracking.vote_classes import vote_classes  # here: it imports torch

        project = self.session.project
        assert project is not None
        self.vote = yield from vote_classes(project, sorted(self._to_vote))
        self._count_again()

    def _count_again(self) -> None:
        if self.findings is not None and self.vote is not None and self.vote.changed:
            self.findings.count_again()

    def forget(self) -> None:
        """Forget the last run: another project is open."""
        self.findings, self.vote, self._rest, self._waiting = None, None, [], None
        self.is_voting = False

    def cancel(self) -> None:
        """Stop after the current frame and keep the finished ones; drop a run that waits for confirmation."""
        self._waiting = None
        super().cancel()

    def _on_report(self, report: Any) -> None:
        self.is_voting = not isinstance(report, SegmentReport)
        if not self.is_voting:
            assert self.findings is not None
            self.findings.add(report)
            self._rest.remove(report.frame_index)
        super()._on_report(report)


def is_long(estimate: Estimate) -> bool:
    """Whether a run takes so long that it asks first."""
    return estimate.seconds is not None and estimate.seconds > LONG_RUN_SECONDS


def is_large(estimate: Estimate) -> bool:
    """Whether a run fills so much of the disk that it asks first."""
    return estimate.disk_bytes > MOST_OF_THE_DISK * estimate.free_bytes


def check_space(estimate: Estimate) -> None:
    """Raise a DiskSpaceError if the embeddings do not fit on the disk."""
    if not estimate.fits:
        raise DiskSpaceError(
            f"This run needs {in_bytes(estimate.disk_bytes)} on disk, and {in_bytes(estimate.free_bytes)} are free. "
            "Choose fewer frames, or free some space."
        )
