"""Fill between: carry corrected masks into the frames between corrected frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from moving_textures import METAL, iou, scene, texture, window, write_clip
from PIL import Image

from surgicalsam_napari.errors import ClassSetError, ProjectError
from surgicalsam_napari.inference.segment import SegmentReport
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.surgical_sam import FramePrediction
from surgicalsam_napari.propagation.carried_labels import carried_labels
from surgicalsam_napari.propagation.fill_between import FillOutcome, FillReport, fill_between
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.store.corrections import gaps_between
from surgicalsam_napari.tracking.predict_and_fill import predict_and_fill
from surgicalsam_napari.video import VideoReader

SIZE, COUNT = (160, 200), 13
TOOL, OTHER, THIRD = 3, 4, 5
REAL = Path(__file__).resolve().parents[2] / "shared/data/endovis2015_robotic"


def clip(folder, shifts, cut_at=None):
    """A project of a clip in which a tool moves, and its masks (T, H, W)."""
    background, tool = texture(0, SIZE), texture(1, SIZE, METAL)
    frames, masks = zip(*(scene(background, tool, shift, SIZE) for shift in shifts), strict=True)
    frames = list(frames)
    if cut_at is not None:
        frames[cut_at:] = [window(texture(7, SIZE), index, 0, SIZE) for index in range(len(frames) - cut_at)]
    video = VideoReader(write_clip(folder / "clip", frames))
    return Project.create(folder / "clip.surgicalsam", video, ENDOVIS2018), np.stack(masks)


@pytest.fixture
def moving(tmp_path):
    """A tool that moves three pixels a frame; nothing is corrected."""
    project, masks = clip(tmp_path, [3 * index for index in range(COUNT)])
    with project:
        yield project, masks


@pytest.fixture
def corrected(moving):
    """The same, corrected in the first, sixth and last frame."""
    project, masks = moving
    for frame_index in (0, 6, COUNT - 1):
        paint(project, frame_index, masks[frame_index], TOOL)
    return project, masks


def paint(project, frame_index, mask, class_id):
    labels = project.labels[frame_index]
    labels[mask] = class_id
    project.labels[frame_index] = labels


def predict(project, frame_index, mask, class_id, quality=0.9):
    scores = np.array([quality], np.float32)
    label_map = np.where(mask, np.uint8(class_id), np.uint8(0))
    present = np.array([bool(mask.any())])
    prediction = FramePrediction((class_id,), label_map, scores, scores, present, np.zeros(1, np.float32))
    project.labels.write_prediction(frame_index, prediction, 7)


def run(steps) -> tuple[list, FillOutcome]:
    reports = []
    while True:
        try:
            reports.append(next(steps))
        except StopIteration as stop:
            return reports, stop.value


def test_all_frames_between_corrected_frames_are_filled(corrected):
    project, masks = corrected
    reports, outcome = run(fill_between(project, [TOOL]))
    between = [index for index in range(COUNT) if index not in (0, 6, COUNT - 1)]
    assert outcome == FillOutcome(tuple(between), 2, ())
    assert str(outcome) == "Filled 10 frames in 2 gaps."
    assert min(iou(project.labels[index] == TOOL, masks[index]) for index in between) > 0.9
    assert [report.done for report in reports][-1] == reports[-1].total == len(between)
    assert sorted(report.frame_index for report in reports if report.agreement) == between


def test_the_agreement_is_stored_as_predicted_iou_and_presence(corrected):
    project, _masks = corrected
    reports, _outcome = run(fill_between(project, [TOOL]))
    agreement = {report.frame_index: report.agreement[TOOL] for report in reports if report.agreement}
    assert project.labels.provenance(3, TOOL) == Provenance.PREDICTED
    assert project.labels.predicted_iou(3, TOOL) == pytest.approx(agreement[3])
    assert project.labels.presence(3, TOOL) == pytest.approx(agreement[3])
    assert 0.7 < agreement[3] <= 1


def test_corrected_frames_stay(corrected):
    project, masks = corrected
    run(fill_between(project, [TOOL]))
    for frame_index in (0, 6, COUNT - 1):
        assert project.labels.provenance(frame_index, TOOL) == Provenance.EDITED
        np.testing.assert_array_equal(project.labels[frame_index] == TOOL, masks[frame_index])


def test_one_undo_takes_everything_back(corrected):
    project, _masks = corrected
    run(fill_between(project, [TOOL]))
    project.history.undo()
    assert not any(project.labels[index].any() for index in (1, 5, 8, 11))
    assert project.labels.provenance(3, TOOL) == Provenance.EMPTY
    assert project.history.to_undo is None


def test_cancelling_keeps_the_finished_frames_as_one_action(corrected):
    project, _masks = corrected
    steps = fill_between(project, [TOOL])
    report = next(report for report in steps if report.agreement)
    steps.close()
    assert (project.labels[report.frame_index] == TOOL).any()
    assert not project.labels[1].any()
    project.history.undo()
    assert not project.labels[report.frame_index].any()


def test_pixels_that_a_person_painted_or_verified_for_other_classes_stay(corrected):
    project, masks = corrected
    rows, columns = np.nonzero(masks[3])
    row, column = rows[len(rows) // 2], columns[len(columns) // 2]
    project.labels[3, row - 1 : row + 2, column] = OTHER
    predict(project, 4, masks[4], THIRD)
    project.labels.verify(4, [THIRD])
    run(fill_between(project, [TOOL]))
    assert (project.labels[3, row - 1 : row + 2, column] == OTHER).all()
    assert (project.labels[3] == TOOL).any()
    np.testing.assert_array_equal(project.labels[4] == THIRD, masks[4])


def test_a_prediction_of_another_class_in_its_place_is_replaced(corrected):
    project, masks = corrected
    predict(project, 3, masks[3], OTHER, quality=0.99)
    run(fill_between(project, [TOOL]))
    assert set(np.unique(project.labels[3])) == {0, TOOL}


def test_several_classes_are_filled_together_and_share_the_pixels(moving):
    project, masks = moving
    parts = [(mask & (np.cumsum(mask, axis=1) <= 30), mask & (np.cumsum(mask, axis=1) > 30)) for mask in masks]
    for frame_index in (0, 8):
        paint(project, frame_index, parts[frame_index][0], TOOL)
        paint(project, frame_index, parts[frame_index][1], OTHER)
    _reports, outcome = run(fill_between(project, [TOOL, OTHER]))
    assert outcome.gaps == 1
    for frame_index in range(1, 8):
        for class_id, part in zip((TOOL, OTHER), parts[frame_index], strict=True):
            assert iou(project.labels[frame_index] == class_id, part) > 0.8
        assert iou(project.labels[frame_index] > 0, masks[frame_index]) > 0.9


def test_a_class_is_filled_between_its_own_corrected_frames(moving):
    project, masks = moving
    for frame_index in (0, 8):
        paint(project, frame_index, masks[frame_index], TOOL)
    project.labels[4, 0:9, 0:9] = OTHER  # nobody looked for the tool here
    assert [(gap.before, gap.after, gap.class_ids) for gap in gaps_between(project, [TOOL, OTHER])] == [(0, 8, (TOOL,))]
    run(fill_between(project, [TOOL, OTHER]))
    assert iou(project.labels[4] == TOOL, masks[4]) > 0.9
    assert (project.labels[4, 0:9, 0:9] == OTHER).all()


def test_a_tool_that_leaves_is_carried_until_it_has_left(tmp_path):
    project, masks = clip(tmp_path, [-12 * index for index in range(COUNT)])  # gone from frame 10 on
    with project:
        paint(project, 0, masks[0], TOOL)
        project.labels.verify(COUNT - 1)  # wholly background
        run(fill_between(project, [TOOL]))
        assert min(iou(project.labels[index] == TOOL, masks[index]) for index in range(1, 7)) > 0.7
        assert not (project.labels[11] == TOOL).any()
        assert project.labels.provenance(11, TOOL) == Provenance.ABSENT


def test_at_a_cut_each_side_is_carried_up_to_it(tmp_path):
    project, masks = clip(tmp_path, [2 * index for index in range(COUNT)], cut_at=6)
    with project:
        paint(project, 0, masks[0], TOOL)
        project.labels[COUNT - 1, 120:150, 20:60] = TOOL
        _reports, outcome = run(fill_between(project, [TOOL]))
        assert outcome.left == ()
        assert iou(project.labels[5] == TOOL, masks[5]) > 0.9
        assert not (project.labels[7, :100] == TOOL).any()
        assert (project.labels[7, 125:150, 25:55] == TOOL).mean() > 0.9


def test_black_frames_are_left_alone(tmp_path):
    background, tool = texture(0, SIZE), texture(1, SIZE, METAL)
    frames = [scene(background, tool, 2 * index, SIZE) for index in range(8)]
    pictures = [np.zeros_like(frame) if index in (3, 4) else frame for index, (frame, _mask) in enumerate(frames)]
    with Project.create(
        tmp_path / "p.surgicalsam", VideoReader(write_clip(tmp_path / "v", pictures)), ENDOVIS2018
    ) as project:
        for frame_index in (0, 7):
            paint(project, frame_index, frames[frame_index][1], TOOL)
        _reports, outcome = run(fill_between(project, [TOOL]))
        assert outcome.left == (3, 4)
        assert "2 frames left" in str(outcome)
        assert project.labels.provenance(3, TOOL) == Provenance.EMPTY


def test_frames_too_far_from_a_corrected_frame_are_left_to_the_model(corrected):
    project, _masks = corrected
    _reports, outcome = run(fill_between(project, [TOOL], most_frames=2))
    assert outcome.left == (3, 9)
    assert project.labels.provenance(3, TOOL) == Provenance.EMPTY


@pytest.mark.parametrize(("quality", "is_replaced"), [(0.5, True), (0.999, False)])
def test_beyond_the_ends_a_mask_replaces_less_reliable_predictions(moving, quality, is_replaced):
    project, masks = moving
    for frame_index in (3, 6):
        paint(project, frame_index, masks[frame_index], TOOL)
    for frame_index in (0, 1, 2, 7, 8, 9):
        predict(project, frame_index, np.roll(masks[frame_index], 25, axis=0), TOOL, quality)
    _reports, outcome = run(fill_between(project, [TOOL]))
    assert outcome.beyond == (6 if is_replaced else 0)
    for frame_index in (0, 1, 2, 7, 8, 9):
        assert (iou(project.labels[frame_index] == TOOL, masks[frame_index]) > 0.9) is is_replaced
    assert not project.labels[11].any()  # nobody asked for the class there
    assert str(outcome).startswith("Filled 2 frames in 1 gap" + (", and 6 before and behind them." if is_replaced else "."))
    project.history.undo()
    assert iou(project.labels[7] == TOOL, np.roll(masks[7], 25, axis=0)) == 1


def test_a_class_of_a_few_pixels_does_not_fail(moving):
    project, _masks = moving
    for frame_index in (0, 4):
        project.labels[frame_index, 60:62, 70:72] = TOOL
    _reports, outcome = run(fill_between(project, [TOOL]))
    assert outcome.filled == (1, 2, 3)


@pytest.mark.parametrize("frames", [[], [4]])
def test_fewer_than_two_corrected_frames_are_refused_and_nothing_changes(moving, frames):
    project, masks = moving
    for frame_index in frames:
        paint(project, frame_index, masks[frame_index], TOOL)
    before = project.history.to_undo
    with pytest.raises(ProjectError, match="two corrected frames of Large Needle Driver"):
        next(fill_between(project, [TOOL]))
    assert project.history.to_undo == before


def test_corrected_frames_without_the_class_are_refused(moving):
    project, _masks = moving
    for frame_index in (2, 8):
        project.labels.verify(frame_index)
    with pytest.raises(ProjectError, match="show Large Needle Driver nowhere"):
        next(fill_between(project, [TOOL]))


def test_an_unknown_class_is_refused(corrected):
    with pytest.raises(ClassSetError):
        next(fill_between(corrected[0], [77]))


def test_a_frame_corrected_during_the_run_stays(corrected):
    project, _masks = corrected
    steps = fill_between(project, [TOOL])
    next(steps)
    project.labels[3, 10:14, 10:14] = TOOL
    before = project.labels[3]
    run(steps)
    np.testing.assert_array_equal(project.labels[3], before)


def test_the_session_fills_all_classes_without_a_model(corrected):
    project, masks = corrected
    session = Session()
    session.use_project(project)
    run(session.fill_between())
    assert iou(project.labels[3] == TOOL, masks[3]) > 0.9


def test_the_embeddings_of_a_model_take_part(corrected, tiny_model):
    project, masks = corrected
    _reports, outcome = run(fill_between(project, [TOOL], tiny_model))
    assert len(outcome.filled) == 10
    store = project.embeddings(tiny_model.encoder_digest, tiny_model.embedding_shape)
    assert store.missing(range(COUNT)) == []
    assert iou(project.labels[3] == TOOL, masks[3]) > 0.7


def test_only_the_chosen_frames_change(corrected):
    project, _masks = corrected
    _reports, outcome = run(fill_between(project, [TOOL], frame_indices=[2, 8]))
    assert outcome.filled == (2, 8)
    assert [frame for frame in range(COUNT) if project.labels[frame].any()] == [0, 2, 6, 8, COUNT - 1]


def test_a_new_model_does_not_replace_carried_masks(corrected, tiny_model):
    project, masks = corrected
    run(fill_between(project, [TOOL]))
    before = np.stack([project.labels[frame] for frame in range(COUNT)])
    frames = [frame for frame in range(COUNT) if frame not in (0, 6, COUNT - 1)]
    reports = list(predict_and_fill(project, tiny_model, frames))
    assert {type(report) for report in reports[: len(frames)]} == {SegmentReport}
    filled = [report for report in reports if isinstance(report, FillReport)]
    assert {report.frame_index for report in filled if report.agreement} == set(frames)
    assert all(iou(project.labels[frame] == TOOL, masks[frame]) > 0.7 for frame in frames)
    project.history.undo()
    np.testing.assert_array_equal(np.stack([project.labels[frame] for frame in range(COUNT)]), before)


def test_labels_are_carried_without_a_project(moving):
    project, masks = moving
    corrected = {index: masks[index].astype(np.uint8) * TOOL for index in (2, 8)}
    carried = {item.frame_index: item for item in carried_labels(project.video, corrected, range(COUNT))}
    assert sorted(carried) == [index for index in range(COUNT) if index not in (2, 8)]
    for index, item in carried.items():
        assert iou(item.label_map == TOOL, masks[index]) > 0.85
        assert item.reliability.shape == SIZE
        assert 0 <= item.reliability.min() <= item.reliability.max() <= 1
    assert not project.labels[5].any()


def test_reliability_is_lower_where_the_label_is_wrong(tmp_path):
    project, masks = clip(tmp_path, [18 * (index % 2) + 5 * index for index in range(6)])
    with project:
        corrected = {index: masks[index].astype(np.uint8) for index in (0, 5)}
        right, wrong = [], []
        for item in carried_labels(project.video, corrected, range(1, 5)):
            is_right = item.label_map == masks[item.frame_index]
            right.append(item.reliability[is_right])
            wrong.append(item.reliability[~is_right])
        assert np.concatenate(right).mean() > np.concatenate(wrong).mean() + 0.1


def test_on_real_video_it_beats_copying_the_nearest_corrected_frame():
    if not (REAL / "v1.avi").is_file():
        pytest.skip(f"EndoVis 2015 is not at {REAL}")
    with VideoReader(REAL / "v1.avi") as video:
        truth = {index: np.asarray(Image.open(REAL / f"labels/v1/frame_{index:05d}.png")) for index in range(28, 47)}
        ends = {index: truth[index] for index in (28, 46)}
        filled, copied = [], []
        for item in carried_labels(video, ends, range(31, 46, 4)):
            nearest = min(ends, key=lambda end: abs(end - item.frame_index))
            for class_id in (1, 2):
                shown = truth[item.frame_index] == class_id
                filled.append(iou(item.label_map == class_id, shown))
                copied.append(iou(ends[nearest] == class_id, shown))
    assert np.mean(filled) > np.mean(copied)
    assert np.mean(filled) > 0.9
