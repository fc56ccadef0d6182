"""Instances, tracks and parts in datasets: what is written comes back, and what other tools write is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.converting import convert_frames
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame
from surgicalsam_napari.exchange.overlaps import ClassMask
from surgicalsam_napari.exchange.parts import ENDOVIS_PARTS
from surgicalsam_napari.exchange.registry import EXPORT_FORMATS, open_dataset
from surgicalsam_napari.instruments import ENDOVIS2018

SIZE = (32, 48)
WITH_INSTANCES = [name for name, format in EXPORT_FORMATS.items() if format.instances]
SHAPES = {name: [False, True][: len(format.shapes)] for name, format in EXPORT_FORMATS.items()}  # masks, polygons
WITH_PARTS = [name for name, format in EXPORT_FORMATS.items() if format.parts]


def box(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[rows, columns] = True
    return mask


def parts() -> np.ndarray:
    """Stripes of no part, shaft, wrist and clasper."""
    return np.repeat(np.arange(SIZE[1], dtype=np.uint8) % 4, SIZE[0]).reshape(SIZE[1], SIZE[0]).T


def drivers(step: int) -> list[ClassMask]:
    """Two needle drivers that cross; the second is in two pieces, and a scissors without a track is in frame 1 alone."""
    left = ClassMask(3, box(slice(2, 10), slice(2 + 10 * step, 12 + 10 * step)), 7)
    right = box(slice(12, 20), slice(30 - 10 * step, 40 - 10 * step)) | box(slice(24, 30), slice(30, 40))
    masks = [replace(left, parts=parts()), ClassMask(3, right, 300, parts=parts())]
    if step == 1:
        masks.append(ClassMask(4, box(slice(22, 24), slice(0, 9)), parts=parts()))
    return masks


def made(contents: Mapping[int, list[ClassMask]], **options: object) -> Dataset:
    """A dataset of the video clip with these frames."""
    frames = tuple(DatasetFrame("clip", index, f"clip/frame_{index:05d}", SIZE) for index in contents)
    settings: dict = {"has_instances": True, "has_tracks": True, **options}
    return Dataset(Path("/clip"), "made", ENDOVIS2018, frames, lambda frame: contents[frame.frame_index], **settings)


@pytest.fixture
def crossing() -> Dataset:
    return made({index: drivers(step) for step, index in enumerate((4, 5, 9))}, parts=ENDOVIS_PARTS)


@pytest.fixture
def convert(tmp_path: Path) -> Iterator[Callable[..., Dataset]]:
    """Write a dataset in a format, and open it again."""

    def convert(dataset: Dataset, format: str, **options: bool) -> Dataset:
        out = tmp_path / f"{format}-{len(list(tmp_path.iterdir()))}"
        for _ in convert_frames(dataset, out, format, images=False, **options):
            pass
        return open_dataset(out)

    yield convert


def assert_same(before: Dataset, after: Dataset) -> None:
    assert [frame.frame_index for frame in after.frames] == [frame.frame_index for frame in before.frames]
    assert (after.has_instances, after.has_tracks) == (before.has_instances, before.has_tracks)
    for one, other in zip(before.frames, after.frames, strict=True):
        np.testing.assert_array_equal(after.label_map(other), before.label_map(one))
        np.testing.assert_array_equal(after.instances(other), before.instances(one))


@pytest.mark.parametrize(("format", "polygons"), [(f, p) for f in WITH_INSTANCES for p in SHAPES[f]])
def test_labels_and_tracks_come_back_as_they_were_written(
    crossing: Dataset, convert: Callable[..., Dataset], format: str, polygons: bool
) -> None:
    assert_same(crossing, convert(crossing, format, polygons=polygons))


@pytest.mark.parametrize("format", WITH_INSTANCES)
def test_a_dataset_without_instances_gets_none(crossing: Dataset, convert: Callable[..., Dataset], format: str) -> None:
    plain = replace(crossing, has_instances=False, has_tracks=False)
    read = convert(plain, format)
    assert_same(plain, read)
    assert read.instances(read.frames[0]) is None


@pytest.mark.parametrize("format", WITH_INSTANCES)
def test_instances_of_single_frames_stay_apart_without_becoming_tracks(convert: Callable[..., Dataset], format: str) -> None:
    alone = {index: [replace(one, track_id=None, instance=one.track_id) for one in drivers(0)] for index in (0, 1)}
    read = convert(made(alone, has_tracks=False), format)
    assert (read.has_instances, read.has_tracks) == (True, False)
    numbers = read.instances(read.frames[1])
    assert numbers is not None
    regions = {tuple(np.flatnonzero(numbers == number)) for number in np.unique(numbers) if number}
    assert regions == {tuple(np.flatnonzero(one.mask)) for one in drivers(0)}


@pytest.mark.parametrize("format", WITH_INSTANCES)
def test_a_track_whose_class_changes_keeps_its_id(convert: Callable[..., Dataset], format: str) -> None:
    mask = box(slice(4, 9), slice(4, 9))
    changing = made({index: [ClassMask(class_id, mask, 5)] for index, class_id in enumerate((3, 3, 6))})
    assert_same(changing, convert(changing, format))


@pytest.mark.parametrize("format", WITH_PARTS)
def test_parts_come_back_as_they_were_written(crossing: Dataset, convert: Callable[..., Dataset], format: str) -> None:
    read = convert(crossing, format)
    assert read.parts == ENDOVIS_PARTS
    for one, other in zip(crossing.frames, read.frames, strict=True):
        np.testing.assert_array_equal(read.label_map(other), crossing.label_map(one))
        np.testing.assert_array_equal(read.parts_map(other), crossing.parts_map(one))


def test_a_chain_of_formats_keeps_tracks(crossing: Dataset, convert: Callable[..., Dataset]) -> None:
    dataset = crossing
    for format in ("mots", "cvat-video", "youtube-vis", "coco"):
        dataset = convert(dataset, format)
    assert_same(crossing, dataset)


def test_mots_with_more_objects_than_it_holds_is_refused(convert: Callable[..., Dataset]) -> None:
    specks = {n: [ClassMask(3, box(slice(0, 1), slice(0, 1)), n + 1)] for n in range(1000)}
    with pytest.raises(ExchangeError, match="MOTS holds 999 objects of a class in a video, but clip has more"):
        convert(made(specks), "mots")


def test_an_export_with_a_part_that_endovis_does_not_have_is_refused(
    crossing: Dataset, convert: Callable[..., Dataset]
) -> None:
    renamed = replace(ENDOVIS_PARTS, classes=(replace(ENDOVIS_PARTS.classes[0], name="Tube"), *ENDOVIS_PARTS.classes[1:]))
    for format in WITH_PARTS:
        with pytest.raises(ExchangeError, match="has the parts Shaft, Wrist, Clasper, Probe, but there is the part Tube"):
            convert(replace(crossing, parts=renamed), format)
