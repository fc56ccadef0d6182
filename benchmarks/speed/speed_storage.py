"""Time to read cached embeddings in random order, and their size on disk per frame.

    python benchmarks/speed/speed_storage.py [--repeats 9] [--json]

The plain implementation stores one float32 `.npy` file per frame. Ours is the project's `EmbeddingStore`: fp16 with a
checksum. Both return a float32 tensor, ready for the decoder.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import plain
import torch

sys.path.append(str(Path(__file__).parents[1]))
from common.measuring import figures, paired, run
from random_model import smooth_embeddings, untrained_model

from surgicalsam_napari.store import EmbeddingStore

FRAMES, READS = 100, 40


def measure(repeats: int, *, is_quick: bool) -> dict[str, object]:
    """`cache_read` (ratio of reads per second) and `cache_bytes` (ours / plain)."""
    frames, reads = (8, 4) if is_quick else (FRAMES, READS)
    model = untrained_model()
    shape = model.embedding_shape
    embeddings = smooth_embeddings(model, frames).numpy()
    order = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddingStore(EmbeddingStore.create(Path(folder), "random", frames, shape), frames, shape)
        store.write(range(frames), embeddings)
        files = [Path(folder) / f"{index}.npy" for index in range(frames)]
        for file, embedding in zip(files, embeddings, strict=True):
            np.save(file, embedding.transpose(1, 2, 0).astype(np.float32))

        def our_read(index: int) -> torch.Tensor:
            return torch.from_numpy(store.read([index])).float()

        def plain_read(index: int) -> torch.Tensor:
            return plain.read_embedding(files[index])

        largest_difference = max((our_read(index) - plain_read(index)).abs().max().item() for index in range(frames))
        times = paired(
            lambda: [plain_read(index) for index in order.integers(0, frames, reads).tolist()],
            lambda: [our_read(index) for index in order.integers(0, frames, reads).tolist()],
            repeats,
        )
        bytes_of = {"plain": files[0].stat().st_size, "ours": store.frame_bytes}
        store.close()
    return {
        **figures("cache_read", times, reads),
        "cache_read_largest_difference": largest_difference,
        "cache_bytes": round(bytes_of["ours"] / bytes_of["plain"], 4),
        "cache_bytes_plain": bytes_of["plain"],
        "cache_bytes_ours": bytes_of["ours"],
    }


if __name__ == "__main__":
    run(measure, __doc__, repeats=9)
