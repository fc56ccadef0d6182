"""The inference of the authors' own code (tests/reference/README.md), reproduced."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from reference import inputs
from reference.cases import FRAME, HERE, load, load_model
from reference.reduce import Arrays, one_logit_per_cell, reduced, samples
from torch import Tensor, nn

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.geometry import normalise_and_pad
from surgicalsam_napari.model.surgical_sam import MaskPrediction, SurgicalSAM
from surgicalsam_napari.model.upsampling import label_map_of

SETS = ("inference", "inference32")


# Inputs --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def embeddings() -> dict[str, Tensor]:
    return {"inference": inputs.image_embeddings(), "inference32": inputs.image_embeddings32()}


def test_the_inputs_are_those_that_the_authors_code_was_given(embeddings: dict[str, Tensor]) -> None:
    checkpoint, sam = inputs.weights()
    arrays = [value.numpy() for part in (*checkpoint.values(), sam) for value in part.values()]
    kept = load("inputs")
    remedy = "torch's random numbers should be those of the seed: use the torch of constraints.txt."
    np.testing.assert_allclose(samples(arrays), kept["weights"], rtol=0, atol=1e-5, err_msg=remedy)
    for name, values in zip(("image_embeddings", "image_embeddings32"), embeddings.values(), strict=True):
        given = samples([values.permute(0, 2, 3, 1).numpy()])
        np.testing.assert_allclose(given, kept[name], rtol=1e-6, err_msg=remedy)


# Inference -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(authors_folder: Path) -> SurgicalSAM:
    return load_model(authors_folder)


@pytest.fixture(scope="module")
def decoded(model: SurgicalSAM, embeddings: dict[str, Tensor]) -> dict[str, MaskPrediction]:
    return {name: model.decode(embeddings[name], ENDOVIS2018.ids) for name in SETS}


@pytest.fixture
def embed(model: SurgicalSAM, embeddings: dict[str, Tensor]) -> Iterator[Callable[[str], Tensor]]:
    """The embedding of the float32 frame as `SurgicalSAM.embed` gives it."""

    class Encoder(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return embeddings["inference32"]

    model.image_encoder = Encoder()
    yield lambda dtype: torch.from_numpy(model.embed([np.zeros((1024, 1280, 3), np.uint8)], dtype))
    model.image_encoder = None


def by_prompt(values: Tensor, reference: Arrays) -> np.ndarray:
    """(frames, classes, …) in the order of the reference's prompts."""
    frames = reference.get("frame_index", np.zeros_like(reference["class_ids"]))
    return values[frames, reference["class_ids"] - 1].numpy()


