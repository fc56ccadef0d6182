"""Numbers from the authors' own code, reproduced. Skipped where they are not at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.surgical_sam import MaskPrediction, SurgicalSAM
from surgicalsam_napari.model.upsampling import label_map_of

ORIGINAL_SIZE = (1024, 1280)


@pytest.fixture(scope="module")
def reference(shared_folder: Path) -> dict[str, np.ndarray]:
    with np.load(shared_folder / "reference" / "inference.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def model(shared_folder: Path) -> SurgicalSAM:
    folder = shared_folder / "reference"
    return load_checkpoint(
        folder / "model_ckp.pth",
        encoder_weights=folder / "sam_prompt_encoder.pth",
        classes=ENDOVIS2018,
        load_image_encoder=False,
        device="cpu",
    )


@pytest.fixture(scope="module")
def embeddings(reference: dict[str, np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(reference["image_embeddings"]).float().permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def decoded(model: SurgicalSAM, embeddings: torch.Tensor) -> MaskPrediction:
    return model.decode(embeddings, ENDOVIS2018.ids)


def by_prompt(values: torch.Tensor, reference: dict[str, np.ndarray]) -> np.ndarray:
    """(frames, classes, …) in the order of the reference's prompts."""
    return values[reference["frame_index"], reference["class_ids"] - 1].numpy()


@torch.inference_mode()
def test_class_prompt_encoder_matches_reference(model, embeddings, reference):
    rows = torch.arange(7).expand(2, -1)
    prompts = model.class_prompt_encoder(embeddings, model.prototypes(), rows)
    sparse = by_prompt(prompts.sparse_prompt_embeddings, reference)
    dense = by_prompt(prompts.dense_prompt_embeddings.mean((-2, -1)), reference)
    np.testing.assert_allclose(sparse, reference["sparse_prompt_embeddings"], atol=1e-3)
    np.testing.assert_allclose(dense, reference["dense_prompt_embeddings_mean"], atol=1e-3)


def test_logits_and_predicted_iou_match_reference(decoded, reference):
    np.testing.assert_allclose(by_prompt(decoded.low_res_logits, reference), reference["low_res_logits"], atol=1e-3)
    np.testing.assert_allclose(by_prompt(decoded.predicted_iou, reference), reference["predicted_iou"], atol=1e-3)


def test_masks_match_reference(decoded, reference):
    geometry = FrameGeometry(ORIGINAL_SIZE)
    expected = np.unpackbits(reference["masks"], axis=-1).astype(bool)
    for frame_index, class_id, mask in zip(reference["frame_index"], reference["class_ids"], expected, strict=True):
        found = geometry.to_frame(decoded.low_res_logits[frame_index, class_id - 1]) > 0
        assert (found.numpy() != mask).mean() < 1e-5


def test_merged_label_map_matches_reference(decoded, reference):
    geometry = FrameGeometry(ORIGINAL_SIZE)
    for logits, quality, expected in zip(
        decoded.low_res_logits, decoded.predicted_iou, reference["merged_labels"], strict=True
    ):
        label_map = label_map_of(logits, quality.numpy(), ENDOVIS2018.ids, geometry)
        assert (label_map != expected).mean() < 1e-5


def test_one_class_at_a_time_gives_the_same_logits_as_all_at_once(model, embeddings, decoded):
    alone = model.decode(embeddings[1:], [5])
    torch.testing.assert_close(alone.low_res_logits[0, 0], decoded.low_res_logits[1, 4], atol=1e-4, rtol=0)
