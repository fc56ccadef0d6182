"""Train a Mask2Former on the data, and detect boxes for SAM (paper: Mask2Former + SAM; Cheng et al., CVPR 2022).

The network is that of the library `transformers` (the extra `[baselines]`), with a Swin backbone, from random weights or
from a folder of weights on this disk; nothing is downloaded. One class in one frame is one object, because label maps
contain no instances. The boxes are written as COCO detections, and read by `detections` like those of any other detector.

The folder of a run holds `detector.json` (settings, classes, data) and `detector.safetensors` (weights, optimiser state,
steps done). The same call resumes a stopped run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from surgicalsam_napari.errors import CheckpointError, TrainingError
from surgicalsam_napari.exchange.files import write_file
from surgicalsam_napari.files import replacing
from surgicalsam_napari.instruments import plain
from surgicalsam_napari.model.device import choose_device
from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.store.disk.files import writing
from surgicalsam_napari.untrusted import read_json
from surgicalsam_training.baselines.detections import Detection
from surgicalsam_training.data.training_data import TrainingData

if TYPE_CHECKING:
    from transformers import Mask2FormerForUniversalSegmentation

CHECKPOINT, RECORD = "detector.safetensors", "detector.json"
CACHED_FRAMES = 256
GRADIENT_NORM = 0.01  # as in the paper of Mask2Former
PRETRAINED_BACKBONE_RATE = 0.1  # of the learning rate
STAGES = ["stage1", "stage2", "stage3", "stage4"]
SIZES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # backbone, and the other parts
    "swin_t": (dict(embed_dim=96, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24], window_size=7), {}),
    "tiny": (
        dict(embed_dim=24, depths=[1, 1, 2, 1], num_heads=[1, 2, 4, 8], window_size=4),
        dict(
            feature_size=64,
            mask_feature_size=64,
            hidden_dim=64,
            encoder_feedforward_dim=128,
            dim_feedforward=128,
            encoder_layers=2,
            decoder_layers=4,
            num_attention_heads=4,
            num_queries=16,
            train_num_points=1024,
        ),
    ),
}


@dataclass(frozen=True)
class DetectorSettings:
    """The settings of a training.

    Attributes
    ----------
    size : a key of `SIZES`; ignored if `weights` is given
    weights : a folder with a Mask2Former as saved by `transformers`; its classes are replaced
    side : of the padded square to which frames are resized, in pixels; a multiple of 32
    """

    size: str = "swin_t"
    weights: str | None = None
    side: int = 512
    steps: int = 3000
    batch_size: int = 8
    learning_rate: float = 1e-4
    weight_decay: float = 0.05
    checkpoint_every: int = 100
    seed: int = 666

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise TrainingError(
                f'The size of a Mask2Former should be one of {", ".join(SIZES)}; got "{self.size}". Choose one of them.'
            )
        if self.side < 32 or self.side % 32:
            raise TrainingError(
                f"The side of a Mask2Former's input should be a multiple of 32 pixels; got {self.side}. Choose such a side."
            )
        if min(self.steps, self.batch_size, self.checkpoint_every) < 1:
            raise TrainingError(
                f"Steps, batch size and the steps between checkpoints should be 1 or more; got {self.steps}, "
                f"{self.batch_size} and {self.checkpoint_every}. Choose larger numbers."
            )


@dataclass(frozen=True)
class DetectorReport:
    """Progress: `done` of `total` steps; `loss` is nan if the run was already finished."""

    done: int
    total: int
    loss: float


@dataclass(frozen=True)
class Detector:
    """A trained network; label k is the k-th of `class_names`."""

    network: Mask2FormerForUniversalSegmentation
    class_names: tuple[str, ...]
    side: int


# Building, and the run's folder --------------------------------------------------------------------------------------


def build_network(settings: DetectorSettings, class_count: int) -> Mask2FormerForUniversalSegmentation:
    """A new Mask2Former for `class_count` classes.

    Raises
    ------
    CheckpointError
        `transformers` is not installed, or the folder of weights cannot be read
    """
    try:
        from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig
    except ImportError as error:
        raise CheckpointError(
            "A Mask2Former is built by the library transformers, which is not installed. Install it with: "
            'pip install "surgicalsam-napari[baselines]".'
        ) from error
    torch.manual_seed(settings.seed)
    if settings.weights is not None:
        try:
            return Mask2FormerForUniversalSegmentation.from_pretrained(
                settings.weights, num_labels=class_count, ignore_mismatched_sizes=True, local_files_only=True
            )
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            reason = (str(error).splitlines() or [""])[0][:120]
            raise CheckpointError(
                f"{settings.weights} should be a folder with a Mask2Former, saved by transformers; it cannot be read "
                f"({reason}). Choose another folder, or train from random weights."
            ) from error
    backbone, rest = SIZES[settings.size]
    config = Mask2FormerConfig(
        backbone_config=SwinConfig(image_size=settings.side, out_features=STAGES, **backbone), num_labels=class_count, **rest
    )
    return Mask2FormerForUniversalSegmentation(config)


def load_detector(folder: Path, device: str = "auto") -> Detector:
    """The detector of a run's folder, from its last checkpoint; a CheckpointError if there is none."""
    try:
        record = read_json(folder / RECORD)
        settings, names = DetectorSettings(**record["settings"]), tuple(record["classes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder} holds no detector ({RECORD} is missing or damaged). Train one there.") from error
    network = build_network(settings, len(names))
    _load_state(folder, network, None)
    return Detector(network.eval().to(choose_device(device)), names, settings.side)


def _load_state(folder: Path, network: torch.nn.Module, optimizer: torch.optim.Optimizer | None) -> int:
    """Load the state that `_save_state` wrote; returns the steps done."""
    path = folder / CHECKPOINT
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            done = int((file.metadata() or {})["steps"])
        network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")})
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} is missing or damaged. Train the detector in a new folder.") from error
    if optimizer is not None:
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            if key.startswith("optimizer."):
                _, number, name = key.split(".")
                state.setdefault(int(number), {})[name] = tensor
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return done


