"""The client's side of the line to a worker: TLS, requests, and what is refused of the answers."""

from __future__ import annotations

import http.client
import io
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from surgicalsam_napari.errors import WorkerError, WorkerLost, WorkerRefused
from surgicalsam_napari.remote import protocol
from surgicalsam_napari.remote.address import Address, parse_address
from surgicalsam_napari.remote.certificates import CLIENT, client_context, default_certificates, find_certificates
from surgicalsam_napari.remote.packing import most_bytes, pack_frames, unpack_embeddings
from surgicalsam_napari.remote.protocol import EncoderName, FramesRequest

CONNECT_SECONDS = 5.0
LONGEST_REQUEST = 1800.0  # seconds: a large encoder on a worker's CPU needs minutes
GREETINGS = 3  # the fastest one counts as the latency
TOO_LONG = "The answer to {path} should have at most {most} bytes; it has more. Do not use this worker."
_UNTRUSTED = {10: "it has expired", 62: "it is for other names"}  # by OpenSSL's numbers


@dataclass(frozen=True)
class Greeting:
    """What a worker says of itself.

    Attributes
    ----------
    device : in words for the user
    latency : seconds from a small question to its answer
    """

    device: str
    latency: float


@dataclass(frozen=True)
class Embedded:
    """The answer to a request.

    Attributes
    ----------
    embeddings : (B, D, h, w), checked
    sent, received : bytes on the line, without the headers
    """

    embeddings: np.ndarray
    sent: int
    received: int


