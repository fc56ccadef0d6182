"""The session: opening, loading, choosing; after an error nothing has changed."""

from __future__ import annotations

import os
import shutil

import pytest

from surgicalsam_napari.errors import CheckpointError, ClassSetError, ProjectError, SurgicalSAMError, VideoError
from surgicalsam_napari.instruments import ENDOVIS2017, ENDOVIS2018, ClassSet, InstrumentClass
from surgicalsam_napari.session import Session
from surgicalsam_napari.store.corrections import count_corrections


@pytest.fixture
def clip(phantom_clip, tmp_path):
    return shutil.copy(phantom_clip, tmp_path / "clip.mp4")


@pytest.fixture
def session():
    with Session() as session:
        yield session


@pytest.fixture
def emitted(session):
    """Names of the signals emitted, in order."""
    names: list[str] = []
    for name in ("project_changed", "contents_replaced", "model_changed", "class_selected", "frame_segmented"):
        getattr(session, name).connect(lambda *_arguments, name=name: names.append(name))
    return names


def test_opening_a_video_makes_its_project_beside_it(session, emitted, clip):
    project = session.open(clip)
    assert session.project is project
    assert project.folder == clip.with_suffix(".surgicalsam")
    assert session.classes == ENDOVIS2018
    assert emitted == ["project_changed"]


def test_opening_another_closes_the_first(session, clip, tmp_path, monkeypatch):
    first = session.open(clip)
    closed = []
    monkeypatch.setattr(first, "close", lambda close=first.close: (closed.append(first), close()))
    second = session.open(shutil.copy(clip, tmp_path / "other.mp4"))
    assert closed == [first]
    assert session.project is second


def test_a_project_folder_opens_like_its_video(session, clip):
    folder = session.open(clip).folder
    session.project.labels[2, 5:9, 5:9] = 3
    project = session.open(folder)
    assert (project.labels[2][5:9, 5:9] == 3).all()
    assert project.video.info.frame_count == 12


@pytest.mark.parametrize("name", ["missing.mp4", "missing.surgicalsam"])
def test_a_failed_opening_leaves_the_project_open(session, emitted, clip, tmp_path, name):
    project = session.open(clip)
    emitted.clear()
    with pytest.raises((VideoError, ProjectError)):
        session.open(tmp_path / name)
    assert session.project is project
    assert project.labels[0].shape == project.video.info.size
    assert emitted == []
    assert not (tmp_path / "missing.surgicalsam").exists()


def test_projects_can_be_kept_elsewhere(session, clip, tmp_path):
    assert session.open(clip, project_folder=tmp_path / "projects").folder == tmp_path / "projects" / "clip.surgicalsam"
    assert session.open(clip, project_folder=tmp_path / "mine.surgicalsam").folder == tmp_path / "mine.surgicalsam"
    assert not clip.with_suffix(".surgicalsam").exists()


