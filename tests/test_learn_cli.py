"""`surgicalsam learn` and `Session.learn`, on a small phantom clip; learning is cut short to a few steps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from surgicalsam_napari.cli import main
from surgicalsam_napari.errors import CheckpointError, ProjectError, TrainingError
from surgicalsam_napari.inference import SegmentReport
from surgicalsam_napari.instruments import ENDOVIS2018, ClassSet, InstrumentClass
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.surgical_sam import FramePrediction
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.video import VideoReader, write_video
from surgicalsam_training.learn import Learned

OWN = ClassSet("own", (InstrumentClass(1, "Shaft", "#56b4e9"), InstrumentClass(2, "Tip", "#e69f00")))
SHAFT, TIP = 1, 2


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surgicalsam_training.learn.fitting.FEWEST_STEPS", 4)
    monkeypatch.setattr("surgicalsam_training.learn.fitting.STEPS_PER_FRAME", 0)
    monkeypatch.setattr("surgicalsam_training.learn.checking.CHECK_STEPS", 2)


@pytest.fixture(autouse=True)
def tiny_weights(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surgicalsam_napari.model.zoo.bundled_checkpoint", lambda: tiny_checkpoint)


Correct = Callable[..., Path]


@pytest.fixture
def corrected(clip: Path, phantom_clip: Path) -> Correct:
    """Creates the clip's project: in these frames all instruments are the class Shaft, in others, too, Tip."""
    masks = sorted(phantom_clip.with_name(f"{phantom_clip.stem}_labels").glob("*.png"))

    def correct(frames: range = range(3), tips: range = range(1), video: Path = clip) -> Path:
        with Project.open_or_create(VideoReader(video), OWN) as project:
            for frame in frames:
                project.labels.write_edit(
                    frame, np.where(np.asarray(Image.open(masks[frame])) > 0, SHAFT, 0).astype(np.uint8)
                )
            for frame in tips:
                project.labels[frame, 5:25, 5:25] = TIP
            return project.folder

    return correct


def learned_by(session: Session, **arguments: object) -> Learned:
    *_, learned = session.learn(**arguments)  # type: ignore[arg-type]
    assert isinstance(learned, Learned)
    return learned


# Session -------------------------------------------------------------------------------------------------------------


def test_a_session_learns_and_uses_the_new_model(corrected: Correct) -> None:
    with Session() as session:
        session.open(corrected())
        session.load_checkpoint()
        changes: list[str] = []
        session.model_changed.connect(lambda: changes.append(session.model.name if session.model else ""))
        learned = learned_by(session)
        assert session.model is not None and session.model.pixel_head is not None
        assert session.model.classes.names == ("Shaft", "Tip")
        assert changes == [learned.checkpoint.parent.name]
        assert learned.checkpoint.parent.parent == session.project.folder / "training"  # type: ignore[union-attr]
        assert learned.frame_count == 3
        for report in session.segment(session.trained_class_ids(), [5]):
            assert report.frame_index == 5


def test_a_session_that_is_stopped_keeps_its_model(corrected: Correct) -> None:
    with Session() as session:
        session.open(corrected())
        model = session.load_checkpoint()
        reports = session.learn()
        next(reports)
        reports.close()
        assert session.model is model


def test_learning_without_a_video_or_a_correction_is_an_error(clip: Path) -> None:
    with Session(OWN) as session:
        with pytest.raises(ProjectError, match="No video is open"):
            learned_by(session)
        session.open(clip)
        with pytest.raises(TrainingError, match="edited or verified"):
            learned_by(session)


def test_learning_again_starts_from_the_encoder_alone(corrected: Correct) -> None:
    """Two learnings from the same corrections give the same model, whatever is in use."""
    with Session() as session:
        session.open(corrected())
        session.load_checkpoint()
        first, second = learned_by(session), learned_by(session)
        assert first.checkpoint != second.checkpoint
        weights = [load_checkpoint(learned.checkpoint, device="cpu").state_dict() for learned in (first, second)]
        assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])


# Bad input -----------------------------------------------------------------------------------------------------------


def test_one_corrected_frame_is_enough_and_said(corrected: Correct) -> None:
    with Session() as session:
        session.open(corrected(range(1)))
        learned = learned_by(session)
    assert "Only 1 corrected frame" in learned.warnings[0]