@torch.inference_mode()
def test_prompt_embeddings_match_the_reference(model: SurgicalSAM, embeddings: dict[str, Tensor]) -> None:
    reference, rows = load("inference"), torch.arange(7).expand(2, -1)
    prompts = model.class_prompt_encoder(embeddings["inference"], model.prototypes(), rows)
    sparse = by_prompt(prompts.sparse_prompt_embeddings, reference)
    dense = by_prompt(prompts.dense_prompt_embeddings.mean((-2, -1)), reference)
    np.testing.assert_allclose(sparse, reference["sparse_prompt_embeddings"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(dense, reference["dense_prompt_embeddings_mean"], rtol=0, atol=1e-5)


def assert_logits_match(decoded: MaskPrediction, reference: Arrays) -> None:
    logits = one_logit_per_cell(by_prompt(decoded.low_res_logits, reference))
    np.testing.assert_allclose(logits, reference["low_res_logits"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(by_prompt(decoded.predicted_iou, reference), reference["predicted_iou"], rtol=0, atol=1e-5)


def assert_masks_match(decoded: MaskPrediction, reference: Arrays) -> None:
    logits = torch.from_numpy(by_prompt(decoded.low_res_logits, reference)[reference["mask_positions"]])
    for of_prompt, expected in zip(logits, np.unpackbits(reference["masks"], axis=-1).astype(bool), strict=True):
        assert ((FRAME.to_frame(of_prompt) > 0).numpy() != expected).mean() < 1e-5


def assert_label_maps_match(decoded: MaskPrediction, reference: Arrays) -> None:
    expected = reference["merged_labels"].reshape(-1, 1024, 1280)
    for logits, quality, labels in zip(decoded.low_res_logits, decoded.predicted_iou, expected, strict=True):
        assert (label_map_of(logits, ENDOVIS2018.ids, FRAME, quality.numpy()) != labels).mean() < 1e-5


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("assert_match", [assert_logits_match, assert_masks_match, assert_label_maps_match])
def test_masks_match_the_reference(
    decoded: dict[str, MaskPrediction], name: str, assert_match: Callable[[MaskPrediction, Arrays], None]
) -> None:
    assert_match(decoded[name], load(name))


def test_embeddings_kept_as_float32_match_the_reference(model: SurgicalSAM, embed: Callable[[str], Tensor]) -> None:
    decoded, reference = model.decode(embed("float32"), ENDOVIS2018.ids), load("inference32")
    assert_logits_match(decoded, reference)
    assert_masks_match(decoded, reference)
    assert_label_maps_match(decoded, reference)


def test_embeddings_kept_as_float16_change_few_pixels(model: SurgicalSAM, embed: Callable[[str], Tensor]) -> None:
    """What the default costs: 1e-4 of the logits, and about 60 pixels of a mask in a million."""
    decoded, reference = model.decode(embed("float16"), ENDOVIS2018.ids), load("inference32")
    logits = one_logit_per_cell(by_prompt(decoded.low_res_logits, reference))
    np.testing.assert_allclose(logits, reference["low_res_logits"], rtol=0, atol=2e-4)
    kept = torch.from_numpy(by_prompt(decoded.low_res_logits, reference)[reference["mask_positions"]])
    masks = np.stack([(FRAME.to_frame(of_prompt) > 0).numpy() for of_prompt in kept])
    assert (masks != np.unpackbits(reference["masks"], axis=-1).astype(bool)).mean() < 1e-4


def test_one_class_at_a_time_gives_the_same_logits_as_all_at_once(model, embeddings, decoded):
    alone = model.decode(embeddings["inference"][1:], [5])
    torch.testing.assert_close(alone.low_res_logits[0, 0], decoded["inference"].low_res_logits[1, 4], atol=1e-5, rtol=0)


def test_a_frame_is_resized_as_by_pillow() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (1024, 1280, 3), np.uint8)
    resized = np.array(Image.fromarray(frame).resize((1024, 819), Image.Resampling.BILINEAR))
    expected = normalise_and_pad(torch.from_numpy(resized).permute(2, 0, 1)[None], 1024)
    torch.testing.assert_close(FRAME.to_input([frame]), expected, atol=1e-4, rtol=0)


# The full set, if it is beside the clone -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full_set(shared_folder: Path) -> Path:
    folder = shared_folder / "reference2"
    if not folder.is_dir():
        pytest.skip(
            "the full set of reference numbers is not beside this checkout; what is in it here is tested all the same"
        )
    return folder


def test_the_numbers_here_are_those_of_the_full_set(full_set: Path) -> None:
    for name, arrays in reduced(full_set).items():
        kept = load(name)
        assert kept.keys() == arrays.keys()
        for key, values in arrays.items():
            np.testing.assert_array_equal(kept[key], values)
    for name in ("edge.json", "expected.json"):
        assert json.loads((HERE / name).read_text()) == json.loads((full_set / name).read_text())
    assert (HERE / "metrics.npz").read_bytes() == (full_set / "metrics.npz").read_bytes()


@pytest.mark.parametrize("name", SETS)
def test_every_logit_and_mask_matches_the_full_set(
    full_set: Path, decoded: dict[str, MaskPrediction], embeddings: dict[str, Tensor], name: str
) -> None:
    with np.load(full_set / f"{name}.npz") as file:
        reference = dict(file)
    given = embeddings[name].permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(given, reference["image_embeddings"].astype(np.float32), rtol=1e-6)
    logits = by_prompt(decoded[name].low_res_logits, reference)
    np.testing.assert_allclose(logits, reference["low_res_logits"], rtol=0, atol=1e-5)
    assert_masks_match(decoded[name], reference | {"mask_positions": np.arange(len(logits))})
