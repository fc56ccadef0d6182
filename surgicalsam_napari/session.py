"""The session: the open project, the loaded model and the chosen class. No Qt; window and command line both use it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar

from psygnal import Signal

from surgicalsam_napari.errors import CheckpointError, ProjectError, UnreachableError
from surgicalsam_napari.inference import Estimate, SegmentReport, segment_frames
from surgicalsam_napari.inference import estimate as estimate_run
from surgicalsam_napari.instruments import ENDOVIS2018, ClassSet, InstrumentClass, same_classes, with_known_colors
from surgicalsam_napari.preferences import remember_annotator, remembered_annotator, remembered_certificates
from surgicalsam_napari.remote.address import is_address
from surgicalsam_napari.store import Action, Project
from surgicalsam_napari.store.checking import complete_tables, damage_notice
from surgicalsam_napari.store.locating import SUFFIX, default_folder, is_project_folder, project_for
from surgicalsam_napari.store.ownership import Owner
from surgicalsam_napari.store.project_classes import ProjectClasses
from surgicalsam_napari.video import VideoReader

if TYPE_CHECKING:
    from surgicalsam_napari.model.surgical_sam import SurgicalSAM
    from surgicalsam_napari.propagation.fill_between import FillOutcome, FillReport
    from surgicalsam_napari.tracking.link_instances import TrackReport
    from surgicalsam_napari.tracking.segment_video import VideoOutcome
    from surgicalsam_napari.tracking.vote_classes import VoteOutcome
    from surgicalsam_training.learn import Learned, LearnReport


class Session:
    """One project and one model at a time; an error leaves both as they were.

    Signals are emitted in the calling thread. Long work has two steps, so that a window can run the first one in another
    thread: `prepare` and `use_project`, `prepare_model` and `use_model`.

    Parameters
    ----------
    claims : reserve each project for this session, as a window does; a project that another window holds is read-only
        (`Project.claim`)

    Attributes
    ----------
    project : the open project, or None; while parts are shown, that of the parts (`show_parts`)
    other_owner : who else has it open, if that makes it read-only here
    model : the loaded model, or None
    selected_class_id : the class in the dropdown, an id of `classes`
    annotator : who corrects the labels, for the work log, the notes and exports; empty if unknown

    Signals
    -------
    project_changed : another project was opened, or the project was closed, or the parts are shown now, or no longer
    contents_replaced : the classes, or many labels at once, changed: another class set, or an import
    model_changed : another model was loaded, or the model was released
    class_selected : the class id
    frame_segmented : the SegmentReport
    """

    project_changed: ClassVar[Signal] = Signal()
    contents_replaced: ClassVar[Signal] = Signal()
    model_changed: ClassVar[Signal] = Signal()
    class_selected: ClassVar[Signal] = Signal(int)
    frame_segmented: ClassVar[Signal] = Signal(object)

    def __init__(self, class_set: ClassSet | None = None, *, claims: bool = False) -> None:
        self.project: Project | None = None
        self.model: SurgicalSAM | None = None
        self.selected_class_id: int | None = None
        self.other_owner: Owner | None = None
        self.annotator = remembered_annotator() or ""
        self._class_changes: list[tuple[ProjectClasses, ProjectClasses]] = []  # before and after each, to undo them
        self._edited_class_set: ClassSet | None = None
        self._chosen_class_set = class_set
        self._claims = claims
        self._loaded_from: tuple[Path | str | None, Path | str | None] = None, None  # checkpoint and encoder weights
        self._other_view: _View | None = None  # of the parts, while the instruments are shown, or vice versa

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def class_set(self) -> ClassSet:
        """The classes of a new project: those edited last in this session, else the chosen set, else that of the loaded
        model, else EndoVis 2018.
        """
        if self._edited_class_set is not None:
            return self._edited_class_set
        if self._chosen_class_set is not None:
            return self._chosen_class_set
        return ENDOVIS2018 if self.model is None else with_known_colors(self.model.classes)

    @property
    def classes(self) -> ClassSet:
        """The open project's classes; those of the next project while none is open."""
        return self.class_set if self.project is None else self.project.classes

    @property
    def whole(self) -> Project | None:
        """The project of the instruments, also while its parts are shown."""
        return None if self.project is None else self.project.top

    @property
    def shows_parts(self) -> bool:
        """Whether `project` holds the labels of parts."""
        return self.project is not self.whole

    @property
    def can_show_parts(self) -> bool:
        """Whether instruments of the open project have parts."""
        return self.whole is not None and self.whole.classes.has_parts

    def show_parts(self, shown: bool) -> None:
        """Work on the parts of the instruments, or on the instruments again, as two projects of the same video.

        Each has its own classes, labels and history, and the model that was in use for it; parts begin with the same model.

        Raises
        ------
        ProjectError, DiskSpaceError
            no video is open, its instruments have no parts, or nothing can be written there
        """
        whole = self._opened_project().top
        if shown == self.shows_parts:
            return
        project = whole.open_parts() if shown else whole
        project.work_log.annotator = self.annotator
        project.classes_came_back.connect(self._on_classes_came_back, unique=True)
        view, self._other_view = self._other_view, _View(self.model, self._loaded_from, self.selected_class_id)
        self.project, self.selected_class_id = project, None
        if view is not None and view.class_id in project.classes.ids:
            self.selected_class_id = view.class_id
        is_other_model = view is not None and view.model is not None and view.model is not self.model
        if view is not None and is_other_model:
            self.model, self._loaded_from = view.model, view.loaded_from
        self.project_changed.emit()
        if is_other_model:
            self.model_changed.emit()
        if self.selected_class_id is not None:
            self.class_selected.emit(self.selected_class_id)

    @property
    def class_set_to_save(self) -> ClassSet:
        """The classes of the instruments with their parts, also while the parts are shown."""
        return self.class_set if self.whole is None else self.whole.classes

    def open(self, path: Path | str, *, project_folder: Path | str | None = None) -> Project:
        """Open a video, a folder of images, or a project folder; the project open before is closed.

        Parameters
        ----------
        path : for a video or image folder, its project is opened or created
        project_folder : where projects of videos are kept, if not beside the video: a folder in which `<video>.surgicalsam`
            is opened or created, or that folder itself

        Raises
        ------
        VideoError, ProjectError, DiskSpaceError
            the open project stays open
        """
        project = self.prepare(path, project_folder=project_folder)
        self.use_project(project)
        return project

    def prepare(self, path: Path | str, *, project_folder: Path | str | None = None, ask_first: bool = False) -> Project:
        """First step of `open`, in any thread: return the opened project; this session does not change.

        Parameters
        ----------
        ask_first : raise a VideoChangedError if the file of the video has changed since the project saw it last, for example
            because the recording has grown; without it, the project goes on with the changed file
        """
        path = Path(path).expanduser()
        try:
            if is_project_folder(path):
                project = Project.open(path, ask_first=ask_first)
            else:
                project = self._project_of(path, project_folder, ask_first)
            complete_tables(project)
            project.notice = " ".join(filter(None, (project.notice, damage_notice(project))))
            _ = project.content_area  # found now, because a window runs this step in another thread
        except OSError as error:  # the disk or share went away meanwhile
            raise UnreachableError(
                f"{path} cannot be read now ({error.strerror}). Connect its disk or share again, then open it again."
            ) from error
        return project

    def _project_of(self, path: Path, project_folder: Path | str | None, ask_first: bool) -> Project:
        video = VideoReader(path)
        try:
            folder = _project_folder(video, project_folder)
            return Project.open_or_create(video, self.class_set, folder, ask_first=ask_first)
        except BaseException:
            video.close()
            raise

    def use_project(self, project: Project) -> None:
        """Second step of `open`: use this project, close the old one, keep the chosen class if its name exists."""
        old, classes, chosen = self.whole, self.classes, self.selected_class_id
        self.project, self._other_view = project, None
        self.selected_class_id = None if chosen is None else same_classes(classes, project.classes).get(chosen)
        self._class_changes = []
        project.work_log.annotator = self.annotator
        project.classes_came_back.connect(self._on_classes_came_back, unique=True)
        if old is not None and old is not project.top:
            old.close()
        self.other_owner = project.claim() if self._claims else None
        self.project_changed.emit()
        if self.selected_class_id is not None:
            self.class_selected.emit(self.selected_class_id)

    def use_class_set(self, classes: ClassSet) -> None:
        """Use these classes for the next project, and add the missing ones to the open project.

        Raises
        ------
        ClassSetError
            the open project has another class under one of the ids, or one of the names under another id; nothing is changed
        """
        if self.whole is not None and self.whole.classes != classes:
            self.whole.extend_classes(classes)
        self._chosen_class_set, self._edited_class_set = classes, None
        if self.selected_class_id not in self.classes.ids:
            self.selected_class_id = None
        self.contents_replaced.emit()

    def name_annotator(self, name: str) -> None:
        """State who corrects the labels from now on, and remember it on this computer."""
        self.annotator = name.strip()
        remember_annotator(self.annotator)
        if self.project is not None:
            self.project.work_log.annotator = self.annotator

    def write_note(self, frame_index: int, text: str) -> None:
        """Write the note on a frame of the open project; an empty text removes it."""
        self._opened_project().notes.write(frame_index, text, self.annotator)

    def add_class(self, name: str, color: str | None = None, *, takes_over: bool = False) -> InstrumentClass:
        """Add a class to the open project; see `ProjectClasses.added`."""
        self._change_classes(lambda present: present.added(name, color, takes_over=takes_over))
        return self.classes.by_name(name)

    def rename_class(self, class_id: int, name: str, *, takes_over: bool = False) -> None:
        """Rename a class of the open project. Its labels stay, and checkpoints with the old name still know it."""
        self._change_classes(lambda present: present.renamed(class_id, name, takes_over=takes_over))

    def recolour_class(self, class_id: int, color: str) -> None:
        """Give a class of the open project another colour, "#rrggbb"."""
        self._change_classes(lambda present: present.recoloured(class_id, color))

    def reorder_classes(self, class_ids: Sequence[int]) -> None:
        """Show the classes of the open project in another order; ids, labels and tables on disk stay."""
        self._change_classes(lambda present: present.reordered(class_ids))

    def remove_class(self, class_id: int) -> None:
        """Remove a class of the open project; a ClassSetError if any frame is labelled with it."""
        self._change_classes(lambda present: present.without(class_id))

    def add_part(self, name: str, class_ids: Sequence[int] | None = None, *, takes_over: bool = False) -> InstrumentClass:
        """Add a part to these classes of the open project's instruments; see `ProjectClasses.part_added`."""
        self._change_classes(lambda present: present.part_added(name, class_ids, takes_over=takes_over), of_whole=True)
        assert self.whole is not None and self.whole.classes.parts is not None
        return self.whole.classes.parts.by_name(name)

    def rename_part(self, part_id: int, name: str, *, takes_over: bool = False) -> None:
        """Rename a part, for all instruments that have it."""
        self._change_parts(lambda parts: parts.renamed(part_id, name, takes_over=takes_over))

    def recolour_part(self, part_id: int, color: str) -> None:
        """Give a part another colour, "#rrggbb"."""
        self._change_parts(lambda parts: parts.recoloured(part_id, color))

    def remove_part(self, part_id: int) -> None:
        """Remove a part, for all instruments; a ClassSetError if any frame is labelled with it."""
        self._change_classes(lambda present: present.without_part(part_id), of_whole=True)

    def choose_parts(self, class_id: int, part_ids: Sequence[int]) -> None:
        """Let an instrument have these parts; a ClassSetError if any frame shows one that it would lose."""
        self._change_classes(lambda present: present.with_parts_of(class_id, part_ids), of_whole=True)

    def _change_parts(self, change: Callable[[ProjectClasses], ProjectClasses]) -> None:
        self._change_classes(lambda present: present.with_parts(change), of_whole=True)

    @property
    def can_undo_classes(self) -> bool:
        """Whether `undo_classes` has a change to undo; not after an import or a class set changed the classes, too."""
        changes, project = self._class_changes, self.whole
        return project is not None and bool(changes) and changes[-1][1].in_use == project.classes

    def undo_classes(self) -> None:
        """Undo the last change of the open project's classes; a ClassSetError if an added class has labels by now."""
        if self.can_undo_classes:
            before, _after = self._class_changes[-1]
            self._change_classes(lambda present: present.returned_to(before), is_undo=True, of_whole=True)

    def _on_classes_came_back(self) -> None:
        self.contents_replaced.emit()

    def _change_classes(
        self, change: Callable[[ProjectClasses], ProjectClasses], *, is_undo: bool = False, of_whole: bool = False
    ) -> None:
        """Change the classes that are shown; `of_whole`: those of the instruments."""
        whole = self._opened_project().top
        earlier = whole.all_classes
        (whole if of_whole else self._opened_project()).change_classes(change)
        if is_undo:
            self._class_changes.pop()
        elif whole.classes != earlier.in_use:
            self._class_changes.append((earlier, whole.all_classes))
        self._edited_class_set = whole.classes
        is_selected_gone = self.selected_class_id is not None and self.selected_class_id not in self.classes.ids
        if is_selected_gone:
            self.selected_class_id = None
        if whole.classes != earlier.in_use:
            self.contents_replaced.emit()
        if is_selected_gone and self.selected_class_id is None:
            self.select_class(self.classes.ids[0])

    def load_checkpoint(
        self,
        path: Path | str | None = None,
        *,
        encoder_weights: Path | str | None = None,
        device: str = "auto",
        classes: ClassSet | None = None,
        fast: bool = False,
        certificates: Path | None = None,
    ) -> SurgicalSAM:
        """Load a model; it replaces the current one.

        Parameters
        ----------
        path : our .safetensors or the authors' .pth; None for the light weights that come with the package
        encoder_weights : the checkpoint of SAM or a distilled SAM; by default the known weights on this disk
        device : auto, cpu, cuda, cuda:1, … or mps; or HOST:PORT of a worker, which then embeds the frames (`remote`)
        classes : for a .pth, which has no class names; by default the class set chosen here
        fast : in bfloat16, nearly the same masks (`SurgicalSAM.use_fast`)
        certificates : folder with this machine's certificates for a worker; by default the one used with it before

        Raises
        ------
        CheckpointError, DeviceError, WorkerError
            the current model stays in use
        """
        model = self.prepare_model(
            path, encoder_weights=encoder_weights, device=device, classes=classes, fast=fast, certificates=certificates
        )
        self.use_model(model)
        self._loaded_from = path, encoder_weights
        return model

    def prepare_model(
        self,
        path: Path | str | None = None,
        *,
        encoder_weights: Path | str | None = None,
        device: str = "auto",
        classes: ClassSet | None = None,
        fast: bool = False,
        certificates: Path | None = None,
    ) -> SurgicalSAM:
        """First step of `load_checkpoint`, in any thread: return the loaded model; this session does not change."""
        from surgicalsam_napari.model.checkpoint import load_checkpoint  # here: torch takes seconds to import
        from surgicalsam_napari.model.zoo import bundled_checkpoint

        path = bundled_checkpoint() if path is None else Path(path).expanduser()
        weights = None if encoder_weights is None else Path(encoder_weights)
        classes = classes or self._chosen_class_set
        if is_address(device):
            from surgicalsam_napari.remote.loading import load_with_worker

            folder = certificates or remembered_certificates(device)
            return load_with_worker(path, device, folder, encoder_weights=weights, classes=classes, fast=fast)
        return load_checkpoint(path, encoder_weights=weights, device=device, classes=classes, fast=fast)

    def use_model(self, model: SurgicalSAM) -> None:
        """Second step of `load_checkpoint`: use this model."""
        old, self.model, self._loaded_from = self.model, model, (None, None)
        _close_embedder(old, model)
        self.model_changed.emit()

    def stop_waiting(self) -> None:
        """Let a run that waits for a lost worker fail; no effect on other runs."""
        embedder = None if self.model is None else self.model.embedder
        if embedder is not None and embedder.is_waiting:
            embedder.give_up()

    def select_class(self, class_id: int) -> None:
        """Choose the class of the dropdown; a ClassSetError if `classes` has no such id."""
        self.classes.by_id(class_id)
        if class_id != self.selected_class_id:
            self.selected_class_id = class_id
            self.class_selected.emit(class_id)

    def is_trained(self, class_id: int) -> bool:
        """Whether the loaded model knows the class, by its name or a former one; False without a model."""
        self.classes.by_id(class_id)
        return class_id in self.trained_class_ids()

    def trained_class_ids(self) -> list[int]:
        """The ids of `classes` that the loaded model can predict."""
        if self.model is None:
            return []
        known = same_classes(self.classes, self.model.classes)
        return [class_id for class_id in self.classes.ids if class_id in known]

    def segment(
        self, class_ids: Sequence[int], frame_indices: Sequence[int], *, action: Action | None = None
    ) -> Generator[SegmentReport, None, None]:
        """Predict these classes in these frames, as `segment_frames` does; emits `frame_segmented` after each frame.

        A run keeps the project and model that it started with.
        """
        project, model = self._opened()
        with closing(segment_frames(project, model, class_ids, frame_indices, action=action)) as reports:
            for report in reports:
                self.frame_segmented.emit(report)
                yield report

    def segment_video(
        self,
        path: Path | str,
        class_names: Sequence[str] = (),
        *,
        project_folder: Path | str | None = None,
        vote: bool = True,
    ) -> Generator[SegmentReport | TrackReport, None, VideoOutcome]:
        """Segment all frames of a video; the open project stays open. What the model has predicted before is skipped.

        Parameters
        ----------
        path : a video, a folder of images, or a project folder; also that of the open project
        class_names : by default every class that the project and the model have
        project_folder : as for `open`
        vote : afterwards, let neighbouring frames vote on the classes; one undo takes back the run and its vote

        Raises
        ------
        ProjectError
            another window has the project open, and this session claims its projects
        as for `open` and `tracking.segment_video.segment_whole_video`
        """
        from surgicalsam_napari.tracking.segment_video import segment_whole_video  # here: it imports torch

        if self.model is None:
            raise CheckpointError("No checkpoint is loaded. Load one first (Session.load_checkpoint).")
        model = self.model
        if self.project is not None and self.is_open(path):
            return (yield from segment_whole_video(self.project, model, class_names, vote=vote))
        with closing(self.prepare(path, project_folder=project_folder)) as project:
            other_owner = project.claim() if self._claims else None
            if other_owner is not None:
                raise ProjectError(
                    f"{project.folder.name} is open for editing by {other_owner}. Close it there, then segment it again."
                )
            return (yield from segment_whole_video(project, model, class_names, vote=vote))

    def is_open(self, path: Path | str) -> bool:
        """Whether this is the open project, or its video."""
        if self.project is None or self.whole is None:
            return False
        path = Path(path).expanduser().absolute()
        return path in (self.project.folder, self.whole.folder, self.whole.manifest.video_path)

    def fill_between(
        self, class_ids: Sequence[int] | None = None, *, most_frames: int | None = None
    ) -> Generator[FillReport, None, FillOutcome]:
        """Carry these classes (by default all) into the frames between corrected frames, as `fill_between` does.

        The model's embeddings help where there is a model; none is needed.
        """
        from surgicalsam_napari.propagation import fill_between  # here: torch takes seconds to import

        project = self._opened_project()
        most = fill_between.MOST_FRAMES if most_frames is None else most_frames
        class_ids = self.classes.ids if class_ids is None else class_ids
        return (yield from fill_between.fill_between(project, class_ids, self.model, most_frames=most))

    def learn(
        self,
        *,
        checkpoint: Path | str | None = None,
        encoder_weights: Path | str | None = None,
        device: str = "auto",
        fast: bool = False,
    ) -> Generator[LearnReport | Learned, None, Learned]:
        """Learn from the project's corrected frames (`surgicalsam_training.learn`), and load the new checkpoint.

        Parameters
        ----------
        checkpoint, encoder_weights : to start from; only the image encoder matters. By default those of the last
            `load_checkpoint`

        Yields
        ------
        LearnReport; at the end Learned, when the new model is in use. If it is closed before, the model stays in use

        Raises
        ------
        ProjectError
            no video is open, or it is read-only here
        TrainingError
            no corrected frame, or none that shows an instrument
        CheckpointError, DeviceError, DiskSpaceError, WorkFailed
            the current model stays in use
        """
        from surgicalsam_training.learn import Learned, learn  # here: torch takes seconds to import

        project = self._opened_project()
        project.labels.check_writable("The learned checkpoint")
        if checkpoint is None:
            checkpoint, encoder_weights = self._loaded_from[0], encoder_weights or self._loaded_from[1]
        learned = None
        here = "auto" if is_address(device) else device  # a worker only embeds frames
        with closing(learn(project, checkpoint=checkpoint, encoder_weights=encoder_weights, device=here)) as reports:
            for report in reports:
                if isinstance(report, Learned):
                    learned = report
                else:
                    yield report
        assert learned is not None
        self.load_checkpoint(learned.checkpoint, encoder_weights=encoder_weights, device=device, fast=fast)
        yield learned
        return learned

    def predict_again(
        self, frame_indices: Sequence[int], *, voting_frames: Collection[int] | None = None
    ) -> Generator[SegmentReport | FillReport | TrackReport, None, VoteOutcome | None]:
        """Predict all classes of the model in these frames, fill between corrected frames, and let the frames vote.

        Emits `frame_segmented` for each predicted frame.

        Parameters
        ----------
        voting_frames : as for `predict_and_fill`: by default these frames and the corrected ones
        """
        from surgicalsam_napari.tracking.predict_and_fill import predict_and_fill  # here: torch takes seconds to import

        project, model = self._opened()
        with closing(predict_and_fill(project, model, frame_indices, voting_frames=voting_frames)) as reports:
            while True:
                try:
                    report = next(reports)
                except StopIteration as end:
                    return end.value
                if isinstance(report, SegmentReport):
                    self.frame_segmented.emit(report)
                yield report

    def estimate(self, class_ids: Sequence[int], frame_indices: Sequence[int], *, trial: bool = False) -> Estimate:
        """Time and disk space that `segment` needs; `trial` runs the model on one frame if no speed was measured yet."""
        project, model = self._opened()
        return estimate_run(project, model, class_ids, frame_indices, trial=trial)

    def close(self) -> None:
        """Close the project and release the model; the session can be used again."""
        project, self.project = self.whole, None
        for model in (self.model, None if self._other_view is None else self._other_view.model):
            _close_embedder(model, None)
        had_model = self.model is not None
        self._other_view = self.model = None
        self.selected_class_id = self.other_owner = None
        if project is not None:
            project.close()
            self.project_changed.emit()
        if had_model:
            self.model_changed.emit()

    def _opened_project(self) -> Project:
        if self.project is None:
            raise ProjectError("No video is open. Open one first (Session.open).")
        return self.project

    def _opened(self) -> tuple[Project, SurgicalSAM]:
        project = self._opened_project()
        if self.model is None:
            raise CheckpointError("No checkpoint is loaded. Load one first (Session.load_checkpoint).")
        return project, self.model


@dataclass(frozen=True)
class _View:
    """What is in use for the instruments, or for their parts, while the others are shown."""

    model: SurgicalSAM | None
    loaded_from: tuple[Path | str | None, Path | str | None]
    class_id: int | None


def _close_embedder(old: SurgicalSAM | None, new: SurgicalSAM | None) -> None:
    """Close the line of a model that is no longer in use."""
    if old is not None and old is not new and old.embedder is not None:
        old.embedder.close()


def _project_folder(video: VideoReader, project_folder: Path | str | None) -> Path | None:
    if project_folder is None:
        return None
    project_folder = Path(project_folder).expanduser()
    if project_folder.suffix == SUFFIX:
        return project_folder
    return project_for(video, project_folder / default_folder(video.info.path).name)
