"""Is every frame of every kind of video the right one, in any order of access?

    python benchmarks/quality/video_kinds.py [--kinds DICOM "intra refresh"] [--markdown] --json

Makes a video of each kind (`video_cases.py`), reads all its frames in order, in reverse and in random order, each time with
a new reader without a cache, and counts the pixels that differ from those of FFmpeg, which decodes the file once from the
start with one thread. The pixels of images and uncompressed DICOM files are compared with those that were written.

The last picture of a file that was cut off is incomplete; the decoder invents the rest of it. It is not compared, and counts
as `incomplete`. `--markdown` prints the table of docs/video.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))
from common.options import new_parser, parse, print_json
from video_cases import CASES, Frames, VideoCase

from surgicalsam_napari.errors import VideoError
from surgicalsam_napari.video import VideoReader

ORDERS = ("in_order", "in_reverse", "at_random")


def differing_pixels(path: Path, expected: Frames, indices: Iterable[int]) -> int:
    """Pixels of these frames that differ; all pixels of a frame that cannot be read."""
    count = 0
    with VideoReader(path, cache_megabytes=0) as reader:
        for index in indices:
            right = expected[index]
            if right is None:
                continue
            try:
                count += int((reader.frame(index) != right).any(axis=-1).sum())
            except (VideoError, IndexError):
                count += right.shape[0] * right.shape[1]
    return count


def measure(case: VideoCase) -> dict[str, object]:
    """Frames, and pixels that differ in each order."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / case.name
        case.write(path)
        expected = case.expected(path)
        count = len(expected)
        orders = (range(count), reversed(range(count)), np.random.default_rng(0).permutation(count).tolist())
        row: dict[str, object] = {"kind": case.kind, "frames": count, "incomplete": sum(right is None for right in expected)}
        try:
            for name, indices in zip(ORDERS, orders, strict=True):
                row[name] = differing_pixels(path, expected, indices)
        except VideoError as error:
            row["error"] = str(error)
        return row


def print_markdown(rows: list[dict[str, object]]) -> None:
    print("| Kind | Frames | Pixels that differ: in order | in reverse | at random |\n|---|---|---|---|---|")
    for row in rows:
        frames = f"{row['frames']}" + (f" ({row['incomplete']} incomplete)" if row["incomplete"] else "")
        print(f"| {row['kind']} | {frames} | " + " | ".join(f"{row.get(name, '-')}" for name in ORDERS) + " |")


def print_row(row: dict[str, object]) -> None:
    numbers = "".join(f"{row.get(name, '-')!s:>12}" for name in ORDERS)
    print(f"{row['kind']:<48}{row['frames']:>7}{numbers}  {row.get('error', '')}", flush=True)


def chosen(options: argparse.Namespace) -> list[VideoCase]:
    """The cases of the command line that can be made here."""
    cases = [case for case in CASES if not options.kinds or any(kind in case.kind for kind in options.kinds)]
    for case in cases:
        if missing := case.missing():
            print(f"{case.kind}: left out, {missing} is missing", file=sys.stderr)
    return [case for case in cases if not case.missing()]


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--kinds", nargs="+", metavar="WORDS", help="only kinds whose name contains these words")
    parser.add_argument("--markdown", action="store_true", help="print a table for the documentation at the end")
    options = parse(parser, quick={"kinds": ["H.264 in mp4", "TIFF"]})
    print(f"{'kind':<48}{'frames':>7}" + "".join(f"{name:>12}" for name in ORDERS))
    rows = []
    for case in chosen(options):
        rows.append(measure(case))
        print_row(rows[-1])
    if options.markdown:
        print_markdown(rows)
    if options.json:
        print_json({"videos": rows})


if __name__ == "__main__":
    main()
