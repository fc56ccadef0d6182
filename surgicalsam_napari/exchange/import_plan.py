"""The plan of an import: what a survey and a person's choices amount to. Made at once, without reading or writing files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.class_matching import ClassMatch, MatchKind, match_classes, new_classes
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame
from surgicalsam_napari.exchange.import_tracks import TrackPlan, plan_tracks
from surgicalsam_napari.exchange.instances import Instances
from surgicalsam_napari.exchange.overlaps import FILE_ORDER, LARGER_BELOW, ORDERS_HELP
from surgicalsam_napari.exchange.survey import ImportSurvey, SurveyedFrame
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.instruments import ClassSet, InstrumentClass, plain, similar
from surgicalsam_napari.store import TrackTable
from surgicalsam_napari.store.label_maps import present_ids


@dataclass(frozen=True)
class ImportChoices:
    """What a person decides before an import.

    Attributes
    ----------
    classes : by name in the dataset: a name in the project, `NEW_CLASS` or `LEAVE_OUT` (`class_matching`)
    accept_similar : class names that differ only in `_` and `-` are the same class
    add_classes : classes of the dataset that the project does not have are added
    unannotated_are_empty : frames without any annotation show no instrument; if False, they are left alone
    overlaps : "file-order", "larger-below" or the name of the class on top; None if overlaps are refused
    """

    classes: Mapping[str, str] = field(default_factory=dict)
    accept_similar: bool = False
    add_classes: bool = False
    unannotated_are_empty: bool = False
    overlaps: str | None = None


@dataclass(frozen=True)
class Question:
    """Something that a person must decide first.

    Attributes
    ----------
    text : what to decide, and how
    lines : one line per frame that it concerns
    """

    text: str
    lines: tuple[str, ...]


class ImportedFrame(NamedTuple):
    """A frame of a dataset, in the project's class ids.

    Attributes
    ----------
    label_map : (H, W) uint8
    class_ids : the classes annotated in it, present or absent
    instances : None if the dataset does not tell instances apart
    parts : (H, W) uint8, ids of the dataset's parts; None without
    """

    label_map: np.ndarray
    class_ids: list[int]
    instances: Instances | None = None
    parts: np.ndarray | None = None


@dataclass(frozen=True)
class ImportPlan:
    """An import as it would be written.

    Attributes
    ----------
    frames : each frame of the dataset that will be written, with its frame index in the video
    left_alone : frames that nobody annotated
    matches : what each class becomes that these frames show or annotate
    class_ids : the project's class id for each class id of the dataset; 0 if the class is left out
    new_classes : classes that will be added to the project
    problems : one line per frame that cannot be imported
    questions : what must be decided first
    """

    survey: ImportSurvey
    choices: ImportChoices
    frames: tuple[tuple[DatasetFrame, int], ...]
    left_alone: tuple[DatasetFrame, ...]
    matches: tuple[ClassMatch, ...]
    class_ids: Mapping[int, int]
    new_classes: tuple[InstrumentClass, ...]
    problems: tuple[str, ...]
    questions: tuple[Question, ...]

    @cached_property
    def dataset(self) -> Dataset:
        """The dataset, with its masks stacked as chosen, without those of classes that are left out."""
        ordered = self.survey.dataset.with_overlaps(_order(self.survey, self.choices, self.matches))
        return ordered.without_masks_of(_left_out(self.matches))

    @property
    def is_ready(self) -> bool:
        return not self.problems and not self.questions and bool(self.frames)

    @property
    def overlapping(self) -> tuple[SurveyedFrame, ...]:
        """The written frames in which masks of different classes overlap."""
        written = {frame for frame, _ in self.frames}
        return tuple(one for one in _overlapping(self.survey.frames, self.matches) if one.frame in written)

    def check_ready(self) -> None:
        """Raise an ExchangeError with all problems and open questions, if there are any."""
        dataset, name, total = self.survey.dataset, self.survey.project_name, len(self.survey.frames)
        texts = " ".join(question.text for question in self.questions)
        lines = (*self.problems, *(line for question in self.questions for line in question.lines))
        if self.problems:
            raise ExchangeError(
                f"{len(self.problems)} of {total} frames of {dataset.path.name} do not fit {name}; nothing was imported. "
                f"The first problem: {self.problems[0]} {texts}".strip(),
                lines,
            )
        if self.questions:
            raise ExchangeError(f"{dataset.path.name} is not imported yet. {texts} For example: {lines[0]}", lines)
        if not self.frames:
            raise ExchangeError(
                f"Nobody annotated the {counted(total, 'frame')} of {dataset.path.name} that belong to this video, so there "
                "is nothing to import. If they show no instrument, say so (--unannotated empty on the command line)."
            )

    def tracks(self, table: TrackTable) -> TrackPlan:
        """What the tracks of the written frames become in a project with this table."""
        written = {frame for frame, _ in self.frames}
        seen = [pair for one in self.survey.frames if one.frame in written for pair in one.tracks]
        ids = ((self.class_ids.get(class_id, 0), track_id) for class_id, track_id in seen)
        return plan_tracks((pair for pair in ids if pair[0]), table, is_export=self.dataset.is_export)

    def in_project_ids(self, frame: DatasetFrame) -> ImportedFrame:
        """A frame in the project's class ids."""
        content = self.dataset.content(frame)
        label_map = content.label_map
        table = np.zeros(256, np.uint8)
        table[list(self.class_ids)] = list(self.class_ids.values())
        present = set(present_ids(label_map))
        if unchecked := present - self.class_ids.keys():
            raise ExchangeError(
                f"{frame.name} has changed since it was checked (the value {min(unchecked)} is new). Start the import again."
            )
        annotated = {*self.dataset.annotated_class_ids(frame), *present}
        known = {target for class_id, target in self.class_ids.items() if class_id in annotated}
        # if two classes became one, it is known only where both are annotated, or where it has pixels
        known -= {target for class_id, target in self.class_ids.items() if class_id not in annotated}
        known |= {self.class_ids[class_id] for class_id in present}
        return ImportedFrame(table[label_map], sorted(known - {0}), content.instances, content.parts)


