"""The start page, the list of videos with its queue, and drops, in a real viewer with real mouse and key events."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("qtpy.QtWidgets")

from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QThreadPool, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QApplication, QFileDialog, QWidget
from window import settle

from surgicalsam_napari.inference import SegmentReport
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.digest import checkpoint_record
from surgicalsam_napari.model.surgical_sam import FramePrediction
from surgicalsam_napari.preferences import read_preferences, remember, with_videos
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.video import VideoReader
from surgicalsam_napari.widgets.main_widget import MainWidget
from surgicalsam_napari.widgets.start import texts
from surgicalsam_napari.widgets.start.segmentation_queue import QueueState
from surgicalsam_napari.widgets.start.videos_table import CORRECTED, FRAMES, NAME, SEGMENTED, STATE, VERIFIED
from surgicalsam_napari.widgets.start.videos_window import VideosWindow

DRIVER, SCISSORS, FRAMES_IN_CLIP, TIMEOUT = 3, 4, 12, 60_000


@pytest.fixture
def dock(make_napari_viewer, qtbot, bundled_tiny) -> Iterator[MainWidget]:
    dock = docked(make_napari_viewer(show=True), qtbot)
    dock.segment_panel.vote.setChecked(False)  # the specks of an untrained model take long to follow
    yield dock
    dock.start.queue.cancel()
    settle(qtbot, dock)
    QThreadPool.globalInstance().waitForDone(TIMEOUT)
    dock.session.close()


def docked(viewer, qtbot) -> MainWidget:
    dock = MainWidget(viewer)
    viewer.window.add_dock_widget(dock, name="SurgicalSAM")
    settle(qtbot, dock)
    return dock


def click(qtbot, button: QWidget) -> None:
    assert button.isVisible() and button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def make_project(clip: Path, *, corrected: int = 0, verified: int = 0) -> Path:
    """A project of this clip whose first frames are painted, and the first of these verified."""
    with Project.create(Project.default_folder(clip), VideoReader(clip), ENDOVIS2018) as project:
        for frame in range(corrected):
            project.labels[frame, 10:20, 10:20] = DRIVER
        for frame in range(verified):
            project.labels.verify(frame)
        return project.folder


@pytest.fixture
def clips(phantom_clip: Path, tmp_path: Path) -> list[Path]:
    return [Path(shutil.copy(phantom_clip, tmp_path / name)) for name in ("a.mp4", "b.mp4", "c.mp4")]


def list_of(dock: MainWidget, qtbot, *paths: Path) -> VideosWindow:
    """The window Videos with these videos, when all are read."""
    dock.start.list_videos(list(paths), [])
    wait_for_list(dock, qtbot)
    return dock.start.videos


def wait_for_list(dock: MainWidget, qtbot) -> None:
    summaries = dock.start.videos.summaries
    qtbot.waitUntil(
        lambda: not summaries.run.is_running and all(each.summary or each.problem for each in summaries.listed.values()),
        timeout=TIMEOUT,
    )
    qtbot.wait(20)


def row_of(videos: VideosWindow, name: str) -> list[str]:
    return [videos.table.topLevelItem(row_index(videos, name)).text(column) for column in range(7)]


def row_index(videos: VideosWindow, name: str) -> int:
    table = videos.table
    return next(row for row in range(table.topLevelItemCount()) if table.topLevelItem(row).text(NAME) == name)


def place_of(videos: VideosWindow, name: str) -> QPoint:
    return videos.table.visualItemRect(videos.table.topLevelItem(row_index(videos, name))).center()


def select(videos: VideosWindow, qtbot, *names: str) -> None:
    """Click the first row, and the others with Ctrl."""
    for position, name in enumerate(names):
        modifier = Qt.KeyboardModifier.ControlModifier if position else Qt.KeyboardModifier.NoModifier
        qtbot.mouseClick(videos.table.viewport(), Qt.MouseButton.LeftButton, modifier, place_of(videos, name))
    qtbot.wait(20)


def drop(widget: QWidget, *paths: Path) -> None:
    """Drag these paths over the widget, and drop them."""
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    place = widget.rect().center()
    copy, left, no_key = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    enter = QDragEnterEvent(place, copy, mime, left, no_key)
    QApplication.sendEvent(widget, enter)
    assert enter.isAccepted()
    QApplication.sendEvent(widget, QDropEvent(QPointF(place), copy, mime, left, no_key))


def qt_viewer(dock: MainWidget) -> QWidget:
    return next(widget for widget in dock.window().findChildren(QWidget) if type(widget).__name__ == "QtViewer")


# Start -------------------------------------------------------------------------------------------------------------------


def test_from_an_empty_panel_to_the_first_mask_in_two_clicks(dock, qtbot, clips, monkeypatch):
    monkeypatch.setattr("surgicalsam_napari.phantom.clip.sample_clip", lambda: clips[0])
    page = dock.start.page
    assert page.isVisible() and not dock.video_panel.isVisible()
    assert page.open_button.isVisible() and not page.recent_title.isVisible()
    click(qtbot, page.sample_button)
    qtbot.waitUntil(lambda: dock.session.project is not None, timeout=TIMEOUT)
    settle(qtbot, dock)
    assert not page.isVisible() and dock.video_fold.isVisible()
    click(qtbot, dock.segment_panel.segment)
    settle(qtbot, dock)
    assert (dock.session.project.labels.provenance_table()[:, 0] != Provenance.EMPTY).all()


def test_open_a_video_on_the_start_page_asks_for_a_file(dock, qtbot, clips, monkeypatch):
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(clips[0]), ""))
    click(qtbot, dock.start.page.open_button)
    settle(qtbot, dock)
    assert dock.video_panel.file_name.text() == "a.mp4"


def test_a_recent_project_is_one_click_away_at_the_next_start(dock, qtbot, clips, make_napari_viewer):
    folder = make_project(clips[0], corrected=3, verified=1)
    dock.open(folder)
    settle(qtbot, dock)
    dock.session.close()
    page = dock.start.page
    qtbot.waitUntil(lambda: "3 corrected" in page.rows[0].facts.text(), timeout=TIMEOUT)
    assert page.rows[0].name.text() == "a.mp4"
    assert page.rows[0].facts.text().startswith("12 frames · 3 corrected · 1 verified · today ")
    qtbot.wait(20)
    click(qtbot, page.rows[0])
    settle(qtbot, dock)
    assert dock.session.project.folder == folder


def test_a_video_that_cannot_be_opened_is_named_and_the_start_page_can_be_used_again(dock, qtbot, tmp_path, notes):
    (tmp_path / "broken.mp4").write_bytes(b"not a video" * 100)
    dock.open(tmp_path / "broken.mp4")
    assert dock.start.page.status.text() == "Opening broken.mp4…" and not dock.start.page.open_button.isEnabled()
    settle(qtbot, dock)
    assert len(notes) == 1 and "broken.mp4" in dock.start.page.message.text()
    assert dock.start.page.open_button.isEnabled() and dock.start.page.isVisible()


# The list ----------------------------------------------------------------------------------------------------------------


def test_the_list_counts_projects_and_a_double_click_opens_one(dock, qtbot, clips):
    folder = make_project(clips[0], corrected=3, verified=1)
    videos = list_of(dock, qtbot, folder, clips[1])
    assert row_of(videos, "a.mp4")[FRAMES : VERIFIED + 1] == ["12", "–", "3", "1"]
    assert row_of(videos, "b.mp4")[FRAMES : VERIFIED + 1] == ["12", "–", "–", "–"]
    assert [video.path for video in read_preferences().videos] == [folder, clips[1]]
    header = videos.table.header()
    corrected = QPoint(header.sectionViewportPosition(CORRECTED) + 10, header.height() // 2)
    for _ in range(2):  # ascending, then descending
        qtbot.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=corrected)
    assert row_index(videos, "a.mp4") == 0
    select(videos, qtbot, "b.mp4")
    qtbot.mouseDClick(videos.table.viewport(), Qt.MouseButton.LeftButton, pos=place_of(videos, "b.mp4"))
    settle(qtbot, dock)
    assert dock.session.project.manifest.video_path == clips[1]
    wait_for_list(dock, qtbot)
    assert row_of(videos, "b.mp4")[STATE] == texts.OPEN_HERE
    assert {video.path for video in read_preferences().videos} == {folder, dock.session.project.folder}


def test_delete_takes_a_row_out_of_the_list_and_the_project_stays(dock, qtbot, clips):
    folder = make_project(clips[0])
    videos = list_of(dock, qtbot, folder, clips[1])
    select(videos, qtbot, "a.mp4")
    qtbot.keyClick(videos.table, Qt.Key.Key_Delete)
    wait_for_list(dock, qtbot)
    assert [video.path for video in read_preferences().videos] == [clips[1]]
    assert videos.table.topLevelItemCount() == 1 and folder.is_dir()


def test_a_missing_video_is_named_with_the_remedy_and_can_be_found(dock, qtbot, clips, tmp_path, monkeypatch):
    folder = make_project(clips[0], corrected=1)
    (tmp_path / "elsewhere").mkdir()
    for clip in clips[1:]:
        clip.unlink()  # the same video under another name would be found
    moved = clips[0].rename(tmp_path / "elsewhere" / "a.mp4")
    videos = list_of(dock, qtbot, folder)
    select(videos, qtbot, "a.mp4")
    assert row_of(videos, "a.mp4")[CORRECTED:] == ["1", "–", "–", texts.NO_VIDEO]
    assert str(clips[0]) in videos.details.text() and not videos.segment_button.isEnabled()
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(moved), ""))
    click(qtbot, videos.remedy)
    settle(qtbot, dock)
    assert dock.session.project.folder == folder and dock.session.project.video.info.path == moved
    wait_for_list(dock, qtbot)
    assert row_of(videos, "a.mp4")[STATE] == texts.OPEN_HERE


def test_a_project_in_use_elsewhere_is_named_with_the_remedy(dock, qtbot, clips):
    folder = make_project(clips[0])
    with Project.open(folder) as other:
        assert other.claim() is None
        videos = list_of(dock, qtbot, folder)
        select(videos, qtbot, "a.mp4")
        assert row_of(videos, "a.mp4")[STATE].startswith("In use by ")
        assert "Close it there" in videos.details.text() and "read-only" in videos.details.text()
        assert videos.open_button.isEnabled() and not videos.segment_button.isEnabled()


def test_the_videos_of_a_folder_are_listed(dock, qtbot, clips, tmp_path, monkeypatch):
    make_project(clips[0], corrected=2)
    list_of(dock, qtbot)
    videos = dock.start.videos
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path))
    videos.source.setFocus()
    qtbot.keyClick(videos.source, Qt.Key.Key_End)
    qtbot.keyClick(videos.source, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: videos.table.topLevelItemCount() == 3, timeout=TIMEOUT)
    wait_for_list(dock, qtbot)
    assert row_of(videos, "a.mp4")[CORRECTED] == "2"
    assert videos.source.currentText() == tmp_path.name
    assert read_preferences().videos == ()  # looking at a folder lists nothing for good


# The queue ---------------------------------------------------------------------------------------------------------------


def test_queued_videos_are_segmented_one_after_the_other_and_say_what_was_found(dock, qtbot, clips):
    opened = make_project(clips[0], corrected=2, verified=1)
    dock.open(opened)
    settle(qtbot, dock)
    project = dock.session.project
    verified = project.labels[0].copy()
    videos = list_of(dock, qtbot, opened, clips[1])
    progress: list[tuple[str, int]] = []
    dock.start.queue.changed.connect(lambda path: progress.append((path.stem, dock.start.queue.videos[path].done)))
    select(videos, qtbot, "a.mp4", "b.mp4")
    assert videos.segment_button.text() == "Segment 2 videos"
    click(qtbot, videos.segment_button)
    assert not dock.segment_panel.segment.isEnabled()
    qtbot.waitUntil(videos.progress.isVisible, timeout=TIMEOUT)
    qtbot.waitUntil(lambda: not dock.start.queue.is_running, timeout=TIMEOUT)
    settle(qtbot, dock)
    wait_for_list(dock, qtbot)
    done = [state for state in progress if state[1]]
    assert [name for name, _ in done] == sorted((name for name, _ in done), key=[name for name, _ in done].index)
    assert ("a", 11) in done and ("b", 12) in done
    assert dock.session.project is project and project.writable
    assert (project.labels[0] == verified).all()
    assert row_of(videos, "b.mp4")[SEGMENTED] == "12"
    with Project.open(Project.default_folder(clips[1])) as other:
        shown = {
            instrument.name: int((other.labels[:] == instrument.id).any(axis=(1, 2)).sum()) for instrument in ENDOVIS2018
        }
    assert dock.start.queue.videos[clips[1]].outcome.frames_with_class == shown
    select(videos, qtbot, "a.mp4")
    assert "1 verified frame left alone" in videos.details.text()
    assert videos.result.text() == "2 of 2 videos segmented."
    assert dock.segment_panel.segment.isEnabled()


def test_only_the_checked_classes_are_looked_for(dock, qtbot, clips):
    videos = list_of(dock, qtbot, clips[0])
    for box in videos.classes.boxes:
        box.setChecked(box.text() == "Large Needle Driver")
    assert videos.classes.text() == "Large Needle Driver"
    select(videos, qtbot, "a.mp4")
    click(qtbot, videos.segment_button)
    qtbot.waitUntil(lambda: not dock.start.queue.is_running, timeout=TIMEOUT)
    with Project.open(Project.default_folder(clips[0])) as project:
        table = project.labels.provenance_table()
    assert (table[:, DRIVER - 1] != Provenance.EMPTY).all() and not np.delete(table, DRIVER - 1, axis=1).any()


def test_cancel_keeps_finished_frames_and_segment_goes_on_from_there(dock, qtbot, clips):
    videos, queue = list_of(dock, qtbot, *clips[:2]), dock.start.queue
    select(videos, qtbot, "a.mp4", "b.mp4")
    queue.run.reported.connect(lambda report: report.done == 3 and click(qtbot, videos.progress.cancel))
    click(qtbot, videos.segment_button)
    qtbot.waitUntil(lambda: not queue.is_running, timeout=TIMEOUT)
    wait_for_list(dock, qtbot)
    assert [queue.videos[clip].state for clip in clips[:2]] == [QueueState.CANCELLED] * 2
    done = queue.videos[clips[0]].done
    assert 3 <= done < FRAMES_IN_CLIP and row_of(videos, "a.mp4")[SEGMENTED] == str(done)
    assert not Project.default_folder(clips[1]).exists()
    select(videos, qtbot, "a.mp4")
    assert f"Cancelled after {done} of 12 frames" in videos.details.text()
    queue.run.reported.disconnect()
    queue.run.reported.connect(queue._on_report)
    click(qtbot, videos.segment_button)
    qtbot.waitUntil(lambda: not queue.is_running, timeout=TIMEOUT)
    assert queue.videos[clips[0]].outcome.segmented == FRAMES_IN_CLIP - done


def test_the_queue_votes_as_segment_does_and_has_the_same_switch(dock, qtbot, clips, monkeypatch):
    left, right = (slice(10, 40), slice(10, 40)), (slice(10, 40), slice(80, 110))

    def segment(project, model, class_ids, frames, *, action):
        """Predicts two needle drivers; the right one is scissors in frame 7."""
        checkpoint, score = project.record_checkpoint(checkpoint_record(model)), np.ones(2, np.float32)
        for done, frame in enumerate(frames, start=1):
            labels = np.zeros(project.labels.shape[1:], np.uint8)
            labels[left], labels[right] = DRIVER, SCISSORS if frame == 7 else DRIVER
            predicted = FramePrediction((DRIVER, SCISSORS), labels, score, score, np.array([True, True]), score * 0)
            project.labels.write_prediction(frame, predicted, checkpoint, action=action)
            yield SegmentReport(frame, done, len(frames), predicted, True)

    monkeypatch.setattr("surgicalsam_napari.tracking.segment_video.segment_frames", segment)
    videos, queue = list_of(dock, qtbot, *clips[:2]), dock.start.queue
    for box in videos.classes.boxes:
        box.setChecked(box.text() in (ENDOVIS2018.by_id(DRIVER).name, ENDOVIS2018.by_id(SCISSORS).name))
    select(videos, qtbot, "a.mp4")
    click(qtbot, videos.segment_button)
    qtbot.waitUntil(lambda: not queue.is_running, timeout=TIMEOUT)
    assert queue.videos[clips[0]].outcome.vote is None
    click(qtbot, videos.vote)
    assert dock.segment_panel.vote.isChecked() and dock.train_panel.learn.vote.isChecked()
    states: list[str] = []
    queue.changed.connect(
        lambda path: states.append(texts.state(videos.summaries.listed[path], queue.videos[path], is_open=False))
    )
    wait_for_list(dock, qtbot)
    select(videos, qtbot, "b.mp4")
    click(qtbot, videos.segment_button)
    qtbot.waitUntil(lambda: not queue.is_running, timeout=TIMEOUT)
    assert "Vote over time: 50%" in states
    wait_for_list(dock, qtbot)
    select(videos, qtbot, "b.mp4")
    assert videos.details.text().endswith("The vote over time changed 1 region: 1 put right.")
    with Project.open(Project.default_folder(clips[1])) as project:
        assert project.labels[7, 20, 90] == DRIVER
        project.history.undo()
        assert not project.labels[7].any()
    dock.memory.save()
    assert read_preferences().segment.vote


def test_a_video_that_fails_says_why_and_the_next_one_is_segmented(dock, qtbot, clips, notes):
    videos, queue = list_of(dock, qtbot, *clips[:2]), dock.start.queue
    select(videos, qtbot, "a.mp4", "b.mp4")
    clips[0].write_bytes(b"not a video any more" * 50)
    click(qtbot, videos.segment_button)
    qtbot.waitUntil(lambda: not queue.is_running, timeout=TIMEOUT)
    assert (queue.videos[clips[0]].state, queue.videos[clips[1]].state) == (QueueState.FAILED, QueueState.DONE)
    assert videos.result.text().startswith("1 of 2 videos segmented. 1 could not be")
    wait_for_list(dock, qtbot)
    select(videos, qtbot, "a.mp4")
    assert videos.details.text().startswith("a.mp4 was not segmented. ")
    assert not notes


def test_a_video_in_the_queue_is_opened_only_when_it_is_done(dock, qtbot, clips, notes):
    videos, queue = list_of(dock, qtbot, clips[0]), dock.start.queue
    select(videos, qtbot, "a.mp4")
    click(qtbot, videos.segment_button)
    dock.open(Project.default_folder(clips[0]))
    assert dock.session.project is None and len(notes) == 1 and "being segmented" in notes[0]
    qtbot.waitUntil(lambda: not queue.is_running, timeout=TIMEOUT)
    dock.open(Project.default_folder(clips[0]))
    settle(qtbot, dock)
    assert dock.session.project.writable


# Drops -------------------------------------------------------------------------------------------------------------------


def test_several_videos_dropped_on_the_viewer_go_into_the_list(dock, qtbot, clips, tmp_path, notes):
    (tmp_path / "notes.txt").write_text("no video")
    drop(qt_viewer(dock), *clips, tmp_path / "notes.txt")
    qtbot.waitUntil(lambda: dock.start.videos.table.topLevelItemCount() == 3, timeout=TIMEOUT)
    videos = dock.start.videos
    assert videos.isVisible() and set(videos.table.selected()) == set(clips)
    assert not dock.layers.viewer.layers and dock.session.project is None
    assert len(notes) == 1 and "notes.txt" in notes[0]
    assert {video.path for video in read_preferences().videos} == set(clips)


def test_one_video_dropped_on_the_viewer_or_the_panel_is_opened(dock, qtbot, clips):
    for target, clip in ((qt_viewer(dock), clips[0]), (dock, clips[1])):
        drop(target, clip)
        assert dock.is_busy
        settle(qtbot, dock)
        assert dock.video_panel.file_name.text() == clip.name
        assert [layer.name for layer in dock.layers.viewer.layers] == [clip.stem, "Instruments"]
    drop(dock.start.videos, clips[2])  # into the list
    wait_for_list(dock, qtbot)
    assert dock.start.videos.table.selected() == [clips[2]]
    assert dock.video_panel.file_name.text() == clips[1].name


def test_a_dropped_folder_of_videos_is_listed(dock, qtbot, clips, tmp_path):
    drop(qt_viewer(dock), tmp_path)
    qtbot.waitUntil(lambda: dock.start.videos.table.topLevelItemCount() == 3, timeout=TIMEOUT)
    assert not dock.layers.viewer.layers


def test_several_videos_that_napari_opens_leave_no_layer_behind(dock, qtbot, clips):
    dock.layers.viewer.open([str(clip) for clip in clips], plugin="surgicalsam-napari")
    qtbot.waitUntil(lambda: len(read_preferences().videos) == 3, timeout=TIMEOUT)
    settle(qtbot, dock)
    assert {video.path.stem for video in read_preferences().videos} == {"a", "b", "c"}
    own = {dock.layers.image, dock.layers.labels} - {None}  # the first may have been opened before the next was read
    assert set(dock.layers.viewer.layers) == own


# Texts -------------------------------------------------------------------------------------------------------------------


def test_a_list_that_was_remembered_is_shown_by_the_button_of_the_video_panel(dock, qtbot, clips):
    folder = make_project(clips[0])
    remember(lambda preferences: with_videos(preferences, [clips[1]]))
    dock.open(folder)
    settle(qtbot, dock)
    dock.video_fold.open()
    click(qtbot, dock.video_panel.videos)
    wait_for_list(dock, qtbot)
    assert {row_of(dock.start.videos, name)[STATE] for name in ("a.mp4", "b.mp4")} == {texts.OPEN_HERE, ""}
