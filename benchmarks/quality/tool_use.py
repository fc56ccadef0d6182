"""The tool as a person uses it on real pictures: correct frames, Learn, segment, Fill between. Shared by real_*.py."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from annotated_video import AnnotatedVideo

from surgicalsam_napari.cli.terminal import with_progress
from surgicalsam_napari.exchange.importing import check_import, import_frames
from surgicalsam_napari.inference.embed import embed_frames
from surgicalsam_napari.instruments import matching_class_ids
from surgicalsam_napari.model.zoo import checkpoint_path
from surgicalsam_napari.propagation.fill_between import fill_between as filling
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.corrections import untouched_frames
from surgicalsam_training.learn import Learned, fitting
from surgicalsam_training.learn import learn as learning

CHECKPOINT = "light"
QUICK_STEPS = 30


def learn(session: Session, checkpoint: Path, *, is_quick: bool) -> float:
    """Press *Learn*, and use the result. Returns the seconds from the press to the model in use."""
    project = opened(session)
    started = time.perf_counter()
    if is_quick:
        fitting.FEWEST_STEPS = fitting.MOST_STEPS = QUICK_STEPS
    *_reports, learned = learning(project, checkpoint=checkpoint, device="cpu")
    assert isinstance(learned, Learned)
    session.load_checkpoint(learned.checkpoint, device="cpu")
    return time.perf_counter() - started


def fill_between(session: Session) -> None:
    """Press *Fill between* for all classes."""
    reports = filling(opened(session), session.trained_class_ids(), session.model)
    drain(with_progress(reports, "Fill between"))


def segment_untouched(session: Session) -> None:
    """Predict every class that the model knows, in all frames that nobody has corrected."""
    reports = session.segment(session.trained_class_ids(), untouched_frames(opened(session)))
    drain(with_progress(reports, "Segment"))


def own_label_map(session: Session, embedding: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """(H, W) uint8: what the session's model predicts of the project's classes, from the embedding (D, h, w) of a frame."""
    assert session.model is not None
    class_ids = session.trained_class_ids()
    if not class_ids:
        return np.zeros(size, np.uint8)
    model_ids = matching_class_ids(opened(session).classes, session.model.classes, class_ids)
    (prediction,) = session.model.predict(embedding[None], model_ids, size)
    values = np.zeros(256, np.uint8)
    values[model_ids] = class_ids
    return values[prediction.label_map]


class ToolUse:
    """Fresh projects of one video, with the embeddings of all its frames.

    Parameters
    ----------
    folder : for the projects
    checkpoint : a file or the name of a bundled one, the model before any learning
    """

    def __init__(self, video: AnnotatedVideo, folder: Path, checkpoint: Path | str = CHECKPOINT) -> None:
        self.video, self.checkpoint = video, checkpoint_path(checkpoint)
        self._folder, self._count = folder, 0
        started = time.perf_counter()
        with Session(video.classes) as session:
            self.model = session.load_checkpoint(self.checkpoint, device="cpu")
            self._embedded = session.open(video.path, project_folder=folder / "embedded.surgicalsam").folder
            reports = embed_frames(opened(session), self.model, range(video.frame_count))
            drain(with_progress(reports, "Embed"))
        self.embed_seconds = (time.perf_counter() - started) / video.frame_count

    @contextmanager
    def fresh(self) -> Iterator[Session]:
        """A session with a project that nobody has touched, and with the model before any learning."""
        self._count += 1
        copy = self._folder / f"project_{self._count}.surgicalsam"
        shutil.copytree(self._embedded, copy)
        with Session(self.video.classes) as session:
            session.use_model(self.model)
            session.open(copy)
            yield session
        shutil.rmtree(copy)

    def correct(self, session: Session, frames: Iterable[int]) -> None:
        """Import the labels of these frames, and verify them."""
        project, frames = opened(session), list(frames)
        chosen = replace(self.video.dataset, frames=tuple(self.video.by_index[frame] for frame in frames))
        drain(import_frames(project, check_import(project, chosen)))
        for frame in frames:
            project.labels.verify(frame)

    def embeddings(self, session: Session, frames: Sequence[int]) -> np.ndarray:
        """(N, D, h, w) float16."""
        store = opened(session).embeddings(self.model.encoder_digest, self.model.embedding_shape)
        return store.read(list(frames))

    def decoder_embeddings(self, session: Session, frames: Sequence[int]) -> np.ndarray:
        """(N, D, h, w) float16: the channels that the decoder reads, for the simple heads."""
        return self.embeddings(session, frames)[:, : self.model.decoder_dim]


def opened(session: Session) -> Project:
    assert session.project is not None
    return session.project


def drain(reports: Iterable[object]) -> None:
    for _report in reports:
        pass
