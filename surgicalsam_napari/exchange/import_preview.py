"""The preview of an import, for the command line and the window: a plan in words, and one frame before and after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from surgicalsam_napari.exchange.class_matching import ClassMatch, MatchKind
from surgicalsam_napari.exchange.dataset import DatasetFrame
from surgicalsam_napari.exchange.import_parts import lines_about_parts
from surgicalsam_napari.exchange.import_plan import ImportPlan, plan_import
from surgicalsam_napari.exchange.overlaps import FILE_ORDER, order_in_words
from surgicalsam_napari.exchange.registry import FORMATS
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store import Project, Provenance

SHOWN = 3  # examples in a line


@dataclass(frozen=True)
class PreviewLine:
    """One fact about an import, such as Classes: "bipolar_forceps becomes Bipolar Forceps"."""

    caption: str
    text: str


@dataclass(frozen=True)
class FramePreview:
    """One frame of the video before and after an import.

    Attributes
    ----------
    before, after : (H, W) uint8, class ids of the project; new classes have the ids that they will get
    kept_pixels : pixels of a person that stay although the dataset differs
    """

    frame_index: int
    name: str
    before: np.ndarray
    after: np.ndarray
    kept_pixels: int


def preview_frame(project: Project, plan: ImportPlan, frame_index: int) -> FramePreview:
    """A frame of the plan as the import would leave it; nothing is written.

    If it is not decided which of two overlapping masks is on top, the later one in the file is.

    Raises
    ------
    ExchangeError, ProjectError
        a file is damaged, or has changed since the survey
    """
    if plan.choices.overlaps is None:
        plan = plan_import(plan.survey, replace(plan.choices, overlaps=FILE_ORDER))
    frame = next(frame for frame, index in plan.frames if index == frame_index)
    label_map, class_ids, *_ = plan.in_project_ids(frame)
    before = np.asarray(project.labels[frame_index])
    if not class_ids:
        return FramePreview(frame_index, frame.name, before, before, 0)
    merged = project.labels.preview_import(frame_index, label_map, class_ids)
    return FramePreview(frame_index, frame.name, before, merged.labels, merged.kept_pixels)


def preview_lines(plan: ImportPlan, project: Project) -> tuple[PreviewLine, ...]:
    """What was recognised, what will be written, and what will not."""
    dataset, survey = plan.dataset, plan.survey
    title = FORMATS[dataset.format].title if dataset.format in FORMATS else dataset.format
    sequences = dict.fromkeys(one.frame.sequence for one in survey.frames)
    lines = [
        PreviewLine("Recognised", f"{title}, {counted(len(survey.frames), 'frame')} of {', '.join(sequences)}"),
        PreviewLine("Frames", _frames_in_words(plan)),
        *(PreviewLine("Class", text) for text in class_lines(plan)),
    ]
    if plan.left_alone:
        count = counted(len(plan.left_alone), "frame")
        lines.append(PreviewLine("Left alone", f"{count} without any annotation ({_names(plan.left_alone)})"))
    elif plan.choices.unannotated_are_empty and (empty := sum(not one.is_annotated for one in survey.frames)):
        lines.append(
            PreviewLine("Empty", f"{counted(empty, 'frame')} without any annotation count as showing no instrument")
        )
    for skipped in dataset.skipped:
        example = f", such as {skipped.example}" if skipped.example else ""
        lines.append(PreviewLine("Skipped", f"{skipped.what}: {skipped.count:,}{example}"))
    lines += [PreviewLine("Tracks", text) for text in plan.tracks(survey.tracks).lines(_target_classes(plan))]
    lines += [PreviewLine("Parts", text) for text in lines_about_parts(dataset, project.classes)]
    lines += [PreviewLine("Note", text) for text in dataset.notes]
    if plan.overlapping:
        lines.append(PreviewLine("Overlaps", _overlaps_in_words(plan)))
    if corrected := _corrected_before(plan, project):
        text = f"{counted(corrected, 'frame')} that you corrected before: pixels that you painted or verified stay"
        lines.append(PreviewLine("Your work", text))
    lines += [PreviewLine("To decide", question.text) for question in plan.questions]
    lines += [PreviewLine("Problem", problem) for problem in plan.problems]
    return tuple(lines)


def plan_record(plan: ImportPlan) -> dict:
    """The plan as plain JSON values."""
    names = _target_classes(plan)
    return {
        "dataset": str(plan.dataset.path),
        "format": plan.dataset.format,
        "rule": str(plan.survey.rule),
        "frames": [
            {"name": frame.name, "reading": "" if frame.file_name is None else frame.file_name.reading, "frame": index}
            for frame, index in plan.frames
        ],
        "classes": [
            {
                "name": match.instrument.name,
                "becomes": None if match.target is None else match.target.name,
                "how": str(match.kind),
                "frames": count,
            }
            for match, count in shown_classes(plan)
        ],
        "unannotated": [frame.name for frame in plan.left_alone],
        "skipped": [{"what": one.what, "count": one.count, "example": one.example} for one in plan.dataset.skipped],
        "tracks": [
            {"class": names.by_id(class_id).name, "track": track_id, "becomes": number}
            for (class_id, track_id), number in plan.tracks(plan.survey.tracks).ids.items()
        ],
        "notes": list(plan.dataset.notes),
        "overlaps": {"frames": len(plan.overlapping), "order": plan.choices.overlaps},
        "questions": [question.text for question in plan.questions],
        "problems": list(plan.problems),
        "is_ready": plan.is_ready,
    }


def _target_classes(plan: ImportPlan) -> ClassSet:
    """The classes of the project after the import."""
    return plan.survey.project_classes.having([*plan.survey.project_classes, *plan.new_classes])


def choices_in_words(plan: ImportPlan) -> str:
    """The choices of an import, for the project's history."""
    parts = []
    if plan.overlapping and plan.choices.overlaps is not None:
        parts.append(f"overlapping masks: {order_in_words(plan.choices.overlaps)}")
    if plan.choices.unannotated_are_empty:
        parts.append("frames without annotations are empty")
    elif plan.left_alone:
        parts.append("frames without annotations are left alone")
    for match, _count in shown_classes(plan):
        if match.kind in (MatchKind.SIMILAR_NAME, MatchKind.CHOSEN, MatchKind.FORMER_NAME) and match.target is not None:
            parts.append(f"{match.instrument.name} is {match.target.name}")
        elif match.kind is MatchKind.LEFT_OUT:
            parts.append(f"{match.instrument.name} is left out")
    return "; ".join(parts)


