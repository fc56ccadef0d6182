"""`surgicalsam baseline`: runs one of the methods that SurgicalSAM is compared with (training/README.md, Baselines)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from surgicalsam_napari.cli.commands import app
from surgicalsam_napari.cli.options import AsJson, Checkpoint, Classes, Device, EncoderWeights, class_set_named
from surgicalsam_napari.cli.terminal import with_progress
from surgicalsam_napari.cli.training import scores_table

if TYPE_CHECKING:
    import numpy as np

    from surgicalsam_napari.model.surgical_sam import SurgicalSAM
    from surgicalsam_training.data.training_data import TrainingData
    from surgicalsam_training.scoring.protocol import Asked

    Predictions = Iterator[tuple[int, np.ndarray]]


class Name(StrEnum):
    CENTROID = "centroid"
    BOX = "box"
    BOX_JITTER = "box-jitter"
    PERSAM = "persam"
    PERSAM_F = "persam-f"
    DETECTOR = "detector"
    MASK2FORMER = "mask2former"
    TRACK_ONE = "track-one"
    TRACK_FIVE = "track-five"


METHODS_OF_OPTION = {  # for the options that only some methods have
    "reference": {Name.PERSAM, Name.PERSAM_F, Name.MASK2FORMER},
    "detections": {Name.DETECTOR},
    "images": {Name.DETECTOR},
    "alpha": {Name.DETECTOR, Name.MASK2FORMER},
    "steps": {Name.PERSAM_F, Name.MASK2FORMER},
    "size": {Name.MASK2FORMER},
    "side": {Name.MASK2FORMER},
    "batch_size": {Name.MASK2FORMER},
    "weights": {Name.MASK2FORMER},
}
SCORES = "scores.json"


@dataclass(frozen=True)
class Work:
    """The input of one baseline run.

    Attributes
    ----------
    example_indices : the frames to predict
    reference, reference_indices : training data and their frames; no frames if the method has no reference
    """

    name: Name
    model: SurgicalSAM
    data: TrainingData
    example_indices: Sequence[int]
    reference: TrainingData
    reference_indices: Sequence[int]
    out: Path
    device: str
    options: dict[str, Any]

    def option(self, name: str, default: Any) -> Any:
        return default if self.options[name] is None else self.options[name]


@dataclass(frozen=True)
class Predicted:
    """One frame was predicted."""

    example_index: int
    label_map: np.ndarray
    done: int
    total: int


@app.command("baseline")
def baseline(
    name: Annotated[Name, typer.Argument(metavar="NAME", help=f"One of {', '.join(Name)}.")],
    data: Annotated[
        list[Path], typer.Argument(metavar="DATA...", help="Projects, datasets or the authors' processed EndoVis folders.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for masks (an indexed PNG per frame) and scores.")
    ],
    checkpoint: Checkpoint = None,
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", metavar="NAME", help="Use published SAM, not a checkpoint: vit_h, vit_l, vit_b …"),
    ] = None,
    encoder_weights: EncoderWeights = None,
    classes: Classes = None,
    validation: Annotated[
        list[str] | None,
        typer.Option("--validation", metavar="NAME", help="Predict these sequences of DATA; the others are the reference."),
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option(
            "--reference", metavar="DATA", help="mask2former: training data. persam, persam-f: examples from other videos."
        ),
    ] = None,
    every_class: Annotated[
        bool, typer.Option("--every-class", help="Prompt every class in every frame, not only the present classes.")
    ] = False,
    detections: Annotated[
        Path | None,
        typer.Option("--detections", metavar="JSON", help="detector: boxes with scores, in COCO results format."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", metavar="JSON", help="detector: the COCO file that lists the images.")
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            "--alpha",
            min=0,
            max=1,
            metavar="X",
            help="detector (0.7), mask2former (0.5): several boxes of a class need a score above this.",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, metavar="N", help="persam-f, mask2former: number of training steps.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="NAME", help="mask2former: model size, swin_t or tiny, with random weights."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="DIR", help="mask2former: folder with the weights to start from.")
    ] = None,
    side: Annotated[
        int | None, typer.Option("--side", metavar="N", help="mask2former: input side in pixels, a multiple of 32.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, metavar="N", help="mask2former: frames per training step.")
    ] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Run one of the methods that SurgicalSAM is compared with, and score it.

    centroid, box, box-jitter, track-one and track-five take their prompts from the ground truth.
    They show what SAM can do.

    If DATA have a split or --validation is given, the validation sequences are predicted.
    mask2former trains on the other sequences. persam and persam-f learn a class from the first
    frame of the same video that shows it, as in the paper, or from --reference.
    """
    options = {
        "reference": reference or None,
        "detections": detections,
        "images": images,
        "alpha": alpha,
        "steps": steps,
        "size": size,
        "side": side,
        "batch_size": batch_size,
        "weights": weights,
    }
    for option, value in options.items():
        if value is not None and name not in METHODS_OF_OPTION[option]:
            flag = f"--{option.replace('_', '-')}"
            methods = ", ".join(sorted(METHODS_OF_OPTION[option]))
            raise typer.BadParameter(f"this option belongs to {methods}, not to {name}.", param_hint=flag)
    if name is Name.DETECTOR and detections is None:
        raise typer.BadParameter("give the file with boxes and scores.", param_hint="--detections")
    if encoder is not None and checkpoint is not None:
        raise typer.BadParameter("give a checkpoint or an encoder, not both.", param_hint="--checkpoint / --encoder")
    with ExitStack() as stack:
        model, opened = _model_and_data(data, checkpoint, encoder, encoder_weights, classes, device)
        stack.enter_context(closing(opened))
        work = _work(stack, name, model, opened, validation or [], out, device, options)
        record = _box_jitter(work) if name is Name.BOX_JITTER else _predict(work, every_class)
    _write_scores(out, record)
    print(json.dumps(record) if as_json else _text(record))


