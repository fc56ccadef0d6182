"""What the tool does on an annotated video of real surgery when a person corrects a few frames, beside simple alternatives.

    python benchmarks/quality/real_video.py VIDEO LABELS --classes classes.yaml [--frames 5 10 20] [--only gap later] --json

LABELS is a folder of indexed PNG files, frame_00000.png and so on, for every frame or for some. The tool is used as a person
uses it: a project with the class set of the video, k corrected frames, *Learn*, segment all, *Fill between*. Of n labelled
frames and h = n // 2, the corrected ones are number int((p + 0.5) h / k), p < k. Figures are the mean IoU over frames in
percent by class; a frame where neither truth nor prediction has the class does not count. The parts (`--only`):

- gap, later: the other frames of the first half; the second half, where nothing is corrected. `tool_before_fill` is the tool
  without *Fill between*; `tool_voted` and `tool_smoothed`: the tool after the vote over time, and after smoothing, too.
  Alternatives: `nearest_copy`: the mask of the nearest corrected frame; `flow_nearest`: the same,
  carried frame by frame by dense flow (OpenCV's DIS); `flow_both`, from the corrected frames on both sides, weighted by
  distance; `small_head` and `linear_head` on the same image embedding, trained on the same frames. With them
  `learn_seconds` (the embeddings are computed before), `absent_false_positive_rate`, and `own_corrected`: what the learned
  model itself predicts in the corrected frames.
- propagation: 30 frames from one corrected frame, with the bundled weights, beside copy and flow. `tool`: frames after a
  stop count as 0; `tool_until_stop`: they do not count; `stopped`: where it stopped; null if it did not.
- clicks: to IoU 0.85, at most 20, each in the middle of the largest wrong region, on ten masks of each class in the second
  half. From an empty mask with the bundled weights and with the learned model, and from the learned model's own mask; beside
  GrabCut and the random walker with the same rule.
- correcting: the share of frames to correct until 95 % of all frames have an IoU of 0.85 in every class: frames from the
  review queue, beside evenly spread frames. Both begin with evenly spread frames, the smallest of `--shares`; then frames up
  to the next share are corrected, and the tool learns, segments and fills again.

Without VIDEO, a generated clip is used. The last line printed with `--json` is one JSON object.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1]))
from annotated_video import (
    AnnotatedVideo,
    Protocol,
    Scores,
    by_class,
    open_annotated,
    percent,
    protocol,
    shown_classes,
)
from clicking import measure_clicks
from common.options import new_parser, parse, print_json
from frames_to_correct import measure_correcting
from propagating import measure_propagation
from simple_heads import HEADS, STEPS, SimpleHead
from simple_ways import carried_by_flow, nearest
from tool_use import CHECKPOINT, ToolUse, drain, fill_between, learn, opened, own_label_map, segment_untouched

from surgicalsam_napari.cli.terminal import print_error, with_progress
from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.instruments import ENDOVIS2018, ClassSet
from surgicalsam_napari.phantom import write_phantom_clip
from surgicalsam_napari.session import Session
from surgicalsam_napari.tracking.smooth_masks import smooth_masks
from surgicalsam_napari.tracking.vote_classes import vote_classes
from surgicalsam_training.scoring.metrics import evaluate_label_maps

PARTS = ("gap", "later", "propagation", "clicks", "correcting")
PHANTOM_SEED = 890_000


def progress(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def scored_alternatives(tool: ToolUse, session: Session, chosen: Protocol, scores: Scores, steps: int) -> None:
    """Score copies, flow and heads in all frames that are not corrected."""
    video = tool.video
    scored = [*chosen.gap, *chosen.later]
    for frame in scored:
        scores.add("nearest_copy", frame, video.truth(nearest(chosen.corrected, frame)))
    is_scored = set(scored)
    for frame, one_side, both in carried_by_flow(video, chosen.corrected):
        if frame in is_scored:
            scores.add("flow_nearest", frame, one_side)
            scores.add("flow_both", frame, both)
    progress("  copies and flow scored")
    truths = [video.truth(frame) for frame in chosen.corrected]
    corrected = tool.decoder_embeddings(session, chosen.corrected)
    for name in HEADS:
        head = SimpleHead(name, corrected, truths, video.classes.ids, tool.model.input_size, steps)
        for frame in scored:
            (embedding,) = tool.decoder_embeddings(session, [frame])
            scores.add(name, frame, head.label_map(embedding, truths[0].shape))
    progress("  simple heads scored")


def use_tool(tool: ToolUse, session: Session, chosen: Protocol, scores: Scores, *, is_quick: bool) -> dict:
    """Correct, learn, segment and fill; score the labels before and after filling."""
    tool.correct(session, chosen.corrected)
    seconds = learn(session, tool.checkpoint, is_quick=is_quick)
    progress(f"  learned in {seconds:.0f} s")
    labels, scored = opened(session).labels, [*chosen.gap, *chosen.later]
    segment_untouched(session)
    for frame in scored:
        scores.add("tool_before_fill", frame, labels[frame])
    fill_between(session)
    for frame in scored:
        scores.add("tool", frame, labels[frame])
    for way, run in (("tool_voted", vote_classes), ("tool_smoothed", smooth_masks)):
        drain(with_progress(run(opened(session), range(tool.video.frame_count)), way))
        for frame in scored:
            scores.add(way, frame, labels[frame])
    for frame, embedding in zip(chosen.corrected, tool.embeddings(session, chosen.corrected), strict=True):
        scores.add("own_corrected", frame, own_label_map(session, embedding, labels.shape[1:]))
    metrics = evaluate_label_maps(((labels[frame], tool.video.truth(frame)) for frame in scored), tool.video.classes.ids)
    return {
        "learn_seconds": round(seconds, 1),
        "absent_false_positive_rate": percent(metrics.absent_false_positive_rate),
        "own_corrected": by_class(tool.video.classes, list(scores.ious.pop("own_corrected").values())),
    }


def measure_frames(
    tool: ToolUse, count: int, only: list[str], masks: int, *, is_quick: bool
) -> Iterator[tuple[str, object]]:
    """The figures for `count` corrected frames, by the key of the result."""
    chosen = protocol(tool.video.labelled, count)
    scores = Scores(tool.video)
    with tool.fresh() as session:
        figures = use_tool(tool, session, chosen, scores, is_quick=is_quick)
        yield from figures.items()
        for part, frames in (("gap", chosen.gap), ("later", chosen.later)):
            progress(f"  {part}: {json.dumps(scores.means(frames))}")
        if "gap" in only or "later" in only:
            scored_alternatives(tool, session, chosen, scores, 10 if is_quick else STEPS)
        for part, frames in (("gap", chosen.gap), ("later", chosen.later)):
            if part in only:
                yield part, scores.means(frames)
        if "clicks" in only:
            yield "clicks", measure_clicks(tool, session, chosen.later, masks, most=2 if is_quick else 20)


def counts_of(arguments) -> list[int]:  # type: ignore[no-untyped-def]
    """The numbers of corrected frames that the parts need."""
    counts = arguments.frames if {"gap", "later"} & set(arguments.only) else []
    return list(dict.fromkeys([*counts, *([arguments.clicks_after] if "clicks" in arguments.only else [])]))


def measure(tool: ToolUse, arguments) -> dict:  # type: ignore[no-untyped-def]
    """All figures of one video."""
    video, only = tool.video, arguments.only
    result: dict = {"video": video.path.name, "frames": video.frame_count, "labelled": len(video.labelled)}
    result["embed_seconds_per_frame"] = round(tool.embed_seconds, 3)
    if "propagation" in only:
        result["propagation"] = measure_propagation(tool, arguments.starts, arguments.distance)
        progress(f"propagation: {json.dumps(result['propagation'])}")
    for count in counts_of(arguments):
        progress(f"{count} corrected frames")
        parts = [part for part in only if part != "clicks" or count == arguments.clicks_after]
        for key, value in measure_frames(tool, count, parts, arguments.masks, is_quick=arguments.quick):
            progress(f"  {key}: {json.dumps(value)}")  # a long run that is stopped has shown something
            if key == "clicks":
                result[key] = value
            else:
                result.setdefault(key, {})[str(count)] = value
    if "correcting" in only:
        result["frames_to_correct"] = measure_correcting(tool, arguments.shares, progress, is_quick=arguments.quick)
    return result


@contextmanager
def opened_video(arguments) -> Iterator[AnnotatedVideo]:  # type: ignore[no-untyped-def]
    """The video of the command line, or a generated clip."""
    if arguments.video is not None:
        classes = ClassSet.from_yaml(arguments.classes)
        yield open_annotated(arguments.video, arguments.labels, classes)
        return
    with tempfile.TemporaryDirectory() as folder:
        size, frame_count = ((192, 240), 10) if arguments.quick else ((512, 640), 60)
        clip = write_phantom_clip(folder, PHANTOM_SEED, size=size, frame_count=frame_count)
        labels = clip.with_name(f"{clip.stem}_labels")
        yield open_annotated(clip, labels, shown_classes(labels, ENDOVIS2018))


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("video", type=Path, nargs="?", metavar="VIDEO", help="a video, or a folder of numbered pictures")
    parser.add_argument("labels", type=Path, nargs="?", metavar="LABELS", help="a folder of indexed PNG label maps")
    parser.add_argument("--classes", type=Path, metavar="YAML", help="the class set of the labels")
    parser.add_argument("--frames", type=int, nargs="+", default=[5, 10, 20], help="numbers of corrected frames")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to measure")
    parser.add_argument("--starts", type=int, nargs="+", default=[10, 130, 250], help="first frames of propagation")
    parser.add_argument("--distance", type=int, default=30, help="frames of propagation")
    parser.add_argument("--clicks-after", type=int, default=10, metavar="K", help="corrected frames before the clicks")
    parser.add_argument("--masks", type=int, default=10, help="masks of each class for the clicks")
    parser.add_argument("--shares", type=float, nargs="+", default=[5, 10, 15, 20, 30], help="percent of frames to correct")
    parser.add_argument("--checkpoint", default=CHECKPOINT, help="the model before learning: a file or a bundled name")
    parser.add_argument("--threads", type=int, default=2)
    quick = {"frames": [2], "starts": [1], "distance": 3, "clicks_after": 2, "masks": 1, "shares": [20], "threads": 1}
    arguments = parse(parser, quick=quick)
    if arguments.video is not None and (arguments.labels is None or arguments.classes is None):
        parser.error("Expected VIDEO, LABELS and --classes YAML; got only VIDEO. Name all three.")
    torch.set_num_threads(arguments.threads)
    try:
        with opened_video(arguments) as video, tempfile.TemporaryDirectory() as folder:
            progress(f"{video.path.name}: {video.frame_count} frames, {len(video.labelled)} labelled")
            for count in counts_of(arguments):
                protocol(video.labelled, count)
            tool = ToolUse(video, Path(folder), arguments.checkpoint)
            progress(f"embedded, {tool.embed_seconds:.2f} s a frame")
            result = measure(tool, arguments)
    except SurgicalSAMError as error:
        raise SystemExit(print_error(str(error), 1)) from None
    print_json(result)


if __name__ == "__main__":
    main()
