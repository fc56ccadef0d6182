"""The address of a worker, as a person types it: gpu-server:8786."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass

from surgicalsam_napari.errors import WorkerRefused

DEFAULT_PORT = 8786
# "cuda:1" names a device of this machine; names of devices win
_ADDRESS = re.compile(r"(?!(?:auto|cpu|cuda|mps)(?::|$))(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})")


@dataclass(frozen=True)
class Address:
    """Host and port of a worker."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine can be at this address; a name counts if all it resolves to does."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            pass
        try:
            found = {str(entry[4][0]) for entry in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)}
        except OSError:
            return False
        return bool(found) and all(ipaddress.ip_address(each.split("%")[0]).is_loopback for each in found)


def is_address(text: str) -> bool:
    """Whether the name of a device is the address of a worker."""
    return _ADDRESS.fullmatch(text) is not None


def parse_address(text: str) -> Address:
    """The address in HOST:PORT; a WorkerRefused if it is none."""
    match = _ADDRESS.fullmatch(text.strip())
    if match is None or not int(match["port"]) <= 65535:
        raise WorkerRefused(
            f'The address of a worker should be HOST:PORT, such as gpu-server:{DEFAULT_PORT}; got "{text}". '
            "The command `surgicalsam worker` prints it when it starts."
        )
    return Address(match["host"].strip("[]"), int(match["port"]))
