"""All training data of a run, as one list of frames and one class set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import numpy as np

from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.instruments import ClassSet, plain
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_training.data.augment import Augmentation
from surgicalsam_training.data.naming import common_classes, ids_to_common, unique_sequences
from surgicalsam_training.data.opening import DatasetOptions, open_sources
from surgicalsam_training.data.project_source import ProjectSource
from surgicalsam_training.data.source import AnnotatedFrame, Source

__all__ = ["AnnotatedFrame", "DatasetOptions", "TrainingData", "open_training_data"]


class TrainingData:
    """Annotated frames of one or more sources; made by `open_training_data`.

    Examples are addressed by their index in `frames`, classes by their ids in `classes`. Version 0 of a frame is the
    original frame, versions from 1 are its augmented copies. Pictures, embeddings and the authors' masks are read on demand.

    Attributes
    ----------
    versions_available : number of augmented copies per frame, if the data bring their own; None if they are made
    """

    def __init__(
        self,
        sources: Sequence[Source],
        base: ClassSet | None,
        classes: Sequence[str] | None,
        ignored_classes: Sequence[str],
    ) -> None:
        self._sources = tuple(sources)
        self.classes = common_classes(sources, base, classes, ignored_classes)
        self._lookups: list[np.ndarray] = []  # by source, (256,) uint8: source class id -> common class id, 0 if not trained
        frames, known, present, origins = [], [], [], []
        for source_index, (source, named) in enumerate(zip(sources, unique_sequences(sources), strict=True)):
            ids = ids_to_common(source, self.classes, classes, ignored_classes)
            lookup = np.zeros(256, np.uint8)
            lookup[list(ids)] = list(ids.values())
            self._lookups.append(lookup)
            for index_in_source, frame in enumerate(named):
                known_ids = frozenset(ids[class_id] for class_id in source.known[index_in_source] if class_id in ids)
                if not known_ids:
                    continue
                shown = {ids[class_id] for class_id in source.present[index_in_source] if class_id in ids}
                frames.append(frame)
                known.append(known_ids)
                present.append(tuple(sorted(shown & known_ids)))
                origins.append((source_index, index_in_source))
        self.frames: tuple[AnnotatedFrame, ...] = tuple(frames)
        self._known, self._present, self._origins = known, present, origins
        available = [source.versions_available for source in sources if source.versions_available is not None]
        self.versions_available: int | None = min(available, default=None)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the sources left out, as sentences for the user."""
        return tuple(note for source in self._sources for note in source.notes)

    @property
    def annotated_class_ids(self) -> frozenset[int]:
        """The classes whose presence or absence is certain in some frame."""
        return frozenset().union(*self._known)

    @property
    def shown_class_ids(self) -> frozenset[int]:
        """The classes that some frame shows."""
        return frozenset(class_id for present in self._present for class_id in present)

    @property
    def named_classes(self) -> tuple[str, ...]:
        """The names of all classes in the class sets of the sources, whether or not a frame shows them."""
        return tuple(dict.fromkeys(instrument.name for source in self._sources for instrument in source.classes))

    def only(self, names: Sequence[str], base: ClassSet | None = None) -> TrainingData:
        """The same data with these classes alone, by name; other classes are background. Both share their sources.

        Parameters
        ----------
        base : the class set whose ids are kept; None for that of the first source

        Raises
        ------
        TrainingError
            no frame has labels of these classes
        """
        wanted = set(map(plain, names))
        others = [name for name in self.named_classes if plain(name) not in wanted]
        data = TrainingData(self._sources, base, None, others)
        if not data.frames:
            raise TrainingError(f"No corrected frame has labels of {', '.join(names)}. Choose classes that the data have.")
        return data

    def label_map(self, example_index: int, version: int = 0) -> np.ndarray:
        """(H, W) uint8, ids of `classes`; ignored classes are background."""
        source, index_in_source = self._at(example_index)
        return self._lookups[self._origins[example_index][0]][source.label_map(index_in_source, version)]

    def known_class_ids(self, example_index: int) -> frozenset[int]:
        """The classes whose presence or absence in the frame is certain."""
        return self._known[example_index]

    def present_class_ids(self, example_index: int) -> tuple[int, ...]:
        """The known classes that have pixels in the original frame."""
        return self._present[example_index]

    def image(self, example_index: int) -> np.ndarray | None:
        """(H, W, 3) uint8 RGB; None if there are only embeddings."""
        source, index_in_source = self._at(example_index)
        return source.image(index_in_source)

    def missing_embeddings(self, example_indices: Sequence[int], version: int, model: SurgicalSAM) -> list[int]:
        """The frames that have no embedding by the model's encoder yet."""
        missing: set[int] = set()
        for source, group in self._by_source(example_indices):
            by_index_in_source = {self._origins[example_index][1]: example_index for example_index in group}
            missing_in_source = source.missing_embeddings(list(by_index_in_source), version, model)
            missing.update(by_index_in_source[index_in_source] for index_in_source in missing_in_source)
        return [example_index for example_index in example_indices if example_index in missing]

    def embed(self, example_indices: Sequence[int], version: int, model: SurgicalSAM) -> Generator[int, None, None]:
        """Compute and store the missing embeddings; may be stopped and started again at any time.

        Yields
        ------
        the number of finished frames, after each

        Raises
        ------
        CheckpointError, DiskSpaceError, TrainingError
            before the computation for a source: no image encoder, no disk space, or no pictures
        ProjectError, VideoError, DeviceError, WorkFailed
            embeddings computed so far are kept
        """
        done = 0
        for source, group in self._by_source(example_indices):
            for _ in source.embed([self._origins[example_index][1] for example_index in group], version, model):
                done += 1
                yield done

    def embeddings(self, example_indices: Sequence[int], version: int, model: SurgicalSAM) -> np.ndarray:
        """The embeddings of some frames.

        Returns
        -------
        (B, D, h, w) float16

        Raises
        ------
        TrainingError, ProjectError
            an embedding is missing or damaged
        """
        gathered = np.empty((len(example_indices), *model.embedding_shape), np.float16)
        rows: dict[int, list[int]] = {}
        for row, example_index in enumerate(example_indices):
            rows.setdefault(example_index, []).append(row)
        for source, group in self._by_source(list(rows)):
            embeddings = source.embeddings([self._origins[example_index][1] for example_index in group], version, model)
            for example_index, embedding in zip(group, embeddings, strict=True):
                gathered[rows[example_index]] = embedding
        return gathered

    def augmented_online(self, example_index: int, version: int, model: SurgicalSAM) -> tuple[np.ndarray, np.ndarray]:
        """An augmented copy, embedded now and not stored.

        Parameters
        ----------
        version : any number from 1

        Returns
        -------
        (D, h, w) float16, (H, W) uint8
        """
        source, index_in_source = self._at(example_index)
        augmentation = Augmentation.draw(source.rng(index_in_source, version))
        image = source.image(index_in_source)
        assert image is not None  # a source without pictures has raised in rng
        embedding = model.embed([augmentation.image(image)])[0]
        return embedding, augmentation.labels(self.label_map(example_index))

    def fingerprints(self) -> dict[str, str]:
        """Fingerprints by source name; they change with the labels, the classes and the frame names."""
        names = Counter(source.path.name for source in self._sources)
        return {
            source.path.name if names[source.path.name] == 1 else str(source.path): source.fingerprint
            for source in self._sources
        }

    def counts(self) -> dict[str, dict[str, int]]:
        """The number of frames that show a class, by video or sequence and by class name."""
        counts: dict[str, dict[str, int]] = {}
        for frame, present in zip(self.frames, self._present, strict=True):
            row = counts.setdefault(frame.sequence, {})
            for class_id in present:
                name = self.classes.by_id(class_id).name
                row[name] = row.get(name, 0) + 1
        return counts

    def close(self) -> None:
        for source in self._sources:
            source.close()

    def _at(self, example_index: int) -> tuple[Source, int]:
        source_index, index_in_source = self._origins[example_index]
        return self._sources[source_index], index_in_source

    def _by_source(self, example_indices: Sequence[int]) -> Iterator[tuple[Source, list[int]]]:
        groups: dict[int, list[int]] = {}
        for example_index in example_indices:
            groups.setdefault(self._origins[example_index][0], []).append(example_index)
        for source_index in sorted(groups):
            yield self._sources[source_index], groups[source_index]


