"""Panel *Model*: checkpoint, encoder and device, and the download of other encoders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from weakref import WeakKeyDictionary

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from surgicalsam_napari.errors import CheckpointError, WorkerError
from surgicalsam_napari.model.checkpoint import AUTHORS_ENCODER, read_checkpoint_info
from surgicalsam_napari.model.device import choose_device, describe_device
from surgicalsam_napari.model.digest import checkpoint_record
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.model.zoo import find_weights, weights_named
from surgicalsam_napari.remote.address import is_address
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project
from surgicalsam_napari.widgets.parts.file_dialogs import FileKind, ask_for_file
from surgicalsam_napari.widgets.parts.message import bring_into_view, show_failure, show_notice
from surgicalsam_napari.widgets.parts.parts import SPACING, ElidedLabel, Panel, caption, note
from surgicalsam_napari.widgets.runs.background import run_in_background
from surgicalsam_napari.widgets.source.checkpoint_picker import CheckpointPicker
from surgicalsam_napari.widgets.source.device_choice import DeviceChoice
from surgicalsam_napari.widgets.source.last_model import LastModel
from surgicalsam_napari.widgets.source.weights_dialog import WeightsDialog
from surgicalsam_napari.widgets.source.worker_dialog import WorkerDialog
from surgicalsam_napari.widgets.source.worker_status import WorkerStatus
from surgicalsam_napari.widgets.viewer.session_signals import SessionSignals

ENCODER_FILES = "SAM checkpoints (*.pth *.pt *.safetensors);;All files (*)"
NEEDS_WEIGHTS = "To use {name}, choose or download the image encoder it was trained with, {title}:"


class LoadedFrom(NamedTuple):
    """What a model is loaded from: None for the bundled checkpoint; None for the encoder's known weights on this disk."""

    checkpoint: Path | None = None
    encoder_weights: Path | None = None
    device: str = "auto"


