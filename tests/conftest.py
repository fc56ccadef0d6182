"""Fixtures that build on each other: a checkpoint, its model, a clip to use it on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from reference.inputs import write_checkpoint
from tiny_encoder import TINY

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.checkpoint import build_parts, load_checkpoint, save_checkpoint
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.image_encoder import build_image_encoder, encoder_digest
from surgicalsam_napari.model.mask_decoder import build_mask_decoder
from surgicalsam_napari.model.surgical_sam import SurgicalSAM, build_presence_head
from surgicalsam_napari.phantom import write_phantom_clip

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(autouse=True)
def own_preferences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes what this computer remembers."""
    monkeypatch.setenv("SURGICALSAM_PREFERENCES", str(tmp_path / "preferences" / "preferences.json"))


@pytest.fixture(scope="session")
def shared_folder() -> Path:
    """Real images, and the full set of reference numbers, which are not part of the project."""
    if not SHARED.is_dir():
        pytest.skip("the folder of real images and the full set of reference numbers is not next to this checkout")
    return SHARED


@pytest.fixture(scope="session")
def authors_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as the authors publish it, model_ckp.pth, and sam_prompt_encoder.pth; random weights."""
    return write_checkpoint(tmp_path_factory.mktemp("authors"))


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint for the seven EndoVis 2018 classes: a tiny encoder, and random weights."""
    torch.manual_seed(0)
    encoder = build_image_encoder(TINY)
    parts = build_parts(ENCODERS[TINY], len(ENDOVIS2018))
    model = SurgicalSAM(
        ENDOVIS2018,
        TINY,
        encoder_digest(encoder.state_dict()),
        image_encoder=encoder,
        sam_mask_decoder=build_mask_decoder(128, 512),
        presence_head=build_presence_head(128),
        presence_threshold=0.0,
        **parts,
    )
    return save_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny.safetensors", model, training_record={"steps": 0})


@pytest.fixture(scope="session")
def tiny_model(tiny_checkpoint: Path) -> SurgicalSAM:
    return load_checkpoint(tiny_checkpoint, device="cpu")


@pytest.fixture(scope="session")
def phantom_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom mp4 of 12 small frames; copy it before you create a project next to it."""
    return write_phantom_clip(tmp_path_factory.mktemp("phantom"), size=(96, 128), frame_count=12)


@pytest.fixture
def clip(phantom_clip: Path, tmp_path: Path) -> Path:
    """The phantom clip, in the test's own folder."""
    return Path(shutil.copy(phantom_clip, tmp_path / "clip.mp4"))


@pytest.fixture
def notes() -> Iterator[list[str]]:
    """The messages of the shown notifications."""
    from napari.utils.notifications import notification_manager

    shown: list[str] = []

    def remember(notification: object) -> None:
        shown.append(notification.message)  # type: ignore[attr-defined]

    notification_manager.notification_ready.connect(remember)
    yield shown
    notification_manager.notification_ready.disconnect(remember)
