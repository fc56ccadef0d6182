"""DICOM video: exact frames, and nothing of the header gets into a project."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from surgicalsam_napari.cli import main
from surgicalsam_napari.errors import VideoError
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.store import Project
from surgicalsam_napari.video import VideoReader, is_video

pytest.importorskip("pydicom")
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks" / "quality"))
from video_cases import encode, picture, write_dicom

UNCOMPRESSED, BIG_ENDIAN, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5"
JPEG, JPEG_LOSSLESS, MPEG4 = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.102"
SECRETS = (b"Doe", b"Jane", b"4711-SECRET", b"19700102", b"St. Secret", b"20240305", b"Surgeon")


def raw_file(path: Path, count: int = 5) -> Path:
    write_dicom(path, UNCOMPRESSED, np.stack([picture(number) for number in range(count)]).tobytes(), frames=count)
    return path


def mpeg4_file(path: Path) -> Path:
    encode(path.with_suffix(".mp4"), "libx264", bf="2")
    write_dicom(path, MPEG4, path.with_suffix(".mp4").read_bytes(), frames=60)
    return path


def jpeg(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(number)).save(file, "jpeg", quality=90, subsampling=0)
    return file.getvalue()


@pytest.mark.parametrize("make", [raw_file, mpeg4_file])
def test_nothing_of_the_header_reaches_the_project_its_exports_or_the_logs(
    make, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    source = make(tmp_path / "IM0001.dcm")
    assert b"Doe^Jane" in source.read_bytes()
    folder = tmp_path / "out" / "IM0001.surgicalsam"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with VideoReader(source) as video, Project.create(folder, video, ENDOVIS2018) as project:
            project.labels[1, 10:20, 10:20] = 3
            written = repr(video) + repr(video.info)
        for kind in ("coco", "endovis"):
            assert main(["export", str(folder), "--out", str(tmp_path / "out" / kind), "--format", kind]) == 0
    printed = capsys.readouterr()
    texts = [written, caplog.text, printed.out, printed.err, *(str(warning.message) for warning in caught)]
    files = [
        file.read_bytes() + str(file.relative_to(tmp_path)).encode()
        for file in (tmp_path / "out").rglob("*")
        if file.is_file()
    ]
    assert len(files) > 5
    assert [secret for secret in SECRETS for text in [*files, *(text.encode() for text in texts)] if secret in text] == []


def test_errors_and_warnings_do_not_show_the_header(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = raw_file(tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes().replace(b"RGB ", b"Doe ", 1)[:-20_000])  # a wrong value, and cut off
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(VideoError) as error, VideoReader(path) as video:
            video[4]
    assert "a.dcm cannot be read as a DICOM video" in str(error.value)
    assert error.value.__cause__ is None and error.value.__suppress_context__
    assert "Doe" not in str(error.value) + caplog.text + "".join(str(warning.message) for warning in caught)


def test_without_pydicom_the_error_has_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = raw_file(tmp_path / "a.dcm")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(VideoError, match=r'pip install "surgicalsam-napari\[dicom\]"'):
        VideoReader(path)


def test_jpeg_pictures_are_those_of_any_viewer(tmp_path: Path) -> None:
    write_dicom(
        tmp_path / "a.dcm", JPEG, [jpeg(n) for n in range(4)], frames=4, PhotometricInterpretation="YBR_FULL", FrameTime="20"
    )
    with VideoReader(tmp_path / "a.dcm") as video:
        assert (len(video), video.info.frame_rate, video.info.codec) == (4, 50, "dicom")
        for number in (3, 0, 2, 1):
            expected = np.asarray(Image.open(io.BytesIO(jpeg(number)))).astype(int)
            assert np.abs(video[number] - expected).max() <= 2  # rounding when YCbCr becomes RGB


def test_a_compression_without_its_decoder_names_the_packages(tmp_path: Path) -> None:
    from pydicom.pixels import get_decoder

    if get_decoder(JPEG_LOSSLESS).is_available:
        pytest.skip("a decoder for lossless JPEG is installed")
    write_dicom(tmp_path / "a.dcm", JPEG_LOSSLESS, [jpeg(0)], frames=1)
    with pytest.raises(VideoError, match=r"compressed as JPEG Lossless.* pip install pylibjpeg"):
        VideoReader(tmp_path / "a.dcm")


@pytest.mark.parametrize("kind", ["MONOCHROME2", "MONOCHROME1"])
def test_12_bits_of_grey_use_the_whole_range(kind: str, tmp_path: Path) -> None:
    values = picture(0)[..., 0].astype(np.uint16) * 16
    bits = {"BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "SamplesPerPixel": 1, "PhotometricInterpretation": kind}
    write_dicom(tmp_path / "a.dcm", UNCOMPRESSED, values.tobytes(), frames=1, **bits)
    with VideoReader(tmp_path / "a.dcm") as video:
        expected = picture(0)[..., 0]
        assert np.array_equal(video[0][..., 1], expected if kind == "MONOCHROME2" else 255 - expected)


def test_steps_between_frames_are_those_of_the_header(tmp_path: Path) -> None:
    data = np.stack([picture(number) for number in range(4)]).tobytes()
    write_dicom(tmp_path / "a.dcm", UNCOMPRESSED, data, frames=4, FrameTime=None, FrameTimeVector=[0, 40, 40, 120])
    with VideoReader(tmp_path / "a.dcm") as video:
        assert video.frame_times() == pytest.approx([0, 0.04, 0.08, 0.2])
        assert video.info.frame_rate == pytest.approx(15)


def test_files_without_a_suffix_are_recognised_by_their_content(tmp_path: Path) -> None:
    for name in ("IM000001", "1.2.840.113619.2"):
        assert is_video(raw_file(tmp_path / name))
        with VideoReader(tmp_path / name) as video:
            assert np.array_equal(video[3], picture(3))


@pytest.mark.parametrize("content", [b"no picture " * 400, b"\0" * 128 + b"DICM" + b"\1" * 300])
def test_files_that_are_no_dicom_video_are_explained(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(content)
    with pytest.raises(VideoError, match=r"a\.dcm cannot be read as a DICOM video"):
        VideoReader(tmp_path / "a.dcm")