class ModelPanel(Panel):
    """Loads models in the background; after an error, the current model stays in use.

    Attributes
    ----------
    in_use : checkpoint, encoder weights and device of the model in use

    Signals: `summarized` (what the folded panel says) and `attention_wanted` (a model was not loaded).
    """

    loading_changed = Signal(bool)
    summarized = Signal(str)
    attention_wanted = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__("Model")
        self.session = session
        self.is_loading = False
        self.in_use = self._wanted = LoadedFrom()
        self._is_new = False  # whether the checkpoint being loaded was not listed before
        self._sources: WeakKeyDictionary[SurgicalSAM, LoadedFrom] = WeakKeyDictionary()
        self._failed: LoadedFrom | None = None  # could not be loaded; a missing file may be chosen or downloaded
        self.last_model = LastModel(session, self)
        self._own_encoder_weights: dict[str, Path] = {}  # files chosen by the user, by the name of the known weights
        self._dialog: WeightsDialog | None = None
        self._worker_dialog: WorkerDialog | None = None
        self._build()
        self.show_model()

    def subscribe(self, signals: SessionSignals) -> None:
        """From now on, describe the model in use, and list the checkpoints of the open project."""
        signals.project_changed.connect(self._follow_model)
        signals.project_changed.connect(lambda: self.show_trained(self.session.project))
        signals.project_changed.connect(self.last_model.restore)
        signals.model_changed.connect(self.show_model)

    def load(
        self,
        checkpoint: Path | None = None,
        encoder_weights: Path | None = None,
        device: str | None = None,
        *,
        keeps_message: bool = False,
    ) -> None:
        """Load a checkpoint in the background; None is the checkpoint that comes with the plugin.

        Parameters
        ----------
        encoder_weights : by default the file chosen before for the same encoder, else the known weights on this disk
        device : by default that of the dropdown
        keeps_message : whether the message in the panel stays: it says why this checkpoint is loaded instead of another
        """
        if self.is_loading:
            return
        if not keeps_message:
            self.message.clear()
        needed = _needed_weights(checkpoint)
        if encoder_weights is None and needed is not None:
            encoder_weights = self._own_encoder_weights.get(needed)
        self._forget_failure()
        self._wanted = LoadedFrom(checkpoint, encoder_weights, device or self.device.currentData())
        self._is_new = checkpoint is not None and not self.checkpoint.is_listed(checkpoint)
        self.checkpoint.show_checkpoint(checkpoint)
        self._show_encoder_weights(*self._wanted[:2])
        self._set_loading(True)
        session, (path, weights, device_name) = self.session, self._wanted
        classes = session.classes if path is not None and path.suffix != ".safetensors" else None
        self.last_model.on_load()

        def prepare() -> SurgicalSAM:
            model = session.prepare_model(path, encoder_weights=weights, device=device_name, classes=classes)
            checkpoint_record(model)  # its digest takes a moment, and is kept
            return model

        run_in_background(prepare, self._on_loaded, self._on_failed)

    def add_checkpoint(self, path: Path, title: str) -> None:
        """List a checkpoint under this title, without loading it."""
        self.checkpoint.add(path, title)

    def adopt(self, source: LoadedFrom) -> None:
        """Show that the session uses a model of this source, which a run has loaded."""
        self._forget_failure()
        self._use(source)
        self.show_trained(self.session.project)
        self.show_model()
        self.last_model.remember()

    def _use(self, source: LoadedFrom) -> None:
        self.in_use = self._wanted = source
        if self.session.model is not None:
            self._sources[self.session.model] = source

    def _follow_model(self) -> None:
        """Parts and instruments have a model each: the session uses the other one after the switch."""
        model = self.session.model
        if model is not None and not self.is_loading and (source := self._sources.get(model)) not in (None, self.in_use):
            self.in_use = self._wanted = source

    def show_trained(self, project: Project | None) -> None:
        """List the checkpoints that were trained for this project."""
        self.checkpoint.show_trained(None if project is None else project.folder)

    def show_model(self) -> None:
        """Describe the model in use."""
        model = self.session.model
        self.worker.follow_model()
        if model is None:
            self.encoder.setText("–")
            self.checkpoint.show_none()
            self.summarized.emit("none is loaded")
            return
        path = self.in_use.checkpoint
        self.checkpoint.show_checkpoint(path)
        self.checkpoint.setToolTip(f"{path or 'Bundled with the plugin'}\nKnows {', '.join(model.classes.names)}")
        title = ENCODERS[model.encoder_id].title
        self.encoder.setText(f"{title} (untested)" if model.caution else title)
        self.encoder.setToolTip(model.caution)
        self._show_encoder_weights(*self.in_use[:2])
        place = self.in_use.device if model.embedder is not None else describe_device(model.device)
        self.summarized.emit(f"{self.checkpoint.title(path)} · {place}")

    def set_enabled(self, enabled: bool) -> None:
        """Unlock the panel, or lock it while a run uses the model."""
        for widget in (self.checkpoint, self.choose_checkpoint, self.choose_encoder_weights, self.device):
            widget.setEnabled(enabled and not self.is_loading)

    def _build(self) -> None:
        self.checkpoint, self.encoder, self.encoder_weights = CheckpointPicker(), ElidedLabel(), ElidedLabel()
        self.checkpoint.picked.connect(self.load)
        self.device, self.worker = DeviceChoice(), WorkerStatus(self.session)
        self.device.chosen.connect(self._on_device_chosen)
        self.device.other_wanted.connect(self._ask_for_worker)
        self.worker.question_asked.connect(self._on_question)
        self.choose_checkpoint = _button("Open model…", self._choose_checkpoint)
        self.choose_checkpoint.setToolTip("A SurgicalSAM checkpoint: .safetensors, or .pth as published by its authors")
        self.download = _button("Download…", self._show_downloads)
        self.download.setToolTip("Other image encoders: what each costs on this machine, and which to take")
        self.choose_encoder_weights = _button("Choose…", self._choose_encoder_weights)
        self.choose_encoder_weights.setToolTip("The own checkpoint file of SAM, or of an encoder that imitates it")
        self._weights_caption = caption("Weights")
        grid = self.add_grid()
        for row, (title, tooltip, widget) in enumerate(
            (
                ("In use", "The checkpoint: weights, and the classes that they know", self.checkpoint),
                ("Encoder", "The image encoder: reads each frame once, and keeps what it sees", self.encoder),
                ("Runs on", "The device: a GPU is many times faster", self.device),
            )
        ):
            title_label = caption(title)
            title_label.setToolTip(tooltip)
            grid.addWidget(title_label, row, 0)
            grid.addWidget(widget, row, 1, 1, 2)
        grid.addWidget(self.worker, 3, 1, 1, 2)
        grid.addWidget(self._weights_caption, 4, 0)
        grid.addWidget(self.encoder_weights, 4, 1)
        grid.addWidget(self.choose_encoder_weights, 4, 2)
        buttons = QHBoxLayout()
        buttons.setSpacing(SPACING)
        buttons.addWidget(self.choose_checkpoint, 1)
        buttons.addWidget(self.download, 1)
        self.column.addLayout(buttons)
        self._build_missing()

    def _build_missing(self) -> None:
        """What a checkpoint that could not be loaded needs; the rest of the panel shows what is loaded."""
        self.missing, self.missing_text = QWidget(), note()
        self.choose_missing = _button("Choose the file…", self._choose_missing)
        column = QVBoxLayout(self.missing)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACING)
        column.addWidget(self.missing_text)
        column.addWidget(self.choose_missing)
        self.column.insertWidget(self.column.indexOf(self.message) + 1, self.missing)
        self.missing.hide()

    def _show_encoder_weights(self, checkpoint: Path | None, encoder_weights: Path | None) -> None:
        name = _needed_weights(checkpoint)
        for widget in (self._weights_caption, self.encoder_weights, self.choose_encoder_weights):
            widget.setVisible(name is not None)
        if name is not None:
            file = encoder_weights or find_weights(name)
            title = weights_named(name).title
            self.encoder_weights.setText(f"{title} not found" if file is None else file.name)
            self.encoder_weights.setToolTip(
                f"{checkpoint} needs the weights of {title}: {file or 'download or choose them'}"
            )

    def _on_loaded(self, model: SurgicalSAM) -> None:
        self.in_use = self._wanted
        needed = _needed_weights(self.in_use.checkpoint)
        if needed is not None and self.in_use.encoder_weights is not None:
            self._own_encoder_weights[needed] = self.in_use.encoder_weights
        self._set_loading(False)
        self._sources[model] = self.in_use
        self.session.use_model(model)
        if model.caution:
            self.attention_wanted.emit()
            show_notice(model.caution, self)
        self.last_model.on_loaded(model)

    def _on_failed(self, error: Exception) -> None:
        self._failed, self._wanted = self._wanted, self.in_use
        self._set_loading(False)
        self.device.show_device(self.in_use.device)
        self.checkpoint.show_checkpoint(self.in_use.checkpoint)
        if self._is_new and self._failed.checkpoint is not None:
            self.checkpoint.remove(self._failed.checkpoint)
        self.show_model()
        self._show_encoder_weights(*self.in_use[:2])
        self._show_missing(self._failed)
        self.attention_wanted.emit()
        show_failure(error, self)
        self.last_model.on_failed()
        if isinstance(error, WorkerError) and self.session.model is None and not self.is_loading:
            self.load(*self._failed[:2], device="auto", keeps_message=True)

    def _show_missing(self, failed: LoadedFrom) -> None:
        needed = _needed_weights(failed.checkpoint)
        is_there = needed is not None and (failed.encoder_weights is not None or find_weights(needed) is not None)
        if needed is not None and failed.checkpoint is not None and not is_there:
            title = weights_named(needed).title
            if failed.checkpoint.suffix != ".safetensors":
                title += " (or, untested, one that imitates it)"
            self.missing_text.setText(NEEDS_WEIGHTS.format(name=failed.checkpoint.name, title=title))
            self.missing.show()

    def _forget_failure(self) -> None:
        self._failed = None
        self.missing.hide()

    def _set_loading(self, is_loading: bool) -> None:
        self.is_loading = is_loading
        if is_loading:
            self.encoder.setText("Loading…")
            self.summarized.emit("Loading…")
        self.set_enabled(not is_loading)
        self.loading_changed.emit(is_loading)

    def _choose_checkpoint(self) -> None:
        filters = "Checkpoints (*.safetensors *.pth);;All files (*)"
        path = ask_for_file(self, FileKind.CHECKPOINTS, "Choose a SurgicalSAM checkpoint", filters)
        if path is not None:
            self.load(path)

    def _choose_encoder_weights(self) -> None:
        self._ask_for_weights(self.in_use.checkpoint)

    def _choose_missing(self) -> None:
        if self._failed is not None:
            self._ask_for_weights(self._failed.checkpoint)

    def _ask_for_weights(self, checkpoint: Path | None) -> None:
        path = ask_for_file(self, FileKind.CHECKPOINTS, "Choose the encoder's weights", ENCODER_FILES)
        if path is not None:
            self.load(checkpoint, path)

    def _on_device_chosen(self, name: str) -> None:
        if name != self.in_use.device or self.worker.is_left:
            self.load(*self.in_use[:2], device=name)

    def _ask_for_worker(self) -> None:
        if self._worker_dialog is None:
            self._worker_dialog = WorkerDialog(self.session, self)
            self._worker_dialog.chosen.connect(self._on_worker_chosen)
        self._worker_dialog.refresh()
        self._worker_dialog.show()
        self._worker_dialog.raise_()

    def _on_worker_chosen(self, address: str) -> None:
        self.device.show_device(address)
        self.load(*self.in_use[:2], device=address)

    def _on_question(self) -> None:
        self.attention_wanted.emit()
        bring_into_view(self.worker)

    def _show_downloads(self) -> None:
        if self._dialog is None:
            self._dialog = WeightsDialog(self.session, self)
            self._dialog.downloaded.connect(self._on_downloaded)
        self._dialog.refresh()
        name = self.device.currentData()
        self._dialog.show_costs(choose_device("auto" if is_address(name) else name))
        self._dialog.show()
        self._dialog.raise_()

    def _on_downloaded(self, _name: str) -> None:
        """Load again a checkpoint that failed because weights were missing."""
        if self._failed is not None and not self.is_loading:
            self.load(*self._failed)


def _needed_weights(checkpoint: Path | None) -> str | None:
    """Name of the encoder weights that this checkpoint needs as a separate file; the bundled one includes its own."""
    if checkpoint is None:
        return None
    if checkpoint.suffix != ".safetensors":
        return ENCODERS[AUTHORS_ENCODER].weights
    try:
        info = read_checkpoint_info(checkpoint)
    except CheckpointError:  # loading it reports the error
        return None
    return None if info.includes_encoder else ENCODERS[info.encoder_id].weights


def _button(text: str, clicked: Callable[[], None]) -> QPushButton:
    button = QPushButton(text)
    button.clicked.connect(lambda _checked: clicked())
    return button
