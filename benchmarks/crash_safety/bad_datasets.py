"""Broken and hostile datasets of every format; for `bad_inputs.py`."""

from __future__ import annotations

import json
import random
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from bad_files import (
    DEEP,
    HUGE,
    WAYS,
    WAYS_OF_TEXT,
    XML_BOMB,
    YAML_BOMB,
    Damage,
    copied,
    png_bomb,
    png_with_huge_header,
    zip_bomb,
)
from bad_runs import Case, Prepare, Scene
from PIL import Image

from surgicalsam_napari.exchange.formats import cholecseg8k, m2caiseg
from surgicalsam_napari.exchange.registry import EXPORT_FORMATS, FORMATS

SIDECAR = "classes.json"
IMAGES = ("images", "JPEGImages", "img_dir", "rgb", "left_frames", "raw.png", "0", "endo.png", "train/1_")
READ_ONLY = [name for name in FORMATS if name not in EXPORT_FORMATS]
SIZE = (96, 128)


# Intact datasets of the formats that are only read ----------------------------------------------------------------------


def write_read_only(folder: Path) -> None:
    """A small dataset of each format that has no writer, as its authors distribute it."""
    makers: dict[str, Callable[[Path], None]] = {
        "endovis2017": _endovis2017,
        "endovis2018": _endovis2018,
        "cholecseg8k": _cholecseg8k,
        "cholecinstanceseg": _cholecinstanceseg,
        "endoscapes": _endoscapes,
        "m2caiseg": _m2caiseg,
        "robust-mis": _robust_mis,
        "sar-rarp50": _sar_rarp50,
        "id-masks": _id_masks,
    }
    for name in READ_ONLY:
        makers[name](folder / name)


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def _labels(value: int) -> np.ndarray:
    labels = np.zeros(SIZE, np.uint8)
    labels[10:40, 20:60] = value
    return labels


def _picture(path: Path) -> None:
    _save(path, np.full((*SIZE, 3), 90))


def _endovis2017(folder: Path) -> None:
    for index in range(2):
        _picture(folder / f"instrument_dataset_1/left_frames/frame{index:03}.png")
        _save(folder / f"instrument_dataset_1/ground_truth/Left_Prograsp_Forceps_labels/frame{index:03}.png", _labels(20))


def _endovis2018(folder: Path) -> None:
    for index in range(2):
        _picture(folder / f"seq_1/left_frames/frame{index:03}.png")
        _save(folder / f"annotations/seq_1/frame{index:03}.png", _labels(3))


def _cholecseg8k(folder: Path) -> None:
    for index in range(2):
        labels = np.full(SIZE, cholecseg8k.BLACK_BACKGROUND, np.uint8)
        labels[10:40, 20:60] = cholecseg8k.VALUES[8]
        stem = folder / f"video01/video01_00000/frame_{index}"
        _save(stem.with_name(f"{stem.name}{cholecseg8k.WATERSHED}"), np.repeat(labels[..., None], 3, axis=2))
        _picture(stem.with_name(f"{stem.name}_endo.png"))


def _cholecinstanceseg(folder: Path) -> None:
    for index in range(2):
        shape = {"label": "grasper", "points": [[20, 10], [60, 10], [60, 40]], "group_id": 1, "shape_type": "polygon"}
        record = {"version": "1.0.0", "shapes": [shape], "imagePath": f"t80_VID03_{index:06}.png"}
        path = folder / f"train/VID03_t80_sparse/ann_dir/t80_VID03_{index:06}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))
        _picture(folder / f"train/VID03_t80_sparse/img_dir/t80_VID03_{index:06}.png")


def _endoscapes(folder: Path) -> None:
    folder.mkdir(parents=True)
    names = "background\ncystic_plate\ncalot_triangle\ncystic_artery\ncystic_duct\ngallbladder\ntool\n"
    (folder / "seg_label_map.txt").write_text(names)
    for index in range(2):
        _save(folder / f"semseg/1_{index}.png", _labels(6))
        _picture(folder / f"train/1_{index}.jpg")


