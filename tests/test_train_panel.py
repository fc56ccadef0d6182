"""The Train panel in a real viewer; a fake training takes no time and ends as the test needs it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("qtpy.QtWidgets")

from PIL import Image
from qtpy.QtCore import Qt, QThreadPool, QTimer
from qtpy.QtWidgets import QLabel
from window import settle

from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.inference.estimation import Speed
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.store.corrections import count_corrections, untouched_frames
from surgicalsam_napari.video import VideoReader
from surgicalsam_napari.widgets.main_widget import MainWidget
from surgicalsam_napari.widgets.parts.theme import PRIMARY
from surgicalsam_napari.widgets.train.parts import BAD_COLOR, GOOD_COLOR
from surgicalsam_napari.widgets.train.train_panel import TrainPanel
from surgicalsam_training.config import TrainingConfig, preset
from surgicalsam_training.reports import EpochReport, PreparationReport, Report, ResultReport, Scores, SplitReport
from surgicalsam_training.run.run_folder import RunFolder

BIPOLAR, DRIVER, FRAMES, TIMEOUT = 1, 3, 12, 60_000
BAD = Scores(50.0, 50.0, 50.0, {"Bipolar Forceps": 60.0, "Large Needle Driver": 40.0}, 20.0, 5.0)
GOOD = Scores(80.0, 80.0, 80.0, {"Bipolar Forceps": 90.0, "Large Needle Driver": 70.0}, 10.0, 5.0)
REPORTS: list[Report] = [
    PreparationReport("embedding frames", 3, 4),
    SplitReport("A contiguous block is kept for validation.", 3, 1, {"Bipolar Forceps": 3}),
    EpochReport(1, 3, {"total": 2.0}, None, 50.0, 20.0),
    EpochReport(2, 3, {"total": 1.5}, 70.0, 70.0, 10.0),
]


class StandIn:
    """Does not train: it reports, waits for `may_finish`, and ends in a result, an error, or a cancelled result."""

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self.before, self.after, self.frames = BAD, GOOD, 12
        self.error: Exception | None = None
        self.runs: list[RunFolder] = []
        self.may_finish = threading.Event()

    def train(self, run: RunFolder) -> Iterator[Report]:
        self.runs.append(run)
        run.write_record(data={})
        yield from REPORTS
        shutil.copy(self.checkpoint, run.best_checkpoint)
        while not self.may_finish.wait(0.01) and not run.is_stop_requested:
            pass
        if self.error is not None:
            raise self.error
        run.examples.mkdir(exist_ok=True)
        pictures = [run.examples / f"{number}_clip.png" for number in (1, 2)]
        for picture in pictures:
            Image.fromarray(np.zeros((20, 90, 3), np.uint8)).save(picture)
        reason = "cancelled" if run.is_stop_requested else "all epochs"
        result = ResultReport(
            str(run.best_checkpoint), reason, 2, 75.0, self.before, self.after, tuple(map(str, pictures)), self.frames
        )
        run.write_result(result)
        yield result


@pytest.fixture
def stand_in(tiny_checkpoint, monkeypatch) -> StandIn:
    stand_in = StandIn(tiny_checkpoint)
    monkeypatch.setattr("surgicalsam_training.launch.train_in_process", stand_in.train)
    return stand_in


@pytest.fixture
def dock(make_napari_viewer, qtbot, clip, stand_in, bundled_tiny) -> Iterator[MainWidget]:
    viewer = make_napari_viewer()
    dock = MainWidget(viewer)
    viewer.window.add_dock_widget(dock, name="SurgicalSAM")
    settle(qtbot, dock)
    dock.open(clip)
    settle(qtbot, dock)
    dock.tabs.show_panel(dock.train_panel)
    dock.train_panel.more.open()
    yield dock
    stand_in.may_finish.set()
    qtbot.waitUntil(lambda: not dock.train_panel.is_running, timeout=TIMEOUT)
    dock.segment_panel.run.cancel()
    settle(qtbot, dock)
    qtbot.waitUntil(lambda: dock.train_panel.data.is_counted, timeout=TIMEOUT)
    dock.session.close()


@pytest.fixture
def panel(dock) -> TrainPanel:
    return dock.train_panel


@pytest.fixture
def corrected_panel(dock, qtbot) -> TrainPanel:
    """Three frames with the forceps, and one of them with the needle driver."""
    for frame in (0, 4, 8):
        paint(dock, frame, BIPOLAR)
    paint(dock, 8, DRIVER, row=60)
    qtbot.waitUntil(dock.train_panel.start_button.isEnabled, timeout=TIMEOUT)
    qtbot.waitUntil(lambda: len(dock.train_panel.data.corrections[0].class_frames) == 2, timeout=TIMEOUT)
    return dock.train_panel


@pytest.fixture
def finished_panel(corrected_panel, stand_in, qtbot) -> TrainPanel:
    return finish(qtbot, corrected_panel, stand_in)


def click(qtbot, button) -> None:
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def paint(dock: MainWidget, frame: int, class_id: int, row: int = 20) -> None:
    dock.layers.labels.brush_size = 10
    dock.layers.labels.paint((frame, row, 20), class_id)


def start(qtbot, panel: TrainPanel) -> None:
    """Press Start, and wait for the second epoch."""
    click(qtbot, panel.start_button)
    assert panel.is_running
    qtbot.waitUntil(lambda: len(panel.progress.curves.losses) == 2, timeout=TIMEOUT)


def finish(qtbot, panel: TrainPanel, stand_in: StandIn) -> TrainPanel:
    start(qtbot, panel)
    stand_in.may_finish.set()
    qtbot.waitUntil(lambda: not panel.is_running, timeout=TIMEOUT)
    return panel


def shows(panel: TrainPanel, view) -> bool:
    return view.isVisibleTo(panel)


def rows(panel: TrainPanel) -> list[tuple[str, str]]:
    """Name and frames of every line of the table."""
    lines = []
    tree = panel.data_table.tree
    for position in range(tree.topLevelItemCount()):
        video = tree.topLevelItem(position)
        for item in (video, *(video.child(index) for index in range(video.childCount()))):
            lines.append((item.text(0), item.text(1)))
    return lines


def is_primary(button) -> bool:
    return button.property("role") == PRIMARY


# The training data ---------------------------------------------------------------------------------------------------


def test_without_corrections_the_panel_says_what_to_do(panel, qtbot):
    qtbot.waitUntil(lambda: panel.data.is_counted, timeout=TIMEOUT)
    assert not panel.start_button.isEnabled()
    assert panel.data_table.what_to_do.isVisibleTo(panel)
    assert "brush" in panel.data_table.what_to_do.text()


def test_the_table_follows_the_brush(corrected_panel, dock, qtbot):
    assert rows(corrected_panel) == [("clip.mp4", "3"), ("Bipolar Forceps", "3"), ("Large Needle Driver", "1")]
    paint(dock, 10, DRIVER)
    qtbot.waitUntil(lambda: ("Large Needle Driver", "2") in rows(corrected_panel), timeout=TIMEOUT)
    dock.layers.labels.undo()
    qtbot.waitUntil(lambda: ("Large Needle Driver", "1") in rows(corrected_panel), timeout=TIMEOUT)


def test_a_class_in_one_frame_and_a_single_video_show_a_warning(corrected_panel):
    warning = corrected_panel.data_table.warning.text()
    assert "Large Needle Driver is in one frame only" in warning
    assert "Fewer than 20 frames of one video" in warning


def test_another_project_can_be_added_and_removed(corrected_panel, phantom_clip, tmp_path, qtbot):
    folder = corrected_project(phantom_clip, tmp_path)
    corrected_panel.data_table.add_project(folder)
    qtbot.waitUntil(lambda: ("other.mp4", "1") in rows(corrected_panel), timeout=TIMEOUT)
    assert corrected_panel.data.folders[1] == folder
    assert "one video" not in corrected_panel.data_table.warning.text()
    remove = corrected_panel.data_table.tree.itemWidget(corrected_panel.data_table.tree.topLevelItem(1), 2)
    click(qtbot, remove)
    qtbot.waitUntil(lambda: len(corrected_panel.data.folders) == 1, timeout=TIMEOUT)


def test_a_folder_that_is_not_a_project_is_reported_and_not_added(corrected_panel, tmp_path, notes):
    corrected_panel.data_table.add_project(tmp_path)
    assert len(notes) == 1
    assert tmp_path.name in corrected_panel.more.panel.message.text()
    assert len(corrected_panel.data.folders) == 1


def test_trusting_classes_counts_only_those_corrected(phantom_clip, tmp_path):
    with Project.open(corrected_project(phantom_clip, tmp_path)) as project:
        project.labels.verify(5, [BIPOLAR])
        project.labels[5, 40:50, 40:50] = DRIVER
        project.labels.reset_frame(5)
        project.labels.verify(3, [BIPOLAR])
        by_frame, by_class = (count_corrections(project, trust) for trust in ("frame", "class"))
        assert {instrument.name: n for instrument, n in by_frame.class_frames.items()} == {"Large Needle Driver": 1}
        assert by_class.frame_count == 1
        assert untouched_frames(project) == [frame for frame in range(FRAMES) if frame != 3]


def corrected_project(phantom_clip: Path, tmp_path: Path) -> Path:
    """A separate project with the needle driver in one frame."""
    other = Path(shutil.copy(phantom_clip, tmp_path / "other.mp4"))
    with Project.open_or_create(VideoReader(other), ENDOVIS2018) as project:
        project.labels[3, 10:20, 10:20] = DRIVER
        return project.folder


# Settings ------------------------------------------------------------------------------------------------------------


def test_the_form_starts_with_the_quick_preset(corrected_panel):
    config = corrected_panel.form.config(())
    assert config == preset("quick").changed(device=config.device)


def test_a_preset_fills_every_field(corrected_panel):
    corrected_panel.form.show_preset("endovis2018")
    config = corrected_panel.form.config(())
    assert (config.epochs, config.encoder, config.batch_size) == (500, "vit_h", 32)
    assert "vit_h" in corrected_panel.form.start.text()


def test_settings_are_in_groups_with_plain_titles_and_the_papers_term_in_the_tooltip(corrected_panel, qtbot):
    form = corrected_panel.form
    click(qtbot, form.more)
    experts, variety = form.settings.folds["For experts"], form.settings.folds["Variety"]
    rate, copies = form.settings.fields["learning_rate"], form.settings.fields["augmented_versions"]
    assert rate.label == TrainingConfig.model_fields["learning_rate"].title
    assert rate.native.toolTip() == TrainingConfig.model_fields["learning_rate"].description
    assert copies.label == "Varied copies" and copies.native.toolTip().startswith("Augmentations: ")
    assert variety.isAncestorOf(copies.native) and copies.native.isVisibleTo(form)
    assert experts.isAncestorOf(rate.native) and not rate.native.isVisibleTo(form)
    click(qtbot, experts.header)
    assert rate.native.isVisibleTo(form)


def test_the_time_is_shown_before_start_and_follows_the_settings(corrected_panel, dock, monkeypatch):
    speed = Speed(seconds_per_embedding=2.0, seconds_per_mask=0.1)
    monkeypatch.setattr("surgicalsam_napari.widgets.train.train_panel.known_speed", lambda _model: speed)
    form, time = corrected_panel.form, corrected_panel.time
    form.settings.fields["rehearsed_frames"].value = 0
    form.settings.fields["augmented_versions"].value = 0
    form.epochs.setValue(40)
    assert time.isVisibleTo(corrected_panel)
    # three frames at 2 s; four masks, and a quarter more of absent classes, at four times 0.1 s, 40 times
    assert time.text().startswith("About 1 min 26 s: 6 s to read 3 pictures, then 1 min 20 s for 40 rounds of 4 masks.")
    form.settings.fields["augmented_versions"].value = 16
    assert "1 min 42 s to read 51 pictures" in time.text()
    form.epochs.setValue(100_000)
    assert "then 10 min for as many of 100,000 rounds as fit" in time.text()
    monkeypatch.setattr("surgicalsam_napari.widgets.train.train_panel.known_speed", lambda _model: None)
    form.minutes.setValue(0)
    assert time.text() == "The time is known after the first round."


@pytest.mark.parametrize("value", ["fast", "-1", ""])
def test_an_invalid_value_is_reported_at_its_field(corrected_panel, qtbot, value):
    form = corrected_panel.form
    click(qtbot, form.more)
    form.settings.fields["learning_rate"].value = value
    assert form.settings.problems["learning_rate"].isVisibleTo(form)
    assert not corrected_panel.start_button.isEnabled()
    click(qtbot, form.more)
    assert form.problem_note.text().startswith("Learning rate: ")
    form.settings.fields["learning_rate"].value = "0.002"
    assert corrected_panel.start_button.isEnabled()
    assert form.config(()).learning_rate == 0.002


def test_a_run_starts_from_the_checkpoint_in_use_with_the_settings(corrected_panel, dock, stand_in, qtbot, tiny_checkpoint):
    dock.model_panel.load(tiny_checkpoint)
    settle(qtbot, dock)
    corrected_panel.form.epochs.setValue(7)
    start(qtbot, corrected_panel)
    (run,) = stand_in.runs
    assert run.path.parent == dock.session.project.folder / "training"
    assert run.config.data == (dock.session.project.folder,)
    assert (run.config.checkpoint, run.config.epochs) == (tiny_checkpoint, 7)


# Running -------------------------------------------------------------------------------------------------------------


def test_a_run_shows_epoch_time_left_curves_and_split(corrected_panel, qtbot):
    start(qtbot, corrected_panel)
    progress = corrected_panel.progress
    assert shows(corrected_panel, progress)
    assert progress.strip.text.text() == "Round 2 of 3 · 10 s left"
    assert progress.curves.losses == [(1, 2.0), (2, 1.5)]
    assert progress.curves.ious == [(2, 70.0)]
    assert progress.split.text().startswith("3 frames to learn from, 1 frame kept aside for the test. A contiguous")


def test_preparation_is_counted(panel):
    panel.progress.show_report(PreparationReport("embedding frames", 12, 40))
    assert panel.progress.strip.text.text() == "Embedding frames: 12 of 40"


def test_painting_and_segmenting_work_during_a_run(corrected_panel, dock, qtbot):
    start(qtbot, corrected_panel)
    beats: list[int] = []
    timer = QTimer(interval=0)
    timer.timeout.connect(lambda: beats.append(0))
    timer.start()
    paint(dock, 6, DRIVER)
    assert dock.session.project.labels.provenance(6, DRIVER) == Provenance.EDITED
    dock.tabs.show_panel(dock.segment_panel)
    click(qtbot, dock.segment_panel.segment)
    settle(qtbot, dock)
    assert dock.session.project.labels.provenance(2, BIPOLAR) != Provenance.EMPTY
    assert corrected_panel.is_running
    assert len(beats) > 5


def test_cancel_keeps_the_best_so_far(corrected_panel, stand_in, qtbot):
    start(qtbot, corrected_panel)
    click(qtbot, corrected_panel.progress.strip.cancel)
    qtbot.waitUntil(lambda: not corrected_panel.is_running, timeout=TIMEOUT)
    assert stand_in.runs[0].is_stop_requested
    assert shows(corrected_panel, corrected_panel.result)
    assert corrected_panel.result.why.text().startswith("Cancelled")


def test_a_killed_process_shows_the_reason_and_the_kept_checkpoint_and_can_be_resumed(
    corrected_panel, stand_in, qtbot, notes
):
    stand_in.error = TrainingError("The training process ended by SIGKILL. Its last lines:\nepoch 2\nKilled")
    finish(qtbot, corrected_panel, stand_in)
    failure = corrected_panel.failure
    assert shows(corrected_panel, failure)
    assert "SIGKILL" in failure.reason.text()
    assert failure.log.toPlainText() == "epoch 2\nKilled"
    assert "best.safetensors" in failure.kept.text()
    stand_in.error = None
    click(qtbot, failure.resume)
    qtbot.waitUntil(lambda: shows(corrected_panel, corrected_panel.result), timeout=TIMEOUT)
    assert stand_in.runs[0].path == stand_in.runs[1].path


def test_a_users_error_is_one_line_without_a_log(corrected_panel, stand_in, qtbot):
    stand_in.error = TrainingError("No training frame shows any class. Correct others.")
    finish(qtbot, corrected_panel, stand_in)
    assert corrected_panel.failure.reason.text() == "No training frame shows any class. Correct others."
    assert not corrected_panel.failure.log.isVisibleTo(corrected_panel)


def test_closing_the_window_asks_the_run_to_stop(make_napari_viewer, qtbot, clip, stand_in, bundled_tiny):
    viewer = make_napari_viewer(show=True)
    dock = MainWidget(viewer)
    viewer.window.add_dock_widget(dock, name="SurgicalSAM")
    settle(qtbot, dock)
    dock.open(clip)
    settle(qtbot, dock)
    dock.tabs.show_panel(dock.train_panel)
    paint(dock, 0, BIPOLAR)
    qtbot.waitUntil(dock.train_panel.start_button.isEnabled, timeout=TIMEOUT)
    start(qtbot, dock.train_panel)
    viewer.close()
    assert stand_in.runs[0].is_stop_requested
    assert QThreadPool.globalInstance().waitForDone(TIMEOUT)


def test_two_starts_make_one_run(corrected_panel, stand_in, qtbot):
    start(qtbot, corrected_panel)
    corrected_panel.start()
    assert len(stand_in.runs) == 1


# The result ----------------------------------------------------------------------------------------------------------


def test_a_better_result_is_shown_before_and_after_per_class(finished_panel):
    result = finished_panel.result
    assert result.heading.text() == "Better: overlap 50.0 → 80.0 %"
    assert result.scores.rows["Bipolar Forceps"] == ("60.0", "90.0")
    assert result.scores.rows["Predicted but absent"] == ("20.0", "10.0")
    assert result.why.text().endswith("Tested on 12 corrected frames kept aside for the test.")
    assert is_primary(result.use)
    assert not is_primary(result.discard)


@pytest.mark.parametrize(("before", "after"), [(BAD, GOOD), (GOOD, BAD), (None, GOOD)])
def test_below_ten_frames_there_is_no_verdict(corrected_panel, stand_in, qtbot, before, after):
    stand_in.before, stand_in.after, stand_in.frames = before, after, 9
    finish(qtbot, corrected_panel, stand_in)
    result = corrected_panel.result
    assert result.heading.text() == "Trained: too few frames to judge"
    assert GOOD_COLOR not in result.heading.styleSheet() and BAD_COLOR not in result.heading.styleSheet()
    assert "9 corrected frames kept aside for the test: too few" in result.why.text()
    assert "at least 10" in result.weak.text()
    labels = [label for label in result.scores.findChildren(QLabel) if label.text()]
    assert "Overlap on 9 frames, %" in [label.text() for label in labels]
    assert not any(color in label.styleSheet() for label in labels for color in (GOOD_COLOR, BAD_COLOR))


def test_a_score_that_rests_on_few_frames_is_not_in_the_list_of_models(corrected_panel, dock, stand_in, qtbot):
    stand_in.frames = 1
    use(qtbot, finish(qtbot, corrected_panel, stand_in), dock)
    title = dock.model_panel.checkpoint.currentText()
    assert title.startswith("Trained ") and "IoU" not in title


@pytest.mark.parametrize(("after", "words"), [(BAD, "Worse than before"), (GOOD, "No better than before")])
def test_a_result_that_is_not_better_says_so_and_offers_to_discard(corrected_panel, stand_in, qtbot, after, words):
    stand_in.before, stand_in.after = GOOD, after
    finish(qtbot, corrected_panel, stand_in)
    assert corrected_panel.result.heading.text().startswith(words)
    assert is_primary(corrected_panel.result.discard)
    assert not is_primary(corrected_panel.result.use)


def test_a_result_without_validation_makes_no_claim(corrected_panel, stand_in, qtbot):
    stand_in.before = stand_in.after = None
    finish(qtbot, corrected_panel, stand_in)
    assert corrected_panel.result.heading.text() == "Trained, not checked"
    assert corrected_panel.result.scores.rows == {}


def test_a_class_that_the_start_checkpoint_does_not_know_has_no_score_before(corrected_panel, stand_in, qtbot):
    stand_in.before = replace(BAD, class_iou={"Bipolar Forceps": 60.0})
    finish(qtbot, corrected_panel, stand_in)
    assert corrected_panel.result.scores.rows["Large Needle Driver"] == ("–", "70.0")


def test_examples_are_shown_one_by_one_and_open_larger(finished_panel, qtbot):
    examples = finished_panel.result.examples
    assert examples.place.text() == "1 of 2"
    click(qtbot, examples.next_button)
    assert examples.place.text() == "2 of 2"
    click(qtbot, examples.picture)
    assert examples.large.isVisible()
    qtbot.keyClick(examples.large, Qt.Key.Key_Right)
    assert examples.place.text() == "1 of 2"
    examples.large.close()


def test_use_it_loads_and_lists_the_checkpoint(finished_panel, dock, stand_in, qtbot):
    before = dock.session.model
    use(qtbot, finished_panel, dock)
    best = stand_in.runs[0].best_checkpoint
    assert dock.model_panel.in_use.checkpoint == best
    assert dock.session.model is not before
    assert dock.model_panel.checkpoint.currentText().endswith("IoU 80.0")
    picker = dock.model_panel.checkpoint
    tooltip = picker.itemData(picker.currentIndex(), Qt.ItemDataRole.ToolTipRole)
    assert tooltip.startswith("IoU 80.0 on 12 corrected frames")
    assert not stand_in.runs[0].discarded


def test_uncorrected_frames_are_segmented_again(finished_panel, dock, qtbot):
    use(qtbot, finished_panel, dock)
    assert finished_panel.result.segment.text() == f"Segment again:\n{FRAMES - 3} uncorrected frames"
    asked: list[list[int]] = []
    finished_panel.segment_untouched_requested.connect(asked.append)
    click(qtbot, finished_panel.result.segment)
    settle(qtbot, dock)
    assert asked == [[frame for frame in range(FRAMES) if frame not in (0, 4, 8)]]
    table = dock.session.project.labels.provenance_table()
    assert (table[1] != Provenance.EMPTY).all()
    assert table[0, 0] == Provenance.EDITED


def test_discard_marks_the_run_and_deletes_nothing(finished_panel, dock, stand_in, qtbot):
    click(qtbot, finished_panel.result.discard)
    (run,) = stand_in.runs
    assert run.discarded
    assert run.best_checkpoint.exists()
    assert dock.model_panel.in_use.checkpoint is None
    assert shows(finished_panel, finished_panel.setup)


def test_a_checkpoint_that_cannot_be_loaded_is_reported_and_can_be_tried_again(finished_panel, dock, stand_in, qtbot, notes):
    stand_in.runs[0].best_checkpoint.write_bytes(b"\0" * 64)
    click(qtbot, finished_panel.result.use)
    settle(qtbot, dock)
    assert len(notes) == 1 and "best.safetensors" in dock.model_panel.message.text()
    assert finished_panel.result.use.isVisibleTo(finished_panel)
    assert not finished_panel.result.segment.isVisibleTo(finished_panel)


def use(qtbot, panel: TrainPanel, dock: MainWidget) -> None:
    click(qtbot, panel.result.use)
    settle(qtbot, dock)
