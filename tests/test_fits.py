"""The window on a laptop: what is in view, what can be reached, what brings a closed dock back; in a real viewer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("qtpy.QtWidgets")

from napari.utils.theme import get_theme
from qtpy.QtCore import QObject, QPoint, QRect, Qt, QThreadPool
from qtpy.QtGui import QAction, QColor
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QApplication, QComboBox, QDockWidget, QLabel, QPushButton, QTabBar, QWidget
from window import settle

from surgicalsam_napari.widgets.main_widget import MainWidget
from surgicalsam_napari.widgets.opening import PluginDock
from surgicalsam_napari.widgets.parts.collapsible import Collapsible
from surgicalsam_napari.widgets.parts.theme import contrast
from surgicalsam_napari.widgets.viewer.dock_menu import DockMenu, dock_around
from surgicalsam_napari.widgets.viewer.layer_docks import NAMES, SMALLEST_PANEL
from surgicalsam_napari.widgets.viewer.layers import fitting_brush_size

DRIVER, TIMEOUT = 3, 60_000
LAPTOP, DESKTOP, LAPTOP_AT_150 = (1366, 768), (1920, 1000), (911, 512)
READABLE = 4.5  # WCAG 2.2, level AA


@pytest.fixture
def empty_dock(make_napari_viewer, qtbot, bundled_tiny) -> Iterator[MainWidget]:
    viewer = make_napari_viewer(show=True)
    resize(viewer, LAPTOP)
    dock = MainWidget(viewer)
    viewer.window.add_dock_widget(dock, name="SurgicalSAM")
    settle(qtbot, dock)
    yield dock
    settle(qtbot, dock)
    QThreadPool.globalInstance().waitForDone(TIMEOUT)
    dock.session.close()


@pytest.fixture
def dock(empty_dock, qtbot, clip: Path) -> MainWidget:
    empty_dock.open(clip)
    settle(qtbot, empty_dock)
    empty_dock.session.select_class(DRIVER)
    return empty_dock


def resize(viewer, size: tuple[int, int]) -> None:
    viewer.window._qt_window.resize(*size)
    QApplication.processEvents()


def window_of(dock: MainWidget) -> QWidget:
    return dock.layers.viewer.window._qt_window


def is_in_view(widget: QWidget) -> bool:
    """Whether the whole widget is drawn: no scroll area and no window edge cuts it."""
    shown = QRect(widget.mapToGlobal(QPoint(0, 0)), widget.size())
    return widget.isVisible() and widget.visibleRegion().boundingRect().size() == widget.size() and not shown.isEmpty()


def click(widget: QWidget, position: QPoint | None = None) -> None:
    assert is_in_view(widget)
    QTest.mouseClick(widget, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, position or widget.rect().center())
    QApplication.processEvents()


def canvas_share(dock: MainWidget) -> float:
    return dock.layers.viewer.window._qt_viewer.canvas.native.width() / window_of(dock).width()


def layer_docks(dock: MainWidget) -> list[QDockWidget]:
    return [found for name in NAMES for found in window_of(dock).findChildren(QDockWidget, name)]


# What is in view -----------------------------------------------------------------------------------------------------


def test_on_a_laptop_the_canvas_has_more_than_sixty_percent_of_the_width(dock):
    assert canvas_share(dock) > 0.6


def test_tabs_class_and_the_buttons_of_a_tool_are_always_in_view_on_a_laptop(dock, qtbot):
    panel = dock.correct_panel
    dock.tabs.show_panel(panel)
    for fold in panel.findChildren(Collapsible):
        fold.open()
    panel.refine.switch.click()
    qtbot.waitUntil(lambda: panel.refine.tool.is_on, timeout=TIMEOUT)
    QApplication.processEvents()
    always = (
        dock.tabs.bar,
        panel.picker,
        dock.paint_bar,
        panel.state,
        panel.refine.accept_button,
        panel.refine.discard_button,
    )
    for position in (0, panel.scroll.verticalScrollBar().maximum()):
        panel.scroll.verticalScrollBar().setValue(position)
        QApplication.processEvents()
        assert [widget for widget in always if not is_in_view(widget)] == []
    assert panel.scroll.verticalScrollBar().maximum() > 0  # only the sections between them scroll


def test_video_and_model_fold_to_a_line_each_that_opens_on_a_click(dock):
    for fold, words in ((dock.video_fold, "clip.mp4 · 128 × 96 · 12 frames"), (dock.model_fold, "Light (bundled)")):
        assert not fold.is_open
        assert words in fold.summary.text()
        assert fold.height() < 40
        click(fold.summary)
        assert fold.is_open
        assert is_in_view(fold.panel)
        click(fold.header)
        assert not fold.is_open


def test_an_empty_window_shows_the_buttons_that_open_a_video(empty_dock):
    page = empty_dock.start.page
    assert all(is_in_view(button) for button in (page.open_button, page.folder_button, page.sample_button))


def test_a_model_that_does_not_load_opens_its_panel(dock, qtbot, tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    dock.model_panel.load(tmp_path / "broken.safetensors")
    settle(qtbot, dock)
    assert dock.model_fold.is_open


def test_all_seven_classes_are_in_the_timeline_at_150_percent(dock):
    for size in ((1280, 720), LAPTOP_AT_150):
        resize(dock.layers.viewer, size)
        assert dock.timeline.timeline.strip.layout_now.overflow == 0
        assert dock.timeline.timeline.strip.layout_now.bottom <= dock.timeline.timeline.strip.viewport().height()


# Nothing is out of reach -----------------------------------------------------------------------------------------------


def test_the_dock_is_usable_at_three_hundred_pixels(dock, qtbot):
    window = window_of(dock)
    window.resizeDocks([dock_around(dock)], [SMALLEST_PANEL], Qt.Orientation.Horizontal)
    qtbot.waitUntil(lambda: dock.width() == SMALLEST_PANEL, timeout=TIMEOUT)
    for index in range(dock.tabs.bar.count()):
        click(dock.tabs.bar, dock.tabs.bar.tabRect(index).center())
        panel = dock.tabs.current_panel
        for section in panel.findChildren(Collapsible):
            section.open()
        QApplication.processEvents()
        assert panel.scroll.horizontalScrollBar().maximum() == 0, panel
        assert panel.width() <= dock.viewport().width()
    assert dock.horizontalScrollBar().maximum() == 0
    assert all(dock.tabs.bar.tabRect(i).right() <= dock.tabs.bar.width() for i in range(dock.tabs.bar.count()))


def test_every_button_can_be_scrolled_into_view_on_a_laptop_at_150_percent(dock):
    resize(dock.layers.viewer, LAPTOP_AT_150)
    dock.video_fold.open()
    dock.model_fold.open()
    for index in range(dock.tabs.bar.count()):
        dock.tabs.bar.setCurrentIndex(index)
        QApplication.processEvents()
        for button in dock.tabs.current_panel.findChildren(QPushButton):
            if button.isVisible():
                dock.reveal(button)
                QApplication.processEvents()
                assert is_in_view(button), button.text()


# napari's layer docks --------------------------------------------------------------------------------------------------


def test_the_layer_docks_step_aside_in_a_narrow_window_and_come_back_in_a_wide_one(dock):
    assert not any(found.isVisible() for found in layer_docks(dock))
    resize(dock.layers.viewer, DESKTOP)
    assert all(found.isVisible() for found in layer_docks(dock))
    resize(dock.layers.viewer, LAPTOP)
    assert not any(found.isVisible() for found in layer_docks(dock))


def test_layer_docks_that_a_person_has_shown_stay(dock):
    dock.tabs.show_panel(dock.correct_panel)
    QApplication.processEvents()
    click(dock.paint_bar.layers_button)
    assert all(found.isVisible() for found in layer_docks(dock))
    resize(dock.layers.viewer, (1300, 768))
    assert all(found.isVisible() for found in layer_docks(dock))
    click(dock.paint_bar.layers_button)
    resize(dock.layers.viewer, DESKTOP)
    assert not any(found.isVisible() for found in layer_docks(dock))


def test_removing_the_dock_gives_the_layer_docks_back(dock):
    found = layer_docks(dock)
    dock.layers.viewer.window.remove_dock_widget(dock)
    assert all(not one.isHidden() for one in found)


def test_the_brush_can_be_chosen_and_sized_in_the_dock(dock):
    dock.tabs.show_panel(dock.correct_panel)
    QApplication.processEvents()
    labels, bar = dock.layers.labels, dock.paint_bar
    for mode in ("paint", "erase", "fill", "polygon", "pan_zoom"):
        click(bar.buttons[mode])
        assert str(labels.mode) == mode
    labels.mode = "paint"
    assert bar.buttons["paint"].isChecked()
    bar.brush_size.setFocus()
    bar.brush_size.selectAll()
    QTest.keyClicks(bar.brush_size, "17")
    QTest.keyClick(bar.brush_size, Qt.Key.Key_Return)
    assert labels.brush_size == 17
    labels.brush_size = 5
    assert bar.brush_size.value() == 5


def test_the_brush_fits_the_frame(dock):
    assert dock.layers.labels.brush_size == fitting_brush_size((96, 128)) == 3
    assert fitting_brush_size((1080, 1920)) == 30
    assert fitting_brush_size((512, 640)) == 14


# A closed dock comes back ----------------------------------------------------------------------------------------------


def close_button(dock: QDockWidget) -> QPushButton:
    return dock.titleBarWidget().findChild(QPushButton, "QTitleBarCloseButton")


def entry(dock: MainWidget, title: str):
    return next(action for action in dock.layers.viewer.window.view_menu.actions() if action.text() == title)


def test_the_x_of_the_panel_keeps_layers_and_labels_and_says_so(dock, notes):
    viewer, panel = dock.layers.viewer, dock_around(dock)
    dock.layers.labels.paint((0, 20, 20), DRIVER)
    click(close_button(panel))
    assert not dock.isVisible()
    assert not dock.timeline.timeline.isVisible()
    assert [layer.name for layer in viewer.layers] == ["clip", "Instruments"]
    assert notes[-1].startswith("SurgicalSAM is hidden, and everything is saved in clip.surgicalsam.")
    entry(dock, "SurgicalSAM").trigger()
    assert dock.isVisible()
    assert dock.timeline.timeline.isVisible()
    assert dock.session.project.labels[0][20, 20] == DRIVER


def test_the_view_menu_brings_the_timeline_back(dock):
    timeline = dock.timeline.timeline
    click(close_button(dock_around(timeline)))
    assert not timeline.isVisible()
    entry(dock, "SurgicalSAM timeline").trigger()
    assert timeline.isVisible()


def test_the_entries_survive_a_rebuilt_menu(dock):
    menu = dock.layers.viewer.window.view_menu
    menu.rebuild()
    menu.aboutToShow.emit()
    assert {"SurgicalSAM", "SurgicalSAM timeline"} <= {action.text() for action in menu.actions()}


@pytest.fixture
def opened(make_napari_viewer, qtbot, bundled_tiny) -> Iterator[PluginDock]:
    """The plugin, opened by its entry in the Plugins menu."""
    viewer = make_napari_viewer(show=True)
    resize(viewer, LAPTOP)
    _, plugin = viewer.window.add_plugin_dock_widget("surgicalsam-napari", "SurgicalSAM")
    qtbot.waitUntil(lambda: plugin.main is not None and plugin.main.isVisible(), timeout=TIMEOUT)
    settle(qtbot, plugin.main)
    yield plugin
    settle(qtbot, plugin.main)
    QThreadPool.globalInstance().waitForDone(TIMEOUT)
    plugin.main.session.close()


def test_the_plugins_menu_brings_panel_and_timeline_back(opened, qtbot, clip):
    main, menu = opened.main, opened.viewer.window.plugins_menu
    assert main.size() == opened.size()
    main.open(clip)
    settle(qtbot, main)
    click(close_button(dock_around(main)))
    assert not main.isVisible()
    plugin_action(menu).trigger()
    qtbot.waitUntil(main.isVisible, timeout=TIMEOUT)
    assert main.timeline.timeline.isVisible()
    window = opened.viewer.window._qt_window
    qtbot.waitUntil(lambda: window.findChildren(PluginDock) == [opened], timeout=TIMEOUT)
    assert window.findChildren(MainWidget) == [main]


def plugin_action(menu):
    for action in menu.actions():
        if action.menu() is not None and (found := plugin_action(action.menu())) is not None:
            return found
        if "SurgicalSAM" in action.text():
            return action
    return None


def test_a_plugin_removed_from_the_window_leaves_it_as_it_was(opened, qtbot, clip):
    main, viewer = opened.main, opened.viewer
    main.open(clip)
    settle(qtbot, main)
    viewer.window.remove_dock_widget(opened)
    assert main.session.project is None
    assert "Timeline" not in viewer.window.dock_widgets
    assert "SurgicalSAM" not in {action.text() for action in viewer.window.view_menu.actions()}


# Text can be read ------------------------------------------------------------------------------------------------------


def texts_of(root: QWidget) -> list[QWidget]:
    kinds = (QLabel, QAbstractButton, QComboBox)
    found = [widget for kind in kinds for widget in root.findChildren(kind) if widget.isEnabled()]
    return [widget for widget in found if getattr(widget, "text", widget.objectName)() or isinstance(widget, QComboBox)]


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_all_text_has_a_contrast_of_four_and_a_half(dock, theme):
    viewer = dock.layers.viewer
    viewer.theme = theme
    for fold in dock.findChildren(Collapsible):
        fold.open()
    dock.train_panel.learn.message.add("A problem")
    faint = {}
    for index in range(dock.tabs.bar.count()):
        dock.tabs.bar.setCurrentIndex(index)
        QApplication.processEvents()
        for widget in (*texts_of(dock), *texts_of(dock.timeline.timeline), *dock.findChildren(QTabBar)):
            if widget.isVisible():
                ratio = contrast(text_color(widget), background(widget, theme))
                if ratio < READABLE:
                    faint[f"{type(widget).__name__} {getattr(widget, 'text', str)()!r}"] = round(ratio, 1)
    assert faint == {}


def text_color(widget: QWidget) -> QColor:
    """The colour that the widget's letters are drawn with."""
    if widget.property("role") == "primary":
        return QColor("white")
    return widget.palette().color(widget.foregroundRole())


def background(widget: QWidget, theme: str) -> QColor:
    if widget.property("role") == "primary":
        return QColor("#2f6fde")
    colors = get_theme(theme)
    return QColor((colors.primary if isinstance(widget, QPushButton | QComboBox) else colors.background).as_hex("long"))


def test_an_action_that_is_deleted_leaves_the_menu(make_napari_viewer, qtbot):
    viewer, entries, actions = make_napari_viewer(), QObject(), QObject()
    menu = DockMenu(viewer, entries)
    menu.add_action(QAction("An action", actions))
    with qtbot.waitSignal(actions.destroyed, timeout=TIMEOUT):
        actions.deleteLater()
    menu.add_action(QAction("Another action", entries))
    titles = [action.text() for action in viewer.window.view_menu.actions()]
    assert "Another action" in titles and "An action" not in titles
