"""The video reader gives exact frames: each test frame shows its number as black and white blocks."""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from surgicalsam_napari.errors import VideoError
from surgicalsam_napari.video import VIDEO_SUFFIXES, VideoReader, is_video, write_video

BITS, BLOCK = 8, 16
SIZE = (64, 128)
COUNT = 60


def numbered_frame(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    image = np.full((*size, 3), 90, np.uint8)
    for bit in range(BITS):
        image[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 255 * (number >> bit & 1)
    column = number * 3 % (size[1] - 24)
    image[BLOCK + 8 : BLOCK + 32, column : column + 24] = (200, 60, 40)
    return image


def number_in(image: np.ndarray) -> int:
    centres = image[BLOCK // 2, BLOCK // 2 : BITS * BLOCK : BLOCK].mean(axis=-1)
    return sum(int(centre > 128) << bit for bit, centre in enumerate(centres))


def encode(
    path: Path,
    codec: str = "libx264",
    *,
    count: int = COUNT,
    size: tuple[int, int] = SIZE,
    pix_fmt: str = "yuv420p",
    gop: int = 12,
    noise: bool = False,
    b_frames: int | None = None,
    times: list[int] | None = None,
    rotation: float | None = None,
    muxer: dict[str, str] | None = None,
    **options: str,
) -> Path:
    try:
        av.codec.Codec(codec, "w")
    except av.error.UnknownCodecError:
        pytest.skip(f"this FFmpeg has no encoder {codec}")
    with av.open(str(path), "w", container_options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *size, pix_fmt
        stream.codec_context.gop_size = gop
        stream.codec_context.time_base = Fraction(1, 25)
        stream.codec_context.thread_count = 1
        if b_frames is not None:
            stream.codec_context.max_b_frames = b_frames
        if rotation is not None:
            if not hasattr(stream, "set_display_rotation"):
                pytest.skip("this PyAV cannot write a display matrix")
            stream.set_display_rotation(rotation)
        stream.options = options
        for number in range(count):
            image = numbered_frame(number, size)
            if noise:  # for files much larger than their headers
                image[BLOCK + 8 :] = np.random.default_rng(number).integers(0, 255, (size[0] - BLOCK - 8, size[1], 3))
            frame = av.VideoFrame.from_ndarray(image).reformat(format=pix_fmt)
            frame.pts = number if times is None else times[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def assert_exact(reader: VideoReader, numbers: range | list[int] = range(COUNT)) -> None:
    """Every frame is the right one: forwards, backwards, and in random order."""
    numbers = list(numbers)
    assert len(reader) == len(numbers)
    forwards = list(range(len(numbers)))
    shuffled = np.random.default_rng(0).permutation(len(numbers)).tolist()
    for index in forwards + shuffled + forwards[::-3]:
        assert number_in(reader.frame(index)) == numbers[index], f"frame {index}"


def open_without_cache(path: Path) -> VideoReader:
    return VideoReader(path, cache_megabytes=0)


# -- exact frames, codec by codec

X265 = {"x265-params": "log-level=none:pools=none:frame-threads=1"}
CODECS = {
    "h264 with B-frames in mp4": ("a.mp4", "libx264", {"bf": "3"}),
    "h264 in mov": ("a.mov", "libx264", {}),
    "h264 in mkv": ("a.mkv", "libx264", {}),
    "h264 with a pyramid of B-frames": ("a.mp4", "libx264", {"bf": "7", "x264-params": "b-pyramid=normal:b-adapt=0"}),
    "h264 without B-frames": ("a.mp4", "libx264", {"bf": "0"}),
    "h264 of several references and slices": (
        "a.mp4",
        "libx264",
        {"bf": "3", "x264-params": "ref=5:slices=4:direct=temporal"},
    ),
    "h264 interlaced": ("a.mp4", "libx264", {"bf": "3", "x264-params": "tff=1:interlaced=1"}),
    "h264 with open GOPs": ("a.mp4", "libx264", {"bf": "3", "x264-params": "open-gop=1:scenecut=0"}),
    "h264 with open GOPs in ts": ("a.ts", "libx264", {"bf": "3", "x264-params": "open-gop=1:scenecut=0"}),
    "h264 refreshed bit by bit": ("a.mp4", "libx264", {"intra-refresh": "1"}),
    "h264 in fragments": ("a.mp4", "libx264", {"muxer": {"movflags": "frag_keyframe+empty_moov"}}),
    "h264 in avi, times wrong": ("a.avi", "libx264", {"bf": "2"}),
    "h264 in mpeg, times missing": ("a.mpg", "libx264", {"bf": "2"}),
    "h264 yuv420p10": ("a.mp4", "libx264", {"pix_fmt": "yuv420p10le"}),
    "h264 yuv444p": ("a.mp4", "libx264", {"pix_fmt": "yuv444p"}),
    "h264 grey": ("a.mp4", "libx264", {"pix_fmt": "gray"}),
    "h264 lossless": ("a.mkv", "libx264", {"qp": "0"}),
    "hevc with open GOPs": ("a.mp4", "libx265", X265),
    "hevc yuv420p10 in mkv": ("a.mkv", "libx265", {"pix_fmt": "yuv420p10le", **X265}),
    "mpeg4 with B-frames in avi": ("a.avi", "mpeg4", {"b_frames": 2}),
    "mpeg4 in mov": ("a.mov", "mpeg4", {"b_frames": 2}),
    "mpeg1 in mpg": ("a.mpg", "mpeg1video", {"b_frames": 2}),
    "mpeg2 in mpg": ("a.mpg", "mpeg2video", {"b_frames": 2}),
    "mpeg2 in ts": ("a.ts", "mpeg2video", {"b_frames": 2}),
    "mpeg2 without container": ("a.m2v", "mpeg2video", {"b_frames": 2}),
    "vp8 in webm": ("a.webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16", "b": "300k", "cpu-used": "8"}),
    "vp9 in webm": ("a.webm", "libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "16", "b": "300k", "cpu-used": "8"}),
    "mjpeg in avi": ("a.avi", "mjpeg", {"pix_fmt": "yuvj420p"}),
    "mjpeg in mov": ("a.mov", "mjpeg", {"pix_fmt": "yuvj422p"}),
    "ffv1 in mkv": ("a.mkv", "ffv1", {}),
    "ffv1 grey in avi": ("a.avi", "ffv1", {"pix_fmt": "gray"}),
    "ffv1 16-bit grey": ("a.mkv", "ffv1", {"pix_fmt": "gray16le"}),
    "ffv1 rgb": ("a.mkv", "ffv1", {"pix_fmt": "bgr0"}),
    "prores": ("a.mov", "prores_ks", {"pix_fmt": "yuv422p10le"}),
    "wmv": ("a.wmv", "wmv2", {}),
    "raw": ("a.avi", "rawvideo", {}),
}


@pytest.mark.parametrize("case", CODECS)
def test_every_frame_is_exact_in_any_order(case: str, tmp_path: Path) -> None:
    name, codec, options = CODECS[case]
    with open_without_cache(encode(tmp_path / name, codec, **options)) as reader:
        assert_exact(reader)
        assert reader.shape == (COUNT, *SIZE, 3)
        assert reader.info.frame_rate == pytest.approx(25, rel=0.01)


def test_variable_frame_rate_counts_frames_not_time(tmp_path: Path) -> None:
    times = np.cumsum(np.random.default_rng(1).integers(1, 9, COUNT)).tolist()
    for name in ("a.mp4", "a.mkv"):
        with open_without_cache(encode(tmp_path / name, times=times)) as reader:
            assert_exact(reader)
            expected = 25 * (COUNT - 1) / (times[-1] - times[0])
            assert reader.info.frame_rate == pytest.approx(expected, rel=0.05)


def test_video_may_start_at_a_late_time(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mkv", "a.ts"):
        with open_without_cache(encode(tmp_path / name, times=list(range(500, 500 + COUNT)))) as reader:
            assert_exact(reader)


def remux(source: Path, target: Path, keep: slice) -> Path:
    """Copy packets `keep` of a file, without encoding again, as a trimming tool does."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        packets = [packet for packet in old.demux(old.streams.video[0]) if packet.size]
        for packet in packets[keep]:
            packet.stream = stream
            new.mux(packet)
    return target


def test_stream_cut_at_both_ends_starts_at_its_first_whole_frame(tmp_path: Path) -> None:
    whole = encode(tmp_path / "a.ts", bf="2", **{"x264-params": "scenecut=0"})
    with open_without_cache(remux(whole, tmp_path / "b.ts", slice(5, -5))) as reader:
        assert number_in(reader[0]) == 12  # the first remaining keyframe
        numbers = [number_in(reader[i]) for i in range(len(reader))]
        assert numbers == sorted(set(numbers)) and numbers[-1] < COUNT
        assert_exact(reader, numbers)


def test_open_gop_at_the_start_loses_only_frames_without_reference(tmp_path: Path) -> None:
    whole = encode(tmp_path / "a.mkv", "mpeg2video", b_frames=2)
    with av.open(str(whole)) as container:
        keys = [i for i, p in enumerate(p for p in container.demux(video=0) if p.size) if p.is_keyframe]
    with open_without_cache(remux(whole, tmp_path / "b.mkv", slice(keys[1], None))) as reader:
        first = number_in(reader[0])
        assert 10 <= first <= 12
        assert_exact(reader, range(first, COUNT))


def test_wrong_frame_count_in_the_header_is_ignored(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.avi", "mpeg4", b_frames=0)
    data = bytearray(path.read_bytes())
    for tag, offset in ((b"avih", 8 + 16), (b"strh", 8 + 32)):
        place = data.index(tag) + offset
        assert int.from_bytes(data[place : place + 4], "little") == COUNT
        data[place : place + 4] = (9999).to_bytes(4, "little")
    path.write_bytes(data)
    with open_without_cache(path) as reader:
        assert_exact(reader)


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (180, 2), (-90, 3), (0, 0)])
def test_rotation_metadata_turns_the_frames(rotation: int, turns: int, tmp_path: Path) -> None:
    plain = encode(tmp_path / "plain.mp4", count=4)
    turned = encode(tmp_path / "turned.mp4", count=4, rotation=rotation)
    with VideoReader(plain) as upright, VideoReader(turned) as reader:
        assert reader.info.size == (SIZE if turns % 2 == 0 else SIZE[::-1])
        assert np.array_equal(reader[2], np.rot90(upright[2], turns))


@pytest.mark.parametrize("size", [(65, 129), (67, 128), (64, 131)])
def test_odd_sizes_keep_every_row_and_column(size: tuple[int, int], tmp_path: Path) -> None:
    encode(tmp_path / "a.mkv", "ffv1", size=size, count=3)
    write_video(tmp_path / "b.mp4", [numbered_frame(i, size) for i in range(3)])
    for name in ("a.mkv", "b.mp4"):
        with VideoReader(tmp_path / name) as reader:
            assert reader.info.size == size
            assert np.abs(reader[2].astype(int) - numbered_frame(2, size)).mean() < 5


def test_audio_streams_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for number in range(COUNT):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number))
            frame.pts = number
            container.mux(stream.encode(frame))
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 320), np.int16), format="s16", layout="mono")
            samples.sample_rate, samples.pts = 8000, number * 320
            container.mux(sound.encode(samples))
        container.mux(stream.encode())
    with open_without_cache(path) as reader:
        assert_exact(reader)


# -- decoding no more than needed


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("video") / "clip.mp4", bf="2", gop=20)


def test_forward_play_decodes_each_frame_once(clip: Path) -> None:
    with VideoReader(clip) as reader:
        before = reader.frames_decoded
        for index in range(COUNT):
            reader.frame(index)
        assert reader.frames_decoded - before <= COUNT


def test_recent_frames_come_from_the_cache(clip: Path) -> None:
    with VideoReader(clip) as reader:
        reader.frame(30)
        before = reader.frames_decoded
        assert [number_in(reader.frame(i)) for i in range(30, 20, -1)] == list(range(30, 20, -1))
        assert reader.frames_decoded == before


def test_jump_decodes_from_the_nearest_keyframe(clip: Path) -> None:
    with open_without_cache(clip) as reader:
        reader.frame(0)
        before = reader.frames_decoded
        assert number_in(reader.frame(45)) == 45
        assert reader.frames_decoded - before <= 12  # from keyframe 40, with the frames that the decoder's threads hold


LONG = 200  # frames after one keyframe
FAR = [150, 30, 197, 90, 12, 180, 60, 199, 0, 121]  # each is farther from the one before than the cache reaches
LONG_CLIPS = {
    "h264": ("a.mp4", "libx264", {"bf": "3", "x264-params": "b-adapt=0:scenecut=0"}),
    "h264 with a pyramid": ("a.mp4", "libx264", {"bf": "8", "x264-params": "b-adapt=0:scenecut=0:b-pyramid=normal"}),
    "h264 in ts": ("a.ts", "libx264", {"bf": "2", "x264-params": "b-adapt=0:scenecut=0"}),
    "h264 with open GOPs": ("a.mp4", "libx264", {"bf": "3", "gop": 40, "x264-params": "b-adapt=0:open-gop=1:scenecut=0"}),
    "h264 interlaced": ("a.mp4", "libx264", {"bf": "3", "x264-params": "b-adapt=0:scenecut=0:tff=1:interlaced=1"}),
    "h264 refreshed bit by bit": ("a.mp4", "libx264", {"gop": 40, "bf": "2", "intra-refresh": "1"}),
    "h264 without B-frames": ("a.mp4", "libx264", {"bf": "0", "x264-params": "scenecut=0"}),
    "hevc": (
        "a.mp4",
        "libx265",
        {"x265-params": "log-level=none:pools=none:frame-threads=1:bframes=4:b-adapt=0:scenecut=0"},
    ),
    "hevc in layers": ("a.mp4", "libx265", {"x265-params": "log-level=none:frame-threads=1:temporal-layers=3:b-adapt=0"}),
}


@pytest.mark.parametrize("case", LONG_CLIPS)
def test_far_jumps_and_the_steps_after_them_equal_a_plain_decode(case: str, tmp_path: Path) -> None:
    name, codec, options = LONG_CLIPS[case]
    path = encode(tmp_path / name, codec, count=LONG, noise=True, **{"gop": LONG, **options})
    with av.open(str(path)) as container:
        whole = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with VideoReader(path, cache_megabytes=0) as reader:
        for index in FAR:
            for near in (index, index - 1, index - 2, index + 1, index + 3, index + 20, index - 11):
                if 0 <= near < LONG:
                    assert np.array_equal(reader.frame(near), whole[near]), f"frame {near} after a jump to {index}"


def test_a_far_jump_skips_pictures_that_no_other_refers_to(tmp_path: Path) -> None:
    options = {"bf": "3", "x264-params": "b-adapt=0:scenecut=0:b-pyramid=none"}  # three of four frames
    with VideoReader(encode(tmp_path / "a.mp4", count=LONG, gop=LONG, **options)) as reader:
        before = reader.frames_decoded
        assert number_in(reader.frame(180)) == 180
        assert reader.frames_decoded - before < 90


def test_a_few_steps_back_after_a_far_jump_come_from_the_cache(tmp_path: Path) -> None:
    with VideoReader(encode(tmp_path / "a.mp4", count=LONG, gop=LONG, bf="3")) as reader:
        reader.frame(180)
        before = reader.frames_decoded
        assert [number_in(reader.frame(index)) for index in range(179, 174, -1)] == list(range(179, 174, -1))
        assert reader.frames_decoded == before


def test_backward_play_decodes_each_frame_once(tmp_path: Path) -> None:
    with VideoReader(encode(tmp_path / "a.mp4", count=LONG, gop=LONG, bf="3")) as reader:
        reader.frame(199)
        before = reader.frames_decoded
        assert [number_in(reader.frame(index)) for index in range(198, -1, -1)] == list(range(198, -1, -1))
        assert reader.frames_decoded - before <= LONG + 8


def test_cache_stays_within_its_megabytes(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", size=(512, 512), count=30)
    with VideoReader(path, cache_megabytes=4) as reader:
        for index in range(30):
            reader.frame(index)
        assert 0 < reader._cache_bytes <= 4_000_000


def test_changing_a_returned_frame_does_not_change_the_cache(clip: Path) -> None:
    with VideoReader(clip) as reader:
        reader.frame(3)[:] = 0
        assert number_in(reader.frame(3)) == 3


def test_several_threads_read_one_video(clip: Path) -> None:
    wrong: list[int] = []
    with VideoReader(clip, cache_megabytes=1) as reader:

        def read(seed: int) -> None:
            for index in np.random.default_rng(seed).integers(0, COUNT, 25).tolist():
                if number_in(reader.frame(index)) != index:
                    wrong.append(index)

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


# -- like an array


def test_reader_indexes_like_an_array(clip: Path) -> None:
    with VideoReader(clip) as reader:
        whole = np.stack([reader.frame(i) for i in range(COUNT)])
        assert (reader.shape, reader.ndim, reader.dtype, reader.size) == (whole.shape, 4, np.uint8, whole.size)
        colon = slice(None)
        keys = [
            3, -1, np.int64(5), (2,), (4, slice(0, 16)), (4, colon, slice(8, 40), 1), slice(5, 9), slice(None, None, 20),
            slice(9, 2, -3), slice(7, 7), (slice(0, 3), 10, 12), (slice(50, 99), ..., 0), (..., 2), (6, ...), ...,
            [1, 5, 3], np.array([4, -1]), (np.arange(COUNT) % 25 == 0), (slice(0, 2), slice(None, None, -2)), (-2, 5, 6, 0),
            (1, ..., slice(2)),
        ]  # fmt: skip
        for key in keys:
            expected = whole[key]
            assert np.shape(reader[key]) == expected.shape, key
            assert np.array_equal(reader[key], expected), key
        assert np.array_equal(np.asarray(reader), whole)
        assert sum(1 for _ in reader) == COUNT


@pytest.mark.parametrize("key", [COUNT, -COUNT - 1, (0, 0, 0, 0, 0), None, (0, None), [COUNT], (..., 0, ...)])
def test_index_outside_the_video_is_an_index_error(key: object, clip: Path) -> None:
    with VideoReader(clip) as reader, pytest.raises(IndexError):
        reader[key]


def test_frame_outside_the_video_names_the_range(clip: Path) -> None:
    with VideoReader(clip) as reader:
        for index in (COUNT, -1):
            with pytest.raises(IndexError, match=rf"Frame {index} of clip\.mp4 .* 0 to {COUNT - 1}"):
                reader.frame(index)


# -- folders of images


def write_images(folder: Path, names: list[str], size: tuple[int, int] = SIZE) -> Path:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        Image.fromarray(numbered_frame(number, size)).save(folder / name)
    return folder


@pytest.mark.parametrize("suffix", ["png", "jpg", "JPEG", "bmp", "tif", "tiff"])
def test_image_folder_reads_in_natural_order(suffix: str, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "frames", [f"frame{number}.{suffix}" for number in range(12)])
    (folder / "notes.txt").write_text("not a frame")
    (folder / "._frame3.png").write_bytes(b"left by another system")
    (folder / "labels").mkdir()
    with VideoReader(folder) as reader:
        assert_exact(reader, range(12))
        assert reader.info.frame_rate is None
        assert reader.info.codec == f"{suffix.lower()} images"


def test_images_of_any_kind_become_rgb(tmp_path: Path) -> None:
    frame = numbered_frame(1)
    grey16 = frame[..., 0].astype(np.uint16) * 257
    Image.fromarray(grey16).save(tmp_path / "0.png")
    Image.fromarray(frame[..., 0]).save(tmp_path / "1.png")
    Image.fromarray(np.dstack([frame, frame[..., :1]])).save(tmp_path / "2.png")
    Image.fromarray(frame).convert("P").save(tmp_path / "3.png")
    Image.fromarray(grey16).save(tmp_path / "4.tif")
    with VideoReader(tmp_path) as reader:
        for index in range(5):
            assert reader[index].shape == (*SIZE, 3) and reader[index].dtype == np.uint8
            assert number_in(reader[index]) == 1


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to show
    Image.fromarray(np.rot90(numbered_frame(7))).save(tmp_path / "0.jpg", exif=exif)
    with VideoReader(tmp_path) as reader:
        assert reader.info.size == SIZE
        assert number_in(reader[0]) == 7


# -- bad input


def error_of(path: Path) -> str:
    with pytest.raises(VideoError) as caught:
        VideoReader(path)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 300
    return message


def test_missing_empty_and_renamed_files_are_explained(tmp_path: Path) -> None:
    assert "does not exist" in error_of(tmp_path / "no.mp4")
    (tmp_path / "empty.mp4").touch()
    assert "empty.mp4 is empty (0 bytes)" in error_of(tmp_path / "empty.mp4")
    (tmp_path / "text.mp4").write_text("Dear colleague,\nplease find attached\n" * 50)
    assert "text.mp4 is not a video" in error_of(tmp_path / "text.mp4")
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    assert "list.mp4 is not a video" in error_of(tmp_path / "list.mp4")
    (tmp_path / "noise.avi").write_bytes(np.random.default_rng(0).bytes(5000))
    error_of(tmp_path / "noise.avi")
    Image.fromarray(numbered_frame(0)).save(tmp_path / "one.png")
    assert "single image" in error_of(tmp_path / "one.png")
    Image.fromarray(numbered_frame(0)).save(tmp_path / "image.mp4", format="png")
    assert "image.mp4 is not a video" in error_of(tmp_path / "image.mp4")


def test_a_file_with_sound_only_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 4000), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 8000
        container.mux(stream.encode(samples))
        container.mux(stream.encode())
    assert "no video stream (it holds audio)" in error_of(path)


def test_video_of_zero_frames_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "zero.mp4"
    encode(path, count=0)
    assert "zero.mp4" in error_of(path)
    encode(tmp_path / "zero.avi", "mpeg4", count=0)
    assert "zero.avi" in error_of(tmp_path / "zero.avi")


def test_file_without_its_index_is_explained(clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes(clip.read_bytes()[:-2000])
    assert "without its index (moov)" in error_of(path)
    cut = tmp_path / "cut.avi"
    cut.write_bytes(encode(tmp_path / "whole.avi", "mpeg4").read_bytes()[:3000])
    assert "begins like a video (avi)" in error_of(cut)


@pytest.mark.parametrize(
    ("name", "codec", "muxer"),
    [
        ("a.mp4", "libx264", {"movflags": "faststart"}),
        ("a.mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
        ("a.mkv", "libx264", {}),
        ("a.avi", "mpeg4", {}),
        ("a.avi", "libx264", {}),
        ("a.ts", "libx264", {}),
        ("a.mpg", "mpeg2video", {}),
        ("a.webm", "libvpx", {}),
    ],
)
def test_truncated_file_gives_its_complete_frames(name: str, codec: str, muxer: dict[str, str], tmp_path: Path) -> None:
    path = encode(tmp_path / name, codec, muxer=muxer, noise=True, **({"bf": "2"} if codec == "libx264" else {}))
    data = path.read_bytes()
    for share in (0.5, 0.66, 0.9):
        path.write_bytes(data[: int(len(data) * share)])
        with open_without_cache(path) as reader:
            assert 8 < len(reader) < COUNT
            numbers = [number_in(reader.frame(index)) for index in range(len(reader))]
            # the last packet may be incomplete, so its frame shows only a part
            assert numbers[:-3] == list(range(len(numbers) - 3))
            assert [number_in(reader.frame(index)) for index in range(len(reader))[::-1]][::-1] == numbers


def test_damage_in_the_middle_leaves_the_other_frames_exact(tmp_path: Path) -> None:
    mjpeg = encode(tmp_path / "b.avi", "mjpeg", pix_fmt="yuvj420p", noise=True)
    with av.open(str(mjpeg)) as container:
        place = [packet.pos for packet in container.demux(video=0) if packet.size][55]
    data = bytearray(mjpeg.read_bytes())
    data[place + 8 : place + 400] = bytes(392)
    mjpeg.write_bytes(data)
    with open_without_cache(mjpeg) as reader:
        assert len(reader) == COUNT
        for _ in range(2):
            with pytest.raises(VideoError, match=r"Frame 55 of b\.avi .* is damaged"):
                reader.frame(55)
        assert [number_in(reader.frame(index)) for index in (54, 56, 59, 0)] == [54, 56, 59, 0]


def test_bad_image_folders_are_explained(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    assert "holds no images" in error_of(tmp_path / "none")
    mixed = write_images(tmp_path / "mixed", ["0.png", "1.png"])
    Image.fromarray(numbered_frame(2, (64, 130))).save(mixed / "2.png")
    message = error_of(mixed)
    assert "0.png has 128x64" in message and "2.png has 130x64" in message
    unreadable = write_images(tmp_path / "unreadable", ["0.png", "1.png"])
    (unreadable / "1.png").write_bytes(b"not an image")
    assert "1.png cannot be read" in error_of(unreadable)


def test_a_truncated_image_does_not_affect_other_frames(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "frames", ["0.png", "1.png", "2.png"])
    data = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(data[: len(data) // 2])
    with VideoReader(folder) as reader:
        with pytest.raises(VideoError, match=r"1\.png cannot be read"):
            reader[1]
        assert number_in(reader[2]) == 2


def test_closed_reader_raises_an_error(clip: Path) -> None:
    reader = VideoReader(clip)
    reader.close()
    reader.close()
    assert reader.shape[0] == COUNT
    with pytest.raises(VideoError, match="closed"):
        reader.frame(0)


# -- names and fingerprints


def test_is_video_accepts_video_files_and_image_folders(tmp_path: Path) -> None:
    assert all(is_video(f"x{suffix.upper()}") for suffix in VIDEO_SUFFIXES)
    assert not is_video("x.txt") and not is_video(tmp_path)
    folder = write_images(tmp_path / "frames", ["0.png"])
    assert is_video(folder) and not is_video(folder / "0.png")


def test_special_characters_in_file_names_are_harmless(clip: Path, tmp_path: Path) -> None:
    for name in ("100% of it.mp4", "naïve 手術.mp4", "concat:a.mp4", "-i.mp4", "%03d.mp4"):
        (tmp_path / name).write_bytes(clip.read_bytes())
        with VideoReader(tmp_path / name) as reader:
            assert len(reader) == COUNT


def test_fingerprint_depends_on_the_content_not_the_path(clip: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.mov"
    moved.write_bytes(clip.read_bytes())
    other = encode(tmp_path / "other.mp4", count=COUNT - 1)
    fingerprints = [VideoReader(path).info.fingerprint for path in (clip, moved, other)]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]
    first = write_images(tmp_path / "first", ["0.png", "1.png"])
    second = write_images(tmp_path / "second", ["0.png", "1.png"])
    third = write_images(tmp_path / "third", ["0.png", "2.png"])
    fingerprints = [VideoReader(path).info.fingerprint for path in (first, second, third)]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


# -- writing


def test_written_video_reads_back_nearly_unchanged(tmp_path: Path) -> None:
    smooth = np.stack([*np.meshgrid(np.linspace(20, 230, 128), np.linspace(20, 230, 64)), np.full(SIZE, 120.0)], axis=-1)
    frames = [np.roll(smooth.astype(np.uint8), 4 * i, axis=0) for i in range(10)]
    path = write_video(tmp_path / "a.mp4", iter(frames), frame_rate=29.97)
    with VideoReader(path) as reader:
        assert len(reader) == 10 and reader.info.frame_rate == pytest.approx(29.97, abs=0.01)
        assert max(np.abs(reader[i].astype(int) - frames[i]).mean() for i in range(10)) < 3


def test_failed_writing_keeps_the_old_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"the old file")

    def failing_frames() -> object:
        yield numbered_frame(0)
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_video(path, failing_frames())
    for frames in ([], [numbered_frame(0), numbered_frame(1, (64, 130))], [np.zeros((64, 128), np.uint8)]):
        with pytest.raises(VideoError):
            write_video(path, frames)
    with pytest.raises(VideoError, match="cannot be written"):
        write_video(tmp_path / "no" / "a.mp4", [numbered_frame(0)])
    assert path.read_bytes() == b"the old file"
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


# -- a real clip


def test_real_surgical_clip_is_exact(request: pytest.FixtureRequest) -> None:
    path = request.config.rootpath.parent / "shared" / "data" / "endovis2017_clip" / "clip.mp4"
    if not path.exists():
        pytest.skip("the real clip is not beside this checkout")
    with av.open(str(path)) as container:
        expected = {i: f.to_ndarray(format="rgb24") for i, f in enumerate(container.decode(video=0)) if i in (0, 7, 19)}
    with VideoReader(path) as reader:
        for index in (19, 0, 7):
            assert np.array_equal(reader[index], expected[index])


def write_picture(path: Path, mode: str = "RGB") -> Path:
    Image.new(mode, (32, 24)).save(path)
    return path


def test_masks_beside_frames_and_doubles_are_no_frames(tmp_path: Path) -> None:
    for number in range(3):
        write_picture(tmp_path / f"{number:03d}.jpg")
        write_picture(tmp_path / f"{number:03d}_mask.png", "L")
    write_picture(tmp_path / "000.png", "L")  # the labels of 000.jpg
    write_picture(tmp_path / "002.bmp")  # the same picture in another format
    with VideoReader(tmp_path) as video:
        assert len(video) == 3
        assert set(video.info.left_out) == {"000.png", "002.bmp", "000_mask.png", "001_mask.png", "002_mask.png"}
    with VideoReader(tmp_path, every_image=True) as video:
        assert (len(video), video.info.left_out) == (8, ())


def test_a_folder_of_masks_alone_keeps_all_its_pictures(tmp_path: Path) -> None:
    for number in range(2):
        write_picture(tmp_path / f"{number:03d}_mask.png", "L")
    with VideoReader(tmp_path) as video:
        assert len(video) == 2
