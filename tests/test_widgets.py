"""The dock in a real viewer: a person chooses, clicks and paints; the tests check the result."""

from __future__ import annotations

import functools
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("qtpy.QtWidgets")

from napari.layers import Image
from qtpy.QtCore import Qt, QThreadPool, QTimer
from qtpy.QtWidgets import QFileDialog, QLabel
from window import settle

from surgicalsam_napari.errors import DownloadError
from surgicalsam_napari.inference import Estimate, encoder_speed
from surgicalsam_napari.instruments import ENDOVIS2018, ClassSet, InstrumentClass
from surgicalsam_napari.model.zoo import KNOWN_WEIGHTS, OTHER_WEIGHTS, DownloadReport
from surgicalsam_napari.store import Provenance
from surgicalsam_napari.video import write_video
from surgicalsam_napari.widgets.contributions.reader import get_reader
from surgicalsam_napari.widgets.correct.correct_panel import CorrectPanel
from surgicalsam_napari.widgets.exchange.export_panel import ExportPanel
from surgicalsam_napari.widgets.main_widget import MainWidget
from surgicalsam_napari.widgets.parts.frame_scope import EVERY_NTH, RANGE, THIS_FRAME
from surgicalsam_napari.widgets.parts.progress_strip import BUSY_AFTER_MS, ProgressStrip
from surgicalsam_napari.widgets.runs import segmentation_run
from surgicalsam_napari.widgets.segment_panel import SegmentPanel
from surgicalsam_napari.widgets.source import weights_dialog
from surgicalsam_napari.widgets.source.model_panel import ModelPanel
from surgicalsam_napari.widgets.source.video_panel import VideoPanel
from surgicalsam_napari.widgets.timeline.dock import TimelineDock
from surgicalsam_napari.widgets.train.train_panel import TrainPanel
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers

BUNDLED = 1  # row of the checkpoint that comes with the package
DRIVER, SCISSORS, FRAMES, TIMEOUT = 3, 4, 12, 60_000


@pytest.fixture
def empty_dock(make_napari_viewer, qtbot, bundled_tiny) -> Iterator[MainWidget]:
    viewer = make_napari_viewer()
    dock = MainWidget(viewer)
    viewer.window.add_dock_widget(dock, name="SurgicalSAM")
    settle(qtbot, dock)
    yield dock
    dock.segment_panel.run.cancel()
    settle(qtbot, dock)
    QThreadPool.globalInstance().waitForDone(TIMEOUT)  # the trial frame that measures the speed
    dock.session.close()


@pytest.fixture
def dock(empty_dock, qtbot, clip) -> MainWidget:
    open_in(empty_dock, clip, qtbot)
    return empty_dock


def open_in(dock: MainWidget, path: Path, qtbot) -> None:
    dock.open(path)
    settle(qtbot, dock)


def click(qtbot, button) -> None:
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def segment(qtbot, dock: MainWidget) -> list[int]:
    """Click Segment and wait; return the frames in the order of their segmentation."""
    done: list[int] = []
    run = dock.segment_panel.run
    run.reported.connect(lambda report: None if run.is_voting else done.append(report.frame_index))
    click(qtbot, dock.segment_panel.segment)
    assert run.is_running
    settle(qtbot, dock)
    return done


REFRESHED = {
    "layers": (ViewerLayers, "show_project"),
    "video": (VideoPanel, "show_project"),
    "checkpoints": (ModelPanel, "show_trained"),
    "model": (ModelPanel, "show_model"),
    "timeline": (TimelineDock, "show_project"),
    "segment": (SegmentPanel, "refresh"),
    "correct": (CorrectPanel, "refresh"),
    "train": (TrainPanel, "refresh"),
    "export": (ExportPanel, "refresh"),
}


@pytest.fixture
def refreshed(monkeypatch) -> Counter[str]:
    """How often each part of the window was refreshed; request this fixture before the dock."""
    counter: Counter[str] = Counter()
    for part, (kind, name) in REFRESHED.items():
        monkeypatch.setattr(kind, name, _counting(getattr(kind, name), counter, part))
    return counter


def _counting(method, counter: Counter[str], part: str):
    @functools.wraps(method)
    def counted(self, *arguments, **named):
        counter[part] += 1
        return method(self, *arguments, **named)

    return counted


def choose_file(monkeypatch, path: Path | None) -> None:
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, **__: (str(path or ""), ""))


