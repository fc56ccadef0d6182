"""Clicks on an annotated video: *Click to refine*, GrabCut and the random walker, on the same masks with the same rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from annotated_video import AnnotatedVideo
from correcting import spread
from simple_clicks import clicked_through, grabcut_answer, summary, tool_answer, walker_answer
from tool_use import ToolUse, own_label_map

from surgicalsam_napari.session import Session
from surgicalsam_napari.video import VideoReader


def measure_clicks(tool: ToolUse, session: Session, later: Sequence[int], masks: int, most: int) -> dict:
    """Figures by way and class. `session` has the learned model.

    `from_nothing` begins with an empty mask and the model before learning, `from_nothing_learned` with the learned one;
    `from_model` with the learned model's own mask.
    """
    curves: dict[str, dict[str, list[list[float]]]] = {}
    with VideoReader(tool.video.path) as reader:
        for class_id, frame in chosen_masks(tool.video, later, masks):
            name = tool.video.classes.by_id(class_id).name
            for way, curve in _curves(tool, session, class_id, frame, reader.frame(frame), most):
                curves.setdefault(way, {}).setdefault(name, []).append(curve)
    return {way: {name: summary(found, most) for name, found in by_name.items()} for way, by_name in curves.items()}


def chosen_masks(video: AnnotatedVideo, later: Sequence[int], masks: int) -> Iterator[tuple[int, int]]:
    """Class id and frame of so many masks of each class, evenly spread over the frames that show it."""
    for class_id in video.classes.ids:
        shown = video.frames_with(class_id, later)
        for position in spread(min(masks, len(shown)), len(shown)) if shown else ():
            yield class_id, shown[position]


def _curves(
    tool: ToolUse, session: Session, class_id: int, frame: int, picture: np.ndarray, most: int
) -> Iterator[tuple[str, list[float]]]:
    truth, name = tool.video.truth(frame) == class_id, tool.video.classes.by_id(class_id).name
    (embedding,) = tool.embeddings(session, [frame])
    assert session.model is not None
    own, empty = own_label_map(session, embedding, truth.shape) == class_id, np.zeros_like(truth)
    starts = {
        "from_nothing": (empty, tool_answer(tool.model, embedding, empty, name)),
        "from_nothing_learned": (empty, tool_answer(session.model, embedding, empty, name)),
        "from_nothing_grabcut": (empty, grabcut_answer(picture, empty)),
        "from_nothing_random_walker": (empty, walker_answer(picture, empty)),
        "from_model": (own, tool_answer(session.model, embedding, own, name)),
        "from_model_grabcut": (own, grabcut_answer(picture, own)),
        "from_model_random_walker": (own, walker_answer(picture, own)),
    }
    for way, (mask, answer) in starts.items():
        yield way, clicked_through(mask, truth, answer, most)
