from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.phantom import LOOKS, PHANTOM_PARTS, SAMPLE_SEED, PhantomScene, write_phantom_clip
from surgicalsam_napari.phantom.look import FIRST_LOOK
from surgicalsam_napari.phantom.raster import Layer
from surgicalsam_napari.phantom.tools import Instrument, Pose

SMALL = (64, 80)
BEFORE = Path(__file__).parent / "phantom_scenes.npz"  # frames 3, 29 and 51 of scenes, 48x60


@pytest.fixture(scope="module")
def sample_labels() -> np.ndarray:
    """(T, H, W): the sample clip's labels, small."""
    return np.stack([frame.labels for frame in PhantomScene(SAMPLE_SEED, (128, 160))])


def resting_pose(roll: float = 0.9) -> Pose:
    return Pose(np.array((0.6, 0.4)), np.array((-0.6, 0.5)), radius=0.06, bend=0.2, opening=0.3, roll=roll, depth=1.0)


def drawn(class_id: int, size: tuple[int, int]) -> Layer:
    layer = Layer(size)
    for tube in Instrument(class_id, np.random.default_rng(1), FIRST_LOOK).tubes(resting_pose()):
        layer.draw(tube, class_id)
    return layer


@pytest.mark.parametrize("look", LOOKS)
def test_same_seed_gives_same_bytes(look):
    first, again = (PhantomScene(5, SMALL, look=look).frame(17) for _ in range(2))
    assert first.image.tobytes() == again.image.tobytes()
    assert first.labels.tobytes() == again.labels.tobytes()


@pytest.mark.parametrize(
    ("name", "seed", "look", "new_tool"),
    [
        ("sample", 307, "first", False),
        ("second_look", 700_002, "second", False),
        ("new_tool", 600_001, "first", True),
        ("training", 910_004, "first", False),
    ],
)
def test_scenes_are_those_that_the_bundled_weights_were_trained_and_measured_on(name, seed, look, new_tool):
    scene = PhantomScene(seed, (48, 60), 60, look, new_tool)
    frames = [scene.frame(index) for index in (3, 29, 51)]
    with np.load(BEFORE) as before:
        assert np.array_equal([frame.labels for frame in frames], before[f"{name}_labels"])
        # One grey level: a processor may round otherwise.
        difference = np.abs(np.array([frame.image for frame in frames]).astype(int) - before[f"{name}_images"])
        assert difference.max() <= 1 and difference.mean() < 0.01


def test_other_seeds_give_other_scenes():
    assert not np.array_equal(PhantomScene(5, SMALL).frame(0).image, PhantomScene(6, SMALL).frame(0).image)


def test_random_access_equals_iteration():
    frames = list(PhantomScene(SAMPLE_SEED, SMALL, 20))
    scene = PhantomScene(SAMPLE_SEED, SMALL, 20)
    assert len(frames) == len(scene) == 20
    for index in (19, 3, 11):
        frame = scene.frame(index)
        assert np.array_equal(frame.image, frames[index].image)
        assert np.array_equal(frame.labels, frames[index].labels)


@pytest.mark.parametrize("size", [(65, 101), (120, 90), (33, 47), (512, 640)])
def test_frames_have_the_requested_size(size):
    frame = PhantomScene(2, size).frame(30)
    assert frame.image.shape == (*size, 3) and frame.image.dtype == np.uint8
    assert frame.labels.shape == size and frame.labels.dtype == np.uint8


def test_any_resolution_shows_the_same_scene(sample_labels):
    coarse = np.stack([PhantomScene(SAMPLE_SEED, SMALL).frame(index).labels for index in (0, 30, 59)])
    assert (coarse == sample_labels[[0, 30, 59], ::2, ::2]).mean() > 0.97


def test_labels_hold_only_classes_of_the_scene_and_every_class_occurs():
    seen = set()
    for seed in range(16):
        scene = PhantomScene(seed, (48, 60))
        assert set(scene.classes) <= set(ENDOVIS2018.ids)
        for index in (5, 45):
            labelled_ids = set(np.unique(scene.frame(index).labels)) - {0}
            assert labelled_ids <= set(scene.classes)
            seen |= labelled_ids
    assert seen == set(ENDOVIS2018.ids)


