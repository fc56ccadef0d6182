"""Domain randomisation of phantom frames: texture, light, colour, blur, noise, smoke, borders.

Images are (B, 3, S, S) float in 0 to 1, labels (B, S, S) int64. Every image gets its own random numbers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

ASPECTS = (0.5625, 0.75, 0.8, 1.0)  # height by width of the frames in the square


def uniform(count: int, low: float, high: float, device: torch.device, *shape: int) -> Tensor:
    """(count, *shape)"""
    return torch.empty(count, *shape, device=device).uniform_(low, high)


def sometimes(count: int, chance: float, device: torch.device) -> Tensor:
    """(count, 1, 1, 1) of 0 or 1"""
    return (torch.rand(count, 1, 1, 1, device=device) < chance).float()


def octaves(count: int, channels: int, side: int, device: torch.device, first: int = 2, last: int = 64) -> Tensor:
    """(count, channels, side, side) smooth noise of several scales, about 0 to 1, each with its own mix of scales."""
    total = torch.zeros(count, channels, side, side, device=device)
    weights = torch.zeros(count, 1, 1, 1, device=device)
    scale = first
    persistence = uniform(count, 0.35, 0.95, device, 1, 1, 1)
    weight = torch.ones(count, 1, 1, 1, device=device)
    while scale <= last:
        noise = torch.rand(count, channels, scale + 3, scale + 3, device=device)
        total += weight * F.interpolate(noise, (side, side), mode="bicubic", align_corners=False)
        weights += weight
        weight = weight * persistence
        scale *= 2
    return ((total / weights - 0.5) * 1.8 + 0.5).clamp(0, 1)


def warped(images: Tensor, labels: Tensor, strength: float = 1.0) -> tuple[Tensor, Tensor]:
    """Turned, scaled, moved, mirrored; then laid into a frame of a random aspect: (images, labels, frames as 0 or 1)."""
    count, side, device = len(images), images.shape[-1], images.device
    angle = uniform(count, -0.45, 0.45, device) * strength
    angle = torch.where(torch.rand(count, device=device) < 0.15 * strength, uniform(count, -math.pi, math.pi, device), angle)
    scale = torch.exp(uniform(count, math.log(0.75), math.log(1.6), device) * strength)
    squeeze = torch.exp(uniform(count, -0.15, 0.15, device) * strength)
    flip = torch.where(torch.rand(count, device=device) < 0.5, -1.0, 1.0)
    move = uniform(count, -0.2, 0.2, device, 2) * strength
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    theta = torch.stack(
        [
            torch.stack([cos * flip * squeeze, -sin * squeeze, move[:, 0]], -1),
            torch.stack([sin * flip, cos, move[:, 1]], -1),
        ],
        1,
    )
    grid = F.affine_grid(theta, [count, 1, side, side], align_corners=False)
    images = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    labels = F.grid_sample(labels[:, None].float(), grid, mode="nearest", padding_mode="reflection", align_corners=False)
    return images, labels[:, 0].round().long()


def framed(images: Tensor, labels: Tensor, heights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Frames squeezed to rows 0 to `heights` of the square: (images, labels, in_frame (B, 1, S, S) bool)."""
    side = images.shape[-1]
    rows = torch.arange(side, device=images.device)
    place = (rows[None] + 0.5) * side / heights[:, None]
    source = (place / side * 2 - 1)[:, :, None].expand(-1, -1, side)
    columns = ((rows + 0.5) / side * 2 - 1)[None, None].expand(len(images), side, -1)
    grid = torch.stack([columns, source], -1)
    images = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    labels = F.grid_sample(labels[:, None].float(), grid, mode="nearest", padding_mode="border", align_corners=False)[:, 0]
    in_frame = (rows[None] < heights[:, None])[:, None, :, None].expand(-1, -1, -1, side)
    return images * in_frame, (labels * in_frame[:, 0]).round().long(), in_frame


