"""The classes of a project change after work has begun: labels, provenance and checkpoints follow by identity."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from surgicalsam_napari.cli import main
from surgicalsam_napari.errors import ClassSetError
from surgicalsam_napari.exchange.exporting import export_frames
from surgicalsam_napari.exchange.formats.indexed_png import write_classes, write_label_map
from surgicalsam_napari.exchange.importing import check_import
from surgicalsam_napari.exchange.registry import EXPORT_FORMATS, open_dataset
from surgicalsam_napari.instruments import ENDOVIS2018, PALETTE, ClassSet, InstrumentClass, matching_class_ids, same_classes
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.store.project_classes import FormerNameError, ProjectClasses, free_color
from surgicalsam_napari.video import VideoReader
from surgicalsam_training.data.training_data import open_training_data

DRIVER, SCISSORS = 3, 4
PRESENT = ProjectClasses.of(ENDOVIS2018)


def make_project(folder: Path, shade: int) -> Project:
    """Four frames; frame 1 has a large needle driver that a person painted."""
    folder.mkdir()
    for number in range(4):
        Image.new("RGB", (16, 12), (number, shade, 0)).save(folder / f"{number}.png")
    made = Project.create(folder.with_suffix(".surgicalsam"), VideoReader(folder), ENDOVIS2018)
    made.labels[1, 2:5, 2:5] = DRIVER
    return made


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with make_project(tmp_path / "case", 0) as made:
        yield made


# ---- names


def test_a_renamed_class_remembers_its_former_names() -> None:
    renamed = PRESENT.renamed(DRIVER, "Needle driver").renamed(DRIVER, " Driver ")
    assert renamed.in_use.by_id(DRIVER).name == "Driver"
    assert renamed.in_use.by_id(DRIVER).former_names == ("Needle driver", "Large Needle Driver")
    assert renamed.in_use.by_name("large needle driver").id == DRIVER
    back = renamed.renamed(DRIVER, "Large Needle Driver")
    assert back.in_use.by_id(DRIVER).former_names == ("Driver", "Needle driver")


def test_a_renamed_class_matches_a_checkpoint_with_its_old_name() -> None:
    classes = PRESENT.renamed(DRIVER, "Driver").in_use
    assert matching_class_ids(classes, ENDOVIS2018, [DRIVER]) == [DRIVER]
    assert same_classes(ENDOVIS2018, classes) == {class_id: class_id for class_id in ENDOVIS2018.ids}


def test_a_checkpoint_of_a_renamed_class_matches_projects_with_the_old_name() -> None:
    trained = ClassSet("trained", (InstrumentClass(1, "Driver", "#112233", ("Large Needle Driver",)),))
    assert same_classes(ENDOVIS2018, trained) == {DRIVER: 1}


def test_present_names_count_more_than_former_ones() -> None:
    swapped = ClassSet(
        "swapped", (InstrumentClass(1, "A", "#112233", ("B",)), InstrumentClass(2, "B", "#112234", ("A", "C")))
    )
    others = ClassSet("others", (InstrumentClass(5, "B", "#112233"), InstrumentClass(6, "C", "#112234")))
    assert same_classes(swapped, others) == {2: 5}
    assert swapped.by_name("a").id == 1


def test_a_former_name_of_another_class_is_taken_only_if_asked() -> None:
    renamed = PRESENT.renamed(SCISSORS, "Curved scissors")
    with pytest.raises(FormerNameError, match="earlier name of Curved scissors"):
        renamed.added("Monopolar Curved Scissors")
    taken = renamed.added("Monopolar Curved Scissors", takes_over=True)
    assert same_classes(taken.in_use, ENDOVIS2018)[8] == SCISSORS
    assert SCISSORS not in same_classes(taken.in_use, ENDOVIS2018)


@pytest.mark.parametrize("name", ["", "  ", "clip applier"])
def test_a_name_that_is_empty_or_in_use_is_refused(name: str) -> None:
    with pytest.raises(ClassSetError, match=r"Enter a name|Choose another name"):
        PRESENT.added(name)
    with pytest.raises(ClassSetError, match=r"Enter a name|Choose another name"):
        PRESENT.renamed(DRIVER, name)


# ---- ids, columns, colours


def test_a_new_class_gets_an_id_that_was_never_used() -> None:
    assert PRESENT.without(7).extended(ENDOVIS2018).in_use.by_id(7).name == "Clip Applier"
    fewer = PRESENT.added("Stapler").without(8)
    assert fewer.added("Swab").in_use.ids == (*ENDOVIS2018.ids, 9)
    assert fewer.added("stapler").in_use.by_id(8).name == "Stapler"  # the same class comes back
    assert fewer.added("stapler").removed == ()


def test_a_new_class_gets_a_colour_that_is_free() -> None:
    assert PRESENT.added("Stapler").in_use.by_id(8).color == PALETTE[7]
    many = list(PALETTE)
    for _ in range(8):
        many.append(free_color(many))
    assert len(set(many)) == len(many)


def test_order_and_removal_leave_the_columns_as_they_are() -> None:
    changed = PRESENT.reordered((7, 6, 5, 4, 3, 2, 1)).without(2)
    assert changed.in_use.ids == (7, 6, 5, 4, 3, 1)
    assert changed.columns == ENDOVIS2018.ids
    assert ProjectClasses.from_json(json.loads(json.dumps(changed.to_json()))) == changed


def test_classes_of_an_earlier_version_are_read() -> None:
    assert ProjectClasses.from_json(ENDOVIS2018.to_json()) == PRESENT
    assert PRESENT.to_json() == ENDOVIS2018.to_json()


def test_the_last_class_cannot_be_removed() -> None:
    with pytest.raises(ClassSetError, match="only one"):
        ProjectClasses.of(ClassSet("one", (InstrumentClass(1, "A", "#112233"),))).without(1)


def test_an_order_that_misses_a_class_is_refused() -> None:
    with pytest.raises(ClassSetError, match="each class"):
        PRESENT.reordered((1, 2))


# ---- a project with work in it


def test_labels_and_provenance_follow_a_class_through_every_change(project: Project) -> None:
    project.labels.verify(2, [SCISSORS])
    project.change_classes(lambda classes: classes.renamed(DRIVER, "Driver"))
    project.change_classes(lambda classes: classes.recoloured(DRIVER, "#010203"))
    project.change_classes(lambda classes: classes.reordered((7, 6, 5, 4, 3, 2, 1)))
    project.change_classes(lambda classes: classes.added("Stapler"))
    project.change_classes(lambda classes: classes.without(6))
    project.labels[0, 0, 0] = 8
    project.labels[0, 0, 1] = DRIVER
    for opened in (project, Project.open(project.folder)):
        assert [instrument.name for instrument in opened.classes][-3:] == ["Prograsp Forceps", "Bipolar Forceps", "Stapler"]
        assert opened.classes.by_id(DRIVER).color == "#010203"
        assert opened.classes.ids == (7, 5, 4, 3, 2, 1, 8)
        assert opened.labels.provenance_table().tolist() == [
            [0, 0, 0, 3, 0, 0, 3],
            [0, 0, 0, 3, 0, 0, 0],
            [0, 0, 4, 0, 0, 0, 0],
            [0] * 7,
        ]
        assert opened.labels.row("provenance", 2).tolist() == [0, 0, 4, 0, 0, 0, 0]
        assert opened.labels.locked_class_ids(2) == [SCISSORS]
        assert opened.labels.provenance(1, DRIVER) == Provenance.EDITED
        assert np.count_nonzero(opened.labels[1] == DRIVER) == 9


def test_undo_restores_the_right_classes_after_they_were_reordered(project: Project) -> None:
    with project.action("Clear", 1) as action:
        project.labels.write_edit(1, np.zeros((12, 16), np.uint8), action=action)
    project.labels.verify(3, [SCISSORS])
    project.change_classes(lambda classes: classes.reordered((4, 3, 2, 1, 7, 6, 5)))
    assert project.history.undo().frame_indices == (1,)
    assert np.count_nonzero(project.labels[1] == DRIVER) == 9
    assert project.labels.provenance(1, DRIVER) == Provenance.EDITED
    assert project.labels.provenance(3, SCISSORS) == Provenance.VERIFIED


def test_a_class_with_labels_cannot_be_removed(project: Project) -> None:
    with pytest.raises(ClassSetError, match="frame 1 shows it"):
        project.change_classes(lambda classes: classes.without(DRIVER))
    assert project.classes == ENDOVIS2018


def test_a_whole_frame_can_be_verified_after_a_class_was_removed(project: Project) -> None:
    project.change_classes(lambda classes: classes.without(7))
    project.labels.verify(1)
    project.labels[1, 10, 10] = SCISSORS
    assert project.labels[1][10, 10] == 0  # the background is verified, too
    with pytest.raises(ClassSetError, match="label 7"):
        project.labels[0, 0, 0] = 7


def test_an_undo_that_brings_labels_back_brings_their_class_back(project: Project) -> None:
    came_back = []
    project.classes_came_back.connect(lambda: came_back.append(project.classes.ids))
    with project.action("Clear", 1) as action:
        project.labels.write_edit(1, np.zeros((12, 16), np.uint8), action=action)
    project.change_classes(lambda classes: classes.without(DRIVER))
    project.change_classes(lambda classes: classes.renamed(SCISSORS, "Large Needle Driver"))
    project.history.undo()
    assert project.classes.by_id(DRIVER).name == "Large Needle Driver 3"
    assert np.count_nonzero(project.labels[1] == DRIVER) == 9
    assert came_back == [(1, 2, 4, 5, 6, 7, 3)]
    assert Project.open(project.folder).classes == project.classes


def test_a_class_set_with_the_old_name_extends_a_project_with_the_new_one(project: Project) -> None:
    project.change_classes(lambda classes: classes.renamed(DRIVER, "Driver"))
    project.extend_classes(ENDOVIS2018)
    assert project.classes.by_id(DRIVER).name == "Driver"


# ---- the command line


def test_classes_are_listed_and_changed_on_the_command_line(project: Project, capsys: pytest.CaptureFixture) -> None:
    def run(*arguments: str) -> list[str]:
        code = main(["classes", str(project.folder), *arguments])
        captured = capsys.readouterr()
        return [str(code), *(captured.out or captured.err).splitlines()]

    assert len(run()) == 8
    lines = run("--rename", "large needle driver", "Driver", "--add", "Stapler", "--color", "Stapler", "#010203")
    assert lines[3].endswith("Driver   formerly Large Needle Driver")
    assert lines[-1] == "  8  #010203  Stapler"
    assert run("--remove", "Driver")[1].startswith("surgicalsam: Driver cannot be removed: frame 1 shows it")
    assert run("--add", "Large Needle Driver")[1].startswith("surgicalsam: Large Needle Driver is an earlier name of Driver")
    assert run("--add", "Large Needle Driver", "--take-over")[-1].endswith("Large Needle Driver")
    assert run("--remove", "Large Needle Driver", "--remove", "Clip Applier")[0] == "0"
    names = ["Stapler", "Suction Instrument", "Ultrasound Probe", "Monopolar Curved Scissors", "Driver"]
    names += ["Prograsp Forceps", "Bipolar Forceps"]
    assert [line.split("  ")[-1] for line in run("--order", ",".join(names))[1:]] == names
    assert run("--out", str(project.folder.with_name("ours.yaml")))[0] == "0"
    assert ClassSet.from_yaml(project.folder.with_name("ours.yaml")) == Project.open(project.folder).classes
    main(["classes", str(project.folder), "--json"])
    assert [entry["id"] for entry in json.loads(capsys.readouterr().out)["classes"]] == [8, 6, 5, 4, 3, 2, 1]


# ---- checkpoints, datasets, training


def test_a_renamed_class_imports_labels_with_its_old_name(project: Project, tmp_path: Path) -> None:
    list(export_frames(project, [1], tmp_path / "out", "coco", images=False))
    project.change_classes(lambda classes: classes.renamed(DRIVER, "Driver"))
    project.labels[1] = 0
    plan = check_import(project, open_dataset(tmp_path / "out"))
    assert plan.class_ids[DRIVER] == DRIVER
    assert plan.new_classes == ()


@pytest.mark.parametrize("format", list(EXPORT_FORMATS))
def test_an_export_remembers_former_names(project: Project, tmp_path: Path, format: str) -> None:
    project.change_classes(lambda classes: classes.renamed(DRIVER, "Driver"))
    list(export_frames(project, [1], tmp_path / "out", format, images=False))
    assert same_classes(open_dataset(tmp_path / "out").classes, ENDOVIS2018)[DRIVER] == DRIVER


def test_an_import_gives_no_id_of_a_removed_class(project: Project, tmp_path: Path) -> None:
    project.change_classes(lambda classes: classes.added("Stapler").without(8))
    labels = np.zeros((12, 16), np.uint8)
    labels[0, 0] = 3
    write_classes(tmp_path / "out", ClassSet("other", (InstrumentClass(3, "Swab", "#112233"),)), "frames")
    write_label_map(tmp_path / "out", 0, labels, ENDOVIS2018)
    plan = check_import(project, open_dataset(tmp_path / "out"), add_classes=True)
    assert [instrument.id for instrument in plan.new_classes] == [9]


def test_training_data_of_two_projects_share_a_class_that_one_of_them_renamed(project: Project, tmp_path: Path) -> None:
    other = make_project(tmp_path / "other", 99)
    other.labels[2, 0, 0] = SCISSORS
    other.close()
    project.change_classes(lambda classes: classes.renamed(DRIVER, "Driver"))
    folders = [project.folder, other.folder]
    for base in (None, ENDOVIS2018, project.classes):
        with closing(open_training_data(folders, base=base)) as data:
            assert data.classes.ids == ENDOVIS2018.ids
            assert data.present_class_ids(0) == data.present_class_ids(1) == (DRIVER,)
            assert data.only(["Driver"]).present_class_ids(1) == data.only(["Large needle driver"]).present_class_ids(0)
    with closing(open_training_data(folders, base=None, ignored_classes=["Driver"])) as data:
        assert data.shown_class_ids == {SCISSORS}
