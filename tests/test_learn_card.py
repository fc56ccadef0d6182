"""*Learn* in a real window: one press learns, uses the model and predicts again; learning is cut short to a few steps."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("qtpy.QtWidgets")

from PIL import Image
from qtpy.QtCore import Qt, QThreadPool
from window import settle

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.widgets.main_widget import MainWidget
from surgicalsam_napari.widgets.train import learn_texts
from surgicalsam_napari.widgets.train.learn_card import LearnCard
from surgicalsam_training.learn import LearnReport

BIPOLAR, FRAMES, TIMEOUT = 1, 12, 60_000
CORRECTED = (1, 5, 9)
UNTOUCHED = [frame for frame in range(FRAMES) if frame not in CORRECTED]
SHOWN = ("Bipolar Forceps",)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surgicalsam_training.learn.fitting.FEWEST_STEPS", 6)
    monkeypatch.setattr("surgicalsam_training.learn.fitting.STEPS_PER_FRAME", 0)
    monkeypatch.setattr("surgicalsam_training.learn.checking.CHECK_STEPS", 3)


@pytest.fixture
def dock(make_napari_viewer, qtbot, clip, bundled_tiny) -> Iterator[MainWidget]:
    viewer = make_napari_viewer()
    dock = MainWidget(viewer)
    viewer.window.add_dock_widget(dock, name="SurgicalSAM")
    settle(qtbot, dock)
    dock.open(clip)
    settle(qtbot, dock)
    dock.segment_panel.vote.setChecked(False)  # the specks of a hardly trained model take long to follow
    dock.tabs.show_panel(dock.train_panel)
    yield dock
    dock.train_panel.learn.cancel()
    settle(qtbot, dock)
    qtbot.waitUntil(lambda: dock.train_panel.data.is_counted, timeout=TIMEOUT)
    dock.session.close()


@pytest.fixture
def card(dock) -> LearnCard:
    return dock.train_panel.learn


@pytest.fixture
def project(dock) -> Project:
    return dock.session.project


@pytest.fixture
def masks(phantom_clip) -> list[np.ndarray]:
    """Of all frames; every instrument is the first class."""
    files = sorted(phantom_clip.with_name(f"{phantom_clip.stem}_labels").glob("*.png"))
    return [np.where(np.asarray(Image.open(file)) > 0, BIPOLAR, 0).astype(np.uint8) for file in files]


@pytest.fixture
def segmented(dock, qtbot) -> MainWidget:
    """All classes of the bundled weights are predicted in all frames; a vote over so many regions would take long."""
    dock.segment_panel.all_classes.setChecked(True)
    dock.segment_panel.vote.setChecked(False)
    dock.segment_panel.start()
    settle(qtbot, dock)
    return dock


@pytest.fixture
def corrected(segmented, card, project, masks, qtbot) -> LearnCard:
    """Three of the predicted frames are corrected."""
    return correct(qtbot, card, project, masks, CORRECTED)


def never_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning takes so many steps that it does not end before a test is over; it does not ask first."""
    monkeypatch.setattr("surgicalsam_training.learn.fitting.FEWEST_STEPS", 100_000)
    monkeypatch.setattr("surgicalsam_training.learn.fitting.MOST_STEPS", 100_000)
    monkeypatch.setattr("surgicalsam_napari.widgets.train.learn_card.LONG_RUN_SECONDS", float("inf"))


def correct(qtbot, card: LearnCard, project: Project, masks: list[np.ndarray], frames) -> LearnCard:
    for frame in frames:
        project.labels.write_edit(frame, masks[frame])
    title = f"Learn from my {len(frames)} corrected frame{'s' * (len(frames) != 1)}"
    qtbot.waitUntil(lambda: card.learn_button.text() == title and card.learn_button.isEnabled(), timeout=TIMEOUT)
    return card


def click(qtbot, button) -> None:
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def learn(qtbot, dock: MainWidget) -> None:
    click(qtbot, dock.train_panel.learn.learn_button)
    assert dock.train_panel.learn.run.is_running
    settle(qtbot, dock)


