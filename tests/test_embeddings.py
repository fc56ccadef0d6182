"""The embedding store: half precision, sparse on disk, resumable after a kill."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surgicalsam_napari import files
from surgicalsam_napari.errors import DiskSpaceError, ProjectError
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.store import EmbeddingStore, Project, free_bytes
from surgicalsam_napari.video import VideoReader

SHAPE = (8, 4, 6)


def open_embeddings(root: Path, frame_count: int = 10, shape: tuple[int, int, int] = SHAPE) -> EmbeddingStore:
    folder = root / "embeddings" / "0123abcd"
    if not folder.exists():
        EmbeddingStore.create(root, "0123abcd", frame_count, shape)
    return EmbeddingStore(folder, frame_count, shape)


@pytest.fixture
def embeddings(tmp_path: Path) -> EmbeddingStore:
    return open_embeddings(tmp_path)


def random_embeddings(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype(np.float16)


def test_embeddings_read_back_in_any_order_and_after_reopening(tmp_path: Path, embeddings: EmbeddingStore) -> None:
    values = random_embeddings(3)
    embeddings.write([7, 0, 3], values)
    for store in (embeddings, open_embeddings(tmp_path)):
        np.testing.assert_array_equal(store.read([3, 7]), values[[2, 0]])
        assert store.read([3]).dtype == np.float16
        assert store.valid_count == 3
        assert store.missing([7, 1, 0, 9]) == [1, 9]
        assert store.is_valid(0)
        assert not store.is_valid(2)
        assert store.shape == (10, *SHAPE)
        assert store.encoder_digest == "0123abcd"


def test_looking_up_one_frame_needs_no_more_memory_in_a_long_video(tmp_path: Path) -> None:
    frame_count = 1_000_000
    store = open_embeddings(tmp_path, frame_count)
    values = random_embeddings(2)
    store.write([5, frame_count - 1], values)
    tracemalloc.start()
    try:
        assert store.is_valid(frame_count - 1)
        assert store.missing([4, 5]) == [4]
        np.testing.assert_array_equal(store.read([frame_count - 1]), values[1:])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < frame_count / 4  # the flags of all frames take one byte each
    assert store.missing(range(100)) == [index for index in range(100) if index != 5]


def test_float32_is_stored_as_float16(embeddings: EmbeddingStore) -> None:
    values = np.random.default_rng(1).normal(size=(1, *SHAPE)).astype(np.float32)
    embeddings.write([4], values)
    np.testing.assert_array_equal(embeddings.read([4]), values.astype(np.float16))


def test_zarr_reads_what_the_store_wrote(embeddings: EmbeddingStore) -> None:
    import zarr

    values = random_embeddings(1)
    embeddings.write([5], values)
    array = zarr.open_array(embeddings.folder / "embeddings", mode="r")
    np.testing.assert_array_equal(array[5], values[0])
    assert not np.asarray(array[4]).any()
    assert np.flatnonzero(zarr.open_array(embeddings.folder / "valid", mode="r")[:]).tolist() == [5]
    assert array.attrs["encoder_digest"] == "0123abcd"


def test_only_stored_frames_use_disk_space(tmp_path: Path) -> None:
    store = open_embeddings(tmp_path, frame_count=100_000, shape=(256, 64, 64))
    assert store.missing(range(100_000)) == list(range(100_000))
    store.write([99_999], np.zeros((1, 256, 64, 64), np.float16))
    used = sum(file.stat().st_blocks * 512 for file in tmp_path.rglob("*") if file.is_file())
    assert store.frame_bytes == store.disk_bytes == 2_097_156
    assert used < 2_400_000


def test_free_bytes_works_for_folders_that_do_not_exist_yet(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "yet") > 1_000_000


def test_reading_frames_without_embedding_or_outside_the_video_is_refused(embeddings: EmbeddingStore) -> None:
    with pytest.raises(ProjectError, match=r"Frame 2 has no embedding for 0123abcd yet\. Embed it first"):
        embeddings.read([2])
    for call in (embeddings.read, embeddings.missing, lambda frames: embeddings.write(frames, random_embeddings(1))):
        with pytest.raises(ProjectError, match="frames 0 to 9; got 10"):
            call([10])
    with pytest.raises(ProjectError, match="should have the shape"):
        embeddings.write([1], np.zeros((1, 2, 2, 2)))


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[17] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "how"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "cut short"),
        (Path.unlink, "missing"),
        (flip_a_bit, "damaged"),
    ],
)
def test_error_names_a_damaged_embedding_and_it_is_computed_again(embeddings: EmbeddingStore, damage: Any, how: str) -> None:
    values = random_embeddings(3)
    embeddings.write([1, 2, 3], values)
    damage(embeddings.folder / "embeddings" / "c.2.0.0.0")
    with pytest.raises(ProjectError, match=rf"frame 2 .*{how}\. Embed or segment frame 2 again; the other frames are"):
        embeddings.read([1, 2])
    assert embeddings.missing([1, 2, 3]) == [2]
    np.testing.assert_array_equal(embeddings.read([1, 3]), values[[0, 2]])
    embeddings.write([2], values[1:2])
    np.testing.assert_array_equal(embeddings.read([1, 2, 3]), values)


def test_damaged_map_of_valid_frames_raises_an_error(embeddings: EmbeddingStore) -> None:
    embeddings.write([1], random_embeddings(1))
    (embeddings.folder / "valid" / "c.0").write_bytes(b"\1\1")
    with pytest.raises(ProjectError, match="should have 10 bytes, one per frame, it has 2"):
        embeddings.is_valid(1)
    (embeddings.folder / "valid" / "c.0").unlink()
    assert embeddings.missing([1]) == [1]


def test_a_wrong_shape_or_length_is_refused(tmp_path: Path, embeddings: EmbeddingStore) -> None:
    with pytest.raises(ProjectError, match=r"shape \(8, 4, 5\), the project has \(8, 4, 6\)"):
        EmbeddingStore(embeddings.folder, 10, (8, 4, 5))
    with pytest.raises(ProjectError, match="embeddings of 11 frames"):
        EmbeddingStore(embeddings.folder, 11)
    with pytest.raises(ProjectError, match="digest"):
        EmbeddingStore.create(tmp_path, "../up", 10, SHAPE)


@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, DiskSpaceError), (errno.EROFS, ProjectError)])
def test_failed_write_keeps_the_old_embeddings(
    embeddings: EmbeddingStore, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    values = random_embeddings(2)
    embeddings.write([1], values[:1])

    def failing(descriptor: int, data: bytes) -> None:
        os.write(descriptor, bytes(data)[:5])
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_all", failing)
        with pytest.raises(error, match="embedding of frame 1"):
            embeddings.write([1], values[1:])
        with pytest.raises(error):
            embeddings.write([2], values[1:])
    np.testing.assert_array_equal(embeddings.read([1]), values[:1])
    assert embeddings.missing([1, 2]) == [2]
    assert not list((embeddings.folder / ".partial").iterdir())


KILLED = """
import sys
from pathlib import Path
import numpy as np
from surgicalsam_napari.store.embeddings import EmbeddingStore

