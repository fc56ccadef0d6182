"""Statistics of a project: frames, time and area of each class, and corrected and verified frames."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from surgicalsam_napari.cli import main
from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.review.statistics import COLUMNS, VideoStatistics, measure_statistics
from surgicalsam_napari.store import Project
from surgicalsam_napari.video import VideoReader, writing_video

DRIVER, SCISSORS, PROBE = 3, 4, 5
SIZE = (64, 80)
TIMES = [0, 0.04, 0.08, 0.5, 0.54, 1.0]  # the fourth frame is late


def measure(project: Project) -> VideoStatistics:
    reports = measure_statistics(project)
    while True:
        try:
            next(reports)
        except StopIteration as end:
            return end.value


@pytest.fixture
def project(tmp_path: Path):
    """Six frames: the driver in two of them, 100 and 300 pixels; scissors in one, verified."""
    rng = np.random.default_rng(0)
    with writing_video(tmp_path / "clip.mp4", 25, TIMES) as write:
        for _ in TIMES:
            write(rng.integers(60, 255, (*SIZE, 3), np.uint8))
    with Project.create(tmp_path / "clip.surgicalsam", VideoReader(tmp_path / "clip.mp4"), ENDOVIS2018) as project:
        project.labels[2, :10, :10] = DRIVER
        project.labels[3, :10, :30] = DRIVER
        project.labels[4, 20:25, 20:24] = SCISSORS
        project.labels.verify(4)
        yield project


def test_frames_and_areas_of_a_class(project) -> None:
    measured = measure(project)
    driver = measured.classes[ENDOVIS2018.ids.index(DRIVER)]
    assert (driver.name, driver.frame_count, driver.total_pixels, driver.mean_pixels) == ("Large Needle Driver", 2, 400, 200)
    picture = SIZE[0] * SIZE[1]
    assert measured.picture_pixels == picture
    assert driver.mean_share == pytest.approx(200 / picture)
    assert driver.total_share == pytest.approx(400 / picture / 6)


def test_the_duration_follows_the_times_of_the_frames(project) -> None:
    measured = measure(project)
    driver = measured.classes[ENDOVIS2018.ids.index(DRIVER)]
    assert driver.seconds == pytest.approx(0.42 + 0.04, abs=1e-3)  # frames 2 and 3
    assert measured.seconds == pytest.approx(1.0 + 0.04, abs=0.05)


def test_corrected_and_verified_frames_are_counted_per_class(project) -> None:
    classes = {entry.class_id: entry for entry in measure(project).classes}
    assert (classes[DRIVER].corrected_count, classes[DRIVER].verified_count) == (
        3,
        1,
    )  # edited twice, verified empty once
    assert (classes[SCISSORS].corrected_count, classes[SCISSORS].verified_count) == (1, 1)


def test_a_class_that_is_never_shown_has_zeros(project) -> None:
    probe = next(entry for entry in measure(project).classes if entry.class_id == PROBE)
    assert (probe.frame_count, probe.seconds, probe.mean_pixels, probe.total_pixels) == (0, 0, 0, 0)


def test_the_percentage_is_of_the_picture_without_its_black_border(tmp_path: Path) -> None:
    frame = np.random.default_rng(0).integers(60, 255, (120, 200, 3), np.uint8)
    frame[:, :50] = frame[:, 150:] = 0
    with writing_video(tmp_path / "clip.mp4", 25) as write:
        for _ in range(4):
            write(frame)
    with Project.create(tmp_path / "clip.surgicalsam", VideoReader(tmp_path / "clip.mp4"), ENDOVIS2018) as project:
        project.labels[0, 40:60, 80:100] = DRIVER
        measured = measure(project)
    assert measured.picture_pixels == pytest.approx(120 * 100, rel=0.05)
    assert measured.classes[2].mean_share == pytest.approx(400 / measured.picture_pixels)


def test_reports_count_the_frames_with_labels_and_a_cancel_is_possible(project) -> None:
    reports = measure_statistics(project)
    assert (next(reports).done, next(reports).total) == (1, 3)
    reports.close()


def test_the_csv_has_a_line_per_class(project, tmp_path: Path) -> None:
    measure(project).write_csv(tmp_path / "statistics.csv")
    with (tmp_path / "statistics.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == COLUMNS and len(rows) == len(ENDOVIS2018)
    driver = rows[2]
    assert (driver["class"], driver["frames"], driver["seconds"], driver["total_area_pixels"]) == (
        "Large Needle Driver", "2", "0.46", "400",
    )  # fmt: skip
    with pytest.raises(ProjectError, match="statistics could not be written"):
        measure(project).write_csv(tmp_path / "no" / "statistics.csv")


def test_statistics_on_the_command_line(project, tmp_path: Path, capsys) -> None:
    folder, file = str(project.folder), tmp_path / "s.csv"
    project.close()
    assert main(["statistics", folder, "--csv", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "Large Needle Driver" in printed and "0.46 s" in printed and "200 px" in printed and "3.91 %" in printed
    assert file.read_text(encoding="utf-8").startswith("class_id,class,frames,seconds")
    assert main(["statistics", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["classes"][2]["frame_count"] == 2


def test_without_its_video_the_times_are_unknown_and_the_rest_is_counted(project, tmp_path: Path, capsys) -> None:
    folder = str(project.folder)
    project.close()
    (tmp_path / "clip.mp4").unlink()
    assert main(["statistics", folder, "--csv", str(tmp_path / "s.csv")]) == 0
    assert "200 px" in capsys.readouterr().out
    assert ",Large Needle Driver,2,,200.0," in (tmp_path / "s.csv").read_text(encoding="utf-8")
