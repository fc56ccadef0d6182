"""Files made to harm: no code runs, nothing outside changes, nothing grows or waits forever, one line says what is wrong."""

from __future__ import annotations

import json
import os
import re
import sys
import zipfile
from pathlib import Path

import pytest

from surgicalsam_napari import cli
from surgicalsam_napari.errors import (
    CheckpointError,
    ClassSetError,
    ExchangeError,
    ProjectError,
    SurgicalSAMError,
    VideoError,
)
from surgicalsam_napari.exchange.coordinates import picture_size
from surgicalsam_napari.exchange.registry import open_dataset
from surgicalsam_napari.instruments import ENDOVIS2018, ClassSet, InstrumentClass
from surgicalsam_napari.model.checkpoint import read_checkpoint_info
from surgicalsam_napari.store import Project
from surgicalsam_napari.untrusted import json_from, read_plain, yaml_from
from surgicalsam_napari.video import VideoReader

TOP = Path(__file__).parents[1]
THREATS = TOP / "docs" / "threats.md"
BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nclasses: [*b]\n"
needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")


@pytest.fixture
def folder(clip: Path) -> Path:
    """A closed project in which a person painted in frame 1."""
    with Project.create(Project.default_folder(clip), VideoReader(clip), ENDOVIS2018) as project:
        project.labels[1, 10:20, 10:20] = 3
        return project.folder


# The threat model ------------------------------------------------------------------------------------------------------


