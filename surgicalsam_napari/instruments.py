"""Instrument classes: an id, a name, a colour and perhaps parts each; the EndoVis sets, and custom sets from YAML."""

from __future__ import annotations

import re
import reprlib
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from pathlib import Path

import yaml

from surgicalsam_napari.errors import CheckpointError, ClassSetError
from surgicalsam_napari.untrusted import read_yaml

LARGEST_CLASS_ID = 255  # label maps are uint8, and 0 is background
PARTS_NAME = "Parts"  # of the set of parts in a class set
LONGEST_NAME = 200


@dataclass(frozen=True)
class InstrumentClass:
    """One class of instrument.

    Attributes
    ----------
    id : label value, 1 to 255
    name : shown in the dropdown; unique in a set, case-insensitive
    color : "#rrggbb"
    former_names : names that it had before, the latest first; checkpoints and datasets may still use them
    parts : ids of the parts that it consists of, in `ClassSet.parts`; a part itself has none
    """

    id: int
    name: str
    color: str
    former_names: tuple[str, ...] = ()
    parts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.id, bool) or not isinstance(self.id, int) or not 1 <= self.id <= LARGEST_CLASS_ID:
            raise ClassSetError(
                f"A class id is a whole number from 1 to {LARGEST_CLASS_ID}; got {shortened(self.id)}. Change the id."
            )
        if not isinstance(self.name, str) or not self.name.strip():
            raise ClassSetError(f"Class {self.id} needs a name; got {shortened(self.name)}. Enter a name.")
        for name in self.all_names:
            if len(name) > LONGEST_NAME or any(unicodedata.category(letter) == "Cc" for letter in name):
                raise ClassSetError(
                    f"A class name has at most {LONGEST_NAME} characters, and no control characters; got "
                    f"{shortened(name)}. Give class {self.id} another name."
                )
        if not isinstance(self.color, str) or not re.fullmatch(r"#[0-9a-fA-F]{6}", self.color):
            raise ClassSetError(f'The colour of {self.name} must look like "#1f77b4"; got {shortened(self.color)}.')
        if len(set(self.parts)) < len(self.parts):
            raise ClassSetError(f"{self.name} must have each part once; got the ids {self.parts}. Remove the repeated one.")

    @property
    def rgb(self) -> tuple[int, int, int]:
        """The colour as 8-bit red, green, blue."""
        return int(self.color[1:3], 16), int(self.color[3:5], 16), int(self.color[5:7], 16)

    @property
    def all_names(self) -> tuple[str, ...]:
        """The name, then the former names."""
        return (self.name, *self.former_names)

    def to_json(self) -> dict:
        """A plain dict; former names, and the ids of parts, only if there are any."""
        former = {"former_names": list(self.former_names)} if self.former_names else {}
        parts = {"parts": list(self.parts)} if self.parts else {}
        return {"id": self.id, "name": self.name, "color": self.color, **former, **parts}


def shortened(value: object) -> str:
    """A value for a message, in one line: the value may be of any length."""
    text = reprlib.repr(value)
    return text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}…"


def plain(name: str) -> str:
    """A name for comparison: one Unicode form (NFC), one case, without outer blanks, one blank between words."""
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def similar(name: str) -> str:
    """A name for a loose comparison: also `_` and `-` are blanks. Ask a person before names that are only similar match."""
    return plain(re.sub(r"[_-]", " ", name))


def _present_names(instrument: InstrumentClass) -> tuple[str, ...]:
    return (plain(instrument.name),)


def _former_names(instrument: InstrumentClass) -> tuple[str, ...]:
    return tuple(map(plain, instrument.former_names))


