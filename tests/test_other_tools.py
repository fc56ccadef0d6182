"""Labels as other tools write them: read pixel by pixel, or refused with the place; what is left out is counted."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
import yaml
import zarr
from PIL import Image

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.dataset import Dataset
from surgicalsam_napari.exchange.format import ExportTarget, FrameToWrite
from surgicalsam_napari.exchange.formats import brush_rle
from surgicalsam_napari.exchange.label_colors import VOID, voc_palette
from surgicalsam_napari.exchange.registry import EXPORT_FORMATS, open_dataset
from surgicalsam_napari.exchange.writing import write_frames
from surgicalsam_napari.instruments import ClassSet, InstrumentClass

SIZE = (40, 50)
NAMES = ("Grasper", "Hook")
TWO = ClassSet("two", tuple(InstrumentClass(i + 1, name, f"#{i + 1}{i + 1}0000") for i, name in enumerate(NAMES)))


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*SIZE, 3)).astype(np.uint8)).save(path)
    return path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def box(value: int, rows: tuple[int, int] = (5, 20), columns: tuple[int, int] = (10, 30)) -> np.ndarray:
    labels = np.zeros(SIZE, np.uint8)
    labels[slice(*rows), slice(*columns)] = value
    return labels


def skipped(dataset: Dataset) -> dict[str, int]:
    return {one.what: one.count for one in dataset.skipped}


def label_maps(dataset: Dataset) -> dict[int, np.ndarray]:
    return {frame.frame_index: dataset.label_map(frame) for frame in dataset.frames}


# YOLO ----------------------------------------------------------------------------------------------------------------


def yolo_line(number: int, polygon: np.ndarray) -> str:
    return " ".join([str(number), *(f"{value:.6f}" for value in (polygon / (SIZE[1], SIZE[0])).ravel())]) + "\n"


def test_a_roboflow_export_is_read_as_opencv_fills_it(tmp_path: Path) -> None:
    polygon = np.array([(10.3, 5.2), (30.9, 8.4), (22.5, 31.7), (11.1, 30.2)])
    name = "clip_mp4-0010_jpg.rf.0123abcd4567"
    picture(tmp_path / f"train/images/{name}.jpg")
    picture(tmp_path / "valid/images/clip_mp4-0012_jpg.rf.99ff.jpg")
    write(tmp_path / f"train/labels/{name}.txt", yolo_line(1, polygon) + "0 0.5 0.5 0.1 0.1\n")
    write(tmp_path / "valid/labels/clip_mp4-0012_jpg.rf.99ff.txt", "")
    write(tmp_path / "data.yaml", yaml.safe_dump({"names": list(NAMES), "nc": 2, "train": "../train/images"}))
    dataset = open_dataset(tmp_path)
    expected = cv2.fillPoly(np.zeros(SIZE, np.uint8), [np.floor(polygon).astype(np.int32)], 2)
    np.testing.assert_array_equal(label_maps(dataset)[10], expected)
    assert [frame.frame_index for frame in dataset.unannotated] == [12]
    assert skipped(dataset) == {"boxes without an outline": 1}
    first = dataset.frames[0]
    assert [TWO.by_id(class_id).name for class_id in dataset.annotated_class_ids(first)] == ["Hook"]  # the box is unknown


def test_darknet_files_beside_their_pictures_are_read(tmp_path: Path) -> None:
    picture(tmp_path / "frame_000003.png")
    write(tmp_path / "frame_000003.txt", yolo_line(0, np.array([(10, 5), (29, 5), (29, 19), (10, 19)]) + 0.1))
    write(tmp_path / "classes.txt", "Grasper\nHook\n")
    np.testing.assert_array_equal(label_maps(open_dataset(tmp_path))[3], box(1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7 0.1 0.1 0.2 0.1 0.2 0.2\n", "line 1 has the class number 7, but there are names only for 0 to 1"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2 0.9\n", "one number too many"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2\n0 a b\n", "line 2 is no line of YOLO labels"),
        ("0 0.1 0.1 9e9 0.1 0.2 0.2\n", "x = .*but the picture has 50 x 40 pixels"),
    ],
)
def test_lines_that_cannot_be_are_refused_with_their_place(tmp_path: Path, text: str, expected: str) -> None:
    picture(tmp_path / "images/frame_3.png")
    write(tmp_path / "labels/frame_3.txt", text)
    write(tmp_path / "data.yaml", yaml.safe_dump({"names": dict(enumerate(NAMES))}))
    with pytest.raises(ExchangeError, match=expected):
        label_maps(open_dataset(tmp_path))


def test_an_exported_file_that_was_cut_is_refused(tmp_path: Path) -> None:
    frame = FrameToWrite("clip", 3, "frame_00003", box(1), np.zeros((*SIZE, 3), np.uint8), TWO.ids)
    for _ in write_frames(ExportTarget(tmp_path / "out", TWO, "clip.mp4"), EXPORT_FORMATS["yolo"], [frame], 1):
        pass
    np.testing.assert_array_equal(label_maps(open_dataset(tmp_path / "out"))[3], box(1))
    file = tmp_path / "out/labels/train/frame_00003.txt"
    file.write_text(file.read_text()[:-12])
    with pytest.raises(ExchangeError, match="ends within a line"):
        open_dataset(tmp_path / "out")


def test_yolo_labels_without_their_picture_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "labels/frame_3.txt", "0 0.1 0.1 0.2 0.1 0.2 0.2\n")
    write(tmp_path / "data.yaml", yaml.safe_dump({"names": list(NAMES)}))
    with pytest.raises(ExchangeError, match="the size of the picture is needed"):
        open_dataset(tmp_path)


# CVAT ----------------------------------------------------------------------------------------------------------------

META = (
    "<meta><task>{}<labels><label><name>Grasper</name><color>#ff0000</color></label><label><name>Hook</name></label></labels>"
    "<original_size><width>50</width><height>40</height></original_size></task></meta>"
)


def cvat(folder: Path, body: str, task: str = "") -> Path:
    write(folder / "annotations.xml", f"<annotations><version>1.1</version>{META.format(task)}{body}</annotations>")
    return folder


def test_cvat_shapes_cover_each_other_by_their_z_order(tmp_path: Path) -> None:
    square = "10.00,5.00;30.00,5.00;30.00,20.00;10.00,20.00"
    body = f"""<image id="0" name="frame_000004.png" width="50" height="40">
      <polygon label="Grasper" points="{square}" z_order="1"/>
      <mask label="Hook" rle="0, 200" left="20" top="10" width="20" height="10" z_order="0"/>
      <box label="Hook" xtl="0" ytl="0" xbr="4" ybr="4" z_order="0"/></image>
      <image id="1" name="frame_000005.png" width="50" height="40"/>
      <image id="2" name="frame_000006.png" width="50" height="40"><box label="Hook"/></image>"""
    dataset = open_dataset(cvat(tmp_path, body))
    assert dataset.format == "cvat-images"
    expected = box(2, (10, 20), (20, 40))
    expected[5:20, 10:30] = 1
    np.testing.assert_array_equal(label_maps(dataset)[4], expected)
    assert [frame.frame_index for frame in dataset.frames] == [4, 5]  # frame 6 has only a box
    assert [frame.frame_index for frame in dataset.unannotated] == [5]
    assert skipped(dataset) == {"boxes without an outline": 2}
    assert dataset.classes.by_name("Grasper").color == "#ff0000"


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ('<mask label="Hook" rle="0, 199" left="20" top="10" width="20" height="10"/>', "199 pixels for a box of 20 x 10"),
        ('<mask label="Hook" rle="0, 200" left="40" top="10" width="20" height="10"/>', "a mask outside its picture"),
        ('<mask label="Hook" rle="0, 200" left="x" top="10" width="20" height="10"/>', 'whole number for "left"; got .x.'),
        ('<polygon label="Hook" points="1,2;3,4"/>', "at least three points"),
        ('<polygon label="Hook" points="1,2;3,4;1e308,5"/>', "x = 1e[+]308"),
        ('<polygon label="Needle" points="1,2;3,4;8,5"/>', "the label Needle, but the file has only Grasper, Hook"),
    ],
)
def test_cvat_shapes_that_cannot_be_are_refused_with_their_place(tmp_path: Path, shape: str, expected: str) -> None:
    body = f'<image id="0" name="frame_000004.png" width="50" height="40">{shape}</image>'
    with pytest.raises(ExchangeError, match=rf"annotations.xml, image frame_000004.png.*{expected}"):
        label_maps(open_dataset(cvat(tmp_path, body)))


def test_cvat_tracks_follow_the_frames_of_the_video(tmp_path: Path) -> None:
    def mask(frame: int, outside: int = 0) -> str:
        position = f'left="10" top="5" width="20" height="15" keyframe="1" outside="{outside}"'
        return f'<mask frame="{frame}" rle="0, 300" {position}/>'

    task = "<size>5</size><start_frame>10</start_frame><stop_frame>18</stop_frame><frame_filter>step=2</frame_filter>"
    body = f"""<track id="0" label="Hook">{mask(0)}{mask(1)}{mask(2, outside=1)}</track>
      <track id="1" label="Grasper"><box frame="3" outside="0" xtl="0" ytl="0" xbr="4" ybr="4"/></track>"""
    dataset = open_dataset(cvat(tmp_path, body, task))
    assert dataset.format == "cvat-video"
    frames = label_maps(dataset)
    assert sorted(frames) == [10, 12, 14, 18]  # 16 has only a box
    np.testing.assert_array_equal(frames[10], box(2))
    np.testing.assert_array_equal(frames[12], box(2))
    assert sorted(frame.frame_index for frame in dataset.unannotated) == [14, 18]
    assert skipped(dataset) == {"boxes without an outline": 1}


def test_frames_between_keyframes_that_the_file_does_not_give_are_left_out(tmp_path: Path) -> None:
    square = "10,5;30,5;30,20;10,20"
    shapes = "".join(f'<polygon frame="{frame}" keyframe="1" outside="0" points="{square}"/>' for frame in (0, 3))
    body = f'<track id="0" label="Hook">{shapes}</track>'
    dataset = open_dataset(cvat(tmp_path, body, "<size>5</size><start_frame>0</start_frame>"))
    assert sorted(label_maps(dataset)) == [0, 3, 4]
    assert skipped(dataset) == {"frames between two keyframes": 2}


# LabelMe and Label Studio --------------------------------------------------------------------------------------------


def labelme(folder: Path, shapes: list[dict[str, Any]], name: str = "frame_3") -> Path:
    record = {"version": "5.5.0", "shapes": shapes, "imagePath": f"{name}.png", "imageHeight": 40, "imageWidth": 50}
    write(folder / f"{name}.json", json.dumps(record))
    return folder


def test_labelme_polygons_masks_and_other_shapes(tmp_path: Path) -> None:
    patch = tmp_path / "patch.png"
    Image.fromarray(np.ones((15, 20), bool)).save(patch)
    mask = base64.b64encode(patch.read_bytes()).decode()
    patch.unlink()
    shapes = [
        {"label": "Hook", "shape_type": "mask", "points": [[10.0, 5.0], [29.0, 19.0]], "mask": mask},
        {"label": "Grasper", "shape_type": "polygon", "points": [[40, 30], [44, 30], [44, 35], [40, 35]]},
        {"label": "Grasper", "shape_type": "rectangle", "points": [[0, 0], [5, 5]]},
        {"label": "__ignore__", "shape_type": "polygon", "points": [[0, 0], [5, 5], [5, 0]]},
    ]
    picture(labelme(tmp_path, shapes) / "frame_3.png")
    dataset = open_dataset(tmp_path)
    assert dataset.format == "labelme"
    ids = {name: dataset.classes.by_name(name).id for name in NAMES}
    expected = box(ids["Hook"])
    expected[30:36, 40:45] = ids["Grasper"]
    np.testing.assert_array_equal(label_maps(dataset)[3], expected)
    assert skipped(dataset) == {"shapes of type rectangle": 1, "shapes of type __ignore__": 1}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ({"label": None, "shape_type": "polygon", "points": []}, r"shapes\[0\] of frame_3.json has no label"),
        ({"label": "Hook", "shape_type": "polygon", "points": [[1, 2]]}, "at least three points"),
        ({"label": "Hook", "shape_type": "mask", "points": [[1, 2], [3, 4]], "mask": "!!"}, "damaged mask"),
    ],
)
def test_labelme_shapes_that_cannot_be_are_refused(tmp_path: Path, shape: dict, expected: str) -> None:
    with pytest.raises(ExchangeError, match=expected):
        label_maps(open_dataset(labelme(tmp_path, [shape])))


def region(kind: str, value: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": kind, "original_width": 50, "original_height": 40, "image_rotation": 0, "value": value, **more}


def brush(mask: np.ndarray, label: str) -> dict[str, Any]:
    return region("brushlabels", {"format": "rle", "rle": brush_rle.encode(mask), "brushlabels": [label]})


def tasks(folder: Path, *annotations: list[dict]) -> Path:
    records = [
        {"id": i, "data": {"image": f"/data/upload/1/1a2b3c4d-frame_{i}.png"}, "annotations": entry}
        for i, entry in enumerate(annotations)
    ]
    write(folder / "project-1-at-2026.json", json.dumps(records))
    return folder


def test_label_studio_reads_the_latest_annotation_of_uploaded_pictures(tmp_path: Path) -> None:
    points = [[20, 12.5], [60, 12.5], [60, 50], [20, 50]]
    polygon = region("polygonlabels", {"points": points, "polygonlabels": ["Hook"]})
    rectangle = region("rectanglelabels", {"x": 1, "y": 1, "width": 5, "height": 5, "rectanglelabels": ["Grasper"]})
    first = {"result": [brush(box(1) > 0, "Grasper")], "updated_at": "2026-01-01"}
    second = {"result": [polygon], "updated_at": "2026-01-02"}
    cancelled = {"result": [brush(box(1) > 0, "Grasper")], "was_cancelled": True}
    folder = tasks(tmp_path, [second, first], [{"result": [brush(box(1) > 0, "Grasper"), rectangle]}], [cancelled])
    dataset = open_dataset(folder)
    assert dataset.format == "label-studio"
    frames, ids = label_maps(dataset), {name: dataset.classes.by_name(name).id for name in NAMES}
    np.testing.assert_array_equal(frames[0], box(ids["Hook"]))
    np.testing.assert_array_equal(frames[1], box(ids["Grasper"]))
    assert sorted(frames) == [0, 1]
    assert skipped(dataset) == {
        "earlier annotations of the same picture": 1,
        "cancelled annotations": 1,
        "regions of type rectanglelabels": 1,
        "pictures without a region, whose size is not known": 1,
    }


@pytest.mark.parametrize("size", [(1, 1), (7, 3), SIZE, (300, 301)])
def test_brush_run_lengths_survive_and_literal_values_are_read(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    for share in (0.0, 0.01, 0.5, 1.0):
        mask = rng.random(size) < share
        np.testing.assert_array_equal(brush_rle.decode(brush_rle.encode(mask), size), mask)
    # one pixel as literal values: 4 values, words of 8 bits, sizes 3, 4, 8, 16; a literal of 4 values
    bits = f"{4:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}" + "0" + "00" + f"{3:03b}" + f"{0:08b}{0:08b}{0:08b}{255:08b}"
    data = [int(bits[start : start + 8].ljust(8, "0"), 2) for start in range(0, len(bits), 8)]
    assert brush_rle.decode(data, (1, 1)).tolist() == [[True]]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda record: record["value"].update(rle=record["value"]["rle"][:9]), "end too early"),
        (lambda record: record.update(original_width=49), "the picture has 49 x 40 pixels"),
        (lambda record: record.update(image_rotation=90), "rotated by 90 degrees"),
        (lambda record: record["value"].update(brushlabels=["Grasper", "Hook"]), "the labels Grasper, Hook"),
    ],
)
def test_label_studio_regions_that_cannot_be_are_refused(
    tmp_path: Path, change: Callable[[dict], Any], expected: str
) -> None:
    record = brush(box(1) > 0, "Grasper")
    change(record)
    with pytest.raises(ExchangeError, match=rf"task 0 of project-1-at-2026.json.*{expected}"):
        label_maps(open_dataset(tasks(tmp_path, [{"result": [record]}])))


# Pictures and stacks -------------------------------------------------------------------------------------------------


def test_pascal_voc_with_its_own_palette_needs_classes_and_counts_the_border(tmp_path: Path) -> None:
    labels = box(2)
    labels[5] = 255
    image = Image.fromarray(labels).convert("P")
    image.putpalette(voc_palette().ravel().tolist())
    folder = tmp_path / "VOCdevkit/VOC2012"
    picture(folder / "JPEGImages/clip_000003.jpg")
    (folder / "SegmentationClass").mkdir()
    image.save(folder / "SegmentationClass/clip_000003.png")
    with pytest.raises(ExchangeError, match="Give its class set"):
        open_dataset(tmp_path)
    dataset = open_dataset(tmp_path, classes=TWO)
    np.testing.assert_array_equal(label_maps(dataset)[3], np.where(labels == 255, 0, labels))
    assert skipped(dataset) == {"border pixels without a class": 50}
    assert tuple(voc_palette()[255]) == VOID
    assert voc_palette()[[1, 2, 3, 20]].tolist() == [[128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 64, 128]]


def test_a_cvat_segmentation_mask_with_an_unknown_colour_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\nHook:10,20,30::\n")
    (tmp_path / "SegmentationClass").mkdir()
    pixels = np.zeros((*SIZE, 3), np.uint8)
    pixels[3:9, 4:9] = (10, 20, 30)
    Image.fromarray(pixels).save(tmp_path / "SegmentationClass/frame_000003.png")
    assert np.count_nonzero(label_maps(open_dataset(tmp_path))[3]) == 30
    pixels[3, 4] = (11, 20, 30)
    Image.fromarray(pixels).save(tmp_path / "SegmentationClass/frame_000003.png")
    with pytest.raises(ExchangeError, match=r"colour \(11, 20, 30\) in 1 pixels .*x = 4, y = 3.*labelmap.txt"):
        label_maps(open_dataset(tmp_path))


@pytest.mark.parametrize(
    ("mask", "image"),
    [
        ("{video}/masks/{frame:06d}.png", "{video}/images/{frame:06d}.jpg"),
        ("masks/{video}/{frame:06d}.png", "images/{video}/{frame:06d}.jpg"),
        ("{video}/{frame:06d}_mask.png", "{video}/{frame:06d}.jpg"),
        ("{video}/gt/manual/{frame:06d}.tif", None),
    ],
)
def test_folders_of_id_masks_are_one_sequence_for_each_video(tmp_path: Path, mask: str, image: str | None) -> None:
    for video, frame in (("clip-1", 3), ("clip-1", 12), ("clip-2", 3)):
        path = tmp_path / mask.format(video=video, frame=frame)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(box(1 if video == "clip-1" else 2)).save(path)
        if image is not None:
            picture(tmp_path / image.format(video=video, frame=frame))
    with pytest.raises(ExchangeError, match="Give its class set"):
        open_dataset(tmp_path)
    dataset = open_dataset(tmp_path, classes=TWO)
    assert dataset.format == "id-masks"
    found = {(frame.sequence.split("/")[0], frame.frame_index): dataset.label_map(frame) for frame in dataset.frames}
    assert set(found) == {("clip-1", 3), ("clip-1", 12), ("clip-2", 3)}
    np.testing.assert_array_equal(found["clip-2", 3], box(2))
    assert all((frame.image_path is not None) == (image is not None) for frame in dataset.frames)


def test_youtube_vos_takes_the_classes_of_its_objects_from_meta_json(tmp_path: Path) -> None:
    meta = {"videos": {"a1": {"objects": {"1": {"category": "hook", "frames": ["00005"]}, "2": {"category": "grasper"}}},
                       "b2": {"objects": {"1": {"category": "grasper", "frames": ["00005"]}}}}}  # fmt: skip
    write(tmp_path / "train/meta.json", json.dumps(meta))
    for video in ("a1", "b2"):
        picture(tmp_path / f"train/JPEGImages/{video}/00005.jpg")
        path = tmp_path / f"train/Annotations/{video}/00005.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(box(1)).save(path)
    dataset = open_dataset(tmp_path)
    assert dataset.format == "davis"
    named = {frame.sequence: dataset.classes.by_id(dataset.label_map(frame).max()).name for frame in dataset.frames}
    assert named == {"a1": "hook", "b2": "grasper"}
    (tmp_path / "train/meta.json").unlink()
    with pytest.raises(ExchangeError, match="numbers of objects"):
        open_dataset(tmp_path)


@pytest.mark.filterwarnings("ignore:data with shape:DeprecationWarning")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
@pytest.mark.parametrize("more", [0, 2])  # three frames are one page of three planes
def test_a_labels_layer_saved_by_napari_is_read_page_by_page(tmp_path: Path, dtype: type, more: int) -> None:
    stack = np.stack([box(1), np.zeros(SIZE, int), box(2), *[box(1)] * more]).astype(dtype)
    tifffile.imwrite(tmp_path / "Labels.tif", stack, compression="zlib")
    dataset = open_dataset(tmp_path / "Labels.tif", classes=TWO)
    assert dataset.format == "tiff-stack"
    np.testing.assert_array_equal(label_maps(dataset)[2], box(2))
    assert [frame.frame_index for frame in dataset.unannotated] == [1]
    tifffile.imwrite(tmp_path / "Labels.tif", (stack.astype(np.uint16) * 200), compression="zlib")
    with pytest.raises(ExchangeError, match=r"page 2 of Labels\.tif has the value 400, but class ids are 0 to 255"):
        open_dataset(tmp_path / "Labels.tif", classes=TWO)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_labels_of_other_tools_have_names_and_colours(tmp_path: Path, version: str) -> None:
    zarr_format = 2 if version == "0.4" else 3
    group = zarr.open_group(tmp_path / "video.zarr/labels/tools", mode="w", zarr_format=zarr_format)
    array = group.create_array("s0", shape=(3, 1, *SIZE), chunks=(1, 1, *SIZE), dtype="int32")
    array[1, 0] = box(7)
    multiscale = {"axes": [{"name": name} for name in "tcyx"], "datasets": [{"path": "s0"}]}
    label = {"colors": [{"label-value": 7, "rgba": [1, 2, 3, 255]}], "properties": [{"label-value": 7, "class": "Hook"}]}
    ome = {"version": version, "multiscales": [multiscale], "image-label": label}
    group.attrs.update(ome if version == "0.4" else {"ome": ome})
    dataset = open_dataset(tmp_path / "video.zarr")
    assert dataset.format == "ome-zarr"
    assert [(c.id, c.name, c.color) for c in dataset.classes] == [(7, "Hook", "#010203")]
    np.testing.assert_array_equal(label_maps(dataset)[1], box(7))
    assert sorted(frame.frame_index for frame in dataset.unannotated) == [0, 2]
