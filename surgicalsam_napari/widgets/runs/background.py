"""Work off the GUI thread: one function, or a generator whose reports arrive one by one.

The callbacks run in the GUI thread. Nothing here may touch a widget from the other thread.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

from napari.qt.threading import WorkerBase, create_worker
from napari.utils.notifications import notification_manager, show_error

from surgicalsam_napari.errors import SurgicalSAMError, WorkFailed

CPU_THREADS_LEFT_FOR_THE_WINDOW = 1


def keep_a_core_for_the_window() -> None:
    """Let torch compute on all cores but one, where there are enough, so that the window stays live."""
    import torch

    threads = torch.get_num_threads()
    if threads > 2:  # on two cores the operating system shares them well enough
        torch.set_num_threads(threads - CPU_THREADS_LEFT_FOR_THE_WINDOW)


def run_in_background(
    work: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[Exception], None] | None = None
) -> WorkerBase:
    """Call `work` in another thread, then `done(result)` or `failed(error)` in this one."""

    def guarded() -> Any:
        try:
            return work()
        except RuntimeError as error:
            raise WorkFailed(_one_line(error)) from error

    return create_worker(
        guarded, _start_thread=True, _ignore_errors=True, _connect={"returned": done, "errored": failed or show_failure}
    )


def run_reports_in_background(
    start: Callable[[], Iterator[Any]],
    reported: Callable[[Any], None],
    failed: Callable[[Exception], None],
    finished: Callable[[], None],
) -> WorkerBase:
    """Drive the generator that `start` returns in another thread; `quit()` on the worker stops it after the next report.

    `finished` comes last in every case: at the end, after `quit`, and after `failed`. The generator is closed by then.
    """
    begun: list[Iterator[Any]] = []

    def guarded() -> Iterator[Any]:
        # superqt 0.9 takes a RuntimeError (CUDA out of memory is one) for a deleted window, and stays silent
        try:
            begun.append(start())
            yield from begun[0]
        except RuntimeError as error:
            raise WorkFailed(_one_line(error)) from error

    def close() -> None:
        for reports in begun:  # superqt leaves one that was stopped as it is, with all that it holds open
            if isinstance(reports, Generator):
                reports.close()

    return create_worker(
        guarded,
        _start_thread=True,
        _ignore_errors=True,
        _connect={"yielded": reported, "errored": failed, "finished": [close, finished]},
    )


def show_failure(error: Exception) -> None:
    """A user's mistake as its one line; a defect of ours with its traceback."""
    if isinstance(error, SurgicalSAMError):
        show_error(str(error))
    else:
        notification_manager.receive_error(type(error), error, error.__traceback__)


def _one_line(error: RuntimeError) -> str:
    reason = str(error).strip().splitlines()
    return f"The run stopped: {reason[0] if reason else type(error).__name__}"
