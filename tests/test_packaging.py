"""The manifest, the wheel and the sdist, and the wheel alone in a separate environment."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Sequence
from email import message_from_bytes
from itertools import chain
from pathlib import Path

import pytest
from npe2 import PluginManifest

import surgicalsam_napari
from surgicalsam_napari.exchange.registry import EXPORT_FORMATS

TOP = Path(__file__).resolve().parents[1]
PACKAGE_FOLDERS = {
    "surgicalsam_napari": TOP / "surgicalsam_napari",
    "surgicalsam_training": TOP / "training/surgicalsam_training",
}
BUNDLED_WEIGHTS = "surgicalsam_napari/model/weights/light.safetensors"
# import name -> distribution name, if the two differ
DISTRIBUTIONS = {"cv2": "opencv-python-headless", "PIL": "pillow", "skimage": "scikit-image", "yaml": "pyyaml"}
# loaded by its path, not imported by name
LOADED_BY_PATH = {"segment-anything"}
QT_BINDINGS = re.compile(r"(pyqt|pyside)", re.IGNORECASE)


def run(arguments: Sequence[str | Path], folder: Path, **environment: str) -> str:
    """Run a command; returns its standard output, or fails the test with the whole output."""
    result = subprocess.run(
        list(map(str, arguments)), cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=280
    )
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder holding the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, TOP], folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment with this wheel, and all libraries of the present one except the project itself."""
    folder = tmp_path_factory.mktemp("world")
    venv.create(folder / "env", with_pip=False, symlinks=os.name != "nt")
    python = folder / "env" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    run([sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel], folder)
    libraries = folder / "libraries"
    libraries.mkdir()
    for entry in Path(pytest.__file__).parents[1].iterdir():
        if not entry.name.lower().startswith(("surgicalsam", "_surgicalsam", "__editable__")) and entry.suffix != ".pth":
            (libraries / entry.name).symlink_to(entry, target_is_directory=entry.is_dir())
    site_packages = run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder).strip()
    (Path(site_packages) / "libraries.pth").write_text(f"{libraries}\n")
    return python