def _save_state(folder: Path, network: torch.nn.Module, optimizer: torch.optim.Optimizer, done: int) -> None:
    tensors = {f"network.{key}": tensor for key, tensor in network.state_dict().items()}
    for number, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": value for name, value in values.items()}
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    with writing("The detector", folder), replacing(folder / CHECKPOINT) as partial:
        save_file(tensors, partial, {"steps": str(done)})


# Training ------------------------------------------------------------------------------------------------------------


def train_detector(
    folder: Path, data: TrainingData, example_indices: Sequence[int], settings: DetectorSettings, device: str = "auto"
) -> Generator[DetectorReport, None, None]:
    """Train in this folder, or resume its run; if the generator is closed, the last checkpoint remains.

    Parameters
    ----------
    example_indices : to train on; a class without a label in a frame counts as absent

    Raises
    ------
    TrainingError
        the data have no pictures, or the folder's run has other settings, classes or data
    CheckpointError, DeviceError, DiskSpaceError
        see `build_network`; a damaged checkpoint
    """
    if not example_indices:
        raise TrainingError("A detector needs frames to train on; got none. Give reference data.")
    record = _record(data, example_indices, settings)
    is_resumed = (folder / CHECKPOINT).exists() and (folder / RECORD).exists()
    if is_resumed and (folder / RECORD).read_text(encoding="utf-8") != record:
        raise TrainingError(
            f"{folder} holds a detector with other settings, classes or data. Choose another folder, or empty this one."
        )
    network = build_network(settings, len(data.classes)).to(choose_device(device)).train()
    optimizer = _optimizer(network, settings)
    write_file(folder / RECORD, record.encode())
    done = _load_state(folder, network, optimizer) if is_resumed else 0
    examples = Examples(data, settings.side)
    if done >= settings.steps:
        yield DetectorReport(done, settings.steps, float("nan"))
    for step in range(done, settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * _rate(step, settings.steps)
        loss = _step(network, optimizer, examples, _sampled_frames(example_indices, settings, step), settings.seed + step)
        if not math.isfinite(loss):
            raise TrainingError(
                f"The detector's loss should be finite; it is {loss} after {step} steps. Choose a lower learning rate."
            )
        if (step + 1) % settings.checkpoint_every == 0 or step + 1 == settings.steps:
            _save_state(folder, network, optimizer, step + 1)
        yield DetectorReport(step + 1, settings.steps, loss)


def _record(data: TrainingData, example_indices: Sequence[int], settings: DetectorSettings) -> str:
    record = {"settings": asdict(settings), "classes": list(data.classes.names), "data": data.fingerprints()}
    return json.dumps({**record, "frames": len(example_indices)}, indent=1)


def _optimizer(network: torch.nn.Module, settings: DetectorSettings) -> torch.optim.AdamW:
    slow = PRETRAINED_BACKBONE_RATE if settings.weights is not None else 1.0
    groups: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
    for name, parameter in network.named_parameters():
        groups["pixel_level_module.encoder" in name].append(parameter)
    rates = {True: slow * settings.learning_rate, False: settings.learning_rate}
    return torch.optim.AdamW(
        [{"params": groups[key], "lr": rates[key], "initial_lr": rates[key]} for key in groups],
        weight_decay=settings.weight_decay,
    )


def _rate(step: int, steps: int) -> float:
    """Factor of the learning rate: warm-up over the first twentieth, and a cosine decay."""
    return min(1.0, (step + 1) / max(steps / 20, 1)) * (0.5 + 0.5 * math.cos(math.pi * step / steps))


def _sampled_frames(example_indices: Sequence[int], settings: DetectorSettings, step: int) -> list[tuple[int, bool]]:
    """The frames of a step, and whether each is mirrored. They depend on seed and step only, so a run can be resumed."""
    rng = np.random.default_rng((settings.seed, step))
    chosen = rng.choice(len(example_indices), settings.batch_size, replace=len(example_indices) < settings.batch_size)
    return [(example_indices[position], bool(rng.integers(2))) for position in chosen.tolist()]


def _step(
    network: Any, optimizer: torch.optim.Optimizer, examples: Examples, chosen: Sequence[tuple[int, bool]], seed: int
) -> float:
    device = next(network.parameters()).device
    read = [examples.read(example_index, is_mirrored) for example_index, is_mirrored in chosen]
    torch.manual_seed(seed)  # for the random points at which masks are compared
    outcome = network(
        pixel_values=torch.stack([pixels for pixels, _, _ in read]).to(device),
        mask_labels=[masks.to(device) for _, masks, _ in read],
        class_labels=[labels.to(device) for _, _, labels in read],
    )
    optimizer.zero_grad(set_to_none=True)
    outcome.loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)
    optimizer.step()
    return float(outcome.loss.detach())


