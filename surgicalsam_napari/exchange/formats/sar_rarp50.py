"""SAR-RARP50 (Psychogyios et al., 2023): robot-assisted prostatectomy with parts of instruments. Read only.

::

    video_01/segmentation/000000060.png     grey values 1 to 9; the number is that of the frame in video_left.avi
    video_01/rgb/000000060.png              the picture, if it was extracted
    train_set/video_01/…, test_set/…        as distributed

Values as in the toolkit of the challenge (https://github.com/surgical-vision/SAR_RARP50-evaluation).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame
from surgicalsam_napari.exchange.files import files_by_stem, folders_in, image_size, read_labels
from surgicalsam_napari.exchange.format import Format, ReadOptions
from surgicalsam_napari.exchange.listing import ListedPicture, find_picture, listed_dataset, numbered_classes

NAME = "sar-rarp50"
LABELS, IMAGES = "segmentation", "rgb"
CLASSES = numbered_classes(
    "SAR-RARP50",
    (
        "Tool clasper",
        "Tool wrist",
        "Tool shaft",
        "Suturing needle",
        "Thread",
        "Suction tool",
        "Needle holder",
        "Clamps",
        "Catheter",
    ),
)
_OTHER_FILES = ("video_left.avi", "action_discrete.txt", "action_continues.txt", "rgb")


def recognizes(path: Path) -> bool:
    return path.is_dir() and bool(_videos(path))


def read_dataset(path: Path, options: ReadOptions) -> Dataset:
    pictures = []
    for video in _videos(path):
        for file in files_by_stem(video / LABELS).values():

            def read(frame: DatasetFrame, file: Path = file) -> np.ndarray:
                return read_labels(file, frame.name)

            picture = find_picture(Path(file.name), [video / IMAGES])
            name = Path(video.name) / file.name
            pictures.append(ListedPicture(name, image_size(picture or file), read, picture))
    return listed_dataset(path, NAME, CLASSES, pictures, options)


def _videos(path: Path) -> list[Path]:
    """The folders of videos: this one, those in it, or those in train_set and test_set."""
    for candidates in ([path], folders_in(path), [video for part in folders_in(path) for video in folders_in(part)]):
        if videos := [video for video in candidates if _is_video(video)]:
            return videos
    return []


def _is_video(folder: Path) -> bool:
    return (folder / LABELS).is_dir() and any((folder / name).exists() for name in _OTHER_FILES)


FORMAT = Format(
    name=NAME,
    title="SAR-RARP50",
    looks_like="video_01/segmentation/000000060.png beside rgb or video_left.avi",
    recognizes=recognizes,
    read_dataset=read_dataset,
)
