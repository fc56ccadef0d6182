"""The plugin's dock: video and model, a line each, and below them a tab for each task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import napari
from napari.layers import Image
from napari.utils.notifications import show_info
from napari.utils.theme import get_theme
from qtpy.QtCore import QEvent, QObject, QSize, Qt, QTimer
from qtpy.QtGui import QColor, QHideEvent, QShowEvent
from qtpy.QtWidgets import QDockWidget, QFrame, QScrollArea, QVBoxLayout, QWidget

from surgicalsam_napari.errors import SurgicalSAMError, VideoChangedError
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project
from surgicalsam_napari.widgets.actions.keys import BoundKeys
from surgicalsam_napari.widgets.actions.registry import ACTIONS
from surgicalsam_napari.widgets.classes.class_keys import ClassKeys
from surgicalsam_napari.widgets.classes.classes_dialog import ClassesDialog
from surgicalsam_napari.widgets.classes.parts_switch import PartsSwitch
from surgicalsam_napari.widgets.correct.correct_panel import CorrectPanel
from surgicalsam_napari.widgets.correct.refusals import Refusals
from surgicalsam_napari.widgets.exchange.export_panel import ExportPanel
from surgicalsam_napari.widgets.parts.class_picker import ClassPicker
from surgicalsam_napari.widgets.parts.collapsible import Collapsible
from surgicalsam_napari.widgets.parts.message import Message, show_failure, show_notice
from surgicalsam_napari.widgets.parts.parts import SPACING
from surgicalsam_napari.widgets.parts.question_box import question_box
from surgicalsam_napari.widgets.parts.task_tabs import TaskTabs
from surgicalsam_napari.widgets.parts.theme import style_sheet
from surgicalsam_napari.widgets.parts.wheel_guard import WheelGuard
from surgicalsam_napari.widgets.runs.background import keep_a_core_for_the_window, run_in_background
from surgicalsam_napari.widgets.segment_panel import SegmentPanel
from surgicalsam_napari.widgets.source.lost_folder import LostFolder
from surgicalsam_napari.widgets.source.model_limits import CORRECT
from surgicalsam_napari.widgets.source.model_panel import ModelPanel
from surgicalsam_napari.widgets.source.video_panel import VideoPanel
from surgicalsam_napari.widgets.start.memory import WindowMemory
from surgicalsam_napari.widgets.start.start import Start
from surgicalsam_napari.widgets.timeline.dock import TimelineDock
from surgicalsam_napari.widgets.train.train_panel import WAIT_FOR_LEARNING, TrainPanel
from surgicalsam_napari.widgets.viewer.dock_menu import DockMenu, dock_around
from surgicalsam_napari.widgets.viewer.label_changes import LabelChanges
from surgicalsam_napari.widgets.viewer.layer_docks import PREFERRED_PANEL, SMALLEST_PANEL, LayerDocks
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers
from surgicalsam_napari.widgets.viewer.paint_bar import PaintBar
from surgicalsam_napari.widgets.viewer.session_signals import SessionSignals
from surgicalsam_napari.widgets.work_clock import WorkClock

WAIT_FOR_EXCHANGE = "Labels are being exported or imported. Wait until this is done."
WAIT_FOR_CORRECTION = "Labels are being corrected. Wait until this is done."
WAIT_FOR_QUEUE = "The list of videos is being segmented. Wait until this is done, or cancel it in Videos."
WAIT_FOR_OPENING = "A video is being opened. Wait until this is done."
WAIT_FOR_SEGMENTATION = "The video is being segmented. Wait until this is done."
GO_ON = "Go on with its project"
KEPT = "Labels, verified frames, notes and history stay as they are."
FIRST_MODEL_DELAY_MS = 150
CLOSED = "SurgicalSAM is hidden, and everything is saved{where}.{runs} Plugins > SurgicalSAM brings it back."


class MainWidget(QScrollArea):
    """The dock of one session: Video, Model, and a tab for each task; long work runs in the background.

    Each tab scrolls by itself. The dock as a whole scrolls if it is lower than its fixed parts.

    Parameters
    ----------
    viewer : the napari viewer whose layers show the session's project
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        keep_a_core_for_the_window()
        self.session = Session(claims=True)
        self.layers = ViewerLayers(viewer, self.session, self)
        self.changes = LabelChanges(self)
        self.video_panel = VideoPanel()
        self.model_panel = ModelPanel(self.session)
        self.segment_panel = SegmentPanel(self.session, self.layers)
        self.correct_panel = CorrectPanel(self.session, self.layers, self.changes)
        self.train_panel = TrainPanel(self.session, self.layers, self.model_panel)
        self.export_panel = ExportPanel(self.session, self.layers)
        self.train_panel.learn.vote.follow(self.segment_panel.vote)
        self.video_fold = Collapsible(self.video_panel, is_open=True, has_line=False)
        self.video_fold.add_mark(self.video_panel.saved)
        self.model_fold = Collapsible(self.model_panel, has_line=False)
        self.parts_switch = PartsSwitch(self.session)
        self.tabs, self.message = TaskTabs(), Message()  # of what has no panel of its own
        self.dock_menu = DockMenu(viewer, self)
        self.layer_docks = LayerDocks(self)
        self.paint_bar = PaintBar(self.layers, self.layer_docks.action)
        self.timeline = TimelineDock(self.session, self.layers, self.changes, self.dock_menu, self)
        self.classes_dialog = ClassesDialog(self.session, self.layers, self.changes, self)
        self.class_keys = ClassKeys(viewer, self.session)
        self.start = Start(self.session, self.layers, self.video_panel, self.video_fold, self.segment_panel.vote, self)
        self.memory = WindowMemory(
            self.session, self, self.timeline.timeline, self.tabs, self.segment_panel, self.model_panel
        )
        self.work_clock = WorkClock(self.layers, self)
        self.lost_folder = LostFolder(self.layers, self.video_panel.saved, self.video_panel, self)
        self._refusals = Refusals(self.session, self.layers, self.changes, self.correct_panel)
        self._was_docked = self._was_removed = False
        self._dock: QDockWidget | None = None
        self._signals = SessionSignals(self.session, self)
        self._is_opening = False
        self._arrived_together = False  # napari may let the first of several be opened before it reads the next
        self._to_adopt = [path for path in (self.layers.find_unadopted(),) if path is not None]
        self._lay_out()
        self._wheel_guard = WheelGuard(self, self.timeline.timeline)
        self._subscribe()
        self._connect()
        self.keys = BoundKeys(viewer, ACTIONS, self)
        self.segment_panel.is_model_loading = True
        self._use_theme()
        self.memory.restore()
        self._waits_for_first_model = True
        # a thread that runs Python would slow down the first drawing of the widgets, where Qt calls Python for each event
        QTimer.singleShot(FIRST_MODEL_DELAY_MS, self._load_first_model)
        self._adopt_soon()

    def open(self, path: Path, project_folder: Path | None = None, *, is_change_known: bool = False) -> None:
        """Open a video, image folder or project in the background; on an error, show it and keep the open project.

        Parameters
        ----------
        project_folder : the project of a video that has moved; by default that beside the video
        is_change_known : if the video has changed since the project saw it last, go on with it without asking
        """
        if self._is_opening or self._works_on_project or self.start.refuses(path):
            return
        if not self.lost_folder.may_leave("Open another"):
            return
        self._is_opening = True
        self._update_locks()
        for message in (self.video_panel.message, self.start.page.message):
            message.clear()
        self.video_panel.show_opening(path)
        self.start.show_opening(path.name)
        session = self.session
        run_in_background(
            lambda: session.prepare(path, project_folder=project_folder, ask_first=not is_change_known),
            lambda project: self._on_opened(project, is_change_known),
            lambda error: self._on_open_failed(error, path, project_folder),
        )

    def show_parts(self, shown: bool) -> None:
        """Show the parts of the instruments, or the instruments; on an error, nothing changes."""
        if self._is_opening or self._works_on_project or self.model_panel.is_loading:
            self.parts_switch.refresh()
            return
        self.message.clear()
        try:
            if self.lost_folder.unsaved_frames and self.session.project is not None:
                self.session.project.save_unsaved()
            self.session.show_parts(shown)
        except SurgicalSAMError as error:
            show_failure(error, self)
        self.parts_switch.refresh()

    @property
    def is_busy(self) -> bool:
        """Whether a video or model is being opened, or labels are being learned, changed or exported; no training."""
        is_loading = self._waits_for_first_model or self.model_panel.is_loading
        return self._is_opening or is_loading or self._works_on_project or self.start.queue.is_running

    @property
    def _works_on_project(self) -> bool:
        """Whether a run needs the open project to stay open."""
        runs = (self.segment_panel.run, self.correct_panel.run, self.train_panel.learn.run, self.export_panel)
        return any(run.is_running for run in runs) or self.start.queue.is_on_open_project

    def sizeHint(self) -> QSize:
        return QSize(PREFERRED_PANEL, 560)

    def reveal(self, widget: QWidget) -> None:
        """Scroll until this widget of the panel in view can be seen."""
        self.tabs.current_panel.reveal(widget)
        self.ensureWidgetVisible(widget)

    def _lay_out(self) -> None:
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumWidth(SMALLEST_PANEL)
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(12, 4, 6, 8)
        column.setSpacing(SPACING)
        column.addWidget(self.message)
        column.addWidget(self.start.page)
        column.addWidget(self.video_fold)
        column.addWidget(self.model_fold)
        column.addWidget(self.parts_switch)
        column.addWidget(self.tabs, 1)
        column.addWidget(self.correct_panel.undo_bar)
        column.addStretch(0)
        self.dock_menu.add_action(self.layer_docks.action)
        self.correct_panel.head.insertWidget(1, self.paint_bar)
        self.tabs.add(self.segment_panel, "Segment")
        self.tabs.add(self.correct_panel, "Correct")
        self.tabs.add(self.train_panel, "Train")
        self.tabs.add(self.export_panel, "Export / Import")
        self.setWidget(content)

    def _load_first_model(self) -> None:
        self._waits_for_first_model = False
        if not self._was_removed:
            self.memory.load_model()

    def _use_theme(self, _event: Any = None) -> None:
        theme = get_theme(self.layers.viewer.theme)
        self.setStyleSheet(style_sheet(QColor(theme.background.as_hex("long"))))

    def _subscribe(self) -> None:
        """Let each part refresh itself when the session changes; slots run in this order.

        1. `changes` follows the labels, so that no write is missed; `layers` show the project, which sets the frame in view.
        2. The video and model panels: the Train tab shows the titles that the model panel lists.
        3. The timeline is cleared for a new project before the Correct tab sends it marks.
        4. The memory, then the Segment tab, then the Correct tab: the first two choose a class if none is chosen.
        """
        self.changes.subscribe(self._signals)
        self.layers.subscribe(self._signals)
        self.parts_switch.subscribe(self._signals)
        self.video_panel.subscribe(self._signals, self.changes)
        self.lost_folder.subscribe(self._signals)
        self.model_panel.subscribe(self._signals)
        self.timeline.subscribe(self._signals)
        self.work_clock.subscribe(self._signals, self.changes)
        self.train_panel.subscribe(self._signals)
        self.export_panel.subscribe(self._signals)
        self.memory.subscribe(self._signals)
        self.segment_panel.subscribe(self._signals)
        self.correct_panel.subscribe(self._signals)
        self.classes_dialog.subscribe(self._signals)
        self.start.subscribe(self._signals)

    def _connect(self) -> None:
        for panel, fold in ((self.video_panel, self.video_fold), (self.model_panel, self.model_fold)):
            panel.summarized.connect(fold.summarize)
            panel.attention_wanted.connect(fold.open)
        for picker in self.findChildren(ClassPicker):
            picker.edit_requested.connect(self.classes_dialog.open)
        self.video_panel.open_requested.connect(self.open)
        self.start.open_requested.connect(self.open)
        self.parts_switch.switch_requested.connect(self.show_parts)
        self.start.queue.running_changed.connect(self._on_queue_changed)
        self.model_panel.loading_changed.connect(self._on_loading_changed)
        self.segment_panel.running_changed.connect(self._on_running_changed)
        self.correct_panel.running_changed.connect(self._on_correcting_changed)
        self.correct_panel.propagate.stopped.connect(self.timeline.note_stop)
        self.correct_panel.review.scores_changed.connect(self.timeline.show_scores)
        self.correct_panel.instances.rows_wanted.connect(self.timeline.timeline.open_all)
        self.timeline.timeline.opened_changed.connect(
            lambda: self.correct_panel.instances.show_rows(bool(self.timeline.timeline.opened_classes))
        )
        self.tabs.shown.connect(self._on_tab_shown)
        self.segment_panel.tab_wanted.connect(self._on_tab_wanted)
        self.train_panel.running_changed.connect(lambda is_running: self.tabs.mark_busy(self.train_panel, is_running))
        self.train_panel.learn.running_changed.connect(self._on_learning_changed)
        self.train_panel.segment_untouched_requested.connect(self._segment_untouched)
        self.export_panel.running_changed.connect(self._on_exchange_changed)
        self.layers.viewer.events.theme.connect(self._use_theme)
        self.layers.opened_elsewhere.connect(self._on_opened_elsewhere)
        self.layers.layer_removed.connect(self._on_layer_removed)
        self.lost_folder.saved.connect(self.changes.history_changed)
        self.changes.history_changed.connect(self.segment_panel.follow_history)
        self.lost_folder.saved.connect(self.train_panel.refresh)
        self.lost_folder.saved.connect(self._close_without_video)

    # Opening ------------------------------------------------------------------------------------------------------------

    def _on_opened(self, project: Project, is_change_known: bool) -> None:
        self._is_opening = False
        self.start.show_opening(None)
        self.video_fold.fold()
        self.session.use_project(project)
        if project.notice and not (is_change_known and project.has_all_frames):
            show_notice(project.notice, self.video_panel)
            self.video_fold.open()
        self._update_locks()
        self._adopt_soon()

    def _on_open_failed(self, error: Exception, path: Path, project_folder: Path | None) -> None:
        self._is_opening = False
        self.start.show_opening(None)
        self._update_locks()
        self.video_panel.show_project(self.session.project, self.session.other_owner)
        if isinstance(error, VideoChangedError):
            box = question_box(self, error.question, KEPT, GO_ON, "Cancel")
            box.accepted.connect(lambda: self.open(path, project_folder, is_change_known=True))
            box.open()
        else:
            show_failure(error, self.start.page if self.session.project is None else self.video_panel)

    def _on_opened_elsewhere(self, source: Path) -> None:
        self._arrived_together |= self._is_opening
        self._to_adopt.append(source)
        self._adopt_soon()

    def _adopt_soon(self) -> None:
        # a project's reader adds two layers, one after the other: wait for both
        QTimer.singleShot(0, self._adopt)

    def _adopt(self) -> None:
        """Open the video or project that napari has read; list several. Wait while a run needs the open project."""
        if not self._to_adopt or self._is_opening or self._works_on_project:
            return
        sources, self._to_adopt = list(dict.fromkeys(self._to_adopt)), []
        are_several, self._arrived_together = len(sources) > 1 or self._arrived_together, False
        if are_several:
            self.layers.remove_unopened(sources)
            self.start.list_videos(sources, [])
        else:
            self.open(sources[0])

    def _on_layer_removed(self, layer: object) -> None:
        self.segment_panel.run.cancel()
        self.correct_panel.run.cancel()
        self.train_panel.learn.cancel()
        if isinstance(layer, Image):
            self.export_panel.cancel()
            if self.start.queue.is_on_open_project:
                self.start.queue.cancel()
            self._close_without_video()

    def _close_without_video(self) -> None:
        """Close the project after the user removed the video layer or the dock, and no run needs it."""
        is_removed = self.session.project is not None and (self.layers.image is None or self._was_removed)
        if is_removed and not self._works_on_project and not self.lost_folder.unsaved_frames:
            self.work_clock.stop()
            self.layers.forget()
            model = self.session.model
            self.session.close()
            if model is not None and not self._was_removed:
                self.session.use_model(model)

    # Locks --------------------------------------------------------------------------------------------------------------

    def _on_loading_changed(self, is_loading: bool) -> None:
        self.segment_panel.is_model_loading = is_loading
        self.segment_panel.update_state()

    def _on_running_changed(self, is_running: bool) -> None:
        self.tabs.mark_busy(self.segment_panel, is_running)
        if is_running:
            self.model_panel.last_model.remember()  # also a model that was loaded before the project
        self._after_run(is_running)

    def _on_correcting_changed(self, is_running: bool) -> None:
        self.tabs.mark_busy(self.correct_panel, is_running)
        self._after_run(is_running)

    def _on_learning_changed(self, is_running: bool) -> None:
        self.tabs.mark_busy(self.train_panel, is_running)
        self._after_run(is_running)

    def _on_exchange_changed(self, is_running: bool) -> None:
        self.tabs.mark_busy(self.export_panel, is_running)
        self._after_run(is_running)

    def _on_queue_changed(self, is_running: bool) -> None:
        self._after_run(is_running)

    def _after_run(self, is_running: bool) -> None:
        self._update_locks()
        if not is_running:
            self._close_without_video()
            self._adopt_soon()

    def _update_locks(self) -> None:
        is_segmenting, is_correcting = self.segment_panel.run.is_running, self.correct_panel.run.is_running
        is_learning = self.train_panel.learn.run.is_running
        segmentation = WAIT_FOR_SEGMENTATION if is_segmenting else None
        correction = WAIT_FOR_CORRECTION if is_correcting else None
        learning = WAIT_FOR_LEARNING if is_learning else None
        exchange = WAIT_FOR_EXCHANGE if self.export_panel.is_running else None
        queue = WAIT_FOR_QUEUE if self.start.queue.is_running else None
        on_this_project = queue if self.start.queue.is_on_open_project else None
        self.video_panel.set_enabled(not self._works_on_project and not self._is_opening)
        works = segmentation or correction or learning or exchange or on_this_project
        self.parts_switch.set_waiting(works)
        self.model_panel.set_enabled(not is_segmenting and not is_correcting and not is_learning and queue is None)
        self.segment_panel.set_waiting(correction or learning or exchange or queue)
        self.correct_panel.set_waiting(segmentation or learning or exchange or on_this_project)
        self.train_panel.set_waiting(segmentation or correction or exchange or queue)
        self.export_panel.set_locked(is_segmenting or is_correcting or is_learning or on_this_project is not None)
        self.classes_dialog.set_waiting(works)
        opening = WAIT_FOR_OPENING if self._is_opening else None
        self.start.queue.set_waiting(opening or segmentation or correction or learning or exchange)

    def _on_tab_shown(self, panel: object) -> None:
        if panel is self.correct_panel:
            self.correct_panel.refresh()
        elif panel is self.train_panel:
            self.train_panel.refresh()  # frames that were verified or undone meanwhile count, too

    def _on_tab_wanted(self, tab: str) -> None:
        self.tabs.show_panel(self.correct_panel if tab == CORRECT else self.train_panel)

    def _segment_untouched(self, frame_indices: list[int]) -> None:
        self.tabs.show_panel(self.segment_panel)
        self.segment_panel.segment_frames(frame_indices)

    # The dock or its window closes --------------------------------------------------------------------------------------

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.window().installEventFilter(self)
        self.start.drops.watch_viewer(self.window())
        self.timeline.set_shown(True)
        dock = dock_around(self)
        if dock is not None:
            self.layer_docks.follow(dock)

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        if not event.spontaneous():
            self.timeline.set_shown(False)

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ParentChange:
            is_docked = self.parentWidget() is not None
            if self._was_docked and not is_docked:
                self.leave()
            self._was_docked = is_docked
            dock = dock_around(self)
            if dock is not None and dock is not self._dock:
                self._dock = dock
                self.dock_menu.add(dock, "SurgicalSAM", self._on_closed)
        return super().event(event)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Close and watched is self.window():
            if not self.lost_folder.may_leave("Close"):
                event.ignore()
                return True
            self.memory.save()
            self._cancel_runs()
            self.work_clock.stop()
        return super().eventFilter(watched, event)

    def _on_closed(self) -> None:
        """The x of the dock has hidden it: say that nothing is lost."""
        project = self.session.project
        where = "" if project is None else f" in {project.top.folder.name}"
        show_info(CLOSED.format(where=where, runs=" The run goes on." if self._works_on_project else ""))

    def leave(self) -> None:
        """The dock was removed from the window: remove its keys, timeline and layers; release the project for others."""
        while not self.lost_folder.may_leave("Close"):
            pass  # it has tried to save again
        self._was_removed = True
        self.memory.save()
        self._cancel_runs()
        self.keys.unbind()
        self.correct_panel.release()
        self.class_keys.unbind()
        self.classes_dialog.close()
        self.timeline.remove()
        self.dock_menu.release()
        self.layers.viewer.events.theme.disconnect(self._use_theme)
        self.layer_docks.release()
        self._close_without_video()

    def _cancel_runs(self) -> None:
        self.segment_panel.run.cancel()
        self.correct_panel.run.cancel()
        self.train_panel.cancel()
        self.train_panel.learn.cancel()
        self.export_panel.cancel()
        self.start.queue.cancel()
