"""The dropdown of checkpoints: the bundled one, shared ones, those trained for the open project, and those chosen here."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox

from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.model.checkpoint import BEST_OF_A_RUN
from surgicalsam_napari.model.shared_models import shared_models
from surgicalsam_training.reports import ResultReport
from surgicalsam_training.run.run_folder import RunFolder

BUNDLED = "Light (bundled)"
NONE_LOADED = "none loaded"
TRAINING_FOLDER = "training"  # in a project folder, for the runs that were started in the window
LIST_WIDTH = 300
LEARNED = "learned"  # why a run of *Learn* ended


class CheckpointPicker(QComboBox):
    """Emits `picked` with the path that the user chose, None for the bundled one; `show_checkpoint` emits nothing."""

    picked = Signal(object)  # Path or None

    def __init__(self) -> None:
        super().__init__()
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        self.view().setMinimumWidth(LIST_WIDTH)
        self._trained: dict[Path, str] = {}
        self._added: dict[Path, str] = {}
        self._shown: Path | None = None
        self._is_none_shown = False
        self.setPlaceholderText(NONE_LOADED)
        self.activated.connect(self._on_activated)
        self._fill()

    def show_trained(self, project_folder: Path | None) -> None:
        """List the checkpoints trained for this project; the selected checkpoint stays listed in any case."""
        shown_title = self.title(self._shown)
        self._trained = {} if project_folder is None else trained_checkpoints(project_folder)
        if self._shown is not None and self._shown not in self._titles():
            self._added[self._shown] = shown_title
        self._fill()

    def add(self, path: Path, title: str | None = None) -> None:
        """List a checkpoint; without a title, a listed checkpoint keeps its title."""
        path = path.absolute()
        if title is not None or path not in self._titles():
            self._added[path] = title or path.stem
            self._fill()

    def remove(self, path: Path) -> None:
        """Remove a checkpoint that `add` listed; checkpoints of the project stay."""
        self._added.pop(path.absolute(), None)
        self._fill()

    def show_checkpoint(self, path: Path | None) -> None:
        """Select this checkpoint; list it if necessary."""
        self._shown, self._is_none_shown = None if path is None else path.absolute(), False
        if path is not None:
            self.add(path)
        self._fill()

    def show_none(self) -> None:
        """Show that no checkpoint is loaded; every one can be chosen."""
        self._is_none_shown = True
        self._fill()

    def title(self, path: Path | None) -> str:
        """The title of this checkpoint in the list."""
        if path is None:
            return BUNDLED
        return self._titles().get(path.absolute(), path.stem)

    def is_listed(self, path: Path) -> bool:
        return path.absolute() in self._titles()

    def _titles(self) -> dict[Path, str]:
        return {**_shared_checkpoints(), **self._trained, **self._added}  # in the order in which they are listed

    def _fill(self) -> None:
        self.clear()
        self.addItem(BUNDLED, None)
        self.setItemData(0, "Bundled with the plugin", Qt.ItemDataRole.ToolTipRole)
        self.setCurrentIndex(0)
        for row, (path, title) in enumerate(self._titles().items(), start=1):
            self.addItem(title, path)
            score = score_of(path)
            self.setItemData(row, f"{score}\n{path}" if score else str(path), Qt.ItemDataRole.ToolTipRole)
            if path == self._shown:
                self.setCurrentIndex(row)
        if self._is_none_shown:
            self.setCurrentIndex(-1)

    def _on_activated(self, index: int) -> None:
        chosen = self.itemData(index)
        if chosen != self._shown or self._is_none_shown:
            self.picked.emit(chosen)


def _shared_checkpoints() -> dict[Path, str]:
    """Path and title of the shared models on this machine; none if the models folder is not there."""
    try:
        return {model.path.absolute(): model.label for model in shared_models().values() if model.is_here}
    except SurgicalSAMError:
        return {}


def trained_checkpoints(project_folder: Path) -> dict[Path, str]:
    """Path and title of the checkpoints that were trained for a project and not discarded, newest first."""
    checkpoints = [(path.stat().st_mtime, path) for path in (project_folder / TRAINING_FOLDER).glob(f"*/{BEST_OF_A_RUN}")]
    titles = {path.absolute(): run_title(path.parent, modified) for modified, path in sorted(checkpoints, reverse=True)}
    return {path: title for path, title in titles.items() if title is not None}


def run_title(folder: Path, modified: float) -> str | None:
    """ "Trained 23 Nov, 14:05 · IoU 87.3", or "Learned …"; without a score if it rests on too few frames.

    None for a run that is still running or was discarded.
    """
    moment = datetime.fromtimestamp(modified)
    title = f"{moment.day} {moment:%b, %H:%M}"
    try:
        run = RunFolder.open(folder)
        if run.discarded or run.is_running:
            return None
        result = run.result()
    except SurgicalSAMError:  # a damaged run folder may still hold a good checkpoint
        return f"Trained {title}"
    title = f"{'Learned' if result is not None and result.reason == LEARNED else 'Trained'} {title}"
    score = _score(result)
    return title if score is None else f"{title} · {score}"


def score_of(checkpoint: Path) -> str:
    """ "IoU 87.3 on 24 corrected frames" for the checkpoint of a run; empty without a score that rests on enough frames."""
    try:
        result = RunFolder.open(checkpoint.parent).result()
    except SurgicalSAMError:
        return ""
    score = _score(result)
    if score is None or result is None or result.validation_frames is None:
        return score or ""
    return f"{score} on {counted(result.validation_frames, 'corrected frame')}"


def _score(result: ResultReport | None) -> str | None:
    if result is None or result.after is None or result.after.challenge_iou is None or not result.is_judged:
        return None
    return f"IoU {result.after.challenge_iou:.1f}"
