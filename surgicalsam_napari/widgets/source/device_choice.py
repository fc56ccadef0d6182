"""The choice of a device: those of this machine, and workers on other machines."""

from __future__ import annotations

import torch
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox

from surgicalsam_napari.model.device import choose_device, describe_device
from surgicalsam_napari.preferences import read_preferences
from surgicalsam_napari.widgets.parts.parts import let_shrink

OTHER_MACHINE = "On another machine…"


class DeviceChoice(QComboBox):
    """A dropdown of devices by name: auto, cpu, cuda:0, …, mps, then HOST:PORT of the workers that were used before.

    Signals
    -------
    chosen : the name of the device that a person chose
    other_wanted : a person wants a worker that is not in the list
    """

    chosen = Signal(str)
    other_wanted = Signal()

    def __init__(self) -> None:
        super().__init__()
        let_shrink(self)
        self.activated.connect(self._on_activated)
        self.addItem(f"Automatic: {describe_device(choose_device('auto'))}", "auto")
        names = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        for name in names + ["mps"] * torch.backends.mps.is_available():
            self.addItem(describe_device(torch.device(name)), name)
        for worker in read_preferences().workers:
            self.addItem(worker.address, worker.address)
        self.insertSeparator(self.count())
        self.addItem(OTHER_MACHINE, None)
        self._shown = "auto"

    def show_device(self, name: str) -> None:
        """Show the device of this name; a worker that is not in the list is added."""
        if self.findData(name) < 0:
            self.insertItem(self.count() - 2, name, name)
        self.setCurrentIndex(self.findData(name))
        self._shown = name

    def _on_activated(self) -> None:
        name = self.currentData()
        if name is None:
            self.show_device(self._shown)
            self.other_wanted.emit()
        else:
            self._shown = name
            self.chosen.emit(name)
