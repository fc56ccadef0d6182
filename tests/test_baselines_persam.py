"""PerSAM and PerSAM-F: similarity, prompts and weights computed by hand; the decoder against the model's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from baselines_stand_ins import StandInSAM, box_dataset
from torch import Tensor
from torch.nn import functional as F

from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.surgical_sam import PromptedMask, SurgicalSAM
from surgicalsam_napari.model.zoo import bundled_checkpoint
from surgicalsam_training.baselines import persam, persam_f, sam_decoding
from surgicalsam_training.baselines.persam import (
    Example,
    best_scale,
    covered_cells,
    first_frames,
    learn_example,
    learn_examples,
    location_prior,
    predict_persam,
    predict_persam_in_videos,
    refined,
    target_of,
)
from surgicalsam_training.baselines.persam_f import (
    focal_loss,
    learn_scale_weights,
    predict_persam_f,
    predict_persam_f_in_videos,
    tune_examples,
)
from surgicalsam_training.baselines.sam_decoding import ScaleMasks, Target, attention, decode_scales, has_three_scales
from surgicalsam_training.data.training_data import open_training_data
from surgicalsam_training.scoring.protocol import every_class

SQUARE = FrameGeometry((256, 256), 256)
LEFT, RIGHT = (0, 64, 64, 192), (160, 64, 224, 192)


def example(*direction: float) -> Example:
    semantics = torch.tensor(direction)
    return Example(0, F.normalize(semantics, dim=0), semantics)


# The example ---------------------------------------------------------------------------------------------------------


def test_the_example_is_the_first_frame_that_shows_the_class(tmp_path: Path) -> None:
    data = box_dataset(tmp_path / "clip", [{1: LEFT}, {1: LEFT, 2: RIGHT}, {2: RIGHT, 3: LEFT}])
    assert first_frames(data) == {1: 0, 2: 1, 3: 2}
    assert first_frames(data, [2, 1]) == {2: 2, 3: 2, 1: 1}


def test_a_class_without_an_example_is_an_error(tmp_path: Path) -> None:
    model = StandInSAM()
    data = box_dataset(tmp_path / "clip", [{1: LEFT}], model)
    with pytest.raises(TrainingError, match="none shows Prograsp Forceps"):
        learn_examples(model, data, [1, 2])  # type: ignore[arg-type]


def test_an_example_is_the_mean_of_the_covered_embeddings(tmp_path: Path) -> None:
    model = StandInSAM()
    data = box_dataset(tmp_path / "clip", [{1: LEFT}], model)
    learnt = learn_example(model, data, 0, 1)  # type: ignore[arg-type]
    colour = torch.tensor([40, 180, 40]) / 255
    torch.testing.assert_close(learnt.semantics, colour, atol=2e-3, rtol=0)
    torch.testing.assert_close(learnt.appearance, F.normalize(colour, dim=0), atol=2e-3, rtol=0)


def test_the_covered_cells_are_covered_by_half_or_the_most() -> None:
    mask = np.zeros((256, 256), bool)
    mask[0:8, 0:12] = True  # one whole cell of 8 x 8, and half of the next
    assert covered_cells(mask, SQUARE, 32).nonzero().tolist() == [[0, 0], [0, 1]]
    tiny = np.zeros((256, 256), bool)
    tiny[20:22, 44:46] = True
    assert covered_cells(tiny, SQUARE, 32).nonzero().tolist() == [[2, 5]]


# The location prior --------------------------------------------------------------------------------------------------


def test_the_points_are_at_the_highest_and_lowest_similarity() -> None:
    embedding = torch.zeros(2, 8, 8)
    embedding[:, :, :] = torch.tensor([1.0, 1.0])[:, None, None]
    embedding[:, 2, 5] = torch.tensor([3.0, 0.0])
    embedding[:, 6, 1] = torch.tensor([-2.0, 0.0])
    prior = location_prior(embedding, example(1.0, 0.0), SQUARE)
    assert prior.similarity[2, 5] == 1
    assert prior.similarity[6, 1] == -1
    assert prior.similarity[0, 0] == pytest.approx(0.5**0.5)
    assert prior.points.tolist() == [[5.5 * 32, 2.5 * 32], [1.5 * 32, 6.5 * 32]]  # middles of cells of 32 pixels
    assert prior.marks.tolist() == [1, 0]


def test_points_are_never_in_the_padding() -> None:
    embedding = torch.ones(2, 8, 8)
    embedding[:, 7, 7] = torch.tensor([1.0, 0.0])
    embedding[:, 7, 0] = torch.tensor([-1.0, 0.0])
    embedding[:, 1, 3] = torch.tensor([2.0, 1.0])
    prior = location_prior(embedding, example(1.0, 0.0), FrameGeometry((128, 256), 256))  # the lower half is padding
    assert prior.points[0].tolist() == [3.5 * 32, 1.5 * 32]
    assert prior.points[1, 1] < 128


def test_the_attention_is_guided_to_positions_above_the_mean_similarity() -> None:
    embedding = torch.ones(2, 8, 8)
    embedding[:, 2, 5] = torch.tensor([1.0, 0.0])
    shown = example(1.0, 0.0)
    target = target_of(location_prior(embedding, shown, SQUARE), shown, attention_weight=2.0)
    guided = target.attention.view(8, 8)
    assert guided[2, 5] > 1 > guided[0, 0] > 0  # a position of mean similarity gets half of the weight
    assert guided.max() <= 2
    assert target.semantics is shown.semantics


# The decoder ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def embedding() -> Tensor:
    return torch.randn(128, 32, 32, generator=torch.Generator().manual_seed(0))


PROMPTS = {
    "points": (torch.tensor([[50.0, 60.0], [200.0, 20.0]]), torch.tensor([1, 0]), None, None),
    "box": (None, None, torch.tensor([10.0, 20.0, 100.0, 120.0]), None),
    "points, box and mask": (
        torch.tensor([[50.0, 60.0]]),
        torch.tensor([1]),
        torch.tensor([10.0, 20.0, 100.0, 120.0]),
        torch.linspace(-4, 4, 128 * 128).view(128, 128),
    ),
}


@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=PROMPTS)
def test_without_a_target_the_first_mask_is_the_models_own(
    tiny_model: SurgicalSAM, embedding: Tensor, prompts: tuple[Tensor | None, ...]
) -> None:
    own = tiny_model.decode_prompts(embedding, *prompts)
    scales = decode_scales(tiny_model, embedding, *prompts)
    assert scales.low_res_logits.shape == (4, 128, 128)
    torch.testing.assert_close(scales.low_res_logits[0], own.low_res_logits, atol=1e-4, rtol=1e-4)
    assert float(scales.predicted_iou[0]) == pytest.approx(own.predicted_iou, abs=1e-5)


def test_all_four_masks_are_those_of_segment_anything(tiny_model: SurgicalSAM, embedding: Tensor) -> None:
    points, marks = torch.tensor([[50.0, 60.0]]), torch.tensor([1])
    decoder = tiny_model.sam_mask_decoder
    assert decoder is not None
    with torch.inference_mode():
        sparse, dense = tiny_model.prompt_encoder((points[None] - 0.5, marks[None]), None, None)
        masks, predicted_iou = decoder.predict_masks(
            embedding[None], tiny_model.prompt_encoder.get_dense_pe(), sparse, dense
        )
    scales = decode_scales(tiny_model, embedding, points, marks)
    torch.testing.assert_close(scales.low_res_logits, masks[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scales.predicted_iou, predicted_iou[0], atol=1e-5, rtol=1e-4)


def test_a_target_changes_the_masks_and_a_constant_one_does_not(tiny_model: SurgicalSAM, embedding: Tensor) -> None:
    points, marks = torch.tensor([[50.0, 60.0]]), torch.tensor([1])
    plain = decode_scales(tiny_model, embedding, points, marks).low_res_logits
    nothing = torch.zeros(128)
    constant = decode_scales(tiny_model, embedding, points, marks, target=Target(torch.full((1024,), 3.0), nothing))
    torch.testing.assert_close(constant.low_res_logits, plain, atol=1e-4, rtol=1e-4)  # a softmax ignores a constant
    one_position = torch.zeros(1024)
    one_position[5] = 9.0
    for target in (Target(one_position, nothing), Target(torch.zeros(1024), torch.ones(128))):
        assert not torch.allclose(decode_scales(tiny_model, embedding, points, marks, target=target).low_res_logits, plain)


def test_a_strong_bias_limits_attention_to_one_position(tiny_model: SurgicalSAM) -> None:
    decoder = tiny_model.sam_mask_decoder
    assert decoder is not None
    module = decoder.transformer.layers[0].cross_attn_token_to_image
    query, image = torch.randn(1, 6, 128), torch.randn(1, 1024, 128)
    bias = torch.full((1024,), -1e4)
    bias[77] = 0
    with torch.inference_mode():
        attended = attention(module, query, image, image, bias)
        expected = module.out_proj(module.v_proj(image[:, 77]))
    torch.testing.assert_close(attended, expected[:, None].expand(1, 6, -1), atol=1e-5, rtol=1e-4)


def test_the_bundled_weights_never_trained_the_three_scales() -> None:
    light = load_checkpoint(bundled_checkpoint(), device="cpu", load_image_encoder=False)
    assert light.sam_mask_decoder is not None
    both = (light.mask_decoder.output_hypernetworks_mlps, light.sam_mask_decoder.output_hypernetworks_mlps)
    for scale, pair in enumerate(zip(*both, strict=True)):
        states = [mlp.state_dict() for mlp in pair]
        same = all(torch.equal(states[0][key], states[1][key]) for key in states[0])
        assert same == (scale > 0)  # both still have the initial weights, though they were trained on different prompts


def test_only_sams_own_decoder_has_three_scales(tiny_model: SurgicalSAM) -> None:
    assert not has_three_scales(tiny_model)  # the bundled weights': outputs two to four were never trained
    scales = ScaleMasks(torch.zeros(4, 2, 2), torch.tensor([0.9, 0.1, 0.6, 0.3]))
    assert best_scale(scales, three_scales=False) == 0
    assert best_scale(scales, three_scales=True) == 2


# Refinement ----------------------------------------------------------------------------------------------------------


def test_the_mask_is_refined_with_itself_and_then_with_its_box(
    tiny_model: SurgicalSAM, embedding: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def answered(
        model: SurgicalSAM, embedding: Tensor, points: Tensor, marks: Tensor, box: Tensor | None, mask: Tensor
    ) -> ScaleMasks:
        asked.append((points, marks, box, mask))
        logits = torch.full((4, 128, 128), -5.0)
        logits[0, 10:20, 30:50] = 5.0
        return ScaleMasks(logits, torch.tensor([0.4 + 0.1 * len(asked), 0.0, 0.0, 0.0]))

    monkeypatch.setattr(persam, "decode_scales", answered)
    prior = location_prior(embedding, example(*[1.0] * 128), SQUARE)
    first = torch.zeros(128, 128)
    answer = refined(tiny_model, embedding, prior, first)
    (_, _, no_box, mask), (points, marks, box, mask_again) = asked
    assert no_box is None and box is not None
    assert mask is first
    assert box.tolist() == [60, 20, 100, 40]  # logits are half as large as the square
    assert (mask_again > 0).sum() == 200
    assert points is prior.points and marks is prior.marks
    assert answer.predicted_iou == pytest.approx(0.6)


def test_persam_gives_every_asked_class_a_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = StandInSAM()
    data = box_dataset(tmp_path / "clip", [{1: LEFT, 2: RIGHT}, {2: LEFT}], model)
    positive_points = []

    def answered(model: StandInSAM, embedding: Tensor, points: Tensor, *rest: object, **target: object) -> ScaleMasks:
        """A square of 16 pixels around the positive point."""
        positive_points.append(points[0].tolist())
        logits = torch.full((4, 128, 128), -5.0)
        x, y = (int(coordinate) // 2 for coordinate in points[0].tolist())
        logits[:, max(y - 4, 0) : y + 4, max(x - 4, 0) : x + 4] = 5.0
        return ScaleMasks(logits, torch.full((4,), 0.5))

    for module in (persam, sam_decoding):
        monkeypatch.setattr(module, "decode_scales", answered)
    examples = learn_examples(model, data, [1, 2], [0])  # type: ignore[arg-type]
    predictions = predict_persam(model, data, [1], every_class(model, data), examples=examples)  # type: ignore[arg-type]
    ((frame, label_map),) = predictions
    assert frame == 1
    assert set(np.unique(label_map)) == {0, 1, 2}  # class 1 is not in the frame, but gets a mask
    # three decodings per class; the point of class 2 is on its colour, in a frame that is not its example
    assert len(positive_points) == 6
    x, y = positive_points[3]
    assert LEFT[0] <= x < LEFT[2] and LEFT[1] <= y < LEFT[3]


def test_in_videos_the_example_is_the_first_frame_of_the_same_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = StandInSAM()
    for name, frames in (("a", [{1: LEFT}, {1: RIGHT, 2: LEFT}]), ("b", [{}, {2: LEFT}, {2: RIGHT}])):
        box_dataset(tmp_path / name, frames, model).close()
    data = open_training_data([tmp_path / "a", tmp_path / "b"], base=model.classes)
    used = []

    def answered(model: StandInSAM, embedding: Tensor, example: Example, *rest: object, **more: object) -> PromptedMask:
        used.append(example.example_index)
        return PromptedMask(torch.full((128, 128), 5.0), 0.5)

    monkeypatch.setattr(persam, "answer", answered)
    predictions = predict_persam_in_videos(model, data, range(5), data.present_class_ids)  # type: ignore[arg-type]
    assert [frame for frame, _ in predictions] == [0, 1, 2, 3, 4]
    assert used == [0, 0, 1, 3, 3]  # class 2 is learnt in each video again
    monkeypatch.setattr(persam_f, "tune_examples", lambda model, data, examples, steps: iter(()))
    without = predict_persam_f_in_videos(model, data, [0], data.present_class_ids)  # type: ignore[arg-type]
    assert not next(without)[1].any()


# The weights of the scales -------------------------------------------------------------------------------------------


def test_the_weights_select_the_only_correct_mask() -> None:
    target = torch.zeros(32, 32)
    target[8:24, 8:24] = 1
    correct = (2 * target - 1) * 6
    whole, part = torch.full((32, 32), 6.0), torch.full((32, 32), -6.0)
    for position in range(3):
        scales = [whole, part]
        scales.insert(position, correct)
        weights = learn_scale_weights(torch.stack(scales), target, steps=400, learning_rate=1e-2)
        assert weights.sum() == pytest.approx(1, abs=1e-6)
        assert int(weights.argmax()) == position
        mask = torch.einsum("shw,s->hw", torch.stack(scales), weights) > 0
        assert torch.equal(mask, target > 0)


def test_without_steps_each_scale_has_a_weight_of_a_third() -> None:
    weights = learn_scale_weights(torch.randn(3, 8, 8), torch.zeros(8, 8), steps=0)
    torch.testing.assert_close(weights, torch.full((3,), 1 / 3))


def test_correct_pixels_hardly_count_in_the_focal_loss() -> None:
    logits, target = torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0])
    # both probabilities are wrong by a half: balance x 0.5 squared x log 2
    assert float(focal_loss(logits, target)) == pytest.approx((0.25 + 0.75) / 2 * 0.25 * np.log(2), rel=1e-5)
    assert float(focal_loss(torch.tensor([8.0, -8.0]), target)) < 1e-9


def test_persam_f_weighs_the_three_masks_and_refines_their_sum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = StandInSAM()
    data = box_dataset(tmp_path / "clip", [{1: LEFT}, {1: LEFT}], model)
    truth = torch.full((128, 128), -6.0)
    truth[32:96, 0:32] = 6.0
    scales = torch.stack([torch.full((128, 128), 6.0), torch.full((128, 128), -6.0), -truth, truth])  # the last is correct
    initial_logits = []

    def answered(model: StandInSAM, embedding: Tensor, points: Tensor, marks: Tensor) -> ScaleMasks:
        return ScaleMasks(scales, torch.zeros(4))

    def unrefined(model: StandInSAM, embedding: Tensor, prior: object, low_res_logits: Tensor) -> PromptedMask:
        initial_logits.append(low_res_logits)
        return PromptedMask(low_res_logits, 0.5)

    monkeypatch.setattr(persam_f, "decode_scales", answered)
    monkeypatch.setattr(persam_f, "refined", unrefined)
    examples = learn_examples(model, data, [1], [0])  # type: ignore[arg-type]
    (report,) = tune_examples(model, data, examples, steps=300, learning_rate=1e-2)  # type: ignore[arg-type]
    assert (report.class_id, report.done, report.total) == (1, 1, 1)
    weights = report.tuned.scale_weights
    assert int(weights.argmax()) == 2
    tuned = {1: report.tuned}
    predictions = predict_persam_f(model, data, [1], data.present_class_ids, tuned=tuned)  # type: ignore[arg-type]
    ((frame, label_map),) = predictions
    assert frame == 1
    torch.testing.assert_close(initial_logits[0], torch.einsum("shw,s->hw", scales[1:], weights))
    assert (label_map != data.label_map(1)).sum() <= 4  # the corners lie between two pixels of the logits


def test_persam_f_runs_on_a_real_decoder(tmp_path: Path, tiny_model: SurgicalSAM) -> None:
    data = box_dataset(tmp_path / "clip", [{1: LEFT}, {1: RIGHT}], tiny_model)  # type: ignore[arg-type]
    (report,) = tune_examples(tiny_model, data, learn_examples(tiny_model, data, [1]), steps=3)
    assert report.tuned.scale_weights.sum() == pytest.approx(1, abs=1e-5)
    ((frame, label_map),) = predict_persam_f(tiny_model, data, [1], data.present_class_ids, tuned={1: report.tuned})
    assert (frame, label_map.shape) == (1, (256, 256))
