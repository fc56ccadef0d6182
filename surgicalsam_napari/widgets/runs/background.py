"""Work in another thread: one function, or a generator that yields reports.

The callbacks run in the GUI thread. The work in the other thread must not touch widgets.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

from superqt.utils import WorkerBase, create_worker

from surgicalsam_napari.errors import WorkFailed

CPU_THREADS_LEFT_FOR_THE_WINDOW = 1


def keep_a_core_for_the_window() -> None:
    """Let torch use all cores but one if there are more than two, so that the window stays responsive."""
    import torch

    threads = torch.get_num_threads()
    if threads > 2:  # the operating system shares two cores well enough
        torch.set_num_threads(threads - CPU_THREADS_LEFT_FOR_THE_WINDOW)


def run_in_background(
    work: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[Exception], None]
) -> WorkerBase:
    """Call `work` in another thread, then `done(result)` or `failed(error)` in this one."""

    def guarded() -> Any:
        try:
            return work()
        except RuntimeError as error:
            raise WorkFailed(_one_line(error)) from error

    return create_worker(guarded, _start_thread=True, _ignore_errors=True, _connect={"returned": done, "errored": failed})


def run_reports_in_background(
    start: Callable[[], Iterator[Any]],
    reported: Callable[[Any], None],
    failed: Callable[[Exception], None],
    finished: Callable[[], None],
) -> WorkerBase:
    """Run the generator that `start` returns in another thread; `quit()` on the worker stops it after the next report.

    `finished` comes last in every case: at the end, after `quit`, and after `failed`. The generator is closed by then.
    """
    generators: list[Iterator[Any]] = []

    def guarded() -> Iterator[Any]:
        # superqt 0.9 treats a RuntimeError (for example CUDA out of memory) as a deleted window, and does not report it
        try:
            generators.append(start())
            yield from generators[0]
        except RuntimeError as error:
            raise WorkFailed(_one_line(error)) from error

    def close() -> None:
        for reports in generators:  # superqt does not close a stopped generator, and its files stay open
            if isinstance(reports, Generator):
                reports.close()

    return create_worker(
        guarded,
        _start_thread=True,
        _ignore_errors=True,
        _connect={"yielded": reported, "errored": failed, "finished": [close, finished]},
    )


def _one_line(error: RuntimeError) -> str:
    reason = str(error).strip().splitlines()
    return f"The run stopped: {reason[0] if reason else type(error).__name__}"
