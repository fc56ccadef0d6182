"""Frame numbers from file names: the one place that knows how tools name the pictures of a video.

Known names, each with its reading:

========================================  =========================================
``frame_000123``, ``img12``, ``0012``     frame 123, 12, 12
``video01_000123``, ``1_25``, ``clip-7``  frame 123, 25, 7 of video01, 1, clip
``seq_1_frame017``, ``frame_0010_cam2``   frame 17 of seq_1, frame 10
``frame_80_endo``                         frame 80 (CholecSeg8k; any last word)
``clip_mp4-0010_jpg.rf.3f2a…``            frame 10 of clip (Roboflow)
``1a2b3c4d-frame_7``                      frame 7 (Label Studio)
``clip.mp4#t=2.5``, ``clip_1m23s``        2.5 s, 83 s (VoTT; a time needs the frame rate of the video)
========================================  =========================================

A name with two possible readings, such as ``clip_01_02_03`` (frame 3, or one hour), is refused. A pattern decides then.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.name_readings import (
    A_DATE,
    ROBOFLOW,
    FrameName,
    readings_of,
    use_all_names,
    without_upload_ids,
    without_video_suffix,
)

PATTERN_HELP = "{frame} is the frame number, {time} a time, {video} the name of the video, and * any text"
_GENERIC_FOLDERS = {
    "0", "annotations", "data", "default", "frames", "image", "images", "img", "imgs", "jpegimages", "labels", "left_frames",
    "masks", "obj_train_data", "pictures", "rgb", "test", "train", "training", "val", "valid", "validation",
}  # fmt: skip
_TIME_TEXT = r"\d+(?:[-_:.hms]\d+)*m?s?"


@dataclass(frozen=True)
class PictureName:
    """The sequence and the frame of a picture, from its folder and its name."""

    sequence: str
    frame: FrameName


def read_picture_names(
    paths: Sequence[PurePosixPath], sequence: str, pattern: str | None = None
) -> dict[PurePosixPath, PictureName]:
    """Read the names of all pictures of a dataset together, because two videos in one folder are two sequences.

    Parameters
    ----------
    paths : relative to the dataset, with or without suffix; folders such as `images` or `train` do not name a sequence
    sequence : the name of the only sequence, if neither folders nor names contain one
    pattern : as in `read_frame_names`

    Raises
    ------
    ExchangeError
        a name has no number, or several readings
    """
    folders = dict(zip(paths, _naming_folders(paths), strict=True)) if paths else {}
    named: dict[PurePosixPath, PictureName] = {}
    for folder in dict.fromkeys(folders.values()):
        inside = [path for path in paths if folders[path] == folder]
        frames = read_frame_names([stem(path) for path in inside], pattern)
        videos = {frame.video for frame in frames.values()}
        for path in inside:
            frame = frames[stem(path)]
            parts = [folder] if folder and len(videos) == 1 else [part for part in (folder, frame.video) if part]
            named[path] = PictureName("/".join(parts) or sequence, frame)
    return named


def read_frame_names(stems: Iterable[str], pattern: str | None = None) -> dict[str, FrameName]:
    """Read the file names, without suffix, of one folder.

    Parameters
    ----------
    pattern : how to read the names if that is not clear, such as "{video}_{frame}_*" or "case-{time}"

    Raises
    ------
    ExchangeError
        a name has no number, or several readings, or does not fit the pattern; `problems` has a line for each
    """
    stems = list(dict.fromkeys(stems))
    if pattern is not None:
        expression = _compiled(pattern)
        found = {name: _by_pattern(name, expression) for name in stems}
        unread = [name for name, frame in found.items() if frame is None]
        if unread:
            raise _refusal(unread, f'{unread[0]} does not fit the pattern "{pattern}"', "Give", unread[0])
        return {name: frame for name, frame in found.items() if frame is not None}
    readings = {name: readings_of(plain) for name, plain in without_upload_ids(stems).items()}
    if unread := [name for name, possible in readings.items() if not possible]:
        raise _refusal(
            unread, f"{unread[0]} has no frame number in its name", "Rename or remove the file, or give", unread[0]
        )
    use_all_names(readings)
    if unclear := [name for name, possible in readings.items() if len(possible) > 1]:
        choices = " or ".join(_in_words(frame) for frame in readings[unclear[0]][:2])
        raise _refusal(unclear, f"{unclear[0]} can be read in several ways: {choices}", "Give", unclear[0])
    return {name: possible[0] for name, possible in readings.items()}


def read_frame_name(name: str) -> FrameName | None:
    """The reading of a single name; None if it has none, or several."""
    try:
        return read_frame_names([name])[name]
    except ExchangeError:
        return None


def frame_number(name: str) -> int | None:
    """The frame number in a single name; None if it has none, or several readings."""
    frame = read_frame_name(name)
    return None if frame is None else frame.number


def is_generic_folder(name: str) -> bool:
    """Whether a folder has a name like `images` or `train`, which is no name of a sequence."""
    return name.casefold() in _GENERIC_FOLDERS | {"", "/", "..", "."}


def stem(path: PurePath) -> str:
    """The name without a picture's suffix; a `.5` in it is no suffix."""
    return path.stem if re.fullmatch(r"\.[A-Za-z]{2,5}\d?", path.suffix) else path.name


