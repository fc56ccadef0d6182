"""Optical flow between frames: where pixels come from, and where the scene changes."""

from __future__ import annotations

import numpy as np
import pytest
from moving_textures import METAL, iou, scene, texture, window

from surgicalsam_napari.propagation.flow import FlowTracker, reduced, sampled, scene_changes, working_size
from surgicalsam_napari.propagation.label_carrier import LabelCarrier, expected_iou, label_map_of, probabilities

SIZE = (160, 200)


def test_a_shift_of_the_picture_is_found():
    picture = texture(0, SIZE)
    tracker = FlowTracker(window(picture, 0, 0, SIZE))
    for step in range(1, 5):
        found = tracker.advance(window(picture, 2 * step, -3 * step, SIZE))
    rows, columns = np.indices(SIZE)
    inner = (slice(20, -20), slice(20, -20))
    np.testing.assert_allclose(found.positions[..., 1][inner], (rows + 8)[inner], atol=0.3)
    np.testing.assert_allclose(found.positions[..., 0][inner], (columns - 12)[inner], atol=0.3)
    assert found.residual[inner].mean() < 3


def test_a_picture_that_cannot_be_found_has_a_large_residual():
    tracker = FlowTracker(window(texture(0, SIZE), 0, 0, SIZE))
    assert tracker.advance(window(texture(1, SIZE), 0, 0, SIZE)).residual.mean() > 15


def test_many_steps_do_not_blur_or_shrink_a_mask():
    background, tool = texture(0, SIZE), texture(1, SIZE, METAL)
    first, mask = scene(background, tool, 0, SIZE)
    carrier = LabelCarrier(first, mask.astype(np.uint8), (0, 1))
    for step in range(1, 41):
        shift = round(15 * np.sin(step / 3))
        frame, truth = scene(background, tool, shift, SIZE)
        fields = carrier.carry(frame)
    carried = label_map_of(fields, (0, 1), SIZE) == 1
    assert iou(carried, truth) > 0.85
    assert 0.9 < carried.sum() / truth.sum() < 1.1


def test_large_frames_are_followed_at_a_smaller_size():
    assert working_size((1080, 1920)) == (405, 720)
    assert working_size((576, 720)) == (576, 720)
    size = (900, 1600)
    small = texture(3, (160, 240))
    picture = np.kron(small, np.ones((6, 6, 1), np.uint8))
    mask = np.zeros(size, np.uint8)
    mask[300:600, 500:1000] = 1
    carrier = LabelCarrier(picture[: size[0], : size[1]], mask, (0, 1))
    fields = carrier.carry(picture[12 : 12 + size[0], 18 : 18 + size[1]])
    moved = label_map_of(fields, (0, 1), size)
    truth = np.zeros(size, bool)
    truth[288:588, 482:982] = True
    assert moved.shape == size
    assert iou(moved == 1, truth) > 0.98


def test_motion_is_no_scene_change_and_a_cut_is():
    picture = texture(0, SIZE)
    assert not scene_changes(window(picture, 0, 0, SIZE), window(picture, 5, -5, SIZE))
    assert scene_changes(window(picture, 0, 0, SIZE), window(texture(1, SIZE), 0, 0, SIZE))


def test_brightness_is_no_scene_change():
    frame = window(texture(0, SIZE), 0, 0, SIZE)
    assert not scene_changes(frame, (frame * 0.6).astype(np.uint8))


@pytest.mark.parametrize("level", [0, 255])
def test_a_frame_without_a_picture_is_another_scene(level):
    frame, blank = window(texture(0, SIZE), 0, 0, SIZE), np.full((*SIZE, 3), level, np.uint8)
    assert scene_changes(frame, blank)
    assert scene_changes(blank, frame)
    assert not scene_changes(blank, blank)


def test_tiny_frames_do_not_fail():
    frame = np.zeros((9, 12, 3), np.uint8)
    carrier = LabelCarrier(frame, np.eye(9, 12, dtype=np.uint8), (0, 1))
    assert label_map_of(carrier.carry(frame), (0, 1), (9, 12)).shape == (9, 12)


def test_the_expected_iou_falls_where_the_picture_no_longer_agrees():
    background, tool = texture(0, SIZE), texture(1, SIZE, METAL)
    first, mask = scene(background, tool, 0, SIZE)
    carriers = [LabelCarrier(first, mask.astype(np.uint8), (0, 1)) for _ in range(2)]
    expected = []
    for carrier, frame in zip(
        carriers, (scene(background, tool, 3, SIZE)[0], window(texture(5, SIZE), 0, 0, SIZE)), strict=True
    ):
        probability = probabilities(carrier.carry(frame))
        expected.append(expected_iou(probability[1], probability.argmax(axis=0) == 1))
    assert expected[0] > 0.9
    assert expected[1] < 0.6


def test_a_position_outside_the_picture_reads_its_border():
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    positions = np.full((1, 1, 2), -5, np.float32)
    assert sampled(image, positions)[0, 0] == 0
    assert reduced(image, (3, 4)) is not None
