"""Runs one command on a broken or hostile input in a process of its own, and judges what it did; for `bad_inputs.py`."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from surgicalsam_napari import cli, preferences

LONGEST, LONGEST_WORK = 120.0, 30  # seconds by the clock and of computing, far more than any of these commands needs
MEMORY = 3 * 2**30  # bytes that a command may take in addition to the program itself
LARGEST_MESSAGE = 4000  # characters of an error
RUN_FILES = {".lock", ".window", ".run", ".partial", "owner.json", "files.json"}  # any command may make them in a project
INPUT, CANARY, OUTPUT = "input", "canary", "output.txt"  # in the folder of a case
PERSONAL = {"labels", "painted", "provenance", "before_verified", "notes.json", "work.csv"}  # what a person made
OUT = "out"  # what a command writes, in `INPUT`
EXECUTED = "executed"  # in `CANARY`: the file that code in a hostile file would write
MOST_SHOWN = 500  # characters of a message in a row


@dataclass(frozen=True)
class Scene:
    """Intact examples that cases damage, and data of a person that no case may change.

    Attributes
    ----------
    folder : of the examples: a video, its project, datasets, a backup, a checkpoint
    canary : a project and a file of a person, which no command names; each case has a copy of its own
    """

    folder: Path
    canary: Path

    @property
    def video(self) -> Path:
        return self.folder / "clip.mp4"

    @property
    def project(self) -> Path:
        return self.folder / "clip.surgicalsam"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "light.safetensors"

    @property
    def executed(self) -> Path:
        return self.canary / EXECUTED

    def dataset(self, name: str) -> Path:
        return self.folder / "datasets" / name


Prepare = Callable[[Scene, Path], list[str]]


@dataclass(frozen=True)
class Case:
    """One broken or hostile input, and the command that reads it.

    Attributes
    ----------
    kind : what is read: "video", "project", …
    fault : what is wrong with it, in words
    prepare : makes the input in an empty folder, and returns the command line
    right : why it is right to accept the input; "" if it must be refused, or be named as damaged
    writes : whether the command may change the input when it succeeds, such as an import into a project
    """

    kind: str
    fault: str
    prepare: Prepare
    right: str = ""
    writes: bool = False


@dataclass(frozen=True)
class Row:
    """What a command did with an input.

    Attributes
    ----------
    verdict : "refused", "accepted, and right", "silently accepted", "traceback", "hang", "memory", "unclear", "crash"
    data_changed : files that changed although they should not have
    code_executed : whether code of the input ran
    """

    kind: str
    fault: str
    command: str
    exit: int
    seconds: float
    megabytes: int
    verdict: str
    message: str
    data_changed: tuple[str, ...] = ()
    code_executed: bool = False
    right: str = ""

    @property
    def is_fine(self) -> bool:
        return self.verdict in ("refused", "accepted, and right") and not self.data_changed and not self.code_executed


def run(case: Case, scene: Scene, place: Path) -> Row:
    """Prepare a case in the new folder `place`, beside a copy of the person's data; run its command, judge it, clean up."""
    folder = place / INPUT
    folder.mkdir(parents=True)
    scene = replace(scene, canary=Path(shutil.copytree(scene.canary, place / CANARY)))
    arguments = case.prepare(scene, folder)
    before = _contents(place)
    start = time.perf_counter()
    code, kilobytes, is_hang = _in_a_process(arguments, place / OUTPUT, folder)
    seconds = time.perf_counter() - start
    output = (place / OUTPUT).read_text(encoding="utf-8", errors="replace")
    is_executed = scene.executed.exists()
    changed = _changed(before, _contents(place))
    if case.writes:
        changed = [name for name in changed if not _may_change(name, is_done=code == 0)]
    shutil.rmtree(place, ignore_errors=True)
    command = " ".join(argument.replace(f"{folder}{os.sep}", "") for argument in arguments)
    return Row(
        case.kind,
        case.fault,
        f"surgicalsam {command}"[:MOST_SHOWN].encode("ascii", "backslashreplace").decode(),
        code,
        round(seconds, 2),
        kilobytes // 1024,
        _verdict(case, code, output, is_hang),
        _message(output).replace(f"{folder}{os.sep}", "").replace(str(place), "")[:MOST_SHOWN],
        tuple(changed),
        is_executed,
        case.right if code == 0 else "",
    )


