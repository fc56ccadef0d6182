"""The record that describes a dataset format to readers, writers, the command line and the window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from surgicalsam_napari.exchange.dataset import Dataset
from surgicalsam_napari.instruments import ClassSet


class FrameWriter(Protocol):
    """Writes a dataset in one format: `write` for each frame, then `close`."""

    def write(
        self, frame_index: int, label_map: np.ndarray, image: np.ndarray | None, annotated: tuple[int, ...]
    ) -> None: ...
    def close(self) -> None: ...


class WriterFactory(Protocol):
    def __call__(self, folder: Path, classes: ClassSet, video: str, sequence: str) -> FrameWriter: ...


class OwnedFiles(NamedTuple):
    """Files that an export writes: a glob below its folder, and a regular expression for their whole stems."""

    glob: str
    stem: str


@dataclass(frozen=True)
class Format:
    """One dataset format.

    Attributes
    ----------
    name : used on the command line, in classes.json and in folder names, such as "indexed-png"
    title : shown in the window
    looks_like : an example of its files, for the message about a folder that no format recognizes
    recognizes : whether a path looks like this format
    read_dataset : opens a recognized path; the class set is for datasets that have only class numbers
    precedence : if several formats recognize a path, the one with the lowest number reads it
    writer : None if labels cannot be exported in this format
    owned_files : the files of an export besides classes.json, used to find and replace an earlier export
    napari_name : shown in napari's Save dialog; None if the dialog does not offer this format
    """

    name: str
    title: str
    looks_like: str
    recognizes: Callable[[Path], bool]
    read_dataset: Callable[[Path, ClassSet | None], Dataset]
    precedence: int = 1
    writer: WriterFactory | None = None
    owned_files: tuple[OwnedFiles, ...] = ()
    napari_name: str | None = None

    @property
    def napari_command(self) -> str | None:
        """The writer's name in `widgets/contributions/writers.py`, such as "write_indexed_png"."""
        return None if self.napari_name is None else f"write_{self.name.replace('-', '_')}"
