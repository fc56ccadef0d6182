"""The losses, class embeddings and metrics of the authors' own code (tests/reference/README.md), reproduced."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import inputs
from reference.cases import EDGE, FRAME, HERE, edge_cases, load, load_model, painted
from torch import Tensor

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_training.config import TrainingConfig
from surgicalsam_training.loop.losses import dice_losses, frame_dice_losses, prototype_contrastive_loss
from surgicalsam_training.loop.prompts import ClassPairs, PromptBatch, PromptLosses, StepCounts, class_embedding, mask_target
from surgicalsam_training.loop.tuning import unfreeze
from surgicalsam_training.scoring.metrics import Metrics, evaluate_label_maps

PAPER = TrainingConfig(presence_weight=0)


# Class embeddings ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def batch() -> PromptBatch:
    """The batch of training.npz."""
    training = load("training")
    masks = np.unpackbits(training["masks"], axis=-1).astype(bool)
    targets = tuple(mask_target(mask, FRAME, PAPER, 256) for mask in masks)
    rows = torch.from_numpy(training["class_ids"]).long() - 1
    images = inputs.image_embeddings()[training["frame_index"]]
    return PromptBatch(images, rows, targets, (FRAME,) * 4, torch.ones(4, dtype=torch.bool), torch.ones(4))


def our_class_embeddings(batch: PromptBatch) -> Tensor:
    prompts = zip(batch.embeddings, batch.targets, strict=True)
    found = [class_embedding(embedding, target.bool().numpy(), FRAME) for embedding, target in prompts]
    return torch.stack([embedding for embedding in found if embedding is not None])


def test_class_embeddings_match_the_reference(batch: PromptBatch) -> None:
    expected = load("training")["class_embeddings"]
    np.testing.assert_allclose(our_class_embeddings(batch), expected, rtol=0, atol=1e-6)


def test_the_contrastive_loss_with_our_class_embeddings_matches(authors_folder: Path, batch: PromptBatch) -> None:
    loss = prototype_contrastive_loss(load_model(authors_folder).prototypes(), our_class_embeddings(batch), batch.rows)
    assert loss.item() == pytest.approx(load("training")["losses"][0, 1], rel=1e-4)


@pytest.mark.parametrize("case", edge_cases("class_embedding_cells"))
def test_a_class_embedding_is_of_the_cells_of_the_reference(case: dict) -> None:
    mask = painted(case["mask"], bool)
    expected = np.zeros((64, 64), bool)
    for row, first, end in case["runs"]:
        expected[row, first:end] = True
    mean = class_embedding(torch.eye(64 * 64).unflatten(1, (64, 64)), mask, FrameGeometry(mask.shape))
    cells = np.zeros((64, 64), bool) if mean is None else (mean > 0).numpy().reshape(64, 64)
    np.testing.assert_array_equal(cells, expected)


# Losses --------------------------------------------------------------------------------------------------------------


def dice(case: dict) -> tuple[Tensor, Tensor]:
    """The loss of a case, and the norm of its gradient; logits of 256 x 256 belong to the padded square."""
    logits = torch.from_numpy(painted(case["logits"], np.float32))[None].requires_grad_()
    mask = torch.from_numpy(painted(case["mask"], np.uint8))[None]
    is_low_res = logits.shape[-1] == 256
    loss = (frame_dice_losses(logits, mask.unbind(), FRAME) if is_low_res else dice_losses(logits, mask.float())).mean()
    (gradient,) = torch.autograd.grad(loss, logits)
    return loss, gradient.double().norm()


@pytest.mark.parametrize("case", edge_cases("dice"))
def test_dice_matches_the_reference(case: dict) -> None:
    loss, gradient_norm = dice(case)
    assert loss.item() == pytest.approx(case["dice_loss"], abs=1e-6)
    assert loss.item() == pytest.approx(case["dice_loss_float64"], abs=1e-6)
    assert gradient_norm.item() == pytest.approx(case["gradient_norm_float64"], rel=1e-3, abs=1e-9)


def test_dice_of_a_batch_matches_the_reference() -> None:
    cases = {case["case"]: case for case in EDGE["dice"]}
    chosen = [cases[name] for name in EDGE["dice_batch"]["cases"]]
    logits, masks = (
        torch.from_numpy(np.stack([painted(case[name], np.float32) for case in chosen])) for name in ("logits", "mask")
    )
    assert dice_losses(logits, masks).mean().item() == pytest.approx(EDGE["dice_batch"]["dice_loss"], abs=1e-6)


def test_five_adam_steps_match_the_reference(authors_folder: Path, batch: PromptBatch) -> None:
    training, model = load("training"), load_model(authors_folder)
    norms = json.loads((HERE / "expected.json").read_text())["gradient_norms_step_0"]
    optimizer = torch.optim.Adam(unfreeze(model, PAPER), PAPER.learning_rate, weight_decay=PAPER.weight_decay)
    losses = PromptLosses(model, PAPER).train()
    pairs = ClassPairs(torch.from_numpy(training["class_embeddings"]), batch.rows)
    for step, expected in enumerate(training["losses"]):
        terms = losses(batch, StepCounts(4, 4), pairs)
        total = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad()
        total.backward()
        np.testing.assert_allclose([terms["dice"].item(), terms["contrastive"].item(), total.item()], expected, rtol=1e-4)
        if step == 0:
            parts = (losses.prototypes, losses.class_prompt_encoder, losses.mask_decoder)
            gradients = ([weight.grad for weight in part.parameters() if weight.grad is not None] for part in parts)
            part_norms = [torch.stack([gradient.norm() for gradient in part]).norm().item() for part in gradients]
            np.testing.assert_allclose(part_norms, list(norms.values()), rtol=1e-3)
        optimizer.step()


# Metrics -------------------------------------------------------------------------------------------------------------


def authors_scores(metrics: Metrics) -> dict:
    """The metrics under the authors' names; None is NaN."""
    scores = {
        "challengIoU": metrics.challenge_iou,
        "IoU": metrics.iou,
        "mcIoU": metrics.mean_class_iou,
        "mIoU": metrics.overall_iou,
        "cIoU_per_class": [*metrics.class_iou.values()],
    }
    return json.loads(json.dumps(scores), parse_constant=lambda _: None)


def rounded(scores: dict) -> dict:
    def three_decimals(value: float | None) -> float | None:
        return None if value is None else round(value, 3)

    return {
        name: [*map(three_decimals, value)] if isinstance(value, list) else three_decimals(value)
        for name, value in scores.items()
    }


def test_metrics_match_the_reference() -> None:
    maps = load("metrics")
    metrics = evaluate_label_maps(zip(maps["predictions"], maps["ground_truth"], strict=True), ENDOVIS2018.ids)
    assert rounded(authors_scores(metrics)) == json.loads((HERE / "expected.json").read_text())["metrics"]


@pytest.mark.parametrize("case", edge_cases("metrics"))
def test_metrics_of_rare_frames_match_the_reference(case: dict) -> None:
    pairs = [(painted(frame["prediction"], np.uint8), painted(frame["ground_truth"], np.uint8)) for frame in case["frames"]]
    assert rounded(authors_scores(evaluate_label_maps(pairs, ENDOVIS2018.ids))) == case["metrics"]
