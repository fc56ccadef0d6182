"""The similarity map of a class on a frame."""

from __future__ import annotations

import numpy as np
import pytest

from surgicalsam_napari.errors import CheckpointError, ClassSetError, VideoError
from surgicalsam_napari.inference.similarity import contrast_limits, frame_similarity, similarity_map
from surgicalsam_napari.instruments import ENDOVIS2018, ClassSet, InstrumentClass
from surgicalsam_napari.store import Project
from surgicalsam_napari.video import VideoReader


@pytest.fixture
def project(phantom_clip, tmp_path):
    """A project without predictions, of the 12-frame phantom clip."""
    project = Project.create(tmp_path / "clip.surgicalsam", VideoReader(phantom_clip), ENDOVIS2018)
    yield project
    project.close()


def test_the_map_has_the_size_of_the_frame(project, tiny_model):
    similarity = similarity_map(project, tiny_model, 3, 5)
    assert similarity.shape == project.video.info.size
    assert similarity.dtype == np.float32


def test_the_map_is_the_dot_product_with_the_prototype(tiny_model):
    _depth, height, _width = tiny_model.embedding_shape
    prototype = tiny_model.prototypes()[2].detach().numpy()
    embedding = np.zeros(tiny_model.embedding_shape, np.float32)
    embedding[:, 10:14, 20:24] = (prototype / (prototype @ prototype))[:, None, None]
    side = tiny_model.input_size  # a square frame: nothing is padded
    similarity = frame_similarity(tiny_model, embedding, 3, (side, side))
    cell = side // height
    assert similarity[12 * cell, 22 * cell] == pytest.approx(1.0, abs=1e-5)
    assert similarity[2 * cell, 2 * cell] == pytest.approx(0.0, abs=1e-5)


def test_the_padding_below_a_wide_frame_is_not_shown(tiny_model):
    prototype = tiny_model.prototypes()[0].detach().numpy()
    embedding = np.zeros(tiny_model.embedding_shape, np.float32)
    embedding[:, tiny_model.embedding_shape[1] // 2 + 2 :] = prototype[:, None, None]  # the lower half of the square
    similarity = frame_similarity(tiny_model, embedding, 1, (90, 180))
    assert np.abs(similarity).max() < 1e-5


def test_a_missing_embedding_is_computed_and_stored(project, tiny_model, monkeypatch):
    first = similarity_map(project, tiny_model, 2, 7)
    monkeypatch.setattr(tiny_model, "embed", lambda frames, dtype: pytest.fail("the embedding is stored"))
    np.testing.assert_allclose(similarity_map(project, tiny_model, 2, 7), first, rtol=1e-4, atol=1e-6)
    assert project.embeddings(tiny_model.encoder_digest, tiny_model.embedding_shape).is_valid(7)


def test_the_class_is_matched_by_name(project, phantom_clip, tmp_path, tiny_model):
    suction = InstrumentClass(40, "suction instrument", "#ffffff")
    other = Project.create(tmp_path / "p.surgicalsam", VideoReader(phantom_clip), ClassSet("mine", (suction,)))
    expected = similarity_map(project, tiny_model, ENDOVIS2018.by_name("Suction Instrument").id, 1)
    np.testing.assert_allclose(similarity_map(other, tiny_model, 40, 1), expected, rtol=1e-3)
    other.close()


def test_unknown_classes_and_frames_are_refused(project, tiny_model):
    with pytest.raises(VideoError, match="0 to 11; got 12"):
        similarity_map(project, tiny_model, 1, 12)
    with pytest.raises(ClassSetError):
        similarity_map(project, tiny_model, 99, 1)
    project.extend_classes(ClassSet("more", (*ENDOVIS2018, InstrumentClass(9, "Stapler", "#00ff00"))))
    with pytest.raises(CheckpointError, match="not yet trained on Stapler"):
        similarity_map(project, tiny_model, 9, 1)


def test_contrast_limits_are_a_range_even_of_a_flat_map():
    assert contrast_limits(np.zeros((4, 4), np.float32)) == (0.0, 1.0)
    low, high = contrast_limits(np.linspace(-1, 3, 10_000, dtype=np.float32).reshape(100, 100))
    assert low == pytest.approx(1.0, abs=0.01)
    assert 2.9 < high <= 3.0
