"""Learning from corrected frames: the pixel head of a new checkpoint, its warnings and its errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.inference import segment_frames
from surgicalsam_napari.instruments import ClassSet, InstrumentClass
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.store import Project
from surgicalsam_napari.video import VideoReader, write_video
from surgicalsam_training.learn import Learned, LearnReport, fitting, learn
from surgicalsam_training.learn.fitting import head_loss
from surgicalsam_training.learn.targets import head_target

SIZE, FRAME_COUNT = (96, 128), 14
CLASSES = ClassSet("own", (InstrumentClass(1, "Grasper", "#ff0000"), InstrumentClass(2, "Hook", "#00ff00")))


def scene(index: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright grasper that moves right and a dark hook that moves left, on tissue: (H, W, 3) and (H, W)."""
    rng = np.random.default_rng(index)
    frame = np.full((*SIZE, 3), (150, 60, 50), np.float32) + rng.normal(0, 6, (*SIZE, 3))
    labels = np.zeros(SIZE, np.uint8)
    labels[16:48, 6 + 5 * index : 40 + 5 * index] = 1
    labels[60:88, 80 - 4 * index : 110 - 4 * index] = 2
    frame[labels == 1] += (70, 150, 160)
    frame[labels == 2] -= (120, 50, 30)
    return frame.clip(0, 255).astype(np.uint8), labels


@pytest.fixture(scope="session")
def moving_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("learn") / "clip.mp4"
    write_video(path, [scene(index)[0] for index in range(FRAME_COUNT)])
    return path


@pytest.fixture
def project(moving_clip: Path, tmp_path: Path) -> Iterator[Project]:
    with Project.create(tmp_path / "clip.surgicalsam", VideoReader(moving_clip), CLASSES) as new_project:
        yield new_project


def correct(project: Project, *frame_indices: int, class_ids: tuple[int, ...] = (1, 2)) -> None:
    for index in frame_indices:
        labels = scene(index)[1]
        project.labels[index] = np.where(np.isin(labels, class_ids), labels, 0)
        project.labels.verify(index)


def learned_from(project: Project, checkpoint: Path) -> Learned:
    *reports, learned = learn(project, checkpoint=checkpoint, device="cpu")
    assert isinstance(learned, Learned)
    assert reports and all(isinstance(report, LearnReport) and 0 < report.done <= report.total for report in reports)
    return learned


def test_the_learned_checkpoint_segments_the_other_frames(project: Project, tiny_checkpoint: Path) -> None:
    correct(project, *range(0, FRAME_COUNT, 2))
    learned = learned_from(project, tiny_checkpoint)
    assert learned.checkpoint.is_relative_to(project.folder)
    assert learned.frame_count == 7
    assert learned.classes == ("Grasper", "Hook")
    model = load_checkpoint(learned.checkpoint, device="cpu")
    assert model.classes == CLASSES  # none of the seven classes of the checkpoint that it started from
    others = list(range(1, FRAME_COUNT, 2))
    list(segment_frames(project, model, CLASSES.ids, others))
    for class_id in CLASSES.ids:
        pairs = [(project.labels[index] == class_id, scene(index)[1] == class_id) for index in others]
        ious = [(mask & truth).sum() / (mask | truth).sum() for mask, truth in pairs]
        assert np.mean(ious) > 0.8
    assert (project.labels[0] == scene(0)[1]).all(), "a corrected frame changed"


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "FEWEST_STEPS", 30)
    monkeypatch.setattr(fitting, "STEPS_PER_FRAME", 0)


