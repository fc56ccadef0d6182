"""Time to read frames of a video, against opening the file and seeking for each frame; and `video_hour` for one hour.

    python benchmarks/speed/speed_video.py [--clip clip.mp4] [--hour hour.mp4] [--repeats 5] [--json]

The clip is the phantom at 1280x1024, encoded by x264 with its default settings (H.264, B-frames, some of them references)
and a keyframe every 250 frames. A second clip has no B-frames, so that the decoder cannot skip frames on the way to another.
With `--clip` and `--hour` the files are kept and used again. Every frame is compared with that of the plain implementation,
pixel by pixel.

`video_step`: eight frames in a row after a random frame. `video_step_back`: fifty frames backward from a random frame, with
the cache as a jump to that frame leaves it; the plain implementation reads every tenth of them. `video_jump`: four random
frames.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import video_hour
from plain import frame_by_seeking

sys.path.append(str(Path(__file__).parents[1]))
from common.measuring import Paired, timed
from common.options import new_parser, parse, print_json

from surgicalsam_napari.phantom import PhantomScene
from surgicalsam_napari.video import VideoReader

SIZE, FRAMES, KEYFRAME_EVERY, SEED = (1024, 1280), 500, 250, 300_000
STEPS, STEPS_BACK, JUMPS, PLAIN_EVERY = 8, 50, 4, 10
B_FRAMES: dict[str, dict[str, str]] = {"video": {}, "video_without_b_frames": {"bf": "0"}}


def write_clips(paths: Sequence[Path], frame_count: int = FRAMES, size: tuple[int, int] = SIZE) -> None:
    """Write the phantom to each path: the first with the default settings of x264, the second without B-frames."""
    scene = PhantomScene(SEED, size, frame_count=frame_count)
    outputs = [av.open(str(path), "w") for path in paths]
    streams = []
    for output, options in zip(outputs, B_FRAMES.values(), strict=True):
        stream = output.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.gop_size = KEYFRAME_EVERY
        stream.options = {"crf": "18", "x264-params": "scenecut=0", **options}
        streams.append(stream)
    for number, rendered in enumerate(scene):
        for output, stream in zip(outputs, streams, strict=True):
            frame = av.VideoFrame.from_ndarray(rendered.image, format="rgb24")
            frame.pts = number
            output.mux(stream.encode(frame))
    for output, stream in zip(outputs, streams, strict=True):
        output.mux(stream.encode())
        output.close()


class Frames:
    """Reads frames of one clip with both implementations, and compares them after the time is taken."""

    def __init__(self, path: Path, rng: np.random.Generator) -> None:
        self.path, self.rng = path, rng
        with VideoReader(path) as reader:
            self.count = len(reader)
        self.wrong = 0

    def pair(self, indices: Sequence[int], first_read: int, plain_every: int = 1) -> tuple[float, float]:
        """Seconds per frame, plain and ours, for these frames in their order.

        A new reader has read the frame `first_read` before.
        """
        plain_images: list[np.ndarray] = []
        our_images: list[np.ndarray] = []
        plain_indices = indices[::plain_every]
        with VideoReader(self.path) as reader:
            reader.frame(first_read)
            ours = timed(lambda: our_images.extend(reader.frame(index) for index in indices))
        plain = timed(lambda: plain_images.extend(frame_by_seeking(self.path, index) for index in plain_indices))
        pairs = zip(plain_images, our_images[::plain_every], strict=True)
        self.wrong += sum(not np.array_equal(plain_image, image) for plain_image, image in pairs)
        return plain / len(plain_indices), ours / len(indices)

    def steps(self) -> tuple[float, float]:
        start = int(self.rng.integers(self.count - STEPS))
        return self.pair(range(start + 1, start + 1 + STEPS), first_read=start)

    def steps_back(self) -> tuple[float, float]:
        start = int(self.rng.integers(STEPS_BACK, self.count))
        return self.pair(range(start - 1, start - 1 - STEPS_BACK, -1), start, PLAIN_EVERY)

    def jumps(self) -> tuple[float, float]:
        return self.pair(self.rng.integers(self.count, size=JUMPS).tolist(), first_read=int(self.rng.integers(self.count)))


def result_of(key: str, pair: Callable[[], tuple[float, float]], repeats: int) -> dict[str, object]:
    pairs = [pair() for _ in range(1 + repeats)][1:]
    plain, ours = zip(*pairs, strict=True)
    times = Paired(plain, ours)
    return {
        key: round(times.ratio, 2),
        f"{key}_spread": [round(ratio, 2) for ratio in times.ratios],
        f"{key}_plain_ms": round(times.plain_ms, 2),
        f"{key}_ours_ms": round(times.ours_ms, 2),
    }


def measure_clip(key: str, path: Path, repeats: int) -> dict[str, object]:
    """Steps forward and backward, and jumps, in one clip."""
    frames = Frames(path, np.random.default_rng(0))
    result = result_of(f"{key}_step", frames.steps, 4 * repeats)  # its ratio depends on the place in the group of pictures
    result |= result_of(f"{key}_step_back", frames.steps_back, repeats)
    result |= result_of(f"{key}_jump", frames.jumps, 2 * repeats)
    return result | {f"{key}_wrong_frames": frames.wrong}


def measure_hour(path: Path, jumps: int) -> dict[str, object]:
    """Open an hour of 1080p and read random frames, in a separate process whose memory is measured.

    `video_hour` stops at the first wrong frame.
    """
    script = [sys.executable, str(Path(video_hour.__file__)), "--path", str(path), "--jumps", str(jumps), "--json"]
    output = subprocess.run(script, check=True, stdout=subprocess.PIPE, text=True).stdout
    figures = json.loads(output.splitlines()[-1])
    return {
        "open_hour_s": figures["open_seconds"],
        "scrub_hour_mb": figures["peak_megabytes"],
        "scrub_hour_mb_before_opening": figures["megabytes_before_opening"],
        "scrub_hour_frames": figures["jumps"],
        "scrub_hour_jump_ms": figures["jump_ms"],
        "scrub_hour_jump_p95_ms": figures["jump_ms_95th_percentile"],
        "scrub_hour_wrong_frames": 0,
    }


def measure(options: argparse.Namespace) -> dict[str, object]:
    """All figures of this script, by name; without `--clip` and `--hour` the videos are temporary."""
    with tempfile.TemporaryDirectory() as folder:
        clip, hour = options.clip or Path(folder) / "clip.mp4", options.hour or Path(folder) / "hour.mp4"
        clips = (clip, clip.with_stem(f"{clip.stem}_without_b_frames"))
        if not hour.exists():
            video_hour.write_hour(hour, options.minutes, tuple(options.hour_size))
        result = measure_hour(hour, options.jumps)
        if not all(path.exists() for path in clips):
            write_clips(clips, options.frames, tuple(options.size))
        for key, path in zip(B_FRAMES, clips, strict=True):
            result |= measure_clip(key, path, options.repeats)
    return result


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--clip", type=Path, help="file of the first clip; both are kept, and used again")
    parser.add_argument("--hour", type=Path, help="file of the hour; it is kept, and used again")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--frames", type=int, default=FRAMES, help="length of a clip; more than fifty")
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, metavar=("HEIGHT", "WIDTH"), help="of a clip")
    parser.add_argument("--minutes", type=float, default=60, help="of the hour")
    parser.add_argument("--hour-size", type=int, nargs=2, default=video_hour.SIZE, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--jumps", type=int, default=500, help="random frames of the hour")
    options = parse(
        parser, quick={"repeats": 1, "jumps": 3, "frames": 60, "size": (128, 160), "minutes": 1, "hour_size": (272, 480)}
    )
    result = measure(options)
    for key, value in result.items():
        print(f"{key}: {value}")
    if options.json:
        print_json(result)


if __name__ == "__main__":
    main()
