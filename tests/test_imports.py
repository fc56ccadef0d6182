"""Allowed imports: one direction between the parts of the program, and no Qt or napari outside `widgets`."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
PACKAGES = {"surgicalsam_napari": TOP / "surgicalsam_napari", "surgicalsam_training": TOP / "training/surgicalsam_training"}
WINDOW_LIBRARIES = {"qtpy", "napari", "magicgui", "superqt", "vispy", "PyQt5", "PyQt6", "PySide2", "PySide6"}

# errors, files, formatting, untrusted, instruments <- model, video, phantom <- store <- editing, review, overlay, inference,
# exchange <- propagation, remote <- tracking <- training <- cluster <- session <- widgets, cli
FOUNDATION = {"errors", "files", "formatting", "instruments", "untrusted"}
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "files": set(),
    "formatting": set(),
    "instruments": {"errors", "untrusted"},
    "untrusted": set(),
    "preferences": {"files"},
    "model": FOUNDATION,
    "video": FOUNDATION,
    "phantom": FOUNDATION | {"video"},
    "store": FOUNDATION | {"model", "video", "phantom"},
    "inference": FOUNDATION | {"model", "video", "phantom", "store"},
    "remote": FOUNDATION | {"__init__", "model", "inference"},
    "propagation": FOUNDATION | {"model", "video", "store", "inference"},
    "tracking": FOUNDATION | {"model", "video", "store", "inference", "propagation"},
    "editing": FOUNDATION | {"store"},
    "review": FOUNDATION | {"store"},
    "overlay": FOUNDATION | {"video", "store"},
    "exchange": FOUNDATION | {"model", "video", "phantom", "store"},
    "surgicalsam_training": FOUNDATION
    | {"model", "video", "phantom", "store", "inference", "propagation", "tracking", "overlay", "exchange"},
}
MAY_IMPORT["cluster"] = {*MAY_IMPORT["surgicalsam_training"], "surgicalsam_training"}
MAY_IMPORT["session"] = {*MAY_IMPORT["cluster"], "cluster", "remote", "editing", "review", "preferences"}
MAY_IMPORT["widgets"] = {*MAY_IMPORT["session"], "session"}
MAY_IMPORT["cli"] = {*MAY_IMPORT["widgets"], "widgets"}
MAY_IMPORT["__main__"] = {"cli"}

# The rooms inside a package, from the foundation up: a room may import only from the lines above its own line in the same
# package. A folder without sub-folders is one room; a file next to sub-folders is a separate room.
ROOM_ORDER: dict[str, tuple[tuple[str, ...], ...]] = {
    "surgicalsam_napari.widgets": (
        ("parts",),
        ("runs",),
        ("viewer",),
        ("actions",),
        ("source", "work_clock"),
        ("correct", "train", "exchange", "timeline", "classes"),
        ("segment_panel",),
        ("start",),
        ("main_widget",),
        ("opening",),
        ("demo", "contributions"),
        ("",),
    ),
    "surgicalsam_napari.store": (
        ("provenance", "label_maps", "project_classes", "tracks"),
        ("disk",),
        ("embeddings", "ownership", "history", "manifest"),
        ("snapshots", "same_video"),
        ("labels", "locating"),
        ("growing", "instances", "work_log", "content_area", "notes", "creating"),
        ("part_labels",),
        ("summary", "plain_files"),
        ("project",),
        ("checking", "validity", "corrections"),
        ("backup",),
        ("",),
    ),
    "surgicalsam_napari.exchange": (
        ("files", "name_readings", "overlaps", "coordinates", "outlines"),
        ("frame_names", "polygons", "label_colors", "instances"),
        ("unrecognized",),
        ("dataset",),
        ("format",),
        ("sidecar",),
        ("listing",),
        ("parts",),
        ("formats",),
        ("registry",),
        ("matching", "class_matching", "writing", "import_tracks", "import_parts"),
        ("survey",),
        ("import_plan",),
        ("import_preview",),
        ("exporting", "importing"),
        ("converting",),
        ("",),
    ),
    "surgicalsam_training": (
        ("config", "reports"),
        ("data",),
        ("scoring", "run"),
        ("loop",),
        ("learn",),
        ("baselines", "__main__"),
        ("launch",),
        ("experiments",),
        ("",),
    ),
}


def module_files() -> dict[str, Path]:
    """Every module of both packages with its dotted name as the key."""
    modules = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            modules[".".join((package, *(part for part in parts if part != "__init__")))] = path
    return modules


MODULES = module_files()


def part_of(module: str) -> str:
    """The part of the design that a module belongs to: its first name below the package."""
    package, *names = module.split(".")
    if package == "surgicalsam_training":
        return package
    return names[0] if names else "__init__"


@cache
def import_statements(path: Path) -> list[ast.Import | ast.ImportFrom]:
    """The imports in a file: at its top, in functions, or for type checking. Expressions, which have none, are skipped."""
    found: list[ast.Import | ast.ImportFrom] = []
    statements: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while statements:
        statement = statements.pop()
        if isinstance(statement, ast.Import | ast.ImportFrom):
            found.append(statement)
        statements += [child for child in ast.iter_child_nodes(statement) if not isinstance(child, ast.expr)]
    return found


def imported_names(path: Path, module: str) -> Iterator[str]:
    """The dotted names that a file imports, at its top or inside functions, relative ones resolved."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in import_statements(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


