"""Instances, tracks and parts in the files of other tools and in public datasets, which the tests write."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as run_lengths

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.dataset import Dataset
from surgicalsam_napari.exchange.instances import LARGEST_TRACK_ID, numbered_tracks
from surgicalsam_napari.exchange.registry import open_dataset
from surgicalsam_napari.instruments import ENDOVIS2018

SIZE = (32, 48)


def box(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[rows, columns] = True
    return mask


def parts() -> np.ndarray:
    """Stripes of no part, shaft, wrist and clasper."""
    return np.repeat(np.arange(SIZE[1], dtype=np.uint8) % 4, SIZE[0]).reshape(SIZE[1], SIZE[0]).T


# ---- files of other tools


def rle(mask: np.ndarray, *, compressed: bool = True) -> dict:
    encoded = run_lengths.encode(np.asfortranarray(mask, np.uint8))
    if compressed:
        return {"size": list(mask.shape), "counts": encoded["counts"].decode()}
    changes = np.flatnonzero(np.diff(np.concatenate(([False], mask.T.ravel(), [True]))))
    return {"size": list(mask.shape), "counts": np.diff(changes, prepend=0).tolist()}


def write_json(path: Path, record: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    return path


LEFT, RIGHT = box(slice(2, 10), slice(2, 12)), box(slice(2, 10), slice(20, 30))


def coco_file(path: Path, fields: list[dict], *, has_videos: bool = False) -> Path:
    """Two grasper masks a frame, with these fields for each."""
    images = [{"id": n, "file_name": f"clip_{n:05d}.png", "height": SIZE[0], "width": SIZE[1]} for n in (1, 2)]
    if has_videos:
        images = [{**image, "video_id": 1, "frame_id": image["id"]} for image in images]
    annotations = [
        {"id": 10 * image + n, "image_id": image, "category_id": 1, "segmentation": rle(mask), "iscrowd": 0, **own}
        for image in (1, 2)
        for n, (mask, own) in enumerate(zip((LEFT, RIGHT), fields, strict=True))
    ]
    record = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "Grasper"}]}
    return write_json(path / "annotations.json", record)


def ids_at(dataset: Dataset, frame: int = 0) -> list[int]:
    """The values at the places of LEFT and RIGHT."""
    instances = dataset.instances(dataset.frames[frame])
    assert instances is not None
    return [int(np.unique(instances[mask]).item()) for mask in (LEFT, RIGHT)]


@pytest.mark.parametrize(
    ("fields", "has_videos", "expected"),
    [
        ([{"track_id": 4}, {"track_id": 9}], False, [4, 9]),
        ([{"attributes": {"track_id": 4}}, {"attributes": {"track_id": 9}}], False, [4, 9]),  # CVAT, datumaro
        ([{"instance_id": 4}, {"instance_id": 9}], True, [4, 9]),  # CocoVID
        ([{"track_id": "left"}, {"track_id": 1}], False, [2, 1]),
        ([{"track_id": -3}, {"track_id": 10**12}], False, [1, 2]),
        ([{"track_id": "7"}, {}], False, [7, 0]),
        ([{"track_id": 4}, {"track_id": 4}], False, [4, 4]),  # one instrument in two pieces
    ],
)
def test_tracks_of_coco_files_are_found(tmp_path: Path, fields: list[dict], has_videos: bool, expected: list[int]) -> None:
    dataset = open_dataset(coco_file(tmp_path, fields, has_videos=has_videos))
    assert dataset.has_tracks
    assert [ids_at(dataset, 0), ids_at(dataset, 1)] == [expected, expected]


def test_ids_that_are_no_track_ids_get_free_ones_and_a_note_says_so(tmp_path: Path) -> None:
    dataset = open_dataset(coco_file(tmp_path, [{"track_id": "left"}, {"track_id": 1}]))
    assert dataset.notes == (
        "1 track has an id that is no free whole number from 1 to 65535: the id \"left\" becomes 2",
    )  # fmt: skip
    numbers, note = numbered_tracks([True, 2.0, "2", None, LARGEST_TRACK_ID + 1])
    assert (numbers[2.0], sorted(numbers.values())) == (2, [1, 2, 3, 4, 5])
    assert note.startswith("4 tracks have ids")


@pytest.mark.parametrize(("crowd", "expected"), [((0, 1), [1, 0]), ((1, 1), [1, 2])])
def test_coco_annotations_without_tracks_are_instances_but_not_crowds(
    tmp_path: Path, crowd: tuple[int, int], expected: list[int]
) -> None:
    dataset = open_dataset(coco_file(tmp_path, [{"iscrowd": one} for one in crowd]))
    assert (dataset.has_instances, dataset.has_tracks) == (True, False)
    assert ids_at(dataset) == expected


def cvat_video(tracks: str) -> str:
    return (
        "<annotations><version>1.1</version><meta><task><size>3</size><start_frame>0</start_frame>"
        "<labels><label><name>Grasper</name></label></labels>"
        f"<original_size><width>{SIZE[1]}</width><height>{SIZE[0]}</height></original_size></task></meta>"
        f"{tracks}</annotations>"
    )


def test_each_track_of_cvat_is_a_track(tmp_path: Path) -> None:
    def polygon(frame: int, left: int, outside: int = 0) -> str:
        points = f"{left},2;{left + 10},2;{left + 10},10;{left},10"
        return f'<polygon frame="{frame}" keyframe="1" outside="{outside}" points="{points}"/>'

    first = "".join(polygon(frame, 2) for frame in range(3))
    second = polygon(0, 20) + polygon(1, 20, 1)
    third = polygon(2, 20)  # CVAT's copy of a track has the same id
    tracks = ((0, first), (1, second), (1, third))
    text = "".join(f'<track id="{number}" label="Grasper">{shapes}</track>' for number, shapes in tracks)
    (tmp_path / "annotations.xml").write_text(cvat_video(text))
    dataset = open_dataset(tmp_path)
    assert [ids_at(dataset, frame) for frame in range(3)] == [[1, 2], [1, 0], [1, 3]]


def vis_file(path: Path, **changes: object) -> Path:
    """As the authors of YouTube-VIS write it; the second instance is only in the last of three frames."""
    names = [f"0a1b/{number:05d}.jpg" for number in (0, 5, 10)]
    common = {"video_id": 1, "category_id": 3, "iscrowd": 0}
    annotations = [
        {"id": 21, **common, "segmentations": [rle(LEFT, compressed=False), None, rle(LEFT, compressed=False)]},
        {"id": 22, **common, "segmentations": [None, None, [[20, 2, 30, 2, 30, 10, 20, 10]]]},
    ]
    annotations[1] |= changes
    record = {
        "videos": [{"id": 1, "file_names": names, "height": SIZE[0], "width": SIZE[1], "length": 3}],
        "annotations": annotations,
        "categories": [{"id": 3, "name": "Grasper"}],
    }
    return write_json(path / "train.json", record)


def test_youtube_vis_is_read_as_its_authors_write_it(tmp_path: Path) -> None:
    picture = tmp_path / "train/JPEGImages/0a1b/00005.jpg"
    picture.parent.mkdir(parents=True)
    Image.new("RGB", SIZE[::-1]).save(picture)
    dataset = open_dataset(vis_file(tmp_path).parent)
    assert (dataset.format, dataset.sequences) == ("youtube-vis", ("0a1b",))
    assert [frame.frame_index for frame in dataset.frames] == [0, 5, 10]
    assert [ids_at(dataset, frame) for frame in range(3)] == [[21, 0], [0, 0], [21, 22]]
    assert dataset.unannotated == {dataset.frames[1]}
    assert dataset.frames[1].image_path == picture


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segmentations": [None]}, r"annotations\[1\] of train.json needs 3 segmentations.*got 1"),
        ({"video_id": 7}, r'is of video 7, which is not in its list "videos"'),
        ({"category_id": 8}, r'has the category 8, but "categories" has only 3'),
        ({"segmentations": [None, None, {"size": [2, 2], "counts": [4]}]}, r"mask of 2 x 2 pixels"),
    ],
)
def test_damaged_youtube_vis_files_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    file = vis_file(tmp_path, **changes)
    with pytest.raises(ExchangeError, match=message):
        dataset = open_dataset(file)
        dataset.label_map(dataset.frames[2])


def mots_values() -> np.ndarray:
    values = np.zeros(SIZE, np.uint16)
    values[LEFT], values[RIGHT], values[20:24, :4] = 1005, 2007, 10000
    return values


def save_16_bit(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def test_mots_pictures_of_kitti_and_of_cvat_are_read(tmp_path: Path) -> None:
    two = replace(ENDOVIS2018, classes=ENDOVIS2018.classes[:2])
    save_16_bit(tmp_path / "kitti/instances/0002/000003.png", mots_values())
    with pytest.raises(ExchangeError, match="values such as 2001"):
        open_dataset(tmp_path / "kitti")
    dataset = open_dataset(tmp_path / "kitti", classes=two)
    assert (dataset.format, dataset.frames[0].frame_index, ids_at(dataset)) == ("mots", 3, [1005, 2007])
    label_map = dataset.label_map(dataset.frames[0])
    assert [label_map[2, 2], label_map[2, 20], label_map[20, 0]] == [1, 2, 0]
    assert [(one.what.split(" in ")[0], one.count) for one in dataset.skipped] == [("pixels of ignored regions", 16)]
    save_16_bit(tmp_path / "cvat/default/instances/frame_000003.png", mots_values())
    (tmp_path / "cvat/default/instances/labels.txt").write_text("Hook\nGrasper\n")
    dataset = open_dataset(tmp_path / "cvat")
    assert dataset.classes.names == ("Hook", "Grasper")
    assert ids_at(dataset) == [1005, 2007]
    with pytest.raises(ExchangeError, match="has the value 2007, whose class is 2"):
        dataset = open_dataset(tmp_path / "kitti", classes=replace(two, classes=two.classes[:1]))
        dataset.label_map(dataset.frames[0])


def test_mots_text_of_motschallenge_is_read(tmp_path: Path) -> None:
    def line(frame: int, value: int, mask: np.ndarray) -> str:
        return f"{frame} {value} {value // 1000} {SIZE[0]} {SIZE[1]} {rle(mask)['counts']}\n"

    file = tmp_path / "MOTS20-02/gt/gt.txt"
    file.parent.mkdir(parents=True)
    picture = tmp_path / "MOTS20-02/img1/000002.jpg"
    picture.parent.mkdir(parents=True)
    Image.new("RGB", SIZE[::-1]).save(picture)
    file.write_text(line(1, 2007, LEFT) + line(2, 2007, LEFT) + line(2, 2008, RIGHT) + line(2, 10000, RIGHT))
    for path in (tmp_path, file):
        dataset = open_dataset(path, classes=ENDOVIS2018)
        assert [(frame.sequence, frame.frame_index) for frame in dataset.frames] == [("MOTS20-02", 1), ("MOTS20-02", 2)]
        assert ids_at(dataset, 1) == [2007, 2008]
        assert dataset.frames[1].image_path == picture
        assert [one.what for one in dataset.skipped] == ["ignored regions"]
    file.write_text(line(1, 2007, LEFT) + "2 2007 two 32 48 xyz\n")
    with pytest.raises(ExchangeError, match=r"line 2 of gt.txt should have frame, id, class"):
        open_dataset(file, classes=ENDOVIS2018)


# ---- instances and parts of surgical datasets


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def test_the_instruments_of_endovis_2017_are_tracks_with_parts(tmp_path: Path) -> None:
    for index in range(2):
        for side, mask in (("Left", LEFT), ("Right", RIGHT)):
            values = np.where(mask, 10 * np.maximum(parts(), 1), 0)
            save(tmp_path / f"instrument_dataset_1/ground_truth/{side}_Prograsp_Forceps_labels/frame{index:03d}.png", values)
    dataset = open_dataset(tmp_path)
    assert dataset.has_tracks and ids_at(dataset, 0) == ids_at(dataset, 1) == [1, 2]
    found = dataset.parts_map(dataset.frames[0])
    np.testing.assert_array_equal(found, np.where(LEFT | RIGHT, np.maximum(parts(), 1), 0))


def test_the_colours_of_endovis_2018_are_the_parts_of_its_types(tmp_path: Path) -> None:
    colors = np.zeros((*SIZE, 3))
    colors[LEFT], colors[RIGHT] = (0, 255, 0), (125, 255, 12)
    save(tmp_path / "seq_1/labels/frame000.png", colors)
    save(tmp_path / "annotations/seq_1_frame000.png", np.where(LEFT | RIGHT, 3, 0))
    dataset = open_dataset(tmp_path)
    assert dataset.parts is not None
    found = dataset.parts_map(dataset.frames[0])
    assert found is not None
    assert [dataset.parts.by_id(int(found[mask][0])).name for mask in (LEFT, RIGHT)] == ["Shaft", "Wrist"]
    assert (dataset.classes, int(dataset.label_map(dataset.frames[0])[LEFT][0])) == (ENDOVIS2018, 3)
    save(tmp_path / "seq_1/labels/frame000.png", colors[:8])
    with pytest.raises(ExchangeError, match="has 48 x 8 pixels, but its type annotations have 48 x 32"):
        dataset.parts_map(dataset.frames[0])


def test_instances_of_robust_mis_belong_to_their_frame(tmp_path: Path) -> None:
    for frame in ("1200", "1210"):
        save(tmp_path / f"Training/Rectal/2/{frame}/instrument_instances.png", LEFT + 2 * RIGHT)
    dataset = open_dataset(tmp_path)
    assert (dataset.has_instances, dataset.has_tracks) == (True, False)
    assert ids_at(dataset) == [1, 2]
    assert "they come as instances without tracks" in dataset.notes[0]


def test_polygons_of_a_group_are_one_instance_in_cholecinstanceseg(tmp_path: Path) -> None:
    def square(label: str, left: int, group: int | None) -> dict:
        points = [[left, 2], [left + 5, 2], [left + 5, 8], [left, 8]]
        return {"label": label, "points": points, "group_id": group, "shape_type": "polygon"}

    shapes = [square("grasper", 2, 1), square("grasper", 10, 1), square("grasper", 20, 2), square("hook", 30, 1)]
    folder = tmp_path / "VID03_t80_sparse"
    write_json(folder / "ann_dir/t80_VID03_000030.json", {"version": "1.0.0", "shapes": shapes, "imagePath": "x.png"})
    save(folder / "img_dir/t80_VID03_000030.png", np.zeros((*SIZE, 3)))
    dataset = open_dataset(tmp_path)
    instances = dataset.instances(dataset.frames[0])
    assert instances is not None and not dataset.has_tracks
    assert instances[4, [4, 12, 22, 32]].tolist() == [1, 1, 2, 3]
