"""A worker elsewhere against this machine alone: frames a second, and bytes a frame, on a free line and on one of 10 Mbit/s.

A phantom clip, the bundled weights, one worker process under TLS on this machine, one torch thread in every process. So the
worker is no faster than this process, and shares its cores: `local_fps` against `worker_fps` shows what the way costs, not
what a GPU gains. All ways embed the same frames, in turn, in one run. With --pictures, a frame of a real video is packed.

- `bytes_sent`, `bytes_received` : per frame on the line; `raw_frame`, `raw_embedding` : without packing
- `packing` : milliseconds and ratio of each way to pack a frame and an embedding, and from which speed of the line it pays

    python benchmarks/speed/remote_worker.py --json
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: the worker inherits its number of threads

import numpy as np
import torch
from numcodecs import LZ4, Zstd

sys.path.append(str(Path(__file__).parents[1]))
from common.limited_line import LimitedLine
from common.measuring import timed
from common.options import new_parser, parse, print_figures

from surgicalsam_napari.inference import embed_frames
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.model.zoo import bundled_checkpoint
from surgicalsam_napari.phantom import write_phantom_clip
from surgicalsam_napari.remote.certificates import make_certificates
from surgicalsam_napari.remote.encoder import RemoteEncoder
from surgicalsam_napari.remote.loading import load_with_worker
from surgicalsam_napari.remote.packing import pack_embeddings, pack_frames, unpack_embeddings, unpack_frames
from surgicalsam_napari.store import Project
from surgicalsam_napari.video import VideoReader

SIZE = (1024, 1280)  # of EndoVis frames
START = "import sys; from surgicalsam_napari.cli import main; sys.exit(main(sys.argv[1:]))"


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--megabits", type=float, default=10.0, help="of the slow line, in each direction")
    parser.add_argument("--pictures", type=Path, help="a video whose frames are packed, in place of the phantom's")
    arguments = parse(parser, quick={"frames": 3, "repeats": 1, "size": (128, 160), "megabits": 100.0})
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = write_phantom_clip(folder, size=tuple(arguments.size), frame_count=arguments.frames)
        result: dict = {"frames": arguments.frames, "frame_size": list(arguments.size), "cores": os.cpu_count()}
        result |= {"repeats": arguments.repeats, "load_before": round(os.getloadavg()[0], 2)}
        result |= measured_ways(clip, folder, arguments.repeats, arguments.megabits)
        result["packing"] = measured_packing(arguments.pictures or clip, arguments.repeats)
    print_figures(result, as_json=arguments.json)


def measured_ways(clip: Path, folder: Path, repeats: int, megabits: float) -> dict:
    make_certificates(folder / "tls")
    here = load_checkpoint(bundled_checkpoint(), device="cpu")
    with worker_port(folder / "tls") as port, LimitedLine(port, megabits) as line:
        models = {
            "local": here,
            "worker": with_worker(port, folder / "tls"),
            "worker_slow_line": with_worker(line.port, folder / "tls"),
        }
        seconds: dict[str, list[float]] = {way: [] for way in models}
        for repeat in range(repeats + 1):  # the first one does not count
            for way, model in models.items():
                took = timed(lambda: embed_all(clip, model))  # noqa: B023
                seconds[way] += [took] if repeat else []
    frames = VideoReader(clip).info.frame_count
    fps = {way: frames / statistics.median(each) for way, each in seconds.items()}
    embedder = models["worker"].embedder
    assert isinstance(embedder, RemoteEncoder)
    state = embedder.state
    assert state.frame_size is not None
    return {
        **{f"{way}_fps": round(each, 2) for way, each in fps.items()},
        **{f"{way}_over_local": round(fps[way] / fps["local"], 3) for way in fps if way != "local"},
        "slow_line_megabits": megabits,
        "latency_ms": round(1000 * state.latency, 2),
        "bytes_sent": round(state.sent / state.frames),
        "bytes_received": round(state.received / state.frames),
        "raw_frame": 3 * state.frame_size[0] * state.frame_size[1],
        "raw_embedding": 2 * int(np.prod(here.embedding_shape)),
    }


@contextmanager
def worker_port(certificates: Path) -> Iterator[int]:
    """The port of a worker process under TLS."""
    arguments = ["worker", "--listen", "127.0.0.1:0", "--certificates", str(certificates), "--device", "cpu", "--json"]
    with subprocess.Popen([sys.executable, "-c", START, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(json.loads(process.stdout.readline())["address"].rpartition(":")[2])
        finally:
            process.kill()


def with_worker(port: int, certificates: Path) -> SurgicalSAM:
    model = load_with_worker(bundled_checkpoint(), f"localhost:{port}", certificates)
    assert isinstance(model.embedder, RemoteEncoder)
    model.embedder.if_lost = "stop"
    return model


def embed_all(clip: Path, model: SurgicalSAM) -> None:
    """Embed all frames, into a new project."""
    folder = Project.default_folder(clip)
    shutil.rmtree(folder, ignore_errors=True)
    with Project.create(folder, VideoReader(clip), model.classes) as project:
        for _report in embed_frames(project, model, range(project.video.info.frame_count)):
            pass


# ---- packing


def measured_packing(video: Path, repeats: int) -> dict:
    """What each way to pack saves and costs, for a frame and an embedding of the light encoder."""
    model = load_checkpoint(bundled_checkpoint(), device="cpu")
    with VideoReader(video) as reader:
        frame = reader.frame(reader.info.frame_count // 2)
    prepared = FrameGeometry(frame.shape[:2], model.input_size).resized(frame)[None]
    embedding = np.ascontiguousarray(model.embed([frame]))
    zstd, lz4 = Zstd(1), LZ4()
    shape, kind = embedding.shape, embedding.dtype
    return {
        "frame": {
            "zstd": packed(prepared, zstd.encode, zstd.decode, repeats),
            "lz4": packed(prepared, lz4.encode, lz4.decode, repeats),
            "used": packed(prepared, pack_frames, lambda content: unpack_frames(content, prepared.shape), repeats),
        },
        "embedding": {
            "zstd": packed(embedding, zstd.encode, zstd.decode, repeats),
            "lz4": packed(embedding, lz4.encode, lz4.decode, repeats),
            "used": packed(embedding, pack_embeddings, lambda content: unpack_embeddings(content, shape, kind), repeats),
        },
    }


def packed(array: np.ndarray, pack: Callable, unpack: Callable, repeats: int) -> dict[str, float]:
    content = pack(array)
    to_pack = min(timed(lambda: pack(array)) for _ in range(repeats + 2))
    to_unpack = min(timed(lambda: unpack(content)) for _ in range(repeats + 2))
    saved = array.nbytes - len(content)
    return {
        "ratio": round(array.nbytes / len(content), 2),
        "pack_ms": round(1000 * to_pack, 2),
        "unpack_ms": round(1000 * to_unpack, 2),
        "pays_below_megabits": round(8e-6 * saved / (to_pack + to_unpack)),
    }


if __name__ == "__main__":
    main()
