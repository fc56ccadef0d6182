"""Split frames into training and validation: by video or sequence; a single video by contiguous blocks."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.formatting import counted
from surgicalsam_training.data.training_data import TrainingData

TRIES = 200  # random orders in which sequences are tried
TOLERANCE = 0.05  # of the share: among splits this near to it, the one with the most validated classes is best
GAP = 25  # frames, about a second: nearer training frames look like the validation block
SHARE = 0.2  # of the frames that validate, unless another share is asked for
FEWEST_FRAMES_TO_SPLIT = 20  # of a single video: with fewer, validation says little, and training needs every frame
LARGEST_LOSS = 0.1  # share of the training frames that the gap may cost


@dataclass(frozen=True)
class Split:
    """Example indices for training and for validation.

    Attributes
    ----------
    how : one sentence for the user
    warnings : sentences for the user
    """

    training: tuple[int, ...]
    validation: tuple[int, ...]
    how: str
    warnings: tuple[str, ...]


def split_frames(data: TrainingData, *, validation: Sequence[str], validation_share: float | None, seed: int) -> Split:
    """Decide which frames validate.

    Named sequences validate, and so do frames that the data mark as validation frames. If no sequences are named, whole
    sequences are chosen: their share of the frames is near `validation_share`, training keeps every class if possible, and
    the validation frames show instruments. A single sequence is split into blocks.

    Parameters
    ----------
    validation : names or numbers of videos or sequences: "2" is seq_2, seq2 and instrument_dataset_2
    validation_share : 0 for no validation, unless sequences are named or the data define a split. None is `SHARE`, and 0
        for fewer than `FEWEST_FRAMES_TO_SPLIT` frames of a single sequence

    Raises
    ------
    TrainingError
        a name fits no sequence, or no frames remain for training
    """
    given = {example_index for example_index, frame in enumerate(data.frames) if frame.split == "validation"}
    free = [example_index for example_index, frame in enumerate(data.frames) if frame.split is None or not given]
    if validation:
        names = _named(data, validation)
        chosen = given | {example_index for example_index, frame in enumerate(data.frames) if frame.sequence in names}
        return _checked(data, chosen, set(), f"Validation on {_list(_sequences(data, chosen))}, as named.")
    is_single = len(_sequences(data, range(len(data.frames)))) == 1
    if validation_share is None:
        if is_single and not given and len(data.frames) < FEWEST_FRAMES_TO_SPLIT:
            return _checked(data, set(), set(), _too_few(len(data.frames)))
        validation_share = SHARE
    if given and (not free or not validation_share):
        return _checked(data, given, set(), f"Validation on {_list(_sequences(data, given))}, as split in the data.")
    if not validation_share or len(data.frames) < 2:
        return _checked(data, set(), set(), "No validation: all frames are used for training.")
    if is_single:
        return _by_blocks(data, validation_share, seed)
    added = _whole_sequences(data, free, given, validation_share, seed)
    shown = _list(_sequences(data, given | added))
    return _checked(data, given | added, set(), f"Validation on {shown}: whole videos or sequences, chosen by their share.")


def _too_few(count: int) -> str:
    return (
        f"No validation: {counted(count, 'frame')} of a single video are too few to keep some for it (fewer than "
        f"{FEWEST_FRAMES_TO_SPLIT}); all are used for training. Set a validation share to validate all the same."
    )


def _named(data: TrainingData, wanted: Sequence[str]) -> set[str]:
    """The sequences with these names (a file suffix or a folder may differ) or with these numbers at the end."""
    sequences = _sequences(data, range(len(data.frames)))
    rules: tuple[Callable[[str, str], bool], ...] = (
        lambda name, sequence: name == sequence,
        lambda name, sequence: PurePath(name).stem == sequence or name == sequence.rpartition("/")[2],
        lambda name, sequence: name.isdecimal() and int(name) == sequence_number(sequence),
    )
    named: set[str] = set()
    for name in wanted:
        plain = name.strip().casefold()
        for fits in rules:
            matching = {sequence for sequence in sequences if fits(plain, sequence.casefold())}
            if matching:
                break
        else:
            raise TrainingError(
                f'Validation should name videos or sequences, but "{name}" fits none. Choose from {_list(sequences, 20)}.'
            )
        named |= matching
    return named


def sequence_number(sequence: str) -> int | None:
    """The number at the end of a sequence's name: 2 for seq_2, seq2 and instrument_dataset_2; None without one."""
    digits = re.search(r"(\d+)$", sequence)
    return None if digits is None else int(digits[1])


# Whole sequences -----------------------------------------------------------------------------------------------------


