"""How the cost of an operation grows with the number of frames, classes, pixels and projects.

    # about ten minutes on two idle cores
    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/scaling/scaling.py --json
    # tiny sizes, no window: tests that the script runs
    python benchmarks/scaling/scaling.py --quick

Each line is one operation at one size: the CPU time of the process (wall-clock time includes waiting for other processes),
and the peak memory of Python and numpy above the memory at its start. A power law, cost = a * size ** b, is fitted to each
series. The growth is flat if b is below 0.15, and linear up to 1.15. An operation on one frame should be flat in the number
of frames; an operation on all frames may be linear.

`--only` measures some of the parts. With `--results FILE` they replace the earlier results of the same parts in the file,
and the table and the plot show all parts of the file.
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import psutil
import torch

sys.path.append(str(Path(__file__).parents[1]))
from common.options import new_parser, parse, print_json
from scaling_frames import measure_frames, measure_runs
from scaling_meter import Meter, Point, Series
from scaling_sizes import measure_classes, measure_pixels, measure_projects
from scaling_window import Window, measure_timeline, why_no_window

PARTS = ("frames", "runs", "classes", "pixels", "projects", "window")
FRAMES, RUNS, CLASSES = (100, 1000, 10_000, 100_000), (10, 100, 1000, 3000), (1, 2, 4, 8, 16, 32)
QUICK_PIXELS = ((120, 160), (240, 320))
PIXELS, PROJECTS = ((480, 854), (720, 1280), (1080, 1920), (1440, 2560), (2160, 3840)), (1, 3, 10, 30, 100)


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument(
        "--only", nargs="*", choices=PARTS, default=list(PARTS), help="parts to measure; without a name, none"
    )
    parser.add_argument("--frames", type=int, nargs="+", default=FRAMES, help="numbers of frames")
    parser.add_argument("--results", type=Path, help="a JSON file to add the results to")
    parser.add_argument("--plot", type=Path, help="write the curves as a PNG")
    parser.add_argument("--folder", type=Path, help="folder for the projects (default: the system's temporary folder)")
    options = parse(parser, quick={"frames": (100,)})
    torch.set_num_threads(1)  # threads that wait for each other would add CPU time
    known = json.loads(options.results.read_text()) if options.results and options.results.exists() else {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        meters = measured(options.only, Path(folder), options.frames, is_quick=options.quick)
    for meter in meters:
        known[meter.grows] = [asdict(series) for series in meter.series.values()]
    all_series = [
        Series(**{**record, "points": [Point(**p) for p in record["points"]]}) for part in known.values() for record in part
    ]
    print(f"\n{machine()}\n\n{as_table(all_series)}")
    if options.results:
        options.results.write_text(json.dumps(known, indent=1))
    if options.plot:
        plot(all_series, options.plot)
    if options.json:
        print_json({"machine": machine(), "series": [summary(series) for series in all_series]})


def measured(parts: Sequence[str], folder: Path, frames: Sequence[int], *, is_quick: bool) -> list[Meter]:
    """Measure the parts in their order, and print each result."""
    meters: list[Meter] = []
    no_window = "a quick run does not measure it" if is_quick else why_no_window()
    is_window_wanted = "window" in parts and no_window is None
    if "window" in parts and no_window is not None:
        print(f"window: skipped, {no_window}")
    if "frames" in parts or is_window_wanted:
        meters += frames_and_window(frames, folder, has_window=is_window_wanted, has_frames="frames" in parts)
    if "runs" in parts:
        meters.append(measure_runs((5, 10) if is_quick else RUNS, folder))
    if "classes" in parts:
        meters.append(measure_classes(CLASSES[:1] if is_quick else CLASSES, folder))
    if "pixels" in parts:
        meters.append(measure_pixels(QUICK_PIXELS if is_quick else PIXELS, folder))
    if "projects" in parts:
        meters.append(measure_projects(PROJECTS[:1] if is_quick else PROJECTS, folder))
    return meters


def frames_and_window(sizes: Sequence[int], folder: Path, *, has_window: bool, has_frames: bool) -> list[Meter]:
    """Measure the series of frames, and the window on the same projects."""
    window, meter = (Window(), Meter("frames, in the window")) if has_window else (None, None)
    frames_meter: Meter | None = None
    for project_meter, size, project in measure_frames(sizes, folder, is_measured=has_frames):
        frames_meter = project_meter if has_frames else None
        if window is not None and meter is not None:
            window.measure(meter, size, project)
            measure_timeline(meter, size, 7)
            window.dock.session.close()
    if window is not None:
        window.close()
    return [each for each in (frames_meter, meter) if each is not None]


def summary(series: Series) -> dict:
    """The record of a series in the last line."""
    return {
        "name": series.name,
        "grows": series.grows,
        "about": series.scope,
        "sizes": [point.size for point in series.points],
        "ms_per_unit": [round(series.per_unit_ms(point), 6) for point in series.points],
        "clock_ms": [round(1000 * point.clock_seconds, 3) for point in series.points],
        "kilobytes_per_unit": [
            None if (kb := series.per_unit_kilobytes(p)) is None else round(kb, 4) for p in series.points
        ],
        "exponent": round(series.exponent, 2),
        "last_exponent": round(series.last_exponent, 2),
        "memory_exponent": None if (exponent := series.memory_exponent) is None else round(exponent, 2),
        "verdict": series.verdict,
        "as_it_should_be": series.is_as_expected,
    }


def machine() -> str:
    cores, python = psutil.cpu_count(), platform.python_version()
    return f"{platform.machine()}, {cores} CPU cores, Python {python}, torch {torch.__version__}"


def as_table(all_series: Sequence[Series]) -> str:
    """One Markdown table per growing quantity: milliseconds per call at each size, exponents, verdict."""
    tables = []
    for grows in dict.fromkeys(series.grows for series in all_series):
        group = [series for series in all_series if series.grows == grows]
        sizes = sorted({point.size for series in group for point in series.points})
        heads = ["ms per call, by " + grows, *(f"{size:,}" for size in sizes), "exponent", "last", "memory", "verdict"]
        rows = [heads, ["---", *["---:"] * (len(heads) - 2), "---"]]
        rows += [_row(series, sizes) for series in group]
        tables.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
    return "\n\n".join(tables) + "\n"


def _row(series: Series, sizes: Sequence[int]) -> list[str]:
    by_size = {point.size: _in_ms(point.seconds) for point in series.points}
    memory = series.memory_exponent
    verdict = series.verdict if series.is_as_expected else f"**{series.verdict}**"
    exponents = [f"{series.exponent:.2f}", f"{series.last_exponent:.2f}", "" if memory is None else f"{memory:.2f}"]
    return [series.name, *(by_size.get(size, "") for size in sizes), *exponents, verdict]


def _in_ms(seconds: float) -> str:
    ms = 1000 * seconds
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 1 else f"{ms:.2f}"


def plot(all_series: Sequence[Series], path: Path) -> None:
    """All series, one panel per growing quantity; both axes are logarithmic, grey lines show linear growth."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    groups = list(dict.fromkeys(series.grows for series in all_series))
    columns = min(3, len(groups))
    rows = -(-len(groups) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.9 * rows), layout="constrained")
    for number, grows in enumerate(groups, 1):
        axes = figure.add_subplot(rows, columns, number)
        for series in (series for series in all_series if series.grows == grows):
            sizes = [point.size for point in series.points]
            style = {"one": "-", "all": "--"}[series.scope] if series.is_as_expected else "-"
            color = ("tab:blue" if series.scope == "one" else "tab:orange") if series.is_as_expected else "tab:red"
            axes.plot(
                sizes, [1000 * p.seconds for p in series.points], style, marker=".", lw=0.9, ms=3, color=color, alpha=0.8
            )
            if not series.is_as_expected:
                last = series.points[-1]
                place, options = (
                    (last.size, 1000 * last.seconds),
                    {"textcoords": "offset points", "ha": "right", "fontsize": 6},
                )
                axes.annotate(series.name, place, (-4, 4), **options)
        axes.set(xscale="log", yscale="log", xlabel=grows, ylabel="ms per call")
        axes.xaxis.set_minor_formatter(NullFormatter())
        first, last = axes.get_xlim()
        low, high = axes.get_ylim()
        for start in (low * 3, low * 300):
            axes.plot([first, last], [start, start * last / first], ":", color="grey", lw=0.8)
        axes.set(xlim=(first, last), ylim=(low, high))
        axes.tick_params(labelsize=7)
    figure.suptitle(
        "blue: on one item, should be flat; orange: on all items, may be linear (dotted); red: steeper than expected",
        fontsize=9,
    )
    figure.savefig(path, dpi=68)


if __name__ == "__main__":
    main()
