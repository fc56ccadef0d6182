"""Augmentation: repeatable for a name and a version; labels change with the frame and keep their values."""

from __future__ import annotations

import numpy as np
import pytest

from surgicalsam_training.data.augment import (
    Augmentation,
    augmentation_digest,
    augmentation_rng,
    augmented_image,
    augmented_labels,
)


@pytest.fixture
def frame() -> tuple[np.ndarray, np.ndarray]:
    """A smooth picture with a bright square in it, and the square's label."""
    y, x = np.mgrid[:96, :128]
    image = np.stack([60 + y // 4, 40 + x // 4, np.full((96, 128), 50)], axis=-1).astype(np.uint8)
    labels = np.zeros((96, 128), np.uint8)
    labels[20:60, 30:80] = 200
    image[labels == 200] = (230, 225, 220)
    return image, labels


def plain(**changes: object) -> Augmentation:
    unchanged = dict(flip_horizontally=False, flip_vertically=False, zoom=1.0, angle=0.0, center=(0.5, 0.5))
    return Augmentation(**{**unchanged, **dict(brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0), **changes})  # type: ignore[arg-type]


def test_a_copy_is_the_same_each_time(frame: tuple[np.ndarray, np.ndarray]) -> None:
    image, labels = frame
    for change, given in ((augmented_image, image), (augmented_labels, labels)):
        first, again = (change(given, augmentation_rng(666, 3, "clip/frame_00012")) for _ in range(2))
        np.testing.assert_array_equal(first, again)


def test_copies_differ_by_version_frame_and_seed(frame: tuple[np.ndarray, np.ndarray]) -> None:
    keys = [(666, 1, "a"), (666, 2, "a"), (666, 1, "b"), (667, 1, "a")]
    copies = {augmented_image(frame[0], augmentation_rng(*key)).tobytes() for key in keys}
    assert len(copies) == 4
    assert augmentation_digest(666) != augmentation_digest(667)


def test_labels_follow_the_picture_and_keep_their_values(frame: tuple[np.ndarray, np.ndarray]) -> None:
    for version in range(1, 30):
        image = augmented_image(frame[0], augmentation_rng(2, version, "a"))
        labels = augmented_labels(frame[1], augmentation_rng(2, version, "a"))
        assert image.shape == (96, 128, 3) and labels.shape == (96, 128)
        assert image.dtype == labels.dtype == np.uint8
        assert set(np.unique(labels)) <= {0, 200}
        bright = image.astype(int).sum(-1) > 330
        assert np.count_nonzero(bright != (labels == 200)) < 400  # the square's blurred edge


def test_flips_are_exact(frame: tuple[np.ndarray, np.ndarray]) -> None:
    image, labels = frame
    np.testing.assert_array_equal(plain().labels(labels), labels)
    np.testing.assert_array_equal(plain(flip_horizontally=True).labels(labels), labels[:, ::-1])
    np.testing.assert_array_equal(plain(flip_vertically=True).labels(labels), labels[::-1])
    np.testing.assert_array_equal(plain(flip_vertically=True).labels(image[..., 0]), image[::-1, :, 0])


def test_a_zoomed_copy_is_a_crop_of_the_frame(frame: tuple[np.ndarray, np.ndarray]) -> None:
    _, labels = frame
    corner = plain(zoom=2.0, center=(0.0, 0.0)).labels(labels)
    np.testing.assert_array_equal(corner[::2, ::2], labels[:48, :64])


def test_pixels_from_outside_the_frame_are_black_background(frame: tuple[np.ndarray, np.ndarray]) -> None:
    rotated = plain(angle=30.0, contrast=0.8)
    assert rotated.image(frame[0])[0, 0].tolist() == [0, 0, 0]
    assert rotated.labels(np.ones((96, 128), np.uint8))[0, 0] == 0