# Opening -------------------------------------------------------------------------------------------------------------


def test_the_bundled_checkpoint_is_loaded_at_the_start(empty_dock):
    assert empty_dock.session.model is not None
    assert empty_dock.model_panel.checkpoint.currentText().startswith("Light")
    assert "CPU" in empty_dock.model_panel.device.currentText()


def test_segment_waits_for_a_video(empty_dock):
    assert not empty_dock.segment_panel.segment.isEnabled()
    assert empty_dock.segment_panel.cost.text() == "Open a video first."


def test_open_file_button_shows_the_video(empty_dock, qtbot, clip, monkeypatch):
    choose_file(monkeypatch, clip)
    click(qtbot, empty_dock.video_panel.open_file)
    settle(qtbot, empty_dock)
    assert empty_dock.video_panel.file_name.text() == "clip.mp4"
    assert empty_dock.video_panel.facts.text().startswith("128 × 96 · 12 frames · 25 fps")
    assert [layer.name for layer in empty_dock.layers.viewer.layers] == ["clip", "Instruments"]
    assert empty_dock.segment_panel.segment.isEnabled()


def test_a_black_border_is_named_and_nothing_is_segmented_on_it(dock, qtbot, tmp_path):
    border = dock.video_panel.border
    assert border.isHidden()  # the phantom has none
    inside = np.zeros((96, 128), bool)
    inside[:, 32:96] = True
    frames = [np.where(inside[..., None], frame, np.uint8(0)) for frame in dock.session.project.video[:]]
    open_in(dock, write_video(tmp_path / "bordered.mp4", frames), qtbot)
    assert not border.isHidden() and re.fullmatch(r"Black border left out: 4[5-9] % of the picture", border.text())
    click(qtbot, dock.segment_panel.all_classes)
    dock.segment_panel.vote.setChecked(False)  # it takes long over so many regions
    segment(qtbot, dock)
    labelled = (dock.session.project.labels[:] > 0).any(axis=(0, 1))
    assert labelled[32:96].any() and not labelled[:29].any() and not labelled[99:].any()
    dock.session.project.labels[0, :, :50] = DRIVER
    open_in(dock, dock.session.project.folder, qtbot)
    assert border.text() == "Dark border kept: you labelled instruments on it"


def test_open_folder_button_restores_a_project(dock, qtbot, clip, phantom_clip, tmp_path, monkeypatch):
    dock.layers.labels.paint((2, 20, 20), SCISSORS)
    other = Path(shutil.copy(phantom_clip, tmp_path / "other.mp4"))
    open_in(dock, other, qtbot)
    assert dock.session.project.labels[2].max() == 0
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_, **__: str(clip.with_suffix(".surgicalsam")))
    click(qtbot, dock.video_panel.open_folder)
    settle(qtbot, dock)
    assert dock.session.project.labels[2][20, 20] == SCISSORS
    assert dock.session.project.labels.provenance(2, SCISSORS) == Provenance.EDITED


def test_a_bad_video_is_reported_in_one_line_and_the_open_one_stays(dock, qtbot, tmp_path, notes):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video at all" * 100)
    before = dock.session.project
    open_in(dock, broken, qtbot)
    assert dock.session.project is before
    assert dock.video_panel.file_name.text() == "clip.mp4"
    assert notes == ["Video: see the message in the panel"]
    assert "broken.mp4" in dock.video_panel.message.text()
    assert "\n" not in dock.video_panel.message.text()


def test_another_project_refreshes_each_part_once(refreshed, dock, qtbot, phantom_clip, tmp_path):
    other = Path(shutil.copy(phantom_clip, tmp_path / "other.mp4"))
    refreshed.clear()
    open_in(dock, other, qtbot)
    assert refreshed == dict.fromkeys(REFRESHED.keys() - {"model"}, 1)


def test_another_model_refreshes_once_what_depends_on_it(refreshed, dock, tiny_model):
    refreshed.clear()
    dock.session.use_model(tiny_model)
    assert refreshed == {"model": 1, "segment": 1, "correct": 1, "train": 1}


def test_another_class_refreshes_the_correct_tab_once(refreshed, dock):
    refreshed.clear()
    dock.session.select_class(SCISSORS)
    assert refreshed == {"correct": 1}
    assert dock.segment_panel.picker.class_id == dock.correct_panel.picker.class_id == SCISSORS


