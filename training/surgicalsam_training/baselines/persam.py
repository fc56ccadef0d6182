"""PerSAM: segment a class with SAM from a single example, without training (Zhang et al., arXiv 2305.03048).

The example is the first frame that shows the class: of the same video, as in SurgicalSAM's paper (section 8.3), or of other
reference data. The similarity of each position of a new frame to
the class in the example shows where the class may be: the most similar position is a positive point, the least similar a
negative one. The similarity also biases the decoder's attention, and the mean embedding of the class is added to its tokens.
The mask is then refined twice: first the mask, then the mask and its box are prompts of the decoder.

Every asked class gets a mask: PerSAM cannot predict that a class is absent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.surgical_sam import PromptedMask, SurgicalSAM
from surgicalsam_training.baselines.answers import frame_embedding, frame_geometry, grid_share, merged, videos
from surgicalsam_training.baselines.sam_decoding import ScaleMasks, Target, decode_scales, has_three_scales
from surgicalsam_training.data.training_data import TrainingData
from surgicalsam_training.scoring.protocol import Asked

ATTENTION_WEIGHT = 1.0  # alpha of the paper's equation 6


@dataclass(frozen=True)
class Example:
    """The appearance of a class in one frame.

    Attributes
    ----------
    example_index : in the reference data
    appearance : (D,), mean of the unit embeddings inside the mask; its product with a unit embedding is the mean cosine
    semantics : (D,), mean embedding inside the mask
    """

    example_index: int
    appearance: Tensor
    semantics: Tensor


@dataclass(frozen=True)
class LocationPrior:
    """
    Attributes
    ----------
    similarity : (h, w), mean cosine with the class's embeddings in the example
    points : (2, 2), x and y in the padded square of the most and the least similar position
    marks : (2,), 1 and 0
    """

    similarity: Tensor
    points: Tensor
    marks: Tensor


def first_frames(data: TrainingData, example_indices: Sequence[int] | None = None) -> dict[int, int]:
    """By class id, the first frame that shows the class (in the order of sequences and their frames)."""
    first: dict[int, int] = {}
    for example_index in range(len(data.frames)) if example_indices is None else example_indices:
        for class_id in data.present_class_ids(example_index):
            first.setdefault(class_id, example_index)
    return first


def learn_examples(
    model: SurgicalSAM, reference: TrainingData, class_ids: Sequence[int], example_indices: Sequence[int] | None = None
) -> dict[int, Example]:
    """The example of each class.

    Parameters
    ----------
    reference : training data with the embeddings of `first_frames` (`TrainingData.embed`)
    example_indices : frames of the reference; the first one with the class is used; None for all frames

    Raises
    ------
    TrainingError
        a class is in no frame of the reference
    """
    first = first_frames(reference, example_indices)
    missing = [reference.classes.by_id(class_id).name for class_id in class_ids if class_id not in first]
    if missing:
        raise TrainingError(
            f"PerSAM needs a reference frame of every class; none shows {', '.join(missing)}. Give other reference data."
        )
    return {class_id: learn_example(model, reference, first[class_id], class_id) for class_id in class_ids}


def learn_example(model: SurgicalSAM, reference: TrainingData, example_index: int, class_id: int) -> Example:
    """The example of a class in this frame."""
    embedding = frame_embedding(model, reference, example_index).to(model.device, torch.float32)
    mask = reference.label_map(example_index) == class_id
    covered = embedding[
        :, covered_cells(mask, frame_geometry(model, reference, example_index), embedding.shape[-1])
    ]  # (D, n)
    return Example(example_index, F.normalize(covered, dim=0).mean(1), covered.mean(1))


def covered_cells(mask: np.ndarray, geometry: FrameGeometry, side: int) -> Tensor:
    """(side, side) bool: the cells of the embedding's grid that the mask covers by half; if none, the most covered ones."""
    share = grid_share(mask, geometry, side)
    return share >= min(0.5, float(share.max()))


