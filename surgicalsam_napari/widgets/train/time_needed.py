"""About how long a training will take, from the speed of the model in use on this machine."""

from __future__ import annotations

from collections.abc import Sequence

from surgicalsam_napari.formatting import counted, in_time
from surgicalsam_napari.inference.estimation import Speed
from surgicalsam_napari.store.corrections import Corrections
from surgicalsam_training.config import TrainingConfig

STEP_COST = 4.0  # of a mask: forward, backward and loss, in forward passes; measured on two cores
FULL_SIZE_COST = 4.0  # of the loss at the size of the frame, against that at the size of the logits
UNKNOWN = "The time is known after the first round."


def time_needed(config: TrainingConfig, corrections: Sequence[Corrections], speed: Speed | None) -> str:
    """ "About 5 min: first 3 min to read 51 pictures, then 2 min for 100 rounds of 9 masks." """
    from surgicalsam_training.loop.sampling import REHEARSED_SHARE  # here: torch takes seconds to import

    frames = sum(each.frame_count for each in corrections)
    masks = sum(count for each in corrections for count in each.class_frames.values())
    if not masks:
        return ""
    if speed is None or speed.seconds_per_embedding is None or config.encoder is not None:
        return f"{UNKNOWN} It stops after {in_time(60 * config.minutes)} at the latest." if config.minutes else UNKNOWN
    copies = min(config.augmented_versions, config.epochs // 2) if config.augmentation == "offline" else 0
    pictures = frames * (1 + copies) + config.rehearsed_frames
    reading = pictures * speed.seconds_per_embedding
    others = config.absent_share + (2 * REHEARSED_SHARE if config.rehearsed_frames else 0)  # masks per mask of the person
    per_round = masks * (1 + others) * speed.seconds_per_mask * STEP_COST
    if config.loss_resolution == "frame":
        per_round *= FULL_SIZE_COST
    if config.augmentation == "online" and config.augmented_versions:
        per_round += frames * speed.seconds_per_embedding / 2  # new copies in every second round
    learning = min(config.epochs * per_round, 60 * config.minutes if config.minutes else float("inf"))
    rounds = counted(config.epochs, "round")
    if config.minutes and learning == 60 * config.minutes:
        rounds = f"as many of {rounds} as fit"
    return (
        f"About {in_time(reading + learning)}: {in_time(reading)} to read {counted(pictures, 'picture')}, then "
        f"{in_time(learning)} for {rounds} of {counted(masks, 'mask')}. It works in the background."
    )
