"""Masks computed in a window equal masks computed in the whole frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.upsampling import label_map_of, masks_of


def blobs(seed: int, count: int = 3) -> torch.Tensor:
    """(count, 256, 256) smooth logits with islands above 0."""
    noise = torch.randn(count, 1, 12, 12, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, (256, 256), mode="bicubic")[:, 0] * 8 - 5


def whole(window: tuple[slice, slice], mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    frame = np.zeros(size, bool)
    frame[window] = mask
    return frame


@pytest.mark.parametrize("size", [(1024, 1280), (1080, 1920), (1920, 1080), (410, 512), (96, 128), (2160, 3840), (7, 333)])
@pytest.mark.parametrize("input_size", [1024, 512])
def test_masks_equal_those_of_the_two_reference_steps(size: tuple[int, int], input_size: int) -> None:
    geometry = FrameGeometry(size, input_size)
    logits = blobs(seed=size[0])
    expected = (geometry.to_frame(logits) > 0).numpy()
    for (window, mask), truth in zip(masks_of(logits, geometry), expected, strict=True):
        assert (whole(window, mask, size) != truth).mean() < 1e-6


def test_a_small_mask_has_a_small_window() -> None:
    logits = torch.full((1, 256, 256), -5.0)
    logits[0, 100, 120:124] = 9
    geometry = FrameGeometry((1080, 1920))
    ((window, mask),) = masks_of(logits, geometry)
    assert mask.any()
    assert mask.size < 3000
    np.testing.assert_array_equal(whole(window, mask, (1080, 1920)), (geometry.to_frame(logits) > 0).numpy()[0])


def test_without_a_positive_logit_the_mask_is_empty() -> None:
    ((_window, mask),) = masks_of(torch.full((1, 256, 256), -1.0), FrameGeometry((1080, 1920)))
    assert mask.size == 0


def test_positive_logits_only_in_the_padding_give_an_empty_mask() -> None:
    logits = torch.full((1, 256, 256), -1.0)
    logits[0, 250, 40] = 9
    ((_window, mask),) = masks_of(logits, FrameGeometry((1080, 1920)))
    assert mask.size == 0


@pytest.mark.parametrize(("predicted_iou", "class_in_overlap"), [([0.9, 0.5], 4), ([0.5, 0.9], 5), ([0.7, 0.7], 5)])
def test_as_in_the_reference_the_most_certain_class_lies_on_top_and_at_a_tie_the_later_one(
    predicted_iou: list[float], class_in_overlap: int
) -> None:
    logits = torch.full((2, 256, 256), -5.0)
    logits[0, 20:80, 20:80] = 5
    logits[1, 60:120, 60:120] = 5
    label_map = label_map_of(logits, [4, 5], FrameGeometry((512, 512), 512), np.array(predicted_iou))
    assert label_map[100, 100] == 4
    assert label_map[200, 200] == 5
    assert label_map[140, 140] == class_in_overlap
    assert label_map[10, 10] == 0


def test_at_every_pixel_the_highest_logit_wins() -> None:
    geometry = FrameGeometry((360, 640), 512)
    logits = blobs(seed=3) + 4
    resized = geometry.to_frame(logits)
    expected = np.where((resized > 0).any(0), np.array([4, 5, 2])[resized.argmax(0)], 0)
    assert ((resized > 0).sum(0) > 1).any(), "the masks should overlap"
    assert (label_map_of(logits, [4, 5, 2], geometry) != expected).mean() < 1e-4


def test_masks_apart_from_each_other_are_all_painted() -> None:
    logits = torch.full((2, 128, 128), -5.0)
    logits[0, 5:20, 5:20] = 1
    logits[1, 60:90, 60:90] = 9
    label_map = label_map_of(logits, [3, 6], FrameGeometry((512, 512), 512))
    assert set(np.unique(label_map)) == {0, 3, 6}


def test_without_masks_the_label_map_is_background() -> None:
    label_map = label_map_of(torch.zeros(0, 32, 32), [], FrameGeometry((50, 60), 128))
    assert label_map.shape == (50, 60) and not label_map.any()
