"""A dataset becomes a dataset of another format, without a project and without a wrong pixel."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from surgicalsam_napari import cli
from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.converting import convert_frames
from surgicalsam_napari.exchange.dataset import Dataset
from surgicalsam_napari.exchange.registry import EXPORT_FORMATS, open_dataset
from surgicalsam_napari.instruments import ENDOVIS2018

SIZE = (40, 50)
VIDEOS = {"seq_1": (0, 3, 17), "seq_2": (3, 4)}
ONE_VIDEO = {"cvat-video", "ome-zarr"}


@pytest.fixture
def endovis(tmp_path: Path) -> Path:
    """EndoVis 2018 as distributed: two videos with pictures, some of them with the same frame numbers."""
    rng = np.random.default_rng(0)
    root = tmp_path / "endovis 2018"
    for sequence, indices in VIDEOS.items():
        for index in indices:
            labels = np.kron(rng.integers(0, 8, (8, 10)), np.ones((5, 5), int)).astype(np.uint8)
            picture = rng.integers(0, 255, (*SIZE, 3)).astype(np.uint8)
            for folder, pixels in (("annotations", labels), ("images", picture)):
                path = root / folder / f"{sequence}_frame{index:03d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return root


def convert(dataset: Dataset, out: Path, format: str, **options: object) -> Dataset:
    for _ in convert_frames(dataset, out, format, **options):
        pass
    return open_dataset(out)


def label_maps(dataset: Dataset) -> dict[tuple[str, int], np.ndarray]:
    return {(frame.sequence, frame.frame_index): dataset.label_map(frame) for frame in dataset.frames}


@pytest.mark.parametrize("format", [name for name in EXPORT_FORMATS if name not in ONE_VIDEO])
def test_frames_of_several_videos_stay_apart_in_every_format(endovis: Path, tmp_path: Path, format: str) -> None:
    before = label_maps(open_dataset(endovis))
    converted = convert(open_dataset(endovis), tmp_path / "out", format)
    assert converted.format == format
    assert converted.classes == ENDOVIS2018
    after = label_maps(converted)
    assert set(after) == {(name.replace("_", "-"), index) for name, indices in VIDEOS.items() for index in indices}
    for (sequence, index), labels in before.items():
        np.testing.assert_array_equal(after[sequence.replace("_", "-"), index], labels)
    assert all(frame.image_path is not None for frame in converted.frames)


def test_a_format_of_one_video_refuses_several(endovis: Path, tmp_path: Path) -> None:
    with pytest.raises(ExchangeError, match="holds one video, but these are frames of seq-1 and seq-2"):
        convert(open_dataset(endovis), tmp_path / "out", "cvat-video")
    assert not (tmp_path / "out").exists()


def test_a_chain_of_conversions_changes_no_pixel(endovis: Path, tmp_path: Path) -> None:
    dataset = open_dataset(endovis)
    before = list(label_maps(dataset).values())
    for format in ("yolo", "label-studio", "cvat-images", "voc", "labelme", "davis", "coco", "tiff-stack", "endovis"):
        polygons = "polygons" in EXPORT_FORMATS[format].shapes
        dataset = convert(dataset, tmp_path / format, format, polygons=polygons)
    for labels, expected in zip(label_maps(dataset).values(), before, strict=True):
        np.testing.assert_array_equal(labels, expected)


def test_other_classes_become_background(endovis: Path, tmp_path: Path) -> None:
    converted = convert(open_dataset(endovis), tmp_path / "out", "coco", class_ids=[2, 5])
    assert converted.classes.ids == (2, 5)
    before = label_maps(open_dataset(endovis))["seq_1", 17]
    np.testing.assert_array_equal(
        label_maps(converted)["seq-1", 17], np.where(np.isin(before, (2, 5)), before, 0)
    )  # fmt: skip


def test_missing_pictures_are_an_error_unless_only_labels_are_wanted(endovis: Path, tmp_path: Path) -> None:
    (endovis / "images/seq_2_frame004.png").unlink()
    with pytest.raises(ExchangeError, match=r"1 of 5 frames .* have no picture"):
        convert(open_dataset(endovis), tmp_path / "out", "coco")
    assert len(convert(open_dataset(endovis), tmp_path / "out", "coco", images=False).frames) == 5


def test_the_output_is_never_written_into_the_dataset(endovis: Path) -> None:
    for out in (endovis, endovis / "coco", endovis.parent):
        with pytest.raises(ExchangeError, match="Choose a folder beside it"):
            convert(open_dataset(endovis), out, "coco")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: object) -> tuple[int, str, str]:
        code = cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_the_command_line_converts_and_says_what_it_left_out(run: Callable, endovis: Path, tmp_path: Path) -> None:
    yolo, out = tmp_path / "yolo", tmp_path / "out"
    code, printed, err = run("convert", endovis, "--out", yolo, "--format", "yolo", "--only", "bipolar forceps")
    assert code == 0, err
    assert "5 frames converted" in printed
    (yolo / "classes.json").unlink()  # now it is a dataset of another tool
    text = yolo / "labels/train/seq-2_00004.txt"
    text.write_text("")
    text = yolo / "labels/train/seq-1_00000.txt"
    text.write_text("0 0.5 0.5 0.2 0.2\n")
    code, printed, err = run("convert", yolo, "--out", out, "--format", "coco", "--json")
    assert code == 0, err
    record = json.loads(printed.splitlines()[-1])
    assert (record["from"], record["frames"], record["left_out"]) == ("yolo", 3, 1)
    assert record["skipped"] == [{"what": "boxes without an outline", "count": 1}]
    code, printed, err = run("convert", yolo, "--out", out, "--format", "coco", "--unannotated", "empty", "--overwrite")
    assert code == 0, err
    assert "4 frames converted" in printed
