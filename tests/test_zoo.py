"""Known weights: find them on disk, and download them from a local HTTP server that fails in many ways."""

from __future__ import annotations

import errno
import hashlib
import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from surgicalsam_napari.errors import CheckpointError, DiskSpaceError, DownloadError
from surgicalsam_napari.model import downloading, zoo
from surgicalsam_napari.model.zoo import KnownWeights, bundled_checkpoint, download_weights, find_weights, models_folder

CONTENT = bytes(range(251)) * 12000  # three pieces of a megabyte
WEIGHTS = KnownWeights(
    name="small",
    title="Small weights",
    url="http://unused.invalid/small.pth",
    file_name="small.pth",
    size_bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    encoder_id="light",
)


@dataclass
class Behaviour:
    """What the server does, and the ranges that clients requested."""

    content: bytes = CONTENT
    status: int | None = None
    takes_ranges: bool = True
    cut_after: int | None = None
    states_length: bool = True
    content_range: str | None = None
    ranges_asked: list[str | None] = field(default_factory=list)


@dataclass
class Server:
    url: str
    behaviour: Behaviour


class Handler(BaseHTTPRequestHandler):
    behaviour: Behaviour

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.behaviour.ranges_asked.append(asked)
        if self.behaviour.status is not None:
            self.send_error(self.behaviour.status)
            return
        content, start = self.behaviour.content, 0
        if asked and self.behaviour.takes_ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            stated = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", self.behaviour.content_range or stated)
        else:
            self.send_response(200)
        if self.behaviour.states_length:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : self.behaviour.cut_after])  # the connection closes after that

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setitem(zoo.KNOWN_WEIGHTS, WEIGHTS.name, WEIGHTS)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    behaviour = Behaviour()
    handler = type("BehavingHandler", (Handler,), {"behaviour": behaviour})
    http_server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield Server(f"http://127.0.0.1:{http_server.server_port}/small.pth", behaviour)
    http_server.shutdown()
    http_server.server_close()
    thread.join()


def download(server: Server, folder: Path) -> list[zoo.DownloadReport]:
    return list(download_weights("small", folder=folder, url=server.url))


def part_of(folder: Path) -> Path:
    return folder / "small.pth.part"


