"""New environments for a release: the interpreters of this machine, and what is installed and run in each environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13")  # as in the classifiers of pyproject.toml
CLIP = (
    "import sys; from surgicalsam_napari.phantom import write_phantom_clip; write_phantom_clip(sys.argv[1], frame_count=2)"
)


class Failed(Exception):
    """A check that failed: what was expected, what was found, what to do."""


class NotChecked(Exception):
    """A check that this machine cannot make: the reason, and what is needed."""


def tool(name: str) -> Path:
    """The program of this name, beside this Python or on the path."""
    found = shutil.which(name, path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))))
    if found is None:
        raise NotChecked(f"{name} is not installed. Install the extra `release`: pip install -e '.[release]'.")
    return Path(found)


def run(arguments: Sequence[str | Path], folder: Path = TOP, **environment: str) -> str:
    """Run a command; its standard output. A command that fails is a `Failed` with its last lines.

    The variable PYTHONPATH is left out, so that the files of the clone are never imported in place of what is installed.
    """
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        list(map(str, arguments)), cwd=folder, env=inherited | environment, capture_output=True, text=True
    )
    if result.returncode:
        last_lines = "\n".join(f"{result.stdout}\n{result.stderr}".strip().splitlines()[-15:])
        raise Failed(f"`{' '.join(map(str, arguments))}` ended with {result.returncode}:\n{last_lines}")
    return result.stdout


def interpreter(version: str) -> Path | None:
    """An interpreter of this version, such as "3.12": on the path, of uv, or of pyenv; None if there is none."""
    on_path = shutil.which(f"python{version}")
    of_pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    of_uv = subprocess.run(
        [tool("uv"), "python", "find", "--no-python-downloads", version], capture_output=True, text=True
    ).stdout.strip()
    candidates = [sys.executable, *filter(None, (on_path, of_uv)), *of_pyenv]
    return next((Path(path) for path in candidates if _version_of(path) == version), None)


def new_environment(python: Path, folder: Path) -> Path:
    """The Python of a new, empty environment in `folder`, which is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    run([tool("uv"), "venv", "--quiet", "--python", python, folder])
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def install(python: Path, *what: str | Path) -> None:
    """Install into the environment of `python`, with the pinned versions."""
    run([tool("uv"), "pip", "install", "--quiet", "--python", python, "--constraints", TOP / "constraints.txt", *what])


def resolves(version: str) -> int:
    """How many packages the pinned dependencies amount to on a Python that is not here, by uv's resolver."""
    command = [tool("uv"), "pip", "compile", "--quiet", "--python-version", version, "--no-header", "--no-annotate"]
    locked = run([*command, "--extra", "all", "--constraints", TOP / "constraints.txt", TOP / "pyproject.toml"])
    return len(re.findall(r"^\w", locked, re.MULTILINE))


def try_out(python: Path, folder: Path, version: str) -> None:
    """Use what is installed: libraries that fit, modules that compile without a warning, the command on a clip."""
    run([tool("uv"), "pip", "check", "--quiet", "--python", python])
    site_packages = run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
    for package in ("surgicalsam_napari", "surgicalsam_training"):
        run([python, "-W", "error", "-m", "compileall", "-q", "-f", Path(site_packages) / package])
    printed = run([python.with_name("surgicalsam"), "--version"], folder)
    if version not in printed:
        raise Failed(f"`surgicalsam --version` should print {version}; it printed {printed.strip()!r}.")
    run([python, "-m", "npe2", "validate", "--imports", "surgicalsam-napari"], folder, QT_QPA_PLATFORM="offscreen")
    clips = Path(tempfile.mkdtemp(dir=folder))
    run([python, "-c", CLIP, clips])
    segment = [python.with_name("surgicalsam"), "segment", next(clips.glob("*.mp4")), "--all", "--device", "cpu", "--json"]
    last_line = run(segment, clips, SURGICALSAM_PREFERENCES=str(clips / "preferences.json")).splitlines()[-1]
    if json.loads(last_line)["videos"][0]["segmented"] != 2:
        raise Failed(f"`surgicalsam segment` should do 2 frames of a clip; it printed {last_line}")


def installed_files(python: Path) -> dict[str, str]:
    """Hash of every file that the installed project has, by its path in site-packages; no files that pip adds."""
    listing = (
        "from importlib.metadata import files\n"
        "for file in files('surgicalsam-napari'): print(file, file.hash and file.hash.value)"
    )
    rows = (line.rsplit(" ", 1) for line in run([python, "-c", listing]).splitlines())
    return {name: value for name, value in rows if name.startswith(("surgicalsam_napari/", "surgicalsam_training/"))}


def _version_of(path: str | Path) -> str:
    command = [path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""
