"""The validation sequences of the paper's two benchmarks, found in data of any layout by the number at a sequence's end.

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
    """
    Attributes
    ----------
    benchmark : one of `BENCHMARKS`
    fold : 0 to 3 of EndoVis 2017; None for EndoVis 2018
    sequences : numbers of those that validate
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
        """What validates; without the benchmark's name, for the data may be others of the same layout."""
        return ("" if self.fold is None else f"fold {self.fold}: ") + f"sequences {_listed(self.sequences)}"


def benchmark_splits(benchmark: str, fold: int | None = None) -> tuple[BenchmarkSplit, ...]:
    """The one split of EndoVis 2018, one fold of EndoVis 2017, or all four.

    Raises
    ------
    TrainingError
        no such benchmark, or no such fold of it
    """
    if benchmark not in BENCHMARKS:
        raise TrainingError(f'A protocol is {" or ".join(BENCHMARKS)}; got "{benchmark}".')
    if benchmark == "endovis2018":
        if fold is not None:
            raise TrainingError(f"EndoVis 2018 has one split; got fold {fold}. Leave the fold out, or take endovis2017.")
        return (BenchmarkSplit(benchmark, None, SEQUENCES_2018),)
    if fold is not None and fold not in range(len(FOLDS_2017)):
        raise TrainingError(f"EndoVis 2017 has the folds 0 to {len(FOLDS_2017) - 1}; got {fold}. Choose one of them.")
    folds = range(len(FOLDS_2017)) if fold is None else (fold,)
    return tuple(BenchmarkSplit(benchmark, number, FOLDS_2017[number]) for number in folds)


def validation_frames(data: TrainingData, split: BenchmarkSplit) -> tuple[int, ...]:
    """Indices into the data's frames: those of the split's sequences.

    Raises
    ------
    TrainingError
        a sequence is missing, or two have its number
    """
    by_number: dict[int | None, list[str]] = {}
    for sequence in dict.fromkeys(frame.sequence for frame in data.frames):
        by_number.setdefault(sequence_number(sequence), []).append(sequence)
    missing = [number for number in split.sequences if number not in by_number]
    if missing:
        listed = ", ".join(name for group in by_number.values() for name in group)
        raise TrainingError(
            f"{split.title} validates on the sequences {_listed(split.sequences)}, and the data have no sequence "
            f"{_listed(missing)} (they have {listed}). Add it, or name its folder so that it ends with its number, as seq_2."
        )
    for number in split.sequences:
        if len(by_number[number]) > 1:
            raise TrainingError(
                f"{split.title} has one sequence {number}, and {' and '.join(by_number[number])} are both called so. "
                "Leave out one of them."
            )
    names = {by_number[number][0] for number in split.sequences}
    return tuple(example_index for example_index, frame in enumerate(data.frames) if frame.sequence in names)


def _listed(numbers: tuple[int, ...] | list[int]) -> str:
    return ", ".join(map(str, numbers))
