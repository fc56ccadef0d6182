"""The plugin's page in napari's Preferences, in a real window with the plugin's manifest."""

from __future__ import annotations

from pathlib import Path

import napari.settings
import pytest

pytest.importorskip("qtpy.QtWidgets")

from napari._qt.dialogs.preferences_dialog import PreferencesDialog
from npe2 import PluginManifest
from qtpy.QtCore import QThreadPool

from surgicalsam_napari.model.zoo import MODELS_VARIABLE, models_folder
from surgicalsam_napari.preferences import ModelChoice, remember
from surgicalsam_napari.video import VideoReader
from surgicalsam_napari.widgets.main_widget import MainWidget
from surgicalsam_napari.widgets.start.napari_settings import PLUGIN, NapariSettings

MANIFEST = Path(__file__).parents[1] / "napari.yaml"


@pytest.fixture
def settings(npe2pm, request, monkeypatch):
    """The plugin's settings in an installation of their own."""
    if not hasattr(napari.settings, "get_plugin_settings"):
        pytest.skip("napari 0.8 has no settings of plugins")
    request.getfixturevalue("plugin_settings")
    monkeypatch.setenv(MODELS_VARIABLE, "")
    monkeypatch.setattr(NapariSettings, "_folder_set_here", "")
    monkeypatch.setattr(VideoReader, "usual_cache_megabytes", 256)
    npe2pm.register(PluginManifest.from_file(MANIFEST))
    return napari.settings.get_plugin_settings(PLUGIN)


def test_the_defaults_change_nothing(settings) -> None:
    before = models_folder()
    assert NapariSettings().device is None
    assert models_folder() == before and VideoReader.usual_cache_megabytes == 256


def test_the_folder_of_models_is_used_at_once_and_after_each_change(settings, tmp_path: Path) -> None:
    usual = models_folder()
    settings.models.folder = str(tmp_path / "first")
    used = NapariSettings()
    assert models_folder() == tmp_path / "first"
    settings.models.folder = str(tmp_path / "second")
    assert models_folder() == tmp_path / "second"
    settings.models.folder = ""
    assert models_folder() == usual
    del used


def test_the_variable_of_the_user_has_priority_over_the_folder(settings, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path / "mine"))
    settings.models.folder = str(tmp_path / "first")
    NapariSettings().apply()
    assert models_folder() == tmp_path / "mine"


def test_the_memory_for_frames_is_that_of_the_next_videos(settings) -> None:
    used = NapariSettings()
    settings.memory.video_megabytes = 32
    assert VideoReader.usual_cache_megabytes == 32
    del used


def test_the_device_at_the_start_is_chosen_instead_of_the_last_one(
    settings, make_napari_viewer, qtbot, bundled_tiny
) -> None:
    remember(lambda preferences: preferences.model_copy(update={"model": ModelChoice(device="auto")}))
    settings.models.device = "cpu"
    viewer = make_napari_viewer()
    dock = MainWidget(viewer)
    viewer.window.add_dock_widget(dock, name="SurgicalSAM")
    qtbot.waitUntil(lambda: not dock.is_busy, timeout=60_000)
    assert dock.model_panel.in_use.device == "cpu"
    QThreadPool.globalInstance().waitForDone(60_000)
    dock.session.close()


def test_naparis_preferences_show_the_settings(settings, qtbot) -> None:
    dialog = PreferencesDialog()
    qtbot.addWidget(dialog)
    pages = [dialog._list.item(row).text() for row in range(dialog._list.count())]
    assert "SurgicalSAM" in pages


def test_a_napari_without_settings_of_plugins_changes_nothing(monkeypatch) -> None:
    monkeypatch.delattr(napari.settings, "get_plugin_settings", raising=False)
    before = models_folder()
    assert NapariSettings().device is None
    assert models_folder() == before
