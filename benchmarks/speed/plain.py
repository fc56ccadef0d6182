"""A plain implementation of SurgicalSAM, step by step as in the authors' code: the baseline of the speed benchmarks.

It computes one prompt and one frame at a time:

- The class prompt encoder stacks the image embedding once per class, activates every copy and keeps another copy for the
  sparse tokens. It runs completely for each prompt, as does the dense positional encoding.
- Logits are interpolated to the padded square, and then to the frame.
- Masks are integer arrays of the frame's size. They are merged by ascending predicted IoU into an array of floats.
- The loss is computed image by image at the frame's size.
- Embeddings are float32 `.npy` files of (h, w, D).
- To read a video frame, the file is opened and the decoder seeks to the frame.

It has the weights of the given model, and reproduces the same reference numbers (tests/test_plain.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from surgicalsam_napari.model.surgical_sam import SurgicalSAM

INPUT_SIZE = 1024


class PlainSurgicalSAM:
    """Class prompts over cached embeddings, with the weights of a `SurgicalSAM`."""

    def __init__(self, model: SurgicalSAM) -> None:
        self.model = model
        self.class_count = len(model.classes)

    def prompt_embeddings(self, embedding: Tensor, row: int) -> tuple[Tensor, Tensor]:
        """Sparse (1, C * n, D) and dense (1, D, h, w) prompt embeddings of one class.

        Parameters
        ----------
        embedding : (1, D, h, w)
        row : of the prototype, from 0
        """
        encoder = self.model.class_prompt_encoder
        _, channels, height, width = embedding.shape
        features = embedding.flatten(2).transpose(1, 2)[0]  # (N, D)
        prototypes = self.model.prototypes()[..., None]  # (C, D, 1)
        repeated = torch.stack([features] * self.class_count)  # (C, N, D)
        activated = repeated + repeated * torch.matmul(repeated, prototypes)
        for_tokens = activated.clone()
        one_class = activated[row].T.reshape(1, channels, height, width)
        dense = encoder.dense_fc_2(torch.relu(encoder.dense_fc_1(one_class)))
        tokens = encoder.sparse_fc_2(torch.relu(encoder.sparse_fc_1(for_tokens)))  # (C, n, D)
        negative, positive = (part.weight for part in encoder.pn_cls_embeddings)  # type: ignore[union-attr]
        marks = torch.stack([positive if other == row else negative for other in range(self.class_count)])
        return (tokens + marks).reshape(1, -1, channels), dense

    def low_res_logits(self, embedding: Tensor, row: int) -> tuple[Tensor, Tensor]:
        """(1, 1, 4h, 4w) logits and (1, 1) predicted IoU of one prompt."""
        embedding = embedding[:, : self.model.decoder_dim]
        sparse, dense = self.prompt_embeddings(embedding, row)
        masks, quality = self.model.mask_decoder.predict_masks(
            image_embeddings=embedding,
            image_pe=self.model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
        )
        return masks[:, :1], quality[:, :1]

    @torch.no_grad()
    def label_map(
        self, embedding: Tensor, rows: Sequence[int], class_ids: Sequence[int], size: tuple[int, int]
    ) -> np.ndarray:
        """(H, W) uint8 label map of these classes, one prompt per class."""
        decoded = [self.low_res_logits(embedding, row) for row in rows]
        masks = [(to_frame(logits, size, self.model.input_size) > 0).int()[0, 0].numpy() for logits, _ in decoded]
        return merged(masks, [float(quality) for _, quality in decoded], class_ids)


def to_frame(low_res_logits: Tensor, size: tuple[int, int], input_size: int = INPUT_SIZE) -> Tensor:
    """(..., H, W): interpolated to the padded square, cropped to the frame's part, interpolated to the frame."""
    scale = input_size / max(size)
    height, width = (int(side * scale + 0.5) for side in size)
    square = F.interpolate(low_res_logits, (input_size, input_size), mode="bilinear", align_corners=False)
    return F.interpolate(square[..., :height, :width], size, mode="bilinear", align_corners=False)


def merged(masks: Sequence[np.ndarray], predicted_iou: Sequence[float], class_ids: Sequence[int]) -> np.ndarray:
    """(H, W) uint8: masks written by ascending predicted IoU."""
    label_map = np.zeros(masks[0].shape)
    for position in np.argsort(np.asarray(predicted_iou), kind="stable"):
        label_map[masks[position] == 1] = class_ids[position]
    return label_map.astype(np.uint8)


def in_memory_order_of_files(embeddings: Tensor) -> Tensor:
    """(B, D, h, w) with the memory order of files of (h, w, D)."""
    return embeddings.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def read_embedding(path: Path) -> Tensor:
    """(1, D, h, w) float32 from a file of (h, w, D)."""
    return torch.from_numpy(np.load(path)).permute(2, 0, 1)[None]


def dice_loss(low_res_logits: Tensor, mask: Tensor) -> Tensor:
    """The dice loss of one prompt at the size of the frame (paper, equation 13).

    Parameters
    ----------
    low_res_logits : (1, 1, 4h, 4w)
    mask : (H, W), 0 or 1
    """
    probability = torch.sigmoid(to_frame(low_res_logits, tuple(mask.shape)))[0, 0]  # type: ignore[arg-type]
    overlap = 2 * (probability * mask).sum() + 1e-3
    return 1 - overlap / (probability.pow(2).sum() + mask.pow(2).sum() + 1e-3)


def contrastive_loss(prototypes: Tensor, class_embeddings: Tensor, rows: Tensor, temperature: float = 0.07) -> Tensor:
    """NT-Xent of prototypes against class embeddings (paper, equation 11), pair by pair."""
    similarity = F.normalize(prototypes, dim=1) @ F.normalize(class_embeddings, dim=1).T / temperature
    losses = []
    for row in range(len(prototypes)):
        own = rows == row
        negatives = similarity[row, ~own].exp().sum()
        losses += [-torch.log(value.exp() / (value.exp() + negatives)) for value in similarity[row, own]]
    return torch.stack(losses).mean()


def training_losses(
    plain: PlainSurgicalSAM, embeddings: Tensor, rows: Tensor, masks: Tensor, class_embeddings: Tensor
) -> tuple[Tensor, Tensor]:
    """Dice and contrastive loss of a batch. Prompts are computed one by one; all are kept for the backward pass.

    Parameters
    ----------
    embeddings : (B, D, h, w)
    rows : (B,)
    masks : (B, H, W)
    class_embeddings : (B, D)
    """
    dice = [
        dice_loss(plain.low_res_logits(embeddings[index : index + 1], int(row))[0], masks[index])
        for index, row in enumerate(rows)
    ]
    return torch.stack(dice).mean(), contrastive_loss(plain.model.prototypes(), class_embeddings, rows)


def frame_by_seeking(path: Path, frame_index: int) -> np.ndarray:
    """(H, W, 3) uint8: open the file, seek to the previous keyframe, decode up to the frame."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate is not None and stream.time_base is not None
        target_pts = round(frame_index / stream.average_rate / stream.time_base) + (stream.start_time or 0)
        container.seek(target_pts, stream=stream)
        for frame in container.decode(stream):
            if frame.pts is not None and frame.pts >= target_pts:
                return frame.to_ndarray(format="rgb24")
    raise IndexError(frame_index)
