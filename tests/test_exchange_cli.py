"""`surgicalsam export` and `import`, as a person or a script uses them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from surgicalsam_napari import cli
from surgicalsam_napari.exchange.registry import EXPORT_FORMATS
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.store import Project
from surgicalsam_napari.video import VideoReader

Run = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def clip(phantom_clip: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(phantom_clip, tmp_path / "clip.mp4"))


@pytest.fixture
def corrected(clip: Path) -> Path:
    """A project in which a person edited frames 2 and 5."""
    with Project.create(clip.with_suffix(".surgicalsam"), VideoReader(clip), ENDOVIS2018) as project:
        project.labels[2, 10:20, 10:20] = 3
        project.labels[5, 30:50, 10:20] = 7
        return project.folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> tuple[int, list[str], list[str]]:
        code = cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err.splitlines()

    return run


def complaints(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("surgicalsam: ")]


@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_exported_labels_are_imported_into_a_new_project(
    run: Run, corrected: Path, clip: Path, tmp_path: Path, format: str
) -> None:
    code, out, err = run("export", clip, "--out", tmp_path / "out", "--format", format, "--json")
    assert code == 0, err
    assert json.loads(out[-1])["frames"] == 2
    other = Path(shutil.copy(clip, tmp_path / "other.mp4"))
    code, out, err = run("import", tmp_path / "out", other, "--json")
    assert code == 0, err
    record = json.loads(out[-1])
    assert (record["format"], record["frames"], record["changed"], record["kept_pixels"]) == (format, 2, 2, 0)
    with Project.open(corrected) as first, Project.open(record["project"]) as second:
        np.testing.assert_array_equal(first.labels[:], second.labels[:])
    code, out, _ = run("import", tmp_path / "out", record["project"])
    assert (code, len(out)) == (0, 1)
    assert out[0].endswith(": Nothing was imported. 2 frames have these labels already.")


def test_classes_and_polygons_can_be_chosen(run: Run, corrected: Path, tmp_path: Path) -> None:
    options = ("--format", "coco", "--polygons", "--only", "large needle driver", "--no-images")
    code, _, err = run("export", corrected, "--out", tmp_path / "out", *options)
    assert code == 0, err
    record = json.loads((tmp_path / "out/annotations/instances_default.json").read_text())
    assert [category["name"] for category in record["categories"]] == ["Large Needle Driver"]
    assert [annotation["segmentation"] for annotation in record["annotations"]] == [[[10, 10, 20, 10, 20, 20, 10, 20]]]
    code, _, err = run("export", corrected, "--out", tmp_path / "other", "--polygons")
    assert code == 1
    assert "holds masks, not polygons" in complaints(err)[0]
    code, _, err = run("export", corrected, "--out", tmp_path / "other", "--only", "stapler")
    assert code == 1
    assert 'No class has the name "stapler"' in complaints(err)[0]


def test_the_help_lists_the_formats(run: Run) -> None:
    code, out, _ = run("export", "--help")
    assert code == 0
    assert all(name in " ".join(out) for name in EXPORT_FORMATS)


@pytest.mark.parametrize(("which", "frames"), [("Corrected", [2, 5]), ("ALL", range(12)), ("8:", range(8, 12)),
                                               ("-1", [11]), ("1:9:4", [1, 5]), (" 3 ", [3])])  # fmt: skip
def test_frames_to_export_can_be_chosen(
    run: Run, corrected: Path, tmp_path: Path, which: str, frames: Sequence[int]
) -> None:
    code, _, err = run("export", corrected, "--out", tmp_path / "out", "--frames", which, "--no-images")
    assert code == 0, err
    names = sorted(path.stem for path in (tmp_path / "out/annotations/clip").iterdir())
    assert names == [f"{frame_index:05d}" for frame_index in frames]


def test_without_corrections_there_is_nothing_to_export(run: Run, clip: Path, tmp_path: Path) -> None:
    Project.create(clip.with_suffix(".surgicalsam"), VideoReader(clip), ENDOVIS2018).close()
    code, _, err = run("export", clip, "--out", tmp_path / "out")
    assert code == 1
    assert "no frame that a person edited or verified" in complaints(err)[0]
    assert not (tmp_path / "out").exists()


def test_frames_and_pictures_can_be_left_out(run: Run, corrected: Path, clip: Path, tmp_path: Path) -> None:
    clip.unlink()  # labels without images need no video
    code, _, err = run("export", corrected, "--out", tmp_path / "out", "--frames", "4:8:1", "--no-images")
    assert code == 0, err
    assert sorted(path.name for path in (tmp_path / "out/annotations/clip").iterdir()) == [
        f"0000{n}.png" for n in range(4, 8)
    ]
    assert not (tmp_path / "out/images").exists()
    assert run("export", corrected, "--out", tmp_path / "out", "--no-images")[0] == 1
    assert run("export", corrected, "--out", tmp_path / "out", "--no-images", "--overwrite")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["export", "CLIP"], 2, "--out"),
        (["export", "CLIP", "--out", "OUT", "--format", "mpeg"], 2, "endovis, indexed-png, coco"),
        (["export", "CLIP", "--out", "OUT", "--frames", "1-4"], 1, "start:stop:step"),
        (["export", "CLIP", "--out", "OUT", "--frames", "1-4"], 1, '"corrected"'),
        (["export", "CLIP", "--out", "OUT", "--frames", "40:50"], 1, "0 to 11"),
        (["export", "CLIP", "--out", "OUT", "--frames", "12"], 1, "0 to 11"),
        (["export", "nowhere.mp4", "--out", "OUT"], 1, "There is no project"),
        (["import", "OUT"], 2, "PROJECT_OR_VIDEO"),
        (["import", "nowhere", "CLIP"], 1, "does not exist"),
        (["import", "EMPTY", "CLIP"], 1, "not a dataset of a known format"),
    ],
)
def test_mistakes_get_one_line_and_an_exit_code(
    run: Run, corrected: Path, clip: Path, tmp_path: Path, arguments: list[str], code: int, expected: str
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"CLIP": str(clip), "OUT": str(tmp_path / "out"), "EMPTY": str(tmp_path / "empty")}
    exit_code, out, err = run(*(places.get(argument, argument) for argument in arguments))
    assert (exit_code, out, len(complaints(err))) == (code, [], 1)
    assert expected in complaints(err)[0]


def test_problems_are_listed_per_file_and_the_new_project_is_removed(run: Run, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    for number in range(30):
        Image.fromarray(np.full((96, 128), 99, np.uint8)).save(tmp_path / "labels" / f"frame_{number:05d}.png")
    code, out, err = run("import", tmp_path / "labels", clip, "--classes", "endovis2018")
    assert (code, out, len(complaints(err))) == (1, [], 1)
    assert sum("has the value 99" in line for line in err if line not in complaints(err)) == 20
    assert "and 10 more" in err
    assert not clip.with_suffix(".surgicalsam").exists()


def test_new_classes_are_added_with_add_classes(run: Run, corrected: Path, clip: Path, tmp_path: Path) -> None:
    run("export", corrected, "--out", tmp_path / "out", "--no-images")
    (tmp_path / "mine.yaml").write_text("classes:\n- {id: 1, name: Clip Applier}\n")
    other = Path(shutil.copy(clip, tmp_path / "other.mp4"))
    Project.create(
        other.with_suffix(".surgicalsam"), VideoReader(other), type(ENDOVIS2018).from_yaml(tmp_path / "mine.yaml")
    ).close()
    assert run("import", tmp_path / "out", other)[0] == 1
    code, out, _ = run("import", tmp_path / "out", other, "--add-classes", "--json")
    assert (code, json.loads(out[-1])["new_classes"]) == (0, ["Large Needle Driver"])


# Labels of other tools -----------------------------------------------------------------------------------------------


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Crossing masks in frame 3, an annotation with only a box, and a frame without annotation."""
    names = [f"clip_mp4-{number:04d}_jpg.rf.7{number}.jpg" for number in (3, 6, 8)]
    crossing = [[5, 5, 30, 5, 30, 20, 5, 20], [20, 5, 40, 5, 40, 35, 20, 35]]
    record = {
        "images": [{"id": i, "file_name": name, "height": 96, "width": 128} for i, name in enumerate(names)],
        "categories": [{"id": 1, "name": "clip_applier"}, {"id": 2, "name": "Liver"}],
        "annotations": [
            {"image_id": 0, "category_id": 1, "segmentation": [crossing[0]]},
            {"image_id": 0, "category_id": 2, "segmentation": [crossing[1]]},
            {"image_id": 1, "category_id": 1, "segmentation": [crossing[0]]},
            {"image_id": 1, "category_id": 2, "segmentation": [], "bbox": [1, 1, 4, 4]},
        ],
    }
    (tmp_path / "labels.json").write_text(json.dumps(record))
    return tmp_path / "labels.json"


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_dry_run_shows_the_import_and_writes_nothing(run: Run, clip: Path, coco: Path, tmp_path: Path) -> None:
    before = files_below(tmp_path)
    choices = ("--similar-names", "--class", "Liver=", "--overlaps", "larger-below")
    Project.create(clip.with_suffix(".surgicalsam"), VideoReader(clip), ENDOVIS2018).close()
    before = files_below(tmp_path)
    code, out, err = run("import", coco, clip, "--dry-run", *choices)
    assert code == 0, err
    text = "\n".join(" ".join(line.split()) for line in out)
    assert "Recognised COCO JSON, 3 frames of clip" in text
    assert "0003 -> frame 3, 0006 -> frame 6" in text
    assert "Class clip_applier becomes Clip Applier (similar name; 2 frames)" in text
    assert "Class Liver is left out (1 frame)" in text
    assert "Left alone 1 frame without any annotation" in text
    assert "Skipped annotations without a mask (only a box): 1, such as annotations[3] of labels.json" in text
    code, out, _ = run("import", coco, clip, "--dry-run", *choices, "--json")
    record = json.loads(out[-1])
    assert (code, record["is_ready"], len(record["frames"]), len(record["unannotated"])) == (0, True, 2, 1)
    assert files_below(tmp_path) == before


