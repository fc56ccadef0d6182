"""Frame selection, embedding, segmentation, and the estimate of a run."""

from __future__ import annotations

from types import SimpleNamespace
from weakref import WeakKeyDictionary

import numpy as np
import pytest
import torch

from surgicalsam_napari.errors import CheckpointError, ClassSetError, DiskSpaceError, VideoError, WorkFailed
from surgicalsam_napari.inference import embed as embed_module
from surgicalsam_napari.inference import (
    embed_frames,
    estimate,
    estimation,
    frames_to_segment,
    outward_order,
    parse_frames,
    segment_frames,
)
from surgicalsam_napari.inference.embed import embedded_batches
from surgicalsam_napari.inference.frame_selection import checked_frames, prefetched_frames
from surgicalsam_napari.instruments import ENDOVIS2018, ClassSet, InstrumentClass
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.video import VideoReader


class CountingVideo:
    """Frames that hold their index, and a record of the decoded frames, in order."""

    def __init__(self, frame_count: int = 100, broken: int | None = None) -> None:
        self.info = SimpleNamespace(frame_count=frame_count, size=(4, 6))
        self.decoded: list[int] = []
        self.broken = broken

    def frame(self, index: int) -> np.ndarray:
        self.decoded.append(index)
        if index == self.broken:
            raise VideoError(f"frame {index} is damaged")
        return np.full((4, 6, 3), index, np.uint8)


@pytest.fixture
def project(phantom_clip, tmp_path):
    """A project without predictions, of the 12-frame phantom clip."""
    project = Project.create(tmp_path / "clip.surgicalsam", VideoReader(phantom_clip), ENDOVIS2018)
    yield project
    project.close()


def sure_of_everything(model, monkeypatch):
    """Make the untrained model predict every class in every frame."""
    monkeypatch.setattr(model, "presence_threshold", -1.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", range(10)),
        ("ALL ", range(10)),
        ("7", range(7, 8)),
        ("-1", range(9, 10)),
        ("2:8:3", range(2, 8, 3)),
        ("5:", range(5, 10)),
        (":4", range(4)),
        ("::4", range(0, 10, 4)),
        ("3:500", range(3, 10)),
        ("-2:", range(8, 10)),
    ],
)
def test_frames_are_read_like_python_slices(text, expected):
    assert list(parse_frames(text, 10)) == list(expected)


@pytest.mark.parametrize("text", ["10", "-11", "50:60", "4:4", "a", "1-3", "1,2", "::0", "::-1", "1.5", "", ":::"])
def test_frames_that_select_nothing_are_refused(text):
    with pytest.raises(VideoError, match=r"got|Choose") as caught:
        parse_frames(text, 10)
    assert "\n" not in str(caught.value)


def test_outward_order_starts_at_the_nearest_frame():
    assert outward_order(range(7), 3) == [3, 4, 2, 5, 1, 6, 0]
    assert outward_order(range(0, 50, 10), 22) == [20, 30, 10, 40, 0]
    assert outward_order([], 3) == []


def test_frame_indices_beyond_the_video_are_refused():
    assert checked_frames([3, np.int64(1), 3], 4) == [3, 1]
    with pytest.raises(VideoError, match="0 to 3; got 4"):
        checked_frames([1, 4], 4)


def test_prefetched_frames_keep_the_requested_order():
    order = outward_order(range(100), 40)
    video = CountingVideo()
    assert [int(frame[0, 0, 0]) for frame in prefetched_frames(video, order)] == order
    assert sorted(video.decoded) == list(range(100))


def test_prefetching_in_outward_order_rarely_jumps_back():
    video = CountingVideo()
    list(prefetched_frames(video, outward_order(range(100), 50)))
    assert (np.diff(video.decoded) < 0).sum() < 8


def test_prefetching_stops_when_its_reader_stops():
    video = CountingVideo()
    frames = prefetched_frames(video, range(100))
    next(frames)
    frames.close()
    assert len(video.decoded) < 10


def test_a_damaged_frame_is_reported_when_its_turn_comes():
    frames = prefetched_frames(CountingVideo(broken=5), range(10))
    seen = []
    with pytest.raises(VideoError, match="frame 5"):
        seen.extend(int(frame[0, 0, 0]) for frame in frames)
    assert seen == [0, 1, 2, 3, 4]


