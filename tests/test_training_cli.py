"""`surgicalsam train` and `evaluate`, as a person or a script uses them."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from surgicalsam_napari import cli
from surgicalsam_napari.cli.training import PANELS
from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.instruments import ENDOVIS2018, ClassSet, InstrumentClass
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.phantom import write_phantom_clip
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project
from surgicalsam_napari.video import VideoReader
from surgicalsam_training.config import TrainingConfig
from surgicalsam_training.run.run_folder import RunFolder

STAPLER = ClassSet("mine", (InstrumentClass(1, "Stapler", "#ff0000"), InstrumentClass(2, "Clip Applier", "#00ff00")))


class Ran(NamedTuple):
    code: int
    out: list[str]
    err: list[str]

    @property
    def record(self) -> dict:
        return json.loads(self.out[-1])

    @property
    def complaint(self) -> str:
        """The error message, which is the last line on stderr."""
        assert [line for line in self.err if line.startswith("surgicalsam: ")] == self.err[-1:]
        assert self.out == []
        return self.err[-1]


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line in an empty folder; by default trainings are tiny and write to RUN."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    defaults = {"--checkpoint": tiny_checkpoint, "--epochs": 1, "--loss-resolution": "logits", "--augmented-versions": 0,
                "--device": "cpu", "--out": "RUN"}  # fmt: skip

    def run_line(*arguments: object, without: Sequence[str] = ()) -> Ran:
        words = [str(argument) for argument in arguments]
        if words[0] == "train":
            for name, value in defaults.items():
                words += [] if name in words or name in without else [name, str(value)]
        capsys.readouterr()
        code = cli.main(words)
        printed = capsys.readouterr()
        return Ran(code, printed.out.splitlines(), printed.err.splitlines())

    return run_line


def corrected_video(clip: Path, folder: Path, name: str = "clip", classes: ClassSet = ENDOVIS2018, frames: int = 4) -> Path:
    """A video with a project next to it, in which the first frames are verified."""
    folder.mkdir(parents=True, exist_ok=True)
    video = Path(shutil.copy(clip, folder / f"{name}.mp4"))
    with Project.create(Project.default_folder(video), VideoReader(video), classes) as project:
        for frame in range(frames):
            for class_id in (1, 2):
                project.labels[frame, 30 * class_id : 30 * class_id + 25, 10 : 60 + frame] = class_id
            project.labels.verify(frame)
    return video


@pytest.fixture(scope="module")
def video(phantom_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video that all tests share, so no test may change it."""
    return corrected_video(phantom_clip, tmp_path_factory.mktemp("videos"))


@pytest.fixture
def own_video(phantom_clip: Path, tmp_path: Path) -> Path:
    return corrected_video(phantom_clip, tmp_path / "own", frames=2)


# Training and evaluating ---------------------------------------------------------------------------------------------


def test_training_prints_its_progress_on_stderr_and_the_scores_on_stdout(run: Run, video: Path) -> None:
    ran = run("train", video, "--validation-share", 0.25)
    assert ran.code == 0
    assert any("single video" in line for line in ran.err)
    assert any(re.match(r"epoch 1 of 1: loss \d", line) for line in ran.err)
    assert re.match(r"all epochs after \d+ s; .*RUN/best\.safetensors", ran.out[0])
    assert [line.split()[-2:] for line in ran.out if "before" in line] == [["before", "after"]]
    assert load_checkpoint("RUN/best.safetensors", device="cpu").classes == ENDOVIS2018


def test_few_frames_are_all_trained_on_and_a_poor_result_says_what_to_do(run: Run, video: Path) -> None:
    ran = run("train", video)
    assert any("4 frames of a single video are too few" in line for line in ran.err)
    poor = run("train", video, "--validation-share", 0.25, "--out", "POOR")
    assert poor.code == 0
    assert "Try `surgicalsam learn`" in poor.err[-1] and "IoU below 50" in poor.err[-1]


def test_several_projects_train_together_and_json_has_the_scores(run: Run, video: Path, tmp_path: Path) -> None:
    write_phantom_clip(tmp_path, seed=5, size=(96, 128), frame_count=12)
    other = corrected_video(tmp_path / "phantom_5.mp4", tmp_path, "other", frames=1)
    ran = run("train", video, Project.default_folder(other), "--validation", "other", "--json")
    assert ran.code == 0
    assert ran.record["checkpoint"].endswith("RUN/best.safetensors")
    assert set(ran.record["after"]) >= {"challenge_iou", "class_iou", "missed_rate"}
    assert any("other" in line for line in ran.err)


