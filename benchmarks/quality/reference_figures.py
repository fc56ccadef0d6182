"""How far are our numbers from those of the authors' own code, before and after the corrections?

FOLDER has the outputs of the authors' code, made with random weights and kept outside the project; its layout is that of
tests/reference/README.md. Without FOLDER the smaller set in tests/reference is used, which gives the same figures but for
the number of logits and masks compared. "before" is the earlier way of `reference_before.py`, computed in the same run.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

sys.path.extend(str(Path(__file__).parents[depth] / name) for depth, name in ((1, ""), (2, "tests")))
import reference_before as before
from common.options import new_parser, parse, print_json
from reference import inputs
from reference.cases import EDGE, FRAME, HERE, load_model, painted
from reference.reduce import one_logit_per_cell

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.model.upsampling import label_map_of
from surgicalsam_napari.phantom import PhantomScene
from surgicalsam_training.config import TrainingConfig
from surgicalsam_training.loop.losses import dice_losses, frame_dice_losses, prototype_contrastive_loss
from surgicalsam_training.loop.prompts import ClassPairs, PromptBatch, PromptLosses, StepCounts, class_embedding, mask_target
from surgicalsam_training.loop.tuning import unfreeze
from surgicalsam_training.scoring.metrics import evaluate_label_maps

PAPER = TrainingConfig(presence_weight=0)
COLUMNS = ("Number", "Unit", "Before", "After", "Tolerance")
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Figure:
    """The largest difference to the authors' code; `before` is None where nothing was changed."""

    number: str
    unit: str
    before: float | None
    after: float
    tolerance: float


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=HERE, metavar="FOLDER", help="default: tests/reference")
    options = parse(parser, {})
    if not (options.folder / "inference.npz").is_file():
        sys.exit(f"FOLDER should hold inference.npz of the authors' code; {options.folder} does not. Name another folder.")
    torch.set_num_threads(min(torch.get_num_threads(), 2))
    with tempfile.TemporaryDirectory() as scratch:
        inputs.write_checkpoint(Path(scratch))
        figures = list(_figures(options.folder, load_model(Path(scratch))))
    if options.json:
        print_json({"figures": [asdict(figure) for figure in figures]})
    else:
        print(to_markdown(figures))


def to_markdown(figures: list[Figure]) -> str:
    lines = [COLUMNS, ("---", "---", "---:", "---:", "---:")]
    for figure in figures:
        values = ("–" if value is None else f"{value:.2g}" for value in (figure.before, figure.after))
        lines.append((figure.number, figure.unit, *values, f"{figure.tolerance:g}"))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _figures(folder: Path, model: SurgicalSAM) -> Iterator[Figure]:
    yield from _resizing()
    yield from _inference(folder, model)
    yield from _class_embeddings(folder, model)
    yield from _dice()
    yield from _training(folder, model)  # it changes the model
    yield from _metrics(folder)


# Inference -----------------------------------------------------------------------------------------------------------


def _resizing() -> Iterator[Figure]:
    picture = PhantomScene(0, FRAME.original_size, 1).frame(0).image
    height, width = FRAME.resized_size
    expected = np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))
    yield Figure(
        "resized picture (phantom, 1024 x 1280): values that differ",
        "%",
        100 * float((before.resized(picture, FRAME) != expected).mean()),
        100 * float((FRAME.resized(picture) != expected).mean()),
        0.0,
    )


@torch.inference_mode()
def _inference(folder: Path, model: SurgicalSAM) -> Iterator[Figure]:
    exact, fine = inputs.image_embeddings(), inputs.image_embeddings32()
    reference = _arrays(folder, "inference")
    prompts = model.class_prompt_encoder(exact, model.prototypes(), torch.arange(7).expand(2, -1))
    sparse = _by_prompt(prompts.sparse_prompt_embeddings, reference) - reference["sparse_prompt_embeddings"]
    dense = _by_prompt(prompts.dense_prompt_embeddings.mean((-2, -1)), reference) - reference["dense_prompt_embeddings_mean"]
    yield Figure("sparse prompt embeddings", "absolute", None, float(np.abs(sparse).max()), 1e-5)
    yield Figure("dense prompt embeddings, mean", "absolute", None, float(np.abs(dense).max()), 1e-5)
    ours, fine_reference = _differences(model, exact, reference), _arrays(folder, "inference32")
    half, whole = (_differences(model, frame, fine_reference) for frame in (fine.half().float(), fine))
    for name, tolerance in (("logits", 1e-5), ("masks", 10.0), ("label maps", 10.0)):
        unit = "absolute" if name == "logits" else "pixels in a million"
        yield Figure(f"{name}, two frames that float16 holds exactly", unit, None, ours[name], tolerance)
        yield Figure(f"{name}, a float32 frame (before: as float16)", unit, half[name], whole[name], tolerance)


