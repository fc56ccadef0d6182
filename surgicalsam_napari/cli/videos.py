"""The work of `embed` and `segment` on one video: the frames to process, and the record of the result."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgicalsam_napari.cli.terminal import with_bar
from surgicalsam_napari.formatting import counted, in_bytes

if TYPE_CHECKING:
    from surgicalsam_napari.instruments import ClassSet
    from surgicalsam_napari.model.surgical_sam import SurgicalSAM
    from surgicalsam_napari.session import Session
    from surgicalsam_napari.store import Action, Project
    from surgicalsam_napari.tracking.link_instances import TrackReport

VOTING = "voting over time:"


@dataclass(frozen=True)
class Selected:
    """The selected frames of one video.

    Attributes
    ----------
    frame_indices : the requested frames
    to_do : the requested frames that are not done yet
    class_ids : the project's classes to segment; empty if frames are only embedded
    """

    frame_indices: Sequence[int]
    to_do: Sequence[int]
    class_ids: Sequence[int] = ()


@dataclass(frozen=True)
class VideoTask:
    """The work of one command on any video.

    Attributes
    ----------
    verb : for the progress bar, such as "embedding"
    select : selects the frames, from the given path and its open project
    run : does the work in this process; yields reports with `done` and `total`
    record : makes the result of the video, which is printed; its last argument is the duration of the work in seconds
    vote : after workers of a cluster have done the work: the vote over time, as a part of their open action, or of its own
        if there is none; `run` does it itself
    """

    verb: str
    select: Callable[[Path, Project], Selected]
    run: Callable[[Project, Selected], Generator[Any, None, None]]
    record: Callable[[Path, Project, Selected, float], dict[str, Any]]
    vote: Callable[[Project, Selected, Action | None], Generator[TrackReport, None, None]] | None = None

    def title(self, report: Any, path: Path) -> str:
        """Of the progress bar, while this is reported of this video."""
        from surgicalsam_napari.tracking.link_instances import TrackReport

        return f"{VOTING if isinstance(report, TrackReport) else self.verb} {path.name}"


def embedding(session: Session, frames: str, data_type: str | None = None) -> VideoTask:
    """The work of `embed` with the session's model; `data_type` as in `Project.embeddings`."""
    from surgicalsam_napari.inference import embed_frames, parse_frames

    model = session.model
    assert model is not None

    def select(path: Path, project: Project) -> Selected:
        indices = parse_frames(frames, project.video.info.frame_count)
        project.embeddings(model.encoder_digest, model.embedding_shape, data_type)
        _announce(project, model, indices)
        return Selected(indices, project.embeddings(model.encoder_digest, model.embedding_shape).missing(indices))

    def run(project: Project, selected: Selected) -> Generator[Any, None, None]:
        return embed_frames(project, model, selected.to_do)

    def record(path: Path, project: Project, selected: Selected, seconds: float) -> dict[str, Any]:
        stored = project.embeddings(model.encoder_digest, model.embedding_shape)
        return {
            "project": str(project.folder),
            "frames": len(selected.frame_indices),
            "embedded": len(selected.to_do),
            "skipped": len(selected.frame_indices) - len(selected.to_do),
            "embedding_bytes": stored.disk_bytes,
            "seconds": round(seconds, 3),
        }

    return VideoTask("embedding", select, run, record)


