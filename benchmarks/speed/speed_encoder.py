"""SAM's image encoder (ViT-B at 1024) in segment-anything and in this package: time, memory and difference.

    python benchmarks/speed/speed_encoder.py [--repeats 3] [--json]

Both have the same random weights and the same image. Memory is measured for one frame in a separate process, above the
memory of the process with its weights.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1]))
from common.measuring import PeakMemory, figures, paired, run
from torch import nn

from surgicalsam_napari.model.segment_anything import ImageEncoderViT
from surgicalsam_napari.model.vit_encoder import VIT_SIZES, ViTSize, build_vit_encoder

SIZE = VIT_SIZES["vit_b"]
QUICK_SIZE = ViTSize(embed_dim=64, depth=1, num_heads=1, global_attn_indexes=())


def encoder_of(implementation: str, size: ViTSize) -> nn.Module:
    torch.manual_seed(0)
    if implementation == "ours":
        return build_vit_encoder(size).eval()
    encoder = ImageEncoderViT(
        img_size=1024,
        embed_dim=size.embed_dim,
        depth=size.depth,
        num_heads=size.num_heads,
        global_attn_indexes=size.global_attn_indexes,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),  # type: ignore[arg-type]
        use_rel_pos=True,
        window_size=14,
        out_chans=256,
    )
    return encoder.eval()


def with_random_positions(encoder: nn.Module) -> nn.Module:
    """Set random relative positions; the initial zeros would hide an error in them."""
    torch.manual_seed(1)
    for name, parameter in encoder.named_parameters():
        if "rel_pos" in name:
            nn.init.normal_(parameter, std=0.02)
    return encoder.requires_grad_(False)


def image() -> torch.Tensor:
    return torch.randn(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(2))


def peak_megabytes(implementation: str, *, is_quick: bool) -> float:
    command = [sys.executable, __file__, "--memory-of", implementation, *(["--quick"] if is_quick else [])]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


@torch.inference_mode()
def print_peak(implementation: str, size: ViTSize) -> None:
    encoder, picture = with_random_positions(encoder_of(implementation, size)), image()
    with PeakMemory() as memory:
        encoder(picture)
    print(memory.added)


@torch.inference_mode()
def measure(repeats: int, *, is_quick: bool) -> dict[str, object]:
    """`encoder` and `encoder_memory`."""
    size = QUICK_SIZE if is_quick else SIZE
    plain_encoder, our_encoder = (with_random_positions(encoder_of(name, size)) for name in ("plain", "ours"))
    picture = image()
    a, b = plain_encoder(picture), our_encoder(picture)
    times = paired(lambda: plain_encoder(picture), lambda: our_encoder(picture), repeats, warm_up=0)
    memory = {name: peak_megabytes(name, is_quick=is_quick) for name in ("plain", "ours")}
    return {
        **figures("encoder", times),
        "encoder_largest_difference": (a - b).abs().max().item(),
        "encoder_cosine": torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0).item(),
        "encoder_memory": round(memory["plain"] / memory["ours"], 2),
        "encoder_memory_plain_mb": round(memory["plain"]),
        "encoder_memory_ours_mb": round(memory["ours"]),
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory-of"]:
        torch.set_num_threads(2)
        print_peak(sys.argv[2], QUICK_SIZE if sys.argv[3:] else SIZE)
    else:
        run(measure, __doc__, repeats=3)
