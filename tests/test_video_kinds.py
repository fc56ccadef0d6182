"""Videos of every kind that recorders write: each frame is the one that FFmpeg decodes from the start, in any order."""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
import pytest

from surgicalsam_napari.errors import VideoError
from surgicalsam_napari.video import VideoReader, is_video

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks" / "quality"))
from video_cases import CASES, VideoCase, decoded_from_the_start, encode, picture, with_another_size

CASE = {case.kind: case for case in CASES}


def written(case: VideoCase, folder: Path) -> Path:
    if missing := case.missing():
        pytest.skip(f"{missing} is missing")
    case.write(folder / case.name)
    return folder / case.name


@pytest.mark.parametrize("kind", CASE)
def test_every_frame_equals_a_decode_from_the_start_in_any_order(kind: str, tmp_path: Path) -> None:
    path = written(CASE[kind], tmp_path)
    expected = CASE[kind].expected(path)
    count = len(expected) - (expected[-1] is None)  # an incomplete last picture may be left out
    with VideoReader(path, cache_megabytes=0) as reader:
        assert len(reader) in (count, len(expected))
        shuffled = np.random.default_rng(0).permutation(count)[:40].tolist()
        for index in [*range(count), *reversed(range(0, count, 3)), *shuffled]:
            right = expected[index]
            assert right is None or np.array_equal(reader.frame(index), right), f"frame {index}"


def test_the_frames_of_all_cases_differ() -> None:
    """Otherwise the test above could not fail."""
    assert all((picture(number) != picture(number + 1)).mean() > 0.5 for number in range(20))


def test_frames_read_on_the_way_to_another_are_right_too(tmp_path: Path) -> None:
    path = written(CASE["H.264, intra refresh"], tmp_path)
    expected = decoded_from_the_start(path)
    with VideoReader(path) as reader:  # with a cache
        for index in (140, 100, 125, 70, 149):
            reader.frame(index)
        assert all(np.array_equal(reader.frame(index), expected[index]) for index in reversed(range(len(expected))))


@pytest.mark.parametrize("kind", ["H.264 in fragments, cut off", "H.264 in flv, cut off", "H.264 in mkv, cut off"])
def test_a_cut_file_keeps_the_last_frames_before_the_damage(kind: str, tmp_path: Path) -> None:
    path = written(CASE[kind], tmp_path)
    with VideoReader(path) as reader:
        assert len(reader) == len(decoded_from_the_start(path))


@pytest.mark.parametrize("kind", ["H.264 in ts, segments joined", "MPEG-2 in vob, segments joined"])
def test_joined_segments_have_the_rate_of_one_and_even_times(kind: str, tmp_path: Path) -> None:
    with VideoReader(written(CASE[kind], tmp_path)) as reader:
        assert (len(reader), reader.info.frame_rate) == (120, pytest.approx(25))
        assert reader.frame_times() == pytest.approx(np.arange(120) / 25, abs=0.001)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.ts", "libx264"), ("a.h264", "libx264"), ("a.265", "libx265"), ("a.m2v", "mpeg2video")],
)
def test_opening_names_the_frame_where_the_picture_size_changes(name: str, codec: str, tmp_path: Path) -> None:
    with pytest.raises(VideoError) as caught:
        VideoReader(with_another_size(tmp_path / name, codec))
    message = str(caught.value)
    first = 19 if codec == "mpeg2video" else 20  # the decoder drops the last picture of the first size
    assert f"from 128x96 to 160x112 pixels at frame {first}" in message
    assert "Split the video there" in message and len(message) < 300


def test_opening_an_mp4_also_names_the_frame_where_the_size_changes(tmp_path: Path) -> None:
    plain, path = with_another_size(tmp_path / "a.h264"), tmp_path / "a.mp4"
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            packet.stream, packet.pts, packet.dts = stream, 3600 * number, 3600 * number
            target.mux(packet)
    with pytest.raises(VideoError, match="from 128x96 to 160x112 pixels at frame 20"):
        VideoReader(path)


def test_the_same_size_stated_again_is_no_change(tmp_path: Path) -> None:
    with VideoReader(written(CASE["H.264 without container, segments joined"], tmp_path)) as reader:
        assert len(reader) == 120


def test_a_jump_does_not_decode_from_the_start_where_pictures_recover_slowly(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    encode(path, "libx264", count=300, preset="fast", **{"x264-params": "keyint=20:intra-refresh=1:bframes=0"})
    with VideoReader(path) as reader:
        before = reader.frames_decoded
        reader.frame(290)
        assert reader.frames_decoded - before < 90  # three refreshes, and what the threads hold


def test_a_rate_with_pauses_is_that_between_them(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
        for number in range(40):
            frame = av.VideoFrame.from_ndarray(picture(number)).reformat(format="yuv420p")
            frame.pts = number if number < 20 else number + 1000
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with VideoReader(path) as reader:
        times = reader.frame_times()
        assert reader.info.frame_rate == pytest.approx(25, rel=0.01)
        assert times is not None and times[-1] == pytest.approx(1039 / 25, abs=0.01)


def test_files_of_other_kinds_are_no_videos(tmp_path: Path) -> None:
    for name in ("notes.txt", "IM0001", "1.2.840.5"):
        (tmp_path / name).write_text("text " * 100)
        assert not is_video(tmp_path / name)
