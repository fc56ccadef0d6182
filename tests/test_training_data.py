"""Training data: projects, exported datasets and the authors' folders behind one list of frames."""

from __future__ import annotations

import json
import os
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from surgicalsam_napari.errors import CheckpointError, DiskSpaceError, ExchangeError, ProjectError, TrainingError, VideoError
from surgicalsam_napari.exchange.exporting import export_frames
from surgicalsam_napari.instruments import ENDOVIS2017, ENDOVIS2018, ClassSet, InstrumentClass
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.surgical_sam import FramePrediction, SurgicalSAM
from surgicalsam_napari.phantom import write_phantom_clip
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.corrections import corrected_frames
from surgicalsam_napari.video import VideoReader, write_video
from surgicalsam_training.data import pictured
from surgicalsam_training.data.augment import augmentation_digest
from surgicalsam_training.data.training_data import DatasetOptions, TrainingData, open_training_data

Open = Callable[..., TrainingData]
CORRECTED = (0, 3, 4, 9)


def class_set(*names: str) -> ClassSet:
    return ClassSet("small set", tuple(InstrumentClass(k + 1, name, "#102030") for k, name in enumerate(names)))


def exact_labels(video: Path, frame_index: int) -> np.ndarray:
    return np.asarray(Image.open(video.with_name(f"{video.stem}_labels") / f"frame{frame_index:05d}.png"))


def corrected_project(video: Path, frames: tuple[int, ...] = CORRECTED, classes: ClassSet = ENDOVIS2018) -> Path:
    with Project.create(Project.default_folder(video), VideoReader(video), classes) as project:
        for frame_index in frames:
            exact = exact_labels(video, frame_index)
            project.labels[frame_index] = np.where(np.isin(exact, classes.ids), exact, 0)
            project.labels.verify(frame_index)
    return project.folder


@pytest.fixture
def video(phantom_clip: Path, tmp_path: Path) -> Path:
    shutil.copytree(phantom_clip.parent, tmp_path / "case")
    return tmp_path / "case" / phantom_clip.name


@pytest.fixture
def project_folder(video: Path) -> Path:
    return corrected_project(video)


@pytest.fixture(scope="module")
def other_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom_clip(tmp_path_factory.mktemp("other"), size=(96, 128), frame_count=6, seed=5)


@pytest.fixture
def opened() -> Iterator[Open]:
    """open_training_data, closed at the end."""
    made: list[TrainingData] = []

    def open_data(*paths: Path, base: ClassSet | None = ENDOVIS2018, **options: Any) -> TrainingData:
        made.append(open_training_data(paths, base=base, **options))
        return made[-1]

    yield open_data
    for data in made:
        data.close()


def exported(project_folder: Path, out: Path, format: str = "endovis", images: bool = True) -> Path:
    with Project.open(project_folder) as project:
        for _ in export_frames(project, corrected_frames(project), out, format, images=images):
            pass
    return out


# Projects ------------------------------------------------------------------------------------------------------------


def test_a_project_gives_the_frames_that_a_person_corrected(video: Path, project_folder: Path, opened: Open) -> None:
    data = opened(project_folder)
    assert [frame.frame_index for frame in data.frames] == list(CORRECTED)
    assert data.frames[1].name == f"{video.stem}/frame_00003"
    assert {(frame.sequence, frame.size, frame.split) for frame in data.frames} == {(video.stem, (96, 128), None)}
    assert data.classes == ENDOVIS2018
    assert data.versions_available is None
    for example_index, frame_index in enumerate(CORRECTED):
        labels = exact_labels(video, frame_index)
        np.testing.assert_array_equal(data.label_map(example_index), labels)
        assert data.present_class_ids(example_index) == tuple(np.unique(labels)[1:].tolist())
        assert data.known_class_ids(example_index) == set(ENDOVIS2018.ids)
        with VideoReader(video) as reader:
            np.testing.assert_array_equal(data.image(example_index), reader.frame(frame_index))


def test_the_path_of_a_video_opens_its_project(video: Path, project_folder: Path, opened: Open) -> None:
    assert len(opened(video).frames) == len(CORRECTED)


