"""A dataset of pictures and labels as training data; its embeddings are stored in a folder beside the pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame
from surgicalsam_napari.exchange.files import safe_name
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.store import EmbeddingStore
from surgicalsam_napari.store.disk.files import writing
from surgicalsam_napari.untrusted import plain_file
from surgicalsam_napari.video.fingerprint import folder_fingerprint
from surgicalsam_training.data.pictured import PicturedSource
from surgicalsam_training.data.source import AnnotatedFrame, PackedLabels


class DatasetSource(PicturedSource):
    """The annotated frames of a dataset; every frame must have a picture.

    ::

        <dataset>/embeddings/<sequence>-<fingerprint of its pictures>/<encoder digest>/plain or v001-…/
    """

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self._root = dataset.path if dataset.path.is_dir() else dataset.path.parent
        self._pictures: dict[str, list[Path]] = {}  # by sequence; an embedding's slot is its picture's index in the list
        self._stores: dict[Path, EmbeddingStore] = {}
        self._folders: dict[str, Path] = {}
        without_picture = [frame.name for frame in dataset.frames if frame.image_path is None]
        if without_picture:
            raise TrainingError(
                f"{dataset.path} has {len(without_picture)} frames without a picture (the first is {without_picture[0]}), "
                "but training needs pictures. Export it with images, or import it into the project of its video "
                "(`surgicalsam import`)."
            )
        self.notes = tuple(_notes(dataset))
        labels = PackedLabels()
        frames, known, slots = [], [], []
        for frame in dataset.frames:
            slot, annotated = self._slot(frame), frozenset(dataset.annotated_class_ids(frame))
            if not annotated:
                continue
            label_map = dataset.label_map(frame)
            labels.append(label_map, frame.name, annotated)
            size = (label_map.shape[0], label_map.shape[1])
            frames.append(AnnotatedFrame(frame.sequence, frame.frame_index, frame.name, size))
            known.append(annotated)
            slots.append(slot)
        self._paths = [self._pictures[f.sequence][slot] for f, slot in zip(frames, slots, strict=True)]
        super().__init__(
            dataset.path, f"folder {dataset.path.resolve()}", dataset.classes, frames, known, labels, slots, seed
        )

    def _slot(self, frame: DatasetFrame) -> int:
        assert frame.image_path is not None
        pictures = self._pictures.setdefault(frame.sequence, [])
        pictures.append(frame.image_path)
        return len(pictures) - 1

    def image(self, example_index: int) -> np.ndarray:
        path, frame = self._paths[example_index], self.frames[example_index]
        try:
            with Image.open(plain_file(path)) as picture:
                image = np.asarray(picture.convert("RGB"))
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise TrainingError(f"{path} should be the picture of {frame.name}, but cannot be read. Restore it.") from error
        if image.shape[:2] != frame.size:
            raise TrainingError(
                f"{path} has {image.shape[1]} x {image.shape[0]} pixels, but the labels of {frame.name} have "
                f"{frame.size[1]} x {frame.size[0]}. Resize one of them."
            )
        return image

    def stable_name(self, example_index: int) -> str:
        return self.frames[example_index].name

    def store(self, sequence: str, version_name: str | None, model: SurgicalSAM) -> EmbeddingStore:
        folder = self._sequence_folder(sequence) / model.encoder_digest / (version_name or "plain")
        if folder not in self._stores:
            count = len(self._pictures[sequence])
            if not folder.exists():
                self._create(folder, count, model)
            self._stores[folder] = EmbeddingStore(folder, count, model.embedding_shape)
        return self._stores[folder]

    def _create(self, folder: Path, count: int, model: SurgicalSAM) -> None:
        existing = next(parent for parent in folder.parents if parent.exists())
        if not os.access(existing, os.W_OK):
            raise TrainingError(
                f"The embeddings of {self.path.name} are stored beside it, but {existing} is read-only. Make it writable, "
                "or train on a copy of the dataset in another folder."
            )
        with writing(f"The embeddings of {self.path.name}", existing):
            EmbeddingStore.create_in(folder, model.encoder_digest, count, model.embedding_shape)

    def _sequence_folder(self, sequence: str) -> Path:
        """Its name contains a fingerprint of the pictures: embeddings of other pictures with the same names are not used."""
        if sequence not in self._folders:
            fingerprint = folder_fingerprint(self._pictures[sequence])[:12]
            self._folders[sequence] = self._root / "embeddings" / f"{safe_name(sequence)}-{fingerprint}"
        return self._folders[sequence]

    def close(self) -> None:
        for store in self._stores.values():
            store.close()


def _notes(dataset: Dataset) -> Iterator[str]:
    """What is left out of the data, for the user."""
    for one in dataset.skipped:
        yield f"{dataset.path.name}: skipped {one.what}: {one.count:,}."
    if left_out := len(dataset.unannotated - set(dataset.frames)):
        yield (
            f"{dataset.path.name}: {counted(left_out, 'frame')} without any annotation left out. If they show no "
            "instrument, use --unannotated empty."
        )