def wait_for_counts(qtbot, dock: MainWidget) -> None:
    dock.train_panel.refresh()  # as when its tab is chosen
    qtbot.waitUntil(lambda: dock.train_panel.data.is_counted, timeout=TIMEOUT)


def state(project: Project) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([project.labels[frame] for frame in range(FRAMES)]), project.labels.provenance_table()


# Before --------------------------------------------------------------------------------------------------------------


def test_the_tab_opens_with_learn_and_the_form_is_behind_more(dock, card):
    panel = dock.train_panel
    assert card.learn_button.isVisibleTo(panel)
    assert not panel.start_button.isVisibleTo(panel)
    panel.more.open()
    assert panel.start_button.isVisibleTo(panel) and panel.form.isVisibleTo(panel)


def test_without_a_correction_it_says_what_to_do(card, qtbot):
    qtbot.waitUntil(lambda: card.cost.text().startswith("Correct a frame first"), timeout=TIMEOUT)
    assert not card.learn_button.isEnabled()


def test_without_a_video_it_says_so(make_napari_viewer, qtbot, bundled_tiny):
    dock = MainWidget(make_napari_viewer())
    qtbot.addWidget(dock)
    settle(qtbot, dock)
    assert dock.train_panel.learn.cost.text() == "Open a video first."
    assert not dock.train_panel.learn.learn_button.isEnabled()


def test_frames_that_show_only_background_are_not_enough(card, dock, project, qtbot):
    project.labels.verify(3)
    dock.train_panel.refresh()
    qtbot.waitUntil(lambda: "1 corrected frame shows only background" in card.cost.text(), timeout=TIMEOUT)
    assert not card.learn_button.isEnabled()


def test_it_says_what_it_will_take(corrected, project):
    text = corrected.cost.text()
    shown = ", ".join(f"{instrument.name} in" for instrument in corrected.data.corrections[0].class_frames)
    assert "3 corrected frames: " in text and shown.split(",")[0] in text
    assert text.startswith("About ") and f"Then {len(UNTOUCHED)} frames are predicted again" in text


@pytest.mark.parametrize(("seconds", "text"), [(2, "About 5 s"), (38, "About 40 s"), (83, "About 1 min 20 s")])
def test_the_time_is_rounded(corrected, seconds, text):
    assert learn_texts.cost(corrected.data.corrections[0], seconds, 0).startswith(f"{text};")


def test_above_ten_minutes_it_asks_first(corrected, dock, qtbot, monkeypatch):
    monkeypatch.setattr(corrected.run, "seconds_to_learn", lambda _frame_count: 700.0)
    click(qtbot, corrected.learn_button)
    assert corrected.question.isVisibleTo(dock.train_panel) and not corrected.run.is_running
    assert "about 12 min" in corrected.question.text.text()
    click(qtbot, corrected.question.stop)
    assert not corrected.question.isVisibleTo(dock.train_panel)
    click(qtbot, corrected.learn_button)
    click(qtbot, corrected.question.go_on)
    assert corrected.run.is_running
    settle(qtbot, dock)
    assert corrected.run.learned is not None


# One press -----------------------------------------------------------------------------------------------------------


