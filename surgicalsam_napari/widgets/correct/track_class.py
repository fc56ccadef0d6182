"""The class of a whole track: a count of the frames that are a person's, a question if there are any, and the change."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from qtpy.QtWidgets import QVBoxLayout, QWidget

from surgicalsam_napari.editing import EditOutcome, change_track_class, frames_of_a_person
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.store import Project
from surgicalsam_napari.widgets.parts.progress_strip import Question

Start = Callable[[str, Callable[[], Generator[Any, None, Any]], Callable[[Any], None]], None]


class TrackClassChange(QWidget):
    """Changes the class of a track at once, or asks first if pixels of a person would have to change.

    Parameters
    ----------
    start : starts a run: its title, its generator, and what to do with the result, which is None if it was cancelled
    done : what to do with the outcome of a change: its title, and the outcome or None
    """

    def __init__(self, start: Start, done: Callable[[str, EditOutcome | None], None]) -> None:
        super().__init__()
        self._start, self._done = start, done
        self._asked: tuple[Project, int, int] | None = None  # project, track and class of the question
        self.question = Question()
        self.question.confirmed.connect(lambda: self._on_answer(include_edited=True))
        self.question.declined.connect(lambda: self._on_answer(include_edited=False))
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.question)
        self.hide()

    @property
    def is_asking(self) -> bool:
        return self._asked is not None

    def begin(self, project: Project, track_id: int, class_id: int) -> None:
        """Count the frames that are a person's, then change the class or ask."""

        def on_counted(frames: tuple[int, ...] | None) -> None:
            if frames:
                self._ask(project, track_id, class_id, len(frames))
            elif frames is not None:
                self._change(project, track_id, class_id, include_edited=False)

        self._start("Looking for your corrections", lambda: frames_of_a_person(project, track_id, class_id), on_counted)

    def forget(self) -> None:
        """Drop the question: another project is open."""
        self._asked = None
        self.hide()

    def _ask(self, project: Project, track_id: int, class_id: int, count: int) -> None:
        self._asked = project, track_id, class_id
        self.question.put(
            f"{_title(project, track_id, class_id)}. In {counted(count, 'frame')}, a person painted or verified pixels of "
            "it in another class. Change these pixels, too?",
            "Change them, too",
            "Leave them as they are",
        )
        self.show()

    def _on_answer(self, *, include_edited: bool) -> None:
        asked = self._asked
        self.forget()
        if asked is not None:
            self._change(*asked, include_edited=include_edited)

    def _change(self, project: Project, track_id: int, class_id: int, *, include_edited: bool) -> None:
        title = _title(project, track_id, class_id)
        self._start(
            title,
            lambda: change_track_class(project, track_id, class_id, include_edited=include_edited),
            lambda outcome: self._done(title, outcome),
        )


def _title(project: Project, track_id: int, class_id: int) -> str:
    return f"{project.tracks.table.titles(project.classes)[track_id]} becomes {project.classes.by_id(class_id).name}"
