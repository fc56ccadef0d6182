"""A project: one folder per video, with its labels, provenance, embeddings and history."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from surgicalsam_napari.errors import ClassSetError, ProjectError, VideoError
from surgicalsam_napari.instruments import ClassSet, plain
from surgicalsam_napari.store.action import Action
from surgicalsam_napari.store.content_area import CheckedContentArea
from surgicalsam_napari.store.embeddings import EmbeddingStore
from surgicalsam_napari.store.files import writing
from surgicalsam_napari.store.history import History
from surgicalsam_napari.store.labels import LabelStore
from surgicalsam_napari.store.manifest import MANIFEST, Manifest, VideoRecord, read_manifest, write_manifest
from surgicalsam_napari.store.ownership import Owner, Ownership
from surgicalsam_napari.store.provenance import class_attributes
from surgicalsam_napari.store.snapshots import Snapshots
from surgicalsam_napari.store.work_log import WORK_LOG, WorkLog
from surgicalsam_napari.video import ContentArea, VideoReader, is_video

SUFFIX = ".surgicalsam"
BULK_FRAMES = 20  # an action on so many frames makes a snapshot first,
BULK_SHARE = 1 / 100  # if they are also this share of the video: a snapshot of a longer video takes longer


class Project:
    """One video's labels, provenance and embeddings, in a folder that is a zarr group with a manifest.

    ::

        clip.surgicalsam/
          project.json            schema version, video, classes, checkpoints used
          zarr.json               the folder opens with zarr.open_group
          labels/ painted/        (T, H, W): class ids; pixels that a person set
          provenance/ predicted_iou/ presence/ contested/ predicted_by/     (T, C): per frame and class
          history/ snapshots/     actions that can be undone; named states of all of the above
          work.csv                edits and time spent, per frame
          embeddings/<encoder digest>/embeddings/, valid/         (T, D, h, w) float16; (T,)
          augmented/<encoder digest>/<version>/                   the same for augmented frames, for training

    Make one with `create`, `open` or `open_or_create`. The project owns the VideoReader that is passed to it, and closes it.

    Attributes
    ----------
    folder : the project folder, absolute
    manifest : the content of project.json
    labels : the LabelStore
    writable : False for a folder that can only be read
    work_log : the edits and the time spent
    """

    def __init__(self, folder: Path, manifest: Manifest, video: VideoReader | None = None) -> None:
        self.folder = folder
        self.manifest = manifest
        self.writable = os.access(folder, os.W_OK)
        self._video = video
        self._embeddings: dict[Path, EmbeddingStore] = {}
        shape = (manifest.video.frame_count, *manifest.video.size)
        self.labels = LabelStore(folder, shape, manifest.classes, writable=self.writable)
        self._checked_area = CheckedContentArea(self.labels)
        self._lock = self.labels.lock
        self._ownership = Ownership(folder)
        self.work_log = WorkLog(folder / WORK_LOG, self.labels if self.writable else None)

    # ---- create and open

    @staticmethod
    def default_folder(video_path: Path | str) -> Path:
        """Beside the video: clip.surgicalsam for clip.mp4, frames.surgicalsam for a folder of images called frames."""
        video_path = Path(video_path).absolute()
        stem = video_path.name if video_path.is_dir() else video_path.stem
        return video_path.with_name(stem + SUFFIX)

    @classmethod
    def create(cls, folder: Path | str, video: VideoReader, classes: ClassSet) -> Project:
        """Make a new project, completely or not at all.

        Raises
        ------
        ProjectError
            the folder is not empty, or cannot be made
        DiskSpaceError
            the disk is full
        """
        folder = Path(folder).expanduser().absolute()
        if (folder / MANIFEST).exists():
            raise ProjectError(f"{folder} is a project already. Open it, or choose another folder for the new one.")
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise ProjectError(f"A new project needs a new or empty folder, {folder} is neither. Choose another one.")
        manifest = Manifest(video=VideoRecord.of(video.info, folder), class_set=classes.to_json())
        _check_writable(folder)
        temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
        try:
            with writing("A new project", folder.parent):
                folder.parent.mkdir(parents=True, exist_ok=True)
                _write_new(temporary, manifest)
                if folder.exists():
                    folder.rmdir()
                os.rename(temporary, folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        return cls(folder, manifest, video)

    @classmethod
    def open(cls, folder: Path | str, *, video: VideoReader | None = None, require_video: bool = True) -> Project:
        """Open a project and find its video, also after it has moved.

        Parameters
        ----------
        video : the project's video, if it lies at an unexpected place; the project remembers the place
        require_video : False to open a project without its video; `video` looks for it on first use

        Raises
        ------
        ProjectError
            no project, a damaged one, one of a newer schema, or a wrong video
        """
        folder = Path(folder).expanduser().absolute()
        manifest = read_manifest(folder)
        if video is not None:
            video = _same_video(folder, manifest.video, video)
        project = cls(folder, manifest, video)
        try:
            if video is not None:
                project._remember_place(video)
            elif require_video:
                _ = project.video
        except BaseException:
            project.close()
            raise
        return project

    @classmethod
    def open_or_create(cls, video: VideoReader, classes: ClassSet, folder: Path | str | None = None) -> Project:
        """Open the project of a video, or make one with `classes`; an existing project keeps its own classes.

        Parameters
        ----------
        folder : by default beside the video
        """
        folder = cls.default_folder(video.info.path) if folder is None else Path(folder).expanduser().absolute()
        if (folder / MANIFEST).exists():
            return cls.open(folder, video=video)
        return cls.create(folder, video, classes)

    def close(self) -> None:
        """Close the video and all files; everything is already on disk."""
        if self._video is not None:
            self._video.close()
        for store in self._embeddings.values():
            store.close()
        self.labels.close()
        self._ownership.release()

    def __enter__(self) -> Project:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Project({str(self.folder)!r})"

    # ---- one window at a time

    def claim(self) -> Owner | None:
        """Claim the project for a window. If another one has it, return its owner and refuse all writes from now on.

        The operating system releases the claim when the process ends, even by a kill.
        """
        if not self.writable or self._ownership.claim():
            return None
        owner = self._ownership.owner or Owner("somebody", "another computer", 0, "an unknown time")
        self.writable = False
        self.labels.set_read_only(
            f"{self.folder.name} is open for editing by {owner}. Close it there and open it again here."
        )
        return owner

    # ---- actions and snapshots

    @contextmanager
    def action(self, name: str, frame_count: int, *, all_or_none: bool = False) -> Iterator[Action]:
        """Write frames as one action: `History.action`, with a snapshot before it if the frames are many.

        Parameters
        ----------
        name : for the user, shown after "Undo"
        frame_count : number of frames that may be written
        """
        if frame_count >= max(BULK_FRAMES, BULK_SHARE * self.manifest.video.frame_count):
            self.snapshots.create_before(name)
        with self.history.action(name, all_or_none=all_or_none) as action:
            yield action

    @property
    def history(self) -> History:
        """The actions, with undo and redo."""
        return self.labels.history

    @property
    def snapshots(self) -> Snapshots:
        """Named states of the labels."""
        return self.labels.snapshots

    # ---- video

    @property
    def video(self) -> VideoReader:
        """The video; a ProjectError that explains how to relink it if it cannot be found."""
        if self._video is None:
            self._video = _find_video(self.folder, self.manifest.video)
            self._remember_place(self._video)
        return self._video

    @property
    def content_area(self) -> ContentArea:
        """The part of the picture that can show instruments: without the black border, but all of it if a person labelled
        instruments on what looks like the border.
        """
        area = self.video.content_area
        return ContentArea(area.size) if self._checked_area.contradicted(area) else area

    def close_video(self) -> None:
        """Close the video and free its cached frames; `video` opens it again on the next use."""
        video, self._video = self._video, None
        if video is not None:
            video.close()

    def relink(self, video_path: Path | str) -> None:
        """Set the new place of the video.

        Raises
        ------
        VideoError, ProjectError
            the video cannot be read, or is a wrong one; the project stays as it was
        """
        video = VideoReader(video_path)
        try:
            video = _same_video(self.folder, self.manifest.video, video)
            if self.writable:
                self._remember_place(video)
        except BaseException:
            video.close()
            raise
        old, self._video = self._video, video
        if old is not None:
            old.close()

    def _remember_place(self, video: VideoReader) -> None:
        current, recorded = VideoRecord.of(video.info, self.folder), self.manifest.video
        if self.writable and (current.path, current.relative_path) != (recorded.path, recorded.relative_path):
            place = {"path": current.path, "relative_path": current.relative_path}
            self._change_manifest(lambda manifest: manifest.changed(video=manifest.video.model_copy(update=place)))

    # ---- classes and checkpoints

    @property
    def classes(self) -> ClassSet:
        return self.manifest.classes

    def extend_classes(self, classes: ClassSet) -> None:
        """Add new classes, and update the colours of known ones.

        Raises
        ------
        ClassSetError
            an id has a different name in this project, or a name a different id; nothing is changed
        """
        extended = _extended(self.classes, classes)
        if extended == self.classes:
            return
        self.labels.check_writable("The class set")
        with writing("The class set", self.folder), self._lock:
            self.labels.add_columns(extended)  # if the next line fails, columns without a class do no harm
            self._change_manifest(lambda manifest: manifest.changed(class_set=extended.to_json()))
            self.labels.use_classes(extended)

    def record_checkpoint(self, info: dict[str, Any]) -> int:
        """Record a checkpoint that predicts in this project.

        Parameters
        ----------
        info : JSON-compatible; two records with the same `digest` are the same checkpoint

        Returns
        -------
        its number, from 1: its position in `manifest.checkpoints`
        """
        digest = info.get("digest")
        for known in (self.manifest, read_manifest(self.folder)):
            for position, checkpoint in enumerate(known.checkpoints):
                if checkpoint == info or (digest is not None and checkpoint.get("digest") == digest):
                    return position + 1
        self._change_manifest(lambda manifest: manifest.changed(checkpoints=(*manifest.checkpoints, dict(info))))
        return len(self.manifest.checkpoints)

    def _change_manifest(self, change: Callable[[Manifest], Manifest]) -> None:
        with writing("The manifest", self.folder), self._lock:
            self.labels.check_writable("The manifest")
            manifest = change(read_manifest(self.folder))  # read again: another process may have changed it
            write_manifest(self.folder, manifest)
            self.manifest = manifest

    # ---- embeddings

    def embeddings(self, encoder_digest: str, shape: tuple[int, int, int]) -> EmbeddingStore:
        """The embeddings of one image encoder, shape (D, h, w) per frame; made on first use."""
        return self._embedding_store(self.folder / "embeddings" / encoder_digest, encoder_digest, shape)

    def augmented_embeddings(self, encoder_digest: str, version: str, shape: tuple[int, int, int]) -> EmbeddingStore:
        """The embeddings of augmented frames, stored apart from those of the frames themselves; made on first use.

        Parameters
        ----------
        version : letters, digits and dashes that identify the augmentation
        """
        return self._embedding_store(self.folder / "augmented" / encoder_digest / version, encoder_digest, shape)

    def _embedding_store(self, folder: Path, encoder_digest: str, shape: tuple[int, int, int]) -> EmbeddingStore:
        store = self._embeddings.get(folder)
        if store is None or store.shape[1:] != tuple(shape):
            frame_count = self.manifest.video.frame_count
            if not folder.exists():
                with writing("The embeddings", self.folder), self._lock:
                    EmbeddingStore.create_in(folder, encoder_digest, frame_count, shape)
            store = EmbeddingStore(folder, frame_count, shape)
            if self.writable:
                with writing("The embeddings", self.folder):
                    store.clear_leftovers()
                store.close()  # closes the lock file until the next write, because training opens many stores
            self._embeddings[folder] = store
        return store

    def embedding_stores(self) -> list[EmbeddingStore]:
        """The embeddings of the frames themselves (not augmented), of every encoder."""
        folder = self.folder / "embeddings"
        digests = sorted(path.parent.name for path in folder.glob("[!.]*/embeddings"))
        return [EmbeddingStore(folder / digest, self.manifest.video.frame_count) for digest in digests]


def _write_new(folder: Path, manifest: Manifest) -> None:
    """Fill a new project folder; the manifest is written last."""
    import zarr

    attributes = {"format": manifest.format, "schema_version": manifest.schema_version}
    zarr.create_group(folder, attributes={**attributes, **class_attributes(manifest.classes)})
    zarr.create_group(folder / "embeddings")
    LabelStore.create(folder, (manifest.video.frame_count, *manifest.video.size), manifest.classes)
    write_manifest(folder, manifest)


def _check_writable(folder: Path) -> None:
    """A ProjectError with another way to choose the folder, if the project cannot be made here."""
    existing = folder.parent
    while not existing.exists():
        existing = existing.parent
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ProjectError(
            f"A new project needs a writable folder, {existing} is read-only. Choose another one: "
            "--project-folder DIR on the command line, Session.open(path, project_folder=DIR) in Python."
        )


def _same_video(folder: Path, record: VideoRecord, video: VideoReader) -> VideoReader:
    """The video, as the project counts its frames; a ProjectError if it is another one."""
    if video.info.left_out and video.info.fingerprint != record.fingerprint:  # an earlier version counted every image
        every_image = VideoReader(video.info.path, every_image=True)
        if every_image.info.fingerprint == record.fingerprint:
            video.close()
            return every_image
        every_image.close()
    info = video.info
    if info.fingerprint != record.fingerprint:
        raise ProjectError(
            f"{folder.name} belongs to the video {Path(record.path).name} (fingerprint {record.fingerprint[:8]}), but "
            f"{info.path.name} is another one ({info.fingerprint[:8]}). Choose the right video, or another project folder."
        )
    if (info.frame_count, *info.size) != (record.frame_count, *record.size):
        raise ProjectError(
            f"{folder.name} needs {record.frame_count} frames of {record.size}; {info.path.name} now reads as "
            f"{info.frame_count} of {info.size}. Use the PyAV version that made the project, or start another project."
        )
    return video


def _find_video(folder: Path, record: VideoRecord) -> VideoReader:
    """Open the video at its last place (relative to the project, or absolute), or beside the project under any name."""
    for path in _candidates(folder, record):
        try:
            video = VideoReader(path)
        except (VideoError, OSError):
            continue
        try:
            return _same_video(folder, record, video)
        except ProjectError:
            video.close()
    raise ProjectError(
        f"The video of {folder.name} should be at {record.path} or beside the project; it is not there, or it is another "
        "video. Move it there, or open the video at its new place with this project folder: Project.open(folder, "
        "video=VideoReader(path))."
    )


def _candidates(folder: Path, record: VideoRecord) -> Iterator[Path]:
    tried = set()
    recorded = Path(record.path)
    places = [recorded, folder.parent / recorded.name]
    if record.relative_path is not None:
        places.insert(0, Path(os.path.normpath(folder / record.relative_path)))
    for path in places:
        if path not in tried and path.exists():
            tried.add(path)
            yield path
    for path in sorted(folder.parent.iterdir()):
        if path not in tried and is_video(path) and (path.is_dir() or path.stat().st_size == record.byte_count):
            yield path


def _extended(present: ClassSet, classes: ClassSet) -> ClassSet:
    """`present` and the new classes of `classes`; a ClassSetError if the two sets contradict each other."""
    given = {c.id: c for c in classes}
    ids = {plain(c.name): c.id for c in present}
    for c in classes:
        if ids.get(plain(c.name), c.id) != c.id:
            raise ClassSetError(
                f"{c.name} has the id {ids[plain(c.name)]} in this project and {c.id} in {classes.name}. "
                "Give it the project's id, or start another project."
            )
        if c.id in present.ids and plain(present.by_id(c.id).name) != plain(c.name):
            raise ClassSetError(
                f"The id {c.id} means {present.by_id(c.id).name} in this project and {c.name} in {classes.name}. "
                "Give the class another id, or start another project."
            )
    kept = tuple(given.get(c.id, c) for c in present)
    new = tuple(c for c in classes if c.id not in present.ids)
    return ClassSet(classes.name if new or kept != present.classes else present.name, kept + new)
