"""Encoders distilled from SAM: names and shapes of their checkpoints, their parts, and the authors' decoder on them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from surgicalsam_napari import cli
from surgicalsam_napari.errors import CheckpointError
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model import zoo
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.efficientvit import LinearAttention
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.image_encoder import build_image_encoder, encoder_in_file, encoder_shapes
from surgicalsam_napari.model.repvit import EdgeSAMEncoder, ParallelFilter, RepViTSAMEncoder
from surgicalsam_napari.model.sam_parts import sam_parts_file
from surgicalsam_napari.model.zoo import find_weights, known_weights, weights_named
from surgicalsam_training.learn.learning import _with_known_encoder

DISTILLED = ("mobile_sam", "tiny_sam", "edge_sam", "repvit_sam", "efficientvit_sam_l0")


def empty_state(encoder_id: str) -> dict[str, Tensor]:
    """Names and shapes of an encoder's weights, all zero, in a file of some kilobytes."""
    return {f"image_encoder.{name}": torch.zeros(()).expand(shape) for name, shape in encoder_shapes(encoder_id).items()}


def save_empty(path: Path, encoder_id: str) -> Path:
    torch.save(empty_state(encoder_id), path)
    return path


# Names, shapes and parts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoder_id", "count", "some"),
    [
        ("tiny_sam", 302, {"layers.2.blocks.5.attn.attention_biases": (5, 196)}),
        (
            "edge_sam",
            684,
            {
                "features.1.token_mixer.0.conv1.bn.running_var": (48,),
                "features.1.token_mixer.1.fc1.weight": (16, 48, 1, 1),
                "features.24.token_mixer.2.c.weight": (384, 192, 1, 1),
                "fuse_stage3.op_list.0.weight": (256, 384, 1, 1),
            },
        ),
        (
            "repvit_sam",
            1461,
            {
                "features.1.token_mixer.0.conv1.bias": (80,),
                "features.1.token_mixer.1.fc2.weight": (80, 24, 1, 1),
                "features.54.channel_mixer.m.2.c.weight": (640, 1280, 1, 1),
                "neck.0.weight": (256, 640, 1, 1),
            },
        ),
        (
            "efficientvit_sam_l0",
            272,
            {
                "backbone.stages.0.op_list.1.main.conv2.norm.running_var": (32,),
                "backbone.stages.2.op_list.0.main.spatial_conv.conv.weight": (1024, 64, 3, 3),
                "backbone.stages.4.op_list.4.context_module.main.aggreg.0.0.weight": (1536, 1, 5, 5),
                "neck.output_ops.0.op_list.0.conv.bias": (256,),
                "norm.weight": (256,),
            },
        ),
    ],
)
def test_names_and_shapes_are_those_of_the_public_code(encoder_id: str, count: int, some: dict) -> None:
    shapes = encoder_shapes(encoder_id)
    assert len(shapes) == count
    assert {name: shapes.get(name) for name in some} == some


@pytest.mark.parametrize("encoder_id", DISTILLED)
def test_each_gives_sams_embedding_and_says_what_it_imitates(encoder_id: str) -> None:
    spec = ENCODERS[encoder_id]
    with torch.device("meta"), torch.inference_mode():
        embedding = build_image_encoder(encoder_id)(torch.empty(2, 3, spec.input_size, spec.input_size))
    assert embedding.shape == (2, *spec.embedding_shape) == (2, 256, 64, 64)
    assert spec.distilled_from == "vit_h" and spec.has_sam_decoder


def test_linear_attention_weighs_values_by_products_of_rectified_queries_and_keys() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 2, 8, 20)
    attended = LinearAttention(16, head_dim=8).attend(query, key, value)
    for head in range(2):
        weights = key[0, head].relu().T @ query[0, head].relu()  # (keys, queries)
        expected = value[0, head] @ (weights / (weights.sum(0) + 1e-15))
        torch.testing.assert_close(attended[0, head], expected, atol=1e-5, rtol=1e-5)


def test_the_two_forms_of_the_parallel_filter() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 4, 6, 6)
    for normalises_sum in (True, False):
        block = ParallelFilter(4, normalises_sum).eval()
        branches = block.conv(x) + block.conv1(x) + x
        expected = block.bn(branches) if normalises_sum else branches
        torch.testing.assert_close(block(x), expected)
        assert isinstance(block.conv1, nn.Conv2d) == normalises_sum


def test_the_last_stage_of_edge_sam_is_coarser_and_that_of_repvit_sam_is_not() -> None:
    images = torch.empty(1, 3, 256, 256, device="meta")
    with torch.device("meta"), torch.inference_mode():
        for encoder, cells in ((EdgeSAMEncoder(), 8), (RepViTSAMEncoder(), 16)):
            x = images
            for layer in encoder.eval().features:
                x = layer(x)
            assert x.shape[2:] == (cells, cells)
            assert encoder(images).shape == (1, 256, 16, 16)


# Files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file_name", "content", "found"),
    [
        ("edge_sam_3x.pth", "edge_sam", "edge_sam"),
        ("anything.pt", "efficientvit_sam_l0", "efficientvit_sam_l0"),
        ("mobile_sam.pt", "mobile_sam", "mobile_sam"),
        ("tinysam_42.3.pth", "tiny_sam", "tiny_sam"),  # the same names and shapes as MobileSAM's
        ("renamed.pth", "tiny_sam", "mobile_sam"),
    ],
)
def test_the_encoder_in_a_file_is_recognised(file_name: str, content: str, found: str, tmp_path: Path) -> None:
    assert encoder_in_file(save_empty(tmp_path / file_name, content)) == found


