"""The plain implementation, the baseline of the speed benchmarks, reproduces the reference numbers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from reference.inputs import image_embeddings
from reference.reduce import one_logit_per_cell

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.video import VideoReader

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks" / "speed"))
import plain

REFERENCE = Path(__file__).parent / "reference"
SIZE = (1024, 1280)


@pytest.fixture(scope="module")
def reference_model(authors_folder: Path) -> plain.PlainSurgicalSAM:
    model = load_checkpoint(
        authors_folder / "model_ckp.pth",
        encoder_weights=authors_folder / "sam_prompt_encoder.pth",
        classes=ENDOVIS2018,
        load_image_encoder=False,
        device="cpu",
    )
    return plain.PlainSurgicalSAM(model)


def test_the_plain_masks_reproduce_the_reference(reference_model: plain.PlainSurgicalSAM) -> None:
    with np.load(REFERENCE / "inference.npz") as file:
        reference = dict(file)
    embeddings = image_embeddings()
    with torch.no_grad():
        for position in (0, 5, 9):
            row = int(reference["class_ids"][position]) - 1
            frame = reference["frame_index"][position]
            sparse, dense = reference_model.prompt_embeddings(embeddings[frame : frame + 1], row)
            np.testing.assert_allclose(sparse[0], reference["sparse_prompt_embeddings"][position], rtol=0, atol=1e-5)
            expected = reference["dense_prompt_embeddings_mean"][position]
            np.testing.assert_allclose(dense.mean((-2, -1))[0], expected, rtol=0, atol=1e-5)
            logits, quality = reference_model.low_res_logits(embeddings[frame : frame + 1], row)
            logits_per_cell = one_logit_per_cell(logits[0, 0].numpy())
            np.testing.assert_allclose(logits_per_cell, reference["low_res_logits"][position], rtol=0, atol=1e-5)
            np.testing.assert_allclose(quality[0, 0], reference["predicted_iou"][position], rtol=0, atol=1e-5)
    label_map = reference_model.label_map(embeddings[:1], range(7), ENDOVIS2018.ids, SIZE)
    assert (label_map != reference["merged_labels"][0]).mean() < 1e-5


def test_the_plain_losses_reproduce_the_reference(reference_model: plain.PlainSurgicalSAM) -> None:
    with np.load(REFERENCE / "training.npz") as file:
        reference = dict(file)
    images = image_embeddings()
    masks = torch.from_numpy(np.unpackbits(reference["masks"], axis=-1)).float()
    rows = torch.from_numpy(reference["class_ids"]).long() - 1
    with torch.no_grad():
        losses = plain.training_losses(
            reference_model, images[reference["frame_index"]], rows, masks, torch.from_numpy(reference["class_embeddings"])
        )
    np.testing.assert_allclose([float(loss) for loss in losses], reference["losses"][0, :2], rtol=1e-4)


def test_seeking_gives_the_frames_of_the_reader(clip: Path) -> None:
    with VideoReader(clip) as video:
        for index in (0, 7, 11):
            np.testing.assert_array_equal(plain.frame_by_seeking(clip, index), video.frame(index))