def _m2caiseg(folder: Path) -> None:
    for index in range(2):
        labels = np.zeros((*SIZE, 3), np.uint8)
        labels[10:40, 20:60] = m2caiseg.COLORS["Grasper"]
        _save(folder / f"train/groundtruth/video1_{index}_gt.png", labels)
        _picture(folder / f"train/images/video1_{index}.jpg")


def _robust_mis(folder: Path) -> None:
    for index in range(2):
        _save(folder / f"Training/Rectal resection/1/{index}/instrument_instances.png", _labels(1))
        _picture(folder / f"Training/Rectal resection/1/{index}/raw.png")


def _sar_rarp50(folder: Path) -> None:
    for index in range(2):
        _save(folder / f"video_01/segmentation/{index:09}.png", _labels(3))
        _picture(folder / f"video_01/rgb/{index:09}.png")


def _id_masks(folder: Path) -> None:
    for clip in ("clip-1", "clip-2"):
        for index in range(2):
            _save(folder / f"{clip}/masks/{index:06}.png", _labels(2))
            _picture(folder / f"{clip}/images/{index:06}.jpg")


# Cases ----------------------------------------------------------------------------------------------------------------


def cases(seed: int) -> Iterator[Case]:
    for name in FORMATS:
        for pattern in PARTS[name]:
            ways = {**WAYS, **WAYS_OF_TEXT} if pattern.endswith(".json") else WAYS
            for fault, damage in ways.items():
                right = _right(name, pattern, fault)
                yield Case(
                    f"dataset {name}", f"{pattern}: {fault}", _imported(name, pattern, damage, seed), right, writes=True
                )
        for pattern in PARTS[name]:
            if pattern.endswith((".png", ".PNG")):
                for fault, attack in (
                    ("a PNG of gigabytes", png_bomb),
                    ("2,147,483,647 pixels in a line", png_with_huge_header),
                ):
                    yield Case(f"dataset {name}", f"{pattern}: {fault}", _imported(name, pattern, attack, seed), writes=True)
    for name, pattern, fault, change in ATTACKS:
        right = _ATTACKS_RIGHT.get((name, fault), "")
        yield Case(
            f"dataset {name}", f"{pattern}: {fault}", _imported(name, pattern, _text(change), seed), right, writes=True
        )
    for fault, prepare in OTHERS.items():
        yield Case("dataset", fault, prepare, writes=True)


PARTS: dict[str, tuple[str, ...]] = {  # files that hold labels, as patterns
    "endovis": (SIDECAR, "annotations/clip/*.png", "binary_annotations/clip/*.png"),
    "indexed-png": (SIDECAR, "frame_*.png"),
    "coco": (SIDECAR, "annotations/*.json"),
    "yolo": ("data.yaml", "labels/train/*.txt"),
    "cvat-images": ("annotations.xml",),
    "cvat-video": ("annotations.xml",),
    "labelme": ("frame_00001.json", "labels.txt"),
    "label-studio": ("tasks.json", "label_config.xml"),
    "voc": ("labelmap.txt", "SegmentationClass/*.png", "ImageSets/Segmentation/*.txt"),
    "davis": ("meta.json", "Annotations/Full-Resolution/clip/*.png"),
    "tiff-stack": (SIDECAR, "*.tif"),
    "ome-zarr": ("labels.ome.zarr/zarr.json", "labels.ome.zarr/labels/instruments/0/zarr.json", "labels.ome.zarr/labels/instruments/0/c/1/0/0"),
    "endovis2017": ("instrument_dataset_1/ground_truth/*/*.png",),
    "endovis2018": ("annotations/seq_1/*.png",),
    "cholecseg8k": ("video01/*/*_watershed_mask.png",),
    "cholecinstanceseg": ("train/*/ann_dir/*.json",),
    "endoscapes": ("semseg/*.png", "seg_label_map.txt"),
    "m2caiseg": ("train/groundtruth/*.png",),
    "robust-mis": ("Training/*/1/*/instrument_instances.png",),
    "sar-rarp50": ("video_01/segmentation/*.png",),
    "id-masks": ("clip-1/masks/*.png",),
}  # fmt: skip


