"""The driver of long work: generators in another thread, signals in this one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

pytest.importorskip("qtpy.QtWidgets")

from qtpy.QtCore import QThread, QThreadPool

from surgicalsam_napari.errors import ExchangeError, WorkFailed
from surgicalsam_napari.widgets.runs.run import Run

TIMEOUT = 20_000


@dataclass(frozen=True)
class Progress:
    done: int
    total: int


class Work:
    """A generator that counts to `total`, one step for each `allow`, and records the thread in which it was closed."""

    def __init__(self, total: int = 3, error: Exception | None = None) -> None:
        self.total, self.error = total, error
        self.steps = threading.Semaphore(0)
        self.closed_in: list[int] = []

    def allow(self, count: int = 1) -> None:
        for _ in range(count):
            self.steps.release()

    def reports(self) -> Iterator[Progress]:
        try:
            for done in range(1, self.total + 1):
                assert self.steps.acquire(timeout=TIMEOUT / 1000)
                yield Progress(done, self.total)
            if self.error is not None:
                raise self.error
            return "all done"
        finally:
            self.closed_in.append(threading.get_ident())


class Listener:
    """The signals of a run, in order, and the threads in which they came."""

    def __init__(self, run: Run) -> None:
        self.received: list[object] = []
        self.threads: set[QThread] = set()
        run.started.connect(lambda: self._record("started"))
        run.reported.connect(lambda report: self._record(report.done))
        run.failed.connect(self._record)
        run.finished.connect(lambda is_complete: self._record(("finished", is_complete)))

    def _record(self, signal: object) -> None:
        self.received.append(signal)
        self.threads.add(QThread.currentThread())


@pytest.fixture
def run(qtbot) -> Iterator[Run]:
    run = Run()
    yield run
    run.cancel()
    qtbot.waitUntil(lambda: not run.is_running, timeout=TIMEOUT)
    QThreadPool.globalInstance().waitForDone(TIMEOUT)


@pytest.fixture
def listener(run) -> Listener:
    return Listener(run)


def wait(qtbot, run: Run) -> None:
    qtbot.waitUntil(lambda: not run.is_running, timeout=TIMEOUT)


def test_a_run_reports_and_ends_with_what_its_generator_returned(qtbot, run, listener):
    work = Work()
    work.allow(3)
    assert run.start(work.reports)
    assert run.is_running
    wait(qtbot, run)
    assert listener.received == ["started", 1, 2, 3, ("finished", True)]
    assert listener.threads == {QThread.currentThread()}
    assert (run.result, run.last_report, run.error) == ("all done", Progress(3, 3), None)
    assert run.is_complete
    assert not run.is_cancelled


def test_progress_comes_with_the_time_left(qtbot, run):
    work = Work(total=4)
    run.start(work.reports)
    assert run.seconds_left is None
    qtbot.wait(50)
    work.allow()
    qtbot.waitUntil(lambda: run.last_report == Progress(1, 4), timeout=TIMEOUT)
    assert run.seconds_left > 3 * 0.04  # three more steps, each as long as the first
    work.allow(3)
    wait(qtbot, run)
    assert run.seconds_left == 0


def test_a_report_without_a_total_has_no_time_left(qtbot, run):
    run.start(lambda: iter(["preparing"]))
    wait(qtbot, run)
    assert (run.last_report, run.seconds_left, run.is_complete) == ("preparing", None, True)


def test_a_second_run_is_refused_while_one_is_running(qtbot, run, listener):
    first, second = Work(), Work()
    run.start(first.reports)
    assert not run.start(second.reports)
    first.allow(3)
    wait(qtbot, run)
    assert listener.received == ["started", 1, 2, 3, ("finished", True)]
    assert second.closed_in == []


def test_cancel_closes_the_generator_in_its_own_thread_before_the_run_ends(qtbot, run, listener):
    work, closed_at_the_end = Work(), []
    run.finished.connect(lambda _is_complete: closed_at_the_end.extend(work.closed_in))
    run.reported.connect(lambda report: report.done == 1 and (run.cancel(), work.allow(2)))
    work.allow()
    run.start(work.reports)
    wait(qtbot, run)
    assert listener.received[-1] == ("finished", False)
    assert 3 not in listener.received
    assert len(closed_at_the_end) == 1
    assert closed_at_the_end[0] != threading.get_ident()
    assert run.is_cancelled
    assert run.result is None


def test_cancel_unblocks_work_also_if_it_begins_to_wait_later(qtbot, run, listener):
    waits, may_go_on, calls = threading.Event(), threading.Event(), []

    def reports() -> Iterator[Progress]:
        waits.set()
        assert may_go_on.wait(TIMEOUT / 1000)
        yield Progress(1, 2)

    run.unblock = lambda: calls.append(1) or (len(calls) == 3 and may_go_on.set())
    run.start(reports)
    qtbot.waitUntil(waits.is_set, timeout=TIMEOUT)
    run.cancel()
    wait(qtbot, run)
    assert len(calls) >= 3
    assert run.is_cancelled


def test_cancel_without_a_run_does_nothing(qtbot, run):
    run.cancel()
    assert not run.is_cancelled
    work = Work()
    work.allow(3)
    run.start(work.reports)
    wait(qtbot, run)
    assert run.is_complete


def test_a_failure_is_reported_once_and_the_run_ends(qtbot, run, listener):
    error = ExchangeError("The folder is full. Choose another.")
    work = Work(total=2, error=error)
    work.allow(2)
    run.start(work.reports)
    wait(qtbot, run)
    assert listener.received == ["started", 1, 2, error, ("finished", False)]
    assert (run.error, run.result) == (error, None)
    assert not run.is_complete
    assert not run.is_cancelled


def test_a_cancelled_run_that_fails_has_failed(qtbot, run):
    def fails_when_closed() -> Iterator[Progress]:
        try:
            for done in range(1, 1000):
                yield Progress(done, 1000)
        finally:
            raise ExchangeError("It cannot be rolled back. Free some space.")

    run.reported.connect(lambda _report: run.cancel())
    run.start(fails_when_closed)
    wait(qtbot, run)
    assert isinstance(run.error, ExchangeError)
    assert not run.is_cancelled


@pytest.mark.parametrize("total", [0, 2])
def test_a_runtime_error_is_a_failure_in_one_line(qtbot, run, listener, total):
    """superqt treats a RuntimeError in a worker as a deleted window, and emits nothing."""
    work = Work(total, error=RuntimeError("CUDA out of memory.\nTried to allocate 2 GiB"))
    work.allow(total)
    run.start(work.reports)
    wait(qtbot, run)
    assert isinstance(run.error, WorkFailed)
    assert str(run.error) == "The run stopped: CUDA out of memory."
    assert listener.received[-2:] == [run.error, ("finished", False)]


def test_a_new_run_starts_without_the_results_of_the_last(qtbot, run):
    failing = Work(total=1, error=ExchangeError("No."))
    failing.allow()
    run.start(failing.reports)
    wait(qtbot, run)
    work = Work(total=1)
    run.start(work.reports)
    assert (run.error, run.last_report, run.seconds_left) == (None, None, None)
    work.allow()
    wait(qtbot, run)
    assert (run.error, run.result, run.is_complete) == (None, "all done", True)
