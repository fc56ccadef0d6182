"""Reduce the full set of the authors' numbers to the files here: `python tests/reference/reduce.py FOLDER`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from reference.inputs import rounded_tokens, rounded_tokens32

HERE = Path(__file__).parent
SAMPLING = 4099  # prime, so that samples of a grid are of all its rows and columns
KEPT_MASKS = {"inference": (0, 5, 9, 13), "inference32": (2, 4)}
COPIED = ("metrics.npz", "expected.json")
Arrays = dict[str, np.ndarray]


def reduced(folder: Path) -> dict[str, Arrays]:
    """The arrays of each .npz file here that is not copied whole, from the full set in `folder`."""
    full = {name: _arrays(folder / f"{name}.npz") for name in ("inference", "inference32", "training")}
    checkpoint = torch.load(folder / "model_ckp.pth", weights_only=True)
    sam = torch.load(folder / "sam_prompt_encoder.pth", weights_only=True)
    inputs = {
        "weights": samples(value.numpy() for part in (*checkpoint.values(), sam) for value in part.values()),
    }
    tokens, tokens32 = (full[name].pop("image_embeddings") for name in ("inference", "inference32"))
    rounded32, between = rounded_tokens32()
    before = (tokens32.astype(np.float64) / (1 + 3e-4 * between.double().numpy())).astype(np.float16)
    embeddings = {
        "image_embeddings": (tokens.astype(np.float32), tokens, rounded_tokens()),
        "image_embeddings32": (tokens32, before, rounded32),
    }
    for name, (given, in_half, rounded) in embeddings.items():
        corrected = np.flatnonzero(in_half != rounded.numpy())
        inputs |= {
            name: samples([given]),
            f"{name}_corrected": corrected.astype(np.int32),
            f"{name}_corrections": in_half.reshape(-1)[corrected],
        }
    for name, positions in KEPT_MASKS.items():
        arrays = full[name]
        arrays["low_res_logits"] = one_logit_per_cell(arrays["low_res_logits"])
        arrays["masks"] = arrays["masks"][list(positions)]
        arrays["mask_positions"] = np.array(positions)
    del full["training"]["class_embeddings_any_overlap"]
    return {**full, "inputs": inputs}


def one_logit_per_cell(logits: np.ndarray) -> np.ndarray:
    """One of the 4 x 4 logits of each cell of the grid, each place in the square equally often.

    Parameters
    ----------
    logits : (..., 4h, 4w)

    Returns
    -------
    (..., h, w)
    """
    rows, columns = np.indices((logits.shape[-2] // 4, logits.shape[-1] // 4))
    place = (5 * rows + 3 * columns) % 16
    return logits[..., 4 * rows + place // 4, 4 * columns + place % 4]


def samples(arrays: Iterable[np.ndarray]) -> np.ndarray:
    """The first value of each array, and every 4,099th after it."""
    return np.concatenate([array.reshape(-1)[::SAMPLING] for array in arrays])


def _arrays(path: Path) -> Arrays:
    with np.load(path) as file:
        return dict(file)


def main() -> None:
    if len(sys.argv) != 2 or not Path(sys.argv[1], "inference.npz").is_file():
        sys.exit(f"Give the folder of the full set, which holds inference.npz; got {' '.join(sys.argv[1:]) or 'none'}.")
    folder = Path(sys.argv[1])
    for name, arrays in reduced(folder).items():
        np.savez_compressed(HERE / f"{name}.npz", **arrays)
    for name in COPIED:
        (HERE / name).write_bytes((folder / name).read_bytes())
    edge = json.loads((folder / "edge.json").read_text())
    lines = [f"{json.dumps(key)}: {_by_line(value)}" for key, value in edge.items()]
    (HERE / "edge.json").write_text("{" + ",\n".join(lines) + "}\n")


def _by_line(value: object) -> str:
    """JSON, a case a line."""
    if not isinstance(value, list):
        return json.dumps(value)
    return "[\n" + ",\n".join(json.dumps(case, separators=(",", ":")) for case in value) + "\n]"


if __name__ == "__main__":
    main()
