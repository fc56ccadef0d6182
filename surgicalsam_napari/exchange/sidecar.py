"""The file classes.json of exported labels: video, class names and colours, annotated classes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from surgicalsam_napari.errors import ClassSetError, ExchangeError
from surgicalsam_napari.exchange.dataset import DatasetFrame
from surgicalsam_napari.exchange.files import write_file
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store.tracks import LARGEST_ID
from surgicalsam_napari.untrusted import read_json

SIDECAR = "classes.json"
Value = TypeVar("Value")


@dataclass(frozen=True)
class Sidecar:
    """The content of classes.json.

    Attributes
    ----------
    video : name of the video's file
    layout : a key of `registry.FORMATS`; None if `surgicalsam segment --out` wrote the file
    frames : by sequence and frame index, the classes that were predicted, edited or verified, present or absent
    sizes : (H, W) by sequence
    annotators : who corrected these labels
    notes : by sequence and frame index, a person's note on an exported frame
    has_instances : whether the files tell the instruments of a class apart
    tracks : by sequence, the track id of each number in the files (`instances.ObjectNumbers`); None without tracks
    parts : the parts that the files have; None if they have none
    """

    classes: ClassSet
    video: str
    layout: str | None = None
    frames: Mapping[str, Mapping[int, tuple[int, ...]]] = field(default_factory=dict)
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    annotators: tuple[str, ...] = ()
    notes: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    has_instances: bool = False
    tracks: Mapping[str, Mapping[int, int]] | None = None
    parts: ClassSet | None = None

    @property
    def sequence(self) -> str | None:
        """The name of the only video in file names; None if there are several."""
        return next(iter(self.frames)) if len(self.frames) == 1 else None

    @property
    def has_tracks(self) -> bool:
        return self.tracks is not None

    def object_tracks(self, sequence: str) -> Mapping[int, int] | None:
        """The track id of each number in the files of a video, for `instances.read_object`."""
        return (self.tracks or {}).get(sequence, {}) if self.has_instances else None

    def frame_of(self, name: str) -> tuple[str, int] | None:
        """Sequence and frame index of an exported frame's name (`frame_name`); None for another name."""
        video, _, digits = name.rpartition("_")
        sequence = self.sequence if video == "frame" else video
        known = self.frames.get(sequence or "", {})
        return (sequence, int(digits)) if sequence and digits.isdecimal() and int(digits) in known else None

    def to_json(self) -> dict:
        record: dict = {"video": self.video, "background": 0, **self.classes.to_json()}
        if self.layout is None:
            return record
        record["layout"] = self.layout
        if self.annotators:
            record["annotators"] = list(self.annotators)
        if self.has_instances:
            record["instances"] = True
        if self.parts is not None:
            record["instrument_parts"] = self.parts.to_json()
        sequences = [self._sequence_json(sequence) for sequence in self.frames]
        return record | (sequences[0] if len(sequences) == 1 else {"sequences": sequences})

    def _sequence_json(self, sequence: str) -> dict:
        annotated, notes = self.frames[sequence], self.notes.get(sequence)
        return {
            "sequence": sequence,
            "size": list(self.sizes[sequence]) if sequence in self.sizes else None,
            "annotated": {str(index): list(class_ids) for index, class_ids in annotated.items()},
            **({"notes": {str(index): text for index, text in notes.items()}} if notes else {}),
            **self._tracks_json(sequence),
        }

    def _tracks_json(self, sequence: str) -> dict:
        if self.tracks is None:
            return {}
        return {"tracks": {str(number): track_id for number, track_id in self.tracks.get(sequence, {}).items()}}

    def annotated_frames(self, frames: Sequence[DatasetFrame]) -> dict[DatasetFrame, tuple[int, ...]]:
        """The annotated classes by frame of the dataset, for frames that were exported."""
        found = {frame: self.frames.get(frame.sequence, {}).get(frame.frame_index) for frame in frames}
        return {frame: class_ids for frame, class_ids in found.items() if class_ids is not None}


def frame_name(frame_index: int, sequence: str | None = None) -> str:
    """The name of an exported frame in files; with the sequence in a dataset of several videos."""
    return f"{sequence or 'frame'}_{frame_index:05d}"


def write_sidecar(folder: Path, sidecar: Sidecar) -> Path:
    """Write `classes.json`, and create the folder if needed; ExchangeError or DiskSpaceError if that fails."""
    text = json.dumps(sidecar.to_json(), indent=1, ensure_ascii=False)
    return write_file(folder / SIDECAR, (text + "\n").encode())


def read_sidecar(folder: Path) -> Sidecar | None:
    """The sidecar of a folder; None if it has none, an ExchangeError if it is damaged."""
    path = folder / SIDECAR
    try:
        record = read_json(path)
        entries = record["sequences"] if "sequences" in record else [record] if record.get("sequence") else []
        by_sequence = {str(entry["sequence"]): entry for entry in entries}
        with_tracks = {name: entry for name, entry in by_sequence.items() if "tracks" in entry}
        return Sidecar(
            ClassSet.from_json(record),
            str(record.get("video", "")),
            record.get("layout"),
            {name: _by_frame(entry["annotated"], lambda ids: tuple(map(int, ids))) for name, entry in by_sequence.items()},
            {
                name: (int(entry["size"][0]), int(entry["size"][1]))
                for name, entry in by_sequence.items()
                if entry.get("size")
            },
            tuple(map(str, record.get("annotators", []))),
            {name: _by_frame(entry["notes"], str) for name, entry in by_sequence.items() if entry.get("notes")},
            bool(record.get("instances")),
            {name: _by_frame(entry["tracks"], _track_id) for name, entry in with_tracks.items()} if with_tracks else None,
            ClassSet.from_json(record["instrument_parts"]) if "instrument_parts" in record else None,
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, LookupError, OverflowError, TypeError, ClassSetError) as error:
        raise ExchangeError(
            f"{path} should name the classes of these labels, but cannot be read ({error}). Restore it, or export again."
        ) from error


def _track_id(value: Any) -> int:
    if not 0 <= int(value) <= LARGEST_ID:
        raise ValueError(f"the track {str(value)[:40]} is not from 0 to {LARGEST_ID}")
    return int(value)


def _by_frame(entries: Mapping[str, Any], convert: Callable[[Any], Value]) -> dict[int, Value]:
    return {int(index): convert(value) for index, value in entries.items()}


def check_complete(path: Path, sidecar: Sidecar | None, frames: Sequence[DatasetFrame]) -> None:
    """Raise an ExchangeError with a line for every exported frame whose labels are missing."""
    if sidecar is None:
        return
    labelled = {(frame.sequence, frame.frame_index) for frame in frames}
    exported = [(sequence, index) for sequence, annotated in sidecar.frames.items() for index in annotated]
    missing = [frame for frame in exported if frame not in labelled]
    if missing:
        problems = [f"{sequence}: the labels of frame {index} are missing" for sequence, index in missing]
        raise ExchangeError(
            f"{path} was exported with {len(exported)} frames, but {len(missing)} are missing (the first is frame "
            f"{missing[0][1]}). Restore them, or export again.",
            problems,
        )
