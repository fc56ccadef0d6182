"""The split: by video or sequence, never by neighbouring frames, and it says how."""

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
    """Frames and the classes they show; all that a split looks at."""

    frames: tuple[AnnotatedFrame, ...]
    shown: tuple[tuple[int, ...], ...]
    classes = ENDOVIS2018

    def present_class_ids(self, index: int) -> tuple[int, ...]:
        return self.shown[index]


def listed(*sequences: tuple[str, list[tuple[int, ...]]], split: str | None = None, step: int = 1) -> TrainingData:
    frames, shown = [], []
    for name, rows in sequences:
        for position, classes in enumerate(rows):
            frames.append(AnnotatedFrame(name, position * step, f"{name}/{position}", (8, 8), split))
            shown.append(classes)
    return cast(TrainingData, Listed(tuple(frames), tuple(shown)))


def together(*parts: TrainingData) -> TrainingData:
    found = [cast(Listed, part) for part in parts]
    return cast(TrainingData, Listed(sum((p.frames for p in found), ()), sum((p.shown for p in found), ())))


def split(data: TrainingData, validation: tuple[str, ...] = (), share: float = 0.2, seed: int = 666) -> Split:
    found = split_frames(data, validation=validation, validation_share=share, seed=seed)
    assert not set(found.training) & set(found.validation)
    assert found == split_frames(data, validation=validation, validation_share=share, seed=seed)
    return found


def sequences(data: TrainingData, indices: tuple[int, ...]) -> set[str]:
    return {data.frames[index].sequence for index in indices}


FIVE = [(f"seq_{number}", [(1, 2)] * 10) for number in (1, 2, 3, 4, 12)]


def test_whole_sequences_validate_near_the_share() -> None:
    data = listed(*FIVE)
    found = split(data)
    assert len(found.validation) == 10 and len(found.training) == 40
    assert len(sequences(data, found.validation)) == 1
    assert not sequences(data, found.validation) & sequences(data, found.training)
    assert sequences(data, found.validation).pop() in found.how
    assert found.warnings == ()
    assert len(split(data, share=0.6).validation) == 30


def test_the_seed_decides_among_equals() -> None:
    assert len({split(listed(*FIVE), seed=seed).validation for seed in range(20)}) > 2


def test_some_sequence_validates_even_if_all_are_larger_than_the_share() -> None:
    assert len(split(listed(*FIVE[:2])).validation) == 10


def test_classes_stay_in_training_where_that_can_be() -> None:
    data = listed(("a", [(1,)] * 5), ("b", [(1, 3)] * 5), ("c", [(1, 2)] * 5), ("d", [(1, 2)] * 5))
    for seed in range(8):
        assert sequences(data, split(data, seed=seed).validation) <= {"a", "c", "d"}


def test_of_sequences_as_long_those_validate_that_show_the_most_classes() -> None:
    rows = {"a": (1,), "b": (1, 2, 3), "c": (1,), "d": (2, 3), "e": (1,)}
    data = listed(*((name, [classes] * 5) for name, classes in rows.items()))
    for seed in range(8):
        assert sequences(data, split(data, seed=seed).validation) == {"b"}


def test_sequences_that_show_nothing_do_not_validate_alone() -> None:
    data = listed(("a", [()] * 5), ("b", [(1,)] * 5), ("c", [()] * 5), ("d", [(1,)] * 5))
    for seed in range(8):
        assert sequences(data, split(data, seed=seed).validation) & {"b", "d"}


@pytest.mark.parametrize(
    ("name", "sequence"), [("2", "seq_2"), ("SEQ_2", "seq_2"), ("seq_2.mp4", "seq_2"), ("12", "seq_12")]
)
def test_validation_is_named_by_name_or_number(name: str, sequence: str) -> None:
    data = listed(*FIVE)
    found = split(data, (name,))
    assert sequences(data, found.validation) == {sequence}
    assert sequence in found.how and "as named" in found.how


