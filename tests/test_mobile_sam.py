"""MobileSAM's image encoder: names and shapes of its checkpoint, and the mathematics of its parts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.image_encoder import build_image_encoder, describe_mismatch, encoder_shapes
from surgicalsam_napari.model.mobile_sam import WindowAttention, WindowBlock

PUBLISHED_SHAPES = Path(__file__).parent / "reference" / "mobile_sam_shapes.json"


def give_random_statistics(module: nn.Module) -> nn.Module:
    """Random weights of a trained network's size, batch norm's statistics included."""
    torch.manual_seed(3)
    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point():
            continue
        if "running_var" in name:
            tensor.uniform_(0.5, 2)
        elif tensor.ndim <= 1 or "attention_biases" in name:
            tensor.normal_(0, 0.5)
        else:
            tensor.normal_(0, tensor[0].numel() ** -0.5)
    return module.eval()


def test_names_and_shapes_equal_those_of_the_published_checkpoint() -> None:
    published = json.loads(PUBLISHED_SHAPES.read_text())
    prefix = "image_encoder."
    expected = {name.removeprefix(prefix): tuple(shape) for name, shape in published.items() if name.startswith(prefix)}
    assert len(published) == 439
    assert describe_mismatch(expected, encoder_shapes("mobile_sam")) == ""


def test_some_names_and_shapes_of_the_checkpoint() -> None:
    shapes = encoder_shapes("mobile_sam")
    assert len(shapes) == 302
    assert shapes["patch_embed.seq.2.c.weight"] == (64, 32, 3, 3)
    assert shapes["layers.0.blocks.1.conv2.bn.num_batches_tracked"] == ()
    assert shapes["layers.1.downsample.conv2.c.weight"] == (160, 1, 3, 3)
    assert shapes["layers.2.blocks.5.attn.attention_biases"] == (5, 196)
    assert shapes["layers.3.blocks.1.mlp.fc1.weight"] == (1280, 320)
    assert shapes["head.weight"] == (1000, 320)
    assert shapes["neck.2.weight"] == (256, 256, 3, 3)


@pytest.fixture(scope="module")
def encoder() -> nn.Module:
    return give_random_statistics(build_image_encoder("mobile_sam"))


def test_embedding_has_the_shape_of_its_spec(encoder: nn.Module) -> None:
    with torch.inference_mode():
        embedding = encoder(torch.randn(1, 3, 1024, 1024))
    assert embedding.shape == (1, *ENCODERS["mobile_sam"].embedding_shape)
    assert embedding.isfinite().all()


def test_frames_of_a_batch_are_independent(encoder: nn.Module) -> None:
    images = torch.randn(2, 3, 256, 256)  # the same weights accept a smaller square
    with torch.inference_mode():
        together = encoder(images)
        alone = torch.cat([encoder(image[None]) for image in images])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def attention_by_hand(attention: WindowAttention, window: Tensor) -> Tensor:
    """(n, D) to (n, D), position by position."""
    side, heads = attention.window_size, attention.heads
    places = [(row, column) for row in range(side) for column in range(side)]
    per_head = attention.qkv(attention.norm(window)).view(len(places), heads, -1)
    outputs = []
    for head in range(heads):
        query, key, value = per_head[:, head].chunk(3, dim=-1)
        scores = query @ key.T / query.shape[-1] ** 0.5
        for i, (row, column) in enumerate(places):
            for j, (other_row, other_column) in enumerate(places):
                distance = abs(row - other_row) * side + abs(column - other_column)
                scores[i, j] += attention.attention_biases[head, distance]
        outputs.append(scores.softmax(-1) @ value)
    return attention.proj(torch.cat(outputs, dim=-1))


def test_window_attention_is_biased_by_distance() -> None:
    attention = give_random_statistics(WindowAttention(16, heads=2, window_size=3))
    windows = torch.randn(4, 9, 16)
    with torch.inference_mode():
        expected = torch.stack([attention_by_hand(attention, window) for window in windows])
        torch.testing.assert_close(attention(windows), expected, atol=1e-5, rtol=1e-5)


def test_grid_is_split_into_windows_and_joined_again() -> None:
    block = give_random_statistics(WindowBlock(8, heads=2, window_size=3))
    grid = torch.randn(2, 8, 7, 5)
    padded = F.pad(grid, (0, 1, 0, 2))
    expected = torch.zeros_like(padded)
    with torch.inference_mode():
        for top in range(0, 9, 3):
            for left in range(0, 6, 3):
                window = padded[:, :, top : top + 3, left : left + 3].flatten(2).transpose(1, 2)
                attended = block.attn(window).transpose(1, 2).unflatten(2, (3, 3))
                expected[:, :, top : top + 3, left : left + 3] = attended
        torch.testing.assert_close(block.attend(grid), expected[:, :, :7, :5], atol=1e-5, rtol=1e-5)
