"""Masks of other systems: found under many names, scored unchanged, and checked for errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from surgicalsam_napari.errors import ExchangeError, TrainingError
from surgicalsam_napari.exchange.formats.indexed_png import write_classes, write_label_map
from surgicalsam_napari.instruments import ENDOVIS2018, ClassSet, InstrumentClass
from surgicalsam_training.data.benchmark_split import benchmark_splits, validation_frames
from surgicalsam_training.data.training_data import TrainingData, open_training_data
from surgicalsam_training.scoring.external_predictions import answers_of_files, find_predictions
from surgicalsam_training.scoring.metrics import Metrics
from surgicalsam_training.scoring.protocol import EvaluationProtocol, score

SIZE = (12, 16)
SHOWN = {"seq2/00000": (1, 4), "seq2/00001": (), "seq5/00000": (2,), "seq5/00001": (7, 1)}
FRAMES = range(4)


def truth(class_ids: tuple[int, ...]) -> np.ndarray:
    """Each class has its own columns."""
    labels = np.zeros(SIZE, np.uint8)
    for class_id in class_ids:
        labels[:, 2 * class_id : 2 * class_id + 2] = class_id
    return labels


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainingData]:
    folder = tmp_path_factory.mktemp("data") / "endovis2018"
    for name, class_ids in SHOWN.items():
        save(folder / "annotations" / f"{name}.png", truth(class_ids))
        save(folder / "images" / f"{name}.png", np.zeros((*SIZE, 3), np.uint8))
    with closing(open_training_data([folder], base=None)) as opened:
        yield opened


def scored(folder: Path, data: TrainingData, classes: ClassSet | None = None) -> tuple[Metrics, Metrics, tuple[str, ...]]:
    """Metrics of the unchanged masks, metrics without absent classes, and the notes."""
    predictions = find_predictions(folder, data, FRAMES, classes)
    answers = answers_of_files(predictions, data, FRAMES)
    return (
        score(data, answers[EvaluationProtocol.EVERY]),
        score(data, answers[EvaluationProtocol.PRESENT]),
        predictions.notes,
    )


# File names ----------------------------------------------------------------------------------------------------------


def as_label_maps(folder: Path, maps: dict[str, np.ndarray]) -> None:
    for name, labels in maps.items():
        save(folder / f"{name}.png", labels)


def as_numbered_label_maps(folder: Path, maps: dict[str, np.ndarray]) -> None:
    """Other names for the same sequences and frames, in extra folders."""
    for name, labels in maps.items():
        sequence, _, frame = name.partition("/")
        save(folder / "run_1" / f"instrument_dataset_{sequence[3:]}" / f"frame{int(frame):03d}.png", labels)


def as_flat_label_maps(folder: Path, maps: dict[str, np.ndarray]) -> None:
    for name, labels in maps.items():
        sequence, _, frame = name.partition("/")
        save(folder / f"seq_{sequence[3:]}_frame{int(frame):03d}.png", labels)


def as_masks(folder: Path, maps: dict[str, np.ndarray], value: int = 255) -> None:
    for name, labels in maps.items():
        for class_id in set(np.unique(labels).tolist()) - {0}:
            mask = np.where(labels == class_id, value, 0).astype(np.uint8)
            save(folder / "binary_annotations" / f"{name}_class{class_id}.png", mask)


def as_masks_of_0_and_1(folder: Path, maps: dict[str, np.ndarray]) -> None:
    as_masks(folder, maps, value=1)


def as_indexed_png(folder: Path, maps: dict[str, np.ndarray]) -> None:
    for name, labels in maps.items():
        sequence, _, frame = name.partition("/")
        write_label_map(folder / sequence, int(frame), labels, ENDOVIS2018)


WRITERS = [as_label_maps, as_numbered_label_maps, as_flat_label_maps, as_masks, as_masks_of_0_and_1, as_indexed_png]


@pytest.mark.parametrize("write", WRITERS)
def test_perfect_masks_score_100_under_any_names(
    data: TrainingData, tmp_path: Path, write: Callable[[Path, dict[str, np.ndarray]], None]
) -> None:
    write(tmp_path, {name: truth(class_ids) for name, class_ids in SHOWN.items()})
    given, dropped, _ = scored(tmp_path, data)
    assert given.challenge_iou == given.iou == given.mean_class_iou == dropped.iou == 100
    assert given.absent_false_positive_rate == given.missed_rate == 0


def test_a_mask_of_an_absent_class_counts_unless_it_is_removed(data: TrainingData, tmp_path: Path) -> None:
    maps = {name: truth(class_ids) for name, class_ids in SHOWN.items()}
    maps["seq5/00000"] = truth((2, 3))
    as_label_maps(tmp_path, maps)
    given, dropped, _ = scored(tmp_path, data)
    assert given.challenge_iou == dropped.challenge_iou == dropped.iou == 100
    assert given.iou == pytest.approx(100 * (1 + 0.5 + 1) / 3)
    assert given.class_iou[3] == 0 and given.absent_false_positive_rate == pytest.approx(100 / (4 * 7 - 5))
    assert dropped.absent_false_positive_rate == 0


def test_ids_of_another_class_set_are_matched_by_name(data: TrainingData, tmp_path: Path) -> None:
    names = {1: 9, 2: 8, 4: 5, 7: 1}
    others = ClassSet(
        "another set", tuple(InstrumentClass(new, ENDOVIS2018.by_id(old).name, "#102030") for old, new in names.items())
    )
    lookup = np.zeros(256, np.uint8)
    lookup[list(names)] = list(names.values())
    as_label_maps(tmp_path, {name: lookup[truth(class_ids)] for name, class_ids in SHOWN.items()})
    assert scored(tmp_path, data, others)[0].iou == 100
    write_classes(tmp_path, others, "video.mp4")
    assert scored(tmp_path, data)[0].iou == 100


def test_frames_of_a_single_sequence_need_no_folder(data: TrainingData, tmp_path: Path) -> None:
    for frame_index in (0, 1):
        save(tmp_path / f"{frame_index:05d}.png", truth(SHOWN[f"seq2/{frame_index:05d}"]))
    example_indices = [0, 1]
    answers = answers_of_files(find_predictions(tmp_path, data, example_indices), data, example_indices)
    assert score(data, answers[EvaluationProtocol.EVERY]).iou == 100


def test_frames_without_a_mask_count_as_empty_and_a_note_says_so(data: TrainingData, tmp_path: Path) -> None:
    as_masks(tmp_path, {name: truth(SHOWN[name]) for name in ("seq2/00000", "seq5/00000")})
    given, _, notes = scored(tmp_path, data)
    assert given.missed_rate == pytest.approx(100 * 2 / 5)
    assert notes[0] == "2 frames have no mask and count as predicted empty (seq2/00001, seq5/00001)."


def test_where_masks_overlap_the_higher_id_is_used_and_a_note_says_so(data: TrainingData, tmp_path: Path) -> None:
    as_masks(tmp_path, {name: truth(class_ids) for name, class_ids in SHOWN.items()})
    save(tmp_path / "binary_annotations/seq2/00000_class1.png", np.full(SIZE, 255, np.uint8))
    given, _, notes = scored(tmp_path, data)
    assert given.class_iou[4] == 100 and given.class_iou[1] < 100
    assert "the higher id is used" in notes[-1]


def test_files_of_other_frames_are_ignored_and_a_note_says_so(data: TrainingData, tmp_path: Path) -> None:
    as_label_maps(tmp_path, {name: truth(class_ids) for name, class_ids in SHOWN.items()})
    save(tmp_path / "seq1" / "00000.png", truth((3,)))
    save(tmp_path / "seq2" / "00777.png", truth((3,)))
    given, _, notes = scored(tmp_path, data)
    assert given.iou == 100
    assert notes[0].startswith("2 files belong to no frame that is scored")


# Errors --------------------------------------------------------------------------------------------------------------


def remove(folder: Path) -> None:
    (folder / "seq5/00001.png").unlink()


def shrink(folder: Path) -> None:
    save(folder / "seq5/00001.png", truth((1,))[:6])


def strange_value(folder: Path) -> None:
    save(folder / "seq5/00001.png", np.full(SIZE, 40, np.uint8))


def colour(folder: Path) -> None:
    save(folder / "seq5/00001.png", np.dstack([truth((1,)), truth((2,)), truth((3,))]))


def twice(folder: Path) -> None:
    save(folder / "again/seq5/00001.png", truth((1,)))


def mixed(folder: Path) -> None:
    save(folder / "seq5/00001_class1.png", truth((1,)))


def elsewhere(folder: Path) -> None:
    (folder / "seq2").rename(folder / "left")
    (folder / "seq5").rename(folder / "right")


def cut(folder: Path) -> None:
    (folder / "seq5/00001.png").write_bytes((folder / "seq5/00001.png").read_bytes()[:60])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove, "label maps for 3 of 4 frames, but none for seq5/00001. Add them"),
        (shrink, "has 16 x 6 pixels, but seq5/00001 has 16 x 12. Resize"),
        (strange_value, "has the value 40; the classes are 1 Bipolar Forceps, .*--classes"),
        (colour, "is a colour picture"),
        (twice, "seq5/00001 has two label maps"),
        (mixed, "holds masks per class .*and label maps .*one kind"),
        (elsewhere, "named like seq2/00000.png or seq2/00000_class1.png, but its first file is left/00000.png"),
        (cut, "00001.png is damaged"),
    ],
)
def test_wrong_label_maps_are_errors(
    data: TrainingData, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    as_label_maps(tmp_path, {name: truth(class_ids) for name, class_ids in SHOWN.items()})
    spoil(tmp_path)
    with pytest.raises((TrainingError, ExchangeError), match=message):
        scored(tmp_path, data)


@pytest.mark.parametrize(
    ("name", "pixels", "message"),
    [
        ("seq5/00001_class9.png", truth((1,)), "is of class 9; the classes are 1 Bipolar Forceps"),
        ("seq5/00001_class1.png", truth((7,)), "has the value 7; a mask has 0 and 255, or 0 and 1. Threshold it"),
        ("seq5/00001_class1.png", truth((1,))[:6], "has 16 x 6 pixels"),
    ],
)
def test_wrong_masks_are_errors(data: TrainingData, tmp_path: Path, name: str, pixels: np.ndarray, message: str) -> None:
    as_masks(tmp_path, {frame: truth(class_ids) for frame, class_ids in SHOWN.items()})
    save(tmp_path / "binary_annotations" / name, pixels)
    with pytest.raises(TrainingError, match=message):
        scored(tmp_path, data)


def test_a_sequence_without_any_mask_is_an_error(data: TrainingData, tmp_path: Path) -> None:
    as_masks(tmp_path, {"seq2/00000": truth((1,))})
    with pytest.raises(TrainingError, match="no mask for any frame of seq5"):
        scored(tmp_path, data)


def test_a_missing_or_empty_folder_is_an_error(data: TrainingData, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="there is none"):
        find_predictions(tmp_path / "none", data, FRAMES)
    with pytest.raises(TrainingError, match="holds no png, bmp or tif"):
        find_predictions(tmp_path, data, FRAMES)


# Data layouts --------------------------------------------------------------------------------------------------------


def processed_2018(root: Path) -> Path:
    """The authors' folder; its own masks are the predictions."""
    for number in (1, 2, 5, 9, 15):
        part = root / ("train/0" if number == 1 else "val")
        name = f"seq_{number}/00000"
        save(part / "binary_annotations" / f"{name}_class2.png", np.where(truth((2,)) > 0, 255, 0).astype(np.uint8))
        (part / "sam_features_h" / name).parent.mkdir(parents=True)
        np.save(part / "sam_features_h" / f"{name}.npy", np.zeros((1, 1, 1), np.float16))  # only its existence matters here
    return root / "val" / "binary_annotations"