_GONE = ("removed", "a folder in its place", "a link to itself", "a named pipe")
_NAMES_ARE_ELSEWHERE = {
    ("yolo", "data.yaml"),
    ("labelme", "labels.txt"),
    ("label-studio", "label_config.xml"),
    ("davis", "meta.json"),
}
_RIGHT: dict[tuple[str, ...], str] = {
    (
        "yolo",
        "labels/train/*.txt",
        "empty",
    ): "in YOLO, an empty file is a frame without instruments; the format has no checksum",
    ("endovis", "annotations/clip/*.png"): "the same labels are in binary_annotations",
    ("endovis", "binary_annotations/clip/*.png"): "the same labels are in annotations",
}
_ATTACKS_RIGHT: dict[tuple[str, str], str] = {
    ("coco", "100,000 points"): "every point lies in the picture",
    ("coco", "a size of 10**9"): "the size is in the COCO file, too, and that one counts",
    ("coco", "a video outside"): "a name for messages; no file of that name is opened",
    ("cvat-images", "100,000 elements in each other"): "elements that are no labels are skipped",
    ("labelme", "a picture outside"): "the picture is looked for by its last name, in the dataset",
    ("labelme", "a picture of texts"): "the size comes from the picture itself",
    (
        "label-studio",
        "a picture of the internet",
    ): "the picture is looked for by its last name, in the dataset; nothing is loaded",
    ("davis", "a video outside"): "meta.json repeats the class names, which classes.json has, too",
    ("ome-zarr", "labels outside"): "the labels have metadata of their own",
    ("voc", "a picture outside"): "a list of names; only pictures that are in the dataset are read",
    ("yolo", "names that are numbers"): "the names are the texts 1, 2, …, and --add-classes makes classes of them",
    ("yolo", "a path outside"): "the place of the pictures is found from the place of the labels",
    ("yolo", "train outside"): "the place of the pictures is found from the place of the labels",
    ("yolo", "a tag that runs code"): "no names are read from the file: classes.json and --classes have them",
    ("yolo", "aliases that grow"): "no names are read from the file: classes.json and --classes have them",
    ("yolo", "names that grow"): "no names are read from the file: classes.json and --classes have them",
    ("yolo", "deeply nested"): "no names are read from the file: classes.json and --classes have them",
}


def _right(name: str, pattern: str, fault: str) -> str:
    if pattern == SIDECAR and fault == "removed":
        return "an export without the sidecar is a dataset as any other; the classes were given on the command line"
    if (name, pattern) in _NAMES_ARE_ELSEWHERE:
        return "the file repeats the class names, which classes.json has, too"
    if fault == "one wrong bit" and pattern.endswith((".json", ".xml", ".tif", ".txt")):
        return "one letter, digit or pixel is another one; the format has no checksum, and no reader can know"
    if (name, pattern) == ("ome-zarr", "labels.ome.zarr/zarr.json"):
        return "the metadata of the pictures; the labels have their own"
    if (name, pattern) == ("ome-zarr", "labels.ome.zarr/labels/instruments/0/c/1/0/0") and fault in _GONE:
        return "in zarr, a chunk that is missing is background"
    if (name, pattern) == ("voc", "ImageSets/Segmentation/*.txt"):
        return "the list repeats the names of the files that are there"
    if (name, pattern) == ("endoscapes", "seg_label_map.txt") and fault in _GONE:
        return "the names of this benchmark are known"
    if name in READ_ONLY and fault in _GONE:
        return "a dataset of a benchmark has no list of its frames: one frame less is imported, and the number is printed"
    return _RIGHT.get((name, pattern, fault), "") or (_RIGHT.get((name, pattern), "") if fault in _GONE else "")


def _imported(name: str, pattern: str, damage: Damage, seed: int) -> Prepare:
    """The dataset is imported into a project of the person, all classes added."""

    def prepare(scene: Scene, folder: Path) -> list[str]:
        dataset = copied(scene.dataset(name), folder / "dataset")
        damage(next(iter(sorted(dataset.glob(pattern)))), random.Random(seed))
        return _import(scene, folder, dataset)

    return prepare


