"""What a release needs: equal versions and builds, licences, conda recipes, container file, and the workflow of a host.

`make release-check` makes the long checks, too: an installation on every Python, and the bill of materials.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

sys.path.append(str(Path(__file__).resolve().parents[1] / "release"))

import builds
import check
import environments
import licences
import recipes
from environments import Failed, NotChecked

TOP = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONTAINER_FILE = (TOP / "release/Containerfile").read_text(encoding="utf-8")
WORKFLOW = TOP / ".github/workflows/tests.yml"


@pytest.fixture
def release(tmp_path: Path) -> check.Release:
    """This clone's version, with folders of its own for results."""
    return check.Release(check.project_version(), dist=tmp_path / "dist", work=tmp_path / "work")


def passes(function: Callable[[check.Release], object], release: check.Release) -> bool:
    """Whether a check passes; the test is skipped where the check's tool is missing."""
    try:
        return bool(list(function(release)))  # type: ignore[call-overload]
    except NotChecked as reason:
        pytest.skip(str(reason))


def test_the_version_is_the_same_everywhere(release: check.Release) -> None:
    (line,) = check.check_version(release)
    assert line.startswith(f"{release.version};")
    recipes.compare_with_project(release.version)


@pytest.mark.parametrize(
    ("version", "file"), [("9.9.9", "CHANGELOG.md"), (check.project_version().rpartition(".")[0], "CITATION.cff")]
)
def test_another_version_in_a_file_is_an_error_that_names_the_file(version: str, file: str) -> None:
    with pytest.raises(Failed, match=re.escape(file)):
        list(check.check_version(check.Release(version)))


def test_a_final_release_needs_a_dated_changelog(release: check.Release) -> None:
    heading = check.changelog_heading((TOP / "CHANGELOG.md").read_text(encoding="utf-8"))
    if not heading.startswith("Unreleased"):
        pytest.skip("the changelog of this clone is that of a release")
    with pytest.raises(Failed, match=r"## .* \(YYYY-MM-DD\)"):
        list(check.check_version(check.Release(release.version, is_final=True)))


def test_the_checks_use_every_python_of_the_classifiers_and_so_does_the_workflow() -> None:
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    matrix = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["tests"]["strategy"]["matrix"]
    assert list(environments.PYTHONS) == named == matrix["python"]
    assert PROJECT["requires-python"] == f">={named[0]}"


@pytest.mark.slow
def test_two_builds_have_the_same_bytes(release: check.Release) -> None:
    wheel_and_sdist = builds.build_twice(release.dist)
    sums = (release.dist / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    assert sorted(sums) == sorted(f"{builds.sha256(path)}  {path.name}" for path in wheel_and_sdist)
    assert {path.suffix for path in wheel_and_sdist} == {".whl", ".gz"}


def test_builds_that_differ_are_an_error(release: check.Release, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builds, "_build", lambda tree, umask: {"a.whl": str(tree), "a.tar.gz": "same"})
    with pytest.raises(Failed, match=r"a\.whl differ"):
        builds.build_twice(release.dist)


def test_a_package_without_a_licence_is_an_error() -> None:
    licences.check([{"Name": "a", "License": "MIT"}])
    with pytest.raises(Failed, match="b do not"):
        licences.check([{"Name": "a", "License": "MIT"}, {"Name": "b", "License": "UNKNOWN"}])


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("GPL-3.0-only", True),
        ("GNU General Public License v3 (GPLv3)", True),
        ("AGPL-3.0", True),
        ("LGPL v3", False),
        ("GNU Lesser General Public License v2 or later (LGPLv2+)", False),
        ("MIT OR GPL-2.0", False),
        ("GPL-2.0; BSD License", False),
        ("BSD-3-Clause", False),
    ],
)
def test_a_licence_is_copyleft_if_no_other_can_be_chosen(licence: str, expected: bool) -> None:
    assert licences.is_copyleft(licence) is expected


def test_no_required_package_may_be_under_the_gpl_but_the_extra_qt_binding_may() -> None:
    licences.check([{"Name": "PyQt6", "License": "GPL-3.0-only"}])
    with pytest.raises(Failed, match="other are"):
        licences.check([{"Name": "other", "License": "GPL-3.0-only"}])