def test_options_change_single_settings_of_a_configuration(run: Run, video: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"data: {video}\nepochs: 9\nbatch_size: 3\nvalidation_share: 0")
    assert run("train", "mine.yaml").code == 0
    config = RunFolder.open("RUN").config
    assert (config.epochs, config.batch_size, config.data) == (1, 3, (video,))


def test_a_preset_sets_the_other_settings(run: Run, video: Path) -> None:
    assert run("train", "--preset", "quick", video, "--rehearsed-frames", 1).code == 0
    assert RunFolder.open("RUN").config.schedule == "cosine"


@pytest.mark.parametrize("format_name", ["endovis", "indexed-png", "coco"])
def test_an_exported_dataset_has_the_scores_of_its_project(
    run: Run, video: Path, tiny_checkpoint: Path, format_name: str
) -> None:
    run("export", video, "--out", "dataset", "--format", format_name)
    of_dataset = run("evaluate", tiny_checkpoint, "dataset", "--device", "cpu", "--json").record
    of_project = run("evaluate", tiny_checkpoint, video, "--device", "cpu", "--json").record
    assert of_dataset["frames"] == of_project["frames"] == 4
    assert of_dataset["class_iou"].keys() == of_project["class_iou"].keys()
    assert of_dataset["iou"] == pytest.approx(of_project["iou"], abs=2)  # video decoders differ in a few grey levels


def test_a_dataset_can_be_trained_on(run: Run, video: Path) -> None:
    run("export", video, "--out", "dataset", "--format", "coco")
    assert run("train", "dataset", "--validation-share", "0").code == 0


def test_class_numbers_are_named_with_classes_as_in_an_import(run: Run, video: Path) -> None:
    run("export", video, "--out", "dataset", "--format", "indexed-png")
    Path("dataset/classes.json").unlink()
    assert "--classes" in run("train", "dataset").complaint
    assert run("train", "dataset", "--classes", "endovis2018", "--validation-share", "0").code == 0
    config = RunFolder.open("RUN").config
    assert (config.data_classes, config.classes) == ("endovis2018", None)


def test_evaluating_prints_a_table(run: Run, video: Path, tiny_checkpoint: Path) -> None:
    ran = run("evaluate", tiny_checkpoint, video, "--device", "cpu")
    assert ran.code == 0
    assert ran.out[0] == "tiny on 4 frames of clip.mp4"
    assert ran.out[2].split() == ["prompted", "every"]
    assert any(re.match(r"Challenge IoU +\d+\.\d +\d+\.\d$", line) for line in ran.out)


