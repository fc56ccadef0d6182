"""How long do edits of who is who take in a long video, and what do instances add to a stroke at 1080p?

    python benchmarks/scaling/tracks.py [--frames 90000] [--tracks 40] [--spans 200] [--repeats 9] [--json]

Each edit is one action of the history, as in the window. A track is out of view now and then, so the table has many spans.
`stroke_ratio` is a stroke with instances over one without, pair by pair, in two projects of the same labels.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from scaling_frames import numbered_classes, write_long_video

sys.path.append(str(Path(__file__).parents[1]))
from common.measuring import paired, timed
from common.options import new_parser, parse, print_figures

from surgicalsam_napari.editing import change_track_class, same_as, split_here, swap_from_here
from surgicalsam_napari.store import Project, Span, Track, TrackTable, ViewerLabels
from surgicalsam_napari.video import VideoReader, write_video

CLASSES = 7
FULL_HD = (1080, 1920)
CELL = 8  # pixels; a track's region in a frame
LIMIT_MS = 100.0


def linked_project(place: Path, frame_count: int, track_count: int, span_count: int, frames: list[int]) -> Project:
    """A project whose table has all tracks over all frames; only some frames have labels. The last two tracks never meet."""
    write_long_video(place / "long.mp4", frame_count)
    project = Project.create(place / "long.surgicalsam", VideoReader(place / "long.mp4"), numbered_classes(CLASSES))
    tracks, middle = [], frame_count // 2
    for track_id in range(1, track_count + 1):
        first, last = 0, frame_count
        if track_id >= track_count - 1:
            first, last = (0, middle) if track_id < track_count else (middle, frame_count)
        edges = np.linspace(first, last, span_count + 1).astype(int).tolist()
        spans = [Span(a, b - 2, track_id) for a, b in pairwise(edges) if b - 2 >= a]
        tracks.append(Track(track_id, 1 + min(track_id, track_count - 1) % 3, tuple(spans)))
    table = TrackTable(tuple(tracks))
    table.check()
    for frame_index in frames:
        labels, numbers = np.zeros(project.labels.shape[1:], np.uint8), np.zeros(project.labels.shape[1:], np.uint8)
        for number, track in table.in_frame(frame_index).items():
            labels[cell(number, labels.shape[1])], numbers[cell(number, labels.shape[1])] = track.class_id, number
        project.labels.write_edit(frame_index, labels)
        project.tracks.write_numbers(frame_index, numbers)
    project.tracks.edit("Link", table)
    return project


def cell(number: int, width: int) -> tuple[slice, slice]:
    per_row = width // CELL
    top, left = number // per_row * CELL, number % per_row * CELL
    return slice(top, top + CELL - 2), slice(left, left + CELL - 2)


def place_of(project: Project, frame_index: int, track_id: int) -> tuple[int, int, int]:
    rows, columns = cell(track_id, project.labels.shape[2])
    return frame_index, rows.start, columns.start


def measure_edits(place: Path, frame_count: int, track_count: int, span_count: int, repeats: int) -> dict[str, float]:
    """Milliseconds of each edit: the median."""
    near, far = frame_count // span_count * (span_count // 4), frame_count // span_count * (span_count * 3 // 4)
    with linked_project(place, frame_count, track_count, span_count, [near, far]) as project:

        def first_frame_of_a_class() -> None:
            steps = change_track_class(project, 1, CLASSES)
            next(steps)
            steps.close()

        a, b = 1, 4  # of one class
        edits: dict[str, Callable[[], object]] = {
            "same_as": lambda: same_as(
                project, place_of(project, near, track_count - 1), place_of(project, far, track_count)
            ),
            "split_here": lambda: split_here(project, place_of(project, far, 1)),
            "swap_from_here": lambda: swap_from_here(project, place_of(project, far, a), place_of(project, far, b)),
            "class_of_a_track_first_frame": first_frame_of_a_class,
        }
        times: dict[str, list[float]] = {}
        for _ in range(repeats):
            for name, edit in edits.items():
                times.setdefault(name, []).append(timed(edit))
                times.setdefault("undo", []).append(timed(project.history.undo))
                times.setdefault("redo", []).append(timed(project.history.redo))
                project.history.undo()
            with Project.open(project.folder, require_video=False) as again:
                times.setdefault("read_table", []).append(timed(lambda p=again: p.tracks.table))
            table = project.tracks.table
            times.setdefault("tracks_of_a_frame", []).append(timed(lambda t=table: t.in_frame(far)))
        byte_count = (project.folder / "tracks.json").stat().st_size
    result = {f"{name}_ms": round(1000 * statistics.median(seconds), 2) for name, seconds in times.items()}
    return {**result, "table_bytes": byte_count}


def measure_strokes(place: Path, size: tuple[int, int], repeats: int) -> dict[str, object]:
    """A brush stroke by the window's layer, with and without instances, and a prediction's write."""
    frame = np.zeros(size, np.uint8)
    height, width = size
    frame[height // 4 : height // 2, : width // 3] = frame[height // 3 : height * 3 // 4, width * 2 // 3 :] = 1
    numbers = np.where(frame > 0, 1 + (np.arange(width) > width // 2), 0)
    layers = []
    for name in ("without", "with"):
        video = write_video(place / f"{name}.mp4", np.zeros((4, *size, 3), np.uint8))
        project = Project.create(place / f"{name}.surgicalsam", VideoReader(video), numbered_classes(CLASSES))
        for frame_index in range(4):
            project.labels.write_edit(frame_index, frame)
            if name == "with":
                project.tracks.write_numbers(frame_index, numbers)
        layers.append((project, ViewerLabels(project.labels)))
    brush = max(height // 40, 4)

    def strokes(layer: ViewerLabels, offset: int) -> None:
        for step in range(10):
            top, left = height // 4 - brush // 2 + step, (offset * 7 + step * brush // 2) % (width // 3)
            box = layer[offset % 4, top : top + brush, left : left + brush]
            box[:] = 1 if step % 2 else 0
            layer[offset % 4, top : top + brush, left : left + brush] = box

    plain, ours = iter(range(repeats + 1)), iter(range(repeats + 1))  # the same strokes in both
    times = paired(lambda: strokes(layers[0][1], next(plain)), lambda: strokes(layers[1][1], next(ours)), repeats)
    for project, _ in layers:
        project.close()
    return {
        "stroke_without_ms": round(times.plain_ms / 10, 2),
        "stroke_with_ms": round(times.ours_ms / 10, 2),
        "stroke_ratio": round(times.ours_ms / times.plain_ms, 2),
        "stroke_ratio_spread": sorted(round(1 / ratio, 2) for ratio in times.ratios),
    }


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--frames", type=int, default=90_000)
    parser.add_argument("--tracks", type=int, default=40)
    parser.add_argument("--spans", type=int, default=200, help="stretches in view of each track")
    parser.add_argument("--repeats", type=int, default=9)
    options = parse(parser, quick={"frames": 400, "spans": 4, "repeats": 1})
    size = (108, 192) if options.quick else FULL_HD
    with tempfile.TemporaryDirectory() as folder:
        edits = measure_edits(Path(folder), options.frames, options.tracks, options.spans, options.repeats)
        strokes = measure_strokes(Path(folder), size, options.repeats)
    slowest = max(value for name, value in edits.items() if name.endswith("_ms"))
    figures = {"frames": options.frames, "tracks": options.tracks, **edits, "slowest_ms": slowest, "limit_ms": LIMIT_MS}
    print_figures({**figures, **strokes}, as_json=options.json)


if __name__ == "__main__":
    main()
