"""Carry a corrected mask of one class into other frames."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from moving_textures import METAL, scene, texture, write_clip
from PIL import Image

from surgicalsam_napari.errors import ClassSetError, ProjectError, VideoError
from surgicalsam_napari.inference import embed
from surgicalsam_napari.instruments import ENDOVIS2018, ClassSet, InstrumentClass
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.surgical_sam import FramePrediction
from surgicalsam_napari.model.zoo import bundled_checkpoint
from surgicalsam_napari.phantom.scene import PhantomScene
from surgicalsam_napari.propagation import propagate
from surgicalsam_napari.propagation.carried_prediction import remaining_mask
from surgicalsam_napari.propagation.label_carrier import LabelCarrier, label_map_of
from surgicalsam_napari.propagation.mask_carrier import MaskCarrier
from surgicalsam_napari.propagation.model_witness import ModelWitness
from surgicalsam_napari.propagation.propagate import SCENE_CHANGES, propagate_class
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.video import VideoReader

STAPLER = InstrumentClass(9, "Stapler", "#00ff00")
SIZE, FRAME_COUNT, CUT = (205, 256), 16, 12
SCENE, OTHER_SCENE = 310_003, 310_001


@pytest.fixture(scope="session")
def light_model():
    return load_checkpoint(bundled_checkpoint(), device="cpu")


@pytest.fixture(scope="session")
def cut_clip(tmp_path_factory):
    """Twelve frames of one phantom scene, then four of another: a folder of images and labels (T, H, W)."""
    folder = tmp_path_factory.mktemp("cut")
    scenes = PhantomScene(SCENE, SIZE, 40), PhantomScene(OTHER_SCENE, SIZE, 40)
    frames = [scenes[index >= CUT].frame(index) for index in range(FRAME_COUNT)]
    for index, frame in enumerate(frames):
        Image.fromarray(frame.image).save(folder / f"frame{index:03d}.png")
    return folder, np.stack([frame.labels for frame in frames])


@pytest.fixture
def project(cut_clip, tmp_path):
    """A project of the cut clip without labels; its class set has a class that the bundled weights do not know."""
    classes = ClassSet("with a stapler", (*ENDOVIS2018, STAPLER))
    with Project.create(tmp_path / "clip.surgicalsam", VideoReader(cut_clip[0]), classes) as project:
        yield project


@pytest.fixture
def tool(cut_clip):
    """The class that is largest in frame 2."""
    return int(np.bincount(cut_clip[1][2].ravel())[1:].argmax()) + 1


@pytest.fixture
def corrected(project, cut_clip, tool):
    """The project, with the class `tool` painted in frame 2."""
    paint(project, 2, cut_clip[1][2] == tool, tool)
    return project


def paint(project, frame_index, mask, class_id):
    labels = project.labels[frame_index]
    labels[mask] = class_id
    project.labels[frame_index] = labels


def iou(first, second):
    return (first & second).sum() / (first | second).sum()


def predict(project, frame_index, mask, class_id, quality=0.99):
    """Write a prediction of one class, as a model would."""
    scores = np.array([quality], np.float32)
    label_map = np.where(mask, np.uint8(class_id), np.uint8(0))
    prediction = FramePrediction((class_id,), label_map, scores, scores, np.array([True]), np.zeros(1, np.float32))
    project.labels.write_prediction(frame_index, prediction, 7)


def test_the_mask_follows_the_instrument(corrected, light_model, cut_clip, tool):
    reports = list(propagate_class(corrected, light_model, tool, 2, range(3, 11)))
    assert [(r.frame_index, r.done, r.total) for r in reports] == [(index, index - 2, 8) for index in range(3, 11)]
    assert all(report.stopped is None for report in reports)
    truth = cut_clip[1] == tool
    carried = [iou(corrected.labels[index] == tool, truth[index]) for index in range(3, 11)]
    assert min(carried) > 0.6
    assert np.mean(carried) > np.mean([iou(truth[2], truth[index]) for index in range(3, 11)])


def test_frames_are_written_as_predictions_with_their_agreement(corrected, light_model, tool):
    report = next(propagate_class(corrected, light_model, tool, 2, [3, 4]))
    assert corrected.labels.provenance(3, tool) == Provenance.PREDICTED
    assert corrected.labels.predicted_iou(3, tool) == pytest.approx(report.agreement)
    assert 0.5 < report.agreement <= 1
    number = corrected.labels.prediction_checkpoint(3, tool)
    assert corrected.manifest.checkpoints[number - 1]["name"] == light_model.name
    assert corrected.labels.provenance(4, tool) == Provenance.EMPTY  # the next report was not requested


def test_it_also_propagates_to_earlier_frames(corrected, light_model, tool, cut_clip):
    reports = list(propagate_class(corrected, light_model, tool, 2, [1, 0]))
    assert [report.frame_index for report in reports] == [1, 0]
    assert iou(corrected.labels[0] == tool, cut_clip[1][0] == tool) > 0.6


def test_a_class_that_the_model_does_not_know_is_carried_by_its_appearance(project, light_model, cut_clip, tool):
    paint(project, 2, cut_clip[1][2] == tool, STAPLER.id)
    reports = list(propagate_class(project, light_model, STAPLER.id, 2, range(3, 8)))
    assert len(reports) == 5
    assert reports[-1].stopped is None
    assert iou(project.labels[7] == STAPLER.id, cut_clip[1][7] == tool) > 0.6


def test_no_click_decoder_is_needed(corrected, light_model, tool, monkeypatch):
    monkeypatch.setattr(light_model, "sam_mask_decoder", None)
    assert len(list(propagate_class(corrected, light_model, tool, 2, [3, 4]))) == 2


def test_it_stops_when_the_scene_changes(corrected, light_model, tool):
    *carried, last = propagate_class(corrected, light_model, tool, 2, range(3, FRAME_COUNT))
    assert last.frame_index == CUT
    assert last.done == len(carried) == CUT - 3
    assert last.stopped == SCENE_CHANGES
    assert math.isnan(last.agreement)
    assert not corrected.labels[CUT].any()
    assert corrected.labels.provenance(CUT, tool) == Provenance.EMPTY


def test_a_mask_that_no_longer_fits_is_not_written(corrected, light_model, tool, monkeypatch):
    monkeypatch.setattr(propagate, "LEAST_AGREEMENT", 1.01)
    (report,) = propagate_class(corrected, light_model, tool, 2, [3, 4])
    assert report.stopped == f"the mask no longer fits the picture: agreement {report.agreement:.2f} < 1.01"
    assert (report.frame_index, report.done) == (3, 0)
    assert not corrected.labels[3].any()


def test_it_stops_at_a_frame_corrected_by_hand(corrected, light_model, tool):
    corrected.labels[5, 10:14, 10:14] = tool
    before = corrected.labels[5]
    *_, last = propagate_class(corrected, light_model, tool, 2, range(3, 10))
    assert (last.frame_index, last.done, last.stopped) == (5, 2, "it was corrected by hand")
    assert math.isnan(last.agreement)
    np.testing.assert_array_equal(corrected.labels[5], before)


def test_it_stops_at_a_verified_frame_even_an_empty_one(corrected, light_model, tool):
    corrected.labels.verify(4)
    *_, last = propagate_class(corrected, light_model, tool, 2, range(3, 10))
    assert (last.frame_index, last.stopped) == (4, "it is verified")
    assert not corrected.labels[4].any()


def test_it_stops_at_a_frame_corrected_during_the_run(corrected, light_model, tool):
    reports = propagate_class(corrected, light_model, tool, 2, range(3, 10))
    next(reports)
    corrected.labels[4, 10:14, 10:14] = tool
    assert next(reports).stopped == "it was corrected by hand"
    assert np.count_nonzero(corrected.labels[4]) == 16


def test_nothing_is_embedded_beyond_a_verified_frame(corrected, light_model, tool):
    corrected.labels.verify(4)
    list(propagate_class(corrected, light_model, tool, 2, range(3, 10)))
    store = corrected.embeddings(light_model.encoder_digest, light_model.embedding_shape)
    assert store.missing(range(FRAME_COUNT)) == [0, 1, *range(4, FRAME_COUNT)]


def test_pixels_that_a_person_painted_for_other_classes_stay(corrected, light_model, tool, cut_clip):
    other = tool % 7 + 1
    rows, columns = np.nonzero(cut_clip[1][3] == tool)
    middle = rows[len(rows) // 2], columns[len(rows) // 2]
    corrected.labels[3, middle[0] - 1 : middle[0] + 2, middle[1]] = other
    next(propagate_class(corrected, light_model, tool, 2, [3]))
    assert (corrected.labels[3, middle[0] - 1 : middle[0] + 2, middle[1]] == other).all()
    assert corrected.labels.provenance(3, other) == Provenance.EDITED
    assert corrected.labels.table("contested")[3, corrected.classes.ids.index(tool)] > 0


def test_verified_classes_stay(corrected, light_model, tool, cut_clip):
    other = tool % 7 + 1
    predict(corrected, 3, cut_clip[1][3] == tool, other)
    corrected.labels.verify(3, [other])
    before = corrected.labels[3]
    next(propagate_class(corrected, light_model, tool, 2, [3]))
    np.testing.assert_array_equal(corrected.labels[3] == other, before == other)


def test_a_wrong_class_predicted_in_its_place_is_replaced(corrected, light_model, tool, cut_clip):
    wrong = tool % 7 + 1
    predict(corrected, 3, cut_clip[1][3] == tool, wrong, quality=0.99)
    next(propagate_class(corrected, light_model, tool, 2, [3]))
    assert set(np.unique(corrected.labels[3])) == {0, tool}  # no rim of it is left
    assert corrected.labels.provenance(3, wrong) == Provenance.ABSENT


def test_another_instrument_keeps_its_mask_elsewhere(corrected, light_model, tool, cut_clip):
    other = tool % 7 + 1
    elsewhere = np.zeros(SIZE, bool)
    elsewhere[:20, :20] = elsewhere[-20:, -20:] = True
    elsewhere &= cut_clip[1][3] != tool
    predict(corrected, 3, elsewhere, other)
    next(propagate_class(corrected, light_model, tool, 2, [3]))
    kept = (corrected.labels[3] == other) & elsewhere
    assert kept.sum() > 0.9 * elsewhere.sum()
    assert corrected.labels.provenance(3, other) == Provenance.PREDICTED
    assert corrected.labels.predicted_iou(3, other) == pytest.approx(0.99)


def test_regions_are_removed_if_the_mask_covers_most_of_them():
    other, mask = np.zeros((2, 20, 20), bool)
    other[2:6, 2:6] = other[10:20, 10:20] = True  # a small one, 9 of its 16 pixels covered; a large one
    mask[3:6, 3:6] = mask[10:12, 10:20] = True
    remaining = remaining_mask(other, mask)
    assert not remaining[:8].any()
    assert remaining[12:20, 10:20].all()
    assert remaining.sum() == 80


def two_part_embedding(is_instrument, shape):
    """An embedding with one vector at the instrument's positions and another vector elsewhere."""
    embedding = np.zeros(shape, np.float16)
    embedding[0], embedding[1] = is_instrument, ~is_instrument
    return embedding


