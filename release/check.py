"""Checks a release, and writes what belongs to it into dist/: `make release-check`, or `python release/check.py`.

`--final` also asks for what only a finished release has: a dated changelog, and no files that are not committed.
`--conda-channel conda-forge` also builds the conda packages. `--only NAME` makes one check (and may be given several times).
A line for each check; the exit status is 1 if one failed.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import builds
import environments
import licences
import recipes
from environments import PYTHONS, TOP, Failed, NotChecked, run, tool


@dataclass(frozen=True)
class Release:
    """What is checked: the version of this clone, and the folders for the results and for new environments."""

    version: str
    is_final: bool = False
    conda_channel: str | None = None
    dist: Path = TOP / "dist"
    work: Path = TOP / "build/release"

    def built(self, pattern: str) -> Path:
        """The built file of this pattern."""
        found = sorted(self.dist.glob(pattern))
        if len(found) != 1:
            raise NotChecked(f"it needs one file {pattern} in {self.dist}. Run the check `build` first.")
        return found[0]

    def environment(self) -> Path:
        """The Python of an environment that the check `install` made."""
        pythons = sorted(self.work.glob("python-*/bin/python"))
        if not pythons:
            raise NotChecked("there is no environment with the wheel. Run the check `install` first.")
        return pythons[0]


def check_version(release: Release) -> Iterator[str]:
    """The version is the same everywhere, and the changelog has it."""
    changelog = (TOP / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = changelog_heading(changelog)
    if release.version not in heading:
        raise Failed(f"The first section of CHANGELOG.md should name {release.version}; it is `## {heading}`.")
    citation = (TOP / "CITATION.cff").read_text(encoding="utf-8")
    if f"\nversion: {release.version}\n" not in citation:
        raise Failed(f"CITATION.cff should have `version: {release.version}`. Change it.")
    if release.is_final and not re.fullmatch(rf"{re.escape(release.version)} \(\d{{4}}-\d\d-\d\d\)", heading):
        raise Failed(
            f"The changelog of a release should begin with `## {release.version} (YYYY-MM-DD)`; it has `## {heading}`."
        )
    if release.is_final and (changed := run(["git", "status", "--porcelain"]).split("\n")[:-1]):
        raise Failed(f"A release is built from committed files; {len(changed)} are not committed. Commit or remove them.")
    yield f"{release.version}; changelog: {heading}"


def check_build(release: Release) -> Iterator[str]:
    """The wheel and the sdist are built twice, in two folders, with the same bytes."""
    for path in builds.build_twice(release.dist):
        yield f"{path.name}: {path.stat().st_size / 2**20:.1f} MiB, sha256 {builds.sha256(path)[:16]}…, the same twice"


def check_metadata(release: Release) -> Iterator[str]:
    """PyPI accepts the files and shows the README."""
    run([tool("twine"), "check", "--strict", release.built("*.whl"), release.built("*.tar.gz")])
    yield "twine check --strict"


def check_install(release: Release) -> Iterator[str]:
    """The wheel and the sdist work in new environments of each Python."""
    wheel, sdist = release.built("*.whl"), release.built("*.tar.gz")
    release.work.mkdir(parents=True, exist_ok=True)
    missing = []
    for version in PYTHONS:
        interpreter = environments.interpreter(version)
        if interpreter is None:
            count = environments.resolves(version)
            yield f"Python {version}: not on this machine; by their metadata, {count} pinned packages fit together on it"
            missing.append(version)
            continue
        python = environments.new_environment(interpreter, release.work / f"python-{version}")
        environments.install(python, f"{wheel}[all]")
        environments.try_out(python, release.work, release.version)
        from_sdist = environments.new_environment(interpreter, release.work / f"sdist-{version}")
        environments.install(from_sdist, "--no-deps", sdist)
        if environments.installed_files(python) != environments.installed_files(from_sdist):
            raise Failed(f"Python {version}: the sdist should install the same files as the wheel; it does not.")
        yield f"Python {version}: installed from wheel and sdist; a clip was segmented"
    if missing:
        raise NotChecked(
            f"no Python {' and '.join(missing)}. Install them (uv python install {' '.join(missing)}), and run it again."
        )


def check_licences(release: Release) -> Iterator[str]:
    """Every package that comes along has a licence; the table is dist/licences.md."""
    table, count = licences.table(release.environment())
    (release.dist / "licences.md").write_text(table, encoding="utf-8")
    yield f"{count} packages: {release.dist / 'licences.md'}"


def check_sbom(release: Release) -> Iterator[str]:
    """The software bill of materials, CycloneDX, of an environment with the wheel."""
    output = release.dist / f"surgicalsam_napari-{release.version}.cdx.json"
    options = ["--pyproject", TOP / "pyproject.toml", "--output-format", "JSON", "--output-reproducible", "--validate"]
    run([tool("cyclonedx-py"), "environment", *options, "--output-file", output, release.environment()])
    yield str(output)


def check_conda(release: Release) -> Iterator[str]:
    """The conda recipes are valid and need what pyproject.toml needs; dist/conda has them for conda-forge."""
    recipes.compare_with_project(release.version)
    needs = recipes.render()
    recipes.write_for_conda_forge(release.built("*.tar.gz"), release.dist / "conda")
    yield f"rattler-build renders {', '.join(needs)}; for conda-forge: {release.dist / 'conda'}"
    if release.conda_channel is None:
        raise NotChecked("the packages were not built. Give a channel: --conda-channel conda-forge.")
    yield f"built: {', '.join(recipes.build(release.conda_channel, release.work / 'conda'))}"


def check_container(release: Release) -> Iterator[str]:
    """The container file has no fault that hadolint knows."""
    run([tool("hadolint"), TOP / "release/Containerfile"])
    yield "hadolint"


def check_workflow(release: Release) -> Iterator[str]:
    """The workflow for a public host is valid and safe."""
    workflow = TOP / ".github/workflows/tests.yml"
    run([tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", workflow])
    run([tool("zizmor"), "--offline", "--quiet", workflow])
    yield "GitHub's schema, zizmor"


CHECKS: dict[str, Callable[[Release], Iterator[str]]] = {
    "version": check_version,
    "workflow": check_workflow,
    "container": check_container,
    "build": check_build,
    "metadata": check_metadata,
    "conda": check_conda,
    "install": check_install,
    "licences": check_licences,
    "sbom": check_sbom,
}


def changelog_heading(changelog: str) -> str:
    """The heading of the changelog's first section."""
    found = re.search(r"^## (.+)$", changelog, re.MULTILINE)
    return "" if found is None else found[1]


