"""Reads an exported dataset with the library of another tool. Runs in an environment of its own (the extra `interop`).

    python read_by_tools.py TOOL DATASET OUT.npz

The output has `names`, the class names, and for each frame its label map (H, W) uint8: 1 + the position of the class's name.
The tools for tracks name the class and the track, as in `Needle Driver/3`.
Nothing of surgicalsam_napari is imported here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

Frames = Iterator[tuple[str, str, np.ndarray]]  # name of the frame, name of the class, mask (H, W) bool


def pycocotools(folder: Path) -> Frames:
    from pycocotools.coco import COCO

    coco = COCO(str(folder / "annotations/instances_default.json"))
    for image in coco.imgs.values():
        yield Path(image["file_name"]).stem, "", np.zeros((image["height"], image["width"]), bool)
        for annotation in coco.imgToAnns[image["id"]]:
            name = coco.cats[annotation["category_id"]]["name"]
            yield Path(image["file_name"]).stem, name, coco.annToMask(annotation).astype(bool)


def supervision_coco(folder: Path) -> Frames:
    import supervision

    dataset = supervision.DetectionDataset.from_coco(
        str(folder / "images/default"), str(folder / "annotations/instances_default.json"), force_masks=True
    )
    yield from _of_supervision(dataset)


def supervision_yolo(folder: Path) -> Frames:
    import supervision

    dataset = supervision.DetectionDataset.from_yolo(
        str(folder / "images/train"), str(folder / "labels/train"), str(folder / "data.yaml"), force_masks=True
    )
    yield from _of_supervision(dataset)


def _of_supervision(dataset) -> Frames:
    for path, image, detections in dataset:
        yield Path(path).stem, "", np.zeros(image.shape[:2], bool)
        for position in range(len(detections)):
            yield Path(path).stem, dataset.classes[detections.class_id[position]], detections.mask[position]


def datumaro_coco(folder: Path) -> Frames:
    yield from _of_datumaro(folder, "coco_instances")


def datumaro_cvat(folder: Path) -> Frames:
    yield from _of_datumaro(folder, "cvat")


def datumaro_cvat_video(folder: Path) -> Frames:
    """Tracks of polygons; datumaro lists a frame where the object is gone, and no size."""
    from datumaro.components.annotation import AnnotationType
    from datumaro.components.dataset import Dataset
    from pycocotools import mask

    size = json.loads((folder / "classes.json").read_text())["size"]
    dataset = Dataset.import_from(str(folder), "cvat")
    labels = dataset.categories()[AnnotationType.label]
    for item in dataset:
        name = f"frame_{int(Path(item.id).name.split('_')[-1]):05d}"
        for annotation in item.annotations:
            if not annotation.attributes["outside"]:
                pixels = mask.decode(mask.frPyObjects([annotation.points], *size))[..., 0].astype(bool)
                yield name, labels[annotation.label].name, pixels


def datumaro_voc(folder: Path) -> Frames:
    yield from _of_datumaro(folder, "voc_segmentation")


def _of_datumaro(folder: Path, format: str) -> Frames:
    from datumaro.components.annotation import AnnotationType
    from datumaro.components.dataset import Dataset

    dataset = Dataset.import_from(str(folder), format)
    dataset.transform("polygons_to_masks")
    labels = dataset.categories()[AnnotationType.label]
    for item in dataset:
        yield Path(item.id).name, "", np.zeros(item.media.size, bool)
        for annotation in item.annotations:
            if annotation.type == AnnotationType.mask and labels[annotation.label].name != "background":
                yield Path(item.id).name, labels[annotation.label].name, annotation.image.astype(bool)


def label_studio(folder: Path) -> Frames:
    from label_studio_sdk.converter import Converter
    from label_studio_sdk.converter.brush import decode_rle
    from pycocotools import mask

    converter = Converter((folder / "label_config.xml").read_text(), str(folder), download_resources=False)
    for item in converter.iter_from_json_file(str(folder / "tasks.json")):
        name = Path(item["input"]["image"]).stem
        for region in (region for regions in item["output"].values() for region in regions):
            size = region["original_height"], region["original_width"]
            if "rle" in region:
                pixels = decode_rle(region["rle"]).reshape(*size, 4)[..., 3] > 0
                yield name, region["brushlabels"][0], pixels
            else:
                points = [coordinate for x, y in region["points"] for coordinate in (x * size[1] / 100, y * size[0] / 100)]
                pixels = mask.decode(mask.frPyObjects([points], *size))[..., 0].astype(bool)
                yield name, region["polygonlabels"][0], pixels


def pillow_davis(folder: Path) -> Frames:
    """As davis2017-evaluation reads annotations: the values of the indexed picture."""
    from PIL import Image

    for video, entry in json.loads((folder / "meta.json").read_text())["videos"].items():
        for file in sorted((folder / "Annotations/Full-Resolution" / video).glob("*.png")):
            values = np.array(Image.open(file))
            yield f"frame_{file.stem}", "", np.zeros(values.shape, bool)
            for number, one in entry["objects"].items():
                yield f"frame_{file.stem}", one["category"], values == int(number)


def tifffile(folder: Path) -> Frames:
    import tifffile as library

    classes = json.loads((folder / "classes.json").read_text())["classes"]
    stack = library.imread(folder / "labels.tif")
    with library.TiffFile(folder / "labels.tif") as tiff:
        indices = [int(page.description.split()[-1]) for page in tiff.pages]
    for index, values in zip(indices, stack, strict=True):
        yield f"frame_{index:05d}", "", np.zeros(values.shape, bool)
        for one in classes:
            yield f"frame_{index:05d}", one["name"], values == one["id"]


def ome_zarr(folder: Path) -> Frames:
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    annotated = json.loads((folder / "classes.json").read_text())["annotated"]
    location = parse_url(str(folder / "labels.ome.zarr"))
    (node,) = [node for node in Reader(location)() if "properties" in node.metadata]
    names = {int(value): entry["name"] for value, entry in node.metadata["properties"].items()}
    for index in map(int, annotated):
        values = np.asarray(node.data[0][index])
        yield f"frame_{index:05d}", "", np.zeros(values.shape, bool)
        for value, name in names.items():
            yield f"frame_{index:05d}", name, values == value


# ---- tracks: the name of the class, and the track as the tool has it


def tracks_coco(folder: Path) -> Frames:
    yield from _tracks_of_datumaro(folder, "coco_instances")


def tracks_cvat(folder: Path) -> Frames:
    from datumaro.components.annotation import AnnotationType
    from datumaro.components.dataset import Dataset

    dataset = Dataset.import_from(str(folder), "cvat")
    labels = dataset.categories()[AnnotationType.label]
    for item in dataset:
        for one in item.annotations:
            if not one.attributes["outside"]:
                frame = f"frame_{int(Path(item.id).name.split('_')[-1]):05d}"
                yield frame, f"{labels[one.label].name}/{one.attributes['track_id']}", _polygon(folder, one.points)


def tracks_mots(folder: Path) -> Frames:
    yield from _tracks_of_datumaro(folder, "mots")


def _tracks_of_datumaro(folder: Path, format: str) -> Frames:
    from datumaro.components.annotation import AnnotationType
    from datumaro.components.dataset import Dataset

    dataset = Dataset.import_from(str(folder), format)
    labels = dataset.categories()[AnnotationType.label]
    for item in dataset:
        name = f"frame_{int(Path(item.id).name.split('_')[-1]):05d}"
        for one in item.annotations:
            if one.type == AnnotationType.mask:
                yield name, f"{labels[one.label].name}/{one.attributes.get('track_id')}", one.image.astype(bool)


def _polygon(folder: Path, points: list) -> np.ndarray:
    from pycocotools import mask

    size = json.loads((folder / "classes.json").read_text())["size"]
    return mask.decode(mask.frPyObjects([points], *size))[..., 0].astype(bool)


def tracks_youtube_vis(folder: Path) -> Frames:
    """As ytvos.py of the authors of YouTube-VIS: `annToMask(annotation, frame)`."""
    from pycocotools import mask

    record = json.loads((folder / "instances.json").read_text())
    names = {one["id"]: one["name"] for one in record["categories"]}
    videos = {one["id"]: one for one in record["videos"]}
    for one in record["annotations"]:
        for file_name, encoded in zip(videos[one["video_id"]]["file_names"], one["segmentations"], strict=True):
            if encoded is not None:
                pixels = mask.decode(encoded).astype(bool)
                yield f"frame_{Path(file_name).stem}", f"{names[one['category_id']]}/{one['id']}", pixels


def tracks_mots_text(folder: Path) -> Frames:
    """As `load_txt` of mots_tools."""
    from pycocotools import mask

    names = (folder / "instances/labels.txt").read_text().splitlines()
    (file,) = (folder / "instances_txt").glob("*.txt")
    for line in file.read_text().splitlines():
        fields = line.split(" ")
        pixels = mask.decode({"size": [int(fields[3]), int(fields[4])], "counts": fields[5].encode("utf-8")})
        yield f"frame_{int(fields[0]):05d}", f"{names[int(fields[2]) - 1]}/{fields[1]}", pixels.astype(bool)


TOOLS = {
    function.__name__: function
    for function in (
        pycocotools,
        supervision_coco,
        supervision_yolo,
        datumaro_coco,
        datumaro_cvat,
        datumaro_cvat_video,
        datumaro_voc,
        label_studio,
        pillow_davis,
        tifffile,
        ome_zarr,
        tracks_coco,
        tracks_cvat,
        tracks_mots,
        tracks_youtube_vis,
        tracks_mots_text,
    )
}


def main() -> None:
    tool, folder, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    names: list[str] = []
    label_maps: dict[str, np.ndarray] = {}
    for frame, name, mask in TOOLS[tool](folder):
        label_map = label_maps.setdefault(frame, np.zeros(mask.shape, np.uint8))
        if name:
            if name not in names:
                names.append(name)
            label_map[mask] = 1 + names.index(name)
    np.savez_compressed(out, names=np.array(names), **label_maps)


if __name__ == "__main__":
    main()
