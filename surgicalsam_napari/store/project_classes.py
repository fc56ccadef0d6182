"""The classes of a project: those in use, in the order of the window, and the columns of its tables."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from colorsys import hsv_to_rgb
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from surgicalsam_napari.errors import ClassSetError
from surgicalsam_napari.instruments import LARGEST_CLASS_ID, PALETTE, ClassSet, InstrumentClass, plain


@dataclass(frozen=True)
class ProjectClasses:
    """Each class keeps its id and its column for ever: labels, history and snapshots refer to them. All else may change.

    The methods return the changed classes. They raise a ClassSetError with a remedy if the change is not possible.

    Attributes
    ----------
    in_use : in the order in which they are shown
    columns : the class id of each column of the tables; it only grows
    removed : classes that are no longer shown; nothing is labelled with them
    """

    in_use: ClassSet
    columns: tuple[int, ...]
    removed: tuple[InstrumentClass, ...] = ()

    @classmethod
    def of(cls, classes: ClassSet) -> ProjectClasses:
        """The classes of a new project."""
        return cls(classes, classes.ids)

    @classmethod
    def from_json(cls, record: Any) -> ProjectClasses:
        """The inverse of `to_json`; also reads the plain class set of an earlier version."""
        entries = record.get("classes") if isinstance(record, dict) else None
        if not isinstance(entries, list):
            return cls.of(ClassSet.from_json(record))  # raises the error
        removed_entries = [entry for entry in entries if isinstance(entry, dict) and entry.get("removed")]
        kept = ClassSet.from_json({**record, "classes": [entry for entry in entries if entry not in removed_entries]})
        removed = tuple(c for entry in removed_entries for c in ClassSet.from_json({"classes": [entry]}))
        columns = tuple(entry["id"] for entry in entries)
        if len(set(columns)) < len(columns):
            raise ClassSetError(f"Each class id of {kept.name} must occur once; got {columns}.")
        order = record.get("order", [])
        if not isinstance(order, list):
            raise ClassSetError(f"The order of {kept.name} must be a list of class ids; got {order!r}.")
        places = {class_id: place for place, class_id in enumerate(order)}
        shown = sorted(kept, key=lambda instrument: places.get(instrument.id, len(places)))
        return cls(replace(kept, classes=tuple(shown)), columns, removed)

    def to_json(self) -> dict:
        """A plain dict: a class set with the classes in the order of the columns, and the order in which they are shown."""
        by_id = {instrument.id: instrument.to_json() for instrument in self.in_use}
        by_id |= {instrument.id: {**instrument.to_json(), "removed": True} for instrument in self.removed}
        record = {"name": self.in_use.name, "classes": [by_id[class_id] for class_id in self.columns]}
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
        return replace(kept, removed=(*self.removed, gone))

    def returned_to(self, before: ProjectClasses) -> ProjectClasses:
        """As they were; classes that were added since are removed."""
        added = tuple(c for c in (*self.removed, *self.in_use) if c.id not in before.columns)
        return replace(before, columns=self.columns, removed=(*before.removed, *added))

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
            return self
        extended = recoloured._appended(new)
        return replace(extended, in_use=replace(extended.in_use, name=classes.name))

    def unused_ids(self, count: int) -> tuple[int, ...]:
        """Ids for new classes: after all ids that this project has ever used, so that none stands for two classes."""
        first = max(self.columns) + 1
        if first + count - 1 > LARGEST_CLASS_ID:
            raise ClassSetError(
                f"{self.in_use.name} uses class ids up to {first - 1}, so {count} new classes do not fit below "
                f"{LARGEST_CLASS_ID}. Use a project with smaller class ids."
            )
        return tuple(range(first, first + count))

    # ---- parts of the changes

    def _using(self, classes: Sequence[InstrumentClass]) -> ProjectClasses:
        return replace(self, in_use=ClassSet(self.in_use.name, tuple(classes)))

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
