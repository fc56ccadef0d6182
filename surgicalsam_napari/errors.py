"""The errors a user can meet.

Each message is one line: what was expected, what was found, what to do. The command line prints it and exits with code 1;
the window shows it as a notification. Anything that is not a `SurgicalSAMError` is a defect of ours.
"""


class SurgicalSAMError(Exception):
    """The base of every error whose message is written for the user."""


class VideoError(SurgicalSAMError):
    """A video or image folder cannot be read as frames of one size."""


class ClassSetError(SurgicalSAMError):
    """An instrument class or a class-set file is not what it should be."""


class CheckpointError(SurgicalSAMError):
    """Weights are missing, damaged, or made for something else."""


class DownloadError(SurgicalSAMError):
    """Known weights could not be fetched whole."""


class ProjectError(SurgicalSAMError):
    """A project folder is missing, damaged, read-only, or of a newer schema."""


class DiskSpaceError(SurgicalSAMError):
    """The disk is full, or would be before the work ends."""


class DeviceError(SurgicalSAMError):
    """The compute device asked for is missing, or its memory too small for one frame."""


class WorkFailed(SurgicalSAMError):
    """A background run stopped; carries the reason (napari's workers swallow a bare RuntimeError)."""
