"""Making the folder of a new project, completely or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.store.disk.file_records import FileRecords
from surgicalsam_napari.store.disk.files import writing
from surgicalsam_napari.store.labels.label_store import LabelStore
from surgicalsam_napari.store.manifest import Manifest, write_manifest
from surgicalsam_napari.store.provenance import class_attributes


def create_folder(folder: Path, manifest: Manifest, temporary: Path) -> None:
    """Make a project folder, completely or not at all; first under a temporary name."""
    try:
        with writing("A new project", folder.parent):
            temporary.parent.mkdir(parents=True, exist_ok=True)
            _write_new(temporary, manifest)
            if folder.exists():
                folder.rmdir()
            os.rename(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _write_new(folder: Path, manifest: Manifest) -> None:
    """Fill a new project folder; the manifest is written last."""
    import zarr

    attributes = {"format": manifest.format, "schema_version": manifest.schema_version}
    zarr.create_group(folder, attributes={**attributes, **class_attributes(manifest.classes)})
    if not manifest.is_parts:
        zarr.create_group(folder / "embeddings")
    LabelStore.create(folder, (manifest.video.frame_count, *manifest.video.size), manifest.classes)
    write_manifest(folder, manifest)
    FileRecords(folder).begin()


def check_creatable(folder: Path) -> None:
    """A ProjectError with another way to choose the folder, if the project cannot be made here."""
    existing = folder.parent
    while not existing.exists():
        existing = existing.parent
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ProjectError(
            f"A new project needs a writable folder, {existing} is read-only. Choose another one: "
            "--project-folder DIR on the command line, Session.open(path, project_folder=DIR) in Python."
        )
