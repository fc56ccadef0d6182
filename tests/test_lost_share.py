"""Work on a share that goes away and comes back: no stroke is lost, and the window says what happens."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("qtpy.QtWidgets")

from canvas_mouse import CanvasMouse
from qtpy.QtCore import Qt, QThreadPool, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QMessageBox
from recordings import Recorder, pictures, write_folder
from window import settle

from surgicalsam_napari import cli
from surgicalsam_napari.errors import UnreachableError, VideoError
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import LabelStore, Project, Provenance
from surgicalsam_napari.video import VideoReader
from surgicalsam_napari.widgets.actions.registry import ACTIONS
from surgicalsam_napari.widgets.main_widget import MainWidget
from surgicalsam_napari.widgets.parts.message import Message
from surgicalsam_napari.widgets.source import lost_folder
from surgicalsam_napari.widgets.source.saved_mark import AWAY, NOT_YET, SAVED

DRIVER, SCISSORS = 3, 4
COUNT, TIMEOUT = 12, 60_000


class Share:
    """A folder with a video, which goes away and comes back, and the project beside the video."""

    def __init__(self, root: Path, video_name: str) -> None:
        self.root, self.elsewhere = root / "share", root / "elsewhere"
        self.root.mkdir()
        self.video = self.root / video_name
        self.folder = self.root / "case.surgicalsam"

    def go(self) -> None:
        self.root.rename(self.elsewhere)

    def come_back(self) -> None:
        self.elsewhere.rename(self.root)

    def come_back_as_copy(self) -> None:
        """As after a new connection: all files are other ones for the system."""
        shutil.copytree(self.elsewhere, self.root)


@pytest.fixture
def share(tmp_path: Path) -> Share:
    share = Share(tmp_path, "case")
    write_folder(share.video, pictures(COUNT))
    with Project.open_or_create(VideoReader(share.video), ENDOVIS2018) as project:
        project.labels[2, 5:15, 5:15] = SCISSORS
    return share


@pytest.fixture
def dock(make_napari_viewer, qtbot, monkeypatch, share, bundled_tiny) -> Iterator[MainWidget]:
    """A window with the video of the share, the needle driver selected, frame 2 in view."""
    monkeypatch.setattr(lost_folder, "TRY_AGAIN_MS", 50)
    viewer = make_napari_viewer(show=True)
    dock = MainWidget(viewer)
    viewer.window.add_dock_widget(dock, name="SurgicalSAM")
    settle(qtbot, dock)
    dock.open(share.video)
    settle(qtbot, dock)
    dock.session.select_class(DRIVER)
    dock.layers.show_frame(2)
    viewer.reset_view()
    qtbot.wait(50)
    yield dock
    if not share.root.exists():
        share.come_back()
    settle(qtbot, dock)
    qtbot.waitUntil(lambda: not dock.lost_folder.unsaved_frames, timeout=TIMEOUT)
    QThreadPool.globalInstance().waitForDone(TIMEOUT)
    dock.session.close()


def stroke(dock: MainWidget, row: int, column: int) -> None:
    """Paint a stroke of 20 pixels with the mouse."""
    dock.layers.labels.mode = "paint"
    CanvasMouse(dock.layers.viewer).drag((row, column), (row, column + 20))
    QTest.qWait(60)  # else the last move of this stroke can arrive in the next one


def on_disk(share: Share) -> np.ndarray:
    with Project.open(share.folder, require_video=False) as project:
        return project.labels[:]


# ---- strokes


@pytest.mark.parametrize("come_back", [Share.come_back, Share.come_back_as_copy])
def test_strokes_made_while_the_share_is_away_are_saved_when_it_is_back(dock, qtbot, share: Share, come_back, notes) -> None:
    mark, message = dock.video_panel.saved, dock.video_panel.message
    stroke(dock, 30, 20)
    assert mark.text() == SAVED
    share.go()
    stroke(dock, 50, 20)
    qtbot.waitUntil(lambda: mark.text() == NOT_YET, timeout=TIMEOUT)
    assert "cannot be reached" in mark.toolTip() and "Strokes in 1 frame are kept in memory" in mark.toolTip()
    qtbot.waitUntil(lambda: "What you paint is kept in memory" in message.text(), timeout=TIMEOUT)
    shown = dock.layers.labels.data[2]
    assert (shown == SCISSORS).sum() == 100  # what was there is still in view
    assert (shown[50, 20:24] == DRIVER).all()
    stroke(dock, 70, 20)
    come_back(share)
    qtbot.waitUntil(lambda: mark.text() == SAVED, timeout=TIMEOUT)
    qtbot.waitUntil(lambda: "all that you painted is saved" in message.text(), timeout=TIMEOUT)
    labels = on_disk(share)
    np.testing.assert_array_equal(labels[2], dock.layers.labels.data[2])
    assert (labels[2][[30, 50, 70], 22] == DRIVER).all() and (labels[2] == SCISSORS).sum() == 100
    assert dock.session.project.labels.painted(2)[70, 22]
    assert dock.session.project.labels.provenance(2, DRIVER) == Provenance.EDITED
    assert not [note for note in notes if "Unexpected" in note or "Error" in note]


def test_a_stroke_that_was_undone_while_the_share_is_away_leaves_no_trace(dock, qtbot, share: Share) -> None:
    dock.layers.show_frame(5)
    share.go()
    stroke(dock, 30, 20)
    stroke(dock, 60, 20)
    dock.layers.labels.undo()
    assert not dock.layers.labels.data[5][60].any()
    dock.layers.labels.undo()
    assert not dock.layers.labels.data[5].any()
    share.come_back()
    qtbot.waitUntil(lambda: dock.video_panel.saved.text() == SAVED, timeout=TIMEOUT)
    assert not on_disk(share)[5].any()
    assert dock.session.project.labels.provenance(5, DRIVER) == Provenance.EMPTY


@pytest.mark.parametrize(("error", "reason"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "is read-only")])
def test_strokes_on_a_full_read_only_or_failing_disk_are_saved_later(dock, qtbot, share, monkeypatch, error, reason) -> None:
    def failing(*_arguments: object, **_named: object) -> None:
        raise OSError(error, os.strerror(error))

    mark = dock.video_panel.saved
    with monkeypatch.context() as patch:
        patch.setattr("surgicalsam_napari.files.write_all", failing)
        stroke(dock, 30, 20)
        stroke(dock, 60, 20)
        assert mark.text() == NOT_YET and reason in mark.toolTip()
        qtbot.wait(200)  # it tried again
        assert mark.text() == NOT_YET and not on_disk(share)[2][30].any()
    qtbot.waitUntil(lambda: mark.text() == SAVED, timeout=TIMEOUT)
    assert (on_disk(share)[2][[30, 60], 22] == DRIVER).all()


def test_a_prediction_that_arrives_first_does_not_win_over_a_kept_stroke(dock, qtbot, share: Share) -> None:
    share.go()
    stroke(dock, 30, 20)
    share.come_back()
    with Project.open(share.folder, require_video=False) as other:
        other.labels[2, 28:33, 0:128] = SCISSORS
    qtbot.waitUntil(lambda: dock.video_panel.saved.text() == SAVED, timeout=TIMEOUT)
    row = on_disk(share)[2][30]
    assert row[22] == DRIVER and row[100] == SCISSORS


def test_opening_says_that_the_share_went_away_meanwhile(share: Share, monkeypatch) -> None:
    def gone(*_arguments: object) -> dict[int, str]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("surgicalsam_napari.store.manifest.VideoRecord.of", gone)
    with Session() as session, pytest.raises(UnreachableError, match="Connect its disk or share again, then open it again"):
        session.open(share.video)


def test_without_a_window_an_edit_that_cannot_be_written_is_an_error(share: Share) -> None:
    with Project.open(share.folder) as project:
        share.go()
        with pytest.raises(UnreachableError, match="share again, or move the folder back"):
            project.labels[2, 0, 0] = DRIVER
        with pytest.raises(UnreachableError, match="cannot be reached"):
            _ = project.labels[2]
        with pytest.raises(UnreachableError, match="cannot be reached"):
            project.labels.provenance_table()
        share.come_back()
        project.labels[2, 0, 0] = DRIVER
    assert on_disk(share)[2, 0, 0] == DRIVER


# ---- the window


def test_frames_of_a_share_that_is_away_are_read_again_when_it_is_back(dock, qtbot, share: Share, notes) -> None:
    share.go()
    for frame_index in (7, 8):
        dock.layers.show_frame(frame_index)
        qtbot.wait(30)
    qtbot.waitUntil(lambda: "cannot be reached" in dock.video_panel.message.text(), timeout=TIMEOUT)
    assert dock.video_panel.saved.text() == AWAY
    assert not dock.layers.image.data[8].any()
    share.come_back()
    qtbot.waitUntil(lambda: dock.video_panel.saved.text() == SAVED, timeout=TIMEOUT)
    np.testing.assert_array_equal(dock.layers.image.data[8], pictures(COUNT)[8])
    assert not [note for note in notes if "Unexpected" in note or "Error" in note]


def close_window(dock: MainWidget, button: str, qtbot) -> None:
    """Close the window; if it asks, click this button."""

    def click() -> None:
        box = next(iter(dock.window().findChildren(QMessageBox)))
        (chosen,) = (each for each in box.buttons() if each.text() == button)
        qtbot.mouseClick(chosen, Qt.MouseButton.LeftButton)

    QTimer.singleShot(300, click)
    dock.window().close()


def test_the_window_asks_before_it_closes_with_unsaved_strokes(dock, qtbot, share: Share) -> None:
    share.go()
    stroke(dock, 30, 20)
    close_window(dock, "Wait", qtbot)
    assert dock.window().isVisible() and dock.session.project is not None
    share.come_back()
    qtbot.waitUntil(lambda: dock.video_panel.saved.text() == SAVED, timeout=TIMEOUT)
    assert on_disk(share)[2][30, 22] == DRIVER


def test_closing_after_the_share_is_back_saves_without_a_question(dock, qtbot, share: Share, monkeypatch) -> None:
    share.go()
    stroke(dock, 30, 20)
    dock.lost_folder._timer.stop()
    share.come_back()
    assert dock.lost_folder.may_leave("Close")
    assert on_disk(share)[2][30, 22] == DRIVER


def test_a_run_stops_with_a_message_and_goes_on_when_the_share_is_back(dock, qtbot, share: Share) -> None:
    panel = dock.segment_panel
    gone: list[int] = []

    def go(report) -> None:
        if report.done == 3 and not gone:
            gone.append(report.done)
            share.go()

    panel.run.reported.connect(go)
    qtbot.mouseClick(panel.segment, Qt.MouseButton.LeftButton)
    settle(qtbot, dock)
    assert "cannot be reached" in panel.message.text() and "Unexpected" not in panel.message.text()
    share.come_back()
    qtbot.waitUntil(lambda: dock.video_panel.saved.text() == SAVED, timeout=TIMEOUT)
    panel.run.resume(2)
    settle(qtbot, dock)
    assert panel.run.is_complete, panel.run.error
    with Project.open(share.folder, require_video=False) as project:
        assert (project.labels.provenance_table().any(axis=1)).all()


def test_whatever_is_pressed_while_the_share_is_away_gives_a_message(dock, qtbot, share: Share, notes) -> None:
    share.go()
    for panel in (dock.correct_panel, dock.train_panel, dock.export_panel, dock.segment_panel):
        dock.tabs.show_panel(panel)
        dock.layers.show_frame(4 if dock.layers.current_frame == 2 else 2)
        qtbot.wait(50)
    wanted = (
        "segment",
        "next_frame",
        "verify",
        "propagate",
        "fill_between",
        "keep_largest",
        "learn",
        "export",
        "similarity",
    )
    for action in ACTIONS:
        if action.id in wanted:
            action.do(dock)
            settle(qtbot, dock)
    dock.session.project.work_log.note_view(3, 1.0)
    texts = [message.text() for message in dock.findChildren(Message)]
    assert sum("cannot be reached" in text for text in texts) > 4
    assert not any("Unexpected" in text for text in texts)
    assert not share.root.exists()  # nothing was made where the share was
    share.come_back()
    qtbot.waitUntil(lambda: dock.video_panel.saved.text() == SAVED, timeout=TIMEOUT)
    np.testing.assert_array_equal(on_disk(share)[2] == SCISSORS, dock.layers.labels.data[2] == SCISSORS)


def test_the_command_line_stops_with_a_line_and_resumes(share: Share, tiny_checkpoint, monkeypatch, capsys) -> None:
    command = ["segment", str(share.video), "--all", "--no-vote", "--checkpoint", str(tiny_checkpoint), "--device", "cpu"]
    write = LabelStore.write_prediction

    def going(labels: LabelStore, frame_index: int, *arguments: object, **named: object) -> bool:
        if frame_index == 3:
            share.go()
        return write(labels, frame_index, *arguments, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(LabelStore, "write_prediction", going)
        assert cli.main(command) == 1
    said = capsys.readouterr().err
    assert "cannot be reached. Connect its disk or share again" in said and "Traceback" not in said
    share.come_back()
    assert cli.main([*command, "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out.splitlines()[-1])["videos"]
    assert (result["segmented"], result["skipped"]) == (COUNT - 3, 3)


# ---- the video


def test_a_video_file_that_was_away_is_opened_again(tmp_path: Path) -> None:
    share = Share(tmp_path, "case.mp4")
    Recorder(pictures(60)).write(share.video)
    kept = shutil.copy(share.video, tmp_path / "kept.mp4")
    with VideoReader(share.video, cache_megabytes=1) as video, VideoReader(kept) as expected:
        os.truncate(share.video, 0)  # an open file of a share that is away cannot be read either
        share.go()
        for frame_index in (50, 20):
            with pytest.raises(VideoError, match=r"case.mp4 cannot be reached\. Connect its disk or share again"):
                video.frame(frame_index)
        share.come_back()
        shutil.copy(kept, share.video)
        for frame_index in (50, 20, 59):
            np.testing.assert_array_equal(video.frame(frame_index), expected.frame(frame_index))
