"""The wheel and the sdist of a release: built twice from the files of this clone, which must give the same bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

from environments import TOP, Failed, run


def build_twice(dist: Path) -> list[Path]:
    """The wheel and the sdist in `dist`, with SHA256SUMS; a `Failed` if a second build in another folder differs.

    Built are the files that git knows or would add, so that nothing else of this machine gets into a release.
    """
    with tempfile.TemporaryDirectory() as folder:
        first, second = (_build(Path(folder) / name, umask) for name, umask in (("a", 0o022), ("another/folder", 0o077)))
        different = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
        if different:
            raise Failed(
                f"Two builds of the same files should be equal; {', '.join(different)} differ. Compare with diffoscope."
            )
        shutil.rmtree(dist, ignore_errors=True)
        shutil.copytree(Path(folder) / "a-dist", dist)
    (dist / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(first.items())))
    return sorted(dist / name for name in first)


def sha256(path: Path) -> str:
    """The hash of a file, as hexadecimal text."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def commit_time() -> str:
    """Seconds since 1970 of the last commit: the time of all files in the wheel and the sdist."""
    return run(["git", "log", "-1", "--format=%ct"]).strip()


def _build(tree: Path, umask: int) -> dict[str, str]:
    listed = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]).split("\0")
    before = os.umask(umask)
    try:
        for name in filter(None, listed):
            if (TOP / name).is_file():  # not a file that is deleted, but not yet in a commit
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(TOP / name, tree / name)
        out = tree.with_name(f"{tree.name}-dist")
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, tree]
        run(command, tree, SOURCE_DATE_EPOCH=commit_time())
    finally:
        os.umask(before)
    return {path.name: sha256(path) for path in sorted(out.iterdir()) if path.suffix in (".whl", ".gz")}
