"""A TCP line with a limited speed, which can be cut: a small proxy between a client and a server on this machine."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

PIECE_BYTES = 8192


class LimitedLine:
    """Forwards every connection to a port of this machine; each direction has its own speed.

    Parameters
    ----------
    port : of the server
    megabits : per second, in each direction; None for no limit

    Attributes
    ----------
    port : of the line: connect to it in place of the server
    carried : all bytes from client to server, if `is_recorded`
    """

    def __init__(self, port: int, megabits: float | None = None, *, is_recorded: bool = False) -> None:
        self._target, self._megabits, self._is_recorded = port, megabits, is_recorded
        self.carried = bytearray()
        self._received = 0
        self._then: tuple[int, Callable[[], object]] | None = None
        self._whole, self._sockets = threading.Event(), set[socket.socket]()
        self._whole.set()
        self._next = {True: 0.0, False: 0.0}  # by direction: when the line is free again
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> LimitedLine:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def after(self, received: int, action: Callable[[], object]) -> None:
        """Do something once, when so many bytes more have come from the server."""
        self._then = self._received + received, action

    def end(self) -> None:
        """Close all connections, and take no more."""
        self._whole.set()
        for each in [self._listener, *self._sockets]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def cut(self) -> None:
        """Carry nothing any more, as if a cable was pulled: no side is told."""
        self._whole.clear()

    def join(self) -> None:
        """Carry again, over new connections."""
        for each in list(self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._whole.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            self._sockets |= {client, server}
            for source, target, is_up in ((client, server, True), (server, client, False)):
                source.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
                threading.Thread(target=self._carry, args=(source, target, is_up), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, is_up: bool) -> None:
        with suppress(OSError):
            while piece := source.recv(PIECE_BYTES):
                self._whole.wait()
                if is_up and self._is_recorded:
                    self.carried += piece
                self._wait(len(piece), is_up)
                target.sendall(piece)
                self._received += 0 if is_up else len(piece)
                if self._then is not None and self._received > self._then[0]:
                    (_, action), self._then = self._then, None
                    action()
                    self._whole.wait()
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _wait(self, size: int, is_up: bool) -> None:
        """Until the line has room for so many bytes."""
        if self._megabits is None:
            return
        with self._lock:
            start = max(self._next[is_up], time.perf_counter())
            self._next[is_up] = start + 8e-6 * size / self._megabits
        time.sleep(max(0.0, self._next[is_up] - time.perf_counter()))