def test_download_reports_progress_and_keeps_the_file(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    reports = download(server, folder)
    assert [report.done_bytes for report in reports] == [0, 1 << 20, 2 << 20, len(CONTENT)]
    assert {report.total_bytes for report in reports} == {len(CONTENT)}
    assert reports[-1].path == folder / "small.pth"
    assert reports[-1].path.read_bytes() == CONTENT
    assert not part_of(folder).exists()


def test_file_gets_its_final_name_only_when_complete(server: Server, tmp_path: Path) -> None:
    for report in download_weights("small", folder=tmp_path, url=server.url):
        assert report.path.exists() == (report.done_bytes == report.total_bytes)


def test_broken_connection_is_reported_and_the_download_resumes(server: Server, tmp_path: Path) -> None:
    server.behaviour.cut_after = 1_500_000
    with pytest.raises(DownloadError, match=r"should have 3,012,000 bytes.*Download again"):
        download(server, tmp_path)
    kept = part_of(tmp_path).stat().st_size
    assert 1_500_000 - downloading.PIECE_BYTES <= kept <= 1_500_000
    server.behaviour.cut_after = None
    reports = download(server, tmp_path)
    assert server.behaviour.ranges_asked == [None, f"bytes={kept}-"]
    assert reports[0].done_bytes == kept
    assert reports[-1].path.read_bytes() == CONTENT


def test_connection_that_ends_early_without_a_stated_length_is_reported(server: Server, tmp_path: Path) -> None:
    server.behaviour.states_length, server.behaviour.cut_after = False, 1_500_000
    with pytest.raises(DownloadError, match=r"ended after 1,500,000.*Download again"):
        download(server, tmp_path)
    assert part_of(tmp_path).stat().st_size == 1_500_000


def test_cancelled_download_resumes(server: Server, tmp_path: Path) -> None:
    reports = download_weights("small", folder=tmp_path, url=server.url)
    while next(reports).done_bytes == 0:
        pass
    reports.close()  # type: ignore[attr-defined]
    assert part_of(tmp_path).stat().st_size == 1 << 20
    assert download(server, tmp_path)[-1].path.read_bytes() == CONTENT


def test_server_that_ignores_ranges_is_read_from_the_start(server: Server, tmp_path: Path) -> None:
    part_of(tmp_path).write_bytes(CONTENT[:1_500_000])
    server.behaviour.takes_ranges = False
    reports = download(server, tmp_path)
    assert reports[0].done_bytes == 0
    assert reports[-1].path.read_bytes() == CONTENT


def test_server_that_sends_another_range_is_refused(server: Server, tmp_path: Path) -> None:
    part_of(tmp_path).write_bytes(CONTENT[:1_500_000])
    server.behaviour.content_range = f"bytes 7-{len(CONTENT) - 1}/{len(CONTENT)}"
    with pytest.raises(DownloadError, match=r"should continue at byte 1,500,000.*Delete .*small\.pth\.part"):
        download(server, tmp_path)
    assert part_of(tmp_path).read_bytes() == CONTENT[:1_500_000]


def test_wrong_hash_is_reported_and_nothing_is_kept(server: Server, tmp_path: Path) -> None:
    server.behaviour.content = bytes(len(CONTENT))
    with pytest.raises(DownloadError, match=rf"SHA-256 {WEIGHTS.sha256[:12]}.*nothing was kept") as raised:
        download(server, tmp_path)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_damaged_part_is_removed_so_that_the_next_download_succeeds(server: Server, tmp_path: Path) -> None:
    part_of(tmp_path).write_bytes(bytes(1000))
    with pytest.raises(DownloadError, match="SHA-256"):
        download(server, tmp_path)
    assert download(server, tmp_path)[-1].path.read_bytes() == CONTENT


@pytest.mark.parametrize("states_length", [True, False])
@pytest.mark.parametrize("content", [CONTENT + b"more", b"<html>log in first</html>"], ids=["longer", "a web page"])
def test_file_of_another_size_never_gets_the_name(
    server: Server, tmp_path: Path, content: bytes, states_length: bool
) -> None:
    server.behaviour.content, server.behaviour.states_length = content, states_length
    with pytest.raises(DownloadError, match=f"{len(CONTENT):,} bytes"):
        download(server, tmp_path)
    assert not (tmp_path / "small.pth").exists()


def test_missing_file_on_the_server_is_reported(server: Server, tmp_path: Path) -> None:
    server.behaviour.status = 404
    with pytest.raises(DownloadError, match=r"answered 404 Not Found.*by hand"):
        download(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_failing_server_leaves_the_part_unchanged(server: Server, tmp_path: Path) -> None:
    part_of(tmp_path).write_bytes(CONTENT[:1000])
    server.behaviour.status = 503
    with pytest.raises(DownloadError, match="answered 503"):
        download(server, tmp_path)
    assert part_of(tmp_path).read_bytes() == CONTENT[:1000]


def test_refused_connection_is_reported(server: Server, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening: it refuses connections
        server.url = f"http://127.0.0.1:{unused.getsockname()[1]}/small.pth"
        with pytest.raises(DownloadError, match=r"cannot be reached.*Check the network") as raised:
            download(server, tmp_path)
    assert "\n" not in str(raised.value)


def test_complete_file_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "small.pth").write_bytes(CONTENT)
    assert [report.done_bytes for report in download(server, tmp_path)] == [len(CONTENT)]
    assert server.behaviour.ranges_asked == []


def test_complete_part_is_checked_and_renamed_without_the_server(server: Server, tmp_path: Path) -> None:
    part_of(tmp_path).write_bytes(CONTENT)
    assert download(server, tmp_path)[-1].path.read_bytes() == CONTENT
    assert server.behaviour.ranges_asked == []


def test_part_longer_than_the_file_is_downloaded_again(server: Server, tmp_path: Path) -> None:
    part_of(tmp_path).write_bytes(CONTENT + b"more")
    assert download(server, tmp_path)[-1].path.read_bytes() == CONTENT


def test_damaged_file_is_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "small.pth").write_bytes(bytes(len(CONTENT)))
    assert download(server, tmp_path)[-1].path.read_bytes() == CONTENT


def test_too_little_free_disk_is_reported_before_the_download(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    with pytest.raises(DiskSpaceError, match=r"needs 3\.0 MB.*1\.0 MB are free.*SURGICALSAM_MODELS"):
        download(server, tmp_path)
    assert server.behaviour.ranges_asked == []


def test_disk_that_fills_up_is_reported(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_up(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(downloading.os, "fsync", fill_up)
        with pytest.raises(DiskSpaceError, match="disk is full"):
            download(server, tmp_path)
    assert download(server, tmp_path)[-1].path.read_bytes() == CONTENT


def test_folder_that_cannot_be_written_is_reported(server: Server, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    with pytest.raises(DownloadError, match=r"should be written to .*models.*SURGICALSAM_MODELS"):
        download(server, tmp_path / "models")


def test_unknown_weights_are_refused_with_the_known_names() -> None:
    with pytest.raises(CheckpointError, match=r'vit_h, vit_l, vit_b, mobile_sam, .*; got "vit_g"'):
        list(download_weights("vit_g"))
    with pytest.raises(CheckpointError, match="vit_g"):
        find_weights("vit_g")


# Finding -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The user's cache folder, still empty; the small weights are known."""
    monkeypatch.setitem(zoo.KNOWN_WEIGHTS, WEIGHTS.name, WEIGHTS)
    monkeypatch.delenv("SURGICALSAM_MODELS", raising=False)
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setattr(zoo.pooch, "os_cache", lambda _: str(folder))
    return folder


def test_complete_weights_are_found_in_the_cache_folder(cache_folder: Path) -> None:
    assert models_folder() == cache_folder
    assert find_weights("small") is None
    (cache_folder / "small.pth").write_bytes(CONTENT[:-1])
    assert find_weights("small") is None
    (cache_folder / "small.pth").write_bytes(CONTENT)
    assert find_weights("small") == cache_folder / "small.pth"


def test_variable_may_name_a_folder(cache_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (cache_folder / "small.pth").write_bytes(CONTENT)
    monkeypatch.setenv("SURGICALSAM_MODELS", str(tmp_path / "mine"))
    assert models_folder() == tmp_path / "mine"
    assert find_weights("small") == cache_folder / "small.pth"
    (tmp_path / "mine" / "small.pth").write_bytes(CONTENT)
    assert find_weights("small") == tmp_path / "mine" / "small.pth"


def test_variable_may_name_a_file_with_any_name(cache_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "renamed.pth"
    file.write_bytes(CONTENT)
    monkeypatch.setenv("SURGICALSAM_MODELS", str(file))
    assert find_weights("small") == file
    assert find_weights("vit_h") is None
    assert models_folder() == cache_folder
    file.write_bytes(CONTENT[:-1])
    assert find_weights("small") is None


def test_variable_that_names_a_missing_file_is_reported(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SURGICALSAM_MODELS", str(cache_folder / "sam.pth"))
    with pytest.raises(CheckpointError, match=r"SURGICALSAM_MODELS should name .*sam\.pth"):
        find_weights("small")


def test_each_known_weights_has_an_address_that_ends_in_its_file_name() -> None:
    for name, weights in zoo.KNOWN_WEIGHTS.items():
        assert weights.name == name
        assert weights.url.startswith("https://")
        assert weights.url.endswith(f"/{weights.file_name}")
        assert len(weights.sha256) == 64


def test_missing_bundled_weights_are_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(zoo, "__file__", str(tmp_path / "zoo.py"))
    with pytest.raises(CheckpointError, match="Install surgicalsam-napari again"):
        bundled_checkpoint()
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "light.safetensors").touch()
    assert bundled_checkpoint() == tmp_path / "weights" / "light.safetensors"
