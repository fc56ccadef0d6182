"""The conda recipes: read and rendered by rattler-build, compared with pyproject.toml, and written out for conda-forge."""

from __future__ import annotations

import re
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from builds import sha256
from environments import TOP, Failed, NotChecked

FOLDER = TOP / "release/conda"
PROJECT = "surgicalsam-napari"
# PyPI's name -> conda-forge's, where they differ
CONDA_NAMES = {
    "matplotlib": "matplotlib-base",
    "napari": "napari-base",
    "opencv-python-headless": "py-opencv",
    "torch": "pytorch",
}
ON_PYPI = f"https://pypi.org/packages/source/s/{PROJECT}/"


def recipe(name: str) -> dict[str, Any]:
    """A recipe of this folder, as it is written."""
    return yaml.safe_load((FOLDER / name / "recipe.yaml").read_text(encoding="utf-8"))


def names() -> list[str]:
    """The packages that have a recipe: this project, and what conda-forge lacks."""
    return sorted(path.parent.name for path in FOLDER.glob("*/recipe.yaml"))


def render() -> dict[str, list[str]]:
    """What each recipe needs to run, as rattler-build reads it; a `Failed` for a recipe that it does not accept."""
    if find_spec("rattler_build") is None:
        raise NotChecked("py-rattler-build is not installed. Install the extra `release`: pip install -e '.[release]'.")
    from rattler_build import RattlerBuildError, Stage0Recipe

    needs = {}
    for name in names():
        try:
            (rendered,) = Stage0Recipe.from_file(FOLDER / name / "recipe.yaml").render()
        except RattlerBuildError as error:
            raise Failed(f"rattler-build does not accept {name}/recipe.yaml: {error}") from error
        needs[name] = list(rendered.recipe.requirements.run)
    return needs


def compare_with_project(version: str) -> None:
    """Raise a `Failed` if the version or the requirements of the recipe differ from those of pyproject.toml."""
    written = recipe(PROJECT)
    if written["context"]["version"] != version:
        raise Failed(f"The recipe should have the version {version}; it has {written['context']['version']}.")
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    expected = {conda_requirement(requirement) for requirement in project["dependencies"]}
    found = set(written["requirements"]["run"]) - {"python >=${{ python_min }}"}
    if expected != found:
        raise Failed(
            "The recipe should need what pyproject.toml needs. "
            f"Add: {sorted(expected - found) or 'nothing'}. Remove: {sorted(found - expected) or 'nothing'}."
        )


def conda_requirement(requirement: str) -> str:
    """A requirement of pyproject.toml under conda-forge's name, such as "pytorch >=2.4" for "torch>=2.4"."""
    name, limits = re.fullmatch(r"([\w.-]+)(.*)", requirement).groups()  # type: ignore[union-attr]
    return f"{CONDA_NAMES.get(name, name)} {limits}".strip()


def write_for_conda_forge(sdist: Path, folder: Path) -> None:
    """The recipes as conda-forge wants them: with the address of the sdist on PyPI and its hash in place of a local path."""
    for name in names():
        (folder / name).mkdir(parents=True, exist_ok=True)
        text = (FOLDER / name / "recipe.yaml").read_text(encoding="utf-8")
        if name == PROJECT:
            local = re.compile(r"^  path: .*/(.+)$", re.MULTILINE)
            text = local.sub(lambda match: f"  url: {ON_PYPI}{match[1]}\n  sha256: {sha256(sdist)}", text)
            text = text[text.index("schema_version") :]  # without the comment on the local path
        (folder / name / "recipe.yaml").write_text(text, encoding="utf-8")


def build(channel: str, output: Path) -> list[str]:
    """Build all packages with the libraries of `channel`, such as "conda-forge" or a file:// address, into `output`.

    A `Failed` with the reason if one does not build. The recipes' own tests are made, unless the channel is a folder.
    """
    from rattler_build import RattlerBuildError, Stage0Recipe, ToolConfiguration
    from rattler_build.progress import ProgressCallback

    class Log(ProgressCallback):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def on_log(self, event: Any) -> None:
            self.lines.append(event.message)

    tools = ToolConfiguration(test_strategy="skip" if channel.startswith("file:") else "native")
    built = []
    for name in names():
        log = Log()
        try:
            recipe_file = Stage0Recipe.from_file(FOLDER / name / "recipe.yaml")
            results = recipe_file.run_build(tool_config=tools, output_dir=output, channels=[channel], progress_callback=log)
        except RattlerBuildError as error:
            last_lines = "\n".join([str(error), *log.lines[-15:]])
            raise Failed(f"{name} should build with the channel {channel}; it does not: {last_lines}") from error
        built += [Path(path).name for result in results for path in result.packages]
    return built
