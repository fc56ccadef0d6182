"""The corrected frames to learn from: their embeddings and targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.pixel_head import PixelHead
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_training.data.training_data import TrainingData
from surgicalsam_training.learn.fitting import fit
from surgicalsam_training.learn.targets import HeadTarget, head_target
from surgicalsam_training.loop.prompts import class_embedding, nearest_embedding

CACHE_BYTES = 1 << 30  # of embeddings in memory; with more frames they are read from the disk
FRAMES_FOR_SCALE = 32  # at most; the mean and the scale of the features are of these
FRAMES_FOR_A_MEAN = 16  # at most, for each prototype


class CorrectedFrames:
    """The embeddings and targets of the corrected frames.

    Attributes
    ----------
    classes : those that are learned
    visible : rows and columns of the embedding's grid that the frames cover
    """

    def __init__(self, data: TrainingData, classes: ClassSet, model: SurgicalSAM) -> None:
        self.data, self.classes, self.model = data, classes, model
        side = 2 * model.embedding_shape[1]
        self.targets = [self._target(example_index, model.input_size, side) for example_index in range(len(data.frames))]
        grid = model.embedding_shape[1:]
        visible = [FrameGeometry(frame.size, model.input_size).visible_grid(grid) for frame in data.frames]
        self.visible = max(rows for rows, _ in visible), max(columns for _, columns in visible)
        fits = len(data.frames) * 2 * int(np.prod(model.embedding_shape)) <= CACHE_BYTES
        self._cached = data.embeddings(range(len(data.frames)), 0, model) if fits else None

    def _target(self, example_index: int, input_size: int, side: int) -> HeadTarget:
        geometry = FrameGeometry(self.data.frames[example_index].size, input_size)
        known = self.data.known_class_ids(example_index)
        return head_target(self.data.label_map(example_index), self.classes.ids, known, geometry, side)

    def embeddings(self, example_indices: Sequence[int]) -> Tensor:
        """(B, D, h, w) float32 on the model's device."""
        if self._cached is not None:
            chosen = self._cached[list(example_indices)]
        else:
            chosen = self.data.embeddings(example_indices, 0, self.model)
        return torch.from_numpy(chosen).to(self.model.device, torch.float32)

    def new_head(self, seed: int) -> PixelHead:
        """A head with random weights."""
        torch.manual_seed(seed)
        spec = ENCODERS[self.model.encoder_id]
        return PixelHead(spec.decoder_dim, spec.pyramid, len(self.classes)).to(self.model.device)

    def prototypes(self) -> Tensor:
        """(C, D), the mean embedding inside each class's masks."""
        rows = []
        for class_id in self.classes.ids:
            shown = [i for i in range(len(self.data.frames)) if class_id in self.data.present_class_ids(i)]
            of_frames = [self._class_embedding(i, class_id) for i in shown[:FRAMES_FOR_A_MEAN]]
            rows.append(torch.stack(of_frames).mean(dim=0))
        return torch.stack(rows)

    def _class_embedding(self, example_index: int, class_id: int) -> Tensor:
        label_map = self.data.label_map(example_index)
        geometry = FrameGeometry(label_map.shape, self.model.input_size)
        embedding = self.embeddings([example_index])[0, : self.model.decoder_dim].cpu()
        mask = label_map == class_id
        mean = class_embedding(embedding, mask, geometry)
        return nearest_embedding(embedding, mask, geometry) if mean is None else mean

    def fit(self, head: PixelHead, example_indices: Sequence[int], steps: int, seed: int) -> Iterator[int]:
        """Fit the head to some of the frames; yields the number of steps done."""
        example_indices = list(example_indices)
        with torch.no_grad():
            spread = example_indices[:: -(-len(example_indices) // FRAMES_FOR_SCALE)]
            head.standardise(self.embeddings(spread))
        return fit(
            head,
            lambda positions: self.embeddings([example_indices[position] for position in positions]),
            [self.targets[example_index] for example_index in example_indices],
            visible=self.visible,
            steps=steps,
            seed=seed,
        )
