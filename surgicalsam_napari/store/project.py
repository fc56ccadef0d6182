"""A project: one folder per video, with its labels, provenance, embeddings and history."""

from __future__ import annotations

import os
import platform
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

from psygnal import Signal

from surgicalsam_napari.errors import ClassSetError, ProjectError, VideoChangedError
from surgicalsam_napari.instruments import ClassSet, InstrumentClass
from surgicalsam_napari.store.content_area import CheckedContentArea
from surgicalsam_napari.store.creating import check_creatable, create_folder
from surgicalsam_napari.store.disk.action import Action
from surgicalsam_napari.store.disk.file_records import FileRecords
from surgicalsam_napari.store.disk.files import STAGING, check_reachable, writing
from surgicalsam_napari.store.embeddings import HALF, EmbeddingStore
from surgicalsam_napari.store.growing import grown
from surgicalsam_napari.store.history import History
from surgicalsam_napari.store.instances import Tracks
from surgicalsam_napari.store.label_maps import present_ids
from surgicalsam_napari.store.labels.label_store import LabelStore
from surgicalsam_napari.store.labels.whole import Whole
from surgicalsam_napari.store.locating import checked, default_folder, find_video, project_for, recorded
from surgicalsam_napari.store.manifest import MANIFEST, Manifest, ModelRecord, VideoRecord, read_manifest, write_manifest
from surgicalsam_napari.store.notes import Notes
from surgicalsam_napari.store.ownership import RUN_FOLDER, Owner, Ownership
from surgicalsam_napari.store.part_labels import (
    PARTS,
    check_unlabelled,
    following,
    has_part_labels,
    record_within,
    with_parts_back,
    with_stored_parts,
)
from surgicalsam_napari.store.plain_files import check_plain
from surgicalsam_napari.store.project_classes import ProjectClasses
from surgicalsam_napari.store.same_video import Comparison, Finding
from surgicalsam_napari.store.snapshots import Snapshots
from surgicalsam_napari.store.work_log import WORK_LOG, WorkLog
from surgicalsam_napari.video import ContentArea, VideoReader

BULK_FRAMES = 20  # an action on so many frames makes a snapshot first,
BULK_SHARE = 1 / 100  # if they are also this share of the video: a snapshot of a longer video takes longer


