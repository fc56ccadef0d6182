"""How the tests of the window wait: until it has nothing to do, not for a fixed time."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

    from surgicalsam_napari.widgets.main_widget import MainWidget

TIMEOUT = 60_000
SOON_MS = 60  # changes of the labels are reported after 40 ms, together


def settle(qtbot: QtBot, dock: MainWidget) -> None:
    """Wait until nothing runs in the background, queued signals have arrived, and changes are reported and shown."""
    qtbot.waitUntil(lambda: not dock.is_busy, timeout=TIMEOUT)
    qtbot.wait(10)  # queued signals
    qtbot.waitUntil(lambda: not is_update_due(dock), timeout=TIMEOUT)


def is_update_due(dock: MainWidget) -> bool:
    """Whether a part of the window gathers changes, and shows them soon."""
    timers = chain.from_iterable(part.findChildren(QTimer) for part in (dock, dock.timeline, dock.timeline.timeline))
    return any(timer.isSingleShot() and timer.isActive() and timer.interval() <= SOON_MS for timer in timers)
