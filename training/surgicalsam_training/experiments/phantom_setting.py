"""The small version of the experiments: two phantom datasets, and short trainings on the light encoder."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from surgicalsam_training.baselines.mask2former import DetectorSettings
from surgicalsam_training.config import preset
from surgicalsam_training.experiments.sets import FIRST, SECOND, PhantomSet, write_set
from surgicalsam_training.experiments.setting import Setting, changed_by
from surgicalsam_training.experiments.stage import Stage

# The paper's losses and optimiser, with a hundredth of its data and epochs: smaller batches, for enough steps; five times
# the learning rate, so that new prototypes, which start as long noise vectors, reach their classes in few steps; a falling
# rate, so that the model is stable after ten epochs.
PHANTOM_SETTINGS: dict[str, Any] = {
    "encoder": "light",
    "epochs": 10,
    "validate_every": 5,
    "learning_rate": 5e-3,
    "schedule": "cosine",
    "batch_size": 8,
    "micro_batch_size": 8,
    "augmented_versions": 0,
    "loss_resolution": "logits",
}
TRAINING_FRAMES, VALIDATION_FRAMES = 5, 5  # of each clip
DETECTOR = DetectorSettings(size="tiny", side=128, steps=500, batch_size=4, learning_rate=1e-3)
# "a photo of a <class name> in surgery" for every class of EndoVis 2018 and 2017, embedded by all-MiniLM-L6-v2 (Apache-2.0);
# CLIP's weights are too large to be part of this package
TEXT = Path(__file__).with_name("class_names.safetensors")
NOTES = (
    "Text prototypes here are from a small sentence encoder, all-MiniLM-L6-v2, instead of CLIP. The Mask2Former is tiny "
    f"({DETECTOR.side} pixels, {DETECTOR.steps} steps from random weights).",
)


def phantom_setting(
    out: Path, settings: Sequence[str] = (), sets: Sequence[PhantomSet] = (FIRST, SECOND)
) -> Generator[Stage, None, Setting]:
    """The small version: synthetic datasets, rendered if they are missing, and trainings of about two minutes each.

    Parameters
    ----------
    settings : as for `changed_by`
    sets : the datasets
    """
    out = out.expanduser().absolute()  # absolute, because the trainings store the paths of their data
    configs = []
    for phantom in sets:
        path = yield from write_set(out / "data", phantom, TRAINING_FRAMES, VALIDATION_FRAMES)
        config = preset("endovis2018").changed(**PHANTOM_SETTINGS, data=[path], validation=phantom.validation_names)
        configs.append(changed_by(config, settings))
    return Setting(tuple(configs), out, is_phantom=True, text=TEXT, detector=DETECTOR, comparison_notes=NOTES)