def test_another_class_set_refreshes_once_what_shows_classes(refreshed, dock):
    refreshed.clear()
    more = ClassSet("more", (*ENDOVIS2018.classes, InstrumentClass(9, "Stapler", "#ffffff")))
    dock.segment_panel.use_class_set(more)
    assert refreshed == {"timeline": 1, "segment": 1, "correct": 1, "train": 1}
    for picker in (dock.segment_panel.picker, dock.correct_panel.picker):
        assert picker.findData(9) >= 0
    assert dock.segment_panel.class_set.currentText() == "more"


def test_layers_that_existed_before_the_dock_are_used(make_napari_viewer, qtbot, clip, bundled_tiny):
    viewer = make_napari_viewer()
    for data, arguments, _ in get_reader(str(clip))(str(clip)):
        viewer.add_layer(Image(data, **arguments))
    dropped = viewer.layers[0]
    dock = MainWidget(viewer)
    viewer.window.add_dock_widget(dock)
    settle(qtbot, dock)
    qtbot.waitUntil(lambda: dock.session.project is not None, timeout=TIMEOUT)
    assert dock.layers.image is dropped
    assert dropped.data is dock.session.project.video
    dock.session.close()


def test_a_video_dropped_on_the_viewer_becomes_the_open_one(empty_dock, qtbot, clip):
    for data, arguments, _ in get_reader(str(clip))(str(clip)):
        empty_dock.layers.viewer.add_layer(Image(data, **arguments))
    qtbot.waitUntil(lambda: empty_dock.session.project is not None, timeout=TIMEOUT)
    assert [layer.name for layer in empty_dock.layers.viewer.layers] == ["clip", "Instruments"]


def test_the_plugin_menu_opens_the_dock(make_napari_viewer, qtbot, clip, bundled_tiny):
    viewer = make_napari_viewer()
    _, plugin = viewer.window.add_plugin_dock_widget("surgicalsam-napari", "SurgicalSAM")
    qtbot.waitUntil(lambda: plugin.main is not None, timeout=TIMEOUT)
    dock = plugin.main
    settle(qtbot, dock)
    open_in(dock, clip, qtbot)  # through napari's proxy of the viewer, that plugins get
    dock.segment_panel.scope.choice.setCurrentText(THIS_FRAME)
    dock.layers.show_frame(3)
    assert segment(qtbot, dock) == [3]
    dock.session.close()


# Classes -------------------------------------------------------------------------------------------------------------


def test_the_dropdown_chooses_what_the_brush_paints(dock):
    dock.segment_panel.picker.setCurrentIndex(dock.segment_panel.picker.findData(SCISSORS))
    assert dock.layers.labels.selected_label == SCISSORS
    dock.layers.labels.paint((0, 20, 20), dock.layers.labels.selected_label)
    assert dock.session.project.labels.provenance(0, SCISSORS) == Provenance.EDITED


def test_choosing_a_label_in_the_layer_selects_it_in_the_dropdown(dock):
    dock.layers.labels.selected_label = 6
    assert dock.segment_panel.picker.currentText() == "Suction Instrument"


def test_classes_show_their_colours(dock):
    picker = dock.segment_panel.picker
    colors = [picker.itemIcon(i).pixmap(14, 14).toImage().pixelColor(7, 7).name() for i in range(len(ENDOVIS2018))]
    assert colors == [instrument.color for instrument in ENDOVIS2018]


def test_a_class_from_yaml_is_shown_as_not_yet_trained(dock, qtbot, tmp_path, monkeypatch):
    classes = tmp_path / "ours.yaml"
    classes.write_text("name: Ours\nclasses:\n- {id: 12, name: Trocar, color: '#ff0000'}\n")
    choose_file(monkeypatch, classes)
    panel = dock.segment_panel
    panel.class_set.activated.emit(panel.class_set.count() - 1)
    panel.picker.setCurrentIndex(panel.picker.findData(12))
    assert panel.picker.currentText() == "Trocar (not yet trained)"
    assert dock.layers.labels.selected_label == 12
    assert not panel.segment.isEnabled()
    assert "not yet trained" in panel.cost.text()
    panel.picker.setCurrentIndex(panel.picker.findData(DRIVER))
    assert panel.segment.isEnabled()


def test_a_class_set_that_contradicts_the_project_is_refused(dock, tmp_path, notes):
    classes = tmp_path / "other.yaml"
    classes.write_text("classes:\n- {id: 3, name: Trocar}\n")
    dock.segment_panel.use_class_set(classes)
    assert len(notes) == 1 and "Trocar" in dock.segment_panel.message.text()
    assert dock.session.classes == ENDOVIS2018
    assert dock.segment_panel.class_set.currentText() == "EndoVis 2018"