def test_the_mask_follows_its_appearance_and_is_gone_without_it(light_model):
    shape, cell = light_model.embedding_shape, light_model.input_size // light_model.embedding_shape[1]
    start, shifted, empty = np.zeros((3, *shape[1:]), bool)
    start[10:16, 10:14] = shifted[11:17, 11:15] = True
    mask = start.repeat(cell, axis=0).repeat(cell, axis=1)
    carrier = MaskCarrier(light_model, two_part_embedding(start, shape), mask, None)
    moved = carrier.carry(two_part_embedding(shifted, shape))
    moved_mask = (moved.low_res_logits > 0).numpy()
    assert iou(moved_mask, shifted.repeat(4, axis=0).repeat(4, axis=1)) > 0.9
    assert moved.agreement > 0.9
    assert not moved.is_gone
    assert carrier.carry(two_part_embedding(empty, shape)).is_gone


def moving_project(folder, shifts):
    """A project in which a textured tool moves over tissue, painted in frame 0; and its masks."""
    size = (160, 200)
    background, tool = texture(0, size), texture(1, size, METAL)
    frames, masks = zip(*(scene(background, tool, shift, size) for shift in shifts), strict=True)
    project = Project.create(folder / "p.surgicalsam", VideoReader(write_clip(folder / "clip", frames)), ENDOVIS2018)
    paint(project, 0, masks[0], 3)
    return project, masks


