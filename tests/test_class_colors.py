"""The colours of the classes: told apart by everybody, over tissue; a project keeps its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from surgicalsam_napari.instruments import ENDOVIS2017, ENDOVIS2018, PALETTE, ClassSet, InstrumentClass, with_known_colors
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "quality" / "class_colors.py"
OLD_COLORS = ("#56b4e9", "#e69f00", "#19d3a2", "#f0e442", "#b58cff", "#ff7ac6", "#3f7bff")


@pytest.fixture(scope="module")
def figures() -> dict[str, float]:
    run = subprocess.run([sys.executable, BENCHMARK, "--json"], check=True, capture_output=True, text=True)
    return json.loads(run.stdout.splitlines()[-1])


@pytest.fixture
def old_endovis() -> ClassSet:
    """EndoVis 2018 in the colours of an earlier version."""
    pairs = zip(ENDOVIS2018, OLD_COLORS, strict=True)
    return ClassSet(ENDOVIS2018.name, tuple(InstrumentClass(known.id, known.name, color) for known, color in pairs))


@pytest.mark.parametrize("vision", ["normal", "protanopia", "deuteranopia", "tritanopia"])
def test_the_seven_classes_are_told_apart_over_tissue_and_metal(figures, vision) -> None:
    assert figures[f"now_{vision}"] > 15 > figures["before_deuteranopia"]


def test_no_class_has_a_colour_of_the_timeline(figures) -> None:
    assert figures["now_to_timeline_states"] > 10


def test_a_mask_is_seen_over_every_background(figures) -> None:
    assert figures["now_to_bare_background"] > 10


def test_a_palette_has_no_colour_twice() -> None:
    assert len(set(PALETTE)) == len(PALETTE) == 8


def test_a_project_keeps_the_colours_that_are_saved_in_it(clip, old_endovis) -> None:
    with Session(old_endovis) as session:
        folder = session.open(clip).folder
    with Session() as session:
        assert session.open(folder).classes == old_endovis
    with Project.open(folder) as project:
        assert [instrument.color for instrument in project.classes] == list(OLD_COLORS)


def test_a_new_project_has_todays_colours_whatever_the_checkpoint_holds(clip, old_endovis, tiny_model) -> None:
    assert with_known_colors(old_endovis) == ENDOVIS2018
    assert with_known_colors(ENDOVIS2017) == ENDOVIS2017
    other = ClassSet("other", (InstrumentClass(1, "Stapler", "#123456"),))
    assert with_known_colors(other) == other
    with Session() as session:
        session.use_model(tiny_model)
        assert session.open(clip).classes == ENDOVIS2018
