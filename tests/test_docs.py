"""The pages for users: their examples run, their commands, links and messages exist, the generated parts are complete."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from surgicalsam_napari.phantom import write_phantom_clip

TOP = Path(__file__).resolve().parents[1]
DOCS = TOP / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *TOP.glob("*.md"), TOP / "training/README.md", TOP / "benchmarks/README.md"])
CODE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]*))?\)")
sys.path.insert(0, str(DOCS / "site"))

import command_line  # noqa: E402
import messages  # noqa: E402


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def typed_commands(page: Path) -> Iterator[list[str]]:
    """The words of every `surgicalsam` command in the page's code blocks, without comments."""
    for _language, code in CODE.findall(text_of(page)):
        for line in code.replace("\\\n", " ").splitlines():
            if line.startswith("surgicalsam "):
                yield shlex.split(line, comments=True)


def anchors(page: Path) -> set[str]:
    """The anchors of the page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", CODE.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def options_of(command: Any) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}


@pytest.mark.slow
def test_the_examples_of_the_python_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_phantom_clip(tmp_path, size=(96, 128), frame_count=12).rename(tmp_path / "operation.mp4")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for language, code in CODE.findall(text_of(DOCS / "python.md")):
        assert language == "python"
        exec(compile(code, "docs/python.md", "exec"), names)
    assert (tmp_path / "operation.surgicalsam").is_dir() and (tmp_path / "dataset").is_dir()
    assert (tmp_path / "frame3.png").is_file()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("notebook", sorted((DOCS / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_notebook_runs(notebook: Path, tmp_path: Path) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    cells = nbformat.read(notebook, as_version=4)
    nbclient.NotebookClient(cells, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    """Every command of the command line, by what to type."""
    return dict(command_line.commands())


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(TOP).as_posix())
def test_every_command_in_the_pages_exists_with_its_options(page: Path, known: dict[str, Any]) -> None:
    for words in typed_commands(page):
        name = next((name for name in (" ".join(words[:3]), " ".join(words[:2])) if name in known), None)
        if name is None:
            assert words[1] == "--help", f"{page.name}: there is no such command: {' '.join(words)}"
            continue
        typed = {word.split("=")[0] for word in words if word.startswith("--")}
        if not {"--help"} & typed:
            assert typed <= options_of(known[name]), f"{page.name}: {' '.join(words)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(TOP).as_posix())
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for path, anchor in LINK.findall(CODE.sub("", text_of(page))):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {path}, which does not exist"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target) or target.name == "python_reference.md", f"{page.name}: {path}#{anchor}"


def test_the_reference_of_the_command_line_lists_every_command_and_option(known: dict[str, Any]) -> None:
    reference = command_line.reference()
    for name, command in known.items():
        assert f"### {name}\n" in reference
        for parameter in command_line.parameters(command):
            assert parameter.help, f"{name}: {parameter.name} has no help text"
            assert parameter.param_type_name == "argument" or f"| `{parameter.opts[0]}" in reference


def test_the_message_that_a_page_quotes_is_in_the_code() -> None:
    quoted = re.findall(r'^\| "(.+?)"', text_of(DOCS / "troubleshooting.md"), re.MULTILINE)
    sources = [path for folder in messages.PACKAGES for path in (TOP / folder).rglob("*.py")]
    texts = [*messages.all_texts(sources), text_of(TOP / "Makefile")]
    assert quoted and not [quote for quote in quoted if not any(quote in text for text in texts)]


def test_the_list_of_messages_has_those_of_every_error_class() -> None:
    from surgicalsam_napari import errors
    from surgicalsam_napari.model.device import choose_device

    assert set(messages.error_classes()) >= {name for name in vars(errors) if name.endswith("Error")} - {"SurgicalSAMError"}
    with pytest.raises(errors.DeviceError) as raised:
        choose_device("cuda:99x")
    listed = [message.text for message in messages.messages() if message.error == "DeviceError"]
    assert any(re.fullmatch(".*".join(map(re.escape, text.split(messages.GAP))), str(raised.value)) for text in listed)