def test_requirements_have_the_names_of_conda_forge() -> None:
    assert recipes.conda_requirement("torch>=2.4") == "pytorch >=2.4"
    assert recipes.conda_requirement("napari>=0.8,<0.10") == "napari-base >=0.8,<0.10"
    assert recipes.conda_requirement("pydantic") == "pydantic"


def test_a_requirement_that_the_recipe_lacks_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    written = recipes.recipe(recipes.PROJECT)
    written["requirements"]["run"].remove("pytorch >=2.4")
    monkeypatch.setattr(recipes, "recipe", lambda name: written)
    with pytest.raises(Failed, match=r"Add: \['pytorch >=2\.4'\]"):
        recipes.compare_with_project(check.project_version())


def test_rattler_build_renders_every_recipe() -> None:
    try:
        needs = recipes.render()
    except NotChecked as reason:
        pytest.skip(str(reason))
    assert set(needs) == set(recipes.names()) >= {recipes.PROJECT}
    assert "python >=3.11" in needs[recipes.PROJECT]


def test_the_recipe_for_conda_forge_has_the_address_and_the_hash_of_the_sdist(tmp_path: Path) -> None:
    sdist = tmp_path / "surgicalsam_napari-0.1.0.tar.gz"
    sdist.write_bytes(b"contents")
    recipes.write_for_conda_forge(sdist, tmp_path / "conda")
    written = yaml.safe_load((tmp_path / "conda" / recipes.PROJECT / "recipe.yaml").read_text(encoding="utf-8"))
    assert written["source"]["sha256"] == builds.sha256(sdist)
    assert written["source"]["url"].endswith("/surgicalsam_napari-${{ version }}.tar.gz") and "path" not in written["source"]
    assert {path.parent.name for path in (tmp_path / "conda").glob("*/recipe.yaml")} == set(recipes.names())


def test_the_container_file_has_no_fault_that_the_linter_knows(release: check.Release) -> None:
    assert passes(check.check_container, release)


def test_the_container_does_not_run_as_root_and_its_base_is_pinned_by_hash() -> None:
    bases = re.findall(r"^FROM (\S+)", CONTAINER_FILE, re.MULTILINE)
    assert len(set(bases)) == 1 and re.search(r":[\d.]+-slim-\w+@sha256:[0-9a-f]{64}$", bases[0])
    assert re.findall(r"^USER (\S+)", CONTAINER_FILE, re.MULTILINE) == ["1000"]


def test_the_workflow_of_the_host_is_valid_and_safe(release: check.Release) -> None:
    assert passes(check.check_workflow, release)


def test_the_workflow_tests_three_systems_and_the_oldest_and_newest_napari() -> None:
    matrix = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["tests"]["strategy"]["matrix"]
    assert {name.partition("-")[0] for name in matrix["system"]} == {"ubuntu", "windows", "macos"}
    assert {*matrix["napari"], *(entry["napari"] for entry in matrix["include"])} == {"0.8", "0.9"}
    assert "napari>=0.8,<0.10" in PROJECT["dependencies"]


def test_a_missing_tool_is_not_a_failure_but_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environments.shutil, "which", lambda name, path=None: None)
    assert check.main(["--only", "container"]) == 0
    assert "NOT CHECKED: hadolint is not installed" in (printed := capsys.readouterr().out)
    assert "0 passed, 0 failed, 1 not checked" in printed


def test_a_failed_check_is_the_exit_status(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(check, "project_version", lambda: "9.9.9")
    assert check.main(["--only", "version"]) == 1
    assert "FAILED: The first section of CHANGELOG.md should name 9.9.9" in capsys.readouterr().out


def test_a_command_that_fails_shows_its_last_lines() -> None:
    with pytest.raises(Failed, match=r"ended with 3:\nthe reason"):
        environments.run([sys.executable, "-c", "import sys; print('the reason'); sys.exit(3)"])


def test_what_is_installed_is_tried_and_not_the_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TOP))
    assert environments.run([sys.executable, "-c", "import os; print('PYTHONPATH' in os.environ)"]).strip() == "False"