def colour_mixed(images: Tensor, strength: Tensor) -> Tensor:
    """Channels mixed, gained and bent; `strength` (B, 1, 1, 1) 0 to 1."""
    count, device = len(images), images.device
    mix = torch.eye(3, device=device) + strength[:, :, 0] * torch.randn(count, 3, 3, device=device) * 0.35
    mixed = torch.einsum("bij,bjhw->bihw", mix, images)
    gain = torch.exp(
        strength * torch.randn(count, 3, 1, 1, device=device) * 0.3
        + strength * torch.randn(count, 1, 1, 1, device=device) * 0.35
    )
    offset = strength * torch.randn(count, 3, 1, 1, device=device) * 0.08
    gamma = torch.exp(strength * torch.randn(count, 1, 1, 1, device=device) * 0.35)
    return (mixed * gain + offset).clamp(1e-4, 1) ** gamma


def textured(images: Tensor, chance: float, most: float) -> Tensor:
    """Noise of several scales and two random colours, laid over or multiplied in."""
    count, side, device = len(images), images.shape[-1], images.device
    noise = octaves(count, 1, side, device, first=2, last=128)
    low, high = torch.rand(2, count, 3, 1, 1, device=device)
    paint = low + (high - low) * noise
    share = uniform(count, 0, most, device, 1, 1, 1) * sometimes(count, chance, device)
    multiplied = images * (0.5 + paint)
    laid = torch.where(torch.rand(count, 1, 1, 1, device=device) < 0.5, paint, multiplied)
    return images * (1 - share) + laid * share


def lit(images: Tensor) -> Tensor:
    """A gradient, a spot and soft shadows."""
    count, side, device = len(images), images.shape[-1], images.device
    place = torch.linspace(-1, 1, side, device=device)
    x, y = place[None, None, None, :], place[None, None, :, None]
    direction = uniform(count, -math.pi, math.pi, device, 1, 1, 1)
    gradient = 1 + uniform(count, 0, 0.5, device, 1, 1, 1) * (torch.cos(direction) * x + torch.sin(direction) * y)
    cx, cy = uniform(2, -0.5, 0.5, device, count, 1, 1, 1)
    radius = uniform(count, 0.5, 1.8, device, 1, 1, 1)
    spot = torch.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * radius**2))
    depth = uniform(count, 0, 0.9, device, 1, 1, 1)
    shadow = 1 - uniform(count, 0, 0.7, device, 1, 1, 1) * (
        octaves(count, 1, side, device, 2, 8) > 0.62
    ).float() * sometimes(count, 0.3, device)
    shadow = F.avg_pool2d(shadow, 9, 1, 4)
    return (images * gradient * (1 - depth + depth * spot) * shadow).clamp(0, 1)


def highlighted(images: Tensor, labels: Tensor) -> Tensor:
    """Specular spots on tissue, and streaks on instruments."""
    count, side, device = len(images), images.shape[-1], images.device
    noise = octaves(count, 1, side, device, 8, 64)
    cut = uniform(count, 0.66, 0.85, device, 1, 1, 1)
    spots = ((noise - cut) * 12).clamp(0, 1) * sometimes(count, 0.5, device)
    on_tool = (labels > 0)[:, None].float()
    where = torch.where(torch.rand(count, 1, 1, 1, device=device) < 0.5, 1 - on_tool, torch.ones_like(on_tool))
    return images + (1 - images) * spots * where * uniform(count, 0.4, 1, device, 1, 1, 1)


def smoky(images: Tensor) -> Tensor:
    count, side, device = len(images), images.shape[-1], images.device
    density = (
        octaves(count, 1, side, device, 2, 16) * uniform(count, 0.1, 0.9, device, 1, 1, 1) * sometimes(count, 0.25, device)
    )
    grey = uniform(count, 0.4, 0.95, device, 1, 1, 1) + 0.05 * torch.randn(count, 3, 1, 1, device=device)
    return images * (1 - density) + grey * density


