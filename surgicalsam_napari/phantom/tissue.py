"""The tissue behind the instruments: one texture per scene, computed once, larger than the frame by a margin."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from surgicalsam_napari.phantom.look import RGB, Look

THINNEST_FORK = 0.0014  # frame widths; vessels thinner than that end without branching
MARGIN = 0.08  # of the frame's width and height, on each side: room for camera motion


class NoiseField:
    """Smooth noise on the texture's grid; cells are counted across the frame, so any resolution shows the same scene."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int], frame_size: tuple[int, int]):
        self.rng, self.size = rng, size
        self.aspect = frame_size[0] / frame_size[1]

    def __call__(self, cells: int) -> np.ndarray:
        """(h, w) float32 of about zero mean and unit variance with `cells` cells across."""
        lattice = self.rng.standard_normal((max(2, math.ceil(cells * self.aspect - 1e-6)), cells)).astype(np.float32)
        image = Image.fromarray(lattice).resize((self.size[1], self.size[0]), Image.Resampling.BICUBIC)
        return np.asarray(image) * 1.2

    def octaves(self, cells: int, count: int) -> np.ndarray:
        total = self(cells)
        for octave in range(1, count):
            total = total + self(cells * 2**octave) * 0.5**octave
        return total * 0.8


def smoothstep(values: np.ndarray, low: float, high: float) -> np.ndarray:
    t = np.clip((values - low) * (1 / (high - low)), 0, 1)
    return t * t * (3 - 2 * t)


def draw_tissue(rng: np.random.Generator, frame_size: tuple[int, int], look: Look) -> np.ndarray:
    """Paint one scene's tissue.

    Parameters
    ----------
    frame_size : (H, W) of the frames

    Returns
    -------
    (h, w, 3) uint8 with h = H (1 + 2 MARGIN), w likewise
    """
    size = round(frame_size[0] * (1 + 2 * MARGIN)), round(frame_size[1] * (1 + 2 * MARGIN))
    h, w = size
    noise = NoiseField(rng, size, frame_size)
    aspect = noise.aspect
    x = np.linspace(0, 1, w, dtype=np.float32)[None, :]
    y = np.linspace(0, aspect, h, dtype=np.float32)[:, None]
    warp = noise.octaves(4, 3)

    wall = _pick_two(rng, look.wall)
    albedo = _blend(wall[0], wall[1], smoothstep(noise.octaves(3, 3), -1, 1))
    height = 0.06 * noise(3) + 0.022 * noise(6) + 0.006 * noise(13)
    ambient = np.ones(size, np.float32)
    vessel_density = np.ones(size, np.float32)

    for _ in range(rng.integers(1, 5)):
        center = rng.uniform(-0.05, 1.05), rng.uniform(0.1, 1.05) * aspect
        axes = rng.uniform(0.18, 0.5), rng.uniform(0.14, 0.34)
        angle = rng.uniform(0, math.pi)
        lobed = rng.random() < 0.45
        along = (x - center[0]) * math.cos(angle) + (y - center[1]) * math.sin(angle)
        across = (y - center[1]) * math.cos(angle) - (x - center[0]) * math.sin(angle)
        depth_inside = 1 - np.square(along / axes[0]) - np.square(across / axes[1]) + warp * rng.uniform(0.05, 0.2)
        cover = smoothstep(depth_inside, -0.01, 0.05)
        colors = _pick_two(rng, look.fat if lobed else look.organ)
        mottle = smoothstep(noise.octaves(6, 3), -1.2, 1.2)
        albedo += (_blend(colors[0], colors[1], mottle) - albedo) * cover[..., None]
        dome = np.sqrt(np.clip(depth_inside, 0, 1)) * min(axes) * rng.uniform(0.45, 0.9)
        if lobed:
            lobes = _lobes(rng, noise, int(rng.integers(9, 20)), stretch=rng.uniform(1, 2.5))
            dome = dome * 0.6 + 0.032 * lobes
        height += (dome - 0.85 * height) * cover
        # An organ in front hides the shadow behind it; its own edge stays slightly dark.
        ambient += (1 - ambient) * smoothstep(depth_inside, 0.0, 0.3)
        if lobed:
            ambient *= 1 - cover * 0.4 * smoothstep(-lobes, -0.35, 0.0)
        crease = np.where(depth_inside < 0, np.clip(depth_inside, -3, 0) / 0.32, depth_inside / 0.14)
        ambient *= 1 - rng.uniform(0.15, 0.5) * np.exp(-np.square(crease))
        vessel_density += (rng.uniform(0.1, 1) * (0.35 if lobed else 1) - vessel_density) * cover

    albedo *= (1 + 0.05 * noise.octaves(24, 3))[..., None]
    vessels = _vessels(rng, size, aspect) * np.clip(vessel_density * (0.8 + 0.3 * warp), 0, 1)
    albedo *= 1 - vessels[..., None] * (1 - np.array(look.vessel, np.float32))
    gloss = np.ones(size, np.float32)
    if rng.random() < look.blood_chance:
        pool = smoothstep(noise.octaves(5, 4), *sorted(rng.uniform(0.7, 2.0, 2) + (0, 0.15)))
        albedo += (np.array((0.34, 0.02, 0.03), np.float32) - albedo) * (pool * 0.85)[..., None]
        gloss += pool
        height += 0.006 * pool

    # Creases between organs are soft, and serosa is smooth: only patches of it are grainy.
    height = gaussian_filter(height, 0.005 * w)
    grainy = 0.25 + smoothstep(noise(5), 0.0, 1.5)
    height += grainy * (rng.uniform(0.0006, 0.0016) * noise(34) + rng.uniform(0.0002, 0.0005) * noise(80))
    return _light(rng, albedo, height, ambient, gloss, look)


