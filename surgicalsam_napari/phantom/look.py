"""Named looks: the parameters in which the pictures of one domain differ from those of another."""

from __future__ import annotations

from dataclasses import dataclass

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Look:
    """Tissue, light and tool finish of a family of scenes; colours are approximately linear RGB, 0 to 1.

    Attributes
    ----------
    wall, organ, fat : palettes from which a scene mixes its peritoneum, organs and fat
    vessel : factor of a full vessel on the tissue's colour
    light : colour of the light source
    exposure, vignette, noise : ranges from which a scene draws (factor, strength, grey levels)
    smoke_chance, blood_chance, blur_chance : share of the scenes with this effect
    shaft_gain, shaft_tint : brightness and tone of the shafts, relative to the first look
    sleeve : colour of the scissors' tip cover
    insulation : colour of the bipolar yoke
    """

    wall: tuple[RGB, ...]
    organ: tuple[RGB, ...]
    fat: tuple[RGB, ...]
    vessel: RGB
    light: RGB
    exposure: tuple[float, float]
    vignette: tuple[float, float]
    noise: tuple[float, float]
    smoke_chance: float
    blood_chance: float
    blur_chance: float
    shaft_gain: float
    shaft_tint: RGB
    sleeve: RGB
    insulation: RGB


FIRST_LOOK = Look(
    wall=((0.74, 0.40, 0.40), (0.66, 0.33, 0.36), (0.70, 0.46, 0.47), (0.60, 0.27, 0.28)),
    organ=((0.58, 0.26, 0.28), (0.72, 0.46, 0.46), (0.44, 0.15, 0.16), (0.62, 0.40, 0.45), (0.74, 0.36, 0.33)),
    fat=((0.80, 0.46, 0.43), (0.84, 0.56, 0.45), (0.76, 0.40, 0.41), (0.85, 0.62, 0.52)),
    vessel=(0.66, 0.34, 0.36),
    light=(1.0, 0.97, 0.98),
    exposure=(0.9, 1.3),
    vignette=(0.2, 0.55),
    noise=(1.0, 3.5),
    smoke_chance=0.3,
    blood_chance=0.35,
    blur_chance=0.5,
    shaft_gain=1.0,
    shaft_tint=(1.0, 1.0, 1.0),
    sleeve=(0.34, 0.40, 0.46),
    insulation=(0.80, 0.62, 0.30),
)

SECOND_LOOK = Look(
    wall=((0.80, 0.60, 0.50), (0.70, 0.50, 0.44), (0.78, 0.66, 0.56)),
    organ=((0.38, 0.14, 0.10), (0.46, 0.22, 0.16), (0.70, 0.44, 0.34), (0.52, 0.34, 0.30)),
    fat=((0.88, 0.72, 0.36), (0.84, 0.66, 0.30), (0.90, 0.78, 0.50)),
    vessel=(0.62, 0.36, 0.44),
    light=(1.0, 0.95, 0.82),
    exposure=(0.7, 1.05),
    vignette=(0.5, 0.95),
    noise=(2.5, 6.0),
    smoke_chance=0.5,
    blood_chance=0.5,
    blur_chance=0.7,
    shaft_gain=0.75,
    shaft_tint=(0.92, 1.0, 1.1),
    sleeve=(0.55, 0.38, 0.20),
    insulation=(0.82, 0.80, 0.74),
)

LOOKS = {"first": FIRST_LOOK, "second": SECOND_LOOK}
