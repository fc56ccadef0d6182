"""Are the class colours told apart by colour-blind people, over tissue and instruments, and can better ones be found?

Each colour is laid at the opacity of the labels over colours of tissue and of instruments, seen with normal vision and with
protanopia, deuteranopia and tritanopia (Machado, Oliveira and Fernandes 2009, full severity). The figure is the least
CIELAB distance (CIE 1976) of two classes in any of these cases. `--search ROUNDS` looks for a better palette.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))
from common.options import new_parser, parse, print_figures

from surgicalsam_napari.instruments import PALETTE

OPACITY = 0.55  # of the labels over the video
BEFORE = ("#56b4e9", "#e69f00", "#19d3a2", "#f0e442", "#b58cff", "#ff7ac6", "#3f7bff", "#c4f24a")
BACKGROUNDS = {
    "liver": "#6e2a24", "mucosa": "#c8786e", "fat": "#d2aa5f", "blood": "#5a0c0c", "shadow": "#2d1412",
    "bright metal": "#aaaaaf", "dark shaft": "#3c3c41",
}  # fmt: skip
STATES = ("#17181d", "#6a717e", "#5b3fb5", "#4a74dc", "#58b8f2", "#f2a11f", "#cfe8b8", "#ff78b6", "#ffffff")  # timeline
PANELS = ("#23242b", "#ebe7e6")  # backgrounds of the dock in napari's themes
VISIONS = {
    "normal": np.eye(3),
    "protanopia": np.array([[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]]),
    "deuteranopia": np.array([[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]]),
    "tritanopia": np.array([[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]]),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
CLASSES, STEPS = 7, 4000  # of an EndoVis set; of a search from one random palette
FROM_BARE, FROM_STATES, FROM_PANELS = 16.0, 12.0, 35.0  # demands: a mask is seen, a swatch is no state, and is seen
DARKEST = 35.0  # L* of a swatch; darker ones look black


def rgb(color: str) -> np.ndarray:
    return np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255


def lab(encoded: np.ndarray, visions: np.ndarray) -> np.ndarray:
    """(V, ..., 3) CIELAB of (..., 3) sRGB colours from 0 to 1, as seen with V kinds of colour vision."""
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.einsum("vij,...j->v...i", visions, linear), 0, 1)
    xyz = seen @ TO_XYZ.T / TO_XYZ.sum(axis=1)
    x, y, z = np.moveaxis(np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


ALL_VISIONS, NORMAL = np.stack(list(VISIONS.values())), np.eye(3)[None]
BARE = np.stack([rgb(color) for color in BACKGROUNDS.values()])
BARE_LAB = lab(BARE, ALL_VISIONS)
STATES_LAB, PANELS_LAB = (lab(np.stack([rgb(color) for color in colors]), NORMAL)[0] for colors in (STATES, PANELS))


def masks(colors: np.ndarray) -> np.ndarray:
    """(V, B, N, 3) CIELAB of (N, 3) colours as masks over the backgrounds."""
    return lab(OPACITY * colors[None] + (1 - OPACITY) * BARE[:, None], ALL_VISIONS)


def pair_distances(colors: np.ndarray) -> np.ndarray:
    """(V, N, N) least distance of two masks over any background; infinite on the diagonal."""
    seen = masks(colors)
    least = np.linalg.norm(seen[:, :, :, None] - seen[:, :, None], axis=-1).min(axis=1)
    return least + np.where(np.eye(len(colors)), np.inf, 0)


def margins(color: np.ndarray) -> np.ndarray:
    """(3,) least distances of one colour: as a mask to the bare background, as a swatch to the states and to the panels."""
    swatch = lab(color, NORMAL)[0]
    bare = np.linalg.norm(masks(color[None])[:, :, 0] - BARE_LAB, axis=-1).min()
    return np.array([bare, *(np.linalg.norm(swatch - others, axis=-1).min() for others in (STATES_LAB, PANELS_LAB))])


def lack(color: np.ndarray) -> float:
    """How far a colour is from the demands."""
    demands = np.array([FROM_BARE, FROM_STATES, FROM_PANELS])
    too_dark = max(DARKEST - float(lab(color, NORMAL)[0, 0]), 0)
    return float(np.maximum(demands - margins(color), 0).sum()) + too_dark


def search(start: np.ndarray, fixed: int, rounds: int, seed: int) -> np.ndarray:
    """Move one colour at a time at random, and keep what is not worse; the first `fixed` colours stay."""
    random = np.random.default_rng(seed)
    best, best_worth = start, -np.inf
    for _ in range(rounds):
        colors = start.copy()
        colors[fixed:] = random.random((len(colors) - fixed, 3))
        seen, least = masks(colors), pair_distances(colors).min(axis=0)
        lacks = np.array([lack(color) for color in colors])
        lacks[:fixed] = 0
        now = least.min() - lacks.sum()
        for step in np.geomspace(0.4, 0.004, STEPS):
            one = random.integers(fixed, len(colors))
            moved = np.clip(colors[one] + step * random.standard_normal(3), 0, 1)
            mask = masks(moved[None])[:, :, 0]
            row = np.linalg.norm(seen - mask[:, :, None], axis=-1).min(axis=(0, 1))
            row[one] = np.inf
            others = np.delete(np.delete(least, one, 0), one, 1)
            moved_lack = lack(moved)
            value = min(row.min(), others.min()) - (lacks.sum() - lacks[one] + moved_lack)
            if value >= now:
                colors[one], lacks[one], now = moved, moved_lack, value
                seen[:, :, one], least[one], least[:, one] = mask, row, row
        if now > best_worth:
            best, best_worth = colors, now
    return best


def report(name: str, palette: tuple[str, ...]) -> dict[str, object]:
    """Least distances of the first seven colours by vision, of all eight, and of all to what they may be mistaken for."""
    colors = np.stack([rgb(color) for color in palette])
    by_vision = pair_distances(colors[:CLASSES]).min(axis=(1, 2))
    figures: dict[str, object] = {name: " ".join(palette)}
    figures |= {f"{name}_{vision}": round(float(least), 1) for vision, least in zip(VISIONS, by_vision, strict=True)}
    figures[f"{name}_all_eight"] = round(float(pair_distances(colors).min()), 1)
    least = np.stack([margins(color) for color in colors]).min(axis=0)
    for what, value in zip(("bare_background", "timeline_states", "panels"), least, strict=True):
        figures[f"{name}_to_{what}"] = round(float(value), 1)
    return figures


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--search", type=int, default=0, metavar="ROUNDS", help="look for a better palette")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parse(parser, quick={"search": 1})
    result = report("before", BEFORE) | report("now", PALETTE)
    if arguments.search:
        start = np.stack([rgb(color) for color in PALETTE])
        seven = search(start[:CLASSES], 0, arguments.search, arguments.seed)
        eight = search(np.concatenate([seven, start[CLASSES:]]), CLASSES, -(-arguments.search // 8), arguments.seed)
        result |= report("found", tuple("#" + bytes(np.rint(255 * color).astype(np.uint8)).hex() for color in eight))
    print_figures(result, as_json=arguments.json)


if __name__ == "__main__":
    main()
