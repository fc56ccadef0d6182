"""Image encoders: exact chunked attention, and good and bad weights files."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tiny_encoder import TINY
from torch import Tensor, nn

from surgicalsam_napari.errors import CheckpointError
from surgicalsam_napari.model import image_encoder, vit_encoder
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.image_encoder import (
    build_image_encoder,
    detect_encoder,
    encoder_digest,
    encoder_shapes,
    load_encoder_weights,
    read_weights,
)
from surgicalsam_napari.model.sam_parts import read_sam_prompt_encoder_state
from surgicalsam_napari.model.segment_anything import ImageEncoderAttention, PromptEncoder
from surgicalsam_napari.model.vit_encoder import ChunkedAttention, ViTSize, build_vit_encoder
from surgicalsam_napari.model.zoo import weights_named

SMALL_VIT = ViTSize(embed_dim=32, depth=2, num_heads=4, global_attn_indexes=(1,))


@pytest.fixture
def small_vit() -> nn.Module:
    """SAM's encoder at reduced size: a windowed block (with padding, as 12 is no multiple of 5) and a global one."""
    torch.manual_seed(0)
    encoder = build_vit_encoder(SMALL_VIT, input_size=192, window_size=5)
    for name, parameter in encoder.named_parameters():
        if "pos" in name:
            nn.init.normal_(parameter)  # segment-anything starts them at zero, which would not test them
    return encoder.eval()


def with_original_attention(encoder: nn.Module, images: Tensor) -> Tensor:
    for block in encoder.blocks:  # type: ignore[union-attr]
        block.attn.__class__ = ImageEncoderAttention
    with torch.inference_mode():
        return encoder(images)


# every size from one row of one window at a time to all at once
@pytest.mark.parametrize("bias_bytes", [1, 12_000, 50_000, 200_000, 1 << 30])
def test_chunked_attention_equals_the_original(
    small_vit: nn.Module, monkeypatch: pytest.MonkeyPatch, bias_bytes: int
) -> None:
    monkeypatch.setattr(ChunkedAttention, "bias_bytes", {"cpu": bias_bytes})
    images = torch.randn(2, 3, 192, 192)
    with torch.inference_mode():
        chunked = small_vit(images)
    torch.testing.assert_close(chunked, with_original_attention(small_vit, images), atol=1e-4, rtol=0)


