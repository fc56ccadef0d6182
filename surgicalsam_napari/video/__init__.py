"""Video as an array: any frame by its exact index, lazily, from a file or a folder of numbered images.

The rest of the package uses `VideoReader`. It reads video files through `StreamDecoder` (with PyAV), image folders and TIFF
files through `ImageFolder`, and DICOM files through `dicom`. `PacketIndex` lists the packets of a file from its container,
without decoding; `key_packets` reads where decoding can start.
"""

from __future__ import annotations

from surgicalsam_napari.video.content_area import ContentArea
from surgicalsam_napari.video.image_folder import IMAGE_SUFFIXES
from surgicalsam_napari.video.reader import FILE_SUFFIXES, VIDEO_SUFFIXES, VideoInfo, VideoReader, is_video
from surgicalsam_napari.video.writer import write_video, writing_video

__all__ = [
    "FILE_SUFFIXES",
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "ContentArea",
    "VideoInfo",
    "VideoReader",
    "is_video",
    "write_video",
    "writing_video",
]
