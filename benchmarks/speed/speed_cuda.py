"""Speed on a CUDA device: embedding with ViT-H, decoding and the training step, in frames or samples per second.

    python benchmarks/speed/speed_cuda.py [--repeats 3] [--device cuda] [--encoder vit_h] [--quick] [--json]

The weights are random. Embedding runs in bf16 (as `SurgicalSAM.embed` does on CUDA) at several batch sizes, with and
without `torch.compile`, and in float32; each has its cosine similarity to float32. Decoding runs for one and for all seven
classes, exact and fast. Training runs at batch 2, 16 and 32. The roofline share is the arithmetic rate, divided by the
highest rate of the device (`PEAK_TFLOPS`, the makers' dense figures for bf16). On a V100 the paper decodes 91.7 frames per
second with cached embeddings (its Table 5).

`--quick` runs the same code on the CPU, with the light encoder and small batches, without `torch.compile`.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1]))
from common.options import new_parser, parse, print_figures
from random_model import CLASSES, QUICK_SIZE, SIZE, smooth_embeddings, untrained_model
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.image_encoder import build_image_encoder
from surgicalsam_napari.model.surgical_sam import SurgicalSAM

PEAK_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0, "L40": 181.0, "A10": 125.0, "V100": 125.0, "4090": 165.0}


def seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """The median seconds of `repeats` runs after a warm-up run; each waits for the device."""

    def run() -> float:
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    run()
    return statistics.median(run() for _ in range(repeats))


def roofline_share(flops_per_second: float, device: torch.device) -> float | None:
    """The share of the device's highest rate; None if the device is not in `PEAK_TFLOPS`."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    peak = next((peak for key, peak in PEAK_TFLOPS.items() if key in name), None)
    return None if peak is None else round(flops_per_second / (1e12 * peak), 3)


def flops(work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


@torch.inference_mode()
def embedding(
    encoder_id: str, device: torch.device, counts: Sequence[int], repeats: int, *, is_compiled: bool
) -> dict[str, object]:
    """Frames per second of the image encoder, by precision, batch size and compilation."""
    torch.manual_seed(0)
    encoder = build_image_encoder(encoder_id).to(device)
    side = ENCODERS[encoder_id].input_size
    exact = encoder(torch.zeros(1, 3, side, side, device=device))
    per_frame = flops(lambda: encoder(torch.zeros(1, 3, side, side, device=device)))
    figures: dict[str, object] = {}
    ways: dict[str, tuple[nn.Module | Callable, bool]] = {"float32": (encoder, False), "bf16": (encoder, True)}
    if is_compiled:
        ways["bf16_compiled"] = (torch.compile(encoder), True)
    for way, (run, half) in ways.items():
        for count in counts:
            images = torch.zeros(count, 3, side, side, device=device)
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                taken = seconds(lambda run=run, images=images: run(images), device, repeats)
                cosine = torch.nn.functional.cosine_similarity(run(images)[:1].float().flatten(), exact.flatten(), dim=0)
            figures[f"embed_{encoder_id}_{way}_batch{count}"] = {
                "frames_per_second": round(count / taken, 2),
                "roofline_share": roofline_share(count * per_frame / taken, device),
                "cosine_to_float32": round(float(cosine), 6),
            }
    return figures


@torch.inference_mode()
def decoding(model: SurgicalSAM, device: torch.device, counts: Sequence[int], repeats: int) -> dict[str, object]:
    """Frames per second from embeddings on the device to low-resolution logits of all seven classes, and of one."""
    figures: dict[str, object] = {}
    for class_ids, count in product(([CLASSES.ids[0]], list(CLASSES.ids)), counts):
        embeddings = smooth_embeddings(model, count).to(device)
        model.is_fast = False  # set directly, because `use_fast` refuses a CPU without AMX; the arithmetic is the same
        work = flops(lambda ids=class_ids, e=embeddings: model.decode(e, ids))
        for model.is_fast in (False, True):
            taken = seconds(lambda ids=class_ids, e=embeddings: model.decode(e, ids), device, repeats)
            figures[f"decode_{len(class_ids)}_classes_{'fast' if model.is_fast else 'exact'}_batch{count}"] = {
                "frames_per_second": round(count / taken, 2),
                "roofline_share": roofline_share(work / taken, device),
            }
    return figures


def training(
    device: torch.device, counts: Sequence[int], repeats: int, size: tuple[int, int], model_id: str
) -> dict[str, object]:
    """Samples per second and peak memory of a step at the paper's batch sizes, losses at frame size."""
    # imported here, so that the other parts run without the packages of training
    from training_steps import OurStep, step_config

    figures: dict[str, object] = {}
    for count in counts:
        step = OurStep(untrained_model(model_id).to(device), step_config(count), size)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        taken = seconds(step, device, repeats)
        peak = torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else None
        figures[f"train_batch{count}"] = {
            "samples_per_second": round(count / taken, 2),
            "peak_megabytes": peak and round(peak),
        }
    return figures


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--encoder", choices=ENCODERS, default="vit_h")
    parser.add_argument("--embed", type=int, nargs="+", default=[1, 4, 8, 16], metavar="N", help="batch sizes of embedding")
    parser.add_argument("--decode", type=int, nargs="+", default=[1, 8, 32], metavar="N", help="batch sizes of decoding")
    parser.add_argument(
        "--train",
        type=int,
        nargs="*",
        default=[2, 16, 32],
        metavar="N",
        help="batch sizes of training; without a number it is skipped",
    )
    parser.add_argument("--no-compile", action="store_true", help="do not use torch.compile (never used on a CPU)")
    small = {"repeats": 1, "device": "cpu", "encoder": "light", "embed": [1], "decode": [1], "train": [2]}
    options = parse(parser, quick=small)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print(
            "This benchmark needs a CUDA device, and there is none. Run the same code on the CPU with --quick.",
            file=sys.stderr,
        )
        raise SystemExit(2)
    is_compiled = device.type == "cuda" and not options.no_compile
    model_id = "light" if options.quick else "vit_h"
    figures = {
        **embedding(options.encoder, device, options.embed, options.repeats, is_compiled=is_compiled),
        **decoding(untrained_model(model_id).to(device), device, options.decode, options.repeats),
        **(
            training(device, options.train, options.repeats, QUICK_SIZE if options.quick else SIZE, model_id)
            if options.train
            else {}
        ),
        "cuda_device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }
    print_figures(figures, as_json=options.json)


if __name__ == "__main__":
    main()
