"""Two small phantom datasets that stand in for EndoVis 2018 and 2017: two hospitals, whose classes share names and not ids.

They lie on disk in the authors' layout, so that the phantom takes the same way through the code as real data.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from surgicalsam_napari.exchange.formats.endovis import EndovisWriter
from surgicalsam_napari.exchange.sidecar import SIDECAR, Sidecar, write_sidecar
from surgicalsam_napari.instruments import ENDOVIS2017, ENDOVIS2018, ClassSet
from surgicalsam_napari.phantom import PHANTOM_CLASSES, PhantomScene
from surgicalsam_napari.store.files import writing
from surgicalsam_training.experiments.stage import Stage

SIZE = (256, 320)  # (H, W); the demo encoder looks at 256 pixels
SCENE_LENGTH = 100  # frames, four seconds, of which each clip shows some
FIRST_SEED = 700_000  # new to the demo weights and to every benchmark


@dataclass(frozen=True)
class Clip:
    """A scene of the phantom."""

    seed: int
    new_tool: bool = False


@dataclass(frozen=True)
class PhantomSet:
    """A dataset: sequences seq1, seq2, …, the training clips first.

    Attributes
    ----------
    other : what the phantom's classes are called that the class set does not have; None leaves them out of the labels
    """

    name: str
    look: str
    classes: ClassSet
    training: tuple[Clip, ...]
    validation: tuple[Clip, ...]
    other: str | None = None

    @property
    def clips(self) -> tuple[Clip, ...]:
        return self.training + self.validation

    @property
    def validation_names(self) -> tuple[str, ...]:
        return tuple(f"seq{number + 1}" for number in range(len(self.training), len(self.clips)))


def _clips(*numbers: int, new_tool: bool = False) -> tuple[Clip, ...]:
    return tuple(Clip(FIRST_SEED + number, new_tool) for number in numbers)


# Scenes with two instruments or more. No seed is in training of one set and validation of any.
FIRST = PhantomSet(
    "phantom-first-hospital",
    "first",
    ClassSet("Phantom, first hospital", ENDOVIS2018.classes),
    _clips(0, 1, 2, 4, 5, 8, 9, 11, 13, 19, 20, 21, 100, 102, 103, 105, 106, 108, 109, 110, 112, 114, 115, 118),
    _clips(17, 18, 23, 111, 117, 119, 120, 121),
)
SECOND = PhantomSet(
    "phantom-second-hospital",
    "second",
    ClassSet("Phantom, second hospital", ENDOVIS2017.classes),
    _clips(104, 122, 123, 124, 125, 126, 127, 130, 136) + _clips(2, 4, 5, 8, 9, 11, 12, 13, 15, 19, 20, 21, new_tool=True),
    _clips(129, 131, 133, 135, 139) + _clips(101, 128, 132, new_tool=True),
    other="Other",
)


def write_set(
    folder: Path, phantom: PhantomSet, training_frames: int, validation_frames: int
) -> Generator[Stage, None, Path]:
    """Draw a dataset into a folder of its name, whole or not at all; one that is there is taken as it is.

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
        writer = EndovisWriter(partial, phantom.classes, "phantom", f"seq{number}")
        for index in np.linspace(0, SCENE_LENGTH - 1, count).round().astype(int).tolist():
            frame = scene.frame(index)
            writer.write(index, label_values(phantom)[frame.labels], frame.image, phantom.classes.ids)
            done += 1
            yield Stage(f"drawing {phantom.name}", done, total)
    write_sidecar(partial, Sidecar(phantom.classes, "phantom"))
    with writing("The phantom frames", folder):
        partial.rename(finished)
    return finished


def label_values(phantom: PhantomSet) -> np.ndarray:
    """(256,) uint8: the dataset's class id for each of the phantom's, found by name."""
    names = {instrument.name: instrument.id for instrument in phantom.classes}
    otherwise = 0 if phantom.other is None else names[phantom.other]
    values = np.zeros(256, np.uint8)
    for instrument in PHANTOM_CLASSES:
        values[instrument.id] = names.get(instrument.name, otherwise)
    return values
