"""Keep apart instruments of one class over time, and let time put their class right.

    python benchmarks/quality/instances.py [--scenes 6] [--three-scenes 2] [--frames 250] [--data DIR] [--json]

Linking: phantom videos of 10 seconds, in both looks, with two instruments of one class that cross, cover one another, leave
the picture and return, half of them beside one of another class. The label maps are exact, but tell no instruments apart.
`id_switches_per_minute` (of video, as in MOTA), `idf1`, `hota` and `ap50` are those of ours, of all scenes together; in
`simple_ways` those of two others: a region continues the one that it overlaps most in the frame before (overlap), or the one
with the nearest centroid (centroid). `by_look`, and `three_alike`: the same for scenes with three instruments of one class.
`predicted`: ours on label maps that the bundled weights predict, in a few of the scenes.

`real`, if DIR has them: EndoVis 2015 v1 and v2, in whose masks all instruments are one class (v2 shows one instrument; v1
shows two, which are scored where they are apart, by left and right), and the EndoVis 2017 clip. Only its frame 6 has masks;
left and right are carried from it by optical flow, and the linking, which uses optical flow, too, is scored against that.
Between its frames, instruments move by a large part of the picture: far from frame 6 the carried masks are fragments beside
the instruments, so this score says only whether fragments keep one identity.

Vote: `vote`, by look: Challenge IoU, in percent, of the predictions of the bundled weights on mixed scenes with and
without the vote, and flips of class per minute of an instrument. `wrong_classes`: exact label maps in which each instrument
has a random wrong class in 10, 20 and 40 % of the frames; `put_right` is the share of these that have the right class after
the vote, `spoiled` the share of right ones that have a wrong class after it.

`swap_actions`: actions of a person that put right two tracks that are exchanged from the middle of a video on.
`ms_per_frame`: linking at 720p, decoding not included (wall time, and CPU time of all threads).

640,000, 5,000 to 8,000 and 1,300,000 to 1,300,200 were looked at to change the linking, so do not take them here. Of the
seeds from 910,000 nobody looked at the pictures, but the lists of tracks of three were read to find causes; `docs/tracks.md`
has the figures of scenes that nobody had seen (`--seed`). The last line printed with `--json` is one JSON object.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))
from class_votes import vote_on_predictions, vote_on_wrong_classes
from common.options import new_parser, parse, print_json
from instance_linkers import WAYS, Linker, linked_numbers
from instance_videos import LabelledVideo, phantom_video, real_videos
from swapped_pair import actions_to_swap_back

from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.model.zoo import bundled_checkpoint
from surgicalsam_napari.phantom import LOOKS
from surgicalsam_training.scoring.instances import InstanceFrame, InstanceScores, InstanceVideo, score_instances

FIRST_SEED = 910_000
THREE_ALIKE = 50  # seeds after the first: scenes with three instruments of one class
PARTS = ("linking", "predicted", "real", "vote", "swap", "cost")
SIZE = (256, 320)  # linking reduces larger frames to it
SIZE_FOR_MODEL, SIZE_720P = (512, 640), (720, 1280)
SCORES = ("id_switches_per_minute", "idf1", "hota", "ap50", "association_accuracy", "id_switches")


def as_video(video: LabelledVideo, tracks: Sequence[np.ndarray], true_labels: Sequence[np.ndarray]) -> InstanceVideo:
    """The frames whose instances are known."""
    known = [index for index, truth in enumerate(video.truth) if truth is not None]
    pairs = (
        (InstanceFrame(true_labels[index], video.truth[index]), InstanceFrame(video.labels[index], tracks[index]))
        for index in known
    )
    return InstanceVideo(pairs, len(known) / video.frame_rate)


def shown(scores: InstanceScores) -> dict[str, float | None]:
    """The figures of the last line: shares from 0 to 1, except for the average precision, in percent."""
    figures = {name: getattr(scores, name) for name in SCORES}
    return {
        name: round(value / 100 if name in ("idf1", "hota", "association_accuracy") else value, 3)
        for name, value in figures.items()
    }


def phantom_videos(
    first_seed: int, scenes: int, frames: int, size: tuple[int, int] = SIZE, alike: int = 2
) -> Iterator[tuple[str, LabelledVideo]]:
    """Scenes with `alike` instruments of one class, by look; each look has scenes of its own."""
    for place, look in enumerate(LOOKS):
        for scene in range(scenes):
            yield look, phantom_video(first_seed + 100 * place + scene, size, frames, alike, look)[0]


def predicted_labels(model: SurgicalSAM, video: LabelledVideo) -> LabelledVideo:
    """The same video with the label maps that the model predicts."""
    labels = []
    for picture in video.pictures:
        [prediction] = model.predict(model.embed([picture]), model.classes.ids, picture.shape[:2])
        labels.append(prediction.label_map)
    return replace(video, labels=labels)


def measure_linking(first_seed: int, scenes: int, frames: int, alike: int = 2) -> dict:
    """Every way on every scene."""
    by_way: dict[str, list[InstanceVideo]] = {way: [] for way in WAYS}
    by_look: dict[str, list[InstanceVideo]] = {look: [] for look in LOOKS}
    for look, video in phantom_videos(first_seed, scenes, frames, alike=alike):
        for way, link in WAYS.items():
            by_way[way].append(scored(video, link))
        by_look[look].append(by_way["ours"][-1])
        ours = score_instances(by_way["ours"][-1:])
        print(f"{video.name}, {alike} alike: {ours.id_switches} switches, IDF1 {ours.idf1:.1f}", flush=True)
    ways = {way: shown(score_instances(videos)) for way, videos in by_way.items()}
    print(f"linking, {alike} alike", *(f"{way}: {figures}" for way, figures in ways.items()), sep="\n  ", flush=True)
    looks = {look: shown(score_instances(videos)) for look, videos in by_look.items()}
    return ways.pop("ours") | {"simple_ways": ways, "by_look": looks, "scenes": scenes * len(LOOKS), "frames": frames}


def measure_predicted(first_seed: int, scenes: int, frames: int) -> dict:
    """Ours on the label maps that the bundled weights predict, by look."""
    model = load_checkpoint(bundled_checkpoint(), device="cpu")
    by_look: dict[str, list[InstanceVideo]] = {look: [] for look in LOOKS}
    for look, video in phantom_videos(first_seed, scenes, frames, SIZE_FOR_MODEL):
        by_look[look].append(scored(predicted_labels(model, video), WAYS["ours"], video.labels))
    result = {look: shown(score_instances(videos)) for look, videos in by_look.items()}
    print(f"on predicted label maps: {result}", flush=True)
    return result


def scored(video: LabelledVideo, link: Linker, true_labels: Sequence[np.ndarray] | None = None) -> InstanceVideo:
    """The pairs of a video as a list: they are read more than once."""
    found = as_video(video, link(video), true_labels or video.labels)
    return replace(found, frames=list(found.frames))


def measure_real(folder: Path, *, is_quick: bool) -> dict:
    """Every way on every real video that is there."""
    result = {}
    for video in real_videos(folder, is_quick=is_quick):
        known = sum(truth is not None for truth in video.truth)
        result[video.name] = {"frames": len(video.labels), "scored_frames": known} | {
            way: shown(score_instances([scored(video, link)])) for way, link in WAYS.items()
        }
        print(video.name, result[video.name], flush=True)
    return result


def measure_cost(first_seed: int, frames: int, size: tuple[int, int]) -> dict[str, float]:
    """Milliseconds for each frame of a video with three instruments of one class."""
    video, _ = phantom_video(first_seed, size, frames, alike=3)
    linked_numbers(video.pictures[:5], video.labels[:5])  # warm up
    wall, cpu = time.perf_counter(), time.process_time()
    linked_numbers(video.pictures, video.labels)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"ms_per_frame": round(1000 * wall / frames, 1), "cpu_ms_per_frame": round(1000 * cpu / frames, 1)}


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--scenes", type=int, default=6, help="of each look, with two instruments of one class")
    parser.add_argument("--three-scenes", type=int, default=2, help="of each look, with three instruments of one class")
    parser.add_argument("--frames", type=int, default=250, help="of each scene")
    parser.add_argument("--predicted-scenes", type=int, default=2, help="of each look, with predicted label maps")
    parser.add_argument("--vote-scenes", type=int, default=4, help="of each look")
    parser.add_argument("--data", type=Path, metavar="DIR", default=Path(__file__).parents[3] / "shared" / "data")
    parser.add_argument("--seed", type=int, default=FIRST_SEED, help="of the first scene")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="leave out the others")
    quick = {"scenes": 1, "three_scenes": 1, "frames": 12, "predicted_scenes": 1, "vote_scenes": 1}
    arguments = parse(parser, quick=quick)
    wanted = arguments.only or PARTS
    result: dict = {}
    if "linking" in wanted:
        result |= measure_linking(arguments.seed, arguments.scenes, arguments.frames)
        seed = arguments.seed + THREE_ALIKE
        result["three_alike"] = measure_linking(seed, arguments.three_scenes, arguments.frames, alike=3)
    if "predicted" in wanted:
        result["predicted"] = measure_predicted(arguments.seed, arguments.predicted_scenes, arguments.frames)
    if "real" in wanted:
        result["real"] = measure_real(arguments.data, is_quick=arguments.quick)
    with tempfile.TemporaryDirectory() as folder:
        if "vote" in wanted:
            count = min(arguments.frames, 120)
            result["vote"] = vote_on_predictions(Path(folder), arguments.seed, arguments.vote_scenes, count)
            result["wrong_classes"] = vote_on_wrong_classes(Path(folder), arguments.seed, arguments.vote_scenes, count)
        if "swap" in wanted:
            result |= actions_to_swap_back(Path(folder), arguments.seed, min(arguments.frames, 60))
    if "cost" in wanted:
        result |= measure_cost(arguments.seed, min(arguments.frames, 100), SIZE if arguments.quick else SIZE_720P)
    if arguments.json:
        print_json(result)


if __name__ == "__main__":
    main()