def _light(
    rng: np.random.Generator, albedo: np.ndarray, height: np.ndarray, ambient: np.ndarray, gloss: np.ndarray, look: Look
) -> np.ndarray:
    """Shade by a light near the camera: Lambert's diffuse term, and wet highlights where the surface faces it."""
    w = height.shape[1]
    slope_y, slope_x = np.gradient(height, 1 / w)
    # Soft tissue has no cliffs: steep slopes are flattened.
    ease = 1 / np.sqrt(1 + 0.3 * (slope_x * slope_x + slope_y * slope_y))
    slope_x, slope_y = slope_x * ease, slope_y * ease
    inverse = 1 / np.sqrt(1 + slope_x * slope_x + slope_y * slope_y)
    light = np.array((rng.uniform(-0.35, 0.35), rng.uniform(-0.5, 0.1), 1.0))
    light /= np.linalg.norm(light)
    facing = np.clip((light[2] - slope_x * light[0] - slope_y * light[1]) * inverse, 0, 1)
    half = light + (0, 0, 1)
    half /= np.linalg.norm(half)
    mirror = np.clip((half[2] - slope_x * half[0] - slope_y * half[1]) * inverse, 0, 1)
    wet = np.power(mirror, 320.0) * rng.uniform(0.15, 0.4) + np.power(mirror, 24.0) * 0.07
    fine = gaussian_filter(mirror, 1.0) if w > 400 else mirror
    glint = smoothstep(np.clip(fine, 0, 1), 0.9982, 0.9998)
    shade = (0.46 + 0.8 * facing * facing) * ambient
    rgb = albedo * shade[..., None]
    rgb += ((wet * 0.6 + glint * 0.35) * gloss * ambient)[..., None] * np.array(look.light, np.float32)
    return (np.clip(rgb, 0, 1) * 255).astype(np.uint8)


def _pick_two(rng: np.random.Generator, palette: tuple[RGB, ...]) -> np.ndarray:
    """(2, 3): two colours of the palette, varied a little."""
    colors = np.array(palette, np.float32)[rng.integers(len(palette), size=2)]
    return (colors * rng.uniform(0.88, 1.12, (2, 1)) + rng.normal(0, 0.012, (2, 3))).astype(np.float32)


def _blend(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    return first + share[..., None] * (second - first)


def _lobes(rng: np.random.Generator, noise: NoiseField, across: int, stretch: float) -> np.ndarray:
    """(h, w) in about 0 to 1: rounded lobes with creases between them, from distances to scattered points."""
    h, w = noise.size[0] // 4 + 1, noise.size[1] // 4 + 1
    points = rng.uniform(-0.05, 1.05, (across * across, 2))
    angle = rng.uniform(0, math.pi)
    turn = np.array(((math.cos(angle), -math.sin(angle)), (math.sin(angle) * stretch, math.cos(angle) * stretch)))
    x, y = np.meshgrid(np.linspace(0, 1, w), np.linspace(0, 1, h))
    bend = [np.asarray(Image.fromarray(noise(7)).resize((w, h))) * 0.022 for _ in range(2)]
    grid = np.stack((x + bend[0], y + bend[1]), axis=-1).reshape(-1, 2)
    distances, _ = cKDTree(points @ turn.T).query(grid @ turn.T, k=2)
    gap = ((distances[:, 1] - distances[:, 0]) * across).reshape(h, w).astype(np.float32)
    image = Image.fromarray(gaussian_filter(np.sqrt(np.clip(gap, 0, 1)), 0.0035 * w))
    return np.asarray(image.resize((noise.size[1], noise.size[0]), Image.Resampling.BICUBIC))


def _vessels(rng: np.random.Generator, size: tuple[int, int], aspect: float) -> np.ndarray:
    """(h, w) in 0 to 1: branching vessels, each a random walk that forks and thins."""
    h, w = size
    canvas = Image.new("L", (2 * w, 2 * h))
    pen = ImageDraw.Draw(canvas)
    strength = rng.uniform(0.55, 1)
    scale = 2 * w
    stems = [
        (rng.uniform(0, 1), rng.uniform(0, aspect), rng.uniform(0, 2 * math.pi), rng.uniform(0.003, 0.009), 0)
        for _ in range(rng.integers(7, 20))
    ]
    while stems:
        x, y, heading, width, depth = stems.pop()
        curl = 0.0
        steps = int(rng.integers(16, 34))
        trail = [(x, y)]
        for step, bend in enumerate(rng.normal(0, 0.12, steps)):
            curl = 0.5 * curl + bend
            heading += curl
            x, y = x + 0.013 * math.cos(heading), y + 0.013 * math.sin(heading)
            trail.append((x, y))
            left = width * (1 - 0.75 * step / steps)
            if depth < 3 and left > THINNEST_FORK and rng.random() < 0.17:
                fork = heading + rng.choice((-1, 1)) * rng.uniform(0.35, 0.8)
                stems.append((x, y, fork, left * rng.uniform(0.5, 0.8), depth + 1))
            if len(trail) == 4 or step == steps - 1:
                # Thin vessels lie deeper, and are less visible.
                tone = int(255 * strength * min(1.0, 0.22 + left * 160))
                line = [(px * scale, py * scale) for px, py in trail]
                pen.line(line, fill=tone, width=max(1, round(left * scale)), joint="curve")
                trail = trail[-1:]
    return np.asarray(canvas.resize((w, h), Image.Resampling.BOX), np.float32) / 255
