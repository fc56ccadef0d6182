"""The validation sequences of the paper's two benchmarks, found in any layout by the number at the end of a sequence's name.

EndoVis 2018: sequences 2, 5, 9 and 15 validate (González et al., MICCAI 2020). EndoVis 2017: four folds over the eight
training sequences (Shvets et al., ICMLA 2018).
"""

from __future__ import annotations

from dataclasses import dataclass

from surgicalsam_napari.errors import TrainingError
from surgicalsam_training.data.split import sequence_number
from surgicalsam_training.data.training_data import TrainingData

FOLDS_2017 = ((1, 3), (2, 5), (4, 8), (6, 7))
SEQUENCES_2018 = (2, 5, 9, 15)
BENCHMARKS = ("endovis2018", "endovis2017")


@dataclass(frozen=True)
class BenchmarkSplit:
    """The validation sequences of one benchmark, or of one fold of it.

    Attributes
    ----------
    benchmark : one of `BENCHMARKS`
    fold : 0 to 3 of EndoVis 2017; None for EndoVis 2018
    sequences : numbers of the validation sequences
    """

    benchmark: str
    fold: int | None
    sequences: tuple[int, ...]

    @property
    def title(self) -> str:
        year = self.benchmark.removeprefix("endovis")
        return f"EndoVis {year}" + ("" if self.fold is None else f", fold {self.fold}")

    @property
    def frames(self) -> str:
        """The validation sequences in words; without the benchmark's name, because other data may have its layout."""
        return ("" if self.fold is None else f"fold {self.fold}: ") + f"sequences {_listed(self.sequences)}"


def benchmark_splits(benchmark: str, fold: int | None = None) -> tuple[BenchmarkSplit, ...]:
    """The one split of EndoVis 2018, one fold of EndoVis 2017, or all four.

    Raises
    ------
    TrainingError
        the benchmark or the fold does not exist
    """
    if benchmark not in BENCHMARKS:
        raise TrainingError(f'The benchmark should be {" or ".join(BENCHMARKS)}; got "{benchmark}". Choose one of these.')
    if benchmark == "endovis2018":
        if fold is not None:
            raise TrainingError(f"EndoVis 2018 has one split; got fold {fold}. Leave out the fold, or choose endovis2017.")
        return (BenchmarkSplit(benchmark, None, SEQUENCES_2018),)
    if fold is not None and fold not in range(len(FOLDS_2017)):
        raise TrainingError(f"EndoVis 2017 has the folds 0 to {len(FOLDS_2017) - 1}; got {fold}. Choose one of them.")
    folds = range(len(FOLDS_2017)) if fold is None else (fold,)
    return tuple(BenchmarkSplit(benchmark, number, FOLDS_2017[number]) for number in folds)


def validation_frames(data: TrainingData, split: BenchmarkSplit) -> tuple[int, ...]:
    """Example indices of the frames in the split's sequences.

    Raises
    ------
    TrainingError
        a sequence is missing, or two sequences have the same number
    """
    by_number: dict[int | None, list[str]] = {}
    for sequence in dict.fromkeys(frame.sequence for frame in data.frames):
        by_number.setdefault(sequence_number(sequence), []).append(sequence)
    missing = [number for number in split.sequences if number not in by_number]
    if missing:
        listed = ", ".join(name for group in by_number.values() for name in group)
        raise TrainingError(
            f"{split.title} validates on the sequences {_listed(split.sequences)}, but the data have no sequence "
            f"{_listed(missing)} (they have {listed}). Add it, or rename its folder so that it ends with its number, as "
            "in seq_2."
        )
    for number in split.sequences:
        if len(by_number[number]) > 1:
            raise TrainingError(
                f"{split.title} has one sequence {number}, but {' and '.join(by_number[number])} have this number. "
                "Remove all but one of them."
            )
    names = {by_number[number][0] for number in split.sequences}
    return tuple(example_index for example_index, frame in enumerate(data.frames) if frame.sequence in names)


def _listed(numbers: tuple[int, ...] | list[int]) -> str:
    return ", ".join(map(str, numbers))
