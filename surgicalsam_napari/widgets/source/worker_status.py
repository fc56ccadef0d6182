"""How the worker on another machine is doing, and the question if it is lost or slower than this machine."""

from __future__ import annotations

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from surgicalsam_napari.inference.encoder_speed import probe
from surgicalsam_napari.remote.encoder import RemoteEncoder
from surgicalsam_napari.remote.loading import traffic_text, what_leaves, worker_text
from surgicalsam_napari.remote.slow_line import faster_here
from surgicalsam_napari.session import Session
from surgicalsam_napari.widgets.parts.message import show_failure
from surgicalsam_napari.widgets.parts.parts import SPACING, note, primary_button
from surgicalsam_napari.widgets.runs.background import run_in_background

UPDATE_MS = 500
LOST = (
    "{reason} Frames wait, and what arrived is kept. It goes on by itself when the other machine answers again. Or go on "
    "with this machine alone?"
)
SLOW = (
    "The line to {address} is slow: {there:.1f} frames a second. This machine alone would make about {here:.1f}. "
    "Go on with this machine alone?"
)
HERE = "{address} is not used any longer: this machine embeds the frames. Choose it again under Runs on to go back."


class WorkerStatus(QWidget):
    """Hidden while the model runs on this machine only.

    Signals
    -------
    question_asked : the worker was lost, or is slow: a person has to see the question
    """

    question_asked = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.text, self.question_text = note(), note()
        self.go_on, self.other = primary_button("Go on here"), QPushButton()
        self.question = QWidget()
        self._is_slow_accepted = False  # a person wants to go on over the slow line
        self._timer = QTimer(self, interval=UPDATE_MS)
        self._timer.timeout.connect(self.refresh)
        self.go_on.clicked.connect(self._go_on_here)
        self.other.clicked.connect(self._on_other)
        self._lay_out()
        self.hide()

    def follow_model(self) -> None:
        """Follow the worker of the session's model, if it has one."""
        self._is_slow_accepted = False
        embedder, model = self._embedder, self.session.model
        self.setVisible(embedder is not None)
        if embedder is None or model is None:
            self._timer.stop()
            return
        self._timer.start()
        self.refresh()
        run_in_background(lambda: probe(model.device), lambda _speed: None, lambda _error: None)

    def refresh(self) -> None:
        """Show the worker's state now."""
        embedder, model = self._embedder, self.session.model
        if embedder is None or model is None:
            return
        state = embedder.state
        lines = [HERE.format(address=state.address)] if state.is_here else [worker_text(state), traffic_text(state)]
        self.text.setText("\n".join(filter(None, lines)))
        project = self.session.project
        self.text.setToolTip(what_leaves(None if project is None else project.video.info.size, model.encoder_id))
        speeds = None if self._is_slow_accepted else faster_here(model)
        if state.lost is not None:
            self._ask(LOST.format(reason=state.lost), "Stop")
        elif speeds is not None:
            self._ask(SLOW.format(address=state.address, there=speeds[0], here=speeds[1]), "Stay with it")
        else:
            self.question.hide()

    @property
    def is_left(self) -> bool:
        """Whether a person went on with this machine in place of the worker."""
        embedder = self._embedder
        return embedder is not None and not embedder.is_elsewhere

    @property
    def _embedder(self) -> RemoteEncoder | None:
        embedder = None if self.session.model is None else self.session.model.embedder
        return embedder if isinstance(embedder, RemoteEncoder) else None

    def _lay_out(self) -> None:
        buttons = QHBoxLayout()
        buttons.setSpacing(SPACING)
        buttons.addWidget(self.go_on, 1)
        buttons.addWidget(self.other, 1)
        inner = QVBoxLayout(self.question)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.setSpacing(SPACING)
        inner.addWidget(self.question_text)
        inner.addLayout(buttons)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACING)
        column.addWidget(self.text)
        column.addWidget(self.question)
        self.question.hide()

    def _ask(self, text: str, other: str) -> None:
        is_new = self.question.isHidden()
        self.question_text.setText(text)
        self.other.setText(other)
        self.question.show()
        if is_new:
            self.go_on.setEnabled(True)
            self.question_asked.emit()

    def _go_on_here(self) -> None:
        """Load the encoder here if it is not, in the background, then use it."""
        embedder = self._embedder
        if embedder is not None:
            self.go_on.setEnabled(False)
            run_in_background(embedder.go_on_here, lambda _nothing: self.refresh(), self._on_failed)

    def _on_failed(self, error: Exception) -> None:
        self.go_on.setEnabled(True)
        show_failure(error, self)

    def _on_other(self) -> None:
        embedder = self._embedder
        if embedder is not None and embedder.is_waiting:
            embedder.give_up()
        else:
            self._is_slow_accepted = True
        self.refresh()