def blurred(images: Tensor) -> Tensor:
    """Each image blurred by one of several widths, or by movement, or not at all."""
    count, device = len(images), images.device
    kind = torch.randint(0, 8, (count,), device=device)
    for number, (height, width) in enumerate(((3, 3), (5, 5), (9, 9), (1, 9), (9, 1)), 1):
        chosen = kind == number
        if chosen.any():
            padding = (width // 2, width // 2, height // 2, height // 2)
            images[chosen] = F.avg_pool2d(F.pad(images[chosen], padding, "replicate"), (height, width), 1)
    coarse = torch.rand(count, device=device) < 0.25
    if coarse.any():
        side = images.shape[-1]
        small = F.interpolate(images[coarse], size=int(side * float(torch.empty(1).uniform_(0.35, 0.7))), mode="area")
        images[coarse] = F.interpolate(small, size=side, mode="bilinear", align_corners=False)
    return images


def noisy(images: Tensor) -> Tensor:
    count, device = len(images), images.device
    fine = torch.randn_like(images) * uniform(count, 0, 0.05, device, 1, 1, 1)
    small = torch.randn(count, 3, images.shape[-2] // 2, images.shape[-1] // 2, device=device)
    coarse = F.interpolate(small, images.shape[-2:], mode="bilinear", align_corners=False)
    return (images + fine + coarse * uniform(count, 0, 0.04, device, 1, 1, 1)).clamp(0, 1)


def bordered(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The black outside of an endoscope's picture, on some: a circle, cut corners or bars; never an instrument."""
    count, side, device = len(images), images.shape[-1], images.device
    place = (torch.arange(side, device=device) + 0.5) / side * 2 - 1
    x, y = place[None, None, None, :], place[None, None, :, None]
    cx, cy = uniform(2, -0.15, 0.15, device, count, 1, 1, 1)
    radius = uniform(count, 0.75, 1.25, device, 1, 1, 1)
    circle = ((x - cx) ** 2 + (y - cy) ** 2) < radius**2
    left, right, top, bottom = uniform(4, 0, 0.3, device, count, 1, 1, 1)
    bars = (x > left - 1) & (x < 1 - right) & (y > top - 1) & (y < 1 - bottom)
    kind = torch.randint(0, 8, (count, 1, 1, 1), device=device)
    visible = torch.where(kind == 0, circle, torch.where(kind == 1, bars, torch.ones_like(circle)))
    visible = torch.where(kind == 2, circle & bars, visible)
    black = uniform(count, 0, 0.06, device, 3, 1, 1)
    return torch.where(visible, images, black), labels * visible[:, 0]


def randomised(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All of it.

    Parameters
    ----------
    images : (B, S, S, 3) uint8
    labels : (B, S, S) uint8; frames fill the square

    Returns
    -------
    images (B, 3, S, S) 0 to 255, labels (B, S, S) int64, in_frame (B, 1, S, S) bool: the frame in its padded square
    """
    count, side, device = len(images), images.shape[1], images.device
    pixels = images.permute(0, 3, 1, 2).float() / 255
    pixels, truth = warped(pixels, labels.long())
    tool = F.avg_pool2d((truth > 0)[:, None].float(), 3, 1, 1)
    strength = uniform(count, 0, 1, device, 1, 1, 1) ** 0.7
    tissue = textured(colour_mixed(pixels, strength), 0.6, 0.9)
    tools = textured(colour_mixed(pixels, strength * uniform(count, 0, 1, device, 1, 1, 1)), 0.4, 0.6)
    plain = sometimes(count, 0.15, device)
    pixels = torch.where(plain > 0, colour_mixed(pixels, strength * 0.5), tissue * (1 - tool) + tools * tool)
    pixels = highlighted(pixels, truth)
    pixels = lit(pixels) * (1 - plain) + pixels * plain
    pixels = colour_mixed(pixels, uniform(count, 0, 0.6, device, 1, 1, 1))
    pixels = noisy(blurred(smoky(pixels)))
    pixels, truth = bordered(pixels, truth)
    aspects = torch.tensor(ASPECTS, device=device)[torch.randint(0, len(ASPECTS), (count,), device=device)]
    pixels, truth, in_frame = framed(pixels, truth, (aspects * side).round())
    return pixels.clamp(0, 1) * 255, truth, in_frame
