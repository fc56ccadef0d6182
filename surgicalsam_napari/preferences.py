"""What this installation remembers between starts: videos, folders of file dialogs, checkpoint, class, window layout."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from platformdirs import user_config_path
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from surgicalsam_napari.files import write_file

VARIABLE = "SURGICALSAM_PREFERENCES"  # names another file; the tests use it
MOST_VIDEOS = 500  # in the list; the oldest are dropped
MOST_WORKERS = 8
_lock = threading.Lock()


class _Record(BaseModel):
    """Fields of a later version are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")


class ListedVideo(_Record):
    """A video in the list of videos.

    Attributes
    ----------
    path : the project folder; for a video that has none yet, the video
    opened : when it was opened last, ISO 8601 in UTC; None if it was only added to the list
    """

    path: Path
    opened: str | None = None


class ModelChoice(_Record):
    """The model used last. None: the bundled checkpoint, and the known weights of its encoder."""

    checkpoint: Path | None = None
    encoder_weights: Path | None = None
    device: str = "auto"


class WorkerChoice(_Record):
    """A worker on another machine that was used before.

    Attributes
    ----------
    address : HOST:PORT
    certificates : folder with this machine's certificates; None for the usual one, and for a worker on loopback
    """

    address: str
    certificates: Path | None = None


class SegmentChoice(_Record):
    """What *Segment* looked for last.

    Attributes
    ----------
    class_name : the selected class; names mean the same in every project, ids do not
    vote : whether neighbouring frames vote on the classes
    scope : the title of the frame scope; empty for the first one
    step : of "every n-th frame"
    """

    class_name: str | None = None
    all_classes: bool = False
    vote: bool = True
    scope: str = ""
    step: int = Field(default=5, ge=2)


class WindowLayout(_Record):
    """The layout of the plugin's docks, in pixels; None or missing: as the plugin chooses.

    Attributes
    ----------
    open_sections : by title, whether a section is expanded
    """

    panel_width: int | None = None
    timeline_height: int | None = None
    tab: str | None = None
    open_sections: dict[str, bool] = {}


class Preferences(_Record):
    """Everything that is remembered.

    Attributes
    ----------
    folders : the folder that each kind of file dialog opened last
    videos : the list of videos, the one opened last first
    workers : the one used last first
    annotator : the name of the person who corrects labels; empty if the person gave none, None if nobody was asked yet
    """

    videos: tuple[ListedVideo, ...] = ()
    folders: dict[str, Path] = {}
    model: ModelChoice = ModelChoice()
    segment: SegmentChoice = SegmentChoice()
    layout: WindowLayout = WindowLayout()
    workers: tuple[WorkerChoice, ...] = ()
    annotator: str | None = None


def preferences_file() -> Path:
    """$SURGICALSAM_PREFERENCES if it is set, else preferences.json in the user's folder for configuration."""
    chosen = os.environ.get(VARIABLE)
    return Path(chosen) if chosen else user_config_path("surgicalsam-napari", appauthor=False) / "preferences.json"


def read_preferences(on_damage: Callable[[str], None] | None = None) -> Preferences:
    """What is remembered; the defaults if there is no file yet, or a damaged one.

    Parameters
    ----------
    on_damage : gets a message for the user if the file is damaged. It is then renamed, so that nothing in it is lost;
        without `on_damage` it stays, so that the next reader can report it
    """
    path = preferences_file()
    try:
        return Preferences.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Preferences()
    except OSError as error:
        message = (
            f"{path} cannot be read ({error.strerror}), so recent videos and settings start empty. Check its permissions."
        )
    except ValidationError as error:
        message = "" if on_damage is None else _put_aside(path, error)
    if on_damage is not None:
        on_damage(message)
    return Preferences()


def remember(change: Callable[[Preferences], Preferences]) -> bool:
    """Change what is remembered, in any thread; False if the file cannot be written: then nothing changes.

    The file is read again first, because another window may have changed it.
    """
    path = preferences_file()
    with _lock:
        preferences = read_preferences(lambda _message: None)  # a damaged file is not written over
        changed = change(preferences)
        if changed == preferences:
            return True
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, changed.model_dump_json(indent=2).encode("utf-8"), staging=path.parent / ".partial")
        except OSError:
            return False
    return True


def with_videos(preferences: Preferences, paths: Sequence[Path], *, is_opened: bool = False) -> Preferences:
    """The preferences with these videos in the list: on top if they were opened now, else below the others.

    A listed video keeps its place and time unless it was opened now.
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    listed = {video.path: video for video in preferences.videos}
    if is_opened:
        opened = {path: ListedVideo(path=path, opened=now) for path in paths}
        listed = {**opened, **{path: video for path, video in listed.items() if path not in opened}}
    else:
        listed = {**listed, **{path: ListedVideo(path=path) for path in paths if path not in listed}}
    return preferences.model_copy(update={"videos": tuple(listed.values())[:MOST_VIDEOS]})


def without_videos(preferences: Preferences, paths: Sequence[Path]) -> Preferences:
    """The preferences without these videos in the list; nothing else of them is touched."""
    kept = tuple(video for video in preferences.videos if video.path not in paths)
    return preferences.model_copy(update={"videos": kept})


def _put_aside(path: Path, error: ValidationError) -> str:
    """Rename a damaged file; returns the message for the user."""
    aside = path.with_name(f"{path.stem}.damaged{path.suffix}")
    with suppress(OSError):
        os.replace(path, aside)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "the file"
    return (
        f"{path} is damaged ({place}: {first['msg']}), so recent videos and settings start empty. "
        f"Your projects are not affected. The old file is kept as {aside.name}."
    )


def remembered_annotator() -> str | None:
    """The name of the person who corrects labels; empty if the person gave none, None if nobody was asked yet."""
    return read_preferences().annotator


def remember_annotator(name: str) -> None:
    """Remember a name for the next start; an empty one remembers that the person gave none."""
    remember(lambda preferences: preferences.model_copy(update={"annotator": name.strip()}))


def remembered_certificates(address: str) -> Path | None:
    """The folder of certificates that was used with this worker before; None if none was."""
    return next((each.certificates for each in read_preferences().workers if each.address == address), None)


def remember_worker(address: str, certificates: Path | None) -> None:
    """Remember a worker for the next start."""
    used = WorkerChoice(address=address, certificates=certificates)

    def with_worker(preferences: Preferences) -> Preferences:
        others = [each for each in preferences.workers if each.address != address]
        return preferences.model_copy(update={"workers": (used, *others)[:MOST_WORKERS]})

    remember(with_worker)
