"""The paper's tables and figures: their contents, the reuse of results, and the command line."""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from surgicalsam_napari import cli
from surgicalsam_napari.errors import CheckpointError, TrainingError
from surgicalsam_napari.instruments import ENDOVIS2017, ENDOVIS2018, ClassSet
from surgicalsam_napari.model.checkpoint import load_checkpoint, save_checkpoint
from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_training.baselines.mask2former import DetectorSettings
from surgicalsam_training.baselines.persam_f import tune_in_videos
from surgicalsam_training.baselines.text_prototypes import text_embeddings
from surgicalsam_training.config import TrainingConfig, preset
from surgicalsam_training.experiments import baselines, cells, speed
from surgicalsam_training.experiments.catalogue import EXPERIMENTS, Outcome, run_experiment
from surgicalsam_training.experiments.cells import cell_model, scored_cell, trained_cell
from surgicalsam_training.experiments.figures import Figure, write_grid
from surgicalsam_training.experiments.page import update_page
from surgicalsam_training.experiments.phantom_setting import PHANTOM_SETTINGS, TEXT, phantom_setting
from surgicalsam_training.experiments.scoring import opened_data
from surgicalsam_training.experiments.sets import SECOND, Clip, PhantomSet, label_values, write_set
from surgicalsam_training.experiments.setting import Setting, changed_by, data_setting
from surgicalsam_training.experiments.studies import papers_note, papers_scores, shared_names
from surgicalsam_training.loop.ablation import ablate, load_trained
from surgicalsam_training.loop.prompts import class_embedding
from surgicalsam_training.loop.tuning import read_prototypes, unfreeze
from surgicalsam_training.run.run_folder import RunFolder
from surgicalsam_training.scoring.protocol import EvaluationProtocol
from surgicalsam_training.scoring.published import published_rows
from surgicalsam_training.scoring.tables import Table, read_table, to_markdown, write_table

TABLE = Table("Speed | memory", ("What", "Per second"), (("training", 2.25), ("prediction", None)), ("On a CPU.",))
CLIPS = (Clip(700_002),), (Clip(700_017),)
SETS = (
    PhantomSet("first", "first", ClassSet("first", ENDOVIS2018.classes), *CLIPS),
    PhantomSet("second", "second", ClassSet("second", ENDOVIS2017.classes), *CLIPS, other="Other"),
)


def finish(generator: Generator[Any, None, Any]) -> Any:
    """Run a generator to its end, and return its result."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two phantom datasets of three training and two validation frames."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("data")
    return [finish(write_set(folder, phantom, 3, 2)) for phantom in SETS]


@pytest.fixture(scope="module")
def setting(datasets: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """Trainings of one epoch on the two datasets; shared by the tests, as tables share them."""
    base = preset("endovis2018").changed(**PHANTOM_SETTINGS, validation=["2"], device="cpu")
    configs = tuple(base.changed(data=[path], epochs=1) for path in datasets)
    return Setting(configs, tmp_path_factory.mktemp("out"), is_phantom=True)


# Tables --------------------------------------------------------------------------------------------------------------


def test_a_table_is_written_for_people_spreadsheets_and_scripts(tmp_path: Path) -> None:
    write_table(TABLE, tmp_path, "speed")
    assert (tmp_path / "speed.md").read_text() == to_markdown(TABLE)
    with (tmp_path / "speed.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["What", "Per second"], ["training", "2.25"], ["prediction", ""]]
    assert read_table(tmp_path / "speed.json") == TABLE


def test_markdown_aligns_numbers_right_and_marks_missing_values() -> None:
    lines = to_markdown(TABLE).splitlines()
    assert lines[0] == "**Speed \\| memory**"
    assert lines[3:6] == ["| --- | ---: |", "| training | 2.2 |", "| prediction | – |"]
    assert lines[-1] == "On a CPU."


def test_a_row_must_have_a_cell_for_every_column() -> None:
    with pytest.raises(ValueError, match="2 columns"):
        Table("short", ("a", "b"), ((1,),))


def test_a_damaged_table_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"title": "x"}')
    with pytest.raises(TrainingError, match=r"bad\.json"):
        read_table(tmp_path / "bad.json")


# Prompts with a part left out ----------------------------------------------------------------------------------------


@pytest.fixture
def model(tiny_model: SurgicalSAM) -> SurgicalSAM:
    return copy.deepcopy(tiny_model)


@pytest.fixture
def inputs(model: SurgicalSAM) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Image embeddings of two frames, prototypes, and three classes prompted in each."""
    embeddings = torch.randn(2, *model.embedding_shape, generator=torch.Generator().manual_seed(0))
    return embeddings, model.prototypes(), torch.tensor([[0, 3, 6], [1, 2, 4]])


