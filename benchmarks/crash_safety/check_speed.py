"""How long `surgicalsam check` takes for a long video, whether it finds all damage, and what a stroke costs.

::

    python benchmarks/crash_safety/check_speed.py --frames 100000 --json

Every frame has its own files of labels and of painted pixels, of the size that frames of 1920 x 1080 pixels have. Then files
are damaged, some in each way, and the check must name each. Times are seconds on the clock; the files are in the memory of
the system.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "scaling")]
from common.options import new_parser, parse, print_json
from scaling_frames import filled_project, stroke

from surgicalsam_napari.store import Project, Span, TrackTable
from surgicalsam_napari.store.checking import Damage, checking, damaged_frames
from surgicalsam_napari.store.disk.checksums import ARRAYS, COLUMN, checksum, sealed

PER_KIND = 10  # damaged files of each kind


def give_own_files(folder: Path, frame_count: int, byte_count: int) -> None:
    """Replace the files of all frames, which are links to a few, by files of their own."""
    content = np.random.default_rng(0).integers(0, 256, byte_count, np.uint8)
    checksums = zarr.open_array(folder / "checksums", mode="r+")
    records = np.asarray(checksums[:])
    for frame_index in range(frame_count):
        for name in ARRAYS:
            content[:8] = np.array([frame_index * len(ARRAYS) + ARRAYS.index(name)], "<i8").view(np.uint8)
            path = folder / name / f"c.{frame_index}.0.0"
            path.unlink(missing_ok=True)
            path.write_bytes(content)
            records[frame_index, COLUMN[name]] = checksum(content.tobytes())
        sealed(frame_index, records[frame_index])
    checksums[:] = records


def damage(folder: Path, frame_count: int) -> set[Path]:
    """Damage files of every kind; returns them."""
    rng = np.random.default_rng(1)
    chosen = rng.permutation(frame_count)[: 4 * PER_KIND].tolist()
    damaged = set()
    for position, frame_index in enumerate(chosen):
        path = folder / ARRAYS[position % 2] / f"c.{frame_index}.0.0"
        match position % 4:
            case 0:
                path.unlink()
            case 1:
                path.write_bytes(path.read_bytes()[:-100])
            case 2:
                content = bytearray(path.read_bytes())
                content[len(content) // 2] ^= 1
                path.write_bytes(content)
            case 3:
                path.write_bytes(path.with_name(f"c.{chosen[0] + 1 if chosen[0] == 0 else chosen[0] - 1}.0.0").read_bytes())
        damaged.add(path)
    table = folder / "predicted_iou" / "c.0.0"
    content = bytearray(table.read_bytes())
    content[0] ^= 1
    table.write_bytes(content)
    stray = folder / "labels" / f"c.{frame_count + 5}.0.0"
    stray.write_bytes(b"stray")
    return damaged | {table, stray}


def check(project: Project) -> tuple[float, set[Path]]:
    """Seconds, and the damaged files that were found."""
    start, found = time.perf_counter(), ()
    for report in checking(project):
        found = report.found
    return time.perf_counter() - start, {damage.path for damage in found if isinstance(damage, Damage)}


def main() -> int:
    parser = new_parser(__doc__)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--bytes", type=int, default=12_000, help="of each file")
    arguments = parse(parser, {"frames": 200, "bytes": 500})
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary) / "project"
        folder = filled_project(place, arguments.frames).folder
        strokes = []
        with Project.open(folder) as project:
            for frame_index in np.random.default_rng(2).permutation(arguments.frames)[:200].tolist():
                start = time.perf_counter()
                stroke(project, frame_index)
                strokes.append(1000 * (time.perf_counter() - start))
            tracks = TrackTable().with_new(project.classes.ids[0], [Span(0, arguments.frames - 1, 1)])
            project.tracks.edit("Link", tracks)
        give_own_files(folder, arguments.frames, arguments.bytes)
        with Project.open(folder) as project:
            seconds, wrong = check(project)
            start = time.perf_counter()
            assert not damaged_frames(project)
            quick = time.perf_counter() - start
            damaged = damage(folder, arguments.frames)
            _, found = check(project)
    result = {
        "frames": arguments.frames,
        "bytes": len(ARRAYS) * arguments.frames * arguments.bytes,
        "check_seconds": round(seconds, 2),
        "rows_and_presence_seconds": round(quick, 2),
        "stroke_ms_median": round(statistics.median(strokes), 2),
        "stroke_ms_95th": round(float(np.percentile(strokes, 95)), 2),
        "wrongly_named": len(wrong),
        "damaged": len(damaged),
        "damage_found": len(damaged & found),
    }
    for name, value in result.items():
        print(f"{name:26} {value}")
    if arguments.json:
        print_json(result)
    return 0 if not wrong and damaged <= found else 1


if __name__ == "__main__":
    sys.exit(main())
