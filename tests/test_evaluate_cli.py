"""`surgicalsam evaluate` with the paper's protocols: splits, folds, masks from files, and the tables it writes."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from surgicalsam_napari import cli
from surgicalsam_napari.phantom import PhantomScene

Run = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Exit code, and the lines on stdout and stderr, of a command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)

    def run_line(*arguments: object) -> tuple[int, list[str], list[str]]:
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err.splitlines()

    return run_line


def write_phantoms(folder: Path, numbers: range | tuple[int, ...]) -> Path:
    """Phantom scenes with the names of a benchmark's sequences, one frame each."""
    for number in numbers:
        frame = PhantomScene(number, (96, 128), 1).frame(0)
        for kind, pixels in (("images", frame.image), ("annotations", frame.labels)):
            path = folder / kind / f"seq{number}" / "00000.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture(scope="module")
def phantom2018(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("data") / "phantom2018", (1, 2, 5, 9, 15))


@pytest.fixture(scope="module")
def phantom2017(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("data") / "phantom2017", range(1, 9))


def test_both_protocols_are_listed_with_the_published_figures(run: Run, tiny_checkpoint: Path, phantom2018: Path) -> None:
    code, out, _ = run("evaluate", tiny_checkpoint, phantom2018, "--protocol", "endovis2018", "--device", "cpu")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out if line.startswith("| ")]
    assert code == 0 and out[0] == "**tiny on 4 frames of phantom2018**"
    assert [row[:3] for row in rows[2:4]] == [
        ["tiny", "sequences 2, 5, 9, 15", "present classes prompted"],
        ["tiny", "sequences 2, 5, 9, 15", "every class prompted"],
    ]
    published = {row[0]: row[2:4] for row in rows[4:]}
    assert published["SurgicalSAM"] == ["published", "80.33"] and published["ISINet"][0] == "published"
    assert all(row[2] == "published" for row in rows[4:])
    assert any("arXiv 2308.08746" in line and "none of it was made with this code" in line for line in out)


def test_classes_restrict_what_is_prompted_and_scored(run: Run, tiny_checkpoint: Path, phantom2018: Path) -> None:
    folder = Path("classes.yaml")
    folder.write_text("name: two\nclasses:\n- {id: 1, name: Bipolar Forceps}\n- {id: 2, name: Large Needle Driver}\n")
    arguments = ("evaluate", tiny_checkpoint, phantom2018, "--device", "cpu", "--json")
    all_classes, two = (json.loads(run(*arguments, *more)[1][-1]) for more in ((), ("--classes", folder)))
    assert set(two["class_iou"]) <= {"Bipolar Forceps", "Large Needle Driver"} < set(all_classes["class_iou"])