class Project:
    """One video's labels, provenance and embeddings, in a folder that is a zarr group with a manifest.

    ::

        clip.surgicalsam/
          project.json            schema version, video, classes, checkpoints used
          zarr.json               the folder opens with zarr.open_group
          labels/ painted/        (T, H, W): class ids; pixels that a person set
          instances/ tracks.json  (T, H, W): numbers of instances; which track a number in a frame is
          checksums/              (T, 16): CRC-32C of all of these, per frame
          provenance/ predicted_iou/ presence/ contested/ predicted_by/     (T, C): per frame and class
          history/ snapshots/     actions that can be undone; named states of all of the above
          work.csv                edits and time spent, per frame
          notes.json              notes on frames
          files.json              CRC-32C of project.json, notes.json, tracks.json and work.csv; the numbers of the actions
          parts/                  labels of the parts of the instruments: a project with all of the above but the notes, and
                                  with the embeddings of this one
          embeddings/<encoder digest>/embeddings/, valid/         (T, D, h, w) float16 or float32; (T,)
          augmented/<encoder digest>/<version>/                   the same for augmented frames, for training

    Make one with `create`, `open` or `open_or_create`. The project owns the VideoReader that is passed to it, and closes it.
    Parts (`open_parts`) have the video, the notes and the owner of the `whole`, and are closed with it.

    Attributes
    ----------
    folder : the project folder, absolute
    manifest : the content of project.json
    labels : the LabelStore
    writable : False for a folder that can only be read
    work_log : the edits and the time spent
    notes : a person's notes on frames
    tracks : which instrument is which, over time
    notice : what was found when the video was opened, for the person: it was renamed, has grown, …; usually empty
    whole : for parts: the project of their instruments; else None
    """

    classes_came_back: ClassVar[Signal] = Signal()  #: an undo brought back labels of a removed class, and so the class

    def __init__(
        self, folder: Path, manifest: Manifest, video: VideoReader | None = None, *, whole: Project | None = None
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.whole = whole
        self._parts: Project | None = None  # opened, of this project
        self._closes_whole = False
        self._classes = classes = with_stored_parts(folder, manifest.project_classes)
        self.writable: bool = os.access(folder, os.W_OK) and (whole is None or whole.writable)
        self._video = video
        self.notice = ""
        self._embeddings: dict[Path, EmbeddingStore] = {}
        shape = (manifest.video.frame_count, *manifest.video.size)
        self.labels: LabelStore = LabelStore(
            folder,
            shape,
            classes.in_use,
            classes.columns,
            writable=self.writable,
            has_checksums=manifest.has_checksums,
            whole=None if whole is None else Whole(whole.labels, lambda: whole.classes),
        )
        self.labels.changed.connect(self._bring_back_classes)
        self._checked_area = CheckedContentArea(self.labels)
        self._lock = self.labels.lock
        self._ownership: Ownership = Ownership(folder) if whole is None else whole._ownership
        self.work_log = WorkLog(folder / WORK_LOG, self.labels if self.writable else None)
        self.notes: Notes = Notes(folder, self.labels) if whole is None else whole.notes
        self.tracks = Tracks(folder, self.labels)
        if whole is not None:
            whole.labels.changed.connect(self._on_whole_changed)
            self.labels.set_read_only(whole.labels.files.read_only_reason)

    # ---- create and open

    @staticmethod
    def default_folder(video_path: Path | str) -> Path:
        """Beside the video: clip.surgicalsam for clip.mp4, frames.surgicalsam for a folder of images called frames."""
        return default_folder(Path(video_path))

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
        record = VideoRecord.of(video.info, folder).model_copy(update={"samples": video.frame_samples})
        manifest = Manifest(video=record, class_set=classes.to_json(), has_checksums=True, has_file_records=True)
        check_creatable(folder)
        create_folder(folder, manifest, folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}"))
        return cls(folder, manifest, video)

    @classmethod
    def open(
        cls, folder: Path | str, *, video: VideoReader | None = None, require_video: bool = True, ask_first: bool = False
    ) -> Project:
        """Open a project and find its video, also after it has moved.

        The video may have changed as long as it still holds the frames of the project: if it has grown, the project grows
        with it; a read-only project, or one that somebody else has open, shows the frames that it knows.

        Parameters
        ----------
        video : the project's video, if it lies at an unexpected place; the project remembers the place
        require_video : False to open a project without its video; `video` looks for it on first use
        ask_first : raise a VideoChangedError if the video has changed; a person may want to see what was found

        Raises
        ------
        ProjectError
            no project, a damaged one, one of a newer schema, or a wrong video; a video that was passed stays open
        """
        folder = Path(folder).expanduser().absolute()
        check_plain(folder)
        manifest = read_manifest(folder)
        if manifest.is_parts:
            return cls._open_within(folder, video=video, require_video=require_video, ask_first=ask_first)
        if video is None and not require_video:
            return cls(folder, manifest)
        found = find_video(folder, manifest.video) if video is None else checked(folder, manifest.video, video)
        try:
            if ask_first and found[1].is_changed:
                raise VideoChangedError(found[1].facts, found[1].question)
            return cls._with_video(folder, manifest, *found)
        except BaseException:
            if found[0] is not video:
                found[0].close()
            raise

    @classmethod
    def _open_within(cls, folder: Path, **how: Any) -> Project:
        """Open the parts in a project by their own folder; they close the project that is opened for them."""
        if folder.name != PARTS or not (folder.parent / MANIFEST).is_file():
            raise ProjectError(
                f"{folder} holds labels of parts. It must be the folder {PARTS} in the project of their instruments, and is "
                "not. Move it back there."
            )
        whole = cls.open(folder.parent, **how)
        try:
            parts = whole.open_parts()
        except BaseException:
            whole.close()
            raise
        parts._closes_whole, parts.notice = True, whole.notice
        return parts

    @classmethod
    def _with_video(cls, folder: Path, manifest: Manifest, video: VideoReader, comparison: Comparison) -> Project:
        notice = comparison.facts
        if comparison.finding is Finding.GROWN:
            user = _other_user(folder)
            if user is None and os.access(folder, os.W_OK):
                manifest = grown(folder, video)
            else:
                video.limit(manifest.video.frame_count)
                why = f"{user} has the project open" if user is not None else "the project is read-only"
                notice += f" The new frames are left out, because {why}."
        project = cls(folder, manifest, video)
        try:
            project._remember(video)
        except BaseException:
            project.labels.close()
            raise
        project.notice = notice
        return project

    @classmethod
    def open_or_create(
        cls, video: VideoReader, classes: ClassSet, folder: Path | str | None = None, *, ask_first: bool = False
    ) -> Project:
        """Open the project of a video, or make one with `classes`; an existing project keeps its own classes.

        Parameters
        ----------
        folder : by default beside the video: the one of the video's name, or one whose video was renamed to this one
        ask_first : as for `open`
        """
        if folder is None:
            folder = project_for(video, default_folder(video.info.path))
        folder = Path(folder).expanduser().absolute()
        if (folder / MANIFEST).exists():
            return cls.open(folder, video=video, ask_first=ask_first)
        return cls.create(folder, video, classes)

    def close(self) -> None:
        """Close the video and all files; everything is already on disk."""
        if self.whole is not None and self._closes_whole:
            self._closes_whole = False
            self.whole.close()
            return
        if self.writable:
            with suppress(OSError), self._lock:  # the folder may be away
                FileRecords(self.folder).note_growth()
        if self.whole is not None:
            self.whole.labels.changed.disconnect(self._on_whole_changed, missing_ok=True)
            self.labels.close()
            return
        if self._parts is not None:
            self._parts.close()
            self._parts = None
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

    # ---- parts

    @property
    def parts(self) -> Project | None:
        """The labels of the parts of the instruments (`open_parts`); None if there are none yet."""
        return self.open_parts() if self.classes.parts is not None and has_part_labels(self.folder) else None

    def open_parts(self) -> Project:
        """The labels of the parts, a project in this one; made on first use. It is closed with this project.

        Raises
        ------
        ProjectError, DiskSpaceError
            no class has parts, or they cannot be made in a read-only project
        """
        if self._parts is not None:
            return self._parts
        classes = self._classes.parts
        if classes is None:
            raise ProjectError(
                f"{self.folder.name} has classes without parts. Give a class parts: Edit classes… in the window, "
                "`surgicalsam classes --parts` on the command line."
            )
        folder, record = self.folder / PARTS, record_within(self.manifest.video)
        if not has_part_labels(self.folder):
            with self.labels.files.exclusively("A project for the parts"):
                if not has_part_labels(self.folder):
                    manifest = Manifest(
                        video=record, class_set=classes.to_json(), is_parts=True, has_checksums=True, has_file_records=True
                    )
                    create_folder(folder, manifest, self.folder / STAGING / PARTS)
        if any(path.name == MANIFEST for path, _ in self._file_problems()):
            manifest = read_manifest(folder)  # what is damaged here must not get into the parts
        else:
            manifest = following(folder, record) if self.writable else read_manifest(folder).changed(video=record)
        parts = Project(folder, manifest, whole=self)
        try:
            self._unite_classes(parts)
        except BaseException:
            parts.close()
            raise
        self._parts = parts
        return parts

    @property
    def stem(self) -> str:
        """For the names of files about it: "clip" for clip.surgicalsam, "clip_parts" for its parts."""
        return self.folder.stem if self.whole is None else f"{self.whole.folder.stem}_{PARTS}"

    @property
    def top(self) -> Project:
        """The project of the instruments: this one, or the one around these parts."""
        return self if self.whole is None else self.whole

    def _unite_classes(self, parts: Project) -> None:
        """Let parts have the classes that this project says; parts that are labelled, and unknown here, come back here."""
        wanted, present = self._classes.parts, parts.all_classes
        assert wanted is not None
        if wanted == present:
            return
        lost = [c for c in present.in_use if c.id not in wanted.columns and parts.labels.frame_with(c.id) is not None]
        wanted = wanted.joined_by(lost)
        if self.writable:
            parts._write_classes(wanted)
            self._write_classes(self._classes.with_parts(lambda _parts: wanted))
        else:
            parts.labels.use_classes(wanted)
            parts._classes = wanted

    def _file_problems(self) -> Iterator[tuple[Path, str]]:
        return FileRecords(self.folder).problems(is_expected=self.manifest.has_file_records)

    def _on_whole_changed(self, frame_index: int) -> None:
        self.labels.files.changed.emit(frame_index)  # other parts may be shown

    # ---- one window at a time

    def claim(self) -> Owner | None:
        """Claim the project for a window. If another one has it, return its owner and refuse all writes from now on.

        The operating system releases the claim when the process ends, even by a kill.
        """
        if self.whole is not None:
            return self.whole.claim()
        if not self.writable or self._ownership.claim():
            return None
        owner = self._ownership.owner or Owner("somebody", "another computer", 0, "an unknown time")
        for project in filter(None, (self, self._parts)):
            project.writable = False
            project.labels.set_read_only(
                f"{self.folder.name} is open for editing by {owner}. Close it there and open it again here."
            )
        return owner

    def save_unsaved(self) -> None:
        """Write the edits that could not be written when they were made, if the project can be written again.

        Raises
        ------
        SurgicalSAMError
            it still cannot be; `labels.unsaved` keeps the edits
        """
        check_reachable(self.folder / "labels")
        if self.writable and self._ownership.renew():
            self.labels.set_read_only(None)
        elif self.writable:
            self.labels.set_read_only(
                f"{self.folder.name} was opened by {self._ownership.owner} while it could not be reached here. "
                "Close it there."
            )
        if len(self.labels.unsaved):
            self.labels.check_writable("What you painted")
        self.labels.save_unsaved()

    @property
    def has_all_frames(self) -> bool:
        """Whether the open video has no frames after those of the project; a recording may have grown."""
        video = self._video if self.whole is None else self.whole._video
        return video is None or not video.is_limited

    @property
    def last_frame(self) -> int:
        """The frame that a person visited last, according to the work log; 0 if nobody did."""
        return min(self.work_log.last_frame or 0, self.manifest.video.frame_count - 1)

    # ---- actions and snapshots

    @contextmanager
    def action(
        self, name: str, frame_count: int, *, all_or_none: bool = False, within: Action | None = None
    ) -> Iterator[Action]:
        """Write frames as one action: `History.action`, with a snapshot before it if the frames are many.

        Parameters
        ----------
        name : for the user, shown after "Undo"
        frame_count : number of frames that may be written
        within : an open action that these frames become a part of, so that all is undone together; it stays open
        """
        if within is not None:
            yield within
            return
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
        if self.whole is not None:
            return self.whole.video
        if self._video is None:
            self._video, _comparison = find_video(self.folder, self.manifest.video)
            self._use(self._video)
        return self._video

    @property
    def content_area(self) -> ContentArea:
        """The part of the picture that can show instruments: without the black border, but all of it if a person labelled
        instruments on what looks like the border.
        """
        if self.whole is not None:
            return self.whole.content_area
        area = self.video.content_area
        return ContentArea(area.size) if self._checked_area.contradicted(area) else area

    def close_video(self) -> None:
        """Close the video and free its cached frames; `video` opens it again on the next use."""
        holder = self if self.whole is None else self.whole
        video, holder._video = holder._video, None
        if video is not None:
            video.close()

    def relink(self, video_path: Path | str) -> None:
        """Set the new place of the video.

        Raises
        ------
        VideoError, ProjectError
            the video cannot be read, or is a wrong one; the project stays as it was
        """
        if self.whole is not None:
            self.whole.relink(video_path)
            return
        video = VideoReader(video_path)
        try:
            video, _comparison = checked(self.folder, self.manifest.video, video)
            self._use(video)
        except BaseException:
            video.close()
            raise
        old, self._video = self._video, video
        if old is not None:
            old.close()

    def _use(self, video: VideoReader) -> None:
        """Use a video with the project as it is; if it has grown, the project grows when it is opened again."""
        video.limit(self.manifest.video.frame_count)
        self._remember(video)

    def _remember(self, video: VideoReader) -> None:
        """Record where the video is now, and what later recognises it."""
        if not self.writable:
            return
        if recorded(self.manifest.video, video, self.folder) != self.manifest.video:
            self._change_manifest(lambda manifest: manifest.changed(video=recorded(manifest.video, video, self.folder)))
            if self._parts is not None:
                record = record_within(self.manifest.video)
                self._parts._change_manifest(lambda manifest: manifest.changed(video=record))

    # ---- classes and checkpoints

    @property
    def classes(self) -> ClassSet:
        """The classes in use, in the order in which they are shown."""
        return self._classes.in_use

    @property
    def all_classes(self) -> ProjectClasses:
        """The classes in use, the columns of the tables, and the classes that were removed."""
        return self._classes

    def extend_classes(self, classes: ClassSet) -> None:
        """Add new classes, and update the colours of known ones.

        Raises
        ------
        ClassSetError
            an id has a different name in this project, or a name a different id; nothing is changed
        """
        self.change_classes(lambda present: present.extended(classes))

    def change_classes(self, change: Callable[[ProjectClasses], ProjectClasses]) -> None:
        """Change the classes with a method of `ProjectClasses`, also after work has begun: labels and provenance stay.

        Parameters
        ----------
        change : from the present classes to the changed ones

        Raises
        ------
        ClassSetError, ProjectError, DiskSpaceError
            the change is not possible, the project is read-only, or the disk is full; nothing is changed
        """
        if self.whole is not None:
            self.whole.change_classes(lambda present: present.with_shown_parts(change))
            return
        present = self._stored_classes()  # another process may have changed it
        changed = change(present)
        if changed == self._classes:
            return
        if has_part_labels(self.folder):
            parts = self.open_parts()
            check_unlabelled(self.labels, parts.labels, present.in_use, changed.in_use)
            if changed.parts is not None and changed.parts != present.parts:
                parts._write_classes(changed.parts, present.parts)
        self._write_classes(changed, present)

    def _stored_classes(self) -> ProjectClasses:
        return with_stored_parts(self.folder, read_manifest(self.folder).project_classes)

    def _write_classes(self, changed: ProjectClasses, present: ProjectClasses | None = None) -> None:
        present = self._classes if present is None else present
        self.labels.check_writable("The class set")
        with writing("The class set", self.folder), self._lock:
            for class_id in set(present.in_use.ids) - set(changed.in_use.ids):
                self._check_unlabelled(present.in_use.by_id(class_id))
            self.labels.add_columns(changed)  # if the next line fails, columns without a class do no harm
            self._change_manifest(lambda manifest: manifest.changed(class_set=changed.to_json()))
            self.labels.use_classes(changed)
            self._classes = changed

    def _check_unlabelled(self, instrument: InstrumentClass) -> None:
        frame_index = self.labels.frame_with(instrument.id)
        if frame_index is not None:
            raise ClassSetError(
                f"{instrument.name} cannot be removed: frame {frame_index} shows it, and maybe others do, too. First clear "
                "it in the whole video (Correct > Clean up), or change it to another class (Correct > Wrong class)."
            )

    def _bring_back_classes(self, frame_index: int) -> None:
        """Show removed classes again whose labels came back in this frame: an undo, or the return to a snapshot."""
        removed = {instrument.id for instrument in self._classes.removed}
        with suppress(ProjectError):  # a damaged frame
            if not removed or not (back := removed & set(present_ids(self.labels.files.labels(frame_index)))):
                return
            if self.whole is None:
                self.change_classes(lambda present: present.revived(back))
            else:
                whole, stored = self.whole.labels.frame(frame_index), self.labels.files.labels(frame_index)
                self.whole.change_classes(lambda present: with_parts_back(present, back, whole, stored))
            self.classes_came_back.emit()

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

    def remember_model(self, model: ModelRecord) -> None:
        """Remember which model a window uses on this project; a read-only project remembers nothing."""
        if self.writable and model != self.manifest.model_in_use:
            self._change_manifest(lambda manifest: manifest.changed(model_in_use=model))

    def note_checksums(self) -> None:
        """Note that every frame has checksums now: from now on, a frame without them must be empty."""
        self._change_manifest(lambda manifest: manifest.changed(has_checksums=True))
        self.labels.files.checksums.is_complete = True

    def begin_file_records(self) -> None:
        """Record the files that belong to no frame as they are now; from now on, a change of them is noticed."""
        with writing("The checksums", self.folder), self._lock:
            FileRecords(self.folder).begin()
            self._change_manifest(lambda manifest: manifest.changed(has_file_records=True))

    def _change_manifest(self, change: Callable[[Manifest], Manifest]) -> None:
        with writing("The manifest", self.folder), self._lock:
            self.labels.check_writable("The manifest")
            manifest = change(read_manifest(self.folder))  # read again: another process may have changed it
            write_manifest(self.folder, manifest)
            self.manifest = manifest

    # ---- embeddings

    def embeddings(self, encoder_digest: str, shape: tuple[int, int, int], data_type: str | None = None) -> EmbeddingStore:
        """The embeddings of one image encoder, shape (D, h, w) per frame; made on first use.

        Parameters
        ----------
        data_type : "float16" or "float32"; by default as they are stored, and float16 on first use

        Raises
        ------
        ProjectError
            they are stored otherwise
        """
        if self.whole is not None:
            return self.whole.embeddings(encoder_digest, shape, data_type)
        folder = self.folder / "embeddings" / encoder_digest
        store = self._embedding_store(folder, encoder_digest, shape, data_type or HALF)
        if data_type not in (None, store.dtype.name):
            raise ProjectError(
                f"{folder} holds embeddings of {store.valid_count:,} frames as {store.dtype.name}, and {data_type} is asked "
                "for. Remove that folder to compute them again, or keep them as they are."
            )
        return store

    def augmented_embeddings(self, encoder_digest: str, version: str, shape: tuple[int, int, int]) -> EmbeddingStore:
        """The embeddings of augmented frames, stored apart from those of the frames themselves; made on first use.

        Parameters
        ----------
        version : letters, digits and dashes that identify the augmentation
        """
        if self.whole is not None:
            return self.whole.augmented_embeddings(encoder_digest, version, shape)
        return self._embedding_store(self.folder / "augmented" / encoder_digest / version, encoder_digest, shape)

    def _embedding_store(
        self, folder: Path, encoder_digest: str, shape: tuple[int, int, int], data_type: str = HALF
    ) -> EmbeddingStore:
        store = self._embeddings.get(folder)
        if store is None or store.shape[1:] != tuple(shape):
            frame_count = self.manifest.video.frame_count
            if not folder.exists():
                with writing("The embeddings", self.folder), self._lock:
                    EmbeddingStore.create_in(folder, encoder_digest, frame_count, shape, data_type)
            store = EmbeddingStore(folder, frame_count, shape)
            if self.writable:
                with writing("The embeddings", self.folder):
                    store.clear_leftovers()
                store.close()  # closes the lock file until the next write, because training opens many stores
            self._embeddings[folder] = store
        return store

    def embedding_stores(self) -> list[EmbeddingStore]:
        """The embeddings of the frames themselves (not augmented), of every encoder."""
        if self.whole is not None:
            return self.whole.embedding_stores()
        folder = self.folder / "embeddings"
        digests = sorted(path.parent.name for path in folder.glob("[!.]*/embeddings"))
        return [EmbeddingStore(folder / digest, self.manifest.video.frame_count) for digest in digests]


def _other_user(folder: Path) -> str | None:
    """Who has the project open in another window, or works on it with a cluster; None if nobody has."""
    owner = Ownership(folder).current or Ownership(folder, RUN_FOLDER).current
    is_own = owner is not None and (owner.host, owner.process) == (platform.node(), os.getpid())
    return None if owner is None or is_own else owner.user