@app.command("text-prototypes")
def text_prototypes(
    text: Annotated[
        Path, typer.Argument(metavar="TEXT", help="Text embeddings (.npy, .safetensors), or a folder with CLIP weights.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Write this .safetensors file, for `train --prototypes-file`.")
    ],
    classes: Classes = "endovis2018",
    encoder: Annotated[
        str,
        typer.Option("--encoder", metavar="NAME", help="Image encoder that the training will use: vit_h, vit_l, vit_b …"),
    ] = "vit_h",
) -> None:
    """Make fixed class prototypes from CLIP's text embeddings of the class names, for `train --prototypes fixed`."""
    from surgicalsam_napari.instruments import ENDOVIS2018
    from surgicalsam_napari.model.encoders import encoder_spec
    from surgicalsam_training.baselines.text_prototypes import write_text_prototypes

    class_set = class_set_named(classes) or ENDOVIS2018
    print(write_text_prototypes(out, text, class_set, encoder_spec(encoder).decoder_dim))


def _model_and_data(
    data: Sequence[Path],
    checkpoint: Path | None,
    encoder: str | None,
    encoder_weights: Path | None,
    classes: str | None,
    device: str,
) -> tuple[SurgicalSAM, TrainingData]:
    from surgicalsam_training.baselines.starting import published_sam, sam_of_checkpoint
    from surgicalsam_training.data.training_data import open_training_data

    class_set = class_set_named(classes)
    if encoder is None:
        model = sam_of_checkpoint(checkpoint, encoder_weights=encoder_weights, classes=class_set, device=device)
        return model, open_training_data(data, base=model.classes)
    opened = open_training_data(data, base=class_set)
    try:
        return published_sam(encoder, opened.classes, encoder_weights=encoder_weights, device=device), opened
    except BaseException:
        opened.close()
        raise


