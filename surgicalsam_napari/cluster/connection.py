"""Connecting to a Dask cluster, or starting one on this machine."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from surgicalsam_napari.errors import ClusterError

if TYPE_CHECKING:
    from distributed import Client

LOCAL = re.compile(r"local:([1-9]\d*)")
CONNECT_SECONDS = 10.0
# Ctrl-C in a terminal reaches every process; workers are told by the client to stop, after the frame at hand
_IGNORE_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


@dataclass(frozen=True)
class Cluster:
    """A cluster that is connected to.

    Attributes
    ----------
    threads : of torch in each worker, if it runs on this machine's CPU for us; None where workers decide
    """

    client: Client
    address: str
    threads: int | None

    def workers(self) -> list[str]:
        """The addresses of the workers that there are now; a ClusterError if the scheduler does not answer any more."""
        try:
            return list(self.client.nthreads())
        except (OSError, RuntimeError) as error:
            raise self.lost(error) from error

    def lost(self, reason: object) -> ClusterError:
        """What to say when the scheduler is gone."""
        return ClusterError(
            f"The scheduler at {self.address} should answer, and does not any more ({first_line(reason)}). "
            "Run the same again when it is back: what was done is kept."
        )


@contextmanager
def connected(address: str) -> Iterator[Cluster]:
    """A cluster by the address of its scheduler, or one of N processes on this machine as "local:N".

    Raises
    ------
    ClusterError
        dask.distributed is not installed, nobody answers at the address, or its workers lack this package
    """
    distributed = _distributed()
    local = LOCAL.fullmatch(address)
    with ExitStack() as stack:
        threads = None
        if local is not None:
            import torch

            count = int(local[1])
            threads = max(1, torch.get_num_threads() // count)
            address = stack.enter_context(_local_cluster(distributed, count))
        try:
            client = stack.enter_context(distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False))
        except (OSError, ValueError) as error:
            raise ClusterError(
                f"A Dask scheduler should answer at {address}; it does not ({first_line(error)}). "
                "Start one with `dask scheduler`, or use --cluster local:N."
            ) from error
        cluster = Cluster(client, address, threads)
        _check_workers(cluster)
        yield cluster


@contextmanager
def _local_cluster(distributed: Any, count: int) -> Iterator[str]:
    """Processes on this machine; yields the scheduler's address."""
    with distributed.LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        processes=True,
        dashboard_address="127.0.0.1:0",
        memory_limit=0,  # the model takes what it takes; the system, not Dask, ends a process that has too much
        silence_logs=logging.CRITICAL,
        preload=[_IGNORE_CTRL_C],
    ) as cluster:
        yield cluster.scheduler_address


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise ClusterError(
            'A cluster needs dask.distributed, which is not installed: pip install "surgicalsam-napari[cluster]".'
        ) from error
    return distributed


def _check_workers(cluster: Cluster) -> None:
    """A ClusterError unless there are workers, and each of them has this version of the package."""
    try:
        cluster.client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        versions = cluster.client.run(_package_version)
    except TimeoutError as error:
        raise ClusterError(
            f"The cluster at {cluster.address} has no workers. Start some: dask worker {cluster.address} --nthreads 1."
        ) from error
    except ImportError as error:
        raise ClusterError(
            f"The workers of {cluster.address} need surgicalsam-napari, and have none ({first_line(error)}). "
            f"Install version {_package_version()} in their environment."
        ) from error
    others = sorted({f"{found} on {worker}" for worker, found in versions.items() if found != _package_version()})
    if others:
        raise ClusterError(
            f"Workers need surgicalsam-napari {_package_version()}, as there is here; found {', '.join(others)}. "
            "Install the same version everywhere."
        )


def _package_version() -> str:
    return version("surgicalsam-napari")


def first_line(reason: object) -> str:
    return (str(reason).splitlines() or [type(reason).__name__])[0]
