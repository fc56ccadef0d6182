"""What an installation remembers between starts, in a file that may be missing, damaged or read-only."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from surgicalsam_napari.preferences import (
    ModelChoice,
    Preferences,
    preferences_file,
    read_preferences,
    remember,
    with_videos,
    without_videos,
)


def remember_videos(*paths: Path, is_opened: bool = True) -> None:
    assert remember(lambda preferences: with_videos(preferences, paths, is_opened=is_opened))


def listed() -> list[Path]:
    return [video.path for video in read_preferences().videos]


def test_without_a_file_everything_is_at_its_default(preferences_file: Path) -> None:
    assert read_preferences() == Preferences()
    assert not preferences_file.exists()


def test_what_is_remembered_is_read_again() -> None:
    model = ModelChoice(checkpoint=Path("/data/own.safetensors"), device="cpu")
    assert remember(lambda preferences: preferences.model_copy(update={"model": model}))
    assert remember(lambda preferences: preferences.model_copy(update={"folders": {"videos": Path("/data")}}))
    assert read_preferences().model == model
    assert read_preferences().folders == {"videos": Path("/data")}


def test_an_opened_video_moves_to_the_top_and_an_added_one_stays_below() -> None:
    first, second, added = Path("/a.surgicalsam"), Path("/b.surgicalsam"), Path("/c.mp4")
    remember_videos(first)
    remember_videos(added, is_opened=False)
    remember_videos(second)
    assert listed() == [second, first, added]
    remember_videos(first)
    remember_videos(first, is_opened=False)
    assert listed() == [first, second, added]
    assert [video.opened is not None for video in read_preferences().videos] == [True, True, False]
    remember(lambda preferences: without_videos(preferences, [second]))
    assert listed() == [first, added]


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[]", b'{"videos": [{"path": 3}]}'])
def test_a_damaged_file_gives_defaults_and_a_notice_and_is_kept(preferences_file: Path, content: bytes) -> None:
    preferences_file.parent.mkdir(parents=True)
    preferences_file.write_bytes(content)
    notices: list[str] = []
    assert read_preferences(notices.append) == Preferences()
    assert len(notices) == 1 and str(preferences_file) in notices[0] and "preferences.damaged.json" in notices[0]
    assert preferences_file.with_name("preferences.damaged.json").read_bytes() == content
    remember_videos(Path("/a.mp4"))
    assert read_preferences(notices.append).videos and len(notices) == 1


def test_fields_of_a_later_version_are_kept(preferences_file: Path) -> None:
    preferences_file.parent.mkdir(parents=True)
    preferences_file.write_text(json.dumps({"theme": "blue", "segment": {"opacity": 0.5}}))
    remember_videos(Path("/a.mp4"))
    record = json.loads(preferences_file.read_text())
    assert record["theme"] == "blue" and record["segment"]["opacity"] == 0.5 and record["videos"]


def test_a_folder_that_cannot_be_written_to_stops_no_work(preferences_file: Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("SURGICALSAM_PREFERENCES", str(tmp_path / "file" / "preferences.json"))
    assert not remember(lambda preferences: with_videos(preferences, [Path("/a.mp4")]))
    assert read_preferences() == Preferences()


def test_without_the_variable_the_file_lies_in_the_users_configuration(monkeypatch) -> None:
    monkeypatch.delenv("SURGICALSAM_PREFERENCES")
    assert preferences_file().name == "preferences.json"
    assert "surgicalsam-napari" in preferences_file().parts
    assert preferences_file().is_relative_to(os.path.expanduser("~"))