def test_without_dense_prompts_the_decoder_gets_sams_embedding_for_no_mask(model: SurgicalSAM, inputs: Any) -> None:
    whole = model.class_prompt_encoder(*inputs)
    prompts = ablate(model, TrainingConfig(dense_prompts=False)).class_prompt_encoder(*inputs)
    no_mask = model.prompt_encoder.no_mask_embed.weight[0]
    torch.testing.assert_close(
        prompts.dense_prompt_embeddings, no_mask[:, None, None].expand_as(whole.dense_prompt_embeddings)
    )
    torch.testing.assert_close(prompts.sparse_prompt_embeddings, whole.sparse_prompt_embeddings)


def test_without_sparse_prompts_there_is_no_class_token(model: SurgicalSAM, inputs: Any) -> None:
    whole = model.class_prompt_encoder(*inputs)
    prompts = ablate(model, TrainingConfig(sparse_prompts=False)).class_prompt_encoder(*inputs)
    assert prompts.sparse_prompt_embeddings.shape == (2, 3, 0, model.embedding_shape[0])
    torch.testing.assert_close(prompts.dense_prompt_embeddings, whole.dense_prompt_embeddings)
    assert model.decode(inputs[0], [1, 2]).low_res_logits.shape[:2] == (2, 2)


def test_without_marks_the_tokens_do_not_show_the_asked_class(model: SurgicalSAM, inputs: Any) -> None:
    whole = model.class_prompt_encoder(*inputs).sparse_prompt_embeddings
    bare = ablate(model, TrainingConfig(marks=False)).class_prompt_encoder(*inputs).sparse_prompt_embeddings
    assert not torch.allclose(whole[:, 0], whole[:, 1])
    torch.testing.assert_close(bare[:, 0], bare[:, 1])


@pytest.mark.parametrize(("left_out", "layers"), [("dense", "dense_fc"), ("sparse", "sparse_fc")])
def test_a_part_that_is_left_out_is_not_tuned(model: SurgicalSAM, left_out: str, layers: str) -> None:
    config = TrainingConfig(**{f"{left_out}_prompts": False})
    unfreeze(ablate(model, config), config)
    tuned = {name for name, weight in model.class_prompt_encoder.named_parameters() if weight.requires_grad}
    assert tuned and not any(name.startswith(layers) for name in tuned)


def test_a_checkpoint_without_sparse_prompts_is_not_loaded_as_a_complete_one(model: SurgicalSAM, tmp_path: Path) -> None:
    ablate(model, TrainingConfig(sparse_prompts=False))
    path = save_checkpoint(tmp_path / "ablated.safetensors", model, training_record={})
    with pytest.raises(CheckpointError, match="without sparse prompts"):
        load_checkpoint(path, device="cpu")
    embeddings = torch.randn(1, *model.embedding_shape)
    again = load_trained(path, device="cpu")
    torch.testing.assert_close(again.decode(embeddings, [2]).low_res_logits, model.decode(embeddings, [2]).low_res_logits)


def test_dense_and_sparse_prompts_cannot_both_be_left_out() -> None:
    with pytest.raises(TrainingError, match="not both"):
        TrainingConfig().changed(dense_prompts=False, sparse_prompts=False)


# Fixed prototypes ----------------------------------------------------------------------------------------------------


