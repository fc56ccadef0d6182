"""Section *Propagate*: carry the selected class from the frame in view to other frames, or fill between corrected ones."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QPushButton, QSpinBox

from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.corrections import gaps_between
from surgicalsam_napari.widgets.correct.section_parts import (
    LABELS_ARE_BUSY,
    ActionStrip,
    selected_class_name,
    show_text,
    why_not_editable,
)
from surgicalsam_napari.widgets.parts.message import show_failure
from surgicalsam_napari.widgets.parts.parts import SPACING, Panel, caption, note
from surgicalsam_napari.widgets.runs.run import Run
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers

DEFAULT_FRAMES = 50


class PropagateSection(Panel):
    """The number of frames, Backward and Forward, *Fill between*, progress, and where and why the propagation stopped."""

    stopped = Signal(int, str)  # frame index, reason

    def __init__(self, session: Session, layers: ViewerLayers, run: Run) -> None:
        super().__init__("Propagate")
        self.session, self.layers, self.run = session, layers, run
        self._project: Project | None = None
        self._last: Any = None  # PropagationReport
        self._stopped_at: int | None = None
        self._is_filling = False
        self._build()
        self._connect()
        self.refresh()

    def refresh(self) -> None:
        """Enable the controls that can be used now, and show what is missing."""
        self._follow_project()
        missing = self._what_is_missing()
        frame, last_frame = self.layers.current_frame, self._frame_count - 1
        self.backward_button.setEnabled(missing is None and not self.run.is_running and frame > 0)
        self.forward_button.setEnabled(missing is None and not self.run.is_running and frame < last_frame)
        self.limit.setEnabled(not self.to_the_end.isChecked())
        show_text(self.hint, missing or f"Propagates {selected_class_name(self.session)} from frame {frame}.")
        self._refresh_fill()

    def forward(self) -> None:
        """Carry the class into later frames."""
        if self.forward_button.isEnabled():
            self._start(1)

    def backward(self) -> None:
        """Carry the class into earlier frames."""
        if self.backward_button.isEnabled():
            self._start(-1)

    def fill_between(self) -> None:
        """Carry the corrected masks into all frames between corrected frames."""
        if self.fill_button.isEnabled():
            self._start_filling()

    def go_to_stop(self) -> None:
        """Show the frame where the last propagation stopped."""
        if self._stopped_at is not None:
            self.layers.show_frame(self._stopped_at)

    def _build(self) -> None:
        self.limit = QSpinBox()
        self.limit.setRange(1, 1_000_000)
        self.limit.setValue(DEFAULT_FRAMES)
        self.limit.setSuffix(" frames")
        self.limit.setMinimumWidth(90)
        self.to_the_end = QCheckBox("to the end")
        self.backward_button, self.forward_button = QPushButton("◀  Backward"), QPushButton("Forward  ▶")
        self.hint, self.outcome = note(), note()
        self.go_there = QPushButton("Go there")
        self.strip = ActionStrip(self.run, self.layers)
        directions = QHBoxLayout()
        directions.setSpacing(SPACING)
        directions.addWidget(self.backward_button, 1)
        directions.addWidget(self.forward_button, 1)
        grid = self.add_grid()
        grid.addWidget(caption("At most"), 0, 0)
        grid.addWidget(self.limit, 0, 1)
        grid.addWidget(self.to_the_end, 1, 1)
        self.column.addLayout(directions)
        self.column.addWidget(self.hint)
        self.fill_button, self.all_classes = QPushButton("Fill between corrected frames"), QCheckBox("all classes")
        self.fill_hint = note()
        self.column.addWidget(self.fill_button)
        self.column.addWidget(self.all_classes)
        self.column.addWidget(self.fill_hint)
        self.column.addWidget(self.strip)
        outcome_row = QHBoxLayout()
        outcome_row.setSpacing(SPACING)
        outcome_row.addWidget(self.outcome, 1)
        outcome_row.addWidget(self.go_there)
        self.column.addLayout(outcome_row)
        self._show_outcome("")

    def _connect(self) -> None:
        self.backward_button.clicked.connect(self.backward)
        self.forward_button.clicked.connect(self.forward)
        self.fill_button.clicked.connect(self.fill_between)
        self.all_classes.toggled.connect(self.refresh)
        self.go_there.clicked.connect(self.go_to_stop)
        self.to_the_end.toggled.connect(self.refresh)
        self.strip.reported.connect(self._on_report)
        self.strip.finished.connect(self._on_finished)
        self.run.started.connect(self.refresh)
        self.run.finished.connect(lambda _is_complete: self.refresh())
        self.layers.viewer.dims.events.current_step.connect(self._on_frame)

    @property
    def _frame_count(self) -> int:
        return 0 if self.session.project is None else self.session.project.video.info.frame_count

    def _what_is_missing(self) -> str | None:
        missing = why_not_editable(self.session)
        if missing is not None:
            return missing
        if self.session.model is None:
            return "Choose a model first (Model)."
        if self.run.is_running and not self.strip.is_mine:
            return LABELS_ARE_BUSY
        return None

    def _frame_indices(self, direction: int) -> list[int]:
        """The frames to process in their order, starting next to the frame in view."""
        start = self.layers.current_frame
        last = self._frame_count - 1 if direction > 0 else 0
        frames = list(range(start + direction, last + direction, direction))
        return frames if self.to_the_end.isChecked() else frames[: self.limit.value()]

    def _start(self, direction: int) -> None:
        # imported here because torch takes seconds to import
        from surgicalsam_napari.propagation.propagate import propagate_class

        project, model, class_id = self.session.project, self.session.model, self.session.selected_class_id
        start, frame_indices, name = (
            self.layers.current_frame,
            self._frame_indices(direction),
            selected_class_name(self.session),
        )
        if project is None or model is None or class_id is None:
            return
        self.layers.ensure_labels()
        self._clear_outcome()
        try:
            is_shown = (project.labels[start] == class_id).any()
        except ProjectError as error:
            show_failure(error, self)
            return
        if not is_shown:
            self._show_outcome(f"There is no {name} in frame {start} to propagate. Click or paint it first.")
            return
        title = f"Propagate {name} from frame {start} {'forward' if direction > 0 else 'backward'}"

        def reports() -> Generator[Any, None, None]:
            with project.action(title, len(frame_indices)) as action:
                yield from propagate_class(project, model, class_id, start, frame_indices, action=action)

        self.strip.start(title, reports)

    # ---- fill between

    def _refresh_fill(self) -> None:
        project = self.session.project
        is_busy = self.run.is_running and not self.strip.is_mine
        if project is None or is_busy or why_not_editable(self.session) is not None:
            self.fill_button.setEnabled(False)
            show_text(self.fill_hint, "")  # the hint above gives the reason
            return
        gaps = gaps_between(project, self._class_ids_to_fill())
        self.fill_button.setEnabled(bool(gaps) and not self.run.is_running)
        if gaps:
            frames = {index for gap in gaps for index in gap.frame_indices}
            text = f"Fills {counted(len(frames), 'frame')} in {counted(len(gaps), 'gap')}. What you painted stays."
        else:
            name = "a class" if self.all_classes.isChecked() else selected_class_name(self.session)
            text = f"To fill between, correct {name} in at least two frames."
        show_text(self.fill_hint, text)

    def _class_ids_to_fill(self) -> list[int]:
        if self.all_classes.isChecked():
            return list(self.session.classes.ids)
        return [] if self.session.selected_class_id is None else [self.session.selected_class_id]

    def _start_filling(self) -> None:
        class_ids = self._class_ids_to_fill()
        self.layers.ensure_labels()
        self._clear_outcome()
        self._is_filling = True
        name = "all classes" if self.all_classes.isChecked() else selected_class_name(self.session)
        self.strip.start(f"Fill {name} between corrected frames", lambda: self.session.fill_between(class_ids))

    def _follow_project(self) -> None:
        if self.session.project is not self._project:
            self._project = self.session.project
            self._clear_outcome()  # it is about the previous project

    def _clear_outcome(self) -> None:
        self._last, self._stopped_at, self._is_filling = None, None, False
        self._show_outcome("")

    def _on_report(self, report: Any) -> None:
        self._last = report

    def _on_finished(self, result: object) -> None:
        report = self._last
        if self._is_filling:
            self._show_outcome(stopped_filling(report) if result is None else str(result))
        elif report is None:
            self._show_outcome("Nothing was changed.")
        elif report.stopped is not None:
            self._stopped_at = report.frame_index
            carried = f"Carried through {counted(report.done, 'frame')}. " if report.done else ""
            self._show_outcome(carried + stop_text(report.frame_index, report.stopped))
            self.stopped.emit(report.frame_index, report.stopped)
        elif report.done == report.total:
            self._show_outcome(f"Carried through {counted(report.done, 'frame')}, to frame {report.frame_index}.")
        else:
            self._stopped_at = report.frame_index
            of_all = f"{report.done:,} of {counted(report.total, 'frame')}"
            self._show_outcome(
                f"Cancelled after {of_all}, at frame {report.frame_index:,}. To resume, go there and press again."
            )
        self._show_go_there()

    def _on_frame(self) -> None:
        if not self.run.is_running and self.isVisible():  # a hidden section is refreshed when the panel shows it
            self.refresh()

    def _show_outcome(self, text: str) -> None:
        show_text(self.outcome, text)
        self._show_go_there()

    def _show_go_there(self) -> None:
        self.go_there.setVisible(self._stopped_at is not None and bool(self.outcome.text()))


def stopped_filling(report: Any) -> str:
    """The line after a fill that was cancelled or failed; `report` is its last one."""
    if report is None or not report.done:
        return "Nothing was changed."
    return f"Stopped after {report.done:,} of {counted(report.total, 'frame')}. Press again to resume."


def stop_text(frame_index: int, reason: str) -> str:
    """Where and why a propagation stopped, as a sentence."""
    return f"Stopped at frame {frame_index:,}: {reason.rstrip('.')}."
