"""SurgicalSAM: image embedding and class ids in, masks, predicted IoU and presence out (Yue et al., AAAI 2024, figure 3)."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from surgicalsam_napari.errors import CheckpointError, ClassSetError
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.model.class_prompt_encoder import ClassPromptEncoder, ClassPrompts, FrameReading, Prototypes
from surgicalsam_napari.model.device import check_fast
from surgicalsam_napari.model.embedding import Embedder, compute_embeddings
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.mask_decoder import DecodedMasks, decode_masks, decode_shared, in_token_order, shared_image
from surgicalsam_napari.model.mask_prediction import MaskPrediction
from surgicalsam_napari.model.pixel_head import PixelHead
from surgicalsam_napari.model.segment_anything import MaskDecoder, PromptEncoder
from surgicalsam_napari.model.upsampling import label_map_of

FALLBACK_PRESENCE_THRESHOLD = 0.5  # on predicted IoU, if a checkpoint has no presence head
SMALLEST_AREA = 16  # low-resolution pixels above 0; with fewer, the fallback calls a class absent
CHUNK_BYTES = {"cpu": 4 << 20, "cuda": 1 << 30, "mps": 256 << 20}  # of prompts decoded at a time; fits a CPU's caches


@dataclass(frozen=True)
class PromptedMask:
    """The mask for clicks, a box or a mask prompt.

    Attributes
    ----------
    low_res_logits : (4h, 4w), of the whole padded square; above 0 is instrument
    predicted_iou : the decoder's own estimate
    """

    low_res_logits: Tensor
    predicted_iou: float


@dataclass(frozen=True)
class FramePrediction:
    """The prediction for one frame.

    Attributes
    ----------
    class_ids : the K prompted classes
    label_map : (H, W) uint8, class ids of the present classes, 0 elsewhere
    predicted_iou : (K,) float32
    presence : (K,) float32, 0 to 1
    present : (K,) bool, whether presence reaches the checkpoint's threshold
    contested : (K,) float32, the share of each mask that another present class claims, too; 0 without a mask
    """

    class_ids: tuple[int, ...]
    label_map: np.ndarray
    predicted_iou: np.ndarray
    presence: np.ndarray
    present: np.ndarray
    contested: np.ndarray


def build_presence_head(embedding_dim: int) -> nn.Sequential:
    """A head that maps the decoder's IoU token (P, D) to a logit (P, 1)."""
    return nn.Sequential(nn.Linear(embedding_dim, embedding_dim), nn.ReLU(), nn.Linear(embedding_dim, 1))


