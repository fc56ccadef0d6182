"""Damaged files of any format are refused with a message for the user, never with a traceback."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.exchange.format import POLYGONS, ExportTarget, FrameToWrite
from surgicalsam_napari.exchange.registry import EXPORT_FORMATS, open_dataset
from surgicalsam_napari.exchange.sidecar import SIDECAR, frame_name
from surgicalsam_napari.exchange.writing import write_frames
from surgicalsam_napari.instruments import ENDOVIS2018

CUTS = (0, 0.3, 0.7, 0.99)  # of a file's length


def exported(out: Path, format: str, *, polygons: bool) -> Path:
    frames = []
    for index in range(2):
        labels = np.kron(np.random.default_rng(index).integers(0, 7, (8, 10)), np.ones((5, 5), int)).astype(np.uint8)
        frames.append(FrameToWrite("clip", index, frame_name(index), labels, None, ENDOVIS2018.ids))
    for _ in write_frames(ExportTarget(out, ENDOVIS2018, "clip.mp4", polygons), EXPORT_FORMATS[format], frames, 2):
        pass
    return out


def damaged(content: bytes, seed: int) -> list[bytes]:
    """The content cut off, and with wrong bytes."""
    rng = np.random.default_rng(seed)
    versions = [content[: int(len(content) * share)] for share in CUTS]
    for _ in range(3):
        wrong = bytearray(content)
        for position in rng.integers(0, len(content), 3):
            wrong[position] = rng.integers(256)
        versions.append(bytes(wrong))
    return versions


@pytest.mark.parametrize("with_sidecar", [True, False])
@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_a_damaged_file_gives_a_message_for_the_user(tmp_path: Path, format: str, with_sidecar: bool) -> None:
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    out = exported(tmp_path / "out", format, polygons=POLYGONS in EXPORT_FORMATS[format].shapes)
    if not with_sidecar:
        (out / SIDECAR).unlink()
    refused = 0
    for seed, file in enumerate(sorted(path for path in out.rglob("*") if path.is_file())):
        content = file.read_bytes()
        for version in damaged(content, seed):
            file.write_bytes(version)
            try:
                dataset = open_dataset(out, classes=ENDOVIS2018)
                for frame in dataset.frames:
                    dataset.label_map(frame)
            except SurgicalSAMError as error:
                assert str(error)
                refused += 1
        file.write_bytes(content)
    assert refused > 0
