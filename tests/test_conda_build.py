"""rattler-build makes the conda packages of the recipes, with stand-ins for the packages of conda-forge.

The stand-in for Python is a virtual environment of this Python, with the build tools of this environment.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "release"))

import builds
import recipes

rattler_build = pytest.importorskip("rattler_build", reason="the extra `release` is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif((sys.platform, platform.machine()) != ("linux", "x86_64"), reason="the stand-ins are for Linux"),
]
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"


def add_package(folder: Path, name: str, version: str, files: Path | None = None) -> dict[str, object]:
    """Write a conda package into a channel's folder; returns its line in the channel's list."""
    noarch = None if files else "generic"
    made = rattler_build.assemble_package(
        name, version, folder.name, "0", folder, files_dir=files, noarch=noarch, compression_level=1
    )
    contents = Path(made.path).read_bytes()
    return {
        "name": name,
        "version": version,
        "build": "0",
        "build_number": 0,
        "depends": [],
        "subdir": folder.name,
        "size": len(contents),
        "md5": hashlib.md5(contents).hexdigest(),
        "sha256": hashlib.sha256(contents).hexdigest(),
    }


@pytest.fixture
def channel(tmp_path: Path) -> str:
    """The address of a channel that has Python and the build tools."""
    prefix = tmp_path / "prefix"
    site_packages = prefix / f"lib/python{VERSION}/site-packages"
    site_packages.mkdir(parents=True)
    (prefix / "bin").mkdir()
    home = Path(os.path.realpath(sys.executable))
    (prefix / "bin/python").symlink_to(home)
    (prefix / "pyvenv.cfg").write_text(f"home = {home.parent}\n")
    (site_packages / "tools.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    packages = {
        "linux-64": [("python", f"{VERSION}.0", prefix)],
        "noarch": [("pip", "25.0", None), ("hatchling", "1.30", None), ("setuptools", "80.0", None)],
    }
    for subdir, contents in packages.items():
        folder = tmp_path / "channel" / subdir
        folder.mkdir(parents=True)
        listed = [add_package(folder, *package) for package in contents]
        listing = {f"{package['name']}-{package['version']}-0.conda": package for package in listed}
        (folder / "repodata.json").write_text(json.dumps({"info": {"subdir": subdir}, "packages.conda": listing}))
    return (tmp_path / "channel").as_uri()


def test_the_recipe_of_this_project_builds(channel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATTLER_CACHE_DIR", str(tmp_path / "cache"))
    builds.build_twice(tmp_path / "dist")
    folder = tmp_path / "release/conda" / recipes.PROJECT
    shutil.copytree(recipes.FOLDER / recipes.PROJECT, folder)
    oldest = re.compile(r'python_min: "[\d.]+"')  # the stand-in has the version of this Python
    recipe_file = folder / "recipe.yaml"
    recipe_file.write_text(oldest.sub(f'python_min: "{VERSION}"', recipe_file.read_text(encoding="utf-8")))
    monkeypatch.setattr(recipes, "FOLDER", folder.parent)

    (built,) = recipes.build(channel, tmp_path / "out")

    package = rattler_build.Package.from_file(next((tmp_path / "out").rglob(built)))
    files = {str(path) for path in package.files}
    assert package.license == "BSD-3-Clause"
    assert {"site-packages/surgicalsam_napari/napari.yaml", "site-packages/surgicalsam_training/__init__.py"} <= files
    assert any(requirement.startswith("napari-base >=0.8") for requirement in package.depends)
