"""The classes of a project: those in use, in the order of the window, and the columns of its tables."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from colorsys import hsv_to_rgb
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from surgicalsam_napari.errors import ClassSetError
from surgicalsam_napari.instruments import LARGEST_CLASS_ID, PALETTE, PARTS_NAME, ClassSet, InstrumentClass, plain


@dataclass(frozen=True)
class ProjectClasses:
    """Each class keeps its id and its column for ever: labels, history and snapshots refer to them. All else may change.

    The methods return the changed classes. They raise a ClassSetError with a remedy if the change is not possible.

    Attributes
    ----------
    in_use : in the order in which they are shown
    columns : the class id of each column of the tables; it only grows
    removed : classes that are no longer shown; nothing is labelled with them
    parts : the parts that classes may have, kept in the same way; `in_use.parts` are those in use. None without any
    """

    in_use: ClassSet
    columns: tuple[int, ...]
    removed: tuple[InstrumentClass, ...] = ()
    parts: ProjectClasses | None = None

    @classmethod
    def of(cls, classes: ClassSet) -> ProjectClasses:
        """The classes of a new project."""
        return cls(classes, classes.ids, parts=None if classes.parts is None else cls.of(classes.parts))

    @classmethod
    def from_json(cls, record: Any) -> ProjectClasses:
        """The inverse of `to_json`; also reads the plain class set of an earlier version."""
        entries = record.get("classes") if isinstance(record, dict) else None
        if not isinstance(entries, list):
            return cls.of(ClassSet.from_json(record))  # raises the error
        removed_entries = [entry for entry in entries if isinstance(entry, dict) and entry.get("removed")]
        parts = None if record.get("parts") is None else cls.from_json(
            {"name": PARTS_NAME, "classes": record["parts"], "order": record.get("parts_order", [])}
        )  # fmt: skip
        listed = {} if parts is None else {"parts": [part.to_json() for part in parts.in_use]}
        kept = ClassSet.from_json({**record, "classes": [e for e in entries if e not in removed_entries], **listed})
        removed = tuple(c for entry in removed_entries for c in ClassSet.from_json({"classes": [entry]}))
        columns = tuple(entry["id"] for entry in entries)
        if len(set(columns)) < len(columns):
            raise ClassSetError(f"Each class id of {kept.name} must occur once; got {columns}.")
        order = record.get("order", [])
        if not isinstance(order, list):
            raise ClassSetError(f"The order of {kept.name} must be a list of class ids; got {order!r}.")
        places = {class_id: place for place, class_id in enumerate(order)}
        shown = sorted(kept, key=lambda instrument: places.get(instrument.id, len(places)))
        return cls(kept.having(shown), columns, removed, parts)

    def to_json(self) -> dict:
        """A plain dict: a class set with the classes in the order of the columns, and the order in which they are shown."""
        by_id = {instrument.id: instrument.to_json() for instrument in self.in_use}
        by_id |= {instrument.id: {**instrument.to_json(), "removed": True} for instrument in self.removed}
        record = {"name": self.in_use.name, "classes": [by_id[class_id] for class_id in self.columns]}
        if self.parts is not None:
            parts = self.parts.to_json()
            record["parts"] = parts["classes"]
            record |= {"parts_order": parts["order"]} if "order" in parts else {}
        is_reordered = self.in_use.ids != tuple(class_id for class_id in self.columns if class_id in self.in_use.ids)
        return record | ({"order": list(self.in_use.ids)} if is_reordered else {})

    # ---- changes

    def added(self, name: str, color: str | None = None, *, takes_over: bool = False) -> ProjectClasses:
        """With a new class at the end. A removed class of this name comes back instead.

        Parameters
        ----------
        color : "#rrggbb"; None for the first colour of the palette that is free
        takes_over : the name may be a former name of another class, which then loses it
        """
        freed = self._with_free_name(name, None, takes_over)
        for gone in self.removed:
            if plain(gone.name) == plain(name):
                return freed.revived([gone.id])._with(gone.id, lambda c: replace(c, color=color or c.color))
        (class_id,) = self.unused_ids(1)
        color = color or free_color([instrument.color for instrument in self.in_use])
        return freed._appended([InstrumentClass(class_id, name.strip(), color)])

    def renamed(self, class_id: int, name: str, *, takes_over: bool = False) -> ProjectClasses:
        """With another name for a class, which remembers the old one."""
        before = self.in_use.by_id(class_id)
        if before.name == name.strip():
            return self
        freed = self._with_free_name(name, class_id, takes_over)

        def rename(instrument: InstrumentClass) -> InstrumentClass:
            former = (instrument.name, *instrument.former_names)
            return replace(instrument, name=name.strip(), former_names=tuple(n for n in former if plain(n) != plain(name)))

        return freed._with(class_id, rename)

    def recoloured(self, class_id: int, color: str) -> ProjectClasses:
        """With another colour, "#rrggbb", for a class."""
        self.in_use.by_id(class_id)
        return self._with(class_id, lambda instrument: replace(instrument, color=color))

    def reordered(self, class_ids: Sequence[int]) -> ProjectClasses:
        """With the classes in another order."""
        if sorted(class_ids) != sorted(self.in_use.ids):
            raise ClassSetError(
                f"An order needs each class of this project once ({self.in_use.ids}); got {tuple(class_ids)}. "
                "Name all of them."
            )
        return self._using([self.in_use.by_id(class_id) for class_id in class_ids])

    def without(self, class_id: int) -> ProjectClasses:
        """Without a class; the caller checks that nothing is labelled with it."""
        gone = self.in_use.by_id(class_id)
        if len(self.in_use) == 1:
            raise ClassSetError(f"A project needs a class, and {gone.name} is its only one. Rename it instead.")
        kept = self._using([instrument for instrument in self.in_use if instrument.id != class_id])
        return replace(kept, removed=(*self.removed, replace(gone, parts=())))

    def returned_to(self, before: ProjectClasses) -> ProjectClasses:
        """As they were; classes that were added since are removed."""
        added = tuple(c for c in (*self.removed, *self.in_use) if c.id not in before.columns)
        parts = before.parts
        if self.parts is not None and parts is not None:
            parts = self.parts.returned_to(parts)
        return replace(before, columns=self.columns, removed=(*before.removed, *added), parts=parts)

    def revived(self, class_ids: Collection[int]) -> ProjectClasses:
        """With removed classes back at the end; one whose name is taken by now gets its id behind the name."""
        back = [instrument for instrument in self.removed if instrument.id in class_ids]
        names = {plain(name) for name in self.in_use.names}
        named = [replace(c, name=f"{c.name} {c.id}") if plain(c.name) in names else c for c in back]
        kept = tuple(instrument for instrument in self.removed if instrument not in back)
        return replace(self._using([*self.in_use, *named]), removed=kept)

    def extended(self, classes: ClassSet) -> ProjectClasses:
        """With the new classes of a class set, and its colours; a class that was renamed keeps its new name."""
        _check_extends(self.in_use, classes)
        taken = {instrument.id: instrument for instrument in self.removed}
        back = [c.id for c in classes if c.id in taken and plain(taken[c.id].name) == plain(c.name)]
        if back:
            return self.revived(back).extended(classes)
        for instrument in classes:
            if instrument.id in taken:
                raise ClassSetError(
                    f"The id {instrument.id} of {instrument.name} in {classes.name} belonged to "
                    f"{taken[instrument.id].name}, which was removed from this project. Give the class another id."
                )
        colors = {instrument.id: instrument.color for instrument in classes}
        recoloured = self._using([replace(c, color=colors.get(c.id, c.color)) for c in self.in_use])
        new = [instrument for instrument in classes if instrument.id not in self.in_use.ids]
        if not new and recoloured == self:
            return self._with_parts_like(classes)
        extended = recoloured._appended([replace(instrument, parts=()) for instrument in new])
        return replace(extended, in_use=replace(extended.in_use, name=classes.name))._with_parts_like(classes)

    def joined_by(self, classes: Sequence[InstrumentClass]) -> ProjectClasses:
        """With classes that have ids of their own already."""
        return self._appended(classes) if classes else self

    def unused_ids(self, count: int) -> tuple[int, ...]:
        """Ids for new classes: after all ids that this project has ever used, so that none stands for two classes."""
        first = max(self.columns) + 1
        if first + count - 1 > LARGEST_CLASS_ID:
            raise ClassSetError(
                f"{self.in_use.name} uses class ids up to {first - 1}, so {count} new classes do not fit below "
                f"{LARGEST_CLASS_ID}. Use a project with smaller class ids."
            )
        return tuple(range(first, first + count))

    # ---- the parts of classes

    def part_added(
        self, name: str, class_ids: Collection[int] | None = None, color: str | None = None, *, takes_over: bool = False
    ) -> ProjectClasses:
        """With a part for these classes; a part that other classes have already is the same part.

        Parameters
        ----------
        class_ids : by default the classes that have parts; if there are none, all classes
        color, takes_over : as for `added`
        """
        with_parts = [instrument.id for instrument in self.in_use if instrument.parts]
        chosen = (with_parts or self.in_use.ids) if class_ids is None else [self.in_use.by_id(i).id for i in class_ids]
        known = None if self.parts is None else self.parts.in_use.find(name)
        if known is not None and plain(known.name) == plain(name):
            parts, part_id = self.parts, known.id
        else:
            parts = _first_part(name, color) if self.parts is None else self.parts.added(name, color, takes_over=takes_over)
            part_id = parts.in_use.by_name(name).id
        ids = {c.id: (*c.parts, part_id) if c.id in chosen and part_id not in c.parts else c.parts for c in self.in_use}
        return self.with_part_set(parts, ids)

    def with_parts(self, change: Callable[[ProjectClasses], ProjectClasses]) -> ProjectClasses:
        """With parts that a method of `ProjectClasses` changed: `with_parts(lambda parts: parts.renamed(2, "Tip"))`."""
        if self.parts is None:
            raise ClassSetError(f"{self.in_use.name} has no parts. Give its classes parts first: Edit classes… > Parts.")
        return self.with_part_set(change(self.parts))

    def with_shown_parts(self, change: Callable[[ProjectClasses], ProjectClasses]) -> ProjectClasses:
        """As `with_parts`; a part that is new is for all classes that have parts."""
        known = () if self.parts is None else self.parts.in_use.ids
        changed = self.with_parts(change)
        assert changed.parts is not None
        for part in changed.parts.in_use:
            changed = changed if part.id in known else changed.part_added(part.name)
        return changed

    def without_part(self, part_id: int) -> ProjectClasses:
        """Without a part, for all classes; the caller checks that nothing is labelled with it."""
        is_last = self.parts is not None and self.parts.in_use.ids == (part_id,)
        return self.with_part_set(None) if is_last else self.with_parts(lambda parts: parts.without(part_id))

    def with_parts_of(self, class_id: int, part_ids: Collection[int]) -> ProjectClasses:
        """With these parts for a class, out of the parts of the project."""
        self.in_use.by_id(class_id)
        known = () if self.in_use.parts is None else self.in_use.parts.ids
        if unknown := set(part_ids) - set(known):
            raise ClassSetError(f"No part has the id {min(unknown)}; the parts have {known}. Choose one of them, or add it.")
        return self._with(class_id, lambda c: replace(c, parts=tuple(p for p in known if p in part_ids)))

    def with_part_set(self, parts: ProjectClasses | None, ids: dict[int, tuple[int, ...]] | None = None) -> ProjectClasses:
        """With another set of parts; `ids` are the parts of each class, by default those that it had."""
        kept = () if parts is None else parts.in_use.ids
        named = {c.id: c.parts for c in self.in_use} if ids is None else ids
        classes = tuple(replace(c, parts=tuple(p for p in kept if p in named[c.id])) for c in self.in_use)
        in_use = replace(self.in_use, classes=classes, parts=None if parts is None else parts.in_use)
        return replace(self, in_use=in_use, parts=parts)

    def _with_parts_like(self, classes: ClassSet) -> ProjectClasses:
        """With the parts that the classes of a class set have; parts that classes have already stay."""
        if classes.parts is None:
            return self
        changed = self
        if self.parts is None:
            changed = self.with_part_set(ProjectClasses.of(classes.parts))
        for part in classes.parts:
            having = [c.id for c in classes if part.id in c.parts]
            changed = changed.part_added(part.name, having, part.color, takes_over=True)
        return changed

    # ---- pieces of the changes

    def _using(self, classes: Sequence[InstrumentClass]) -> ProjectClasses:
        return replace(self, in_use=self.in_use.having(classes))

    def _appended(self, new: Sequence[InstrumentClass]) -> ProjectClasses:
        columns = (*self.columns, *(instrument.id for instrument in new))
        return replace(self._using([*self.in_use, *new]), columns=columns)

    def _with(self, class_id: int, change: Callable[[InstrumentClass], InstrumentClass]) -> ProjectClasses:
        return self._using([change(c) if c.id == class_id else c for c in self.in_use])

    def _with_free_name(self, name: str, class_id: int | None, takes_over: bool) -> ProjectClasses:
        """Check that no other class has this name; one that had it loses it, if `takes_over`."""
        if not name.strip():
            raise ClassSetError("A class needs a name; got an empty one. Enter a name.")
        holder = self.in_use.find(name)
        if holder is None or holder.id == class_id:
            return self
        if plain(holder.name) == plain(name):
            raise ClassSetError(f"This project has a class {holder.name} already. Choose another name.")
        if not takes_over:
            raise FormerNameError(
                f"{name.strip()} is an earlier name of {holder.name}: checkpoints and datasets with that name mean "
                f"{holder.name}. Choose another name, or let the name mean the other class from now on "
                "(--take-over on the command line)."
            )
        former = tuple(n for n in holder.former_names if plain(n) != plain(name))
        return self._with(holder.id, lambda instrument: replace(instrument, former_names=former))


class FormerNameError(ClassSetError):
    """A name that another class had before; a person may still choose it."""


def _first_part(name: str, color: str | None) -> ProjectClasses:
    if not name.strip():
        raise ClassSetError("A part needs a name; got an empty one. Enter a name.")
    return ProjectClasses.of(ClassSet(PARTS_NAME, (InstrumentClass(1, name.strip(), color or PALETTE[0]),)))


def free_color(used: Sequence[str]) -> str:
    """The first colour of the palette that no class has; without any, the bright colour farthest from all in use."""
    taken = {color.lower() for color in used}
    free = [color for color in PALETTE if color.lower() not in taken]
    if free:
        return free[0]
    from skimage.color import rgb2lab  # here: it is seldom needed

    candidates = np.array([hsv_to_rgb(hue / 36, saturation, 1.0) for hue in range(36) for saturation in (0.45, 0.8)])
    present = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in taken]) / 255
    distances = np.linalg.norm(rgb2lab(candidates)[:, None] - rgb2lab(present)[None], axis=-1)
    red, green, blue = np.rint(255 * candidates[distances.min(axis=1).argmax()]).astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"


def _check_extends(present: ClassSet, classes: ClassSet) -> None:
    """A ClassSetError if the two sets contradict each other."""
    for c in classes:
        known = present.find(c.name)
        if known is not None and known.id != c.id:
            raise ClassSetError(
                f"{c.name} has the id {known.id} in this project and {c.id} in {classes.name}. "
                "Give it the project's id, or start another project."
            )
        if known is None and c.id in present.ids:
            raise ClassSetError(
                f"The id {c.id} means {present.by_id(c.id).name} in this project and {c.name} in {classes.name}. "
                "Give the class another id, or start another project."
            )