def test_one_press_learns_uses_the_model_and_predicts_again(corrected, dock, project, qtbot):
    before = state(project)
    learn(qtbot, dock)
    model = dock.session.model
    assert model.pixel_head is not None and set(SHOWN) <= set(model.classes.names)
    assert dock.model_panel.checkpoint.currentText().startswith("Learned ")
    assert dock.model_panel.in_use.checkpoint == corrected.run.learned.checkpoint
    labels, provenance = state(project)
    known = [ENDOVIS2018.by_name(name).id for name in model.classes.names]
    columns = [class_id - 1 for class_id in known]
    unknown = [column for column in range(len(ENDOVIS2018)) if column not in columns]
    assert (provenance[np.ix_(UNTOUCHED, columns)] != Provenance.EMPTY).all()
    assert (provenance[np.ix_(UNTOUCHED, unknown)] == Provenance.EMPTY).all()
    assert set(np.unique(labels[UNTOUCHED]).tolist()) <= {0, *known}
    np.testing.assert_array_equal(labels[list(CORRECTED)], before[0][list(CORRECTED)])
    assert corrected.outcome.text().startswith("Learned in ")
    assert f"{len(UNTOUCHED)} frames predicted again. Your masks were carried into 6 of them." in corrected.outcome.text()
    assert re.search(f"Found {SHOWN[0]} in .* of {len(UNTOUCHED)} frames|Not found in any of", corrected.outcome.text())
    assert "Only 3 corrected frames" in corrected.warnings.text()
    assert not corrected.predict_button.isVisibleTo(dock.train_panel)
    assert corrected.learn_button.isEnabled() and corrected.cost.text() == learn_texts.ALL_LEARNED


def test_undo_restores_the_earlier_predictions(corrected, dock, project, qtbot):
    before = state(project)
    learn(qtbot, dock)
    assert project.history.to_undo.name == f"Predict {len(UNTOUCHED)} frames again"
    click(qtbot, dock.correct_panel.undo_bar.undo_button)
    settle(qtbot, dock)
    for restored, expected in zip(state(project), before, strict=True):
        np.testing.assert_array_equal(restored, expected)


def test_without_predictions_all_untouched_frames_are_offered(card, dock, project, masks, qtbot):
    correct(qtbot, card, project, masks, CORRECTED)
    assert "predicted again" not in card.cost.text()
    learn(qtbot, dock)
    assert card.predict_button.isVisibleTo(dock.train_panel)
    assert card.predict_button.text() == f"Predict the other {len(UNTOUCHED)} frames"
    assert (project.labels.provenance_table()[UNTOUCHED] == Provenance.EMPTY).all()
    click(qtbot, card.predict_button)
    settle(qtbot, dock)
    assert (project.labels.provenance_table()[UNTOUCHED, 0] != Provenance.EMPTY).all()
    assert not card.predict_button.isVisibleTo(dock.train_panel)


def test_expected_iou_is_shown_per_class(card, dock, project, masks, qtbot):
    correct(qtbot, card, project, masks, range(10))
    learn(qtbot, dock)
    assert card.expected.isVisibleTo(dock.train_panel)
    assert set(card.expected.rows) == set(dock.session.model.classes.names)
    assert "tested on your 10 corrected frames" in card.expected.title.text()


def test_below_ten_frames_no_overlap_is_promised(card, dock, project, masks, qtbot):
    correct(qtbot, card, project, masks, range(9))
    learn(qtbot, dock)
    assert not card.expected.isVisibleTo(dock.train_panel)
    assert "IoU" not in dock.model_panel.checkpoint.currentText()


def test_more_corrections_can_be_learned_from_the_learned_model(corrected, dock, project, masks, qtbot):
    learn(qtbot, dock)
    first = corrected.run.learned.checkpoint
    project.labels.write_edit(0, masks[0])
    qtbot.waitUntil(lambda: corrected.learn_button.text() == "Learn from my 4 corrected frames", timeout=TIMEOUT)
    assert corrected.cost.text().startswith("About ")
    learn(qtbot, dock)
    assert corrected.run.learned.checkpoint != first
    assert first.exists()


# Cancel, errors, other runs ------------------------------------------------------------------------------------------


def test_cancel_while_learning_changes_nothing(corrected, dock, project, qtbot, monkeypatch):
    never_end(monkeypatch)
    before, model = state(project), dock.session.model
    click(qtbot, corrected.learn_button)
    qtbot.waitUntil(
        lambda: isinstance(corrected.run.last_report, LearnReport) and corrected.run.last_report.done > 2, timeout=TIMEOUT
    )
    assert corrected.progress.text.text().startswith("Learning")
    assert corrected.progress.isVisibleTo(dock.train_panel)
    click(qtbot, corrected.progress.cancel)
    settle(qtbot, dock)
    assert dock.session.model is model
    assert corrected.outcome.text() == "Stopped. Nothing was changed."
    for after, expected in zip(state(project), before, strict=True):
        np.testing.assert_array_equal(after, expected)
    assert not list((project.folder / "training").glob("*/best.safetensors"))


