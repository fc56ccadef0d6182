"""While the folder of the project or its video is away, read-only or full: says so, and tries again until all is saved."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from napari.utils.notifications import show_info
from qtpy.QtCore import QObject, Qt, QTimer, Signal
from qtpy.QtWidgets import QApplication

from surgicalsam_napari.errors import SurgicalSAMError, UnreachableVideoError, VideoError
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.store import Project
from surgicalsam_napari.widgets.parts.message import NOTICE, show_notice
from surgicalsam_napari.widgets.parts.parts import Panel
from surgicalsam_napari.widgets.parts.question_box import question_box
from surgicalsam_napari.widgets.runs.background import run_in_background
from surgicalsam_napari.widgets.source.saved_mark import SavedMark
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers
from surgicalsam_napari.widgets.viewer.session_signals import SessionSignals

TRY_AGAIN_MS = 2000
AFTER_STROKE_MS = 300  # the message moves the panel, and must not do so below a stroke
KEPT = (
    "{reason} What you paint is kept in memory, and saved by itself as soon as that is possible. Do not close this window "
    "before."
)
AWAY = "{reason} It is read again by itself when it is back."
BACK = "The folder is there again, and all that you painted is saved ({time:%H:%M:%S})."


class LostFolder(QObject):
    """Follows the open project: shows whether strokes wait to be saved, and saves them.

    Parameters
    ----------
    mark : at the end of the heading *Video*
    panel : its message says what happens
    """

    saved = Signal()  # the project can be read and written again, and nothing is unsaved
    _noted = Signal()

    def __init__(self, layers: ViewerLayers, mark: SavedMark, panel: Panel, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.layers, self.mark, self.panel = layers, mark, panel
        self._project: Project | None = None
        self._video_error: str | None = None
        self._is_trying = False
        self._timer = QTimer(self, interval=TRY_AGAIN_MS)
        self._timer.timeout.connect(self.try_again)
        self._noted.connect(self._update)
        self._text = ""
        self._say_soon = QTimer(self, singleShot=True, interval=AFTER_STROKE_MS)
        self._say_soon.timeout.connect(self._say_now)

    def subscribe(self, signals: SessionSignals) -> None:
        """Follow the open project."""
        signals.project_changed.connect(lambda: self.follow(signals.session.project))

    def follow(self, project: Project | None) -> None:
        """Keep strokes of this project from now on that cannot be written at once."""
        if self._project is not None:
            self._project.labels.unsaved.changed.disconnect(self._note)
            self._project.labels.unsaved.is_watched = False
        self._project, self._video_error, self._text = project, None, ""
        self._timer.stop()
        self._say_soon.stop()
        if project is not None:
            project.labels.unsaved.is_watched = True
            project.labels.unsaved.changed.connect(self._note)
            project.video.on_unreadable = self._note_video

    @property
    def unsaved_frames(self) -> list[int]:
        """The frames of the open project with strokes that are not saved yet."""
        return [] if self._project is None else self._project.labels.unsaved.frame_indices

    def try_again(self) -> None:
        """Try to save and to read, in the background: a share that is away may take long to say so."""
        project = self._project
        if project is not None and not self._is_trying:
            self._is_trying = True
            run_in_background(
                lambda: _save(project), lambda _result: self._on_tried(project, None), lambda e: self._on_tried(project, e)
            )

    def may_leave(self, doing: str) -> bool:
        """Whether the project may be closed now; if strokes are unsaved, try to save them, then ask.

        Parameters
        ----------
        doing : what leads to it, as a button says it, such as "Close"
        """
        project = self._project
        if project is None or not self.unsaved_frames:
            return True
        with suppress(SurgicalSAMError):
            project.save_unsaved()
        if not (frames := self.unsaved_frames):
            return True
        text = f"What you painted in {listed(frames)} is not saved yet."
        details = f"{project.labels.unsaved.reason or ''}\n\nWait until it is saved, or lose it."
        box = question_box(self.panel.window(), text, details, f"{doing} and lose it", "Wait")
        accepted: list[bool] = []
        box.accepted.connect(lambda: accepted.append(True))
        box.exec()
        return bool(accepted)

    def _note(self) -> None:
        with suppress(RuntimeError):  # the window was closed
            self._noted.emit()

    def _note_video(self, error: VideoError) -> None:
        if isinstance(error, UnreachableVideoError):
            self._video_error = str(error)
            self._note()
        else:  # a damaged frame stays so
            self._say(str(error))

    def _update(self) -> None:
        """Show the state of the project; start to try again if it cannot be read or written."""
        if self._project is None:
            return
        reason = self._project.labels.unsaved.reason
        if self.unsaved_frames or reason is not None:
            self.mark.show_unsaved(reason or "", self.unsaved_frames)
            self._say((KEPT if self.unsaved_frames else AWAY).format(reason=reason))
        elif self._video_error is not None:
            self._say(self._video_error)
        if (reason is not None or self._video_error is not None) and not self._timer.isActive():
            self._timer.start()

    def _say(self, text: str) -> None:
        if text != self._text:
            self._text = text
            self._say_soon.start()

    def _say_now(self) -> None:
        if QApplication.mouseButtons() != Qt.MouseButton.NoButton:
            self._say_soon.start()
        else:
            show_notice(self._text, self.panel)

    def _on_tried(self, project: Project, error: Exception | None) -> None:
        self._is_trying = False
        if project is not self._project:
            return
        if error is not None:
            project.labels.unsaved.note(str(error))
            self._update()
            return
        self._timer.stop()
        self._video_error = None
        self.mark.show_saved()
        for layer in (self.layers.image, self.layers.labels):
            if layer is not None:
                layer.refresh(thumbnail=False, extent=False)  # a frame that still cannot be read is noted again
        if self._video_error is None:
            self._text = ""
            self._say_soon.stop()
            self.panel.message.add(BACK.format(time=datetime.now()), NOTICE)
            show_info(BACK.format(time=datetime.now()))
            self.saved.emit()


def listed(frame_indices: list[int]) -> str:
    """ "frame 7"; "3 frames (4, 7, 9)"; the first five of more."""
    shown = [f"{index:,}" for index in frame_indices[:5]]
    if len(frame_indices) == 1:
        return f"frame {shown[0]}"
    return f"{counted(len(frame_indices), 'frame')} ({', '.join([*shown, '…'] if len(frame_indices) > 5 else shown)})"


def _save(project: Project) -> None:
    project.save_unsaved()
    project.labels.frame(0)