def _import(scene: Scene, folder: Path, dataset: Path) -> list[str]:
    copied(scene.video, folder / "clip.mp4")
    project = copied(scene.project, folder / "clip.surgicalsam")
    return ["import", str(dataset), str(project), "--add-classes", "--classes", "endovis2018", "--overlaps", "file-order"]


# Attacks on text --------------------------------------------------------------------------------------------------------

Text = Callable[[str], str]


def _text(change: Text) -> Damage:
    def damage(path: Path, _random: random.Random) -> None:
        before = path.read_text()
        after = change(before)
        assert after != before, f"{path.name} did not change"
        path.write_bytes(after.encode("utf-8", "surrogatepass"))

    return damage


def _json(change: Callable[[dict], object]) -> Text:
    def changed(text: str) -> str:
        record = json.loads(text)
        change(record)
        return json.dumps(record)

    return changed


def _coco(kind: str, **fields: object) -> Text:
    return _json(lambda record: record[kind][0].update(fields))


def _shape(**fields: object) -> Text:
    return _json(lambda record: record["shapes"][0].update(fields))


def _attribute(name: str, value: str) -> Text:
    return lambda text: re.sub(rf'{name}="[^"]*"', f'{name}="{value}"', text, count=1)


def _xml_bomb(text: str) -> str:
    return XML_BOMB + text.partition("?>")[2].replace("<version>1.1</version>", "<version>&h;</version>")


def _xml_file(text: str) -> str:
    entity = '<?xml version="1.0"?><!DOCTYPE annotations [<!ENTITY secret SYSTEM "file:///etc/passwd">]>'
    return entity + text.partition("?>")[2].replace("<version>1.1</version>", "<version>&secret;</version>")


