"""Synthetic phantom frames, mixed into training so that a model on the bundled encoder keeps what it learned from them.

A few corrected frames show few classes; a model that is tuned only on them forgets the others. To keep the classes of a real
checkpoint, train on its earlier projects and the new one together. The training scenes of the bundled weights can be
generated again.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np

from surgicalsam_napari.instruments import ENDOVIS2018, ClassSet, plain
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.phantom import PhantomScene
from surgicalsam_training.data.source import AnnotatedFrame

FIRST_SEED = 100_000  # the first of the scenes that the bundled weights were trained on
FRAMES_PER_SCENE = 2
SIZE = (410, 512)


class PhantomRehearsal:
    """Synthetic frames in memory, with the methods that `PromptSampler` needs.

    Parameters
    ----------
    frame_count : number of frames
    classes : of the data, the model's classes first; the phantom's classes are matched by name, no frame shows others
    """

    versions_available = 0

    def __init__(self, frame_count: int, classes: ClassSet) -> None:
        self.classes = classes
        names = {plain(instrument.name): instrument.id for instrument in classes}
        self._ids = {c.id: names[plain(c.name)] for c in ENDOVIS2018 if plain(c.name) in names}
        self.frames = tuple(
            AnnotatedFrame(f"phantom {example_index // FRAMES_PER_SCENE}", example_index, f"phantom/{example_index}", SIZE)
            for example_index in range(frame_count)
        )
        self._labels: list[np.ndarray] = []
        self._embeddings: list[np.ndarray] = []

    def prepare(self, model: SurgicalSAM) -> Generator[int, None, None]:
        """Generate and embed every frame; yields the number of finished frames."""
        lookup = np.zeros(256, np.uint8)
        lookup[list(self._ids)] = list(self._ids.values())
        for frame in self.frames:
            scene = PhantomScene(FIRST_SEED + frame.frame_index // FRAMES_PER_SCENE, SIZE, frame_count=96)
            phantom_frame = scene.frame(32 + 32 * (frame.frame_index % FRAMES_PER_SCENE))
            self._labels.append(lookup[phantom_frame.labels])
            self._embeddings.append(model.embed([phantom_frame.image])[0])
            yield len(self._labels)

    def label_map(self, example_index: int, version: int = 0) -> np.ndarray:
        """(H, W) uint8"""
        return self._labels[example_index]

    def known_class_ids(self, example_index: int) -> frozenset[int]:
        """All classes: a class that the phantom does not show is absent."""
        return frozenset(self.classes.ids)

    def present_class_ids(self, example_index: int) -> tuple[int, ...]:
        """The classes in the frame."""
        return tuple(value for value in np.unique(self._labels[example_index]).tolist() if value)

    def embeddings(self, example_indices: Sequence[int], version: int, model: SurgicalSAM) -> np.ndarray:
        """(B, D, h, w) float16"""
        return np.stack([self._embeddings[example_index] for example_index in example_indices])