def shown_classes(plan: ImportPlan) -> list[tuple[ClassMatch, int]]:
    """The classes that the written frames show, each with the number of these frames."""
    written = {frame for frame, _ in plan.frames} | {one.frame for one in plan.survey.frames if one.problem}
    counts = Counter(i for one in plan.survey.frames if one.frame in written for i in one.present)
    return [(match, counts[match.instrument.id]) for match in plan.matches if counts[match.instrument.id]]


def class_lines(plan: ImportPlan) -> list[str]:
    """One line per class, such as "bipolar_forceps becomes Bipolar Forceps (similar name; 20 frames)"."""
    return [_class_in_words(match, count) for match, count in shown_classes(plan)]


def _class_in_words(match: ClassMatch, count: int) -> str:
    name, frames = match.instrument.name, counted(count, "frame")
    if match.kind is MatchKind.NEW:
        return f"{name} is new and will be added ({frames})"
    if match.kind is MatchKind.LEFT_OUT:
        return f"{name} is left out ({frames})"
    if match.target is None:
        return f"{name} is not a class of the project ({frames})"
    if match.kind is MatchKind.OPEN:
        return f"{name} may be {match.target.name} ({frames})"
    if name == match.target.name:
        return f"{name} ({frames})"
    return f"{name} becomes {match.target.name} ({match.kind}; {frames})"


def _frames_in_words(plan: ImportPlan) -> str:
    text = f"{counted(len(plan.frames), 'frame')} will be imported; {plan.survey.rule}"
    examples = [_reading(frame, index) for frame, index in plan.frames]
    return f"{text}: {_few(examples)}" if examples else text


def _reading(frame: DatasetFrame, index: int) -> str:
    """Such as "clip_mp4-0010_jpg -> frame 10"."""
    read = frame.name.rpartition("/")[2] if frame.file_name is None else frame.file_name.text
    return f"{read} -> frame {index}"


def _few(texts: Sequence[str]) -> str:
    if len(texts) <= SHOWN + 1:
        return ", ".join(texts)
    return ", ".join([*texts[: SHOWN - 1], "…", texts[-1]])


def _names(frames: Sequence[DatasetFrame]) -> str:
    return _few([frame.name for frame in frames])


def _overlaps_in_words(plan: ImportPlan) -> str:
    pairs = Counter[tuple[int, int]]()
    for one in plan.overlapping:
        for overlap in one.overlaps:
            pairs[overlap.class_ids] += overlap.pixels
    names = [
        " and ".join(plan.dataset.classes.by_id(class_id).name for class_id in pair) for pair, _ in pairs.most_common(SHOWN)
    ]
    order = plan.choices.overlaps
    how = "not decided" if order is None else order_in_words(order)
    return f"{counted(len(plan.overlapping), 'frame')}, {counted(sum(pairs.values()), 'pixel')} ({', '.join(names)}): {how}"


def _corrected_before(plan: ImportPlan, project: Project) -> int:
    table = project.labels.provenance_table()
    return sum(bool((table[index] >= Provenance.EDITED).any()) for _, index in plan.frames)


def frames_with_labels(plan: ImportPlan) -> Iterator[int]:
    """The frames of the video that the plan gives labels, those with the most classes first."""
    present = {one.frame: len(one.present) for one in plan.survey.frames}
    for _frame, index in sorted(plan.frames, key=lambda item: (-present[item[0]], item[1])):
        yield index
