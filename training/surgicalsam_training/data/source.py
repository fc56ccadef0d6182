"""The common interface of all kinds of training data; each kind has its own file in this folder."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numcodecs.zstd import Zstd  # type: ignore[import-untyped]

from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.store.label_maps import present_ids

_ZSTD = Zstd(level=1)


@dataclass(frozen=True)
class AnnotatedFrame:
    """One frame to learn from.

    Attributes
    ----------
    sequence : the video or sequence, which a split keeps together; unique over all sources
    frame_index : its index in the video or sequence
    name : such as "clip/frame_00012", for messages
    size : (H, W)
    split : "train" or "validation" if the data define a split
    """

    sequence: str
    frame_index: int
    name: str
    size: tuple[int, int]
    split: str | None = None


class Source(Protocol):
    """One project, dataset or folder. An example is addressed by its index in `frames`; class ids are those of the source.

    Attributes
    ----------
    path : shown to the user
    identity : equal for two sources of the same frames
    known : by example index, the classes whose presence or absence is certain
    present : by example index, the classes that have pixels
    fingerprint : changes with the labels and with the frame names
    versions_available : number of stored augmented copies per frame; None if they are made on demand
    notes : what was left out, as sentences for the user
    """

    path: Path
    identity: str
    classes: ClassSet
    frames: tuple[AnnotatedFrame, ...]
    known: tuple[frozenset[int], ...]
    present: tuple[frozenset[int], ...]
    fingerprint: str
    versions_available: int | None
    notes: tuple[str, ...]

    def label_map(self, example_index: int, version: int) -> np.ndarray:
        """(H, W) uint8"""

    def image(self, example_index: int) -> np.ndarray | None:
        """(H, W, 3) uint8 RGB; None if there are only embeddings"""

    def rng(self, example_index: int, version: int) -> np.random.Generator:
        """The random generator of a frame's augmented copy."""

    def missing_embeddings(self, example_indices: Sequence[int], version: int, model: SurgicalSAM) -> list[int]: ...

    def embed(self, example_indices: Sequence[int], version: int, model: SurgicalSAM) -> Generator[None, None, None]:
        """Compute and store the missing embeddings; yields after each frame."""

    def embeddings(self, example_indices: Sequence[int], version: int, model: SurgicalSAM) -> np.ndarray:
        """(B, D, h, w) float16"""

    def release(self) -> None:
        """Close files that are opened again on demand, such as a video: a training may have hundreds."""

    def close(self) -> None: ...


class PackedLabels:
    """Label maps as they were when the training began, compressed (a few kB each); later painting does not change them.

    Attributes
    ----------
    present : class ids with pixels, by example index
    """

    def __init__(self) -> None:
        self.present: list[frozenset[int]] = []
        self._packed: list[bytes] = []
        self._sizes: list[tuple[int, int]] = []
        self._digest = hashlib.sha256()

    def append(self, label_map: np.ndarray, name: str, known: frozenset[int]) -> None:
        """Append a label map, (H, W) uint8; `name` and `known` go into the fingerprint."""
        label_map = np.ascontiguousarray(label_map, np.uint8)
        self.present.append(frozenset(present_ids(label_map)))
        self._packed.append(_ZSTD.encode(label_map))
        self._sizes.append((label_map.shape[0], label_map.shape[1]))
        self._digest.update(f"{name} {sorted(known)} {label_map.shape}\n".encode())
        self._digest.update(label_map.data)

    def __getitem__(self, example_index: int) -> np.ndarray:
        return np.frombuffer(_ZSTD.decode(self._packed[example_index]), np.uint8).reshape(self._sizes[example_index])

    def fingerprint(self, classes: ClassSet) -> str:
        """Thirty-two hexadecimal digits."""
        digest = self._digest.copy()
        digest.update(repr([(c.id, c.name) for c in classes]).encode())
        return digest.hexdigest()[:32]