def test_labels_stay_as_they_were_when_the_training_began(project_folder: Path, opened: Open) -> None:
    data = opened(project_folder)
    before = data.label_map(0).copy()
    with Project.open(project_folder) as project:
        project.labels.unlock(0)
        project.labels[0, :40] = 7
    np.testing.assert_array_equal(data.label_map(0), before)
    assert opened(project_folder).fingerprints() != data.fingerprints()


@pytest.mark.parametrize(("trust", "known"), [("frame", {1, 2, 3}), ("class", {3})])
def test_trust_decides_which_classes_of_a_frame_are_known(video: Path, opened: Open, trust: str, known: set[int]) -> None:
    prediction = FramePrediction(
        (1, 2),
        np.ones((96, 128), np.uint8),
        np.array([0.9, 0.1]),
        np.array([0.9, 0.1]),
        np.array([True, False]),
        np.zeros(2),
    )
    with Project.create(Project.default_folder(video), VideoReader(video), ENDOVIS2018) as project:
        for frame_index in (2, 5):
            project.labels.write_prediction(frame_index, prediction)
        project.labels.verify(5, [3])
        project.labels.verify(7, [4])
    data = opened(video, trust=trust)
    assert [frame.frame_index for frame in data.frames] == [5, 7]
    assert data.known_class_ids(0) == known
    assert set(data.present_class_ids(0)) <= known
    assert data.known_class_ids(1) == {4}
    assert data.present_class_ids(1) == ()


def test_a_project_without_corrections_is_an_error_with_a_remedy(video: Path, opened: Open) -> None:
    Project.create(Project.default_folder(video), VideoReader(video), ENDOVIS2018).close()
    with pytest.raises(TrainingError, match=r"No frame of .*\.surgicalsam was edited or verified.*brush.*or verify"):
        opened(video)


def test_labels_are_enough_if_the_video_is_missing(video: Path, project_folder: Path, opened: Open) -> None:
    video.unlink()
    data = opened(project_folder)
    assert data.label_map(0).any()
    with pytest.raises(ProjectError, match="The video of"):
        data.image(0)


def test_a_damaged_label_file_is_named(project_folder: Path, opened: Open) -> None:
    (project_folder / "labels" / "c.3.0.0").write_bytes(b"nothing")
    with pytest.raises(ProjectError, match=r"Frame 3 .*c\.3\.0\.0"):
        opened(project_folder)


# Embeddings ----------------------------------------------------------------------------------------------------------


def test_embeddings_are_computed_once_and_kept_in_the_project(
    project_folder: Path, opened: Open, tiny_model: SurgicalSAM
) -> None:
    data = opened(project_folder)
    example_indices = range(len(data.frames))
    assert data.missing_embeddings(example_indices, 0, tiny_model) == list(example_indices)
    assert list(data.embed([1, 2], 0, tiny_model)) == [1, 2]
    assert data.missing_embeddings(example_indices, 0, tiny_model) == [0, 3]
    assert list(data.embed(example_indices, 0, tiny_model)) == [1, 2]
    with Project.open(project_folder) as project:
        kept = project.embeddings(tiny_model.encoder_digest, tiny_model.embedding_shape)
        assert kept.missing(CORRECTED) == []
        expected = tiny_model.embed([project.video.frame(frame_index) for frame_index in (9, 0, 9)])
        np.testing.assert_allclose(data.embeddings([3, 0, 3], 0, tiny_model), expected, atol=2e-2)


def test_augmented_copies_are_kept_by_version_and_their_labels_match(
    project_folder: Path, opened: Open, tiny_model: SurgicalSAM
) -> None:
    data = opened(project_folder)
    assert sum(1 for _ in data.embed([0, 1], 2, tiny_model)) == 2
    assert data.missing_embeddings([0, 1], 1, tiny_model) == [0, 1]
    online, labels = data.augmented_online(1, 2, tiny_model)
    np.testing.assert_allclose(data.embeddings([1], 2, tiny_model)[0], online, atol=2e-2)
    np.testing.assert_array_equal(data.label_map(1, 2), labels)
    assert not np.array_equal(labels, data.label_map(1))
    folder = project_folder / "augmented" / tiny_model.encoder_digest
    assert (folder / f"v002-{augmentation_digest(666)}").is_dir()
    assert opened(project_folder, seed=7).missing_embeddings([0], 2, tiny_model) == [0]
    with Project.open(project_folder) as project:
        assert project.embedding_stores() == []


