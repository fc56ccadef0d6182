"""What a folder or file looks like that no dataset format recognizes, and what to do."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from surgicalsam_napari.exchange.files import LABEL_SUFFIXES, folders_in, is_color_picture
from surgicalsam_napari.exchange.label_colors import color_count
from surgicalsam_napari.untrusted import read_json
from surgicalsam_napari.video import is_video
from surgicalsam_napari.video.image_folder import IMAGE_SUFFIXES

FILES_LISTED = 5000
KINDS_SHOWN = 4
FOLDERS_TRIED = 30
LARGEST_JSON = 50_000_000  # bytes; larger files are not read for a message
PICTURES_TRIED = 20
FEW_COLORS = 40  # a label picture has few colours, a photograph thousands
# folders of a dataset that a person may choose instead of the dataset itself
PART_NAMES = {
    "annotations",
    "images",
    "jpegimages",
    "labels",
    "masks",
    "segmentation",
    "semseg",
    "test",
    "train",
    "val",
    "valid",
}
_VOLUMES = {".nii", ".nrrd", ".mha", ".dcm"}
_ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"}


def what_it_looks_like(path: Path, title_of: Callable[[Path], str | None]) -> str:
    """One or two sentences about a path that is not a dataset, for the user.

    Parameters
    ----------
    title_of : the title of the format that recognizes a path; None if no format does
    """
    if path.is_file():
        return _about_file(path)
    if path.suffix == ".surgicalsam":
        return "It is a project of this program: export its labels first (`surgicalsam export`)."
    above = [path.parent] if path.name.casefold() in PART_NAMES else []
    for near in (*above, *folders_in(path)[:FOLDERS_TRIED]):
        if (title := title_of(near)) is not None:
            return f"The folder {near} looks like {title}: choose that one."
    kinds = Counter(file.suffix.lower() or "no suffix" for file in islice(_files(path), FILES_LISTED))
    if not kinds:
        return "The folder is empty. Choose the folder that contains the labels."
    listed = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(KINDS_SHOWN))
    if set(kinds) & _ARCHIVES:
        return f"It contains {listed}. Unpack the archive, and choose the unpacked folder."
    if set(kinds) & _VOLUMES:
        return f"It contains {listed}: medical volumes, not frames of a video. Save the labels as pictures or as TIFF."
    if labels := _label_picture(path):
        return (
            f"{labels.relative_to(path)} looks like a label picture whose colours are classes. Put these pictures into a "
            "folder SegmentationClass, and beside it a file labelmap.txt with a line for each class, such as "
            "Grasper:255,0,0::."
        )
    if set(kinds) <= set(IMAGE_SUFFIXES):
        return (
            f"It contains only colour pictures ({listed}), but no labels. Choose the folder that also contains the labels, "
            "or open this one as a video."
        )
    return f"It contains {listed}. Choose the folder that contains the labels, or export them as COCO in your tool."


def _label_picture(path: Path) -> Path | None:
    """A colour picture with a few colours, in a lossless format."""
    pictures = (file for file in islice(_files(path), FILES_LISTED) if file.suffix.lower() in LABEL_SUFFIXES)
    colored = islice((file for file in pictures if is_color_picture(file)), PICTURES_TRIED)
    return next((file for file in colored if 1 < color_count(file, FEW_COLORS) <= FEW_COLORS), None)


def _about_file(path: Path) -> str:
    if path.suffix.lower() in _ARCHIVES:
        return "It is an archive: unpack it, and choose the unpacked folder."
    if is_video(path):
        return "It is a video: choose the file or the folder of the labels."
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return f"It is a single picture: choose its folder, {path.parent}."
    if path.suffix.lower() == ".json":
        return _about_json(path)
    return f"It is a file of the kind {path.suffix or path.name}."


def _about_json(path: Path) -> str:
    if path.stat().st_size > LARGEST_JSON:
        return "It is a JSON file of another kind."
    try:
        content = read_json(path)
    except ValueError:
        return "It is damaged: it is not valid JSON. Restore it, or export it again."
    if isinstance(content, dict) and "_via_img_metadata" in content:
        return "It is a project of the VGG Image Annotator. Export it there as COCO."
    if isinstance(content, dict) and "assets" in content:
        return "It is an export of VoTT. Export it there as COCO or Pascal VOC."
    if isinstance(content, list) and content and isinstance(content[0], dict) and "image" in content[0]:
        return "It looks like Label Studio's JSON-MIN. Export it there as JSON."
    if isinstance(content, dict):
        return f"It is a JSON file with {', '.join(list(content)[:6]) or 'nothing'}."
    return f"It is a JSON file with {f'a list of {len(content):,} entries' if isinstance(content, list) else 'one value'}."


def _files(folder: Path) -> Iterator[Path]:
    for place, _folders, names in os.walk(folder):
        yield from (Path(place, name) for name in names if not name.startswith("."))
