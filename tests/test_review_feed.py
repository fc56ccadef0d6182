"""The review queue of a long video follows its labels without ranking the whole video at each change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.surgical_sam import FramePrediction
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.labels.label_store import LabelStore
from surgicalsam_napari.video import VideoReader, write_video
from surgicalsam_napari.widgets.correct.review_feed import ReviewFeed
from surgicalsam_napari.widgets.viewer.label_changes import LabelChanges

FRAMES, TIMEOUT = 1100, 60_000


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A long video of tiny frames; nothing is predicted yet."""
    write_video(tmp_path / "clip.mp4", [np.zeros((16, 16, 3), np.uint8)] * FRAMES)
    with Project.create(tmp_path / "clip.surgicalsam", VideoReader(tmp_path / "clip.mp4"), ENDOVIS2018) as project:
        yield project


@pytest.fixture
def feed(project, qtbot) -> Iterator[ReviewFeed]:
    """The feed of that project, after all masks are compared."""
    changes = LabelChanges()
    feed = ReviewFeed(changes)
    changes.follow(project)
    feed.show_project(project)
    settle(feed, qtbot)
    yield feed
    changes.follow(None)
    feed.close()


@pytest.fixture
def whole_tables(monkeypatch) -> list[str]:
    """The names of tables that were read completely."""
    read: list[str] = []
    unwrapped = LabelStore.table
    monkeypatch.setattr(LabelStore, "table", lambda labels, name: (read.append(name), unwrapped(labels, name))[1])
    return read


def settle(feed, qtbot) -> None:
    """Wait until nothing is running and nothing is due."""
    qtbot.wait(100)  # changes are reported after 40 ms
    qtbot.waitUntil(lambda: not feed.is_busy and feed.left_to_compare == 0, timeout=TIMEOUT)


def predict(project, frame_index, iou, action=None) -> None:
    labels = np.zeros(project.labels.shape[1:], np.uint8)
    labels[4:12, 4:12] = 1
    one = np.ones(1, np.float32)
    prediction = FramePrediction((1,), labels, iou * one, 0.9 * one, one.astype(bool), 0 * one)
    project.labels.write_prediction(frame_index, prediction, 1, action=action)


def test_a_changed_frame_of_a_long_video_is_ranked_without_the_others(project, feed, whole_tables, qtbot):
    predict(project, 500, 0.1)
    settle(feed, qtbot)
    assert whole_tables == []
    assert feed.queue.next() == 500
    project.labels.verify(500)
    settle(feed, qtbot)
    assert whole_tables == []
    assert feed.queue.priority()[500] == 0


def test_all_frames_are_ranked_again_after_enough_changes(project, feed, whole_tables, qtbot):
    for frame_index in range(500, 510):
        predict(project, frame_index, 0.9)
    settle(feed, qtbot)
    assert whole_tables.count("provenance") == 1


def test_all_frames_are_ranked_again_after_an_action_over_many_frames(project, feed, whole_tables, qtbot):
    with project.history.action("Segment") as action:
        for frame_index in range(25):
            predict(project, frame_index, 0.9, action)
    settle(feed, qtbot)
    assert whole_tables.count("provenance") >= 1
    fresh = type(feed.queue).of(project, feed._jumps)
    np.testing.assert_array_equal(feed.queue.priority(), fresh.priority())
