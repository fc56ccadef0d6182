"""PerSAM-F: PerSAM with two learnt weights for the decoder's three masks (Zhang et al., arXiv 2305.03048, section 3.3).

SAM answers a point with masks at three scales: whole, part and subpart. The scale of the class is learnt on one example: the
mask is w1 M1 + w2 M2 + (1 - w1 - w2) M3, in logits, and all of SAM is frozen. Attention and tokens are SAM's own here. The
bundled weights were never trained for three masks; with them, the result says nothing about the method.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_training.baselines.answers import frame_embedding, frame_geometry, grid_share, merged, videos
from surgicalsam_training.baselines.persam import Example, first_frames, learn_examples, location_prior, refined
from surgicalsam_training.baselines.sam_decoding import decode_scales
from surgicalsam_training.data.training_data import TrainingData
from surgicalsam_training.loop.losses import dice_losses
from surgicalsam_training.scoring.protocol import Asked

STEPS = 1000
LEARNING_RATE = 1e-3
FOCAL_GAMMA, FOCAL_ALPHA = 2.0, 0.25


@dataclass(frozen=True)
class TunedExample:
    """An example and the weights learnt on it.

    Attributes
    ----------
    scale_weights : (3,), for whole, part and subpart; their sum is 1
    """

    example: Example
    scale_weights: Tensor


@dataclass(frozen=True)
class TuningReport:
    """One class was tuned: `done` of `total`."""

    class_id: int
    tuned: TunedExample
    done: int
    total: int


def learn_scale_weights(
    scale_logits: Tensor, target: Tensor, steps: int = STEPS, learning_rate: float = LEARNING_RATE
) -> Tensor:
    """Fit the weights of the three masks to the target, by dice and focal loss; each weight starts at a third.

    Parameters
    ----------
    scale_logits : (3, h, w)
    target : (h, w), 0 to 1

    Returns
    -------
    (3,); the third is 1 minus the two others
    """
    scale_logits, target = scale_logits.detach().clone(), target.to(scale_logits.device)  # no inference tensors
    with torch.inference_mode(False), torch.enable_grad():
        free = nn.Parameter(torch.full((2,), 1 / 3, device=scale_logits.device))
        optimizer = torch.optim.AdamW([free], learning_rate, weight_decay=0)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
        for _ in range(steps):
            logits = weighted(scale_logits, _all_three(free))
            loss = dice_losses(logits[None], target[None]).mean() + focal_loss(logits, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        return _all_three(free).detach()


def _all_three(free: Tensor) -> Tensor:
    return torch.cat([free, 1 - free.sum(dim=0, keepdim=True)])


def weighted(scale_logits: Tensor, scale_weights: Tensor) -> Tensor:
    """(h, w): the sum of the masks (3, h, w), weighted by (3,)."""
    return torch.einsum("shw,s->hw", scale_logits, scale_weights)


def focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of the pixels, with low weights for correct pixels (Lin et al., ICCV 2017)."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    probability = logits.sigmoid()
    wrong = probability + target - 2 * probability * target
    balance = FOCAL_ALPHA * target + (1 - FOCAL_ALPHA) * (1 - target)
    return (balance * wrong**FOCAL_GAMMA * cross_entropy).mean()


def tune_examples(
    model: SurgicalSAM,
    reference: TrainingData,
    examples: Mapping[int, Example],
    steps: int = STEPS,
    learning_rate: float = LEARNING_RATE,
) -> Generator[TuningReport, None, None]:
    """Learn the scale weights of each class on its example."""
    for done, (class_id, example) in enumerate(examples.items(), 1):
        embedding = frame_embedding(model, reference, example.example_index).to(model.device, torch.float32)
        geometry = frame_geometry(model, reference, example.example_index)
        prior = location_prior(embedding, example, geometry)
        scales = decode_scales(model, embedding, prior.points, prior.marks)
        target = grid_share(
            reference.label_map(example.example_index) == class_id, geometry, scales.low_res_logits.shape[-1]
        )
        height, width = (-(-length * len(target) // geometry.input_size) for length in geometry.resized_size)
        with torch.inference_mode(False):  # without the padding
            logits = scales.low_res_logits[1:, :height, :width].clone()
        weights = learn_scale_weights(logits, target[:height, :width], steps, learning_rate)
        yield TuningReport(class_id, TunedExample(example, weights), done, len(examples))


def predict_persam_f(
    model: SurgicalSAM,
    data: TrainingData,
    example_indices: Sequence[int],
    asked: Asked,
    *,
    tuned: Mapping[int, TunedExample],
) -> Iterator[tuple[int, np.ndarray]]:
    """PerSAM-F.

    Parameters
    ----------
    tuned : by class id, as `tune_examples` reports them; a class without one gets no mask
    """
    for example_index in example_indices:
        embedding = frame_embedding(model, data, example_index).to(model.device, torch.float32)
        geometry = frame_geometry(model, data, example_index)
        answers = {}
        for class_id in asked(example_index):
            if class_id in tuned:
                prior = location_prior(embedding, tuned[class_id].example, geometry)
                scales = decode_scales(model, embedding, prior.points, prior.marks)
                logits = weighted(scales.low_res_logits[1:], tuned[class_id].scale_weights)
                answers[class_id] = refined(model, embedding, prior, logits)
        yield example_index, merged(answers, geometry)


def tune_in_videos(
    model: SurgicalSAM, data: TrainingData, example_indices: Sequence[int], steps: int = STEPS
) -> Iterator[tuple[list[int], dict[int, TunedExample]]]:
    """The frames of each video, and what is learnt by class id from the first frame of the video that shows the class."""
    for video in videos(data, example_indices):
        examples = learn_examples(model, data, list(first_frames(data, video)), video)
        yield video, {report.class_id: report.tuned for report in tune_examples(model, data, examples, steps)}


def predict_persam_f_in_videos(
    model: SurgicalSAM, data: TrainingData, example_indices: Sequence[int], asked: Asked, *, steps: int = STEPS
) -> Iterator[tuple[int, np.ndarray]]:
    """PerSAM-F with the examples of `persam.predict_persam_in_videos`; the weights are learnt for each video and class."""
    for video, tuned in tune_in_videos(model, data, example_indices, steps):
        yield from predict_persam_f(model, data, video, asked, tuned=tuned)
