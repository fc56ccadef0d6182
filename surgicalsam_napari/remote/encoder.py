"""The image encoder of a model on another machine: what is sent, and what happens when the worker is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from surgicalsam_napari.errors import WorkerError, WorkerLost
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.remote.connection import Connection, Embedded, Greeting
from surgicalsam_napari.remote.protocol import EncoderName

IfLost = Literal["wait", "local", "stop"]
TRY_AGAIN_SECONDS = 3.0


@dataclass(frozen=True)
class WorkerState:
    """How the worker is doing now.

    Attributes
    ----------
    device : of the worker, in words for the user
    latency : seconds from a small question to its answer, when the model was loaded
    frame_size : (h, w) in pixels of the last frame that was sent; None before the first
    frames, sent, received : frames embedded, and bytes on the line
    seconds : during which at least one request was under way
    lost : why frames wait now; None if none do
    is_here : whether a person decided to go on with this machine
    """

    address: str
    is_encrypted: bool
    device: str
    latency: float
    frame_size: tuple[int, int] | None = None
    frames: int = 0
    sent: int = 0
    received: int = 0
    seconds: float = 0.0
    lost: str | None = None
    is_here: bool = False

    @property
    def frames_per_second(self) -> float | None:
        return self.frames / self.seconds if self.frames and self.seconds else None


class RemoteEncoder:
    """The `embedder` of a model: a worker computes the embeddings of its image encoder.

    While the worker is lost, `embed` waits in its thread, and tries again by itself; so a run stays one action, and frames
    that arrived stay. `go_on_here` and `give_up` end the waiting, from any thread.

    Parameters
    ----------
    embed_here : computes the embeddings on this machine, as `SurgicalSAM.embed_here`
    prepare_here : called once before `embed_here` is used; loads the encoder if it is not loaded
    if_lost : wait for the worker, go on with this machine, or stop with the error
    on_lost : gets a line when frames begin to wait, or the run goes on here; None when the worker is back. In any thread
    """

    def __init__(
        self,
        connection: Connection,
        greeting: Greeting,
        encoder: EncoderName,
        embed_here: Callable[[Sequence[np.ndarray], np.dtype], np.ndarray],
        prepare_here: Callable[[], None] = lambda: None,
        if_lost: IfLost = "wait",
        on_lost: Callable[[str | None], None] = lambda _reason: None,
    ) -> None:
        self.if_lost, self.on_lost = if_lost, on_lost
        self._connection, self._encoder = connection, encoder
        self._embed_here, self._prepare_here = embed_here, prepare_here
        self._state = WorkerState(str(connection.address), connection.is_encrypted, greeting.device, greeting.latency)
        self._changed, self._preparing = threading.Condition(), threading.Lock()
        self._turn = 0  # of give_up: what began before it fails
        self._under_way, self._since = 0, 0.0

    @property
    def state(self) -> WorkerState:
        """How the worker is doing now."""
        with self._changed:
            under_way = time.perf_counter() - self._since if self._under_way else 0.0
            return replace(self._state, seconds=self._state.seconds + under_way)

    @property
    def is_elsewhere(self) -> bool:
        return not self._state.is_here

    @property
    def is_waiting(self) -> bool:
        return self._state.lost is not None

    def embed(self, frames: Sequence[np.ndarray], dtype: np.dtype) -> np.ndarray:
        """Send the prepared frames, return their embeddings; while the worker is lost, wait, as `if_lost` says."""
        geometry = FrameGeometry(frames[0].shape[:2], ENCODERS[self._encoder.id].input_size)
        prepared = np.stack([geometry.resized(frame) for frame in frames])
        turn = self._turn
        while not self._state.is_here:
            if self._turn != turn:
                raise WorkerLost(f"{self._state.address} was not waited for any longer. Finished frames are kept.")
            try:
                embedded = self._sent(prepared, dtype)
            except WorkerError as error:
                self._wait(error, turn)
                continue
            self._note(prepared, embedded)
            return embedded.embeddings
        return self._embed_here(frames, dtype)

    def go_on_here(self) -> None:
        """Embed all further frames on this machine, also those that wait; a CheckpointError if it lacks the weights."""
        with self._preparing:
            self._prepare_here()
        self._change(is_here=True, lost=None)

    def give_up(self) -> None:
        with self._changed:
            self._turn += 1
        self._connection.cut()
        self._change(lost=None)

    def close(self) -> None:
        self.give_up()

    def _sent(self, prepared: np.ndarray, dtype: np.dtype) -> Embedded:
        with self._changed:
            self._since = self._since if self._under_way else time.perf_counter()
            self._under_way += 1
        try:
            if self._state.lost is not None:  # it may be another worker by now
                self._connection.greet()
                self._connection.load(self._encoder)
            return self._connection.embed(self._encoder, prepared, dtype)
        finally:
            with self._changed:
                self._under_way -= 1
                if not self._under_way:
                    self._state = replace(self._state, seconds=self._state.seconds + time.perf_counter() - self._since)

    def _note(self, prepared: np.ndarray, embedded: Embedded) -> None:
        was_lost = self._state.lost is not None
        with self._changed:
            state = self._state
            self._state = replace(
                state,
                frame_size=prepared.shape[1:3],
                frames=state.frames + len(prepared),
                sent=state.sent + embedded.sent,
                received=state.received + embedded.received,
                lost=None,
            )
            self._changed.notify_all()
        if was_lost:
            self.on_lost(None)

    def _wait(self, error: WorkerError, turn: int) -> None:
        """Wait a moment before the next try; raise the error if nobody wants to wait."""
        if self._turn != turn:
            return
        if self.if_lost == "stop":
            raise error
        is_first = self._state.lost is None and not self._state.is_here
        if self.if_lost == "local":
            if is_first:
                self.on_lost(str(error))
            self.go_on_here()
            return
        with self._changed:
            self._state = replace(self._state, lost=str(error))
        if is_first:
            self.on_lost(str(error))
        with self._changed:
            self._changed.wait_for(lambda: self._turn != turn or self._state.is_here, TRY_AGAIN_SECONDS)

    def _change(self, **fields: object) -> None:
        with self._changed:
            self._state = replace(self._state, **fields)  # type: ignore[arg-type]
            self._changed.notify_all()
