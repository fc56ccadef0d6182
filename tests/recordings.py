"""Recordings as a recorder writes them: whole, growing, cut, in another container, encoded again; and folders of images."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

SIZE, GOP = (96, 128), 6


def picture(number: int, seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W, 3) uint8: a texture that moves from frame to frame."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    phase = np.random.default_rng(seed).uniform(0, 6, 3)
    waves = [np.sin((rows * (3 + c) + columns * (5 - c)) / 17 + phase[c] + number * 0.7) for c in range(3)]
    return (120 + 80 * np.stack(waves, axis=-1)).astype(np.uint8)


def pictures(count: int, seed: int = 0, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    return [picture(number, seed, size) for number in range(count)]


class Recorder:
    """Encodes once; `write` puts some of the packets into a file, so that frames in several files are the same.

    A frame whose number is a multiple of 6 is a keyframe.
    """

    def __init__(self, images: Sequence[np.ndarray], quality: int = 18) -> None:
        self.context = av.CodecContext.create("libx264", "w")
        height, width, _ = images[0].shape
        self.context.height, self.context.width, self.context.pix_fmt = height, width, "yuv420p"
        self.context.time_base, self.context.framerate = Fraction(1, 25), Fraction(25)
        self.context.gop_size, self.context.max_b_frames, self.context.thread_count = GOP, 0, 1
        self.context.options = {"crf": str(quality), "x264-params": "scenecut=0"}
        self.packets: list[bytes] = []
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number
            self.packets += [bytes(packet) for packet in self.context.encode(frame)]
        self.packets += [bytes(packet) for packet in self.context.encode(None)]
        assert len(self.packets) == len(images)

    def write(self, path: Path, stop: int | None = None, start: int = 0) -> Path:
        path.unlink(missing_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.height, stream.width, stream.pix_fmt = self.context.height, self.context.width, "yuv420p"
            stream.time_base = Fraction(1, 25)
            for number, data in enumerate(self.packets[start:stop]):
                packet = av.Packet(data)
                packet.pts = packet.dts = number
                packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 25), stream, (start + number) % GOP == 0
                container.mux(packet)
        return path


def write_folder(folder: Path, images: Sequence[np.ndarray]) -> Path:
    folder.mkdir(exist_ok=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"frame{number:03}.png")
    return folder
