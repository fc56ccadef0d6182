"""Corrected frames of a project as training data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.store import EmbeddingStore, Project
from surgicalsam_napari.store.checking import check_intact
from surgicalsam_napari.store.corrections import corrected_frames, unchanged_frames
from surgicalsam_napari.store.provenance import is_trusted
from surgicalsam_training.data.pictured import PicturedSource
from surgicalsam_training.data.source import AnnotatedFrame, PackedLabels

ONLY_PREDICTIONS = (
    "All corrected frames of {} are verified and unchanged: these are a model's own masks, nothing to learn from. Correct a "
    "mask that is wrong."
)


class ProjectSource(PicturedSource):
    """The frames of one video in which a person edited or verified something.

    Parameters
    ----------
    trust : "frame": all predicted, edited and verified classes of such a frame are correct; "class": only the edited or
        verified ones
    """

    def __init__(self, folder: Path, trust: str, seed: int) -> None:
        # if the video is missing, the labels and the existing embeddings are enough
        self.project = project = Project.open(folder, require_video=False)
        try:
            self._read(project, trust, seed)
        except BaseException:
            project.close()
            raise

    def _read(self, project: Project, trust: str, seed: int) -> None:
        check_intact(project)
        video = project.manifest.video
        path = project.manifest.video_path
        sequence = path.stem if video.byte_count is not None else path.name
        table = project.labels.provenance_table()
        class_ids = np.array(project.classes.ids)
        labels, frames, known = PackedLabels(), [], []
        corrected_indices = corrected_frames(project)
        if corrected_indices and corrected_indices == unchanged_frames(project):
            self.notes = (ONLY_PREDICTIONS.format(project.folder.name),)
        for frame_index in corrected_indices:
            known.append(frozenset(class_ids[is_trusted(table[frame_index], trust)].tolist()))
            labels.append(project.labels[frame_index], f"frame {frame_index}", known[-1])
            frames.append(AnnotatedFrame(sequence, frame_index, f"{sequence}/frame_{frame_index:05d}", video.size))
        project.labels.close()  # all labels are read now; closing them frees the frames in memory
        identity = f"video {video.fingerprint}"
        super().__init__(project.folder, identity, project.classes, frames, known, labels, corrected_indices, seed)

    def image(self, example_index: int) -> np.ndarray:
        return self.project.video.frame(self.frames[example_index].frame_index)

    def stable_name(self, example_index: int) -> str:
        return f"{self.project.manifest.video.fingerprint} {self.frames[example_index].frame_index}"

    def store(self, sequence: str, version_name: str | None, model: SurgicalSAM) -> EmbeddingStore:
        if version_name is None:
            return self.project.embeddings(model.encoder_digest, model.embedding_shape)
        return self.project.augmented_embeddings(model.encoder_digest, version_name, model.embedding_shape)

    def release(self) -> None:
        self.project.close_video()

    def close(self) -> None:
        self.project.close()
