"""The command line that all benchmarks share: `--quick`, `--json`, and the last line of the output."""

from __future__ import annotations

import argparse
import json
import math
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
    quick : defaults of the other options with `--quick`; options on the command line override them
    """
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one repeat: tests that it runs, measures nothing")
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    if "--quick" in sys.argv[1:]:
        parser.set_defaults(**quick)
    return parser.parse_args()


def print_figures(result: Mapping[str, object], *, as_json: bool) -> None:
    """One line per figure, or one JSON object."""
    if as_json:
        print_json(result)
    else:
        print("\n".join(f"{key}: {value}" for key, value in result.items()))


def print_json(result: Mapping[str, object]) -> None:
    """One line of strict JSON; a number that is not finite becomes null."""
    print(json.dumps(_finite(result), allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def has_display() -> bool:
    """Whether a window can be opened."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def require_display() -> None:
    """End the script with exit code 2 if no window can be opened."""
    if not has_display():
        print(
            "This benchmark opens a window, and there is no display. "
            f'Run it with a virtual display: xvfb-run -a -s "-screen 0 1600x1000x24" python {sys.argv[0]}',
            file=sys.stderr,
        )
        raise SystemExit(2)
