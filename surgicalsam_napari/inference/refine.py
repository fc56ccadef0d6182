"""A mask of one class in one frame, corrected by clicks and a box; a preview that touches no labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from surgicalsam_napari.errors import CheckpointError
from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.prompts import mask_prompt, stamp_clicks
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.model.upsampling import masks_of

OBEYED_RADIUS = 1.0  # low-resolution pixels around a click that are as asked, whatever the decoder answers


@dataclass(frozen=True)
class Click:
    """A click in pixels of the frame; the middle of its first pixel is at (0, 0). Positive: this belongs to the class."""

    row: float
    column: float
    is_positive: bool


@dataclass(frozen=True)
class Box:
    """A box in pixels of the frame; bottom and right are exclusive."""

    top: float
    left: float
    bottom: float
    right: float


@dataclass(frozen=True)
class _Answer:
    """The preview (H, W) after a prompt."""

    prompt: Click | Box
    mask: np.ndarray
    predicted_iou: float


class Refinement:
    """The mask of one class in one frame, as each click or box changes it.

    The mask as it is, all clicks so far and the box go to SAM's decoder. Where its answer agrees, at its own resolution,
    with the mask it was given, the mask stays as it is to the pixel; and what was clicked is as asked.

    Parameters
    ----------
    model : with a decoder for clicks
    embedding : (D, h, w) of the frame
    mask : (H, W) bool, as it is now; may be empty

    Raises
    ------
    CheckpointError
        the checkpoint has no decoder for clicks
    """

    def __init__(self, model: SurgicalSAM, embedding: np.ndarray, mask: np.ndarray) -> None:
        if not model.has_click_decoder:
            raise CheckpointError(
                f"Clicks and boxes need the decoder of SAM, and {model.name} has none. Choose a checkpoint that includes it."
            )
        self._model = model
        self._embedding = torch.from_numpy(np.array(embedding))
        self._before = np.array(mask, bool)
        self._answers: list[_Answer] = []
        self._geometry = FrameGeometry(self._before.shape, model.input_size)  # type: ignore[arg-type]
        self._side = 4 * model.embedding_shape[1]

    @property
    def mask(self) -> np.ndarray:
        """(H, W) bool, the preview; a copy."""
        return self._mask.copy()

    @property
    def predicted_iou(self) -> float:
        """The decoder's estimate for its last answer; nan before the first."""
        return self._answers[-1].predicted_iou if self._answers else float("nan")

    @property
    def clicks(self) -> tuple[Click, ...]:
        """In the order they were made."""
        return tuple(answer.prompt for answer in self._answers if isinstance(answer.prompt, Click))

    @property
    def box(self) -> Box | None:
        return next((answer.prompt for answer in self._answers if isinstance(answer.prompt, Box)), None)

    def add_click(self, click: Click) -> None:
        """Answer one more click."""
        self._ask(click)

    def set_box(self, box: Box | None) -> None:
        """Answer a box, in place of an earlier one; None takes it away. The clicks stay."""
        prompts = [answer.prompt for answer in self._answers if isinstance(answer.prompt, Click)]
        self._answers.clear()
        for prompt in ([] if box is None else [box]) + prompts:  # type: ignore[operator]
            self._ask(prompt)

    def remove_last(self) -> None:
        """Take back the last click or the box, whichever came last; nothing if there is none."""
        if self._answers:
            self._answers.pop()

    @property
    def _mask(self) -> np.ndarray:
        return self._answers[-1].mask if self._answers else self._before

    def _ask(self, prompt: Click | Box) -> None:
        before = self._mask
        clicks = [*self.clicks, prompt] if isinstance(prompt, Click) else list(self.clicks)
        box = prompt if isinstance(prompt, Box) else self.box
        points = torch.tensor([self._in_square(click.row + 0.5, click.column + 0.5) for click in clicks])
        marks = torch.tensor([int(click.is_positive) for click in clicks])
        corners = None if box is None else (*self._in_square(box.top, box.left), *self._in_square(box.bottom, box.right))
        given = mask_prompt(before, self._geometry, self._side) if before.any() else None
        decoded = self._model.decode_prompts(
            self._embedding,
            points if clicks else None,
            marks if clicks else None,
            None if corners is None else torch.tensor(corners),
            None if given is None else stamp_clicks(given, points * self._side / self._model.input_size, marks),
        )
        mask = self._merged(before, given, decoded.low_res_logits.float().cpu())
        for click in clicks:
            self._obey(mask, click)
        self._answers.append(_Answer(prompt, mask, decoded.predicted_iou))

    def _in_square(self, row: float, column: float) -> tuple[float, float]:
        """(x, y) in the padded square of a place in the frame, both counted from the edge."""
        height, width = self._geometry.original_size
        resized_height, resized_width = self._geometry.resized_size
        return column * resized_width / width, row * resized_height / height

    def _merged(self, before: np.ndarray, given: Tensor | None, logits: Tensor) -> np.ndarray:
        """The decoder's answer where it differs from the mask it was given, and the mask itself elsewhere."""
        answer = self._in_frame(logits)
        if given is None:
            return answer
        return np.where(answer != self._in_frame(given), answer, before)

    def _in_frame(self, logits: Tensor) -> np.ndarray:
        """(H, W) bool of low-resolution logits."""
        mask = np.zeros(self._geometry.original_size, bool)
        ((window, inside),) = masks_of(logits[None], self._geometry)
        mask[window] = inside
        return mask

    def _obey(self, mask: np.ndarray, click: Click) -> None:
        """Make what lies around a click as asked."""
        pixels = max(mask.shape) / self._side  # frame pixels in one of the decoder's
        radius = OBEYED_RADIUS * pixels
        rows = slice(max(int(click.row - radius), 0), int(click.row + radius) + 2)
        columns = slice(max(int(click.column - radius), 0), int(click.column + radius) + 2)
        part = mask[rows, columns]
        at_rows = np.arange(rows.start, rows.start + part.shape[0])[:, None]
        at_columns = np.arange(columns.start, columns.start + part.shape[1])
        near = (at_rows - click.row) ** 2 + (at_columns - click.column) ** 2 <= radius**2
        part[near] = click.is_positive
