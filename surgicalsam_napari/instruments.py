"""Instrument classes: an id, a name and a colour each; the EndoVis sets, and custom sets from YAML."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from surgicalsam_napari.errors import CheckpointError, ClassSetError

LARGEST_CLASS_ID = 255  # label maps are uint8, and 0 is background


@dataclass(frozen=True)
class InstrumentClass:
    """One class of instrument.

    Attributes
    ----------
    id : label value, 1 to 255
    name : shown in the dropdown; unique in a set, case-insensitive
    color : "#rrggbb"
    """

    id: int
    name: str
    color: str

    def __post_init__(self) -> None:
        if isinstance(self.id, bool) or not isinstance(self.id, int) or not 1 <= self.id <= LARGEST_CLASS_ID:
            raise ClassSetError(
                f"A class id is a whole number from 1 to {LARGEST_CLASS_ID}; got {self.id!r}. Change the id."
            )
        if not isinstance(self.name, str) or not self.name.strip():
            raise ClassSetError(f"Class {self.id} needs a name; got {self.name!r}. Enter a name.")
        if not isinstance(self.color, str) or not re.fullmatch(r"#[0-9a-fA-F]{6}", self.color):
            raise ClassSetError(f'The colour of {self.name} must look like "#1f77b4"; got {self.color!r}.')

    @property
    def rgb(self) -> tuple[int, int, int]:
        """The colour as 8-bit red, green, blue."""
        return int(self.color[1:3], 16), int(self.color[3:5], 16), int(self.color[5:7], 16)


def plain(name: str) -> str:
    """A name for comparison: one Unicode form (NFC), one case, without outer blanks, one blank between words."""
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def similar(name: str) -> str:
    """A name for a loose comparison: also `_` and `-` are blanks. Ask a person before names that are only similar match."""
    return plain(re.sub(r"[_-]", " ", name))


@dataclass(frozen=True)
class ClassSet:
    """An ordered set of instrument classes with distinct ids and names."""

    name: str
    classes: tuple[InstrumentClass, ...]

    def __post_init__(self) -> None:
        if not self.classes:
            raise ClassSetError(f"The class set {self.name} is empty. Add at least one class.")
        for what, values in (("id", self.ids), ("name", tuple(name.casefold() for name in self.names))):
            repeated = sorted({str(value) for value in values if values.count(value) > 1})
            if repeated:
                raise ClassSetError(f"Each class {what} in {self.name} must occur once; repeated: {', '.join(repeated)}.")

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

    def by_id(self, class_id: int) -> InstrumentClass:
        """The class with this id, or a ClassSetError that lists the ids."""
        for instrument in self.classes:
            if instrument.id == class_id:
                return instrument
        raise ClassSetError(f"No class has the id {class_id}. Choose one of {self.name}: {', '.join(map(str, self.ids))}.")

    def by_name(self, name: str) -> InstrumentClass:
        """The class of this name (compared with `plain`), or a ClassSetError that lists the names."""
        for instrument in self.classes:
            if plain(instrument.name) == plain(name):
                return instrument
        raise ClassSetError(f'No class has the name "{name}". Choose one of {self.name}: {", ".join(self.names)}.')

    def to_json(self) -> dict:
        """A plain dict, as stored in checkpoints, project manifests and YAML files."""
        classes = [{"id": c.id, "name": c.name, "color": c.color} for c in self.classes]
        return {"name": self.name, "classes": classes}

    @classmethod
    def from_json(cls, record: object) -> ClassSet:
        """The inverse of `to_json`; a missing colour is taken from a palette by position."""
        if not isinstance(record, dict) or not isinstance(record.get("classes"), list):
            raise ClassSetError('A class set needs "classes": a list of id, name, color. Add it to the file.')
        classes = []
        for position, entry in enumerate(record["classes"]):
            if not isinstance(entry, dict) or not {"id", "name"} <= entry.keys():
                raise ClassSetError(f"Entry {position + 1} of the class set needs id and name; got {entry!r}.")
            color = entry.get("color", PALETTE[position % len(PALETTE)])
            classes.append(InstrumentClass(entry["id"], entry["name"], color))
        return cls(str(record.get("name", "custom")), tuple(classes))

    @classmethod
    def from_yaml(cls, path: Path | str) -> ClassSet:
        """Read a custom class set from a YAML file: `name`, and `classes`, a list of `id`, `name`, `color`."""
        path = Path(path)
        try:
            record = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ClassSetError(f"The class set {path} cannot be read ({error.strerror}). Choose another file.") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ClassSetError(f"{path.name} is not valid YAML. Write classes: a list of id, name, color.") from error
        try:
            return cls.from_json({"name": path.stem, **record} if isinstance(record, dict) else record)
        except ClassSetError as error:
            raise ClassSetError(f"{path.name}: {error}") from error


# Okabe and Ito's colour-blind-safe colours, lightened if they are hard to see on red tissue, and one violet
PALETTE = ("#56b4e9", "#e69f00", "#19d3a2", "#f0e442", "#b58cff", "#ff7ac6", "#3f7bff", "#c4f24a")


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


def class_set_named(text: str) -> ClassSet:
    """A known class set by its name, such as "endovis2018", or that of a YAML file; a ClassSetError if it is neither."""
    return CLASS_SETS[text.casefold()] if text.casefold() in CLASS_SETS else ClassSet.from_yaml(text)


def matching_class_ids(
    project_classes: ClassSet, model_classes: ClassSet, class_ids: Sequence[int], model_name: str = "The checkpoint"
) -> list[int]:
    """The checkpoint's ids of the project's classes, matched by name: the same id means different tools in different sets.

    Raises
    ------
    ClassSetError
        `class_ids` is empty or names a class that the project does not have
    CheckpointError
        the checkpoint was not trained on one of the classes
    """
    if not class_ids:
        raise ClassSetError(f"Choose at least one class of {project_classes.name}: {', '.join(project_classes.names)}.")
    names = [project_classes.by_id(class_id).name for class_id in class_ids]
    untrained = [name for name in names if not knows_class(model_classes, name)]
    if untrained:
        raise CheckpointError(
            f"{model_name} is not yet trained on {', '.join(untrained)}; it knows {', '.join(model_classes.names)}. "
            "Choose one of these, or a checkpoint trained on it."
        )
    return [model_classes.by_name(name).id for name in names]


def knows_class(classes: ClassSet, name: str) -> bool:
    """Whether a class of this name is in the set."""
    return plain(name) in map(plain, classes.names)