def own_parts_imported(path: Path, module: str) -> set[str]:
    names = (name for name in imported_names(path, module) if name.split(".")[0] in PACKAGES)
    parts = {part_of(name) for name in names}
    return parts - {"__init__", "__version__", part_of(module)}


def package_of(module: str) -> list[str]:
    """The package name, split at the dots, from which the relative imports of a module start."""
    names = module.split(".")
    return names if MODULES[module].name == "__init__.py" else names[:-1]


def modules_imported(path: Path, package: list[str]) -> set[str]:
    """The modules of the project that a file imports: at the top, in a function, or for type checking."""
    modules = set()
    for node in import_statements(path):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            # `from package import module` imports the module; `from package import name` runs the package's __init__
            names = [f"{source}.{alias.name}" if f"{source}.{alias.name}" in MODULES else source for alias in node.names]
        modules |= {name for name in names if name in MODULES}
    return modules - set(PACKAGES)  # the top __init__ defines the version and imports everything else lazily


def room_of(module: str) -> str:
    """The folder of a module, or the module itself if its folder has sub-folders."""
    folder = MODULES[module].parent
    has_rooms = any(
        (child / "__init__.py").exists() or any(child.glob("*.py")) for child in folder.iterdir() if child.is_dir()
    )
    return module if has_rooms else ".".join(package_of(module))


IMPORTS = {module: modules_imported(path, package_of(module)) - {module} for module, path in MODULES.items()}
ROOMS = {module: room_of(module) for module in MODULES}


def rooms_imported() -> dict[str, set[str]]:
    """The rooms that the files of each room import."""
    rooms: dict[str, set[str]] = {room: set() for room in ROOMS.values()}
    for module, imported in IMPORTS.items():
        rooms[ROOMS[module]] |= {ROOMS[name] for name in imported} - {ROOMS[module]}
    return rooms


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """An import circle, in which each name imports the next; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1][::-1]
    return []


def lines_between(rooms: Iterable[str]) -> str:
    """The imports between files along a circle of rooms, one per line."""
    return "\n".join(
        f"  {module} imports {name}"
        for step in pairwise(rooms)
        for module, imported in IMPORTS.items()
        for name in sorted(imported)
        if (ROOMS[module], ROOMS[name]) == step
    )


def step_of(package: str, module: str) -> int:
    """The position of a module's room in the order of its package."""
    room = module.removeprefix(package).removeprefix(".").split(".")[0]
    order = ROOM_ORDER[package]
    steps = [step for step, rooms in enumerate(order) if room in rooms]
    assert steps, f"{package}.{room} is new: add it to ROOM_ORDER"
    return steps[0]


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=240)


def test_every_module_except_the_widgets_imports_without_qt_and_napari() -> None:
    names = [name for name in MODULES if part_of(name) not in ("widgets", "__main__")]
    code = f"""
import importlib, sys
for library in {sorted(WINDOW_LIBRARIES)!r}:
    sys.modules[library] = None
for name in sys.argv[1:]:
    importlib.import_module(name)
"""
    result = run_python(code, *names)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("module", MODULES)
def test_window_libraries_are_imported_only_in_widgets(module: str) -> None:
    if part_of(module) == "widgets":
        return
    libraries = {name.split(".")[0] for name in imported_names(MODULES[module], module)}
    assert not libraries & WINDOW_LIBRARIES


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_in_one_direction(module: str) -> None:
    part = part_of(module)
    assert part in MAY_IMPORT, f"{part} is new: add it to MAY_IMPORT"
    not_allowed = own_parts_imported(MODULES[module], module) - MAY_IMPORT[part]
    assert not not_allowed, f"{module} imports {sorted(not_allowed)}"


def test_no_file_imports_itself_in_a_circle() -> None:
    circle = circle_in(IMPORTS)
    assert not circle, "files import each other in a circle: " + " -> ".join(circle)


def test_no_room_imports_itself_in_a_circle() -> None:
    circle = circle_in(rooms_imported())
    assert not circle, f"rooms import each other in a circle: {' -> '.join(circle)}\n{lines_between(circle)}"


