"""The common part of projects and datasets: pictures to embed, and augmented copies of pictures and labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import numpy as np

from surgicalsam_napari.errors import CheckpointError, DiskSpaceError, TrainingError
from surgicalsam_napari.formatting import in_bytes
from surgicalsam_napari.inference.embed import BATCH_SIZES, failures_reported
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.store import EmbeddingStore, free_bytes
from surgicalsam_training.data.augment import augmentation_digest, augmentation_rng, augmented_image, augmented_labels
from surgicalsam_training.data.source import AnnotatedFrame, PackedLabels


class PicturedSource(ABC):
    """A Source with pictures; see `Source` for the attributes.

    Parameters
    ----------
    slots : by example index, the frame's index in its embedding store
    seed : of the augmented copies
    """

    versions_available: int | None = None
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        path: Path,
        identity: str,
        classes: ClassSet,
        frames: Sequence[AnnotatedFrame],
        known: Sequence[frozenset[int]],
        labels: PackedLabels,
        slots: Sequence[int],
        seed: int,
    ) -> None:
        self.path = path
        self.identity = identity
        self.classes = classes.without_parts()
        self.frames = tuple(frames)
        self.known = tuple(known)
        self.present = tuple(labels.present)
        self.fingerprint = labels.fingerprint(classes)
        self._labels = labels
        self._slots = slots
        self._seed = seed

    @abstractmethod
    def image(self, example_index: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB"""

    @abstractmethod
    def stable_name(self, example_index: int) -> str:
        """A name that seeds a frame's augmented copies; moving or renaming the data does not change it."""

    @abstractmethod
    def store(self, sequence: str, version_name: str | None, model: SurgicalSAM) -> EmbeddingStore:
        """Embeddings of one sequence; `version_name` is None for the original frames."""

    def release(self) -> None:  # noqa: B027  (a folder of pictures keeps nothing open)
        """Close files that are opened again on demand."""

    @abstractmethod
    def close(self) -> None: ...

    def rng(self, example_index: int, version: int) -> np.random.Generator:
        return augmentation_rng(self._seed, version, self.stable_name(example_index))

    def label_map(self, example_index: int, version: int) -> np.ndarray:
        labels = self._labels[example_index]
        return augmented_labels(labels, self.rng(example_index, version)) if version else labels

    def missing_embeddings(self, example_indices: Sequence[int], version: int, model: SurgicalSAM) -> list[int]:
        missing: set[int] = set()
        for store, group in self._by_store(example_indices, version, model):
            slots = set(store.missing([self._slots[example_index] for example_index in group]))
            missing.update(example_index for example_index in group if self._slots[example_index] in slots)
        return [example_index for example_index in example_indices if example_index in missing]

    def embeddings(self, example_indices: Sequence[int], version: int, model: SurgicalSAM) -> np.ndarray:
        read: dict[int, np.ndarray] = {}
        for store, group in self._by_store(list(dict.fromkeys(example_indices)), version, model):
            missing = store.missing([self._slots[example_index] for example_index in group])
            if missing:
                first = next(example_index for example_index in group if self._slots[example_index] == missing[0])
                copy = f" (copy {version})" if version else ""
                raise TrainingError(
                    f"{self.frames[first].name}{copy} should have an embedding by {model.encoder_id}, but {len(missing)} of "
                    f"{len(group)} frames have none. Embed them with a model that has its image encoder loaded."
                )
            read.update(zip(group, store.read([self._slots[example_index] for example_index in group]), strict=True))
        return np.stack([read[example_index] for example_index in example_indices])

    def stored_class_embedding(self, example_index: int, version: int, class_id: int, model: SurgicalSAM) -> None:
        return None

    def embed(self, example_indices: Sequence[int], version: int, model: SurgicalSAM) -> Generator[None, None, None]:
        missing = self.missing_embeddings(example_indices, version, model)
        if missing and not model.has_image_encoder:
            raise CheckpointError(
                f"{len(missing)} frames of {self.path.name} have no embedding yet, but {model.name} has no image encoder "
                f"({model.encoder_id}) to compute it. Load the encoder's weights (--encoder-weights)."
            )
        needed = sum(len(group) * store.frame_bytes for store, group in self._by_store(missing, version, model))
        self._check_disk_space(len(missing), needed)
        for store, group in self._by_store(missing, version, model):
            for batch, images in self._read_ahead(group, version, BATCH_SIZES.get(model.device.type, 1)):
                with failures_reported():
                    computed = model.embed(images, store.dtype)
                store.write([self._slots[example_index] for example_index in batch], computed)
                yield from (None for _ in batch)
            store.close()  # frees its lock file: hundreds of stores would exceed the open-file limit
        self.release()

    def _read_ahead(
        self, example_indices: Sequence[int], version: int, batch_size: int
    ) -> Iterator[tuple[list[int], list[np.ndarray]]]:
        """Pictures of one size, batch by batch; the next batch is read and augmented while the model computes this one."""

        def read(batch: list[int]) -> list[np.ndarray]:
            images = [self.image(example_index) for example_index in batch]
            if not version:
                return images
            return [
                augmented_image(image, self.rng(example_index, version))
                for image, example_index in zip(images, batch, strict=True)
            ]

        batches = []
        for _, same_size in groupby(example_indices, key=lambda example_index: self.frames[example_index].size):
            group = list(same_size)
            batches += [group[start : start + batch_size] for start in range(0, len(group), batch_size)]
        with ThreadPoolExecutor(1, thread_name_prefix="pictures") as reader:
            pending = reader.submit(read, batches[0]) if batches else None
            for batch, following in zip(batches, [*batches[1:], None], strict=True):
                assert pending is not None
                images = pending.result()
                pending = reader.submit(read, following) if following else None
                yield batch, images

    def _by_store(
        self, example_indices: Sequence[int], version: int, model: SurgicalSAM
    ) -> Iterator[tuple[EmbeddingStore, list[int]]]:
        """The stores of these frames, with the frames of each in ascending order, because videos are decoded forwards."""
        name = f"v{version:03d}-{augmentation_digest(self._seed)}" if version else None
        by_sequence: dict[str, list[int]] = {}
        for example_index in example_indices:
            by_sequence.setdefault(self.frames[example_index].sequence, []).append(example_index)
        for sequence, group in by_sequence.items():
            yield self.store(sequence, name, model), sorted(group, key=lambda example_index: self._slots[example_index])

    def _check_disk_space(self, count: int, needed: int) -> None:
        free = free_bytes(self.path)
        if needed > free:
            raise DiskSpaceError(
                f"The embeddings of {count} frames need {in_bytes(needed)}, but the disk of {self.path} has "
                f"{in_bytes(free)} free. Free some space, or train with fewer augmentations (--augmented-versions)."
            )
