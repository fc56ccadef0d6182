"""Stages of a run that work at the same time: compute the next items while earlier ones are written."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

Job = TypeVar("Job")
Result = TypeVar("Result")

# a CPU computes one job at a time, which keeps its cores busy; elsewhere one is sent, one computed and one received
COMPUTED_AT_ONCE = {"cuda": 2, "elsewhere": 3}
GIVE_UP_SECONDS = 0.1
WRITTEN_IN_TURN = {"cpu"}  # a writing thread takes a core from matrix products, which need all cores
_streams = threading.local()


def written(
    items: Generator[Job, None, None], write: Callable[[Job], Result], device_type: str
) -> Generator[tuple[Job, Result], None, None]:
    """Write each item: on a GPU while the next one is computed (`written_behind`), on a CPU before that.

    Yields
    ------
    each item, after it is written, and the result of `write`
    """
    if device_type not in WRITTEN_IN_TURN:
        yield from written_behind(items, write)
        return
    with closing(items):
        for item in items:
            yield item, write(item)


def written_behind(
    items: Generator[Job, None, None], write: Callable[[Job], Result]
) -> Generator[tuple[Job, Result], None, None]:
    """Write each item in a separate thread while the next one is made; the first one at once.

    Closing the generator closes `items`. Then only the yielded items have been written.

    Yields
    ------
    each item, after it is written, and the result of `write`

    Raises
    ------
    Exception
        of `items`, after all earlier items are written and yielded; of `write`, when its item is due
    """
    with ThreadPoolExecutor(1, thread_name_prefix="writer") as writer, closing(items):
        behind: tuple[Job, Future[Result]] | None = None
        is_first = True
        while isinstance(made := _next(items), tuple):
            if behind is not None:
                yield behind[0], behind[1].result()
            behind = made[0], writer.submit(write, made[0])
            if is_first:
                yield behind[0], behind[1].result()
                behind, is_first = None, False
        if behind is not None:
            yield behind[0], behind[1].result()
        if made is not None:
            raise made


def computed_ahead(
    jobs: Generator[Job, None, None],
    compute: Callable[[Job], Result],
    at_once: int,
    give_up: Callable[[], None] | None = None,
) -> Generator[tuple[Job, Result], None, None]:
    """Compute jobs in order: the first one alone, so that its result is ready at once, then several at a time.

    With two at a time on a GPU, one batch is decoded, resized and copied while the other is computed. Each `compute`
    should then use a separate stream (`own_stream`). With one at a time, nothing is computed before it is due.

    Parameters
    ----------
    give_up : lets a `compute` that waits for something fail; called if the generator is closed or fails before its end

    Raises
    ------
    Exception
        of `jobs` or `compute`, when its job is due, not before
    """
    if at_once == 1:
        with closing(jobs):
            for job in jobs:
                yield job, compute(job)
        return
    with ThreadPoolExecutor(at_once, thread_name_prefix="computer") as computers, closing(jobs):
        pending: deque[tuple[Job, Future[Result]]] = deque()
        ahead, is_complete = 0, False
        submitted: deque[Future[Result]] = deque(maxlen=at_once + 2)  # those that may still be under way
        try:
            while isinstance(made := _next(jobs), tuple):
                submitted.append(computers.submit(compute, made[0]))
                pending.append((made[0], submitted[-1]))
                while len(pending) > ahead:  # one more than is computed at a time: no thread waits for the reader
                    due, result = pending.popleft()
                    yield due, result.result()
                ahead = at_once
            while pending:
                due, result = pending.popleft()
                yield due, result.result()
            is_complete = True
        finally:
            for _job, result in pending:
                result.cancel()
            # again and again: a thread may begin to wait only now
            while give_up is not None and not is_complete and wait(submitted, GIVE_UP_SECONDS).not_done:
                give_up()
        if made is not None:
            raise made


def _next(items: Iterator[Job]) -> tuple[Job] | Exception | None:
    """The next item, alone in a tuple; the exception raised instead of it; None at the end."""
    try:
        return (next(items),)
    except StopIteration:
        return None
    except Exception as error:
        return error


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """Let the calling thread work on a separate CUDA stream; no effect on another device."""
    if device.type != "cuda":
        yield
        return
    import torch

    if getattr(_streams, "device", None) != device:
        _streams.device, _streams.stream = device, torch.cuda.Stream(device)
        _streams.stream.wait_stream(torch.cuda.default_stream(device))  # it may still be copying the model
    with torch.cuda.stream(_streams.stream):
        yield