def _differences(model: SurgicalSAM, embeddings: Tensor, reference: Arrays) -> dict[str, float]:
    decoded = model.decode(embeddings, ENDOVIS2018.ids)
    logits, expected = _by_prompt(decoded.low_res_logits, reference), reference["low_res_logits"]
    compared = one_logit_per_cell(logits) if expected.shape[-1] == 64 else logits
    positions = reference.get("mask_positions", np.arange(len(logits)))
    masks = np.stack([(FRAME.to_frame(of_prompt) > 0).numpy() for of_prompt in torch.from_numpy(logits[positions])])
    maps = [
        label_map_of(of_frame, ENDOVIS2018.ids, FRAME, quality.numpy())
        for of_frame, quality in zip(decoded.low_res_logits, decoded.predicted_iou, strict=True)
    ]
    known_masks = np.unpackbits(reference["masks"], axis=-1).astype(bool)
    return {
        "logits": float(np.abs(compared - expected).max()),
        "masks": 1e6 * float((masks != known_masks).mean()),
        "label maps": 1e6 * float((np.stack(maps) != reference["merged_labels"].reshape(-1, 1024, 1280)).mean()),
    }


def _by_prompt(values: Tensor, reference: Arrays) -> np.ndarray:
    frames = reference.get("frame_index", np.zeros_like(reference["class_ids"]))
    return values[frames, reference["class_ids"] - 1].numpy()


# Training ------------------------------------------------------------------------------------------------------------


def _class_embeddings(folder: Path, model: SurgicalSAM) -> Iterator[Figure]:
    cells: list[tuple[int, int, int]] = []  # touched, ours now, the authors'
    wrong = [0, 0]
    for case in EDGE["class_embedding_cells"]:
        mask = painted(case["mask"], bool)
        expected = np.zeros((64, 64), bool)
        for row, first, end in case["runs"]:
            expected[row, first:end] = True
        mean = class_embedding(torch.eye(64 * 64).unflatten(1, (64, 64)), mask, FrameGeometry(mask.shape))
        after = np.zeros((64, 64), bool) if mean is None else (mean > 0).numpy().reshape(64, 64)
        touched = before.touched_cells(mask, FrameGeometry(mask.shape))
        wrong = [wrong[0] + int((touched != expected).any()), wrong[1] + int((after != expected).any())]
        cells.append((touched.sum(), after.sum(), expected.sum()))
    known_cells = np.array([of_case for of_case in cells if of_case[2]], float)
    extra, extra_now = (100 * (known_cells[:, column] / known_cells[:, 2] - 1) for column in (0, 1))
    count = len(cells)
    yield Figure(f"cells of a class embedding: cases of {count} that differ", "cases", wrong[0], wrong[1], 0.0)
    yield Figure("cells of a class embedding: too many, worst case", "%", float(extra.max()), float(extra_now.max()), 0.0)
    training, batch = _arrays(folder, "training"), _batch(folder)
    masks = [target.bool().numpy() for target in batch.targets]
    earlier, ours = (
        torch.stack([embed(e, mask, FRAME) for e, mask in zip(batch.embeddings, masks, strict=True)])
        for embed in (before.touched_embedding, class_embedding)
    )
    known = torch.from_numpy(training["class_embeddings"])
    yield Figure("class embeddings", "absolute", *(float((e - known).abs().max()) for e in (earlier, ours)), 1e-6)
    losses = (float(prototype_contrastive_loss(model.prototypes(), e, batch.rows)) for e in (earlier, ours))
    expected = training["losses"][0, 1]
    yield Figure(
        "contrastive loss with our class embeddings", "relative", *(abs(loss / expected - 1) for loss in losses), 1e-6
    )


