"""Public surgical datasets are read as their authors distribute them; the tests write small ones in the same layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.dataset import Dataset
from surgicalsam_napari.exchange.formats import cholecseg8k, m2caiseg
from surgicalsam_napari.exchange.registry import open_dataset

SIZE = (24, 32)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def picture(path: Path) -> None:
    save(path, np.random.default_rng(0).integers(0, 255, (*SIZE, 3)))


def random_labels(classes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, classes + 1, SIZE)


def frames_of(dataset: Dataset) -> dict[tuple[str, int], np.ndarray]:
    return {(frame.sequence, frame.frame_index): dataset.label_map(frame) for frame in dataset.frames}


@pytest.mark.parametrize("ending", [cholecseg8k.WATERSHED, cholecseg8k.COLORS])
def test_cholecseg8k_is_read_from_watershed_or_colour_masks(tmp_path: Path, ending: str) -> None:
    values = np.array([cholecseg8k.BLACK_BACKGROUND, *cholecseg8k.VALUES])
    colors = np.array([(127, 127, 127), *cholecseg8k.COLOR_OF_CLASS])
    expected = {}
    for clip, number in (("video01_00080", 80), ("video01_00160", 161), ("video43_00080", 80)):
        labels = random_labels(12, number)
        folder = tmp_path / clip[:7] / clip
        pixels = np.repeat(values[labels][..., None], 3, axis=2) if ending == cholecseg8k.WATERSHED else colors[labels]
        pixels[0, :4] = 255  # the white edge
        expected[clip[:7], number] = np.where(np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) < 4, 0, labels)
        save(folder / f"frame_{number}{ending}", pixels)
        save(folder / f"frame_{number}_endo_mask.png", np.zeros(SIZE))
        picture(folder / f"frame_{number}_endo.png")
    dataset = open_dataset(tmp_path)
    assert dataset.format == "cholecseg8k"
    frames = frames_of(dataset)
    assert set(frames) == set(expected)
    for key, labels in expected.items():
        np.testing.assert_array_equal(frames[key], labels)
    assert [(one.what, one.count) for one in dataset.skipped] == [("pixels without a class", 12)]
    assert dataset.classes.by_id(9).name == "L-hook Electrocautery"
    assert all(frame.image_path is not None for frame in dataset.frames)


def test_a_value_that_is_no_class_of_cholecseg8k_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "video01/video01_00080/frame_80_endo_watershed_mask.png", np.full(SIZE, 99))
    dataset = open_dataset(tmp_path)
    with pytest.raises(ExchangeError, match="value 99, which is no class of CholecSeg8k"):
        dataset.label_map(dataset.frames[0])


def test_sar_rarp50_is_read_with_the_frame_numbers_of_its_videos(tmp_path: Path) -> None:
    for video, number in (("video_01", 60), ("video_11_1", 120)):
        labels = random_labels(9, number)
        save(tmp_path / f"train_set/{video}/segmentation/{number:09d}.png", np.repeat(labels[..., None], 3, axis=2))
        picture(tmp_path / f"train_set/{video}/rgb/{number:09d}.png")
    dataset = open_dataset(tmp_path)
    assert dataset.format == "sar-rarp50"
    frames = frames_of(dataset)
    assert set(frames) == {("video_01", 60), ("video_11_1", 120)}
    np.testing.assert_array_equal(frames["video_01", 60], random_labels(9, 60))


def test_endoscapes_is_read_with_one_sequence_for_each_video(tmp_path: Path) -> None:
    names = "background\ncystic_plate\ncalot_triangle\ncystic_artery\ncystic_duct\ngallbladder\ntool\n"
    (tmp_path / "seg_label_map.txt").write_text(names)
    for video, number, part in ((1, 25, "train"), (1, 750, "train_seg"), (122, 25, "test")):
        save(tmp_path / f"semseg/{video}_{number}.png", random_labels(6, video + number))
        picture(tmp_path / f"{part}/{video}_{number}.jpg")
    (tmp_path / "train/annotation_coco.json").write_text('{"images": [], "annotations": [], "categories": []}')
    dataset = open_dataset(tmp_path)
    assert dataset.format == "endoscapes"
    frames = frames_of(dataset)
    assert set(frames) == {("1", 25), ("1", 750), ("122", 25)}
    np.testing.assert_array_equal(frames["122", 25], random_labels(6, 147))
    assert dataset.classes.by_id(6).name == "tool"
    assert all(frame.image_path is not None for frame in dataset.frames)


def test_m2caiseg_is_read_by_its_colours_and_every_frame_once(tmp_path: Path) -> None:
    colors = np.array([(0, 0, 0), *m2caiseg.COLORS.values()])
    for part in ("train", "trainval"):
        for number in (3, 7):
            save(tmp_path / f"{part}/groundtruth/video1_{number}_gt.png", colors[random_labels(18, number)])
            picture(tmp_path / f"{part}/images/video1_{number}.jpg")
    dataset = open_dataset(tmp_path)
    assert dataset.format == "m2caiseg"
    frames = frames_of(dataset)
    assert set(frames) == {("video1", 3), ("video1", 7)}
    np.testing.assert_array_equal(frames["video1", 7], random_labels(18, 7))


def test_a_colour_picture_saved_as_jpeg_is_refused_with_the_place_of_the_wrong_colour(tmp_path: Path) -> None:
    picture(tmp_path / "images/video1_3.jpg")
    pixels = np.zeros((*SIZE, 3))
    pixels[5, 6] = (1, 85, 170)
    save(tmp_path / "groundtruth/video1_3_gt.png", pixels)
    dataset = open_dataset(tmp_path)
    with pytest.raises(ExchangeError, match=r"colour \(1, 85, 170\) in 1 pixels \(the first at x = 6, y = 5\)"):
        dataset.label_map(dataset.frames[0])


def test_robust_mis_has_one_class_and_frames_nobody_annotated(tmp_path: Path) -> None:
    folder = tmp_path / "Training/Rectal resection/2"
    save(folder / "1200/instrument_instances.png", random_labels(3))
    picture(folder / "1200/raw.png")
    picture(folder / "2400/raw.png")
    dataset = open_dataset(tmp_path)
    assert dataset.format == "robust-mis"
    assert dataset.classes.names == ("Instrument",)
    assert [frame.frame_index for frame in dataset.frames] == [1200, 2400]
    assert [frame.frame_index for frame in dataset.unannotated] == [2400]
    np.testing.assert_array_equal(dataset.label_map(dataset.frames[0]), random_labels(3) > 0)


def test_cholecinstanceseg_is_read_like_its_authors_draw_it(tmp_path: Path) -> None:
    folder = tmp_path / "train/VID03_t80_sparse"
    square = [[2, 3], [10, 3], [10, 8], [2, 8]]
    shapes = [
        {"label": "hook", "points": square, "group_id": 1, "shape_type": "polygon"},
        {"label": "grasper", "points": [[10, 8], [20, 8], [20, 12]], "group_id": 1, "shape_type": "polygon"},
    ]
    for name, content in (("000030", shapes), ("000060", []), ("000090", shapes)):
        record = {"version": "1.0.0", "shapes": content, "imagePath": f"C:/x/img_dir\\t80_VID03_{name}.png"}
        path = folder / f"ann_dir/t80_VID03_{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))
        if name != "000090":
            picture(folder / f"img_dir/t80_VID03_{name}.png")
    dataset = open_dataset(tmp_path)
    assert dataset.format == "cholecinstanceseg"
    with pytest.raises(ExchangeError, match="both Grasper and Hook"):
        dataset.label_map(dataset.frames[0])
    frames = frames_of(dataset.with_overlaps("file-order"))
    assert [number for _, number in frames] == [30, 60]
    first, second = frames.values()
    assert np.count_nonzero(first == 2) == 9 * 6 - 1  # the outline belongs to the mask; the later grasper covers a corner
    assert not second.any()
    assert [(one.what, one.count) for one in dataset.skipped] == [("annotations whose picture is missing", 1)]