def test_cancel_while_predicting_keeps_what_is_finished_and_offers_the_rest(corrected, dock, project, qtbot):
    done: list[int] = []

    def stop_after_two(report: object) -> None:
        if hasattr(report, "prediction"):
            done.append(report.frame_index)
            if len(done) == 2:
                corrected.cancel()

    corrected.run.reported.connect(stop_after_two)
    learn(qtbot, dock)
    assert dock.session.model.pixel_head is not None
    assert f" of {len(UNTOUCHED)} frames predicted again." in corrected.outcome.text()
    left = len(UNTOUCHED) - corrected.run.predicted
    assert 0 < left <= len(UNTOUCHED) - 2
    assert corrected.predict_button.text() == f"Predict the other {left} frames"


def test_a_damaged_checkpoint_is_shown_in_the_card_and_nothing_is_lost(corrected, dock, project, tmp_path, qtbot, notes):
    before, model = state(project), dock.session.model
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"nothing")
    dock.model_panel.in_use = dock.model_panel.in_use._replace(checkpoint=damaged)
    learn(qtbot, dock)
    assert corrected.message.isVisibleTo(dock.train_panel)
    assert "damaged.safetensors" in corrected.message.text() and "Nothing was lost" in corrected.message.text()
    assert notes == ["Learn: see the message in the panel"]
    assert dock.session.model is model
    np.testing.assert_array_equal(state(project)[0], before[0])
    assert corrected.learn_button.isEnabled()


def test_other_runs_wait_for_learn_and_learn_waits_for_them(corrected, dock, qtbot, monkeypatch):
    never_end(monkeypatch)
    click(qtbot, corrected.learn_button)
    assert dock.segment_panel.cost.text() == "The model is learning. Wait until this is done."
    assert not dock.segment_panel.segment.isEnabled()
    assert not dock.model_panel.checkpoint.isEnabled()
    assert not dock.train_panel.start_button.isEnabled()
    corrected.cancel()
    settle(qtbot, dock)
    assert dock.segment_panel.segment.isEnabled() and dock.model_panel.checkpoint.isEnabled()
    dock.segment_panel.start()
    assert corrected.cost.text() == "The video is being segmented. Wait until this is done."
    assert not corrected.learn_button.isEnabled()
    settle(qtbot, dock)
    assert corrected.learn_button.isEnabled()


def test_closing_the_window_stops_learning(make_napari_viewer, qtbot, clip, masks, monkeypatch, bundled_tiny):
    never_end(monkeypatch)
    viewer = make_napari_viewer(show=True)
    dock = MainWidget(viewer)
    viewer.window.add_dock_widget(dock, name="SurgicalSAM")
    settle(qtbot, dock)
    dock.open(clip)
    settle(qtbot, dock)
    folder = dock.session.project.folder
    card = correct(qtbot, dock.train_panel.learn, dock.session.project, masks, CORRECTED)
    click(qtbot, card.learn_button)
    qtbot.waitUntil(lambda: card.run.last_report is not None, timeout=TIMEOUT)
    viewer.close()
    assert QThreadPool.globalInstance().waitForDone(TIMEOUT)
    assert not list((folder / "training").glob("*/best.safetensors"))


# The hint for a first real video -------------------------------------------------------------------------------------


@pytest.fixture
def bundled(dock) -> MainWidget:
    """The loaded model counts as the bundled weights."""
    dock.session.model.name = "light"
    dock.segment_panel.refresh()
    return dock


