"""A damaged project: every missing, cut, changed, exchanged or stray file is noticed, named, and restored where possible."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest

from surgicalsam_napari import cli
from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.surgical_sam import FramePrediction
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project, Provenance, Span, Track, TrackTable
from surgicalsam_napari.store.checking import checking
from surgicalsam_napari.store.manifest import ModelRecord
from surgicalsam_napari.video import VideoReader

FRAME, OTHER, UNTOUCHED = 1, 2, 3
Damage = Callable[[Path], object]


def prediction(top: int, iou: float = 0.9) -> FramePrediction:
    label_map = np.zeros((96, 128), np.uint8)
    label_map[:top] = 1
    score = np.array([iou], np.float32)
    return FramePrediction((1,), label_map, score, score, np.array([True]), np.zeros(1, np.float32))


def write_some(project: Project) -> None:
    """Predictions in all frames, strokes in two, and a verified class."""
    with project.action("Segment", 4) as action:
        for frame in range(4):
            project.labels.write_prediction(frame, prediction(10 + frame), 1, action=action)
            if frame != UNTOUCHED:
                numbers = np.where(project.labels[frame] == 1, 4 + frame, 0)
                project.tracks.write_numbers(frame, numbers, action=action)
        spans = [Span(frame, frame, 4 + frame) for frame in range(3)]
        project.tracks.write_table(TrackTable((Track(1, 1, tuple(spans)),)), action=action)
    project.labels[FRAME, 40:50, 40:50] = 3
    project.labels[OTHER, 60:80, 60:80] = 4
    project.labels.verify(FRAME, [3])
    project.notes.write(FRAME, "a note")
    project.work_log.note_view(FRAME, 3.5)


@pytest.fixture
def folder(clip: Path) -> Path:
    """A closed project in which a person has painted."""
    with Project.create(Project.default_folder(clip), VideoReader(clip), ENDOVIS2018) as project:
        write_some(project)
        return project.folder


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def change_row(path: Path) -> None:
    """Change a byte of the table row of a frame, in a table of one byte per class."""
    content = bytearray(path.read_bytes())
    content[FRAME * (len(content) // 1024)] ^= 1
    path.write_bytes(content)


def exchange(path: Path) -> None:
    other = path.with_name(f"c.{OTHER}.0.0")
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)


def check(folder: Path, *options: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """The exit code and the result of `surgicalsam check`."""
    capsys.readouterr()
    code = cli.main(["check", str(folder), "--json", *options])
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


CHUNK = f"c.{FRAME}.0.0"
KINDS: tuple[tuple[str, Damage], ...] = (
    *(
        (f"{name}/{CHUNK}", damage)
        for name in ("labels", "painted", "instances")
        for damage in (Path.unlink, cut, change, exchange)
    ),
    *(
        (f"{name}/c.0.0", damage)
        for name in ("provenance", "before_verified", "predicted_iou", "presence", "predicted_by", "checksums")
        for damage in (Path.unlink, cut, change_row)
    ),
    *((f"history/000001.{suffix}", damage) for suffix in ("json", "undo") for damage in (Path.unlink, cut, change)),
    ("notes.json", change),
    *(("tracks.json", damage) for damage in (Path.unlink, cut, change)),
    *(("notes.json", damage) for damage in (Path.unlink, cut)),
    *(("work.csv", damage) for damage in (Path.unlink, cut, change)),
    ("files.json", change),
    ("files.json", Path.unlink),
)


@pytest.mark.parametrize(("file", "damage"), KINDS, ids=[f"{file}-{damage.__name__}" for file, damage in KINDS])
def test_damage_of_every_kind_is_noticed_and_its_file_named(
    folder: Path, file: str, damage: Damage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(folder, capsys=capsys) == (0, {**check(folder, capsys=capsys)[1], "damaged": [], "restored": []})
    damage(folder / file)
    code, result = check(folder, capsys=capsys)
    assert code == 1
    assert str(folder / file) in {damaged["file"] for damaged in result["damaged"]}
    assert all(damaged["remedy"] for damaged in result["damaged"])
    if file.endswith(CHUNK):
        assert FRAME in {damaged["frame"] for damaged in result["damaged"]}
        assert UNTOUCHED not in {damaged["frame"] for damaged in result["damaged"]}
    assert cli.main(["info", str(folder)]) == 1


@pytest.mark.parametrize("name", ["labels", "painted"])
def test_a_file_of_an_earlier_state_is_noticed(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    earlier = (folder / name / CHUNK).read_bytes()
    with Project.open(folder) as project:
        project.labels[FRAME, 0:5, 100:110] = 5
    (folder / name / CHUNK).write_bytes(earlier)
    code, result = check(folder, capsys=capsys)
    assert code == 1
    assert [(damaged["frame"], Path(damaged["file"])) for damaged in result["damaged"]] == [(FRAME, folder / name / CHUNK)]


def test_a_stray_file_is_noticed_and_moved_aside(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(folder / "painted" / CHUNK, folder / "painted" / f"c.{UNTOUCHED}.0.0")
    shutil.copy(folder / "labels" / CHUNK, folder / "labels" / "c.77.0.0")
    code, result = check(folder, capsys=capsys)
    assert code == 1
    assert {Path(damaged["file"]).name for damaged in result["damaged"]} == {f"c.{UNTOUCHED}.0.0", "c.77.0.0"}
    with Project.open(folder) as project, pytest.raises(ProjectError, match="nothing was written there"):
        project.labels.painted(UNTOUCHED)
    assert check(folder, "--repair", capsys=capsys)[0] == 0
    assert len(list((folder / "damaged").iterdir())) == 2
    with Project.open(folder) as project:
        assert not project.labels.painted(UNTOUCHED).any()


@pytest.mark.parametrize("damage", [Path.unlink, cut, change])
def test_no_prediction_replaces_pixels_of_a_person_whose_record_is_lost(folder: Path, damage: Damage) -> None:
    damage(folder / "painted" / CHUNK)
    with Project.open(folder) as project:
        before = project.labels[FRAME]
        assert project.labels.is_painted(FRAME)
        with pytest.raises(ProjectError, match=f"Frame {FRAME} should have its painted"):
            project.labels.write_prediction(FRAME, prediction(90), 1)
        np.testing.assert_array_equal(project.labels[FRAME], before)


@pytest.mark.parametrize("damage", [Path.unlink, cut, change])
def test_damaged_numbers_of_instances_never_cost_the_labels(
    folder: Path, damage: Damage, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(folder / "instances" / CHUNK)
    with Project.open(folder) as project:
        labels = project.labels[FRAME]
        with pytest.raises(ProjectError, match=f"Link the instances of frame {FRAME} again"):
            project.tracks.numbers(FRAME)
        with project.history.action("Edit") as action:
            project.labels.write_edit(OTHER, project.labels[OTHER], action=action)
    assert check(folder, "--clear", str(FRAME), capsys=capsys)[0] == 0
    with Project.open(folder) as project:
        np.testing.assert_array_equal(project.labels[FRAME], labels)
        assert not project.tracks.numbers(FRAME).any() and project.labels.is_painted(FRAME)


def test_a_stroke_over_damaged_numbers_is_kept_and_can_be_undone(folder: Path) -> None:
    cut(folder / "instances" / CHUNK)
    with Project.open(folder) as project:
        labels = project.labels[FRAME]
        with project.history.action("Edit") as action:
            project.labels.write_edit(FRAME, np.where(labels == 1, 2, labels), action=action)
        assert not project.tracks.numbers(FRAME).any()
        undone = project.history.undo()
        assert undone is not None and undone.frame_indices == (FRAME,)
        np.testing.assert_array_equal(project.labels[FRAME], labels)


def test_a_project_with_a_damaged_table_of_tracks_opens(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Project.open(folder) as project:
        table, snapshot = project.tracks.table, project.snapshots.create("good")
    cut(folder / "tracks.json")
    with Project.open(folder) as project:
        project.labels[FRAME, 0, 0] = 2  # labels are usable
        with pytest.raises(ProjectError, match=r"tracks\.json should be the table of tracks.*link the instances again"):
            _ = project.tracks.table
        assert "tracks.json" in check(folder, capsys=capsys)[1]["damaged"][0]["file"]
        project.snapshots.restore(snapshot)
        assert project.tracks.table == table and not project.tracks.problem
        project.history.undo()
        assert not project.tracks.problem  # an undo brings no damage back
        project.history.redo()
        assert project.tracks.table == table
    cut(folder / "tracks.json")
    with Project.open(folder) as project:
        project.tracks.edit("Link", table)  # linking again
        assert project.tracks.table == table
        assert (folder / "damaged" / "tracks.json").exists()
        assert check(folder, capsys=capsys)[0] == 0


@pytest.mark.parametrize("table", ["provenance", "before_verified", "predicted_iou"])
def test_a_damaged_row_does_not_look_intact_after_a_stroke(folder: Path, table: str) -> None:
    change_row(folder / table / "c.0.0")
    with Project.open(folder) as project:
        if table == "provenance":
            with pytest.raises(ProjectError, match=f"Frame {FRAME} is damaged.*surgicalsam check"):
                project.labels[FRAME, 0, 0] = 2
        else:
            project.labels[FRAME, 0, 0] = 2
    assert cli.main(["check", str(folder)]) == 1


@pytest.mark.parametrize(
    "file", [f"labels/{CHUNK}", f"painted/{CHUNK}", f"instances/{CHUNK}", "provenance/c.0.0", "presence/c.0.0"]
)
@pytest.mark.parametrize("damage", [Path.unlink, cut])
def test_damage_is_restored_from_a_snapshot(
    folder: Path, file: str, damage: Damage, capsys: pytest.CaptureFixture[str]
) -> None:
    with Project.open(folder) as project:
        project.snapshots.create("good")
        labels, painted = project.labels[:], project.labels.painted(FRAME)
        tables, numbers = (
            (project.labels.provenance_table(), project.labels.table("presence")),
            project.tracks.numbers(FRAME),
        )
    (folder / file).rename(folder / "old")
    shutil.copy(folder / "old", folder / file)  # a disk that loses one of two hard links
    damage(folder / file)
    code, result = check(folder, "--repair", capsys=capsys)
    assert code == 0
    sources = {restored["restored_from"] for restored in result["restored"]}
    assert 'the snapshot "good"' in sources or any("what was left of it" in source for source in sources)
    with Project.open(folder) as project:
        np.testing.assert_array_equal(project.labels[:], labels)
        np.testing.assert_array_equal(project.labels.painted(FRAME), painted)
        np.testing.assert_array_equal(project.labels.provenance_table(), tables[0])
        np.testing.assert_array_equal(project.labels.table("presence"), tables[1])
        np.testing.assert_array_equal(project.tracks.numbers(FRAME), numbers)
    assert check(folder, capsys=capsys)[0] == 0


def test_damage_is_restored_from_the_history(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Project.open(folder) as project, project.history.action("Segment again") as action:
        project.labels.write_prediction(FRAME, prediction(30), 1, action=action)
        painted = project.labels.painted(FRAME)
    (folder / "painted" / CHUNK).unlink()
    code, result = check(folder, "--repair", capsys=capsys)
    assert code == 0
    assert [restored["restored_from"] for restored in result["restored"]] == ['the state before "Segment again"']
    with Project.open(folder) as project:
        np.testing.assert_array_equal(project.labels.painted(FRAME), painted)


def test_what_cannot_be_restored_stays_named_until_a_person_empties_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "labels" / CHUNK).unlink()
    code, result = check(folder, "--repair", capsys=capsys)
    assert code == 1
    assert f"--clear {FRAME}" in result["damaged"][0]["remedy"]
    assert "backup" in result["damaged"][0]["remedy"]
    assert check(folder, "--clear", str(FRAME), capsys=capsys)[0] == 0
    with Project.open(folder) as project:
        assert not project.labels[FRAME].any()
        assert project.labels.provenance(FRAME, 3) == Provenance.EMPTY
    assert {path.name for path in (folder / "damaged").iterdir()} == {f"painted.{CHUNK}", f"instances.{CHUNK}"}


def test_lost_checksums_come_back_only_if_a_person_accepts_the_frames(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Project.open(folder) as project:
        labels = project.labels[:]
    (folder / "checksums" / "c.0.0").unlink()
    with Project.open(folder) as project, pytest.raises(ProjectError, match="Frame 0"):
        project.labels.frame(0)
    assert check(folder, "--repair", capsys=capsys)[0] == 1
    assert check(folder, "--accept", "all", capsys=capsys)[0] == 0
    with Project.open(folder) as project:
        np.testing.assert_array_equal(project.labels[:], labels)
    cut(folder / "labels" / CHUNK)
    assert cli.main(["check", str(folder), "--accept", str(FRAME)]) == 1


@pytest.mark.parametrize("file", [f"labels/{CHUNK}", "provenance/c.0.0", f"painted/{CHUNK}"])
def test_nothing_damaged_is_exported_learned_measured_or_drawn(
    folder: Path, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / file).unlink()
    out = tmp_path / "out"
    for command in (
        ["export", str(folder), "--out", str(out), "--format", "coco"],
        ["export", str(folder), "--out", str(out), "--frames", "all", "--format", "endovis"],
        ["statistics", str(folder)],
        ["learn", str(folder), "--out", str(out)],
        ["train", str(folder), "--out", str(out / "run")],
        ["overlay", str(folder), str(tmp_path / "overlay.mp4")],
    ):
        capsys.readouterr()
        assert cli.main(command) == 1, command
        error = capsys.readouterr().err
        assert "surgicalsam check" in error, (command, error)
    assert not list(tmp_path.glob("out/**/*.png"))
    assert not (tmp_path / "overlay.mp4").exists()


def as_of_an_earlier_version(folder: Path) -> None:
    shutil.rmtree(folder / "checksums")
    manifest = json.loads((folder / "project.json").read_text())
    del manifest["has_checksums"], manifest["has_file_records"]
    (folder / "files.json").unlink()
    (folder / "project.json").write_text(json.dumps(manifest))


def test_a_project_of_an_earlier_version_gets_checksums_when_written_and_when_checked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    as_of_an_earlier_version(folder)
    with Project.open(folder) as project:
        project.labels[FRAME, 0, 0] = 2
        labels = project.labels[:]
    change(folder / "painted" / CHUNK)  # written since
    with Project.open(folder) as project, pytest.raises(ProjectError, match=f"Frame {FRAME} "):
        project.labels.painted(FRAME)
    change(folder / "painted" / CHUNK)
    assert check(folder, capsys=capsys)[0] == 0
    with Project.open(folder) as project:
        assert project.manifest.has_checksums
        np.testing.assert_array_equal(project.labels[:], labels)
    (folder / "labels" / "c.0.0.0").unlink()
    assert check(folder, capsys=capsys)[0] == 1


def test_a_snapshot_with_lost_files_is_not_restored(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Project.open(folder) as project:
        snapshot = project.snapshots.create("good")
        project.labels[FRAME, 0:9, 0:9] = 6
        labels = project.labels[:]
        (snapshot.folder / "labels" / CHUNK).unlink()
        with pytest.raises(ProjectError, match="is missing"):
            project.snapshots.restore(snapshot)
        np.testing.assert_array_equal(project.labels[:], labels)
    code, result = check(folder, capsys=capsys)
    assert code == 1
    assert [Path(damaged["file"]) for damaged in result["damaged"]] == [snapshot.folder / "labels" / CHUNK]


def test_a_window_that_reads_while_another_process_writes_sees_no_damage(folder: Path) -> None:
    writer = os.fork() if hasattr(os, "fork") else pytest.skip("needs fork")
    if writer == 0:
        with Project.open(folder) as project:
            for number in range(150):
                project.labels[FRAME, number % 90, 0:100] = number % 7 + 1
        os._exit(0)
    with Project.open(folder, require_video=False) as reader:
        reader.labels.set_read_only("another window has it")
        while os.waitpid(writer, os.WNOHANG) == (0, 0):
            reader.labels[FRAME], reader.labels.painted(FRAME)
            assert cli.main(["check", str(folder)]) == 0


# ---- backups


def content(folder: Path) -> dict[str, bytes]:
    """The files of a project that a backup holds."""
    left_out = {".lock", "owner.json", "damaged"}
    files = (path for path in folder.rglob("*") if path.is_file() and not left_out & set(path.relative_to(folder).parts))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files if "c.0.0.0.0" not in path.name}


def test_a_backup_restores_everything(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Project.open(folder) as project:
        project.snapshots.create("good")
        checkpoint = folder / "training" / "learned" / "best.safetensors"
        checkpoint.parent.mkdir(parents=True)
        checkpoint.write_bytes(b"weights")
        project.work_log.note_view(FRAME, 3.0)
        labels, tables = project.labels[:], project.labels.provenance_table()
    file, restored = tmp_path / "backup.zip", tmp_path / "restored.surgicalsam"
    assert cli.main(["backup", str(folder), str(file)]) == 0
    assert cli.main(["restore", str(file), str(restored)]) == 0
    assert content(restored) == content(folder)
    assert check(restored, capsys=capsys)[0] == 0
    with Project.open(restored, require_video=False) as project:
        np.testing.assert_array_equal(project.labels[:], labels)
        np.testing.assert_array_equal(project.labels.provenance_table(), tables)
        assert project.notes.text(FRAME) == "a note"
        assert [entry.name for entry in project.history.entries()] == ["Segment"]
        project.history.undo()
        project.snapshots.restore(project.snapshots.entries()[-1])
        np.testing.assert_array_equal(project.labels[:], labels)
    assert not list(folder.glob(".backup-*"))


def test_tracks_and_parts_are_checked_repaired_and_backed_up_with_their_project(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Project.open(folder) as project:
        project.change_classes(lambda present: present.part_added("Shaft", [1, 3]).part_added("Wrist", [3]))
        parts = project.open_parts()
        parts.labels[FRAME, :5, 10:20] = 1
        for one in (project, parts):
            one.snapshots.create("good")
        table, shown = project.tracks.table, [project.labels[:], parts.labels[:], project.tracks.numbers(FRAME)]
    damaged = {
        folder / name
        for name in (f"labels/{CHUNK}", f"instances/{CHUNK}", "tracks.json", "files.json", f"parts/labels/{CHUNK}",
                     "parts/provenance/c.0.0", "parts/files.json")
    }  # fmt: skip
    for file in damaged:
        whole = file.read_bytes()
        file.unlink()  # a snapshot has a hard link to it
        file.write_bytes(whole[: len(whole) // 2])
    code, result = check(folder, capsys=capsys)
    assert code == 1 and damaged <= {Path(one["file"]) for one in result["damaged"]}
    assert cli.main(["info", str(folder)]) == 1
    _, result = check(folder, "--repair", capsys=capsys)
    assert {Path(one["file"]) for one in result["damaged"]} == {file for file in damaged if file.suffix == ".json"}
    with Project.open(folder) as project:
        project.snapshots.restore(project.snapshots.entries()[-1])  # brings the table of tracks back
    assert check(folder, "--accept", "files", capsys=capsys)[0] == 0
    assert cli.main(["info", str(folder)]) == 0

    file, restored = tmp_path / "backup.zip", tmp_path / "restored.surgicalsam"
    assert cli.main(["backup", str(folder), str(file)]) == 0
    assert cli.main(["restore", str(file), str(restored)]) == 0
    assert content(restored) == content(folder)
    for place in (folder, restored):
        with Project.open(place, require_video=False) as project:
            now = [project.labels[:], project.open_parts().labels[:], project.tracks.numbers(FRAME)]
            assert project.tracks.table == table
            assert all(np.array_equal(a, b) for a, b in zip(now, shown, strict=True))


@pytest.mark.parametrize("place", [0.02, 0.3, 0.6, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["changed", "cut"])
def test_a_damaged_backup_is_refused_with_the_place(
    folder: Path, tmp_path: Path, place: float, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file, restored = tmp_path / "backup.zip", tmp_path / "restored.surgicalsam"
    assert cli.main(["backup", str(folder), str(file)]) == 0
    damaged = bytearray(file.read_bytes())
    position = int(len(damaged) * place)
    if kind == "changed":
        damaged[position : position + 40] = bytes(byte ^ 0x55 for byte in damaged[position : position + 40])
    file.write_bytes(damaged if kind == "changed" else damaged[:position])
    capsys.readouterr()
    code = cli.main(["restore", str(file), str(restored)])
    error = capsys.readouterr().err
    assert code == 1
    assert "backup" in error
    assert error.count("\n") <= 2
    assert [path.name for path in tmp_path.iterdir() if "restored" in path.name] == []


def test_a_backup_replaces_no_project_and_no_file(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "backup.zip"
    assert cli.main(["backup", str(folder), str(file)]) == 0
    before = content(folder)
    assert cli.main(["backup", str(folder), str(file)]) == 1
    assert cli.main(["restore", str(file), str(folder)]) == 1
    assert content(folder) == before


def test_a_damaged_project_is_backed_up_only_on_request(folder: Path, tmp_path: Path) -> None:
    (folder / "labels" / CHUNK).unlink()
    file = tmp_path / "backup.zip"
    assert cli.main(["backup", str(folder), str(file)]) == 1
    assert not file.exists()
    assert cli.main(["backup", str(folder), str(file), "--damaged"]) == 0


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "a/../../outside"])
def test_a_backup_writes_no_file_outside_of_its_folder(folder: Path, tmp_path: Path, name: str) -> None:
    file = tmp_path / "backup.zip"
    assert cli.main(["backup", str(folder), str(file)]) == 0
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    record = json.loads(entries["backup.json"])
    record["files"][name] = [1, google_crc32c.value(b"x")]
    with zipfile.ZipFile(file, "w") as archive:
        for entry, data in {**entries, name: b"x", "backup.json": json.dumps(record).encode()}.items():
            archive.writestr(entry, data)
    assert cli.main(["restore", str(file), str(tmp_path / "restored.surgicalsam")]) == 1
    assert not (tmp_path / "outside").exists()
    assert not (tmp_path / "restored.surgicalsam").exists()


@pytest.mark.parametrize("table", ["provenance", "checksums"])
def test_a_project_with_a_cut_table_opens_in_a_window_and_names_the_lost_frames(folder: Path, table: str) -> None:
    path = folder / table / "c.0.0"
    content = path.read_bytes()
    path.write_bytes(content[: (OTHER + 1) * len(content) // 1024])
    with Session() as session:
        project = session.open(folder)
        assert f"({UNTOUCHED})" in project.notice
        assert (project.labels[FRAME] == 3).any()
        with pytest.raises(ProjectError, match=f"Frame {UNTOUCHED} "):
            project.labels[UNTOUCHED, 0:5, 0:5] = 3
    assert [file.name for file in (folder / "damaged").iterdir()] == [f"{table}.c.0.0"]
    assert (folder / "damaged" / f"{table}.c.0.0").stat().st_size < len(content)


def test_an_action_that_lost_both_files_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in (folder / "history").glob("000001.*"):
        file.unlink()
    code, result = check(folder, capsys=capsys)
    assert code == 1
    assert [Path(damaged["file"]).name for damaged in result["damaged"]] == ["000001.json"]


@pytest.mark.parametrize("name", ["history/000001.json", "history/000001.undo", "snapshots/*/snapshot.json", "notes.json"])
def test_a_change_in_the_checksum_of_a_record_is_noticed_too(folder: Path, name: str) -> None:
    with Project.open(folder) as project:
        project.snapshots.create("before")
        (path,) = folder.glob(name)
        good = path.read_bytes()
        start = good.rfind(b'"crc32c"')
        for position in range(start - 2, start + len(b'"crc32c": 1')):
            bad = bytearray(good)
            bad[position] ^= 1
            path.write_bytes(bad)
            *_, report = checking(project)
            assert [damage.path for damage in report.found] == [path], bytes(bad[start - 2 : start + 12])
        path.write_bytes(good)
        *_, report = checking(project)
        assert not report.found


def test_the_record_of_an_interrupted_undo_is_checked_too(folder: Path) -> None:
    with Project.open(folder) as project:
        steps = project.history.undoing()
        next(steps), next(steps)
        steps.close()
    path = folder / "history" / "000001.redo"
    change(path)
    with Project.open(folder) as project:
        *_, report = checking(project)
        assert [damage.path for damage in report.found] == [path]


def exchange_classes(folder: Path) -> None:
    """Give the name of one class to another, in a project.json that is still right JSON."""
    record = json.loads((folder / "project.json").read_text())
    first, second = record["class_set"]["classes"][:2]
    first["name"], second["name"] = second["name"], first["name"]
    (folder / "project.json").write_text(json.dumps(record))


def test_a_change_of_the_classes_outside_of_the_program_is_named_and_not_exported(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exchange_classes(folder)
    with Project.open(folder) as project:  # which may write project.json again
        project.remember_model(ModelRecord(digest="0", name="light"))
    code, result = check(folder, "--repair", capsys=capsys)
    assert code == 1
    assert [Path(damaged["file"]).name for damaged in result["damaged"]] == ["project.json"]
    assert "--accept files" in result["damaged"][0]["remedy"]
    assert cli.main(["export", str(folder), "--out", str(tmp_path / "out")]) == 1
    assert "which has the classes" in capsys.readouterr().err
    assert check(folder, "--accept", "files", capsys=capsys)[0] == 0
    assert cli.main(["export", str(folder), "--out", str(tmp_path / "out")]) == 0


def test_lost_notes_stay_named_after_the_next_note(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "notes.json").unlink()
    with Project.open(folder) as project:
        project.notes.write(OTHER, "another note")
    assert [Path(damaged["file"]).name for damaged in check(folder, capsys=capsys)[1]["damaged"]] == ["notes.json"]


def test_changes_by_the_program_are_no_damage(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Project.open(folder) as project:
        write_some(project)
        project.history.undo()
        project.change_classes(lambda classes: classes.renamed(7, "Clipper"))
        project.notes.write(OTHER, "another note")
    with Project.open(folder) as project, project.action("Segment", 4) as action:
        project.labels.write_prediction(0, prediction(30), 1, action=action)  # the undone action can be redone no longer
    assert check(folder, capsys=capsys)[0] == 0


def test_a_kill_between_the_record_and_the_file_is_no_damage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    with Project.open(folder) as project:
        monkeypatch.setattr("surgicalsam_napari.store.notes.write_file", killed)
        with pytest.raises(KeyboardInterrupt):
            project.notes.write(OTHER, "another note")
    assert cli.main(["check", str(folder)]) == 0


def test_a_project_without_records_of_its_files_gets_them_when_it_is_checked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((folder / "project.json").read_text())
    del record["has_file_records"]
    (folder / "project.json").write_text(json.dumps(record))
    (folder / "files.json").unlink()
    assert check(folder, capsys=capsys)[0] == 0
    (folder / "notes.json").unlink()
    assert check(folder, capsys=capsys)[0] == 1
