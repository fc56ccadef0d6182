"""Speed-up of every step over the plain implementation (benchmarks/speed/plain.py), with its effect on the result.

    python benchmarks/speed/speed.py [--quick] [--only decoding storage …] [--json]

Two threads, interleaved repeats, medians of paired ratios. Each part is a separate script (`speed_*.py`) in a separate
process, so that no part leaves memory or threads for the next. The window part uses the display, or `xvfb-run` if there is
no display; without both it is skipped. With CUDA, `speed_cuda.py` adds the figures of the GPU. The last line printed with
`--json` is one JSON object. Its `missing` lists the parts that failed or were skipped (except the GPU's); if there is one,
the exit code is 1. `--quick` runs the storage part only: each part has a quick run of its own script.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import torch

sys.path.append(str(Path(__file__).parents[1]))
from common.options import has_display, new_parser, parse, print_json

PARTS = {"decoding": 5, "training": 3, "encoder": 3, "storage": 9, "video": 5, "window": 3, "cuda": 3}  # counted pairs
ON_A_DISPLAY = {"window"}
AIMS = {  # ratios to the plain implementation, unless the key names a unit; "<=" if less is better
    "decode_one_class": ">= 3",
    "decode_all_classes": ">= 4",
    "label_map": ">= 20",
    "train_step": ">= 3",
    "train_peak_memory": ">= 7",
    "encoder": ">= 1.5",
    "encoder_memory": ">= 2",
    "cache_read": ">= 3",
    "cache_bytes": "<= 0.5",
    "video_step": ">= 40",
    "video_step_back": ">= 30",
    "video_jump": ">= 1.3",
    "first_mask_ms": "<= 100",
    "scrub_p95_ms": "<= 50",
    "open_hour_s": "<= 2",
    "scrub_hour_mb": "<= 500",
}


def command_of(part: str, repeats: int, *, is_quick: bool) -> list[str] | None:
    """The command of a part; None if this machine cannot run it."""
    command = [sys.executable, str(Path(__file__).with_name(f"speed_{part}.py")), "--json"]
    command += ["--quick"] if is_quick else ["--repeats", str(repeats)]
    if part in ON_A_DISPLAY and not has_display():
        xvfb = shutil.which("xvfb-run")
        return None if xvfb is None else [xvfb, "-a", "-s", "-screen 0 1600x1000x24", *command]
    return command if part != "cuda" or torch.cuda.is_available() else None


def figures_of(part: str, repeats: int, *, is_quick: bool) -> dict[str, object] | None:
    """The figures of a part; None, with the reason on stderr, if it fails or cannot run."""
    command = command_of(part, repeats, is_quick=is_quick)
    if command is None:
        print(f"{part}: skipped, there is no {'display' if part in ON_A_DISPLAY else 'CUDA device'}", file=sys.stderr)
        return None
    start = time.perf_counter()
    run = subprocess.run(command, capture_output=True, text=True)
    lines = run.stdout.strip().splitlines()
    if run.returncode or not lines:
        print(f"{part}: failed with exit code {run.returncode}\n{run.stderr[-2000:]}", file=sys.stderr)
        return None
    print(f"{part}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    return json.loads(lines[-1])


def meets(value: float, aim: str) -> bool:
    relation, limit = aim.split()
    return value >= float(limit) if relation == ">=" else value <= float(limit)


def table(figures: dict[str, object]) -> str:
    """One line per aim: the figure, the aim, and whether it is met."""
    rows = []
    for key, aim in AIMS.items():
        value = figures.get(key)
        if isinstance(value, (int, float)):
            rows.append(f"{key:20} {value:>10}   {aim:8} {'met' if meets(value, aim) else 'NOT MET'}")
        else:
            rows.append(f"{key:20} {'-':>10}   {aim:8} not measured")
    return "\n".join(rows)


def main() -> int:
    parser = new_parser(__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    options = parse(parser, quick={"only": ["storage"]})
    figures: dict[str, object] = {}
    missing = []
    for part in options.only:
        measured = figures_of(part, PARTS[part], is_quick=options.quick)
        figures |= measured or {}
        missing += [part] * (measured is None and part != "cuda")
    figures |= {"missing": missing, "machine": machine()}
    print(table(figures))
    if options.json:
        print_json(figures)
    return 1 if missing else 0


def machine() -> str:
    return f"{platform.machine()}, {psutil.cpu_count()} CPU cores, torch {torch.__version__}"


if __name__ == "__main__":
    sys.exit(main())