def test_a_class_in_one_frame_only_is_said(corrected: Correct) -> None:
    with Session() as session:
        session.open(corrected(range(4), range(1)))
        assert any("Tip is in one corrected frame only" in warning for warning in learned_by(session).warnings)


def test_a_class_of_a_few_pixels_is_said(corrected: Correct) -> None:
    with Session() as session:
        project = session.open(corrected(range(4), range(0)))
        project.labels[0, 3:5, 3:5] = TIP
        assert any("Tip covers only a few pixels" in warning for warning in learned_by(session).warnings)


def test_the_command_line_says_that_verified_predictions_teach_nothing_new(corrected: Correct, capsys) -> None:
    with Session() as session:
        project = session.open(corrected(range(0), range(0)))
        label_map = np.zeros(project.labels.shape[1:], np.uint8)
        label_map[20:50, 20:60] = SHAFT
        values = np.ones(1, np.float32)
        for frame in (2, 3):
            project.labels.write_prediction(
                frame, FramePrediction((SHAFT,), label_map, values, values, np.array([True]), 0 * values)
            )
            project.labels.verify(frame)
        folder = project.folder
    assert main(["learn", str(folder)]) == 0
    assert "nothing new to learn from" in capsys.readouterr().err
    with Project.open(folder) as project:
        project.labels[5, 10:30, 10:30] = SHAFT
    assert main(["learn", str(folder)]) == 0
    assert "nothing new to learn from" not in capsys.readouterr().err


def test_corrected_frames_of_background_alone_are_an_error(corrected: Correct) -> None:
    with Session() as session:
        project = session.open(corrected(range(0), range(0)))
        project.labels.verify(3)
        with pytest.raises(TrainingError, match="show only background"):
            learned_by(session)


def test_a_corrected_background_frame_takes_part(corrected: Correct) -> None:
    with Session() as session:
        project = session.open(corrected())
        project.labels.verify(9)
        learned = learned_by(session)
        assert learned.frame_count == 4 and learned.classes == ("Shaft", "Tip")


