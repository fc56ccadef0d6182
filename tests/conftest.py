"""Fixtures that build on each other: a checkpoint, its model, a clip to use it on."""

from __future__ import annotations

import gc
import os
import shutil
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from reference.inputs import weights as authors_weights
from reference.inputs import write_checkpoint
from tiny_encoder import TINY

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.checkpoint import build_parts, load_checkpoint, save_checkpoint
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.image_encoder import build_image_encoder, encoder_digest
from surgicalsam_napari.model.mask_decoder import build_mask_decoder
from surgicalsam_napari.model.surgical_sam import SurgicalSAM, build_presence_head
from surgicalsam_napari.phantom import write_phantom_clip
from surgicalsam_napari.preferences import VARIABLE

if TYPE_CHECKING:
    from napari import Viewer
    from npe2 import PluginManifest

# napari reads it when it is imported. Without a file, it neither reads nor writes the settings of the user, and each of its
# settings, of which every viewer changes several, takes less time.
os.environ["NAPARI_CONFIG"] = ""

SHARED = Path(__file__).parents[2] / "shared"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Collecting garbage, which each viewer does several times at its end, does not look at what stays anyway.

    napari keeps some thousand objects of every viewer: without this, each viewer takes longer to close than the one before.
    """
    if opens_viewer(item):
        gc.collect()
        gc.freeze()
    return (yield)


def opens_viewer(item: pytest.Item) -> bool:
    return "make_napari_viewer" in getattr(item, "fixturenames", ())


@pytest.fixture(scope="session")
def manifests() -> list[PluginManifest]:
    """The manifests of the installed napari plugins; to find and to parse them takes a fifth of a viewer's start."""
    from npe2 import PluginManifest

    return list(PluginManifest.discover())


@pytest.fixture
def make_napari_viewer(
    make_napari_viewer: Callable[..., Viewer], manifests: list[PluginManifest], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Viewer]:
    """napari's fixture, without two things that take a third of a test's time.

    Plugins are searched for only once. The window does not watch each event of the application, of which a dock with a
    thousand widgets makes fifty thousand: napari only does so to show a hidden menu bar.
    """
    from qtpy.QtWidgets import QApplication

    monkeypatch.setattr("npe2.PluginManifest.discover", lambda *_, **__: iter(manifests))

    def make(*arguments: object, **options: object) -> Viewer:
        viewer = make_napari_viewer(*arguments, **options)
        QApplication.instance().removeEventFilter(viewer.window._qt_window)
        return viewer

    return make


@pytest.fixture(autouse=True)
def preferences_file(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own file of preferences, not yet written: no test reads or changes those of the user."""
    path = tmp_path_factory.getbasetemp() / f"preferences_{uuid.uuid4().hex}" / "preferences.json"
    monkeypatch.setenv(VARIABLE, str(path))
    return path


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
def edge_sam_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file like EdgeSAM's: its image encoder, and the prompt encoder of `authors_folder`; random weights."""
    torch.manual_seed(2)
    state = {f"image_encoder.{name}": tensor for name, tensor in build_image_encoder("edge_sam").state_dict().items()}
    path = tmp_path_factory.mktemp("edge") / "edge_sam_3x.pth"
    torch.save(state | authors_weights()[1], path)
    return path


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


@pytest.fixture
def bundled_tiny(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The window loads the tiny checkpoint first, in place of the bundled one, and does not wait until it is drawn."""
    monkeypatch.setattr("surgicalsam_napari.model.zoo.bundled_checkpoint", lambda: tiny_checkpoint)
    monkeypatch.setattr("surgicalsam_napari.widgets.main_widget.FIRST_MODEL_DELAY_MS", 0)


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
