"""Two small phantom datasets from two domains, instead of EndoVis 2018 and 2017; their classes share names, not ids.

They are stored in the layout of the paper's authors, so that phantom and real data use the same code.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from surgicalsam_napari.exchange.format import ExportTarget, FrameToWrite
from surgicalsam_napari.exchange.formats.endovis import EndovisWriter
from surgicalsam_napari.exchange.sidecar import SIDECAR, Sidecar, write_sidecar
from surgicalsam_napari.instruments import ENDOVIS2017, ENDOVIS2018, ClassSet
from surgicalsam_napari.phantom import PHANTOM_CLASSES, PhantomScene
from surgicalsam_napari.store.disk.files import writing
from surgicalsam_training.experiments.stage import Stage

SIZE = (256, 320)  # (H, W)
SCENE_LENGTH = 100  # frames (four seconds); each clip shows some of them
FIRST_SEED = 700_000  # not used for the bundled weights or their benchmarks


@dataclass(frozen=True)
class Clip:
    """A scene of the phantom."""

    seed: int
    new_tool: bool = False


@dataclass(frozen=True)
class PhantomSet:
    """A dataset with the sequences seq1, seq2, …; the training clips come first.

    Attributes
    ----------
    other : class name for the phantom's classes that are not in the class set; None: they are background
    held_out : names of the validation sequences; empty: those of the validation clips
    """

    name: str
    look: str
    classes: ClassSet
    training: tuple[Clip, ...]
    validation: tuple[Clip, ...]
    other: str | None = None
    held_out: tuple[str, ...] = ()

    @property
    def clips(self) -> tuple[Clip, ...]:
        return self.training + self.validation

    @property
    def validation_names(self) -> tuple[str, ...]:
        return self.held_out or tuple(f"seq{number + 1}" for number in range(len(self.training), len(self.clips)))


def _clips(*numbers: int, new_tool: bool = False) -> tuple[Clip, ...]:
    return tuple(Clip(FIRST_SEED + number, new_tool) for number in numbers)


# Scenes with two or more instruments. No training seed of one set is a validation seed of either.
FIRST = PhantomSet(
    "phantom-first-domain",
    "first",
    ClassSet("Phantom, first domain", ENDOVIS2018.classes),
    _clips(0, 1, 2, 4, 5, 8, 9, 11, 13, 19, 20, 21, 100, 102, 103, 105, 106, 108, 109, 110, 112, 114, 115, 118),
    _clips(17, 18, 23, 111, 117, 119, 120, 121),
)
SECOND = PhantomSet(
    "phantom-second-domain",
    "second",
    ClassSet("Phantom, second domain", ENDOVIS2017.classes),
    _clips(104, 122, 123, 124, 125, 126, 127, 130, 136) + _clips(2, 4, 5, 8, 9, 11, 12, 13, 15, 19, 20, 21, new_tool=True),
    _clips(129, 131, 133, 135, 139) + _clips(101, 128, 132, new_tool=True),
    other="Other",
)
# Eight videos, as EndoVis 2017 has, for its four folds; half of them have the class that only EndoVis 2017 has.
EIGHT = PhantomSet(
    "phantom-eight-videos",
    "second",
    ClassSet("Phantom, eight videos", ENDOVIS2017.classes),
    (),
    _clips(104, 122, 123, 124) + _clips(2, 4, 5, 8, new_tool=True),
    other="Other",
    held_out=("1", "3"),
)


def write_set(
    folder: Path, phantom: PhantomSet, training_frames: int, validation_frames: int
) -> Generator[Stage, None, Path]:
    """Write a synthetic dataset into a folder of its name, completely or not at all; an existing one is used again.

    Parameters
    ----------
    training_frames, validation_frames : of each clip

    Returns
    -------
    The dataset's folder.
    """
    finished = folder / phantom.name
    if (finished / SIDECAR).is_file():
        return finished
    partial = folder / f".{phantom.name}.partial"
    with writing("The phantom frames", folder):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    counts = [training_frames] * len(phantom.training) + [validation_frames] * len(phantom.validation)
    total, done = sum(counts), 0
    for number, (clip, count) in enumerate(zip(phantom.clips, counts, strict=True), 1):
        scene = PhantomScene(clip.seed, SIZE, SCENE_LENGTH, phantom.look, clip.new_tool)
        writer = EndovisWriter(ExportTarget(partial, phantom.classes, "phantom"))
        for index in np.linspace(0, SCENE_LENGTH - 1, count).round().astype(int).tolist():
            frame = scene.frame(index)
            labels = label_values(phantom)[frame.labels]
            writer.write(FrameToWrite(f"seq{number}", index, "", labels, frame.image, phantom.classes.ids))
            done += 1
            yield Stage(f"rendering {phantom.name}", done, total)
    write_sidecar(partial, Sidecar(phantom.classes, "phantom"))
    with writing("The phantom frames", folder):
        partial.rename(finished)
    return finished


def label_values(phantom: PhantomSet) -> np.ndarray:
    """(256,) uint8: the dataset's class id for each class id of the phantom, matched by name."""
    names = {instrument.name: instrument.id for instrument in phantom.classes}
    otherwise = 0 if phantom.other is None else names[phantom.other]
    values = np.zeros(256, np.uint8)
    for instrument in PHANTOM_CLASSES:
        values[instrument.id] = names.get(instrument.name, otherwise)
    return values
