"""Images as frames: TIFF files with several pages, and images with more than 8 bits."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from surgicalsam_napari.errors import VideoError
from surgicalsam_napari.video import VideoReader, is_video
from surgicalsam_napari.widgets.source.video_panel import describe_video

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks" / "quality"))
from video_cases import picture, twelve_bits, write_12_bits, write_tiff


def grey(number: int, bits: int) -> np.ndarray:
    """(H, W) uint16 with the values 0 to 2^bits - 1."""
    ramp = np.linspace(0, (1 << bits) - 1, 32 * 24).astype(np.uint16).reshape(24, 32)
    return np.roll(ramp, number, axis=1)


# -- pages


def test_each_page_of_each_file_in_a_folder_is_a_frame(tmp_path: Path) -> None:
    write_tiff(tmp_path / "1.tif", 3)
    Image.fromarray(picture(3)).save(tmp_path / "2.tif")
    write_tiff(tmp_path / "10.tif", 2)
    with VideoReader(tmp_path) as video:
        assert len(video) == 6
        for index in (5, 0, 3, 4, 2, 1):
            assert np.array_equal(video[index], picture((0, 1, 2, 3, 0, 1)[index]))


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}, {"compression": "zlib"}])
def test_stacks_of_other_tools_open_page_by_page(options: dict, tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, np.stack([picture(number) for number in range(5)]), photometric="rgb", **options)
    with VideoReader(path) as video:
        assert video.shape == (5, 96, 128, 3)
        assert all(np.array_equal(video[index], picture(index)) for index in (4, 1, 3, 0, 2))


def test_previews_in_a_file_are_no_frames(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for number in range(2):
            writer.write(picture(number), photometric="rgb")
            writer.write(picture(number)[::4, ::4], photometric="rgb", subfiletype=1)
        writer.write(picture(2)[::8, ::8], photometric="rgb")  # a preview that does not say so
    with VideoReader(tmp_path / "a.tif") as video:
        assert len(video) == 2
        assert np.array_equal(video[1], picture(1))


def test_a_stack_with_colours_is_a_video_and_a_grey_one_may_be_labels(tmp_path: Path) -> None:
    write_tiff(tmp_path / "colored.tif", 2)
    tifffile.imwrite(tmp_path / "labels.tif", np.zeros((3, 24, 32), np.uint8), photometric="minisblack")
    Image.fromarray(picture(0)).save(tmp_path / "one.tif")
    assert [is_video(tmp_path / name) for name in ("colored.tif", "labels.tif", "one.tif")] == [True, False, False]
    with VideoReader(tmp_path / "labels.tif") as video:
        assert len(video) == 3
    with pytest.raises(VideoError, match="single image"):
        VideoReader(tmp_path / "one.tif")


def test_a_damaged_page_is_an_error_of_its_frame_only(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write_tiff(path, 3)
    with tifffile.TiffFile(path) as tiff:
        place = tiff.pages[1].dataoffsets[0]
    data = bytearray(path.read_bytes())
    data[place : place + 2000] = b"\xff" * 2000
    path.write_bytes(data)
    with VideoReader(path) as video:
        with pytest.raises(VideoError, match=r"a\.tif cannot be read"):
            video[1]
        assert np.array_equal(video[2], picture(2))


# -- bits


def test_12_bits_use_the_whole_range_in_all_frames_and_the_panel_says_so(tmp_path: Path) -> None:
    write_12_bits(tmp_path / "a", 4)
    dark = twelve_bits(4) // 16  # the same rule for a dark frame: it stays dark
    Image.fromarray(dark).save(tmp_path / "a" / "004.tif")
    with VideoReader(tmp_path / "a") as video:
        assert np.array_equal(video[2][..., 0], picture(2)[..., 0])
        assert np.array_equal(video[4][..., 0], dark >> 4)
        assert describe_video(video.info).endswith("12-bit images: the value 4,095 is shown as white")


@pytest.mark.parametrize(
    "stated",
    [
        {"extratags": [(281, "H", 1, 4095, True)]},
        {"imagej": True, "metadata": {"min": 0, "max": 4095}},
        {"ome": True, "metadata": {"axes": "YX", "SignificantBits": 12}},
    ],
    ids=["MaxSampleValue", "ImageJ", "OME"],
)
def test_a_dark_recording_is_not_brightened_if_its_files_state_their_bits(stated: dict, tmp_path: Path) -> None:
    for number in range(2):
        tifffile.imwrite(tmp_path / f"{number}.tif", grey(number, 9), photometric="minisblack", **stated)
    with VideoReader(tmp_path) as video:
        assert np.array_equal(video[1][..., 0], grey(1, 9) >> 4)
        assert "12-bit" in video.info.remarks[0]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_every_usual_depth_fills_the_range(bits: int, suffix: str, tmp_path: Path) -> None:
    for number in range(3):
        Image.fromarray(grey(number, bits)).save(tmp_path / f"{number}.{suffix}")
    with VideoReader(tmp_path) as video:
        assert np.array_equal(video[1][..., 0], grey(1, bits) >> bits - 8)


@pytest.mark.parametrize("name", ["{}.png", "{}.tif", "ü{}.png"])
def test_16_bit_colours_with_12_bits_keep_their_range(name: str, tmp_path: Path) -> None:
    for number in range(2):
        colors = picture(number).astype(np.uint16) * 16 + 15
        encoded = cv2.imencode(name[-4:], colors[..., ::-1])[1]
        (tmp_path / name.format(number)).write_bytes(encoded.tobytes())
    with VideoReader(tmp_path) as video:
        assert np.array_equal(video[1], picture(1))
        assert "12-bit" in video.info.remarks[0]


def test_8_bit_images_need_no_remark(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif", 2)
    with VideoReader(tmp_path / "a.tif") as video:
        assert video.info.remarks == ()