def _work(
    stack: ExitStack,
    name: Name,
    model: SurgicalSAM,
    data: TrainingData,
    validation: Sequence[str],
    out: Path,
    device: str,
    options: dict[str, Any],
) -> Work:
    """The frames to predict and the reference frames; a usage error if a method needs a reference and has none."""
    from surgicalsam_training.data.split import split_frames
    from surgicalsam_training.data.training_data import open_training_data

    split = split_frames(data, validation=validation, validation_share=0, seed=0)
    example_indices, reference, reference_indices = split.validation or split.training, data, split.training
    if options["reference"]:
        reference = stack.enter_context(closing(open_training_data(options["reference"], base=data.classes)))
        reference_indices = tuple(range(len(reference.frames)))
    elif not split.validation:
        reference_indices = ()
    if name is Name.MASK2FORMER and not reference_indices:
        raise typer.BadParameter(
            "give training data; or use --validation, then the other sequences of DATA are the reference.",
            param_hint="--reference",
        )
    return Work(name, model, data, example_indices, reference, reference_indices, out, device, options)


# The methods ---------------------------------------------------------------------------------------------------------


def _centroid(work: Work, asked: Asked) -> Predictions:
    from surgicalsam_training.baselines.oracle import predict_from_centroids

    return predict_from_centroids(work.model, work.data, work.example_indices, asked)


def _box(work: Work, asked: Asked) -> Predictions:
    from surgicalsam_training.baselines.oracle import predict_from_boxes

    return predict_from_boxes(work.model, work.data, work.example_indices, asked)


def _track(work: Work, asked: Asked) -> Predictions:
    from surgicalsam_training.baselines.tracking import predict_by_tracking

    points = 1 if work.name is Name.TRACK_ONE else 5
    return predict_by_tracking(work.model, work.data, work.example_indices, asked, points=points)


def _persam(work: Work, asked: Asked) -> Predictions:
    from surgicalsam_training.baselines.persam import (
        first_frames,
        learn_examples,
        predict_persam,
        predict_persam_in_videos,
    )
    from surgicalsam_training.baselines.persam_f import (
        STEPS,
        predict_persam_f,
        predict_persam_f_in_videos,
        tune_examples,
    )

    if not work.options["reference"]:
        if work.name is Name.PERSAM:
            return predict_persam_in_videos(work.model, work.data, work.example_indices, asked)
        steps = work.option("steps", STEPS)
        return predict_persam_f_in_videos(work.model, work.data, work.example_indices, asked, steps=steps)
    first = first_frames(work.reference, work.reference_indices)
    _embed(work.model, work.reference, sorted(set(first.values())))
    wanted = {class_id for example_index in work.example_indices for class_id in asked(example_index)}
    if without := sorted(wanted - first.keys()):
        names = ", ".join(work.data.classes.by_id(class_id).name for class_id in without)
        print(f"no reference frame shows these classes, so they get no mask: {names}", file=sys.stderr)
    examples = learn_examples(work.model, work.reference, sorted(wanted & first.keys()), work.reference_indices)
    if work.name is Name.PERSAM:
        return predict_persam(work.model, work.data, work.example_indices, asked, examples=examples)
    tuning = tune_examples(work.model, work.reference, examples, work.option("steps", STEPS))
    tuned = {report.class_id: report.tuned for report in with_progress(tuning, "learning the scale of each class")}
    return predict_persam_f(work.model, work.data, work.example_indices, asked, tuned=tuned)


def _detector(work: Work, asked: Asked) -> Predictions:
    from surgicalsam_training.baselines.detections import read_detections
    from surgicalsam_training.baselines.detector import MASKTRACK_RCNN_ALPHA, predict_from_detections

    detections = read_detections(work.options["detections"], work.data, work.options["images"])
    alpha = work.option("alpha", MASKTRACK_RCNN_ALPHA)
    return predict_from_detections(work.model, work.data, work.example_indices, asked, detections=detections, alpha=alpha)


