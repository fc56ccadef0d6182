"""SAM's decoder in batches and token layout gives the numbers of segment-anything's own `predict_masks`."""

from __future__ import annotations

import pytest
import torch

from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.mask_decoder import (
    PADDING_LOGIT,
    build_mask_decoder,
    decode_masks,
    decode_shared,
    in_token_order,
    shared_image,
)
from surgicalsam_napari.model.segment_anything import MaskDecoder

GRID, CHANNELS = (12, 16), 64
FEW, MANY = 2, 6  # sparse tokens: the image attends to few tokens in another way than to many


@pytest.fixture(scope="module")
def decoder() -> MaskDecoder:
    torch.manual_seed(0)
    return build_mask_decoder(CHANNELS, 128).eval()


def random_prompts(images: int, prompts_each: int, tokens: int = MANY) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = {
        "image_embeddings": (images, CHANNELS, *GRID),
        "positional_encoding": (1, CHANNELS, *GRID),
        "sparse": (images * prompts_each, tokens, CHANNELS),
        "dense": (images * prompts_each, CHANNELS, *GRID),
    }
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def one_by_one(decoder: MaskDecoder, prompts: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    each = len(prompts["sparse"]) // len(prompts["image_embeddings"])
    answers = [
        decoder.predict_masks(
            prompts["image_embeddings"][index // each][None],
            prompts["positional_encoding"],
            prompts["sparse"][index][None],
            prompts["dense"][index][None],
        )
        for index in range(len(prompts["sparse"]))
    ]
    return torch.cat([masks[:, 0] for masks, _ in answers]), torch.cat([quality[:, 0] for _, quality in answers])


@pytest.mark.parametrize("tokens", [FEW, MANY])
@pytest.mark.parametrize(("images", "prompts_each"), [(1, 1), (3, 1), (2, 3)])
def test_every_mask_equals_that_of_segment_anything(
    decoder: MaskDecoder, images: int, prompts_each: int, tokens: int
) -> None:
    prompts = random_prompts(images, prompts_each, tokens)
    masks, quality = one_by_one(decoder, prompts)
    decoded = decode_masks(decoder, **prompts)
    torch.testing.assert_close(decoded.low_res_logits, masks, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(decoded.predicted_iou, quality, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("count", [1, 3])
@torch.inference_mode()
def test_an_image_projected_once_gives_the_masks_of_each_prompt(decoder: MaskDecoder, count: int) -> None:
    prompts = random_prompts(1, count, FEW)
    weight, bias, activations = torch.randn(CHANNELS, 20), torch.randn(CHANNELS), torch.rand(count, 12 * 16, 20)
    dense = (activations @ weight.T + bias).transpose(1, 2).unflatten(2, GRID)
    image = shared_image(decoder, prompts["image_embeddings"], prompts["positional_encoding"], weight, bias)
    decoded = decode_shared(decoder, image, prompts["sparse"], activations, visible=(7, 16))
    expected = decode_masks(decoder, **{**prompts, "dense": dense}, visible=(7, 16))
    torch.testing.assert_close(decoded.low_res_logits, expected.low_res_logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(decoded.predicted_iou, expected.predicted_iou, atol=1e-4, rtol=1e-4)


def test_the_order_in_memory_does_not_matter(decoder: MaskDecoder) -> None:
    prompts = random_prompts(2, 1)
    ordered = {**prompts, "image_embeddings": in_token_order(prompts["image_embeddings"])}
    torch.testing.assert_close(
        decode_masks(decoder, **ordered).low_res_logits, decode_masks(decoder, **prompts).low_res_logits
    )


@pytest.mark.parametrize("visible", [(7, 16), (12, 5), (3, 4)])
def test_only_the_visible_grid_is_upscaled_and_the_rest_is_background(
    decoder: MaskDecoder, visible: tuple[int, int]
) -> None:
    prompts = random_prompts(2, 2)
    whole = decode_masks(decoder, **prompts).low_res_logits
    part = decode_masks(decoder, **prompts, visible=visible).low_res_logits
    rows, columns = 4 * visible[0], 4 * visible[1]
    torch.testing.assert_close(part[:, :rows, :columns], whole[:, :rows, :columns])
    assert (part[:, rows:] == PADDING_LOGIT).all() and (part[:, :, columns:] == PADDING_LOGIT).all()


@pytest.mark.parametrize("tokens", [FEW, MANY])
def test_gradients_equal_those_of_segment_anything(decoder: MaskDecoder, tokens: int) -> None:
    prompts = random_prompts(2, 1, tokens)
    unread = tuple(f"output_hypernetworks_mlps.{mask}." for mask in (1, 2, 3))
    weights = [weight for name, weight in decoder.named_parameters() if not name.startswith(unread)]

    def gradients(masks: torch.Tensor, quality: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(masks.sigmoid().sum() + quality.sum(), weights)

    decoded = decode_masks(decoder, **prompts)
    actual = gradients(decoded.low_res_logits, decoded.predicted_iou)
    for gradient, expected in zip(actual, gradients(*one_by_one(decoder, prompts)), strict=True):
        torch.testing.assert_close(gradient, expected, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("size", [(1024, 1280), (1080, 1920), (1920, 1080), (512, 512), (100, 1000), (1023, 1279)])
def test_masks_in_the_frame_depend_only_on_the_visible_grid(size: tuple[int, int]) -> None:
    geometry = FrameGeometry(size, 256)
    rows, columns = geometry.visible_grid((16, 16))
    logits = torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(0))
    hidden = torch.full_like(logits, torch.nan)
    hidden[:, : 4 * rows, : 4 * columns] = logits[:, : 4 * rows, : 4 * columns]
    torch.testing.assert_close(geometry.to_frame(hidden), geometry.to_frame(logits))


def test_a_wide_frame_needs_52_of_64_rows() -> None:
    assert FrameGeometry((1024, 1280)).visible_grid((64, 64)) == (52, 64)
