"""Errors of napari's own dialogs, shown in the plugin's panel instead of a notification that offers a traceback."""

from __future__ import annotations

import sys

from qtpy.QtWidgets import QApplication, QWidget

from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.widgets.parts.message import show_failure


def shown_in_panel(error: SurgicalSAMError, panel: str) -> bool:
    """Show the error in the open plugin; False if there is none, as in a script: then the caller raises it.

    Parameters
    ----------
    panel : module and name of the panel's class below `widgets`, for example "source.video_panel.VideoPanel"
    """
    module, name = f"surgicalsam_napari.widgets.{panel}".rsplit(".", 1)
    if module not in sys.modules or QApplication.instance() is None:
        return False
    kind: type[QWidget] = getattr(sys.modules[module], name)
    panels = [each for window in QApplication.topLevelWidgets() if window.isVisible() for each in window.findChildren(kind)]
    if panels:
        show_failure(error, panels[-1])
    return bool(panels)
