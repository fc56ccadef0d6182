"""The Labels layer shows the project: edits reach its labels, and the layer shows its classes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import napari
import numpy as np
import pytest

pytest.importorskip("qtpy.QtWidgets")

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.surgical_sam import FramePrediction
from surgicalsam_napari.phantom import write_phantom_clip
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers, image_arguments

DRIVER, SCISSORS = 3, 4
FRAME = 5


@pytest.fixture
def clip(phantom_clip: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(phantom_clip, tmp_path / "clip.mp4"))


@pytest.fixture
def layers(make_napari_viewer, clip: Path) -> Iterator[ViewerLayers]:
    session = Session(ENDOVIS2018)
    shown = ViewerLayers(make_napari_viewer(), session)
    session.open(clip)
    session.select_class(DRIVER)
    shown.show_project(session.project)
    shown.show_frame(FRAME)
    yield shown
    session.close()


def predicted(shape: tuple[int, int], class_id: int, rows: slice) -> FramePrediction:
    label_map = np.zeros(shape, np.uint8)
    label_map[rows] = class_id
    return FramePrediction(
        (class_id,),
        label_map,
        predicted_iou=np.array([0.9], np.float32),
        presence=np.array([0.9], np.float32),
        present=np.array([True]),
        contested=np.zeros(1, np.float32),
    )


def test_a_video_is_one_lazy_image_layer_and_one_labels_layer(layers):
    assert [layer.name for layer in layers.viewer.layers] == ["clip", "Instruments"]
    assert layers.image.data is layers.session.project.video
    assert layers.labels.data.store is layers.session.project.labels
    assert layers.image.axis_labels == layers.labels.axis_labels == ("t", "y", "x")
    assert layers.image.metadata["frame_rate"] == pytest.approx(25)


def test_the_selected_class_stays_when_the_classes_are_shown_again(layers):
    layers.show_classes(layers.session.classes)
    layers.show_project(layers.session.project)
    assert layers.session.selected_class_id == DRIVER
    assert layers.labels.selected_label == DRIVER


def test_showing_frames_reads_only_the_frames_in_view(layers):
    before = layers.session.project.video.frames_decoded
    layers.show_frame(FRAME + 1)
    layers.labels.refresh()
    assert layers.session.project.video.frames_decoded - before <= 2


def test_colours_and_names_come_from_the_class_set(layers):
    assert layers.labels.get_color(DRIVER)[:3] == pytest.approx(np.array(ENDOVIS2018.by_id(DRIVER).rgb) / 255, abs=0.01)
    assert layers.labels.colormap.map(np.array([0]))[0][3] == 0
    layers.labels.paint((FRAME, 20, 20), DRIVER)
    status = layers.labels.get_status((FRAME, 20, 20), view_direction=np.array([1, 0, 0]), dims_displayed=[1, 2], world=True)
    assert "Large Needle Driver" in status["value"]


def test_paint_fill_erase_undo_and_redo_reach_the_project(layers):
    labels, stored = layers.labels, layers.session.project.labels
    labels.brush_size = 9
    labels.paint((FRAME, 20, 20), DRIVER)
    assert stored[FRAME][20, 20] == DRIVER
    assert stored.provenance(FRAME, DRIVER) == Provenance.EDITED
    labels.fill((FRAME, 20, 20), SCISSORS)
    assert stored[FRAME][20, 20] == SCISSORS
    labels.paint((FRAME, 20, 20), 0)
    assert stored[FRAME][20, 20] == 0
    labels.undo()
    assert stored[FRAME][20, 20] == SCISSORS
    labels.undo()
    assert stored[FRAME][20, 20] == DRIVER
    labels.redo()
    assert stored[FRAME][20, 20] == SCISSORS


def test_another_project_is_shown_in_the_same_layers_with_nothing_to_undo(layers, tmp_path):
    image, labels, first = layers.image, layers.labels, layers.session.project
    labels.mode = "paint"
    labels.paint((FRAME, 20, 20), DRIVER)
    other = write_phantom_clip(tmp_path / "other", size=(120, 160), frame_count=4)
    layers.session.open(other)
    second = layers.session.project
    layers.show_project(second)
    assert list(layers.viewer.layers) == [image, labels]
    assert (image.name, labels.name) == (other.stem, "Instruments")
    assert image.data is second.video
    assert labels.data.shape == (4, 120, 160)
    assert str(labels.mode) == "pan_zoom"
    assert layers.current_frame == 0  # nobody has visited a frame of the other video yet
    labels.undo()
    assert not labels.data[:].any()
    labels.paint((0, 50, 50), SCISSORS)
    assert second.labels[0][50, 50] == SCISSORS
    with Project.open(first.folder) as opened_again:
        assert opened_again.labels[FRAME][20, 20] == DRIVER
        assert opened_again.labels[0].max() == 0


def test_a_stroke_marks_only_the_pixels_that_it_changed(layers):
    layers.labels.brush_size = 11
    layers.labels.paint((FRAME, 40, 40), DRIVER)
    stored = layers.session.project.labels
    assert np.array_equal(stored.painted(FRAME), stored[FRAME] == DRIVER)


def test_a_prediction_after_a_stroke_keeps_the_stroke(layers):
    layers.labels.brush_size = 9
    layers.labels.paint((FRAME, 20, 20), SCISSORS)
    stored = layers.session.project.labels
    painted = stored.painted(FRAME)
    stored.write_prediction(FRAME, predicted(stored.shape[1:], DRIVER, slice(0, 50)))
    assert (stored[FRAME][painted] == SCISSORS).all()
    assert stored[FRAME][5, 5] == DRIVER


def test_refresh_draws_a_prediction_of_the_frame_in_view(layers):
    stored = layers.session.project.labels
    stored.write_prediction(FRAME, predicted(stored.shape[1:], DRIVER, slice(0, 50)))
    layers.refresh_frame(FRAME)
    assert layers.labels.get_value((FRAME, 5, 5)) == DRIVER


def test_choosing_a_label_in_the_layer_selects_its_class(layers):
    layers.labels.selected_label = SCISSORS
    assert layers.session.selected_class_id == SCISSORS
    layers.labels.selected_label = 0  # 0 is the eraser, not a class
    assert layers.session.selected_class_id == SCISSORS


def test_current_frame_follows_the_slider_and_stays_in_the_video(layers):
    layers.show_frame(7)
    assert layers.current_frame == 7
    layers.viewer.add_image(np.zeros((40, 8, 8)))
    layers.viewer.dims.set_current_step(0, 39)
    assert layers.current_frame == len(layers.session.project.video) - 1


def test_another_project_replaces_the_first(layers, phantom_clip, tmp_path):
    other = Path(shutil.copy(phantom_clip, tmp_path / "other.mp4"))
    layers.session.open(other)
    layers.show_project(layers.session.project)
    assert [layer.name for layer in layers.viewer.layers] == ["other", "Instruments"]


def test_layers_of_the_user_are_kept(layers):
    user_layer = napari.layers.Labels(np.zeros((12, 8, 8), np.uint8), name="mine")
    layers.viewer.add_layer(user_layer)
    layers.show_project(layers.session.project)
    layers.forget()
    assert list(layers.viewer.layers) == [user_layer]


def test_image_arguments_mark_the_layer_with_its_source(layers, clip):
    assert image_arguments(layers.session.project.video, clip)["metadata"]["surgicalsam_source"] == str(clip.resolve())
