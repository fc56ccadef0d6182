"""Writes COCO in the layout that datumaro, CVAT, FiftyOne and detectron2 expect.

::

    annotations/instances_default.json
    images/default/frame_00012.png

CVAT's format "COCO 1.0" and datumaro's "coco_instances" name the file `instances_<subset>.json`, and find pictures in
`images/<subset>/` or `images/` (https://docs.cvat.ai/docs/manual/advanced/formats/format-coco/). FiftyOne
(COCODetectionDataset) and detectron2 (`register_coco_instances`) take the JSON file and the folder of pictures.

One annotation for each class and frame, with run lengths (the default) or polygons. Ultralytics and Label Studio read only
polygons; run lengths are shorter for ragged masks. Holes are cut into polygons (`outlines`). `iscrowd` is 0 for both:
other tools leave crowds out of the training. CVAT itself marks masks as crowds and reads both. supervision fills COCO's
polygons with OpenCV, outline included, which is up to a pixel too large; it reads run lengths exactly.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np
from pycocotools import mask as run_lengths

from surgicalsam_napari.exchange.files import picture_png, write_file
from surgicalsam_napari.exchange.format import ExportTarget, FrameToWrite, FrameWriter
from surgicalsam_napari.exchange.outlines import edge_polygons
from surgicalsam_napari.store.label_maps import present_ids

ANNOTATIONS = "annotations/instances_default.json"
IMAGES = "images/default"


@dataclass
class CocoWriter(FrameWriter):
    """Writes frames into a new folder; `close`, after the last frame, writes the JSON."""

    target: ExportTarget
    images: list[dict] = field(default_factory=list)
    annotations: list[dict] = field(default_factory=list)

    def write(self, frame: FrameToWrite) -> None:
        if frame.image is not None:
            write_file(self.target.folder / IMAGES / f"{frame.name}.png", picture_png(frame.image))
        height, width = frame.size
        image_id = len(self.images) + 1
        self.images.append({"id": image_id, "file_name": f"{frame.name}.png", "height": height, "width": width})
        for class_id in present_ids(frame.label_map):
            mask = frame.label_map == class_id
            encoded = run_lengths.encode(np.asfortranarray(mask, np.uint8))
            segmentation = {"size": [height, width], "counts": encoded["counts"].decode("ascii")}
            annotation = {
                "id": len(self.annotations) + 1,
                "image_id": image_id,
                "category_id": class_id,
                "segmentation": _polygons(mask) if self.target.polygons else segmentation,
                "area": int(run_lengths.area(encoded)),
                "bbox": run_lengths.toBbox(encoded).tolist(),
                "iscrowd": 0,
            }
            self.annotations.append(annotation)

    def close(self) -> None:
        categories = [{**c.to_json(), "supercategory": "instrument", "color": list(c.rgb)} for c in self.target.classes]
        record = {
            "info": {"description": f"instruments in {self.target.video}"},
            "licenses": [],
            "images": self.images,
            "annotations": self.annotations,
            "categories": categories,
        }
        write_file(self.target.folder / ANNOTATIONS, json.dumps(record, ensure_ascii=False).encode())


def _polygons(mask: np.ndarray) -> list[list[int]]:
    return [[value for point in polygon for value in point] for polygon in edge_polygons(mask)]