def _naming_folders(paths: Sequence[PurePosixPath]) -> list[str]:
    """For each path, the folders that tell sequences apart; "" for a folder like `images/train`."""
    parts = [[folder for folder in path.parent.parts if not is_generic_folder(folder)] for path in paths]
    common = next((n for n, level in enumerate(zip(*parts, strict=False)) if len(set(level)) > 1), min(map(len, parts)))
    return ["/".join(part[common:]) or (part[-1] if part else "") for part in parts]


def _compiled(pattern: str) -> re.Pattern[str]:
    pieces = re.split(r"(\{frame\}|\{time\}|\{video\}|\*)", pattern.strip())
    if pieces.count("{frame}") + pieces.count("{time}") != 1 or pieces.count("{video}") > 1:
        raise ExchangeError(
            f'A pattern for names has {{frame}} or {{time}} once; got "{pattern}". Use for example "{{video}}_{{frame}}": '
            f"{PATTERN_HELP}."
        )
    known = {"{frame}": r"(?P<frame>\d+)", "{time}": f"(?P<time>{_TIME_TEXT})", "{video}": r"(?P<video>.+?)", "*": ".*?"}
    return re.compile("".join(known.get(piece, re.escape(piece)) for piece in pieces), re.IGNORECASE)


def _by_pattern(name: str, expression: re.Pattern[str]) -> FrameName | None:
    roboflow = ROBOFLOW.fullmatch(name)
    found = expression.fullmatch(name) or (expression.fullmatch(roboflow[1]) if roboflow else None)
    if found is None:
        return None
    parts = found.groupdict()
    video = without_video_suffix(parts.get("video") or "")
    if parts.get("frame"):
        return FrameName(video, int(parts["frame"]), parts["frame"])
    seconds = _seconds(parts["time"])
    return FrameName(video, round(1000 * seconds), parts["time"], seconds)


def _seconds(text: str) -> float:
    """Seconds in a text like 83.5, 1m23s, 01-23, 00_01_23_500 or 83500ms."""
    numbers = re.findall(r"\d+", text)
    if text.endswith("ms"):
        return float(numbers[-1]) / 1000
    has_fraction = len(numbers) == 4 or bool(re.search(r"\.\d+s?$", text))
    fraction = float(f"0.{numbers.pop()}") if has_fraction else 0.0
    total = 0.0
    for number in numbers:
        total = 60 * total + float(number)
    return total + fraction


def _in_words(frame: FrameName) -> str:
    if frame is A_DATE or frame.seconds is not None:
        return frame.text if frame is A_DATE else f"the time {frame.seconds:g} s"
    return f"frame {frame.number}" + (f" of {frame.video}" if frame.video else "")


def _refusal(names: Sequence[str], what: str, remedy: str, example: str) -> ExchangeError:
    others = f" ({len(names)} names are like this)" if len(names) > 1 else ""
    last = list(re.finditer(r"\d+", example))
    pattern = f"{example[: last[-1].start()]}{{frame}}{example[last[-1].end() :]}" if last else "clip_{frame}"
    return ExchangeError(
        f"{what}{others}. {remedy} a pattern for the names (--frame-pattern on the command line), such as "
        f'"{pattern}": {PATTERN_HELP}.',
        [f"{name}: {what.removeprefix(names[0]).strip()}" for name in names] if len(names) > 1 else (),
    )