def test_an_instrument_that_left_is_reported(tmp_path, light_model):
    project, masks = moving_project(tmp_path, [-6 * index for index in range(26)])
    with project:
        *_carried, last = propagate_class(project, light_model, 3, 0, range(1, 26))
        assert min(iou(project.labels[index] == 3, masks[index]) for index in range(1, 12)) > 0.7
    assert re.fullmatch(r"only [01]\.\d% of the mask's area is left \(less than 2%\)", last.stopped)
    assert 15 <= last.frame_index <= 21  # its last pixels are in frame 18


def test_a_covered_instrument_is_found_again(tmp_path, light_model):
    project, masks = moving_project(tmp_path, [2 * index for index in range(10)])
    frames = [project.video.frame(index) for index in range(10)]
    for index in (4, 5):
        frames[index][40:120, 60:90] = (90, 40, 40)  # an instrument in front of it
    with project:
        covered = Project.create(
            tmp_path / "q.surgicalsam", VideoReader(write_clip(tmp_path / "covered", frames)), ENDOVIS2018
        )
        with covered:
            paint(covered, 0, masks[0], 3)
            *_, last = propagate_class(covered, light_model, 3, 0, range(1, 10))
            assert last.stopped is None
            assert iou(covered.labels[9] == 3, masks[9]) > 0.8


