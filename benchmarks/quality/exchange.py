"""Is every pixel the same after writing labels in a format, and after reading them by us and by the tool it is for?

One row for each format, with masks or polygons:

- `pixels_differing`: after reading our own files. The labels are frames of the phantom, one frame of noise, one with holes
  inside holes, and an empty one.
- `tools`: the same for the library of another tool (tests/read_by_tools.py), in an environment of its own, whose Python is
  given by --python or SURGICALSAM_INTEROP_PYTHON; null without one.
- `without_sidecar`: the same without classes.json, as if another tool had written the files.
- `damaged`: each label file in turn is cut to its half. `refused`: an error names the place; `missing`: the frame is not
  listed; `unchanged`: the same pixels; `silent`: other pixels without a word (0 is the aim); `crashed`: an error that is not
  for a user.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from common.options import new_parser, parse, print_json

from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.exchange.dataset import Dataset
from surgicalsam_napari.exchange.format import POLYGONS, ExportTarget, Format, FrameToWrite
from surgicalsam_napari.exchange.registry import EXPORT_FORMATS, open_dataset
from surgicalsam_napari.exchange.sidecar import SIDECAR, frame_name
from surgicalsam_napari.exchange.writing import write_frames
from surgicalsam_napari.phantom import PHANTOM_CLASSES, PhantomScene

READER = Path(__file__).resolve().parents[2] / "tests" / "read_by_tools.py"
TOOLS = {
    "coco": ("pycocotools", "supervision_coco", "datumaro_coco"),
    "yolo": ("supervision_yolo",),
    "cvat-images": ("datumaro_cvat",),
    "cvat-video": ("datumaro_cvat_video",),
    "voc": ("datumaro_voc",),
    "label-studio": ("label_studio",),
    "davis": ("pillow_davis",),
    "tiff-stack": ("tifffile",),
    "ome-zarr": ("ome_zarr",),
}
ONLY_POLYGONS = {"datumaro_cvat_video"}  # datumaro reads no masks in tracks
LABEL_SUFFIXES = {".json", ".xml", ".txt", ".yaml", ".png", ".tif"}


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--frames", type=int, default=6, help="frames of the phantom")
    parser.add_argument("--height", type=int, default=540, help="pixels; the width is 16/9 of it")
    parser.add_argument("--python", default=os.environ.get("SURGICALSAM_INTEROP_PYTHON"), help="of the other tools")
    parser.add_argument("--formats", nargs="*", default=list(EXPORT_FORMATS), help="only these")
    options = parse(parser, quick={"frames": 1, "height": 48, "formats": ["coco", "yolo", "voc"], "python": None})
    frames = list(frames_to_write(options.frames, (options.height, options.height * 16 // 9 // 2 * 2)))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.formats:
            for shape in EXPORT_FORMATS[name].shapes:
                rows.append(row(EXPORT_FORMATS[name], shape == POLYGONS, frames, Path(folder), options.python))
                if not options.json:
                    print(as_line(rows[-1]), flush=True)
    if options.json:
        print_json({"frames": len(frames), "size": list(frames[0].size), "rows": rows})


def frames_to_write(count: int, size: tuple[int, int]) -> Iterator[FrameToWrite]:
    """Frames of the phantom, noise, rings inside rings, and an empty frame."""
    scene = PhantomScene(1, size, max(count, 2) * 5)
    rng = np.random.default_rng(0)
    for position in range(count):
        frame = scene.frame(position * 5)
        yield to_write(position * 5, frame.labels, frame.image)
    rows, columns = np.indices(size)
    rings = (np.hypot(rows - size[0] / 2, columns - size[1] / 2).astype(int) // 4) % 2
    # noise of small blocks: at full resolution it has a million regions, which no tool reads in reasonable time
    noise = rng.choice(np.array([0, *PHANTOM_CLASSES.ids[:3]]), (size[0] // 8 + 1, size[1] // 8 + 1))
    noise = np.kron(noise, np.ones((8, 8), int))[: size[0], : size[1]]
    picture = rng.integers(0, 255, (*size, 3)).astype(np.uint8)
    for offset, labels in enumerate((noise, rings * PHANTOM_CLASSES.ids[0], np.zeros(size))):
        yield to_write(count * 5 + offset, labels, picture)


def to_write(index: int, labels: np.ndarray, image: np.ndarray) -> FrameToWrite:
    return FrameToWrite("clip", index, frame_name(index), labels.astype(np.uint8), image, PHANTOM_CLASSES.ids)


def row(format: Format, polygons: bool, frames: list[FrameToWrite], folder: Path, python: str | None) -> dict:
    out = folder / f"{format.name}-{polygons}"
    start = time.perf_counter()
    for _ in write_frames(ExportTarget(out, PHANTOM_CLASSES, "clip.mp4", polygons), format, frames, len(frames)):
        pass
    written = time.perf_counter()
    dataset = open_dataset(out)
    differing = {"ours": pixels_differing(dataset, frames)}
    read = time.perf_counter()
    tools = [tool for tool in TOOLS.get(format.name, ()) if polygons or tool not in ONLY_POLYGONS]
    result = {
        "format": format.name,
        "shapes": "polygons" if polygons else "masks",
        "written": len(frames),
        "read": len(dataset.frames),
        "pixels_differing": differing["ours"],
        "tools": {tool: None if python is None else by_tool(python, tool, out, frames) for tool in tools},
        "without_sidecar": without_sidecar(out, frames),
        "damaged": damaged(out, frames),
        "megabytes": round(sum(file.stat().st_size for file in label_files(out)) / 1e6, 3),
        "write_seconds": round(written - start, 2),
        "read_seconds": round(read - written, 2),
    }
    shutil.rmtree(out)
    return result


def pixels_differing(dataset: Dataset, frames: list[FrameToWrite]) -> int:
    """Pixels that differ in all frames; a missing frame counts with all its pixels."""
    read = {frame.frame_index: frame for frame in dataset.frames}
    total = 0
    for frame in frames:
        if frame.frame_index not in read:
            total += frame.label_map.size
            continue
        labels = dataset.label_map(read[frame.frame_index])
        ids = {c.id: PHANTOM_CLASSES.by_name(c.name).id for c in dataset.classes}
        table = np.zeros(256, np.uint8)
        table[list(ids)] = list(ids.values())
        total += int(np.count_nonzero(table[labels] != frame.label_map))
    return total


def by_tool(python: str, tool: str, out: Path, frames: list[FrameToWrite]) -> dict:
    """What another tool reads: frames, pixels that differ, or its error."""
    target = out.with_suffix(f".{tool}.npz")
    done = subprocess.run([python, str(READER), tool, str(out), str(target)], capture_output=True, text=True)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1]}
    with np.load(target) as arrays:
        ids = np.array([0, *(PHANTOM_CLASSES.by_name(name).id for name in arrays["names"])], np.uint8)
        read = {name: ids[arrays[name]] for name in arrays.files if name != "names"}
    # some tools list no picture without labels
    pairs = [(read.get(frame.name, np.zeros(frame.size, np.uint8)), frame.label_map) for frame in frames]
    return {"read": len(read), "pixels_differing": sum(int(np.count_nonzero(a != b)) for a, b in pairs)}


def without_sidecar(out: Path, frames: list[FrameToWrite]) -> dict:
    """As if another tool had written the files; class numbers without names get the classes."""
    sidecar = (out / SIDECAR).read_bytes()
    (out / SIDECAR).unlink()
    try:
        dataset = open_dataset(out, classes=PHANTOM_CLASSES)
        # page numbers of a TIFF are then frame numbers
        shown = [replace_index(frame, i) for i, frame in enumerate(frames)] if dataset.format == "tiff-stack" else frames
        return {
            "read": len(dataset.frames),
            "not_annotated": len(dataset.unannotated),
            "pixels_differing": pixels_differing(dataset, shown),
        }
    except SurgicalSAMError as error:
        return {"refused": str(error)[:120]}
    finally:
        (out / SIDECAR).write_bytes(sidecar)


def replace_index(frame: FrameToWrite, index: int) -> FrameToWrite:
    return FrameToWrite(frame.sequence, index, frame.name, frame.label_map, frame.image, frame.annotated)


def label_files(out: Path) -> list[Path]:
    """The files with labels: all except pictures and classes.json."""
    pictures = {frame.image_path for frame in open_dataset(out).frames}
    found = [file for file in sorted(out.rglob("*")) if file.is_file() and file.name != SIDECAR and file not in pictures]
    return [file for file in found if file.suffix in LABEL_SUFFIXES or file.parent.name.isdigit()]


def damaged(out: Path, frames: list[FrameToWrite]) -> dict[str, int]:
    """What happens if a label file is cut to its half, file by file."""
    outcomes: Counter[str] = Counter()
    for file in label_files(out):
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
        outcomes[outcome(out, frames)] += 1
        file.write_bytes(content)
    return dict(sorted(outcomes.items()))


def outcome(out: Path, frames: list[FrameToWrite]) -> str:
    try:
        dataset = open_dataset(out)
        if pixels_differing(dataset, frames) == 0:
            return "unchanged"
        return "missing" if len(dataset.frames) < len(frames) else "silent"
    except SurgicalSAMError:
        return "refused"
    except Exception:
        return "crashed"


def as_line(result: dict) -> str:
    tools = ", ".join(f"{tool} {json.dumps(read)}" for tool, read in result["tools"].items())
    return (
        f"{result['format']:<13} {result['shapes']:<9} {result['read']}/{result['written']} frames, "
        f"{result['pixels_differing']} pixels differ; {tools or 'no tool'}; damaged {result['damaged']}; "
        f"without classes.json {result['without_sidecar']}; {result['megabytes']} MB"
    )


if __name__ == "__main__":
    main()