@pytest.mark.parametrize("package", ROOM_ORDER)
def test_the_rooms_of_a_package_import_in_their_order(package: str) -> None:
    not_allowed = []
    for module in (name for name in MODULES if name == package or name.startswith(f"{package}.")):
        for imported in sorted(IMPORTS[module]):
            if not imported.startswith(f"{package}.") or ROOMS[imported] == ROOMS[module]:
                continue
            if step_of(package, imported) >= step_of(package, module):
                not_allowed.append(f"  {module} imports {imported}")
    assert not not_allowed, "imports that ROOM_ORDER does not allow:\n" + "\n".join(not_allowed)


def test_every_room_of_an_ordered_package_has_a_place() -> None:
    for module in MODULES:
        for package in ROOM_ORDER:
            if module == package or module.startswith(f"{package}."):
                step_of(package, module)


def test_the_circle_tests_see_imports_of_every_form_and_name_the_circle(tmp_path: Path) -> None:
    source = (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from surgicalsam_napari.store import project\n"
        "def late():\n    from ..errors import ProjectError\n    import surgicalsam_napari.session\n"
    )
    (tmp_path / "new.py").write_text(source)
    expected = {"surgicalsam_napari.store.project", "surgicalsam_napari.errors", "surgicalsam_napari.session"}
    assert modules_imported(tmp_path / "new.py", ["surgicalsam_napari", "store"]) == expected
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert set(circle_in({"a": {"b"}, "b": {"a"}, "c": {"a"}})) == {"a", "b"}


def test_the_command_line_loads_the_widgets_only_when_asked() -> None:
    result = run_python("import sys, surgicalsam_napari.cli; sys.exit('surgicalsam_napari.widgets' in sys.modules)")
    assert result.returncode == 0, result.stderr


def test_the_package_imports_without_torch() -> None:
    result = run_python("import sys, surgicalsam_napari; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)")
    assert result.returncode == 0, result.stderr


def test_the_direction_test_sees_imports_of_every_form(tmp_path: Path) -> None:
    source = "import surgicalsam_napari.session\nfrom . import cli\ndef late():\n    from ..widgets import layers\n"
    (tmp_path / "project.py").write_text(source)
    assert own_parts_imported(tmp_path / "project.py", "surgicalsam_napari.store.project") == {"session", "widgets"}
    assert own_parts_imported(tmp_path / "project.py", "surgicalsam_napari.project") >= {"session", "cli"}


# The rooms of the window: parts, runs, viewer <- actions <- source, correct, exchange, timeline, classes <- segment_panel,
# train <- start <- main_widget <- opening <- demo, contributions. Segment shows the banner of source, Train the checkpoints
# that it lists.
BASICS = {"parts", "runs", "viewer"}
ROOM_MAY_IMPORT: dict[str, set[str]] = {
    "parts": set(),
    "runs": {"parts"},
    "viewer": {"parts", "runs"},
    "actions": {"parts", "runs"},
    "work_clock": BASICS,
    "source": BASICS,
    "correct": BASICS | {"actions"},
    "exchange": BASICS,
    "timeline": BASICS,
    "classes": BASICS,
    "segment_panel": BASICS | {"source"},
    "train": BASICS | {"source"},
    "start": BASICS | {"source", "segment_panel", "timeline"},
}
ROOM_MAY_IMPORT["main_widget"] = {*ROOM_MAY_IMPORT}
ROOM_MAY_IMPORT["opening"] = {*ROOM_MAY_IMPORT["main_widget"], "main_widget"}
ROOM_MAY_IMPORT["contributions"] = {"viewer", "actions", "main_widget", "opening", "parts"}
ROOM_MAY_IMPORT["demo"] = {*ROOM_MAY_IMPORT["opening"], "opening"}
WINDOW = "surgicalsam_napari.widgets."


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith(WINDOW)])
def test_rooms_of_the_window_import_in_one_direction(module: str) -> None:
    room = module.removeprefix(WINDOW).split(".")[0]
    assert room in ROOM_MAY_IMPORT, f"{room} is new: add it to ROOM_MAY_IMPORT"
    names = (name for name in imported_names(MODULES[module], module) if name.startswith(WINDOW))
    rooms = {name.removeprefix(WINDOW).split(".")[0] for name in names} - {room}
    assert rooms <= ROOM_MAY_IMPORT[room], f"{module} imports {sorted(rooms - ROOM_MAY_IMPORT[room])}"


def test_no_files_of_the_window_import_each_other_in_a_circle() -> None:
    files = {name: path for name, path in MODULES.items() if name.startswith(WINDOW)}
    imports = {name: set(imported_names(path, name)) & files.keys() - {name} for name, path in files.items()}
    for start in imports:
        reached: set[str] = set()
        waiting = set(imports[start])
        while waiting:
            name = waiting.pop()
            reached.add(name)
            waiting |= imports[name] - reached
        assert start not in reached, f"{start} imports itself through {sorted(reached)}"
