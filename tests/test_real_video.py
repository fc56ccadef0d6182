"""The scores of the benchmark on annotated videos, on arrays and clips small enough to count by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.formats.indexed_png import write_classes
from surgicalsam_napari.inference.refine import Click
from surgicalsam_napari.instruments import ClassSet, InstrumentClass
from surgicalsam_napari.model.surgical_sam import FramePrediction
from surgicalsam_napari.store import Project
from surgicalsam_napari.video import VideoReader

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks" / "quality"))
from annotated_video import by_class, class_ious, good_share, open_annotated, protocol
from frames_to_correct import head_of_queue
from propagating import fitting_starts
from simple_clicks import clicked_through, grabcut_answer, summary, walker_answer
from simple_heads import SimpleHead
from simple_ways import carried_by_flow, flow_from, nearest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "quality" / "real_video.py"
PARTS = ClassSet("Parts", (InstrumentClass(1, "Shaft", "#ff0000"), InstrumentClass(2, "Tip", "#00ff00")))
SIZE = (48, 64)
PARTS_YAML = "name: Parts\nclasses:\n- {id: 1, name: Shaft}\n- {id: 2, name: Tip}\n"


def label_map(shaft: slice, tip: slice = slice(0, 0)) -> np.ndarray:
    """(48, 64): columns of the shaft and of the tip, in rows 10 to 29."""
    labels = np.zeros(SIZE, np.uint8)
    labels[10:30, shaft], labels[10:30, tip] = 1, 2
    return labels


def moving(frame: int) -> np.ndarray:
    """A shaft and a tip that move by two pixels a frame."""
    left = 6 + 2 * frame
    return label_map(slice(left, left + 12), slice(left + 12, left + 18))


@pytest.fixture
def clip(tmp_path: Path) -> tuple[Path, Path]:
    """Nine pictures with a textured tool that moves over a textured background, and label maps of all but frame 4."""
    video, labels = tmp_path / "video", tmp_path / "labels"
    video.mkdir(), labels.mkdir()
    rng = np.random.default_rng(0)
    background, texture = (np.kron(rng.integers(low, low + 80, (12, 16, 3)), np.ones((4, 4, 1))) for low in (20, 150))
    for frame in range(9):
        truth = moving(frame)
        picture = np.where(truth[..., None] > 0, np.roll(texture, 2 * frame, axis=1), background)
        Image.fromarray(picture.astype(np.uint8)).save(video / f"frame_{frame:05d}.png")
        if frame != 4:
            Image.fromarray(truth).save(labels / f"frame_{frame:05d}.png")
    return video, labels


def test_the_iou_of_a_class_counts_its_pixels() -> None:
    predicted, truth = label_map(slice(0, 10), slice(10, 14)), label_map(slice(5, 10), slice(10, 18))
    assert class_ious(predicted, truth, (1, 2)) == pytest.approx([0.5, 0.5])


def test_a_class_that_nobody_has_does_not_count_and_an_extra_mask_counts_as_zero() -> None:
    first = class_ious(label_map(slice(0, 10)), label_map(slice(0, 10)), (1, 2))
    second = class_ious(label_map(slice(0, 10), slice(10, 12)), label_map(slice(0, 5)), (1, 2))
    np.testing.assert_allclose(first, [1, np.nan])
    np.testing.assert_allclose(second, [0.5, 0])
    assert by_class(PARTS, [first, second]) == {"Shaft": 75.0, "Tip": 0.0}
    assert by_class(PARTS, [first]) == {"Shaft": 100.0, "Tip": None}
    assert by_class(PARTS, []) == {"Shaft": None, "Tip": None}


def test_a_frame_is_good_if_every_class_in_it_is_good() -> None:
    frames = [np.array([0.9, np.nan]), np.array([0.85, 0.86]), np.array([0.99, 0.84]), np.array([np.nan, 0.0])]
    assert good_share(frames) == 0.5


def test_corrected_frames_are_spread_over_the_first_half_of_the_labelled_frames() -> None:
    every = protocol(range(370), 10)
    assert every.corrected == (9, 27, 46, 64, 83, 101, 120, 138, 157, 175)
    assert len(every.gap) == 175
    assert every.later == tuple(range(185, 370))
    some = protocol([0, 10, 20, 30, 40, 50, 60], 1)
    assert (some.corrected, some.gap, some.later) == ((10,), (0, 20), (30, 40, 50, 60))


def test_too_many_corrected_frames_are_refused() -> None:
    with pytest.raises(ExchangeError, match="4 corrected frames need at least 8 labelled frames; there are 7"):
        protocol(range(7), 4)


def test_of_two_corrected_frames_at_one_distance_the_earlier_is_copied() -> None:
    assert [nearest((10, 20), frame) for frame in (0, 14, 15, 16, 99)] == [10, 10, 10, 20, 20]


def test_flow_follows_a_moving_tool_from_one_and_from_both_sides(clip: tuple[Path, Path]) -> None:
    video = open_annotated(*clip, PARTS)
    frames = {frame: (one, both) for frame, one, both in carried_by_flow(video, (1, 6))}
    assert list(frames) == [0, 2, 3, 4, 5, 7, 8]  # also frames without labels
    for frame, (one, both) in frames.items():
        assert class_ious(one, moving(frame), (1, 2)).min() > 0.7
        assert class_ious(both, moving(frame), (1, 2)).min() > 0.7
    last = dict(flow_from(video, 1, range(2, 9)))[8]
    copied = class_ious(moving(1), moving(8), (1, 2))
    assert (class_ious(last, moving(8), (1, 2)) > copied + 0.3).all()


def test_frames_without_labels_are_neither_corrected_nor_first(clip: tuple[Path, Path]) -> None:
    video = open_annotated(*clip, PARTS)
    assert video.labelled == [0, 1, 2, 3, 5, 6, 7, 8]
    assert fitting_starts(video, [0, 4, 7], 3) == [0, 5]


@pytest.mark.parametrize("name", ["linear_head", "small_head"])
def test_a_simple_head_learns_classes_that_the_embedding_shows(name: str) -> None:
    truths = [moving(frame) for frame in range(4)]
    grid = [np.pad(truth, ((0, 16), (0, 0)))[2::4, 2::4] for truth in truths]
    embeddings = np.stack([np.stack([cells == value for value in range(3)]) for cells in grid]).astype(np.float16)
    head = SimpleHead(name, embeddings[:3], truths[:3], PARTS.ids, input_size=64, steps=80)
    assert class_ious(head.label_map(embeddings[3], SIZE), truths[3], PARTS.ids).min() > 0.6


def test_clicks_go_to_the_middle_of_the_largest_wrong_region_until_the_mask_is_good() -> None:
    truth = label_map(slice(10, 30), slice(40, 44)) > 0
    clicks: list[Click] = []

    def answer(click: Click) -> np.ndarray:
        clicks.append(click)
        return truth & (np.arange(SIZE[1]) < 40) if len(clicks) == 1 else truth

    assert clicked_through(np.zeros(SIZE, bool), truth, answer) == pytest.approx([0, 5 / 6, 1])
    assert [(10 <= click.row < 30, click.is_positive) for click in clicks] == [(True, True)] * 2
    assert 18 <= clicks[0].column <= 21
    assert 41 <= clicks[1].column <= 42


def test_clicks_end_after_the_most_and_count_as_the_most() -> None:
    truth = label_map(slice(10, 30)) > 0
    curve = clicked_through(np.zeros(SIZE, bool), truth, lambda click: np.zeros(SIZE, bool), most=4)
    assert curve == [0] * 5
    figures = summary([curve, [0.5, 0.7, 0.9], [0.9]], most=4)
    assert figures == {"clicks": 2.0, "never": 33.3, "iou_0": 46.7, "iou_1": 53.3, "iou_3": 60.0, "iou_10": 60.0}


@pytest.mark.parametrize("simple", [grabcut_answer, walker_answer])
def test_the_simple_ways_find_a_bright_tool_from_clicks(simple) -> None:  # type: ignore[no-untyped-def]
    truth = np.zeros((96, 128), bool)
    truth[30:60, 40:100] = True
    picture = np.where(truth[..., None], np.uint8([210, 200, 190]), np.uint8([120, 40, 40]))
    noise = np.random.default_rng(0).integers(0, 20, picture.shape, np.uint8)
    curve = clicked_through(np.zeros_like(truth), truth, simple(picture + noise, np.zeros_like(truth)))
    assert curve[-1] >= 0.85


def test_the_next_batch_has_the_most_suspicious_frames_that_are_not_corrected(
    clip: tuple[Path, Path], tmp_path: Path
) -> None:
    video = open_annotated(*clip, PARTS)
    with Project.create(tmp_path / "clip.surgicalsam", VideoReader(clip[0]), PARTS) as project:
        for frame in range(9):
            expected = np.float32([0.2, 0.2]) if frame in (2, 4, 6, 7) else np.float32([0.95, 0.95])
            sure = np.ones(2, np.float32)
            project.labels.write_prediction(
                frame, FramePrediction((1, 2), moving(frame), expected, sure, sure > 0, np.zeros(2, np.float32))
            )
        project.labels.verify(6)
        assert set(head_of_queue(project, video.labelled, 2)) == {2, 7}  # 4 has no labels, 6 is corrected
        every = head_of_queue(project, video.labelled, 20)
    assert sorted(every) == [0, 1, 2, 3, 5, 7, 8]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCHMARK), *map(str, arguments), "--quick", "--json"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )


def break_labels(folder: Path, kind: str) -> None:
    """Break the labels of a clip in one way."""
    files: Sequence[Path] = sorted(folder.iterdir())
    if kind == "size":
        Image.fromarray(np.zeros((10, 10), np.uint8)).save(files[2])
    elif kind == "frame":
        files[2].rename(folder / "frame_00099.png")
    elif kind == "class":
        for file in files:
            Image.fromarray(np.minimum(np.asarray(Image.open(file)), 1)).save(file)
    else:
        Image.fromarray(np.full(SIZE, 7, np.uint8)).save(files[2])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("size", "10 x 10 pixels"),
        ("frame", "frame_00099"),
        ("class", "Tip is in none"),
        ("value", "value 7"),
    ],
)
def test_broken_labels_are_refused(clip: tuple[Path, Path], kind: str, expected: str) -> None:
    break_labels(clip[1], kind)
    with pytest.raises(ExchangeError, match=expected):
        open_annotated(*clip, PARTS)


def test_other_classes_than_those_of_an_export_are_refused(clip: tuple[Path, Path]) -> None:
    write_classes(clip[1], PARTS, "video")
    with pytest.raises(ExchangeError, match=r"is labelled with Shaft, Tip, as its classes\.json says"):
        open_annotated(*clip, ClassSet("Other", (InstrumentClass(1, "Grasper", "#ff0000"),)))


def test_a_broken_input_ends_with_one_line_and_no_result(clip: tuple[Path, Path], tmp_path: Path) -> None:
    break_labels(clip[1], "class")
    (tmp_path / "classes.yaml").write_text(PARTS_YAML)
    process = run(*clip, "--classes", tmp_path / "classes.yaml")
    assert process.returncode == 1
    assert len(process.stderr.splitlines()) == 1
    assert "Tip is in none" in process.stderr
    assert process.stdout == ""


def test_a_video_without_labels_is_refused(clip: tuple[Path, Path]) -> None:
    process = run(clip[0])
    assert process.returncode == 2
    assert "Expected VIDEO, LABELS and --classes YAML" in process.stderr
