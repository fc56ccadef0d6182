"""The import dialog in a real window: the user's clicks and choices, and the labels that result."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("qtpy.QtWidgets")

from PIL import Image
from qtpy.QtCore import Qt, QThreadPool
from qtpy.QtWidgets import QApplication, QFileDialog
from window import settle

from surgicalsam_napari.exchange.class_matching import LEAVE_OUT
from surgicalsam_napari.exchange.exporting import export_frames
from surgicalsam_napari.exchange.importing import import_frames
from surgicalsam_napari.exchange.registry import open_dataset
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.video import VideoReader
from surgicalsam_napari.widgets.exchange import import_dialog
from surgicalsam_napari.widgets.exchange.import_dialog import ImportDialog
from surgicalsam_napari.widgets.exchange.import_form import ImportForm
from surgicalsam_napari.widgets.main_widget import MainWidget

DRIVER, SCISSORS, SUCTION, TIMEOUT = 3, 4, 6, 60_000


@pytest.fixture
def dock(make_napari_viewer, qtbot, clip, bundled_tiny) -> Iterator[MainWidget]:
    viewer = make_napari_viewer()
    dock = MainWidget(viewer)
    viewer.window.add_dock_widget(dock, name="SurgicalSAM")
    settle(qtbot, dock)
    dock.open(clip)
    settle(qtbot, dock)
    dock.tabs.show_panel(dock.export_panel)
    yield dock
    dock.export_panel.cancel()
    settle(qtbot, dock)
    QThreadPool.globalInstance().waitForDone(TIMEOUT)  # the trial frame that measures the speed, and pictures of frames
    dock.session.close()


@pytest.fixture
def form(dock: MainWidget) -> ImportForm:
    return dock.export_panel.import_form


@pytest.fixture
def exported(dock: MainWidget, tmp_path: Path) -> Path:
    """Frames 2 and 7 as a dataset; the project's own labels of them are then reset."""
    project = dock.session.project
    for frame_index, class_id in ((2, DRIVER), (7, SCISSORS)):
        paint(dock, frame_index, class_id)
    for _ in export_frames(project, [2, 7], tmp_path / "exported", "endovis"):
        pass
    for frame_index in (2, 7):
        project.labels.reset_frame(frame_index)
    return tmp_path / "exported"


@pytest.fixture
def coco(dock: MainWidget, tmp_path: Path) -> Path:
    """A file of another tool: two crossing masks, a class with a similar name, a new class, a frame without annotation."""
    height, width = dock.session.project.labels.shape[1:]
    first, second = [10, 10, 40, 10, 40, 30, 10, 30], [30, 10, 60, 10, 60, 60, 30, 60]
    record = {
        "images": [
            {"id": number, "file_name": f"clip_mp4-{number:04d}_jpg.rf.0a{number}.jpg", "height": height, "width": width}
            for number in (1, 4, 9)
        ],
        "categories": [{"id": 1, "name": "bipolar_forceps"}, {"id": 2, "name": "Trocar"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [first]},
            {"id": 2, "image_id": 1, "category_id": 2, "segmentation": [second]},
            {"id": 3, "image_id": 4, "category_id": 1, "segmentation": [first]},
            {"id": 4, "image_id": 4, "category_id": 2, "bbox": [1, 1, 5, 5], "segmentation": []},
        ],
    }
    (tmp_path / "labels.json").write_text(json.dumps(record))
    return tmp_path / "labels.json"


def click(qtbot, button) -> None:
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def paint(dock: MainWidget, frame_index: int, class_id: int, at: tuple[int, int] = (40, 40)) -> None:
    dock.layers.labels.brush_size = 15
    dock.layers.labels.paint((frame_index, *at), class_id)


def choose(dock: MainWidget, path: Path, qtbot, monkeypatch) -> ImportDialog:
    """Choose a dataset in the file dialog; returns the import dialog."""
    form = dock.export_panel.import_form
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_, **__: str(path))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, **__: (str(path), ""))
    click(qtbot, form.from_folder if path.is_dir() else form.from_file)
    settle(qtbot, dock)
    assert form.dialog is not None
    return form.dialog


