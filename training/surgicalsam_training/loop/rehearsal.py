"""Frames of the phantom, mixed in so that a model on the demo encoder keeps what it learned from them.

A few corrected frames show few classes; tuned on them alone a model unlearns the others. Real checkpoints keep theirs when
earlier projects are trained on together with the new one; the demo weights' training data can simply be drawn again.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np

from surgicalsam_napari.instruments import ENDOVIS2018, ClassSet
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.phantom import PhantomScene
from surgicalsam_training.data.source import AnnotatedFrame

FIRST_SEED = 100_000  # the first of the scenes that the demo weights were trained on
FRAMES_PER_SCENE = 2
SIZE = (410, 512)


class PhantomRehearsal:
    """Drawn frames in memory, with what `PromptSampler` asks of training data.

    Parameters
    ----------
    frame_count : how many
    classes : of the data, those of the model first; the phantom's are found among them by name, and no other is in any frame
    """

    versions_available = 0

    def __init__(self, frame_count: int, classes: ClassSet) -> None:
        self.classes = classes
        names = {instrument.name.casefold(): instrument.id for instrument in classes}
        self._ids = {c.id: names[c.name.casefold()] for c in ENDOVIS2018 if c.name.casefold() in names}
        self.frames = tuple(
            AnnotatedFrame(f"phantom {example_index // FRAMES_PER_SCENE}", example_index, f"phantom/{example_index}", SIZE)
            for example_index in range(frame_count)
        )
        self._labels: list[np.ndarray] = []
        self._embeddings: list[np.ndarray] = []

    def prepare(self, model: SurgicalSAM) -> Generator[int, None, None]:
        """Draw and embed every frame; yields how many are done."""
        lookup = np.zeros(256, np.uint8)
        lookup[list(self._ids)] = list(self._ids.values())
        for frame in self.frames:
            scene = PhantomScene(FIRST_SEED + frame.frame_index // FRAMES_PER_SCENE, SIZE, frame_count=96)
            drawn = scene.frame(32 + 32 * (frame.frame_index % FRAMES_PER_SCENE))
            self._labels.append(lookup[drawn.labels])
            self._embeddings.append(model.embed([drawn.image])[0])
            yield len(self._labels)

    def label_map(self, example_index: int, version: int = 0) -> np.ndarray:
        """(H, W) uint8"""
        return self._labels[example_index]

    def known_class_ids(self, example_index: int) -> frozenset[int]:
        """All: what the phantom does not draw is not there."""
        return frozenset(self.classes.ids)

    def present_class_ids(self, example_index: int) -> tuple[int, ...]:
        """Those in the frame."""
        return tuple(value for value in np.unique(self._labels[example_index]).tolist() if value)

    def embeddings(self, example_indices: Sequence[int], version: int, model: SurgicalSAM) -> np.ndarray:
        """(B, D, h, w) float16"""
        return np.stack([self._embeddings[example_index] for example_index in example_indices])
