"""The weights and the image embeddings that the authors' code was given: random numbers, made again from their seeds.

Here they are made without the product's modules, but for SAM's own of the package segment_anything, so that a change of ours
cannot change them. Each function leaves torch's generator as it was.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from surgicalsam_napari.model.segment_anything import MaskDecoder, PromptEncoder, TwoWayTransformer

CLASSES, TOKENS_PER_CLASS, CHANNELS, GRID = 7, 2, 256, 64
State = dict[str, Tensor]


def weights() -> tuple[dict[str, State], State]:
    """What is in the authors' checkpoint, by the names of its three parts, and SAM's prompt encoder under its SAM names."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(11)
        transformer = TwoWayTransformer(depth=2, embedding_dim=CHANNELS, mlp_dim=2048, num_heads=8)
        decoder = MaskDecoder(
            transformer_dim=CHANNELS, transformer=transformer, iou_head_depth=3, iou_head_hidden_dim=CHANNELS
        )
        sam = PromptEncoder(CHANNELS, (GRID, GRID), (16 * GRID, 16 * GRID), mask_in_chans=16)
        prototypes = 0.3 * torch.randn(CLASSES, CHANNELS)
        layers = {
            "dense_fc_1": nn.Conv2d(CHANNELS, 128, 1),
            "dense_fc_2": nn.Conv2d(128, CHANNELS, 1),
            "sparse_fc_1": nn.Conv1d(GRID * GRID, 128, 1),
            "sparse_fc_2": nn.Conv1d(128, TOKENS_PER_CLASS, 1),
        }
    prompts = {f"{name}.{key}": value for name, layer in layers.items() for key, value in layer.state_dict().items()}
    for sign, point in enumerate(sam.point_embeddings[:2]):
        prompts[f"pn_cls_embeddings.{sign}.weight"] = point.weight.detach().repeat(TOKENS_PER_CLASS, 1)
    checkpoint = {
        "prototype_prompt_encoder_state_dict": prompts,
        "sam_decoder_state_dict": dict(decoder.state_dict()),
        "prototypes_state_dict": {"class_embeddings.weight": prototypes},
    }
    return checkpoint, {f"prompt_encoder.{name}": value for name, value in sam.state_dict().items()}


def write_checkpoint(folder: Path) -> Path:
    """Write `weights` as the authors publish them, and return the folder.

    The files are model_ckp.pth, and sam_prompt_encoder.pth beside it.
    """
    checkpoint, sam = weights()
    torch.save(checkpoint, folder / "model_ckp.pth")
    torch.save(sam, folder / "sam_prompt_encoder.pth")
    return folder


def image_embeddings() -> Tensor:
    """(2, 256, 64, 64) float32: two frames, every value of which float16 can hold."""
    return _corrected(rounded_tokens(), "image_embeddings").float().permute(0, 3, 1, 2)


def image_embeddings32() -> Tensor:
    """(1, 256, 64, 64) float32: one more frame, of values between those of float16."""
    tokens, between = rounded_tokens32()
    return (_corrected(tokens, "image_embeddings32").float() * (1 + 3e-4 * between)).permute(0, 3, 1, 2)


def rounded_tokens() -> Tensor:
    """(2, 64, 64, 256) float16: the embeddings of two frames, but for the values that were rounded otherwise."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12)
        coarse, fine = _normal(2, CHANNELS, 16, 16), _normal(2, CHANNELS, GRID, GRID)
    return (0.25 * F.layer_norm((_stretched(coarse) + 0.15 * fine).permute(0, 2, 3, 1), (CHANNELS,))).half()


def rounded_tokens32() -> tuple[Tensor, Tensor]:
    """The same of one more frame, and the random numbers (1, 64, 64, 256) float32 that move them off those of float16."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        coarse, fine = _normal(1, CHANNELS, 8, 8), _normal(1, CHANNELS, 24, 24)
        between = _normal(1, GRID, GRID, CHANNELS).float()
    return (0.5 * _stretched(coarse) + 0.15 * _stretched(fine)).permute(0, 2, 3, 1).half(), between


def _normal(*shape: int) -> Tensor:
    """The random numbers of `torch.randn` for a multiple of 16 of them, in float64, in which all processors agree."""
    uniform = torch.rand(math.prod(shape)).double().view(-1, 2, 8)
    radius, angle = (-2 * (1 - uniform[:, 0]).log()).sqrt(), 2 * torch.pi * uniform[:, 1]
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1).view(shape)


def _stretched(grids: Tensor) -> Tensor:
    return F.interpolate(grids, (GRID, GRID), mode="bicubic", align_corners=False)


def _corrected(tokens: Tensor, name: str) -> Tensor:
    """The tokens, with the few values that float32 had rounded to a neighbour, from inputs.npz."""
    with np.load(Path(__file__).with_name("inputs.npz")) as file:
        tokens = tokens.contiguous()
        tokens.view(-1)[torch.from_numpy(file[f"{name}_corrected"])] = torch.from_numpy(file[f"{name}_corrections"])
    return tokens
