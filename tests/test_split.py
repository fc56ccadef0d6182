"""The split: by video or sequence, never by neighbouring frames; it says how it was made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pytest

from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_training.data.split import Split, split_frames
from surgicalsam_training.data.training_data import AnnotatedFrame, TrainingData


@dataclass
class Listed:
    """Frames and the classes that they show; a split reads nothing else."""

    frames: tuple[AnnotatedFrame, ...]
    shown: tuple[tuple[int, ...], ...]
    classes = ENDOVIS2018

    def present_class_ids(self, example_index: int) -> tuple[int, ...]:
        return self.shown[example_index]


def listed(*sequences: tuple[str, list[tuple[int, ...]]], split: str | None = None, step: int = 1) -> TrainingData:
    frames, shown = [], []
    for name, rows in sequences:
        for number, classes in enumerate(rows):
            frames.append(AnnotatedFrame(name, number * step, f"{name}/{number}", (8, 8), split))
            shown.append(classes)
    return cast(TrainingData, Listed(tuple(frames), tuple(shown)))


def together(*parts: TrainingData) -> TrainingData:
    listed_parts = [cast(Listed, part) for part in parts]
    return cast(TrainingData, Listed(sum((p.frames for p in listed_parts), ()), sum((p.shown for p in listed_parts), ())))


def split(data: TrainingData, validation: tuple[str, ...] = (), share: float | None = 0.2, seed: int = 666) -> Split:
    result = split_frames(data, validation=validation, validation_share=share, seed=seed)
    assert not set(result.training) & set(result.validation)
    assert result == split_frames(data, validation=validation, validation_share=share, seed=seed)
    return result


def sequences(data: TrainingData, example_indices: tuple[int, ...]) -> set[str]:
    return {data.frames[example_index].sequence for example_index in example_indices}


FIVE = [(f"seq_{number}", [(1, 2)] * 10) for number in (1, 2, 3, 4, 12)]


def test_whole_sequences_validate_near_the_share() -> None:
    data = listed(*FIVE)
    result = split(data)
    assert len(result.validation) == 10 and len(result.training) == 40
    assert len(sequences(data, result.validation)) == 1
    assert not sequences(data, result.validation) & sequences(data, result.training)
    assert sequences(data, result.validation).pop() in result.how
    assert result.warnings == ()
    assert len(split(data, share=0.6).validation) == 30


def test_the_seed_decides_between_equal_splits() -> None:
    assert len({split(listed(*FIVE), seed=seed).validation for seed in range(20)}) > 2


def test_some_sequence_validates_even_if_all_are_larger_than_the_share() -> None:
    assert len(split(listed(*FIVE[:2])).validation) == 10


def test_classes_stay_in_training_if_possible() -> None:
    data = listed(("a", [(1,)] * 5), ("b", [(1, 3)] * 5), ("c", [(1, 2)] * 5), ("d", [(1, 2)] * 5))
    for seed in range(8):
        assert sequences(data, split(data, seed=seed).validation) <= {"a", "c", "d"}


def test_of_equally_long_sequences_the_one_with_the_most_classes_validates() -> None:
    rows = {"a": (1,), "b": (1, 2, 3), "c": (1,), "d": (2, 3), "e": (1,)}
    data = listed(*((name, [classes] * 5) for name, classes in rows.items()))
    for seed in range(8):
        assert sequences(data, split(data, seed=seed).validation) == {"b"}


def test_sequences_without_instruments_do_not_validate_alone() -> None:
    data = listed(("a", [()] * 5), ("b", [(1,)] * 5), ("c", [()] * 5), ("d", [(1,)] * 5))
    for seed in range(8):
        assert sequences(data, split(data, seed=seed).validation) & {"b", "d"}


@pytest.mark.parametrize(
    ("name", "sequence"), [("2", "seq_2"), ("SEQ_2", "seq_2"), ("seq_2.mp4", "seq_2"), ("12", "seq_12")]
)
def test_validation_is_named_by_name_or_number(name: str, sequence: str) -> None:
    data = listed(*FIVE)
    result = split(data, (name,))
    assert sequences(data, result.validation) == {sequence}
    assert sequence in result.how and "as named" in result.how


@pytest.mark.parametrize("sequence", ["seq_2", "seq2", "instrument_dataset_2", "other/seq_2"])
def test_a_number_fits_every_style_of_sequence_name(sequence: str) -> None:
    data = listed((sequence, [(1,)] * 3), ("seq_3", [(1,)] * 3))
    assert sequences(data, split(data, ("2",)).validation) == {sequence}


def test_a_name_that_fits_no_sequence_is_an_error_that_lists_the_sequences() -> None:
    with pytest.raises(TrainingError, match=r'"seq_7" fits none\. Choose from seq_1, seq_2, seq_3, seq_4, seq_12'):
        split(listed(*FIVE), ("1", "seq_7"))


def test_no_frames_left_for_training_is_an_error() -> None:
    with pytest.raises(TrainingError, match=r"All 10 frames would validate"):
        split(listed(FIVE[0]), ("1",))


def test_a_split_in_the_data_is_kept() -> None:
    data = together(listed(*FIVE[:3], split="train"), listed(FIVE[3], split="validation"))
    for share in (0.0, 0.5):
        result = split(data, share=share)
        assert result.validation == tuple(range(30, 40))
        assert "as split in the data" in result.how


def test_other_videos_are_added_to_a_split_in_the_data() -> None:
    data = together(
        listed(*FIVE[:3], split="train"), listed(FIVE[3], split="validation"), listed(("x", [(1,)] * 10), ("y", [(2,)] * 10))
    )
    result = split(data, share=0.3)
    assert sequences(data, result.validation) in ({"seq_4", "x"}, {"seq_4", "y"})


def test_training_frames_without_validation_frames_are_split_by_sequence() -> None:
    assert len(split(listed(*FIVE, split="train")).validation) == 10


def test_a_single_video_is_split_into_blocks_and_the_split_says_so() -> None:
    data = listed(("clip", [(1,)] * 20), step=100)
    result = split(data)
    assert len(result.validation) == 4 and len(result.training) == 16
    assert result.validation == tuple(range(result.validation[0], result.validation[0] + 4))
    first, last = (data.frames[result.validation[end]].frame_index for end in (0, -1))
    assert "single video" in result.how and f"block, frames {first} to {last}, is for validation" in result.how
    assert any("single video" in warning for warning in result.warnings)


@pytest.mark.parametrize(("count", "validated"), [(19, 0), (20, 4)])
def test_few_frames_of_a_single_video_are_all_trained_on_unless_asked(count: int, validated: int) -> None:
    data = listed(("video", [(1,)] * count))
    result = split(data, share=None)
    assert (len(result.training), len(result.validation)) == (count - validated, validated)
    if not validated:
        assert f"{count} frames of a single video are too few" in result.how
        assert any("its quality is not measured" in warning for warning in result.warnings)
    assert len(split(data, share=0.2).validation) == 4


def test_few_frames_of_two_videos_validate_on_one() -> None:
    assert len(split(listed(("a", [(1,)] * 4), ("b", [(1,)] * 4)), share=None).validation) == 4


def test_frames_beside_the_block_are_left_out_if_there_are_many() -> None:
    data = listed(("clip", [(1,)] * 2000))
    result = split(data)
    nearest = min(abs(t - v) for t in result.training for v in (result.validation[0], result.validation[-1]))
    assert nearest == 25
    assert "frames beside the block are left out" in result.how
    few = split(listed(("clip", [(1,)] * 10)))
    assert len(few.training) + len(few.validation) == 10


def test_a_block_keeps_the_only_frames_of_a_class_in_training() -> None:
    data = listed(("clip", [(1,)] * 4 + [(1, 5)] * 2 + [(1,)] * 4), step=50)
    for seed in range(8):
        result = split(data, seed=seed)
        assert {4, 5} & set(result.training)


@pytest.mark.parametrize(("data", "share"), [(listed(*FIVE), 0.0), (listed(("clip", [(1,)])), 0.2)])
def test_a_split_without_validation_warns_of_it(data: TrainingData, share: float) -> None:
    result = split(data, share=share)
    assert result.validation == ()
    assert any("No frame validates" in warning for warning in result.warnings)


def test_warnings_name_classes_that_are_rare_or_only_in_one_part() -> None:
    data = listed(("a", [(1, 3)] * 4 + [(1, 2)]), ("b", [(1, 4)] * 3))
    result = split(data, ("b",))
    assert result.warnings == (
        "Only one frame shows Prograsp Forceps. Correct more such frames.",
        "Monopolar Curved Scissors: only in validation frames, so not learned.",
        "Prograsp Forceps, Large Needle Driver: only in training frames, so not validated.",
    )
