"""The figures of the paper and of later publications: complete, consistent, and those of the paper's own text."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from surgicalsam_napari.instruments import ENDOVIS2017, ENDOVIS2018
from surgicalsam_training.scoring.comparison import later_systems_table
from surgicalsam_training.scoring.published import (
    FOLDER,
    Published,
    later_systems,
    published_figures,
    published_rows,
    published_table,
)
from surgicalsam_training.scoring.tables import to_markdown

CLASS_NAMES = {"endovis2018": ENDOVIS2018.names, "endovis2017": ENDOVIS2017.names}
PAPERS_NAMES = {"TraSeTR": "TraSeTr"}  # its own authors write TraSeTR
ROUNDING = 0.011  # of a mean of figures with two decimals


@pytest.fixture(scope="session")
def paper_text(shared_folder: Path) -> str:
    """The text of the paper with its supplement, one space between words."""
    path = shared_folder / "paper" / "surgicalsam_aaai2024.txt"
    if not path.is_file():
        pytest.skip("the paper's text is not next to this checkout")
    return re.sub(r"\s+", " ", path.read_text(encoding="utf-8"))


def two_decimals(*values: float | None) -> str:
    return " ".join("-" if value is None else f"{value:.2f}" for value in values)


# Tables 1 and 2 ------------------------------------------------------------------------------------------------------


def test_tables_1_and_2_are_whole() -> None:
    methods = {row.method for row in published_figures()}
    specialists = {"TernausNet", "MF-TAPNet", "Dual-MF", "ISINet", "TraSeTR", "S3Net", "MATIS Frame"}
    prompted = {"Mask2Former + SAM", "TrackAnything (1 Point)", "TrackAnything (5 Points)", "PerSAM", "PerSAM (Fine-Tune)"}
    prompted |= {"SurgicalSAM", "GT Centroid + SAM", "GT Bbox + SAM"}
    only2018 = {"MaskTrack-RCNN + SAM", "SurgicalSAM with text prototypes"}
    assert methods == specialists | prompted | only2018
    assert {row.method for row in published_rows("endovis2017")} == specialists | prompted
    assert {row.method for row in published_rows("endovis2018")} == specialists | prompted | only2018
    assert published_rows(None) == []
    for row in published_figures():
        assert row.category == ("specialist model" if row.method in specialists else "SAM-based model")
        assert len(row.class_iou) == (0 if row.method == "SurgicalSAM with text prototypes" else 7)


@pytest.mark.parametrize("row", [*published_figures(), *later_systems()], ids=lambda row: f"{row.method}, {row.dataset}")
def test_every_row_is_consistent(row: Published) -> None:
    """mc IoU is the mean of the class IoUs (section 8.1); without false positives IoU equals Challenge IoU."""
    assert row.sources and all(row.sources)
    assert set(row.class_iou) <= set(CLASS_NAMES[row.dataset])
    figures = [row.challenge_iou, row.iou, row.mean_class_iou, *row.class_iou.values()]
    assert all(0 <= figure <= 100 for figure in figures if figure is not None)
    assert row.iou is None or row.iou <= row.challenge_iou
    if row.class_iou:
        assert row.mean_class_iou is not None
        differs = abs(np.mean(list(row.class_iou.values())) - row.mean_class_iou) > ROUNDING
        assert differs == row.mean_differs
        assert not differs or "average to" in row.note


def test_no_method_is_listed_twice() -> None:
    rows = [(row.dataset, row.method) for row in (*published_figures(), *later_systems())]
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize("name", ["table1", "table2"])
def test_the_rows_are_those_of_the_papers_text(paper_text: str, name: str) -> None:
    table = published_table(name)
    for row in [*table["specialist_models"], *table["sam_based_models"]]:
        method = PAPERS_NAMES.get(row["method"], row["method"])
        printed = two_decimals(row["challenge_iou"], row["iou"], row["mean_class_iou"], *row["class_iou"])
        parameters = ""
        if name == "table1":
            millions = row.get("parameters")
            small = millions is not None and millions < 0.01
            parameters = " -" if millions is None else f" {millions * 1e6:.0f}" if small else f" {millions:.2f}M"
        assert f"{method} {printed}{parameters}" in paper_text, method


# Tables 3 to 7, and section 8.5 --------------------------------------------------------------------------------------


def test_tables_3_to_7_are_those_of_the_papers_text(paper_text: str) -> None:
    by_n = {(row["n"], row["prototypes"]): (row["challenge_iou"], row["mean_class_iou"]) for row in table("table3")}
    for n in (2, 4, 6, 8):
        assert f"{n} {two_decimals(*by_n[n, 'fixed'], *by_n[n, 'learned'])}" in paper_text
    for row in table("table4"):
        assert f"{row['method']} {two_decimals(*row['class_iou'], row['mean_class_iou'])}" in paper_text
    titles = {"all": "SurgicalSAM (Ours)", "without dense": "w/o Dense Embed.", "without sparse": "w/o Sparse Embed."}
    titles["without positive and negative"] = "w/o Pos&Neg Embed."
    for row in table("table6"):
        assert f"{titles[row['prompts']]} {two_decimals(row['challenge_iou'], row['mean_class_iou'])}" in paper_text
    _, mean, deviation = table("table7")
    for key, score in (("challenge_iou", "Challenge IoU"), ("mean_class_iou", "mc IoU")):
        assert f"mean of {mean[key]:.2f} and a standard deviation of {deviation[key]:.2f} for {score}" in paper_text
    (text,) = published_table("text_prototypes")["sam_based_models"]
    assert f"achieves {text['challenge_iou']}% for Challenge IoU and {text['mean_class_iou']}% for mc IoU" in paper_text


def test_table_5_is_that_of_the_papers_text(paper_text: str) -> None:
    measured = published_table("table5")
    for method in ("MATIS Frame", "MaskTrack-RCNN + SAM", "SurgicalSAM"):
        rows = {row["batch"]: row for row in measured["training"] if row["method"] == method}
        speeds = [f"{rows[batch]['per_second']}" if batch in rows else "-" for batch in (2, 16, 32)]
        memory = [f"{rows[batch]['gigabytes']:.2f}" if batch in rows else "-" for batch in (2, 16, 32)]
        assert " ".join([method, *speeds, *memory]) in paper_text
    for method in ("MaskTrack-RCNN + SAM", "SurgicalSAM"):
        rows = {row["embedding"]: row["per_second"] for row in measured["prediction"] if row["method"] == method}
        assert f"{method} {rows['online']} {rows['offline']}" in paper_text


def test_the_means_of_table_4_are_those_of_its_classes() -> None:
    for row in table("table4"):
        assert np.mean(row["class_iou"]) == pytest.approx(row["mean_class_iou"], abs=ROUNDING)


def test_the_complete_model_has_the_same_figures_in_every_table() -> None:
    (main,) = [row for row in published_rows("endovis2018") if row.method == "SurgicalSAM"]
    expected = {"challenge_iou": main.challenge_iou, "mean_class_iou": main.mean_class_iou}
    complete = [
        next(row for row in table("table3") if (row["prototypes"], row["n"]) == ("learned", 2)),
        next(row for row in table("table6") if row["prompts"] == "all"),
        next(row for row in table("table7") if row["seed"] == 666),
    ]
    for row in complete:
        assert {key: row[key] for key in expected} == expected


def table(name: str) -> list[dict]:
    return published_table(name)["rows"]


def test_every_file_has_a_source() -> None:
    for path in FOLDER.glob("*.yaml"):
        content = published_table(path.stem)
        assert content.get("source") or content["sources"]


# Later systems -------------------------------------------------------------------------------------------------------


def test_every_later_system_says_how_it_was_scored() -> None:
    assert {row.method for row in later_systems()} >= {"MATIS Full", "CSAM-HQ"}
    for row in later_systems():
        assert row.note and row.sources and not row.category
        assert "prompted" in row.note


def test_the_page_of_experiments_lists_every_later_system() -> None:
    page = (Path(__file__).parents[1] / "docs" / "experiments.md").read_text(encoding="utf-8")
    assert to_markdown(later_systems_table()) in page
