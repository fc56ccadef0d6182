"""The worker: an HTTP server that embeds prepared frames, for clients with a certificate; without TLS only on loopback."""

from __future__ import annotations

import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from surgicalsam_napari import __version__
from surgicalsam_napari.errors import SurgicalSAMError, WorkerRefused
from surgicalsam_napari.remote import protocol
from surgicalsam_napari.remote.address import Address
from surgicalsam_napari.remote.certificates import worker_context
from surgicalsam_napari.remote.encoders_here import EncodersHere
from surgicalsam_napari.remote.packing import most_bytes, pack_embeddings, unpack_frames

MOST_CONNECTIONS = 64
IDLE_SECONDS = 120.0  # then a connection is closed; the client opens another one
DRAIN_SECONDS = 1.0
PIECE_BYTES = 1 << 16
Log = Callable[[str], None]


class Worker(ThreadingHTTPServer):
    """Embeds frames for others. It keeps nothing of them, writes no file, and runs nothing that a client sends.

    Parameters
    ----------
    address : where it listens; port 0 for any free one
    certificates : folder with ca.pem and worker.pem; None to speak without TLS
    log : gets a line for each refused connection and each failure

    Raises
    ------
    WorkerRefused
        without certificates, an address that other machines can reach; or the address cannot be used
    """

    daemon_threads = True
    request_queue_size = 32

    def __init__(
        self, address: Address, encoders: EncodersHere, certificates: Path | None = None, log: Log = lambda _line: None
    ) -> None:
        if certificates is None and not address.is_loopback:
            raise WorkerRefused(
                f"Without certificates a worker may listen only on loopback, such as 127.0.0.1:8786; got {address}. "
                "Make some with `surgicalsam worker --make-certificates FOLDER`, and give the folder with --certificates."
            )
        self.encoders, self.log = encoders, log
        self._tls = None if certificates is None else worker_context(certificates)
        self._places = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        try:
            super().__init__((address.host, address.port), _Handler)
        except OSError as error:
            raise WorkerRefused(
                f"The worker should listen at {address}; it cannot ({error.strerror or error}). Choose another --listen."
            ) from error
        self.address = Address(address.host, self.server_address[1])

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's would ask a name server for this machine's name
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def get_request(self) -> tuple[Any, Any]:
        connection, peer = self.socket.accept()
        connection.settimeout(protocol.QUIET_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, peer

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.log(f"refused {client_address[0]}: {MOST_CONNECTIONS} connections are open")
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            secured = request if self._tls is None else self._secured(request, client_address)
            if secured is not None:
                super().process_request_thread(secured, client_address)
        finally:
            self._places.release()

    def _secured(self, request: socket.socket, client_address: Any) -> ssl.SSLSocket | None:
        """The connection under TLS; None if the client has no certificate of the same authority. In the client's thread."""
        assert self._tls is not None
        secured = None
        try:
            secured = self._tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
            secured.do_handshake()
            return secured
        except OSError as error:
            self.log(f"refused {client_address[0]}: {getattr(error, 'reason', None) or error}")
            with suppress(OSError, ValueError):  # closing with unread bytes would cut off the reason sent to the client
                plain = socket.socket.detach(secured) if secured is not None else request.detach()
                with socket.socket(fileno=plain) as rest:
                    rest.settimeout(DRAIN_SECONDS)
                    rest.shutdown(socket.SHUT_WR)
                    while rest.recv(1 << 16):
                        pass
            return None

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that has gone; `_Handler` reports failures of the work

    def server_close(self) -> None:
        super().server_close()
        self.encoders.close()


class _Handler(BaseHTTPRequestHandler):
    """One connection, with any number of requests."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "surgicalsam", ""
    timeout = IDLE_SECONDS
    server: Worker

    def do_GET(self) -> None:
        if self.path == "/hello":
            hello = {"program": protocol.PROGRAM, "protocol": protocol.PROTOCOL, "version": __version__}
            self._answer(200, json.dumps({**hello, "device": self.server.encoders.device_name}).encode())
        else:
            self._checked({"/encoder": self._load_encoder})

    def do_POST(self) -> None:
        self._checked({"/frames": self._embed_frames, "/line": self._measure_line})

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def _checked(self, requests: dict[str, Callable[[], None]]) -> None:
        """Do a request, unless it asks for something else, or comes from another version."""
        try:
            if self.path not in requests:
                raise WorkerRefused(f"A worker knows no such request: {self.command} {protocol.plain_text(self.path, 80)}.")
            protocol.check_versions(*protocol.read_versions(self.headers), "The machine that uses this worker")
            requests[self.path]()
        except WorkerRefused as error:
            self.server.log(f"refused {self.client_address[0]}: {error}")
            self.close_connection = True
            self._answer(400, protocol.failure(str(error)))
            self._drain()

    def _load_encoder(self) -> None:
        self._answer_in_steps(self.server.encoders.load(protocol.read_encoder(self.headers)), lambda _nothing: b"")

    def _embed_frames(self) -> None:
        request = protocol.read_frames_request(self.headers)
        frames = unpack_frames(self._body(most_bytes(int(np.prod(request.shape)))), request.shape)
        self._answer_in_steps(self.server.encoders.embed(request.encoder, frames, request.dtype), pack_embeddings)

    def _measure_line(self) -> None:
        self._answer(200, self._body(protocol.LINE_BYTES))

    def _body(self, most: int) -> bytes:
        length = str(self.headers.get("Content-Length", ""))
        if not length.isdecimal() or len(length) > 12 or int(length) > most:
            raise WorkerRefused(f"A request should have up to {most} bytes; it states {protocol.plain_text(length, 20)}.")
        body = self.rfile.read(int(length))
        if len(body) != int(length):
            raise ConnectionResetError("the request was cut off")
        return body

    def _answer_in_steps(self, future: Future, pack: Callable[[Any], bytes]) -> None:
        """Say every two seconds that the work is under way, then send its result; drop it if the client is gone."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while True:
                try:
                    content = protocol.DONE + pack(future.result(timeout=protocol.WORKING_SECONDS))
                    break
                except TimeoutError:
                    self._send_chunk(protocol.WORKING)
                except SurgicalSAMError as error:
                    content = protocol.FAILED + protocol.failure(str(error))
                    break
                except (CancelledError, RuntimeError) as error:  # the worker is closing; torch failed
                    self.server.log(f"failed: {error}")
                    content = protocol.FAILED + protocol.failure(f"The worker failed: {str(error) or 'it is closing'}")
                    break
        except OSError:
            future.cancel()
            raise
        for start in range(0, len(content), PIECE_BYTES):
            self._send_chunk(content[start : start + PIECE_BYTES])  # the timeout is that of one piece
        self._send_chunk(b"")

    def _send_chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(content), content))

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _drain(self) -> None:
        """Read what the client still sends, for a moment: closing with unread bytes would cut off the answer."""
        with suppress(OSError):
            self.connection.settimeout(DRAIN_SECONDS)
            while self.connection.recv(1 << 16):
                pass
