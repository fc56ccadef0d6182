"""Shared checkpoints: added from files, addresses and lists, used by name, and published with a card."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from surgicalsam_napari import cli
from surgicalsam_napari.errors import CheckpointError, DownloadError
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.model_card import share_model
from surgicalsam_napari.model.shared_models import add_models, download_model, remove_model, shared_models
from surgicalsam_napari.widgets.source.checkpoint_picker import CheckpointPicker
from tests import tiny_encoder  # noqa: F401 (registers the encoder)


@pytest.fixture(autouse=True)
def models_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    monkeypatch.setenv("SURGICALSAM_MODELS", str(folder))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return folder


@pytest.fixture
def checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    path = tmp_path / "Our Model.safetensors"
    path.write_bytes(tiny_checkpoint.read_bytes())
    return path


@pytest.fixture
def published(checkpoint: Path, tmp_path: Path) -> Path:
    return share_model(checkpoint, tmp_path / "published", licence="cc-by-4.0", description="Twelve operations.")


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(published: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=str(published)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def run(*args: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, ["models", *map(str, args)])
    assert result.exception is None or isinstance(result.exception, SystemExit | CheckpointError)
    return result.exit_code, result.output


def test_an_added_file_is_loaded_by_its_name(checkpoint: Path) -> None:
    (model,) = add_models(str(checkpoint))
    assert (model.name, model.is_here) == ("our-model", True)
    checkpoint.unlink()
    assert load_checkpoint("our-model").classes.names == model.classes


def test_a_file_in_the_working_folder_comes_before_a_shared_model(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_models(str(checkpoint))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "our-model").write_text("no checkpoint")
    with pytest.raises(CheckpointError, match=r"our-model"):
        load_checkpoint("our-model")


def test_a_wrong_sha256_is_refused_and_nothing_is_added(checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="should have the SHA-256 000000000000"):
        add_models(str(checkpoint), sha256="0" * 64)
    with pytest.raises(CheckpointError, match="64 hexadecimal digits"):
        add_models(str(checkpoint), sha256="abc")
    assert not shared_models()


@pytest.mark.parametrize("name", ["light", "demo", "vit_h", "../up", "Upper", "", "a/b", ".hidden"])
def test_names_that_are_taken_or_no_names_are_refused(checkpoint: Path, name: str, models_folder: Path) -> None:
    if name:
        with pytest.raises(CheckpointError, match="name"):
            add_models(str(checkpoint), name=name)
    else:
        assert add_models(str(checkpoint), name=name)[0].name == "our-model"
    assert {path.parent for path in models_folder.rglob("*.safetensors")} <= {models_folder / "shared"}


def test_another_model_of_the_same_name_is_replaced_only_if_asked(checkpoint: Path, published: Path) -> None:
    add_models(str(checkpoint))
    record = json.loads((published / "models.json").read_text())
    content = checkpoint.read_bytes() + b" "
    (published / "model.safetensors").write_bytes(content)
    record["models"][0] |= {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    (published / "models.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="--replace"):
        add_models(str(published))
    assert load_checkpoint("our-model") is not None


def test_a_published_folder_is_added_from_a_disk(published: Path) -> None:
    (model,) = add_models(str(published))
    assert (model.is_here, model.licence, model.description) == (True, "cc-by-4.0", "Twelve operations.")


def test_a_published_list_is_added_and_its_model_downloaded(address: str) -> None:
    (model,) = add_models(f"{address}/models.json")
    assert not model.is_here
    with pytest.raises(CheckpointError, match="surgicalsam models download our-model"):
        load_checkpoint("our-model")
    assert list(download_model("our-model"))[-1].path == model.path
    assert load_checkpoint("our-model").classes.names == model.classes


def test_an_address_needs_the_sha256(address: str, checkpoint: Path) -> None:
    url = f"{address}/model.safetensors"
    with pytest.raises(CheckpointError, match="--sha256"):
        add_models(url)
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    (model,) = add_models(url, sha256=digest.upper(), name="ours")
    list(download_model("ours"))
    assert model.is_here


def test_an_exchanged_checkpoint_is_not_kept(address: str) -> None:
    add_models(f"{address}/model.safetensors", sha256="1" * 64, name="ours")
    with pytest.raises(DownloadError, match="nothing was kept"):
        list(download_model("ours"))
    assert not shared_models()["ours"].path.exists()


def test_a_file_that_is_no_checkpoint_is_not_kept(address: str, published: Path) -> None:
    (published / "model.safetensors").write_bytes(b"something else")
    digest = hashlib.sha256(b"something else").hexdigest()
    add_models(f"{address}/model.safetensors", sha256=digest, name="ours")
    with pytest.raises(CheckpointError):
        list(download_model("ours"))
    assert not shared_models()["ours"].path.exists()


def test_an_address_without_an_answer_is_reported(address: str) -> None:
    with pytest.raises(DownloadError, match="404"):
        add_models(f"{address}/missing.json")
    with pytest.raises(DownloadError, match="404"):
        add_models(f"{address}/missing.safetensors", sha256="1" * 64)


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.pop("format"),
        lambda record: record.update(format_version=99),
        lambda record: record.update(models=[]),
        lambda record: record.update(models="none"),
        lambda record: record["models"][0].update(url="../outside.safetensors"),
        lambda record: record["models"][0].update(url=None),
        lambda record: record["models"][0].update(sha256="short"),
        lambda record: record["models"][0].update(size_bytes=-1),
        lambda record: record["models"][0].update(name="light"),
        lambda record: record["models"].append(7),
    ],
)
def test_a_list_that_is_wrong_is_refused_whole(published: Path, change) -> None:
    record = json.loads((published / "models.json").read_text())
    change(record)
    (published / "models.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError):
        add_models(str(published))
    assert not shared_models()


def test_the_card_has_the_metadata_that_hubs_read_and_no_paths(checkpoint: Path, published: Path) -> None:
    card = (published / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "cc-by-4.0"
    assert front["pipeline_tag"] == "image-segmentation"
    assert "Large Needle Driver" in card
    assert str(checkpoint.parent) not in card
    assert {path.name for path in published.iterdir()} == {"README.md", "config.json", "model.safetensors", "models.json"}
    with pytest.raises(CheckpointError, match="new or empty folder"):
        share_model(checkpoint, published, licence="mit")


def test_the_window_lists_shared_models_that_are_here(qtbot, address: str) -> None:
    (model,) = add_models(f"{address}/models.json")
    picker = CheckpointPicker()
    qtbot.addWidget(picker)
    assert [picker.itemText(row) for row in range(picker.count())] == ["Light (bundled)"]
    list(download_model("our-model"))
    picker.show_trained(None)
    assert [picker.itemText(row) for row in range(picker.count())] == ["Light (bundled)", "Our Model"]
    assert picker.title(model.path) == "Our Model"


def test_the_commands_add_list_download_and_remove(address: str) -> None:
    code, out = run("add", f"{address}/models.json")
    assert code == 0
    assert "surgicalsam models download our-model" in out
    assert "not downloaded: surgicalsam models download our-model" in run()[1]
    code, out = run("download", "our-model", "--json")
    assert code == 0
    assert Path(json.loads(out.splitlines()[-1])["path"]).is_file()
    listed = json.loads(run("--json")[1].splitlines()[-1])["shared"]
    assert [(entry["name"], entry["licence"]) for entry in listed] == [("our-model", "cc-by-4.0")]
    assert run("remove", "our-model")[0] == 0
    assert not shared_models()
    with pytest.raises(CheckpointError, match="none was added yet"):
        remove_model("our-model")