def distributed_2018(root: Path) -> Path:
    for number in (1, 2, 5, 9, 15):
        save(root / "train" / f"seq_{number}" / "left_frames" / "frame000.png", np.zeros((*SIZE, 3), np.uint8))
        save(root / "train" / f"seq_{number}" / "annotations" / "frame000.png", truth((2,)))
    return root / "train"


def distributed_2017(root: Path) -> Path:
    """Predictions with the ids of 2017 and with the sequence names of SurgicalSAM's authors."""
    for number in range(1, 9):
        folder = root / f"instrument_dataset_{number}"
        save(folder / "left_frames/frame000.png", np.zeros((*SIZE, 3), np.uint8))
        save(folder / "ground_truth/Vessel_Sealer_labels/frame000.png", np.where(truth((4,)) > 0, 20, 0).astype(np.uint8))
        save(root / "../predictions" / f"seq{number}/00000.png", truth((4,)))
    return root.parent / "predictions"


@pytest.mark.parametrize(
    ("write", "benchmark", "count"),
    [(processed_2018, "endovis2018", 4), (distributed_2018, "endovis2018", 4), (distributed_2017, "endovis2017", 2)],
)
def test_the_protocol_finds_its_frames_and_their_masks_in_every_layout(
    tmp_path: Path, write: Callable[[Path], Path], benchmark: str, count: int
) -> None:
    predictions = write(tmp_path / "data")
    with closing(open_training_data([tmp_path / "data"], base=None)) as opened:
        for split in benchmark_splits(benchmark):
            frames = validation_frames(opened, split)
            assert len(frames) == count
            answers = answers_of_files(find_predictions(predictions, opened, frames), opened, frames)
            metrics = score(opened, answers[EvaluationProtocol.EVERY])
            assert metrics.challenge_iou == metrics.iou == 100 and metrics.missed_rate == 0
