"""Prompted classes, validation frames and scores: both protocols on a few frames with known results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from PIL import Image

from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.phantom import PhantomScene
from surgicalsam_training.data.benchmark_split import benchmark_splits, validation_frames
from surgicalsam_training.data.training_data import AnnotatedFrame, TrainingData, open_training_data
from surgicalsam_training.scoring.evaluate import embed_missing, evaluate, predicted_label_map
from surgicalsam_training.scoring.metrics import Metrics, evaluate_label_maps, mean_metrics
from surgicalsam_training.scoring.protocol import (
    EvaluationProtocol,
    answers_of_model,
    every_class,
    predict_classes,
    present_classes,
    score,
    without_absent_classes,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, tiny_model: SurgicalSAM) -> Iterator[TrainingData]:
    """Two phantom scenes of three frames, and one frame without instruments; embedded."""
    folder = tmp_path_factory.mktemp("data") / "phantom2018"
    for sequence, seed in (("seq1", 3), ("seq2", 8)):
        for frame_index, frame in enumerate(PhantomScene(seed, (96, 128), 3)):
            write_frame(folder, f"{sequence}/{frame_index:05d}", frame.image, frame.labels)
    write_frame(folder, "seq2/00009", np.full((96, 128, 3), 90, np.uint8), np.zeros((96, 128), np.uint8))
    with closing(open_training_data([folder], base=ENDOVIS2018)) as opened:
        list(embed_missing(tiny_model, opened, range(7)))
        yield opened


def write_frame(folder: Path, name: str, image: np.ndarray, labels: np.ndarray) -> None:
    for kind, pixels in (("images", image), ("annotations", labels)):
        path = folder / kind / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


@pytest.fixture
def strict_model(tiny_model: SurgicalSAM) -> Iterator[SurgicalSAM]:
    """A model that finds no class present."""
    before, tiny_model.presence_threshold = tiny_model.presence_threshold, 1.1
    yield tiny_model
    tiny_model.presence_threshold = before


FRAMES = range(7)


# Prompted classes ----------------------------------------------------------------------------------------------------


def test_only_prompted_classes_get_a_mask(tiny_model: SurgicalSAM, data: TrainingData) -> None:
    predictions = dict(predict_classes(tiny_model, data, FRAMES, present_classes(data), gate=False))
    assert list(predictions) == list(FRAMES)
    for example_index, label_map in predictions.items():
        assert set(np.unique(label_map)) - {0} <= set(data.present_class_ids(example_index))
    assert any(label_map.any() for label_map in predictions.values())
    assert not predictions[6].any()  # no class is present, so none was prompted


def test_prompting_every_class_gives_the_prediction_of_the_model(tiny_model: SurgicalSAM, data: TrainingData) -> None:
    asked = every_class(tiny_model, data)
    for example_index, label_map in predict_classes(tiny_model, data, FRAMES, asked, gate=True):
        embedding = data.embeddings([example_index], 0, tiny_model)
        expected = tiny_model.predict(embedding, ENDOVIS2018.ids, data.frames[example_index].size)[0].label_map
        assert (label_map == expected).all()
        assert (predicted_label_map(tiny_model, data, example_index) == expected).all()


def test_presence_gates_masks_only_on_request(strict_model: SurgicalSAM, data: TrainingData) -> None:
    asked = every_class(strict_model, data)
    assert not any(label_map.any() for _, label_map in predict_classes(strict_model, data, FRAMES, asked, gate=True))
    assert any(label_map.any() for _, label_map in predict_classes(strict_model, data, FRAMES, asked, gate=False))
    answers = answers_of_model(strict_model, data, FRAMES)
    assert any(label_map.any() for _, label_map in answers[EvaluationProtocol.PRESENT])
    assert not any(label_map.any() for _, label_map in answers[EvaluationProtocol.EVERY])


def test_a_class_that_the_model_does_not_know_gets_no_mask(tiny_model: SurgicalSAM, data: TrainingData) -> None:
    ((_, label_map),) = predict_classes(tiny_model, data, [0], lambda example_index: (99,), gate=False)
    assert not label_map.any()


# Scores --------------------------------------------------------------------------------------------------------------


def test_prompting_only_present_classes_gives_no_false_positives(tiny_model: SurgicalSAM, data: TrainingData) -> None:
    answers = answers_of_model(tiny_model, data, FRAMES)
    present, every = (score(data, answers[protocol]) for protocol in (EvaluationProtocol.PRESENT, EvaluationProtocol.EVERY))
    assert present.absent_false_positive_rate == 0
    assert present.iou == pytest.approx(present.challenge_iou)
    assert every.absent_false_positive_rate > 0
    assert every.iou < every.challenge_iou
    assert evaluate(tiny_model, data, FRAMES).challenge_iou == every.challenge_iou


def test_without_absent_classes_only_present_classes_keep_their_masks(data: TrainingData) -> None:
    (class_id, *_), absent = data.present_class_ids(0), min(set(ENDOVIS2018.ids) - set(data.present_class_ids(0)))
    guess = np.full(data.frames[0].size, absent, np.uint8)
    guess[:40] = class_id
    ((_, kept),) = without_absent_classes(data, [(0, guess)])
    assert (kept[:40] == class_id).all() and not kept[40:].any()


def test_classes_that_are_not_annotated_do_not_count() -> None:
    truth = np.array([[1, 2, 0, 0]], np.uint8)
    data = fake_data([truth], known={1})
    metrics = score(data, [(0, np.array([[1, 3, 3, 0]], np.uint8))])
    assert metrics.challenge_iou == metrics.iou == 100 and np.isnan(metrics.absent_false_positive_rate)


def test_scores_equal_the_authors() -> None:
    reference = Path(__file__).parent / "reference"
    expected = json.loads((reference / "expected.json").read_text())["metrics"]
    with np.load(reference / "metrics.npz") as file:
        data = fake_data(list(file["ground_truth"]), known=set(ENDOVIS2018.ids))
        metrics = score(data, enumerate(file["predictions"]))
        prompted = score(data, without_absent_classes(data, enumerate(file["predictions"])))
    assert round(metrics.challenge_iou, 3) == expected["challengIoU"]
    assert round(metrics.iou, 3) == expected["IoU"]
    assert [round(value, 3) for value in metrics.class_iou.values()] == expected["cIoU_per_class"]
    # the Challenge IoU counts only present classes: removing the others leaves it unchanged, and raises the IoU to it
    assert prompted.challenge_iou == pytest.approx(metrics.challenge_iou)
    assert prompted.iou == pytest.approx(prompted.challenge_iou)


def fake_data(truths: list[np.ndarray], known: set[int]) -> TrainingData:
    def present(example_index: int) -> tuple[int, ...]:
        return tuple(sorted(set(np.unique(truths[example_index]).tolist()) & known))

    return cast(
        TrainingData,
        SimpleNamespace(
            classes=ENDOVIS2018,
            label_map=lambda example_index: truths[example_index],
            known_class_ids=lambda example_index: frozenset(known),
            present_class_ids=present,
        ),
    )


def test_the_mean_of_a_class_is_over_the_folds_in_which_it_occurs() -> None:
    both = np.array([[1, 2]])
    folds = [
        evaluate_label_maps([(both, both)], (1, 2, 3)),
        evaluate_label_maps([(np.array([[1, 0]]), np.array([[1, 1]]))], (1, 2, 3)),
    ]
    mean = mean_metrics(folds)
    assert mean.challenge_iou == pytest.approx(75) and mean.class_iou[1] == pytest.approx(75)
    assert mean.class_iou[2] == 100 and np.isnan(mean.class_iou[3])
    assert mean.mean_class_iou == pytest.approx(87.5)
    assert same(mean_metrics(folds[:1]), folds[0])


def same(one: Metrics, other: Metrics) -> bool:
    return repr(one) == repr(other)  # NaN is not equal to itself


# Validation frames ---------------------------------------------------------------------------------------------------


def listed(*sequences: str) -> TrainingData:
    frames = tuple(AnnotatedFrame(name, index, f"{name}/{index}", (8, 8)) for name in sequences for index in (0, 1))
    return cast(TrainingData, SimpleNamespace(frames=frames))


@pytest.mark.parametrize("pattern", ["seq{}", "seq_{}", "instrument_dataset_{}", "val/seq_{}"])
def test_the_validation_sequences_are_found_in_any_layout(pattern: str) -> None:
    data = listed(*(pattern.format(number) for number in range(1, 17)))
    (split,) = benchmark_splits("endovis2018")
    sequences = {data.frames[example_index].sequence for example_index in validation_frames(data, split)}
    assert sequences == {pattern.format(number) for number in (2, 5, 9, 15)}
    assert len(validation_frames(data, split)) == 8


def test_the_four_folds_of_2017_validate_every_sequence_once() -> None:
    splits = benchmark_splits("endovis2017")
    assert [split.sequences for split in splits] == [(1, 3), (2, 5), (4, 8), (6, 7)]
    assert benchmark_splits("endovis2017", 2) == (splits[2],)
    assert splits[2].title == "EndoVis 2017, fold 2" and splits[2].frames == "fold 2: sequences 4, 8"


@pytest.mark.parametrize(
    ("benchmark", "fold", "message"),
    [
        ("endovis2018", 1, "has one split; got fold 1"),
        ("endovis2017", 4, "folds 0 to 3; got 4"),
        ("endovis2019", None, 'endovis2018 or endovis2017; got "endovis2019"'),
    ],
)
def test_an_unknown_split_is_an_error(benchmark: str, fold: int | None, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        benchmark_splits(benchmark, fold)


def test_a_missing_sequence_and_a_number_used_twice_are_errors() -> None:
    (split,) = benchmark_splits("endovis2018")
    with pytest.raises(TrainingError, match=r"have no sequence 9, 15 \(they have seq2, seq5, clip\)"):
        validation_frames(listed("seq2", "seq5", "clip"), split)
    with pytest.raises(TrainingError, match="seq5 and seq_5 have this number"):
        validation_frames(listed("seq2", "seq5", "seq_5", "seq9", "seq15"), split)
