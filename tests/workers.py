"""Workers for tests: in a process of their own, which knows the tests' small encoder, or in a thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from surgicalsam_napari.remote.address import Address
from surgicalsam_napari.remote.encoders_here import EncodersHere
from surgicalsam_napari.remote.worker import Worker

TESTS = Path(__file__).parent
START = "import sys, tiny_encoder; from surgicalsam_napari.cli import main; sys.exit(main(sys.argv[1:]))"


class WorkerProcess:
    """`surgicalsam worker` on loopback, under TLS if it has certificates.

    Attributes
    ----------
    address : localhost:PORT
    """

    def __init__(self, checkpoint: Path, certificates: Path | None = None, port: int = 0) -> None:
        arguments = ["worker", "--listen", f"127.0.0.1:{port}", "--device", "cpu", "--checkpoint", str(checkpoint), "--json"]
        if certificates is not None:
            arguments += ["--certificates", str(certificates)]
        paths = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, *arguments],
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self.port = int(json.loads(line)["address"].rpartition(":")[2])
        self.address = f"localhost:{self.port}"

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def worker_here(
    checkpoint: Path, certificates: Path | None = None, log: Callable[[str], None] = print, port: int = 0
) -> Iterator[Worker]:
    """A worker in a thread of this process, on loopback; at the end it is gone, with all its connections."""
    server = Worker(Address("127.0.0.1", port), EncodersHere("cpu", [checkpoint]), certificates, log)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