def test_a_dry_run_without_a_project_makes_none(run: Run, clip: Path, coco: Path, tmp_path: Path) -> None:
    before = files_below(tmp_path)
    code, out, _ = run("import", coco, clip, "--dry-run", "--overlaps", "file-order")
    assert (code, out[0].split()[0]) == (0, "Recognised")
    assert files_below(tmp_path) == before


def test_what_is_not_decided_is_one_line_with_the_options(run: Run, clip: Path, coco: Path) -> None:
    Project.create(clip.with_suffix(".surgicalsam"), VideoReader(clip), ENDOVIS2018).close()
    code, _, err = run("import", coco, clip)
    (line,) = complaints(err)
    assert code == 1
    assert all(option in line for option in ("--similar-names", "--add-classes", "--class NAME=CLASS", "--overlaps"))
    assert run("import", coco, clip, "--dry-run")[0] == 1


def test_choices_are_options_of_the_import(run: Run, clip: Path, coco: Path) -> None:
    Project.create(clip.with_suffix(".surgicalsam"), VideoReader(clip), ENDOVIS2018).close()
    choices = (
        "--class",
        "clip_applier=Clip Applier",
        "--add-classes",
        "--overlaps",
        "Clip Applier",
        "--unannotated",
        "empty",
    )
    code, out, err = run("import", coco, clip, *choices, "--unannotated", "empty", "--json")
    assert code == 0, err
    record = json.loads(out[-1])
    assert (record["frames"], record["new_classes"], record["unannotated"]) == (3, ["Liver"], 0)
    assert record["skipped"] == [{"what": "annotations without a mask (only a box)", "count": 1}]
    with Project.open(record["project"]) as project:
        assert np.unique(project.labels[3]).tolist() == [0, 7, 8]
        assert project.labels[3][10, 25] == 7
        assert not project.labels[8].any()


def test_a_wrong_class_choice_is_explained(run: Run, clip: Path, coco: Path) -> None:
    assert "use NAME=CLASS" in " ".join(run("import", coco, clip, "--class", "Liver")[2])
