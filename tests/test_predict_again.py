"""Predicting again with a learned model: one action, without what earlier models predicted for other classes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from surgicalsam_napari.inference import predict_again, segment_frames
from surgicalsam_napari.instruments import ENDOVIS2018, ClassSet
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.store.corrections import predicted_frames
from surgicalsam_napari.video import VideoReader

BIPOLAR, PROGRASP, DRIVER = 1, 2, 3
CORRECTED, FRAMES = 4, range(8)


@pytest.fixture
def project(clip: Path, tiny_model: SurgicalSAM) -> Iterator[Project]:
    """Eight frames predicted by a model of seven classes; in one of them a person painted the needle driver."""
    with Project.open_or_create(VideoReader(clip), ENDOVIS2018) as project:
        for _report in segment_frames(project, tiny_model, ENDOVIS2018.ids, FRAMES):
            pass
        project.labels[CORRECTED, 10:20, 10:20] = DRIVER
        yield project


@pytest.fixture
def learned(tiny_checkpoint: Path) -> SurgicalSAM:
    """A model that knows the first class alone."""
    model = load_checkpoint(tiny_checkpoint, device="cpu")
    model.prototypes.class_embeddings.weight.data = model.prototypes.class_embeddings.weight.data[:1].clone()
    model.classes = ClassSet("learned", ENDOVIS2018.classes[:1])
    model.name = "learned"
    return model


def state(project: Project) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([project.labels[frame] for frame in FRAMES]), project.labels.provenance_table()


def test_predictions_of_classes_that_the_model_does_not_know_go(project: Project, learned: SurgicalSAM) -> None:
    frames = predicted_frames(project)
    assert frames == [frame for frame in FRAMES if frame != CORRECTED]
    reports = list(predict_again(project, learned, frames))
    assert [(report.done, report.total) for report in reports] == [(done, 7) for done in range(1, 8)]
    labels, provenance = state(project)
    assert set(np.unique(labels[frames]).tolist()) <= {0, BIPOLAR}
    assert (provenance[frames, 1:] == Provenance.EMPTY).all()
    assert (provenance[frames, 0] != Provenance.EMPTY).all()
    assert np.isnan(project.labels.row("predicted_iou", 0)[1:]).all()


def test_they_stay_if_the_caller_wants_so(project: Project, learned: SurgicalSAM) -> None:
    before = state(project)[1]
    for _report in predict_again(project, learned, predicted_frames(project), forgets_others=False):
        pass
    np.testing.assert_array_equal(state(project)[1][:, 1:], before[:, 1:])


def test_it_is_one_action_and_undo_restores_everything(project: Project, learned: SurgicalSAM) -> None:
    before = state(project)
    for _report in predict_again(project, learned, predicted_frames(project)):
        pass
    assert project.history.to_undo is not None
    assert project.history.to_undo.name == "Predict 7 frames again"
    undone = project.history.undo()
    assert undone is not None and undone.kept == ()
    for restored, expected in zip(state(project), before, strict=True):
        np.testing.assert_array_equal(restored, expected)


def test_frames_reported_before_a_cancel_stay_and_are_undone_together(project: Project, learned: SurgicalSAM) -> None:
    before = state(project)
    with closing(predict_again(project, learned, predicted_frames(project))) as reports:
        done = [next(reports).frame_index for _ in range(2)]
    labels, provenance = state(project)
    later = [frame for frame in FRAMES if frame not in done]
    assert (provenance[done, 1:] == Provenance.EMPTY).all()
    np.testing.assert_array_equal(labels[later], before[0][later])
    np.testing.assert_array_equal(provenance[later], before[1][later])
    project.history.undo()
    np.testing.assert_array_equal(state(project)[0], before[0])


def test_forgetting_predictions_keeps_the_work_of_a_person(project: Project) -> None:
    labels = project.labels
    labels.verify(2, [PROGRASP])
    verified = labels[2] == PROGRASP
    labels.forget_predictions(2, [PROGRASP])
    np.testing.assert_array_equal(labels[2] == PROGRASP, verified)
    assert labels.provenance(2, PROGRASP) == Provenance.VERIFIED
    painted = labels[CORRECTED] == DRIVER
    others = [class_id for class_id in ENDOVIS2018.ids if class_id != DRIVER]
    edited = [class_id for class_id in others if labels.provenance(CORRECTED, class_id) == Provenance.EDITED]
    assert labels.forget_predictions(CORRECTED, ENDOVIS2018.ids)
    np.testing.assert_array_equal(labels[CORRECTED] == DRIVER, painted)
    assert labels.provenance(CORRECTED, DRIVER) == Provenance.EDITED
    gone = [class_id for class_id in others if class_id not in edited]
    assert {labels.provenance(CORRECTED, class_id) for class_id in gone} == {Provenance.EMPTY}
    assert not labels.forget_predictions(CORRECTED, ENDOVIS2018.ids)