class SurgicalSAM(nn.Module):
    """A frozen image encoder, a class prompt encoder and SAM's mask decoder.

    Parameters
    ----------
    classes : row k - 1 of the prototypes belongs to the k-th class of this set
    encoder_id : a key of `ENCODERS`
    encoder_digest : identifies the encoder's weights, and so the embeddings that fit this model
    image_encoder : None to use only cached embeddings
    prompt_encoder : SAM's own; gives the dense positional encoding, and encodes clicks, boxes and masks
    sam_mask_decoder : the decoder for clicks, before any tuning to classes; None if the checkpoint has none
    presence_head : if None, predicted IoU and area decide
    pixel_head : learned from corrected frames of real video; if there is one, it computes the masks in place of the decoder
    name : the checkpoint's name in the window

    Attributes
    ----------
    embedder : embeds frames on another machine, in place of the image encoder; None to embed here
    caution : what a person must know before they trust the masks; empty for a checkpoint on its own encoder
    is_fast : decodes in bfloat16, on a CPU also embeds in it (`use_fast`): nearly the same masks, not exactly the same
    """

    def __init__(
        self,
        classes: ClassSet,
        encoder_id: str,
        encoder_digest: str,
        *,
        image_encoder: nn.Module | None,
        prototypes: Prototypes,
        class_prompt_encoder: ClassPromptEncoder,
        mask_decoder: MaskDecoder,
        prompt_encoder: PromptEncoder,
        sam_mask_decoder: MaskDecoder | None = None,
        presence_head: nn.Module | None = None,
        pixel_head: PixelHead | None = None,
        presence_threshold: float = FALLBACK_PRESENCE_THRESHOLD,
        name: str = "untitled",
    ) -> None:
        super().__init__()
        self.classes = classes
        self.encoder_id = encoder_id
        self.encoder_digest = encoder_digest
        self.presence_threshold = presence_threshold
        self.name = name
        self.image_encoder = image_encoder
        self.prototypes = prototypes
        self.class_prompt_encoder = class_prompt_encoder
        self.mask_decoder = mask_decoder
        self.prompt_encoder = prompt_encoder
        self.sam_mask_decoder = sam_mask_decoder
        self.presence_head = presence_head
        self.pixel_head = pixel_head
        self.caution = ""
        self.is_fast = False
        self.embedder: Embedder | None = None
        self._position: tuple[Tensor, Tensor] | None = None
        self._last_frame: tuple[Hashable, Tensor, Tensor, FrameReading] | None = None

    @property
    def input_size(self) -> int:
        """Side of the encoder's square input in pixels."""
        return ENCODERS[self.encoder_id].input_size

    @property
    def embedding_shape(self) -> tuple[int, int, int]:
        """(D, h, w) of one frame's embedding."""
        return ENCODERS[self.encoder_id].embedding_shape

    @property
    def decoder_dim(self) -> int:
        """The first channels of an embedding: those that prompts and decoders read. A pixel head reads all."""
        return ENCODERS[self.encoder_id].decoder_dim

    @property
    def device(self) -> torch.device:
        return self.prototypes.class_embeddings.weight.device

    @property
    def has_image_encoder(self) -> bool:
        """Whether new frames can be embedded, here or elsewhere."""
        return self.image_encoder is not None or self.embedder is not None

    @property
    def embeds_on(self) -> str:
        """Where frames are embedded: the type of the device, or "elsewhere"."""
        return "elsewhere" if self.embedder is not None and self.embedder.is_elsewhere else self.device.type

    @property
    def has_presence_head(self) -> bool:
        return self.presence_head is not None

    def use_fast(self) -> None:
        """Decode in bfloat16 from now on, and on a CPU also embed in it; docs/speed.md says how the masks differ.

        Raises
        ------
        DeviceError
            the device is not faster in bfloat16
        """
        check_fast(self.device)
        self.is_fast = True

    def prototype_rows(self, class_ids: Sequence[int]) -> list[int]:
        """Rows of these classes in the prototypes; a ClassSetError for an id that the checkpoint does not know."""
        known = self.classes.ids
        for class_id in class_ids:
            if class_id not in known:
                raise ClassSetError(
                    f"{self.name} knows the class ids {', '.join(map(str, known))}; got {class_id}. "
                    "Choose a class it knows, or train it on this one."
                )
        return [known.index(class_id) for class_id in class_ids]

    def embed(self, frames: Sequence[np.ndarray], dtype: np.dtype | str = "float16") -> np.ndarray:
        """Image embeddings, by the image encoder or the `embedder`; see `compute_embeddings`.

        Parameters
        ----------
        frames : B frames (H, W, 3) uint8 RGB of one size
        dtype : float16, or float32 to lose nothing

        Returns
        -------
        (B, D, h, w) of `dtype`

        Raises
        ------
        DeviceError
            one frame alone does not fit into the device's memory
        CheckpointError
            the model was loaded without its image encoder
        WorkerError
            the `embedder` has failed, and a person wants neither to wait nor to go on here
        """
        if self.embedder is not None and self.embedder.is_elsewhere:
            return self.embedder.embed(frames, np.dtype(dtype))
        return self.embed_here(frames, dtype)

    def embed_here(self, frames: Sequence[np.ndarray], dtype: np.dtype | str = "float16") -> np.ndarray:
        """As `embed`, always with this model's image encoder."""
        if self.image_encoder is None:
            raise CheckpointError(
                f"New frames need the image encoder ({ENCODERS[self.encoder_id].title}); {self.name} was loaded without "
                "it. Load it again with the encoder's weights."
            )
        return compute_embeddings(self.image_encoder, self.encoder_id, frames, self.device, dtype, fast=self.is_fast)

    @torch.inference_mode()
    def decode(
        self, embeddings: Tensor, class_ids: Sequence[int], original_size: tuple[int, int] | None = None
    ) -> MaskPrediction:
        """Masks of every class in every frame.

        Parameters
        ----------
        embeddings : (B, D, h, w), any float type
        class_ids : K ids of `classes`
        original_size : (H, W) of the frames, if only their part of the padded square is needed: logits in the padding
            are then negative and not computed
        """
        rows = self.prototype_rows(class_ids)
        visible = None
        if original_size is not None:
            visible = FrameGeometry(original_size, self.input_size).visible_grid(self.embedding_shape[1:])
        frames_at_a_time = max(self._prompts_at_a_time // max(len(rows), 1), 1)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_fast):
            parts = [self._decode_frames(chunk, rows, visible) for chunk in embeddings.split(frames_at_a_time)]
        return _joined(parts, dim=0)

    @property
    def _prompts_at_a_time(self) -> int:
        """256 on CUDA with SAM's encoders; on a CPU 1, and 2 with the light encoder."""
        return max(CHUNK_BYTES[self.device.type] // (4 * self.decoder_dim * math.prod(self.embedding_shape[1:])), 1)

    def _decode_frames(self, embeddings: Tensor, rows: list[int], visible: tuple[int, int] | None) -> MaskPrediction:
        """Compute once what the prompts share, then make and decode the prompts, one chunk of classes at a time."""
        if self.pixel_head is not None:
            return self.pixel_head.decode(embeddings.to(self.device).float(), rows, visible, self.presence_threshold)
        encoder = self.class_prompt_encoder
        embeddings, reading = self._read_frames(embeddings[:, : self.decoder_dim])
        prompted = torch.tensor(rows, device=self.device).expand(len(embeddings), -1)
        chunks = prompted.split(max(self._prompts_at_a_time // len(embeddings), 1), dim=1)
        if len(embeddings) == 1 and len(rows) > 1 and not self.is_fast:
            return _joined(self._decode_in_one_image(embeddings, reading, chunks, visible), dim=1)
        parts = [self._decode_prompts(embeddings, encoder.prompts_of(reading, chunk), visible) for chunk in chunks]
        return _joined(parts, dim=1)

    def _read_frames(self, embeddings: Tensor) -> tuple[Tensor, FrameReading]:
        """The embeddings in token order, and what all prompts share; a single frame is kept, for other classes of it."""
        weights = [*self.class_prompt_encoder.parameters(), *self.prototypes.parameters()]
        # torch counts in-place changes of a tensor; a tensor that replaces it has another address
        state = self.is_fast, tuple((w.data_ptr(), None if w.is_inference() else w._version) for w in weights)
        kept = self._last_frame
        if kept is not None and kept[0] == state and kept[1].dtype == embeddings.dtype and kept[1].equal(embeddings):
            return kept[2:]
        ordered = in_token_order(embeddings.to(self.device).float())
        reading = self.class_prompt_encoder.read(ordered, self.prototypes())
        if len(embeddings) == 1:
            self._last_frame = state, embeddings.clone(), ordered, reading
        return ordered, reading

    def _decode_in_one_image(
        self, embedding: Tensor, reading: FrameReading, chunks: Sequence[Tensor], visible: tuple[int, int] | None
    ) -> list[MaskPrediction]:
        """As `_decode_prompts`, for several prompts of one image: it is projected once for all of them."""
        encoder, decoder = self.class_prompt_encoder, self.mask_decoder
        dense = encoder.dense_fc_2
        assert dense.bias is not None
        image = shared_image(decoder, embedding, self.positional_encoding(), dense.weight.flatten(1), dense.bias)
        parts = []
        for rows in chunks:
            sparse, activations = encoder.sparse_embeddings(reading, rows), encoder.dense_activations(reading, rows)
            decoded = decode_shared(decoder, image, sparse[0], activations[0], visible)
            parts.append(self._prediction(decoded, (1, rows.shape[1])))
        return parts

    def _decode_prompts(self, embeddings: Tensor, prompts: ClassPrompts, visible: tuple[int, int] | None) -> MaskPrediction:
        sparse, dense = prompts.sparse_prompt_embeddings, prompts.dense_prompt_embeddings
        decoded = decode_masks(
            self.mask_decoder, embeddings, self.positional_encoding(), sparse.flatten(0, 1), dense.flatten(0, 1), visible
        )
        return self._prediction(decoded, (sparse.shape[0], sparse.shape[1]))

    def _prediction(self, decoded: DecodedMasks, grid: tuple[int, int]) -> MaskPrediction:
        """The masks of `grid` frames and classes, with their presence."""
        presence = None if self.presence_head is None else self.presence_head(decoded.iou_token)[:, 0].sigmoid()
        parts = (decoded.low_res_logits, decoded.predicted_iou, presence)
        return MaskPrediction(*(part if part is None else part.unflatten(0, grid) for part in parts))  # type: ignore[arg-type]

    def positional_encoding(self) -> Tensor:
        """(1, D, h, w), SAM's dense positional encoding; computed again only if its weights change."""
        weights = self.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
        if self._position is None or self._position[0].device != weights.device or not self._position[0].equal(weights):
            self._position = (weights.detach().clone(), in_token_order(self.prompt_encoder.get_dense_pe()))
        return self._position[1]

    @torch.inference_mode()
    def predict(
        self, embeddings: np.ndarray, class_ids: Sequence[int], original_size: tuple[int, int]
    ) -> list[FramePrediction]:
        """Label maps at the size of the frames.

        Parameters
        ----------
        embeddings : (B, D, h, w), as `embed` gives them
        class_ids : K ids of `classes`
        original_size : (H, W) of the frames
        """
        geometry = FrameGeometry(original_size, self.input_size)
        decoded = self.decode(torch.from_numpy(embeddings), class_ids, original_size)
        presence = fallback_presence(decoded) if decoded.presence is None else decoded.presence
        return [
            self._frame_prediction(logits, predicted_iou, score, class_ids, geometry)
            for logits, predicted_iou, score in zip(decoded.low_res_logits, decoded.predicted_iou, presence, strict=True)
        ]

    def _frame_prediction(
        self, logits: Tensor, predicted_iou: Tensor, presence: Tensor, class_ids: Sequence[int], geometry: FrameGeometry
    ) -> FramePrediction:
        present = presence >= self.presence_threshold
        positions = present.nonzero()[:, 0].tolist()
        present_ids = [class_ids[position] for position in positions]
        quality = predicted_iou.float().cpu().numpy()
        label_map = label_map_of(logits[positions], present_ids, geometry)
        contested = np.zeros(len(class_ids), np.float32)
        contested[positions] = contested_shares(logits[positions] > 0).cpu().numpy()
        scores = presence.float().cpu().numpy()
        return FramePrediction(tuple(class_ids), label_map, quality, scores, present.cpu().numpy(), contested)

    @property
    def has_click_decoder(self) -> bool:
        """Whether the checkpoint has a decoder for clicks, boxes and masks."""
        return self.sam_mask_decoder is not None

    @torch.inference_mode()
    def decode_prompts(
        self,
        embedding: Tensor,
        points: Tensor | None = None,
        marks: Tensor | None = None,
        box: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> PromptedMask:
        """One mask in one frame for clicks, a box and a mask prompt together, as in SAM.

        Parameters
        ----------
        embedding : (D, h, w), any float type
        points : (N, 2), x and y of each click in pixels of the padded square, 0 at its edge: the middle of the frame's
            first pixel is at half a pixel of the frame, scaled
        marks : (N,), 1 for a click inside the instrument and 0 outside
        box : (4,) left, top, right, bottom in the same pixels
        mask : (4h, 4w) logits to start from

        Raises
        ------
        CheckpointError
            the checkpoint has no decoder for clicks
        """
        if self.sam_mask_decoder is None:
            raise CheckpointError(
                f"Clicks and boxes need SAM's decoder; {self.name} has none. Choose a checkpoint that includes it."
            )
        # SAM's prompt encoder counts from the middle of the first pixel: it adds the 0.5 itself
        clicks = None if points is None or marks is None else (self._placed(points)[None] - 0.5, self._placed(marks)[None])
        corners = None if box is None else self._placed(box)[None] - 0.5
        sparse, dense = self.prompt_encoder(clicks, corners, None if mask is None else self._placed(mask)[None, None])
        decoded = decode_masks(
            self.sam_mask_decoder,
            self._placed(embedding[: self.decoder_dim])[None],
            self.positional_encoding(),
            sparse,
            dense,
        )
        return PromptedMask(decoded.low_res_logits[0], float(decoded.predicted_iou[0]))

    def _placed(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, torch.float32)


def _joined(parts: list[MaskPrediction], dim: int) -> MaskPrediction:
    if len(parts) == 1:
        return parts[0]
    presence = [part.presence for part in parts if part.presence is not None]
    return MaskPrediction(
        torch.cat([part.low_res_logits for part in parts], dim),
        torch.cat([part.predicted_iou for part in parts], dim),
        torch.cat(presence, dim) if presence else None,
    )


def contested_shares(masks: Tensor) -> Tensor:
    """(K,): the share of each mask in (K, h, w) bool that another mask covers, too; 0 for an empty mask."""
    claimed_twice = masks.sum(dim=0) > 1
    area = masks.sum(dim=(-2, -1))
    return (masks & claimed_twice).sum(dim=(-2, -1)) / area.clamp(min=1)


def fallback_presence(decoded: MaskPrediction) -> Tensor:
    """Presence without a presence head: the predicted IoU, or 0 if the mask is tiny; (B, K) in 0 to 1."""
    area = (decoded.low_res_logits > 0).sum(dim=(-2, -1))
    return torch.where(area >= SMALLEST_AREA, decoded.predicted_iou.clamp(0, 1), 0.0)