def test_fixed_prototypes_are_and_remain_the_mean_class_embeddings(setting: Setting) -> None:
    config = setting.config.changed(prototypes="fixed")
    run = finish(trained_cell(setting.cells, config))
    assert "contrastive" not in run.metrics()[0]
    model = cell_model(run)
    with opened_data(config, model.classes) as opened:
        for class_id, prototype in zip(model.classes.ids, model.prototypes(), strict=True):
            shown = [f for f in opened.training if class_id in opened.data.present_class_ids(f)]
            if not shown:
                assert not prototype.any()
                continue
            embeddings = torch.from_numpy(opened.data.embeddings(shown, 0, model)).float()[:, : model.decoder_dim]
            found = [
                class_embedding(
                    e, opened.data.label_map(f) == class_id, FrameGeometry(opened.data.frames[f].size, model.input_size)
                )
                for e, f in zip(embeddings, shown, strict=True)
            ]
            class_embeddings = [embedding for embedding in found if embedding is not None]
            if not class_embeddings:  # all its masks are tiny
                assert prototype.any()
                continue
            torch.testing.assert_close(prototype, torch.stack(class_embeddings).mean(0))


def test_fixed_prototypes_can_come_from_a_file_by_name(tmp_path: Path) -> None:
    vectors = {instrument.name.upper(): torch.full((4,), float(instrument.id)) for instrument in ENDOVIS2018}
    save_file(vectors, tmp_path / "text.safetensors")
    prototypes = read_prototypes(tmp_path / "text.safetensors", ENDOVIS2018, 4)
    assert {class_id: vector[0].item() for class_id, vector in prototypes.items()} == {i: float(i) for i in ENDOVIS2018.ids}
    with pytest.raises(TrainingError, match="has none for Vessel Sealer"):
        read_prototypes(tmp_path / "text.safetensors", ENDOVIS2017, 4)
    with pytest.raises(TrainingError, match="vectors of 256 numbers"):
        read_prototypes(tmp_path / "text.safetensors", ENDOVIS2018, 256)


def test_a_file_of_prototypes_needs_fixed_prototypes() -> None:
    with pytest.raises(TrainingError, match="set prototypes to fixed"):
        TrainingConfig().changed(prototypes_file=Path("text.safetensors"))


# Cells ---------------------------------------------------------------------------------------------------------------


