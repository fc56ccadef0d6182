"""Predicted masks next to the truth (Yue et al., AAAI 2024, figures 5, 7 and 8), and similarity maps (figure 9)."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from surgicalsam_napari.exchange.files import png_bytes, write_file
from surgicalsam_napari.inference.similarity import contrast_limits, frame_similarity
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_training.config import TrainingConfig
from surgicalsam_training.data.training_data import TrainingData
from surgicalsam_training.experiments.cells import cell_model, trained_cell
from surgicalsam_training.experiments.scoring import OpenedData, opened_data
from surgicalsam_training.experiments.setting import Setting
from surgicalsam_training.experiments.stage import Stage
from surgicalsam_training.loop.examples import labelled_panel, titled_panel
from surgicalsam_training.scoring.protocol import EvaluationProtocol, answers_of_model

ROWS = 4
CLASSES_PER_ROW = 3  # of the similarity maps
MOST_BYTES = 200_000
LARGEST_WIDTH = 1200  # pixels
COLORS = 256


@dataclass(frozen=True)
class Figure:
    """A written picture and its caption."""

    path: Path
    caption: str


def figures(setting: Setting) -> Generator[Stage, None, list[Figure]]:
    """Figures 5, 7 and 9 show the first dataset; figure 8 shows the second, if there is one."""
    written = yield from _mask_figures(setting, setting.config, ("figure5", "figure7"))
    if len(setting.configs) > 1:
        written += yield from _mask_figures(setting, setting.configs[1], ("figure8",))
    return [*written, (yield from _similarity_figure(setting))]


def _mask_figures(setting: Setting, config: TrainingConfig, names: Sequence[str]) -> Generator[Stage, None, list[Figure]]:
    """Grids of validation frames, each with its truth and its masks from both protocols."""
    run = yield from trained_cell(setting.cells, config)
    model = cell_model(run)
    rows = []
    with opened_data(config, model.classes) as opened:
        chosen = shown_frames(opened, ROWS * len(names))
        for done, example_index in enumerate(chosen):
            yield Stage("drawing masks", done, len(chosen))
            rows.append(_mask_row(model, opened.data, example_index))
    caption = (
        f"{config.data[0].name}: frame, truth, masks with the present classes prompted, masks with every class prompted."
    )
    parts = {name: rows[ROWS * figure_index : ROWS * (figure_index + 1)] for figure_index, name in enumerate(names)}
    return [Figure(write_grid(part, setting.out / f"{name}.png"), caption) for name, part in parts.items() if part]


def _mask_row(model: SurgicalSAM, data: TrainingData, example_index: int) -> list[np.ndarray]:
    image = picture_of(data, example_index)
    maps = {"truth": data.label_map(example_index)}
    for protocol, predictions in answers_of_model(model, data, [example_index]).items():
        ((_, label_map),) = predictions
        maps["present prompted" if protocol is EvaluationProtocol.PRESENT else "every prompted"] = label_map
    panels = [labelled_panel(image, labels, data.classes, title) for title, labels in maps.items()]
    return [titled_panel(image, data.frames[example_index].name), *panels]


def _similarity_figure(setting: Setting) -> Generator[Stage, None, Figure]:
    """A grid of validation frames, each with its truth and its similarity to the prototypes of present classes."""
    run = yield from trained_cell(setting.cells, setting.config)
    model = cell_model(run)
    rows = []
    with opened_data(setting.config, model.classes) as opened:
        chosen = shown_frames(opened)
        for done, example_index in enumerate(chosen):
            yield Stage("drawing similarity maps", done, len(chosen))
            rows.append(_similarity_row(model, opened.data, example_index))
    path = write_grid(rows, setting.out / "figure9.png")
    return Figure(
        path, "Frame, truth, and S = F x B of up to three present classes; from the median (dark) to the top value."
    )


def _similarity_row(model: SurgicalSAM, data: TrainingData, example_index: int) -> list[np.ndarray]:
    image = picture_of(data, example_index)
    (embedding,) = data.embeddings([example_index], 0, model)
    panels = [titled_panel(image, data.frames[example_index].name)]
    panels.append(labelled_panel(image, data.label_map(example_index), data.classes, "truth"))
    for class_id in data.present_class_ids(example_index)[:CLASSES_PER_ROW]:
        similarity = frame_similarity(model, embedding, class_id, data.frames[example_index].size)
        panels.append(titled_panel(heat_map(similarity), data.classes.by_id(class_id).name))
    return panels


def heat_map(similarity: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 colours of a similarity map (H, W), from its median to nearly its maximum."""
    from matplotlib import colormaps  # imported here, because it takes half a second

    low, high = contrast_limits(similarity)
    return (255 * colormaps["inferno"](np.clip((similarity - low) / (high - low), 0, 1))[..., :3]).astype(np.uint8)


def shown_frames(opened: OpenedData, count: int = ROWS) -> list[int]:
    """`count` validation frames with the most classes, from different sequences if there are enough."""
    by_sequence: dict[str, list[int]] = {}
    for example_index in opened.validation:
        by_sequence.setdefault(opened.data.frames[example_index].sequence, []).append(example_index)

    def by_classes(group: Sequence[int]) -> list[int]:
        return sorted(group, key=lambda example_index: -len(opened.data.present_class_ids(example_index)))

    first = by_classes([by_classes(group)[0] for group in by_sequence.values()])[:count]
    rest = [example_index for example_index in by_classes(opened.validation) if example_index not in first]
    return sorted([*first, *rest[: count - len(first)]])


def picture_of(data: TrainingData, example_index: int) -> np.ndarray:
    """(H, W, 3) uint8; black if the data have only embeddings."""
    image = data.image(example_index)
    return np.zeros((*data.frames[example_index].size, 3), np.uint8) if image is None else np.asarray(image)


def write_grid(rows: Sequence[Sequence[np.ndarray]], path: Path, most_bytes: int = MOST_BYTES) -> Path:
    """Write panels (h, w, 3) of equal size as one PNG with few colours, reduced in size until it is below `most_bytes`.

    Shorter rows are filled with white.
    """
    columns = max(len(row) for row in rows)
    blank = np.full_like(rows[0][0], 255)
    grid = np.concatenate([np.concatenate([*row, *[blank] * (columns - len(row))], axis=1) for row in rows])
    content = _small_png(Image.fromarray(grid), most_bytes)
    return write_file(path, content)


def _small_png(picture: Image.Image, most_bytes: int) -> bytes:
    def content_at(width: int) -> bytes:
        height = round(width * picture.height / picture.width)
        small = picture.resize((width, height), Image.Resampling.LANCZOS)
        # an octree keeps the colours of small instruments; a median cut replaces them by shades of tissue
        few = small.quantize(COLORS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        return png_bytes(few, compress_level=9)

    width = min(picture.width, LARGEST_WIDTH)
    content = content_at(width)
    while len(content) > most_bytes and width > 64:
        width = int(width * 0.9)
        content = content_at(width)
    return content