class Examples:
    """Pictures and masks of frames in the padded square of the network."""

    def __init__(self, data: TrainingData, side: int) -> None:
        self.data, self.side = data, side
        self._squares = lru_cache(maxsize=CACHED_FRAMES)(self._square)

    def pixels(self, example_index: int) -> Tensor:
        """(3, side, side), normalised; padded with zeros on the right and below."""
        image = self.data.image(example_index)
        if image is None:
            raise TrainingError(
                f"A detector needs pictures; {self.data.frames[example_index].name} has none. Give data with pictures."
            )
        return self.geometry(example_index).to_input([image])[0]

    def geometry(self, example_index: int) -> FrameGeometry:
        return FrameGeometry(self.data.frames[example_index].size, self.side)

    def read(self, example_index: int, is_mirrored: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels (3, side, side), masks (n, side, side) float32, and labels (n,) of the n present classes."""
        pixels, label_map = self._squares(example_index)
        if is_mirrored:
            pixels, label_map = (self._mirrored(square, example_index) for square in (pixels, label_map))
        class_ids = [class_id for class_id in self.data.present_class_ids(example_index) if (label_map == class_id).any()]
        masks = [(label_map == class_id).float() for class_id in class_ids]
        labels = torch.tensor([self.data.classes.ids.index(class_id) for class_id in class_ids], dtype=torch.long)
        return pixels, torch.stack(masks) if masks else torch.zeros(0, self.side, self.side), labels

    def _square(self, example_index: int) -> tuple[Tensor, Tensor]:
        """Pixels, and the label map (side, side) uint8."""
        height, width = self.geometry(example_index).resized_size
        labels = torch.from_numpy(np.array(self.data.label_map(example_index)))[None, None].float()
        resized = F.interpolate(labels, (height, width), mode="nearest-exact")[0, 0].to(torch.uint8)
        return self.pixels(example_index), F.pad(resized, (0, self.side - width, 0, self.side - height))

    def _mirrored(self, square: Tensor, example_index: int) -> Tensor:
        height, width = self.geometry(example_index).resized_size
        mirrored = square.clone()
        mirrored[..., :height, :width] = square[..., :height, :width].flip(-1)
        return mirrored


# Detecting -----------------------------------------------------------------------------------------------------------


def detect(detector: Detector, data: TrainingData, example_indices: Sequence[int]) -> Iterator[tuple[int, list[Detection]]]:
    """The detections in each frame, for `write_detections`; classes that are not in the data are left out."""
    examples = Examples(data, detector.side)
    by_name = {plain(name): instrument for name, instrument in zip(data.classes.names, data.classes, strict=True)}
    known = [by_name.get(plain(name)) for name in detector.class_names]
    class_ids = [None if instrument is None else instrument.id for instrument in known]
    device = next(detector.network.parameters()).device
    for example_index in example_indices:
        with torch.inference_mode():
            output = detector.network(pixel_values=examples.pixels(example_index)[None].to(device))
        geometry = examples.geometry(example_index)
        yield (
            example_index,
            list(boxes_of(output.class_queries_logits[0], output.masks_queries_logits[0], geometry, class_ids)),
        )


def boxes_of(
    class_logits: Tensor, mask_logits: Tensor, geometry: FrameGeometry, class_ids: Sequence[int | None]
) -> Iterator[Detection]:
    """The boxes around the masks of the queries whose most likely class is not "no object".

    The score is the probability of the class, times the mean probability of the mask inside it (as in Mask2Former).

    Parameters
    ----------
    class_logits : (Q, C + 1), the last column is "no object"
    mask_logits : (Q, h, w), of the padded square
    class_ids : C class ids; None for a class to leave out
    """
    probabilities, labels = class_logits.softmax(-1).max(-1)
    cell = geometry.input_size / mask_logits.shape[-1]
    resized_height, resized_width = geometry.resized_size
    height, width = geometry.original_size
    for probability, label, logits in zip(probabilities.tolist(), labels.tolist(), mask_logits, strict=True):
        class_id = class_ids[label] if label < len(class_ids) else None
        is_inside = logits > 0
        is_inside[math.ceil(resized_height / cell) :], is_inside[:, math.ceil(resized_width / cell) :] = False, False
        if class_id is None or not is_inside.any():
            continue
        rows, columns = is_inside.nonzero(as_tuple=True)
        left, right = (float(c) * cell * width / resized_width for c in (columns.min(), columns.max() + 1))
        top, bottom = (float(r) * cell * height / resized_height for r in (rows.min(), rows.max() + 1))
        score = probability * float(logits[is_inside].sigmoid().mean())
        yield Detection(class_id, (left, top, min(right, width), min(bottom, height)), score)
