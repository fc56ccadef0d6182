"""What a run of Segment found and what it left alone, for the line that it ends with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from surgicalsam_napari.formatting import counted
from surgicalsam_napari.store import Provenance
from surgicalsam_napari.store.label_maps import present_ids

if TYPE_CHECKING:
    from surgicalsam_napari.inference.segment import SegmentReport
    from surgicalsam_napari.store import Project

IF_IT_IS_THERE = "If you can see {it}, paint {it} in one frame, then Learn (Train tab)."


class Findings:
    """Counts the frames in which a run finds each class; frames in which a class is verified are left alone.

    Parameters
    ----------
    class_ids : the classes that are looked for
    total : frames of the run

    Attributes
    ----------
    done : finished frames
    found : number of frames, by class id
    verified : number of finished frames in which all or some of these classes are verified
    corrected : number of finished frames in which a person corrected, but did not verify, one of these classes
    """

    def __init__(self, project: Project, class_ids: Sequence[int], total: int) -> None:
        self._project, self.class_ids, self.total = project, list(class_ids), total
        self.done = self.verified = self.corrected = 0
        self.found: Counter[int] = Counter()
        self._painted: Counter[int] = Counter()  # of these frames, those where a person edited the class
        self._frames: list[int] = []

    def add(self, report: SegmentReport) -> None:
        """Count a finished frame."""
        classes = self._project.classes
        row = self._project.labels.row("provenance", report.frame_index)
        kinds = {class_id: row[classes.ids.index(class_id)] for class_id in self.class_ids}
        seen = present_ids(report.prediction.label_map)
        self.done += 1
        self._frames.append(report.frame_index)
        self.found.update(id for id, kind in kinds.items() if id in seen and kind != Provenance.VERIFIED)
        self._painted.update(id for id, kind in kinds.items() if id in seen and kind == Provenance.EDITED)
        self.verified += Provenance.VERIFIED in kinds.values()
        self.corrected += Provenance.EDITED in kinds.values() and Provenance.VERIFIED not in kinds.values()

    def count_again(self) -> None:
        """Count what is found again, after a vote has changed predictions."""
        ids = self._project.classes.ids
        kinds = self._project.labels.provenance_table()[self._frames]
        for id in self.class_ids:
            self.found[id] = self._painted[id] + int((kinds[:, ids.index(id)] == Provenance.PREDICTED).sum())

    def summary(self, *, is_cancelled: bool = True) -> str:
        """ "Found Large Needle Driver in 10 of 12 frames. 2 verified frames were left alone."

        Parameters
        ----------
        is_cancelled : why an unfinished run ended: a person cancelled it, or it failed
        """
        ended = "Cancelled" if is_cancelled else "Stopped"
        if not self.done:
            return f"{ended}: nothing was changed."
        unfinished = f"{ended} after {self.done:,} of {counted(self.total, 'frame')}. " if self.done < self.total else ""
        return unfinished + self.what()

    def what(self) -> str:
        """What was found in the finished frames, what was not, and what was left alone."""
        kept = _kept(self.verified, "verified frame", "left alone")
        painted = _kept(self.corrected, "corrected frame", "not painted over")
        return " ".join(filter(None, (self._found(), self._missed(), kept, painted)))

    def _found(self) -> str:
        names = [f"{self._name(id)} in {self.found[id]:,}" for id in self.class_ids if self.found[id]]
        return f"Found {', '.join(names)} of {counted(self.done, 'frame')}." if names else ""

    def _missed(self) -> str:
        missed = [self._name(id) for id in self.class_ids if not self.found[id]]
        if not missed or self.verified == self.done:
            return ""
        frames = "this frame" if self.done == 1 else f"any of {counted(self.done, 'frame')}"
        it = "it" if len(missed) == 1 else "one of them"
        return f"Not found in {frames}: {', '.join(missed)}. {IF_IT_IS_THERE.format(it=it)}"

    def _name(self, class_id: int) -> str:
        return self._project.classes.by_id(class_id).name


def _kept(count: int, noun: str, how: str) -> str:
    return f"{counted(count, noun)} {'was' if count == 1 else 'were'} {how}." if count else ""
