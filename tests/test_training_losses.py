"""The losses and steps of training, against the numbers of the authors' code and against themselves."""

from __future__ import annotations

import json
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
from surgicalsam_training.loop.prompts import ClassPairs, PromptBatch, PromptLosses, StepCounts, class_embedding, mask_target
from surgicalsam_training.loop.tuning import unfreeze

FULL_HD = FrameGeometry((1024, 1280), 1024)
PAPER = TrainingConfig(presence_weight=0)


@pytest.fixture(scope="module")
def reference(shared_folder: Path) -> dict[str, np.ndarray]:
    folder = shared_folder / "reference"
    with np.load(folder / "training.npz") as file, np.load(folder / "inference.npz") as inference:
        return {**file, "image_embeddings": inference["image_embeddings"]}


@pytest.fixture
def reference_model(shared_folder: Path) -> SurgicalSAM:
    folder = shared_folder / "reference"
    weights = folder / "sam_prompt_encoder.pth"
    path = folder / "model_ckp.pth"
    return load_checkpoint(path, encoder_weights=weights, classes=ENDOVIS2018, load_image_encoder=False, device="cpu")


def reference_batch(reference: dict[str, np.ndarray]) -> PromptBatch:
    embeddings = torch.from_numpy(reference["image_embeddings"]).float().permute(0, 3, 1, 2)[reference["frame_index"]]
    masks = np.unpackbits(reference["masks"], axis=-1).astype(bool).reshape(-1, 1024, 1280)
    rows = torch.from_numpy(reference["class_ids"]).long() - 1
    targets = tuple(mask_target(mask, FULL_HD, PAPER, 256) for mask in masks)
    return PromptBatch(embeddings, rows, targets, (FULL_HD,) * 4, torch.ones(4, dtype=torch.bool), torch.ones(4))


def test_class_embeddings_equal_the_reference(reference: dict[str, np.ndarray]) -> None:
    batch = reference_batch(reference)
    found = [
        class_embedding(embedding, target.bool().numpy(), FULL_HD)
        for embedding, target in zip(batch.embeddings, batch.targets, strict=True)
    ]
    np.testing.assert_allclose(torch.stack(found).numpy(), reference["class_embeddings"], atol=1e-5)


def test_the_parameters_of_the_paper_are_tunable_and_no_others(reference_model: SurgicalSAM) -> None:
    parameters = unfreeze(reference_model, PAPER)
    assert sum(parameter.numel() for parameter in parameters) == 4_650_726
    assert not any(weight.requires_grad for weight in reference_model.class_prompt_encoder.pn_cls_embeddings.parameters())
    assert not any(weight.requires_grad for weight in reference_model.prompt_encoder.parameters())


def test_five_adam_steps_equal_the_reference(
    reference: dict[str, np.ndarray], reference_model: SurgicalSAM, shared_folder: Path
) -> None:
    norms = json.loads((shared_folder / "reference/expected.json").read_text())["gradient_norms_step_0"]
    optimizer = torch.optim.Adam(unfreeze(reference_model, PAPER), PAPER.learning_rate, weight_decay=PAPER.weight_decay)
    losses = PromptLosses(reference_model, PAPER).train()
    batch = reference_batch(reference)
    pairs = ClassPairs(torch.from_numpy(reference["class_embeddings"]), batch.rows)
    for step, expected in enumerate(reference["losses"]):
        terms = losses(batch, StepCounts(4, 4), pairs)
        total = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad()
        total.backward()
        np.testing.assert_allclose([terms["dice"].item(), terms["contrastive"].item(), total.item()], expected, rtol=1e-4)
        if step == 0:
            parts = (losses.prototypes, losses.class_prompt_encoder, losses.mask_decoder)
            found = [
                torch.stack([weight.grad.norm() for weight in part.parameters() if weight.grad is not None]).norm().item()
                for part in parts
            ]
            np.testing.assert_allclose(found, list(norms.values()), rtol=1e-3)
        optimizer.step()


def test_a_class_too_thin_for_the_grid_has_the_embedding_of_its_place() -> None:
    embedding = torch.arange(4.0).view(1, 2, 2)
    mask = np.zeros((64, 64), bool)
    mask[60, 60] = True
    assert class_embedding(embedding, mask, FrameGeometry((64, 64), 64)).item() == 3.0


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
    (found,) = torch.autograd.grad(in_one_pass @ weights, logits)
    torch.testing.assert_close(found, expected, atol=1e-8, rtol=1e-3)
