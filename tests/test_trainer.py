"""Training from a run's folder to its checkpoint, on a phantom project with corrected frames."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from surgicalsam_napari.errors import DiskSpaceError, TrainingError
from surgicalsam_napari.instruments import ENDOVIS2018, ClassSet, InstrumentClass
from surgicalsam_napari.model.checkpoint import load_checkpoint, read_checkpoint_info
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.store import Project
from surgicalsam_napari.video import VideoReader
from surgicalsam_training import launch
from surgicalsam_training.config import TrainingConfig, preset
from surgicalsam_training.data.training_data import TrainingData, open_training_data
from surgicalsam_training.launch import train_in_process
from surgicalsam_training.loop.rehearsal import PhantomRehearsal
from surgicalsam_training.loop.sampling import PromptSampler
from surgicalsam_training.loop.trainer import train
from surgicalsam_training.loop.tuning import add_classes, blended, tuned_state
from surgicalsam_training.reports import EpochReport, PreparationReport, ResultReport, Scores, SplitReport, weakness
from surgicalsam_training.run.run_folder import RunFolder
from surgicalsam_training.scoring.evaluate import best_threshold, embed_missing, evaluate, predicted_label_map
from surgicalsam_training.scoring.protocol import known_classes

NEEDLE = ClassSet("with a needle", (*ENDOVIS2018, InstrumentClass(9, "Needle", "#ffffff")))
RUN_TRAINING = str(Path(__file__).with_name("run_training.py"))
SUMMED_IN_ANOTHER_ORDER = 1e-3  # float32; Adam's first steps amplify differences in gradients near 0


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory, phantom_clip: Path) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    shutil.copytree(phantom_clip.with_name(f"{phantom_clip.stem}_labels"), folder / f"{phantom_clip.stem}_labels")
    return Path(shutil.copy(phantom_clip, folder))


@pytest.fixture(scope="module")
def corrected(video: Path) -> Path:
    """A project of 12 frames; eight of them have correct, verified labels."""
    masks = sorted(video.with_name(f"{video.stem}_labels").glob("*.png"))
    with Project.create(Project.default_folder(video), VideoReader(video), ENDOVIS2018) as project:
        for frame_index in range(8):
            project.labels[frame_index] = np.asarray(Image.open(masks[frame_index]))
            project.labels.verify(frame_index)
        return project.folder


Start = Callable[..., RunFolder]


@pytest.fixture
def start(corrected: Path, tiny_checkpoint: Path, tmp_path: Path) -> Start:
    """Creates the run of a small, quick training; keywords change its settings."""

    def start_run(name: str = "run", **settings: object) -> RunFolder:
        config = TrainingConfig(
            data=(corrected,), checkpoint=tiny_checkpoint, epochs=3, batch_size=4, loss_resolution="logits",
            augmented_versions=1, device="cpu", validation_share=0.2,
        )  # fmt: skip
        return RunFolder.create(tmp_path / name, config.changed(**settings))

    return start_run


def finish(run: RunFolder) -> ResultReport:
    *_, result = train(run)
    assert isinstance(result, ResultReport)
    return result


def totals(run: RunFolder) -> list[float | None]:
    return [row["total"] for row in run.metrics()]


@pytest.mark.slow
def test_a_run_writes_checkpoint_record_metrics_curves_and_examples(start: Start) -> None:
    run = start()
    reports = list(train(run))
    split, result = next(r for r in reports if isinstance(r, SplitReport)), reports[-1]
    assert isinstance(result, ResultReport)
    assert (split.training_frames, split.validation_frames) == (6, 2)
    assert "block" in split.how
    assert [r.done for r in reports if isinstance(r, EpochReport)] == [1, 2, 3]
    assert len(run.metrics()) == 3
    assert run.curves.exists()
    assert all(Path(example).exists() for example in result.examples)
    assert result.before is not None and result.after is not None
    assert run.record["data"] and run.record["environment"]["torch"] == torch.__version__
    assert load_checkpoint(run.best_checkpoint, device="cpu").name == "run"
    assert read_checkpoint_info(run.best_checkpoint).training_record["config"]["epochs"] == 3
    assert not run.last_state.exists()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_losses(start: Start) -> None:
    first, second = start("first"), start("second")
    finish(first), finish(second)
    assert totals(first) == totals(second)


@pytest.mark.slow
def test_the_micro_batch_size_does_not_change_the_result(start: Start) -> None:
    one, many = start("one", micro_batch_size=1), start("many", micro_batch_size=8)
    finish(one), finish(many)
    assert totals(one) == pytest.approx(totals(many), rel=SUMMED_IN_ANOTHER_ORDER)


@pytest.mark.slow
def test_a_killed_run_resumes_with_the_same_losses(start: Start) -> None:
    complete, killed = start("complete", epochs=4), start("killed", epochs=4)
    finish(complete)
    process = subprocess.Popen([sys.executable, RUN_TRAINING, str(killed.path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    while b"EpochReport" not in process.stdout.readline():
        assert process.poll() is None
    process.kill()
    process.communicate()
    assert len(killed.metrics()) < 4
    finish(RunFolder.create(killed.path, killed.config))
    assert totals(killed) == pytest.approx(totals(complete), rel=1e-5)


@pytest.mark.slow
def test_two_processes_have_the_same_losses_as_one(start: Start) -> None:
    settings = {"epochs": 2, "batch_size": 5, "micro_batch_size": 2, "presence_tunes_decoder": True}
    alone, together = start("alone", **settings), start("together", **settings)
    finish(alone)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    finished = subprocess.run([*torchrun, RUN_TRAINING, str(together.path)], capture_output=True, text=True, timeout=280)
    assert finished.returncode == 0, finished.stderr
    assert totals(together) == pytest.approx(totals(alone), rel=SUMMED_IN_ANOTHER_ORDER)
    assert together.result() is not None


def test_cancelling_keeps_the_best_so_far(start: Start) -> None:
    run = start(epochs=500)
    result = None
    for report in train(run):
        if isinstance(report, EpochReport):
            run.request_stop()
        result = report
    assert isinstance(result, ResultReport)
    assert result.reason == "cancelled"
    assert load_checkpoint(result.checkpoint, device="cpu").classes == ENDOVIS2018


def test_a_run_that_reaches_its_time_limit_ends_with_a_validation(start: Start) -> None:
    run = start(epochs=500, minutes=0.001, validate_every=100)
    assert finish(run).reason == "time is up"
    assert run.metrics()[-1]["challenge_iou"] is not None


def test_patience_ends_a_run_that_does_not_improve(start: Start) -> None:
    run = start(epochs=50, patience=2, learning_rate=1e-9)
    assert finish(run).reason == "no longer better"
    assert len(run.metrics()) < 50


def test_a_loss_that_is_not_a_number_is_reported_and_the_best_is_kept(start: Start) -> None:
    run = start(learning_rate=1e6)
    with pytest.raises(TrainingError, match=r"not a number in epoch \d.*smaller learning rate"):
        finish(run)
    assert load_checkpoint(run.best_checkpoint, device="cpu")


def test_a_full_disk_is_reported_and_the_best_is_kept(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start()

    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("surgicalsam_training.run.run_folder.torch.save", full)
    with pytest.raises(DiskSpaceError, match="free some space"):
        finish(run)
    assert load_checkpoint(run.best_checkpoint, device="cpu")


def test_two_runs_in_one_folder_are_refused(start: Start) -> None:
    run = start()
    with run.held():
        assert run.is_running
        with pytest.raises(TrainingError, match="A run is active"):
            finish(RunFolder.open(run.path))
        with pytest.raises(TrainingError, match="A run is active"):
            start()


def test_a_run_with_other_settings_is_not_changed(start: Start) -> None:
    for report in train(start(epochs=50)):
        if isinstance(report, EpochReport):
            break
    with pytest.raises(TrainingError, match=r"other settings \(learning_rate: 0.001 in the run, 0.5 now\)"):
        start(epochs=50, learning_rate=0.5)


def test_a_finished_run_is_not_changed(start: Start) -> None:
    finish(start(epochs=1))
    with pytest.raises(TrainingError, match="finished run"):
        start(epochs=1)


def test_a_run_is_not_resumed_with_changed_labels(start: Start, corrected: Path) -> None:
    run = start(epochs=50)
    for report in train(run):
        if isinstance(report, EpochReport):
            break
    run.write_record(data={"another": "fingerprint"})
    with pytest.raises(TrainingError, match=r"labels of another, .* have changed"):
        finish(run)


def test_copies_can_be_embedded_during_training(start: Start) -> None:
    run = start(augmentation="online", augmented_versions=2, epochs=2)
    finish(run)
    assert len(run.metrics()) == 2


def test_the_losses_at_frame_size_as_in_the_paper_run(start: Start) -> None:
    run = start(loss_resolution="frame", epochs=1, presence_weight=0)
    finish(run)
    assert set(run.metrics()[0]) >= {"dice", "contrastive", "total"}
    assert "presence" not in run.metrics()[0]


def test_a_training_can_start_from_an_encoder_only(start: Start) -> None:
    run = start(checkpoint=None, encoder="light", epochs=1, tokens_per_class=3, augmented_versions=0)
    finish(run)
    model = load_checkpoint(run.best_checkpoint, device="cpu")
    assert model.class_prompt_encoder.tokens_per_class == 3
    assert len(model.classes) == len(ENDOVIS2018)


def test_phantom_frames_can_be_rehearsed(start: Start) -> None:
    phases = [
        r.phase
        for r in train(start(checkpoint="light", rehearsed_frames=2, epochs=1, augmented_versions=0))
        if isinstance(r, PreparationReport)
    ]
    assert phases.count("making synthetic frames") == 2


def test_rehearsed_prompts_have_classes_that_no_corrected_frame_shows(corrected: Path, tiny_model: SurgicalSAM) -> None:
    rehearsal = PhantomRehearsal(8, tiny_model.classes)
    assert list(rehearsal.prepare(tiny_model)) == [1, 2, 3, 4, 5, 6, 7, 8]
    with closing(open_training_data([corrected], base=ENDOVIS2018)) as data:
        sampler = PromptSampler(data, range(8), tiny_model, TrainingConfig(batch_size=4), rehearsal)
        rehearsed = [prompt for step in sampler.steps(0) for prompt in step if prompt.is_rehearsed]
        shown = {class_id for example_index in range(8) for class_id in data.present_class_ids(example_index)}
    assert {prompt.class_id for prompt in rehearsed} - shown
    assert sampler.ready(rehearsed[0], 0).embedding.shape == tiny_model.embedding_shape


def test_weights_are_averaged_with_the_start_only_within_the_block(tiny_checkpoint: Path) -> None:
    model = load_checkpoint(tiny_checkpoint, device="cpu")
    start = tuned_state(model)
    model.prototypes.class_embeddings.weight.data += 1
    with blended(model, start, 0.25):
        assert torch.allclose(model.prototypes() - start["prototypes.class_embeddings.weight"], torch.tensor(0.75))
    assert torch.allclose(model.prototypes() - start["prototypes.class_embeddings.weight"], torch.tensor(1.0))


def test_a_new_class_adds_a_prototype_and_keeps_the_others(tiny_checkpoint: Path) -> None:
    model = load_checkpoint(tiny_checkpoint, device="cpu")
    before = model.prototypes().clone()
    embedding = torch.arange(128.0)
    add_classes(model, NEEDLE, {9: embedding})
    assert torch.equal(model.prototypes()[:7], before)
    assert torch.equal(model.prototypes()[7], embedding)
    assert model.classes == NEEDLE


def test_a_new_class_that_no_training_frame_shows_is_an_error(tiny_checkpoint: Path) -> None:
    model = load_checkpoint(tiny_checkpoint, device="cpu")
    with pytest.raises(TrainingError, match="Needle has none"):
        add_classes(model, NEEDLE, {})


def test_a_corrected_new_class_can_be_predicted_after_training(video: Path, tmp_path: Path, tiny_checkpoint: Path) -> None:
    with Project.create(tmp_path / "p.surgicalsam", VideoReader(video), NEEDLE) as project:
        for frame_index in range(4):
            project.labels[frame_index, 20:60, 30 + frame_index : 90] = 9
            project.labels.verify(frame_index)
        folder = project.folder
    config = TrainingConfig(
        data=(folder,), checkpoint=tiny_checkpoint, epochs=2, validation_share=0, loss_resolution="logits",
        augmented_versions=0, device="cpu",
    )  # fmt: skip
    finish(RunFolder.create(tmp_path / "run", config))
    model = load_checkpoint(tmp_path / "run/best.safetensors", device="cpu")
    assert model.classes.by_name("Needle").id in model.classes.ids
    assert model.predict(model.embed([np.zeros((96, 128, 3), np.uint8)]), model.classes.ids, (96, 128))


OWN = ClassSet(
    "own",
    (InstrumentClass(1, "Shaft", "#ffffff"), InstrumentClass(2, "Tip", "#ffff00"), InstrumentClass(3, "Clip", "#00ffff")),
)


@pytest.fixture
def own_folder(video: Path, tmp_path: Path) -> Path:
    """A project whose class set the start checkpoint does not know; two of its three classes are in eight frames."""
    with Project.create(tmp_path / "own.surgicalsam", VideoReader(video), OWN) as project:
        for frame_index in range(8):
            project.labels[frame_index, 20:60, 30 + frame_index : 90] = 1
            project.labels[frame_index, 60:70, 30:50] = 2
            project.labels.verify(frame_index)
        return project.folder


@pytest.mark.slow
def test_classes_of_ones_own_replace_those_of_the_start(start: Start, own_folder: Path) -> None:
    reports = list(train(start(data=[own_folder], kept_of_start=0.9, rehearsed_frames=4)))
    split, result = next(r for r in reports if isinstance(r, SplitReport)), reports[-1]
    assert isinstance(result, ResultReport)
    assert any("The start knows none of these classes" in warning for warning in split.warnings)
    assert not any(isinstance(r, PreparationReport) and "synthetic" in r.phase for r in reports)
    model = load_checkpoint(result.checkpoint, device="cpu")
    assert model.classes.names == ("Shaft", "Tip")
    assert result.before is None and result.after is not None
    assert set(result.after.class_iou) <= {"Shaft", "Tip"}
    assert result.examples


def test_the_paper_s_presets_keep_their_values() -> None:
    for name, sequences in (("endovis2018", ("2", "5", "9", "15")), ("endovis2017", ("1", "3"))):
        assert (preset(name).kept_of_start, preset(name).rehearsed_frames, preset(name).validation) == (0, 0, sequences)


def test_validation_asks_only_for_the_trained_classes(corrected: Path, tiny_model: SurgicalSAM) -> None:
    with closing(open_training_data([corrected], base=ENDOVIS2018)) as data:
        assert known_classes(tiny_model, data) == ENDOVIS2018.ids
        shown = sorted(data.shown_class_ids)
        one, others = shown[0], [ENDOVIS2018.by_id(class_id).name for class_id in shown[1:]]
    name = ENDOVIS2018.by_id(one).name
    with closing(open_training_data([corrected], base=ENDOVIS2018, classes=[name], ignored_classes=others)) as data:
        assert known_classes(tiny_model, data) == (one,)
        assert set(evaluate(tiny_model, data, _embedded(tiny_model, data)).class_iou) >= {one}
        labels = {value for i in range(8) for value in np.unique(predicted_label_map(tiny_model, data, i)).tolist()}
        assert labels <= {0, one}


def _embedded(model: SurgicalSAM, data: TrainingData) -> range:
    for _report in embed_missing(model, data, range(len(data.frames))):
        pass
    return range(len(data.frames))


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (70.0, {"Shaft": 80.0, "Tip": 1.5}, "IoU below 50: Tip 2"),
        (85.0, {"Shaft": 80.0, "Tip": 78.0}, "Worse than the start"),
        (70.0, {"Shaft": 80.0, "Tip": 78.0}, None),
        (None, {"Shaft": 12.0}, "Shaft 12"),
    ],
)
def test_a_poor_result_says_so(before: float | None, after: dict[str, float | None], words: str | None) -> None:
    mean = sum(value or 0 for value in after.values()) / len(after)
    start = None if before is None else Scores(before, before, before, {}, None, None)
    result = ResultReport("best", "all epochs", 1, 1.0, start, Scores(mean, mean, mean, after, None, None), ())
    text = weakness(result)
    assert text is None if words is None else text is not None and words in text


def test_few_validation_frames_give_no_verdict() -> None:
    start, after = (Scores(iou, iou, iou, {"Shaft": iou}, None, None) for iou in (85.0, 80.0))
    results = [ResultReport("best", "all epochs", 1, 1.0, start, after, (), frames) for frames in (9, 10)]
    assert [result.is_judged for result in results] == [False, True]
    few, enough = map(weakness, results)
    assert few == "The scores rest on 9 frames, too few for a verdict (at least 10)."
    assert enough is not None and enough.startswith("Worse than the start")


def test_a_result_without_validation_makes_no_claim() -> None:
    assert weakness(ResultReport("best", "all epochs", 1, 1.0, None, None, ())) is None


def test_presence_is_calibrated_if_there_are_enough_pairs() -> None:
    present = np.repeat([True, False], 10)
    presence = np.where(present, 0.35, 0.25)
    assert 0.25 < best_threshold(presence, present, 0.5) <= 0.35
    assert best_threshold(presence[8:12], present[8:12], 0.5) == 0.5


# In a separate process -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_separate_process_gives_the_same_reports(start: Start) -> None:
    run = start(checkpoint="light", epochs=2)
    *reports, result = train_in_process(run)
    assert [r.done for r in reports if isinstance(r, EpochReport)] == [1, 2]
    assert result == run.result()
    assert not run.is_running


@pytest.mark.slow
def test_closing_the_reports_stops_the_process_and_keeps_the_best(start: Start) -> None:
    run = start(checkpoint="light", epochs=5000)
    reports = train_in_process(run)
    while not isinstance(next(reports), EpochReport):
        pass
    reports.close()
    assert not run.is_running
    result = run.result()
    assert result is not None and result.reason == "cancelled"


def test_a_mistake_in_the_data_reaches_the_user_in_one_line(start: Start, tmp_path: Path) -> None:
    run = start(checkpoint="light", data=[tmp_path / "nothing"])
    with pytest.raises(TrainingError, match="nothing") as error:
        list(train_in_process(run))
    assert "\n" not in str(error.value)


def test_a_crashed_process_is_reported_with_its_last_lines(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start()
    run.log.write_text("the last line\n")
    monkeypatch.setattr(launch.sys, "executable", "/bin/false" if Path("/bin/false").exists() else sys.executable)
    with pytest.raises(TrainingError, match=r"(?s)ended with code 1.*No checkpoint.*the last line"):
        list(train_in_process(run))


@pytest.mark.slow
def test_output_that_is_not_json_does_not_damage_the_run_folder(start: Start) -> None:
    run = start(checkpoint="light", epochs=1)
    list(train_in_process(run))
    assert json.loads((run.path / "result.json").read_text())["kind"] == "ResultReport"
