"""Attacks on the text of annotation files: impossible numbers, text that grows, paths that lead out; for `bad_inputs.py`."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

from bad_files import DEEP, HUGE, XML_BOMB, YAML_BOMB, Damage

SIDECAR = "classes.json"

Text = Callable[[str], str]


def text_damage(change: Text) -> Damage:
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


def _field(number: int, value: str) -> Text:
    """Another value in the first line."""

    def changed(text: str) -> str:
        first, *rest = text.splitlines()
        fields = first.split()
        fields[number] = value
        return "\n".join((" ".join(fields), *rest)) + "\n"

    return changed


def _attribute(name: str, value: str) -> Text:
    return lambda text: re.sub(rf'{name}="[^"]*"', f'{name}="{value}"', text, count=1)


def _xml_bomb(text: str) -> str:
    return XML_BOMB + text.partition("?>")[2].replace("<version>1.1</version>", "<version>&h;</version>")


def _xml_file(text: str) -> str:
    entity = '<?xml version="1.0"?><!DOCTYPE annotations [<!ENTITY secret SYSTEM "file:///etc/passwd">]>'
    return entity + text.partition("?>")[2].replace("<version>1.1</version>", "<version>&secret;</version>")


COCO, XML, LABELME, YOLO = "annotations/*.json", "annotations.xml", "frame_00001.json", "labels/train/*.txt"
YTVIS, MOTS, MOTS_NAMES = "instances.json", "instances_txt/clip.txt", "instances/labels.txt"
ATTACKS: tuple[tuple[str, str, str, Text], ...] = (
    (
        "coco",
        COCO,
        "polygon coordinates of 10**300",
        _coco("annotations", segmentation=[[1e300, 0, 1e300, 1e300, 0, 1e300]]),
    ),
    ("coco", COCO, "polygon coordinates NaN", _coco("annotations", segmentation=[[float("nan")] * 6])),
    ("coco", COCO, "polygon coordinates infinite", _coco("annotations", segmentation=[[float("inf")] * 6])),
    ("coco", COCO, "polygon of texts", _coco("annotations", segmentation=[["a"] * 6])),
    ("coco", COCO, "polygon of an odd number", _coco("annotations", segmentation=[[1, 2, 3, 4, 5, 6, 7]])),
    ("coco", COCO, "100,000 points", _coco("annotations", segmentation=[[float(n % 90) for n in range(200_000)]])),
    (
        "coco",
        COCO,
        "run lengths that overflow",
        _coco("annotations", segmentation={"size": [96, 128], "counts": [2**62, 2**62, 2**62]}),
    ),
    ("coco", COCO, "run lengths below 0", _coco("annotations", segmentation={"size": [96, 128], "counts": [-5, 12293]})),
    (
        "coco",
        COCO,
        "run lengths of another size",
        _coco("annotations", segmentation={"size": [10**6, 10**6], "counts": [10**12]}),
    ),
    (
        "coco",
        COCO,
        "packed run lengths that are no code",
        _coco("annotations", segmentation={"size": [96, 128], "counts": "~~~~\x7f\x00"}),
    ),
    (
        "coco",
        COCO,
        "packed run lengths that never end",
        _coco("annotations", segmentation={"size": [96, 128], "counts": "o" * 100_000}),
    ),
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
    (
        "yolo",
        "data.yaml",
        "names that are numbers",
        lambda text: text.split("names:")[0] + "names: {0: 1, 1: 2, 2: 3, 3: 4}\n",
    ),
    ("cvat-images", XML, "entities that grow", _xml_bomb),
    ("cvat-images", XML, "an entity that reads a file", _xml_file),
    ("cvat-images", XML, "a width of 10**9", _attribute("width", "1000000000")),
    ("cvat-images", XML, "a width that is no number", _attribute("width", "wide")),
    ("cvat-images", XML, "a width of 5000 digits", _attribute("width", HUGE.decode())),
    ("cvat-images", XML, "run lengths that overflow", _attribute("rle", "0, 99999999999999999999")),
    ("cvat-images", XML, "run lengths below 0", _attribute("rle", "-5, 105")),
    ("cvat-images", XML, "run lengths that are texts", _attribute("rle", "a, b")),
    ("cvat-images", XML, "a mask outside of the picture", _attribute("left", "-1000000")),
    (
        "cvat-images",
        XML,
        "a mask of 10**9 lines",
        lambda text: _attribute("height", "1000000000")(text.replace('height="96"', 'HEIGHT="96"')).replace(
            "HEIGHT", "height"
        ),
    ),
    ("cvat-images", XML, "a picture outside", _attribute("name", "../../../../etc/passwd")),
    (
        "cvat-images",
        XML,
        "100,000 elements in each other",
        lambda text: text.replace("<meta>", "<meta>" + "<a>" * 100_000 + "</a>" * 100_000),
    ),
    ("cvat-images", XML, "another encoding than it says", lambda text: text.replace("utf-8", "utf-16")),
    ("cvat-images", XML, "an unknown encoding", lambda text: text.replace("utf-8", "attack-8")),
    ("cvat-video", XML, "entities that grow", _xml_bomb),
    ("cvat-video", XML, "an entity that reads a file", _xml_file),
    ("cvat-video", XML, "a frame of 10**12", _attribute("frame", "1000000000000")),
    ("cvat-video", XML, "a frame below 0", _attribute("frame", "-1")),
    ("cvat-video", XML, "a frame that is no number", _attribute("frame", "NaN")),
    ("cvat-video", XML, "run lengths that overflow", _attribute("rle", "0, 99999999999999999999")),
    (
        "cvat-video",
        XML,
        "10**9 frames in the task",
        lambda text: re.sub("<size>[0-9]+</size>", "<size>1000000000</size>", text, count=1),
    ),
    (
        "labelme",
        LABELME,
        "coordinates of 10**300",
        _shape(shape_type="polygon", points=[[1e300, 0], [0, 1e300], [1e300, 1e300]]),
    ),
    ("labelme", LABELME, "coordinates NaN", _shape(points=[[float("nan"), 0]] * 3)),
    ("labelme", LABELME, "points that are numbers", _shape(points=[1, 2, 3])),
    ("labelme", LABELME, "a mask that is no PNG", _shape(shape_type="mask", mask="AAAA", points=[[0, 0], [9, 9]])),
    (
        "labelme",
        LABELME,
        "a mask that is not base64",
        _shape(shape_type="mask", mask="\u00e4\u00f6", points=[[0, 0], [9, 9]]),
    ),
    ("labelme", LABELME, "a label that is null", _shape(label=None)),
    ("labelme", LABELME, "a picture outside", _json(lambda record: record.update(imagePath="../../../etc/passwd"))),
    (
        "labelme",
        LABELME,
        "a picture of 10**9 x 10**9",
        _json(lambda record: record.update(imageWidth=10**9, imageHeight=10**9)),
    ),
    ("labelme", LABELME, "a picture of texts", _json(lambda record: record.update(imageWidth="wide", imageHeight=None))),
    (
        "label-studio",
        "tasks.json",
        "run lengths that are no code",
        lambda text: re.sub(r'"rle": \[[^]]*\]', '"rle": [255, 255, 255, 255, 255, 255]', text, count=1),
    ),
    (
        "label-studio",
        "tasks.json",
        "run lengths of 2**32 pixels",
        lambda text: re.sub(r'"rle": \[', '"rle": [255, 255, 255, 255, ', text, count=1).replace(
            '"rle": [255, 255, 255, 255, 0, 0, 192, 0', '"rle": [255, 255, 255, 255'
        ),
    ),
    (
        "label-studio",
        "tasks.json",
        "run lengths that are texts",
        lambda text: re.sub(r'"rle": \[[^]]*\]', '"rle": ["a"]', text, count=1),
    ),
    (
        "label-studio",
        "tasks.json",
        "run lengths beyond a byte",
        lambda text: re.sub(r'"rle": \[[^]]*\]', '"rle": [100000, -1]', text, count=1),
    ),
    (
        "label-studio",
        "tasks.json",
        "a picture of 10**9",
        lambda text: text.replace('"original_width": 128', '"original_width": 1000000000', 1),
    ),
    (
        "label-studio",
        "tasks.json",
        "a picture outside",
        lambda text: text.replace("images/frame_00001.png", "../../../../etc/passwd", 1),
    ),
    (
        "label-studio",
        "tasks.json",
        "a picture of the internet",
        lambda text: text.replace("/data/local-files/?d=images", "http://192.0.2.1", 1),
    ),
    ("davis", "meta.json", "a video outside", lambda text: text.replace('"clip"', '"../../../clip"')),
    (
        "ome-zarr",
        "labels.ome.zarr/labels/instruments/0/zarr.json",
        "10**15 frames",
        _json(lambda record: record.update(shape=[10**15, 96, 128])),
    ),
    (
        "ome-zarr",
        "labels.ome.zarr/labels/instruments/0/zarr.json",
        "10**6 x 10**6 pixels",
        _json(lambda record: record.update(shape=[4, 10**6, 10**6])),
    ),
    (
        "ome-zarr",
        "labels.ome.zarr/labels/instruments/0/zarr.json",
        "an unknown codec",
        _json(lambda record: record.update(codecs=[{"name": "os.system"}])),
    ),
    (
        "ome-zarr",
        "labels.ome.zarr/labels/instruments/0/zarr.json",
        "a chunk of 10**12",
        _json(lambda record: record["chunk_grid"]["configuration"].update(chunk_shape=[1, 10**6, 10**6])),
    ),
    (
        "ome-zarr",
        "labels.ome.zarr/labels/instruments/zarr.json",
        "labels outside",
        _json(lambda record: record["attributes"]["ome"]["multiscales"][0]["datasets"][0].update(path="../../../../../etc")),
    ),
    ("youtube-vis", YTVIS, "a track of 10**30", _coco("annotations", id=10**30, track_id=10**30)),
    ("youtube-vis", YTVIS, "a track that is a list", _coco("annotations", id=[1], track_id=[[1]])),
    ("youtube-vis", YTVIS, "a track of NaN", _coco("annotations", track_id=float("nan"))),
    ("youtube-vis", YTVIS, "a track of 4000 digits in text", _coco("annotations", track_id="9" * 4000)),
    ("youtube-vis", YTVIS, "an instance of 10**30", _coco("annotations", instance_id=10**30)),
    ("youtube-vis", YTVIS, "segmentations that are missing", _coco("annotations", segmentations=[None])),
    ("youtube-vis", YTVIS, "segmentations that are texts", _coco("annotations", segmentations=["a"] * 2)),
    ("youtube-vis", YTVIS, "segmentations deeply nested", lambda text: text.replace("null", "[" * 50_000, 1)),
    (
        "youtube-vis",
        YTVIS,
        "run lengths of another size",
        _coco("annotations", segmentations=[{"size": [10**6, 10**6], "counts": [10**12]}] * 2),
    ),
    ("youtube-vis", YTVIS, "an unknown video", _coco("annotations", video_id=10**30)),
    ("youtube-vis", YTVIS, "an unknown class", _coco("annotations", category_id=10**30)),
    ("youtube-vis", YTVIS, "a class that is a list", _coco("annotations", category_id=[1])),
    ("youtube-vis", YTVIS, "a picture of 10**9 x 10**9", _coco("videos", width=10**9, height=10**9)),
    ("youtube-vis", YTVIS, "a picture outside", _coco("videos", file_names=["../../../../etc/passwd"] * 2)),
    ("youtube-vis", YTVIS, "file names that are numbers", _coco("videos", file_names=[1, 2])),
    ("youtube-vis", SIDECAR, "tracks of 10**30", _json(lambda record: record.update(tracks={"1": 10**30, "2": -5}))),
    ("youtube-vis", SIDECAR, "tracks without end", _json(lambda record: record.update(tracks={"1": float("inf")}))),
    ("mots", SIDECAR, "tracks that are a list", _json(lambda record: record.update(tracks=[1, 2]))),
    ("mots", MOTS_NAMES, "a million names", lambda _text: "name\n" * 1_000_000),
    ("mots-text", MOTS, "a frame of 10**12", _field(0, "1000000000000")),
    ("mots-text", MOTS, "an id of 10**30", _field(1, "1" + "0" * 30)),
    ("mots-text", MOTS, "an id of 5000 digits", _field(1, HUGE.decode())),
    ("mots-text", MOTS, "a class of 10**9", _field(2, "1000000000")),
    ("mots-text", MOTS, "a height of 10**9", _field(3, "1000000000")),
    ("mots-text", MOTS, "a height of 5000 digits", _field(3, HUGE.decode())),
    ("mots-text", MOTS, "run lengths that are no code", _field(5, "~~~~\x7f\x01")),
    ("mots-text", MOTS, "run lengths that never end", _field(5, "o" * 100_000)),
    ("mots-text", MOTS, "a line of 20 MB", _field(5, "0" * 20_000_000)),
    ("voc", "labelmap.txt", "colours of 10**9", lambda text: text.replace("0,0,0", "1000000000,0,-5")),
    ("voc", "labelmap.txt", "no colours", lambda _text: "a::\nb::\n"),
    ("voc", "ImageSets/Segmentation/*.txt", "a picture outside", lambda _text: "../../../../etc/passwd\n"),
    ("endoscapes", "seg_label_map.txt", "a million names", lambda _text: "name\n" * 1_000_000),
)