def test_stored_features_are_scored_without_an_image_encoder(run: Run, authors_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "processed_2018"
    for split, sequence in (("train", "seq1"), ("val", "seq2")):
        part = folder / split / "0" if split == "train" else folder / split
        for kind in ("binary_annotations", "sam_features_h"):
            (part / kind / sequence).mkdir(parents=True)
        mask = np.zeros((96, 128), np.uint8)
        mask[20:60, 20:60] = 255
        Image.fromarray(mask).save(part / "binary_annotations" / sequence / "00000_class1.png")
        features = np.random.default_rng(0).normal(size=(64, 64, 256)).astype(np.float32)
        np.save(part / "sam_features_h" / sequence / "00000.npy", features)
    weights = authors_folder / "sam_prompt_encoder.pth"
    line = (
        "evaluate",
        authors_folder / "model_ckp.pth",
        folder,
        "--encoder-weights",
        weights,
        "--classes",
        "endovis2018",
        "--device",
        "cpu",
        "--json",
    )
    code, out, err = run(*line)
    assert code == 0, err
    assert json.loads(out[-1])["frames"] == 2


def test_the_table_is_written_as_markdown_csv_and_json(run: Run, tiny_checkpoint: Path, phantom2018: Path) -> None:
    code, _, _ = run("evaluate", tiny_checkpoint, phantom2018, "--device", "cpu", "--out", "table")
    assert code == 0
    with open("table/scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["Protocol"] for row in rows] == ["present classes prompted", "every class prompted"]
    assert rows[0]["Frames"] == "all 5" and rows[0]["IoU"] == rows[0]["Challenge IoU"]
    assert json.loads(Path("table/scores.json").read_text())["rows"][1][3] == float(rows[1]["Challenge IoU"])
    assert Path("table/scores.md").read_text().startswith("**tiny on 5 frames of phantom2018**")


def test_four_folds_are_scored_each_with_its_checkpoint_and_averaged(
    run: Run, tiny_checkpoint: Path, phantom2017: Path, tmp_path: Path
) -> None:
    for fold in range(4):
        shutil.copy(tiny_checkpoint, tmp_path / f"fold{fold}.safetensors")
    _, out, _ = run(
        "evaluate", "fold{fold}.safetensors", phantom2017, "--protocol", "endovis2017", "--device", "cpu", "--json"
    )
    record = json.loads(out[-1])
    assert [part["checkpoint"] for part in record["parts"]] == [f"fold{fold}.safetensors" for fold in range(4)]
    assert [part["sequences"] for part in record["parts"]] == [[1, 3], [2, 5], [4, 8], [6, 7]]
    assert record["frames"] == 8
    for where in (lambda part: part, lambda part: part["present_classes_prompted"]):
        folds = [where(part)["challenge_iou"] for part in record["parts"]]
        assert where(record)["challenge_iou"] == pytest.approx(np.mean(folds), abs=0.002)
    assert {row["dataset"] for row in record["published"]} == {"endovis2017"}


def test_one_fold_is_scored_alone_and_one_checkpoint_for_all_folds_gives_a_warning(
    run: Run, tiny_checkpoint: Path, phantom2017: Path
) -> None:
    line = ("evaluate", tiny_checkpoint, phantom2017, "--protocol", "endovis2017", "--device", "cpu")
    _, out, _ = run(*line, "--fold", 2)
    assert out[0] == "**tiny on 2 frames of phantom2017**" and sum("fold 2: sequences 4, 8" in text for text in out) == 2
    _, out, _ = run(*line)
    assert sum("mean of 4 folds" in text for text in out) == 2
    assert any("must not have been trained on any of these data" in text for text in out)


def test_masks_from_files_are_scored_by_both_protocols(run: Run, phantom2018: Path) -> None:
    external = Path("external")
    shutil.copytree(phantom2018 / "annotations", external)
    labels = np.asarray(Image.open(external / "seq2/00000.png")).copy()
    absent = min(set(range(1, 8)) - set(np.unique(labels).tolist()))
    labels[:8, :8][labels[:8, :8] == 0] = absent
    Image.fromarray(labels).save(external / "seq2/00000.png")
    _, out, err = run("evaluate", "--predictions", external, phantom2018, "--protocol", "endovis2018", "--json")
    record = json.loads(out[-1])
    assert record["challenge_iou"] == record["present_classes_prompted"]["iou"] == 100
    assert record["iou"] < 100 and record["absent_false_positive_rate"] > 0
    assert any("1 files belong to no frame that is scored" in line for line in err)  # seq1 is not a validation sequence
    _, out, _ = run("evaluate", "--predictions", external, phantom2018)
    assert out[0] == "external on 5 frames of phantom2018"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["TINY", "DATA", "--fold", "1"], 2, "--protocol endovis2017"),
        (["TINY"], 2, "give a checkpoint, then the data"),
        (["TINY", "DATA", "--protocol", "endovis2019"], 1, "endovis2018 or endovis2017"),
        (["TINY", "DATA", "--protocol", "endovis2018", "--fold", "1"], 1, "has one split"),
        (["TINY", "DATA", "--protocol", "endovis2017", "--fold", "2"], 1, "have no sequence 4, 8"),
        (["f{fold}.safetensors", "DATA"], 1, "a checkpoint per fold"),
        (["--predictions", "none", "DATA"], 1, "should be a folder of predicted masks"),
    ],
)
def test_a_mistake_gets_one_line_and_an_exit_code(
    run: Run, tiny_checkpoint: Path, phantom2018: Path, arguments: list[str], code: int, message: str
) -> None:
    paths = {"TINY": tiny_checkpoint, "DATA": phantom2018}
    exit_code, out, err = run("evaluate", *(paths.get(word, word) for word in arguments))
    assert exit_code == code and out == []
    assert message in err[-1] and err[-1].startswith("surgicalsam: ")


def test_data_with_class_numbers_alone_are_read_with_classes_as_in_an_import(run: Run) -> None:
    for kind, value in (("images", np.zeros((40, 50, 3), np.uint8)), (".", np.full((40, 50), 6, np.uint8))):
        path = Path("data", kind, "clip_0003.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(value).save(path)
    Path("predicted").mkdir()
    shutil.copy("data/clip_0003.png", "predicted/clip_0003.png")
    code, _, err = run("evaluate", "--predictions", "predicted", "data")
    assert code == 1 and "--classes" in err[-1]
    code, out, err = run("evaluate", "--predictions", "predicted", "data", "--classes", "endovis2017", "--json")
    assert code == 0, err
    assert json.loads(out[-1])["class_iou"] == {"Monopolar Curved Scissors": 100}