def _mask2former(work: Work, asked: Asked) -> Predictions:
    from surgicalsam_training.baselines.detections import read_detections, write_detections
    from surgicalsam_training.baselines.detector import MASK2FORMER_ALPHA, predict_from_detections
    from surgicalsam_training.baselines.mask2former import DetectorSettings, detect, load_detector, train_detector

    settings_given = {
        name: work.options[name] for name in ("size", "steps", "side", "batch_size") if work.options[name] is not None
    }
    weights = work.options["weights"]
    settings = DetectorSettings(**settings_given, weights=None if weights is None else str(weights.expanduser().absolute()))
    folder = work.out / "mask2former"
    training = train_detector(folder, work.reference, work.reference_indices, settings, work.device)
    for _report in with_progress(training, "training the detector"):
        pass
    detections = detect(load_detector(folder, work.device), work.data, work.example_indices)
    file = write_detections(work.out / "detections.json", work.data, detections)
    alpha = work.option("alpha", MASK2FORMER_ALPHA)
    return predict_from_detections(
        work.model, work.data, work.example_indices, asked, detections=read_detections(file, work.data), alpha=alpha
    )


METHODS: dict[Name, Callable[[Work, Asked], Predictions]] = {
    Name.CENTROID: _centroid,
    Name.BOX: _box,
    Name.PERSAM: _persam,
    Name.PERSAM_F: _persam,
    Name.DETECTOR: _detector,
    Name.MASK2FORMER: _mask2former,
    Name.TRACK_ONE: _track,
    Name.TRACK_FIVE: _track,
}


# Running and reporting -----------------------------------------------------------------------------------------------


def _embed(model: SurgicalSAM, data: TrainingData, example_indices: Sequence[int]) -> None:
    from surgicalsam_training.scoring.evaluate import embed_missing

    for _report in with_progress(embed_missing(model, data, example_indices), "embedding"):
        pass


def _predict(work: Work, every: bool) -> dict[str, Any]:
    from surgicalsam_training.baselines.predictions import write_predictions
    from surgicalsam_training.scoring.evaluate import scores
    from surgicalsam_training.scoring.protocol import EvaluationProtocol, every_class, present_classes, score

    protocol = EvaluationProtocol.EVERY if every else EvaluationProtocol.PRESENT
    asked = every_class(work.model, work.data) if every else present_classes(work.data)
    _embed(work.model, work.data, work.example_indices)
    predictions = METHODS[work.name](work, asked)

    def reports() -> Generator[Predicted, None, None]:
        for done, (example_index, label_map) in enumerate(write_predictions(work.out, work.data, predictions), 1):
            yield Predicted(example_index, label_map, done, len(work.example_indices))

    shown_reports = with_progress(reports(), str(work.name))
    metrics = score(work.data, ((report.example_index, report.label_map) for report in shown_reports))
    return {
        "baseline": str(work.name),
        "model": work.model.name,
        "frames": len(work.example_indices),
        "protocol": str(protocol),
        "out": str(work.out),
        **asdict(scores(metrics, work.data)),
    }


def _box_jitter(work: Work) -> dict[str, Any]:
    from surgicalsam_training.baselines.box_jitter import box_jitter_curve, draw_box_jitter

    _embed(work.model, work.data, work.example_indices)
    rows = list(with_progress(box_jitter_curve(work.model, work.data, work.example_indices), "jittering boxes"))
    picture = draw_box_jitter(rows, work.out / "box_jitter.png")
    return {
        "baseline": str(work.name),
        "model": work.model.name,
        "frames": len(work.example_indices),
        "picture": str(picture),
        "curve": [{"kind": row.kind, "amount": row.amount, "challenge_iou": round(row.challenge_iou, 3)} for row in rows],
    }


def _write_scores(out: Path, record: dict[str, Any]) -> None:
    from surgicalsam_napari.exchange.files import write_file

    write_file(out / SCORES, (json.dumps(record, indent=1) + "\n").encode())


def _text(record: dict[str, Any]) -> str:
    from surgicalsam_training.reports import Scores

    title = f"{record['baseline']} with {record['model']} on {record['frames']} frames"
    if "curve" in record:
        rows = [f"{row['kind']:<10}{row['amount']:>6.1f}{row['challenge_iou']:>9.1f}" for row in record["curve"]]
        return "\n".join([f"{title}: {record['picture']}", "", f"{'box jitter':<16}{'Challenge IoU':>9}", *rows])
    scores = Scores(**{field: record[field] for field in Scores.__dataclass_fields__})
    return "\n".join([f"{title}, {record['protocol']}: {record['out']}", "", *scores_table({"": scores})])
