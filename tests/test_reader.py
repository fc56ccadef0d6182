"""The layers that napari's drag and drop, File > Open and the sample menu open."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from surgicalsam_napari.errors import ProjectError, VideoError
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.video import VIDEO_SUFFIXES, VideoReader
from surgicalsam_napari.widgets.contributions import sample_data
from surgicalsam_napari.widgets.contributions.reader import get_reader, read_video


@pytest.fixture
def clip(phantom_clip: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(phantom_clip, tmp_path / "clip.mp4"))


def save_images(folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    for value, name in enumerate(names):
        Image.fromarray(np.full((24, 32, 3), 40 * value, np.uint8)).save(folder / name)
    return folder


def test_a_video_is_one_lazy_image_layer(clip):
    [(data, arguments, kind)] = get_reader(str(clip))(str(clip))
    assert (kind, arguments["name"], arguments["rgb"]) == ("image", "clip", True)
    assert isinstance(data, VideoReader)
    assert data.shape == (12, 96, 128, 3)


def test_a_folder_of_numbered_images_is_a_video(tmp_path):
    folder = save_images(tmp_path / "frames", ["frame1.png", "frame2.png", "frame10.png"])
    [(data, _, kind)] = get_reader(str(folder))([str(folder)])
    assert kind == "image"
    assert [int(data[t].max()) for t in range(3)] == [0, 40, 80]


@pytest.mark.parametrize("names", [["portrait.png", "scan.png"], ["only1.png"]])
def test_folders_without_numbered_images_are_left_to_other_readers(tmp_path, names):
    assert get_reader(str(save_images(tmp_path / "pictures", names))) is None


def test_other_paths_are_left_to_other_readers(tmp_path):
    (tmp_path / "notes.txt").write_text("no video")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "notes.txt", tmp_path / "empty", tmp_path / "missing.tif"):
        assert get_reader(str(path)) is None
    assert get_reader([str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")]) is None


def test_a_project_opens_with_video_labels_and_provenance(clip):
    with Project.create(Project.default_folder(clip), VideoReader(clip), ENDOVIS2018) as project:
        project.labels[4, 10:20, 10:20] = 3
        folder = project.folder
    (video, _, image), (labels, arguments, kind) = get_reader(str(folder))(str(folder))
    assert (image, kind) == ("image", "labels")
    assert (labels[4, 10:20, 10:20] == 3).all()
    assert labels.store.provenance(4, 3) == Provenance.EDITED
    assert "Large Needle Driver" in list(arguments["features"]["class"])
    assert video.info.path == clip


def test_a_broken_video_is_an_error_when_read(tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video at all" * 100)
    reader = get_reader(str(broken))
    with pytest.raises(VideoError):
        reader(str(broken))


def test_a_project_without_its_manifest_is_an_error_when_read(tmp_path):
    folder = tmp_path / "clip.surgicalsam"
    folder.mkdir()
    with pytest.raises(ProjectError):
        get_reader(str(folder))(str(folder))


def test_sample_data_are_phantoms_of_two_domains_in_the_users_cache(phantom_clip, monkeypatch, tmp_path):
    written = []

    def write(folder, seed, look):
        written.append((folder, seed, look))
        return phantom_clip

    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / name)
    monkeypatch.setattr("surgicalsam_napari.phantom.clip.write_phantom_clip", write)
    for open_sample in (sample_data.open_phantom, sample_data.open_unknown_phantom):
        [(data, _, kind)] = open_sample()
        assert kind == "image"
        assert data.info.path == phantom_clip
    assert all(folder.is_relative_to(tmp_path) for folder, _, _ in written)
    assert [look for _, _, look in written] == ["first", "second"]
    assert len({seed for _, seed, _ in written}) == 2  # and so the names of the files, and the projects


def test_napari_the_dialogs_and_the_reader_take_the_same_files():
    from surgicalsam_napari.widgets.parts.file_dialogs import VIDEO_FILTER

    for suffix in VIDEO_SUFFIXES:
        assert get_reader(f"recording{suffix.upper()}") is read_video
        assert f"*{suffix} " in VIDEO_FILTER and f"*{suffix.upper()} " in VIDEO_FILTER


def test_a_stack_in_colour_is_a_video_and_a_grey_one_is_left_to_other_readers(tmp_path):
    for name, mode in (("colored.tif", "RGB"), ("grey.tif", "L")):
        pages = [Image.new(mode, (32, 24), value) for value in (10, 20, 30)]
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
    [(data, _, kind)] = get_reader(str(tmp_path / "colored.tif"))(str(tmp_path / "colored.tif"))
    assert (kind, data.shape) == ("image", (3, 24, 32, 3))
    assert get_reader(str(tmp_path / "grey.tif")) is None