# Segmenting ----------------------------------------------------------------------------------------------------------


def test_segment_finds_the_chosen_class_outward_from_the_frame_in_view(dock, qtbot):
    dock.segment_panel.picker.setCurrentIndex(dock.segment_panel.picker.findData(DRIVER))
    dock.layers.show_frame(6)
    assert segment(qtbot, dock)[:5] == [6, 7, 5, 8, 4]
    table = dock.session.project.labels.provenance_table()
    assert (table[:, DRIVER - 1] != Provenance.EMPTY).all()
    assert (np.delete(table, DRIVER - 1, axis=1) == Provenance.EMPTY).all()
    assert set(np.unique(dock.session.project.labels[6])) <= {0, DRIVER}


def test_all_classes_are_predicted_at_once(dock, qtbot):
    click(qtbot, dock.segment_panel.all_classes)
    dock.segment_panel.scope.choice.setCurrentText(THIS_FRAME)
    dock.layers.show_frame(4)
    assert segment(qtbot, dock) == [4]
    assert (dock.session.project.labels.provenance_table()[4] != Provenance.EMPTY).all()


def test_only_a_range_or_every_nth_frame_is_segmented(dock, qtbot):
    scope = dock.segment_panel.scope
    scope.choice.setCurrentText(RANGE)
    scope.first.setValue(7)
    scope.last.setValue(5)
    assert sorted(segment(qtbot, dock)) == [5, 6, 7]
    scope.choice.setCurrentText(EVERY_NTH)
    assert sorted(segment(qtbot, dock)) == [0, 5, 10]


def test_segmenting_leaves_painted_pixels_alone(dock, qtbot):
    dock.layers.labels.brush_size = 15
    dock.layers.labels.paint((0, 40, 40), SCISSORS)
    painted = dock.session.project.labels.painted(0)
    click(qtbot, dock.segment_panel.all_classes)
    dock.segment_panel.scope.choice.setCurrentText(THIS_FRAME)
    segment(qtbot, dock)
    assert (dock.session.project.labels[0][painted] == SCISSORS).all()


def slow_down(model, monkeypatch) -> None:
    """A frame takes 0.3 s, so that a run is not complete before the window reacts."""
    predict = model.predict

    def predict_slowly(*arguments, **options):
        time.sleep(0.3)
        return predict(*arguments, **options)

    monkeypatch.setattr(model, "predict", predict_slowly)


def test_cancel_stops_after_the_current_frame_and_keeps_the_finished_ones(dock, qtbot, monkeypatch):
    slow_down(dock.session.model, monkeypatch)
    panel = dock.segment_panel
    panel.run.reported.connect(lambda report: report.done == 2 and panel.progress.cancel.click())
    done = segment(qtbot, dock)
    assert 2 <= len(done) < FRAMES
    assert (dock.session.project.labels.provenance_table()[done, 0] != Provenance.EMPTY).all()
    assert panel.segment.isEnabled()
    assert not panel.progress.isVisibleTo(panel)


