"""A project folder: made completely, found again after a move, and never half changed."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from surgicalsam_napari import files
from surgicalsam_napari.errors import ClassSetError, DiskSpaceError, ProjectError, SurgicalSAMError
from surgicalsam_napari.instruments import ENDOVIS2017, ENDOVIS2018, ClassSet, InstrumentClass
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.store.provenance import TABLES
from surgicalsam_napari.video import VideoReader


def write_images(folder: Path, seed: int = 0, count: int = 4, size: tuple[int, int] = (24, 32)) -> Path:
    folder.mkdir(parents=True)
    for index in range(count):
        pixels = np.random.default_rng([seed, index]).integers(0, 255, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"frame{index:03}.png")
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "case" / "frames")


@pytest.fixture
def project(images: Path) -> Iterator[Project]:
    with Project.open_or_create(VideoReader(images), ENDOVIS2018) as project:
        yield project


@pytest.fixture
def painted_project(project: Project) -> Project:
    project.labels[1, 3:9, 3:9] = 3
    project.embeddings("abc", (4, 2, 2)).write([2], np.ones((1, 4, 2, 2)))
    project.record_checkpoint({"digest": "d1", "name": "light"})
    return project


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def check_is_painted_project(project: Project) -> None:
    assert np.count_nonzero(project.labels[1] == 3) == 36
    assert project.labels.provenance(1, 3) == Provenance.EDITED
    assert project.embeddings("abc", (4, 2, 2)).missing(range(4)) == [0, 1, 3]
    assert [checkpoint["name"] for checkpoint in project.manifest.checkpoints] == ["light"]
    assert project.classes == ENDOVIS2018


def test_a_project_lies_beside_its_video(images: Path, project: Project) -> None:
    assert project.folder == images.with_name("frames.surgicalsam")
    assert Project.default_folder("/somewhere/clip.v2.mp4") == Path("/somewhere/clip.v2.surgicalsam").absolute()
    assert project.labels.shape == (4, 24, 32)
    assert project.video.info.path == images


def test_reopening_restores_the_whole_project(painted_project: Project) -> None:
    painted_project.close()
    with Project.open(painted_project.folder) as again:
        check_is_painted_project(again)
        np.testing.assert_array_equal(again.video.frame(2), VideoReader(painted_project.manifest.video_path).frame(2))
    with Project.open_or_create(VideoReader(painted_project.manifest.video_path), ENDOVIS2017) as again:
        check_is_painted_project(again)


def test_a_project_is_a_zarr_group(painted_project: Project) -> None:
    import zarr

    group = zarr.open_group(painted_project.folder, mode="r")
    assert group.attrs["format"] == "surgicalsam-project"
    np.testing.assert_array_equal(group["labels"][1], painted_project.labels[1])
    assert group["embeddings/abc/embeddings"].shape == (4, 4, 2, 2)
    assert group["presence"].shape == (4, 7)


def test_checkpoints_are_numbered_and_recorded_once(project: Project) -> None:
    assert project.record_checkpoint({"digest": "a", "name": "first"}) == 1
    assert project.record_checkpoint({"digest": "b", "name": "second"}) == 2
    with Project.open(project.folder) as other:
        assert other.record_checkpoint({"digest": "a", "name": "first"}) == 1
        assert other.record_checkpoint({"digest": "c", "name": "third"}) == 3
    assert project.record_checkpoint({"digest": "c", "name": "third"}) == 3
    assert project.record_checkpoint({"digest": "d", "name": "fourth"}) == 4
    assert len(Project.open(project.folder, require_video=False).manifest.checkpoints) == 4


def test_embeddings_of_each_encoder_are_stored_separately(project: Project) -> None:
    project.embeddings("abc", (4, 2, 2)).write([0], np.ones((1, 4, 2, 2)))
    project.embeddings("def", (3, 2, 2)).write([1, 2], np.ones((2, 3, 2, 2)))
    stores = {store.encoder_digest: (store.shape, store.valid_count) for store in project.embedding_stores()}
    assert stores == {"abc": ((4, 4, 2, 2), 1), "def": ((4, 3, 2, 2), 2)}
    with pytest.raises(ProjectError, match="the project has"):
        project.embeddings("abc", (5, 2, 2))


# ---- classes


def custom_set(*pairs: tuple[int, str]) -> ClassSet:
    return ClassSet("theatre", tuple(InstrumentClass(number, name, "#102030") for number, name in pairs))


def test_classes_can_be_added_without_losing_anything(painted_project: Project) -> None:
    added = custom_set((9, "Stapler"), (3, "large needle driver"), (8, "Swab"), (200, "Needle"))
    painted_project.extend_classes(added)
    assert painted_project.classes.ids == (1, 2, 3, 4, 5, 6, 7, 9, 8, 200)
    assert painted_project.classes.by_id(3).color == "#102030"
    painted_project.labels[0, 0, 0] = 200
    painted_project.labels[0, 0, 1] = 9
    for project in (painted_project, Project.open(painted_project.folder)):
        assert project.labels.provenance_table().shape == (4, 10)
        assert project.labels.provenance_table()[:2].tolist() == [[0] * 7 + [3, 0, 3], [0, 0, 3] + [0] * 7]
        assert np.isnan(project.labels.predicted_iou(0, 200))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([(3, "Stapler")], "The id 3 means Large Needle Driver in this project and Stapler in theatre"),
        ([(8, "Clip applier")], "Clip applier has the id 7 in this project and 8 in theatre"),
    ],
)
def test_contradicting_classes_are_refused(project: Project, pairs: list[tuple[int, str]], message: str) -> None:
    with pytest.raises(ClassSetError, match=message):
        project.extend_classes(custom_set(*pairs))
    assert project.classes == ENDOVIS2018
    assert Project.open(project.folder).classes == ENDOVIS2018


# ---- the video moves


def test_project_and_video_moved_together_open_again(tmp_path: Path, painted_project: Project) -> None:
    painted_project.close()
    (tmp_path / "case").rename(tmp_path / "archive")
    with Project.open(tmp_path / "archive" / "frames.surgicalsam") as moved:
        check_is_painted_project(moved)
        assert moved.video.info.path == tmp_path / "archive" / "frames"
    assert Project.open(moved.folder).manifest.video_path == tmp_path / "archive" / "frames"


def test_renamed_video_beside_the_project_is_recognised_by_its_content(images: Path, painted_project: Project) -> None:
    painted_project.close()
    write_images(images.with_name("another"), seed=1)
    images.rename(images.with_name("renamed"))
    write_images(images, seed=2)  # another video under the old name
    with Project.open(painted_project.folder) as project:
        check_is_painted_project(project)
        assert project.video.info.path == images.with_name("renamed")


def test_moved_project_finds_a_video_that_stayed(tmp_path: Path, images: Path, painted_project: Project) -> None:
    painted_project.close()
    moved = tmp_path / "elsewhere" / "frames.surgicalsam"
    moved.parent.mkdir()
    shutil.move(painted_project.folder, moved)
    with Project.open(moved) as project:
        check_is_painted_project(project)
        assert project.video.info.path == images


def test_lost_video_can_be_relinked(tmp_path: Path, images: Path, painted_project: Project) -> None:
    painted_project.close()
    (tmp_path / "far").mkdir()
    images.rename(tmp_path / "far" / "away")
    with pytest.raises(ProjectError, match=r"should be at .*frames or beside the project; it is not"):
        Project.open(painted_project.folder)
    with Project.open(painted_project.folder, require_video=False) as project:
        check_is_painted_project(project)
        with pytest.raises(ProjectError, match="Move it there, or show where it is now"):
            _ = project.video
        project.relink(tmp_path / "far" / "away")
        assert len(project.video) == 4
    with Project.open(painted_project.folder) as project:
        assert project.video.info.path == tmp_path / "far" / "away"


def test_a_wrong_video_is_refused(tmp_path: Path, images: Path, painted_project: Project) -> None:
    wrong = write_images(tmp_path / "wrong", seed=5)
    before = contents(painted_project.folder)
    message = r"frames\.surgicalsam belongs to the video frames .* wrong is another one"
    with pytest.raises(ProjectError, match=message):
        painted_project.relink(wrong)
    with pytest.raises(ProjectError, match=message):
        Project.open(painted_project.folder, video=VideoReader(wrong))
    with pytest.raises(ProjectError, match=message):
        Project.open_or_create(VideoReader(wrong), ENDOVIS2018, painted_project.folder)
    assert painted_project.video.info.path == images
    assert contents(painted_project.folder) == before


# ---- bad input


def change_manifest(**fields: object) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (Path.unlink, "holds a project.json, and .* has none"),
        (lambda path: path.write_text("{"), "it is not JSON"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "it is not JSON"),
        (lambda path: path.write_text("[]"), "no schema_version"),
        (change_manifest(schema_version=2, video=7), "schema version 2; .* reads up to 1. Update it: pip install"),
        (change_manifest(video={}), r"video\.path: Field required"),
        (change_manifest(class_set={"classes": []}), "class_set: .* is empty"),
        (change_manifest(schema_version=0), "schema_version"),
        (lambda path: (path.parent / "labels" / "zarr.json").unlink(), r"labels.zarr\.json is missing or damaged"),
        (lambda path: (path.parent / "presence" / "zarr.json").write_text("7"), r"presence.zarr\.json is missing or"),
        (lambda path: (path.parent / "pending.json").write_text("{"), "pending.json should describe the last change"),
    ],
)
def test_damaged_or_newer_project_gives_an_error_of_one_line(
    painted_project: Project, damage: Callable[[Path], object], message: str
) -> None:
    painted_project.close()
    damage(painted_project.folder / "project.json")
    before = contents(painted_project.folder)
    with pytest.raises(ProjectError, match=message) as caught:
        Project.open(painted_project.folder)
    assert "\n" not in str(caught.value)
    assert contents(painted_project.folder) == before


def test_manifest_of_another_length_than_the_arrays_is_refused(painted_project: Project) -> None:
    record = json.loads((painted_project.folder / "project.json").read_text())
    record["video"]["frame_count"] = 5
    (painted_project.folder / "project.json").write_text(json.dumps(record))
    with pytest.raises(ProjectError, match=r"labels should have shape \[5, 24, 32\], it has \[4, 24, 32\]"):
        Project.open(painted_project.folder, require_video=False)


def test_opening_another_folder_as_a_project_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.surgicalsam", tmp_path, Path(__file__)):
        with pytest.raises(ProjectError, match=r"holds a project\.json"):
            Project.open(path)


def test_a_new_project_never_overwrites(tmp_path: Path, images: Path, painted_project: Project) -> None:
    before = contents(painted_project.folder)
    with pytest.raises(ProjectError, match="is a project already"):
        Project.create(painted_project.folder, VideoReader(images), ENDOVIS2018)
    assert contents(painted_project.folder) == before
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("text")
    with pytest.raises(ProjectError, match="needs a new or empty folder"):
        Project.create(tmp_path / "thesis", VideoReader(images), ENDOVIS2018)
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]
    (tmp_path / "empty").mkdir()
    assert Project.create(tmp_path / "empty", VideoReader(images), ENDOVIS2018).folder == tmp_path / "empty"
    assert Project.create(tmp_path / "a" / "b", VideoReader(images), ENDOVIS2018).labels.shape == (4, 24, 32)


def fail_after(count: int, number: int) -> Callable[[int, bytes], None]:
    calls = iter(range(1000))

    def write(descriptor: int, data: bytes) -> None:
        if next(calls) >= count:
            raise OSError(number, os.strerror(number))
        os.write(descriptor, data)

    return write


@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, DiskSpaceError), (errno.EROFS, ProjectError)])
def test_failed_creation_leaves_no_files(
    images: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[SurgicalSAMError]
) -> None:
    monkeypatch.setattr(files, "write_all", fail_after(0, number))
    with pytest.raises(error, match="A new project"):
        Project.open_or_create(VideoReader(images), ENDOVIS2018)
    assert [path.name for path in images.parent.iterdir()] == ["frames"]


def test_full_disk_keeps_the_old_manifest(painted_project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(painted_project.folder)
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_all", fail_after(0, errno.ENOSPC))
        with pytest.raises(DiskSpaceError, match="The manifest"):
            painted_project.record_checkpoint({"digest": "new"})
        with pytest.raises(DiskSpaceError, match="The manifest"):
            painted_project.extend_classes(custom_set((8, "Swab")))
    after = contents(painted_project.folder)
    assert {name for name in before if before[name] != after[name]} <= {f"{table}/zarr.json" for table in TABLES}
    check_is_painted_project(painted_project)
    with Project.open(painted_project.folder) as again:
        check_is_painted_project(again)
        again.extend_classes(custom_set((8, "Swab")))
        again.labels[0, 0, 0] = 8


def test_read_only_project_can_be_read(painted_project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    painted_project.close()
    before = contents(painted_project.folder)
    monkeypatch.setattr(os, "access", lambda *_: False)  # the tests may run as root, who can write everywhere

    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    with Project.open(painted_project.folder) as project:
        assert not project.writable
        check_is_painted_project(project)
        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(ProjectError, match=r"The edit must be written to .* read-only .* another folder"):
            project.labels[0, 0, 0] = 1
        monkeypatch.undo()
    assert contents(painted_project.folder) == before


def test_no_project_is_made_in_a_read_only_folder(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ProjectError, match=r"is read-only\. Choose another one: --project-folder DIR"):
        Project.open_or_create(VideoReader(images), ENDOVIS2018)
    assert [path.name for path in images.parent.iterdir()] == ["frames"]


def test_a_project_whose_frames_include_masks_beside_pictures_still_opens(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for name, mode in (("000.jpg", "RGB"), ("000_mask.png", "L"), ("001.jpg", "RGB")):
        Image.new(mode, (32, 24)).save(folder / name)
    with Project.create(tmp_path / "old.surgicalsam", VideoReader(folder, every_image=True), ENDOVIS2018) as project:
        project.labels[2, 3:5, 3:5] = 1
    with Project.open(tmp_path / "old.surgicalsam") as project:
        assert (len(project.video), project.labels[2].max()) == (3, 1)
    with Project.open_or_create(VideoReader(folder), ENDOVIS2018, tmp_path / "old.surgicalsam") as project:
        assert len(project.video) == 3
