"""Every script in benchmarks/ completes a quick run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
# about ten CPU seconds or more: they train, or start processes that import torch or napari
SLOW = {
    "crash_safety/bad_inputs.py",
    "crash_safety/check_speed.py",
    "crash_safety/kill_loop.py",
    "quality/instances.py",
    "quality/new_class.py",
    "quality/propagation.py",
    "quality/real_frames.py",
    "quality/real_video.py",
    "quality/reference_figures.py",
    "quality/review_ranking.py",
    "quality/second_domain.py",
    "quality/simulated_annotator.py",
    "scaling/scaling.py",
    "speed/cluster.py",
    "speed/remote_worker.py",
    "speed/speed_decoding.py",
    "speed/speed_encoder.py",
    "speed/speed_training.py",
    "speed/speed_video.py",
    "speed/speed_window.py",
    "speed/window_response.py",
}
NEEDS_DISPLAY = {"speed/speed_window.py", "speed/timeline.py", "speed/window_response.py"}
NEEDS_LINUX = {"crash_safety/bad_inputs.py", "crash_safety/kill_loop.py"}  # it forks


def scripts() -> list[str]:
    """All files with a main program; they import the others."""
    files = sorted(BENCHMARKS.rglob("*.py"))
    return [file.relative_to(BENCHMARKS).as_posix() for file in files if 'if __name__ == "__main__":' in file.read_text()]


def run_quick(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / script), "--quick", "--json"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=280,
    )


@pytest.mark.parametrize(
    "script", [pytest.param(script, marks=[pytest.mark.slow] if script in SLOW else []) for script in scripts()]
)
def test_a_quick_run_ends_with_one_json_object(script: str, tmp_path: Path) -> None:
    if script in NEEDS_LINUX and sys.platform != "linux":
        pytest.skip("it forks")
    process = run_quick(script, tmp_path)
    if process.returncode == 2 and script in NEEDS_DISPLAY:
        assert "there is no display" in process.stderr
        pytest.skip("there is no display")
    assert process.returncode == 0, process.stdout + process.stderr
    last_line = process.stdout.splitlines()[-1]
    assert isinstance(json.loads(last_line, parse_constant=pytest.fail), dict)  # NaN and Infinity are not JSON


@pytest.mark.skipif(sys.platform != "linux", reason="there is always a display")
def test_without_a_display_a_window_benchmark_names_the_remedy(tmp_path: Path) -> None:
    process = run_quick("speed/timeline.py", tmp_path, DISPLAY="", WAYLAND_DISPLAY="", QT_QPA_PLATFORM="offscreen")
    assert process.returncode == 2
    assert "xvfb-run" in process.stderr


def test_all_names_in_this_file_are_scripts() -> None:
    assert set(scripts()) >= SLOW | NEEDS_DISPLAY | NEEDS_LINUX


def test_every_script_is_in_the_readme() -> None:
    readme = (BENCHMARKS / "README.md").read_text()
    assert [script for script in scripts() if f"`{script}`" not in readme] == []
