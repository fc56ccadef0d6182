"""MkDocs hooks: pages outside docs/, links as they are in the repository, and the parts that are generated from the code.

A link in a page names a file of the repository, so that it works there, too. Here it is turned into a link of the site: to a
page, or to a copy of the file under repository/. MkDocs then reports each link and anchor that leads nowhere.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

import command_line  # this and the next one: beside this file
import messages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

TOP = Path(__file__).resolve().parents[2]
PAGES = {  # file of the repository -> page of the site; those in docs/ keep their names
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
    "training/README.md": "training.md",
}
COPIES = "repository"
SOURCES = {page: source for source, page in PAGES.items()}
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)(#[^)\s]*)?(?=\))")
PAGE_LINK = re.compile(r'href="(?!\w+:)([^"#]+\.md)(#[^"]*)?"')
BLOCK = re.compile(r"^(```.*?^```)", re.DOTALL | re.MULTILINE)


GENERATED: dict[str, tuple[str, Callable[[], str]]] = {  # page -> the line that is replaced, and what replaces it
    "command_line.md": ("<!-- all commands -->", command_line.reference),
    "troubleshooting.md": ("<!-- all messages -->", messages.reference),
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(TOP / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put in the generated part, and turn links to files of the repository into links of the site."""
    name = page.file.src_uri
    if name == PAGES["README.md"]:
        page.meta["hide"] = ["navigation"]  # the start page is alone in its section
    if name in GENERATED:
        place, generate = GENERATED[name]
        markdown = markdown.replace(place, generate())
    parts = BLOCK.split(markdown)  # links in code are no links
    return "".join(part if part.startswith("```") else _with_site_links(part, name, config, files) for part in parts)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the links of a notebook, which is no Markdown, into links of the site."""
    if not page.file.src_uri.endswith(".ipynb"):
        return html

    def on_site(link: re.Match[str]) -> str:
        uri = posixpath.normpath(posixpath.join(posixpath.dirname(page.file.src_uri), link[1]))
        target = files.get_file_from_path(uri)
        if target is None:
            raise PluginError(f"{page.file.src_uri} links to {link[1]}, which is no page.")
        return f'href="{target.url_relative_to(page.file)}{link[2] or ""}"'

    return PAGE_LINK.sub(on_site, html)


def _with_site_links(markdown: str, name: str, config: MkDocsConfig, files: Files) -> str:
    source = SOURCES.get(name, f"docs/{name}")

    def on_site(link: re.Match[str]) -> str:
        path, anchor = link[1], link[2] or ""
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        uri = PAGES.get(target) or target.removeprefix("docs/")
        if files.get_file_from_path(uri) is None and (TOP / target).is_file():
            uri = f"{COPIES}/{target}"
            if files.get_file_from_path(uri) is None:
                files.append(File.generated(config, uri, abs_src_path=str(TOP / target)))
        return posixpath.relpath(uri, posixpath.dirname(name) or ".") + anchor

    return LINK.sub(on_site, markdown)
