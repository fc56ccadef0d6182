"""Broken and hostile datasets of every format; for `bad_inputs.py`."""

from __future__ import annotations

import json
import random
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from bad_annotations import ATTACKS, SIDECAR, text_damage
from bad_files import (
    DEEP,
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

IMAGES = ("images", "JPEGImages", "img_dir", "rgb", "left_frames", "raw.png", "0", "endo.png", "train/1_")
READ_ONLY = [name for name in FORMATS if name not in EXPORT_FORMATS or name.startswith("endovis201")]  # as distributed
SIZE = (96, 128)


# Intact datasets of the formats that are only read ----------------------------------------------------------------------


def write_read_only(folder: Path) -> None:
    """A small dataset of each format that others distribute, as they do."""
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
    (folder / TEXT_ALONE).mkdir()
    shutil.copytree(folder / "mots" / "instances_txt", folder / TEXT_ALONE / "instances_txt")


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
    for name in (*FORMATS, TEXT_ALONE):
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
            f"dataset {name}", f"{pattern}: {fault}", _imported(name, pattern, text_damage(change), seed), right, writes=True
        )
    for fault, prepare in OTHERS.items():
        yield Case("dataset", fault, prepare, writes=True)


TEXT_ALONE = "mots-text"  # MOTS without its pictures
PARTS: dict[str, tuple[str, ...]] = {  # files that hold labels, as patterns
    "endovis": (SIDECAR, "annotations/clip/*.png", "binary_annotations/clip/*.png"),
    "indexed-png": (SIDECAR, "frame_*.png"),
    "coco": (SIDECAR, "annotations/*.json"),
    "yolo": ("data.yaml", "labels/train/*.txt"),
    "cvat-images": ("annotations.xml",),
    "cvat-video": ("annotations.xml",),
    "youtube-vis": (SIDECAR, "instances.json"),
    "mots": (
        SIDECAR,
        "instances/clip/*.png",
        "instances/labels.txt",
    ),
    TEXT_ALONE: ("instances_txt/clip.txt",),
    "labelme": ("frame_00001.json", "labels.txt"),
    "label-studio": ("tasks.json", "label_config.xml"),
    "voc": ("labelmap.txt", "SegmentationClass/*.png", "ImageSets/Segmentation/*.txt"),
    "davis": ("meta.json", "Annotations/Full-Resolution/clip/*.png"),
    "tiff-stack": (SIDECAR, "*.tif"),
    "ome-zarr": (
        "labels.ome.zarr/zarr.json",
        "labels.ome.zarr/labels/instruments/0/zarr.json",
        "labels.ome.zarr/labels/instruments/0/c/1/0/0",
    ),
    "endovis2017": ("instrument_dataset_1/ground_truth/*/*.png",),
    "endovis2018": ("annotations/seq_1/*.png",),
    "cholecseg8k": ("video01/*/*_watershed_mask.png",),
    "cholecinstanceseg": ("train/*/ann_dir/*.json",),
    "endoscapes": ("semseg/*.png", "seg_label_map.txt"),
    "m2caiseg": ("train/groundtruth/*.png",),
    "robust-mis": ("Training/*/1/*/instrument_instances.png",),
    "sar-rarp50": ("video_01/segmentation/*.png",),
    "id-masks": ("clip-1/masks/*.png",),
}


_GONE = ("removed", "a folder in its place", "a link to itself", "a named pipe")
_NAMES_ARE_ELSEWHERE = {
    ("yolo", "data.yaml"),
    ("labelme", "labels.txt"),
    ("label-studio", "label_config.xml"),
    ("davis", "meta.json"),
    ("mots", "instances/labels.txt"),
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
    **{
        ("youtube-vis", fault): "an object without a track that classes.json lists is an instance of its frames alone"
        for fault in (
            "a track of 10**30",
            "a track that is a list",
            "a track of NaN",
            "a track of 4000 digits in text",
            "an instance of 10**30",
        )
    },
    ("mots", "a million names"): "the file repeats the class names, which classes.json has, too",
    (TEXT_ALONE, "an id of 10**30"): "the id of a track may be any text; the track gets a free number",
    (TEXT_ALONE, "an id of 5000 digits"): "the id of a track may be any text; the track gets a free number",
    ("davis", "a video outside"): "meta.json repeats the class names, which classes.json has, too",
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
    "an XML with entities that grow": _folder_of(
        lambda dataset: (dataset / "x.xml").write_text(XML_BOMB + "<annotations>&h;</annotations>")
    ),
    "a YAML with aliases that grow": _folder_of(lambda dataset: (dataset / "x.yaml").write_text(YAML_BOMB)),
    "a file that is no dataset": lambda scene, folder: _import(scene, folder, copied(scene.video, folder / "dataset.json")),
}