def test_corrected_labels_still_match_copies_that_were_embedded_before(
    project_folder: Path, opened: Open, tiny_model: SurgicalSAM
) -> None:
    before = opened(project_folder)
    list(before.embed([0], 1, tiny_model))
    with Project.open(project_folder) as project:
        project.labels[0] = 0
        project.labels[0] = np.where(before.label_map(0) > 0, 7, 0)
    after = opened(project_folder)
    assert after.missing_embeddings([0], 1, tiny_model) == []
    np.testing.assert_array_equal(after.label_map(0, 1) > 0, before.label_map(0, 1) > 0)


def test_missing_embeddings_are_an_error(project_folder: Path, opened: Open, tiny_checkpoint: Path) -> None:
    model = load_checkpoint(tiny_checkpoint, device="cpu", load_image_encoder=False)
    data = opened(project_folder)
    with pytest.raises(TrainingError, match=r"frame_00003 should have an embedding by tiny, but 2 of 2 frames have none"):
        data.embeddings([1, 2], 0, model)
    with pytest.raises(CheckpointError, match="no image encoder"):
        list(data.embed([1], 0, model))


def test_a_full_disk_is_reported_before_any_computation(
    project_folder: Path, opened: Open, tiny_model: SurgicalSAM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictured, "free_bytes", lambda folder: 1000)
    with pytest.raises(DiskSpaceError, match=r"embeddings of 2 frames need .* has 1\.0 kB free.*--augmented-versions"):
        next(opened(project_folder).embed([0, 1], 1, tiny_model))


# Exported datasets ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["endovis", "indexed-png", "coco"])
def test_an_exported_dataset_gives_the_frames_of_its_project(
    video: Path, project_folder: Path, tmp_path: Path, opened: Open, tiny_model: SurgicalSAM, format: str
) -> None:
    data = opened(exported(project_folder, tmp_path / "set", format))
    project = opened(project_folder)
    assert [frame.frame_index for frame in data.frames] == list(CORRECTED)
    for example_index in range(len(CORRECTED)):
        np.testing.assert_array_equal(data.label_map(example_index), project.label_map(example_index))
        np.testing.assert_array_equal(cast(Any, data.image(example_index)), project.image(example_index))
        assert data.present_class_ids(example_index) == project.present_class_ids(example_index)
        assert data.known_class_ids(example_index) == project.known_class_ids(example_index)
    assert sum(1 for _ in data.embed([0, 2], 0, tiny_model)) == 2
    assert sum(1 for _ in data.embed([0], 1, tiny_model)) == 1
    again = opened(tmp_path / "set")
    assert again.missing_embeddings([0, 1, 2], 0, tiny_model) == [1]
    np.testing.assert_array_equal(again.embeddings([2, 0], 0, tiny_model), data.embeddings([2, 0], 0, tiny_model))
    np.testing.assert_array_equal(again.label_map(0, 1), data.label_map(0, 1))
    assert again.fingerprints() == data.fingerprints()


def test_embeddings_of_other_pictures_with_the_same_names_are_not_used(
    project_folder: Path, tmp_path: Path, opened: Open, tiny_model: SurgicalSAM
) -> None:
    out = exported(project_folder, tmp_path / "set")
    list(opened(out).embed([0], 0, tiny_model))
    picture = next((out / "images").rglob("*.png"))
    Image.fromarray(255 - np.asarray(Image.open(picture))).save(picture)
    assert opened(out).missing_embeddings([0], 0, tiny_model) == [0]


def test_a_dataset_without_pictures_cannot_be_trained_on(project_folder: Path, tmp_path: Path, opened: Open) -> None:
    with pytest.raises(TrainingError, match=r"4 frames without a picture .*Export it with images, or import it"):
        opened(exported(project_folder, tmp_path / "set", images=False))