def test_a_read_only_folder_names_the_remedy(session, clip, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the tests may run as root
    with pytest.raises(ProjectError, match=r"read-only.*--project-folder.*project_folder="):
        session.open(clip)
    assert session.project is None


def test_a_bad_checkpoint_keeps_the_model(session, emitted, tiny_checkpoint, tmp_path):
    model = session.load_checkpoint(tiny_checkpoint, device="cpu")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(tiny_checkpoint.read_bytes()[:1000])
    for path in (broken, tmp_path / "missing.safetensors"):
        with pytest.raises(CheckpointError):
            session.load_checkpoint(path)
    assert session.model is model
    assert emitted == ["model_changed"]


def test_selecting_a_class_is_emitted_once(session, emitted, clip):
    session.open(clip)
    emitted.clear()
    session.select_class(3)
    session.select_class(3)
    assert session.selected_class_id == 3
    assert emitted == ["class_selected"]
    with pytest.raises(ClassSetError, match="No class"):
        session.select_class(99)
    assert session.selected_class_id == 3


def test_the_chosen_class_stays_chosen_by_name(session, clip, tmp_path):
    session.open(clip)
    session.select_class(ENDOVIS2018.by_name("Monopolar Curved Scissors").id)
    session.use_class_set(ClassSet("2018 too", ENDOVIS2018.classes))
    with Session(ENDOVIS2017) as other:
        other_folder = other.open(shutil.copy(clip, tmp_path / "other.mp4")).folder
    session.open(other_folder)
    assert session.selected_class_id == ENDOVIS2017.by_name("Monopolar Curved Scissors").id


def test_a_class_set_extends_the_open_project(session, emitted, clip):
    session.open(clip)
    session.project.labels[1, 4:8, 4:8] = 2
    emitted.clear()
    session.use_class_set(ClassSet("more", (*ENDOVIS2018.classes, InstrumentClass(9, "Stapler", "#ffffff"))))
    assert session.classes.by_id(9).name == "Stapler"
    assert emitted == ["contents_replaced"]
    reopened = session.open(clip)
    assert reopened.classes.by_id(9).name == "Stapler"
    assert (reopened.labels[1][4:8, 4:8] == 2).all()


def test_a_class_set_that_contradicts_the_project_changes_nothing(session, emitted, clip):
    session.open(clip)
    emitted.clear()
    with pytest.raises(ClassSetError):
        session.use_class_set(ENDOVIS2017)
    assert session.classes == ENDOVIS2018
    assert session.class_set == ENDOVIS2018
    assert emitted == []


def test_new_projects_use_the_classes_of_the_model_unless_others_are_chosen(session, clip, tiny_checkpoint):
    session.load_checkpoint(tiny_checkpoint, device="cpu")
    assert session.class_set == session.model.classes
    session.use_class_set(ENDOVIS2017)
    assert session.open(clip).classes == ENDOVIS2017


def test_a_class_is_trained_if_the_model_knows_its_name(session, tiny_checkpoint):
    assert not session.is_trained(1)
    session.load_checkpoint(tiny_checkpoint, device="cpu")
    session.use_class_set(ENDOVIS2017)
    trained = {session.classes.by_id(class_id).name for class_id in session.trained_class_ids()}
    assert trained == set(ENDOVIS2017.names) & set(ENDOVIS2018.names)


def test_segmenting_emits_each_frame(session, emitted, clip, tiny_checkpoint):
    session.open(clip)
    session.load_checkpoint(tiny_checkpoint, device="cpu")
    assert session.estimate([1], range(2), trial=False).frames_to_embed == 2
    emitted.clear()
    assert [report.frame_index for report in session.segment([1], [1, 0])] == [1, 0]
    assert emitted == ["frame_segmented"] * 2


def test_segmenting_needs_a_video_and_a_model(session, clip):
    with pytest.raises(ProjectError, match="Open one first"):
        next(session.segment([1], [0]))
    session.open(clip)
    with pytest.raises(CheckpointError, match="Load one first"):
        next(session.segment([1], [0]))


def test_a_closed_session_is_empty_and_can_open_again(session, clip, tiny_checkpoint):
    session.load_checkpoint(tiny_checkpoint, device="cpu")
    session.open(clip)
    session.close()
    assert (session.project, session.model, session.selected_class_id) == (None, None, None)
    assert session.open(clip).video.info.frame_count == 12


def test_every_error_here_is_one_line(session, tmp_path):
    for act in (lambda: session.open(tmp_path / "x.mp4"), lambda: session.load_checkpoint(tmp_path / "x.pth")):
        with pytest.raises(SurgicalSAMError) as caught:
            act()
        assert "\n" not in str(caught.value)


def test_counting_corrections_does_not_read_the_class_set_again(session, clip, monkeypatch):
    project = session.open(clip)
    for frame_index in range(6):
        project.labels[frame_index, 10:20, 10:20] = 1 + frame_index % 2
    reads = []
    unwrapped = ClassSet.from_json
    monkeypatch.setattr(ClassSet, "from_json", lambda record: (reads.append(1), unwrapped(record))[1])
    corrections = count_corrections(project)
    assert list(corrections.class_frames.values()) == [3, 3]
    assert reads == []
