"""The SurgicalSAM authors' processed EndoVis folders as training data: masks and SAM's embeddings, without pictures.

::

    <root>/train/<version>/binary_annotations/<sequence>/<frame>_class<c>.png     EndoVis 2018; 0 and 255
    <root>/train/<version>/sam_features_h/<sequence>/<frame>.npy                  (64, 64, 256)
    <root>/train/<version>/class_embeddings_h/<sequence>/<frame>_class<c>.npy     (256,); computed if not there
    <root>/val/…                                                                  without versions
    <root>/<version>/…                                                            EndoVis 2017, sequences seq1 to seq8

Version 0 holds the original frames, versions 1 and up their augmented copies. A class without a mask is not in the frame.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.exchange.files import UNREADABLE, files_by_stem, folders_in, image_size, read_labels
from surgicalsam_napari.exchange.frame_names import frame_number
from surgicalsam_napari.exchange.sidecar import read_sidecar
from surgicalsam_napari.instruments import ENDOVIS2017, ENDOVIS2018, ClassSet, plain
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_training.data.source import AnnotatedFrame

LETTERS = {"vit_h": "h", "vit_l": "l", "vit_b": "b"}  # as in sam_features_h
_MASK = re.compile(r"(.+)_class(\d+)")
_2017_SEQUENCE = re.compile(r"seq_?[1-8]")


@dataclass(frozen=True)
class _Part:
    """train or val of EndoVis 2018, or all of EndoVis 2017."""

    folder: Path
    split: str | None

    def version(self, version: int) -> Path:
        """The folder that holds masks and embeddings of this version; version 0 may be the part itself."""
        numbered = self.folder / str(version)
        return numbered if version or numbered.is_dir() else self.folder

    def versions(self) -> int:
        """The number of augmented copies of each frame."""
        count = 0
        while _feature_folders(self.folder / str(count + 1)):
            count += 1
        return count


@dataclass(frozen=True)
class _FrameFiles:
    """Where a frame's files are."""

    part: _Part
    sequence: str
    stem: str


def is_processed_endovis(root: Path) -> bool:
    return bool(_parts(root))


