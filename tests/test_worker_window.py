"""A worker on another machine in the window: chosen, tested, used and lost, by mouse and keys, with a real worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

pytest.importorskip("qtpy.QtWidgets")

from qtpy.QtCore import Qt, QThreadPool
from qtpy.QtTest import QTest
from window import TIMEOUT, settle
from workers import worker_here

from surgicalsam_napari.preferences import read_preferences
from surgicalsam_napari.remote import certificates as certificates_module
from surgicalsam_napari.remote import connection, encoder, slow_line
from surgicalsam_napari.remote.encoder import RemoteEncoder
from surgicalsam_napari.widgets.main_widget import MainWidget
from surgicalsam_napari.widgets.source.device_choice import OTHER_MACHINE
from surgicalsam_napari.widgets.source.worker_dialog import WorkerDialog

LEFT = Qt.MouseButton.LeftButton
FRAMES = 12


@pytest.fixture
def worker(tiny_checkpoint) -> Iterator[ExitStack]:
    """A worker that `close` ends, in the middle of a test."""
    with ExitStack() as stack:
        stack.server = stack.enter_context(worker_here(tiny_checkpoint))
        yield stack


@pytest.fixture
def dock(make_napari_viewer, qtbot, clip, monkeypatch, tmp_path, bundled_tiny) -> Iterator[MainWidget]:
    monkeypatch.setattr(certificates_module, "default_certificates", lambda: tmp_path / "none")
    monkeypatch.setattr(encoder, "TRY_AGAIN_SECONDS", 0.2)
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 2.0)
    viewer = make_napari_viewer()
    dock = MainWidget(viewer)
    viewer.window.add_dock_widget(dock, name="SurgicalSAM")
    settle(qtbot, dock)
    dock.open(clip)
    settle(qtbot, dock)
    dock.model_fold.open()
    dock.segment_panel.all_classes.setChecked(True)
    dock.segment_panel.vote.setChecked(False)  # it takes long over so many regions
    yield dock
    dock.session.stop_waiting()
    settle(qtbot, dock)
    QThreadPool.globalInstance().waitForDone(TIMEOUT)
    dock.session.close()


def choose(dock: MainWidget, text: str) -> None:
    """Open the dropdown of devices, and click on an entry."""
    device = dock.model_panel.device
    QTest.keyClick(device, Qt.Key.Key_F4)
    index = device.model().index(device.findText(text), 0)
    device.view().scrollTo(index)
    QTest.mouseClick(device.view().viewport(), LEFT, pos=device.view().visualRect(index).center())


def asked_for(dock: MainWidget) -> WorkerDialog:
    choose(dock, OTHER_MACHINE)
    dialog = dock.model_panel._worker_dialog
    assert dialog is not None and dialog.isVisible()
    return dialog


def use(dock: MainWidget, qtbot, address: object) -> RemoteEncoder:
    dialog = asked_for(dock)
    dialog.address.clear()
    QTest.keyClicks(dialog.address, str(address))
    QTest.mouseClick(dialog.use, LEFT)
    settle(qtbot, dock)
    embedder = dock.session.model.embedder
    assert isinstance(embedder, RemoteEncoder)
    return embedder


def start(dock: MainWidget, qtbot) -> None:
    """Press Segment, and wait for the first frame."""
    qtbot.waitUntil(dock.segment_panel.segment.isEnabled, timeout=TIMEOUT)
    with qtbot.waitSignal(dock.segment_panel.run.reported, timeout=TIMEOUT):
        QTest.mouseClick(dock.segment_panel.segment, LEFT)


def labelled(dock: MainWidget) -> int:
    return int((dock.session.project.labels.provenance_table() != 0).any(axis=1).sum())


def test_a_worker_is_tested_chosen_used_and_remembered(dock, worker, qtbot):
    panel = dock.model_panel
    dialog = asked_for(dock)
    assert panel.device.currentData() == "auto"  # the question changes nothing
    assert "256 × 192 pixels" in dialog.leaves.text()
    assert "Not sent: names of files" in dialog.leaves.text()
    assert not dialog.use.isEnabled()
    QTest.keyClicks(dialog.address, str(worker.server.address))
    QTest.mouseClick(dialog.test, LEFT)
    qtbot.waitUntil(lambda: "Mbit/s" in dialog.result.text(), timeout=TIMEOUT)
    QTest.mouseClick(dialog.use, LEFT)
    settle(qtbot, dock)
    assert panel.device.currentText() == str(worker.server.address)
    start(dock, qtbot)
    settle(qtbot, dock)
    assert labelled(dock) == FRAMES
    panel.worker.refresh()
    assert panel.worker.isVisibleTo(panel)
    for part in ("ms away", "frames a second", "256 × 192 pixels", "sent"):
        assert part in panel.worker.text.text()
    assert [each.address for each in read_preferences().workers] == [str(worker.server.address)]
    choose(dock, panel.device.itemText(0))
    settle(qtbot, dock)
    assert dock.session.model.embedder is None
    assert not panel.worker.isVisibleTo(panel)


def test_a_lost_worker_asks_and_the_run_goes_on_here(dock, worker, qtbot):
    embedder = use(dock, qtbot, worker.server.address)
    question = dock.model_panel.worker
    start(dock, qtbot)
    embedder._connection.cut()
    worker.close()
    dock.model_fold.fold()
    qtbot.waitUntil(lambda: question.question.isVisibleTo(dock) or not dock.segment_panel.run.is_running, timeout=TIMEOUT)
    if dock.segment_panel.run.is_running:  # a fast machine may have got all frames before
        assert "Frames wait, and what arrived is kept" in question.question_text.text()
        assert dock.model_fold.is_open
        QTest.mouseClick(question.go_on, LEFT)
    settle(qtbot, dock)
    assert dock.segment_panel.run.is_complete
    assert labelled(dock) == FRAMES
    assert len(dock.session.project.history.entries()) == 1


def test_cancel_ends_the_waiting_and_what_arrived_stays(dock, worker, qtbot):
    embedder = use(dock, qtbot, worker.server.address)
    worker.close()
    embedder._connection.cut()
    qtbot.waitUntil(dock.segment_panel.segment.isEnabled, timeout=TIMEOUT)
    QTest.mouseClick(dock.segment_panel.segment, LEFT)
    qtbot.waitUntil(lambda: embedder.is_waiting, timeout=TIMEOUT)
    QTest.mouseClick(dock.segment_panel.progress.cancel, LEFT)
    settle(qtbot, dock)
    assert not dock.segment_panel.run.is_running
    assert not embedder.is_waiting


def test_a_worker_that_cannot_be_used_leaves_the_model_as_it_is(dock, qtbot):
    before = dock.session.model
    dialog = asked_for(dock)
    QTest.keyClicks(dialog.address, "198.51.100.7:8786")
    QTest.mouseClick(dialog.test, LEFT)
    qtbot.waitUntil(lambda: bool(dialog.message.text()), timeout=TIMEOUT)
    assert "only on loopback" in dialog.message.text()
    QTest.mouseClick(dialog.use, LEFT)
    settle(qtbot, dock)
    assert dock.session.model is before
    assert "only on loopback" in dock.model_panel.message.text()
    assert dock.model_panel.device.currentData() == "auto"


def test_a_remembered_worker_that_is_gone_does_not_leave_the_window_without_a_model(make_napari_viewer, dock, worker, qtbot):
    use(dock, qtbot, worker.server.address)
    dock.memory.save()
    worker.close()
    again = MainWidget(make_napari_viewer())
    qtbot.addWidget(again)
    settle(qtbot, again)
    qtbot.waitUntil(lambda: again.session.model is not None, timeout=TIMEOUT)
    assert again.session.model.embedder is None
    assert "should answer" in again.model_panel.message.text()
    QThreadPool.globalInstance().waitForDone(TIMEOUT)
    again.session.close()


def test_a_line_that_is_slower_than_this_machine_is_mentioned(dock, worker, qtbot, monkeypatch):
    monkeypatch.setattr(slow_line, "guessed_seconds", lambda *_: 1e-6)
    embedder = use(dock, qtbot, worker.server.address)
    start(dock, qtbot)
    settle(qtbot, dock)
    status = dock.model_panel.worker
    status.refresh()
    assert "is slow" in status.question_text.text()
    QTest.mouseClick(status.other, LEFT)  # stay with it
    assert status.question.isHidden()
    assert embedder.is_elsewhere