def project_version() -> str:
    """The version in surgicalsam_napari/__init__.py, without importing it."""
    text = (TOP / "surgicalsam_napari/__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    if found is None:
        raise Failed('surgicalsam_napari/__init__.py should have a line `__version__ = "…"`.')
    return found[1]


def main(arguments: list[str] | None = None) -> int:
    """Make the checks; 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--final", action="store_true", help="a finished release")
    parser.add_argument(
        "--conda-channel", metavar="NAME", help="build the conda packages with the libraries of this channel"
    )
    parser.add_argument("--only", action="append", choices=CHECKS, metavar="NAME", help=", ".join(CHECKS))
    options = parser.parse_args(arguments)
    release = Release(project_version(), is_final=options.final, conda_channel=options.conda_channel)
    states = [_state(name, release) for name in options.only or CHECKS]
    print(", ".join(f"{states.count(state)} {state}" for state in ("passed", "failed", "not checked")))
    return int("failed" in states)


def _state(name: str, release: Release) -> str:
    try:
        for line in CHECKS[name](release):
            print(f"{name:10} {line}", flush=True)
    except NotChecked as reason:
        print(f"{name:10} NOT CHECKED: {reason}", flush=True)
        return "not checked"
    except Failed as error:
        print(f"{name:10} FAILED: {error}", flush=True)
        return "failed"
    return "passed"


if __name__ == "__main__":
    sys.exit(main())
