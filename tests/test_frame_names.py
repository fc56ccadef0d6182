"""Frame numbers are read from the names that tools give to pictures; a name with two readings is refused."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.frame_names import read_frame_names, read_picture_names

HASH = "3f2a91c07be84d5fa6012c9d8e7b4a30"


@pytest.mark.parametrize(
    ("names", "video", "number"),
    [
        ([f"clip_mp4-0010_jpg.rf.{HASH}"], "clip", 10),  # Roboflow
        (["frame_000123_PNG.rf.aB3dE6gH9"], "", 123),
        (["frame_000123"], "", 123),
        (["000000060"], "", 60),  # SAR-RARP50
        (["img12"], "", 12),
        (["1_25", "2_50"], "1", 25),  # Endoscapes
        (["video01_000123"], "video01", 123),  # Cholec80
        (["t50_VID01_000123"], "t50_VID01", 123),
        (["frame_80_endo"], "", 80),  # CholecSeg8k
        (["seq_1_frame017"], "seq_1", 17),  # EndoVis 2018
        (["frame_0010_cam2"], "", 10),
        (["frame_10_a1b2c3d4e5"], "", 10),
        (["1a2b3c4d-frame_7"], "", 7),  # Label Studio
        (["clip.mp4_frame12"], "clip", 12),
        (["2023-05-12_0010"], "2023-05-12", 10),
        (["0010_v2", "0011_v2"], "", 10),  # v2 is in every name
        (["12345678-frame_7", "1a2b3c4d-frame_8"], "", 7),  # Label Studio; one of its random beginnings has digits only
        (["video01_000001", "video02_000001"], "video01", 1),
        (["case_01_02_03", "case_01_02_77"], "case_01_02", 3),  # 77 is no second
    ],
)
def test_known_names_are_read(names: list[str], video: str, number: int) -> None:
    frame = read_frame_names(names)[names[0]]
    assert (frame.video, frame.number, frame.seconds) == (video, number, None)
    assert frame.reading == f"{frame.text} -> frame {number}"
    assert int(frame.text) == number


@pytest.mark.parametrize(
    ("name", "seconds"),
    [("clip.mp4#t=2.5", 2.5), ("clip_1m23s", 83), ("clip-00:01:23.500", 83.5), ("clip_1h00m10s", 3610), ("a_83500ms", 83.5)],
)
def test_times_are_read_as_seconds(name: str, seconds: float) -> None:
    frame = read_frame_names([name])[name]
    assert (frame.seconds, frame.number) == (seconds, round(1000 * seconds))


@pytest.mark.parametrize(
    ("names", "readings"),
    [
        (["clip_01_02_03"], "frame 3 of clip_01_02 or the time 3723 s"),
        (["20230512_103022"], "frame 103022 of 20230512 or a date"),
        (["vlcsnap-2023-05-12-10h22m33s123"], "or a date"),
        (["10_0", "11_0", "12_0"], "frame 0 of 10 or frame 10"),
        (["frame_0001_0"], "frame 1 or frame 0 of frame_0001"),
        (["abc12_def34"], "frame 34 of abc12_def or frame 12 of abc"),
        (["a1b2c3d4e5f6"], "can be read in several ways"),
        (["0010_v2", "0011_v3"], "frame 2 of 0010_v or frame 10"),
    ],
)
def test_names_with_several_readings_are_refused_with_what_to_do(names: list[str], readings: str) -> None:
    with pytest.raises(ExchangeError, match="--frame-pattern") as caught:
        read_frame_names(names)
    assert readings in str(caught.value)
    assert len(caught.value.problems) in (0, len(names))


def test_a_pattern_decides_and_a_wrong_pattern_is_explained() -> None:
    assert read_frame_names(["clip_01_02_03"], "{video}_{time}")["clip_01_02_03"].seconds == 3723
    assert read_frame_names(["0010_v2"], "{frame}_*")["0010_v2"].number == 10
    assert read_frame_names([f"0010_v2_jpg.rf.{HASH}"], "{frame}_*")[f"0010_v2_jpg.rf.{HASH}"].number == 10
    with pytest.raises(ExchangeError, match=r'b_7 does not fit the pattern "a_\{frame\}"'):
        read_frame_names(["a_7", "b_7"], "a_{frame}")
    with pytest.raises(ExchangeError, match=r"has \{frame\} or \{time\} once"):
        read_frame_names(["a_7"], "a_*")
    with pytest.raises(ExchangeError, match="notes has no frame number"):
        read_frame_names(["notes"])


def sequences(*paths: str) -> list[tuple[str, int]]:
    read = read_picture_names([PurePosixPath(path) for path in paths], "dataset")
    return [(read[PurePosixPath(path)].sequence, read[PurePosixPath(path)].frame.number) for path in paths]


def test_several_videos_in_one_folder_are_several_sequences() -> None:
    assert sequences("1_25.jpg", "1_50.jpg", "2_50.jpg") == [("1", 25), ("1", 50), ("2", 50)]
    assert sequences("train/1_25.jpg", "val/2_50.jpg") == [("1", 25), ("2", 50)]


def test_folders_name_sequences_but_not_folders_of_every_dataset() -> None:
    assert sequences("images/frame_1.png", "images/frame_2.png") == [("dataset", 1), ("dataset", 2)]
    assert sequences("day1/images/frame_1.png", "day2/images/frame_1.png") == [("day1", 1), ("day2", 1)]
    assert sequences("/home/a/day1/clip_1.png", "/home/a/day2/clip_1.png") == [("day1", 1), ("day2", 1)]
    assert sequences("day1/a_1.png", "day1/b_1.png", "day2/a_1.png") == [("day1/a", 1), ("day1/b", 1), ("day2", 1)]