def test_a_real_video_says_what_the_bundled_model_knows_until_it_has_learned(bundled, card, project, masks, qtbot):
    panel = bundled.segment_panel
    bundled.tabs.show_panel(panel)
    assert panel.limits.isVisibleTo(panel)
    assert "synthetic scenes only" in panel.limits.text.text()
    assert "Correct one frame, then Learn" in panel.limits.text.text()
    click(qtbot, panel.limits.next_button)
    assert bundled.correct_panel.isVisibleTo(bundled)
    correct(qtbot, card, project, masks, [0])
    bundled.tabs.show_panel(panel)
    panel.refresh()
    assert panel.limits.isVisibleTo(panel)
    assert "You have corrected 1 frame: learn from it." in panel.limits.text.text()
    click(qtbot, panel.limits.next_button)
    assert bundled.train_panel.isVisibleTo(bundled)
    learn(qtbot, bundled)
    bundled.tabs.show_panel(panel)
    assert not panel.limits.isVisibleTo(panel)


def test_no_overlap_is_promised_for_the_bundled_model_on_a_real_video(bundled, project, qtbot):
    bundled.segment_panel.start()
    settle(qtbot, bundled)
    frame = int(np.flatnonzero((project.labels.provenance_table() == Provenance.PREDICTED).any(axis=1))[0])
    row = int(np.flatnonzero(project.labels.provenance_table()[frame] == Provenance.PREDICTED)[0])
    caveat = bundled.timeline.timeline.strip.caveat_of(frame, project.classes.ids[row])
    assert caveat == "which nobody has checked on real video"


def test_the_hint_can_be_dismissed(bundled, qtbot):
    hint = bundled.segment_panel.limits
    click(qtbot, hint.close_button)
    bundled.segment_panel.refresh()
    assert not hint.isVisibleTo(bundled.segment_panel)


def test_a_phantom_clip_shows_the_hint_after_the_first_segmentation(bundled, phantom_clip, tmp_path, qtbot):
    bundled.open(Path(shutil.copy(phantom_clip, tmp_path / phantom_clip.name)))
    settle(qtbot, bundled)
    hint = bundled.segment_panel.limits
    assert not hint.isVisibleTo(bundled.segment_panel)
    bundled.segment_panel.start()
    settle(qtbot, bundled)
    assert hint.isVisibleTo(bundled.segment_panel)


def test_another_checkpoint_shows_no_hint(dock):
    assert not dock.segment_panel.limits.isVisibleTo(dock.segment_panel)


def test_verified_predictions_alone_are_nothing_to_learn_from(segmented, dock, card, project, qtbot):
    project.labels.verify(2)
    project.labels.verify(3)
    wait_for_counts(qtbot, dock)
    assert not card.learn_button.isEnabled()
    assert "You verified 2 frames and changed nothing: these are the model's own masks" in card.cost.text()
    assert not dock.train_panel.start_button.isEnabled()
    assert "nothing to learn from" in dock.train_panel.data_table.warning.text()


def test_verified_predictions_are_counted_apart_beside_corrected_frames(segmented, dock, card, project, masks, qtbot):
    project.labels.verify(2)
    project.labels.write_edit(5, masks[5])
    project.labels.verify(5)
    wait_for_counts(qtbot, dock)
    assert card.learn_button.isEnabled()
    assert "In 1 of them you changed nothing" in card.cost.text()
    assert "1 frame verified and unchanged" in dock.train_panel.data_table.warning.text()
    assert dock.train_panel.start_button.isEnabled()


def test_a_stroke_that_was_undone_is_no_correction(segmented, dock, card, project, qtbot):
    before = state(project)
    dock.layers.show_frame(4)
    dock.layers.labels.paint((4, 20, 20), BIPOLAR)
    qtbot.waitUntil(lambda: card.learn_button.text() == "Learn from my 1 corrected frame", timeout=TIMEOUT)
    dock.layers.labels.undo()
    qtbot.waitUntil(lambda: card.learn_button.text() == "Learn from my corrected frames", timeout=TIMEOUT)
    assert not card.learn_button.isEnabled()
    for now, then in zip(state(project), before, strict=True):
        np.testing.assert_array_equal(now, then)
