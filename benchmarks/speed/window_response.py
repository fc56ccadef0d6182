"""How long the window does not respond while a clip is segmented, measured by a timer in the GUI thread.

Needs a display (`xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/speed/window_response.py`).
A timer fires every 10 ms. A gap is the time between two beats of it; during a gap the window does not respond.
Each run makes a new phantom clip.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import napari
import numpy as np

sys.path.append(str(Path(__file__).parents[1]))
from common.heartbeat import Heartbeat, live
from common.options import new_parser, parse, print_json, require_display

from surgicalsam_napari.phantom import write_phantom_clip
from surgicalsam_napari.widgets.demo import dock_plugin, segment_everything, wait_until


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument(
        "--seconds", type=float, default=2, help="measuring time while idle and at the start; twice as long while segmenting"
    )
    arguments = parse(parser, quick={"frames": 4, "seconds": 0.2})
    require_display()
    with tempfile.TemporaryDirectory() as folder:
        clip = write_phantom_clip(Path(folder), frame_count=arguments.frames)
        viewer = napari.Viewer()
        viewer.window.resize(1600, 1000)
        dock = dock_plugin(viewer)
        wait_until(lambda: not dock.is_busy, 120, "load the checkpoint")
        dock.open(clip)
        wait_until(lambda: not dock.is_busy, 120, "open the clip")
        live(arguments.seconds)
        heartbeat = Heartbeat()
        live(arguments.seconds)
        phases = {"idle": heartbeat.take()}
        segment_everything(dock, arguments.frames // 2, None)
        live(arguments.seconds)
        phases["start"] = heartbeat.take()
        live(2 * arguments.seconds)
        phases["run"] = heartbeat.take()
        for frame_index in range(0, arguments.frames, 2):
            if not dock.is_busy:
                break
            dock.layers.show_frame(frame_index)
            live(0.1)
        phases["run, scrubbing"] = heartbeat.take()
        wait_until(lambda: not dock.is_busy, 3600, "segment the clip")
        viewer.close()
    result = {}
    for phase, gaps in phases.items():
        result[phase] = {"median_ms": round(float(np.median(gaps)), 1), "p99_ms": round(float(np.quantile(gaps, 0.99)), 1),
                         "worst_ms": round(float(gaps.max()), 1)}  # fmt: skip
        print(f"{phase:16} {len(gaps):5} beats, median {np.median(gaps):.0f} ms, worst {gaps.max():.0f} ms")
    if arguments.json:
        print_json(result)


if __name__ == "__main__":
    main()