def texts(dialog: ImportDialog) -> dict[str, str]:
    return {name: label.text() for name, label in dialog.options.texts.items() if label.isVisibleTo(dialog)}


def labels_of(dock: MainWidget) -> np.ndarray:
    return np.asarray(dock.session.project.labels)


def test_the_dialog_shows_first_and_the_import_counts_as_corrected(dock, form, exported, qtbot, monkeypatch):
    dialog = choose(dock, exported, qtbot, monkeypatch)
    assert dialog.recognised.text() == "SurgicalSAM / EndoVis folders: 2 frames"
    assert "2 frames will be imported" in texts(dialog)["Frames"]
    assert "00002 -> frame 2, 00007 -> frame 7" in texts(dialog)["Frames"]
    assert not labels_of(dock).any()
    click(qtbot, dialog.import_button)
    settle(qtbot, dock)
    assert not dialog.isVisible()
    project, dataset = dock.session.project, open_dataset(exported)
    for frame in dataset.frames:
        np.testing.assert_array_equal(project.labels[frame.frame_index], dataset.label_map(frame))
    assert project.labels.provenance(2, DRIVER) == Provenance.EDITED
    assert form.result.text() == "Imported 2 frames."
    assert dock.export_panel.count.text().startswith("2 frames edited or verified")


def test_an_import_that_changes_nothing_says_what_was_left_alone(dock, form, exported, qtbot, monkeypatch):
    labels, history = dock.session.project.labels, dock.session.project.history
    frame = open_dataset(exported).frames[0].frame_index
    labels[frame, 0:5, 0:5] = SUCTION
    labels.verify(frame)
    before = labels[:], labels.provenance_table(), labels.painted(frame)
    for expected in (
        "Imported 1 frame. 1 frame was left alone: a person verified or painted it before.",
        "Nothing was imported. 1 frame was left alone: a person verified or painted it before. 1 frame has these labels "
        "already.",
    ):
        dialog = choose(dock, exported, qtbot, monkeypatch)
        click(qtbot, dialog.import_button)
        settle(qtbot, dock)
        assert form.result.text() == expected
    np.testing.assert_array_equal(labels[frame], before[0][frame])
    np.testing.assert_array_equal(labels.provenance_table()[frame], before[1][frame])
    np.testing.assert_array_equal(labels.painted(frame), before[2])
    assert [entry.frame_count for entry in history.entries()] == [1]


def test_a_dataset_of_another_tool_asks_what_is_not_clear(dock, form, coco, qtbot, monkeypatch):
    dialog = choose(dock, coco, qtbot, monkeypatch)
    shown = texts(dialog)
    assert "0001 -> frame 1, 0004 -> frame 4" in shown["Frames"]
    assert shown["unannotated"] == "1 frame in the dataset"
    assert shown["Skipped"].startswith("annotations without a mask (only a box): 1")
    assert shown["overlaps"].startswith("1 frame, 200 pixels")
    assert dialog.options.class_fields["bipolar_forceps"].currentText() == "Bipolar Forceps"
    assert dialog.options.class_fields["Trocar"].currentText() == "Add it as a new class"
    assert not dialog.import_button.isEnabled()
    dialog.options.overlaps.setCurrentText("bipolar_forceps on top")
    assert dialog.import_button.isEnabled()
    click(qtbot, dialog.import_button)
    settle(qtbot, dock)
    trocar = dock.session.classes.by_name("Trocar").id
    assert np.unique(labels_of(dock)[1]).tolist() == [0, 1, trocar]
    assert (labels_of(dock)[1][12:28, 32:38] == 1).all()
    assert not dock.session.project.labels.provenance_table()[9].any()
    assert "1 frame without annotations was left alone" in form.result.text()
    choices = dock.correct_panel.undo_bar.undo_button.toolTip().splitlines()
    assert {"bipolar_forceps is Bipolar Forceps", "frames without annotations are left alone"} <= {*choices}
    assert dock.segment_panel.picker.findData(trocar) >= 0
    assert "Trocar" in dock.layers.labels.features["class"].tolist()