def test_some_frames_show_no_instrument():
    scenes = (PhantomScene(seed, (16, 20)) for seed in range(40))
    assert any(not frame.labels.any() for scene in scenes for frame in map(scene.frame, (10, 30, 50)))


@pytest.mark.parametrize("class_id", ENDOVIS2018.ids)
def test_labels_are_the_pixels_at_least_half_covered(class_id):
    layer = drawn(class_id, (96, 120))
    fine = drawn(class_id, (96 * 8, 120 * 8)).labels > 0
    share = fine.reshape(96, 8, 120, 8).mean((1, 3))
    labelled = layer.labels == class_id
    assert labelled.sum() > 300
    assert (labelled == (share >= 0.5)).mean() > 0.995
    assert not labelled[layer.cover < 0.5].any()


def test_classes_differ_in_shape_and_colour():
    layers = {class_id: drawn(class_id, (96, 120)) for class_id in ENDOVIS2018.ids}
    for first in layers:
        for second in range(first + 1, len(layers) + 1):
            outline = (layers[first].labels > 0) != (layers[second].labels > 0)
            both = (layers[first].labels > 0) & (layers[second].labels > 0)
            color = np.abs(layers[first].rgb - layers[second].rgb)[both].mean()
            assert outline.sum() > 60 and color > 0.04


def test_instances_and_parts_cover_exactly_the_labels():
    for scene in (PhantomScene(SAMPLE_SEED, SMALL), PhantomScene(3, SMALL, alike=3), PhantomScene(0, SMALL, new_tool=True)):
        for frame in map(scene.frame, (0, 20, 40)):
            assert np.array_equal(np.array((0, *scene.instruments))[frame.instances], frame.labels)
            assert np.array_equal(frame.parts > 0, frame.labels > 0)
            assert set(np.unique(frame.parts)) <= {0, *PHANTOM_PARTS.ids}


@pytest.mark.parametrize("class_id", ENDOVIS2018.ids)
def test_jointed_instruments_have_shaft_wrist_and_clasper_from_the_port_to_the_tip(class_id):
    pose = resting_pose()
    parts = Layer((96, 120))
    for tube in Instrument(class_id, np.random.default_rng(1), FIRST_LOOK).tubes(pose):
        parts.draw(tube, tube.part)
    way = pose.wrist - pose.port
    along = (np.stack(np.meshgrid(np.arange(120), np.arange(96)), -1) / 120 - pose.port) @ way
    found = [part for part in PHANTOM_PARTS.ids if (parts.labels == part).any()]
    assert found == ([1] if ENDOVIS2018.by_id(class_id).name in ("Ultrasound Probe", "Suction Instrument") else [1, 2, 3])
    middles = [along[parts.labels == part].mean() for part in found]
    assert middles == sorted(middles)


@pytest.fixture(scope="module", params=[(1, 2), (3, 3)], ids=["two", "three"])
def alike(request) -> tuple[tuple[int, ...], list[int], np.ndarray]:
    """Class id of each instrument, the numbers of the alike ones, and the instances (T, H, W), of a scene of 10 seconds."""
    seed, count = request.param
    scene = PhantomScene(seed, (48, 60), 250, alike=count)
    class_id = max(scene.instruments, key=scene.instruments.count)
    numbers = [number for number, id in enumerate(scene.instruments, start=1) if id == class_id]
    assert len(numbers) == count
    return scene.instruments, numbers, np.stack([scene.frame(index).instances for index in range(0, 250, 5)])


def test_alike_instruments_leave_the_picture_and_return(alike):
    _, numbers, instances = alike
    for number in numbers:
        present = (instances == number).any((1, 2))
        assert present[0] and present[-1] and not present.all()


def test_alike_instruments_cross_and_cover_one_another(alike):
    _, numbers, instances = alike
    first, second = numbers[:2]
    a, b = ((instances == number) for number in (first, second))
    touch = (a[:, :, 1:] & b[:, :, :-1]) | (b[:, :, 1:] & a[:, :, :-1])
    touching = touch.any((1, 2))
    assert 0.05 < touching.mean() < 0.8
    assert (np.abs(np.diff(touching.astype(int))) > 0).sum() >= 2


def test_only_two_or_three_instruments_can_be_alike():
    with pytest.raises(ValueError, match="alike=1"):
        PhantomScene(0, SMALL, alike=1)


