"""Video as an array: any frame by its exact index, lazily, from a file or a folder of numbered images.

`VideoReader` is what the rest of the package uses. Behind it, `StreamDecoder` reads video files with PyAV and `ImageFolder`
reads image folders; `PacketIndex` is what a file's container says about its packets, known without decoding.
"""

from __future__ import annotations

from surgicalsam_napari.video.image_folder import IMAGE_SUFFIXES
from surgicalsam_napari.video.reader import VIDEO_SUFFIXES, VideoInfo, VideoReader, is_video
from surgicalsam_napari.video.writer import write_video

__all__ = ["IMAGE_SUFFIXES", "VIDEO_SUFFIXES", "VideoInfo", "VideoReader", "is_video", "write_video"]
