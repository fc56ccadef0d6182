"""The session's signals as Qt signals, so that slots run in the GUI thread for a session in any thread."""

from __future__ import annotations

from qtpy.QtCore import QObject, Signal

from surgicalsam_napari.session import Session


class SessionSignals(QObject):
    """Relays `Session`'s psygnals; Qt queues them when they come from a worker thread.

    Slots run in the order of connection. `MainWidget` subscribes all parts of the window to one object of this class, and
    states the order that they need.
    """

    project_changed = Signal()
    contents_replaced = Signal()
    model_changed = Signal()
    class_selected = Signal(int)

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.session = session
        session.project_changed.connect(self._relay_project)
        session.contents_replaced.connect(self._relay_contents)
        session.model_changed.connect(self._relay_model)
        session.class_selected.connect(self._relay_class)

    def _relay_project(self) -> None:
        self.project_changed.emit()

    def _relay_contents(self) -> None:
        self.contents_replaced.emit()

    def _relay_model(self) -> None:
        self.model_changed.emit()

    def _relay_class(self, class_id: int) -> None:
        self.class_selected.emit(class_id)
