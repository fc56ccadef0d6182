"""Notes on frames, time codes, and the annotator's name in the work log and in exports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from surgicalsam_napari.cli import main
from surgicalsam_napari.errors import ProjectError, VideoError
from surgicalsam_napari.exchange.converting import convert_frames
from surgicalsam_napari.exchange.exporting import export_frames
from surgicalsam_napari.exchange.registry import EXPORT_FORMATS, open_dataset
from surgicalsam_napari.exchange.sidecar import read_sidecar
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.store import Project
from surgicalsam_napari.video import VideoReader
from surgicalsam_napari.video.time_code import frame_at, from_time_code, in_time_code


@pytest.fixture
def project(clip: Path) -> Iterator[Project]:
    with Project.open_or_create(VideoReader(clip), ENDOVIS2018) as opened:
        yield opened


# ---- notes


def test_a_note_is_stored_with_its_author_and_replaced(project: Project) -> None:
    project.notes.write(3, " smoke ", "Dr. Ada")
    project.notes.write(1, "blood")
    project.notes.write(3, "smoke, again", "Dr. Bo")
    with Project.open(project.folder) as again:
        assert [(note.frame, note.text, note.annotator) for note in again.notes.entries()] == [
            (1, "blood", ""),
            (3, "smoke, again", "Dr. Bo"),
        ]
        again.notes.write(3, "")
    assert project.notes.text(3) == ""
    assert project.notes.text(1) == "blood"


def test_a_note_needs_a_frame_of_the_video_and_a_writable_project(project: Project) -> None:
    with pytest.raises(ProjectError, match="frames 0 to 11; got 12"):
        project.notes.write(12, "late")
    project.labels.set_read_only("somebody else has it open.")
    with pytest.raises(ProjectError, match="somebody else"):
        project.notes.write(1, "text")
    assert project.notes.entries() == []


def test_a_damaged_file_of_notes_is_kept(project: Project) -> None:
    (project.folder / "notes.json").write_text("{")
    with pytest.raises(ProjectError, match="Restore it from a backup"):
        project.notes.write(1, "text")
    assert (project.folder / "notes.json").read_text() == "{"


def test_notes_are_listed_on_the_command_line(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    project.notes.write(5, "bleeding, clip placed", "Dr. Ada")
    written = project.notes.entries()[0].written
    assert main(["notes", str(project.folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["frame,time,text,annotator,written", f'5,0:00:00.20,"bleeding, clip placed",Dr. Ada,{written}']
    assert main(["notes", str(project.folder), "--out", str(tmp_path / "notes.csv")]) == 0
    assert (tmp_path / "notes.csv").read_text().splitlines() == lines
    capsys.readouterr()
    assert main(["notes", str(project.folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"][0]["text"] == "bleeding, clip placed"


# ---- who worked


def test_the_work_log_names_the_annotator(project: Project) -> None:
    project.labels[2, 0, 0] = 1
    project.work_log.annotator = 'Ada, "the" First'
    project.labels[3, 0, 0] = 1
    project.work_log.note_view(3, 2.0)
    project.work_log.annotator = "Bo"
    project.work_log.note_view(3, 2.0)
    assert project.work_log.annotators() == ('Ada, "the" First',)
    assert [(work.frame_index, work.annotators) for work in project.work_log.per_frame()] == [
        (2, ()),
        (3, ('Ada, "the" First', "Bo")),
    ]


@pytest.mark.parametrize("format", list(EXPORT_FORMATS))
def test_an_export_names_annotators_and_has_the_notes_of_its_frames(project: Project, tmp_path: Path, format: str) -> None:
    project.work_log.annotator = "Ada"
    project.labels[2, 0:4, 0:4] = 1
    project.notes.write(2, "smoke")
    project.notes.write(7, "not exported")
    list(export_frames(project, [2, 3], tmp_path / "out", format, images=False))
    sidecar = read_sidecar(tmp_path / "out")
    assert sidecar is not None
    assert (sidecar.annotators, sidecar.notes) == (("Ada",), {"clip": {2: "smoke"}})
    assert sidecar.frames["clip"].keys() == {2, 3}


def test_a_converted_export_keeps_annotators_and_notes(project: Project, tmp_path: Path) -> None:
    project.work_log.annotator = "Ada"
    project.labels[2, 0:4, 0:4] = 1
    project.notes.write(2, "smoke")
    list(export_frames(project, [2, 3], tmp_path / "out", "indexed-png", images=False))
    list(convert_frames(open_dataset(tmp_path / "out"), tmp_path / "converted", "yolo", images=False))
    sidecar = read_sidecar(tmp_path / "converted")
    assert sidecar is not None
    assert (sidecar.annotators, sidecar.notes) == (("Ada",), {"clip": {2: "smoke"}})


# ---- time codes


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0:01:23.40", 83.4),
        ("1:00:00", 3600),
        ("2:03", 123),
        ("90", 90),
        (" 1,5 ", 1.5),
        (".5", 0.5),
        ("10:00:00.01", 36000.01),
    ],
)
def test_a_time_code_is_read(text: str, seconds: float) -> None:
    assert from_time_code(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "abc", "1:2:3:4", "-1", "1:", "1.2.3"])
def test_other_text_is_no_time(text: str) -> None:
    with pytest.raises(VideoError, match=r"Write for example 0:01:23\.40"):
        from_time_code(text)


def test_times_are_written_with_hundredths() -> None:
    assert [in_time_code(seconds) for seconds in (0, 83.4, 59.999, 36000.014)] == [
        "0:00:00.00", "0:01:23.40", "0:01:00.00", "10:00:00.01",
    ]  # fmt: skip


@pytest.mark.parametrize("rate", [12.5, 25, 29.97, 59.94, 100])
def test_the_time_code_of_a_frame_leads_back_to_it(rate: float) -> None:
    times = np.arange(3000) / rate
    assert [frame_at(times, from_time_code(in_time_code(time))) for time in times] == list(range(3000))


def test_the_frame_that_is_shown_at_a_time_counts_also_with_an_uneven_rate() -> None:
    times = np.array([0.0, 4.0, 5.5])
    assert [frame_at(times, seconds) for seconds in (0, 3.9, 4, 5.4, 5.5, 99)] == [0, 0, 1, 1, 2, 2]