def test_a_class_that_the_checkpoint_does_not_know_counts_as_missed(
    run: Run, phantom_clip: Path, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    video = corrected_video(phantom_clip, tmp_path, classes=STAPLER)
    ran = run("evaluate", tiny_checkpoint, video, "--device", "cpu", "--json")
    assert ran.record["unknown_classes"] == ["Stapler"]
    assert ran.record["class_iou"]["Stapler"] == 0
    assert "unknown to tiny, counted as missed: Stapler" in ran.err


def test_a_new_class_can_be_trained(run: Run, phantom_clip: Path, tmp_path: Path) -> None:
    video = corrected_video(phantom_clip, tmp_path, classes=STAPLER)
    assert run("train", video, "--validation-share", "0").code == 0
    assert "Stapler" in load_checkpoint("RUN/best.safetensors", device="cpu").classes.names


def test_ctrl_c_keeps_the_best_epoch_and_the_same_command_resumes(
    run: Run, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("surgicalsam_training.loop.trainer.draw_curves", interrupt)
        stopped = run("train", video, "--epochs", 2, "--validation-share", 0.25)
    assert stopped.code == 130
    assert stopped.err[-1] == "stopped; run the same command again to resume"
    assert load_checkpoint("RUN/best.safetensors", device="cpu")
    ran = run("train", video, "--epochs", 2, "--validation-share", 0.25)
    assert ran.code == 0
    assert [line.partition(":")[0] for line in ran.err if line.startswith("epoch ")] == ["epoch 2 of 2"]
    assert [row["epoch"] for row in RunFolder.open("RUN").metrics()] == [1, 2]


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_every_setting_is_an_option_under_its_heading_in_the_help() -> None:
    names = [name for name in TrainingConfig.model_fields if name != "data"]
    helped = subprocess.run(
        [sys.executable, "-m", "surgicalsam_napari.cli", "train", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "120", "PYTHONIOENCODING": "utf-8"},
    ).stdout
    assert all(f"--{name.replace('_', '-')} " in helped for name in names)
    assert all(panel in helped for panel in PANELS)
    assert "several times" in helped


# Errors in one line --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train"], 2, "at least one project or dataset"),
        (["train", "VIDEO", "--epochs", "many"], 2, "--epochs"),
        (["train", "VIDEO", "--epoch", "3"], 2, "--epochs"),
        (["train", "GOOD", "VIDEO", "--preset", "quick"], 2, "not both"),
        (["train", "VIDEO", "GOOD"], 2, "before the data"),
        (["train", "VIDEO", "--preset", "quik"], 1, "endovis2017, endovis2018, quick"),
        (["train", "BAD", "VIDEO"], 1, "Did you mean epochs?"),
        (["train", "none.yaml", "VIDEO"], 1, "none.yaml cannot be read"),
        (["train", "VIDEO", "--epochs", "0"], 1, "epochs should be greater than or equal to 1; got 0"),
        (["train", "VIDEO", "--encoder", "light"], 1, "not both"),
        (["train", "VIDEO", "--device", "abacus"], 1, 'no device "abacus"'),
        (["train", "VIDEO", "--checkpoint", "none.safetensors"], 1, "no checkpoint"),
        (["train", "VIDEO", "--checkpoint", "BAD.safetensors"], 1, "BAD.safetensors is damaged"),
        (["train", "VIDEO", "--validation", "another"], 1, '"another" fits none'),
        (["train", "VIDEO", "--validation", "clip"], 1, "none would be left to train on"),
        (["train", "VIDEO", "--classes", "Clip Applier"], 1, "not among the classes to train"),
        (["train", "VIDEO", "--out", "GOOD/x"], 1, "Choose another one (--out)"),
        (["train", "VIDEO", "--out", "."], 1, "new or empty folder"),
        (["train", "none"], 1, "none does not exist"),
        (["train", "GOOD.txt"], 1, "GOOD.txt is not training data"),
        (["train", "VIDEO", "VIDEO"], 1, "the same video"),
        (["evaluate", "none.safetensors", "VIDEO"], 1, "no checkpoint none.safetensors"),
        (["evaluate", "VIDEO", "VIDEO"], 1, "should be a PyTorch checkpoint"),
        (["evaluate", "TINY"], 2, "DATA"),
        (["evaluate", "TINY", "none"], 1, "none does not exist"),
        (["evaluate", "TINY", "VIDEO", "--classes", "none.yaml"], 1, "none.yaml"),
    ],
)
def test_a_mistake_gets_one_line_and_an_exit_code(
    run: Run, video: Path, tiny_checkpoint: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "good.yaml").write_text("epochs: 2")
    (tmp_path / "bad.yaml").write_text("epoch: 2")
    (tmp_path / "GOOD.txt").write_text("text")
    (tmp_path / "BAD.safetensors").write_bytes(b"x" * 99)
    paths = {
        "VIDEO": str(video),
        "TINY": str(tiny_checkpoint),
        "GOOD": "good.yaml",
        "BAD": "bad.yaml",
        "GOOD/x": "good.yaml/x",
    }
    ran = run(*(paths.get(argument, argument) for argument in arguments))
    assert ran.code == code
    assert message in ran.complaint


def test_an_authors_checkpoint_needs_its_classes(run: Run, video: Path, authors_folder: Path) -> None:
    ran = run("evaluate", authors_folder / "model_ckp.pth", video)
    assert ran.code == 1
    assert "Give its class set" in ran.complaint


