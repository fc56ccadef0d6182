"""The command line, as a person or a script uses it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_encoder import TINY
from typer.testing import CliRunner

from surgicalsam_napari import cli, session
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.store import Project

LND = "Large Needle Driver"


@pytest.fixture
def clip(phantom_clip, tmp_path):
    return shutil.copy(phantom_clip, tmp_path / "clip.mp4")


@pytest.fixture
def run(capsys, tiny_checkpoint):
    """Run a command line with the tiny checkpoint; returns exit code, stdout lines and stderr lines."""

    def run(*arguments):
        arguments = [str(argument) for argument in arguments]
        if arguments[0] in ("embed", "segment"):
            arguments += ["--checkpoint", str(tiny_checkpoint), "--device", "cpu"]
        capsys.readouterr()
        code = cli.main(arguments)
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err.splitlines()

    return run


def complaints(lines):
    return [line for line in lines if line.startswith("surgicalsam: ")]


def test_embeddings_are_kept_as_float32_if_asked(run, clip):
    code, out, err = run("embed", clip, "--frames", "0:2", "--float32", "--json")
    assert code == 0, err
    (video,) = json.loads(out[-1])["videos"]
    (array,) = Path(video["project"]).glob("embeddings/*/embeddings/zarr.json")
    assert json.loads(array.read_text())["data_type"] == "float32"


def test_embedding_resumes(run, clip):
    code, out, _ = run("embed", clip, "--frames", "0:4", "--json")
    first = json.loads(out[-1])
    code_again, out, _ = run("embed", clip, "--json")
    again = json.loads(out[-1])["videos"][0]
    assert code == code_again == 0
    assert (first["videos"][0]["embedded"], first["failures"]) == (4, [])
    assert (again["frames"], again["embedded"], again["skipped"]) == (12, 8, 4)
    assert first["device"].startswith("CPU")


def test_segmenting_writes_indexed_pngs_and_their_classes(run, clip, tmp_path):
    project = Project.create(clip.with_suffix(".surgicalsam"), session.VideoReader(clip), ENDOVIS2018)
    project.labels[3, 10:20, 10:20] = 3
    project.labels[3, 30:40, 30:40] = 5
    project.close()
    code, out, err = run("segment", clip, "--class", LND, "--frames", "0:12:3", "--out", tmp_path / "masks")
    files = sorted(path.name for path in (tmp_path / "masks").iterdir())
    assert code == 0, err
    assert files == ["classes.json", *(f"frame_{index:05d}.png" for index in (0, 3, 6, 9))]
    image = Image.open(tmp_path / "masks" / "frame_00003.png")
    assert image.mode == "P"
    assert (np.asarray(image)[10:20, 10:20] == 3).all()
    assert set(np.unique(np.asarray(image))) <= {0, 3}
    assert tuple(image.getpalette()[9:12]) == ENDOVIS2018.by_id(3).rgb
    classes = json.loads((tmp_path / "masks" / "classes.json").read_text())
    assert classes["classes"] == ENDOVIS2018.to_json()["classes"]
    assert len(out) == 1
    assert "4 of 4 frames segmented" in out[0]


def test_segmenting_again_skips_what_is_done(run, clip):
    command = ("segment", clip, "--class", LND, "--json")
    run(*command, "--frames", "0:5")
    resumed = json.loads(run(*command)[1][-1])["videos"][0]
    other_class = json.loads(run("segment", clip, "--all", "--no-vote", "--frames", "0:5", "--json")[1][-1])["videos"][0]
    repeated = json.loads(run(*command, "--again")[1][-1])["videos"][0]
    assert (resumed["segmented"], resumed["skipped"]) == (7, 5)
    assert (other_class["segmented"], other_class["classes"]) == (5, list(ENDOVIS2018.names))
    assert (repeated["segmented"], repeated["skipped"]) == (12, 0)


def test_one_bad_video_does_not_stop_the_others(run, clip, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"not a video")
    videos = (bad, clip, tmp_path / "missing.mp4")
    code, out, err = run("segment", *videos, "--all", "--frames", "0", "--json", "--out", tmp_path / "o")
    record = json.loads(out[-1])
    assert code == 1
    assert [video["video"] for video in record["videos"]] == [str(clip)]
    assert [failure["video"] for failure in record["failures"]] == [str(bad), str(tmp_path / "missing.mp4")]
    assert len(complaints(err)) == 2
    assert (tmp_path / "o" / "clip" / "frame_00000.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        ([], 2, "Missing command"),
        (["embed"], 2, "VIDEO"),
        (["segment", "CLIP"], 2, "--class NAME"),
        (["segment", "CLIP", "--all", "--class", LND], 2, "--class NAME"),
        (["segment", "CLIP", "--all", "--frames", "1-4"], 2, "start:stop:step"),
        (["segment", "CLIP", "CLIP", "--all", "--out", "masks"], 2, "one by one"),
        (["segment", "CLIP", "--nonsense"], 2, "--nonsense"),
        (["models", "download", "nonsense"], 2, "vit_h"),
        (["segment", "CLIP", "--class", "Scalpel"], 1, "Scalpel"),
        (["segment", "CLIP", "--all", "--frames", "40:50"], 1, "0 to 11"),
        (["segment", "CLIP", "--all", "--classes", "missing.yaml"], 1, "missing.yaml"),
        (["info", "missing.surgicalsam"], 1, "missing.surgicalsam"),
    ],
)
def test_mistakes_get_one_line_and_an_exit_code(run, clip, capsys, arguments, code, expected):
    arguments = [str(clip) if argument == "CLIP" else argument for argument in arguments]
    exit_code, out, err = run(*arguments) if arguments else (cli.main([]), [], capsys.readouterr().err.splitlines())
    assert exit_code == code
    assert len(complaints(err)) == 1
    assert expected in complaints(err)[0]
    assert out == []
    assert not any("Traceback" in line for line in err)


def test_a_class_unknown_to_the_checkpoint_is_named(run, clip, tmp_path):
    (tmp_path / "mine.yaml").write_text(f"classes:\n- {{id: 1, name: Stapler}}\n- {{id: 2, name: {LND}}}\n")
    classes = ("--classes", tmp_path / "mine.yaml")
    code, _, err = run("segment", clip, "--class", "Stapler", *classes)
    assert (code, len(complaints(err))) == (1, 1)
    assert "not yet trained on Stapler" in complaints(err)[0]
    code, out, err = run("segment", clip, "--all", "--frames", "2", *classes, "--json")
    assert (code, json.loads(out[-1])["videos"][0]["classes"]) == (0, [LND])
    assert "skipped, because tiny is not trained on them: Stapler" in err


def test_a_full_disk_stops_before_it_starts(run, clip, monkeypatch):
    monkeypatch.setattr("surgicalsam_napari.inference.embed.free_bytes", lambda folder: 10)
    code, _, err = run("embed", clip)
    assert code == 1
    assert "10 bytes" in complaints(err)[0]
    assert not list(clip.with_suffix(".surgicalsam").glob("embeddings/*/embeddings/c.*"))


def test_an_out_folder_that_cannot_be_written_is_an_error_before_the_run(run, clip, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(session.Session, "segment", lambda *_: pytest.fail("nothing should be computed"))
    code, _, err = run("segment", clip, "--all", "--out", tmp_path / "file" / "masks")
    assert code == 1
    assert "Choose a folder" in complaints(err)[0]


def test_info_shows_what_a_project_contains(run, clip):
    run("segment", clip, "--all", "--frames", "0:3")
    code, out, _ = run("info", clip.with_suffix(".surgicalsam"), "--json")
    record = json.loads(out[-1])
    assert code == 0
    assert (record["frames"], record["size"]) == (12, [96, 128])
    counts = record["provenance"][LND]
    assert counts["predicted"] + counts["absent"] == 3
    assert counts["empty"] == 9
    assert record["embeddings"][0]["frames"] == 3
    assert record["embeddings"][0]["bytes"] > 0
    assert [checkpoint["encoder_id"] for checkpoint in record["checkpoints"]] == [TINY]
    clip.unlink()
    code, out, _ = run("info", clip)
    assert code == 0
    assert any(LND in line for line in out)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not report the blocks of a file")
def test_info_counts_files_shared_with_a_snapshot_once(run, clip):
    project_folder = clip.with_suffix(".surgicalsam")
    run("segment", clip, "--all", "--frames", "0:3")
    before = json.loads(run("info", project_folder, "--json")[1][-1])["disk_bytes"]
    with Project.open(project_folder) as project:
        project.snapshots.create("before a change")
    after = json.loads(run("info", project_folder, "--json")[1][-1])["disk_bytes"]
    kept = [path.stat() for path in (project_folder / "snapshots").rglob("*") if path.is_file()]
    assert any(status.st_nlink > 1 for status in kept)
    assert after - before == sum(512 * status.st_blocks for status in kept if status.st_nlink == 1)


def test_projects_can_be_kept_elsewhere(run, clip, tmp_path):
    code, out, _ = run("segment", clip, "--all", "--frames", "1", "--project-folder", tmp_path / "projects", "--json")
    assert code == 0
    assert json.loads(out[-1])["videos"][0]["project"] == str(tmp_path / "projects" / "clip.surgicalsam")
    assert not clip.with_suffix(".surgicalsam").exists()


def test_ctrl_c_says_how_to_resume(run, clip, monkeypatch):
    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(session.Session, "segment", interrupted)
    code, _, err = run("segment", clip, "--all")
    assert code == 130
    assert err[-1] == "stopped; run the same command again to resume"


def test_models_are_listed_with_their_location(monkeypatch, tmp_path):
    monkeypatch.setenv("SURGICALSAM_MODELS", str(tmp_path))
    listed = CliRunner().invoke(cli.app, ["models"])
    record = json.loads(CliRunner().invoke(cli.app, ["models", "--json"]).stdout.splitlines()[-1])
    assert listed.exit_code == 0
    assert "not downloaded" in listed.stdout
    assert {"vit_h", "mobile_sam", "edge_sam"} <= {
        known["name"] for known in record["weights"] if known["can_be_downloaded"]
    }
    assert {"tiny_sam", "repvit_sam"} <= {known["name"] for known in record["weights"] if not known["can_be_downloaded"]}
    assert record["folder"] == str(tmp_path)


def test_a_download_prints_the_path_of_the_file(run, monkeypatch, tmp_path):
    from surgicalsam_napari.model import zoo

    def download_weights(name, *, folder=None):
        yield zoo.DownloadReport(5, 10, tmp_path / name)
        yield zoo.DownloadReport(10, 10, tmp_path / name)

    monkeypatch.setattr(zoo, "download_weights", download_weights)
    code, out, _ = run("models", "download", "vit_b", "--folder", tmp_path)
    assert (code, out) == (0, [str(tmp_path / "vit_b")])


def test_the_demo_without_qt_says_what_to_install(tmp_path):
    # in a separate process: the viewer's tests have loaded Qt into this one
    without_qt = "import sys; sys.modules['qtpy'] = None; from surgicalsam_napari.cli import main; sys.exit(main(['demo']))"
    ran = subprocess.run([sys.executable, "-c", without_qt], capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 1
    assert 'pip install "surgicalsam-napari[all]"' in complaints(ran.stderr.splitlines())[0]


def test_help_and_version_load_nothing_heavy():
    command = [sys.executable, "-m", "surgicalsam_napari.cli"]
    helped = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert "segment" in helped.stdout
    assert version.stdout.startswith("surgicalsam-napari ")
    loaded = "import sys, surgicalsam_napari.cli; print({'torch', 'zarr', 'napari', 'av'} & sys.modules.keys())"
    imported = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert imported.stdout.strip() == "set()"


def test_the_help_shows_every_command_in_its_group():
    shown = CliRunner().invoke(cli.app, ["--help"]).output
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()  # a host may ask for colours
    groups = [line.split("─ ")[1].split(" ─")[0] for line in lines if "─ " in line]
    assert groups == ["Options", *cli.GROUPS]
    words = [line.split()[1] for line in lines if line.startswith("│ ") and line[2] != " "]
    assert [word for word in words if not word.startswith("-")] == [name for names in cli.GROUPS.values() for name in names]


def test_the_work_log_is_printed_or_written_as_csv(run, clip, tmp_path):
    project = Project.create(clip.with_suffix(".surgicalsam"), session.VideoReader(clip), ENDOVIS2018)
    project.labels[3, 10:20, 10:20] = 3
    project.work_log.note_view(3, 12.5)
    project.work_log.note_view(7, 2.0)
    project.close()
    code, out, _ = run("log", clip)
    assert (code, out) == (0, ["frame,seconds,strokes,changed_pixels,annotators", "3,12.5,1,100,", "7,2.0,0,0,"])
    code, printed, _ = run("log", clip, "--out", tmp_path / "work.csv")
    assert code == 0
    assert "2 frames" in printed[0]
    assert (tmp_path / "work.csv").read_text().splitlines() == out
    code, out, _ = run("log", clip, "--json")
    work = {"frame_index": 3, "seconds": 12.5, "strokes": 1, "changed_pixels": 100, "annotators": []}
    assert json.loads(out[-1])["work"][0] == work


def test_a_work_log_that_cannot_be_written_is_one_error_line(run, clip, tmp_path):
    Project.create(clip.with_suffix(".surgicalsam"), session.VideoReader(clip), ENDOVIS2018).close()
    code, _, err = run("log", clip, "--out", tmp_path / "nowhere" / "work.csv")
    assert code == 1
    assert len(complaints(err)) == 1
    assert "Choose another file" in complaints(err)[0]


def test_fill_carries_corrected_masks_into_the_gap(run, clip):
    with Project.create(clip.with_suffix(".surgicalsam"), session.VideoReader(clip), ENDOVIS2018) as project:
        project.labels[2, 20:60, 20:60] = project.labels[6, 20:60, 20:60] = 3
    code, out, _ = run("fill", clip, "--class", LND, "--json")
    record = json.loads(out[-1])
    assert code == 0
    assert (record["filled"], record["gaps"], record["left"], record["classes"]) == (3, 1, 0, [LND])
    with Project.open(clip.with_suffix(".surgicalsam")) as project:
        assert (project.labels[4] == 3).any()


def test_fill_without_two_corrected_frames_says_what_to_do(run, clip):
    Project.create(clip.with_suffix(".surgicalsam"), session.VideoReader(clip), ENDOVIS2018).close()
    code, _, err = run("fill", clip, "--class", LND)
    assert code == 1
    assert complaints(err) == [
        "surgicalsam: Filling needs two corrected frames of Large Needle Driver with frames between them. Correct it in "
        "another frame, a few seconds away."
    ]