COCO, XML, LABELME, YOLO = "annotations/*.json", "annotations.xml", "frame_00001.json", "labels/train/*.txt"
ATTACKS: tuple[tuple[str, str, str, Text], ...] = (
    ("coco", COCO, "polygon coordinates of 10**300", _coco("annotations", segmentation=[[1e300, 0, 1e300, 1e300, 0, 1e300]])),
    ("coco", COCO, "polygon coordinates NaN", _coco("annotations", segmentation=[[float("nan")] * 6])),
    ("coco", COCO, "polygon coordinates infinite", _coco("annotations", segmentation=[[float("inf")] * 6])),
    ("coco", COCO, "polygon of texts", _coco("annotations", segmentation=[["a"] * 6])),
    ("coco", COCO, "polygon of an odd number", _coco("annotations", segmentation=[[1, 2, 3, 4, 5, 6, 7]])),
    ("coco", COCO, "100,000 points", _coco("annotations", segmentation=[[float(n % 90) for n in range(200_000)]])),
    ("coco", COCO, "run lengths that overflow", _coco("annotations", segmentation={"size": [96, 128], "counts": [2**62, 2**62, 2**62]})),
    ("coco", COCO, "run lengths below 0", _coco("annotations", segmentation={"size": [96, 128], "counts": [-5, 12293]})),
    ("coco", COCO, "run lengths of another size", _coco("annotations", segmentation={"size": [10**6, 10**6], "counts": [10**12]})),
    ("coco", COCO, "packed run lengths that are no code", _coco("annotations", segmentation={"size": [96, 128], "counts": "~~~~\x7f\x00"})),
    ("coco", COCO, "packed run lengths that never end", _coco("annotations", segmentation={"size": [96, 128], "counts": "o" * 100_000})),
    ("coco", COCO, "a picture of 10**9 x 10**9", _coco("images", width=10**9, height=10**9)),
    ("coco", COCO, "a picture of -1 x 0", _coco("images", width=-1, height=0)),
    ("coco", COCO, "a picture of NaN", _coco("images", width=float("nan"))),
    ("coco", COCO, "a picture outside", _coco("images", file_name="../../../../../etc/passwd")),
    ("coco", COCO, "a picture with an absolute path", _coco("images", file_name="/etc/passwd")),
    ("coco", COCO, "an unknown class", _coco("annotations", category_id=10**9)),
    ("coco", COCO, "an unknown picture", _coco("annotations", image_id=-7)),
    ("coco", COCO, "a class id that is a list", _coco("categories", id=[1])),
    ("coco", COCO, "a class name that is an object", _coco("categories", name={"a": 1})),
    ("coco", COCO, "two pictures with one id", _json(lambda record: record["images"].append(record["images"][0]))),
    ("coco", COCO, "images that are an object", _json(lambda record: record.update(images={}))),
    ("coco", COCO, "annotations that are null", _json(lambda record: record.update(annotations=None))),
    ("coco", SIDECAR, "annotated frames that are texts", _json(lambda record: record.update(annotated={"x": ["y"]}))),
    ("coco", SIDECAR, "a size of 10**9", _json(lambda record: record.update(size=[10**9, 10**9]))),
    ("coco", SIDECAR, "a video outside", _json(lambda record: record.update(video="../../etc/passwd", sequence="../.."))),
    ("coco", SIDECAR, "deeply nested names", lambda text: text.replace('"EndoVis 2018"', DEEP.decode())),
    ("yolo", YOLO, "coordinates of 10**300", lambda _text: "2 1e300 0 1e300 1e300 0 1e300\n"),
    ("yolo", YOLO, "coordinates NaN", lambda _text: "2 nan nan nan nan nan nan\n"),
    ("yolo", YOLO, "coordinates below 0", lambda _text: "2 -5 -5 -5 9 9 -5\n"),
    ("yolo", YOLO, "a class of 5000 digits", lambda _text: HUGE.decode() + " 0 0 1 1 0 1\n"),
    ("yolo", YOLO, "a class that is none", lambda _text: "99 0 0 1 1 0 1\n"),
    ("yolo", YOLO, "a box", lambda _text: "2 0.5 0.5 0.1 0.1\n"),
    ("yolo", YOLO, "a line of 20 MB", lambda _text: "2 " + "0.5 " * 5_000_000 + "\n"),
    ("yolo", "data.yaml", "a tag that runs code", lambda _text: "names: !!python/object/apply:os.system ['touch executed']"),
    ("yolo", "data.yaml", "aliases that grow", lambda _text: YAML_BOMB + "path: .\ntrain: images/train\nnames: *i\n"),
    ("yolo", "data.yaml", "names that grow", lambda _text: YAML_BOMB + "path: .\ntrain: images/train\nnames: {0: *i}\n"),
    ("yolo", "data.yaml", "deeply nested", lambda text: text + "x: " + "[" * 20_000),
    ("yolo", "data.yaml", "a path outside", lambda text: text.replace("path: .", "path: ../../../../../../etc")),
    ("yolo", "data.yaml", "train outside", lambda text: text.replace("train: images/train", "train: /etc")),
    ("yolo", "data.yaml", "names that are numbers", lambda text: text.split("names:")[0] + "names: {0: 1, 1: 2, 2: 3, 3: 4}\n"),
    ("cvat-images", XML, "entities that grow", _xml_bomb),
    ("cvat-images", XML, "an entity that reads a file", _xml_file),
    ("cvat-images", XML, "a width of 10**9", _attribute("width", "1000000000")),
    ("cvat-images", XML, "a width that is no number", _attribute("width", "wide")),
    ("cvat-images", XML, "a width of 5000 digits", _attribute("width", HUGE.decode())),
    ("cvat-images", XML, "run lengths that overflow", _attribute("rle", "0, 99999999999999999999")),
    ("cvat-images", XML, "run lengths below 0", _attribute("rle", "-5, 105")),
    ("cvat-images", XML, "run lengths that are texts", _attribute("rle", "a, b")),
    ("cvat-images", XML, "a mask outside of the picture", _attribute("left", "-1000000")),
    ("cvat-images", XML, "a mask of 10**9 lines", lambda text: _attribute("height", "1000000000")(text.replace('height="96"', 'HEIGHT="96"')).replace("HEIGHT", "height")),
    ("cvat-images", XML, "a picture outside", _attribute("name", "../../../../etc/passwd")),
    ("cvat-images", XML, "100,000 elements in each other", lambda text: text.replace("<meta>", "<meta>" + "<a>" * 100_000 + "</a>" * 100_000)),
    ("cvat-images", XML, "another encoding than it says", lambda text: text.replace("utf-8", "utf-16")),
    ("cvat-images", XML, "an unknown encoding", lambda text: text.replace("utf-8", "attack-8")),
    ("cvat-video", XML, "entities that grow", _xml_bomb),
    ("cvat-video", XML, "an entity that reads a file", _xml_file),
    ("cvat-video", XML, "a frame of 10**12", _attribute("frame", "1000000000000")),
    ("cvat-video", XML, "a frame below 0", _attribute("frame", "-1")),
    ("cvat-video", XML, "a frame that is no number", _attribute("frame", "NaN")),
    ("cvat-video", XML, "run lengths that overflow", _attribute("rle", "0, 99999999999999999999")),
    ("cvat-video", XML, "10**9 frames in the task", lambda text: re.sub("<size>[0-9]+</size>", "<size>1000000000</size>", text, count=1)),
    ("labelme", LABELME, "coordinates of 10**300", _shape(shape_type="polygon", points=[[1e300, 0], [0, 1e300], [1e300, 1e300]])),
    ("labelme", LABELME, "coordinates NaN", _shape(points=[[float("nan"), 0]] * 3)),
    ("labelme", LABELME, "points that are numbers", _shape(points=[1, 2, 3])),
    ("labelme", LABELME, "a mask that is no PNG", _shape(shape_type="mask", mask="AAAA", points=[[0, 0], [9, 9]])),
    ("labelme", LABELME, "a mask that is not base64", _shape(shape_type="mask", mask="\u00e4\u00f6", points=[[0, 0], [9, 9]])),
    ("labelme", LABELME, "a label that is null", _shape(label=None)),
    ("labelme", LABELME, "a picture outside", _json(lambda record: record.update(imagePath="../../../etc/passwd"))),
    ("labelme", LABELME, "a picture of 10**9 x 10**9", _json(lambda record: record.update(imageWidth=10**9, imageHeight=10**9))),
    ("labelme", LABELME, "a picture of texts", _json(lambda record: record.update(imageWidth="wide", imageHeight=None))),
    ("label-studio", "tasks.json", "run lengths that are no code", lambda text: re.sub(r'"rle": \[[^]]*\]', '"rle": [255, 255, 255, 255, 255, 255]', text, count=1)),
    ("label-studio", "tasks.json", "run lengths of 2**32 pixels", lambda text: re.sub(r'"rle": \[', '"rle": [255, 255, 255, 255, ', text, count=1).replace('"rle": [255, 255, 255, 255, 0, 0, 192, 0', '"rle": [255, 255, 255, 255')),
    ("label-studio", "tasks.json", "run lengths that are texts", lambda text: re.sub(r'"rle": \[[^]]*\]', '"rle": ["a"]', text, count=1)),
    ("label-studio", "tasks.json", "run lengths beyond a byte", lambda text: re.sub(r'"rle": \[[^]]*\]', '"rle": [100000, -1]', text, count=1)),
    ("label-studio", "tasks.json", "a picture of 10**9", lambda text: text.replace('"original_width": 128', '"original_width": 1000000000', 1)),
    ("label-studio", "tasks.json", "a picture outside", lambda text: text.replace("images/frame_00001.png", "../../../../etc/passwd", 1)),
    ("label-studio", "tasks.json", "a picture of the internet", lambda text: text.replace("/data/local-files/?d=images", "http://192.0.2.1", 1)),
    ("davis", "meta.json", "a video outside", lambda text: text.replace('"clip"', '"../../../clip"')),
    ("ome-zarr", "labels.ome.zarr/labels/instruments/0/zarr.json", "10**15 frames", _json(lambda record: record.update(shape=[10**15, 96, 128]))),
    ("ome-zarr", "labels.ome.zarr/labels/instruments/0/zarr.json", "10**6 x 10**6 pixels", _json(lambda record: record.update(shape=[4, 10**6, 10**6]))),
    ("ome-zarr", "labels.ome.zarr/labels/instruments/0/zarr.json", "an unknown codec", _json(lambda record: record.update(codecs=[{"name": "os.system"}]))),
    ("ome-zarr", "labels.ome.zarr/labels/instruments/0/zarr.json", "a chunk of 10**12", _json(lambda record: record["chunk_grid"]["configuration"].update(chunk_shape=[1, 10**6, 10**6]))),
    ("ome-zarr", "labels.ome.zarr/zarr.json", "labels outside", lambda text: text.replace("labels", "../../../etc")),
    ("voc", "labelmap.txt", "colours of 10**9", lambda text: text.replace("0,0,0", "1000000000,0,-5")),
    ("voc", "labelmap.txt", "no colours", lambda _text: "a::\nb::\n"),
    ("voc", "ImageSets/Segmentation/*.txt", "a picture outside", lambda _text: "../../../../etc/passwd\n"),
    ("endoscapes", "seg_label_map.txt", "a million names", lambda _text: "name\n" * 1_000_000),
)  # fmt: skip


