"""Pictures of validation frames: corrected labels, prediction before and prediction after training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.overlay import OverlayStyle, draw_overlay
from surgicalsam_napari.store.disk.files import writing
from surgicalsam_training.data.training_data import TrainingData
from surgicalsam_training.loop.ablation import load_trained
from surgicalsam_training.run.run_folder import RunFolder
from surgicalsam_training.scoring.evaluate import predicted_label_map

EXAMPLE_COUNT = 6
PANEL_WIDTH = 480


class Examples:
    """A few frames spread over the validation data; the predictions before training are stored in the run's folder."""

    def __init__(self, run: RunFolder, data: TrainingData, validation: Sequence[int]) -> None:
        self.run, self.data = run, data
        shown = [example_index for example_index in validation if data.present_class_ids(example_index)]
        spread = np.linspace(0, len(shown) - 1, min(EXAMPLE_COUNT, len(shown))).round().astype(int)
        self.example_indices = [shown[i] for i in spread]

    def keep_before(self, model: SurgicalSAM) -> None:
        """Predict with the starting model and store the results for `draw`."""
        with writing("The examples", self.run.path):
            for picture_index, example_index in enumerate(self.example_indices):
                self.run.examples.mkdir(exist_ok=True)
                Image.fromarray(predicted_label_map(model, self.data, example_index)).save(self._before(picture_index))

    def draw(self) -> tuple[str, ...]:
        """Predict with the best checkpoint and write a picture for each frame."""
        if not self.example_indices:
            return ()
        model = load_trained(self.run.best_checkpoint, device="cpu", load_image_encoder=False)
        return tuple(str(self._picture(model, *pair)) for pair in enumerate(self.example_indices))

    def _picture(self, model: SurgicalSAM, picture_index: int, example_index: int) -> Path:
        image = self._image(example_index)
        truth = self.data.label_map(example_index)
        after = predicted_label_map(model, self.data, example_index)
        background = np.zeros((*truth.shape, 3), np.uint8) if image is None else image
        panels = [("corrected", truth), ("after", after)]
        if self._before(picture_index).exists():  # not if the start does not know these classes
            panels.insert(1, ("before", np.asarray(Image.open(self._before(picture_index)))))
        pictures = [labelled_panel(background, labels, self.data.classes, title) for title, labels in panels]
        path = self.run.examples / f"{picture_index + 1}_{self.data.frames[example_index].name.replace('/', '_')}.png"
        with writing("The examples", self.run.path):
            self.run.examples.mkdir(exist_ok=True)
            Image.fromarray(np.concatenate(pictures, axis=1)).save(path)
        return path

    def _image(self, example_index: int) -> np.ndarray | None:
        try:
            return self.data.image(example_index)
        except SurgicalSAMError:  # the video is missing; the masks alone are drawn on black
            return None

    def _before(self, picture_index: int) -> Path:
        return self.run.examples / f".before_{picture_index + 1}.png"


def labelled_panel(image: np.ndarray, labels: np.ndarray, classes: ClassSet, title: str) -> np.ndarray:
    """The frame with its labels as an overlay, and a title: (h, PANEL_WIDTH, 3) uint8.

    Parameters
    ----------
    image : (H, W, 3) uint8
    labels : (H, W) uint8, ids of `classes`
    """
    return titled_panel(draw_overlay(image, labels, classes, OverlayStyle(names=False)), title)


def titled_panel(image: np.ndarray, title: str) -> np.ndarray:
    """An image with a title: (H, W, 3) uint8 to (h, PANEL_WIDTH, 3) uint8."""
    height = round(PANEL_WIDTH * image.shape[0] / image.shape[1])
    picture = Image.fromarray(image).resize((PANEL_WIDTH, height), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(picture)
    draw.text((9, 7), title, font=ImageFont.load_default(size=18), fill="white", stroke_width=2, stroke_fill="black")
    return np.asarray(picture)