def plan_import(survey: ImportSurvey, choices: ImportChoices | None = None) -> ImportPlan:
    """Apply choices to a survey.

    Raises
    ------
    ExchangeError
        a choice names a class that does not exist
    """
    choices = choices or ImportChoices()
    written = [one for one in survey.frames if one.is_annotated or choices.unannotated_are_empty]
    shown = {class_id for one in written for class_id in one.present}
    matches = match_classes(
        survey.dataset.classes,
        survey.project_classes,
        choices.classes,
        accept_similar=choices.accept_similar,
        add_classes=choices.add_classes,
    )
    matches = tuple(match for match in matches if match.instrument.id in shown or match.target is not None)
    added = [match.instrument for match in matches if match.kind is MatchKind.NEW]
    new = new_classes(survey.all_classes, added)
    class_ids = dict(zip((instrument.id for instrument in added), (created.id for created in new), strict=True))
    for match in matches:
        if match.kind is MatchKind.LEFT_OUT:
            class_ids[match.instrument.id] = 0
        elif match.kind is not MatchKind.OPEN and match.target is not None:
            class_ids[match.instrument.id] = match.target.id
    _order(survey, choices, matches)  # raises an error if the class on top does not exist
    return ImportPlan(
        survey,
        choices,
        frames=tuple((one.frame, one.index) for one in written if not one.problem and one.index is not None),
        left_alone=tuple(one.frame for one in survey.frames if not one.is_annotated and not choices.unannotated_are_empty),
        matches=matches,
        class_ids=class_ids,
        new_classes=new,
        problems=tuple(one.problem for one in written if one.problem),
        questions=tuple(_questions(survey, choices, written, [match for match in matches if match.instrument.id in shown])),
    )


def _questions(
    survey: ImportSurvey, choices: ImportChoices, written: list[SurveyedFrame], matches: list[ClassMatch]
) -> Iterator[Question]:
    unclear = {match.instrument.id: match for match in matches if match.kind is MatchKind.OPEN}
    similar_names = [match for match in unclear.values() if match.target is not None]
    unknown = [match.instrument.name for match in unclear.values() if match.target is None]
    if similar_names:
        pairs = ", ".join(f"{m.instrument.name} and {m.target.name}" for m in similar_names if m.target is not None)
        yield Question(
            f"Are these the same classes: {pairs}? If they are, say so (--similar-names on the command line).",
            tuple(_lines(written, {m.instrument.id for m in similar_names}, survey, "a class with a similar name")),
        )
    if unknown:
        names = ", ".join(unknown)
        yield Question(
            f"The project does not have {names}: add the classes (--add-classes on the command line), or say which class of "
            "the project each one is (--class NAME=CLASS).",
            tuple(_lines(written, {i for i, m in unclear.items() if m.target is None}, survey, "no such class")),
        )
    if choices.overlaps is None and (overlapping := _overlapping(written, matches)):
        yield Question(
            f"In {counted(len(overlapping), 'frame')}, masks of two classes overlap, but a pixel can have only one class. "
            f"Choose which mask is on top (--overlaps on the command line): {ORDERS_HELP}.",
            tuple(_overlap_line(one, survey.dataset.classes) for one in overlapping),
        )


def _left_out(matches: Iterable[ClassMatch]) -> frozenset[int]:
    return frozenset(match.instrument.id for match in matches if match.kind is MatchKind.LEFT_OUT)


def _overlapping(frames: Iterable[SurveyedFrame], matches: Iterable[ClassMatch]) -> list[SurveyedFrame]:
    """The frames with overlaps of classes that are not left out; other overlaps do not matter."""
    left_out = _left_out(matches)
    kept = (replace(one, overlaps=tuple(o for o in one.overlaps if not left_out & set(o.class_ids))) for one in frames)
    return [one for one in kept if one.overlaps]


def _lines(written: list[SurveyedFrame], class_ids: set[int], survey: ImportSurvey, what: str) -> Iterator[str]:
    classes = survey.dataset.classes
    for one in written:
        if found := [classes.by_id(class_id).name for class_id in one.present if class_id in class_ids]:
            yield f"{one.frame.name} has {', '.join(found)}, but the project has {what}."


def _overlap_line(one: SurveyedFrame, classes: ClassSet) -> str:
    first, second = (classes.by_id(class_id).name for class_id in one.overlaps[0].class_ids)
    return f"{one.frame.name} has {counted(one.overlaps[0].pixels, 'pixel')} that are both {first} and {second}."


def _order(survey: ImportSurvey, choices: ImportChoices, matches: tuple[ClassMatch, ...]) -> str | None:
    """The chosen order of overlapping masks; the class on top by its name in the dataset."""
    order = choices.overlaps
    if order in (None, FILE_ORDER, LARGER_BELOW):
        return order
    assert order is not None
    for key in (plain, similar):
        for match in matches:
            targets = () if match.target is None else (match.target.name,)
            if key(order) in map(key, (match.instrument.name, *targets)):
                return match.instrument.name
    names = ", ".join(match.instrument.name for match in matches) or ", ".join(survey.dataset.classes.names)
    raise ExchangeError(f'"{order}" is no order of overlapping masks. Use {ORDERS_HELP}: {names}.')