def test_a_checkpoint_must_know_one_of_the_classes_to_be_scored(
    run: Run, phantom_clip: Path, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    names = (InstrumentClass(1, "Stapler", "#ff0000"), InstrumentClass(2, "Trocar", "#00ff00"))
    video = corrected_video(phantom_clip, tmp_path, classes=ClassSet("mine", names))
    ran = run("evaluate", tiny_checkpoint, video, "--device", "cpu")
    assert ran.code == 1
    assert "show only Stapler, Trocar. Choose another checkpoint" in ran.complaint


def test_a_project_without_a_corrected_frame_is_an_error(run: Run, phantom_clip: Path, tmp_path: Path) -> None:
    ran = run("train", corrected_video(phantom_clip, tmp_path, frames=0))
    assert ran.code == 1
    assert "No frame of clip.surgicalsam was edited or verified" in ran.complaint


def test_verified_predictions_alone_give_a_warning(run: Run, clip: Path, tiny_model: SurgicalSAM) -> None:
    with Session() as session:
        session.use_model(tiny_model)
        project = session.open(clip)
        list(session.segment([1, 2], range(4)))
        for frame in range(4):
            project.labels.verify(frame)
    ran = run("train", clip)
    assert any("these are a model's own masks, nothing to learn from" in line for line in ran.err)


def test_a_class_with_one_frame_and_a_single_video_give_warnings(run: Run, own_video: Path) -> None:
    with Project.open(Project.default_folder(own_video)) as project:
        project.labels[3, 10:40, 10:60] = 7
    ran = run("train", own_video)
    assert ran.code == 0
    assert any("single video" in line for line in ran.err)
    assert any("Only one frame shows Clip Applier" in line for line in ran.err)


def test_a_missing_video_is_an_error(run: Run, own_video: Path) -> None:
    own_video.unlink()
    ran = run("train", Project.default_folder(own_video))
    assert ran.code == 1
    assert "own/clip.mp4" in ran.complaint


def test_a_damaged_label_file_is_an_error(run: Run, own_video: Path) -> None:
    chunk = next((Project.default_folder(own_video) / "labels").glob("c.0*"))
    chunk.write_bytes(b"damaged")
    ran = run("train", own_video)
    assert ran.code == 1
    assert str(chunk) in ran.complaint


def test_masks_of_another_size_are_an_error(run: Run, video: Path) -> None:
    run("export", video, "--out", "dataset", "--format", "indexed-png")
    mask = next(path for path in Path("dataset").rglob("*.png") if Image.open(path).mode == "P")
    Image.open(mask).resize((64, 48)).save(mask)
    ran = run("train", "dataset")
    assert ran.code == 1
    assert "labels of 64 x 48 pixels for a picture of 128 x 96 pixels" in ran.complaint


# Existing runs and corrections are kept ------------------------------------------------------------------------------


def test_the_corrected_command_can_use_the_same_folder_after_a_mistake(run: Run, video: Path) -> None:
    assert run("train", "none").code == 1
    assert run("train", video, "--learning-rate", "1e30", "--batch-size", "1").code == 1  # not a number
    assert run("train", video).code == 0


def test_a_finished_run_is_kept(run: Run, video: Path) -> None:
    run("train", video, "--validation-share", "0")
    checkpoint = Path("RUN/best.safetensors").read_bytes()
    ran = run("train", video, "--validation-share", "0", "--seed", 1)
    assert "holds a finished run" in ran.complaint
    assert Path("RUN/best.safetensors").read_bytes() == checkpoint


def test_a_stopped_run_does_not_resume_with_other_settings(run: Run, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surgicalsam_training.loop.trainer.draw_curves", interrupt)
    run("train", video, "--epochs", 2)
    before = {path: path.read_bytes() for path in Path("RUN").iterdir() if path.is_file()}
    ran = run("train", video, "--epochs", 2, "--learning-rate", 0.5)
    assert "other settings (learning_rate: 0.001 in the run, 0.5 now)" in ran.complaint
    assert {path: path.read_bytes() for path in Path("RUN").iterdir() if path.is_file()} == before
    Path("RUN/last.pt").write_bytes(b"damaged")
    assert "Remove it to start this run from the beginning" in run("train", video, "--epochs", 2).complaint


def test_two_runs_never_share_a_folder(run: Run, video: Path) -> None:
    with RunFolder.create("RUN", TrainingConfig()).held():
        ran = run("train", video)
    assert ran.code == 1
    assert "A run is active in" in ran.complaint


def test_a_folder_with_the_users_own_configuration_is_not_a_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("epochs: 3")
    with pytest.raises(TrainingError, match="new or empty folder"):
        RunFolder.create(tmp_path, TrainingConfig())
    assert (tmp_path / "config.yaml").read_text() == "epochs: 3"


def test_a_run_killed_before_its_start_leaves_its_folder_free(tmp_path: Path) -> None:
    (tmp_path / ".partial").mkdir()
    (tmp_path / ".partial" / "0123456789abcdef").write_text("epo")
    assert RunFolder.create(tmp_path, TrainingConfig()).path == tmp_path


def test_a_full_disk_is_an_error_and_the_run_resumes_later(run: Run, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("surgicalsam_training.run.run_folder.torch.save", full)
        ran = run("train", video)
    assert ran.code == 1
    assert "free some space and try again" in ran.complaint
    assert load_checkpoint("RUN/best.safetensors", device="cpu")
    assert run("train", video).code == 0


def test_training_never_changes_the_labels_of_a_person(run: Run, own_video: Path) -> None:
    def labels() -> np.ndarray:
        with Project.open(Project.default_folder(own_video)) as project:
            return np.stack([project.labels[frame] for frame in range(12)])

    before = labels()
    run("train", own_video)
    assert (labels() == before).all()