class Connection:
    """Up to a few connections to one worker, used by several threads.

    Parameters
    ----------
    address : HOST:PORT
    certificates : folder with ca.pem and client.pem; by default that of `default_certificates`. Only an address on loopback
        is used without certificates

    Raises
    ------
    WorkerRefused
        the address is none, or is not on loopback and there are no certificates
    """

    def __init__(self, address: str, certificates: Path | None = None) -> None:
        self.address: Address = parse_address(address)
        self._tls = _tls_for(self.address, certificates)
        self._free: list[http.client.HTTPConnection] = []
        self._open: set[http.client.HTTPConnection] = set()
        self._lock = threading.Lock()

    @property
    def is_encrypted(self) -> bool:
        return self._tls is not None

    def greet(self) -> Greeting:
        """Ask who is there; a WorkerLost if nobody answers, a WorkerRefused unless it is a worker of this version."""
        with self._answers() as line:
            durations = []
            for _ in range(GREETINGS):
                start = time.perf_counter()
                hello = _json(line.get("/hello"))
                durations.append(time.perf_counter() - start)
        if hello.get("program") != protocol.PROGRAM:
            raise WorkerRefused(f"A `{protocol.PROGRAM}` should answer at {self.address}; another program does.")
        protocol.check_versions(hello.get("version"), hello.get("protocol"), f"The worker at {self.address}")
        return Greeting(protocol.plain_text(str(hello.get("device", "")), 80), min(durations))

    def load(self, encoder: EncoderName) -> None:
        """Wait until the worker has loaded this encoder; a WorkerRefused if it does not have these weights."""
        with self._answers() as line:
            line.get_in_steps("/encoder", protocol.request_headers(encoder), 1)

    def embed(self, encoder: EncoderName, frames: np.ndarray, dtype: np.dtype) -> Embedded:
        """The embeddings of prepared frames (B, h, w, 3) uint8.

        Raises
        ------
        WorkerLost
            the line was cut, or the worker has ended
        WorkerRefused
            another version or other weights; or what came back has another size, or is not finite
        """
        request = FramesRequest(encoder, frames.shape, dtype.name)  # type: ignore[arg-type]
        body = pack_frames(frames)
        most = most_bytes(int(np.prod(request.embeddings_shape)) * dtype.itemsize)
        with self._answers() as line:
            content = line.get_in_steps("/frames", protocol.request_headers(request=request), most, body)
        return Embedded(unpack_embeddings(content, request.embeddings_shape, dtype), len(body), len(content))

    def line_speed(self) -> float:
        """Bits per second there and back, measured with random bytes."""
        body = np.random.default_rng().bytes(protocol.LINE_BYTES // 2)
        with self._answers() as line:
            start = time.perf_counter()
            line.get("/line", protocol.request_headers(), len(body), body)
            return 8 * 2 * len(body) / (time.perf_counter() - start)

    def cut(self) -> None:
        """End all requests that are under way: they fail with a WorkerLost."""
        with self._lock:
            lines, self._open, self._free = list(self._open), set(), []
        for line in lines:
            with suppress(OSError):
                if line.sock is not None:
                    socket.socket.shutdown(line.sock, socket.SHUT_RDWR)

    @contextmanager
    def _answers(self) -> Iterator[_Line]:
        """A connection for one request at a time; its errors become errors for the user."""
        with self._lock:
            line = self._free.pop() if self._free else None
        connection = line or self._new()
        try:
            with self._lock:
                self._open.add(connection)
            yield _Line(connection)
        except WorkerError:
            self._drop(connection)
            raise
        except (OSError, http.client.HTTPException) as error:
            self._drop(connection)
            raise self._error(error) from error
        except BaseException:
            self._drop(connection)
            raise
        with self._lock:
            if connection in self._open:
                self._open.discard(connection)
                self._free.append(connection)

    def _new(self) -> http.client.HTTPConnection:
        where = self.address.host, self.address.port
        line: http.client.HTTPConnection
        if self._tls is None:
            line = http.client.HTTPConnection(*where, timeout=CONNECT_SECONDS)
        else:
            line = http.client.HTTPSConnection(*where, timeout=CONNECT_SECONDS, context=self._tls)
        return line

    def _drop(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            self._open.discard(connection)
        connection.close()

    def _error(self, error: Exception) -> WorkerError:
        """The error for the user."""
        if isinstance(error, ssl.SSLCertVerificationError):
            reason = _UNTRUSTED.get(error.verify_code, error.verify_message)
            return WorkerRefused(
                f"The worker at {self.address} should have a certificate of the same authority as this machine's, for that "
                f"name; it has not ({reason}). Use the certificates that were made with the worker's, or make new ones with "
                "`surgicalsam worker --make-certificates FOLDER --name HOST`."
            )
        if isinstance(error, ssl.SSLError) and "ALERT" in str(error.reason):
            return WorkerRefused(
                f"The worker at {self.address} does not accept this machine's certificate ({error.reason}). "
                "Copy the folder `client` again that was made with the worker's certificates."
            )
        if isinstance(error, ssl.SSLError) and error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
            return WorkerRefused(f"The worker at {self.address} speaks without TLS. Start it with --certificates.")
        without = (
            "" if self.is_encrypted else " If it uses certificates, give this machine's folder of them (--certificates)."
        )
        return WorkerLost(
            f"The worker at {self.address} should answer; it does not ({_reason(error)}). "
            f"Check that it runs, and the network between.{without}"
        )


class _Line:
    """Requests over one connection, and checks of the answers."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection

    def get(self, path: str, headers: dict[str, str] | None = None, most: int = 4096, body: bytes | None = None) -> bytes:
        """The content of an answer, at most so many bytes."""
        answer = self._ask(path, headers or {}, body)
        content = answer.read(most + 1)
        if len(content) > most:
            raise WorkerRefused(TOO_LONG.format(path=path, most=most))
        return content

    def get_in_steps(self, path: str, headers: dict[str, str], most: int, body: bytes | None = None) -> bytes:
        """The content of an answer that comes when the work is done."""
        end = time.monotonic() + LONGEST_REQUEST
        answer = self._ask(path, headers, body)
        while (step := answer.read(1)) == protocol.WORKING:
            if time.monotonic() > end:
                raise TimeoutError(f"no result after {LONGEST_REQUEST / 60:.0f} minutes")
        if step == protocol.FAILED:
            raise WorkerRefused(protocol.read_failure(answer.read(protocol.MOST_MESSAGE_BYTES)))
        if step != protocol.DONE:
            raise ConnectionResetError("the answer was cut off")
        content = answer.read(most + 1)
        if len(content) > most:
            raise WorkerRefused(TOO_LONG.format(path=path, most=most))
        answer.read()  # its end, so that the connection can be used again
        return content

    def _ask(self, path: str, headers: dict[str, str], body: bytes | None) -> http.client.HTTPResponse:
        is_used = self._connection.sock is not None
        try:
            return self._sent(path, headers, body)
        except (ConnectionError, http.client.RemoteDisconnected, ssl.SSLEOFError, BrokenPipeError):
            if not is_used:
                raise
            self._connection.close()  # the worker closes connections that were idle for long
            return self._sent(path, headers, body)

    def _sent(self, path: str, headers: dict[str, str], body: bytes | None) -> http.client.HTTPResponse:
        line = self._connection
        if line.sock is None:
            line.timeout = CONNECT_SECONDS
            line.connect()
            assert line.sock is not None
            line.sock.settimeout(protocol.QUIET_SECONDS)
        # a file is sent in pieces, and the timeout is that of one piece
        content = None if body is None else io.BytesIO(body)
        length = {} if body is None else {"Content-Length": str(len(body))}
        line.request("GET" if body is None else "POST", path, content, {**headers, **length})
        answer = line.getresponse()
        if answer.status != 200:
            raise WorkerRefused(protocol.read_failure(answer.read(protocol.MOST_MESSAGE_BYTES)))
        return answer


def _tls_for(address: Address, certificates: Path | None) -> ssl.SSLContext | None:
    """TLS with the given certificates, or those of this machine; None on loopback if none are given."""
    if certificates is not None:
        return client_context(certificates)
    if address.is_loopback:
        return None
    found = find_certificates(None, CLIENT)
    if found is None:
        raise WorkerRefused(
            f"Without certificates a worker may be used only on loopback, such as 127.0.0.1:8786; got {address}. "
            f"Give the folder with this machine's (--certificates), or copy it to {default_certificates()}. "
            "`surgicalsam worker --make-certificates FOLDER` makes them on the machine of the worker."
        )
    return client_context(found)


def _json(content: bytes) -> dict[str, Any]:
    try:
        record = json.loads(content)
    except (ValueError, RecursionError):
        record = None
    return record if isinstance(record, dict) else {}


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return str(error) if "minutes" in str(error) else "no answer in time"
    if isinstance(error, (http.client.HTTPException, ConnectionResetError, ssl.SSLEOFError)):
        return "the line was cut"
    return protocol.plain_text(getattr(error, "strerror", None) or str(error) or type(error).__name__, 120)