def test_every_test_that_the_threat_model_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+\.py)::(test_\w+)`", THREATS.read_text()))
    assert len(named) > 20
    texts = {file: (TOP / "tests" / file).read_text() for file, _ in named if (TOP / "tests" / file).exists()}
    assert {file for file, _ in named} <= set(texts)
    assert [name for file, name in sorted(named) if file in texts and f"def {name}(" not in texts[file]] == []


# Text -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "9" * 5000])
def test_json_that_is_nested_too_deeply_or_wrong_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        json_from(text)


@pytest.mark.parametrize(
    "text", [BOMB, "a: " + "[" * 5000, "a: &a [*a]", "a: 2026-99-99", "!!python/name:os.system", "a: b: c"]
)
def test_yaml_that_grows_or_runs_code_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        yaml_from(text)


def test_a_class_set_whose_aliases_grow_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "classes.yaml").write_text(BOMB)
    with pytest.raises(ClassSetError, match="alias") as error:
        ClassSet.from_yaml(tmp_path / "classes.yaml")
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("name", ["\x1b]0;title\x07", "a\nb", "a" * 1000])
def test_a_class_name_that_would_control_a_terminal_or_fill_it_is_refused(name: str) -> None:
    with pytest.raises(ClassSetError, match="control characters") as error:
        InstrumentClass(1, name, "#123456")
    assert len(str(error.value)) < 400
    assert str(error.value).isprintable()


@needs_pipes
def test_a_pipe_in_the_parts_of_a_project_is_not_waited_for(folder: Path) -> None:
    with Project.open(folder) as project:
        project.change_classes(lambda present: present.part_added("Shaft"))
        project.open_parts()
    pipe = folder / "parts" / "provenance" / "c.0.0"
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    with pytest.raises(ProjectError, match="is no file"):
        Project.open(folder)


@needs_pipes
def test_a_pipe_is_not_waited_for(tmp_path: Path, folder: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(OSError, match="it is no file"):
        read_plain(tmp_path / "pipe.json")
    (folder / "notes.json").unlink(missing_ok=True)
    os.mkfifo(folder / "notes.json")
    with pytest.raises(ProjectError, match="is no file"):
        Project.open(folder)


@pytest.mark.parametrize("argument", ["a" * 10_000, "\udcff", ""])
def test_a_path_that_cannot_be_gives_one_line(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", argument]) in (1, 2)
    assert len(capsys.readouterr().err.splitlines()) == 1


# Projects -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target", ["{outside}", "../victim.txt", "labels/../../victim.txt", "project.json", "labels/c.2.0.0"]
)
@pytest.mark.parametrize("staged", ["0" * 32, None, "../../victim.txt", "{outside}"])
def test_a_journal_changes_no_file_but_those_of_its_frame(
    folder: Path, target: str, staged: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = folder.parent / "victim.txt"
    outside.write_text("of a person")
    (folder / ".partial").mkdir(exist_ok=True)
    (folder / ".partial" / ("0" * 32)).write_text("attack")
    files = [[target.format(outside=outside), staged and staged.format(outside=outside)]]
    (folder / "pending.json").write_text(json.dumps({"frame": 1, "rows": {}, "files": files}))
    before = {path: path.read_bytes() for path in folder.rglob("*.json")}
    assert cli.main(["check", str(folder)]) == 1
    assert "pending.json" in capsys.readouterr().err
    assert outside.read_text() == "of a person"
    assert {path: path.read_bytes() for path in folder.rglob("*.json")} == before


@pytest.mark.parametrize(
    "entry",
    [
        {"frame": 1, "rows": {"unknown": "01"}, "files": []},
        {"frame": 10**9, "rows": {"provenance": "01"}, "files": []},
        {"frame": 1, "rows": {"provenance": "01" * 5000}, "files": []},
        {"frame": "1", "rows": [], "files": {}},
        [],
    ],
)
def test_a_journal_with_impossible_rows_is_refused(folder: Path, entry: object) -> None:
    (folder / "pending.json").write_text(json.dumps(entry))
    with pytest.raises(ProjectError, match=r"pending\.json"):
        Project.open(folder)


@pytest.mark.parametrize("name", ["labels", "painted", "history", "notes.json", "work.csv", "provenance/c.0.0"])
def test_a_project_with_a_link_to_another_place_is_refused(folder: Path, name: str, tmp_path: Path) -> None:
    path, moved = folder / name, tmp_path / "elsewhere"
    if path.exists():
        path.rename(moved)
    path.symlink_to(moved)
    with pytest.raises(ProjectError, match="is a link to"):
        Project.open(folder)


def test_embeddings_may_lie_on_another_disk(folder: Path, tmp_path: Path) -> None:
    (folder / "embeddings").rename(tmp_path / "embeddings")
    (folder / "embeddings").symlink_to(tmp_path / "embeddings")
    with Project.open(folder) as project:
        assert project.embedding_stores() == []


@pytest.mark.parametrize(
    ("name", "fields"),
    [("labels", {"chunk_grid": {"name": "regular"}}), ("provenance", {"shape": [12, 10**9]}), ("checksums", {"shape": []})],
)
def test_metadata_that_would_fill_the_memory_is_refused(folder: Path, name: str, fields: dict[str, object]) -> None:
    path = folder / name / "zarr.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    assert cli.main(["check", str(folder)]) == 1


def test_a_backup_that_lists_more_than_it_has_is_refused_before_it_is_unpacked(folder: Path, tmp_path: Path) -> None:
    assert cli.main(["backup", str(folder), str(tmp_path / "backup.zip")]) == 0
    with zipfile.ZipFile(tmp_path / "backup.zip") as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    record = json.loads(content.pop("backup.json"))
    record["files"]["labels/bomb"] = [10**8, 0]
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**content, "backup.json": json.dumps(record).encode(), "labels/bomb": bytes(10**8)}.items():
            archive.writestr(name, data)
    assert cli.main(["restore", str(tmp_path / "bomb.zip"), str(tmp_path / "new.surgicalsam")]) == 1
    assert not (tmp_path / "new.surgicalsam").exists()


# Checkpoints, videos, datasets -----------------------------------------------------------------------------------------


def with_header(checkpoint: Path, target: Path, **fields: str) -> Path:
    """A copy of a checkpoint with other metadata."""
    content = checkpoint.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"].update(fields)
    text = json.dumps(header).encode()
    target.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])
    return target


@pytest.mark.parametrize(
    "fields", [{"presence_threshold": "nan"}, {"classes": "[" * 100_000}, {"training_record": "[" * 100_000}]
)
def test_a_checkpoint_whose_header_lies_is_refused(tiny_checkpoint: Path, tmp_path: Path, fields: dict[str, str]) -> None:
    with pytest.raises(CheckpointError, match="is damaged"):
        read_checkpoint_info(with_header(tiny_checkpoint, tmp_path / "model.safetensors", **fields))


@pytest.mark.parametrize(("frames", "rows"), [("-4", 96), ("999999999", 96), ("4", 0)])
def test_a_dicom_file_that_lies_about_its_pictures_is_refused(tmp_path: Path, frames: str, rows: int) -> None:
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.NumberOfFrames, data.Rows, data.Columns, data.SamplesPerPixel = frames, rows, 128, 1
    data.BitsAllocated = data.BitsStored = 8
    data.PhotometricInterpretation, data.PixelRepresentation, data.PixelData = "MONOCHROME2", 0, bytes(200)
    data.save_as(tmp_path / "clip.dcm", enforce_file_format=False, implicit_vr=False, little_endian=True)
    with pytest.raises(VideoError, match=r"clip\.dcm"):
        VideoReader(tmp_path / "clip.dcm")


@pytest.mark.parametrize("size", [(10**9, 1), (2**16, 2**16), (0, 5), (float("nan"), 5), ("9" * 5000, 5)])
def test_a_picture_that_would_fill_the_memory_is_refused_in_one_line(size: tuple[object, object]) -> None:
    with pytest.raises(ExchangeError) as error:
        picture_size(*size, "a picture")
    assert len(str(error.value)) < 300


CVAT = """<annotations><version>1.1</version><meta><task><name>clip</name><size>{size}</size><labels><label><name>Hook</name>
</label></labels><original_size><width>128</width><height>96</height></original_size></task></meta>
<track id="0" label="Hook"><polygon frame="0" points="1,1;5,1;5,5" outside="0"/>
<polygon frame="{frame}" points="1,1;5,1;5,5" outside="0"/></track></annotations>"""


@pytest.mark.parametrize(("size", "frame"), [("4", "1000000000000"), ("1000000000", "1")])
def test_frame_numbers_that_no_video_has_are_refused(tmp_path: Path, size: str, frame: str) -> None:
    (tmp_path / "annotations.xml").write_text(CVAT.format(size=size, frame=frame))
    with pytest.raises(ExchangeError):
        open_dataset(tmp_path)


def test_a_zip_is_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "dataset.zip", "w") as archive:
        archive.writestr("../outside.txt", "attack")
    with pytest.raises(ExchangeError, match="npack"):
        open_dataset(tmp_path / "dataset.zip")
    assert {path.name for path in tmp_path.iterdir()} == {"dataset.zip"}


GROWS = "".join(f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in zip("abcdefgh", "bcdefghi", strict=True))


@pytest.mark.parametrize(
    ("entities", "used"), [(f'<!ENTITY a "{"x" * 100}">{GROWS}', "i"), ('<!ENTITY a SYSTEM "file:///etc/hosts">', "a")]
)
def test_xml_entities_that_grow_or_read_a_file_are_refused(tmp_path: Path, entities: str, used: str) -> None:
    text = CVAT.format(size="4", frame="1").replace("<version>1.1", f"<version>&{used};")
    (tmp_path / "annotations.xml").write_text(f"<?xml version='1.0'?><!DOCTYPE annotations [{entities}]>{text}")
    with pytest.raises(ExchangeError):
        open_dataset(tmp_path)


@pytest.mark.parametrize("encoding", ["attack-8", "utf-16"])
def test_xml_in_an_encoding_that_it_does_not_have_is_refused(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "annotations.xml").write_text(f"<?xml version='1.0' encoding='{encoding}'?><annotations/>")
    with pytest.raises(ExchangeError):
        open_dataset(tmp_path)


@pytest.mark.parametrize("content", [b"2 nan nan nan nan nan nan\n", b"\x00\xff\x80\n", None])
def test_labels_of_yolo_that_are_damaged_or_missing_are_not_an_empty_frame(
    folder: Path, tmp_path: Path, content: bytes | None
) -> None:
    out = tmp_path / "yolo"
    assert cli.main(["export", str(folder), "--out", str(out), "--format", "yolo"]) == 0
    labels = next((out / "labels" / "train").glob("*.txt"))
    if content is None:
        labels.unlink()
    else:
        labels.write_bytes(content)
    with pytest.raises(SurgicalSAMError):
        dataset = open_dataset(out)
        dataset.label_map(dataset.frames[0])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the benchmark forks")
def test_no_bad_input_is_accepted_silently_hangs_or_changes_anything(tmp_path: Path) -> None:
    import subprocess

    script = TOP / "benchmarks" / "crash_safety" / "bad_inputs.py"
    process = subprocess.run(
        [sys.executable, str(script), "--every", "12", "--json"], capture_output=True, text=True, cwd=tmp_path
    )
    assert process.returncode == 0, process.stdout + process.stderr
    result = json.loads(process.stdout.splitlines()[-1])
    assert result["tried"] > 60
    assert {result[key] for key in ("tracebacks", "hangs", "memory", "crashes", "data_changed", "silently_accepted")} == {0}
    assert result["code_executed"] == 0
