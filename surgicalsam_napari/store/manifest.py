"""project.json: the video of a project, its classes, the checkpoints that predicted in it, and the model in use."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from surgicalsam_napari import __version__
from surgicalsam_napari.errors import ClassSetError, ProjectError
from surgicalsam_napari.files import write_file
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store.disk.file_records import FileRecords
from surgicalsam_napari.store.disk.files import STAGING
from surgicalsam_napari.store.project_classes import ProjectClasses
from surgicalsam_napari.untrusted import read_json
from surgicalsam_napari.video import VideoInfo

MANIFEST = "project.json"
SCHEMA_VERSION = 1


class VideoRecord(BaseModel):
    """The record of a video: enough to find it again, and to recognise it after it has moved.

    Attributes
    ----------
    path : its last known place
    relative_path : the same, relative to the project folder; None on another drive
    byte_count : size of the file; None for a folder of images
    size : (H, W) in pixels
    fingerprint : of the file that the project was made with
    former_names : names that the file had before it was renamed
    known_files : fingerprints of other files that hold the same frames, such as one in another container; the latest ones
    samples : by frame index, `video.fingerprint.frame_sample` of a few frames; empty in a project of an earlier version
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    path: str
    relative_path: str | None
    byte_count: int | None
    fingerprint: str
    frame_count: int = Field(gt=0)
    size: tuple[int, int]
    frame_rate: float | None
    codec: str
    former_names: tuple[str, ...] = ()
    known_files: tuple[str, ...] = ()
    samples: dict[int, str] = Field(default_factory=dict)

    @classmethod
    def of(cls, info: VideoInfo, folder: Path) -> VideoRecord:
        """The record of a video for the project in `folder`."""
        path = Path(info.path).absolute()
        try:
            relative = Path(os.path.relpath(path, folder.absolute())).as_posix()
        except ValueError:  # another drive, on Windows
            relative = None
        return cls(
            path=str(path),
            relative_path=relative,
            byte_count=None if path.is_dir() else path.stat().st_size,
            fingerprint=info.fingerprint,
            frame_count=info.frame_count,
            size=info.size,
            frame_rate=info.frame_rate,
            codec=info.codec,
        )


class ModelRecord(BaseModel):
    """The model that was last used on a project, so that a window opens the project with it.

    Attributes
    ----------
    digest : of its weights, as in the record of the checkpoint
    name : for users
    path : of the checkpoint; None for the one that comes with the package
    relative_path : the same, relative to the project folder; None outside of it
    encoder_weights : path of the image encoder's file; None for the known weights on this disk
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    digest: str
    name: str
    path: str | None = None
    relative_path: str | None = None
    encoder_weights: str | None = None

    @classmethod
    def of(cls, digest: str, name: str, path: Path | None, encoder_weights: Path | None, folder: Path) -> ModelRecord:
        """The record of a model for the project in `folder`."""
        inside = path is not None and path.is_relative_to(folder)
        return cls(
            digest=digest,
            name=name,
            path=None if path is None else str(path),
            relative_path=path.relative_to(folder).as_posix() if path is not None and inside else None,
            encoder_weights=None if encoder_weights is None else str(encoder_weights),
        )

    def checkpoint(self, folder: Path) -> Path | None:
        """Where the checkpoint should be now, also after the project has moved; None for the bundled one."""
        if self.relative_path is not None:
            return folder / self.relative_path
        return None if self.path is None else Path(self.path)


class Manifest(BaseModel):
    """The content of project.json. Unknown fields, which a later minor version may add, are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    format: Literal["surgicalsam-project"] = "surgicalsam-project"
    schema_version: Literal[1] = 1
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    created_with: str = f"surgicalsam-napari {__version__}"
    video: VideoRecord
    class_set: dict[str, Any]
    checkpoints: tuple[dict[str, Any], ...] = ()
    model_in_use: ModelRecord | None = None
    is_parts: bool = False  # the labels of the parts of the instruments in the project around this folder
    has_file_records: bool = False  # whether files.json has the checksums of the files that belong to no frame
    has_checksums: bool = False  # whether every frame has: a project of an earlier version gets them when it is checked

    @field_validator("class_set")
    @classmethod
    def _is_class_set(cls, record: dict[str, Any]) -> dict[str, Any]:
        try:
            ProjectClasses.from_json(record)
        except ClassSetError as error:
            raise ValueError(str(error)) from error
        return record

    @property
    def project_classes(self) -> ProjectClasses:
        return ProjectClasses.from_json(self.class_set)

    @property
    def classes(self) -> ClassSet:
        """The classes in use, in the order in which they are shown."""
        return self.project_classes.in_use

    @property
    def video_path(self) -> Path:
        """The last known place of the video."""
        return Path(self.video.path)

    def changed(self, **fields: Any) -> Manifest:
        return self.model_copy(update=fields)


def read_manifest(folder: Path) -> Manifest:
    """Read and check a project's manifest; a ProjectError if it is missing, damaged or too new."""
    path = folder / MANIFEST
    try:
        record = read_json(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ProjectError(
            f"A project folder holds a {MANIFEST}, and {folder} has none. Choose a *.surgicalsam folder, or restore the "
            "file from a backup."
        ) from error
    except OSError as error:
        raise ProjectError(f"{path} cannot be read ({error.strerror}). Check its permissions and the disk.") from error
    except ValueError as error:
        raise _damaged(path, "it is not JSON") from error
    if not isinstance(record, dict) or not isinstance(record.get("schema_version"), int):
        raise _damaged(path, "it has no schema_version")
    if record["schema_version"] > SCHEMA_VERSION:
        raise ProjectError(
            f"{folder.name} has schema version {record['schema_version']}; this surgicalsam-napari {__version__} reads up "
            f"to {SCHEMA_VERSION}. Update it: pip install --upgrade surgicalsam-napari."
        )
    try:
        return Manifest.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise _damaged(path, f"{place}: {first['msg']}") from error


def _damaged(path: Path, what: str) -> ProjectError:
    return ProjectError(
        f"{path} does not describe a project ({what}). Restore it from a backup, or start a project in another folder; "
        "zarr can still read the labels beside it."
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest, completely or not at all; may raise OSError."""
    content = json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False).encode("utf-8")
    with FileRecords(folder).replacing(MANIFEST, content):
        write_file(folder / MANIFEST, content, staging=folder / STAGING, durable=True)
