"""Writes a dataset: all frames or nothing; an earlier export in the folder is replaced only if a person allows it."""

from __future__ import annotations

import os
import re
import shutil
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.files import not_written
from surgicalsam_napari.exchange.format import POLYGONS, ExportTarget, Format, FrameToWrite, FrameWriter
from surgicalsam_napari.exchange.registry import EXPORT_FORMATS
from surgicalsam_napari.exchange.sidecar import SIDECAR, Sidecar, read_sidecar, write_sidecar

_PARTIAL = ".partial-export"


@dataclass(frozen=True)
class ExportReport:
    """One frame was written.

    Attributes
    ----------
    frame_index : of its video
    """

    frame_index: int
    done: int
    total: int


def export_format(name: str, *, polygons: bool = False) -> Format:
    """The format of this name; an ExchangeError if labels cannot be written in it, or not as polygons."""
    if name not in EXPORT_FORMATS:
        raise ExchangeError(f'The export formats are {", ".join(EXPORT_FORMATS)}; got "{name}". Choose one of these.')
    format = EXPORT_FORMATS[name]
    if polygons and POLYGONS not in format.shapes:
        able = ", ".join(other.name for other in EXPORT_FORMATS.values() if POLYGONS in other.shapes)
        raise ExchangeError(f"{format.title} holds masks, not polygons. Export without polygons, or choose one of {able}.")
    return format


def check_target(out: Path, *, overwrite: bool) -> None:
    """An ExchangeError if the folder contains labels that the export must not replace."""
    earlier = list(_earlier_export(out))
    if earlier and not overwrite:
        raise ExchangeError(
            f"{out} already contains an export ({earlier[0].name}). Choose another folder, or replace the export "
            "(--overwrite on the command line)."
        )
    if earlier and (others := _not_of_export(earlier, out)):
        raise ExchangeError(f"{out} contains labels that this program did not export ({others[0]}). Choose another folder.")


def write_frames(
    target: ExportTarget, format: Format, frames: Iterable[FrameToWrite], total: int
) -> Generator[ExportReport, None, None]:
    """Write the frames into the folder of the target. The files appear only after the last frame.

    Raises
    ------
    ExchangeError, DiskSpaceError
        the folder is as it was
    """
    out, partial = target.folder, target.folder / _PARTIAL
    is_new = not out.exists()
    shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
    assert format.writer is not None
    writer: FrameWriter | None = None
    try:
        writer = format.writer(replace(target, folder=partial))
        annotated: dict[str, dict[int, tuple[int, ...]]] = defaultdict(dict)
        sizes: dict[str, tuple[int, int]] = {}
        notes: dict[str, dict[int, str]] = defaultdict(dict)
        tracks: dict[str, dict[int, int]] = defaultdict(dict)
        for done, frame in enumerate(frames, 1):
            writer.write(frame)
            annotated[frame.sequence][frame.frame_index] = frame.annotated
            sizes[frame.sequence] = frame.size
            if frame.note:
                notes[frame.sequence][frame.frame_index] = frame.note
            if frame.instances is not None:
                tracks[frame.sequence] |= {track_id: track_id for track_id in frame.instances.tracks.values()}
            yield ExportReport(frame.frame_index, done, total)
        writer.close()
        numbers = writer.track_numbers()
        writer = None
        sidecar = Sidecar(
            target.classes,
            target.video,
            format.name,
            annotated,
            sizes,
            target.annotators,
            notes,
            target.has_instances,
            (tracks if numbers is None else numbers) if target.has_tracks else None,
            target.parts,
        )
        write_sidecar(partial, sidecar)
        _publish(partial, out)
    finally:
        if writer is not None:
            writer.abort()
        shutil.rmtree(partial, ignore_errors=True)
        if is_new and out.is_dir() and not any(out.iterdir()):
            out.rmdir()


def _publish(partial: Path, out: Path) -> None:
    """Remove an earlier export, then move the new files into the folder."""
    try:
        for path in list(_earlier_export(out)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        for path in sorted(partial.rglob("*")):
            target = out / path.relative_to(partial)
            if path.is_dir():
                target.mkdir(exist_ok=True)
            else:
                os.replace(path, target)
    except OSError as error:
        raise not_written(error, out) from error


def _not_of_export(files: list[Path], out: Path) -> list[Path]:
    """The files that the export in this folder did not write: those of frames that classes.json does not list."""
    sidecar = read_sidecar(out)
    if sidecar is None:
        return files

    def is_ours(path: Path) -> bool:
        stem = re.sub(r"_class\d+$", "", path.stem)
        number = re.search(r"\d{5,}$", stem)
        if number is None or stem in sidecar.frames:
            return True
        folders = path.relative_to(out).parts[:-1]
        in_folders = any(int(number[0]) in sidecar.frames.get(folder, {}) for folder in folders)
        return sidecar.frame_of(stem) is not None or in_folders

    return [path for path in files if not is_ours(path)]


def _earlier_export(out: Path) -> Iterator[Path]:
    """The files in a folder whose names are those of an export in any format; each file once."""
    if (out / SIDECAR).exists():
        yield out / SIDECAR
    owned_files = dict.fromkeys(files for format in EXPORT_FORMATS.values() for files in format.owned_files)
    found = (path for files in owned_files for path in out.glob(files.glob) if re.fullmatch(files.stem, path.stem))
    yield from dict.fromkeys(path for path in found if _PARTIAL not in path.parts)
