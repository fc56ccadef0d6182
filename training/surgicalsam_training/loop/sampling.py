"""Choose and prepare the prompts of each step; seed and epoch alone decide, so that a run can be resumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.mask_decoder import in_token_order
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_training.config import TrainingConfig
from surgicalsam_training.data.training_data import TrainingData
from surgicalsam_training.loop.prompts import ClassPairs, PromptBatch, class_embedding, mask_target, nearest_embedding
from surgicalsam_training.loop.rehearsal import PhantomRehearsal

CACHE_BYTES = 512 * 2**20  # cache of prepared frames: a few corrected frames are read only once
REHEARSED_SHARE = 0.5  # rehearsed prompts for present classes, and as many for absent ones, per present class of the data
FRAMES_FOR_A_MEAN = 64  # frames per class, spread over all that show it


@dataclass(frozen=True)
class Prompt:
    """A class that is prompted in a frame.

    Attributes
    ----------
    example_index : in the data, or in the rehearsal
    is_rehearsed : whether the example is one of the rehearsal's
    weight : 0 for a prompt that only fills a step of several processes
    """

    example_index: int
    class_id: int
    is_rehearsed: bool = False
    weight: float = 1.0


@dataclass(frozen=True)
class ReadyPrompt:
    """A prompt with the data for the losses.

    Attributes
    ----------
    embedding : (D, h, w), as it is stored
    is_present : whether the class is in the frame
    class_embedding : None if the class is absent, or its mask too small for a cell of the grid
    """

    embedding: Tensor
    row: int
    target: Tensor
    geometry: FrameGeometry
    is_present: bool
    class_embedding: Tensor | None
    weight: float


class PromptSampler:
    """The steps of an epoch: shuffled prompts for present classes, and some prompts for absent classes.

    Parameters
    ----------
    example_indices : to train on
    rehearsal : synthetic frames to mix in, without augmentation
    """

    def __init__(
        self,
        data: TrainingData | PhantomRehearsal,
        example_indices: Sequence[int],
        model: SurgicalSAM,
        config: TrainingConfig,
        rehearsal: PhantomRehearsal | None = None,
    ) -> None:
        self.data, self.model, self.config = data, model, config
        self.rehearsed: PromptSampler | None = None
        if rehearsal is not None:
            self.rehearsed = PromptSampler(rehearsal, range(len(rehearsal.frames)), model, config)
        present: list[Prompt] = []
        absent: list[Prompt] = []
        for example_index in example_indices:
            present_ids = set(data.present_class_ids(example_index))
            for class_id in sorted(data.known_class_ids(example_index)):
                (present if class_id in present_ids else absent).append(Prompt(example_index, class_id))
        self.present, self.absent = present, absent
        size = self._bytes_per_frame(example_indices)
        self._ready = lru_cache(maxsize=max(CACHE_BYTES // size, 1))(self._read)

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.present) // self.config.batch_size)

    def version(self, epoch: int) -> int:
        """The version of the frames in an epoch (from 0): the original frames (version 0) in every second epoch."""
        versions = augmented_versions(self.data, self.config)
        return 0 if epoch % 2 == 0 or not versions else epoch // 2 % versions + 1

    def steps(self, epoch: int) -> list[list[Prompt]]:
        """The prompts of every step of this epoch, for all processes together."""
        rng = np.random.default_rng((self.config.seed, epoch))
        order = [self.present[prompt_index] for prompt_index in rng.permutation(len(self.present))]
        size = self.config.batch_size
        steps = [order[start : start + size] for start in range(0, len(order), size)]
        for step in steps:
            shown = len(step)
            step += self._sampled(self.absent, self.config.absent_share * shown * bool(self.config.presence_weight), rng)
            if self.rehearsed is not None:
                for prompts in (self.rehearsed.present, self.rehearsed.absent):
                    sampled = self._sampled(prompts, REHEARSED_SHARE * shown, rng)
                    step += [replace(prompt, is_rehearsed=True) for prompt in sampled]
        return steps

    @staticmethod
    def _sampled(prompts: Sequence[Prompt], count: float, rng: np.random.Generator) -> list[Prompt]:
        """A random sample of `count` prompts, rounded, without repetition."""
        return [prompts[prompt_index] for prompt_index in rng.permutation(len(prompts))[: round(count)]]

    def ready(self, prompt: Prompt, version: int) -> ReadyPrompt:
        """A prompt with its frame's embedding and its mask."""
        if prompt.is_rehearsed and self.rehearsed is not None:
            return self.rehearsed.ready(replace(prompt, is_rehearsed=False), 0)
        embedding, targets, class_embeddings, geometry = self._ready(prompt.example_index, version)
        row = self.data.classes.ids.index(prompt.class_id)
        is_present = prompt.class_id in targets
        target = targets[prompt.class_id if is_present else 0]
        mean_embedding = class_embeddings.get(prompt.class_id)
        return ReadyPrompt(torch.from_numpy(embedding), row, target, geometry, is_present, mean_embedding, prompt.weight)

    def nearest_embedding(self, prompt: Prompt) -> Tensor:
        """(D,): the embedding of the cell at the centre of a prompt's mask, for a class whose masks are all tiny."""
        ready = self.ready(prompt, 0)
        mask = self.data.label_map(prompt.example_index, 0) == prompt.class_id
        return nearest_embedding(ready.embedding.float(), mask, ready.geometry)

    def _read(
        self, example_index: int, version: int
    ) -> tuple[np.ndarray, dict[int, Tensor], dict[int, Tensor], FrameGeometry]:
        """Embedding, targets by class id (0: target of an absent class), class embeddings, geometry."""
        is_online = bool(version) and self.config.augmentation == "online"
        if is_online and isinstance(self.data, TrainingData):
            embedding, label_map = self.data.augmented_online(example_index, version, self.model)
        else:
            embedding = self.data.embeddings([example_index], version, self.model)[0]
            label_map = self.data.label_map(example_index, version)
        embedding = embedding[: self.model.decoder_dim]
        geometry = FrameGeometry(label_map.shape, self.model.input_size)
        side = 4 * self.model.embedding_shape[1]
        full = torch.from_numpy(embedding).float()
        targets = {0: mask_target(np.zeros(label_map.shape, bool), geometry, self.config, side)}
        class_embeddings: dict[int, Tensor] = {}
        known = self.data.known_class_ids(example_index)
        for class_id in np.unique(label_map).tolist():
            if class_id in known:
                mask = label_map == class_id
                targets[class_id] = mask_target(mask, geometry, self.config, side)
                mean_embedding = class_embedding(full, mask, geometry)
                if not is_online:
                    stored = self.data.stored_class_embedding(example_index, version, class_id, self.model)
                    mean_embedding = mean_embedding if stored is None else torch.from_numpy(stored).float()
                if mean_embedding is not None:
                    class_embeddings[class_id] = mean_embedding
        return embedding, targets, class_embeddings, geometry

    def _bytes_per_frame(self, example_indices: Sequence[int]) -> int:
        embedding = 4 * int(np.prod(self.model.embedding_shape))
        largest = max((int(np.prod(self.data.frames[example_index].size)) for example_index in example_indices), default=0)
        logits = 4 * (4 * self.model.embedding_shape[1]) ** 2
        return embedding + 4 * (largest if self.config.loss_resolution == "frame" else logits)