def test_weights_inside_a_state_dict_are_found(tmp_path: Path) -> None:
    torch.save({"state_dict": empty_state("efficientvit_sam_l0"), "epoch": 3}, tmp_path / "e.pt")
    assert encoder_in_file(tmp_path / "e.pt") == "efficientvit_sam_l0"
    torch.save({"mask_decoder.weight": torch.ones(1)}, tmp_path / "d.pt")
    assert encoder_in_file(tmp_path / "d.pt") is None


def test_weights_without_a_published_digest_are_found_by_name_and_never_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SURGICALSAM_MODELS", str(tmp_path))
    monkeypatch.setattr(zoo, "_cache_folder", lambda: tmp_path / "cache")
    assert find_weights("tiny_sam") is None
    with pytest.raises(
        CheckpointError, match=r"Download tinysam_42\.3\.pth from https://github\.com/xinghaochen/.* browser"
    ):
        known_weights("tiny_sam")
    refused = CliRunner().invoke(cli.app, ["models", "download", "tiny_sam"])
    assert refused.exit_code == 2 and "cannot be downloaded" in refused.output
    (tmp_path / "tinysam_42.3.pth").write_bytes(b"weights")
    assert find_weights("tiny_sam") == tmp_path / "tinysam_42.3.pth"


def test_the_list_of_models_names_licences_that_forbid_commercial_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SURGICALSAM_MODELS", str(tmp_path))
    lines = CliRunner().invoke(cli.app, ["models"]).stdout.splitlines()
    restricted = [line.split()[0] for line in lines if "not for commercial use" in line]
    assert restricted == ["edge_sam"] and not weights_named("edge_sam").is_commercial
    record = json.loads(CliRunner().invoke(cli.app, ["models", "--json"]).stdout.splitlines()[-1])
    assert {entry["name"]: entry["licence"] for entry in record["weights"]}["repvit_sam"] == "Apache-2.0"


# The authors' decoder on a distilled encoder -------------------------------------------------------------------------


def test_an_authors_checkpoint_runs_on_a_distilled_encoder_and_is_marked_as_untested(
    authors_folder: Path, edge_sam_file: Path
) -> None:
    model = load_checkpoint(
        authors_folder / "model_ckp.pth", encoder_weights=edge_sam_file, classes=ENDOVIS2018, device="cpu"
    )
    assert model.encoder_id == "edge_sam" and len(model.encoder_digest) == 16
    assert "was trained with SAM ViT-H and is used here with EdgeSAM RepViT" in model.caution
    assert "Nobody has measured" in model.caution and "use Learn" in model.caution
    frame = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    embedding = model.embed([frame])
    assert embedding.shape == (1, 256, 64, 64) and np.isfinite(embedding).all()
    prediction = model.predict(embedding, [1, 2], (96, 128))[0]
    assert prediction.label_map.shape == (96, 128) and prediction.class_ids == (1, 2)


def test_an_authors_checkpoint_on_its_own_encoder_has_no_caution(authors_folder: Path) -> None:
    model = load_checkpoint(
        authors_folder / "model_ckp.pth",
        encoder_weights=authors_folder / "sam_prompt_encoder.pth",
        classes=ENDOVIS2018,
        device="cpu",
        load_image_encoder=False,
    )
    assert model.encoder_id == "vit_h" and model.caution == ""


def test_an_encoder_that_does_not_imitate_vit_h_is_refused(authors_folder: Path, tmp_path: Path) -> None:
    file = save_empty(tmp_path / "sam_vit_b.pth", "vit_b")
    with pytest.raises(CheckpointError, match=r"trained with SAM ViT-H; sam_vit_b\.pth holds SAM ViT-B.*MobileSAM TinyViT"):
        load_checkpoint(authors_folder / "model_ckp.pth", encoder_weights=file, classes=ENDOVIS2018)


def test_a_file_with_only_an_encoder_takes_the_other_parts_from_sam_or_says_what_is_missing(
    authors_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save_empty(tmp_path / "edge_sam_encoder.pth", "edge_sam")
    monkeypatch.setattr(zoo, "find_weights", lambda _name: None)
    with pytest.raises(CheckpointError, match=r"holds only an image encoder.*SAM ViT-H.*surgicalsam models download vit_h"):
        load_checkpoint(authors_folder / "model_ckp.pth", encoder_weights=file, classes=ENDOVIS2018)
    complete = authors_folder / "sam_prompt_encoder.pth"
    monkeypatch.setattr(zoo, "find_weights", lambda name: complete if name == "vit_h" else None)
    assert sam_parts_file(file, "edge_sam") == complete


def test_learn_starts_from_the_distilled_encoder(authors_folder: Path, edge_sam_file: Path) -> None:
    from surgicalsam_training.config import parse_config

    checkpoint = authors_folder / "model_ckp.pth"
    start = _with_known_encoder(parse_config({"checkpoint": checkpoint, "encoder_weights": edge_sam_file}))
    assert (start.encoder, start.checkpoint, start.encoder_weights) == ("edge_sam", None, edge_sam_file)
    assert _with_known_encoder(parse_config({"checkpoint": checkpoint})).encoder == "vit_h"


def test_the_command_line_says_that_the_combination_is_untested(
    authors_folder: Path, edge_sam_file: Path, clip: Path, capsys: pytest.CaptureFixture
) -> None:
    line = ["embed", clip, "--frames", "0", "--checkpoint", authors_folder / "model_ckp.pth", "--classes", "endovis2018"]
    assert cli.main([str(part) for part in [*line, "--encoder-weights", edge_sam_file, "--device", "cpu"]]) == 0
    assert "Nobody has measured" in capsys.readouterr().err
