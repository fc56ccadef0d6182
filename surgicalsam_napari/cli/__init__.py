"""The command line: `surgicalsam embed`, `segment`, `info`, `models`, `demo`."""

from __future__ import annotations

from surgicalsam_napari.cli.commands import app, main

__all__ = ["app", "main"]