def test_out_of_memory_reaches_the_user(dock, qtbot, notes, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        yield

    monkeypatch.setattr(dock.session, "segment", fail)
    segment(qtbot, dock)
    assert "CUDA out of memory. Tried to allocate 2 GiB" in dock.segment_panel.message.text()
    assert notes == ["Segment: see the message in the panel"]
    assert dock.segment_panel.segment.isEnabled()


def asked_before(dock: MainWidget, qtbot, monkeypatch, seconds: float | None, disk_bytes: int) -> bool:
    """Whether Segment asks before a run of this cost, with 10 GB free; else it runs to its end."""
    estimate = Estimate(FRAMES, FRAMES, seconds, disk_bytes, 10**10)
    monkeypatch.setattr(dock.session, "estimate", lambda *_, **__: estimate)
    click(qtbot, dock.segment_panel.segment)
    is_asked = dock.segment_panel.question.isVisibleTo(dock.segment_panel)
    assert dock.segment_panel.run.is_running != is_asked
    return is_asked


def test_a_run_above_ten_minutes_asks_first(dock, qtbot, monkeypatch):
    panel = dock.segment_panel
    assert asked_before(dock, qtbot, monkeypatch, 754.0, 3_200_000_000)
    assert "12 frames: about 13 min and 3.2 GB of disk (10.0 GB free)" in panel.question.text.text()
    click(qtbot, panel.question.stop)
    assert panel.segment.isVisibleTo(panel) and not panel.outcome.isVisibleTo(panel)
    assert (dock.session.project.labels.provenance_table() == Provenance.EMPTY).all()
    click(qtbot, panel.segment)
    click(qtbot, panel.question.go_on)
    settle(qtbot, dock)
    assert (dock.session.project.labels.provenance_table()[:, 0] != Provenance.EMPTY).all()


@pytest.mark.parametrize(
    ("seconds", "disk_bytes", "asks"), [(599, 4 * 10**9, False), (None, 0, False), (5, 6 * 10**9, True)]
)
def test_a_shorter_run_asks_only_if_the_disk_is_short(dock, qtbot, monkeypatch, seconds, disk_bytes, asks):
    assert asked_before(dock, qtbot, monkeypatch, seconds, disk_bytes) == asks
    settle(qtbot, dock)


def test_a_started_run_is_not_stopped_by_a_question(dock, qtbot, monkeypatch):
    panel = dock.segment_panel
    monkeypatch.setattr(segmentation_run, "LONG_RUN_SECONDS", 0)
    assert not asked_before(dock, qtbot, monkeypatch, None, 0)
    settle(qtbot, dock)
    assert not panel.question.isVisibleTo(panel)
    assert (dock.session.project.labels.provenance_table()[:, 0] != Provenance.EMPTY).all()


def test_a_run_too_large_for_the_disk_does_not_start(dock, qtbot, notes, monkeypatch):
    monkeypatch.setattr(dock.session, "estimate", lambda *_, **__: Estimate(FRAMES, FRAMES, 1.0, 2 * 10**9, 10**9))
    click(qtbot, dock.segment_panel.segment)
    assert not dock.segment_panel.run.is_running
    assert "needs 2.0 GB" in dock.segment_panel.message.text() and len(notes) == 1


def test_removing_the_video_during_a_run_closes_its_project(dock, qtbot):
    dock.segment_panel.run.reported.connect(lambda report: report.done == 1 and dock.layers.viewer.layers.clear())
    segment(qtbot, dock)
    qtbot.waitUntil(lambda: dock.session.project is None, timeout=TIMEOUT)
    assert dock.session.model is not None
    assert len(dock.layers.viewer.layers) == 0
    assert dock.segment_panel.cost.text() == "Open a video first."


def test_the_next_run_restores_a_deleted_labels_layer(dock, qtbot):
    dock.layers.viewer.layers.remove(dock.layers.labels)
    dock.segment_panel.scope.choice.setCurrentText(THIS_FRAME)
    segment(qtbot, dock)
    assert dock.layers.labels in dock.layers.viewer.layers


def test_closing_the_window_during_a_run_stops_it(make_napari_viewer, qtbot, clip, monkeypatch, bundled_tiny):
    viewer = make_napari_viewer(show=True)
    dock = MainWidget(viewer)
    viewer.window.add_dock_widget(dock, name="SurgicalSAM")
    settle(qtbot, dock)
    open_in(dock, clip, qtbot)
    labels = dock.session.project.labels
    slow_down(dock.session.model, monkeypatch)
    click(qtbot, dock.segment_panel.segment)
    qtbot.waitUntil(lambda: dock.segment_panel.run.seconds_left is not None, timeout=TIMEOUT)
    viewer.close()
    assert QThreadPool.globalInstance().waitForDone(TIMEOUT)
    assert (labels.provenance_table()[:, 0] == Provenance.EMPTY).any()


def test_the_window_responds_while_frames_are_segmented(dock, qtbot):
    beats, beats_at_report = [0], []
    timer = QTimer(interval=0)
    timer.timeout.connect(lambda: beats.__setitem__(0, beats[0] + 1))
    run = dock.segment_panel.run
    run.reported.connect(lambda _: None if run.is_voting else beats_at_report.append(beats[0]))
    timer.start()
    segment(qtbot, dock)
    timer.stop()
    assert len(beats_at_report) == FRAMES
    assert beats_at_report[-1] > beats_at_report[0] > 0  # the event loop ran before and between the reports


def test_a_list_of_frames_is_segmented_for_all_classes(dock, qtbot):
    dock.tabs.show_panel(dock.segment_panel)
    dock.segment_panel.segment_frames([2, 5])
    settle(qtbot, dock)
    table = dock.session.project.labels.provenance_table()
    assert (table[[2, 5]] != Provenance.EMPTY).all()
    assert (np.delete(table, [2, 5], axis=0) == Provenance.EMPTY).all()


# Model ---------------------------------------------------------------------------------------------------------------


def test_a_bad_checkpoint_is_reported_and_the_model_in_use_stays(dock, qtbot, tmp_path, notes, monkeypatch):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\x00" * 64)
    before = dock.session.model
    choose_file(monkeypatch, broken)
    click(qtbot, dock.model_panel.choose_checkpoint)
    settle(qtbot, dock)
    assert dock.session.model is before
    assert dock.model_panel.checkpoint.currentText().startswith("Light")
    assert dock.model_panel.checkpoint.count() == BUNDLED
    assert len(notes) == 1
    assert "broken.safetensors" in dock.model_panel.message.text()


def test_another_checkpoint_is_loaded_and_its_name_shown(dock, qtbot, tiny_checkpoint, monkeypatch):
    choose_file(monkeypatch, tiny_checkpoint)
    click(qtbot, dock.model_panel.choose_checkpoint)
    settle(qtbot, dock)
    assert dock.model_panel.checkpoint.currentText() == "tiny"


def trained_for(project, name: str, checkpoint: Path, hours_ago: int = 0) -> Path:
    """A checkpoint in the folder in which a training in the window writes it."""
    folder = project.folder / "training" / name
    folder.mkdir(parents=True)
    path = Path(shutil.copy(checkpoint, folder / "best.safetensors"))
    os.utime(path, (time.time() - 3600 * hours_ago,) * 2)
    return path


def listed(dock: MainWidget) -> list[str]:
    picker = dock.model_panel.checkpoint
    return [picker.itemText(row) for row in range(picker.count())]


def choose_checkpoint(dock: MainWidget, row: int, qtbot) -> None:
    dock.model_panel.checkpoint.setCurrentIndex(row)
    dock.model_panel.checkpoint.activated.emit(row)
    settle(qtbot, dock)


def test_the_bundled_checkpoint_is_listed_first_and_loads(dock, qtbot, tiny_checkpoint):
    assert listed(dock) == ["Light (bundled)"]
    dock.model_panel.load(tiny_checkpoint)
    settle(qtbot, dock)
    assert dock.model_panel.in_use.checkpoint == tiny_checkpoint
    choose_checkpoint(dock, 0, qtbot)
    assert dock.model_panel.in_use.checkpoint is None


def test_checkpoints_trained_for_the_project_are_listed_newest_first(dock, qtbot, clip, tiny_checkpoint):
    earlier = trained_for(dock.session.project, "quick-1", tiny_checkpoint, hours_ago=3)
    later = trained_for(dock.session.project, "quick-2", tiny_checkpoint)
    dock.model_panel.show_trained(dock.session.project)
    assert [dock.model_panel.checkpoint.itemData(row) for row in range(BUNDLED, BUNDLED + 2)] == [later, earlier]
    assert listed(dock)[BUNDLED].startswith("Trained ")
    choose_checkpoint(dock, BUNDLED + 1, qtbot)
    assert dock.model_panel.in_use.checkpoint == earlier
    assert dock.model_panel.checkpoint.currentIndex() == BUNDLED + 1
    choose_checkpoint(dock, 0, qtbot)
    assert dock.model_panel.in_use.checkpoint is None
    assert len(listed(dock)) == BUNDLED + 2


def test_a_checkpoint_stays_listed_when_another_video_is_opened(dock, qtbot, phantom_clip, tiny_checkpoint, tmp_path):
    trained = trained_for(dock.session.project, "quick-1", tiny_checkpoint)
    trained_for(dock.session.project, "quick-2", tiny_checkpoint)
    dock.model_panel.show_trained(dock.session.project)
    dock.model_panel.load(trained)
    settle(qtbot, dock)
    open_in(dock, Path(shutil.copy(phantom_clip, tmp_path / "other.mp4")), qtbot)
    assert [dock.model_panel.checkpoint.itemData(row) for row in range(BUNDLED, len(listed(dock)))] == [trained]
    assert dock.model_panel.checkpoint.currentData() == trained


def test_a_checkpoint_can_be_listed_under_a_title(dock, qtbot, tiny_checkpoint):
    dock.model_panel.add_checkpoint(tiny_checkpoint, "Second domain")
    assert listed(dock)[-1] == "Second domain"
    assert dock.model_panel.checkpoint.currentText().startswith("Light")
    choose_checkpoint(dock, BUNDLED, qtbot)
    assert dock.model_panel.checkpoint.currentText() == "Second domain"


def test_a_damaged_listed_checkpoint_resets_the_dropdown(dock, qtbot, tiny_checkpoint, notes):
    trained_for(dock.session.project, "quick", tiny_checkpoint).write_bytes(b"\x00" * 64)
    dock.model_panel.show_trained(dock.session.project)
    before = dock.session.model
    choose_checkpoint(dock, BUNDLED, qtbot)
    assert dock.session.model is before
    assert dock.model_panel.checkpoint.currentText().startswith("Light")
    assert len(listed(dock)) == BUNDLED + 1
    assert len(notes) == 1


def test_an_authors_checkpoint_asks_for_the_encoders_weights(dock, qtbot, tmp_path, notes, monkeypatch):
    monkeypatch.setenv("SURGICALSAM_MODELS", str(tmp_path))
    published = tmp_path / "model_ckp.pth"
    published.write_bytes(b"")
    assert not dock.model_panel.choose_encoder_weights.isVisibleTo(dock.model_panel)
    choose_file(monkeypatch, published)
    click(qtbot, dock.model_panel.choose_checkpoint)
    settle(qtbot, dock)
    panel = dock.model_panel
    assert panel.missing.isVisibleTo(panel)
    trained_with = "the image encoder it was trained with, SAM ViT-H (or, untested, one that imitates it):"
    expected = f"To use model_ckp.pth, choose or download {trained_with}"
    assert panel.missing_text.text() == expected
    assert panel.message.text() and len(notes) == 1


def test_after_a_failed_load_the_panel_shows_only_what_is_loaded(dock, qtbot, tmp_path, monkeypatch):
    panel = dock.model_panel
    monkeypatch.setenv("SURGICALSAM_MODELS", str(tmp_path))
    (tmp_path / "model_ckp.pth").write_bytes(b"")
    before = panel.checkpoint.currentText(), panel.encoder.text(), panel.checkpoint.count()
    choose_file(monkeypatch, tmp_path / "model_ckp.pth")
    click(qtbot, panel.choose_checkpoint)
    settle(qtbot, dock)
    assert (panel.checkpoint.currentText(), panel.encoder.text(), panel.checkpoint.count()) == before
    assert not panel.encoder_weights.isVisibleTo(panel)
    tried = []
    monkeypatch.setattr(panel, "load", lambda *source: tried.append(source))
    choose_file(monkeypatch, tmp_path / "sam.pth")
    click(qtbot, panel.choose_missing)
    assert tried == [(tmp_path / "model_ckp.pth", tmp_path / "sam.pth")]


def test_without_a_loaded_model_none_is_shown_and_any_can_be_chosen(empty_dock, qtbot, monkeypatch):
    panel = empty_dock.model_panel
    empty_dock.session.close()
    assert panel.checkpoint.currentIndex() == -1 and panel.encoder.text() == "–"
    panel.checkpoint.activated.emit(0)
    settle(qtbot, empty_dock)
    assert empty_dock.session.model is not None and panel.checkpoint.currentText().startswith("Light")


def test_the_download_dialog_says_what_each_encoder_costs_here_and_which_to_take(dock, qtbot, monkeypatch):
    monkeypatch.setattr(encoder_speed, "_gigaflops", {})
    monkeypatch.setattr(encoder_speed, "_matrix_product_speed", lambda _device: 400.0)
    click(qtbot, dock.model_panel.download)
    dialog = dock.model_panel._dialog
    qtbot.waitUntil(lambda: "Testing" not in dialog.advice.text(), timeout=TIMEOUT)
    assert dialog.advice.text() == "On this machine: take MobileSAM, the largest that reads a frame in less than a second."
    cost = dialog.rows["vit_h"].cost.text()
    assert "the paper and of the authors' checkpoints" in cost
    assert "About 25 s per frame; this video: 4 min 58 s and 25.2 MB of disk." in cost
    assert "a test of half a second" in dialog.basis.text() and "CPU" in dialog.basis.text()
    words = " ".join(label.text() for label in dialog.findChildren(QLabel))
    assert "masks also need a SurgicalSAM checkpoint" in words and "a training of your own" in words
    costs = [row.cost for row in dialog.rows.values()]  # no line is cut off
    qtbot.waitUntil(lambda: all(cost.height() >= cost.heightForWidth(cost.width()) for cost in costs), timeout=TIMEOUT)
    dialog.close()
    monkeypatch.setattr(encoder_speed, "_gigaflops", {"cpu": 50.0})
    assert weights_dialog.advice(torch.device("cpu")).startswith("On this machine: keep the bundled encoder.")


def test_weights_without_a_checksum_are_downloaded_in_a_browser(empty_dock, qtbot, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(weights_dialog.QDesktopServices, "openUrl", lambda url: opened.append(url.toString()))
    monkeypatch.setenv("SURGICALSAM_MODELS", str(tmp_path))
    click(qtbot, empty_dock.model_panel.download)
    dialog = empty_dock.model_panel._dialog
    row = dialog.rows["tiny_sam"]
    assert "is not here" in row.state.text() and "not for commercial use" in weights_dialog.PURPOSES["edge_sam"]
    click(qtbot, row.button)
    assert opened == [OTHER_WEIGHTS["tiny_sam"].url]
    (tmp_path / "tinysam_42.3.pth").touch()
    dialog.refresh()
    assert row.state.text() == "on this disk"
    dialog.close()


def test_an_authors_checkpoint_on_a_distilled_encoder_is_marked(empty_dock, qtbot, authors_folder, edge_sam_file):
    panel = empty_dock.model_panel
    panel.load(authors_folder / "model_ckp.pth", edge_sam_file)
    settle(qtbot, empty_dock)
    assert "Nobody has measured" in panel.message.text() and "use Learn" in panel.message.text()
    assert panel.encoder.text() == "EdgeSAM RepViT (untested)"
    panel.load()
    settle(qtbot, empty_dock)
    assert "untested" not in panel.encoder.text() and not panel.message.text()


def test_download_shows_progress_and_then_the_file_on_this_disk(empty_dock, qtbot, tmp_path, monkeypatch):
    file = tmp_path / "mobile_sam.pt"

    def download(_name):
        total = KNOWN_WEIGHTS["mobile_sam"].size_bytes
        yield DownloadReport(total // 2, total, file)
        file.touch()
        yield DownloadReport(total, total, file)

    monkeypatch.setattr(weights_dialog, "download_weights", download)
    monkeypatch.setattr(
        weights_dialog, "find_weights", lambda name: file if name == "mobile_sam" and file.exists() else None
    )
    click(qtbot, empty_dock.model_panel.download)
    dialog = empty_dock.model_panel._dialog
    row = dialog.rows["mobile_sam"]
    assert (row.state.text(), dialog.rows["vit_h"].state.text()) == ("not downloaded", "not downloaded")
    with qtbot.waitSignal(dialog.downloaded, timeout=TIMEOUT):
        click(qtbot, row.button)
    assert row.state.text() == "on this disk"
    assert row.bar.value() == 1000
    dialog.close()


def test_a_failed_download_is_reported(empty_dock, qtbot, notes, monkeypatch):
    def download(_name):
        raise DownloadError("The server said 404. Try again later.")
        yield

    monkeypatch.setattr(weights_dialog, "download_weights", download)
    click(qtbot, empty_dock.model_panel.download)
    row = empty_dock.model_panel._dialog.rows["vit_b"]
    click(qtbot, row.button)
    message = empty_dock.model_panel._dialog.message
    qtbot.waitUntil(lambda: message.isVisible() and row.button.text() == "Download", timeout=TIMEOUT)
    assert "404" in message.text() and len(notes) == 1
    empty_dock.model_panel._dialog.close()


# Progress ------------------------------------------------------------------------------------------------------------


def test_the_bar_moves_back_and_forth_only_if_the_first_step_takes_long(qtbot):
    strip = ProgressStrip()
    qtbot.addWidget(strip)
    strip.show()
    strip.show_start()
    assert (strip.bar.minimum(), strip.bar.maximum(), strip.bar.value()) == (0, 1, 0)
    qtbot.waitUntil(lambda: strip.bar.maximum() == 0, timeout=TIMEOUT)
    strip.show_progress(1, 5, None)
    assert (strip.bar.maximum(), strip.bar.value()) == (5, 1)
    strip.show_start()
    strip.show_progress(1, 5, None)
    qtbot.wait(2 * BUSY_AFTER_MS)
    assert strip.bar.maximum() == 5