def location_prior(embedding: Tensor, example: Example, geometry: FrameGeometry) -> LocationPrior:
    """Where the class may be in a new frame (Zhang et al., equations 1 to 4).

    Parameters
    ----------
    embedding : (D, h, w)
    """
    similarity = torch.einsum("dhw,d->hw", F.normalize(embedding, dim=0), example.appearance)
    cell = geometry.input_size / similarity.shape[-1]
    rows, columns = (max(int(length / cell), 1) for length in geometry.resized_size)  # without the padding
    shown = similarity[:rows, :columns].flatten()
    chosen = torch.stack([shown.argmax(), shown.argmin()])
    points = (torch.stack([chosen % columns, chosen // columns], dim=1) + 0.5) * cell
    return LocationPrior(similarity, points, torch.tensor([1, 0]))


def target_of(prior: LocationPrior, example: Example, attention_weight: float = ATTENTION_WEIGHT) -> Target:
    """Target-guided attention and target-semantic prompting (equations 6 and 7).

    The paper uses a softmax of the similarity, which has almost no effect over thousands of positions. As in the authors'
    code, the similarity is standardised and mapped to 0 to 1 by a sigmoid.
    """
    similarity = prior.similarity.flatten()
    standardised = (similarity - similarity.mean()) / similarity.std().clamp(min=1e-6)
    return Target(attention_weight * standardised.sigmoid(), example.semantics)


def answer(
    model: SurgicalSAM,
    embedding: Tensor,
    example: Example,
    geometry: FrameGeometry,
    *,
    attention_weight: float = ATTENTION_WEIGHT,
) -> PromptedMask:
    """PerSAM's mask of one class in one frame."""
    embedding = embedding.to(model.device, torch.float32)
    prior = location_prior(embedding, example, geometry)
    target = target_of(prior, example, attention_weight)
    scales = decode_scales(model, embedding, prior.points, prior.marks, target=target)
    return refined(model, embedding, prior, scales.low_res_logits[0])


def refined(model: SurgicalSAM, embedding: Tensor, prior: LocationPrior, low_res_logits: Tensor) -> PromptedMask:
    """Cascaded refinement: first prompt with the mask, then with the mask and its box; both with points, without target."""
    for boxed in (False, True):
        box = _box(low_res_logits, model) if boxed else None
        scales = decode_scales(model, embedding, prior.points, prior.marks, box, low_res_logits)
        best = best_scale(scales, has_three_scales(model))
        low_res_logits = scales.low_res_logits[best]
    return PromptedMask(low_res_logits, float(scales.predicted_iou[best]))


def best_scale(scales: ScaleMasks, three_scales: bool) -> int:
    """The index of the scale mask with the highest predicted IoU; the single mask if the three were never trained."""
    return int(scales.predicted_iou[1:].argmax()) + 1 if three_scales else 0


def _box(low_res_logits: Tensor, model: SurgicalSAM) -> Tensor | None:
    """(4,) around the mask in the padded square; None if the mask is empty."""
    rows, columns = (low_res_logits > 0).nonzero(as_tuple=True)
    if not len(rows):
        return None
    corners = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    return corners * model.input_size / low_res_logits.shape[-1]


def predict_persam(
    model: SurgicalSAM,
    data: TrainingData,
    example_indices: Sequence[int],
    asked: Asked,
    *,
    examples: Mapping[int, Example],
    attention_weight: float = ATTENTION_WEIGHT,
) -> Iterator[tuple[int, np.ndarray]]:
    """PerSAM without training.

    Parameters
    ----------
    examples : as `learn_examples` gives them; a class without one gets no mask
    """
    for example_index in example_indices:
        embedding, geometry = frame_embedding(model, data, example_index), frame_geometry(model, data, example_index)
        answers = {
            class_id: answer(model, embedding, examples[class_id], geometry, attention_weight=attention_weight)
            for class_id in asked(example_index)
            if class_id in examples
        }
        yield example_index, merged(answers, geometry)


def predict_persam_in_videos(
    model: SurgicalSAM, data: TrainingData, example_indices: Sequence[int], asked: Asked
) -> Iterator[tuple[int, np.ndarray]]:
    """PerSAM as SurgicalSAM's paper uses it: the example of a class is the first frame of the same video that shows it.

    The truth of that frame is used, in a frame that is scored, too. A class that the video never shows gets no mask.
    """
    for video in videos(data, example_indices):
        examples = learn_examples(model, data, list(first_frames(data, video)), video)
        yield from predict_persam(model, data, video, asked, examples=examples)