def _archive(scene: Scene, folder: Path) -> list[str]:
    with zipfile.ZipFile(folder / "dataset.zip", "w") as archive:
        for path in scene.dataset("coco").rglob("*"):
            archive.write(path, path.relative_to(scene.dataset("coco")))
    return _import(scene, folder, folder / "dataset.zip")


def _archive_bomb(scene: Scene, folder: Path) -> list[str]:
    zip_bomb(folder / "dataset.zip", {"../../outside.txt": b"attack"})
    return _import(scene, folder, folder / "dataset.zip")


def _folder_of(make: Callable[[Path], object]) -> Prepare:
    def prepare(scene: Scene, folder: Path) -> list[str]:
        dataset = folder / "dataset"
        dataset.mkdir()
        make(dataset)
        return _import(scene, folder, dataset)

    return prepare


def _links_out(dataset: Path) -> None:
    """Labels that are links to files of the person."""
    for index in range(3):
        (dataset / f"frame_{index:05}.png").symlink_to("/etc/passwd")


def _circle(dataset: Path) -> None:
    """A folder that contains itself."""
    (dataset / "again").symlink_to(dataset)


def _deep_folders(dataset: Path) -> None:
    folder = dataset
    for _ in range(200):
        folder /= "a"
        folder.mkdir()


