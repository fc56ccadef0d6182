"""What a path that no format recognizes looks like, and what to do: for the error message."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from pathlib import Path

from surgicalsam_napari.exchange.files import folders_in, is_color_picture
from surgicalsam_napari.exchange.label_colors import color_count
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.video.image_folder import IMAGE_SUFFIXES

_ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"}
_VIDEOS = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".m4v"}
_VOLUMES = {".nii", ".nrrd", ".mha", ".dcm"}
_MOST_FILES = 2000
_FEW_COLORS = 40  # a label picture has few colours, a photograph thousands


def looks_like(path: Path) -> str:
    """One or two sentences: what is there, and what to do."""
    if path.is_file():
        return _file(path)
    files = [file for file in islice(path.rglob("*"), _MOST_FILES) if file.is_file() and not file.name.startswith(".")]
    if not files:
        return "The folder is empty. Choose the folder of the whole dataset."
    suffixes = Counter(file.suffix.lower() for file in files)
    found = _by_suffix(suffixes)
    if found:
        return found
    if jsons := [file for file in files if file.suffix.lower() == ".json"]:
        return f"It has {counted(len(jsons), 'JSON file')}, such as {jsons[0].name}: {_json(jsons[0])}"
    pictures = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    if pictures:
        return _pictures(path, pictures)
    kinds = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in suffixes.most_common(3))
    return f"It has files of other kinds ({kinds}). Choose the folder of the whole dataset, or convert it first."


def _file(path: Path) -> str:
    suffix = path.suffix.lower()
    if found := _by_suffix(Counter([suffix])):
        return found
    if suffix == ".json":
        return f"The file is JSON: {_json(path)}"
    if suffix in IMAGE_SUFFIXES:
        return "It is a single picture. Choose the folder that contains all of them."
    return f"It is a file of another kind ({suffix or 'without suffix'}). Choose the folder of the dataset."


def _by_suffix(suffixes: Counter[str]) -> str:
    """For kinds of files that say it all; "" otherwise."""
    if _ARCHIVES & suffixes.keys() and sum(suffixes[suffix] for suffix in _ARCHIVES) * 2 > sum(suffixes.values()):
        return "It is an archive. Unpack it, and choose the folder inside."
    if _VOLUMES & suffixes.keys():
        return "It has medical volumes (NIfTI, NRRD, DICOM), not frames of a video. Save the labels as pictures or as TIFF."
    if suffixes.keys() <= _VIDEOS:
        return "It has only videos, and no labels. Open a video as a project, and choose the labels here."
    return ""


def _json(file: Path) -> str:
    try:
        record = json.loads(file.read_text("utf-8-sig"))
    except (OSError, ValueError):
        return "it is damaged, or not JSON. Restore the file."
    if isinstance(record, dict) and "_via_img_metadata" in record:
        return "it is a project of the VGG Image Annotator. Export it there as COCO."
    if isinstance(record, dict) and "assets" in record:
        return "it is an export of VoTT. Export it there as COCO or Pascal VOC."
    if isinstance(record, list) and record and isinstance(record[0], dict) and "image" in record[0]:
        return "it looks like Label Studio's JSON-MIN. Export it there as JSON."
    keys = ", ".join(map(str, list(record)[:5])) if isinstance(record, dict) else f"a list of {len(record)}"
    return f"it has {keys}, which no known format has. Export as COCO, which most tools can write."


def _pictures(path: Path, pictures: list[Path]) -> str:
    colors = [file for file in pictures if is_color_picture(file)]
    few = [file for file in colors[:20] if color_count(file, _FEW_COLORS) <= _FEW_COLORS]
    if few:
        return (
            f"{few[0].relative_to(path)} looks like a label picture whose colours are classes. Put the pictures into a "
            "folder SegmentationClass, and beside it a file labelmap.txt with a line for each class, such as "
            "Grasper:255,0,0::."
        )
    if len(colors) < len(pictures):
        inner = next((file.parent for file in pictures if file not in colors), path)
        return f"{inner} has grey pictures, which may be labels. Choose that folder, and give the classes (--classes)."
    names = ", ".join(folder.name for folder in folders_in(path)[:5])
    inside = f" (its folders are {names})" if names else ""
    return (
        f"It has {counted(len(pictures), 'picture')}, but no labels that are known{inside}. Frames without labels are "
        "opened as a video; for labels, choose the folder that also contains them."
    )