def test_a_finished_cell_is_neither_trained_nor_scored_again(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    first = finish(scored_cell(setting.cells, setting.config))
    assert set(first) == set(EvaluationProtocol)

    def fails(*_: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(cells, "train", fails)
    monkeypatch.setattr(cells, "answers_of_model", fails)
    assert repr(finish(scored_cell(setting.cells, setting.config))) == repr(first)  # NaN is not equal to itself


def test_a_stopped_cell_resumes(setting: Setting, tmp_path: Path) -> None:
    config = setting.config.changed(epochs=2)
    with closing(trained_cell(tmp_path, config)) as stages:
        while not next(stages).title.endswith("training"):
            pass
    run = finish(trained_cell(tmp_path, config))
    assert [row["epoch"] for row in run.metrics()] == [1, 2]


def test_a_cell_with_other_settings_is_not_used(setting: Setting) -> None:
    finish(trained_cell(setting.cells, setting.config))
    with pytest.raises(TrainingError, match="learning_rate"):
        finish(trained_cell(setting.cells, setting.config.changed(learning_rate=1e-4)))


# Studies -------------------------------------------------------------------------------------------------------------


def test_classes_are_shared_by_name_not_by_id() -> None:
    names2018, names2017 = shared_names([ENDOVIS2018, ENDOVIS2017])
    assert names2018 == names2017 == [
        "Bipolar Forceps", "Prograsp Forceps", "Large Needle Driver", "Monopolar Curved Scissors"
    ]  # fmt: skip
    scissors = [classes.by_name("Monopolar Curved Scissors").id for classes in (ENDOVIS2018, ENDOVIS2017)]
    assert scissors == [4, 6]


def test_the_second_phantom_set_has_the_class_ids_of_endovis_2017() -> None:
    values = label_values(SECOND)
    assert values[[0, 1, 2, 3, 4, 5, 6, 7, 8]].tolist() == [0, 1, 2, 3, 6, 7, 7, 7, 4]


def test_the_small_version_stores_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = finish(phantom_setting(Path("runs"), sets=SETS))
    assert small.out == tmp_path / "runs"
    assert [config.data for config in small.configs] == [(small.out / "data" / phantom.name,) for phantom in SETS]


def test_table4_scores_only_the_shared_classes(setting: Setting) -> None:
    outcome = finish(run_experiment(EXPERIMENTS["table4"], setting))
    table = read_table(setting.out / "table4.json")
    assert outcome.table is not None and table.rows == tuple(map(tuple, outcome.table.rows))
    assert [row[:3] for row in table.rows] == [
        ("SurgicalSAM", "first", "first"),
        ("SurgicalSAM", "first", "second"),
        ("SurgicalSAM", "second", "second"),
        ("SurgicalSAM", "second", "first"),
        ("MATIS Frame, published", "EndoVis 2018", "EndoVis 2017"),
        ("SurgicalSAM, published", "EndoVis 2018", "EndoVis 2017"),
        ("MATIS Frame, published", "EndoVis 2017", "EndoVis 2018"),
        ("SurgicalSAM, published", "EndoVis 2017", "EndoVis 2018"),
    ]
    published = dict(zip(table.columns, table.rows[5], strict=True))
    assert (published["mcIoU, present"], published["Prograsp Forceps, present"]) == (56.93, 35.21)
    assert published["Challenge IoU, present"] is None and published["mcIoU, every"] is None
    assert len(table.columns) == 3 + 2 * (2 + 4)
    assert {title.split(",")[0] for title in table.columns[3:]} == {
        "Challenge IoU", "mcIoU", *shared_names([ENDOVIS2018, ENDOVIS2017])[0]
    }  # fmt: skip


@pytest.mark.slow
def test_table7_gives_the_mean_and_spread_of_three_further_seeds(setting: Setting) -> None:
    table = finish(run_experiment(EXPERIMENTS["table7"], setting)).table
    assert [row[0] for row in table.rows[:4]] == ["seed 666", "seed 667", "seed 668", "seed 669"]
    further = [row[1] for row in table.rows[1:4]]
    assert table.rows[4][1] == pytest.approx(np.mean(further), abs=0.01)
    assert table.rows[5][1] == pytest.approx(np.std(further, ddof=1), abs=0.01)
    assert [row[-2:] for row in table.rows] == [(80.33, 58.87), *[(None, None)] * 3, (80.16, 60.20), (0.29, 1.42)]


@pytest.mark.slow
def test_table5_measures_in_separate_processes(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "BATCHES", (2,))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    table = finish(speed.table5(setting, seconds=0.0))
    assert [row[:2] for row in table.rows[:3]] == [
        ("SurgicalSAM", "training, batch 2"),
        ("SurgicalSAM", "prediction, embedding online"),
        ("SurgicalSAM", "prediction, embedding offline"),
    ]
    assert all(row[3] > 0 and row[5] > 0.1 for row in table.rows[:3])
    published = {row[:2]: row[3:] for row in table.rows[3:]}
    assert len(published) == 10
    assert published["SurgicalSAM", "training, batch 32"] == (59.8, "frames", 9.56)
    assert published["MaskTrack-RCNN + SAM", "prediction, embedding online"] == (1.6, "frames", None)


def test_a_batch_larger_than_the_data_is_an_error(setting: Setting) -> None:
    finish(trained_cell(setting.cells, setting.config))
    with pytest.raises(TrainingError, match="batch of 500"):
        speed.measure_training(setting.config.changed(batch_size=500, presence_weight=0), 0.0)


def test_figures_are_small_and_show_every_dataset(setting: Setting) -> None:
    outcome = finish(run_experiment(EXPERIMENTS["figures"], setting))
    assert [figure.path.name for figure in outcome.figures] == ["figure5.png", "figure8.png", "figure9.png"]
    for figure in outcome.figures:
        assert 0 < figure.path.stat().st_size <= 200_000


def test_a_grid_of_pictures_shrinks_until_it_is_small_enough(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    path = write_grid([[noise, noise], [noise]], tmp_path / "grid.png", most_bytes=10_000)
    assert path.stat().st_size <= 10_000
    with Image.open(path) as picture:
        assert picture.width / picture.height == pytest.approx(240 / 180, abs=0.02)


def test_a_grid_keeps_the_colour_of_a_small_instrument(tmp_path: Path) -> None:
    tissue = np.random.default_rng(0).normal((170, 90, 90), 25, (240, 320, 3)).clip(0, 255).astype(np.uint8)
    tissue[20:30, 40:60] = teal = ENDOVIS2018.by_name("Large Needle Driver").rgb
    with Image.open(write_grid([[tissue]], tmp_path / "grid.png")) as picture:
        shown = np.asarray(picture.convert("RGB"), int)[25, 50]
    assert np.abs(shown - teal).max() < 30


# The comparison with other methods -----------------------------------------------------------------------------------


@pytest.fixture
def eight(tmp_path: Path) -> Setting:
    """Eight videos of one frame, as the folds of EndoVis 2017 need; trainings of one epoch."""
    classes = ClassSet("eight", ENDOVIS2017.classes)
    clips = tuple(Clip(700_002 + number, new_tool=number > 3) for number in range(8))
    phantom = PhantomSet("eight", "second", classes, (), clips, other="Other", held_out=("1", "3"))
    path = finish(write_set(tmp_path, phantom, 1, 1))
    config = preset("endovis2018").changed(**PHANTOM_SETTINGS, validation=phantom.validation_names, device="cpu")
    detector = DetectorSettings(size="tiny", side=64, steps=2, batch_size=2)
    configs = (config.changed(data=[path], epochs=1, validate_every=1),)
    return Setting(configs, tmp_path / "out", is_phantom=True, text=TEXT, detector=detector)


@pytest.mark.slow
def test_table2_is_the_mean_of_four_folds_with_every_method(eight: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setattr(baselines, "tune_in_videos", partial(tune_in_videos, steps=2))
    table = finish(run_experiment(EXPERIMENTS["table2"], eight)).table
    ours = [row for row in table.rows if row[2] != "published"]
    assert {row[1] for row in ours} == {"mean of 4 folds"}
    assert {row[0] for row in ours} >= {"SurgicalSAM", "SurgicalSAM with text prototypes", "Mask2Former + SAM", "PerSAM"}
    assert {row[0] for row in table.rows if row[2] == "published"} == {row.method for row in published_rows("endovis2017")}
    validated = set()
    for fold in range(4):
        run = RunFolder.open(eight.out / "cells" / f"fold{fold}" / "eight-n2-learned-seed666")
        validated.add(run.config.validation)
        text = RunFolder.open(eight.out / "cells" / f"fold{fold}" / "eight-n2-fixed-from-file-seed666").config
        assert (text.prototypes, text.contrastive_weight) == ("fixed", 0) and text.prototypes_file is not None
    assert validated == {("1", "3"), ("2", "5"), ("4", "8"), ("6", "7")}


def test_table2_needs_the_folds_of_endovis_2017(setting: Setting, eight: Setting) -> None:
    table2, table4 = EXPERIMENTS["table2"], EXPERIMENTS["table4"]
    assert (table2.fits(eight), table2.fits(setting), table4.fits(setting), table4.fits(eight)) == (True, False, True, False)
    with pytest.raises(TrainingError, match="four folds over its eight sequences; first is another dataset"):
        finish(run_experiment(table2, setting))


def test_the_small_version_has_a_text_embedding_for_every_class() -> None:
    for classes in (ENDOVIS2018, ENDOVIS2017):
        embeddings = text_embeddings(TEXT, classes)
        assert embeddings.shape == (7, 384)
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(7), atol=1e-3, rtol=0)
    assert [clips.validation_names for clips in EXPERIMENTS["table2"].phantom_sets] == [("1", "3")]


# The paper beside ours -----------------------------------------------------------------------------------------------


def test_the_papers_figures_stand_beside_ours() -> None:
    assert papers_scores("table3", prototypes="fixed", n=4) == (78.26, 56.54)
    assert papers_scores("table6", prompts="without dense") == (23.61, 14.13)
    assert papers_scores("table7", seed=667) == (None, None)
    assert "Table 3 (EndoVis 2018)" in papers_note("table3")


# The page of documentation -------------------------------------------------------------------------------------------


def test_results_replace_the_text_between_their_markers_only(tmp_path: Path) -> None:
    page = tmp_path / "experiments.md"
    page.write_text("Before.\n<!-- table5 -->\nold\n<!-- end of table5 -->\nAfter.\n")
    picture = tmp_path / "curve.png"
    Image.new("RGB", (2, 2)).save(picture)
    for _ in range(2):
        update_page(tmp_path, Outcome("table5", TABLE, (Figure(picture, "A curve."),)), "surgicalsam experiment table5")
    text = page.read_text()
    assert text.startswith("Before.\n<!-- table5 -->\n") and text.endswith("<!-- end of table5 -->\nAfter.\n")
    assert "old" not in text and text.count("surgicalsam experiment table5") == 1
    assert (tmp_path / "images/experiments/curve.png").exists() and "images/experiments/curve.png" in text


def test_a_page_without_markers_for_the_result_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "experiments.md").write_text("Nothing here.")
    with pytest.raises(TrainingError, match="no place for table5"):
        update_page(tmp_path, Outcome("table5", TABLE), "…")


# Settings and the command line ---------------------------------------------------------------------------------------


def test_the_preset_follows_the_classes_of_the_data(datasets: list[Path], tmp_path: Path) -> None:
    setting = data_setting(datasets, tmp_path, preset_name=None)
    assert [config.tokens_per_class for config in setting.configs] == [2, 4]
    assert [config.epochs for config in setting.configs] == [500, 2000]
    together = data_setting(datasets, tmp_path, preset_name="quick", together=True)
    assert [len(config.data) for config in together.configs] == [2]


def test_a_setting_is_a_name_and_a_value() -> None:
    config = changed_by(TrainingConfig(), ["epochs=3", "validation=[1, seq_2]", "mixed-precision=false"])
    assert (config.epochs, config.validation, config.mixed_precision) == (3, ("1", "seq_2"), False)
    with pytest.raises(TrainingError, match="epochs=20"):
        changed_by(TrainingConfig(), ["epochs"])
    with pytest.raises(TrainingError, match="Did you mean epochs"):
        changed_by(TrainingConfig(), ["epoch=3"])


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run_command(*arguments: object) -> tuple[int, str]:
        code = cli.main(["experiment", *map(str, arguments)])
        streams = capsys.readouterr()
        return code, streams.out if code == 0 else streams.err

    return run_command


def test_an_error_on_the_command_line_is_one_line(run: Run, datasets: list[Path], tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    code, output = run("table9", "--phantom", *out)
    assert code == 1 and "table3" in output.splitlines()[-1]
    assert run("table3", *out)[0] == 2
    assert run("table3", datasets[0], "--phantom", *out)[0] == 2
    code, output = run("table4", datasets[0], *out)
    assert code == 2 and "2 needed, got 1" in output
    code, output = run("table3", *datasets, *out)
    assert code == 2 and "--together" in output
    assert run("table3", tmp_path / "nothing", *out)[0] == 1
    assert run("table3", datasets[0], *out, "--set", "epoch=1")[0] == 1


def test_an_experiment_runs_from_the_command_line(run: Run, datasets: list[Path], setting: Setting) -> None:
    settings = {**PHANTOM_SETTINGS, "epochs": 1, "validation": "[2]", "device": "cpu"}
    options = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    code, printed = run("figures", datasets[0], "--out", setting.out, *options, "--json")
    assert code == 0
    files = json.loads(printed.splitlines()[-1])["files"]
    assert [Path(file).name for file in files] == ["figure5.png", "figure9.png"]
