"""Files are written completely or not at all, by one writer at a time."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from surgicalsam_napari import files
from surgicalsam_napari.store.disk import write_lock
from surgicalsam_napari.store.disk.write_lock import WriteLock

HOLDER = """
import sys
from pathlib import Path
from surgicalsam_napari.store.disk.write_lock import WriteLock
with WriteLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
print("free", flush=True)
"""


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text("old")
    with files.replacing(path, durable=True) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["record.json"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_block_that_fails_keeps_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "record.json"
    path.write_text("old")
    with pytest.raises(type(error)), files.replacing(path) as partial:
        partial.write_text("ne")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["record.json"]


def test_a_partial_file_can_be_kept_for_resuming(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with pytest.raises(OSError, match="cut"), files.replacing(path, keep_partial=True) as partial:
        partial.write_text("half")
        raise OSError("cut")
    with files.replacing(path, keep_partial=True) as partial, partial.open("a") as file:
        file.write(" and half")
    assert path.read_text() == "half and half"


@pytest.mark.parametrize("staging", [None, ".partial"])
def test_bytes_are_written_completely_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, staging: str | None) -> None:
    folder = None if staging is None else tmp_path / staging
    path = tmp_path / "chunk"
    files.write_file(path, b"ab", b"cd", staging=folder)
    monkeypatch.setattr(files.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
    with pytest.raises(OSError, match="broken"):
        files.write_file(path, b"other", staging=folder)
    assert path.read_bytes() == b"abcd"
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path]


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of `tmp_path` until it reads a line."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_writer_waits_for_the_lock_of_another_process(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    lock, has_lock = WriteLock(tmp_path), threading.Event()
    assert not WriteLock(tmp_path).try_to_hold()

    def write() -> None:
        with lock:
            has_lock.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert not has_lock.wait(0.3)
    holder.communicate("\n", timeout=60)
    writer.join(timeout=60)
    assert has_lock.is_set()


def test_the_lock_file_of_a_killed_process_does_not_block(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    assert (tmp_path / ".lock").exists()
    lock = WriteLock(tmp_path)
    assert lock.try_to_hold()
    assert not WriteLock(tmp_path).try_to_hold()
    lock.close()
    with WriteLock(tmp_path):
        pass


def test_one_thread_may_take_the_lock_again_and_others_wait(tmp_path: Path) -> None:
    lock, has_lock = WriteLock(tmp_path), threading.Event()

    def write() -> None:
        with lock:
            has_lock.set()

    writer = threading.Thread(target=write)
    with lock:
        with lock:
            writer.start()
        assert not has_lock.wait(0.2)
        assert not WriteLock(tmp_path).try_to_hold()
    writer.join(timeout=60)
    assert has_lock.is_set()


def failing_lock(number: int) -> object:
    def fail(*_: object, **__: object) -> bool:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_in_the_file_system_writing_still_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(write_lock, "lock_descriptor", failing_lock(number))
    with WriteLock(tmp_path) as lock:
        assert lock.try_to_hold()


def test_nothing_is_written_if_the_lock_cannot_be_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = WriteLock(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(write_lock, "lock_descriptor", failing_lock(errno.EIO))
        with pytest.raises(OSError, match=os.strerror(errno.EIO)), lock:
            pytest.fail("the block ran without the lock")
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            lock.try_to_hold()
    with lock:
        assert not WriteLock(tmp_path).try_to_hold()
