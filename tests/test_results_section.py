"""Statistics and overlays in a real window: clicks, and the table, CSV, pictures and videos that result."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("qtpy.QtWidgets")

from PIL import Image
from qtpy.QtCore import Qt, QThreadPool
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog, QRadioButton
from window import settle

from surgicalsam_napari.overlay import OverlayStyle, overlay_frame
from surgicalsam_napari.video import VideoReader
from surgicalsam_napari.widgets.exchange.overlay_dialog import OverlayDialog
from surgicalsam_napari.widgets.exchange.statistics_dialog import StatisticsDialog
from surgicalsam_napari.widgets.main_widget import MainWidget
from surgicalsam_napari.widgets.parts.frame_scope import RANGE

DRIVER, SCISSORS, TIMEOUT = 3, 4, 60_000


@pytest.fixture
def dock(make_napari_viewer, qtbot, clip, bundled_tiny) -> Iterator[MainWidget]:
    """A video with the driver in frames 2 and 3, in the Export / Import tab."""
    viewer = make_napari_viewer(show=True)
    dock = MainWidget(viewer)
    viewer.window.add_dock_widget(dock, name="SurgicalSAM")
    settle(qtbot, dock)
    dock.open(clip)
    settle(qtbot, dock)
    dock.tabs.show_panel(dock.export_panel)
    dock.session.project.labels[2:4, 30:50, 20:40] = DRIVER
    dock.layers.show_frame(2)
    yield dock
    dock.export_panel.cancel()
    settle(qtbot, dock)
    QThreadPool.globalInstance().waitForDone(TIMEOUT)  # the trial frame that measures the speed
    dock.session.close()


def click(qtbot, button) -> None:
    assert button.isEnabled()
    if isinstance(button, QRadioButton):  # its label is beside the mark
        button.click()
    else:
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def choose_file(monkeypatch, path: Path | None) -> None:
    text = "" if path is None else str(path)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (text, ""))


@pytest.fixture
def statistics(dock, qtbot) -> StatisticsDialog:
    click(qtbot, dock.export_panel.results.statistics_button)
    settle(qtbot, dock)
    return dock.export_panel.results.statistics


@pytest.fixture
def overlay(dock, qtbot) -> OverlayDialog:
    click(qtbot, dock.export_panel.results.overlay_button)
    qtbot.waitUntil(lambda: not dock.export_panel.results.overlay.preview.pixmap().isNull(), timeout=TIMEOUT)
    return dock.export_panel.results.overlay


def cells(dialog: StatisticsDialog, row: int) -> list[str]:
    return [dialog.table.item(row, column).text() for column in range(dialog.table.columnCount())]


# Statistics -----------------------------------------------------------------------------------------------------------


def test_the_table_has_a_row_per_class(statistics) -> None:
    assert statistics.isVisible() and statistics.table.rowCount() == 7
    assert cells(statistics, 2) == ["Large Needle Driver", "2", "0.08 s", "400", "3.26", "800", "0.54", "2", "0"]
    assert cells(statistics, 0) == ["Bipolar Forceps", "0", "–", "–", "–", "–", "–", "0", "0"]
    assert statistics.title.text() == "clip.mp4 · 12 frames · 1 s"


def test_the_table_is_saved_as_csv(statistics, qtbot, tmp_path, monkeypatch) -> None:
    choose_file(monkeypatch, tmp_path / "s.csv")
    click(qtbot, statistics.save_button)
    rows = list(csv.DictReader((tmp_path / "s.csv").read_text(encoding="utf-8").splitlines()))
    assert (rows[2]["class"], rows[2]["frames"], rows[2]["total_area_pixels"]) == ("Large Needle Driver", "2", "800")
    assert statistics.message.text() == "Saved as s.csv."
    choose_file(monkeypatch, tmp_path / "no" / "s.csv")
    click(qtbot, statistics.save_button)
    assert "could not be written" in statistics.message.text()


def test_counting_again_includes_later_corrections(statistics, dock, qtbot) -> None:
    dock.session.project.labels[5, 30:50, 20:40] = DRIVER
    click(qtbot, statistics.again_button)
    settle(qtbot, dock)
    assert cells(statistics, 2)[1] == "3"


def test_another_project_closes_the_dialogs(statistics, dock, qtbot) -> None:
    dock.session.close()
    qtbot.waitUntil(lambda: not statistics.isVisible(), timeout=TIMEOUT)
    assert not dock.export_panel.results.statistics_button.isEnabled()


# Overlays -------------------------------------------------------------------------------------------------------------


def test_the_picture_of_the_frame_in_view_is_saved_as_the_preview_shows_it(overlay, dock, qtbot, tmp_path, monkeypatch):
    click(qtbot, overlay.outlines)
    click(qtbot, overlay.names)
    choose_file(monkeypatch, tmp_path / "frame")
    click(qtbot, overlay.picture_button)
    expected = overlay_frame(dock.session.project, 2, OverlayStyle(1, outlines=True, names=False))
    assert (np.asarray(Image.open(tmp_path / "frame.png")) == expected).all()
    assert "Frame 2 saved to" in overlay.result.text() and "frame.png" in overlay.result.text()


def test_the_preview_follows_the_style_and_the_frame(overlay, dock, qtbot) -> None:
    def shown() -> bytes:
        image = overlay.preview.pixmap().toImage()
        return bytes(image.constBits().asarray(image.sizeInBytes()))

    first = shown()
    overlay.opacity.setFocus()
    QTest.keyClick(overlay.opacity, Qt.Key.Key_End)
    qtbot.waitUntil(lambda: shown() != first, timeout=TIMEOUT)
    assert overlay.percent.text() == "100 %"
    second = shown()
    dock.layers.show_frame(9)
    qtbot.waitUntil(lambda: shown() != second, timeout=TIMEOUT)
    assert overlay.preview_note.text().startswith("Frame 9.")


def test_a_class_without_a_tick_is_not_drawn(overlay) -> None:
    overlay.classes.item(2).setCheckState(Qt.CheckState.Unchecked)
    assert overlay.style_chosen().class_ids == (1, 2, 4, 5, 6, 7)


def test_the_video_is_saved_in_the_background(overlay, dock, qtbot, tmp_path, monkeypatch) -> None:
    choose_file(monkeypatch, tmp_path / "o.mp4")
    overlay.scope.choice.setCurrentText(RANGE)
    overlay.scope.first.setValue(1)
    overlay.scope.last.setValue(6)
    click(qtbot, overlay.video_button)
    assert dock.is_busy and overlay.progress.isVisible() and not overlay.video_button.isEnabled()
    settle(qtbot, dock)
    assert "6 frames saved to" in overlay.result.text()
    with VideoReader(tmp_path / "o.mp4") as video:
        assert len(video) == 6 and video.info.frame_rate == dock.session.project.video.info.frame_rate


def test_a_cancelled_video_writes_nothing(overlay, dock, qtbot, tmp_path, monkeypatch) -> None:
    target = tmp_path / "out" / "o.mp4"
    target.parent.mkdir()
    choose_file(monkeypatch, target)
    overlay.run.reported.connect(lambda _report: overlay.progress.cancel.click())
    click(qtbot, overlay.video_button)
    settle(qtbot, dock)
    assert overlay.result.text() == "Cancelled: nothing was written."
    assert list(target.parent.iterdir()) == []


def test_an_error_stays_in_the_dialog(overlay, dock, qtbot, monkeypatch) -> None:
    choose_file(monkeypatch, dock.session.project.manifest.video_path)
    click(qtbot, overlay.video_button)
    settle(qtbot, dock)
    assert "an overlay must not replace it" in overlay.result.text()
    choose_file(monkeypatch, None)
    click(qtbot, overlay.picture_button)
    assert "an overlay must not replace it" in overlay.result.text()
