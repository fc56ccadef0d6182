"""Writes COCO in the layout that datumaro, CVAT, FiftyOne and detectron2 expect.

::

    annotations/instances_default.json
    images/default/frame_00012.png

CVAT's format "COCO 1.0" and datumaro's "coco_instances" name the file `instances_<subset>.json`, and find pictures in
`images/<subset>/` or `images/` (https://docs.cvat.ai/docs/manual/advanced/formats/format-coco/). FiftyOne
(COCODetectionDataset) and detectron2 (`register_coco_instances`) take the JSON file and the folder of pictures.

One annotation for each instance and frame, or for each class where there are no tracks, with run lengths (the default) or
polygons. Ultralytics and Label Studio read only polygons; run lengths are shorter for ragged masks. Holes are cut into
polygons (`outlines`). `iscrowd` is 0 for both: other tools leave crowds out of the training. CVAT itself marks masks as
crowds and reads both. supervision fills COCO's polygons with OpenCV, outline included, which is up to a pixel too large; it
reads run lengths exactly.

Tracks are written as `track_id` (as in TAO and BURST), as `instance_id` with `videos`, `video_id` and `frame_id` (CocoVID of
MMTracking), and as attributes (`track_id`, `keyframe`), from which CVAT and datumaro take them. A class that is not a single
instrument, in an export with tracks, has an annotation without these.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np
from pycocotools import mask as run_lengths

from surgicalsam_napari.exchange.files import picture_png, write_file
from surgicalsam_napari.exchange.format import ExportTarget, FrameToWrite, FrameWriter
from surgicalsam_napari.exchange.outlines import edge_polygons
from surgicalsam_napari.exchange.overlaps import ClassMask
from surgicalsam_napari.instruments import ClassSet

ANNOTATIONS = "annotations/instances_default.json"
IMAGES = "images/default"


@dataclass
class CocoWriter(FrameWriter):
    """Writes frames into a new folder; `close`, after the last frame, writes the JSON."""

    target: ExportTarget
    images: list[dict] = field(default_factory=list)
    annotations: list[dict] = field(default_factory=list)
    videos: dict[str, int] = field(default_factory=dict)

    def write(self, frame: FrameToWrite) -> None:
        if frame.image is not None:
            write_file(self.target.folder / IMAGES / f"{frame.name}.png", picture_png(frame.image))
        height, width = frame.size
        image_id = len(self.images) + 1
        image = {"id": image_id, "file_name": f"{frame.name}.png", "height": height, "width": width}
        if self.target.has_tracks:
            video_id = self.videos.setdefault(frame.sequence, len(self.videos) + 1)
            image |= {"video_id": video_id, "frame_id": frame.frame_index}
        self.images.append(image)
        for one in frame.masks():
            mask = one.mask
            encoded = run_lengths.encode(np.asfortranarray(mask, np.uint8))
            segmentation = {"size": [height, width], "counts": encoded["counts"].decode("ascii")}
            annotation = {
                "id": len(self.annotations) + 1,
                "image_id": image_id,
                "category_id": one.class_id,
                "segmentation": _polygons(mask) if self.target.polygons else segmentation,
                "area": int(run_lengths.area(encoded)),
                "bbox": run_lengths.toBbox(encoded).tolist(),
                "iscrowd": 0,
                **_instance_fields(one),
            }
            self.annotations.append(annotation)

    def close(self) -> None:
        record = {
            "info": {"description": f"instruments in {self.target.video}"},
            "licenses": [],
            **({"videos": [{"id": number, "name": name} for name, number in self.videos.items()]} if self.videos else {}),
            "images": self.images,
            "annotations": self.annotations,
            "categories": coco_categories(self.target.classes),
        }
        write_file(self.target.folder / ANNOTATIONS, json.dumps(record, ensure_ascii=False).encode())


def coco_categories(classes: ClassSet) -> list[dict]:
    return [{**c.to_json(), "supercategory": "instrument", "color": list(c.rgb)} for c in classes]


def _instance_fields(one: ClassMask) -> dict:
    if one.track_id is not None:
        attributes = {"track_id": one.track_id, "keyframe": True}
        return {"track_id": one.track_id, "instance_id": one.track_id, "attributes": attributes}
    return {"instance_id": one.instance} if one.instance is not None else {}


def _polygons(mask: np.ndarray) -> list[list[int]]:
    return [[value for point in polygon for value in point] for polygon in edge_polygons(mask)]
