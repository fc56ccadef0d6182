"""Export in a real window: the user's choices and clicks, and the files that result."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("qtpy.QtWidgets")

from qtpy.QtCore import QPoint, Qt, QThreadPool
from qtpy.QtWidgets import QFileDialog
from window import settle

from surgicalsam_napari.exchange.exporting import export_frames
from surgicalsam_napari.exchange.registry import open_dataset
from surgicalsam_napari.widgets.exchange import export_panel
from surgicalsam_napari.widgets.exchange.export_panel import ExportPanel
from surgicalsam_napari.widgets.main_widget import MainWidget
from surgicalsam_napari.widgets.parts.frame_scope import RANGE, WHOLE_VIDEO

DRIVER, SCISSORS, SUCTION, TIMEOUT = 3, 4, 6, 60_000


@pytest.fixture
def dock(make_napari_viewer, qtbot, clip, bundled_tiny) -> Iterator[MainWidget]:
    viewer = make_napari_viewer()
    dock = MainWidget(viewer)
    viewer.window.add_dock_widget(dock, name="SurgicalSAM")
    settle(qtbot, dock)
    dock.open(clip)
    settle(qtbot, dock)
    assert dock.segment_panel.isVisibleTo(dock)
    dock.tabs.show_panel(dock.export_panel)
    yield dock
    dock.export_panel.cancel()
    settle(qtbot, dock)
    QThreadPool.globalInstance().waitForDone(TIMEOUT)  # the trial frame that measures the speed
    dock.session.close()


@pytest.fixture
def panel(dock: MainWidget) -> ExportPanel:
    return dock.export_panel


@pytest.fixture
def corrected_dock(dock: MainWidget, qtbot) -> MainWidget:
    """A dock whose project has two painted frames."""
    paint(dock, 2, DRIVER)
    paint(dock, 7, SCISSORS)
    qtbot.waitUntil(dock.export_panel.export.isEnabled, timeout=TIMEOUT)
    return dock


def click(qtbot, button) -> None:
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def paint(dock: MainWidget, frame_index: int, class_id: int, at: tuple[int, int] = (40, 40)) -> None:
    dock.layers.labels.brush_size = 15
    dock.layers.labels.paint((frame_index, *at), class_id)


def choose_folder(monkeypatch, path: Path) -> None:
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_, **__: str(path))


# Tabs ----------------------------------------------------------------------------------------------------------------


def test_a_tab_shows_another_panel(dock, panel):
    dock.tabs.show_panel(dock.segment_panel)
    assert dock.segment_panel.isVisibleTo(dock)
    assert not panel.isVisibleTo(dock)
    dock.tabs.bar.setCurrentIndex(dock.tabs.bar.count() - 1)
    assert panel.isVisibleTo(dock)
    assert not dock.segment_panel.isVisibleTo(dock)


def test_a_tab_is_marked_while_its_panel_works(corrected_dock, panel, qtbot):
    bar = corrected_dock.tabs.bar
    click(qtbot, panel.export)
    assert bar.tabText(bar.count() - 1) == "Export / Import ●"
    settle(qtbot, corrected_dock)
    assert bar.tabText(bar.count() - 1) == "Export / Import"


# Export --------------------------------------------------------------------------------------------------------------


def test_without_corrected_frames_export_is_disabled_and_the_panel_says_so(panel):
    assert not panel.export.isEnabled()
    assert panel.count.text().startswith("No frame has been corrected yet")


def test_corrected_frames_are_counted_as_they_are_painted(dock, panel, qtbot):
    paint(dock, 2, DRIVER)
    qtbot.waitUntil(lambda: panel.count.text() == "1 frame edited or verified by a person", timeout=TIMEOUT)
    paint(dock, 5, DRIVER)
    qtbot.waitUntil(lambda: panel.count.text().startswith("2 frames"), timeout=TIMEOUT)
    assert panel.export.isEnabled()


@pytest.mark.parametrize("title", ["SurgicalSAM / EndoVis folders", "COCO JSON", "YOLO segmentation", "CVAT for video 1.1"])
def test_export_writes_the_corrected_frames_and_links_to_them(corrected_dock, panel, qtbot, title, clip):
    panel.format.setCurrentText(title)
    click(qtbot, panel.export)
    settle(qtbot, corrected_dock)
    folder = clip.parent / f"clip_{panel.format.currentData()}"
    dataset = open_dataset(folder)
    assert [frame.frame_index for frame in dataset.frames] == [2, 7]
    assert all(frame.image_path is not None for frame in dataset.frames)
    for frame in dataset.frames:
        np.testing.assert_array_equal(dataset.label_map(frame), corrected_dock.session.project.labels[frame.frame_index])
    assert panel.result.text().startswith("Exported 2 frames to <a")
    assert folder.as_uri() in panel.result.text()


def test_polygons_are_offered_only_by_formats_that_can_hold_them(corrected_dock, panel, qtbot, clip):
    assert not panel.shapes.isEnabled()
    panel.format.setCurrentText("COCO JSON")
    assert panel.shapes.isEnabled()
    panel.shapes.setCurrentText("Polygons")
    click(qtbot, panel.export)
    settle(qtbot, corrected_dock)
    record = json.loads((clip.parent / "clip_coco/annotations/instances_default.json").read_text())
    assert all(isinstance(annotation["segmentation"], list) for annotation in record["annotations"])
    panel.format.setCurrentText("YOLO segmentation")
    assert (panel.shapes.currentText(), panel.shapes.isEnabled()) == ("Polygons", False)


def test_only_the_checked_classes_are_exported(corrected_dock, panel, qtbot, clip):
    click_on_class(qtbot, panel, "Large Needle Driver")
    assert panel.classes.text() == "6 of 7 classes"
    click(qtbot, panel.export)
    settle(qtbot, corrected_dock)
    dataset = open_dataset(clip.parent / "clip_endovis")
    assert DRIVER not in dataset.classes.ids
    assert [np.unique(dataset.label_map(frame)).tolist() for frame in dataset.frames] == [[0], [0, SCISSORS]]
    for name in panel.session.project.classes.names:
        if name != "Large Needle Driver":
            click_on_class(qtbot, panel, name)
    assert not panel.export.isEnabled()
    assert panel.count.text().startswith("No class is checked")


def click_on_class(qtbot, panel: ExportPanel, name: str) -> None:
    """Open the list of classes, and click on the box of this one."""
    classes = panel.classes
    click(qtbot, classes)
    qtbot.waitUntil(classes.list.isVisible, timeout=TIMEOUT)
    (item,) = classes.list.findItems(name, Qt.MatchFlag.MatchExactly)
    place = classes.list.visualItemRect(item)
    qtbot.mouseClick(classes.list.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(place.left() + 10, place.center().y()))
    classes.menu().close()


def test_a_range_without_images_goes_to_the_folder_chosen(dock, panel, qtbot, tmp_path, monkeypatch):
    empty = tmp_path / "for the students"
    empty.mkdir()
    panel.scope.choice.setCurrentText(RANGE)
    panel.scope.first.setValue(3)
    panel.scope.last.setValue(5)
    assert panel.count.text() == "3 frames"
    panel.images.click()  # a click in the middle of the widget would miss its box and text
    choose_folder(monkeypatch, empty)
    click(qtbot, panel.choose_folder)
    click(qtbot, panel.export)
    settle(qtbot, dock)
    frames = open_dataset(empty).frames
    assert [frame.frame_index for frame in frames] == [3, 4, 5]
    assert all(frame.image_path is None for frame in frames)


def test_an_export_into_a_folder_with_other_files_gets_its_own_folder(panel, tmp_path, monkeypatch, qtbot):
    choose_folder(monkeypatch, tmp_path)  # the folder of the clip
    click(qtbot, panel.choose_folder)
    assert panel.target() == tmp_path / "clip_endovis"


def test_an_earlier_export_is_replaced_only_after_a_question(corrected_dock, panel, qtbot, clip):
    click(qtbot, panel.export)
    settle(qtbot, corrected_dock)
    paint(corrected_dock, 9, SUCTION)
    click(qtbot, panel.export)
    assert not panel.run.is_running
    assert "already contains an export" in panel.question.text.text()
    click(qtbot, panel.question.stop)
    assert len(open_dataset(clip.parent / "clip_endovis").frames) == 2
    click(qtbot, panel.export)
    click(qtbot, panel.question.go_on)
    settle(qtbot, corrected_dock)
    assert len(open_dataset(clip.parent / "clip_endovis").frames) == 3


def wait_for_cancel(reports, progress, after: int):
    """The same generator function, which waits for a click on Cancel after so many reports."""
    clicked = threading.Event()
    progress.cancelled.connect(clicked.set)

    def slow(*arguments, **options):
        with closing(reports(*arguments, **options)) as generator:
            for report in generator:
                yield report
                assert report.done < after or clicked.wait(60)

    return slow


def test_a_cancelled_export_leaves_nothing(dock, panel, qtbot, clip, monkeypatch):
    monkeypatch.setattr(export_panel, "export_frames", wait_for_cancel(export_frames, panel.progress, after=2))
    panel.scope.choice.setCurrentText(WHOLE_VIDEO)
    panel.run.reported.connect(lambda report: report.done == 2 and panel.progress.cancel.click())
    click(qtbot, panel.export)
    settle(qtbot, dock)
    assert not (clip.parent / "clip_endovis").exists()
    assert panel.result.text().startswith("Cancelled") and "nothing was written" in panel.result.text()
    assert panel.export.isEnabled()


def test_a_failed_export_shows_one_error_line(corrected_dock, panel, qtbot, notes, clip):
    (clip.parent / "clip_endovis").write_text("a file where the folder should be")
    click(qtbot, panel.export)
    settle(qtbot, corrected_dock)
    assert len(notes) == 1
    assert "clip_endovis" in panel.message.text()
    assert not panel.result.isVisibleTo(panel)


def test_opening_a_video_and_segmenting_are_disabled_during_an_export(corrected_dock, panel, qtbot):
    click(qtbot, panel.export)
    assert not corrected_dock.video_panel.open_file.isEnabled()
    assert not corrected_dock.segment_panel.segment.isEnabled()
    assert "exported or imported" in corrected_dock.segment_panel.cost.text()
    settle(qtbot, corrected_dock)
    assert corrected_dock.video_panel.open_file.isEnabled()
    assert corrected_dock.segment_panel.segment.isEnabled()
