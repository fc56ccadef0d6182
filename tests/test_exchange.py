"""Labels exported from a project as a dataset can be imported again, pixel by pixel, in every format."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image
from pycocotools.coco import COCO

from surgicalsam_napari import files
from surgicalsam_napari.errors import DiskSpaceError, ExchangeError
from surgicalsam_napari.exchange import files as exchange_files
from surgicalsam_napari.exchange.exporting import export_frames
from surgicalsam_napari.exchange.importing import check_import, import_frames
from surgicalsam_napari.exchange.registry import EXPORT_FORMATS, open_dataset
from surgicalsam_napari.instruments import ENDOVIS2018, ClassSet, InstrumentClass
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.store.corrections import corrected_frames
from surgicalsam_napari.store.disk.cell_table import CellTable
from surgicalsam_napari.video import VideoReader

# the instruments of EndoVis 2018 with other ids, in capital letters
RENUMBERED = ClassSet(
    "Ours", tuple(InstrumentClass(40 - c.id, c.name.upper(), c.color) for c in reversed(ENDOVIS2018.classes))
)


@pytest.fixture
def clip(phantom_clip: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(phantom_clip, tmp_path / "clip_1.mp4"))


@pytest.fixture
def project(clip: Path) -> Iterator[Project]:
    """Frames 2, 5 and 11 are edited, 7 is verified to be empty."""
    with Project.create(clip.with_suffix(".surgicalsam"), VideoReader(clip), ENDOVIS2018) as project:
        labels = np.random.default_rng(0).integers(0, 8, (3, 96, 128)).astype(np.uint8)
        for position, frame_index in enumerate((2, 5, 11)):
            project.labels[frame_index] = labels[position]
        project.labels[5] = 0
        project.labels[5, 10:20, 30:90] = 3
        project.labels.verify(7)
        yield project


def export(project: Project, out: Path, format: str, frames: Sequence[int] | None = None, **options: bool) -> Path:
    frames = corrected_frames(project) if frames is None else frames
    for _ in export_frames(project, frames, out, format, **options):
        pass
    return out


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_exported_labels_are_imported_unchanged_into_a_project_with_other_class_ids(
    project: Project, clip: Path, tmp_path: Path, format: str
) -> None:
    out = export(project, tmp_path / "out", format)
    dataset = open_dataset(out)
    assert (dataset.format, dataset.sequences) == (format, ("clip-1",))
    other_folder = tmp_path / "other.surgicalsam"
    with Project.create(other_folder, VideoReader(clip), RENUMBERED) as other:
        reports = list(import_frames(other, check_import(other, dataset)))
        assert [(report.frame_index, report.done, report.total) for report in reports] == [
            (2, 1, 4), (5, 2, 4), (7, 3, 4), (11, 4, 4),
        ]  # fmt: skip
        for frame_index in range(12):
            labels = project.labels[frame_index]
            expected = np.where(labels > 0, 40 - labels, 0)
            np.testing.assert_array_equal(other.labels[frame_index], expected)
        assert other.labels.painted(2).all()
        table = other.labels.provenance_table()
        assert set(table[2]) == set(table[7]) == {Provenance.EDITED}
        assert not table[0].any()


@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_exported_frames_are_those_of_the_video(project: Project, tmp_path: Path, format: str) -> None:
    dataset = open_dataset(export(project, tmp_path / "out", format, range(2, 8, 5)))
    for frame, index in zip(dataset.frames, (2, 7), strict=True):
        assert frame.frame_index == index
        assert frame.size == (96, 128)
        if format == "ome-zarr":  # the pictures are in the zarr array
            picture = np.moveaxis(zarr.open_array(tmp_path / "out/labels.ome.zarr/0", mode="r")[index], 0, 2)
            np.testing.assert_array_equal(picture, project.video[index])
            continue
        assert frame.image_path is not None
        difference = np.asarray(Image.open(frame.image_path)).astype(int) - project.video[index]
        assert np.abs(difference).mean() < (3 if frame.image_path.suffix == ".jpg" else 1e-9)


def test_writing_a_frame_reads_its_provenance_once_for_any_number_of_classes(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows_read = []
    original_row = CellTable.row
    monkeypatch.setattr(CellTable, "row", lambda table, frame: (rows_read.append(frame), original_row(table, frame))[1])
    export(project, tmp_path / "few", "indexed-png", images=False)
    few = len(rows_read)
    more = (InstrumentClass(100 + i, f"Instrument {i}", "#405060") for i in range(9))
    project.extend_classes(ClassSet("more", (*ENDOVIS2018.classes, *more)))
    export(project, tmp_path / "many", "indexed-png", images=False)
    assert len(rows_read) == 2 * few


@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_a_class_that_was_not_annotated_is_not_exported_as_absent(project: Project, tmp_path: Path, format: str) -> None:
    project.labels[3, 10:20, 10:20] = 4
    dataset = open_dataset(export(project, tmp_path / "out", format, images=False))
    annotated = {frame.frame_index: dataset.annotated_class_ids(frame) for frame in dataset.frames}
    assert annotated[3] == (4,)
    assert annotated[7] == ENDOVIS2018.ids


def test_the_endovis_layout_is_that_of_the_authors(project: Project, tmp_path: Path) -> None:
    out = export(project, tmp_path / "out", "endovis", "5", images=False)
    assert sorted(content(out)) == [
        "annotations/clip-1/00005.png",
        "binary_annotations/clip-1/00005_class3.png",
        "classes.json",
    ]
    mask = Image.open(out / "binary_annotations/clip-1/00005_class3.png")
    assert mask.mode == "L"
    np.testing.assert_array_equal(np.asarray(mask), np.where(project.labels[5] == 3, 255, 0))
    masks = [path.relative_to(out / "binary_annotations").as_posix() for path in out.rglob("*_class*.png")]
    assert [name.split("_")[0] for name in masks] == ["clip-1/00005"]  # as the authors' code finds the frame of a mask


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools 2.0.11 with numpy 2
def test_coco_files_are_read_by_pycocotools(project: Project, tmp_path: Path) -> None:
    out = export(project, tmp_path / "out", "coco")
    coco = COCO(str(out / "annotations/instances_default.json"))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(ENDOVIS2018.names)
    (annotation,) = coco.loadAnns(coco.getAnnIds(imgIds=2))
    assert (annotation["area"], annotation["bbox"], annotation["category_id"]) == (600, [30, 10, 60, 10], 3)
    np.testing.assert_array_equal(coco.annToMask(annotation), project.labels[5] == 3)


def test_indexed_pngs_show_the_colours_of_classes(project: Project, tmp_path: Path) -> None:
    out = export(project, tmp_path / "out", "indexed-png")
    image = Image.open(out / "frame_00005.png")
    assert image.mode == "P"
    assert image.convert("RGB").getpixel((40, 15)) == ENDOVIS2018.by_id(3).rgb


@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_an_earlier_export_is_replaced_only_with_overwrite(project: Project, tmp_path: Path, format: str) -> None:
    out = export(project, tmp_path / "out", format)
    (out / "notes.txt").write_text("mine")
    before = content(out)
    for other_format in EXPORT_FORMATS:
        with pytest.raises(ExchangeError, match="already contains an export"):
            export(project, out, other_format)
    assert content(out) == before
    export(project, out, format, [5], images=False, overwrite=True)
    assert [frame.frame_index for frame in open_dataset(out).frames] == [5]
    assert (out / "notes.txt").read_text() == "mine"


def test_labels_of_another_origin_are_never_overwritten(project: Project, tmp_path: Path) -> None:
    external = tmp_path / "out" / "annotations" / "seq5" / "00012.png"
    external.parent.mkdir(parents=True)
    external.write_bytes(b"external")
    with pytest.raises(ExchangeError, match="labels that this program did not export"):
        export(project, tmp_path / "out", "endovis", overwrite=True)
    assert list(content(tmp_path / "out").values()) == [b"external"]
    with pytest.raises(ExchangeError, match="inside the project folder"):
        export(project, project.folder / "out", "coco")


@pytest.mark.parametrize("format", EXPORT_FORMATS)
@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_or_a_stop_leaves_the_folder_as_it_was(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, existing: bool
) -> None:
    out = tmp_path / "out"
    if existing:
        export(project, out, format, [5])
    before = content(out)
    stopped = export_frames(project, [2, 5, 7], out, format, overwrite=True)
    next(stopped)
    stopped.close()
    write_all, descriptors = files.write_all, []

    def write_until_full(descriptor: int, data: bytes) -> None:
        descriptors.append(descriptor)
        if len(descriptors) == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_all(descriptor, data)

    monkeypatch.setattr(files, "write_all", write_until_full)
    if format == "ome-zarr":  # zarr writes its files itself
        monkeypatch.setattr(zarr.Array, "__setitem__", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(DiskSpaceError, match="No space is left"):
        export(project, out, format, overwrite=True)
    assert content(out) == before
    assert out.exists() == existing


def test_names_of_videos_become_names_of_folders_on_any_system() -> None:
    names = {"a_b": "a-b", 'x<>:"|?*y': "x-y", "CON": "CON-", "naïve Ω": "naïve Ω", "...": "video", "end. ": "end"}
    assert {name: exchange_files.safe_name(name) for name in names} == names


def test_the_sidecar_is_plain_json_that_names_the_classes(project: Project, tmp_path: Path) -> None:
    for format in EXPORT_FORMATS:
        out = export(project, tmp_path / format, format, images=False)
        record = json.loads((out / "classes.json").read_text(encoding="utf-8"))
        assert [entry["name"] for entry in record["classes"]] == list(ENDOVIS2018.names)
        assert record["video"] == "clip_1.mp4"
