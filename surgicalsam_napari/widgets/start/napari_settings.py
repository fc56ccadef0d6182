"""The plugin's page in napari's Preferences: folder of models, device at the start, memory for frames."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import napari.settings

from surgicalsam_napari.model.zoo import MODELS_VARIABLE
from surgicalsam_napari.video import VideoReader

PLUGIN, AS_LAST_TIME = "surgicalsam-napari", "as last time"  # as in napari.yaml


class NapariSettings:
    """Applies the settings now and after each change.

    Without the plugin's manifest, as in a script, nothing is set; nor on napari 0.8, which has no pages for plugins.
    """

    _folder_set_here = ""  # the value that a setting gave to the variable, so that a user's own value is never replaced

    def __init__(self) -> None:
        settings_of_plugins: Callable[[], Mapping[str, Any]] = getattr(napari.settings, "get_plugin_settings", dict)
        self._values: Any = settings_of_plugins().get(PLUGIN)
        if self._values is not None:
            self._values.models.events.folder.connect(self.apply)
            self._values.memory.events.video_megabytes.connect(self.apply)
            self.apply()

    @property
    def device(self) -> str | None:
        """The device to start with; None: the one used last."""
        chosen = AS_LAST_TIME if self._values is None else self._values.models.device
        return None if chosen == AS_LAST_TIME else chosen

    def apply(self, _event: Any = None) -> None:
        """Use the folder and the memory from now on; processes that this one starts use the folder, too."""
        VideoReader.usual_cache_megabytes = self._values.memory.video_megabytes
        if os.environ.get(MODELS_VARIABLE, "") == NapariSettings._folder_set_here:
            folder = self._values.models.folder.strip()
            os.environ[MODELS_VARIABLE] = NapariSettings._folder_set_here = folder