def files_of(folder: Path) -> set[str]:
    """Files that belong in a build, as posix paths below `folder`."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }


def imported_libraries() -> set[str]:
    """Distribution names of the libraries that both packages import, without the standard library."""
    names: set[str] = set()
    for path in (path for folder in PACKAGE_FOLDERS.values() for path in folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names.add(node.module.split(".")[0])
    names -= sys.stdlib_module_names | PACKAGE_FOLDERS.keys()
    return {DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in names}


def declared_libraries() -> set[str]:
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    # imported only where needed
    extras = (project["optional-dependencies"][name] for name in ("baselines", "cluster", "dicom"))
    declared = chain(project["dependencies"], *extras)
    return {re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower() for requirement in declared}


def test_the_package_contains_an_exact_copy_of_the_manifest() -> None:
    copy = Path(surgicalsam_napari.__file__).with_name("napari.yaml")
    assert copy.read_bytes() == (TOP / "napari.yaml").read_bytes(), "run make, which copies napari.yaml into the package"


def test_the_manifest_is_valid() -> None:
    assert "valid" in run([sys.executable, "-m", "npe2", "validate", TOP / "napari.yaml"], TOP)


def test_the_manifest_offers_widget_reader_and_sample_data() -> None:
    contributions = PluginManifest.from_file(TOP / "napari.yaml").contributions
    assert [widget.display_name for widget in contributions.widgets or []] == ["SurgicalSAM"]
    assert [sample.display_name for sample in contributions.sample_data or []] == [
        "Surgical phantom",
        "Surgical phantom, unknown domain",
    ]
    (reader,) = contributions.readers or []
    assert reader.accepts_directories
    assert "*.surgicalsam" in reader.filename_patterns


def test_the_manifest_names_every_video_suffix_that_can_be_read() -> None:
    from surgicalsam_napari.video import VIDEO_SUFFIXES

    (reader,) = PluginManifest.from_file(TOP / "napari.yaml").contributions.readers or []
    assert {pattern.removeprefix("*") for pattern in reader.filename_patterns} == {*VIDEO_SUFFIXES, ".surgicalsam"}


def test_the_manifest_offers_the_writers_of_the_registry_and_no_other() -> None:
    contributions = PluginManifest.from_file(TOP / "napari.yaml").contributions
    commands = {command.id: command for command in contributions.commands or []}
    offered = []
    for writer in contributions.writers or []:
        command = commands[writer.command]
        assert writer.layer_types == ["labels"]
        offered.append((command.id, command.title, command.python_name, writer.display_name, writer.filename_extensions))
    module = "surgicalsam_napari.widgets.contributions.writers"
    expected = [
        (
            f"surgicalsam-napari.{format.napari_command}",
            f"Save labels as {format.title}",
            f"{module}:{format.napari_command}",
            format.napari_name,
            [f".{format.name}"],
        )
        for format in EXPORT_FORMATS.values()
        if format.napari_command is not None
    ]
    assert sorted(offered) == sorted(expected)
    assert {name for name in commands if ".write" in name} == {name for name, *_ in expected}


def test_every_imported_library_is_declared() -> None:
    assert imported_libraries() - declared_libraries() == set()


def test_every_declared_library_is_imported() -> None:
    assert declared_libraries() - imported_libraries() - LOADED_BY_PATH == set()


def test_the_wheel_contains_both_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {f"{package}/{name}" for package, folder in PACKAGE_FOLDERS.items() for name in files_of(folder)}
    assert names == expected
    assert "surgicalsam_napari/napari.yaml" in names


def test_wheel_and_sdist_contain_the_bundled_weights(built: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert archive.getinfo(BUNDLED_WEIGHTS).file_size == (TOP / BUNDLED_WEIGHTS).stat().st_size
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        assert any(name.endswith(f"/{BUNDLED_WEIGHTS}") for name in archive.getnames())


def test_the_sdist_builds_the_wheel_and_contains_no_tests(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "hatch_build.py", "napari.yaml", "LICENSE", "README.md", "CHANGELOG.md"} <= names
    assert {"surgicalsam_napari/__init__.py", "training/surgicalsam_training/__init__.py"} <= names
    assert not [name for name in names if name.startswith(("tests", "shared", ".venv"))]


def test_base_dependencies_contain_no_qt_binding(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(name))
    requirements = metadata.get_all("Requires-Dist") or []
    base = [requirement for requirement in requirements if "extra ==" not in requirement]
    with_all = [requirement for requirement in requirements if re.search(r"extra == ['\"]all['\"]", requirement)]
    assert base and not [requirement for requirement in base if QT_BINDINGS.search(requirement) or "[" in requirement]
    assert any(QT_BINDINGS.search(requirement) for requirement in with_all)
    assert metadata["Version"] == surgicalsam_napari.__version__
    assert metadata["License-Expression"] == "BSD-3-Clause"


def test_the_metadata_has_what_the_napari_hub_shows() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "Framework :: napari" in project["classifiers"] and project["description"] and project["authors"]
    assert "Homepage" in project["urls"] and all(url.startswith("https://") for url in project["urls"].values())


def test_the_installed_wheel_is_in_naparis_plugin_list(installed: Path, tmp_path: Path) -> None:
    listing = run([installed, "-m", "napari", "--plugin-info"], tmp_path, COLUMNS="200", NO_COLOR="1")
    assert re.search(rf"surgicalsam-napari\W+{re.escape(surgicalsam_napari.__version__)}", listing), listing


def test_every_command_of_the_installed_plugin_can_be_imported(installed: Path, tmp_path: Path) -> None:
    location = run([installed, "-c", "import surgicalsam_napari; print(surgicalsam_napari.__file__)"], tmp_path)
    assert installed.parents[1] in Path(location.strip()).parents
    assert "valid" in run([installed, "-m", "npe2", "validate", "--imports", "surgicalsam-napari"], tmp_path)


def test_the_installed_command_prints_its_help(installed: Path, tmp_path: Path) -> None:
    assert "segment" in run([installed.with_name("surgicalsam"), "--help"], tmp_path)
