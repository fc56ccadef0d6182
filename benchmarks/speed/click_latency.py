"""Time from a click to the new mask, for one frame with a cached embedding and the bundled weights.

The frame is a phantom frame, 1080x1920 by default. The mask to correct is the shifted mask of an instrument. Every sixth
click starts a new refinement, as in another frame. The first click of the process is reported separately.
The last line printed with `--json` is one JSON object (milliseconds).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[1]))
from common.options import new_parser, parse, print_json

from surgicalsam_napari.inference.refine import Click, Refinement
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.zoo import bundled_checkpoint
from surgicalsam_napari.phantom import PhantomScene

CLICKS_PER_REFINEMENT = 6


def click_times(refinement: Refinement, clicks: list[Click]) -> list[float]:
    """Milliseconds from each click to its mask."""
    times = []
    for click in clicks:
        started = time.perf_counter()
        refinement.add_click(click)
        refinement.mask  # noqa: B018
        times.append(1000 * (time.perf_counter() - started))
    return times


def random_clicks(truth: np.ndarray, rng: np.random.Generator, count: int) -> list[Click]:
    """Clicks on random pixels, half of them on the instrument."""
    on_instrument, elsewhere = np.argwhere(truth), np.argwhere(~truth)
    chosen = [rng.choice(on_instrument if turn % 2 == 0 else elsewhere) for turn in range(count)]
    return [Click(float(row), float(column), bool(truth[row, column])) for row, column in chosen]


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, default=None, help="default: the bundled weights")
    parser.add_argument("--size", type=int, nargs=2, default=(1080, 1920), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--clicks", type=int, default=120)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parse(parser, quick={"size": (270, 480), "clicks": 2, "threads": 1})
    torch.set_num_threads(arguments.threads)
    model = load_checkpoint(arguments.checkpoint or bundled_checkpoint(), device=arguments.device)
    frame = PhantomScene(300_000, tuple(arguments.size), frame_count=1).frame(0)
    embedding = model.embed([frame.image])[0]
    truth = frame.labels == np.bincount(frame.labels[frame.labels > 0]).argmax()
    shifted = np.roll(truth, arguments.size[1] // 40, axis=1)
    rng = np.random.default_rng(0)

    times: list[float] = []
    while len(times) <= arguments.clicks:
        clicks = random_clicks(truth, rng, CLICKS_PER_REFINEMENT)
        times += click_times(Refinement(model, embedding, shifted), clicks)
    first, *rest = times
    result = {
        "first_ms": round(first, 1),
        "median_ms": round(float(np.median(rest)), 1),
        "p95_ms": round(float(np.quantile(rest, 0.95)), 1),
        "worst_ms": round(max(rest), 1),
    }
    print(f"{len(rest)} clicks at {arguments.size[0]}x{arguments.size[1]} on {model.device}: " +
          ", ".join(f"{name.removesuffix('_ms')} {value} ms" for name, value in result.items()))  # fmt: skip
    if arguments.json:
        print_json(result)


if __name__ == "__main__":
    main()