def test_black_frames_can_be_learned_and_predicted(tmp_path: Path) -> None:
    video = tmp_path / "black.mp4"
    write_video(video, (np.zeros((96, 128, 3), np.uint8) for _ in range(6)), 25)
    with Session(OWN) as session:
        project = session.open(video)
        project.labels[0, 20:40, 20:60] = SHAFT
        learned = learned_by(session)
        assert learned.classes == ("Shaft",)
        reports = list(session.predict_again(range(1, 6)))
        assert [report.done for report in reports if isinstance(report, SegmentReport)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_bad_weights_are_an_error_and_nothing_is_lost(corrected: Correct, tmp_path: Path, damage: str) -> None:
    weights = tmp_path / "weights.safetensors"
    if damage == "damaged":
        weights.write_bytes(b"not a checkpoint")
    with Session() as session:
        project = session.open(corrected())
        model, before = session.load_checkpoint(), project.labels[0].copy()
        with pytest.raises(CheckpointError):
            learned_by(session, checkpoint=weights)
        assert session.model is model
        np.testing.assert_array_equal(project.labels[0], before)


def test_an_authors_checkpoint_needs_only_its_encoder(
    corrected: Correct, authors_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its seven unnamed classes need not fit the project; without SAM's weights the error names them."""
    monkeypatch.setenv("SURGICALSAM_MODELS", str(tmp_path / "nothing"))
    with Session() as session:
        session.open(corrected())
        with pytest.raises(CheckpointError, match=r"needs its weights \(sam_vit_h"):
            learned_by(session, checkpoint=authors_folder / "model_ckp.pth")


# Command line --------------------------------------------------------------------------------------------------------


def test_a_video_means_its_project_and_the_checkpoint_is_printed_last(corrected: Correct, clip: Path, capsys) -> None:
    folder = corrected()
    assert main(["learn", str(clip)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("learned Shaft, Tip from 3 corrected frames in ")
    assert any("Only 3 corrected frames" in line for line in out)
    checkpoint = Path(out[-1])
    assert checkpoint.is_file() and checkpoint.parent.parent == folder / "training"


def test_expected_iou_is_printed_per_class(corrected: Correct, capsys) -> None:
    assert main(["learn", str(corrected(range(10), range(10))), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert set(record["expected_iou"]) == {"Shaft", "Tip"}
    assert record["frame_count"] == 10 and Path(record["checkpoint"]).is_file()


@pytest.mark.parametrize("vote", ["--vote", "--no-vote"])
def test_segment_predicts_the_untouched_frames(corrected: Correct, capsys, vote: str) -> None:
    folder = corrected()
    assert main(["learn", str(folder), "--segment", vote]) == 0
    assert "9 frames predicted again" in capsys.readouterr().out
    with Project.open(folder) as project:
        provenance = project.labels.provenance_table()
        assert bool(project.tracks.table.tracks) == (vote == "--vote")
        assert project.history.to_undo.name == "Predict 9 frames again"
    assert (provenance[3:] != Provenance.EMPTY).all()
    assert (provenance[:3, 0] == Provenance.EDITED).all()


def test_classes_restrict_what_is_learned(corrected: Correct, capsys) -> None:
    assert main(["learn", str(corrected()), "--classes", "Shaft", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["classes"] == ["Shaft"]
    assert load_checkpoint(record["checkpoint"], device="cpu").classes.names == ("Shaft",)


def test_several_projects_need_out(corrected: Correct, clip: Path, tmp_path: Path, capsys) -> None:
    other = Path(shutil.copy(clip, tmp_path / "other.mp4"))
    with other.open("ab") as file:  # another fingerprint
        file.write(b"\0" * 64)
    folders = [str(corrected()), str(corrected(range(2), range(0), other))]
    assert main(["learn", *folders]) == 2
    assert "--out" in capsys.readouterr().err
    assert main(["learn", *folders, "--out", str(tmp_path / "run")]) == 0
    assert Path(capsys.readouterr().out.splitlines()[-1]) == tmp_path / "run" / "best.safetensors"


@pytest.mark.parametrize("what", ["no project", "no correction", "unknown class"])
def test_mistakes_are_one_line_and_exit_code_1(corrected: Correct, clip: Path, capsys, what: str) -> None:
    arguments = [str(clip)]
    if what == "no correction":
        corrected(range(0), range(0))
    elif what == "unknown class":
        corrected()
        arguments += ["--classes", "Scalpel"]
    assert main(["learn", *arguments]) == 1
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("surgicalsam: ")


def test_a_project_of_endovis_classes_learns_those_it_shows(clip: Path, phantom_clip: Path, capsys) -> None:
    masks = sorted(phantom_clip.with_name(f"{phantom_clip.stem}_labels").glob("*.png"))
    with Project.open_or_create(VideoReader(clip), ENDOVIS2018) as project:
        project.labels.write_edit(0, np.asarray(Image.open(masks[0])))
        shown = [ENDOVIS2018.by_id(int(value)).name for value in np.unique(project.labels[0]) if value]
    assert main(["learn", str(clip), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == shown


def test_parts_are_learned_and_segmented_by_the_path_of_their_folder(
    corrected: Correct, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Embeddings are computed once, for instruments and parts; no part is predicted outside its instrument."""
    folder = corrected(range(12), range(0))
    with Project.open(folder) as project:
        project.change_classes(lambda present: present.part_added("Rear", [SHAFT]).part_added("Front", [SHAFT]))
        parts = project.open_parts()
        for frame in range(3):
            whole = project.labels.frame(frame) == SHAFT
            left = np.arange(whole.shape[1]) < whole.shape[1] // 2
            parts.labels.write_edit(frame, np.where(whole, np.where(left, 1, 2), 0).astype(np.uint8))
    assert main(["learn", str(folder / "parts"), "--device", "cpu", "--json"]) == 0
    checkpoint = json.loads(capsys.readouterr().out)["checkpoint"]
    assert Path(checkpoint).is_relative_to(folder / "parts" / "training")
    command = ["segment", str(folder / "parts"), "--all", "--checkpoint", checkpoint, "--device", "cpu", "--json"]
    assert main(command) == 0
    (result,) = json.loads(capsys.readouterr().out)["videos"]
    assert result["classes"] == ["Rear", "Front"] and result["segmented"] == 12
    assert not (folder / "parts" / "embeddings").exists()
    with Project.open(folder) as project:
        (store,) = project.embedding_stores()
        assert store.valid_count == 12 and not project.manifest.checkpoints
        for frame in range(12):
            assert not project.open_parts().labels.frame(frame)[project.labels.frame(frame) != SHAFT].any()
    assert main(["export", str(folder / "parts"), "--out", str(tmp_path / "out"), "--frames", "0:3"]) == 0
    assert ClassSet.from_json(json.loads((tmp_path / "out" / "classes.json").read_text())).names == ("Rear", "Front")