def test_both_looks_show_the_same_seed_differently():
    first, second = (PhantomScene(SAMPLE_SEED, SMALL, look=look).frame(0).image.astype(float) for look in LOOKS)
    red_minus_green = [image[..., 0].mean() - image[..., 1].mean() for image in (first, second)]
    assert np.abs(first - second).mean() > 10
    assert red_minus_green[0] > red_minus_green[1]


def test_an_unknown_look_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="first, second"):
        PhantomScene(0, SMALL, look="third")


@pytest.mark.parametrize("index", [-1, 60])
def test_frames_beyond_the_clip_are_refused(index):
    with pytest.raises(IndexError, match="0 to 59"):
        PhantomScene(0, SMALL).frame(index)


def test_in_the_sample_clip_one_instrument_leaves_and_another_enters(sample_labels):
    present = {class_id: (sample_labels == class_id).any((1, 2)) for class_id in np.unique(sample_labels) if class_id}
    assert len(present) >= 3
    assert any(frames[0] and not frames[-1] for frames in present.values())
    assert any(frames[-1] and not frames[0] for frames in present.values())


def test_instruments_in_the_sample_clip_move(sample_labels):
    for class_id in (4, 6):
        at_start, at_end = (np.argwhere(sample_labels[index] == class_id).mean(0) for index in (0, 59))
        assert np.hypot(*(at_start - at_end)) > 1


def files_in(folder: Path) -> Iterator[str]:
    return (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())


def test_clip_is_written_as_video_and_label_maps(tmp_path):
    from surgicalsam_napari.video import VideoReader

    path = write_phantom_clip(tmp_path / "new", SAMPLE_SEED, (96, 128), 6)
    scene = PhantomScene(SAMPLE_SEED, (96, 128), 6)
    labels = [f"phantom_{SAMPLE_SEED}_labels/frame{index:05d}.png" for index in range(6)]
    assert sorted(files_in(tmp_path / "new")) == sorted([path.name, *labels])
    for index, name in enumerate(labels):
        assert np.array_equal(np.asarray(Image.open(path.parent / name)), scene.frame(index).labels)
    video = VideoReader(path)
    assert len(video) == 6
    assert np.abs(np.asarray(video[3]).astype(float) - scene.frame(3).image).mean() < 12


def test_clip_has_instances_and_parts_on_wish(tmp_path):
    path = write_phantom_clip(tmp_path, 3, SMALL, 4, alike=2, with_instances=True, with_parts=True)
    frame = PhantomScene(3, SMALL, 4, alike=2).frame(2)
    for kind in ("labels", "instances", "parts"):
        written = np.asarray(Image.open(path.parent / f"phantom_3_{kind}" / "frame00002.png"))
        assert np.array_equal(written, getattr(frame, kind))


def test_clip_without_the_wanted_parts_is_written_again(tmp_path):
    path = write_phantom_clip(tmp_path, 3, SMALL, 4)
    write_phantom_clip(tmp_path, 3, SMALL, 4, with_parts=True)
    assert path.is_file() and len(list((tmp_path / "phantom_3_parts").iterdir())) == 4


def test_complete_clip_is_not_written_again(tmp_path):
    path = write_phantom_clip(tmp_path, 3, (64, 80), 4)
    written = path.stat().st_mtime_ns
    assert write_phantom_clip(tmp_path, 3, (64, 80), 4) == path
    assert path.stat().st_mtime_ns == written


def test_incomplete_clip_is_written_again(tmp_path):
    path = write_phantom_clip(tmp_path, 3, (64, 80), 4)
    missing = tmp_path / "phantom_3_labels" / "frame00002.png"
    missing.unlink()
    write_phantom_clip(tmp_path, 3, (64, 80), 4)
    assert missing.is_file() and path.is_file()


def test_clip_of_another_size_is_written_again(tmp_path):
    write_phantom_clip(tmp_path, 3, (64, 80), 4)
    write_phantom_clip(tmp_path, 3, (96, 128), 4)
    assert Image.open(tmp_path / "phantom_3_labels" / "frame00003.png").size == (128, 96)


def test_interrupted_clip_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr("surgicalsam_napari.video.write_video", fail)
    with pytest.raises(OSError, match="disk full"):
        write_phantom_clip(tmp_path, 3, (64, 80), 4)
    assert not list(tmp_path.iterdir())
