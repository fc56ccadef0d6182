"""Video as an array: any frame by its exact index, lazily, from a file or a folder of numbered images.

The rest of the package uses `VideoReader`. It reads video files through `StreamDecoder` (with PyAV), and image folders
through `ImageFolder`. `PacketIndex` lists the packets of a file from its container, without decoding.
"""

from __future__ import annotations

from surgicalsam_napari.video.content_area import ContentArea
from surgicalsam_napari.video.image_folder import IMAGE_SUFFIXES
from surgicalsam_napari.video.reader import VIDEO_SUFFIXES, VideoInfo, VideoReader, is_video
from surgicalsam_napari.video.writer import write_video, writing_video

__all__ = [
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "ContentArea",
    "VideoInfo",
    "VideoReader",
    "is_video",
    "write_video",
    "writing_video",
]
