"""The content area: found in pictures with and without a black border; nothing is predicted outside it."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from surgicalsam_napari.inference import embed_frames, segment_frames
from surgicalsam_napari.inference.content import within_content
from surgicalsam_napari.inference.refine import Box, Click, Refinement
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.surgical_sam import FramePrediction, SurgicalSAM
from surgicalsam_napari.phantom import PhantomScene
from surgicalsam_napari.propagation.propagate import propagate_class
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.video import ContentArea, VideoReader, write_video
from surgicalsam_napari.video.content_area import find_content_area

SIZE = HEIGHT, WIDTH = 360, 640
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH] + 0.5


def circle(row: float, column: float, radius: float) -> np.ndarray:
    return np.hypot(ROWS - row, COLUMNS - column) <= radius


def rectangle(top: int, left: int, bottom: int, right: int, corner: int = 0) -> np.ndarray:
    picture = Image.new("L", (WIDTH, HEIGHT))
    ImageDraw.Draw(picture).rounded_rectangle((left, top, right - 1, bottom - 1), corner, fill=1)
    return np.asarray(picture) > 0


SHAPES = {
    "circle": circle(180, 320, 172),
    "circle beside the centre": circle(170, 270, 165),
    "circle cut at top and bottom": circle(180, 320, 230),
    "circle with a flat top": circle(180, 320, 172) & rectangle(50, 0, 360, 640),
    "small circle": circle(180, 320, 85),
    "rectangle": rectangle(12, 100, 348, 540),
    "rectangle with a border on the left": rectangle(0, 100, 360, 640),
    "rectangle with round corners": rectangle(10, 100, 350, 540, 60),
}


@pytest.fixture(scope="module")
def scene() -> list[np.ndarray]:
    """Frames of the phantom, (H, W, 3) uint8, apart in time."""
    return [PhantomScene(307, SIZE, 60).frame(index).image for index in (0, 20, 40)]


def bordered(frames: list[np.ndarray], content: np.ndarray, level: int = 0) -> list[np.ndarray]:
    return [np.where(content[..., None], frame, np.uint8(level)) for frame in frames]


def noisy(frame: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 8, frame.shape)
    return (frame + noise).clip(0, 255).astype(np.uint8)


def compressed(frame: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=40)
    return np.asarray(Image.open(file))


def with_text(frame: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(frame)
    draw = ImageDraw.Draw(picture)
    draw.text((6, 6), "Room 3\n2026-11-26", fill=(255, 255, 255))
    draw.rectangle((8, 320, 50, 340), fill=(0, 90, 220))
    return np.asarray(picture)


def dim(frame: np.ndarray) -> np.ndarray:
    return (frame * 0.35).astype(np.uint8)


def assert_found(area: ContentArea, content: np.ndarray, rim: int = 3) -> None:
    """All of the content is inside; the border is outside, but for a rim of so many pixels."""
    assert not area.is_whole
    assert not (content & ~area.mask).any()
    length = sum(np.count_nonzero(np.diff(content, axis=axis)) for axis in (0, 1))
    assert np.count_nonzero(area.mask & ~content) < rim * length


CHANGES = {"unchanged": np.asarray, "noisy": noisy, "compressed": compressed, "with text": with_text, "dim": dim}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_usual_shape_is_found(scene, shape, change) -> None:
    frames = [CHANGES[change](frame) for frame in bordered(scene, SHAPES[shape])]
    rim = 10 if change == "compressed" else 3  # compression spreads colours over blocks of 16 pixels
    assert_found(find_content_area(frames, SIZE), SHAPES[shape], rim)


def test_a_border_may_be_dark_grey(scene) -> None:
    assert_found(find_content_area(bordered(scene, SHAPES["circle"], level=16), SIZE), SHAPES["circle"])


def test_a_dark_frame_among_bright_ones_does_not_shrink_the_area(scene) -> None:
    content = SHAPES["circle"]
    dark = np.zeros_like(scene[0])
    assert_found(find_content_area(bordered([dark, *scene, dark], content), SIZE), content)


@pytest.mark.parametrize("change", ["unchanged", "noisy", "compressed", "dim"])
def test_a_picture_without_a_border_is_whole(scene, change) -> None:
    area = find_content_area([CHANGES[change](frame) for frame in scene], SIZE)
    assert area.is_whole and area.border_share == 0
    assert area.mask.all() and area.bounding_box == (0, 0, HEIGHT, WIDTH)


def test_whatever_is_no_clear_border_stays_inside(scene) -> None:
    """A black clip, no frames, light that fades out, a spotlight, a dark shaft in a corner, thin strips, two pictures."""
    light = np.exp(-((np.hypot(ROWS - 180, COLUMNS - 320) / 200) ** 2))[..., None]
    fading = [(frame * light).astype(np.uint8) for frame in scene]
    spotlight = [np.where(SHAPES["circle"][..., None], frame, frame // 12).astype(np.uint8) for frame in scene]
    shaft = bordered(scene, ROWS < HEIGHT - 0.7 * (COLUMNS - 330))
    strips = bordered(scene, rectangle(5, 12, 355, 635))
    two = bordered(scene, rectangle(10, 10, 350, 310) | rectangle(10, 330, 350, 630))
    for frames in ([np.zeros_like(scene[0])] * 3, [], fading, spotlight, shaft, strips, two):
        assert find_content_area(frames, SIZE).is_whole
    assert find_content_area([np.zeros((3, 4, 3), np.uint8)], (3, 4)).is_whole


def test_the_bounding_box_and_the_share_of_the_border(scene) -> None:
    area = find_content_area(bordered(scene, SHAPES["rectangle"]), SIZE)
    np.testing.assert_allclose(area.bounding_box, (12, 100, 348, 540), atol=3)
    assert area.border_share == pytest.approx(1 - SHAPES["rectangle"].mean(), abs=0.02)


# ---- videos


@pytest.fixture(scope="module")
def clip(scene, tmp_path_factory) -> Path:
    """A video of 30 frames with a round content area."""
    frames = bordered(scene, SHAPES["circle"])
    return write_video(tmp_path_factory.mktemp("round") / "round.mp4", [frames[index // 10] for index in range(30)])


def test_a_video_has_one_content_area(clip) -> None:
    with VideoReader(clip) as video:
        assert_found(video.content_area, SHAPES["circle"])
        decoded = video.frames_decoded
        assert video.content_area.mask is video.content_area.mask
        assert video.frames_decoded == decoded


def test_a_folder_of_images_has_a_content_area(scene, tmp_path) -> None:
    for index, frame in enumerate(bordered(scene, SHAPES["rectangle"])):
        Image.fromarray(frame).save(tmp_path / f"{index}.png")
    with VideoReader(tmp_path) as video:
        assert_found(video.content_area, SHAPES["rectangle"])


def test_an_unreadable_video_is_whole(clip, scene, tmp_path) -> None:
    for index, frame in enumerate(scene):
        Image.fromarray(frame).save(tmp_path / f"{index}.png")
    video = VideoReader(tmp_path)
    for file in tmp_path.iterdir():
        file.write_bytes(b"damaged")
    assert video.content_area.is_whole
    closed = VideoReader(clip)
    closed.close()
    assert closed.content_area.is_whole


def test_real_videos_lose_no_labelled_pixel(shared_folder) -> None:
    data = shared_folder / "data"
    with VideoReader(data / "endovis2017_clip" / "clip.mp4") as video:
        began = time.process_time()
        np.testing.assert_allclose(video.content_area.bounding_box, (28, 328, 1052, 1592), atol=6)
        assert time.process_time() - began < 1
        for side in ("left", "right"):
            parts = np.asarray(Image.open(data / f"endovis2017_clip/frame006_{side}_parts.png"))
            assert parts.any() and not parts[~video.content_area.mask].any()
    for name in ("v1", "v2"):  # black strips of 13 columns, labelled across by the dataset
        with VideoReader(data / "endovis2015_robotic" / f"{name}.avi") as video:
            assert video.content_area.is_whole
    for path in sorted((data / "endovis2018_sample" / "images").glob("*.png")):  # strips of 8 columns; dark corners
        image, labels = np.asarray(Image.open(path)), np.asarray(Image.open(path.parents[1] / "labels" / path.name))
        outside = ~find_content_area([image], image.shape[:2]).mask
        assert np.count_nonzero(labels[outside]) <= 0.001 * np.count_nonzero(labels)


# ---- predictions


@pytest.fixture(scope="module")
def model() -> SurgicalSAM:
    return load_checkpoint("light", device="cpu")


@pytest.fixture
def project(clip, tmp_path):
    with Project.create(tmp_path / "round.surgicalsam", VideoReader(clip), ENDOVIS2018) as project:
        yield project


def prediction_of(label_map: np.ndarray, class_ids: tuple[int, ...]) -> FramePrediction:
    scores = np.full(len(class_ids), 0.9, np.float32)
    return FramePrediction(class_ids, label_map, scores, scores, scores > 0, np.full(len(class_ids), 0.1, np.float32))


def test_a_class_on_the_border_alone_becomes_absent() -> None:
    area = find_content_area([np.where(SHAPES["circle"][..., None], np.uint8([200, 90, 80]), np.uint8(0))], SIZE)
    label_map = np.zeros(SIZE, np.uint8)
    label_map[:60, :60], label_map[150:200] = 1, 2
    clipped = within_content(prediction_of(label_map, (1, 2, 3)), area)
    np.testing.assert_array_equal(clipped.label_map, np.where(area.mask, label_map, 0))
    assert clipped.present.tolist() == [False, True, True]  # class 3 had no pixels before
    assert clipped.presence.tolist() == pytest.approx([0, 0.9, 0.9])
    assert clipped.contested.tolist() == pytest.approx([0, 0.1, 0.1])
    whole = prediction_of(label_map, (1, 2))
    assert within_content(whole, ContentArea(SIZE)) is whole


def test_nothing_is_segmented_on_the_border(project, tiny_model, monkeypatch) -> None:
    label_map = np.full(SIZE, 3, np.uint8)
    label_map[:60, :60] = 2
    monkeypatch.setattr(tiny_model, "predict", lambda *_arguments: [prediction_of(label_map, (3, 2))])
    report = next(segment_frames(project, tiny_model, [3, 2], [7]))
    mask = project.video.content_area.mask
    np.testing.assert_array_equal(project.labels[7], np.where(mask, 3, 0))
    np.testing.assert_array_equal(report.prediction.label_map, project.labels[7])
    assert project.labels.provenance(7, 3) == Provenance.PREDICTED
    assert project.labels.provenance(7, 2) == Provenance.ABSENT


def painted(project: Project, frame_index: int, top: int, left: int, bottom: int, right: int) -> None:
    label_map = project.labels[frame_index]
    label_map[top:bottom, left:right] = 3
    project.labels[frame_index] = label_map


def test_what_a_person_painted_on_the_border_stays(project, tiny_model, monkeypatch) -> None:
    painted(project, 7, 110, 190, 280, 320)
    painted(project, 7, 178, 138, 182, 190)  # a stroke that runs over the edge of the picture
    before = project.labels[7]
    assert before[~project.video.content_area.mask].any()
    monkeypatch.setattr(tiny_model, "predict", lambda *_arguments: [prediction_of(np.zeros(SIZE, np.uint8), (3,))])
    next(segment_frames(project, tiny_model, [3], [7]))
    np.testing.assert_array_equal(project.labels[7], before)
    assert not project.content_area.is_whole


def test_labels_of_a_person_on_the_border_show_that_it_is_none(project) -> None:
    painted(project, 7, 100, 0, 140, 320)
    assert project.content_area.is_whole
    project.labels[7] = np.zeros(SIZE, np.uint8)
    assert not project.content_area.is_whole
    project.labels.write_prediction(8, prediction_of(np.full(SIZE, 3, np.uint8), (3,)))
    assert not project.content_area.is_whole
    project.labels.verify(8)
    assert project.content_area.is_whole


def test_propagation_leaves_the_border_out(project, model) -> None:
    painted(project, 2, 110, 190, 280, 320)
    painted(project, 2, 178, 138, 182, 190)
    reports = list(propagate_class(project, model, 3, 2, [3]))
    assert reports[-1].done == 1
    written = project.labels[3] == 3
    assert written.any() and not written[~project.video.content_area.mask].any()


def test_clicks_add_to_the_border_only_where_they_are(project, model) -> None:
    list(embed_frames(project, model, [0]))
    embedding = project.embeddings(model.encoder_digest, model.embedding_shape).read([0])[0]
    inside = project.content_area.mask
    before = np.zeros(SIZE, bool)
    before[5:15, 5:15] = True
    refinement = Refinement(model, embedding, before, inside)
    refinement.set_box(Box(0, 0, HEIGHT, WIDTH))
    assert not (refinement.mask & ~inside & ~before).any()
    refinement.add_click(Click(100, 20, True))
    added = refinement.mask & ~inside & ~before
    assert added[100, 20] and np.ptp(np.nonzero(added)[0]) < 20


def test_opening_a_video_finds_its_content_area(clip, tmp_path) -> None:
    with Session() as session:
        project = session.open(clip, project_folder=tmp_path)
        decoded = project.video.frames_decoded
        assert_found(project.content_area, SHAPES["circle"])
        assert project.video.frames_decoded == decoded
