"""Several processes that train together, started by `torchrun`; a single process is a group of one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

PATIENCE = timedelta(days=1)  # the others wait while the first process validates or embeds
Item = TypeVar("Item")


@dataclass(frozen=True)
class Processes:
    """This process is number `rank` of `count`."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module with its gradients averaged over all processes; the module itself if there is one process."""
        if self.count == 1:
            return module
        # some parts have no loss (the IoU head, as in the paper) and get no gradient in any process
        return DistributedDataParallel(module, find_unused_parameters=True)

    def share(self, items: Sequence[Item]) -> list[Item]:
        """This process's part: every `count`-th item, starting at `rank`."""
        return list(items[self.rank :: self.count])

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes; every process gets it."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values

    def collected(self, rows: Tensor) -> Tensor:
        """The rows (N, …) of all processes, concatenated; N may differ between processes."""
        if self.count == 1:
            return rows
        parts: list[Tensor | None] = [None] * self.count
        distributed.all_gather_object(parts, rows.cpu())
        return torch.cat([part for part in parts if part is not None]).to(rows.device)

    def broadcast(self, flag: bool) -> bool:
        """The flag of the first process, in every process."""
        if self.count == 1:
            return flag
        flags = [flag]
        distributed.broadcast_object_list(flags, src=0)
        return flags[0]

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            distributed.barrier()


ALONE = Processes()


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """Join the group that torchrun's environment variables describe; without them, a single process."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    on_cuda = torch.cuda.is_available()
    if on_cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if on_cuda else "gloo", timeout=PATIENCE)
    try:
        yield Processes(distributed.get_rank(), count)
    finally:
        distributed.destroy_process_group()
