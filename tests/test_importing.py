"""An import is checked first and written completely or not at all; public datasets are read as distributed."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from surgicalsam_napari import files
from surgicalsam_napari.errors import DiskSpaceError, ExchangeError
from surgicalsam_napari.exchange.exporting import export_frames
from surgicalsam_napari.exchange.formats import endovis2017
from surgicalsam_napari.exchange.import_plan import ImportChoices
from surgicalsam_napari.exchange.importing import check_import, import_frames
from surgicalsam_napari.exchange.registry import open_dataset
from surgicalsam_napari.instruments import ENDOVIS2017, ENDOVIS2018, ClassSet, InstrumentClass
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.video import VideoReader

SIZE = (96, 128)


@pytest.fixture
def clip(phantom_clip: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(phantom_clip, tmp_path / "clip.mp4"))


@pytest.fixture
def project(clip: Path) -> Iterator[Project]:
    with Project.create(clip.with_suffix(".surgicalsam"), VideoReader(clip), ENDOVIS2018) as project:
        yield project


@pytest.fixture
def exported(phantom_clip: Path, tmp_path: Path) -> Callable[[str], Path]:
    """An export of frames 1, 4 and 9, with a left half of class 1 and a right half of class 2."""

    def exported(format: str) -> Path:
        source = Project.create(tmp_path / "source.surgicalsam", VideoReader(phantom_clip), ENDOVIS2018)
        for frame_index in (1, 4, 9):
            source.labels[frame_index, :, :64] = 1
            source.labels[frame_index, :, 64:] = 2
        list(export_frames(source, [1, 4, 9], tmp_path / format, format))
        source.close()
        shutil.rmtree(source.folder)
        return tmp_path / format

    return exported


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def box(value: int, rows: slice = slice(0, 40), columns: slice = slice(0, 50)) -> np.ndarray:
    pixels = np.zeros(SIZE, np.uint8)
    pixels[rows, columns] = value
    return pixels


def picture_folder(folder: Path, *names: str, size: tuple[int, int] = SIZE) -> Path:
    for position, name in enumerate(names):
        save(folder / f"{name}.png", np.full((*size, 3), position))
    return folder


def import_all(project: Project, dataset: Path, sequence: str | None = None, **options: Any) -> list[int]:
    classes = options.pop("classes", None)
    plan = check_import(project, open_dataset(dataset, classes=classes), sequence, **options)
    return [report.frame_index for report in import_frames(project, plan)]


# ---- pixels of a person stay


def test_pixels_painted_and_classes_verified_before_stay(project: Project, exported: Callable[[str], Path]) -> None:
    project.labels[1, 0:10, 0:10] = 5
    project.labels[4, 0:10, 100:110] = 2
    project.labels.verify(4, [2])
    plan = check_import(project, open_dataset(exported("endovis")))
    kept = {report.frame_index: report.kept_pixels for report in import_frames(project, plan)}
    assert kept == {1: 100, 4: 64 * 96 - 100, 9: 0}
    assert np.all(project.labels[1, 0:10, 0:10] == 5)
    assert np.count_nonzero(project.labels[4] == 2) == 100
    assert np.all(project.labels[4, :, :64] == 1)
    assert project.labels.provenance(4, 2) == Provenance.VERIFIED
    assert project.labels.provenance(9, 2) == Provenance.EDITED


# ---- labels that do not fit are listed per file, and nothing is written


def label_file(folder: Path, format: str, frame_index: int) -> Path:
    name = {"endovis": f"annotations/phantom-307/{frame_index:05d}.png", "indexed-png": f"frame_{frame_index:05d}.png"}
    return folder / name[format]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize("format", ["endovis", "indexed-png"])
def test_every_file_that_does_not_fit_is_named_at_once(
    project: Project, exported: Callable[[str], Path], format: str
) -> None:
    out = exported(format)
    truncate(label_file(out, format, 1))
    save(label_file(out, format, 4), np.full(SIZE, 99))
    save(label_file(out, format, 9), np.zeros((50, 60)))
    with pytest.raises(ExchangeError, match="3 of 3 frames") as caught:
        check_import(project, open_dataset(out))
    damaged, unknown, size = caught.value.problems
    assert "00001 is damaged" in damaged
    assert "00004 has the value 99, but EndoVis 2018 has only 1 Bipolar Forceps" in unknown
    assert "60 x 50 pixels" in size
    assert not project.labels.provenance_table().any()


@pytest.mark.parametrize("format", ("endovis", "indexed-png", "coco", "yolo", "labelme", "voc", "davis"))
def test_a_missing_frame_of_an_export_is_reported(exported: Callable[[str], Path], format: str) -> None:
    out = exported(format)
    if format == "coco":
        record = json.loads((out / "annotations/instances_default.json").read_text())
        record["images"] = record["images"][:1] + record["images"][2:]
        record["annotations"] = [entry for entry in record["annotations"] if entry["image_id"] != 2]
        (out / "annotations/instances_default.json").write_text(json.dumps(record))
    else:
        for path in [*out.rglob("*00004*.*")]:
            path.unlink()
    with pytest.raises(ExchangeError, match="1 are missing") as caught:
        open_dataset(out)
    assert caught.value.problems == ("phantom-307: the labels of frame 4 are missing",)


def test_overlapping_masks_are_refused(project: Project, exported: Callable[[str], Path]) -> None:
    out = exported("endovis")
    save(out / "binary_annotations/phantom-307/00004_class3.png", np.full(SIZE, 255))
    with pytest.raises(ExchangeError) as caught:
        check_import(project, open_dataset(out))
    (problem,) = caught.value.problems
    assert "phantom-307/00004" in problem
    assert "both Bipolar Forceps and Large Needle Driver" in problem


def test_a_mask_that_was_corrected_in_only_one_of_its_files_is_refused(
    project: Project, exported: Callable[[str], Path]
) -> None:
    out = exported("endovis")
    save(label_file(out, "endovis", 4), box(1))
    with pytest.raises(ExchangeError, match="00004 differs in annotations and binary_annotations"):
        check_import(project, open_dataset(out))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record["annotations"][0]["segmentation"].update(counts="0"), "damaged mask"),
        (lambda record: record["annotations"][0]["segmentation"].update(counts=[5, -5, 96 * 128]), "damaged mask"),
        (lambda record: record["annotations"][0]["segmentation"].update(size=[10, 10]), "10 x 10 pixels"),
        (lambda record: record["annotations"][0].update(category_id=99), "category 99"),
        (lambda record: record["annotations"][0].update(segmentation=record["annotations"][1]["segmentation"]), "both"),
        (lambda record: record["annotations"][0].update(image_id=99), "image 99, which is not in its list"),
        (lambda record: record["categories"][0].pop("name"), r"categories\[0\] .*id 1.* needs a name"),
        (lambda record: record["images"][0].pop("height"), "height"),
        (lambda record: record.pop("images"), "not a COCO file"),
    ],
)
def test_damaged_coco_files_are_refused(
    project: Project, exported: Callable[[str], Path], change: Callable[[dict], Any], message: str
) -> None:
    path = exported("coco") / "annotations/instances_default.json"
    record = json.loads(path.read_text())
    record["annotations"][1]["category_id"] = 2
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(ExchangeError, match=message):
        check_import(project, open_dataset(path))


def test_coco_files_of_other_tools_are_read(project: Project, tmp_path: Path) -> None:
    square = [10, 20, 30, 20, 30, 40, 10, 40]
    record = {
        "images": [{"id": "x", "file_name": "day1\\img_3.jpg", "height": 96, "width": 128}],
        "categories": [{"id": 900, "name": "Suction instrument"}, {"id": 0, "name": "Clip Applier"}],
        "annotations": [
            {"image_id": "x", "category_id": 900, "segmentation": [square]},
            {"image_id": "x", "category_id": 0, "segmentation": {"size": [96, 128], "counts": [0, 5, 96 * 128 - 5]}},
            {"image_id": "x", "category_id": 0, "segmentation": {"size": [96, 128], "counts": [7, 1, 96 * 128 - 8]}},
        ],
    }
    (tmp_path / "labels.json").write_text(json.dumps(record))
    assert import_all(project, tmp_path / "labels.json") == [3]
    assert np.all(project.labels[3, 22:38, 12:28] == 6)
    assert project.labels[3, :9, 0].tolist() == [7, 7, 7, 7, 7, 0, 0, 7, 0]


def test_a_class_that_is_new_to_the_project_is_reported_or_added(clip: Path, exported: Callable[[str], Path]) -> None:
    own = ClassSet("Own", (InstrumentClass(2, "bipolar forceps", "#112233"), InstrumentClass(9, "Stapler", "#445566")))
    with Project.create(clip.with_suffix(".surgicalsam"), VideoReader(clip), own) as project:
        dataset = open_dataset(exported("indexed-png"))
        with pytest.raises(ExchangeError, match="does not have Prograsp Forceps: add the classes") as caught:
            check_import(project, dataset)
        assert len(caught.value.problems) == 3
        assert project.classes == own
        list(import_frames(project, check_import(project, dataset, add_classes=True)))
        assert project.classes.by_name("Prograsp Forceps").id == 10
        assert len(project.classes) == 3
        assert np.all(project.labels[4, :, :64] == 2)
        assert np.all(project.labels[4, :, 64:] == 10)


def test_a_frame_outside_the_video_is_refused(project: Project, tmp_path: Path) -> None:
    save(tmp_path / "labels" / "frame_00003.png", box(3))
    save(tmp_path / "labels" / "frame_00012.png", box(3))
    with pytest.raises(ExchangeError) as caught:
        import_all(project, tmp_path / "labels", classes=ENDOVIS2018)
    assert len(caught.value.problems) == 1
    assert "frame_00012 has no matching frame in the video, which has frames 0 to 11" in caught.value.problems[0]


def test_a_dataset_without_class_names_needs_a_class_set(tmp_path: Path) -> None:
    save(tmp_path / "labels" / "frame_00003.png", box(3))
    with pytest.raises(ExchangeError, match="Give its class set"):
        open_dataset(tmp_path / "labels")


def test_the_error_for_an_unknown_format_shows_what_each_format_looks_like(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(ExchangeError, match="not a dataset of a known format") as caught:
        open_dataset(tmp_path)
    for name in ("instrument_dataset_1", "seq_1", "annotations.json", "00012_class1.png", "frame_00012.png"):
        assert name in str(caught.value)
    with pytest.raises(ExchangeError, match="does not exist"):
        open_dataset(tmp_path / "nowhere")


@pytest.mark.parametrize("mode", ["L", "P"])
@pytest.mark.parametrize("place", [".", "labels", "masks"])
def test_pictures_of_class_ids_are_recognised_by_their_pixels(
    project: Project, tmp_path: Path, mode: str, place: str
) -> None:
    for number in (3, 7):
        file = tmp_path / "set" / place / f"clip_{number:04d}{'_mask' if place == '.' else ''}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(box(number))
        if mode == "P":
            image = image.convert("P")
        image.save(file)
        save(tmp_path / "set" / ("." if place == "." else "images") / f"clip_{number:04d}.jpg", np.zeros((*SIZE, 3)))
    save(tmp_path / "set" / ("." if place == "." else "images") / "clip_0009.jpg", np.zeros((*SIZE, 3)))
    dataset = open_dataset(tmp_path / "set", classes=ENDOVIS2018)
    assert (dataset.format, dataset.sequences) == ("indexed-png", ("clip",))
    assert [frame.image_path.stem for frame in dataset.frames if frame.image_path] == ["clip_0003", "clip_0007"]
    assert [(one.what, one.count) for one in dataset.skipped] == [("pictures without labels", 1)]
    assert import_all(project, tmp_path / "set", classes=ENDOVIS2018) == [3, 7]
    assert project.labels[3].max() == 3


def test_the_message_for_an_unknown_path_says_what_it_looks_like_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "labels.zip").write_bytes(b"PK")
    picture_folder(tmp_path / "pictures", "frame_1", "frame_2")
    save(tmp_path / "above" / "set" / "frame_1.png", box(1))
    (tmp_path / "one.json").write_text('{"name": 1, "frames": []}')
    (tmp_path / "torn.json").write_text('{"name": 1, ')
    for name, says in {
        "empty": "The folder is empty",
        "packed": "contains 1 .zip. Unpack the archive",
        "pictures": r"only colour pictures \(2 .png\), but no labels",
        "above": "The folder .*set looks like Indexed PNG: choose that one",
        "one.json": "a JSON file with name, frames",
        "torn.json": "damaged: it is not valid JSON",
    }.items():
        with pytest.raises(ExchangeError, match=says):
            open_dataset(tmp_path / name)


# ---- all or nothing


def test_an_import_that_fails_or_is_stopped_is_rolled_back(
    project: Project, exported: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    project.labels[4, 0:3, 0:3] = 7
    before, table = project.labels[:], project.labels.provenance_table()
    plan = check_import(project, open_dataset(exported("endovis")))
    stopped = import_frames(project, plan)
    next(stopped)
    next(stopped)
    assert project.labels[4].all()
    stopped.close()
    np.testing.assert_array_equal(project.labels[:], before)
    frames: list[bytes] = []  # frames with a written record, in order

    def failing(descriptor: int, data: bytes) -> None:
        if data.startswith(b'{"frame": ') and (frame := data.split(b",")[0]) not in frames:
            frames.append(frame)
            if len(frames) == 3:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        while data:
            data = data[os.write(descriptor, data) :]

    monkeypatch.setattr(files, "write_all", failing)
    with pytest.raises(DiskSpaceError):
        list(import_frames(project, plan))
    assert len(frames) == 3
    np.testing.assert_array_equal(project.labels[:], before)
    np.testing.assert_array_equal(project.labels.provenance_table(), table)
    assert np.count_nonzero(project.labels.painted(4)) == 9


def test_pixels_that_a_person_paints_during_an_import_are_not_rolled_back(
    project: Project, exported: Callable[[str], Path]
) -> None:
    reports = import_frames(project, check_import(project, open_dataset(exported("coco"))))
    next(reports)
    next(reports)
    project.labels[1, 0:5, 0:5] = 6
    reports.close()
    assert np.all(project.labels[1, 0:5, 0:5] == 6)
    assert not project.labels[4].any()


# ---- datasets as distributed


INSTRUMENTS_2017 = (
    "Large_Needle_Driver_Left_labels",
    "Large_Needle_Driver_Right_labels",
    "Maryland_Bipolar_Forceps",
    "Vessel_Sealer_labels",
    "Other_labels",
)


def write_endovis2017(folder: Path, numbers: range, size: tuple[int, int] = SIZE) -> Path:
    """The folders of two sequences, with instruments on both sides."""
    for sequence in ("instrument_dataset_4", "instrument_dataset_7"):
        truth = folder / sequence / "ground_truth"
        for number in numbers:
            name = f"frame{number:03d}.png"
            save(folder / sequence / "left_frames" / name, np.zeros((*size, 3)))
            for position, instrument in enumerate(INSTRUMENTS_2017):
                mask = np.zeros(size)
                mask[10 * position : 10 * position + 5] = 10
                mask[10 * position + 5 : 10 * position + 8] = 30
                save(truth / instrument / name, mask)
    return folder


def test_endovis_2017_is_read_as_distributed(tmp_path: Path) -> None:
    folder = write_endovis2017(tmp_path / "instrument_1_4_training", range(3))
    video = VideoReader(folder / "instrument_dataset_7" / "left_frames")
    with Project.create(tmp_path / "seven.surgicalsam", video, ENDOVIS2017) as project:
        assert import_all(project, tmp_path) == [0, 1, 2]  # the sequence has the name of the video's folder
        labels = project.labels[2, :, 0]
        expected = {"Large Needle Driver": 16, "Bipolar Forceps": 8, "Vessel Sealer": 8, "Other": 8}
        pixel_counts = {c.name: np.count_nonzero(labels == c.id) for c in ENDOVIS2017 if c.id in labels}
        assert pixel_counts == expected


def test_masks_of_endovis_2017_are_cropped_like_their_pictures(tmp_path: Path) -> None:
    folder = write_endovis2017(tmp_path, range(1), endovis2017.FULL_SIZE)
    save(folder / "instrument_dataset_4" / "left_frames" / "frame000.png", np.zeros((1024, 1280, 3)))
    dataset = open_dataset(folder)
    cropped, full = (dataset.label_map(frame) for frame in dataset.frames)
    assert (cropped.shape, full.shape) == (endovis2017.CROPPED_SIZE, endovis2017.FULL_SIZE)
    np.testing.assert_array_equal(cropped, full[28:1052, 320:1600])


def test_endovis_2017_with_a_missing_or_invalid_mask_is_refused(project: Project, tmp_path: Path) -> None:
    folder = write_endovis2017(tmp_path / "train", range(3))
    truth = folder / "instrument_dataset_4" / "ground_truth"
    (truth / "Vessel_Sealer_labels" / "frame001.png").unlink()
    save(truth / "Maryland_Bipolar_Forceps" / "frame002.png", box(77))
    with pytest.raises(ExchangeError) as caught:
        import_all(project, folder, "instrument_dataset_4")
    missing, value = (line for line in caught.value.problems if "Vessel_Sealer" in line or "77" in line)
    assert "frame001 is missing in ground_truth/Vessel_Sealer_labels" in missing
    assert "has the value 77" in value
    (truth / "Laser_labels").mkdir()
    with pytest.raises(ExchangeError, match="Laser_labels should be named after an instrument"):
        open_dataset(folder)


LAYOUTS_2018 = {
    "flat": ("images/seq_{s}_frame{f:03d}", "labels/seq_{s}_frame{f:03d}"),
    "types beside releases": ("release_1/seq_{s}/left_frames/frame{f:03d}", "annotations/seq_{s}_frame{f:03d}"),
    "types by sequence": ("seq_{s}/left_frames/frame{f:03d}", "annotations/seq_{s}/frame{f:03d}"),
    "types in sequences": ("seq_{s}/left_frames/frame{f:03d}", "seq_{s}/annotations/frame{f:03d}"),
    "split": ("train/images/seq_{s}_frame{f:03d}", "train/annotations/seq_{s}_frame{f:03d}"),
}


@pytest.mark.parametrize("layout", LAYOUTS_2018)
def test_endovis_2018_types_are_found_in_every_common_layout(project: Project, tmp_path: Path, layout: str) -> None:
    folder = tmp_path / "data"
    for sequence in (2, 10):
        for number in range(3):
            picture, label = (name.format(s=sequence, f=number) for name in LAYOUTS_2018[layout])
            save(folder / f"{picture}.png", np.zeros((*SIZE, 3)))
            save(folder / f"{label}.png", box(number + 1))
    if layout == "types beside releases":  # the challenge's own labels are ignored
        save(folder / "release_1/seq_2/labels/frame000.png", np.arange(96 * 128 * 3).reshape(*SIZE, 3) % 255)
    dataset = open_dataset(folder)
    assert (dataset.format, dataset.sequences, len(dataset.frames)) == ("endovis2018", ("seq_2", "seq_10"), 6)
    assert all(frame.image_path is not None for frame in dataset.frames)
    with pytest.raises(ExchangeError, match="2 sequences"):
        check_import(project, dataset)
    assert import_all(project, folder, "SEQ_10") == [0, 1, 2]
    assert np.unique(project.labels[2]).tolist() == [0, 3]


def test_the_challenges_own_2018_labels_are_instruments_with_parts_and_anatomy(tmp_path: Path) -> None:
    save(tmp_path / "seq_1" / "left_frames" / "frame000.png", np.zeros((*SIZE, 3)))
    colors = np.zeros((*SIZE, 3))
    colors[:4], colors[4:8], colors[8:12] = (0, 255, 0), (0, 255, 255), (0, 255, 125)  # shaft, clasper, clamps
    save(tmp_path / "seq_1" / "labels" / "frame000.png", colors)
    dataset = open_dataset(tmp_path)
    names = [dataset.classes.by_id(value).name for value in dataset.label_map(dataset.frames[0])[2:12:4, 0]]
    assert names == ["Instrument", "Instrument", "Clamps"]
    parts = dataset.parts_map(dataset.frames[0])
    assert dataset.parts is not None and parts is not None
    assert [dataset.parts.by_id(value).name for value in parts[2:8:4, 0]] == ["Shaft", "Clasper"]
    assert "do not show instrument types" in dataset.notes[0]
    colors[20] = (1, 2, 3)
    save(tmp_path / "seq_1" / "labels" / "frame000.png", colors)
    with pytest.raises(ExchangeError, match=r"colour \(1, 2, 3\).*not a colour of EndoVis 2018's labels.json"):
        dataset.label_map(dataset.frames[0])


def test_the_real_2018_sample_is_imported(shared_folder: Path, tmp_path: Path) -> None:
    sample = shared_folder / "data" / "endovis2018_sample"
    (tmp_path / "frames").mkdir()
    for path in sorted((sample / "images").glob("seq_14_*.png")):
        shutil.copy(path, tmp_path / "frames")
    dataset = open_dataset(sample)
    assert (len(dataset.frames), dataset.classes) == (24, ENDOVIS2018)
    video = VideoReader(tmp_path / "frames")
    with Project.create(tmp_path / "seq_14.surgicalsam", video, ENDOVIS2018) as project:
        assert import_all(project, sample, "seq_14") == [0, 1, 2, 3, 4]
        expected = np.asarray(Image.open(sample / "labels" / "seq_14_frame044.png"))
        np.testing.assert_array_equal(project.labels[2], expected)


def test_the_authors_processed_folders_are_read_without_their_augmentations(project: Project, tmp_path: Path) -> None:
    for version in (0, 1):
        folder = tmp_path / "endovis_2018" / "train" / str(version)
        save(folder / "binary_annotations/seq5/00003_class1.png", box(255))
        save(folder / "binary_annotations/seq5/00003_class4.png", box(255, slice(50, 60)))
        picture_folder(folder / "images/seq5", "00003", "00004")
    save(tmp_path / "endovis_2018/val/annotations/seq2/00000.png", box(7))
    save(tmp_path / "endovis_2018/val/binary_annotations/seq2/00000_class7.png", box(255))
    with pytest.raises(ExchangeError, match="Give its class set"):
        open_dataset(tmp_path / "endovis_2018")
    dataset = open_dataset(tmp_path / "endovis_2018", classes=ENDOVIS2018)
    assert [frame.name for frame in dataset.frames] == ["seq5/00003", "seq5/00004", "seq2/00000"]
    label_maps = [dataset.label_map(frame) for frame in dataset.frames]
    assert [np.unique(label_map).tolist() for label_map in label_maps] == [[0, 1, 4], [0], [0, 7]]
    assert dataset.unannotated == {dataset.frames[1]}  # a picture without a mask
    assert import_all(project, tmp_path / "endovis_2018", "seq5", classes=ENDOVIS2018) == [3]
    empty = ImportChoices(unannotated_are_empty=True)
    assert import_all(project, tmp_path / "endovis_2018", "seq5", classes=ENDOVIS2018, choices=empty) == [3, 4]


def test_a_folder_of_pictures_is_matched_by_file_name(tmp_path: Path) -> None:
    names = ["seq_1_frame017", "seq_1_frame033", "seq_4_frame003"]
    picture_folder(tmp_path / "data" / "images", *names)
    for name in names[1:]:
        save(tmp_path / "data" / "labels" / f"{name}.png", box(2))
    video = VideoReader(tmp_path / "data" / "images")
    with Project.create(tmp_path / "all.surgicalsam", video, ENDOVIS2018) as project:
        assert sorted(import_all(project, tmp_path / "data")) == [1, 2]
        assert not project.labels[0].any()


def test_an_export_from_a_folder_of_pictures_is_imported_by_position(tmp_path: Path) -> None:
    video = VideoReader(picture_folder(tmp_path / "frames", *(f"frame{number}" for number in range(3, 8))))
    with Project.create(tmp_path / "a.surgicalsam", video, ENDOVIS2018) as project:
        project.labels[1, 5:9, 5:9] = 3
        list(export_frames(project, [1], tmp_path / "out", "coco"))
        project.labels.reset_frame(1)
        assert import_all(project, tmp_path / "out") == [1]
        assert np.count_nonzero(project.labels[1] == 3) == 16
