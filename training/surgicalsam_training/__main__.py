"""`python -m surgicalsam_training RUN`: train in a separate process; reports go to stdout, one per line (see `launch`)."""

from __future__ import annotations

import contextlib
import os
import sys

from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_training.loop.processes import joined_processes
from surgicalsam_training.loop.trainer import train
from surgicalsam_training.reports import EXIT_CODE_OF_ERROR, to_line
from surgicalsam_training.run.run_folder import RunFolder


def main(path: str) -> int:
    """Exit code 0: finished or cancelled. EXIT_CODE_OF_ERROR: an error; its message is the last line of stderr."""
    with contextlib.suppress(OSError, AttributeError):  # AttributeError: Windows has no nice
        os.nice(10)  # the window that started it must stay fast
    try:
        with joined_processes() as processes:
            for report in train(RunFolder.open(path), processes):
                if processes.is_first:
                    print(to_line(report), flush=True)
    except SurgicalSAMError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return EXIT_CODE_OF_ERROR
    except BrokenPipeError:  # the window was closed; the run can be resumed
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
