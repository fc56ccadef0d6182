"""Labels of parts: a project in the project of their instruments, in which every part lies inside its instrument."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from surgicalsam_napari.cli import main
from surgicalsam_napari.errors import ClassSetError, ProjectError
from surgicalsam_napari.instruments import ENDOVIS2018, ClassSet
from surgicalsam_napari.model.surgical_sam import FramePrediction
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project, Provenance, ViewerLabels
from surgicalsam_napari.store.backup import backing_up, restoring
from surgicalsam_napari.store.summary import summarize
from surgicalsam_napari.video import VideoReader

DRIVER, SCISSORS, PROBE = 3, 4, 5
SHAFT, WRIST = 1, 2
BOX = np.s_[2:8, 2:8]


def video_folder(folder: Path, count: int = 4) -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        Image.new("RGB", (16, 12), (number, 40, 0)).save(folder / f"{number}.png")
    return folder


def make_project(tmp_path: Path) -> Project:
    """Four frames; frame 1 has a needle driver, whose parts are shaft and wrist. Scissors have a shaft, others no parts."""
    project = Project.create(tmp_path / "case.surgicalsam", VideoReader(video_folder(tmp_path / "case")), ENDOVIS2018)
    project.change_classes(lambda present: present.part_added("Shaft", [DRIVER, SCISSORS]).part_added("Wrist", [DRIVER]))
    project.labels[1, 2:8, 2:8] = DRIVER
    return project


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with make_project(tmp_path) as made:
        yield made


def predicted(label_map: np.ndarray, class_ids: tuple[int, ...] = (SHAFT, WRIST)) -> FramePrediction:
    count = len(class_ids)
    return FramePrediction(
        class_ids=class_ids,
        label_map=label_map,
        present=np.array([(label_map == i).any() for i in class_ids]),
        predicted_iou=np.full(count, 0.9, np.float32),
        presence=np.full(count, 0.8, np.float32),
        contested=np.zeros(count, np.float32),
    )


# ---- a project in a project


def test_a_project_without_parts_has_none(tmp_path: Path) -> None:
    with Project.create(tmp_path / "a.surgicalsam", VideoReader(video_folder(tmp_path / "a")), ENDOVIS2018) as project:
        assert project.parts is None
        with pytest.raises(ProjectError, match=r"classes without parts. Give a class parts"):
            project.open_parts()


def test_parts_are_a_project_of_the_same_video(project: Project) -> None:
    assert project.parts is None
    parts = project.open_parts()
    assert parts is project.parts and parts.whole is project
    assert parts.classes.names == ("Shaft", "Wrist")
    assert parts.video is project.video and parts.labels.shape == project.labels.shape
    assert parts.notes is project.notes


def test_embeddings_are_those_of_the_instruments(project: Project) -> None:
    store = project.open_parts().embeddings("digest", (4, 2, 3))
    store.write([1], np.ones((1, 4, 2, 3), np.float16))
    assert store is project.embeddings("digest", (4, 2, 3))
    assert not (project.folder / "parts" / "embeddings").exists()
    assert [each.valid_count for each in project.open_parts().embedding_stores()] == [1]


def test_parts_open_by_their_own_folder(project: Project) -> None:
    project.open_parts().labels[1, 3, 3] = SHAFT
    project.close()
    with Project.open(project.folder / "parts") as parts:
        assert parts.labels[1, 3, 3] == SHAFT
        assert parts.whole is not None and parts.whole.folder == project.folder


def test_parts_that_left_their_project_say_so(project: Project, tmp_path: Path) -> None:
    folder = project.open_parts().folder
    project.close()
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(ProjectError, match=r"holds labels of parts.*Move it back there"):
        Project.open(tmp_path / "elsewhere")


def test_parts_have_a_history_of_their_own(project: Project) -> None:
    parts = project.open_parts()
    with parts.action("Paint the shaft", 1) as action:
        parts.labels.write_edit(1, np.full((12, 16), SHAFT, np.uint8), action=action)
    assert not project.history.entries()
    parts.history.undo()
    assert not parts.labels.frame(1).any() and project.labels.frame(1).any()


def test_a_claim_holds_for_both(project: Project) -> None:
    parts = project.open_parts()
    assert parts.claim() is None
    with Project.open(project.folder / "parts") as second:
        owner = second.claim()
        assert owner is not None and not second.writable
        with pytest.raises(ProjectError, match=r"case.surgicalsam is open for editing"):
            second.labels[1, 3, 3] = SHAFT
    parts.labels[1, 3, 3] = SHAFT


def test_a_video_that_grew_has_parts_in_its_new_frames(project: Project, tmp_path: Path) -> None:
    project.open_parts().labels[1, 3, 3] = SHAFT
    project.close()
    video_folder(tmp_path / "case", 6)
    with Project.open(project.folder) as grown:
        parts = grown.open_parts()
        assert len(parts.labels) == 6 and parts.labels[1, 3, 3] == SHAFT
        grown.labels[5, 2:8, 2:8] = DRIVER
        parts.labels[5, 2:5, 2:5] = WRIST
        assert np.count_nonzero(parts.labels.frame(5)) == 9
        assert parts.manifest.video.frame_count == 6


def test_a_project_that_moved_finds_the_video_of_its_parts(project: Project, tmp_path: Path) -> None:
    project.open_parts()
    project.close()
    (tmp_path / "new").mkdir()
    for name in ("case", "case.surgicalsam"):
        (tmp_path / name).rename(tmp_path / "new" / name)
    with Project.open(tmp_path / "new" / "case.surgicalsam" / "parts") as parts:
        assert parts.video.info.path == tmp_path / "new" / "case"
        assert parts.manifest.video_path == tmp_path / "new" / "case"


# ---- inside the instrument


def test_a_stroke_over_the_edge_stays_inside_the_instrument(project: Project) -> None:
    parts = project.open_parts()
    parts.labels[1, 0:6, 0:6] = SHAFT
    expected = np.zeros((12, 16), bool)
    expected[2:6, 2:6] = True
    np.testing.assert_array_equal(parts.labels.frame(1) == SHAFT, expected)
    np.testing.assert_array_equal(parts.labels.painted(1), expected)


def test_a_part_that_the_instrument_does_not_have_is_not_written(project: Project) -> None:
    project.labels[2, 0:6, 0:6] = SCISSORS
    project.labels[2, 6:12, 0:6] = PROBE
    parts = project.open_parts()
    parts.labels[2, :, :] = WRIST
    assert not parts.labels.frame(2).any()
    parts.labels[2, :, :] = SHAFT
    assert np.count_nonzero(parts.labels.frame(2)) == 36


def test_parts_come_back_when_the_instrument_grows_again(project: Project) -> None:
    parts = project.open_parts()
    parts.labels[1, 2:8, 2:8] = SHAFT
    project.labels[1, 2:8, 5:8] = 0
    assert np.count_nonzero(parts.labels.frame(1)) == 18
    parts.labels[1, 2:4, 2:5] = WRIST
    project.labels[1, 2:8, 5:8] = DRIVER
    np.testing.assert_array_equal(parts.labels.frame(1)[2:8, 5:8], SHAFT)
    assert np.count_nonzero(parts.labels.frame(1) == WRIST) == 6


def test_no_edit_touches_parts_that_are_hidden(project: Project) -> None:
    parts = project.open_parts()
    parts.labels[1, 2:8, 2:8] = SHAFT
    project.labels[1, 2:8, 5:8] = 0
    parts.labels[1] = 0  # a person erases all that can be seen
    parts.labels.write_edit(1, np.zeros((12, 16), np.uint8), decided=np.ones((12, 16), bool))
    parts.labels.write_import(1, np.full((12, 16), WRIST, np.uint8), (SHAFT, WRIST))
    parts.labels.write_prediction(1, predicted(np.full((12, 16), WRIST, np.uint8)))
    project.labels[1, 2:8, 5:8] = DRIVER
    np.testing.assert_array_equal(parts.labels.frame(1)[2:8, 5:8], SHAFT)
    assert not parts.labels.frame(1)[2:8, 2:5].any()


def test_a_prediction_is_clipped_by_the_instrument(project: Project) -> None:
    parts = project.open_parts()
    label_map = np.full((12, 16), SHAFT, np.uint8)
    label_map[10:] = WRIST
    parts.labels.write_prediction(1, predicted(label_map))
    assert np.count_nonzero(parts.labels.frame(1) == SHAFT) == 36
    assert parts.labels.provenance(1, WRIST) == Provenance.ABSENT  # it was outside only
    assert not parts.labels.write_prediction(0, replace(predicted(label_map), present=np.array([True, True])))


def test_an_import_is_clipped_and_paints_only_the_instrument(project: Project) -> None:
    parts = project.open_parts()
    parts.labels.write_import(1, np.full((12, 16), SHAFT, np.uint8), (SHAFT, WRIST))
    assert np.count_nonzero(parts.labels.painted(1)) == np.count_nonzero(parts.labels.frame(1)) == 36
    assert np.count_nonzero(~parts.labels.may_hold(1, np.full((12, 16), SHAFT, np.uint8))) == 12 * 16 - 36


def test_the_viewer_undoes_a_stroke_on_parts(project: Project) -> None:
    parts = project.open_parts()
    viewed = ViewerLabels(parts.labels)
    viewed[1]
    region = np.asarray(viewed[1, 0:6, 0:6]).copy()
    viewed[1, 0:6, 0:6] = np.full((6, 6), SHAFT, np.uint8)
    assert np.count_nonzero(parts.labels.frame(1)) == 16
    viewed[1, 0:6, 0:6] = region
    assert not parts.labels.frame(1).any() and not parts.labels.is_painted(1)
    assert parts.labels.provenance(1, SHAFT) == Provenance.EMPTY


def test_undo_brings_back_a_hidden_part_that_a_stroke_covered(project: Project) -> None:
    parts = project.open_parts()
    parts.labels[1, 2:8, 2:8] = WRIST
    project.labels[1, 2:8, 2:8] = SCISSORS  # scissors have no wrist: it is hidden
    viewed = ViewerLabels(parts.labels)
    region = np.asarray(viewed[1, 0:6, 0:6]).copy()
    assert not region.any()
    viewed[1, 0:6, 0:6] = np.full((6, 6), SHAFT, np.uint8)
    assert np.count_nonzero(parts.labels.frame(1) == SHAFT) == 16
    viewed[1, 0:6, 0:6] = region
    assert not parts.labels.frame(1).any()
    project.labels[1, 2:8, 2:8] = DRIVER
    assert np.count_nonzero(parts.labels.frame(1) == WRIST) == 36


def test_a_vote_or_smoothing_stays_inside_the_instrument(project: Project) -> None:
    parts = project.open_parts()
    parts.labels.write_prediction(1, predicted(np.full((12, 16), SHAFT, np.uint8)))
    parts.labels.relabel_predictions(1, np.full((12, 16), WRIST, np.uint8))
    assert np.count_nonzero(parts.labels.files.labels(1)) == np.count_nonzero(parts.labels.frame(1) == WRIST) == 36


def test_a_change_of_the_instrument_is_reported_by_its_parts(project: Project) -> None:
    changed: list[int] = []
    project.open_parts().labels.changed.connect(changed.append)
    project.labels[2, 0:3, 0:3] = DRIVER
    assert changed == [2]


# ---- the parts of a class


def test_a_part_is_renamed_in_both(project: Project) -> None:
    parts = project.open_parts()
    parts.change_classes(lambda present: present.renamed(WRIST, "Joint").added("Tip"))
    assert project.classes.parts is not None
    assert project.classes.parts.names == parts.classes.names == ("Shaft", "Joint", "Tip")
    project.change_classes(lambda present: present.with_parts(lambda parts: parts.renamed(SHAFT, "Tube")))
    assert parts.classes.names == ("Tube", "Joint", "Tip")
    parts.labels[1, 3, 3] = SHAFT
    project.close()
    with Project.open(project.folder) as again:
        assert again.open_parts().classes.names == ("Tube", "Joint", "Tip")
        assert again.open_parts().labels[1, 3, 3] == SHAFT


def test_a_part_with_labels_is_not_removed(project: Project) -> None:
    parts = project.open_parts()
    parts.labels[1, 3, 3] = WRIST
    with pytest.raises(ClassSetError, match=r"Wrist cannot be .*frame 1 shows it"):
        project.change_classes(lambda present: present.without_part(WRIST))
    with pytest.raises(ClassSetError, match=r"Wrist cannot be taken from Large Needle Driver: frame 1 shows it"):
        project.change_classes(lambda present: present.with_parts_of(DRIVER, [SHAFT]))
    project.labels[1, 3, 3] = 0  # hidden, and still there
    with pytest.raises(ClassSetError, match=r"Wrist cannot be .*frame 1 shows it"):
        project.change_classes(lambda present: present.without_part(WRIST))
    project.labels[1, 3, 3] = DRIVER
    parts.labels[1, 3, 3] = 0
    project.change_classes(lambda present: present.without_part(WRIST))
    assert parts.classes.names == ("Shaft",) and project.classes.by_id(DRIVER).parts == (SHAFT,)
    with pytest.raises(ClassSetError, match=r"Shaft is its only one"):
        project.change_classes(lambda present: present.without_part(SHAFT))


def test_a_removed_part_comes_back_with_its_labels(project: Project) -> None:
    parts = project.open_parts()
    label_map = np.where(project.labels.frame(1) == DRIVER, WRIST, 0).astype(np.uint8)
    with parts.action("Paint", 1) as action:
        parts.labels.write_edit(1, label_map, action=action)
    with parts.action("Erase", 1) as action:
        parts.labels.write_edit(1, np.zeros_like(label_map), action=action)
    project.change_classes(lambda present: present.without_part(WRIST))
    parts.history.undo()
    assert parts.classes.names == ("Shaft", "Wrist") and project.classes.by_id(DRIVER).parts == (SHAFT, WRIST)
    np.testing.assert_array_equal(parts.labels.frame(1), label_map)


def test_an_earlier_version_that_drops_the_parts_loses_nothing(project: Project) -> None:
    project.open_parts().labels[1, 3, 3] = WRIST
    manifest = project.manifest
    record = {"name": manifest.class_set["name"], "classes": [
        {key: value for key, value in entry.items() if key != "parts"} for entry in manifest.class_set["classes"]
    ]}  # fmt: skip
    project._change_manifest(lambda manifest: manifest.changed(class_set=record))
    project.close()
    with Project.open(project.folder) as again:
        assert again.classes.parts is not None and not again.classes.has_parts
        again.change_classes(lambda present: present.with_parts_of(DRIVER, [SHAFT, WRIST]))
        assert again.open_parts().labels[1, 3, 3] == WRIST


# ---- check, back up, summarize


def test_a_check_finds_damage_of_parts(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.open_parts().labels[1, 3, 3] = SHAFT
    project.close()
    folder = project.folder / "parts" / "labels"
    (chunk,) = [path for path in folder.iterdir() if path.name.startswith("c.1.")]
    chunk.unlink()
    assert main(["check", str(project.folder), "--json"]) == 1
    (damage,) = json.loads(capsys.readouterr().out)["damaged"]
    assert damage["frame"] == 1 and Path(damage["file"]) == chunk
    with Session() as session:
        assert "parts should be intact" in session.open(project.folder).notice
    assert main(["check", str(project.folder), "--clear", "1"]) == 0
    with Project.open(project.folder) as again:
        assert not again.open_parts().labels.frame(1).any() and again.labels.frame(1).any()


def test_lost_parts_leave_the_instruments_usable(project: Project) -> None:
    project.open_parts().labels[1, 3, 3] = SHAFT
    project.close()
    (project.folder / "parts" / "project.json").unlink()
    with Session() as session:
        assert "parts should have a project.json" in session.open(project.folder).notice
        assert session.project is not None and session.project.labels.frame(1).any()
        with pytest.raises(ProjectError, match=r"Restore it from a backup"):
            session.show_parts(True)


@pytest.mark.parametrize("of_parts", [False, True])
def test_a_backup_holds_the_parts(project: Project, tmp_path: Path, of_parts: bool) -> None:
    parts = project.open_parts()
    parts.labels[1, 3, 3] = SHAFT
    project.embeddings("digest", (4, 2, 3)).write([1], np.ones((1, 4, 2, 3), np.float16))
    for _report in backing_up(parts if of_parts else project, tmp_path / "backup.zip"):
        pass
    for _report in restoring(tmp_path / "backup.zip", tmp_path / "restored.surgicalsam"):
        pass
    with Project.open(tmp_path / "restored.surgicalsam") as restored:
        assert restored.open_parts().labels[1, 3, 3] == SHAFT


def test_info_and_summary_count_the_parts(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.open_parts().labels[1, 3, 3] = SHAFT
    project.close()
    assert main(["info", str(project.folder), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["parts"]["provenance"]["Shaft"]["edited"] == 1 and record["frames"] == 4
    assert main(["info", str(project.folder)]) == 0
    assert "\nParts\n  1 Shaft" in capsys.readouterr().out
    assert summarize(project.folder).parts_corrected == 1
    assert summarize(project.folder / "parts").corrected == 1


# ---- the command line


def test_parts_of_classes_on_the_command_line(project: Project, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    project.close()
    folder = str(project.folder)
    assert main(["classes", folder, "--parts", "Ultrasound Probe: shaft", "--parts", "Clip Applier: Shaft, Tip"]) == 0
    printed = capsys.readouterr().out
    assert "Ultrasound Probe   parts: Shaft\n" in printed and "Clip Applier   parts: Shaft, Tip\n" in printed
    assert main(["classes", folder, "--parts", "Clip Applier:", "--json"]) == 0
    classes = json.loads(capsys.readouterr().out)
    assert [part["name"] for part in classes["parts"]] == ["Shaft", "Wrist", "Tip"]
    assert "parts" not in classes["classes"][6] and classes["classes"][2]["parts"] == [1, 2]
    assert main(["classes", folder, "--parts", "Clip Applier"]) == 2
    assert main(["classes", folder, "--out", str(tmp_path / "set.yaml")]) == 0
    capsys.readouterr()
    Project.open(folder).open_parts().close()
    assert main(["classes", f"{folder}/parts", "--rename", "Tip", "Jaw", "--remove", "Wrist"]) == 0
    assert capsys.readouterr().out.split() == ["1", "#68d2ff", "Shaft", "3", "#cbfcbc", "Jaw", "formerly", "Tip"]
    with Project.create(tmp_path / "b.surgicalsam", VideoReader(tmp_path / "case"), ENDOVIS2018) as other:
        other.extend_classes(ClassSet.from_yaml(tmp_path / "set.yaml"))
        assert [part.name for part in other.classes.parts_of(DRIVER)] == ["Shaft", "Wrist"]


def test_a_model_that_knows_no_parts_says_what_to_do(
    project: Project, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = project.open_parts().folder
    project.close()
    command = ["segment", str(parts), "--all", "--checkpoint", str(tiny_checkpoint)]
    assert main(command) == 1
    assert "knows none of the parts (Shaft, Wrist)" in (error := capsys.readouterr().err)
    assert f'surgicalsam learn "{parts}"' in error
