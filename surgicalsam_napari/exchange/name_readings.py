"""The possible readings of a file name as a frame number or a time; `frame_names` chooses among them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_FRAME_WORDS = {"f", "fr", "frame", "frames", "frm", "image", "images", "img", "pic", "picture", "still"}
ROBOFLOW = re.compile(r"(.+?)(?:_(?:jpe?g|png|bmp|tiff?|webp))?\.rf\.[0-9A-Za-z]+", re.IGNORECASE)
_LABEL_STUDIO = re.compile(r"[0-9a-f]{8}-(?=.*\d)")  # the random beginning of an uploaded file's name
_VIDEO_SUFFIX = re.compile(r"[._](?:mp4|m4v|mov|avi|mkv|webm|mpe?g|wmv)$", re.IGNORECASE)
_GROUP = re.compile(r"(?P<word>[^\W\d_]*)(?P<digits>\d+)(?=(?P<unit>[^\W\d_]*))")
_VOTT = re.compile(r"(?P<video>.+)#t=(?P<seconds>\d+(?:\.\d+)?)")
_TIME_WITH_UNITS = re.compile(
    r"(?P<video>.*?)[-_ ]?(?<![0-9A-Za-z])t?=?(?:(?:(?P<h>\d+)h)?(?P<m>\d+)m)?(?P<s>\d+(?:\.\d+)?)s(?:ec)?(?P<ms>\d{3})?"
)
_CLOCK = re.compile(
    r"(?P<video>.*?)[-_ ]?(?<!\d)(?P<h>\d\d)(?P<joint>[-_:])(?P<m>[0-5]\d)(?P=joint)(?P<s>[0-5]\d(?:\.\d+)?)"
)
_DATE = re.compile(r"(?:.*\D)?(?:19|20)\d\d([-_]?)(?:0\d|1[0-2])\1(?:[0-2]\d|3[01])(?:[-_T ]?\d{6}|[-_T ]\d\d[-_h]\d\d.*)?")
_MILLISECONDS = re.compile(r"(?P<video>.*?)[-_ ]?(?<![0-9A-Za-z])t?=?(?P<ms>\d+)ms")


@dataclass(frozen=True)
class FrameName:
    """What a file name says.

    Attributes
    ----------
    video : the part before the number; "" if there is none, or only a word like "frame"
    number : the frame number; for a time, milliseconds
    text : the part of the name that was read, such as "0010"
    seconds : the time in the video; None if the name has a frame number
    """

    video: str
    number: int
    text: str
    seconds: float | None = None

    @property
    def reading(self) -> str:
        """Such as "0010 -> frame 10"."""
        return f"{self.text} -> " + (f"frame {self.number}" if self.seconds is None else f"{self.seconds:g} s")


A_DATE = FrameName("", 0, "a date")  # a reading that is no frame


def without_upload_ids(names: Iterable[str]) -> dict[str, str]:
    """Names without the random beginning that Label Studio gives to all uploaded files; the same names if they have none."""
    names = list(names)
    ids = [_LABEL_STUDIO.match(name) for name in names]
    if not all(ids) or all(name[:8].isdigit() for name in names):
        return dict(zip(names, names, strict=True))
    return {name: _LABEL_STUDIO.sub("", name, count=1) for name in names}


def readings_of(name: str) -> list[FrameName]:
    """All possible readings of a name; the likely one first."""
    roboflow = ROBOFLOW.fullmatch(name)
    name = roboflow[1] if roboflow else name
    if (time := _VOTT.fullmatch(name)) or (":" in name and (time := _CLOCK.fullmatch(name))):
        return [_time_name(time)]
    if _DATE.fullmatch(name):
        return [*_numbers(name)[:1], A_DATE]
    if time := _TIME_WITH_UNITS.fullmatch(name) or _MILLISECONDS.fullmatch(name):
        return [_time_name(time)]
    readings = _numbers(name)
    if len(readings) == 1 and (time := _CLOCK.fullmatch(name)):
        readings.append(_time_name(time))
    return readings


def _numbers(name: str) -> list[FrameName]:
    """The runs of digits that can be the frame number."""
    groups = list(_GROUP.finditer(name))
    if len(groups) == 1:
        return [_frame_name(name, groups[0])]
    named = [group for group in groups if _is_named_frame(name, group)]
    last = groups[-1] if groups and _stands_alone(groups[-1]) else None
    if named and (last is None or last in named):
        return [_frame_name(name, named[-1])]
    if named and last is not None:
        return [_frame_name(name, named[-1]), _frame_name(name, last)]
    if last is not None:
        return [_frame_name(name, last)]
    return [_frame_name(name, group) for group in reversed(groups)]


def _stands_alone(group: re.Match[str]) -> bool:
    """Whether digits have no letters around them, except a word like `frame` before them."""
    word = group["word"].casefold()
    return not group["unit"] and (not word or (word in _FRAME_WORDS and not _is_inside_word(group)))


def _is_inside_word(group: re.Match[str]) -> bool:
    """Whether digits are just before the letters, as in a1f2."""
    return group.string[: group.start("word")][-1:].isalnum()


def _is_named_frame(name: str, group: re.Match[str]) -> bool:
    """Whether a word like `frame` is just before the digits."""
    before = re.split(r"[-_. ]+", name[: group.start("digits")].rstrip("-_. "))[-1]
    return before.casefold() in _FRAME_WORDS and not group["unit"]


def _frame_name(name: str, group: re.Match[str]) -> FrameName:
    return FrameName(_video_name(name[: group.start("digits")]), int(group["digits"]), group["digits"])


def _video_name(before: str) -> str:
    """The name of the video in the text before the number, without words like `frame`."""
    before = before.strip("-_. #")
    while (word := re.search(r"(?:^|[-_. ])([A-Za-z]+)$", before)) and word[1].casefold() in _FRAME_WORDS:
        before = before[: word.start()].rstrip("-_. ")
    return without_video_suffix(before)


def without_video_suffix(name: str) -> str:
    """`clip` for `clip_mp4`."""
    return _VIDEO_SUFFIX.sub("", name)


def _time_name(time: re.Match[str]) -> FrameName:
    parts = time.groupdict()
    hours, minutes = (float(parts.get(unit) or 0) for unit in "hm")
    seconds = float(parts.get("seconds") or parts.get("s") or 0) + float(parts.get("ms") or 0) / 1000
    total = 3600 * hours + 60 * minutes + seconds
    text = time.string[time.end("video") :].lstrip("-_ #")
    return FrameName(_video_name(parts["video"]), round(1000 * total), text, total)


def use_all_names(readings: dict[str, list[FrameName]]) -> None:
    """Decide by all names of the folder; changes the lists of readings."""
    if len(readings) < 2:
        return
    if all(len(possible) > 1 for possible in readings.values()):  # the same in every name: 2 in frame_12_v2, frame_13_v2
        for position in (-1, 0):
            if len({possible[position].text for possible in readings.values()}) == 1:
                for possible in readings.values():
                    if len(possible) > 1:
                        del possible[position]
    else:  # 01_02_03 is no time beside 01_02_77
        for possible in readings.values():
            if len(possible) > 1 and (possible[-1].seconds is not None or possible[-1] is A_DATE):
                del possible[-1]
    only = [possible[0] for possible in readings.values() if len(possible) == 1 and possible[0].seconds is None]
    if len(only) == len(readings) and len({frame.number for frame in only}) == 1:  # 10_0, 11_0: or is it the first number?
        for possible in readings.values():
            earlier = list(_GROUP.finditer(possible[0].video))
            if earlier and _stands_alone(earlier[-1]):  # in video01_7, 01 belongs to the video
                possible.append(_frame_name(possible[0].video, earlier[-1]))