def _whole_sequences(data: TrainingData, free: Sequence[int], given: set[int], share: float, seed: int) -> set[int]:
    """Frames of whole sequences. A sequence is added if it makes the split better; the best of many orders is used."""
    members: dict[str, list[int]] = {}
    for example_index in free:
        members.setdefault(data.frames[example_index].sequence, []).append(example_index)
    frames = np.array([len(group) for group in members.values()])
    shown = np.stack([_class_frames(data, group) for group in members.values()])
    rest = sorted(set(range(len(data.frames))) - given - set(free))
    always_trained, always_validated = _class_frames(data, rest), _class_frames(data, sorted(given))

    def cost(chosen: np.ndarray) -> tuple[float, ...]:
        """Classes lost to training, whether validation shows nothing, distance from the share, classes not validated."""
        count = len(given) + int(frames[chosen].sum())
        validated = always_validated + shown[chosen].sum(0)
        trained = always_trained + shown[~chosen].sum(0)
        nothing = not count or count == len(data.frames) or not validated.any()
        lost = int(((trained == 0) & (validated > 0)).sum())
        distance = abs(count / len(data.frames) - share)
        return lost, int(nothing), distance // TOLERANCE, int((validated == 0).sum()), distance

    rng = np.random.default_rng(seed)
    worst: tuple[float, ...] = (np.inf,)
    best, best_cost = np.zeros(len(frames), bool), worst
    for _ in range(TRIES):
        chosen = np.zeros(len(frames), bool)
        lowest = cost(chosen) if given else worst
        for sequence_index in rng.permutation(len(frames)):
            chosen[sequence_index] = True
            new = cost(chosen)
            if new < lowest and not (chosen.all() and not rest):
                lowest = new
            else:
                chosen[sequence_index] = False
        if lowest < best_cost:
            best, best_cost = chosen, lowest
    return set().union(*(group for group, is_chosen in zip(members.values(), best, strict=True) if is_chosen))


# One sequence --------------------------------------------------------------------------------------------------------


def _by_blocks(data: TrainingData, share: float, seed: int) -> Split:
    """One block of consecutive frames validates: the one that leaves most classes in both parts; the seed breaks ties."""
    order = sorted(range(len(data.frames)), key=lambda example_index: data.frames[example_index].frame_index)
    length = min(max(round(share * len(order)), 1), len(order) - 1)
    shown = np.stack([_class_frames(data, [example_index]) for example_index in order])
    total = shown.sum(0)
    starts = np.random.default_rng(seed).permutation(len(order) - length + 1)

    def cost(start: int) -> tuple[int, int]:
        validated = shown[start : start + length].sum(0)
        return int(((total - validated == 0) & (total > 0)).sum()), -int((validated > 0).sum())

    start = min(starts.tolist(), key=cost)
    block = order[start : start + length]
    first, last = (data.frames[block[end]].frame_index for end in (0, -1))
    training = [example_index for example_index in order if example_index not in block]
    beside = {i for i in training if first - GAP < data.frames[i].frame_index < last + GAP}
    kept = [example_index for example_index in training if example_index not in beside]
    if len(beside) > LARGEST_LOSS * len(training) or (_class_frames(data, kept) > 0).sum() < (total > 0).sum():
        beside = set()
    left_out = f"; {len(beside)} frames beside the block are left out" if beside else ""
    how = (
        f"There is a single video: one block, frames {first} to {last}, is for validation, the other frames are for "
        f"training{left_out}. Parts of one video look alike, so scores on other videos will be lower."
    )
    return _checked(data, set(block), beside, how)


# The result ----------------------------------------------------------------------------------------------------------


def _checked(data: TrainingData, validation: set[int], left_out: set[int], how: str) -> Split:
    training = tuple(i for i in range(len(data.frames)) if i not in validation | left_out)
    if not training:
        raise TrainingError(
            f"All {len(data.frames)} frames would validate, and none would be left to train on. Name fewer videos."
        )
    return Split(training, tuple(sorted(validation)), how, tuple(_warnings(data, training, sorted(validation))))


def _warnings(data: TrainingData, training: Sequence[int], validation: Sequence[int]) -> list[str]:
    trained, validated = _class_frames(data, training), _class_frames(data, validation)
    names = np.array(data.classes.names)
    warnings = []
    if not validation:
        warnings.append("No frame validates: the last epoch is kept, and its quality is not measured.")
    if len(_sequences(data, range(len(data.frames)))) == 1:
        warnings.append("All frames are from a single video: the model may be worse on other videos.")
    few = names[trained + validated == 1]
    if len(few):
        warnings.append(f"Only one frame shows {_list(few)}. Correct more such frames.")
    if validation and (only := names[(trained == 0) & (validated > 0)]).size:
        warnings.append(f"{_list(only)}: only in validation frames, so not learned.")
    if validation and (only := names[(trained > 0) & (validated == 0)]).size:
        warnings.append(f"{_list(only)}: only in training frames, so not validated.")
    return warnings


def _class_frames(data: TrainingData, example_indices: Sequence[int]) -> np.ndarray:
    """(C,) the number of these frames that show each class."""
    counts = np.zeros(len(data.classes), int)
    columns = {class_id: column for column, class_id in enumerate(data.classes.ids)}
    for example_index in example_indices:
        for class_id in data.present_class_ids(example_index):
            counts[columns[class_id]] += 1
    return counts


def _sequences(data: TrainingData, example_indices: Sequence[int] | set[int] | range) -> list[str]:
    return list(dict.fromkeys(data.frames[example_index].sequence for example_index in sorted(example_indices)))


def _list(names: Sequence[str] | np.ndarray, most: int = 8) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")
