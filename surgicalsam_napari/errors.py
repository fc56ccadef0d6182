"""Errors with a message for the user.

Each message is one line: expectation, value, remedy. The command line prints it and exits with code 1;
the window shows it in the panel where it arose, until it is dismissed. Any other exception is a bug.
"""

from __future__ import annotations

from collections.abc import Sequence


class SurgicalSAMError(Exception):
    """The base of all errors with a message for the user."""


class VideoError(SurgicalSAMError):
    """A video or image folder cannot be read as frames of one size."""


class UnreachableVideoError(VideoError):
    """The file of a video is gone, because its disk or share is. It may come back."""


class ClassSetError(SurgicalSAMError):
    """An instrument class or a class-set file is invalid."""


class CheckpointError(SurgicalSAMError):
    """Weights are missing, damaged, or made for something else."""


class DownloadError(SurgicalSAMError):
    """Known weights could not be downloaded completely."""


class ProjectError(SurgicalSAMError):
    """A project folder is missing, damaged, read-only, or of a newer schema."""


class UnreachableError(ProjectError):
    """A project cannot be read or written now: its folder is gone or read-only, or its disk fails. It may come back."""


class VideoChangedError(ProjectError):
    """The file of a project's video has changed, but holds its frames: a person decides whether to go on with the project.

    Attributes
    ----------
    question : for the person, with the facts
    """

    def __init__(self, message: str, question: str) -> None:
        super().__init__(message)
        self.question = question


class DiskSpaceError(SurgicalSAMError):
    """The disk is full, or would be before the work ends."""


class DeviceError(SurgicalSAMError):
    """The compute device asked for is missing, or its memory too small for one frame."""


class ExchangeError(SurgicalSAMError):
    """A dataset cannot be read, or labels and frames do not fit together; may carry one problem per file.

    Attributes
    ----------
    problems : one line per file, with its name; empty if the message is complete
    """

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class ClusterError(SurgicalSAMError):
    """A cluster cannot be reached, or its workers cannot do the work."""


class WorkerError(SurgicalSAMError):
    """A worker on another machine cannot embed frames."""


class WorkerLost(WorkerError):
    """A worker does not answer, or the line to it is cut. It may come back."""


class WorkerRefused(WorkerError):
    """A worker, or what it sends, must not be used: another version, other weights, a wrong certificate, or no TLS."""


class TrainingError(SurgicalSAMError):
    """A training cannot start or resume: its data, configuration or run folder is invalid."""


class WorkFailed(SurgicalSAMError):
    """A background run stopped; carries the reason (napari's workers swallow a bare RuntimeError)."""
