"""The configuration of a training, as a user writes it in YAML."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from surgicalsam_napari.errors import TrainingError
from surgicalsam_training.config import TrainingConfig, parse_config, preset, preset_names, read_config

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_yaml(text: str) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return path

    return write_yaml


@pytest.mark.parametrize(
    ("name", "learning_rate", "tokens", "epochs"), [("endovis2018", 1e-3, 2, 500), ("endovis2017", 1e-4, 4, 2000)]
)
def test_the_presets_hold_the_values_of_the_paper(name: str, learning_rate: float, tokens: int, epochs: int) -> None:
    config = preset(name)
    assert (config.learning_rate, config.tokens_per_class, config.epochs) == (learning_rate, tokens, epochs)
    assert (config.batch_size, config.weight_decay, config.temperature, config.seed) == (32, 1e-4, 0.07, 666)
    assert (config.dense_hidden_dim, config.sparse_hidden_dim, config.encoder) == (128, 128, "vit_h")
    assert (config.cross_entropy_weight, config.predicted_iou_weight, config.kept_of_start) == (0, 0, 0)


def test_every_preset_can_be_written_and_read_again(write: Write) -> None:
    for name in preset_names():
        assert read_config(write(preset(name).to_yaml())) == preset(name)


def test_relative_paths_start_at_the_folder_of_the_file(write: Write) -> None:
    path = write("data: [a.mp4, /elsewhere/b.mp4, ~/c.mp4]\ncheckpoint: w.safetensors")
    config = read_config(path)
    assert config.data == (path.parent / "a.mp4", Path("/elsewhere/b.mp4"), Path.home() / "c.mp4")
    assert config.checkpoint == path.parent / "w.safetensors"


def test_one_name_is_a_list_of_one_and_sequences_may_be_numbers(write: Write) -> None:
    config = read_config(write("data: a.mp4\nclasses: Clip Applier\nvalidation: [1, seq_3]\nignored_classes: 4"))
    assert [path.name for path in config.data] == ["a.mp4"]
    assert (config.classes, config.validation, config.ignored_classes) == (("Clip Applier",), ("1", "seq_3"), ("4",))


def test_numbers_may_be_written_as_in_python(write: Write) -> None:
    assert read_config(write("learning_rate: 1e-4")).learning_rate == 1e-4  # YAML 1.1 reads this as text


def test_an_empty_file_changes_nothing(write: Write) -> None:
    assert read_config(write("")) == TrainingConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", 'mine.yaml: there is no setting "epoch". Did you mean epochs?'),
        ("zzz: 3", "The settings are data, checkpoint"),
        ("3: 4", 'there is no setting "3"'),
        ("epochs: many", "epochs should be a whole number; got 'many'."),
        ("epochs: 3.5", "epochs should be a whole number; got 3.5."),
        ("epochs: 0", "epochs should be greater than or equal to 1; got 0."),
        ("epochs:", "epochs should be a whole number; got None."),
        ("minutes: 0", "minutes should be greater than 0"),
        ("validation_share: 1", "validation_share should be less than 1"),
        ("learning_rate: .inf", "learning_rate should be a finite number"),
        ("mixed_precision: perhaps", "mixed_precision should be true or false"),
        ("loss_resolution: full", "loss_resolution should be 'frame' or 'logits'; got 'full'."),
        ("validation: {a: b}", "validation.0 should be a name"),
        ("data: {a: b}", "data should be a list"),
        ("data: [3]", "data.0 should be a path"),
        ("checkpoint: a.safetensors\nencoder: light", "start from a checkpoint or from an encoder, not both."),
        ("- epochs", "should map names to values, as in `epochs: 20`; found list."),
        ("epochs: [1", "mine.yaml is not valid YAML"),
        ("seed: 2020-13-45", "mine.yaml is not valid YAML"),
    ],
)
def test_a_mistake_is_reported_in_one_line(write: Write, text: str, message: str) -> None:
    with pytest.raises(TrainingError, match=re.escape(message)) as error:
        read_config(write(text))
    assert "\n" not in str(error.value)
    assert "Input" not in str(error.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"device: caf\xe9")
    for path in (tmp_path / "missing.yaml", tmp_path, tmp_path / "latin.yaml"):
        with pytest.raises(TrainingError, match=path.name):
            read_config(path)


def test_an_unknown_preset_lists_the_presets() -> None:
    with pytest.raises(TrainingError, match="endovis2017, endovis2018, quick"):
        preset("endovis")


def test_a_changed_copy_is_checked_and_the_original_stays() -> None:
    config = parse_config({"epochs": 3})
    assert (config.changed(epochs=4).epochs, config.epochs) == (4, 3)
    with pytest.raises(TrainingError, match="batch_size should be greater"):
        config.changed(batch_size=0)
