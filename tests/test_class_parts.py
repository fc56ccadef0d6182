"""Classes of instruments with parts: in YAML, in JSON, and changed in a project."""

from __future__ import annotations

from pathlib import Path

import pytest

from surgicalsam_napari.errors import ClassSetError
from surgicalsam_napari.instruments import ENDOVIS2018, ENDOVIS_PARTS, ClassSet, InstrumentClass
from surgicalsam_napari.store.project_classes import ProjectClasses

DRIVER, SCISSORS = 3, 4

PLAIN = """
classes:
  - {id: 1, name: Forceps, parts: [Shaft, Wrist, Clasper]}
  - {id: 2, name: Probe, parts: [shaft]}
  - {id: 3, name: Thread}
"""
LISTED = """
classes:
  - {id: 1, name: Forceps, parts: [Wrist, Shaft]}
parts:
  - {id: 7, name: Shaft, color: "#112233"}
  - {id: 9, name: Wrist}
"""


def read(tmp_path: Path, text: str) -> ClassSet:
    (tmp_path / "tools.yaml").write_text(text, encoding="utf-8")
    return ClassSet.from_yaml(tmp_path / "tools.yaml")


def with_parts() -> ProjectClasses:
    """Large Needle Driver with shaft and wrist, scissors with a shaft."""
    return ProjectClasses.of(ENDOVIS2018).part_added("Shaft", [DRIVER, SCISSORS]).part_added("Wrist", [DRIVER])


def test_parts_have_the_numbers_of_their_first_mention(tmp_path: Path) -> None:
    classes = read(tmp_path, PLAIN)
    assert classes.parts is not None
    assert classes.parts.names == ("Shaft", "Wrist", "Clasper") and classes.parts.ids == (1, 2, 3)
    assert [instrument.parts for instrument in classes] == [(1, 2, 3), (1,), ()]
    assert classes.has_parts and [part.name for part in classes.parts_of(2)] == ["Shaft"]


def test_a_list_of_parts_gives_them_ids_and_colours(tmp_path: Path) -> None:
    classes = read(tmp_path, LISTED)
    assert classes.parts is not None and classes.parts.ids == (7, 9)
    assert classes.parts.by_id(7).color == "#112233"
    assert classes.by_id(1).parts == (9, 7)


def test_parts_survive_yaml_and_json(tmp_path: Path) -> None:
    classes = read(tmp_path, PLAIN)
    classes.write_yaml(tmp_path / "again.yaml")
    assert "- Wrist" in (tmp_path / "again.yaml").read_text(encoding="utf-8")
    again = ClassSet.from_yaml(tmp_path / "again.yaml")
    assert (again.classes, again.parts) == (classes.classes, classes.parts)
    assert ClassSet.from_json(classes.to_json()) == classes


def test_a_class_set_without_parts_is_written_as_before() -> None:
    assert set(ENDOVIS2018.to_json()) == {"name", "classes"}
    assert all(set(entry) == {"id", "name", "color"} for entry in ENDOVIS2018.to_json()["classes"])
    assert set(ProjectClasses.of(ENDOVIS2018).to_json()) == {"name", "classes"}


@pytest.mark.parametrize(
    ("parts", "listed", "expected"),
    [
        ("[Tip]", "[{id: 1, name: Shaft}]", '"Tip", which is not in the list of parts .Shaft.*correct the name'),
        ("[Shaft, shaft]", "null", "each part once"),
        ('["  "]', "null", "needs a name; got '  '"),
        ("[null]", "null", "needs a name; got None"),
        ("Shaft", "null", "must be a list of names; got 'Shaft'"),
        ("[Shaft]", "[{id: 1}]", "Part 1 of the class set needs id and name"),
        ("[Shaft]", "[{id: 300, name: Shaft}]", "from 1 to 255; got 300"),
        ("[Shaft]", "[{id: 1, name: Shaft}, {id: 1, name: Tip}]", "must occur once; repeated: 1"),
        ("[Shaft]", "[{id: 1, name: Shaft, parts: [Tip]}]", "A part has no parts of its own"),
        ("[Shaft]", "Shaft", "must be a list of id, name, color; got 'Shaft'"),
        (str([f"Part {k}" for k in range(256)]), "null", "at most 255 parts; got 256"),
    ],
)
def test_bad_parts_give_a_clear_error(tmp_path: Path, parts: str, listed: str, expected: str) -> None:
    text = f"classes: [{{id: 1, name: Forceps, parts: {parts}}}]\n" + ("" if listed == "null" else f"parts: {listed}\n")
    with pytest.raises(ClassSetError, match=f"tools.yaml: .*{expected}"):
        read(tmp_path, text)


def test_a_class_with_an_unknown_part_is_refused() -> None:
    with pytest.raises(ClassSetError, match="no part with this id"):
        ClassSet("Tools", (InstrumentClass(1, "Forceps", "#112233", parts=(4,)),), ENDOVIS_PARTS)


def test_parts_of_a_project_survive_its_manifest() -> None:
    classes = with_parts().with_parts(lambda parts: parts.renamed(2, "Joint").added("Tip").without(1).reordered([3, 2]))
    assert classes.in_use.by_id(SCISSORS).parts == ()
    assert ProjectClasses.from_json(classes.to_json()) == classes


def test_the_same_part_of_two_classes_is_one_part() -> None:
    classes = with_parts()
    assert classes.parts is not None and classes.parts.in_use.names == ("Shaft", "Wrist")
    assert classes.in_use.by_id(DRIVER).parts == (1, 2) and classes.in_use.by_id(SCISSORS).parts == (1,)


def test_a_new_part_is_for_the_classes_that_have_parts() -> None:
    classes = with_parts().part_added("Tip")
    assert [c.id for c in classes.in_use if 3 in c.parts] == [DRIVER, SCISSORS]


def test_an_id_of_a_removed_part_is_not_used_again() -> None:
    classes = with_parts().without_part(2).part_added("Tip", [DRIVER])
    assert classes.in_use.by_id(DRIVER).parts == (1, 3)
    assert classes.part_added("Wrist", [DRIVER]).in_use.by_id(DRIVER).parts == (1, 3, 2)


def test_a_removed_class_and_its_parts_come_back_with_undo() -> None:
    before = with_parts()
    assert before.without(DRIVER).returned_to(before) == before
    assert before.without_part(2).returned_to(before).in_use == before.in_use


def test_a_class_set_brings_its_parts_into_a_project(tmp_path: Path) -> None:
    text = 'classes: [{id: 3, name: Large Needle Driver, parts: [Wrist, Clasper]}]\nname: "EndoVis 2018"'
    extended = with_parts().extended(read(tmp_path, text))
    assert extended.parts is not None and extended.parts.in_use.names == ("Shaft", "Wrist", "Clasper")
    assert extended.in_use.by_id(DRIVER).parts == (1, 2, 3) and extended.in_use.by_id(SCISSORS).parts == (1,)
    first = ProjectClasses.of(ENDOVIS2018).extended(read(tmp_path, text))
    assert first.parts is not None and first.parts.in_use.names == ("Wrist", "Clasper")


def test_without_parts_nothing_of_them_is_left() -> None:
    assert with_parts().in_use.without_parts() == ENDOVIS2018