def test_embedding_fills_the_store_and_skips_stored_frames(project, tiny_model):
    first = list(embed_frames(project, tiny_model, [4, 2]))
    again = list(embed_frames(project, tiny_model, [1, 2, 4, 7]))
    assert [(r.frame_index, r.done, r.total) for r in first] == [(4, 1, 2), (2, 2, 2)]
    assert [(r.frame_index, r.done, r.total) for r in again] == [(1, 1, 2), (7, 2, 2)]
    store = project.embeddings(tiny_model.encoder_digest, tiny_model.embedding_shape)
    np.testing.assert_array_equal(store.read([7]), tiny_model.embed([project.video.frame(7)]))


def test_embedding_gives_the_same_in_batches(project, tiny_model):
    batches = list(embedded_batches(project, tiny_model, range(12), batch_size=4))
    assert [indices for indices, _ in batches] == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11]]
    expected = tiny_model.embed([project.video.frame(10)])
    np.testing.assert_allclose(batches[3][1][1:2].astype(float), expected.astype(float), atol=2e-2)
    mixed = list(embedded_batches(project, tiny_model, [5, 6], batch_size=2))
    np.testing.assert_array_equal(mixed[1][1][0], batches[2][1][1])


def test_stopped_embedding_resumes(project, tiny_model):
    reports = embed_frames(project, tiny_model, range(12))
    for _ in range(3):
        next(reports)
    reports.close()
    assert next(embed_frames(project, tiny_model, range(12))).frame_index == 3


def test_embedding_checks_the_disk_before_it_starts(project, tiny_model, monkeypatch):
    monkeypatch.setattr(embed_module, "free_bytes", lambda folder: 1000)
    monkeypatch.setattr(tiny_model, "embed", lambda frames, dtype: pytest.fail("nothing should be computed"))
    needed = 12 * project.embeddings(tiny_model.encoder_digest, tiny_model.embedding_shape).frame_bytes
    with pytest.raises(DiskSpaceError, match=rf"{needed} bytes.*1000 bytes"):
        next(embed_frames(project, tiny_model, range(12)))


def test_without_an_image_encoder_only_embedded_frames_are_accepted(project, tiny_model, tiny_checkpoint):
    list(embed_frames(project, tiny_model, [3]))
    decoding_only = load_checkpoint(tiny_checkpoint, device="cpu", load_image_encoder=False)
    assert len(list(segment_frames(project, decoding_only, [1], [3]))) == 1
    with pytest.raises(CheckpointError, match="--encoder-weights"):
        next(segment_frames(project, decoding_only, [1], [4]))


def test_segmenting_writes_what_it_reports(project, tiny_model, monkeypatch):
    sure_of_everything(tiny_model, monkeypatch)
    reports = list(segment_frames(project, tiny_model, [3, 1], [5, 6, 4], batch_size=2))
    assert [(r.frame_index, r.done, r.total) for r in reports] == [(5, 1, 3), (6, 2, 3), (4, 3, 3)]
    for report in reports:
        assert report.prediction.class_ids == (3, 1)
        np.testing.assert_array_equal(project.labels[report.frame_index], report.prediction.label_map)
        assert report.changed == bool(report.prediction.label_map.any())
        assert project.labels.provenance(report.frame_index, 3) == Provenance.PREDICTED
    assert project.labels.provenance(5, 2) == Provenance.EMPTY


def test_a_run_closed_early_keeps_what_it_reported(project, tiny_model, monkeypatch):
    sure_of_everything(tiny_model, monkeypatch)
    reports = segment_frames(project, tiny_model, [1], outward_order(range(12), 6))
    seen = [next(reports).frame_index for _ in range(3)]
    reports.close()
    done = [index for index in range(12) if project.labels.provenance(index, 1) != Provenance.EMPTY]
    assert sorted(seen) == done == [5, 6, 7]


