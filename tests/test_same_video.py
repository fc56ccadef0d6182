"""A project and its video find each other by the frames: renamed, grown, in another container; another video is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("qtpy.QtWidgets")

from qtpy.QtCore import Qt, QThreadPool
from qtpy.QtWidgets import QMessageBox
from recordings import Recorder, pictures, write_folder
from window import TIMEOUT, settle

from surgicalsam_napari import cli, files
from surgicalsam_napari.errors import ProjectError, VideoChangedError
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.store.checking import checking
from surgicalsam_napari.store.corrections import corrected_frames
from surgicalsam_napari.store.summary import find_videos, summarize
from surgicalsam_napari.video import VideoReader
from surgicalsam_napari.widgets.main_widget import MainWidget

DRIVER, SCISSORS = 3, 4
COUNT, GROWN = 12, 18
SHAPE = (4, 6, 8)  # of an embedding


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder(pictures(GROWN))


@pytest.fixture
def clip(recorder: Recorder, tmp_path: Path) -> Path:
    """A recording of 12 frames, in a folder of its own."""
    (tmp_path / "case").mkdir()
    return recorder.write(tmp_path / "case" / "clip.mp4", COUNT)


@pytest.fixture
def folder(clip: Path) -> Path:
    """The closed project of the clip, with work of all kinds in it."""
    return make_project(clip)


def make_project(video: Path) -> Path:
    with Project.open_or_create(VideoReader(video), ENDOVIS2018) as project:
        project.labels[3, 10:30, 20:60] = DRIVER
        with project.action("Fill", 1) as action:
            project.labels.write_edit(5, np.full(project.labels.shape[1:], SCISSORS, np.uint8), action=action)
        project.labels.verify(2)
        project.notes.write(4, "smoke", "anna")
        project.embeddings("abc", SHAPE).write([1], np.ones((1, *SHAPE), np.float16))
        project.snapshots.create("before lunch")
    return project.folder


def check_work(project: Project, frame_count: int) -> None:
    """All that `make_project` did is there, and everything has this length."""
    *_, checked = checking(project)
    assert not checked.found
    labels = project.labels
    assert len(project.video) == len(labels) == len(labels.provenance_table()) == frame_count
    assert np.count_nonzero(labels[3] == DRIVER) == 800 and (labels[5] == SCISSORS).all()
    assert labels.provenance(3, DRIVER) == Provenance.EDITED and labels.provenance(2, DRIVER) == Provenance.VERIFIED
    assert labels.painted(3)[10:30, 20:60].all() and corrected_frames(project) == [2, 3, 5]
    assert [note.text for note in project.notes.entries()] == ["smoke"]
    assert project.history.to_undo is not None and project.history.to_undo.name == "Fill"
    assert project.embeddings("abc", SHAPE).missing(range(frame_count)) == [0, *range(2, frame_count)]


def check_refused(video: Path, folder: Path, message: str) -> None:
    """Opening this file in the project is refused with this message, and changes nothing."""
    before = contents(folder)
    with pytest.raises(ProjectError, match=message), Session() as session:
        session.open(video)
    assert contents(folder) == before


def contents(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def projects(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.surgicalsam"))


# ---- the same video


def test_a_renamed_video_goes_on_with_its_project(clip: Path, folder: Path) -> None:
    renamed = clip.rename(clip.with_name("case 7.mp4"))
    assert list(find_videos(clip.parent)) == [folder]
    assert summarize(renamed).folder == folder
    with Session() as session:
        project = session.open(renamed)
        assert project.folder == folder
        assert project.notice == "case 7.mp4 is clip.mp4 under a new name. Its project clip.surgicalsam goes on."
        check_work(project, COUNT)
    with Session() as session:
        assert session.open(renamed).notice == ""
    assert projects(clip.parent) == [folder.name]


def test_a_renamed_folder_of_images_goes_on_with_its_project(tmp_path: Path) -> None:
    images = write_folder(tmp_path / "frames", pictures(COUNT))
    folder = make_project(images)
    with Session() as session:
        check_work(session.open(images.rename(tmp_path / "case 7")), COUNT)
    assert projects(tmp_path) == [folder.name]


def test_a_copy_gets_a_project_of_its_own(clip: Path, folder: Path) -> None:
    with Session() as session:
        project = session.open(shutil.copy(clip, clip.with_name("copy.mp4")))
        assert project.folder != folder and corrected_frames(project) == []


def test_a_second_project_of_the_same_video_is_never_opened_instead_of_its_own(clip: Path, folder: Path) -> None:
    folder.rename(folder.with_name("first try.surgicalsam"))
    with Session() as session:
        project = session.open(clip)
        assert project.folder == folder and corrected_frames(project) == []


@pytest.mark.parametrize("ending", ["mkv", "mov", "ts"])
def test_a_file_in_another_container_is_the_same_video(recorder: Recorder, clip: Path, folder: Path, ending: str) -> None:
    other = recorder.write(clip.with_suffix(f".{ending}"), COUNT)
    for video in (other, clip, other):  # both are known from then on
        with Session() as session:
            project = session.open(video)
            assert project.folder == folder and project.video.info.path == video
            check_work(project, COUNT)
    clip.unlink()
    other.rename(other.with_name(f"case 7.{ending}"))
    with Project.open(folder) as project:
        check_work(project, COUNT)


def test_a_file_in_another_container_under_another_name_is_the_same_video(
    recorder: Recorder, clip: Path, folder: Path
) -> None:
    clip.unlink()
    with Session() as session:
        project = session.open(recorder.write(clip.with_name("case 7.mkv"), COUNT))
        assert project.folder == folder
        assert project.notice == "case 7.mkv is another file than clip.mp4, but its 12 frames are the same."
        check_work(project, COUNT)


def grow_file(recorder: Recorder, clip: Path) -> Path:
    return recorder.write(clip, GROWN)


def grow_and_rename(recorder: Recorder, clip: Path) -> Path:
    clip.unlink()
    return recorder.write(clip.with_name("case 7.mp4"), GROWN)


@pytest.mark.parametrize("grow", [grow_file, grow_and_rename])
def test_a_recording_that_has_grown_keeps_its_work(
    recorder: Recorder, clip: Path, folder: Path, grow: Callable[[Recorder, Path], Path]
) -> None:
    video = grow(recorder, clip)
    with Session() as session:
        project = session.open(video)
        assert project.folder == folder
        assert project.notice == "This recording has grown from 12 to 18 frames; the first 12 are the same."
        check_work(project, GROWN)
        project.labels[17, :5, :5] = DRIVER
        project.embeddings("abc", SHAPE).write([17], np.ones((1, *SHAPE), np.float16))
        project.notes.write(16, "new", "")
    with Project.open(folder) as project:
        assert project.notice == "" and len(project.labels) == GROWN
        assert np.count_nonzero(project.labels[17]) == 25
        assert project.embeddings("abc", SHAPE).missing([1, 16, 17]) == [16]
        project.history.undo()
        assert not project.labels[5].any()


def test_a_folder_with_more_images_keeps_its_work(tmp_path: Path) -> None:
    images = write_folder(tmp_path / "frames", pictures(COUNT))
    make_project(images)
    write_folder(images, pictures(GROWN))
    with Session() as session:
        project = session.open(images)
        assert project.notice == "This folder has grown from 12 to 18 frames; the first 12 are the same."
        check_work(project, GROWN)


def test_zarr_reads_a_grown_project(recorder: Recorder, clip: Path, folder: Path) -> None:
    import zarr

    grow_file(recorder, clip)
    with Project.open(folder) as project:
        project.labels[17] = DRIVER
        project.tracks.write_numbers(17, np.full((96, 128), 4))
    group = zarr.open_group(folder, mode="r")
    assert group["labels"].shape == (GROWN, 96, 128) and (group["labels"][17] == DRIVER).all()
    assert group["instances"].shape == (GROWN, 96, 128) and (group["instances"][17] == 4).all()
    assert group["provenance"].shape[0] == GROWN
    assert group["embeddings/abc/valid"][:].tolist() == [index == 1 for index in range(GROWN)]
    assert group["embeddings/abc/embeddings"].shape == (GROWN, *SHAPE)


def test_a_snapshot_of_the_shorter_recording_can_be_restored(recorder: Recorder, clip: Path, folder: Path) -> None:
    grow_file(recorder, clip)
    with Project.open(folder) as project:
        project.labels[17] = SCISSORS
        project.labels[3] = 0
        (snapshot,) = (each for each in project.snapshots.entries() if each.name == "before lunch")
        project.snapshots.restore(snapshot)
        assert not project.labels[17].any()
        check_work_is_restored(project)


def check_work_is_restored(project: Project) -> None:
    assert np.count_nonzero(project.labels[3] == DRIVER) == 800 and (project.labels[5] == SCISSORS).all()


def test_a_project_that_somebody_else_has_open_shows_the_frames_it_knows(
    recorder: Recorder, clip: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow_file(recorder, clip)
    with Project.open(folder, require_video=False) as other:
        other.claim()
        monkeypatch.setattr("surgicalsam_napari.store.project.os.getpid", lambda: 0)  # as from another process
        with Project.open(folder) as project:
            check_work(project, COUNT)
            assert "The new frames are left out, because" in project.notice
            with pytest.raises(IndexError):
                project.video.frame(COUNT)
    monkeypatch.undo()
    with Project.open(folder) as project:
        check_work(project, GROWN)


def test_a_project_of_an_earlier_version_samples_its_video_when_it_sees_it_again(
    recorder: Recorder, clip: Path, folder: Path
) -> None:
    record = json.loads((folder / "project.json").read_text())
    del record["video"]["samples"], record["video"]["known_files"]
    (folder / "project.json").write_text(json.dumps(record))
    longer = recorder.write(clip.with_name("longer.mp4"))
    with pytest.raises(ProjectError, match=r"of an earlier version, has no samples .* Put the original"):
        Project.open(folder, video=VideoReader(longer))
    Project.open(folder).close()
    shutil.copy(longer, clip)
    with Project.open(folder) as project:
        check_work(project, GROWN)


# ---- a kill while a project grows


def test_a_kill_while_a_project_grows_leaves_the_old_state(
    recorder: Recorder, clip: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorter = shutil.copy(clip, clip.with_name("shorter.mp4"))
    backup = shutil.copytree(folder, clip.with_name("backup"))
    grow_file(recorder, clip)
    replace, old_states = os.replace, 0
    for calls in range(30):
        shutil.rmtree(folder)
        shutil.copytree(backup, folder)
        left = iter(range(calls))

        def killed(*paths: Path, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt
            replace(*paths)

        monkeypatch.setattr(files.os, "replace", killed)
        try:
            Project.open(folder).close()
        except KeyboardInterrupt:
            monkeypatch.undo()
            if json.loads((folder / "project.json").read_text())["video"]["frame_count"] == COUNT:
                old_states += 1
                with Project.open(folder, video=VideoReader(shorter)) as project:
                    check_work(project, COUNT)
            with Project.open(folder, video=VideoReader(clip)) as project:
                check_work(project, GROWN)
                assert not list(checking(project))[-1].found
            continue
        break
    monkeypatch.undo()
    assert calls - 1 <= old_states and old_states > 8  # project.json is the last but one of the files that are replaced
    with Project.open(folder) as project:
        check_work(project, GROWN)


# ---- another video


def test_another_video_of_the_same_name_is_refused_and_can_have_its_own_project(clip: Path, folder: Path) -> None:
    Recorder(pictures(COUNT, seed=1)).write(clip)
    check_refused(clip, folder, r"clip.mp4 \(0 of 3 compared frames are the same\), but clip.mp4 is another one now\.")
    check_refused(folder, folder, r"rename it, for example to clip-2.mp4, and open it again")
    with Session() as session:
        project = session.open(clip.rename(clip.with_name("clip-2.mp4")))
        assert project.folder.name == "clip-2.surgicalsam" and corrected_frames(project) == []
    assert projects(clip.parent) == ["clip-2.surgicalsam", "clip.surgicalsam"]


def test_a_video_of_another_size_is_refused(clip: Path, folder: Path) -> None:
    Recorder(pictures(COUNT, size=(64, 96))).write(clip)
    check_refused(clip, folder, r"\(128 x 96 pixels, not 96 x 64\), but clip.mp4 is another one now")


def test_a_shorter_recording_is_refused_and_its_labels_can_be_carried_over(
    recorder: Recorder, clip: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.write(clip, 9)
    message = r"needs 12 frames of its video; clip.mp4 has only the first 9 of them.*Put the complete recording back"
    check_refused(clip, folder, message)
    clip.rename(clip.with_name("clip-2.mp4"))
    monkeypatch.chdir(clip.parent)
    assert cli.main(["export", "clip.surgicalsam", "--no-images", "--out", "labels"]) == 0  # as the message says
    assert cli.main(["import", "labels", "clip-2.mp4"]) == 0
    with Project.open(clip.with_name("clip-2.surgicalsam")) as project:
        assert len(project.labels) == 9
        check_work_is_restored(project)


def test_a_recording_that_was_cut_at_its_start_is_refused(recorder: Recorder, clip: Path, folder: Path) -> None:
    recorder.write(clip, COUNT, start=6)
    check_refused(clip, folder, r"clip.mp4 lacks the first 6 of them, so every label would be on a wrong frame")


def test_a_recording_that_was_encoded_again_is_refused(clip: Path, folder: Path) -> None:
    with VideoReader(clip) as video:
        frames = list(video)
    Recorder(frames, quality=20).write(clip)
    check_refused(clip, folder, r"shows the same, but was encoded again: its pixels differ by \d\.\d of 255 levels")


def test_a_folder_with_images_put_in_between_is_refused(tmp_path: Path) -> None:
    images = write_folder(tmp_path / "frames", pictures(COUNT))
    folder = make_project(images)
    shutil.copy(images / "frame003.png", images / "frame003b.png")
    check_refused(images, folder, r"of 8 compared frames .* the same\), but frames is another one now")


# ---- the command line


def test_the_command_line_says_what_it_found_in_one_line(
    recorder: Recorder, clip: Path, folder: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def segmented(video: Path) -> tuple[int, str]:
        code = cli.main(["segment", str(video), "--all", "--frames", "0:1", "--checkpoint", str(tiny_checkpoint)])
        return code, capsys.readouterr().err

    grow_file(recorder, clip)
    code, said = segmented(clip)
    assert code == 0 and "This recording has grown from 12 to 18 frames; the first 12 are the same.\n" in said
    renamed = clip.rename(clip.with_name("case 7.mp4"))
    code, said = segmented(renamed)
    assert code == 0 and "case 7.mp4 is clip.mp4 under a new name." in said
    assert cli.main(["info", str(renamed)]) == 0 and "18 frames" in capsys.readouterr().out
    recorder.write(renamed, 9)
    code, said = segmented(renamed)
    assert code == 1 and "has only the first 9 of them" in said and "Traceback" not in said


def test_a_window_can_ask_before_a_project_goes_on_with_a_changed_file(recorder: Recorder, clip: Path, folder: Path) -> None:
    grow_file(recorder, clip)
    before = contents(folder)
    for path in (clip, folder):
        with Session() as session, pytest.raises(VideoChangedError) as caught:
            session.prepare(path, ask_first=True)
        assert caught.value.question.endswith("the first 12 are the same. Go on with its project?")
    assert contents(folder) == before


# ---- the window


@pytest.fixture
def dock(make_napari_viewer, qtbot, bundled_tiny) -> Iterator[MainWidget]:
    viewer = make_napari_viewer(show=True)
    dock = MainWidget(viewer)
    viewer.window.add_dock_widget(dock, name="SurgicalSAM")
    settle(qtbot, dock)
    yield dock
    settle(qtbot, dock)
    QThreadPool.globalInstance().waitForDone(TIMEOUT)
    dock.session.close()


def answer(qtbot, dock: MainWidget, button: str) -> str:
    """Click a button of the question; returns its text."""
    box = dock.findChild(QMessageBox)
    assert box is not None and box.isVisible()
    text = box.text()
    (chosen,) = (each for each in box.buttons() if each.text() == button)
    qtbot.mouseClick(chosen, Qt.MouseButton.LeftButton)
    settle(qtbot, dock)
    return text


def test_the_window_asks_before_it_goes_on_with_a_recording_that_has_grown(
    dock, qtbot, recorder: Recorder, clip: Path, folder: Path
) -> None:
    grow_file(recorder, clip)
    dock.open(clip)
    settle(qtbot, dock)
    question = answer(qtbot, dock, "Cancel")
    assert question == "This recording has grown from 12 to 18 frames; the first 12 are the same. Go on with its project?"
    assert dock.session.project is None
    dock.open(folder)
    settle(qtbot, dock)
    answer(qtbot, dock, "Go on with its project")
    check_work(dock.session.project, GROWN)
    assert "18 frames" in dock.video_panel.facts.text()
    assert dock.timeline.timeline.strip.overview.frame_count == GROWN
    dock.layers.show_frame(GROWN - 1)
    assert dock.layers.current_frame == GROWN - 1


def test_the_window_says_in_a_line_that_a_video_was_renamed(dock, qtbot, clip: Path, folder: Path) -> None:
    dock.open(clip.rename(clip.with_name("case 7.mp4")))
    settle(qtbot, dock)
    assert dock.session.project.folder == folder
    message = dock.video_panel.message
    assert message.isVisible() and message.text().startswith("case 7.mp4 is clip.mp4 under a new name.")


def test_the_window_refuses_another_video_and_says_what_to_do(dock, qtbot, clip: Path, folder: Path) -> None:
    Recorder(pictures(COUNT, seed=1)).write(clip)
    dock.open(clip)
    settle(qtbot, dock)
    assert dock.session.project is None and dock.findChild(QMessageBox) is None
    assert "rename it, for example to clip-2.mp4, and open it again" in dock.start.page.message.text()
    dock.open(clip.rename(clip.with_name("clip-2.mp4")))
    settle(qtbot, dock)
    assert dock.session.project.folder.name == "clip-2.surgicalsam"
