"""Summaries of projects that are not open, and the videos of a folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.inference.class_frames import frames_with_class
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.summary import find_videos, summarize
from surgicalsam_napari.video import VideoReader

DRIVER = 3
HOLD = """
import sys
from surgicalsam_napari.store import Project
with Project.open(sys.argv[1], require_video=False) as project:
    assert project.claim() is None
    print("claimed", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(clip: Path) -> Path:
    """A project of 12 frames, in which one is painted and another verified."""
    with Project.create(Project.default_folder(clip), VideoReader(clip), ENDOVIS2018) as project:
        project.labels[4, 10:20, 10:20] = DRIVER
        project.labels[5, 10:20, 10:20] = DRIVER
        project.labels.verify(5)
        return project.folder


def test_a_summary_counts_without_the_video_being_opened(folder: Path, clip: Path, monkeypatch) -> None:
    monkeypatch.setattr("surgicalsam_napari.store.project.VideoReader", lambda *_: pytest.fail("the video was opened"))
    summary = summarize(folder)
    assert (summary.frame_count, summary.corrected, summary.verified, summary.segmented) == (12, 2, 1, 0)
    assert summary.is_video_found and summary.video == clip
    assert summary.owner is None


def test_a_summary_counts_predicted_frames(folder: Path, tiny_model) -> None:
    with Session() as session:
        session.open(folder)
        session.use_model(tiny_model)
        list(session.segment([DRIVER], [0, 1, 2]))
    assert summarize(folder).segmented == 3


def test_a_summary_says_that_the_video_is_missing_and_where_it_was(folder: Path, clip: Path) -> None:
    clip.rename(clip.with_suffix(".moved"))
    summary = summarize(folder)
    assert not summary.is_video_found and summary.video == clip
    assert summary.corrected == 2


def test_a_video_is_summarized_with_the_project_beside_it_or_without_one(folder: Path, clip: Path, tmp_path: Path) -> None:
    assert summarize(clip) == summarize(folder)
    other = summarize(Path(shutil.copy(clip, tmp_path / "other.mp4")))
    assert (other.folder, other.frame_count, other.corrected) == (None, 12, 0)


def test_a_project_that_is_gone_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="Connect its disk"):
        summarize(tmp_path / "gone.surgicalsam")


def test_a_summary_of_a_damaged_project_is_an_error(folder: Path) -> None:
    (folder / "project.json").write_text("{")
    with pytest.raises(ProjectError, match="backup"):
        summarize(folder)


def test_a_summary_names_another_process_and_never_takes_its_project(folder: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdin is not None
    assert holder.stdout.readline() == "claimed\n"
    owner = summarize(folder).owner
    assert owner is not None and owner.process == holder.pid
    holder.kill()
    holder.communicate()
    assert (folder / ".window" / "owner.json").exists()  # left by the kill
    assert summarize(folder).owner is None
    with Project.open(folder) as project:
        assert project.claim() is None


def test_asking_about_a_project_of_this_process_leaves_it_with_its_owner(folder: Path) -> None:
    with Project.open(folder) as project:
        assert project.claim() is None
        assert summarize(folder).owner is not None
        with Project.open(folder) as other:
            assert other.claim() is not None
        project.labels[0, 0, 0] = DRIVER


def test_the_videos_of_a_folder_are_found_once_each(folder: Path, clip: Path, tmp_path: Path) -> None:
    patient = tmp_path / "patient 2"
    patient.mkdir()
    new = Path(shutil.copy(clip, patient / "new.mp4"))
    labels = patient / "new_labels"
    export = tmp_path / "export" / "images"
    for images in (labels, export):
        images.mkdir(parents=True)
        for name in ("frame0.png", "frame1.png"):
            (images / name).write_bytes(b"")
    (export.parent / "classes.json").write_text("{}")
    (tmp_path / ".hidden.mp4").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("")
    assert list(find_videos(tmp_path)) == [folder, new]


def test_a_video_is_segmented_while_another_project_stays_open(folder: Path, tmp_path: Path, clip: Path, tiny_model) -> None:
    other = Path(shutil.copy(clip, tmp_path / "other.mp4"))
    with Session(claims=True) as session:
        session.use_model(tiny_model)
        opened = session.open(folder)
        run = session.segment_video(other, [ENDOVIS2018.by_id(DRIVER).name], vote=False)
        reports = []
        while True:
            try:
                reports.append(next(run))
            except StopIteration as end:
                outcome = end.value
                break
        assert session.project is opened
        assert [report.done for report in reports] == list(range(1, 13))
        assert (outcome.frame_count, outcome.segmented, outcome.verified) == (12, 12, 0)
        found = outcome.frames_with_class
        assert list(found) == [ENDOVIS2018.by_id(DRIVER).name]
        with Project.open(Project.default_folder(other)) as project:
            assert project.claim() is None  # released again
            assert found == {"Large Needle Driver": np.count_nonzero((project.labels[:] == DRIVER).any(axis=(1, 2)))}
        again = session.segment_video(other, [ENDOVIS2018.by_id(DRIVER).name], vote=False)
        assert list(again) == []  # done before


def test_the_open_project_is_segmented_in_place_and_its_verified_frame_left_alone(folder: Path, tiny_model) -> None:
    with Session(claims=True) as session:
        session.use_model(tiny_model)
        project = session.open(folder)
        before = project.labels[5].copy()
        reports = list(session.segment_video(folder, vote=False))
        assert len(reports) == 11  # every class of the twelfth frame is verified
        assert session.project is project and project.writable
        assert (project.labels[5] == before).all()


def test_a_class_that_a_person_verified_as_absent_does_not_count_as_found(folder: Path) -> None:
    with Project.open(folder) as project:
        counts = frames_with_class(project, [1, DRIVER], range(12))
    assert counts == {"Bipolar Forceps": 0, "Large Needle Driver": 2}


def test_a_project_of_another_window_is_left_alone(folder: Path, tiny_model) -> None:
    with Session(claims=True) as session, Project.open(folder) as other:
        session.use_model(tiny_model)
        assert other.claim() is None
        with pytest.raises(ProjectError, match="Close it there"):
            list(session.segment_video(folder))
