"""File dialogs that open in the folder that the same kind of dialog used last, also after a restart."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QWidget

from surgicalsam_napari.preferences import Preferences, read_preferences, remember
from surgicalsam_napari.video import FILE_SUFFIXES

VIDEO_FILTER = f"Videos ({' '.join(f'*{suffix} *{suffix.upper()}' for suffix in FILE_SUFFIXES)});;All files (*)"
_SHORT_FILTERS = QFileDialog.Option.HideNameFilterDetails  # the list of all suffixes is longer than the dialog


class FileKind(StrEnum):
    """What a dialog asks for; each kind has a folder of its own."""

    VIDEOS = "videos"
    CHECKPOINTS = "checkpoints"
    CLASS_SETS = "class sets"
    LABELS = "labels"
    EXPORTS = "exports"
    TABLES = "tables"
    BACKUPS = "backups"
    CERTIFICATES = "certificates"


def ask_for_file(parent: QWidget, kind: FileKind, title: str, filters: str) -> Path | None:
    """The file that the user chooses; None if the dialog was cancelled."""
    path, _ = QFileDialog.getOpenFileName(parent, title, _start(kind), filters, "", _SHORT_FILTERS)
    return _chosen(kind, path)


def ask_for_files(parent: QWidget, kind: FileKind, title: str, filters: str) -> list[Path]:
    """The files that the user chooses; none if the dialog was cancelled."""
    paths, _ = QFileDialog.getOpenFileNames(parent, title, _start(kind), filters, "", _SHORT_FILTERS)
    return [Path(path) for path in paths if _chosen(kind, path)]


def ask_for_folder(parent: QWidget, kind: FileKind, title: str, first: Path | None = None) -> Path | None:
    """The folder that the user chooses; None if the dialog was cancelled. `first` is shown while none is remembered."""
    return _chosen(kind, QFileDialog.getExistingDirectory(parent, title, _start(kind, first)))


def ask_where_to_save(parent: QWidget, kind: FileKind, title: str, proposed: Path, filters: str) -> Path | None:
    """The file that the user chooses to write; None if the dialog was cancelled.

    Parameters
    ----------
    proposed : its name is proposed in any folder; its folder only while none is remembered
    """
    start = Path(_start(kind, proposed.parent)) / proposed.name
    path, _ = QFileDialog.getSaveFileName(parent, title, str(start), filters)
    return _chosen(kind, path)


def _start(kind: FileKind, first: Path | None = None) -> str:
    """The folder to show: the remembered one if it is still there."""
    remembered = read_preferences().folders.get(kind)
    if remembered is not None and remembered.is_dir():
        return str(remembered)
    return "" if first is None else str(first)


def _chosen(kind: FileKind, text: str) -> Path | None:
    if not text:
        return None
    path = Path(text)
    remember(partial(_with_folder, kind=kind, folder=path.absolute().parent))
    return path


def _with_folder(preferences: Preferences, kind: FileKind, folder: Path) -> Preferences:
    return preferences.model_copy(update={"folders": {**preferences.folders, kind.value: folder}})
