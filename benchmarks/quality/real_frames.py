"""Leave-one-sequence-out training on real frames: tune the bundled weights on all sequences but one, and score that one.

DIR holds `images/seq_S_frameNNN.png`, and `labels/` with files of the same names: 8-bit class ids of EndoVis 2018. Each
sequence becomes a separate project with its labels imported. The quick preset tunes the model on all projects but one; the
bundled weights and the tuned model are scored on the remaining one. A sequence has no influence on the model that it tests,
not even on the choice of the best epoch. All figures are in percent, over all sequences together. The last line printed with
`--json` is one JSON object.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))
from common.options import parse, print_json
from correcting import QUICK_TRAINING, parser, rounded, settings_of, tune
from PIL import Image

from surgicalsam_napari.exchange.importing import check_import, import_frames
from surgicalsam_napari.exchange.registry import open_dataset
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.model.zoo import bundled_checkpoint
from surgicalsam_napari.phantom import PhantomScene
from surgicalsam_napari.store import Project
from surgicalsam_napari.video import VideoReader
from surgicalsam_training.data.training_data import open_training_data
from surgicalsam_training.scoring.evaluate import embed_missing, predicted_label_map
from surgicalsam_training.scoring.metrics import Metrics, evaluate_label_maps

FIRST_SEED = 870_000
Pairs = list[tuple[np.ndarray, np.ndarray]]


def phantom_frames(folder: Path) -> Path:
    """A folder with the layout of DIR: two sequences of four phantom frames."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for sequence in (1, 2):
        for index, frame in enumerate(PhantomScene(FIRST_SEED + sequence, (256, 320), frame_count=4)):
            name = f"seq_{sequence}_frame{index:03d}.png"
            Image.fromarray(frame.image).save(folder / "images" / name)
            Image.fromarray(frame.labels).save(folder / "labels" / name)
    return folder


def projects_by_sequence(source: Path, folder: Path) -> dict[str, Path]:
    """A project for each sequence, with its labels imported."""
    dataset = open_dataset(source, classes=ENDOVIS2018)
    projects = {}
    for sequence in dataset.sequences:
        images = folder / sequence
        images.mkdir()
        for frame in dataset.frames:
            if frame.sequence == sequence and frame.image_path is not None:
                shutil.copy(frame.image_path, images / frame.image_path.name)
        with Project.create(folder / f"{sequence}.surgicalsam", VideoReader(images), ENDOVIS2018) as project:
            for _report in import_frames(project, check_import(project, dataset, sequence)):
                pass
            projects[sequence] = project.folder
    return projects


def predictions(model: SurgicalSAM, project: Path) -> Pairs:
    """(prediction, truth) of every labelled frame of a project."""
    data = open_training_data([project], base=model.classes)
    frames = range(len(data.frames))
    for _report in embed_missing(model, data, frames):
        pass
    pairs = [(predicted_label_map(model, data, frame), data.label_map(frame)) for frame in frames]
    data.close()
    return pairs


def instrument_iou(pairs: Pairs) -> float:
    """Mean IoU of all instruments together against the background, percent."""
    shown = [(labels > 0, truth > 0) for labels, truth in pairs if truth.any()]
    return 100 * float(np.mean([(labels & truth).sum() / (labels | truth).sum() for labels, truth in shown]))


def record(metrics: Metrics, pairs: Pairs) -> dict:
    return {
        "challenge_iou": rounded(metrics.challenge_iou),
        "mean_class_iou": rounded(metrics.mean_class_iou),
        "instrument_iou": rounded(instrument_iou(pairs)),
        "absent_false_positive_rate": rounded(metrics.absent_false_positive_rate),
        "missed_rate": rounded(metrics.missed_rate),
        "per_class_iou": {c.name: rounded(metrics.class_iou[c.id]) for c in ENDOVIS2018},
    }


def main() -> None:
    options = parser(__doc__)
    options.add_argument(
        "source", type=Path, nargs="?", metavar="DIR", help="optional with --quick, which uses phantom frames"
    )
    arguments = parse(options, quick={"set": QUICK_TRAINING})
    if arguments.source is None and not arguments.quick:
        options.error("Expected DIR, a folder with images/ and labels/; got none. Name one, or run with --quick.")
    start = load_checkpoint(arguments.checkpoint or bundled_checkpoint(), device="cpu")
    before: Pairs = []
    after: Pairs = []
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        projects = projects_by_sequence(arguments.source or phantom_frames(folder / "phantom"), folder)
        for held_out, project in projects.items():
            others = [path for sequence, path in projects.items() if sequence != held_out]
            result, seconds = tune(folder / f"run_{held_out}", others, settings_of(arguments))
            before += (old := predictions(start, project))
            after += (new := predictions(load_checkpoint(result.checkpoint, device="cpu"), project))
            scores = [evaluate_label_maps(pairs, ENDOVIS2018.ids).challenge_iou for pairs in (old, new)]
            print(
                f"{held_out}: {len(new)} frames, Challenge IoU {scores[0]:.1f} -> {scores[1]:.1f}, {seconds:.0f} s",
                flush=True,
            )
    result_record = {
        "before": record(evaluate_label_maps(before, ENDOVIS2018.ids), before),
        "after": record(evaluate_label_maps(after, ENDOVIS2018.ids), after),
        "frames": len(after),
        "seconds": rounded(time.perf_counter() - started),
    }
    for metric, value in result_record["after"].items():
        if metric != "per_class_iou":
            print(f"{metric:28}{result_record['before'][metric]:7.1f}{value:7.1f}")
    for name, value in result_record["after"]["per_class_iou"].items():
        print(f"  {name:26}{result_record['before']['per_class_iou'][name]:7.1f}{value:7.1f}")
    if arguments.json:
        print_json(result_record)


if __name__ == "__main__":
    main()
