"""Image embeddings of a video's frames, for one image encoder."""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import google_crc32c
import numpy as np

from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.files import write_file, write_in_place
from surgicalsam_napari.store.disk.arrays import check_codecs, check_metadata, create_array, read_metadata
from surgicalsam_napari.store.disk.files import STAGING, check_reachable, clear_staging, writing
from surgicalsam_napari.store.disk.write_lock import WriteLock
from surgicalsam_napari.untrusted import plain_file, without_waiting

CHECKSUM_BYTES = 4
HALF = "float16"
DATA_TYPES = (HALF, "float32")
FLAGS_READ_ALONE = 64  # up to so many frames, each flag is read separately; for more, all flags at once


class EmbeddingStore:
    """An array (T, D, h, w) and a flag for each stored frame; shared by all checkpoints of one encoder.

    The values are float16. That flips about 60 mask pixels in a million against float32, and halves the disk space. A store
    that is created as float32 keeps every value as the encoder computed it.

    There are two zarr arrays. `embeddings` has one chunk per frame, with a checksum and without compression (7-10 % smaller
    files would be three times slower). `valid` has one byte per frame. A chunk is a plain file of numbers and four
    bytes of checksum. It is written to a temporary file and renamed, then the frame is flagged as valid: a kill at any
    moment loses at most the frame being written. Frames without an embedding need no disk space.

    One memory-mapped file would read faster (0.15 ms per frame instead of about 0.5 ms; decoding a frame takes ten times
    that). But a full disk kills a process that writes into a sparse map, copies of a sparse file fill its holes, and damage
    could not be assigned to a frame.

    Parameters
    ----------
    folder : `embeddings/<encoder digest>` in the project, or a folder that `create_in` made
    frame_count : T
    shape : (D, h, w); by default the stored shape

    Attributes
    ----------
    dtype : float16 or float32, little-endian
    """

    def __init__(self, folder: Path, frame_count: int, shape: tuple[int, int, int] | None = None) -> None:
        self.folder = folder
        metadata = read_metadata(folder / "embeddings")
        self.encoder_digest = str(metadata.get("attributes", {}).get("encoder_digest", folder.name))
        stored = metadata.get("shape")
        if not isinstance(stored, list) or len(stored) != 4 or stored[0] < frame_count:
            raise ProjectError(
                f"{folder} should hold embeddings of {frame_count} frames, it has the shape {stored}. "
                "Remove that folder: the program computes the embeddings again when it needs them."
            )
        if shape is not None and stored[1:] != list(shape):
            raise ProjectError(
                f"The encoder {self.encoder_digest} makes embeddings of shape {tuple(shape)}, the project "
                f"has {tuple(stored[1:])}. Choose the checkpoint that made the embeddings, or remove {folder}."
            )
        self.shape: tuple[int, int, int, int] = (frame_count, *stored[1:])  # type: ignore[assignment]
        data_type = metadata.get("data_type")
        if data_type not in DATA_TYPES:
            raise ProjectError(
                f"{folder} should hold float16 or float32, it holds {data_type}. Remove that folder: the program computes "
                "the embeddings again when it needs them."
            )
        check_metadata(folder / "embeddings", {"zarr_format": 3})
        self.dtype = np.dtype(data_type).newbyteorder("<")
        check_codecs(folder / "embeddings", ["bytes", "crc32c"])
        self._flags = folder / "valid" / "c.0"
        self._chunks = str(folder / "embeddings" / "c")
        self._lock = WriteLock(folder)

    @staticmethod
    def create(
        root: Path, encoder_digest: str, frame_count: int, shape: tuple[int, int, int], data_type: str = HALF
    ) -> Path:
        """Make the empty arrays for one encoder in a project folder, completely or not at all; may raise OSError."""
        return EmbeddingStore.create_in(root / "embeddings" / encoder_digest, encoder_digest, frame_count, shape, data_type)

    @staticmethod
    def create_in(
        folder: Path, encoder_digest: str, frame_count: int, shape: tuple[int, int, int], data_type: str = HALF
    ) -> Path:
        """As `create`, in any folder: for embeddings of augmented frames, or beside a dataset."""
        import uuid

        from zarr.codecs import Crc32cCodec

        if not re.fullmatch(r"[0-9A-Za-z_-]{1,64}", encoder_digest):
            raise ProjectError(
                f"An encoder digest has 1 to 64 letters, digits, - or _; got {encoder_digest!r}. Use a checkpoint's digest."
            )
        temporary = folder.with_name(f".{uuid.uuid4().hex}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            create_array(
                temporary / "embeddings",
                (frame_count, *shape),
                (1, *shape),
                data_type,
                fill_value=0,
                compressors=Crc32cCodec(),
                dimension_names=("frame", "channel", "y", "x"),
                attributes={"encoder_digest": encoder_digest},
            )
            create_array(
                temporary / "valid",
                (frame_count,),
                (frame_count,),
                "bool",
                fill_value=0,
                compressors=None,
                dimension_names=("frame",),
                attributes={"description": "True for the frames that are in embeddings"},
            )
            os.rename(temporary, folder)
        except OSError:
            _remove(temporary)
            if not folder.exists():  # otherwise another process has made it first
                raise
        return folder

    @property
    def frame_bytes(self) -> int:
        """Disk space of one embedding."""
        return bytes_per_frame(self.shape[1:], self.dtype)

    @property
    def disk_bytes(self) -> int:
        """Disk space of the valid embeddings."""
        return self.valid_count * self.frame_bytes

    @property
    def valid_count(self) -> int:
        return int(np.count_nonzero(self._valid(range(self.shape[0]))))

    def is_valid(self, frame_index: int) -> bool:
        """Whether the frame has a complete embedding."""
        self._check([frame_index])
        return not self.missing([frame_index])

    def missing(self, frame_indices: Iterable[int]) -> list[int]:
        """The frames without a valid embedding, in the given order; an incomplete file counts as missing."""
        frame_indices = list(frame_indices)
        self._check(frame_indices)
        valid = zip(frame_indices, self._valid(frame_indices).tolist(), strict=True)
        return [index for index, is_valid in valid if not (is_valid and _size(self._path(index)) == self.frame_bytes)]

    def write(self, frame_indices: Sequence[int], embeddings: np.ndarray) -> None:
        """Store the embeddings of some frames.

        Parameters
        ----------
        embeddings : (B, D, h, w), stored as `dtype`

        Raises
        ------
        DiskSpaceError, ProjectError
            a failed write; the frames before the failed one are stored
        """
        self._check(frame_indices)
        if embeddings.shape != (len(frame_indices), *self.shape[1:]):
            raise ProjectError(
                f"Embeddings of {len(frame_indices)} frames should have the shape {(len(frame_indices), *self.shape[1:])}; "
                f"got {embeddings.shape}. Embed with the encoder {self.encoder_digest}."
            )
        for frame_index, embedding in zip(frame_indices, embeddings, strict=True):
            data = np.ascontiguousarray(embedding, self.dtype).reshape(-1).view(np.uint8)
            with writing(f"The embedding of frame {frame_index}", self.folder), self._lock:
                write_file(self._path(frame_index), data.data, _checksum(data), staging=self.folder / STAGING)
                self._flag(frame_index, True)

    def read(self, frame_indices: Sequence[int]) -> np.ndarray:
        """The embeddings of some frames.

        Returns
        -------
        (B, D, h, w) of `dtype`

        Raises
        ------
        ProjectError
            a frame has no valid embedding, or a damaged one. A damaged embedding counts as missing from then on
        """
        self._check(frame_indices)
        embeddings = np.empty((len(frame_indices), *self.shape[1:]), self.dtype)
        for embedding, frame_index, is_valid in zip(embeddings, frame_indices, self._valid(frame_indices), strict=True):
            if not is_valid:
                raise ProjectError(f"Frame {frame_index} has no embedding for {self.encoder_digest} yet. Embed it first.")
            self._read_into(embedding, frame_index)
        return embeddings

    def clear_leftovers(self) -> None:
        """Remove incomplete files of a killed process; may raise OSError."""
        with self._lock:
            clear_staging(self.folder)

    def close(self) -> None:
        self._lock.close()

    def _read_into(self, embedding: np.ndarray, frame_index: int) -> None:
        data = embedding.reshape(-1).view(np.uint8)
        checksum = bytearray(CHECKSUM_BYTES)
        try:
            with open(self._path(frame_index), "rb", buffering=0, opener=without_waiting) as file:
                is_complete = file.readinto(data.data) == len(data) and file.readinto(checksum) == CHECKSUM_BYTES
            if is_complete and checksum == _checksum(data):
                return
            how = "damaged" if is_complete else "cut short"
        except FileNotFoundError:
            how = "missing"
        except OSError as error:
            how = f"unreadable ({error.strerror})"
        check_reachable(self.folder / "embeddings")
        with contextlib.suppress(OSError), self._lock:
            self._flag(frame_index, False)
        raise ProjectError(
            f"The embedding of frame {frame_index} should be in {self._path(frame_index)}, which is {how}. "
            f"Embed or segment frame {frame_index} again; the other frames are intact."
        )

    def _path(self, frame_index: int) -> str:
        # a str: making a Path takes longer than the look-up of the file, and this runs for every frame of a video
        return f"{self._chunks}.{frame_index}.0.0.0"

    def _valid(self, frame_indices: Sequence[int]) -> np.ndarray:
        """(N,) bool, the flags of these frames; for a few frames of a long video, only their flags are read."""
        try:
            with plain_file(self._flags).open("rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                if size < self.shape[0]:
                    raise ProjectError(
                        f"{self._flags} should have {self.shape[0]} bytes, one per frame, it has {size}. "
                        "Remove that file: the program computes the embeddings again."
                    )
                if len(frame_indices) > FLAGS_READ_ALONE:
                    return np.fromfile(file, bool)[frame_indices]
                return np.array([file.seek(index) == index and file.read(1) != b"\0" for index in frame_indices], bool)
        except FileNotFoundError:
            check_reachable(self.folder / "embeddings")
            return np.zeros(len(frame_indices), bool)

    def _flag(self, frame_index: int, valid: bool) -> None:
        if not self._flags.exists():
            write_file(self._flags, bytes(self.shape[0]), staging=self.folder / STAGING)
        write_in_place(self._flags, frame_index, bytes([valid]))

    def _check(self, frame_indices: Iterable[int]) -> None:
        for index in frame_indices:
            if not 0 <= index < self.shape[0]:
                raise ProjectError(f"This video has the frames 0 to {self.shape[0] - 1}; got {index}. Choose one of them.")


def bytes_per_frame(shape: Sequence[int], dtype: np.dtype | str = HALF) -> int:
    """Disk space of one embedding of shape (D, h, w)."""
    return math.prod(shape) * np.dtype(dtype).itemsize + CHECKSUM_BYTES


def _checksum(data: np.ndarray) -> bytes:
    """The checksum that zarr's crc32c codec appends to a chunk; data: uint8."""
    return google_crc32c.value(data).to_bytes(CHECKSUM_BYTES, "little")


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return -1


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
