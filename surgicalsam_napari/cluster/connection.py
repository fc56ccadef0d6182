"""Connect to a Dask cluster, or start one on this machine."""

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
# Ctrl-C in a terminal reaches every process; workers ignore it, because the client stops them after their current frame
_IGNORE_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


@dataclass(frozen=True)
class Cluster:
    """A connected cluster.

    Attributes
    ----------
    threads : of torch in each worker, if the cluster was started here on this machine's CPU; None if workers decide
    """

    client: Client
    address: str
    threads: int | None

    def workers(self) -> list[str]:
        """The addresses of the current workers; a ClusterError if the scheduler no longer answers."""
        try:
            return list(self.client.nthreads())
        except (OSError, RuntimeError) as error:
            raise self.lost(error) from error

    def lost(self, reason: object) -> ClusterError:
        """The error to raise if the scheduler no longer answers."""
        return ClusterError(
            f"The scheduler at {self.address} should answer; it no longer does ({first_line(reason)}). "
            "Run the same command again when it is back: finished frames are kept."
        )


@contextmanager
def connected(address: str) -> Iterator[Cluster]:
    """Connect to the cluster with this scheduler address; "local:N" starts one of N processes on this machine.

    Raises
    ------
    ClusterError
        dask.distributed is not installed, nothing answers at the address, or the workers lack this package
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
        memory_limit=0,  # a model's need is not known; the system, not Dask, ends a process that uses too much
        silence_logs=logging.CRITICAL,
        preload=[_IGNORE_CTRL_C],
    ) as cluster:
        yield cluster.scheduler_address


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise ClusterError(
            'A cluster needs dask.distributed, which is not installed. Run: pip install "surgicalsam-napari[cluster]".'
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
            f"The workers of {cluster.address} need surgicalsam-napari; they do not have it ({first_line(error)}). "
            f"Install version {_package_version()} in their environment."
        ) from error
    expected = _package_version()
    others = sorted({f"{actual} on {worker}" for worker, actual in versions.items() if actual != expected})
    if others:
        raise ClusterError(
            f"Workers need surgicalsam-napari {expected}, as on this machine; found {', '.join(others)}. "
            "Install the same version everywhere."
        )


def _package_version() -> str:
    return version("surgicalsam-napari")


def first_line(reason: object) -> str:
    return (str(reason).splitlines() or [type(reason).__name__])[0]
