"""SAM's accuracy with inexact boxes (Yue et al., AAAI 2024, figure 2)."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path

from surgicalsam_napari.exchange.files import write_file
from surgicalsam_napari.untrusted import read_json
from surgicalsam_training.baselines.box_jitter import AMOUNTS, KINDS, JitterRow, box_jitter_curve, draw_box_jitter
from surgicalsam_training.experiments.baselines import untuned_sam
from surgicalsam_training.experiments.figures import Figure
from surgicalsam_training.experiments.scoring import opened_data
from surgicalsam_training.experiments.setting import Setting
from surgicalsam_training.experiments.stage import Stage
from surgicalsam_training.scoring.evaluate import embed_missing
from surgicalsam_training.scoring.tables import Table


def figure2(setting: Setting) -> Generator[Stage, None, tuple[Table, Figure]]:
    """The Challenge IoU of GT box + SAM for boxes of wrong size and position; computed points are stored and used again."""
    points = [(kind, amount) for kind in KINDS for amount in AMOUNTS]
    file = setting.out / "baselines" / "box-jitter.json"
    with opened_data(setting.config, None) as opened:
        model, data, example_indices = untuned_sam(setting.config, opened.data.classes), opened.data, opened.validation
        inputs = {
            "data": data.fingerprints(),
            "frames": [data.frames[example_index].name for example_index in example_indices],
        }
        inputs |= {"encoder": {"digest": model.encoder_digest}}
        kept = _kept(file, inputs)
        for report in embed_missing(model, data, example_indices):
            yield Stage("embedding frames", report.done, report.total)
        for done, (kind, amount) in enumerate(points, 1):
            name = f"{kind} {amount:+.1f}"
            if name not in kept:
                (row,) = box_jitter_curve(model, data, example_indices, kinds=(kind,), amounts=(amount,))
                kept[name] = round(row.challenge_iou, 3)
                write_file(file, (json.dumps({"told": inputs, "challenge_iou": kept}, indent=1) + "\n").encode())
            yield Stage("jittering boxes", done, len(points))
    rows = [
        JitterRow(kind, amount, kept[f"{kind} {amount:+.1f}"], done, len(points))
        for done, (kind, amount) in enumerate(points, 1)
    ]
    figure = Figure(
        draw_box_jitter(rows, setting.out / "figure2.png"),
        "GT box + SAM, with boxes scaled (left) and moved (right) by a share of their size.",
    )
    by_amount = [(amount, *(kept[f"{kind} {amount:+.1f}"] for kind in KINDS)) for amount in AMOUNTS]
    columns = ("Jitter", *(f"Challenge IoU, {kind}" for kind in KINDS))
    note = (
        "The boxes come from the truth: with every class prompted, absent classes have no box, and the scores are the same."
    )
    return Table("Figure 2: SAM with jittered boxes", columns, tuple(by_amount), (*setting.notes, note)), figure


def _kept(file: Path, inputs: dict) -> dict[str, float]:
    """The points that are already stored for the same inputs."""
    try:
        record = read_json(file)
    except (FileNotFoundError, ValueError):
        return {}
    return record["challenge_iou"] if record.get("told") == inputs else {}
