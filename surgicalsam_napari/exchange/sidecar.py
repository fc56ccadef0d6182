"""The file classes.json of exported labels: video, class names and colours, annotated classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from surgicalsam_napari.errors import ClassSetError, ExchangeError
from surgicalsam_napari.exchange.dataset import DatasetFrame
from surgicalsam_napari.exchange.files import write_file
from surgicalsam_napari.instruments import ClassSet

SIDECAR = "classes.json"


@dataclass(frozen=True)
class Sidecar:
    """The content of classes.json.

    Attributes
    ----------
    video : name of the video's file
    layout : a key of `registry.FORMATS`; None if `surgicalsam segment --out` wrote the file
    sequence : name of the video in file names
    annotated : by frame index, the classes that were predicted, edited or verified, present or absent
    annotators : who corrected labels of this video
    notes : by frame index, a person's note on an exported frame
    """

    classes: ClassSet
    video: str
    layout: str | None = None
    sequence: str | None = None
    annotated: dict[int, tuple[int, ...]] = field(default_factory=dict)
    annotators: tuple[str, ...] = ()
    notes: dict[int, str] = field(default_factory=dict)

    def to_json(self) -> dict:
        record: dict = {"video": self.video, "background": 0, **self.classes.to_json()}
        if self.layout is not None:
            frames = {str(index): list(class_ids) for index, class_ids in self.annotated.items()}
            record |= {"layout": self.layout, "sequence": self.sequence, "annotated": frames}
        if self.annotators:
            record["annotators"] = list(self.annotators)
        if self.notes:
            record["notes"] = {str(index): text for index, text in self.notes.items()}
        return record

    def annotated_frames(self, frames: Sequence[DatasetFrame]) -> dict[DatasetFrame, tuple[int, ...]]:
        """`annotated` with frames of the dataset as keys."""
        exported = (frame for frame in frames if frame.sequence == self.sequence)
        return {frame: self.annotated[frame.frame_index] for frame in exported if frame.frame_index in self.annotated}


def write_sidecar(folder: Path, sidecar: Sidecar) -> Path:
    """Write `classes.json`, and create the folder if needed; ExchangeError or DiskSpaceError if that fails."""
    text = json.dumps(sidecar.to_json(), indent=1, ensure_ascii=False)
    return write_file(folder / SIDECAR, (text + "\n").encode())


def read_sidecar(folder: Path) -> Sidecar | None:
    """The sidecar of a folder; None if it has none, an ExchangeError if it is damaged."""
    path = folder / SIDECAR
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        annotated = {int(index): tuple(map(int, ids)) for index, ids in record.get("annotated", {}).items()}
        notes = {int(index): str(text) for index, text in record.get("notes", {}).items()}
        annotators = tuple(map(str, record.get("annotators", [])))
        classes, video = ClassSet.from_json(record), str(record.get("video", ""))
        return Sidecar(classes, video, record.get("layout"), record.get("sequence"), annotated, annotators, notes)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, TypeError, ClassSetError) as error:
        raise ExchangeError(
            f"{path} should name the classes of these labels, but cannot be read ({error}). Restore it, or export again."
        ) from error


def check_complete(path: Path, sidecar: Sidecar | None, frames: Sequence[DatasetFrame]) -> None:
    """Raise an ExchangeError with a line for every exported frame whose labels are missing."""
    if sidecar is None:
        return
    labelled = {frame.frame_index for frame in frames if frame.sequence == sidecar.sequence}
    missing = [index for index in sidecar.annotated if index not in labelled]
    if missing:
        problems = [f"{sidecar.sequence}: the labels of frame {index} are missing" for index in missing]
        raise ExchangeError(
            f"{path} was exported with {len(sidecar.annotated)} frames, but {len(missing)} are missing (the first is frame "
            f"{missing[0]}). Restore them, or export again.",
            problems,
        )