def test_the_tracks_of_a_dataset_are_shown_and_imported(dock, form, coco, qtbot, monkeypatch):
    record = json.loads(coco.read_text())
    record["annotations"] = [{**one, "track_id": 5} for one in record["annotations"] if one["id"] in (1, 3)]
    coco.write_text(json.dumps(record))
    dialog = choose(dock, coco, qtbot, monkeypatch)
    assert texts(dialog)["Tracks"] == "1 track will be imported"
    click(qtbot, dialog.import_button)
    settle(qtbot, dock)
    (track,) = dock.session.project.tracks.table.tracks
    assert (track.id, track.first, track.last) == (5, 1, 4)
    assert "They show 1 track." in form.result.text()


def test_choices_change_the_plan_at_once(dock, coco, qtbot, monkeypatch):
    dialog = choose(dock, coco, qtbot, monkeypatch)
    dialog.options.unannotated.setCurrentText("They show no instrument")
    assert dialog.import_button.text() == "Import 3 frames"
    field = dialog.options.class_fields["Trocar"]
    field.setCurrentIndex(field.findData(LEAVE_OUT))
    dialog.options.overlaps.setCurrentText("Smaller masks on top")
    click(qtbot, dialog.import_button)
    settle(qtbot, dock)
    assert np.unique(labels_of(dock)[1]).tolist() == [0, 1]
    assert len(dock.session.classes) == 7
    assert dock.session.project.labels.provenance(9, 1) == Provenance.EDITED


def test_the_picture_shows_a_frame_before_and_after(dock, coco, qtbot, monkeypatch):
    paint(dock, 1, SUCTION, at=(12, 20))
    dialog = choose(dock, coco, qtbot, monkeypatch)
    dialog.options.overlaps.setCurrentText("Smaller masks on top")
    comparison = dialog.comparison
    qtbot.waitUntil(lambda: "will not change" in comparison.kept.text(), timeout=TIMEOUT)
    assert comparison.place.text() == "Frame 1 (1 of 2)"
    before, after = (picture.grab().toImage() for picture in (comparison.before, comparison.after))
    assert before != after
    click(qtbot, comparison.next_button)
    assert comparison.place.text() == "Frame 4 (2 of 2)"
    qtbot.waitUntil(lambda: comparison.kept.text() == "", timeout=TIMEOUT)
    assert comparison.before.grab().toImage() != before


def test_cancel_imports_nothing(dock, form, exported, qtbot, monkeypatch):
    dialog = choose(dock, exported, qtbot, monkeypatch)
    click(qtbot, dialog.stop)
    assert not dialog.isVisible()
    assert form.from_folder.isEnabled()
    assert not labels_of(dock).any()


def wait_for_cancel(started: threading.Event, stopped: threading.Event):
    """`import_frames` that waits for a click on Cancel after its first frame."""

    def slow(*arguments):
        with closing(import_frames(*arguments)) as reports:
            for report in reports:
                yield report
                started.set()
                assert stopped.wait(60)

    return slow


def test_a_cancelled_import_leaves_the_labels_as_they_were(dock, form, exported, qtbot, monkeypatch):
    started, stopped = threading.Event(), threading.Event()
    monkeypatch.setattr(import_dialog, "import_frames", wait_for_cancel(started, stopped))
    dialog = choose(dock, exported, qtbot, monkeypatch)
    click(qtbot, dialog.import_button)
    qtbot.waitUntil(started.is_set, timeout=TIMEOUT)
    click(qtbot, dialog.stop)
    stopped.set()
    settle(qtbot, dock)
    assert dialog.message.text() == "Cancelled: nothing was imported."
    assert not labels_of(dock).any()
    assert (dock.session.project.labels.provenance_table() == Provenance.EMPTY).all()
    click(qtbot, dialog.import_button)  # the dialog can start again
    settle(qtbot, dock)
    assert labels_of(dock)[2].any()


def test_pixels_that_the_user_painted_stay_and_are_counted(dock, form, exported, qtbot, monkeypatch):
    paint(dock, 2, SUCTION)
    painted = dock.session.project.labels[2] == SUCTION
    dialog = choose(dock, exported, qtbot, monkeypatch)
    assert "1 frame that you corrected before" in texts(dialog)["Your work"]
    click(qtbot, dialog.import_button)
    settle(qtbot, dock)
    assert (dock.session.project.labels[2][painted] == SUCTION).all()
    assert f"{np.count_nonzero(painted):,} pixels painted or verified before did not change" in form.result.text()


