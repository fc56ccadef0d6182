"""Leave one sequence out of a folder of real pictures: learn from the others, and score the pictures of that sequence.

DIR holds `images/seq_S_frameNNN.png`, and `labels/` with files of the same names: 8-bit class ids of EndoVis 2018. The
folder of pictures is opened as a video. For each sequence in turn, all frames of the others are corrected; the tool learns
from them and segments the frames of that sequence. Beside it: `before`, the model before learning; `linear_head` and
`small_head` on the same image embedding, trained on the same frames. All figures are in percent, over the frames of all
sequences together. The last line printed with `--json` is one JSON object.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.append(str(Path(__file__).parents[1]))
from annotated_video import open_annotated, percent
from common.options import new_parser, parse, print_json
from simple_heads import HEADS, STEPS, SimpleHead
from tool_use import CHECKPOINT, ToolUse, drain, learn, opened, segment_untouched

from surgicalsam_napari.cli.terminal import print_error
from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.phantom import PhantomScene
from surgicalsam_napari.session import Session
from surgicalsam_training.scoring.metrics import evaluate_label_maps

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


def predictions(
    tool: ToolUse, session: Session, held_out: Sequence[int], *, is_quick: bool
) -> Iterator[tuple[str, int, np.ndarray]]:
    """Name of the way, frame and label map of each held-out frame; all other frames are corrected."""
    video, labels = tool.video, opened(session).labels
    drain(session.segment(session.trained_class_ids(), held_out))
    for frame in held_out:
        yield "before", frame, labels[frame]
        labels.reset_frame(frame)
    others = [frame for frame in video.labelled if frame not in held_out]
    tool.correct(session, others)
    learn(session, tool.checkpoint, is_quick=is_quick)
    segment_untouched(session)
    for frame in held_out:
        yield "tool", frame, labels[frame]
    embeddings, truths = tool.decoder_embeddings(session, others), [video.truth(frame) for frame in others]
    for name in HEADS:
        steps = 10 if is_quick else STEPS
        head = SimpleHead(name, embeddings, truths, video.classes.ids, tool.model.input_size, steps)
        for frame in held_out:
            (embedding,) = tool.decoder_embeddings(session, [frame])
            yield name, frame, head.label_map(embedding, truths[0].shape)


def instrument_iou(pairs: Pairs) -> float:
    """Mean IoU of all instruments together against the background, percent."""
    shown = [(labels > 0, truth > 0) for labels, truth in pairs if truth.any()]
    return 100 * float(np.mean([(labels & truth).sum() / (labels | truth).sum() for labels, truth in shown]))


def record(pairs: Pairs) -> dict:
    metrics = evaluate_label_maps(pairs, ENDOVIS2018.ids)
    return {
        "instrument_iou": percent(instrument_iou(pairs)),
        "challenge_iou": percent(metrics.challenge_iou),
        "mean_class_iou": percent(metrics.mean_class_iou),
        "absent_false_positive_rate": percent(metrics.absent_false_positive_rate),
        "missed_rate": percent(metrics.missed_rate),
        "per_class_iou": {c.name: percent(metrics.class_iou[c.id]) for c in ENDOVIS2018},
    }


def measure(source: Path, folder: Path, checkpoint: str, *, is_quick: bool) -> dict:
    """The record of each way."""
    video = open_annotated(source / "images", source, ENDOVIS2018, needs_every_class=False)
    tool = ToolUse(video, folder, checkpoint)
    sequences: dict[str, list[int]] = {}
    for index, frame in video.by_index.items():
        sequences.setdefault(frame.sequence, []).append(index)
    pairs: dict[str, Pairs] = {}
    for name, held_out in sequences.items():
        started = time.perf_counter()
        with tool.fresh() as session:
            for way, frame, labels in predictions(tool, session, held_out, is_quick=is_quick):
                pairs.setdefault(way, []).append((labels, video.truth(frame)))
        seconds = time.perf_counter() - started
        print(f"{name}: {len(held_out)} frames, {seconds:.0f} s", file=sys.stderr, flush=True)
    return {way: record(found) for way, found in pairs.items()}


def main() -> None:
    options = new_parser(__doc__)
    options.add_argument(
        "source", type=Path, nargs="?", metavar="DIR", help="optional with --quick, which uses phantom frames"
    )
    options.add_argument("--checkpoint", default=CHECKPOINT, help="the model before learning: a file or a bundled name")
    options.add_argument("--threads", type=int, default=2)
    arguments = parse(options, quick={"threads": 1})
    if arguments.source is None and not arguments.quick:
        options.error("Expected DIR, a folder with images/ and labels/; got none. Name one, or run with --quick.")
    torch.set_num_threads(arguments.threads)
    started = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory() as name:
            source = arguments.source or phantom_frames(Path(name) / "phantom")
            result = measure(source, Path(name), arguments.checkpoint, is_quick=arguments.quick)
    except SurgicalSAMError as error:
        raise SystemExit(print_error(str(error), 1)) from None
    for way, figures in result.items():
        shown = ", ".join(f"{name} {value}" for name, value in figures.items() if name != "per_class_iou")
        print(f"{way:14}{shown}")
    if arguments.json:
        print_json({**result, "seconds": round(time.perf_counter() - started, 1)})


if __name__ == "__main__":
    main()