def segmenting(
    session: Session,
    class_names: Sequence[str],
    frames: str,
    again: bool,
    class_set: ClassSet | None,
    out: Callable[[Path], Path | None],
    *,
    vote: bool = True,
) -> VideoTask:
    """The work of `segment` with the session's model.

    Parameters
    ----------
    class_names : empty for every class that the model knows
    again : predict also the frames that this checkpoint has already predicted
    class_set : extends the classes of each project
    out : the folder for the indexed PNGs of a video, or None
    vote : let neighbouring frames vote on the class of each instrument, after a run over consecutive frames
    """
    from surgicalsam_napari.exchange.formats.indexed_png import write_classes
    from surgicalsam_napari.inference import frames_to_segment, parse_frames
    from surgicalsam_napari.inference.class_frames import frames_with_class
    from surgicalsam_napari.inference.segment import action_name
    from surgicalsam_napari.tracking.track import is_vote_due, vote_after_run
    from surgicalsam_napari.tracking.vote_classes import vote_classes

    model = session.model
    assert model is not None

    def select(path: Path, project: Project) -> Selected:
        if class_set is not None:
            project.top.extend_classes(class_set)
        indices = parse_frames(frames, project.video.info.frame_count)
        class_ids = [project.classes.by_name(name).id for name in class_names] or _announced_class_ids(project, model)
        to_do = indices if again else frames_to_segment(project, model, class_ids, indices)
        _announce(project, model, to_do)
        if (folder := out(path)) is not None:
            write_classes(folder, project.classes, path.name)  # first, so that an error in writing shows at once
        return Selected(indices, to_do, class_ids)

    voted: dict[Path, int] = {}  # by project: the regions that its vote changed

    def run(project: Project, selected: Selected) -> Generator[Any, None, None]:
        if not selected.to_do:
            yield from cast_votes(project, selected, None)
            return
        name = action_name(project.classes, selected.class_ids, selected.to_do)
        with project.action(name, len(selected.to_do)) as action:  # one undo takes back the run and its vote
            yield from session.segment(selected.class_ids, selected.to_do, action=action)
            yield from cast_votes(project, selected, action)

    def cast_votes(project: Project, selected: Selected, action: Action | None) -> Generator[TrackReport, None, None]:
        """The vote over time; if nothing was left to segment, only if an earlier run was stopped before its vote."""
        outcome = None
        if vote and action is not None:
            outcome = yield from vote_after_run(project, selected.frame_indices, action)
        elif vote and is_vote_due(project, selected.frame_indices):
            outcome = yield from vote_classes(project, selected.frame_indices)
        voted[project.folder] = 0 if outcome is None else outcome.changed

    def record(path: Path, project: Project, selected: Selected, seconds: float) -> dict[str, Any]:
        if (folder := out(path)) is not None:
            shown = selected.class_ids if class_names else project.classes.ids
            _write_label_maps(project, selected.frame_indices, shown, folder)
        return {
            "project": str(project.folder),
            "classes": [project.classes.by_id(class_id).name for class_id in selected.class_ids],
            "frames": len(selected.frame_indices),
            "segmented": len(selected.to_do),
            "skipped": len(selected.frame_indices) - len(selected.to_do),
            "frames_with_class": frames_with_class(project, selected.class_ids, selected.frame_indices),
            "voted": voted.pop(project.folder, 0),
            "out": None if folder is None else str(folder),
            "seconds": round(seconds, 3),
        }

    return VideoTask("segmenting", select, run, record, cast_votes)


def _announce(project: Project, model: SurgicalSAM, indices: Sequence[int]) -> None:
    from surgicalsam_napari.store import free_bytes

    embeddings = project.embeddings(model.encoder_digest, model.embedding_shape)
    missing = len(embeddings.missing(list(indices)))
    if missing:
        needed = in_bytes(missing * embeddings.frame_bytes)
        free = in_bytes(free_bytes(project.folder))
        frames = counted(missing, "frame")
        print(f"{frames} to embed: {needed} needed in {project.folder}, {free} free", file=sys.stderr)


def _announced_class_ids(project: Project, model: SurgicalSAM) -> list[int]:
    """The project's classes that the model knows; the others are named on stderr."""
    from surgicalsam_napari.inference.class_frames import trained_class_ids

    trained = trained_class_ids(project, model)
    untrained = [instrument.name for instrument in project.classes if instrument.id not in trained]
    if untrained:
        print(f"skipped, because {model.name} is not trained on them: {', '.join(untrained)}", file=sys.stderr)
    return trained


def _write_label_maps(project: Project, indices: Sequence[int], class_ids: Sequence[int], out: Path) -> None:
    """Write the project's label maps of these frames, including a person's edits; other classes are left out."""
    import numpy as np

    from surgicalsam_napari.exchange.formats.indexed_png import write_label_map

    for index in with_bar(indices, f"writing {out}"):
        label_map = np.asarray(project.labels[index])
        write_label_map(out, index, np.where(np.isin(label_map, class_ids), label_map, 0), project.classes)
