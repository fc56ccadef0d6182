"""Section *Click to refine*: switch the tool on, click, accept the preview."""

from __future__ import annotations

from math import isnan

from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from surgicalsam_napari.formatting import counted
from surgicalsam_napari.session import Session
from surgicalsam_napari.widgets.correct.refine_tool import RefineTool
from surgicalsam_napari.widgets.correct.section_parts import selected_class_name, show_text, why_not_editable
from surgicalsam_napari.widgets.parts.parts import SPACING, Panel, note, primary_button
from surgicalsam_napari.widgets.runs.run import Run
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers

SWITCH_ON, SWITCH_OFF = "Start refining", "Stop refining"


class RefineSection(Panel):
    """A switch and mouse instructions; and `actions`, the buttons Accept, Discard, Undo last click.

    The panel shows `actions` where they are always in view.
    """

    def __init__(self, session: Session, layers: ViewerLayers, run: Run) -> None:
        super().__init__("Click to refine")
        self.session, self.layers, self.run = session, layers, run
        self.tool = RefineTool(session, layers, self)
        self._message = ""  # the last message of the tool, until the next click
        self._build()
        self._connect()
        self.refresh()

    def refresh(self) -> None:
        """Enable the controls that can be used now, and show what is missing."""
        missing = self._what_is_missing()
        if missing is not None:
            self.tool.switch(False)
        is_on, has_preview = self.tool.is_on, self.tool.is_on and self.tool.refinement is not None
        self.switch.setEnabled(missing is None)
        self._show_switch(is_on)
        self.accept_button.setEnabled(has_preview)
        self.discard_button.setEnabled(has_preview)
        self.undo_button.setEnabled(has_preview)
        self.actions.setVisible(is_on)
        show_text(self.how, self._instructions() if is_on else "")
        show_text(self.status, missing or self._status())

    def toggle(self) -> None:
        """Switch the tool on or off."""
        if self.switch.isEnabled():
            self._message = ""
            self.tool.switch(not self.tool.is_on)
            self.refresh()

    def accept(self) -> None:
        """Write the preview to the labels."""
        if self.accept_button.isEnabled():
            self.tool.accept()

    def discard(self) -> None:
        """Drop the preview."""
        if self.discard_button.isEnabled():
            self.tool.discard()

    def undo_last_click(self) -> None:
        """Undo the last click or the box."""
        if self.undo_button.isEnabled():
            self.tool.undo_last()

    def _build(self) -> None:
        self.switch = QPushButton(SWITCH_ON)
        self.switch.setCheckable(True)
        self.how, self.status = note(), note()
        self.accept_button = primary_button("Accept")
        self.discard_button, self.undo_button = QPushButton("Discard"), QPushButton("Undo click")
        self.undo_button.setToolTip("Take back the last click or the box (key Ctrl+Z)")
        self.switch.setToolTip("Esc leaves the tool, too")
        self.actions = QWidget()
        buttons = QHBoxLayout(self.actions)
        buttons.setContentsMargins(0, 0, 0, 0)
        buttons.setSpacing(SPACING)
        for button in (self.accept_button, self.discard_button, self.undo_button):
            buttons.addWidget(button, 1)
        for widget in (self.switch, self.how, self.status, self.actions):
            self.column.addWidget(widget)

    def _connect(self) -> None:
        self.switch.clicked.connect(self.toggle)
        self.accept_button.clicked.connect(self.accept)
        self.discard_button.clicked.connect(self.discard)
        self.undo_button.clicked.connect(self.undo_last_click)
        self.tool.changed.connect(self._on_changed)
        self.tool.noted.connect(self._on_noted)

    def _on_changed(self) -> None:
        if self.tool.refinement is not None and self.tool.is_on:
            self._message = ""
        self.refresh()

    def _on_noted(self, text: str) -> None:
        self._message = text
        self.refresh()

    def _show_switch(self, is_on: bool) -> None:
        self.switch.setChecked(is_on)
        self.switch.setText(SWITCH_OFF if is_on else SWITCH_ON)

    def _what_is_missing(self) -> str | None:
        model = self.session.model
        missing = why_not_editable(self.session)
        if missing is None and model is None:
            return "Choose a model first (Model)."
        if missing is None and model is not None and not model.has_click_decoder:
            return f'The model "{model.name}" has no decoder for clicks. Choose another, or use the brush.'
        return missing

    def _instructions(self) -> str:
        name = selected_class_name(self.session)
        return (
            f"Click in the middle of what is missing of {name}. Shift-click or right-click in the middle of what does not "
            "belong to it. Ctrl-drag a box around it."
        )

    def _status(self) -> str:
        if self.tool.is_waiting:
            return "Preparing this frame…"
        lines = [self._message] if self._message else []
        refinement = self.tool.refinement
        if refinement is not None and self.tool.is_on:
            prompts = [counted(len(refinement.clicks), "click")] if refinement.clicks else []
            prompts += ["a box"] if refinement.box is not None else []
            estimate = refinement.predicted_iou
            lines.append(" and ".join(prompts) + ("" if isnan(estimate) else f" · confidence {estimate:.2f}"))
        frames = sorted({frame_index for frame_index, _ in self.tool.held_elsewhere})
        if frames and self.tool.is_on:
            listed = ", ".join(map(str, frames[:5])) + (" and others" if len(frames) > 5 else "")
            lines.append(f"A preview waits in {'frame' if len(frames) == 1 else 'frames'} {listed}.")
        return "\n".join(lines)
