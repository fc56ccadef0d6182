"""A training in a separate process: the window stays responsive, and the GPU memory is free again at the end."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Generator

from surgicalsam_napari.errors import TrainingError
from surgicalsam_training.reports import EXIT_CODE_OF_ERROR, Report, ResultReport, from_line
from surgicalsam_training.run.run_folder import RunFolder

LINES_OF_LOG = 12
SECONDS_TO_STOP = 60.0  # to finish the current step; then the process is killed, and the run can be resumed


def train_in_process(run: RunFolder) -> Generator[Report, None, ResultReport]:
    """Train as `trainer.train` does, in another process; its other output goes into the run's log.

    Closing the generator asks the process to stop and waits for it; the best checkpoint so far is kept.

    Raises
    ------
    TrainingError
        the error message of the process; or, if it crashed, its last lines and which checkpoint was kept
    """
    with run.log.open("a", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "surgicalsam_training", str(run.path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            encoding="utf-8",
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                report = from_line(line)
                if report is None:
                    log.write(line)
                    log.flush()
                else:
                    yield report
            code = process.wait()
        finally:
            _stop(process, run)
            process.stdout.close()
    result = run.result()
    if code == 0 and result is not None:
        return result
    raise TrainingError(_why_it_ended(run, code))


def last_lines(run: RunFolder, count: int = LINES_OF_LOG) -> list[str]:
    """The last lines of the run's log."""
    with contextlib.suppress(FileNotFoundError):
        return run.log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
    return []


def _stop(process: subprocess.Popen, run: RunFolder) -> None:
    if process.poll() is not None:
        return
    run.request_stop()
    try:
        process.communicate(timeout=SECONDS_TO_STOP)  # keeps reading: a full pipe would block the process
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _why_it_ended(run: RunFolder, code: int) -> str:
    lines = last_lines(run)
    if code == EXIT_CODE_OF_ERROR and lines:
        return lines[-1]
    how = f"with code {code}"
    if code < 0:
        with contextlib.suppress(ValueError):
            how = f"by {signal.Signals(-code).name}"
        if -code == getattr(signal, "SIGKILL", None):
            how += " (perhaps memory ran out)"
    kept = "The best checkpoint so far is kept" if run.best_checkpoint.exists() else "No checkpoint was made yet"
    output = "\n".join(["Its last lines:", *lines]) if lines else "It printed nothing."
    return f"The training process ended {how}. {kept}. Start the run again to resume it. {output}"
