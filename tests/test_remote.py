"""A worker elsewhere: real processes under TLS, killed and cut off; wrong certificates, versions, weights and answers."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
from workers import WorkerProcess, worker_here

pytest.importorskip("cryptography")

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from common.limited_line import LimitedLine

from surgicalsam_napari import cli
from surgicalsam_napari.errors import WorkerError, WorkerLost, WorkerRefused
from surgicalsam_napari.inference import SegmentReport
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.preferences import remember_worker, remembered_certificates
from surgicalsam_napari.remote import certificates as certificates_module
from surgicalsam_napari.remote import connection, encoder, protocol
from surgicalsam_napari.remote.address import Address, is_address, parse_address
from surgicalsam_napari.remote.certificates import make_certificates
from surgicalsam_napari.remote.connection import Connection
from surgicalsam_napari.remote.encoder import RemoteEncoder
from surgicalsam_napari.remote.encoders_here import EncodersHere
from surgicalsam_napari.remote.packing import (
    pack_embeddings,
    pack_frames,
    unpack_embeddings,
    unpack_frames,
)
from surgicalsam_napari.remote.protocol import EncoderName
from surgicalsam_napari.remote.worker import Worker
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project
from surgicalsam_napari.video import VideoReader

FRAMES = 12
MIDDLE = 800_000  # bytes from a worker: about three frames
CLASSES = (1, 3)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tls") / "made"
    make_certificates(folder)
    return folder


@pytest.fixture(scope="module")
def worker(tiny_checkpoint, certificates) -> Iterator[WorkerProcess]:
    process = WorkerProcess(tiny_checkpoint, certificates)
    yield process
    process.kill()


@pytest.fixture(autouse=True)
def no_certificates_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setattr(certificates_module, "default_certificates", lambda: tmp_path / "none")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(encoder, "TRY_AGAIN_SECONDS", 0.2)


@pytest.fixture
def plain(tiny_checkpoint) -> Iterator[Worker]:
    with worker_here(tiny_checkpoint) as server:
        yield server


@pytest.fixture
def session(clip) -> Iterator[Session]:
    with Session(ENDOVIS2018) as session:
        session.open(clip)
        yield session


def load(session: Session, checkpoint: Path, address: object, certificates: Path | None = None) -> RemoteEncoder:
    model = session.load_checkpoint(checkpoint, device=str(address), certificates=certificates)
    assert isinstance(model.embedder, RemoteEncoder)
    return model.embedder


def name_of(checkpoint: Path) -> EncoderName:
    model = load_checkpoint(checkpoint, device="cpu", load_image_encoder=False)
    return EncoderName(model.encoder_id, model.encoder_digest)


def done_frames(project: Project) -> list[int]:
    model_digest = next(iter(project.embedding_stores()))
    return [index for index in range(FRAMES) if model_digest.is_valid(index)]


class InBackground:
    """A run in a thread; `reports` grows."""

    def __init__(self, session: Session) -> None:
        self.reports: list[SegmentReport] = []
        self.error: Exception | None = None
        self._generator = session.segment(CLASSES, range(FRAMES))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            with closing(self._generator) as reports:
                for report in reports:
                    self.reports.append(report)
        except WorkerError as error:
            self.error = error

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


# ---- what is computed


def test_a_worker_computes_the_same_embeddings(worker, certificates, session, tiny_checkpoint):
    frames = [session.project.video.frame(index) for index in range(3)]
    here = load_checkpoint(tiny_checkpoint, device="cpu")
    embedder = load(session, tiny_checkpoint, worker.address, certificates)
    for dtype in ("float16", "float32"):
        np.testing.assert_array_equal(session.model.embed(frames, dtype), here.embed(frames, dtype))
    state = embedder.state
    assert state.frames == 6
    assert state.is_encrypted
    assert state.frame_size == (192, 256)
    assert 0 < state.sent < 6 * 192 * 256 * 3
    assert state.received > 0
    assert state.latency > 0


def test_the_command_line_segments_with_a_worker_as_it_does_here(
    worker, certificates, clip, tmp_path, tiny_checkpoint, capsys
):
    elsewhere = Path(shutil.copy(clip, tmp_path / "elsewhere.mp4"))
    common = ["--all", "--no-vote", "--checkpoint", str(tiny_checkpoint), "--json", "--frames", ":6"]
    assert cli.main(["segment", str(clip), *common, "--device", "cpu"]) == 0
    capsys.readouterr()
    worker_options = ["--device", worker.address, "--certificates", str(certificates)]
    assert cli.main(["segment", str(elsewhere), *common, *worker_options]) == 0
    printed = capsys.readouterr()
    record = json.loads(printed.out.splitlines()[-1])
    assert record["worker"]["frames"] == 6
    assert record["worker"]["tls"]
    assert record["worker"]["bytes_sent"] > 0
    assert "Not sent: names of files" in printed.err
    projects = [Project.open(Project.default_folder(path)) for path in (clip, elsewhere)]
    np.testing.assert_array_equal(projects[0].labels[:6], projects[1].labels[:6])
    for project in projects:
        project.close()


def test_nothing_but_pictures_and_the_encoders_name_leaves_the_machine(plain, session, tiny_checkpoint):
    with LimitedLine(plain.address.port, is_recorded=True) as line:
        load(session, tiny_checkpoint, f"127.0.0.1:{line.port}")
        list(session.segment(CLASSES, range(4)))
        carried = bytes(line.carried)
    secrets = [session.project.video.info.path.name, session.project.folder.name, tiny_checkpoint.name]
    assert not [each for each in (*secrets, *ENDOVIS2018.names) if each.encode() in carried]
    headers = {row.split(b":")[0] for row in carried.split(b"\r\n") if re.fullmatch(rb"[A-Za-z-]+: [ -~]+", row)}
    own = {b"SurgicalSAM-" + name for name in (b"Version", b"Protocol", b"Encoder", b"Frames", b"Dtype")}
    assert headers == {b"Host", b"Accept-Encoding", b"Content-Length", *own}


# ---- a worker that is lost


def test_a_killed_workers_run_waits_goes_on_when_it_is_back_and_loses_nothing(certificates, session, tiny_checkpoint, quick):
    process = WorkerProcess(tiny_checkpoint, certificates)
    with LimitedLine(process.port) as line:
        embedder = load(session, tiny_checkpoint, f"localhost:{line.port}", certificates)
        said: list[str | None] = []
        embedder.on_lost = said.append
        line.after(MIDDLE, process.kill)
        run = InBackground(session)
        wait_until(lambda: embedder.state.lost)
        assert "should answer" in str(embedder.state.lost)
        done = [report.frame_index for report in list(run.reports)]
        written = {index: session.project.labels[index].copy() for index in done}
        again = WorkerProcess(tiny_checkpoint, certificates, process.port)
        run.join()
        again.kill()
    assert 0 < len(done) < FRAMES
    assert run.error is None
    assert [report.frame_index for report in run.reports] == list(range(FRAMES))
    assert all((session.project.labels[index] == before).all() for index, before in written.items())
    assert [entry.frame_count for entry in session.project.history.entries()] == [FRAMES]  # one action, undone at once
    assert embedder.state.lost is None
    assert said[-1] is None


@pytest.fixture
def killed(certificates, session, tiny_checkpoint, quick) -> Callable[..., tuple[RemoteEncoder, InBackground]]:
    """Starts a run whose worker is gone for good in the middle."""

    def start(if_lost: str) -> tuple[RemoteEncoder, InBackground]:
        line = LimitedLine(port)
        embedder = load(session, tiny_checkpoint, f"127.0.0.1:{line.port}")
        embedder.if_lost = if_lost
        line.after(MIDDLE, line.end)
        return embedder, InBackground(session)

    with worker_here(tiny_checkpoint) as server:
        port = server.address.port
        yield start


def test_a_run_goes_on_here_if_a_person_says_so(killed, session):
    embedder, run = killed("wait")
    wait_until(lambda: embedder.state.lost)
    embedder.go_on_here()
    run.join()
    assert run.error is None
    assert done_frames(session.project) == list(range(FRAMES))
    assert embedder.state.frames < FRAMES
    assert not embedder.is_elsewhere
    assert [entry.frame_count for entry in session.project.history.entries()] == [FRAMES]


def test_local_goes_on_without_a_question_and_stop_stops(killed, session):
    embedder, run = killed("local")
    run.join()
    assert run.error is None
    assert embedder.state.is_here
    assert done_frames(session.project) == list(range(FRAMES))


def test_stop_keeps_the_frames_that_arrived(killed, session):
    _embedder, run = killed("stop")
    run.join()
    assert isinstance(run.error, WorkerLost)
    done = {report.frame_index for report in run.reports}
    assert done
    assert done <= set(done_frames(session.project))
    assert [entry.frame_count for entry in session.project.history.entries()] == [len(done)]


def test_waiting_can_be_stopped(killed, session):
    embedder, run = killed("wait")
    wait_until(lambda: embedder.state.lost)
    session.stop_waiting()
    run.join()
    assert isinstance(run.error, WorkerLost)
    assert embedder.state.lost is None


def test_a_cut_line_is_noticed_and_the_run_goes_on_when_it_is_whole_again(
    plain, session, tiny_checkpoint, quick, monkeypatch
):
    monkeypatch.setattr(protocol, "QUIET_SECONDS", 1.0)
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 1.0)
    with LimitedLine(plain.address.port) as line:
        embedder = load(session, tiny_checkpoint, f"127.0.0.1:{line.port}")
        line.after(MIDDLE, line.cut)  # no side is told
        run = InBackground(session)
        wait_until(lambda: embedder.state.lost)
        line.join()
        run.join()
    assert run.error is None
    assert done_frames(session.project) == list(range(FRAMES))


@pytest.mark.slow
def test_a_line_of_ten_megabits_carries_a_run(worker, certificates, clip, tiny_checkpoint, tmp_path, capsys):
    options = ["--checkpoint", str(tiny_checkpoint), "--certificates", str(certificates), "--json"]
    with LimitedLine(worker.port, megabits=10) as line:
        assert cli.main(["embed", str(clip), *options, "--device", f"localhost:{line.port}"]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])["worker"]
    assert record["frames"] == FRAMES
    bits = 8 * max(record["bytes_sent"], record["bytes_received"]) / FRAMES
    assert record["frames_per_second"] * bits < 11e6
    with Project.open(Project.default_folder(clip)) as project:
        assert done_frames(project) == list(range(FRAMES))


def test_a_slow_worker_is_not_a_lost_one(plain, session, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(protocol, "QUIET_SECONDS", 1.0)
    monkeypatch.setattr(protocol, "WORKING_SECONDS", 0.2)
    embed = plain.encoders._embed

    def slow(*arguments):
        time.sleep(2)
        return embed(*arguments)

    monkeypatch.setattr(plain.encoders, "_embed", slow)
    embedder = load(session, tiny_checkpoint, plain.address)
    embedder.if_lost = "stop"
    session.model.embed([session.project.video.frame(0)])
    assert embedder.state.frames == 1


# ---- who may use a worker, and which


def refused(checkpoint: Path, address: object, certificates: Path | None = None) -> str:
    with Session() as session, pytest.raises(WorkerRefused) as caught:
        session.load_checkpoint(checkpoint, device=str(address), certificates=certificates)
    return str(caught.value)


def test_certificates_of_another_authority_are_refused_by_both_sides(worker, certificates, tiny_checkpoint, tmp_path):
    make_certificates(tmp_path / "strange")
    assert "same authority" in refused(tiny_checkpoint, worker.address, tmp_path / "strange")
    for part in ("client", "worker"):  # trusts the worker, but has a certificate of its own
        shutil.copy(certificates / part / "ca.pem", tmp_path / "strange" / part / "ca.pem")
    assert "does not accept this machine's certificate" in refused(tiny_checkpoint, worker.address, tmp_path / "strange")


def test_a_client_without_certificate_gets_nothing_from_a_worker(worker, certificates):
    context = ssl.create_default_context(cafile=str(certificates / "client" / "ca.pem"))
    with socket.create_connection(("localhost", worker.port)) as line:
        secured = context.wrap_socket(line, server_hostname="localhost")
        with secured, pytest.raises(OSError):
            secured.sendall(b"GET /hello HTTP/1.1\r\n\r\n")
            if not secured.recv(100):
                raise ConnectionResetError


def test_the_certificate_of_a_client_does_not_make_a_worker(certificates, tmp_path, tiny_checkpoint):
    folder = tmp_path / "worker"
    folder.mkdir()
    shutil.copy(certificates / "client" / "ca.pem", folder)
    shutil.copy(certificates / "client" / "client.pem", folder / "worker.pem")
    with worker_here(tiny_checkpoint, folder) as server:
        assert "should have a certificate" in refused(tiny_checkpoint, f"localhost:{server.address.port}", certificates)


def test_a_worker_under_another_name_is_refused(tmp_path, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(certificates_module.socket, "getfqdn", lambda *_: "gpu-server")
    make_certificates(tmp_path / "made")
    with worker_here(tiny_checkpoint, tmp_path / "made") as server:
        monkeypatch.setattr(socket, "getaddrinfo", _to_loopback(socket.getaddrinfo))
        message = refused(tiny_checkpoint, f"other-server:{server.address.port}", tmp_path / "made")
        assert "it is for other names" in message or "Hostname mismatch" in message
        with Session() as session:
            load(session, tiny_checkpoint, f"gpu-server:{server.address.port}", tmp_path / "made")


def _to_loopback(original):
    def found(host, port, *arguments, **options):
        return original("127.0.0.1" if str(host).endswith("-server") else host, port, *arguments, **options)

    return found


def test_without_certificates_only_loopback_is_used_in_both_directions(tiny_checkpoint):
    message = refused(tiny_checkpoint, "198.51.100.7:8786")
    assert "only on loopback" in message
    assert "--make-certificates" in message
    for host in ("0.0.0.0", "198.51.100.7"):
        with pytest.raises(WorkerRefused, match="only on loopback"):
            Worker(Address(host, 0), EncodersHere("cpu"))


def test_tls_and_no_tls_do_not_mix(worker, plain, certificates, tiny_checkpoint):
    assert "speaks without TLS" in refused(tiny_checkpoint, f"localhost:{plain.address.port}", certificates)
    with Session() as session, pytest.raises(WorkerLost, match="give this machine's folder of them"):
        session.load_checkpoint(tiny_checkpoint, device=worker.address)


def test_certificates_are_made_once_and_their_keys_are_for_the_owner_only(certificates, tmp_path, capsys):
    made = tmp_path / "made"
    assert cli.main(["worker", "--make-certificates", str(made), "--name", "gpu-server", "--name", "10.0.0.5"]) == 0
    assert "stays on this machine" in capsys.readouterr().out
    before = {path: path.read_bytes() for path in made.rglob("*.pem")}
    assert {path.relative_to(made).as_posix() for path in before} == {
        f"{part}/{name}" for part in ("worker", "client") for name in ("ca.pem", f"{part}.pem")
    }
    if sys.platform != "win32":
        assert {path.stat().st_mode & 0o077 for path in made.rglob("*.pem") if path.stem != "ca"} == {0}
    assert b"PRIVATE KEY" not in (made / "client" / "ca.pem").read_bytes()
    assert cli.main(["worker", "--make-certificates", str(made)]) == 1
    assert "holds certificates already" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in made.rglob("*.pem")} == before


def test_another_version_or_protocol_is_refused_by_both_sides(worker, certificates, tiny_checkpoint, monkeypatch):
    line = Connection(worker.address, certificates)
    monkeypatch.setattr(protocol, "PROTOCOL", 99)
    message = refused(tiny_checkpoint, worker.address, certificates)
    assert "(protocol 99), as here" in message
    monkeypatch.undo()
    monkeypatch.setattr(protocol, "__version__", "0.0.1")
    assert "surgicalsam-napari 0.0.1 (protocol 1), as here" in refused(tiny_checkpoint, worker.address, certificates)
    with pytest.raises(WorkerRefused, match=r"it has 0\.0\.1"):  # the worker, too
        line.load(name_of(tiny_checkpoint))


def test_other_weights_are_refused(plain, tiny_checkpoint):
    line = Connection(str(plain.address))
    name = name_of(tiny_checkpoint)
    with pytest.raises(WorkerRefused, match=f"weights 0123456789abcdef; it has the weights {name.digest}"):
        line.load(EncoderName(name.id, "0123456789abcdef"))
    with pytest.raises(WorkerRefused, match="has no weights of it"):
        line.load(EncoderName("vit_h", "0123456789abcdef"))
    line.load(name)


def test_a_run_that_meets_another_version_waits_for_the_right_one(plain, session, tiny_checkpoint, quick, monkeypatch):
    embedder = load(session, tiny_checkpoint, plain.address)
    check = protocol.check_versions
    other = iter([True] * 3)

    def checked(version, number, side):
        check("0.0.1" if "uses this worker" in side and next(other, False) else version, number, side)

    monkeypatch.setattr(protocol, "check_versions", checked)
    said: list[str | None] = []
    embedder.on_lost = said.append
    assert len(list(session.segment(CLASSES, range(4)))) == 4
    assert "0.0.1" in said[0]
    assert said[-1] is None


# ---- what a hostile side sends


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda shape: pack_embeddings(np.full(shape, np.nan, np.float16)), "finite"),
        (lambda shape: pack_embeddings(np.full(shape, np.inf, np.float16)), "finite"),
        (lambda shape: pack_embeddings(np.zeros((*shape[:-1], shape[-1] * 500), np.float16)), "should hold"),
        (lambda shape: pack_embeddings(np.zeros((1, 1), np.float16)), "should hold"),
        (lambda shape: b"\x80\x04\x95" + b"cos\nsystem\n(S'touch hacked'\ntR.", "should hold"),
        (lambda shape: bytes(64 << 20), "at most"),
    ],
    ids=["NaN", "infinite", "too large when unpacked", "too small", "a pickle", "endless"],
)
def test_answers_that_are_no_embeddings_are_refused(plain, session, tiny_checkpoint, monkeypatch, content, reason):
    embedder = load(session, tiny_checkpoint, plain.address)
    embedder.if_lost = "stop"
    shape = (1, 128, 32, 32)
    monkeypatch.setattr("surgicalsam_napari.remote.worker.pack_embeddings", lambda _embeddings: content(shape))
    with pytest.raises(WorkerRefused, match=reason):
        session.model.embed([session.project.video.frame(0)])
    assert not list(session.project.embedding_stores())


def test_a_message_of_a_worker_is_only_text(plain, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(
        "surgicalsam_napari.remote.worker.protocol.failure", lambda _message: b'{"message": "a\\u001b[2Jb\\nc"}'
    )
    with pytest.raises(WorkerRefused) as caught:
        Connection(str(plain.address)).load(EncoderName("tiny", "0" * 16))
    assert str(caught.value) == "a [2Jb c"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /etc/passwd HTTP/1.1\r\n\r\n",
        b"POST /frames HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST /frames HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"\x80\x04\x95" * 30,
        b"GET /hello HTTP/9.9\r\n\r\n",
        b"A" * 200_000,
    ],
)
def test_a_worker_survives_what_is_no_request(plain, tiny_checkpoint, request_bytes):
    with socket.create_connection(("127.0.0.1", plain.address.port)) as line:
        line.settimeout(10)
        answer = b""
        with suppress(OSError):  # the worker may end the connection while more is sent
            line.sendall(request_bytes)
            line.shutdown(socket.SHUT_WR)
            answer = line.recv(1 << 16)
    assert b"root:" not in answer
    assert b" 200 " not in answer
    Connection(str(plain.address)).load(name_of(tiny_checkpoint))


@pytest.mark.parametrize(
    ("encoder_name", "frames", "dtype", "content"),
    [
        ("tiny x/../y", "1 192 256", "float16", b""),
        ("nothing 0123", "1 192 256", "float16", b""),
        ("tiny DIGEST", "999 192 256", "float16", b""),
        ("tiny DIGEST", "1 192 255", "float16", b""),
        ("tiny DIGEST", "1 0 256", "float16", b""),
        ("tiny DIGEST", "1 192 256", "object", b""),
        ("tiny DIGEST", "1 192 256", "float16", b"no frames"),
        ("tiny DIGEST", "1 192 256", "float16", pack_frames(np.zeros((1, 8, 8, 3), np.uint8))),
    ],
)
def test_requests_that_are_wrong_are_refused(plain, tiny_checkpoint, encoder_name, frames, dtype, content):
    digest = name_of(tiny_checkpoint).digest
    headers = {
        **protocol.request_headers(),
        "SurgicalSAM-Encoder": encoder_name.replace("DIGEST", digest),
        "SurgicalSAM-Frames": frames,
        "SurgicalSAM-Dtype": dtype,
    }
    line = Connection(str(plain.address))
    with pytest.raises(WorkerRefused), line._answers() as requests:
        requests.get_in_steps("/frames", headers, 100, content)
    line.load(name_of(tiny_checkpoint))


# ---- small parts


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (2, 5, 7, 3), (3, 40, 51, 3)])
def test_frames_and_embeddings_survive_packing(shape):
    generator = np.random.default_rng(0)
    frames = generator.integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(unpack_frames(pack_frames(frames), shape), frames)
    for kind in ("float16", "float32"):
        embeddings = generator.normal(size=shape).astype(kind).transpose(0, 3, 1, 2)
        unpacked = unpack_embeddings(pack_embeddings(embeddings), embeddings.shape, np.dtype(kind))
        np.testing.assert_array_equal(unpacked, embeddings)


def test_packing_makes_frames_much_smaller(clip):
    with closing(VideoReader(clip)) as video:
        frame = video.frame(0)[None]
    assert len(pack_frames(frame)) < 0.6 * frame.nbytes


@pytest.mark.parametrize("text", ["gpu-server:8786", "10.0.0.5:1", "[::1]:8786", "a.b.c:80"])
def test_addresses(text):
    assert is_address(text)
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "text", ["auto", "cpu", "cuda", "cuda:1", "mps", "mps:0", "gpu-server", "gpu server:1", "a:b", "a:", ""]
)
def test_devices_are_no_addresses(text):
    assert not is_address(text)


def test_a_wrong_port_gets_one_line():
    with pytest.raises(WorkerRefused, match="should be HOST:PORT"):
        parse_address("gpu-server:99999")


def test_the_worker_of_a_cluster_and_a_worker_do_not_mix(clip, capsys):
    assert cli.main(["embed", str(clip), "--device", "gpu-server:8786", "--cluster", "local:2"]) == 2
    assert "for one machine" in capsys.readouterr().err


def test_a_worker_that_does_not_answer_ends_the_command_or_local_goes_on(clip, tiny_checkpoint, capsys):
    options = ["embed", str(clip), "--checkpoint", str(tiny_checkpoint), "--device", f"127.0.0.1:{free_port()}"]
    assert cli.main(options) == 1
    assert "should answer; it does not" in capsys.readouterr().err
    assert cli.main([*options, "--if-lost", "local", "--frames", ":3"]) == 0
    assert "The run goes on with this machine." in capsys.readouterr().err


def test_workers_are_remembered_with_their_certificates(tmp_path):
    assert remembered_certificates("gpu-server:8786") is None
    remember_worker("gpu-server:8786", tmp_path)
    remember_worker("other:8786", None)
    assert remembered_certificates("gpu-server:8786") == tmp_path
