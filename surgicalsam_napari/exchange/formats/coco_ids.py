"""The ids of instances in COCO annotations: tracks of a video, or instances of a single frame."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace

from surgicalsam_napari.exchange.overlaps import ClassMask


def coco_track_id(annotation: Mapping, *, has_videos: bool) -> Hashable | None:
    """The track of an annotation as the file has it; None if it has none."""
    attributes = annotation.get("attributes")
    places = [annotation.get("track_id"), attributes.get("track_id") if isinstance(attributes, dict) else None]
    if has_videos:
        places.append(annotation.get("instance_id"))
    return next((value for value in places if isinstance(value, int | float | str)), None)


@dataclass(frozen=True)
class CocoIds:
    """Which annotations are instances, and which tracks they are.

    Attributes
    ----------
    tracks : by sequence, the track id for each id in the file
    crowds_are_instances : whether all annotations are crowds, as CVAT writes masks
    notes : for `Dataset.notes`
    """

    tracks: Mapping[str, Mapping[Hashable, int]] = field(default_factory=dict)
    is_export: bool = False
    crowds_are_instances: bool = False
    has_instances: bool = False
    has_tracks: bool = False
    notes: tuple[str, ...] = ()

    def identified(self, one: ClassMask, sequence: str, annotation: Mapping, position: int) -> ClassMask:
        """The mask of an annotation with its track or instance; `position` counts the annotations of its frame."""
        if not self.has_instances:
            return one
        raw = coco_track_id(annotation, has_videos=self.has_tracks and not self.is_export)
        track_id = None if raw is None else self.tracks.get(sequence, {}).get(raw)
        if track_id is not None:
            return replace(one, track_id=track_id)
        if self.is_export:
            number = annotation.get("instance_id")
            return replace(one, instance=number) if isinstance(number, int) else one
        is_crowd = bool(annotation.get("iscrowd")) and not self.crowds_are_instances
        return one if is_crowd else replace(one, instance=position)
