"""The switch *Fix single wrong classes*: whether frames vote on the classes after a run; one choice in several places."""

from __future__ import annotations

from qtpy.QtWidgets import QCheckBox

TITLE = "Fix single wrong classes"
TIP = (
    "After a run over neighbouring frames, the frames of each instrument vote on its class: a single wrong class is put "
    "right, flicker goes, gaps of a few frames are filled. What you painted, corrected or verified stays. The timeline "
    "marks what changed, and Undo takes it back."
)


class VoteSwitch(QCheckBox):
    """On at first."""

    def __init__(self) -> None:
        super().__init__(TITLE)
        self.setChecked(True)
        self.setToolTip(TIP)

    def follow(self, other: VoteSwitch) -> None:
        """Show the same choice as another switch from now on."""
        self.setChecked(other.isChecked())
        self.toggled.connect(other.setChecked)
        other.toggled.connect(self.setChecked)