def test_a_black_frame_stops_it(tmp_path, light_model):
    project, masks = moving_project(tmp_path, [index for index in range(4)])
    frames = [project.video.frame(0), project.video.frame(1), np.zeros((160, 200, 3), np.uint8)]
    with (
        project,
        Project.create(
            tmp_path / "q.surgicalsam", VideoReader(write_clip(tmp_path / "black", frames)), ENDOVIS2018
        ) as black,
    ):
        paint(black, 0, masks[0], 3)
        *_, last = propagate_class(black, light_model, 3, 0, [1, 2])
        assert (last.frame_index, last.stopped) == (2, SCENE_CHANGES)


def test_a_model_that_marks_another_region_has_no_say(light_model, cut_clip, tool):
    mask = cut_clip[1][2] == tool
    frame = PhantomScene(SCENE, SIZE, 40).frame(2).image
    embedding = light_model.embed([frame])[0]
    carried = LabelCarrier(frame, mask.astype(np.uint8), (0, 1)).carry(frame)
    elsewhere = ModelWitness(light_model, tool, embedding, ~mask)
    assert elsewhere.added_to(carried, embedding) is carried
    unknown = ModelWitness(light_model, None, embedding, mask)
    assert unknown.added_to(carried, embedding) is carried
    right = ModelWitness(light_model, tool, embedding, mask)
    added = right.added_to(carried, embedding)
    assert iou(label_map_of(added, (0, 1), SIZE) == 1, mask) > 0.9


def test_a_mask_of_a_few_pixels_does_not_fail(tmp_path, light_model):
    project, _masks = moving_project(tmp_path, [0, 1])
    with project:
        project.labels[0, 60:62, 60:62] = 5
        assert len(list(propagate_class(project, light_model, 5, 0, [1]))) == 1


def test_a_propagation_can_be_undone(corrected, light_model, tool):
    with corrected.history.action("Propagate") as action:
        list(propagate_class(corrected, light_model, tool, 2, [3, 4], action=action))
    assert corrected.labels[4].any()
    corrected.history.undo()
    assert not corrected.labels[3].any()
    assert corrected.labels.provenance(4, tool) == Provenance.EMPTY
    assert corrected.labels[2].any()


def test_disk_space_is_needed_only_for_the_next_frames(corrected, light_model, tool, monkeypatch):
    monkeypatch.setattr(propagate, "FRAMES_AHEAD", 2)
    room = 3 * corrected.embeddings(light_model.encoder_digest, light_model.embedding_shape).frame_bytes
    monkeypatch.setattr(embed, "free_bytes", lambda folder: room)
    assert len(list(propagate_class(corrected, light_model, tool, 2, range(3, 9)))) == 6


def test_a_class_without_a_mask_cannot_be_propagated(project, light_model, tool):
    with pytest.raises(ProjectError, match=r"Frame 2 has no .* to propagate"):
        next(propagate_class(project, light_model, tool, 2, [3]))


def test_unknown_classes_and_frames_are_refused(corrected, light_model, tool):
    with pytest.raises(ClassSetError):
        next(propagate_class(corrected, light_model, 77, 2, [3]))
    with pytest.raises(VideoError, match=f"0 to {FRAME_COUNT - 1}; got {FRAME_COUNT}"):
        next(propagate_class(corrected, light_model, tool, 2, [FRAME_COUNT]))