class ProcessedEndovisSource:
    """A Source without pictures; see `Source` for the attributes."""

    notes: tuple[str, ...] = ()

    def __init__(self, root: Path, classes: ClassSet | None = None) -> None:
        self.path = root
        self.identity = f"folder {root.resolve()}"
        self.classes = _class_set(root, classes).without_parts()
        self._masks: dict[tuple[Path, str], dict[str, dict[int, Path]]] = {}
        parts = _parts(root)
        training = [part for part in parts if part.split != "validation"]
        self.versions_available: int | None = min((part.versions() for part in training), default=0)
        self._files = [files for part in parts for files in self._list(part)]
        self.frames = tuple(self._sized_frames())
        self.known = (frozenset(self.classes.ids),) * len(self.frames)
        self.present = tuple(frozenset(self._masks_of(files, 0)) for files in self._files)
        self.fingerprint = self._fingerprint()

    def _list(self, part: _Part) -> Iterator[_FrameFiles]:
        """Frames with a mask or an embedding; a frame without masks shows no instrument."""
        folder = part.version(0)
        features = _feature_folders(folder)
        names = {sequence.name for parent in (folder / "binary_annotations", *features) for sequence in folders_in(parent)}
        for sequence in sorted(names, key=lambda name: (frame_number(name) or 0, name)):
            masks = self._masks_in(folder, sequence)
            if not masks:
                raise TrainingError(
                    f"{folder / 'binary_annotations' / sequence} should hold masks like 00000_class1.png, but holds none. "
                    "Copy the authors' whole folder, or remove this sequence's embeddings."
                )
            stems = {*masks, *(stem for parent in features for stem in files_by_stem(parent / sequence, (".npy",)))}
            for stem in sorted(stems, key=lambda stem: (frame_number(stem) or 0, stem)):
                yield _FrameFiles(part, sequence, stem)

    def _sized_frames(self) -> Iterator[AnnotatedFrame]:
        sizes: dict[tuple[_Part, str], tuple[int, int]] = {}
        for example_index, files in enumerate(self._files):
            masks = self._masks_of(files, 0) or next(iter(self._masks_in(files.part.version(0), files.sequence).values()))
            key = (files.part, files.sequence)
            if self._masks_of(files, 0) or key not in sizes:  # a frame without masks has the size of its neighbours
                sizes[key] = image_size(next(iter(masks.values())))
            if sizes[key] == UNREADABLE:
                raise TrainingError(
                    f"{next(iter(masks.values()))} is damaged and cannot be read. Restore it from its source."
                )
            number = frame_number(files.stem)
            frame_index = example_index if number is None else number
            name = f"{files.sequence}/{files.stem}"
            yield AnnotatedFrame(files.sequence, frame_index, name, sizes[key], files.part.split)

    def _masks_in(self, folder: Path, sequence: str) -> dict[str, dict[int, Path]]:
        """The masks of a sequence by frame and class id; each folder is listed once."""
        if (folder, sequence) not in self._masks:
            masks: dict[str, dict[int, Path]] = {}
            for stem, path in files_by_stem(folder / "binary_annotations" / sequence, (".png",)).items():
                named = _MASK.fullmatch(stem)
                if named is None or int(named[2]) not in self.classes.ids:
                    listed = ", ".join(f"{c.id} {c.name}" for c in self.classes)
                    raise TrainingError(
                        f"{path} should be named like 00000_class1.png, with a class of {self.classes.name} ({listed}). "
                        "Rename or remove it; if the data have other classes, put a classes.json beside the folders."
                    )
                masks.setdefault(named[1], {})[int(named[2])] = path
            self._masks[folder, sequence] = masks
        return self._masks[folder, sequence]

    def _masks_of(self, files: _FrameFiles, version: int) -> dict[int, Path]:
        return self._masks_in(files.part.version(version), files.sequence).get(files.stem, {})

    def _fingerprint(self) -> str:
        """From the names and sizes of the mask files, because reading all masks takes minutes."""
        digest = hashlib.sha256(repr([(c.id, c.name) for c in self.classes]).encode())
        for files, frame in zip(self._files, self.frames, strict=True):
            lengths = {class_id: path.stat().st_size for class_id, path in sorted(self._masks_of(files, 0).items())}
            digest.update(f"{frame.name} {frame.split} {lengths}\n".encode())
        return digest.hexdigest()[:32]

    def label_map(self, example_index: int, version: int) -> np.ndarray:
        self._check_version(example_index, version)
        label_map: np.ndarray | None = None if version else np.zeros(self.frames[example_index].size, np.uint8)
        for class_id, path in sorted(self._masks_of(self._files[example_index], version).items()):
            mask = read_labels(path, str(path)) > 0
            label_map = np.zeros(mask.shape, np.uint8) if label_map is None else label_map
            if mask.shape != label_map.shape:
                raise TrainingError(
                    f"{path} has {mask.shape[1]} x {mask.shape[0]} pixels, but the other masks of the frame have "
                    f"{label_map.shape[1]} x {label_map.shape[0]}. Restore it from its source."
                )
            label_map[mask] = class_id
        return np.zeros(self.frames[example_index].size, np.uint8) if label_map is None else label_map

    def image(self, example_index: int) -> None:
        return None

    def rng(self, example_index: int, version: int) -> np.random.Generator:
        raise TrainingError(
            f"{self.path} holds no pictures, so augmented copies cannot be made. Use the authors' copies "
            "(augmentation: offline), or none (augmented_versions: 0)."
        )

    def missing_embeddings(self, example_indices: Sequence[int], version: int, model: SurgicalSAM) -> list[int]:
        return [
            example_index for example_index in example_indices if not self._features(example_index, version, model).is_file()
        ]

    def embed(self, example_indices: Sequence[int], version: int, model: SurgicalSAM) -> Generator[None, None, None]:
        missing = self.missing_embeddings(example_indices, version, model)
        if missing:
            raise TrainingError(
                f"{self._features(missing[0], version, model)} is missing ({len(missing)} files in total), and {self.path} "
                "has no pictures to compute it from. Copy the authors' whole folder."
            )
        yield from ()

    def embeddings(self, example_indices: Sequence[int], version: int, model: SurgicalSAM) -> np.ndarray:
        dim, height, width = model.embedding_shape
        embeddings = []
        for example_index in example_indices:
            path = self._features(example_index, version, model)
            features = _array(path)
            if features.shape != (height, width, dim):
                raise TrainingError(
                    f"{path} should have the shape {(height, width, dim)} of {model.encoder_id}; it has "
                    f"{features.shape}. Choose the encoder that made it."
                )
            embeddings.append(features.transpose(2, 0, 1))
        return np.stack(embeddings) if embeddings else np.empty((0, dim, height, width), np.float32)

    def stored_class_embedding(
        self, example_index: int, version: int, class_id: int, model: SurgicalSAM
    ) -> np.ndarray | None:
        features = self._features(example_index, version, model)
        letter = LETTERS[model.encoder_id]
        folder = features.parents[1].with_name(f"class_embeddings_{letter}")
        path = folder / features.parent.name / f"{features.stem}_class{class_id}.npy"
        if not path.is_file():
            return None
        stored = _array(path)
        if stored.shape != (model.decoder_dim,):
            raise TrainingError(
                f"{path} should have the shape {(model.decoder_dim,)}; it has {stored.shape}. Restore it from its source, "
                "or remove the folder: class embeddings are computed then."
            )
        return stored

    def _features(self, example_index: int, version: int, model: SurgicalSAM) -> Path:
        self._check_version(example_index, version)
        files = self._files[example_index]
        folder = files.part.version(version)
        letter = LETTERS.get(model.encoder_id)
        if letter is None or not (folder / f"sam_features_{letter}").is_dir():
            available = [parent.name for parent in _feature_folders(folder)]
            raise TrainingError(
                f"{folder} holds {', '.join(available) or 'no embeddings'}, but {model.name} needs those of "
                f"{model.encoder_id}. Start from an encoder whose embeddings exist (vit_h for sam_features_h), or train on "
                "pictures."
            )
        return folder / f"sam_features_{letter}" / files.sequence / f"{files.stem}.npy"

    def _check_version(self, example_index: int, version: int) -> None:
        if version and (version > (self.versions_available or 0) or self.frames[example_index].split == "validation"):
            raise TrainingError(
                f"{self.path} holds {self.versions_available} augmented copies of its training frames, but copy {version} "
                f"of {self.frames[example_index].name} is needed. Train with fewer augmentations (--augmented-versions)."
            )

    def release(self) -> None:
        pass

    def close(self) -> None:
        pass


