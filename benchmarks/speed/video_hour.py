"""Time to open a one-hour 1080p video and to read its frames, and the memory it needs.

    python benchmarks/speed/video_hour.py [--path hour.mp4] [--minutes 60] [--jumps 500] [--json]

To make the file, ten seconds are encoded once (a keyframe every 250 frames, B-frames) and their packets are repeated. With
`--path` the file is kept and used again. Each frame shows its number within the ten seconds, and every frame that is read is
checked by it.
"""

from __future__ import annotations

import platform
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import psutil

sys.path.append(str(Path(__file__).parents[1]))
from common.measuring import PeakMemory
from common.options import new_parser, parse, print_json

from surgicalsam_napari.video import VideoReader

SIZE, FRAME_RATE, PERIOD = (1080, 1920), 25, 250
BITS, BLOCK = 8, 32


def numbered_frame(number: int, size: tuple[int, int], texture: np.ndarray, noise: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8: a drifting texture with sensor noise, and the frame's number in blocks at the top left."""
    height, width = size
    shift = 40 + int(40 * np.sin(2 * np.pi * number / PERIOD))
    image = texture[shift : shift + height, shift : shift + width] + noise.integers(0, 12, (height, width, 1), np.uint8)
    for bit in range(BITS):
        image[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 255 * (number >> bit & 1)
    return image


def number_in(image: np.ndarray) -> int:
    centres = image[BLOCK // 2, BLOCK // 2 : BITS * BLOCK : BLOCK].mean(axis=-1)
    return sum(int(centre > 128) << bit for bit, centre in enumerate(centres))


def write_period(path: Path, size: tuple[int, int]) -> None:
    height, width = size
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 240, (height // 8 + 20, width // 8 + 20, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FRAME_RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = PERIOD
        stream.options = {"preset": "veryfast", "crf": "23", "bf": "2", "x264-params": "scenecut=0"}
        for number in range(PERIOD):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_frame(number, size, texture, rng))))
        container.mux(stream.encode())


def write_hour(path: Path, minutes: float, size: tuple[int, int] = SIZE) -> None:
    with tempfile.TemporaryDirectory() as folder:
        period = Path(folder) / "period.mp4"
        write_period(period, size)
        with av.open(str(period)) as source, av.open(str(path), "w") as target:
            stream = target.add_stream_from_template(source.streams.video[0])
            time_base = source.streams.video[0].time_base
            packets = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in source.demux(video=0) if p.size]
            for repeat in range(round(minutes * 60 * FRAME_RATE / PERIOD)):
                offset = round(repeat * PERIOD / FRAME_RATE / time_base)
                for data, pts, dts, is_keyframe in packets:
                    packet = av.Packet(data)
                    packet.pts, packet.dts, packet.time_base = pts + offset, dts + offset, time_base
                    packet.is_keyframe, packet.stream = is_keyframe, stream
                    target.mux(packet)


def milliseconds_per_frame(reader: VideoReader, indices: list[int]) -> list[float]:
    times = []
    for index in indices:
        start = time.perf_counter()
        image = reader.frame(index)
        times.append(1000 * (time.perf_counter() - start))
        if number_in(image) != index % PERIOD:
            raise SystemExit(
                f"Frame {index} should show the number {index % PERIOD}; it shows {number_in(image)}. Fix the reader."
            )
    return times


def measure(path: Path, jumps: int) -> dict[str, object]:
    with PeakMemory() as memory:
        start = time.perf_counter()
        reader = VideoReader(path)
        open_seconds = time.perf_counter() - start
        middle = len(reader) // 2 + 200
        reader.frame(middle)
        forward = milliseconds_per_frame(reader, list(range(middle + 1, middle + 201)))
        backward = milliseconds_per_frame(reader, list(range(middle + 199, middle - 1, -1)))
        jump = milliseconds_per_frame(reader, np.random.default_rng(0).integers(0, len(reader), jumps).tolist())
    return {
        "frame_count": len(reader),
        "file_megabytes": round(path.stat().st_size / 1e6),
        "open_seconds": round(open_seconds, 3),
        "peak_megabytes": round(memory.megabytes),
        "megabytes_before_opening": round(memory.before),
        "jumps": jumps,
        "step_forward_ms": round(float(np.mean(forward)), 1),
        "step_back_ms": round(float(np.mean(backward)), 1),
        "jump_ms": round(float(np.mean(jump)), 1),
        "jump_ms_95th_percentile": round(float(np.percentile(jump, 95)), 1),
        "machine": f"{platform.machine()}, {psutil.cpu_count()} CPU cores, PyAV {av.__version__}",
    }


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--path", type=Path, help="the file to keep; used again if it exists")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--jumps", type=int, default=500)
    options = parse(parser, quick={"minutes": 1, "jumps": 3, "size": (272, 480)})
    with tempfile.TemporaryDirectory() as folder:
        path = options.path or Path(folder) / "hour.mp4"
        if not path.exists():
            print(f"making {options.minutes:g} minutes of video ...", flush=True)
            write_hour(path, options.minutes, tuple(options.size))
        results = measure(path, options.jumps)
    for name, value in results.items():
        print(f"{name.replace('_', ' ')}: {value}")
    if options.json:
        print_json(results)


if __name__ == "__main__":
    main()