def _in_a_process(arguments: list[str], output: Path, folder: Path) -> tuple[int, int, bool]:
    """The exit code (below 0: a signal), the largest memory in KiB, and whether it had to be ended."""
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        _as_the_program(arguments, output, folder)
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        done, status, usage = os.wait4(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), usage.ru_maxrss, False
        time.sleep(0.005)
    os.kill(process, signal.SIGKILL)
    _done, status, usage = os.wait4(process, 0)
    return os.waitstatus_to_exitcode(status), usage.ru_maxrss, True


def _as_the_program(arguments: list[str], output: Path, folder: Path) -> None:
    """Become `surgicalsam` with these arguments; never returns."""
    code = 70
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.chdir(folder)
        limit = _virtual_bytes() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CPU, (LONGEST_WORK, LONGEST_WORK + 5))
        os.environ[preferences.VARIABLE] = str(folder / "preferences.json")
        code = _read_preferences() if arguments == ["preferences"] else cli.main(arguments)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _read_preferences() -> int:
    """What the window does at its start; 1 if it gives a notice."""
    notices: list[str] = []
    preferences.read_preferences(notices.append)
    print("\n".join(notices))
    return int(bool(notices))


def _virtual_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _verdict(case: Case, code: int, output: str, is_hang: bool) -> str:
    if is_hang or code in (-signal.SIGXCPU, -signal.SIGKILL):
        return "hang"
    if "MemoryError" in output or "bad_alloc" in output or "can't allocate memory" in output:
        return "memory"
    if "Traceback (most recent call last)" in output:
        return "traceback"
    if code < 0:
        return "crash"
    if code == 0:
        return "accepted, and right" if case.right else "silently accepted"
    message = _message(output)
    return "refused" if code in (1, 2) and message and len(message) <= LARGEST_MESSAGE else "unclear"


def _message(output: str) -> str:
    """The error, or the last line of the output."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("surgicalsam: ")]
    return (errors or lines or [""])[-1]


# What changed ----------------------------------------------------------------------------------------------------------


def _contents(place: Path) -> dict[str, str]:
    """By relative path, what each file and link is; without what any command may make in a project, and what it writes."""
    found = {}
    for path in _walk(place):
        parts = path.relative_to(place).parts
        is_output = parts[0] == OUTPUT or (parts[0] == INPUT and parts[1].partition(".")[0] == OUT)
        if not is_output and not RUN_FILES & set(parts):
            is_manifest = path.name == "project.json" and path.is_file() and not path.is_symlink()
            found["/".join(parts)] = _digest_of_manifest(path) if is_manifest else _digest(path)
    return found


def _walk(folder: Path) -> Iterable[Path]:
    for parent, folders, files in os.walk(folder):
        for name in [*files, *(name for name in folders if os.path.islink(os.path.join(parent, name)))]:
            yield Path(parent, name)


def _digest(path: Path) -> str:
    if path.is_symlink():
        return f"link to {os.readlink(path)}"
    if not path.is_file():
        return "no file"
    if path.stat().st_size > 2**26:  # sparse files of some cases
        return str(path.stat().st_size)
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def _may_change(name: str, *, is_done: bool) -> bool:
    """Whether a command that writes to a project may change this: anything if it succeeds, else nothing of a person."""
    parts = name.split("/")
    return parts[0] == INPUT and (is_done or not PERSONAL & set(parts))


def _digest_of_manifest(path: Path) -> str:
    """Without the place of the video, which follows it, and the checksum of all."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        record.pop("crc32c", None)
        for key in ("path", "relative_path"):
            record["video"].pop(key, None)
        return json.dumps(record)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return _digest(path)


def _changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