def _array(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise TrainingError(f"{path} is missing. Copy the authors' whole folder.") from error
    except (OSError, ValueError, EOFError) as error:
        raise TrainingError(f"{path} is damaged and cannot be read. Restore it from its source.") from error


def _feature_folders(folder: Path) -> list[Path]:
    folders = [folder / f"sam_features_{letter}" for letter in LETTERS.values()]
    return [features for features in folders if features.is_dir()]


def _parts(root: Path) -> list[_Part]:
    """train and val, or the folder itself; only those with embeddings."""
    candidates = [_Part(root / "train", "train"), _Part(root / "val", "validation"), _Part(root, None)]
    return [part for part in candidates if _feature_folders(part.version(0))]


def _class_set(root: Path, given: ClassSet | None) -> ClassSet:
    """From a classes.json, the given set, the folder's name, or its structure: 2018 has train and val, 2017 seq1 to seq8."""
    sidecar = read_sidecar(root)
    if sidecar is not None:
        return sidecar.classes
    named = class_set_of(root, given)
    if named is not None:
        return named
    parts = _parts(root)
    if {part.split for part in parts} >= {"train", "validation"}:
        return ENDOVIS2018
    sequences = [folder.name for part in parts for folder in folders_in(part.version(0) / "binary_annotations")]
    if parts[0].split is None and sequences and all(_2017_SEQUENCE.fullmatch(name) for name in sequences):
        return ENDOVIS2017
    raise TrainingError(unnamed_classes_message(root))


def class_set_of(path: Path, given: ClassSet | None) -> ClassSet | None:
    """The class set of a dataset with class numbers: the given one, or that of its year if the folder's name says it.

    If the given names are some of the year's, they only choose classes: the numbers are those of the year.
    """
    named = class_set_by_name(path)
    if named is not None and (given is None or set(map(plain, given.names)) <= set(map(plain, named.names))):
        return named
    return given


def class_set_by_name(path: Path) -> ClassSet | None:
    """EndoVis 2017 or 2018, if the folder's name says which."""
    matching = [classes for year, classes in (("2017", ENDOVIS2017), ("2018", ENDOVIS2018)) if year in path.name]
    return matching[0] if len(matching) == 1 else None


def unnamed_classes_message(path: Path) -> str:
    return (
        f"{path} numbers its classes but does not name them. The same number means different tools in EndoVis 2017 and "
        "2018. Give its class set (--classes on the command line), rename the folder so that its name contains 2017 or "
        "2018, or put a classes.json with ids and names into it."
    )