store = EmbeddingStore(Path(sys.argv[1]), 200)
print("ready", flush=True)
for frame_index in store.missing(range(200)):
    store.write([frame_index], np.full((1, 256, 32, 32), frame_index))
print("done", flush=True)
"""


def test_embedding_resumes_after_a_kill(tmp_path: Path) -> None:
    shape = (256, 32, 32)
    folder = open_embeddings(tmp_path, 200, shape).folder
    valid = 0
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            time.sleep(random.uniform(0.005, 0.06))
            child.kill()
        store = open_embeddings(tmp_path, 200, shape)
        store.clear_leftovers()
        assert store.valid_count >= valid
        valid = store.valid_count
        present = [index for index in range(200) if store.is_valid(index)]
        assert len(present) == valid
        for frame_index in present:
            assert np.all(store.read([frame_index]) == frame_index)
        assert not list((folder / ".partial").glob("*"))
        store.close()
    assert valid > 0


def test_embeddings_of_augmented_frames_are_stored_separately(tmp_path: Path, embeddings: EmbeddingStore) -> None:
    folder = EmbeddingStore.create_in(tmp_path / "augmented" / "0123abcd" / "v001-ff", "0123abcd", 10, SHAPE)
    copies = EmbeddingStore(folder, 10, SHAPE)
    copies.write([2], random_embeddings(1))
    assert copies.encoder_digest == "0123abcd"
    assert copies.missing([1, 2]) == [1]
    assert embeddings.missing([1, 2]) == [1, 2]


def test_project_lists_only_embeddings_of_the_frames_themselves(phantom_clip: Path, tmp_path: Path) -> None:
    with Project.create(tmp_path / "clip.surgicalsam", VideoReader(phantom_clip), ENDOVIS2018) as project:
        project.embeddings("abc", SHAPE).write([0], random_embeddings(1))
        for version in ("v001-ff", "v002-ff"):
            project.augmented_embeddings("abc", version, SHAPE).write([1, 2], random_embeddings(2))
        assert [(store.encoder_digest, store.valid_count) for store in project.embedding_stores()] == [("abc", 1)]
        assert project.augmented_embeddings("abc", "v001-ff", SHAPE) is project.augmented_embeddings("abc", "v001-ff", SHAPE)
    with Project.open(project.folder) as again:
        assert again.augmented_embeddings("abc", "v002-ff", SHAPE).missing([0, 1, 2]) == [0]
        assert again.augmented_embeddings("abc", "v003-ff", SHAPE).missing([1]) == [1]


def test_float32_is_kept_where_it_is_asked_for(tmp_path: Path) -> None:
    folder = EmbeddingStore.create(tmp_path, "0123abcd", 3, SHAPE, "float32")
    store, values = EmbeddingStore(folder, 3), random_embeddings(1).astype(np.float32) + np.float32(1e-5)
    store.write([1], values)
    assert store.dtype == np.float32 and store.frame_bytes == values.nbytes + 4
    np.testing.assert_array_equal(store.read([1]), values)


def test_a_project_keeps_the_data_type_of_its_first_embeddings(clip: Path) -> None:
    with Project.create(Project.default_folder(clip), VideoReader(clip), ENDOVIS2018) as project:
        assert project.embeddings("0123abcd", SHAPE, "float32").dtype == np.float32
        assert project.embeddings("0123abcd", SHAPE).dtype == np.float32
        with pytest.raises(ProjectError, match="as float32, and float16 is asked for"):
            project.embeddings("0123abcd", SHAPE, "float16")
