"""Overlays: masks over frames, as they are drawn and as they are written to a video or a picture."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from surgicalsam_napari.cli import main
from surgicalsam_napari.errors import ClassSetError, VideoError
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.overlay import (
    OverlayStyle,
    draw_overlay,
    overlay_frame,
    write_overlay_picture,
    write_overlay_video,
)
from surgicalsam_napari.overlay.name_tags import Place, name_tag, place_tag
from surgicalsam_napari.store import Project
from surgicalsam_napari.video import VideoReader, write_video, writing_video

DRIVER, SCISSORS = 3, 4
PLAIN = OverlayStyle(names=False)
SIZES = ((96, 128), (480, 640), (1080, 1920), (2160, 3840))


def grey(size: tuple[int, int] = (200, 300)) -> np.ndarray:
    return np.full((*size, 3), 100, np.uint8)


def square(size: tuple[int, int] = (200, 300)) -> np.ndarray:
    labels = np.zeros(size, np.uint8)
    labels[80:140, 100:180] = DRIVER
    return labels


@pytest.fixture
def project(clip: Path):
    with Project.create(Project.default_folder(clip), VideoReader(clip), ENDOVIS2018) as project:
        project.labels[:, 30:70, 20:60] = DRIVER
        yield project


# -- drawing


def test_filled_masks_blend_with_the_frame_in_the_colours_of_their_classes() -> None:
    picture = draw_overlay(grey(), square(), ENDOVIS2018, OverlayStyle(0.25, names=False))
    assert picture[100, 120] == pytest.approx(0.75 * 100 + 0.25 * np.array(ENDOVIS2018.by_id(DRIVER).rgb), abs=1)
    assert (picture[square() == 0] == 100).all()


def test_the_frame_itself_is_not_changed() -> None:
    frame = grey()
    draw_overlay(frame, square(), ENDOVIS2018)
    assert (frame == 100).all()


def test_outlines_leave_the_inside_of_a_mask_as_it_is() -> None:
    picture = draw_overlay(grey(), square(), ENDOVIS2018, OverlayStyle(1, outlines=True, names=False))
    assert (picture[110, 140] == 100).all()
    assert tuple(picture[80, 140]) == ENDOVIS2018.by_id(DRIVER).rgb


def test_only_the_chosen_classes_are_drawn() -> None:
    labels = square()
    labels[:40, :40] = SCISSORS
    picture = draw_overlay(grey(), labels, ENDOVIS2018, OverlayStyle(names=False, class_ids=(SCISSORS,)))
    assert (picture[100, 120] == 100).all() and (picture[20, 20] != 100).any()
    with pytest.raises(ClassSetError, match="No class has the id 99"):
        draw_overlay(grey(), labels, ENDOVIS2018, OverlayStyle(class_ids=(99,)))


def test_an_opacity_beyond_1_is_refused() -> None:
    with pytest.raises(ClassSetError, match="from 0 to 1; got 50"):
        OverlayStyle(50)


@pytest.mark.parametrize("size", SIZES)
def test_names_are_large_enough_and_fit_at_any_resolution(size: tuple[int, int]) -> None:
    for instrument in ENDOVIS2018:
        tag = name_tag(instrument.name, instrument.color, size)
        line = round(1.25 * max(11, 0.03 * size[0]))
        assert tag.shape[0] >= line, "the text has at least 11 pixels, and 3 % of the frame's height"
        assert tag.shape[0] <= size[0] / 2 and tag.shape[1] <= size[1]
        assert (tag.min(axis=2) > 200).any(), "white text"


@pytest.mark.parametrize("size", SIZES)
def test_the_name_stands_above_its_mask_in_white_on_dark(size: tuple[int, int]) -> None:
    labels = np.zeros(size, np.uint8)
    labels[size[0] // 2 : -10, size[1] // 4 : size[1] // 2] = DRIVER
    plain, named = (draw_overlay(grey(size), labels, ENDOVIS2018, OverlayStyle(names=names)) for names in (False, True))
    rows, _ = np.nonzero((plain != named).any(axis=2))
    assert size[0] // 8 < rows.min() and rows.max() < size[0] // 2
    text = named[rows.min() : rows.max()].min(axis=2)
    assert text.max() > 200 and np.median(text[text != 100]) < 60


def test_names_do_not_cover_each_other() -> None:
    taken: list[Place] = []
    for _ in range(4):
        taken.append(place_tag((20, 100), Place(50, 60, 40, 40), taken, (200, 300)))
    assert not any(one.overlaps(other) for one in taken for other in taken if one is not other)
    assert all(0 <= place.top <= 180 and 0 <= place.left <= 200 for place in taken)


def test_two_instruments_of_one_class_both_get_the_name() -> None:
    labels = np.zeros((200, 300), np.uint8)
    labels[100:160, 10:60] = labels[100:160, 200:250] = DRIVER
    labels[180:182, 100:102] = DRIVER  # a speck
    plain, named = (draw_overlay(grey(), labels, ENDOVIS2018, OverlayStyle(names=names)) for names in (False, True))
    columns = np.flatnonzero((plain != named).any(axis=(0, 2)))
    assert (np.diff(columns) > 1).sum() == 1


def test_pieces_of_one_instrument_share_one_name() -> None:
    labels = square()
    labels[105:108] = 0  # the mask falls into two pieces
    plain, named = (draw_overlay(grey(), labels, ENDOVIS2018, OverlayStyle(names=names)) for names in (False, True))
    changed = np.flatnonzero((plain != named).any(axis=(1, 2)))
    assert np.ptp(changed) < name_tag("Large Needle Driver", "#ffffff", labels.shape).shape[0]


# -- writing


def test_the_overlay_video_has_the_frames_and_the_rate_of_the_source(project, tmp_path: Path) -> None:
    reports = list(write_overlay_video(project, tmp_path / "overlay.mp4", range(12), PLAIN))
    assert [(report.frame_index, report.done, report.total) for report in reports] == [(i, i + 1, 12) for i in range(12)]
    with VideoReader(tmp_path / "overlay.mp4") as overlay:
        assert overlay.info.frame_rate == project.video.info.frame_rate
        assert overlay.shape == project.video.shape
        assert np.abs(overlay[5].astype(int) - overlay_frame(project, 5, PLAIN)).mean() < 4


def test_every_nth_frame_keeps_the_speed_of_the_video(project, tmp_path: Path) -> None:
    list(write_overlay_video(project, tmp_path / "overlay.mp4", range(0, 12, 3), PLAIN))
    with VideoReader(tmp_path / "overlay.mp4") as overlay:
        assert overlay.frame_times() == pytest.approx(project.video.frame_times()[::3], abs=1e-3)


def test_the_rate_of_ntsc_is_exact_and_uneven_times_are_kept(tmp_path: Path) -> None:
    frames = [np.full((64, 64, 3), 20 * i, np.uint8) for i in range(8)]
    ntsc = VideoReader(write_video(tmp_path / "ntsc.mp4", frames, 30000 / 1001))
    with Project.create(tmp_path / "ntsc.surgicalsam", ntsc, ENDOVIS2018) as project:
        list(write_overlay_video(project, tmp_path / "a.mp4", range(8), PLAIN))
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].average_rate == Fraction(30000, 1001)
    times = [0, 0.04, 0.08, 0.5, 0.54, 1.0, 2.0, 2.04]
    with writing_video(tmp_path / "uneven.mp4", 25, times) as write:
        for frame in frames:
            write(frame)
    with Project.create(tmp_path / "uneven.surgicalsam", VideoReader(tmp_path / "uneven.mp4"), ENDOVIS2018) as project:
        list(write_overlay_video(project, tmp_path / "b.mp4", range(8), PLAIN))
    with VideoReader(tmp_path / "b.mp4") as overlay:
        assert overlay.frame_times() == pytest.approx(times, abs=1e-3)


def test_a_video_of_odd_size_can_be_played_everywhere(tmp_path: Path) -> None:
    odd = VideoReader(write_video(tmp_path / "odd.mp4", [grey((65, 97))] * 3))
    with Project.create(tmp_path / "odd.surgicalsam", odd, ENDOVIS2018) as project:
        list(write_overlay_video(project, tmp_path / "o.mp4", range(3), PLAIN))
    with av.open(str(tmp_path / "o.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width, stream.pix_fmt) == (66, 98, "yuv420p")


def test_a_cancelled_video_leaves_no_file_and_keeps_an_old_one(project, tmp_path: Path) -> None:
    target = tmp_path / "out" / "overlay.mp4"
    target.parent.mkdir()
    target.write_bytes(b"old")
    reports = write_overlay_video(project, target, range(12), PLAIN)
    next(reports)
    reports.close()
    assert [path.name for path in target.parent.iterdir()] == ["overlay.mp4"]
    assert target.read_bytes() == b"old"


def test_the_video_of_the_project_is_never_replaced(project) -> None:
    video = project.manifest.video_path
    before = video.read_bytes()
    with pytest.raises(VideoError, match="must not replace"):
        list(write_overlay_video(project, video, range(3)))
    assert video.read_bytes() == before


def test_the_picture_is_the_frame_with_its_masks(project, tmp_path: Path) -> None:
    write_overlay_picture(project, tmp_path / "frame.png", 5)
    assert (np.asarray(Image.open(tmp_path / "frame.png")) == overlay_frame(project, 5)).all()
    with pytest.raises(VideoError, match=r"must end in \.png"):
        write_overlay_picture(project, tmp_path / "frame.gif", 5)


# -- the command line


def test_overlay_on_the_command_line(project, tmp_path: Path, capsys) -> None:
    folder, out = str(project.folder), str(tmp_path / "o.mp4")
    project.close()
    assert main(["overlay", folder, out, "--frames", "2:8", "--outlines", "--no-names", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["frames"] == 6
    assert len(VideoReader(out)) == 6
    assert main(["overlay", folder, out]) == 1 and "--overwrite" in capsys.readouterr().err
    assert main(["overlay", folder, str(tmp_path / "o.png"), "--frames", "3", "--class", "large needle driver"]) == 0
    assert Image.open(tmp_path / "o.png").size == (128, 96)


def test_mistakes_on_the_command_line_get_one_line(project, tmp_path: Path, capsys) -> None:
    folder = str(project.folder)
    project.close()
    for arguments, code, message in (
        ([str(tmp_path / "o.png")], 1, "A picture shows one frame; 12 frames are chosen"),
        ([str(tmp_path / "o.avi")], 1, "must end in .mp4"),
        ([str(tmp_path / "o.mp4"), "--class", "Spoon"], 1, 'No class has the name "Spoon"'),
        ([str(tmp_path / "o.mp4"), "--opacity", "3"], 2, "--opacity"),
        ([str(tmp_path / "no" / "o.mp4")], 1, "cannot be written"),
    ):
        assert main(["overlay", folder, *arguments]) == code
        assert message in capsys.readouterr().err