def test_chunked_attention_keeps_its_bias_within_the_limit(small_vit: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 50_000
    sizes = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def watch(*tensors: Tensor, attn_mask: Tensor) -> Tensor:
        sizes.append(attn_mask.numel() * attn_mask.element_size())
        return attend(*tensors, attn_mask=attn_mask)

    monkeypatch.setattr(ChunkedAttention, "bias_bytes", {"cpu": limit})
    monkeypatch.setattr(vit_encoder.F, "scaled_dot_product_attention", watch)
    with torch.inference_mode():
        small_vit(torch.randn(1, 3, 192, 192))
    assert limit / 4 < max(sizes) <= limit


def test_chunked_attention_runs_in_bfloat16(small_vit: nn.Module) -> None:
    images = torch.randn(1, 3, 192, 192)
    with torch.inference_mode():
        expected = small_vit(images)
        half = small_vit.to(torch.bfloat16)(images.to(torch.bfloat16)).float()
    assert torch.cosine_similarity(half.flatten(), expected.flatten(), dim=0) > 0.99


@pytest.mark.parametrize("encoder_id", ENCODERS)
def test_every_encoder_has_the_names_that_its_checkpoint_has(encoder_id: str) -> None:
    spec = ENCODERS[encoder_id]
    assert spec.id == encoder_id
    assert spec.weights is None or weights_named(spec.weights).encoder_id == encoder_id
    detected = detect_encoder(encoder_shapes(encoder_id))
    assert detected == ("mobile_sam" if encoder_id == "tiny_sam" else encoder_id)  # these two have the same layers


@pytest.mark.parametrize(("encoder_id", "dim", "depth"), [("vit_h", 1280, 32), ("vit_l", 1024, 24), ("vit_b", 768, 12)])
def test_vit_encoders_have_the_shapes_of_sam(encoder_id: str, dim: int, depth: int) -> None:
    shapes = encoder_shapes(encoder_id)
    assert len(shapes) == 14 * depth + 9
    assert shapes["patch_embed.proj.weight"] == (dim, 3, 16, 16)
    assert shapes["pos_embed"] == (1, 64, 64, dim)
    assert shapes[f"blocks.{depth - 1}.attn.rel_pos_h"][0] == 127  # the last block is global
    assert shapes["blocks.0.attn.rel_pos_h"][0] == 27  # the first has windows of 14


@pytest.mark.parametrize("encoder_id", ["light", TINY])
def test_encoders_give_the_shape_of_their_spec(encoder_id: str) -> None:
    spec = ENCODERS[encoder_id]
    with torch.inference_mode():
        embedding = build_image_encoder(encoder_id)(torch.randn(1, 3, spec.input_size, spec.input_size))
    assert embedding.shape == (1, *spec.embedding_shape)


def test_unknown_encoder_is_refused_with_the_known_ones() -> None:
    with pytest.raises(CheckpointError, match=r'vit_h, vit_l, vit_b, mobile_sam, .*light, tiny; got "vit_g"'):
        build_image_encoder("vit_g")


# Loading -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def light_state() -> dict[str, Tensor]:
    torch.manual_seed(1)
    state = build_image_encoder("light").state_dict()
    return {f"image_encoder.{name}": tensor for name, tensor in state.items()}


@pytest.fixture(scope="module")
def light_weights(light_state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "light.pth"
    torch.save(light_state | {"mask_decoder.weight": torch.ones(2)}, path)
    return path


def refusal(path: Path, encoder_id: str = "light") -> str:
    """The message that refuses this file; the encoder stays unchanged."""
    encoder = build_image_encoder("light")
    before = encoder_digest(encoder.state_dict())
    with pytest.raises(CheckpointError) as raised:
        load_encoder_weights(encoder, path, encoder_id)
    message = str(raised.value)
    assert "\n" not in message
    assert path.name in message
    assert encoder_digest(encoder.state_dict()) == before
    return message


def test_weights_load_and_return_their_digest(light_weights: Path, light_state: dict[str, Tensor]) -> None:
    encoder = build_image_encoder("light")
    digest = load_encoder_weights(encoder, light_weights, "light")
    assert digest == encoder_digest(encoder.state_dict())
    torch.testing.assert_close(
        encoder.state_dict()["merge.2.first.0.weight"], light_state["image_encoder.merge.2.first.0.weight"]
    )


def test_safetensors_and_old_pth_files_load_alike(
    light_weights: Path, light_state: dict[str, Tensor], tmp_path: Path
) -> None:
    save_file(light_state, tmp_path / "light.safetensors")
    torch.save(light_state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    files = (light_weights, tmp_path / "light.safetensors", tmp_path / "old.pt")
    assert len({load_encoder_weights(build_image_encoder("light"), file, "light") for file in files}) == 1


@pytest.mark.parametrize(("encoder_id", "side"), [("light", 512), ("mobile_sam", 256)])
def test_encoder_built_without_memory_is_filled(encoder_id: str, side: int, tmp_path: Path) -> None:
    original = build_image_encoder(encoder_id)
    torch.save({f"image_encoder.{name}": tensor for name, tensor in original.state_dict().items()}, tmp_path / "e.pth")
    with torch.device("meta"):
        encoder = build_image_encoder(encoder_id)
    load_encoder_weights(encoder, tmp_path / "e.pth", encoder_id)
    images = torch.randn(1, 3, side, side)
    with torch.inference_mode():
        torch.testing.assert_close(encoder(images), original(images))


def test_digest_depends_on_names_shapes_types_and_values_but_not_on_order() -> None:
    state = {"a": torch.arange(6.0), "b": torch.tensor(1)}
    changed = [
        {"a": state["a"], "c": state["b"]},
        {"a": state["a"].view(2, 3), "b": state["b"]},
        {"a": state["a"].half(), "b": state["b"]},
        {"a": state["a"] + 1, "b": state["b"]},
    ]
    digest = encoder_digest(state)
    assert len(digest) == 16
    assert digest == encoder_digest({"b": state["b"], "a": state["a"]})
    assert len({digest, *map(encoder_digest, changed)}) == 5


def test_another_encoder_is_named_in_the_refusal(tmp_path: Path) -> None:
    state = {f"image_encoder.{name}": torch.zeros(shape) for name, shape in encoder_shapes("mobile_sam").items()}
    torch.save(state, tmp_path / "mobile.pth")
    message = refusal(tmp_path / "mobile.pth")
    assert "holds the image encoder MobileSAM TinyViT; Light encoder is expected" in message


def test_vits_are_distinguished_by_their_shapes() -> None:
    with torch.device("meta"):
        state = build_image_encoder("vit_h").state_dict()
    with pytest.raises(CheckpointError, match=r"sam\.pth holds the image encoder SAM ViT-H; SAM ViT-B is expected"):
        image_encoder.check_encoder_state(state, "vit_b", "sam.pth")


def test_missing_extra_and_misshapen_weights_are_named(light_state: dict[str, Tensor], tmp_path: Path) -> None:
    state = dict(light_state)
    del state["image_encoder.from_context.bias"]
    state["image_encoder.surplus"] = torch.ones(1)
    state["image_encoder.from_8.bias"] = torch.ones(7)
    torch.save(state, tmp_path / "changed.pth")
    message = refusal(tmp_path / "changed.pth")
    assert "1 missing (from_context.bias)" in message
    assert "1 not expected (surplus)" in message
    assert "1 of another shape (from_8.bias is (7,) and should be (128,))" in message


def test_file_without_an_image_encoder_is_refused(tmp_path: Path) -> None:
    torch.save({"mask_decoder.weight": torch.ones(2)}, tmp_path / "decoder.pth")
    assert "under image_encoder.*; it holds none" in refusal(tmp_path / "decoder.pth")


class Payload:
    """An attack hidden in a .pth file; unpickling it creates a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("new_format", [True, False])
def test_pickle_payload_is_refused_and_not_run(tmp_path: Path, light_state: dict[str, Tensor], new_format: bool) -> None:
    folder = tmp_path / "executed"
    path = tmp_path / "evil.pth"
    torch.save(light_state | {"extra": Payload(folder)}, path, _use_new_zipfile_serialization=new_format)
    assert "could run code and were not loaded" in refusal(path)
    assert not folder.exists()


def test_plain_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Payload(tmp_path / "executed"), protocol=2))
    assert refusal(tmp_path / "evil.pth")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("share", [0.0001, 0.5, 0.99])
def test_half_downloaded_file_is_refused(tmp_path: Path, light_weights: Path, share: float) -> None:
    whole = light_weights.read_bytes()
    (tmp_path / "half.pth").write_bytes(whole[: int(len(whole) * share)])
    message = refusal(tmp_path / "half.pth")
    assert "damaged or incomplete" in message
    assert "Download it again" in message


@pytest.mark.parametrize("new_format", [True, False])
def test_half_downloaded_old_and_safetensors_files_are_refused(
    tmp_path: Path, light_state: dict[str, Tensor], new_format: bool
) -> None:
    path = tmp_path / ("half.safetensors" if new_format else "half.pt")
    buffer = io.BytesIO()
    if new_format:
        save_file(light_state, path)
    else:
        torch.save(light_state, buffer, _use_new_zipfile_serialization=False)
        path.write_bytes(buffer.getvalue())
    path.write_bytes(path.read_bytes()[:-1000])
    assert "damaged or incomplete" in refusal(path)


def zip_of_text(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "not weights")


@pytest.mark.parametrize(
    ("content", "expectation"),
    [
        (b"", "it is empty"),
        (b"\x89PNG and so on", "its first bytes are not those of one"),
        (b"\n<!DOCTYPE html><html>Sign in</html>", "it is a saved web page"),
    ],
)
def test_file_that_is_not_a_checkpoint_is_refused(tmp_path: Path, content: bytes, expectation: str) -> None:
    for name in ("file.pth", "file.safetensors"):
        (tmp_path / name).write_bytes(content)
        message = refusal(tmp_path / name)
        assert name in message
        if name == "file.pth":
            assert expectation in message


def test_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    zip_of_text(tmp_path / "archive.pth")
    assert "should be a complete PyTorch checkpoint" in refusal(tmp_path / "archive.pth")


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    assert "there is no such file" in refusal(tmp_path / "nowhere.pth")
    (tmp_path / "folder.pth").mkdir()
    assert "it is a folder" in refusal(tmp_path / "folder.pth")


@pytest.mark.parametrize(
    ("saved", "content"), [([1, 2], "a list"), ({"epoch": 3}, "a dictionary without tensors"), (torch.ones(2), "a Tensor")]
)
def test_checkpoint_without_named_weights_is_refused(tmp_path: Path, saved: object, content: str) -> None:
    torch.save(saved, tmp_path / "saved.pth")
    assert f"it holds {content}" in refusal(tmp_path / "saved.pth")


def test_nested_weights_keep_their_nesting_and_other_values_are_skipped(tmp_path: Path) -> None:
    torch.save({"state": {"weight": torch.ones(2), "step": 4}, "epoch": 3, "options": {"lr": 0.1}}, tmp_path / "n.pth")
    weights = read_weights(tmp_path / "n.pth")
    assert list(weights) == ["state"]
    assert list(weights["state"]) == ["weight"]


# SAM's prompt encoder ------------------------------------------------------------------------------------------------


def save_prompt_encoder(path: Path, **changes: Tensor) -> dict[str, Tensor]:
    encoder = PromptEncoder(256, image_embedding_size=(64, 64), input_image_size=(1024, 1024), mask_in_chans=16)
    state = encoder.state_dict() | changes
    torch.save({f"prompt_encoder.{name}": tensor for name, tensor in state.items()}, path)
    return state


def test_prompt_encoder_is_read_from_a_sam_checkpoint(tmp_path: Path) -> None:
    saved = save_prompt_encoder(tmp_path / "sam.pth")
    read = read_sam_prompt_encoder_state(tmp_path / "sam.pth")
    assert read.keys() == saved.keys()
    assert all(torch.equal(read[name], saved[name]) for name in saved)


def test_incomplete_prompt_encoder_is_refused(tmp_path: Path) -> None:
    save_prompt_encoder(tmp_path / "sam.pth", **{"point_embeddings.1.weight": torch.ones(1, 9)})
    with pytest.raises(CheckpointError, match=r"sam\.pth.*point_embeddings\.1\.weight is \(1, 9\).*\(1, 256\).*Choose"):
        read_sam_prompt_encoder_state(tmp_path / "sam.pth")
    torch.save({"image_encoder.weight": torch.ones(1)}, tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match=r"none\.pth.*17 missing.*Choose a complete checkpoint of SAM"):
        read_sam_prompt_encoder_state(tmp_path / "none.pth")
