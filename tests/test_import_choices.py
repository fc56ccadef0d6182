"""An import is planned first: what is matched, left alone, skipped and asked; nothing is silently wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.class_matching import LEAVE_OUT, NEW_CLASS, MatchKind
from surgicalsam_napari.exchange.import_plan import ImportChoices, ImportPlan, plan_import
from surgicalsam_napari.exchange.import_preview import preview_frame, preview_lines
from surgicalsam_napari.exchange.importing import check_import, import_frames
from surgicalsam_napari.exchange.matching import MatchRule
from surgicalsam_napari.exchange.registry import open_dataset
from surgicalsam_napari.exchange.survey import survey_frames
from surgicalsam_napari.instruments import ENDOVIS2018, ClassSet, InstrumentClass
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.video import VideoReader

SIZE = (96, 128)
SQUARE = [10, 20, 30, 20, 30, 40, 10, 40]
CROSSING = [20, 30, 60, 30, 60, 60, 20, 60]


@pytest.fixture
def project(phantom_clip: Path, tmp_path: Path) -> Iterator[Project]:
    clip = shutil.copy(phantom_clip, tmp_path / "clip.mp4")
    with Project.create(tmp_path / "clip.surgicalsam", VideoReader(clip), ENDOVIS2018) as project:
        yield project


Coco = Callable[..., Path]


@pytest.fixture
def coco(tmp_path: Path) -> Coco:
    """Writes a COCO file with images of these names; annotations are (image, category, polygon)."""

    def coco(
        names: Sequence[str],
        annotations: Sequence[tuple[int, int, Any]],
        categories: Sequence[str | None] = ("Bipolar Forceps", "Clip Applier"),
        at: str = "labels.json",
    ) -> Path:
        record = {
            "images": [
                {"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1]} for number, name in enumerate(names)
            ],
            "categories": [{"id": number, "name": name} for number, name in enumerate(categories, 1)],
            "annotations": [
                {"id": 50 + number, "image_id": image, "category_id": category, "bbox": [0, 0, 5, 5], "segmentation": mask}
                for number, (image, category, mask) in enumerate(annotations)
            ],
        }
        path = tmp_path / "dataset" / at
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))
        return path

    return coco


def planned(project: Project, dataset: Path, sequence: str | None = None, **choices: Any) -> ImportPlan:
    survey = survey_frames(project, open_dataset(dataset), sequence)
    while True:
        try:
            next(survey)
        except StopIteration as end:
            return plan_import(end.value, ImportChoices(**choices))


def imported(project: Project, dataset: Path, sequence: str | None = None, **choices: Any) -> list[int]:
    plan = check_import(project, open_dataset(dataset), sequence, choices=ImportChoices(**choices))
    return [report.frame_index for report in import_frames(project, plan)]


def text_of(plan: ImportPlan, project: Project) -> str:
    return "\n".join(f"{line.caption}: {line.text}" for line in preview_lines(plan, project))


# ---- frames


def test_labels_from_roboflow_land_on_the_frames_in_their_names(project: Project, coco: Coco) -> None:
    hashes = ("aa00", "bb12", "cc30")
    names = [f"clip_mp4-{number:04d}_jpg.rf.{hash}.jpg" for number, hash in zip((2, 5, 10), hashes, strict=True)]
    path = coco(names, [(image, 1, [SQUARE]) for image in range(3)])
    plan = planned(project, path)
    assert "0002 -> frame 2, 0005 -> frame 5, 0010 -> frame 10" in text_of(plan, project)
    assert imported(project, path) == [2, 5, 10]


def test_of_several_videos_in_one_folder_the_user_chooses_one(project: Project, coco: Coco) -> None:
    path = coco(["1_5.jpg", "2_5.jpg", "2_7.jpg"], [(image, 1, [SQUARE]) for image in range(3)])
    with pytest.raises(ExchangeError, match=r"2 sequences \(1: 1 frame, 2: 2 frames\).*--sequence"):
        planned(project, path)
    assert imported(project, path, "2") == [5, 7]


def test_an_unclear_name_is_refused_until_a_pattern_is_given(project: Project, coco: Coco) -> None:
    path = coco(["clip_00_00_03.jpg"], [(0, 1, [SQUARE])])
    with pytest.raises(ExchangeError, match="frame 3 of clip_00_00 or the time 3 s"):
        open_dataset(path)
    dataset = open_dataset(path, frame_pattern="{video}_*_{frame}")
    assert [index for _, index in check_import(project, dataset).frames] == [3]


def test_a_time_is_a_frame_at_the_rate_of_the_video(project: Project, coco: Coco) -> None:
    rate = project.video.info.frame_rate
    assert rate
    path = coco([f"clip.mp4#t={4 / rate:.3f}.jpg"], [(0, 1, [SQUARE])])
    plan = planned(project, path)
    assert plan.survey.rule is MatchRule.TIME
    assert imported(project, path) == [4]


def picture_project(folder: Path, names: Sequence[str]) -> Project:
    folder.mkdir()
    for position, name in enumerate(names):
        Image.fromarray(np.full((*SIZE, 3), position, np.uint8)).save(folder / name)
    return Project.create(folder.with_suffix(".surgicalsam"), VideoReader(folder), ENDOVIS2018)


def test_a_folder_of_pictures_has_one_rule_which_preview_and_errors_name(tmp_path: Path, coco: Coco) -> None:
    with picture_project(tmp_path / "video", ["case_010.png", "case_020.png", "case_030.png"]) as project:
        by_name = coco(["case_020.jpg"], [(0, 1, [SQUARE])])
        assert imported(project, by_name) == [1]
        assert "the picture with the same name" in text_of(planned(project, by_name), project)
        by_number = coco(["frame_30.jpg", "frame_2.jpg"], [(0, 1, [SQUARE]), (1, 1, [SQUARE])])
        plan = planned(project, by_number)
        assert [index for _, index in plan.frames] == [2]
        (problem,) = plan.problems
        assert "frame_2 has no matching frame in the video, which has 3 pictures with the numbers 10 to 30" in problem
        assert "read as 2 -> frame 2" in problem
        assert "the picture with the same number" in problem
        mixed = coco(["case_020.jpg", "case_025.jpg"], [(0, 1, [SQUARE]), (1, 1, [SQUARE])])
        assert "which has 3 pictures, case_010.png to case_030.png" in planned(project, mixed).problems[0]


# ---- frames that nobody annotated


def test_frames_without_annotations_are_left_alone(project: Project, coco: Coco) -> None:
    path = coco([f"frame_{number:06d}.png" for number in range(12)], [(3, 1, [SQUARE])])
    plan = planned(project, path)
    assert "Left alone: 11 frames without any annotation (dataset/frame_000000" in text_of(plan, project)
    assert imported(project, path) == [3]
    provenance = project.labels.provenance_table()
    assert provenance[3].tolist() == [Provenance.EDITED, 0, 0, 0, 0, 0, Provenance.EDITED]  # the dataset's two classes
    assert not provenance[[0, 1, 2, 4, 11]].any()


def test_frames_without_annotations_can_be_said_to_be_empty(project: Project, coco: Coco) -> None:
    path = coco(["frame_1.png", "frame_2.png"], [(0, 1, [SQUARE])])
    assert "1 frame without any annotation count" in text_of(planned(project, path, unannotated_are_empty=True), project)
    assert imported(project, path, unannotated_are_empty=True) == [1, 2]
    assert project.labels.provenance(2, 1) == Provenance.EDITED
    assert not project.labels[2].any()
    assert "frames without annotations are empty" in project.history.entries()[-1].note


def test_a_dataset_that_nobody_annotated_is_not_imported(project: Project, coco: Coco) -> None:
    with pytest.raises(ExchangeError, match=r"Nobody annotated the 2 frames .* nothing to import"):
        imported(project, coco(["frame_1.png", "frame_2.png"], []))


# ---- classes


def test_a_class_name_with_blanks_or_another_unicode_form_is_the_same_name() -> None:
    own = ClassSet(
        "Own", (InstrumentClass(1, "Clip Applier ", "#112233"), InstrumentClass(2, "Pince Ga\u0302ne", "#445566"))
    )
    assert own.by_name("clip  applier").id == own.by_name(" Clip Applier").id == 1
    assert own.by_name("pince gâne").id == 2


def test_a_similar_name_matches_only_after_asking(project: Project, coco: Coco) -> None:
    path = coco(["frame_1.png"], [(0, 1, [SQUARE])], ["bipolar_forceps"])
    plan = planned(project, path)
    assert plan.matches[0].kind is MatchKind.OPEN
    assert "bipolar_forceps may be Bipolar Forceps (1 frame)" in text_of(plan, project)
    with pytest.raises(ExchangeError, match=r"same classes: bipolar_forceps and Bipolar Forceps\? .*--similar-names"):
        imported(project, path, add_classes=True)
    assert len(project.classes) == len(ENDOVIS2018)
    assert imported(project, path, accept_similar=True) == [1]
    assert project.labels[1].max() == 1
    assert project.history.entries()[-1].note == "bipolar_forceps is Bipolar Forceps"


def test_a_former_name_matches_without_asking_and_a_present_name_counts_more(project: Project, coco: Coco) -> None:
    project.change_classes(lambda classes: classes.renamed(1, "Maryland"))
    path = coco(["1.png"], [(0, 1, [SQUARE]), (0, 2, [CROSSING])], ("Bipolar  forceps", "MARYLAND"))
    with pytest.raises(ExchangeError, match="Are these the same classes: Bipolar forceps and Maryland"):
        check_import(project, open_dataset(path), choices=ImportChoices(overlaps="file-order"))
    path = coco(["1.png"], [(0, 1, [SQUARE])], ("Bipolar  forceps",))
    plan = planned(project, path)
    assert [(match.kind, match.target and match.target.name) for match in plan.matches] == [
        (MatchKind.FORMER_NAME, "Maryland")
    ]
    assert "Bipolar forceps becomes Maryland (former name; 1 frame)" in text_of(plan, project)


def test_a_name_of_a_class_of_the_project_cannot_become_a_new_class(project: Project, coco: Coco) -> None:
    project.change_classes(lambda classes: classes.renamed(1, "Maryland"))
    path = coco(["1.png"], [(0, 1, [SQUARE])])
    with pytest.raises(ExchangeError, match=r"Bipolar Forceps cannot become a new class: .* an earlier name, of Maryland"):
        planned(project, path, classes={"Bipolar Forceps": NEW_CLASS})


def test_an_import_starts_again_after_the_classes_of_the_project_changed(project: Project, coco: Coco) -> None:
    plan = planned(project, coco(["1.png"], [(0, 1, [SQUARE])]))
    project.change_classes(lambda classes: classes.without(1))
    with pytest.raises(ExchangeError, match=r"other classes than when labels.json was checked. Start the import again"):
        list(import_frames(project, plan))
    assert not project.labels[:].any()


def test_classes_are_renamed_added_or_left_out_as_chosen(project: Project, coco: Coco) -> None:
    far = [[100, 80, 110, 80, 110, 90]]
    path = coco(
        ["frame_1.png"], [(0, 1, [SQUARE]), (0, 2, far), (0, 3, [[70, 70, 90, 70, 90, 90]])], ["grasper", "liver", "clip"]
    )
    choices = {"grasper": "Prograsp Forceps", "Liver": LEAVE_OUT, "clip": NEW_CLASS}
    assert imported(project, path, classes=choices) == [1]
    assert np.unique(project.labels[1]).tolist() == [0, 2, 8]
    assert project.classes.by_id(8).name == "clip"
    with pytest.raises(ExchangeError, match='no class "spleen"'):
        planned(project, path, classes={"spleen": "clip"})
    with pytest.raises(ExchangeError, match="grasper cannot become Scalpel"):
        planned(project, path, classes={"grasper": "Scalpel"})


def test_a_class_with_only_a_box_keeps_its_predictions_in_that_frame(project: Project, coco: Coco) -> None:
    path = coco(["frame_1.png"], [(0, 1, [SQUARE]), (0, 2, [])], ["grasper", "other grasper"])
    two_classes = {"grasper": "Prograsp Forceps", "other grasper": "Clip Applier"}
    assert imported(project, path, classes=two_classes) == [1]
    assert project.labels.provenance(1, ENDOVIS2018.by_name("Clip Applier").id) == Provenance.EMPTY
    plan = planned(project, path, classes=dict.fromkeys(two_classes, "Suction Instrument"))
    assert plan.in_project_ids(plan.frames[0][0])[1] == [6]  # it has pixels
    plan = planned(project, path, classes={"grasper": LEAVE_OUT, "other grasper": "Suction Instrument"})
    assert plan.in_project_ids(plan.frames[0][0])[1] == []  # only a box


# ---- overlaps


@pytest.mark.parametrize(
    ("order", "on_top"),
    [("file-order", "Clip Applier"), ("larger-below", "Bipolar Forceps"), ("bipolar forceps", "Bipolar Forceps")],
)
def test_crossing_tools_are_stacked_in_the_chosen_order(project: Project, coco: Coco, order: str, on_top: str) -> None:
    path = coco(["frame_1.png"], [(0, 1, [SQUARE]), (0, 2, [CROSSING])])
    with pytest.raises(ExchangeError, match=r"In 1 frame, masks of two classes overlap.*--overlaps"):
        imported(project, path)
    plan = planned(project, path, overlaps=order)
    assert "Overlaps: 1 frame, 100 pixels (Bipolar Forceps and Clip Applier)" in text_of(plan, project)
    assert imported(project, path, overlaps=order) == [1]
    overlap = project.labels[1][30:40, 20:30]
    assert (overlap == ENDOVIS2018.by_name(on_top).id).all()
    assert "overlapping masks: " in project.history.entries()[-1].note
    with Project.open(project.folder) as again:
        assert again.history.entries()[-1].note == project.history.entries()[-1].note


def test_a_class_that_is_left_out_covers_no_other_class(project: Project, coco: Coco) -> None:
    path = coco(["frame_1.png"], [(0, 1, [SQUARE]), (0, 2, [CROSSING])], ["Bipolar Forceps", "liver"])
    assert imported(project, path, classes={"liver": LEAVE_OUT}) == [1]  # no question about the overlap
    assert (project.labels[1][20:40, 10:30] == 1).all()


def test_an_unknown_order_of_overlaps_is_explained(project: Project, coco: Coco) -> None:
    with pytest.raises(ExchangeError, match=r'"biggest" is no order of overlapping masks. Use file-order'):
        planned(project, coco(["frame_1.png"], [(0, 1, [SQUARE])]), overlaps="biggest")


# ---- the preview of one frame


def test_the_preview_of_a_frame_is_what_the_import_writes(project: Project, coco: Coco) -> None:
    project.labels[1, 0:30, 0:30] = 5
    path = coco(["frame_1.png"], [(0, 1, [SQUARE])])
    plan = planned(project, path)
    assert "Your work: 1 frame that you corrected before" in text_of(plan, project)
    preview = preview_frame(project, plan, 1)
    np.testing.assert_array_equal(preview.before, project.labels[1])
    assert not project.labels.provenance_table()[:, 0].any()
    (report,) = import_frames(project, plan)
    np.testing.assert_array_equal(preview.after, project.labels[1])
    assert preview.kept_pixels == report.kept_pixels == 30 * 30