@dataclass(frozen=True)
class ClassSet:
    """An ordered set of instrument classes with distinct ids and names.

    Attributes
    ----------
    parts : the parts that the classes may have, such as shaft and wrist, as a set of their own; None without any
    """

    name: str
    classes: tuple[InstrumentClass, ...]
    parts: ClassSet | None = None

    def __post_init__(self) -> None:
        if not self.classes:
            raise ClassSetError(f"The class set {self.name} is empty. Add at least one class.")
        for what, values in (("id", self.ids), ("name", tuple(plain(name) for name in self.names))):
            repeated = sorted({str(value) for value in values if values.count(value) > 1})
            if repeated:
                raise ClassSetError(f"Each class {what} in {self.name} must occur once; repeated: {', '.join(repeated)}.")
        known = () if self.parts is None else self.parts.ids
        for instrument in self.classes:
            if unknown := sorted(set(instrument.parts) - set(known)):
                raise ClassSetError(
                    f"{instrument.name} has the part {unknown[0]}, and {self.name} has no part with this id. Add it there."
                )

    def __iter__(self) -> Iterator[InstrumentClass]:
        return iter(self.classes)

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(instrument.id for instrument in self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(instrument.name for instrument in self.classes)

    @property
    def has_parts(self) -> bool:
        """Whether any class has parts."""
        return any(instrument.parts for instrument in self.classes)

    def parts_of(self, class_id: int) -> tuple[InstrumentClass, ...]:
        """The parts of a class, in the order of `parts`."""
        chosen = self.by_id(class_id).parts
        return () if self.parts is None else tuple(part for part in self.parts if part.id in chosen)

    def having(self, classes: Sequence[InstrumentClass]) -> ClassSet:
        """The same set with these classes; its parts stay."""
        return replace(self, classes=tuple(classes))

    def without_parts(self) -> ClassSet:
        """The same classes, without parts."""
        return replace(self, classes=tuple(replace(c, parts=()) for c in self.classes), parts=None)

    def has_classes_of(self, other: ClassSet) -> bool:
        """Whether both have the same ids and names, in the same order; colours may differ."""
        return self.ids == other.ids and self.names == other.names

    def by_id(self, class_id: int) -> InstrumentClass:
        """The class with this id, or a ClassSetError that lists the ids."""
        for instrument in self.classes:
            if instrument.id == class_id:
                return instrument
        raise ClassSetError(f"No class has the id {class_id}. Choose one of {self.name}: {', '.join(map(str, self.ids))}.")

    def find(self, name: str) -> InstrumentClass | None:
        """The class that has this name, else the one that had it (compared with `plain`); None without either."""
        wanted = plain(name)
        for names_of in (_present_names, _former_names):
            for instrument in self.classes:
                if wanted in names_of(instrument):
                    return instrument
        return None

    def by_name(self, name: str) -> InstrumentClass:
        """`find`, or a ClassSetError that lists the names."""
        if (instrument := self.find(name)) is None:
            raise ClassSetError(f'No class has the name "{name}". Choose one of {self.name}: {", ".join(self.names)}.')
        return instrument

    def to_json(self) -> dict:
        """A plain dict, as stored in checkpoints, datasets and YAML files; parts only if there are any."""
        parts = {} if self.parts is None else {"parts": [part.to_json() for part in self.parts]}
        return {"name": self.name, "classes": [instrument.to_json() for instrument in self.classes], **parts}

    @classmethod
    def from_json(cls, record: object) -> ClassSet:
        """The inverse of `to_json`; a missing colour is taken from a palette by position.

        Classes may name their parts. Without a list `parts`, the parts have the numbers of their first mention.
        """
        if not isinstance(record, dict) or not isinstance(record.get("classes"), list):
            raise ClassSetError('A class set needs "classes": a list of id, name, color. Add it to the file.')
        entries = [_checked_entry(entry, f"Entry {k} of the class set") for k, entry in enumerate(record["classes"], 1)]
        parts = _parts_from_json(record.get("parts"), entries)
        classes = []
        for position, entry in enumerate(entries):
            former = entry.get("former_names", [])
            if not isinstance(former, list) or not all(isinstance(name, str) for name in former):
                raise ClassSetError(
                    f"The former_names of entry {position + 1} must be a list of names; got {shortened(former)}."
                )
            color = entry.get("color", PALETTE[position % len(PALETTE)])
            part_ids = tuple(_part_id(part, parts, entry["name"]) for part in _named_parts(entry))
            classes.append(InstrumentClass(entry["id"], entry["name"], color, tuple(former), part_ids))
        return cls(str(record.get("name", "custom")), tuple(classes), parts)

    @classmethod
    def from_yaml(cls, path: Path | str) -> ClassSet:
        """Read a custom class set from a YAML file: `name`, and `classes`, a list of `id`, `name`, `color`.

        A class may have `parts`, a list of names. A list `parts` of `id`, `name`, `color` gives them numbers and colours.
        """
        path = Path(path)
        try:
            record = read_yaml(path)
        except OSError as error:
            raise ClassSetError(f"The class set {path} cannot be read ({error.strerror}). Choose another file.") from error
        except ValueError as error:
            raise ClassSetError(
                f"{path.name} is not valid YAML ({error}). Write classes: a list of id, name, color."
            ) from error
        try:
            return cls.from_json({"name": path.stem, **record} if isinstance(record, dict) else record)
        except ClassSetError as error:
            raise ClassSetError(f"{path.name}: {error}") from error

    def write_yaml(self, path: Path | str) -> None:
        """Write a file that `from_yaml` reads; a ClassSetError if it cannot be written. Classes name their parts there."""
        record = self.to_json()
        for instrument, entry in zip(self.classes, record["classes"], strict=True):
            if self.parts is not None and instrument.parts:
                entry["parts"] = [self.parts.by_id(part_id).name for part_id in instrument.parts]
        text = yaml.safe_dump(record, allow_unicode=True, sort_keys=False)
        try:
            Path(path).write_text(text, encoding="utf-8")
        except OSError as error:
            raise ClassSetError(
                f"The class set cannot be written to {path} ({error.strerror}). Choose another file."
            ) from error


def _checked_entry(entry: object, what: str) -> dict:
    if not isinstance(entry, dict) or not {"id", "name"} <= entry.keys():
        raise ClassSetError(f"{what} needs id and name; got {entry!r}.")
    return entry


def _named_parts(entry: dict) -> list:
    """What a class calls its parts: names or ids."""
    named = entry.get("parts", [])
    if not isinstance(named, list):
        raise ClassSetError(f"The parts of {entry['name']} must be a list of names; got {named!r}. Write [Shaft, Wrist].")
    for part in named:
        if isinstance(part, bool) or not isinstance(part, int | str) or not str(part).strip():
            raise ClassSetError(f"Each part of {entry['name']} needs a name; got {part!r}. Write its name.")
    return named


def _parts_from_json(listed: object, entries: list[dict]) -> ClassSet | None:
    """The parts of a class set: those listed, else those that its classes name, in the order of their first mention."""
    if listed is None:
        named: dict[str, str] = {}
        for entry in entries:
            for part in _named_parts(entry):
                named.setdefault(plain(str(part)), str(part).strip())
        listed = [{"id": number, "name": name} for number, name in enumerate(named.values(), 1)]
        if len(listed) > LARGEST_CLASS_ID:
            raise ClassSetError(
                f"A class set has at most {LARGEST_CLASS_ID} parts; got {len(listed)}. Give the same part of several "
                "classes the same name."
            )
    if not isinstance(listed, list):
        raise ClassSetError(f"The parts of a class set must be a list of id, name, color; got {listed!r}.")
    parts = [_checked_entry(entry, f"Part {k} of the class set") for k, entry in enumerate(listed, 1)]
    if nested := next((part for part in parts if part.get("parts")), None):
        raise ClassSetError(f"A part has no parts of its own; {nested['name']} has {nested['parts']!r}. Remove them.")
    return ClassSet.from_json({"name": PARTS_NAME, "classes": parts}) if parts else None


def _part_id(part: int | str, parts: ClassSet | None, class_name: str) -> int:
    """The id of a part that a class names."""
    found = None
    if parts is not None:
        found = next((known for known in parts if known.id == part), None) or parts.find(str(part))
    if found is None:
        listed = "none" if parts is None else ", ".join(parts.names)
        raise ClassSetError(
            f'{class_name} has the part "{part}", which is not in the list of parts ({listed}). Add it there, or correct '
            "the name."
        )
    return found.id


# told apart with every kind of colour vision, over tissue and metal, and no colour of the timeline: found by
# benchmarks/quality/class_colors.py
PALETTE = ("#68d2ff", "#ff8e00", "#cbfcbc", "#006d90", "#a24efd", "#bd0c00", "#4500ff", "#fffa71")


def _numbered(set_name: str, names: tuple[str, ...]) -> ClassSet:
    return ClassSet(set_name, tuple(InstrumentClass(i + 1, name, PALETTE[i]) for i, name in enumerate(names)))


ENDOVIS2018 = _numbered(
    "EndoVis 2018",
    (
        "Bipolar Forceps",
        "Prograsp Forceps",
        "Large Needle Driver",
        "Monopolar Curved Scissors",
        "Ultrasound Probe",
        "Suction Instrument",
        "Clip Applier",
    ),
)
ENDOVIS2017 = _numbered(
    "EndoVis 2017",
    (
        "Bipolar Forceps",
        "Prograsp Forceps",
        "Large Needle Driver",
        "Vessel Sealer",
        "Grasping Retractor",
        "Monopolar Curved Scissors",
        "Other",
    ),
)
CLASS_SETS = {"endovis2018": ENDOVIS2018, "endovis2017": ENDOVIS2017}
ENDOVIS_PARTS = _numbered(PARTS_NAME, ("Shaft", "Wrist", "Clasper"))


def with_known_colors(classes: ClassSet) -> ClassSet:
    """The EndoVis set that has these ids and names; without one, the classes as they are.

    A checkpoint may hold the colours of an earlier version.
    """
    return next((known for known in CLASS_SETS.values() if known.has_classes_of(classes)), classes)


def knows_class(classes: ClassSet, name: str) -> bool:
    """Whether a class of the set has or had this name."""
    return classes.find(name) is not None


def same_classes(classes: ClassSet, others: ClassSet) -> dict[int, int]:
    """For each id of `classes` the id of the same class in `others`, one to one; classes without a counterpart are left out.

    Classes are matched by name: the same id means different tools in different sets. A present name counts more than a
    former one, so that a class that was renamed still matches a checkpoint or dataset with its old name.
    """
    return dict(_same_classes(classes, others))


@lru_cache(maxsize=32)  # the window asks for every class whether the model knows it
def _same_classes(classes: ClassSet, others: ClassSet) -> tuple[tuple[int, int], ...]:
    same: dict[int, int] = {}
    for names_of, names_of_other in product((_present_names, _former_names), repeat=2):
        taken = set(same.values())
        free = {name: c.id for c in reversed(others.classes) if c.id not in taken for name in names_of_other(c)}
        for instrument in classes:
            other_id = next((free[name] for name in names_of(instrument) if name in free), None)
            if instrument.id not in same and other_id is not None and other_id not in taken:
                same[instrument.id] = other_id
                taken.add(other_id)
    return tuple(same.items())


def class_set_named(text: str) -> ClassSet:
    """A known class set by its name, such as "endovis2018", or that of a YAML file; a ClassSetError if it is neither."""
    return CLASS_SETS[text.casefold()] if text.casefold() in CLASS_SETS else ClassSet.from_yaml(text)


def matching_class_ids(
    project_classes: ClassSet, model_classes: ClassSet, class_ids: Sequence[int], model_name: str = "The checkpoint"
) -> list[int]:
    """The checkpoint's ids of the project's classes, as `same_classes` matches them.

    Raises
    ------
    ClassSetError
        `class_ids` is empty or names a class that the project does not have
    CheckpointError
        the checkpoint was not trained on one of the classes
    """
    if not class_ids:
        raise ClassSetError(f"Choose at least one class of {project_classes.name}: {', '.join(project_classes.names)}.")
    model_ids = same_classes(project_classes, model_classes)
    untrained = [c.name for c in map(project_classes.by_id, class_ids) if c.id not in model_ids]
    if untrained:
        raise CheckpointError(
            f"{model_name} is not yet trained on {', '.join(untrained)}; it knows {', '.join(model_classes.names)}. "
            "Choose one of these, or a checkpoint trained on it: correct a few frames, and Learn makes one."
        )
    return [model_ids[class_id] for class_id in class_ids]
