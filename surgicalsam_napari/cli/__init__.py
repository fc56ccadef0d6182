"""The command line `surgicalsam`: `embed`, `segment`, `export`, `import`, `convert`, `learn`, `train`, `evaluate` …"""

from __future__ import annotations

from surgicalsam_napari.cli import (  # noqa: F401  (imported to register their commands)
    backup,
    baselines,
    check,
    classes,
    evaluate,
    exchange,
    experiments,
    export,
    fill,
    learn,
    notes,
    overlay,
    statistics,
    track,
    training,
    work_log,
    worker,
)
from surgicalsam_napari.cli.commands import app, main

__all__ = ["app", "main"]
