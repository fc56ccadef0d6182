"""Opens each project with the model that was last used on it, and remembers in the project which one that is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject

from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.model.digest import checkpoint_record
from surgicalsam_napari.session import Session
from surgicalsam_napari.store.manifest import ModelRecord
from surgicalsam_napari.widgets.parts.message import show_failure, show_notice

if TYPE_CHECKING:
    from surgicalsam_napari.model.surgical_sam import SurgicalSAM

MISSING = (
    "This project was last used with the model “{name}”, which is no longer at {path}. The bundled model is in use now. Put "
    "the file back and open the project again, or choose another model here."
)
CHANGED = "“{name}” has changed since it was last used on this project. New masks may differ from those that are there."


class LastModel(QObject):
    """The memory of the open project for its model.

    Parameters
    ----------
    panel : the `ModelPanel`, which loads models and says when it did
    """

    def __init__(self, session: Session, panel: Any) -> None:
        super().__init__(panel)
        self.session, self.panel = session, panel
        self._is_due = False  # another project is open, and its model has not been looked at
        self._is_chosen = False  # whether a person chose the model that is being loaded, for the open project
        self._restoring: ModelRecord | None = None

    def restore(self) -> None:
        """Load the model that the open project was last used with; if another one is being loaded, after that."""
        self._is_due = True
        self._restore_if_due()

    def remember(self) -> None:
        """Let the open project remember the model in use, because it works on it now."""
        project, model = self.session.project, self.session.model
        if project is None or model is None:
            return
        used = self.panel.in_use
        digest = checkpoint_record(model)["digest"]
        record = ModelRecord.of(digest, model.name, used.checkpoint, used.encoder_weights, project.folder)
        try:
            project.remember_model(record)
        except SurgicalSAMError as error:
            show_failure(error, self)

    def on_load(self) -> None:
        """The panel begins to load a model."""
        self._is_chosen, self._restoring = self.session.project is not None, None

    def on_loaded(self, model: SurgicalSAM) -> None:
        """The model is in use."""
        if self._restoring is not None and checkpoint_record(model)["digest"] != self._restoring.digest:
            show_notice(CHANGED.format(name=self._restoring.name), self)
        self._restoring = None
        if not self._restore_if_due() and self._is_chosen:
            self.remember()

    def on_failed(self) -> None:
        """The model could not be loaded."""
        self._restoring = None
        self._restore_if_due()

    def _restore_if_due(self) -> bool:
        """Whether a model is being loaded for the open project."""
        if not self._is_due or self.panel.is_loading:
            return False
        self._is_due = False
        project = self.session.project
        record = None if project is None else project.manifest.model_in_use
        if project is None or record is None:
            return False
        checkpoint = record.checkpoint(project.folder)
        if checkpoint is not None and not checkpoint.is_file():
            self._load(None, None)
            show_notice(MISSING.format(name=record.name, path=checkpoint), self)
            return bool(self.panel.is_loading)
        weights = None if record.encoder_weights is None else Path(record.encoder_weights)
        self._load(checkpoint, weights if weights is not None and weights.is_file() else None)
        if self.panel.is_loading:
            self._restoring = record
        return bool(self.panel.is_loading)

    def _load(self, checkpoint: Path | None, encoder_weights: Path | None) -> None:
        if (checkpoint, encoder_weights) != self.panel.in_use[:2] or self.session.model is None:
            self.panel.load(checkpoint, encoder_weights)
            self._is_chosen = False
