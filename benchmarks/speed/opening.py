"""How long the window does not respond while the plugin opens, measured by a timer in the GUI thread.

Needs a display (`xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/speed/opening.py`). A timer fires every 10 ms; a
gap is the time between two beats. Each repeat is a new process, because a process imports torch only once. The first repeat
may have to read torch from the disk. The plugin counts as open when its model is loaded.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))
from common.options import new_parser, parse, print_figures, require_display


def open_once() -> dict[str, float]:
    """Open the plugin in a new window: the longest gap, and the time until it shows and until its model is loaded."""
    import napari
    from common.heartbeat import Heartbeat, live

    from surgicalsam_napari.widgets.opening import PluginDock

    viewer = napari.Viewer()
    viewer.window.resize(1366, 768)
    live(2)
    assert "torch" not in sys.modules
    heartbeat, start = Heartbeat(), time.monotonic()
    _, dock = viewer.window.add_plugin_dock_widget("surgicalsam-napari", "SurgicalSAM")
    assert isinstance(dock, PluginDock)
    while dock.main is None or not dock.main.isVisible():
        live(0.02)
    shown = time.monotonic() - start
    while dock.main.is_busy:
        live(0.02)
    seconds = time.monotonic() - start
    live(0.2)
    longest = float(heartbeat.take().max())
    viewer.close()
    return {"longest_gap_ms": longest, "seconds_until_shown": shown, "seconds_until_loaded": seconds}


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--once", action="store_true", help="open once in this process")
    arguments = parse(parser, quick={"repeats": 1})
    require_display()
    if arguments.once:
        print(json.dumps(open_once()))
        return
    command = [sys.executable, __file__, "--once"]
    runs = [json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
            for _ in range(arguments.repeats)]  # fmt: skip
    figures: dict[str, object] = {name: round(float(np.median([run[name] for run in runs])), 2) for name in runs[0]}
    figures["worst_gap_ms"] = round(max(run["longest_gap_ms"] for run in runs), 1)
    print_figures(figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