@pytest.mark.parametrize("sequence", ["seq_2", "seq2", "instrument_dataset_2", "other/seq_2"])
def test_a_number_fits_every_way_of_numbering(sequence: str) -> None:
    data = listed((sequence, [(1,)] * 3), ("seq_3", [(1,)] * 3))
    assert sequences(data, split(data, ("2",)).validation) == {sequence}


def test_a_name_that_fits_nothing_is_an_error_that_lists_what_there_is() -> None:
    with pytest.raises(TrainingError, match=r'"seq_7" fits none\. It has seq_1, seq_2, seq_3, seq_4, seq_12'):
        split(listed(*FIVE), ("1", "seq_7"))


def test_nothing_left_to_train_on_is_an_error() -> None:
    with pytest.raises(TrainingError, match=r"All 10 frames would validate"):
        split(listed(FIVE[0]), ("1",))


def test_frames_that_come_split_stay_so() -> None:
    data = together(listed(*FIVE[:3], split="train"), listed(FIVE[3], split="validation"))
    for share in (0.0, 0.5):
        found = split(data, share=share)
        assert found.validation == tuple(range(30, 40))
        assert "as the data come split" in found.how


def test_other_videos_join_frames_that_come_split() -> None:
    data = together(
        listed(*FIVE[:3], split="train"), listed(FIVE[3], split="validation"), listed(("x", [(1,)] * 10), ("y", [(2,)] * 10))
    )
    found = split(data, share=0.3)
    assert sequences(data, found.validation) in ({"seq_4", "x"}, {"seq_4", "y"})


def test_training_frames_that_come_without_validation_frames_are_split_by_sequence() -> None:
    assert len(split(listed(*FIVE, split="train")).validation) == 10


def test_a_single_video_is_cut_into_blocks_and_it_says_so() -> None:
    data = listed(("clip", [(1,)] * 20), step=100)
    found = split(data)
    assert len(found.validation) == 4 and len(found.training) == 16
    assert found.validation == tuple(range(found.validation[0], found.validation[0] + 4))
    first, last = (data.frames[found.validation[end]].frame_index for end in (0, -1))
    assert "single video" in found.how and f"frames {first} to {last} validate" in found.how
    assert any("single video" in warning for warning in found.warnings)


def test_frames_beside_the_block_are_left_out_where_there_are_many() -> None:
    data = listed(("clip", [(1,)] * 2000))
    found = split(data)
    nearest = min(abs(t - v) for t in found.training for v in (found.validation[0], found.validation[-1]))
    assert nearest == 25
    assert "frames beside it are left out" in found.how
    few = split(listed(("clip", [(1,)] * 10)))
    assert len(few.training) + len(few.validation) == 10


def test_a_block_keeps_the_only_frames_of_a_class_in_training() -> None:
    data = listed(("clip", [(1,)] * 4 + [(1, 5)] * 2 + [(1,)] * 4), step=50)
    for seed in range(8):
        found = split(data, seed=seed)
        assert {4, 5} & set(found.training)


@pytest.mark.parametrize(("data", "share"), [(listed(*FIVE), 0.0), (listed(("clip", [(1,)])), 0.2)])
def test_without_validation_a_warning_says_what_that_means(data: TrainingData, share: float) -> None:
    found = split(data, share=share)
    assert found.validation == ()
    assert any("No frame validates" in warning for warning in found.warnings)


def test_warnings_name_classes_that_are_rare_or_in_one_part_only() -> None:
    data = listed(("a", [(1, 3)] * 4 + [(1, 2)]), ("b", [(1, 4)] * 3))
    found = split(data, ("b",))
    assert found.warnings == (
        "One frame only shows Prograsp Forceps. Correct more frames that do.",
        "Monopolar Curved Scissors: in the validation frames only, so not learnt.",
        "Prograsp Forceps, Large Needle Driver: in the training frames only, so not validated.",
    )
