"""Text embeddings of class names as fixed prototypes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.nn import functional as F

from surgicalsam_napari.errors import CheckpointError
from surgicalsam_napari.instruments import ENDOVIS2018, ClassSet, InstrumentClass
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_training.baselines.text_prototypes import (
    projected_embeddings,
    set_text_prototypes,
    text_embeddings,
    write_text_prototypes,
)

TWO = ClassSet("two", (InstrumentClass(3, "Forceps", "#ff0000"), InstrumentClass(5, "Clip Applier", "#00ff00")))


def products(rows: torch.Tensor) -> torch.Tensor:
    return rows @ rows.T


def test_a_map_to_fewer_channels_keeps_every_product() -> None:
    # unit vectors at 60 degrees in 512 dimensions: their product is a half, also in 128
    embeddings = torch.zeros(2, 512)
    embeddings[0, 7] = 5.0
    embeddings[1, 7], embeddings[1, 300] = 0.5, 0.75**0.5
    projected = projected_embeddings(embeddings, 128)
    assert projected.shape == (2, 128)
    torch.testing.assert_close(products(projected), torch.tensor([[1.0, 0.5], [0.5, 1.0]]))


def test_a_map_to_more_channels_keeps_every_product_and_is_fixed() -> None:
    embeddings = torch.randn(7, 64, generator=torch.Generator().manual_seed(0))
    projected = projected_embeddings(embeddings, 256)
    unit = F.normalize(embeddings, dim=1)
    torch.testing.assert_close(products(projected), products(unit), atol=1e-5, rtol=0)
    torch.testing.assert_close(projected_embeddings(embeddings, 256), projected)
    assert not torch.allclose(projected_embeddings(embeddings, 256, seed=1), projected)


def test_embeddings_that_fit_are_only_normalised() -> None:
    assert projected_embeddings(torch.tensor([[3.0, 4.0]]), 2).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)]]


def test_with_more_classes_than_channels_the_largest_parts_are_kept() -> None:
    projected = projected_embeddings(torch.eye(4)[[0, 0, 0, 1, 2]], 2)
    assert projected.shape == (5, 2)
    torch.testing.assert_close(
        products(projected)[:3, :3], torch.ones(3, 3)
    )  # the three equal embeddings are the largest part


def test_rows_are_matched_by_name_or_used_in_order(tmp_path: Path) -> None:
    rows = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    by_name = {"clip applier": rows[1].clone(), "FORCEPS": rows[0].clone(), "Stapler": torch.zeros(3)}
    safetensors.torch.save_file(by_name, tmp_path / "named.safetensors")
    safetensors.torch.save_file({"text": rows}, tmp_path / "one.safetensors")
    np.save(tmp_path / "rows.npy", rows.numpy())
    for name in ("named.safetensors", "one.safetensors", "rows.npy"):
        assert torch.equal(text_embeddings(tmp_path / name, TWO), rows)


def test_files_that_do_not_fit_are_errors(tmp_path: Path) -> None:
    np.save(tmp_path / "three.npy", np.zeros((3, 8), np.float32))
    np.save(tmp_path / "nan.npy", np.full((2, 8), np.nan, np.float32))
    np.save(tmp_path / "whole.npy", np.zeros((2, 8), np.int64))
    (tmp_path / "damaged.npy").write_bytes(b"nothing")
    (tmp_path / "damaged.safetensors").write_bytes(b"nothing")
    safetensors.torch.save_file({"Forceps": torch.zeros(3), "Stapler": torch.zeros(3)}, tmp_path / "lacks.safetensors")
    for name, message in {
        "three.npy": r"2 finite text embeddings, one for each of Forceps, Clip Applier; it has \(3, 8\) float32",
        "nan.npy": "2 finite",
        "whole.npy": "int64",
        "damaged.npy": "cannot be read",
        "damaged.safetensors": "cannot be read",
        "none.npy": "cannot be read",
        "lacks.safetensors": r"none for Clip Applier \(it has Forceps, Stapler\)",
    }.items():
        with pytest.raises(CheckpointError, match=message):
            text_embeddings(tmp_path / name, TWO)


def test_only_the_prototypes_are_replaced(tiny_checkpoint: Path, tmp_path: Path) -> None:
    model = load_checkpoint(tiny_checkpoint, device="cpu", load_image_encoder=False)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    embeddings = torch.randn(7, 512)
    np.save(tmp_path / "clip.npy", embeddings.numpy())
    set_text_prototypes(model, tmp_path / "clip.npy")
    changed = [key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])]
    assert changed == ["prototypes.class_embeddings.weight"]
    torch.testing.assert_close(products(model.prototypes()), products(F.normalize(embeddings, dim=1)), atol=1e-5, rtol=0)


def test_prototypes_are_written_under_the_names_of_classes(tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", np.eye(7, 512, dtype=np.float32))
    path = write_text_prototypes(tmp_path / "out" / "text.safetensors", tmp_path / "clip.npy", ENDOVIS2018, 128)
    written = safetensors.torch.load_file(path)
    assert set(written) == set(ENDOVIS2018.names)
    rows = torch.stack([written[name] for name in ENDOVIS2018.names])
    assert rows.shape == (7, 128)
    torch.testing.assert_close(products(rows), torch.eye(7), atol=1e-6, rtol=0)


def test_a_folder_of_clip_weights_gives_an_embedding_for_each_name(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = tiny_clip(transformers, tmp_path / "clip")
    embeddings = text_embeddings(folder, TWO)
    assert embeddings.shape == (2, 12)
    swapped = text_embeddings(folder, ClassSet("swapped", TWO.classes[::-1]))
    torch.testing.assert_close(swapped, embeddings.flip(0), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(embeddings[0], embeddings[1])


def test_a_folder_without_clip_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(CheckpointError, match="should hold CLIP's weights and tokenizer"):
        text_embeddings(tmp_path, TWO)


def tiny_clip(transformers, folder: Path) -> Path:  # type: ignore[no-untyped-def]
    """CLIP's text encoder with random weights, and a tokenizer of single letters."""
    folder.mkdir()
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig(
        vocab_size=len(tokens), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        projection_dim=12, bos_token_id=len(tokens) - 2, eos_token_id=len(tokens) - 1,
    )  # fmt: skip
    transformers.CLIPTextModelWithProjection(config).save_pretrained(folder)
    return folder
