"""Several processes that train together, started by `torchrun`; one process alone is a group of one."""

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

PATIENCE = timedelta(days=1)  # the first process may validate, or embed, for long while the others wait
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
        """The module with its gradients averaged over all processes; itself where there is one process."""
        if self.count == 1:
            return module
        # parts that no loss reaches (the IoU head, as in the paper) are left without a gradient in every process
        return DistributedDataParallel(module, find_unused_parameters=True)

    def share(self, items: Sequence[Item]) -> list[Item]:
        """This process's part: every `count`-th, from `rank`."""
        return list(items[self.rank :: self.count])

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in each of them."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values

    def collected(self, rows: Tensor) -> Tensor:
        """The rows (N, …) of all processes, N differing among them, one after the other, in each of them."""
        if self.count == 1:
            return rows
        parts: list[Tensor | None] = [None] * self.count
        distributed.all_gather_object(parts, rows.cpu())
        return torch.cat([part for part in parts if part is not None]).to(rows.device)

    def told(self, flag: bool) -> bool:
        """Whether it is so in the first process; the others are told."""
        if self.count == 1:
            return flag
        word = [flag]
        distributed.broadcast_object_list(word, src=0)
        return word[0]

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            distributed.barrier()


ALONE = Processes()


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """Join the group that torchrun's environment variables describe; alone where there are none."""
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