def test_labels_that_do_not_fit_are_listed_by_file_and_nothing_is_written(dock, exported, qtbot, monkeypatch):
    for path in exported.rglob("*.png"):
        if "images" not in path.parts:
            Image.fromarray(np.zeros((10, 10), np.uint8)).save(path)
    dialog = choose(dock, exported, qtbot, monkeypatch)
    assert "2 frames</a> of the dataset" in dialog.message.text()
    assert not dialog.import_button.isEnabled()
    dialog.message.linkActivated.emit("#")
    assert dialog.problems is not None
    assert len(dialog.problems.lines.toPlainText().splitlines()) == 2
    click(qtbot, dialog.problems.copy)
    assert all(name in QApplication.clipboard().text() for name in ("00002", "00007"))
    assert not labels_of(dock).any()
    dialog.problems.close()


def test_the_sequence_of_this_video_and_the_class_names_can_be_chosen(dock, exported, qtbot, monkeypatch):
    (exported / "classes.json").unlink()  # as in the authors' folders, which hold many videos
    for folder in ("images", "annotations", "binary_annotations"):
        shutil.move(exported / folder / "clip", exported / folder / "seq_1")
        shutil.copytree(exported / folder / "seq_1", exported / folder / "seq_2")
        for file in (exported / folder / "seq_2").glob("00007*"):
            file.unlink()
    dialog = choose(dock, exported, qtbot, monkeypatch)
    assert "no class names" in dialog.message.text()
    dialog.fields.names.setCurrentText("As in EndoVis 2018")
    settle(qtbot, dock)
    assert "2 sequences (seq_1: 2 frames, seq_2: 1 frame)" in dialog.message.text()
    dialog.fields.sequence.setCurrentText("seq_2 (1 frame)")
    settle(qtbot, dock)
    assert dialog.import_button.text() == "Import 1 frame"
    click(qtbot, dialog.import_button)
    settle(qtbot, dock)
    assert labels_of(dock)[2].any()
    assert not labels_of(dock)[7].any()


def test_an_unclear_name_is_read_with_the_users_pattern(dock, coco, qtbot, monkeypatch):
    coco.write_text(coco.read_text().replace("clip_mp4-0001_jpg.rf.0a1", "clip_00_00_03"))
    coco.write_text(coco.read_text().replace("clip_mp4-0004_jpg.rf.0a4", "clip_00_00_04"))
    coco.write_text(coco.read_text().replace("clip_mp4-0009_jpg.rf.0a9", "clip_00_00_09"))
    dialog = choose(dock, coco, qtbot, monkeypatch)
    assert "can be read in several ways" in dialog.message.text()
    assert "command line" not in dialog.message.text()
    qtbot.keyClicks(dialog.fields.pattern, "clip_00_00_{frame}")
    qtbot.keyClick(dialog.fields.pattern, Qt.Key.Key_Return)
    settle(qtbot, dock)
    assert "03 -> frame 3, 04 -> frame 4" in texts(dialog)["Frames"]
    assert dialog.isVisible()


def test_a_folder_that_is_not_a_dataset_is_explained(dock, form, qtbot, tmp_path, monkeypatch):
    (tmp_path / "nothing").mkdir()
    dialog = choose(dock, tmp_path / "nothing", qtbot, monkeypatch)
    assert "nothing is not a dataset of a known format" in dialog.message.text()
    assert not dialog.import_button.isEnabled()
    click(qtbot, dialog.stop)
    assert form.from_folder.isEnabled()


def test_opening_another_video_closes_the_dialog(dock, form, exported, phantom_clip, qtbot, monkeypatch):
    dialog = choose(dock, exported, qtbot, monkeypatch)
    other = Path(shutil.copy(phantom_clip, exported.parent / "other.mp4"))
    closed = []
    dialog.finished.connect(closed.append)
    dock.open(other)
    settle(qtbot, dock)
    assert closed
    assert form.dialog is None
    with VideoReader(other) as video, Project.open_or_create(video, dock.session.classes) as project:
        assert not np.asarray(project.labels).any()
