"""Properties of the losses; comparisons with the authors' code are in test_reference_training.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_training.config import TrainingConfig
from surgicalsam_training.loop.losses import dice_losses, frame_dice_losses, prototype_contrastive_loss
from surgicalsam_training.loop.prompts import (
    PromptBatch,
    PromptLosses,
    StepCounts,
    class_embedding,
    mask_target,
    nearest_embedding,
)
from surgicalsam_training.loop.tuning import unfreeze


def test_only_the_parameters_of_the_paper_are_tunable(authors_folder: Path) -> None:
    model = load_checkpoint(
        authors_folder / "model_ckp.pth",
        encoder_weights=authors_folder / "sam_prompt_encoder.pth",
        classes=ENDOVIS2018,
        load_image_encoder=False,
        device="cpu",
    )
    parameters = unfreeze(model, TrainingConfig(presence_weight=0))
    assert sum(parameter.numel() for parameter in parameters) == 4_650_726
    assert not any(weight.requires_grad for weight in model.class_prompt_encoder.pn_cls_embeddings.parameters())
    assert not any(weight.requires_grad for weight in model.prompt_encoder.parameters())


def test_a_class_too_thin_for_the_grid_has_no_class_embedding_but_the_one_of_its_cell() -> None:
    embedding, geometry = torch.arange(4.0).view(1, 2, 2), FrameGeometry((64, 64), 64)
    mask = np.zeros((64, 64), bool)
    mask[60, 60] = True
    assert class_embedding(embedding, mask, geometry) is None
    assert nearest_embedding(embedding, mask, geometry).item() == 3.0


def test_the_target_at_the_logits_size_is_the_covered_share() -> None:
    mask = np.zeros((96, 128), bool)
    mask[:48, :64] = True
    config = TrainingConfig(loss_resolution="logits")
    target = mask_target(mask, FrameGeometry((96, 128), 256), config, 128)
    assert target.shape == (96, 128)
    assert target.mean().item() == pytest.approx(0.25)


def test_a_batch_of_absent_classes_has_no_mask_loss(tiny_model: SurgicalSAM) -> None:
    geometry = FrameGeometry((96, 128), tiny_model.input_size)
    target = mask_target(np.zeros((96, 128), bool), geometry, TrainingConfig(), 128)
    rows = torch.tensor([0, 1])
    batch = PromptBatch(
        torch.randn(2, *tiny_model.embedding_shape), rows, (target,) * 2, (geometry,) * 2, rows > 5, rows * 0.0 + 1
    )
    terms = PromptLosses(tiny_model, TrainingConfig())(batch, StepCounts(1, 2))
    assert terms["dice"].item() == 0
    assert terms["presence"].item() > 0


def test_contrastive_loss_of_a_step_without_pairs_is_zero() -> None:
    loss = prototype_contrastive_loss(torch.randn(3, 4), torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    assert loss.item() == 0


@pytest.mark.parametrize("size", [(96, 128), (128, 96), (301, 200)])
def test_dice_in_one_pass_equals_dice_at_the_size_of_the_frame(size: tuple[int, int]) -> None:
    geometry = FrameGeometry(size, 256)
    generator = torch.Generator().manual_seed(0)
    logits = (4 * torch.randn(3, 64, 64, generator=generator)).requires_grad_()
    masks = [torch.zeros(size, dtype=torch.uint8), *(torch.rand(2, *size, generator=generator) > 0.6).byte()]
    weights = torch.tensor([1.0, 2.0, 0.5])
    at_frame_size = dice_losses(geometry.to_frame(logits), torch.stack(masks).float())
    in_one_pass = frame_dice_losses(logits, masks, geometry)
    torch.testing.assert_close(in_one_pass, at_frame_size)
    (expected,) = torch.autograd.grad(at_frame_size @ weights, logits)
    (gradient,) = torch.autograd.grad(in_one_pass @ weights, logits)
    torch.testing.assert_close(gradient, expected, atol=1e-8, rtol=1e-3)