def test_classes_are_matched_by_name_not_by_id(phantom_clip, tmp_path, tiny_model, monkeypatch):
    sure_of_everything(tiny_model, monkeypatch)
    suction, stapler = InstrumentClass(40, "suction instrument", "#ffffff"), InstrumentClass(6, "Stapler", "#00ff00")
    classes = ClassSet("mine", (suction, stapler))
    project = Project.create(tmp_path / "p.surgicalsam", VideoReader(phantom_clip), classes)
    report = next(segment_frames(project, tiny_model, [40], [2]))
    embedding = tiny_model.embed([project.video.frame(2)])
    expected = tiny_model.predict(embedding, [ENDOVIS2018.by_name("Suction Instrument").id], project.video.info.size)[0]
    assert report.prediction.class_ids == (40,)
    np.testing.assert_array_equal(report.prediction.label_map == 40, expected.label_map == 6)
    with pytest.raises(CheckpointError, match="not yet trained on Stapler"):
        next(segment_frames(project, tiny_model, [40, 6], [2]))
    with pytest.raises(ClassSetError, match="No class"):
        next(segment_frames(project, tiny_model, [1], [2]))
    with pytest.raises(ClassSetError, match="at least one"):
        next(segment_frames(project, tiny_model, [], [2]))
    project.close()


def test_prediction_leaves_edited_pixels_unchanged(project, tiny_model, monkeypatch):
    sure_of_everything(tiny_model, monkeypatch)
    project.labels[3, 10:20, 10:20] = 5
    list(segment_frames(project, tiny_model, ENDOVIS2018.ids, [3]))
    assert (project.labels[3][10:20, 10:20] == 5).all()
    assert project.labels.is_edited(3, 5)


def test_frames_that_this_checkpoint_has_segmented_are_skipped(project, tiny_model, monkeypatch):
    list(segment_frames(project, tiny_model, [1, 2], [0, 1, 2]))
    project.labels.verify(5, [1])
    assert frames_to_segment(project, tiny_model, [1], range(6)) == [3, 4]
    assert frames_to_segment(project, tiny_model, [1, 3], range(3)) == [0, 1, 2]
    monkeypatch.setattr(tiny_model, "presence_threshold", 0.123)  # counts as another checkpoint
    assert frames_to_segment(project, tiny_model, [1], range(6)) == [0, 1, 2, 3, 4]


def test_weights_changed_in_place_count_as_another_checkpoint(project, tiny_checkpoint):
    model = load_checkpoint(tiny_checkpoint, device="cpu")
    list(segment_frames(project, model, [1], [0, 1]))
    assert frames_to_segment(project, model, [1], range(3)) == [2]
    with torch.no_grad():
        next(model.mask_decoder.parameters()).add_(1)
    assert frames_to_segment(project, model, [1], range(3)) == [0, 1, 2]


def test_out_of_memory_reaches_the_user(project, tiny_model, monkeypatch):
    def fail(*_arguments):
        raise RuntimeError("CUDA error: an illegal memory access\nmore lines")

    monkeypatch.setattr(tiny_model, "predict", fail)
    with pytest.raises(WorkFailed, match="illegal memory access") as caught:
        next(segment_frames(project, tiny_model, [1], [0]))
    assert "\n" not in str(caught.value)


def test_estimate_counts_missing_embeddings_and_measures_once(project, tiny_model, monkeypatch):
    monkeypatch.setattr(estimation, "_measured", WeakKeyDictionary())
    list(embed_frames(project, tiny_model, [0, 1]))
    before = estimate(project, tiny_model, [1, 2], range(12), trial=False)
    measured = estimate(project, tiny_model, [1, 2], range(12))
    remembered = estimate(project, tiny_model, [1, 2], range(12), trial=False)
    assert before.seconds is None
    assert (measured.frame_count, measured.frames_to_embed) == (12, 10)
    assert measured.disk_bytes == 10 * project.embeddings(tiny_model.encoder_digest, tiny_model.embedding_shape).frame_bytes
    assert measured.fits
    assert 0 < measured.seconds == remembered.seconds
    assert project.embeddings(tiny_model.encoder_digest, tiny_model.embedding_shape).valid_count == 2


def test_estimate_uses_known_speeds(project, tiny_model):
    known = estimate(project, tiny_model, [1], range(10), seconds_per_embedding=2.0, seconds_per_frame=0.5)
    assert known.seconds == pytest.approx(25)
    assert estimate(project, tiny_model, [1], []).seconds == 0