def test_a_read_only_dataset_is_an_error_with_a_remedy(
    project_folder: Path, tmp_path: Path, opened: Open, tiny_model: SurgicalSAM, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = opened(exported(project_folder, tmp_path / "set"))
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(TrainingError, match=r"read-only\. Make it writable, or train on a copy"):
        data.missing_embeddings([0], 0, tiny_model)


def test_labels_of_another_size_than_the_frame_name_the_frame(project_folder: Path, tmp_path: Path, opened: Open) -> None:
    out = exported(project_folder, tmp_path / "set", "indexed-png")
    picture = sorted((out / "images").rglob("*.png"))[1]
    Image.open(picture).resize((64, 48)).save(picture)
    with pytest.raises(ExchangeError, match=r"00003 has labels of 128 x 96 pixels for a picture of 64 x 48"):
        opened(out)


def test_a_dataset_that_names_no_classes_asks_for_them(project_folder: Path, tmp_path: Path, opened: Open) -> None:
    out = exported(project_folder, tmp_path / "set")
    (out / "classes.json").unlink()
    with pytest.raises(TrainingError, match=r"does not name them.*contains 2017 or 2018, or put a classes\.json"):
        opened(out)
    out.rename(tmp_path / "set_2018")
    assert opened(tmp_path / "set_2018").classes == ENDOVIS2018


# The authors' processed folders --------------------------------------------------------------------------------------


FEATURES = np.random.default_rng(0).normal(size=(64, 64, 256)).astype(np.float16)
VIT_H = cast(SurgicalSAM, SimpleNamespace(encoder_id="vit_h", embedding_shape=(256, 64, 64), name="authors'"))


def write_processed(
    folder: Path, frames: dict[str, tuple[int, ...]], scale: float = 1, size: tuple[int, int] = (40, 50)
) -> None:
    """Frames such as "seq1/00000" with the classes that they show; each class has its own columns."""
    for name, class_ids in frames.items():
        for kind in ("binary_annotations", "sam_features_h"):
            (folder / kind / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / "sam_features_h" / f"{name}.npy", FEATURES * np.float16(scale))
        for class_id in class_ids:
            mask = np.zeros(size, np.uint8)
            mask[:, class_id * 5 : class_id * 5 + 5] = 255
            Image.fromarray(mask).save(folder / "binary_annotations" / f"{name}_class{class_id}.png")


@pytest.fixture
def processed_2018(tmp_path: Path) -> Path:
    root = tmp_path / "processed"
    write_processed(root / "train/0", {"seq1/00000": (1, 3), "seq1/00001": (1,), "seq3/00000": ()} | {"seq3/00007": (7,)})
    for version in (1, 2):
        write_processed(root / f"train/{version}", {"seq1/00000": (1,), "seq1/00001": (1,), "seq3/00007": (7,)}, 1 + version)
    write_processed(root / "val", {"seq2/00000": (2,)})
    return root


def test_the_authors_2018_folders_are_read_without_conversion(processed_2018: Path, opened: Open) -> None:
    data = opened(processed_2018, base=None)
    assert data.classes == ENDOVIS2018
    assert [frame.name for frame in data.frames] == ["seq1/00000", "seq1/00001", "seq3/00000", "seq3/00007", "seq2/00000"]
    assert [frame.split for frame in data.frames] == ["train"] * 4 + ["validation"]
    assert [data.present_class_ids(example_index) for example_index in range(5)] == [(1, 3), (1,), (), (7,), (2,)]
    assert {frame.size for frame in data.frames} == {(40, 50)}
    assert np.unique(data.label_map(0)).tolist() == [0, 1, 3]
    assert np.count_nonzero(data.label_map(0) == 3) == 200
    assert not data.label_map(2).any()
    assert data.image(0) is None
    assert data.missing_embeddings(range(5), 0, VIT_H) == []
    embeddings = data.embeddings([4, 0], 0, VIT_H)
    assert embeddings.dtype == np.float16
    np.testing.assert_array_equal(embeddings[1], FEATURES.transpose(2, 0, 1))


def test_the_authors_versions_are_their_augmented_copies(processed_2018: Path, opened: Open) -> None:
    data = opened(processed_2018, base=None)
    assert data.versions_available == 2
    assert np.unique(data.label_map(0, 2)).tolist() == [0, 1]
    np.testing.assert_array_equal(data.embeddings([0], 2, VIT_H)[0], (FEATURES * np.float16(3)).transpose(2, 0, 1))
    with pytest.raises(TrainingError, match=r"holds 2 augmented copies .* copy 3 of seq1/00000 is needed"):
        data.embeddings([0], 3, VIT_H)
    with pytest.raises(TrainingError, match="no pictures, so augmented copies cannot be made"):
        data.augmented_online(0, 1, VIT_H)


def test_the_authors_2017_folders_are_recognized_by_their_sequences(tmp_path: Path, opened: Open) -> None:
    write_processed(tmp_path / "processed/0", {"seq1/00000": (4,), "seq8/00000": (7,)})
    data = opened(tmp_path / "processed", base=None)
    assert data.classes == ENDOVIS2017
    assert data.versions_available == 0
    assert [frame.split for frame in data.frames] == [None, None]


def test_an_unclear_class_set_is_asked_for_and_can_be_given_by_the_folder_name(tmp_path: Path, opened: Open) -> None:
    write_processed(tmp_path / "processed/0", {"seq1/00000": (4,), "seq15/00000": (7,)})
    with pytest.raises(TrainingError, match="different tools in EndoVis 2017 and 2018"):
        opened(tmp_path / "processed", base=None)
    (tmp_path / "processed").rename(tmp_path / "endovis_2018")
    assert opened(tmp_path / "endovis_2018", base=None).classes == ENDOVIS2018


def test_the_authors_embeddings_fit_only_their_encoder(processed_2018: Path, opened: Open, tiny_model: SurgicalSAM) -> None:
    data = opened(processed_2018, base=None)
    with pytest.raises(TrainingError, match=r"holds sam_features_h, .* needs those of tiny"):
        data.missing_embeddings([0], 0, tiny_model)
    np.save(processed_2018 / "train/0/sam_features_h/seq1/00000.npy", FEATURES[:32])
    with pytest.raises(TrainingError, match=r"00000\.npy should have the shape \(64, 64, 256\).*\(32, 64, 256\)"):
        data.embeddings([0], 0, VIT_H)


def test_broken_files_of_the_authors_are_named(processed_2018: Path, opened: Open) -> None:
    data = opened(processed_2018, base=None)
    features = processed_2018 / "train/0/sam_features_h/seq1"
    (features / "00000.npy").write_bytes(b"cut")
    (features / "00001.npy").unlink()
    with pytest.raises(TrainingError, match=r"seq1/00000\.npy is damaged"):
        data.embeddings([0], 0, VIT_H)
    assert data.missing_embeddings([0, 1], 0, VIT_H) == [1]
    with pytest.raises(TrainingError, match=r"seq1/00001\.npy is missing .*Copy the authors' whole folder"):
        list(data.embed([0, 1], 0, VIT_H))
    Image.new("L", (9, 9)).save(processed_2018 / "train/0/binary_annotations/seq1/00000_class3.png")
    with pytest.raises(
        TrainingError, match=r"00000_class3\.png has 9 x 9 pixels, but the other masks of the frame have 50 x 40"
    ):
        data.label_map(0)
    (processed_2018 / "val/binary_annotations/seq2/00000_class2.png").write_bytes(b"cut")
    with pytest.raises(ExchangeError, match=r"00000_class2\.png is damaged"):
        data.label_map(4)


# Several sources -----------------------------------------------------------------------------------------------------


@pytest.fixture
def other_project(other_clip: Path, phantom_clip: Path, tmp_path: Path) -> Path:
    """A video of the same name as `video`, labelled with classes of other ids."""
    (tmp_path / "elsewhere").mkdir()
    video = tmp_path / "elsewhere" / phantom_clip.name
    shutil.copy(other_clip, video)
    with Project.create(
        Project.default_folder(video), VideoReader(video), class_set("Stapler", "large needle driver", "Swab")
    ) as project:
        project.labels[1, :20] = 1
        project.labels[1, 30:40] = 2
        project.labels.verify(1)
    return project.folder


def test_classes_are_matched_by_name_and_new_ones_come_last(project_folder: Path, other_project: Path, opened: Open) -> None:
    data = opened(project_folder, other_project)
    assert data.classes.names == (*ENDOVIS2018.names, "Stapler")
    assert data.classes.ids == (*ENDOVIS2018.ids, 8)
    last = len(data.frames) - 1
    assert data.present_class_ids(last) == (3, 8)
    assert data.known_class_ids(last) == {3, 8}
    assert np.count_nonzero(data.label_map(last) == 8) == 20 * 128
    assert np.count_nonzero(data.label_map(last) == 3) == 10 * 128


def test_without_a_model_the_first_source_defines_the_ids(project_folder: Path, other_project: Path, opened: Open) -> None:
    data = opened(other_project, project_folder, base=None)
    assert data.classes.names[:3] == ("Stapler", "large needle driver", "Swab")
    shown = {name for row in data.counts().values() for name in row}
    assert set(data.classes.names) == {"Swab"} | shown


def test_videos_of_one_name_are_kept_apart(video: Path, project_folder: Path, other_project: Path, opened: Open) -> None:
    data = opened(project_folder, other_project)
    assert set(data.counts()) == {f"case/{video.stem}", f"elsewhere/{video.stem}"}
    assert data.counts()[f"elsewhere/{video.stem}"] == {"Large Needle Driver": 1, "Stapler": 1}
    assert data.frames[-1].name == f"elsewhere/{video.stem}/frame_00001"
    assert len(data.fingerprints()) == 2


def test_embeddings_of_several_sources_keep_the_requested_order(
    project_folder: Path, other_project: Path, opened: Open, tiny_model: SurgicalSAM
) -> None:
    data = opened(project_folder, other_project)
    last = len(data.frames) - 1
    assert list(data.embed([0, last], 0, tiny_model)) == [1, 2]
    assert data.missing_embeddings([last, 1, 0], 0, tiny_model) == [1]
    both = data.embeddings([last, 0], 0, tiny_model)
    np.testing.assert_array_equal(both[0], data.embeddings([last], 0, tiny_model)[0])
    assert not np.array_equal(both[0], both[1])


@pytest.fixture
def many_projects(tmp_path: Path) -> list[Path]:
    """Six small videos, all called clip.mp4, with two corrected frames each."""
    folders = []
    for number in range(6):
        folder = tmp_path / f"theatre{number}"
        folder.mkdir()
        noise = np.random.default_rng(number).integers(0, 255, (3, 256, 256, 3), np.uint8)
        video = VideoReader(write_video(folder / "clip.mp4", noise))
        with Project.create(folder / "clip.surgicalsam", video, ENDOVIS2018) as project:
            project.labels[:2, 10:200, 10:200] = 1 + number
        folders.append(project.folder)
    return folders


def test_videos_of_one_name_are_compared_by_one_picture_of_each(
    many_projects: list[Path], opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers: list[VideoReader] = []
    read_frame = VideoReader.frame

    def counted(reader: VideoReader, frame_index: int) -> np.ndarray:
        readers.append(reader)
        return read_frame(reader, frame_index)

    monkeypatch.setattr(VideoReader, "frame", counted)
    data = opened(*many_projects)
    assert len(data.frames) == 2 * len(many_projects)
    assert len(readers) == len(many_projects)
    for reader in list(readers):  # none stays open with its decoded frames in memory
        with pytest.raises(VideoError, match="closed"):
            reader.frame(0)
    assert data.image(3) is not None  # it is opened again on demand


def test_projects_keep_no_label_maps_in_memory_after_reading(many_projects: list[Path], opened: Open) -> None:
    opened(many_projects[0]).close()  # late imports happen here
    tracemalloc.start()
    try:
        data = opened(*many_projects)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < len(data.frames) * 256 * 256


def test_a_class_that_is_not_trained_is_an_error_or_background(other_project: Path, opened: Open) -> None:
    with pytest.raises(TrainingError, match=r"frame_00001 .* shows Stapler, .*Add it to classes, or to ignored_classes"):
        opened(other_project, classes=["Large Needle Driver"])
    data = opened(other_project, classes=["Large Needle Driver"], ignored_classes=["stapler"])
    assert data.classes == ENDOVIS2018
    assert data.known_class_ids(0) == {3}
    assert np.unique(data.label_map(0)).tolist() == [0, 3]
    assert opened(other_project, base=None, ignored_classes=["Stapler"]).classes.names == ("large needle driver", "Swab")


def test_a_class_to_train_that_no_frame_shows_is_an_error(other_project: Path, opened: Open) -> None:
    with pytest.raises(TrainingError, match=r'"Staplr" should be trained, but no corrected frame shows it'):
        opened(other_project, classes=["Stapler", "Large Needle Driver", "Staplr"])


def test_the_same_video_twice_is_refused(video: Path, project_folder: Path, tmp_path: Path, opened: Open) -> None:
    copy = tmp_path / "copy.surgicalsam"
    shutil.copytree(project_folder, copy)
    dataset = exported(project_folder, tmp_path / "set")
    for pair in ((project_folder, video), (project_folder, copy), (dataset, project_folder), (dataset, dataset)):
        with pytest.raises(TrainingError, match="are the same video"):
            opened(*pair)


def test_paths_without_training_data_are_errors(tmp_path: Path, phantom_clip: Path, opened: Open) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match=r"is not training data\. Expected a project .* dataset .* EndoVis"):
        opened(tmp_path / "empty")
    with pytest.raises(TrainingError, match="does not exist"):
        opened(tmp_path / "nowhere")
    with pytest.raises(TrainingError, match=r"has no project beside it .*correct some frames"):
        opened(shutil.copy(phantom_clip, tmp_path / "clip.mp4"))
    with pytest.raises(TrainingError, match="A training needs data"):
        opened()


def test_the_real_frames_are_read(shared_folder: Path, opened: Open) -> None:
    data = opened(shared_folder / "data" / "endovis2018_sample", base=None)
    assert len(data.frames) == 24
    assert data.classes == ENDOVIS2018
    assert len(data.counts()) > 5
    assert all(data.label_map(example_index).shape == data.frames[example_index].size for example_index in (0, 23))


# Datasets of other tools -----------------------------------------------------------------------------------------------


def write_picture(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture
def roboflow(tmp_path: Path) -> Path:
    """Two crossing tools in frame 3, nothing in frame 5, beside their pictures."""
    tools = [[5, 5, 30, 5, 30, 20, 5, 20], [20, 5, 40, 5, 40, 35, 20, 35]]
    names = [f"clip_mp4-{number:04d}_jpg.rf.9{number}.jpg" for number in (3, 5)]
    for name in names:
        write_picture(tmp_path / "roboflow" / "train" / name, np.zeros((40, 50, 3)))
    record = {
        "images": [{"id": i, "file_name": name, "height": 40, "width": 50} for i, name in enumerate(names)],
        "categories": [{"id": 0, "name": "tools"}, {"id": 1, "name": "Clip applier"}, {"id": 2, "name": "Grasper"}],
        "annotations": [{"image_id": 0, "category_id": i, "segmentation": [tool]} for i, tool in enumerate(tools, 1)],
    }
    (tmp_path / "roboflow" / "train" / "_annotations.coco.json").write_text(json.dumps(record))
    return tmp_path / "roboflow"


def test_a_dataset_of_another_tool_is_read_with_the_choices_of_an_import(roboflow: Path, opened: Open) -> None:
    with pytest.raises(ExchangeError, match=r"both Clip applier and Grasper.*--overlaps"):
        opened(roboflow)
    data = opened(roboflow, datasets=DatasetOptions(overlaps="file-order"))
    assert [(frame.sequence, frame.frame_index) for frame in data.frames] == [("clip", 3)]
    assert data.classes.names[-1] == "Grasper"
    assert data.label_map(0)[10, 25] == data.classes.by_name("grasper").id
    assert "1 frame without any annotation left out" in data.notes[0]
    whole = opened(roboflow, datasets=DatasetOptions(overlaps="larger-below", unannotated_are_empty=True))
    assert [frame.frame_index for frame in whole.frames] == [3, 5]
    assert whole.notes == ()


def test_class_numbers_get_their_names_from_the_given_class_set(tmp_path: Path, opened: Open) -> None:
    for name in ("masks", "endovis2018_masks"):
        write_picture(tmp_path / name / "images" / "clip_7.png", np.zeros((40, 50, 3)))
        write_picture(tmp_path / name / "clip_7.png", np.full((40, 50), 6))
    with pytest.raises(TrainingError, match="Give its class set"):
        opened(tmp_path / "masks")
    given = opened(tmp_path / "masks", base=None, datasets=DatasetOptions(classes=ENDOVIS2017))
    assert given.counts() == {"clip": {"Monopolar Curved Scissors": 1}}
    only = ClassSet("one", (InstrumentClass(1, "Suction Instrument", "#112233"),))
    chosen = opened(tmp_path / "endovis2018_masks", base=None, datasets=DatasetOptions(classes=only))
    assert chosen.counts() == {"clip": {"Suction Instrument": 1}}  # the numbers are those of 2018
