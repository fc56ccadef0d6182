"""Build hook: copies the plugin manifest from the top level into the package.

`force-include` would leave the manifest out of editable installs, and a symlink breaks checkouts on Windows.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CopyManifest(BuildHookInterface):
    """Runs before every wheel, sdist and editable build."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        top = Path(self.root)
        shutil.copyfile(top / "napari.yaml", top / "surgicalsam_napari" / "napari.yaml")