OTHERS: dict[str, Prepare] = {
    "a zip of a dataset": _archive,
    "a zip that unpacks to 2 GiB": _archive_bomb,
    "an empty folder": _folder_of(lambda _dataset: None),
    "links to files outside": _folder_of(_links_out),
    "a folder that contains itself": _folder_of(_circle),
    "200 folders in each other": _folder_of(_deep_folders),
    "10,000 empty files": _folder_of(lambda dataset: [(dataset / f"frame_{n:05}.png").touch() for n in range(10_000)]),
    "names that are no text": _folder_of(lambda dataset: (dataset / "frame_\udcff_1.png").touch()),
    "a JSON of other content": _folder_of(lambda dataset: (dataset / "x.json").write_text('{"a": 1}')),
    "a JSON deeply nested": _folder_of(lambda dataset: (dataset / "x.json").write_bytes(DEEP)),
    "an XML with entities that grow": _folder_of(lambda dataset: (dataset / "x.xml").write_text(XML_BOMB + "<annotations>&h;</annotations>")),
    "a YAML with aliases that grow": _folder_of(lambda dataset: (dataset / "x.yaml").write_text(YAML_BOMB)),
    "a file that is no dataset": lambda scene, folder: _import(scene, folder, copied(scene.video, folder / "dataset.json")),
}  # fmt: skip
