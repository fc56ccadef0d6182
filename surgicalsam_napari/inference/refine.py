"""Correct a mask of one class in one frame with clicks and a box, as a preview that changes no labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import binary_dilation, binary_opening, distance_transform_edt, label
from torch import Tensor

from surgicalsam_napari.errors import CheckpointError
from surgicalsam_napari.inference.click_geometry import (
    connected_part,
    disc,
    inscribed_radius,
    reach_of,
    smoothed,
    with_moved_border,
)
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.prompts import CLICK_RADIUS, mask_prompt, stamp_clicks
from surgicalsam_napari.model.surgical_sam import PromptedMask, SurgicalSAM
from surgicalsam_napari.model.upsampling import masks_of

SURE_LOGIT = 0.5  # a positive click raises the logits around it to this, and with them all that are as high
LEVEL_STEP = 0.5
FORCED_RADIUS = 1.0  # low-resolution pixels; within this radius the click decides, whatever else answers
NEAR = 5.0  # low-resolution pixels; below this the decoder's outline is too coarse to say where the border belongs
FAR = 3.0  # a click farther from the mask than this many inscribed radii of its region begins another part
PART_SIZE = 4.0  # inscribed radii that another part reaches from its click: what is already right is at stake


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
    """The preview (H, W) after a prompt; all pixels within `radius` of a click are known to be as it says."""

    prompt: Click | Box
    mask: np.ndarray
    predicted_iou: float = float("nan")
    radius: float = 0.0


class Refinement:
    """The mask of one class in one frame, which each click or box changes.

    A click is in the middle of what is wrong. Near the mask's border, the border moves to as far beyond the click as it was
    before (`click_geometry`). Far from the mask, the decoder proposes the region around the click. SAM's own decoder, which
    has seen a billion masks, is also asked about all clicks that are not near the border; it gets the mask, all clicks and
    the box. A click changes only the part around it, and nothing that an earlier click of the other kind put right. The
    clicked place is always as the click says.

    Parameters
    ----------
    model : with a decoder for clicks
    embedding : (D, h, w) of the frame
    mask : (H, W) bool, the current mask; may be empty
    class_id : the mask's class in the model; if the model has learned it, its own masks answer clicks on new parts
    within : (H, W) bool, where answers may add pixels: not on a black border; the clicked places count anywhere

    Raises
    ------
    CheckpointError
        the checkpoint has no decoder for clicks
    """

    def __init__(
        self,
        model: SurgicalSAM,
        embedding: np.ndarray,
        mask: np.ndarray,
        within: np.ndarray | None = None,
        class_id: int | None = None,
    ) -> None:
        if not model.has_click_decoder:
            raise CheckpointError(
                f"Clicks and boxes need SAM's decoder; {model.name} has none. Choose a checkpoint that includes it."
            )
        self._model, self._class_id = model, None if model.pixel_head is None else class_id
        self._embedding = torch.from_numpy(np.array(embedding))
        self._before = np.array(mask, bool)
        self._allowed = None if within is None else within | self._before
        self._answers: list[_Answer] = []
        self._geometry = FrameGeometry(self._before.shape, model.input_size)  # type: ignore[arg-type]
        self._side = 4 * model.embedding_shape[1]
        self._scale = max(self._before.shape) / self._side  # pixels of the frame per low-resolution pixel
        self._decoder_is_sams = ENCODERS[model.encoder_id].has_sam_decoder

    @property
    def mask(self) -> np.ndarray:
        """(H, W) bool, the preview; a copy."""
        return self._mask.copy()

    @property
    def predicted_iou(self) -> float:
        """The decoder's estimate for the last answer; nan if the decoder was not asked for it."""
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
        row, column = self._pixel(click)
        before = self._mask
        reach = reach_of(before, row, column, click.is_positive)
        if reach > NEAR * self._scale and self._decoder_is_sams:
            answer = self._decoder_answer(click)
        elif reach > NEAR * self._scale and click.is_positive:
            answer = self._far_answer(click, reach)
        else:
            answer = self._near_answer(click, reach)
        self._restore(answer.mask, before, click)
        self._clip(answer.mask)
        for each in (*self.clicks, click):
            self._force(answer.mask, each)
        self._answers.append(answer)

    def set_box(self, box: Box | None) -> None:
        """Answer a box that replaces an earlier one; None removes the box. The clicks stay."""
        if self.box is not None:
            clicks = self.clicks
            self._answers.clear()
            for click in clicks:
                self.add_click(click)
        if box is not None:
            before = self._mask
            given, decoded = self._decode(list(self.clicks), box)
            mask = self._box_answer(before, given, decoded.low_res_logits.float().cpu())
            self._clip(mask)
            for click in self.clicks:
                self._force(mask, click)
            self._answers.append(_Answer(box, mask, decoded.predicted_iou))

    def remove_last(self) -> None:
        """Remove the last click or the box, whichever came last; no effect if there is none."""
        if self._answers:
            self._answers.pop()

    @property
    def _mask(self) -> np.ndarray:
        return self._answers[-1].mask if self._answers else self._before

    def _pixel(self, click: Click) -> tuple[int, int]:
        height, width = self._before.shape
        return min(max(round(click.row), 0), height - 1), min(max(round(click.column), 0), width - 1)

    # The three kinds of answers -----------------------------------------------------------------------------------------

    def _near_answer(self, click: Click, reach: float) -> _Answer:
        """The border moves; nothing changes if the place is already as the click says, or nothing else in the frame is."""
        before = self._mask
        if reach == 0 or np.isinf(reach):
            return _Answer(click, before.copy())
        return _Answer(click, with_moved_border(before, *self._pixel(click), click.is_positive, reach), radius=reach)

    def _far_answer(self, click: Click, reach: float) -> _Answer:
        """The region that the decoder, or the learned head, sees around a click joins the mask.

        If the region may hang together with the mask, it is cut to where the border would move to; if the decoder does not
        see it, the border moves.
        """
        low_res_logits, predicted_iou = self._seen_at(click)
        logits = low_res_logits.float().cpu().numpy()
        region, radius = self._region_around(click, logits)
        if reach <= FAR * radius:
            moved = self._near_answer(click, reach)
            if logits[self._low_res_pixel(click)] <= 0:
                return moved
            region &= moved.mask
        return _Answer(click, self._mask | region, predicted_iou, min(radius, reach))

    def _seen_at(self, click: Click) -> tuple[Tensor, float]:
        """Low-resolution logits of what a click shows, and their predicted IoU."""
        if self._class_id is None:
            decoded = self._model.decode_prompts(self._embedding, self._points([click]), torch.ones(1, dtype=torch.long))
            return decoded.low_res_logits, decoded.predicted_iou
        learned = self._model.decode(self._embedding[None], [self._class_id], self._geometry.original_size)
        return learned.low_res_logits[0, 0], float(learned.predicted_iou[0, 0])

    def _region_around(self, click: Click, logits: np.ndarray) -> tuple[np.ndarray, float]:
        """The region (H, W) of logits (side, side) around a click, and its inscribed radius there in pixels of the frame.

        If the decoder is not sure that the clicked place belongs, all connected pixels with logits as high do as well. If
        there is a mask already, the region ends at `PART_SIZE` radii from the click.
        """
        at = self._low_res_pixel(click)
        shown = tuple(round(length / self._scale) for length in self._before.shape)
        logits = logits[: shown[0], : shown[1]]
        level = max(0.0, SURE_LOGIT - float(logits[at]))
        region = connected_part(logits > -level, *at)
        # the region may be the whole frame, without an end
        radius = min(max(inscribed_radius(region, *at), FORCED_RADIUS), self._side / 8)
        square = np.zeros((self._side, self._side), np.float32)
        square[: shown[0], : shown[1]] = smoothed(region, *at, radius)
        region = self._in_frame(torch.from_numpy(square) - 0.5)
        if self._mask.any():
            window, inside = disc(region.shape, click.row, click.column, PART_SIZE * radius * self._scale)
            nearby = np.zeros_like(region)
            nearby[window] = region[window] & inside
            region = nearby
        return region, radius * self._scale

    def _decoder_answer(self, click: Click) -> _Answer:
        """What SAM's own decoder answers to all prompts so far and this click."""
        given, decoded = self._decode([*self.clicks, click], self.box)
        mask = self._click_answer(self._mask, given, decoded.low_res_logits.float().cpu(), click)
        return _Answer(click, mask, decoded.predicted_iou)

    def _restore(self, mask: np.ndarray, before: np.ndarray, click: Click) -> None:
        """Keep what is known from earlier clicks of the other kind."""
        for answer in self._answers:
            if isinstance(answer.prompt, Click) and answer.prompt.is_positive != click.is_positive and answer.radius > 0:
                window, inside = disc(mask.shape, answer.prompt.row, answer.prompt.column, answer.radius)
                mask[window][inside] = before[window][inside]

    def _clip(self, mask: np.ndarray) -> None:
        """Take the pixels outside the content area away, but not those of the mask before."""
        if self._allowed is not None:
            mask &= self._allowed

    def _force(self, mask: np.ndarray, click: Click) -> None:
        """Set the pixels around a click to what the click says."""
        window, inside = disc(mask.shape, click.row, click.column, max(FORCED_RADIUS * self._scale, 0.71))
        mask[window][inside] = click.is_positive

    # The decoder --------------------------------------------------------------------------------------------------------

    def _decode(self, clicks: list[Click], box: Box | None) -> tuple[Tensor | None, PromptedMask]:
        """The mask so far as low-resolution logits, None if it is empty, and the decoder's answer to it and the prompts."""
        before = self._mask
        points = self._points(clicks)
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
        return given, decoded

    def _points(self, clicks: list[Click]) -> Tensor:
        return torch.tensor([self._in_square(click.row + 0.5, click.column + 0.5) for click in clicks])

    def _in_square(self, row: float, column: float) -> tuple[float, float]:
        """(x, y) in the padded square for a place in the frame, both counted from the edge."""
        height, width = self._geometry.original_size
        resized_height, resized_width = self._geometry.resized_size
        return column * resized_width / width, row * resized_height / height

    def _low_res_pixel(self, click: Click) -> tuple[int, int]:
        """Row and column of the low-resolution pixel that contains a click."""
        x, y = (
            place * self._side / self._model.input_size for place in self._in_square(click.row + 0.5, click.column + 0.5)
        )
        height, width = (round(length / self._scale) for length in self._before.shape)
        return min(max(int(y), 0), height - 1), min(max(int(x), 0), width - 1)

    def _box_answer(self, before: np.ndarray, given: Tensor | None, logits: Tensor) -> np.ndarray:
        """The decoder's answer at pixels that differ from its mask prompt, and the mask before at all others."""
        answer = self._in_frame(logits)
        return answer if given is None else np.where(answer != self._in_frame(given), answer, before)

    def _click_answer(self, before: np.ndarray, given: Tensor | None, logits: Tensor, click: Click) -> np.ndarray:
        """The mask with one changed region: the one that the decoder would change and that the click lies in."""
        current = torch.full_like(logits, -1.0) if given is None else given
        if click.is_positive:
            level, region = self._region_to_add(current, logits, click)
            answer = self._in_frame(logits + level * region)
        else:
            region = self._region_to_remove(current, logits, click)
            answer = self._in_frame(logits)
        if given is None:
            return answer
        changed = self._in_frame(region - 0.5) & (answer != self._in_frame(given))
        return before | (answer & changed) if click.is_positive else before & (answer | ~changed)

    def _region_to_add(self, given: Tensor, logits: Tensor, click: Click) -> tuple[float, Tensor]:
        """The region that joins the mask, (side, side), and by how much the logits there are too low.

        If the decoder is not sure that the clicked place belongs, all connected pixels with logits as high join as well,
        but no pixel that a negative click excludes.
        """
        near = self._near(click, CLICK_RADIUS)
        excluded = torch.zeros_like(near)
        for other in self.clicks:
            excluded |= self._near(other, 0) & (not other.is_positive)
        level = max(0.0, SURE_LOGIT - float(logits[near].median()))
        region = _region_of(near, (logits > -level) & (given <= 0))
        while level > 0 and (region.bool() & excluded).any():
            level = max(0.0, level - LEVEL_STEP)
            region = _region_of(near, (logits > -level) & (given <= 0))
        return level, region

    def _region_to_remove(self, given: Tensor, logits: Tensor, click: Click) -> Tensor:
        """The region that leaves the mask, (side, side): within twice the mask's depth at the click.

        Without this limit, a decoder that is unsure of an instrument would remove all of it for one click beside it.
        """
        depth = distance_transform_edt(np.pad(given.numpy() > 0, 1))[1:-1, 1:-1][(self._near(click, 0)).numpy()].max()
        reach = self._near(click, 2 * float(depth) + 2 * CLICK_RADIUS)
        return _region_of(self._near(click, CLICK_RADIUS), (logits < 0) & (given > 0) & reach)

    def _near(self, click: Click, radius: float) -> Tensor:
        """(side, side) bool: the low-resolution pixels within `radius` of a click; at least the one that contains it."""
        x, y = (
            place * self._side / self._model.input_size for place in self._in_square(click.row + 0.5, click.column + 0.5)
        )
        centres = torch.arange(self._side) + 0.5
        near = (centres[None] - x) ** 2 + (centres[:, None] - y) ** 2 <= radius**2
        near[min(max(int(y), 0), self._side - 1), min(max(int(x), 0), self._side - 1)] = True
        return near

    def _in_frame(self, logits: Tensor) -> np.ndarray:
        """(H, W) bool, the mask of low-resolution logits."""
        mask = np.zeros(self._geometry.original_size, bool)
        ((window, window_mask),) = masks_of(logits[None], self._geometry)
        mask[window] = window_mask
        return mask


def _region_of(near: Tensor, changeable: Tensor) -> Tensor:
    """The connected part of `changeable` around `near`, and one pixel more: (side, side), 1 inside and 0 outside.

    Strips one pixel wide are left out: along every border the decoder is a pixel off here and there.
    """
    solid = binary_opening(changeable.numpy(), np.ones((2, 2))) | (near & changeable).numpy()
    parts, _ = label(solid)
    touched = np.unique(parts[near.numpy()])
    region = np.isin(parts, touched[touched > 0])
    return torch.from_numpy(binary_dilation(region, np.ones((3, 3)))).float()