@pytest.mark.usefixtures("few_steps")
def test_a_learning_is_the_same_every_time_and_uses_every_corrected_frame(project: Project, tiny_checkpoint: Path) -> None:
    correct(project, 0, 3)
    first, second = (learned_from(project, tiny_checkpoint) for _ in range(2))
    assert first.checkpoint != second.checkpoint
    weights = [load_checkpoint(result.checkpoint, device="cpu").pixel_head.state_dict() for result in (first, second)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    correct(project, 6, 9)
    assert learned_from(project, first.checkpoint).frame_count == 4


def test_frames_left_out_in_turn_give_the_iou_to_expect(project: Project, tiny_checkpoint: Path) -> None:
    correct(project, *range(10))
    learned = learned_from(project, tiny_checkpoint)
    assert set(learned.expected_iou) == {"Grasper", "Hook"}
    assert all(40 < iou <= 100 for iou in learned.expected_iou.values())


@pytest.mark.usefixtures("few_steps")
class TestLittleData:
    def test_without_a_corrected_frame(self, project: Project, tiny_checkpoint: Path) -> None:
        with pytest.raises(TrainingError, match="edited or verified"):
            learned_from(project, tiny_checkpoint)

    def test_with_background_alone(self, project: Project, tiny_checkpoint: Path) -> None:
        correct(project, 2, 5, class_ids=())
        with pytest.raises(TrainingError, match=r"shows an instrument.*only background"):
            learned_from(project, tiny_checkpoint)
        assert not list(project.folder.glob("training/*/best.safetensors"))

    def test_one_corrected_frame_is_enough_and_warned_about(self, project: Project, tiny_checkpoint: Path) -> None:
        correct(project, 4)
        learned = learned_from(project, tiny_checkpoint)
        assert learned.expected_iou == {}
        assert any("Only 1 corrected frame" in warning for warning in learned.warnings)

    def test_a_class_in_one_frame_and_a_class_of_a_few_pixels_are_named(
        self, project: Project, tiny_checkpoint: Path
    ) -> None:
        correct(project, 1, 2, class_ids=(1,))
        correct(project, 6, class_ids=(1, 2))
        assert any(
            "Hook is in one corrected frame only" in warning for warning in learned_from(project, tiny_checkpoint).warnings
        )
        project.labels.unlock(6)
        labels = scene(6)[1]
        labels[labels == 2] = 0
        labels[70, 60:62] = 2
        project.labels[6] = labels
        assert any("Hook covers only a few pixels" in warning for warning in learned_from(project, tiny_checkpoint).warnings)

    def test_a_class_that_no_corrected_frame_shows_is_not_learned(self, project: Project, tiny_checkpoint: Path) -> None:
        correct(project, 1, 5, class_ids=(2,))
        learned = learned_from(project, tiny_checkpoint)
        assert learned.classes == ("Hook",)
        assert load_checkpoint(learned.checkpoint, device="cpu").classes.ids == (2,)

    def test_a_poor_learning_says_so(self, project: Project, tiny_checkpoint: Path) -> None:
        rng = np.random.default_rng(0)
        for index in range(10):  # labels that no picture explains
            labels = np.zeros(SIZE, np.uint8)
            row, column = rng.integers(0, 60), rng.integers(0, 90)
            labels[row : row + 24, column : column + 24] = 1
            project.labels[index] = labels
        warnings = learned_from(project, tiny_checkpoint).warnings
        assert any("Grasper is not learned well yet" in warning and "learn again" in warning for warning in warnings)

    def test_black_frames_can_be_learned_from(self, tmp_path: Path, tiny_checkpoint: Path) -> None:
        write_video(tmp_path / "black.mp4", [np.zeros((*SIZE, 3), np.uint8)] * 4)
        with Project.create(tmp_path / "black.surgicalsam", VideoReader(tmp_path / "black.mp4"), CLASSES) as project:
            correct(project, 0, 2)
            assert learned_from(project, tiny_checkpoint).frame_count == 2

    def test_closing_it_early_writes_no_checkpoint(self, project: Project, tiny_checkpoint: Path) -> None:
        correct(project, 0, 4)
        reports = learn(project, checkpoint=tiny_checkpoint, device="cpu")
        while next(reports).phase != "learning":
            pass
        reports.close()
        assert not list(project.folder.glob("training/*/best.safetensors"))
        assert learned_from(project, tiny_checkpoint).frame_count == 2


def test_a_class_that_is_not_annotated_is_not_taught_as_background() -> None:
    label_map = np.zeros((64, 64), np.uint8)
    label_map[:32] = 1
    target = head_target(label_map, [1, 2], frozenset({1}), FrameGeometry((64, 64), 64), 16)
    assert target.is_open.tolist() == [True, False, True]
    torch.testing.assert_close(target.share[:, 0, 0], torch.tensor([0.0, 1, 0]).half())
    torch.testing.assert_close(target.share[:, 12, 0], torch.tensor([1.0, 0, 0]).half())
    share, is_open = target.share[None].float(), target.is_open[None]
    second = torch.full((1, 3, 16, 16), -10.0)
    second[:, 1, :8], second[:, 2, 8:] = 10, 10  # where no annotated class is: the class that nobody annotated
    background = torch.full((1, 3, 16, 16), -10.0)
    background[:, 1, :8], background[:, 0, 8:] = 10, 10
    assert head_loss(second, share, is_open) == pytest.approx(float(head_loss(background, share, is_open)), abs=1e-4)
    assert head_loss(second, share, torch.tensor([[True, False, False]])) > 5


def test_the_padding_of_the_square_teaches_nothing() -> None:
    target = head_target(np.ones((32, 64), np.uint8), [1], frozenset({1}), FrameGeometry((32, 64), 64), 16)
    assert target.share[1, :8].min() == 1
    assert target.share[:, 8:].max() == 0
