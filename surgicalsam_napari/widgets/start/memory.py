"""What the window remembers between starts: checkpoint, class, frames, tab, expanded sections, and the size of its docks."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

from surgicalsam_napari.instruments import knows_class
from surgicalsam_napari.preferences import (
    ModelChoice,
    Preferences,
    SegmentChoice,
    WindowLayout,
    preferences_file,
    read_preferences,
    remember,
)
from surgicalsam_napari.session import Session
from surgicalsam_napari.widgets.parts.collapsible import Collapsible
from surgicalsam_napari.widgets.parts.message import show_notice
from surgicalsam_napari.widgets.parts.task_tabs import TaskTabs
from surgicalsam_napari.widgets.segment_panel import SegmentPanel
from surgicalsam_napari.widgets.source.model_panel import ModelPanel
from surgicalsam_napari.widgets.start.napari_settings import NapariSettings
from surgicalsam_napari.widgets.viewer.session_signals import SessionSignals

SAVE_DELAY_MS = 500  # several quick changes are saved together
MOST_WIDTH = 0.4  # of the window, for the panel


class WindowMemory(QObject):
    """Restores what was remembered, and remembers each change.

    Parameters
    ----------
    panel : the plugin's dock, whose width is remembered
    timeline : the timeline, whose height is remembered
    """

    def __init__(
        self,
        session: Session,
        panel: QWidget,
        timeline: QWidget,
        tabs: TaskTabs,
        segment: SegmentPanel,
        model: ModelPanel,
    ) -> None:
        super().__init__(panel)
        self.session, self.panel, self.timeline, self.tabs = session, panel, timeline, tabs
        self.segment, self.model = segment, model
        self._remembered = read_preferences(self._say)
        self._settings = NapariSettings()
        self._wanted_class = self._remembered.segment.class_name  # until a project with such a class is opened
        self._is_restored: set[QWidget] = set()
        self._is_warned = False
        self._timer = QTimer(self, singleShot=True, interval=SAVE_DELAY_MS)
        self._timer.timeout.connect(self.save)

    def restore(self) -> None:
        """Show the remembered choices."""
        chosen, layout = self._remembered.segment, self._remembered.layout
        self.segment.all_classes.setChecked(chosen.all_classes)
        self.segment.vote.setChecked(chosen.vote)
        self.segment.scope.step.setValue(chosen.step)
        if self.segment.scope.choice.findText(chosen.scope) >= 0:
            self.segment.scope.choice.setCurrentText(chosen.scope)
        self._choose_class()
        if layout.tab in self.tabs.titles:
            self.tabs.bar.setCurrentIndex(self.tabs.titles.index(layout.tab))
        for section in self._sections():
            if section.title in layout.open_sections:
                section.header.setChecked(layout.open_sections[section.title])
        self._connect()

    def subscribe(self, signals: SessionSignals) -> None:
        """Choose the remembered class in the first project that has it; remember model and class from then on."""
        signals.project_changed.connect(self._choose_class)
        signals.model_changed.connect(self._timer.start)
        signals.class_selected.connect(lambda _class_id: self._timer.start())

    def save(self) -> None:
        """Remember everything now."""
        self._timer.stop()
        if not remember(self._updated) and not self._is_warned:
            self._is_warned = True
            self._say(f"{preferences_file()} cannot be written, so recent videos and settings are not remembered.")

    def _say(self, text: str) -> None:
        show_notice(text, self.panel)

    def _connect(self) -> None:
        self.segment.scope.changed.connect(self._timer.start)
        self.segment.all_classes.toggled.connect(self._timer.start)
        self.segment.vote.toggled.connect(self._timer.start)
        self.tabs.shown.connect(lambda _panel: self._timer.start())
        for section in self._sections():
            section.toggled.connect(self._timer.start)
        for widget in (self.panel, self.timeline):
            widget.installEventFilter(self)

    # The model and the class ---------------------------------------------------------------------------------------------

    def load_model(self) -> None:
        """Load the checkpoint used last, on the device used last or that of napari's Preferences."""
        chosen = self._remembered.model
        device = self._settings.device or chosen.device
        self.model.device.show_device(device if self.model.device.findData(device) >= 0 else "auto")
        missing = _missing(chosen)
        if missing is not None:
            show_notice(f"{missing} was used last, and is not there any more. The bundled checkpoint is loaded.", self.model)
            self.model.load(keeps_message=True)
            return
        if chosen.checkpoint is not None:
            self.model.loading_changed.connect(self._load_bundled_after_failure)
        self.model.load(chosen.checkpoint, chosen.encoder_weights)

    def _load_bundled_after_failure(self, is_loading: bool) -> None:
        """A remembered checkpoint that cannot be loaded must not leave the window without a model."""
        if is_loading:
            return
        self.model.loading_changed.disconnect(self._load_bundled_after_failure)
        QTimer.singleShot(0, self._load_bundled)

    def _load_bundled(self) -> None:
        if self.session.model is None:
            self.model.load(keeps_message=True)

    def _choose_class(self) -> None:
        name = self._wanted_class
        if name is not None and knows_class(self.session.classes, name):
            self.session.select_class(self.session.classes.by_name(name).id)
            if self.session.project is not None:
                self._wanted_class = None

    # The docks -----------------------------------------------------------------------------------------------------------

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Show and watched not in self._is_restored and isinstance(watched, QWidget):
            self._is_restored.add(watched)
            QTimer.singleShot(0, lambda: self._resize(watched))  # when the docks have their places
        elif event.type() == QEvent.Type.Resize and watched in self._is_restored:
            self._timer.start()
        return False

    def _resize(self, widget: QWidget) -> None:
        dock, window = _dock_of(widget), widget.window()
        if dock is None or not isinstance(window, QMainWindow):
            return
        layout = self._remembered.layout
        if widget is self.panel and layout.panel_width is not None:
            width = min(layout.panel_width, round(MOST_WIDTH * window.width()))
            window.resizeDocks([dock], [width], Qt.Orientation.Horizontal)
        elif widget is self.timeline and layout.timeline_height is not None:
            window.resizeDocks([dock], [layout.timeline_height], Qt.Orientation.Vertical)

    def _sections(self) -> list[Collapsible]:
        return list(self.panel.findChildren(Collapsible))

    # What is remembered --------------------------------------------------------------------------------------------------

    def _updated(self, preferences: Preferences) -> Preferences:
        return preferences.model_copy(
            update={"segment": self._segment_choice(preferences.segment), "layout": self._layout(preferences.layout)}
            | ({} if self.session.model is None else {"model": ModelChoice(**self.model.in_use._asdict())})
        )

    def _segment_choice(self, before: SegmentChoice) -> SegmentChoice:
        class_id = self.session.selected_class_id
        name = None if class_id is None else self.session.classes.by_id(class_id).name
        scope = self.segment.scope
        return before.model_copy(
            update={
                "class_name": self._wanted_class or name or before.class_name,
                "all_classes": self.segment.all_classes.isChecked(),
                "vote": self.segment.vote.isChecked(),
                "scope": scope.choice.currentText(),
                "step": scope.step.value(),
            }
        )

    def _layout(self, before: WindowLayout) -> WindowLayout:
        panel, timeline = _dock_of(self.panel), _dock_of(self.timeline)
        return before.model_copy(
            update={
                "panel_width": panel.width() if panel is not None and panel.isVisible() else before.panel_width,
                "timeline_height": timeline.height() if timeline is not None else before.timeline_height,
                "tab": self.tabs.titles[self.tabs.bar.currentIndex()],
                "open_sections": {**before.open_sections, **{each.title: each.is_open for each in self._sections()}},
            }
        )


def _dock_of(widget: QWidget) -> QDockWidget | None:
    """The dock that contains a widget; None for a widget that is not docked, or floats in a window of its own."""
    parent = widget.parentWidget()
    while parent is not None and not isinstance(parent, QDockWidget):
        parent = parent.parentWidget()
    return parent if parent is not None and not parent.isFloating() else None


def _missing(chosen: ModelChoice) -> Path | None:
    """The file of this model that is gone, or None."""
    for path in (chosen.checkpoint, chosen.encoder_weights):
        if path is not None and not path.is_file():
            return path
    return None