def _batch(folder: Path) -> PromptBatch:
    training = _arrays(folder, "training")
    masks = np.unpackbits(training["masks"], axis=-1).astype(bool)
    targets = tuple(mask_target(mask, FRAME, PAPER, 256) for mask in masks)
    rows = torch.from_numpy(training["class_ids"]).long() - 1
    images = inputs.image_embeddings()[training["frame_index"]]
    return PromptBatch(images, rows, targets, (FRAME,) * 4, torch.ones(4, dtype=torch.bool), torch.ones(4))


def _dice() -> Iterator[Figure]:
    differences = []
    for case in EDGE["dice"]:
        logits = torch.from_numpy(painted(case["logits"], np.float32))
        mask = torch.from_numpy(painted(case["mask"], np.uint8))
        is_low_res = logits.shape[-1] == 256
        earlier = before.dice_loss(FRAME.to_frame(logits) if is_low_res else logits, mask.float())
        losses = (
            frame_dice_losses(logits[None], [mask], FRAME) if is_low_res else dice_losses(logits[None], mask[None].float())
        )
        differences.append([abs(float(loss) - case["dice_loss"]) for loss in (earlier, losses.mean())])
    yield Figure(f"dice loss, {len(differences)} rare cases", "absolute", *np.max(differences, axis=0).tolist(), 1e-6)


def _training(folder: Path, model: SurgicalSAM) -> Iterator[Figure]:
    training, batch = _arrays(folder, "training"), _batch(folder)
    expected_norms = list(json.loads((folder / "expected.json").read_text())["gradient_norms_step_0"].values())
    optimizer = torch.optim.Adam(unfreeze(model, PAPER), PAPER.learning_rate, weight_decay=PAPER.weight_decay)
    losses = PromptLosses(model, PAPER).train()
    pairs = ClassPairs(torch.from_numpy(training["class_embeddings"]), batch.rows)
    differences, norms = [], np.array([])
    for step, expected in enumerate(training["losses"]):
        terms = losses(batch, StepCounts(4, 4), pairs)
        total = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad()
        total.backward()
        found = np.array([float(terms["dice"].detach()), float(terms["contrastive"].detach()), float(total.detach())])
        differences.append(np.abs(found / expected - 1).max())
        if step == 0:
            parts = (losses.prototypes, losses.class_prompt_encoder, losses.mask_decoder)
            gradients = ([weight.grad for weight in part.parameters() if weight.grad is not None] for part in parts)
            norms = np.array([float(torch.stack([gradient.norm() for gradient in part]).norm()) for part in gradients])
        optimizer.step()
    yield Figure("losses before each of five Adam steps", "relative", None, float(max(differences)), 1e-4)
    yield Figure("gradient norms of the first step", "relative", None, float(np.abs(norms / expected_norms - 1).max()), 1e-3)


# Metrics -------------------------------------------------------------------------------------------------------------


def _metrics(folder: Path) -> Iterator[Figure]:
    maps = _arrays(folder, "metrics")
    expected = json.loads((folder / "expected.json").read_text())["metrics"]
    whole = [(list(zip(maps["predictions"], maps["ground_truth"], strict=True)), expected)]
    rare = [
        (
            [(painted(f["prediction"], np.uint8), painted(f["ground_truth"], np.uint8)) for f in case["frames"]],
            case["metrics"],
        )
        for case in EDGE["metrics"]
    ]
    earlier = after = count = 0
    for pairs, known in [*whole, *rare]:
        metrics = evaluate_label_maps(pairs, ENDOVIS2018.ids)
        found = [
            metrics.challenge_iou,
            metrics.iou,
            metrics.mean_class_iou,
            metrics.overall_iou,
            *metrics.class_iou.values(),
        ]
        wanted = [known["challengIoU"], known["IoU"], known["mcIoU"], known["mIoU"], *known["cIoU_per_class"]]
        differ = [_rounded(value) != _rounded(other) for value, other in zip(found, wanted, strict=True)]
        count, after = count + len(differ), after + sum(differ)
        is_empty = not any(prediction.any() for prediction, _ in pairs)  # mIoU was nan then; it is 0
        earlier += sum(differ) + is_empty
    yield Figure(f"metrics, three decimals: of {count} numbers that differ", "numbers", earlier, after, 0.0)


def _rounded(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else round(float(value), 3)


def _arrays(folder: Path, name: str) -> Arrays:
    with np.load(folder / f"{name}.npz") as file:
        return dict(file)


if __name__ == "__main__":
    main()
