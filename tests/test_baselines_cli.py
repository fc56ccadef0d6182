"""`surgicalsam baseline` and `text-prototypes`, as a person or a script uses them; and the models they prompt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import safetensors.torch
import torch
from baselines_stand_ins import box_dataset
from PIL import Image

from surgicalsam_napari import cli
from surgicalsam_napari.cli.baselines import METHODS, Name
from surgicalsam_napari.errors import CheckpointError
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.checkpoint import build_parts, load_checkpoint, save_checkpoint
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.mask_decoder import build_mask_decoder
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_training.baselines.sam_decoding import has_three_scales
from surgicalsam_training.baselines.starting import add_sam_decoder, published_sam, sam_of_checkpoint

LEFT, RIGHT, LOW = (20, 40, 100, 120), (140, 40, 220, 120), (60, 160, 200, 220)


class Ran(NamedTuple):
    code: int
    out: list[str]
    err: list[str]

    @property
    def record(self) -> dict:
        return json.loads(self.out[-1])


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)

    def run_line(*arguments: object) -> Ran:
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Ran(code, printed.out.splitlines(), printed.err.splitlines())

    return run_line


@pytest.fixture
def sequences(tmp_path: Path) -> tuple[Path, Path]:
    """Two synthetic sequences of two frames each."""
    box_dataset(tmp_path / "seq_1", [{1: LEFT, 2: RIGHT}, {1: LEFT}]).close()
    box_dataset(tmp_path / "seq_2", [{1: RIGHT}, {2: LEFT, 1: LOW}]).close()
    return tmp_path / "seq_1", tmp_path / "seq_2"


def detections(folder: Path) -> Path:
    entries = [
        {"image_id": f"seq_2/frame_{frame:05d}", "category_id": class_id, "bbox": [left, top, 80, 80], "score": 0.9}
        for frame, class_id, (left, top, _, _) in ((0, 1, RIGHT), (1, 2, LEFT))
    ]
    path = folder / "detections.json"
    path.write_text(json.dumps(entries))
    return path


@pytest.mark.parametrize("name", ["centroid", "box", "persam", "persam-f", "detector", "track-one", "track-five"])
def test_every_method_writes_masks_that_evaluate_scores_alike(
    run: Run, sequences: tuple[Path, Path], tiny_checkpoint: Path, tmp_path: Path, name: str
) -> None:
    first, second = sequences
    more = {"persam": ["--reference", first], "persam-f": ["--steps", 2]}
    more["detector"] = ["--detections", detections(tmp_path)]
    ran = run("baseline", name, second, "--checkpoint", tiny_checkpoint, "--out", "OUT", "--json", *more.get(name, []))
    assert ran.code == 0, ran.err
    assert (ran.record["baseline"], ran.record["frames"]) == (name, 2)
    assert ran.record["protocol"] == "present classes prompted"
    masks = sorted(path.relative_to("OUT").as_posix() for path in Path("OUT").rglob("*.png"))
    assert masks == ["seq_2/frame_00000.png", "seq_2/frame_00001.png"]
    pixels = np.asarray(Image.open("OUT/seq_2/frame_00001.png"))
    assert pixels.shape == (256, 256)
    assert set(np.unique(pixels)) <= {0, 1, 2}
    assert json.loads(Path("OUT/scores.json").read_text()) == ran.record
    scored = run("evaluate", "--predictions", "OUT", second, "--json")
    assert scored.code == 0, scored.err
    assert scored.record["challenge_iou"] == pytest.approx(ran.record["challenge_iou"])


def test_named_sequences_are_predicted(run: Run, sequences: tuple[Path, Path], tiny_checkpoint: Path) -> None:
    ran = run("baseline", "persam", *sequences, "--validation", "2", "--checkpoint", tiny_checkpoint, "--out", "OUT")
    assert ran.code == 0, ran.err
    assert [path.name for path in Path("OUT").iterdir() if path.is_dir()] == ["seq_2"]


def test_persam_can_learn_from_other_videos(run: Run, sequences: tuple[Path, Path], tiny_checkpoint: Path) -> None:
    options = ["--reference", sequences[0], "--every-class", "--checkpoint", tiny_checkpoint, "--out", "OUT"]
    ran = run("baseline", "persam", sequences[1], *options)
    assert ran.code == 0, ran.err
    assert ran.out[0].startswith("persam with tiny on 2 frames, every class prompted: OUT")
    assert any(line.startswith("Challenge IoU") for line in ran.out)
    assert [path.name for path in Path("OUT").iterdir() if path.is_dir()] == ["seq_2"]
    assert any(line.startswith("no reference frame shows these classes") and "Clip Applier" in line for line in ran.err)


def test_jittered_boxes_give_a_curve(run: Run, sequences: tuple[Path, Path], tiny_checkpoint: Path) -> None:
    ran = run("baseline", "box-jitter", sequences[0], "--checkpoint", tiny_checkpoint, "--out", "OUT", "--json")
    assert ran.code == 0, ran.err
    assert len(ran.record["curve"]) == 22
    assert {row["kind"] for row in ran.record["curve"]} == {"scale", "position"}
    assert Path(ran.record["picture"]).read_bytes().startswith(b"\x89PNG")
    printed = run("baseline", "box", sequences[0], "--checkpoint", tiny_checkpoint, "--out", "BOX", "--json")
    unjittered = [row["challenge_iou"] for row in ran.record["curve"] if row["amount"] == 0]
    assert unjittered == pytest.approx([printed.record["challenge_iou"]] * 2, abs=1e-3)


@pytest.mark.slow
def test_a_mask2former_is_trained_and_prompts_sam(run: Run, sequences: tuple[Path, Path], tiny_checkpoint: Path) -> None:
    pytest.importorskip("transformers")
    line = ["baseline", "mask2former", sequences[1], "--reference", sequences[0], "--checkpoint", tiny_checkpoint]
    line += ["--out", "OUT", "--size", "tiny", "--side", "64", "--steps", "2", "--batch-size", "2", "--device", "cpu"]
    ran = run(*line, "--json")
    assert ran.code == 0, ran.err
    assert json.loads(Path("OUT/detections.json").read_text())["images"][0]["file_name"] == "seq_2/frame_00000.png"
    assert run(*line, "--json").record == ran.record  # a finished detector is not trained again


def test_every_baseline_except_box_jitter_has_its_method() -> None:
    assert set(Name) - set(METHODS) == {Name.BOX_JITTER}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["frobnicate", "DATA"], 2, "NAME"),
        (["box", "DATA", "--detections", "x.json"], 2, "belongs to detector, not to box"),
        (["centroid", "DATA", "--steps", "3"], 2, "belongs to mask2former, persam-f, not to centroid"),
        (["detector", "DATA"], 2, "give the file with boxes and scores"),
        (["mask2former", "DATA"], 2, "--reference"),
        (["box", "DATA", "--encoder", "vit_h", "--checkpoint", "x"], 2, "not both"),
        (["box", "none"], 1, "none does not exist"),
        (["box", "DATA", "--checkpoint", "none.safetensors"], 1, "no checkpoint"),
        (["box", "DATA", "--encoder", "vit_x"], 1, "should be one of vit_h"),
        (["detector", "DATA", "--detections", "none.json"], 1, "none.json cannot be read"),
        (["persam", "DATA", "--validation", "seq_9"], 1, '"seq_9" fits none'),
        (["mask2former", "DATA", "--reference", "OTHER", "--size", "huge"], 1, "swin_t, tiny"),
    ],
)
def test_a_mistake_gets_one_line_and_an_exit_code(
    run: Run, sequences: tuple[Path, Path], arguments: list[str], code: int, message: str
) -> None:
    paths = {"DATA": str(sequences[0]), "OTHER": str(sequences[1])}
    ran = run("baseline", *(paths.get(word, word) for word in arguments), "--out", "OUT")
    assert ran.code == code
    assert [line for line in ran.err if line.startswith("surgicalsam: ")] == ran.err[-1:]
    assert message in ran.err[-1]
    assert ran.out == []


def test_text_prototypes_are_written_for_the_training(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", np.eye(7, 512, dtype=np.float32))
    ran = run("text-prototypes", "clip.npy", "--out", "text.safetensors", "--encoder", "light")
    assert (ran.code, ran.out) == (0, ["text.safetensors"])
    written = safetensors.torch.load_file("text.safetensors")
    assert {name: tuple(row.shape) for name, row in written.items()} == dict.fromkeys(ENDOVIS2018.names, (128,))
    wrong = run("text-prototypes", "clip.npy", "--out", "x", "--classes", two(tmp_path))
    assert wrong.code == 1
    assert "2 finite text embeddings, one for each of Forceps, Stapler" in wrong.err[-1]


def two(folder: Path) -> Path:
    path = folder / "two.yaml"
    path.write_text("name: two\nclasses:\n  - {id: 1, name: Forceps}\n  - {id: 2, name: Stapler}\n")
    return path


# The models ----------------------------------------------------------------------------------------------------------


def test_published_sam_predicts_with_the_untuned_decoder() -> None:
    model = published_sam("light", ENDOVIS2018, device="cpu")
    bundled_model = load_bundled_checkpoint()
    embedding = torch.randn(model.embedding_shape, generator=torch.Generator().manual_seed(0))
    box = torch.tensor([20.0, 30.0, 120.0, 200.0])
    prediction, expected = (sam.decode_prompts(embedding, box=box) for sam in (model, bundled_model))
    torch.testing.assert_close(prediction.low_res_logits, expected.low_res_logits)


def load_bundled_checkpoint() -> SurgicalSAM:
    from surgicalsam_napari.model.zoo import bundled_checkpoint

    return load_checkpoint(bundled_checkpoint(), device="cpu")


def test_a_checkpoint_without_a_decoder_for_boxes_says_where_to_get_it(tiny_checkpoint: Path, tmp_path: Path) -> None:
    model = load_checkpoint(tiny_checkpoint, device="cpu")
    model.sam_mask_decoder = None
    path = save_checkpoint(tmp_path / "without.safetensors", model, training_record={})
    with pytest.raises(CheckpointError, match=r"and without has none\. Choose a checkpoint"):
        sam_of_checkpoint(path, device="cpu")
    assert sam_of_checkpoint(tiny_checkpoint, device="cpu").has_click_decoder


def test_sams_weights_give_a_model_its_missing_decoder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    spec = ENCODERS["vit_b"]
    published = build_mask_decoder()
    weights = tmp_path / "sam.pth"
    torch.save({f"mask_decoder.{key}": tensor for key, tensor in published.state_dict().items()}, weights)
    model = SurgicalSAM(ENDOVIS2018, "vit_b", "", image_encoder=None, **build_parts(spec, 7)).eval()  # type: ignore[arg-type]
    assert not model.has_click_decoder
    add_sam_decoder(model, weights)
    assert model.sam_mask_decoder is not None
    for key, tensor in model.sam_mask_decoder.state_dict().items():
        assert torch.equal(tensor, published.state_dict()[key])
    box = torch.tensor([100.0, 200.0, 700.0, 600.0])
    assert model.decode_prompts(torch.randn(spec.embedding_shape), box=box).low_res_logits.shape == (256, 256)
    assert has_three_scales(model)
