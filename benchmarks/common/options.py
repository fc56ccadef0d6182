"""The command line that all benchmarks have: `--quick`, `--json`, and the last line of what they print."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from typing import Any


def new_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser that shows the whole docstring of a script."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def parse(parser: argparse.ArgumentParser, quick: Mapping[str, Any]) -> argparse.Namespace:
    """Add `--quick` and `--json`, and read the command line.

    Parameters
    ----------
    quick : the defaults of the other options with `--quick`; what the command line gives still counts
    """
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one repeat: shows that it runs, measures nothing")
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    if "--quick" in sys.argv[1:]:
        parser.set_defaults(**quick)
    return parser.parse_args()


def print_figures(result: Mapping[str, object], *, as_json: bool) -> None:
    """One line per figure, or one JSON object."""
    print(json.dumps(result) if as_json else "\n".join(f"{key}: {value}" for key, value in result.items()))


def has_display() -> bool:
    """Whether a window can be opened."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def require_display() -> None:
    """End the script with exit code 2 where no window can be opened."""
    if not has_display():
        print(
            "This benchmark opens a window and there is no display. "
            f'Run it with a virtual one: xvfb-run -a -s "-screen 0 1600x1000x24" python {sys.argv[0]}',
            file=sys.stderr,
        )
        raise SystemExit(2)
