"""The time of an embedding is guessed from the encoder's arithmetic and a short test of the machine."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from surgicalsam_napari.inference import encoder_speed, estimate, estimation
from surgicalsam_napari.inference.encoder_speed import guessed_seconds, probe
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.store import Project
from surgicalsam_napari.video import VideoReader

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_speeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_speed, "_gigaflops", {})


@pytest.mark.parametrize(
    "encoder_id", [pytest.param(id, marks=[pytest.mark.slow] * id.startswith("vit")) for id in ENCODERS if id != "tiny"]
)
def test_the_arithmetic_of_each_encoder_is_what_torch_counts(encoder_id: str) -> None:
    spec = ENCODERS[encoder_id]
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        spec.build().eval()(torch.empty(1, 3, spec.input_size, spec.input_size))
    assert counter.get_total_flops() / 1e9 == pytest.approx(spec.gigaflops, rel=0.01)


def test_a_guess_needs_a_test_of_the_machine_and_follows_the_arithmetic() -> None:
    assert guessed_seconds("vit_b", CPU) is None
    assert probe(CPU) == probe(CPU) > 0  # measured once
    small, large = guessed_seconds("vit_b", CPU), guessed_seconds("vit_h", CPU)
    assert small is not None and large is not None
    assert large / small == pytest.approx(ENCODERS["vit_h"].gigaflops / ENCODERS["vit_b"].gigaflops)
    assert guessed_seconds("tiny", CPU) is None  # its arithmetic is not known


def test_an_estimate_that_must_answer_at_once_guesses_and_says_so(clip, tmp_path, tiny_checkpoint, monkeypatch) -> None:
    from surgicalsam_napari.model.checkpoint import load_checkpoint

    model = load_checkpoint(tiny_checkpoint, device="cpu")
    with Project.create(tmp_path / "p.surgicalsam", VideoReader(clip), ENDOVIS2018) as project:
        assert estimate(project, model, [1], [0, 1], trial=False).seconds is None
        monkeypatch.setattr(estimation, "guessed_seconds", lambda *_: 10.0)
        guess = estimate(project, model, [1], [0, 1], trial=False)
        assert guess.seconds == pytest.approx(20.2) and not guess.is_measured
        measured = estimate(project, model, [1], [0, 1], trial=True)
        assert measured.seconds is not None and measured.seconds < 20 and measured.is_measured
