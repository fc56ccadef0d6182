"""docs/architecture.md agrees with the files: the tree of the code, and the table of a project's files."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.surgical_sam import FramePrediction
from surgicalsam_napari.store import Project, Span, Track, TrackTable
from surgicalsam_napari.store.ownership import RUN_FOLDER, Ownership
from surgicalsam_napari.video import VideoReader

TOP = Path(__file__).resolve().parents[1]
PAGE = (TOP / "docs/architecture.md").read_text(encoding="utf-8")
SHORT_LIVED = {"pending.json", ".partial/<name>", "embeddings/<encoder>/.partial/<name>"}  # only while something is written
SHORT_LIVED |= {"damaged/<name>", ".backup-<random>/<name>"}  # only after a repair; only during a backup
SHORT_LIVED |= {f"augmented/<encoder>/<version>/{name}" for name in (".lock", ".partial/<name>")}


def load_tree_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_tree", TOP / "docs/tree.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def file_patterns() -> list[str]:
    """The names in the first column of the page's table of project files."""
    table = PAGE.split("<!-- project files -->")[1].split("<!-- end of project files -->")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return [name for cell in rows for name in re.findall(r"`([^`]+)`", cell)]


def matches(pattern: str, path: str) -> bool:
    expression = "[^/]+".join(re.escape(part) for part in re.split(r"<\w+>", pattern))
    return re.fullmatch(expression, path) is not None


@pytest.fixture
def project_files(clip: Path) -> set[str]:
    """The files of an open project after predictions, linking, an undo, an edit, a snapshot, embeddings and claims."""
    folder = Project.default_folder(clip)
    with Project.create(folder, VideoReader(clip), ENDOVIS2018) as project:
        label_map = np.zeros(project.labels.shape[1:], np.uint8)
        label_map[:20] = 1
        score = np.array([0.9], np.float32)
        prediction = FramePrediction((1,), label_map, score, score, np.array([True]), np.zeros(1, np.float32))
        with project.history.action("Segment and link") as action:
            project.labels.write_prediction(0, prediction, 1, action=action)
            project.tracks.write_numbers(0, label_map, action=action)
            project.tracks.write_table(TrackTable((Track(1, 1, (Span(0, 0, 1),)),)), action=action)
        for name in ("Segment", "Segment again"):
            with project.history.action(name) as action:
                project.labels.write_prediction(int(name != "Segment"), prediction, 1, action=action)
        project.history.undo()
        project.labels[2, 5:9, 5:9] = 2
        project.labels.verify(2)
        project.work_log.note_view(2, 1.5)
        project.notes.write(2, "smoke")
        project.snapshots.create("before the second round")
        embedding = np.zeros((1, 4, 2, 2), np.float16)
        project.embeddings("abc123", (4, 2, 2)).write([0], embedding)
        project.augmented_embeddings("abc123", "flips-1", (4, 2, 2)).write([0], embedding)
        project.change_classes(lambda present: present.part_added("Shaft"))
        project.open_parts().labels[2, 6:8, 6:8] = 1
        assert project.claim() is None
        run = Ownership(folder, RUN_FOLDER)
        assert run.claim()
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        run.release()
    return files


def test_the_tree_of_the_page_is_the_tree_on_disk() -> None:
    script = load_tree_script()
    on_page, on_disk = (text.splitlines() for text in (script.tree_in(PAGE), script.tree()))
    add = "\n".join(f"  add     {line.strip()}" for line in on_disk if line not in on_page)
    remove = "\n".join(f"  remove  {line.strip()}" for line in on_page if line not in on_disk)
    assert on_page == on_disk, f"docs/architecture.md is out of date; run: python docs/tree.py --write\n{add}\n{remove}"


def test_the_tree_names_and_describes_every_module() -> None:
    script = load_tree_script()
    lines = [line.split(maxsplit=1) for line in script.tree().splitlines()]
    modules = [path for root in script.ROOTS for path in (TOP / root).rglob("*.py") if path.name != "__init__.py"]
    assert sorted(path.name for path in modules) == sorted(line[0] for line in lines if line[0].endswith(".py"))
    missing = [line[0] for line in lines if len(line) == 1]
    assert not missing, f"add a docstring (for a folder: in its __init__.py or in FOLDERS of docs/tree.py): {missing}"


def test_the_page_names_every_file_of_a_project(project_files: set[str]) -> None:
    files = {path.removeprefix("parts/") for path in project_files}  # the parts are a project, too
    unnamed = sorted(path for path in files if not any(matches(pattern, path) for pattern in file_patterns()))
    assert not unnamed, f"add to the table 'A project on disk' of docs/architecture.md: {unnamed}"


def test_every_file_that_the_page_names_is_in_a_project(project_files: set[str]) -> None:
    patterns = [pattern for pattern in file_patterns() if pattern not in SHORT_LIVED]
    missing = [pattern for pattern in patterns if not any(matches(pattern, path) for path in project_files)]
    assert not missing, f"remove from the table 'A project on disk' of docs/architecture.md: {missing}"


def test_a_pattern_matches_one_name_and_no_folder() -> None:
    assert matches("labels/c.<frame>.0.0", "labels/c.12.0.0") and not matches("labels/c.<frame>.0.0", "labels/c.1.0.0.0/x")
    assert not matches("snapshots/<time>/snapshot.json", "snapshots/a/b/snapshot.json")