def open_training_data(
    paths: Sequence[Path],
    *,
    base: ClassSet | None,
    trust: str = "frame",
    classes: Sequence[str] | None = None,
    ignored_classes: Sequence[str] = (),
    seed: int = 666,
    datasets: DatasetOptions | None = None,
) -> TrainingData:
    """Open projects, datasets and the authors' processed folders, and read their labels once.

    Parameters
    ----------
    base : the classes of the model to tune, which keep their ids; None takes those of the first source
    trust : "frame": all predicted, edited and verified classes of a corrected frame are correct; "class": only the edited or
        verified ones
    classes : names to train; None for all
    ignored_classes : names that count as background
    seed : of the augmented copies
    datasets : how to read datasets

    Raises
    ------
    TrainingError, ProjectError, ExchangeError
        the data cannot be read, are given twice, show a class that is not in `classes`, or have no corrected frame
    """
    sources = open_sources(paths, trust, seed, datasets or DatasetOptions())
    try:
        if not any(source.frames for source in sources):
            raise TrainingError(_nothing_corrected(sources))
        data = TrainingData(sources, base, classes, ignored_classes)
        if not data.frames:
            raise TrainingError(
                "No corrected frame has labels of a class to train. Change classes or ignored_classes, or "
                "correct frames that show these instruments."
            )
        return data
    except BaseException:
        for source in sources:
            source.close()
        raise


def _nothing_corrected(sources: Sequence[Source]) -> str:
    names = ", ".join(source.path.name for source in sources)
    how = (
        "correct some with the brush in the window, or verify correct predictions"
        if any(isinstance(source, ProjectSource) for source in sources)
        else "annotate some"
    )
    return f"No frame of {names} was edited or verified, but training needs such frames: {how}."