def augmented_versions(data: TrainingData | PhantomRehearsal, config: TrainingConfig) -> int:
    """The number of augmented copies in use: as configured, or fewer if the data bring fewer."""
    if data.versions_available is None or config.augmentation == "online":
        return config.augmented_versions
    return min(config.augmented_versions, data.versions_available)


def collate(ready: Sequence[ReadyPrompt], device: torch.device) -> PromptBatch:
    """Stack prompts into one batch on the device."""
    return PromptBatch(
        in_token_order(torch.stack([prompt.embedding for prompt in ready]).to(device).float()),
        torch.tensor([prompt.row for prompt in ready], device=device),
        tuple(prompt.target for prompt in ready),
        tuple(prompt.geometry for prompt in ready),
        torch.tensor([prompt.is_present for prompt in ready], device=device),
        torch.tensor([prompt.weight for prompt in ready], device=device),
    )


def class_pairs(ready: Sequence[ReadyPrompt], device: torch.device) -> ClassPairs:
    """The class embeddings of the prompts that have one."""
    with_class = [prompt for prompt in ready if prompt.class_embedding is not None and prompt.weight]
    dim = ready[0].embedding.shape[0]
    embeddings = [prompt.class_embedding for prompt in with_class if prompt.class_embedding is not None]
    stacked = torch.stack(embeddings) if embeddings else torch.zeros(0, dim)
    return ClassPairs(
        stacked.to(device), torch.tensor([prompt.row for prompt in with_class], dtype=torch.long, device=device)
    )


def mean_class_embeddings(
    sampler: PromptSampler, class_ids: Sequence[int], most_frames: int | None = FRAMES_FOR_A_MEAN
) -> dict[int, Tensor]:
    """Starting values of prototypes: by class id, the mean class embedding (D,) over training frames.

    A class that no training frame shows is left out.

    Parameters
    ----------
    most_frames : frames per class, spread over all that show it; None takes all
    """
    means = {}
    for class_id in class_ids:
        shown = [prompt for prompt in sampler.present if prompt.class_id == class_id]
        step = 1 if most_frames is None else -(-len(shown) // most_frames) or 1
        read = [sampler.ready(prompt, 0).class_embedding for prompt in shown[::step]]
        class_embeddings = [embedding for embedding in read if embedding is not None]
        if not class_embeddings:
            class_embeddings = [sampler.nearest_embedding(prompt) for prompt in shown[::step]]
        if class_embeddings:
            means[class_id] = torch.stack(class_embeddings).mean(0)
    return means
