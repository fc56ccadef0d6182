"""Take the screenshots of annotating.md, first_real_video.md and importing.md again, in a real window, on the phantom.

`xvfb-run -a -s "-screen 0 1600x1000x24" python docs/screen_tour.py` without a display; with `annotating`,
`first_real_video` or `importing` behind it, only those of one page.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import napari
import numpy as np
from PIL import Image
from pycocotools import mask as run_lengths
from qtpy.QtWidgets import QApplication
from scipy.ndimage import distance_transform_edt

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.phantom import write_phantom_clip
from surgicalsam_napari.preferences import VARIABLE
from surgicalsam_napari.widgets.demo import dock_plugin, read_exact_masks, segment_everything, wait_until
from surgicalsam_napari.widgets.main_widget import MainWidget
from surgicalsam_napari.widgets.parts.collapsible import Collapsible

IMAGES = Path(__file__).parent / "images"
SEED, FRAMES = 700_002, 80
WIDTH = 1400  # of a picture
SMALL_WIDTH, COLORS = 1000, 256  # of a picture as PNG
FIRST_CORRECTED, CORRECTED = 40, (4, 12, 20, 28, 36, 44, 52, 60, 68, 76)


class Tour:
    """The window, and the actions of a person in it."""

    def __init__(self, folder: Path, *, is_segmented: bool = True) -> None:
        clip = write_phantom_clip(folder, SEED, frame_count=FRAMES, look="second")
        truth = read_exact_masks(clip)
        assert truth is not None
        self.truth = truth
        self.viewer = napari.Viewer(show=True)
        self.viewer.window.resize(1600, 1000)
        self.dock: MainWidget = dock_plugin(self.viewer)
        self.wait()
        self.dock.open(clip)
        self.wait()
        if is_segmented:
            segment_everything(self.dock, FRAMES // 2, None)
            self.wait()
        self.panel = self.dock.correct_panel
        self.dock.tabs.show_panel(self.panel)
        self.settle()

    def wait(self) -> None:
        wait_until(lambda: not self.dock.is_busy, 600, "finish")

    def settle(self, seconds: float = 1.0) -> None:
        """Wait until the window is drawn."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            QApplication.processEvents()
            time.sleep(0.01)

    def picture(self, name: str) -> None:
        """Save the whole window to docs/images."""
        self.settle()
        image = Image.fromarray(self.viewer.screenshot(canvas_only=False, flash=False)).convert("RGB")
        image = image.resize((WIDTH, round(WIDTH * image.height / image.width)), Image.Resampling.LANCZOS)
        image.save(IMAGES / f"{name}.jpg", quality=88)
        print(IMAGES / f"{name}.jpg", flush=True)

    def small_picture(self, name: str) -> None:
        """Save the whole window to docs/images as a small PNG."""
        self.settle()
        image = Image.fromarray(self.viewer.screenshot(canvas_only=False, flash=False)).convert("RGB")
        image = image.resize((SMALL_WIDTH, round(SMALL_WIDTH * image.height / image.width)), Image.Resampling.LANCZOS)
        image.quantize(COLORS, dither=Image.Dither.NONE).save(IMAGES / f"{name}.png", optimize=True)
        print(IMAGES / f"{name}.png", flush=True)

    def correct(self, frame_index: int) -> None:
        """Paint the exact masks into a frame, and confirm it."""
        assert self.dock.session.project is not None
        labels = self.dock.session.project.labels
        labels.write_edit(frame_index, self.truth[frame_index])
        labels.verify(frame_index)

    def open_only(self, *sections: object) -> None:
        """Collapse all sections of the Correct tab except these."""
        for fold in self.panel.findChildren(Collapsible):
            fold.header.setChecked(fold.panel in sections)
        self.settle(0.3)
        if sections:
            self.panel.reveal(sections[-1])  # type: ignore[arg-type]

    def choose_class(self, class_id: int) -> None:
        self.panel.picker.setCurrentIndex(self.panel.picker.findData(class_id))

    def middle_of(self, class_id: int) -> tuple[float, float]:
        """(row, column) near the middle of a class in the frame in view."""
        assert self.dock.session.project is not None
        rows, columns = np.nonzero(self.dock.session.project.labels[self.dock.layers.current_frame] == class_id)
        nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
        return float(rows[nearest]), float(columns[nearest])

    def click_the_worst(self, class_id: int) -> None:
        """Click the point deepest inside the errors, through the mouse tool."""
        tool = self.panel.refine.tool
        truth = self.truth[self.dock.layers.current_frame] == class_id
        assert self.dock.session.project is not None
        labels = self.dock.session.project.labels[self.dock.layers.current_frame]
        shown = labels == class_id if tool.refinement is None else tool.refinement.mask
        distance = distance_transform_edt(np.pad(shown != truth, 1))[1:-1, 1:-1]
        row, column = np.unravel_index(distance.argmax(), distance.shape)
        tool.mouse.clicked.emit(float(row), float(column), bool(truth[row, column]))
        self.settle(0.5)

    def largest_class(self) -> int:
        assert self.dock.session.project is not None
        counts = np.bincount(self.dock.session.project.labels[self.dock.layers.current_frame].ravel())
        counts[0] = 0
        return int(counts.argmax())


def first_real_video() -> None:
    """From the first segmentation to the learned model."""
    with tempfile.TemporaryDirectory() as folder:
        tour = Tour(Path(folder))
        dock, learn = tour.dock, tour.dock.train_panel.learn
        dock.layers.show_frame(FIRST_CORRECTED)
        dock.tabs.show_panel(dock.segment_panel)
        tour.small_picture("first_segmented")

        tour.correct(FIRST_CORRECTED)
        dock.tabs.show_panel(tour.panel)
        tour.open_only(tour.panel.propagate)
        tour.choose_class(tour.largest_class())
        tour.panel.propagate.forward_button.click()
        tour.wait()
        dock.layers.show_frame(FIRST_CORRECTED)
        tour.small_picture("first_propagated")

        for frame_index in CORRECTED:
            tour.correct(frame_index)
        dock.tabs.show_panel(dock.train_panel)
        wait_until(learn.learn_button.isEnabled, 60, "count the corrected frames")
        dock.layers.show_frame(FIRST_CORRECTED + 8)
        tour.settle()
        tour.small_picture("first_learn")
        learn.learn_button.click()
        tour.wait()
        tour.small_picture("first_learned")
        tour.viewer.close()


def annotating() -> None:
    """Each tool of the Correct tab."""
    with tempfile.TemporaryDirectory() as folder:
        tour = Tour(Path(folder))
        panel = tour.panel
        tour.open_only(panel.review)
        for _ in range(3):
            panel.review.next_button.click()
            tour.settle(0.3)
        tour.picture("review")

        tour.open_only(panel.refine)
        class_id = tour.largest_class()
        tour.choose_class(class_id)
        panel.refine.switch.click()
        for _ in range(3):
            tour.click_the_worst(class_id)
        tour.picture("refine")
        panel.refine.accept_button.click()
        panel.refine.switch.click()

        tour.open_only(panel.wrong_class)
        panel.wrong_class.switch.click()
        panel.wrong_class.mouse.hovered.emit(*tour.middle_of(tour.largest_class()))
        tour.picture("wrong_class")
        panel.wrong_class.switch.click()

        tour.open_only(panel.propagate)
        panel.propagate.forward_button.click()
        tour.wait()
        tour.picture("propagate")

        tour.open_only(panel.frames, panel.history)
        panel.frames.smooth_button.click()
        tour.wait()
        panel.history.snapshots.name.setText("before the second round")
        panel.history.snapshots.take_button.click()
        tour.wait()
        tour.picture("history")

        tour.open_only(panel.review)
        panel.review.then_next.setChecked(False)
        panel.review.verify_button.click()
        panel.similarity_button.click()
        tour.settle(1.5)
        tour.picture("similarity")
        panel.similarity_button.click()
        tour.viewer.close()


def importing() -> None:
    """The import dialog, on a file as Roboflow writes it."""
    with tempfile.TemporaryDirectory() as folder:
        tour = Tour(Path(folder), is_segmented=False)
        panel = tour.dock.export_panel
        tour.dock.tabs.show_panel(panel)
        panel.import_form.choose(write_roboflow(Path(folder) / "_annotations.coco.json", tour.truth))
        tour.wait()
        dialog = panel.import_form.dialog
        assert dialog is not None
        dialog.options.overlaps.setCurrentIndex(1)
        tour.settle(3)
        picture = IMAGES / "import.png"
        dialog.grab().save(str(picture))
        Image.open(picture).convert("RGB").quantize(COLORS, dither=Image.Dither.NONE).save(picture, optimize=True)
        print(picture, flush=True)
        tour.viewer.close()


def write_roboflow(path: Path, truth: np.ndarray) -> Path:
    """The exact masks of every tenth frame, with other class names, a box over them, and frames without annotations."""
    height, width = truth[0].shape
    images, annotations = [], []
    for frame_index in range(0, FRAMES, 5):
        name = f"operation_mp4-{frame_index:04d}_jpg.rf.{frame_index:032x}.jpg"
        images.append({"id": frame_index, "file_name": name, "height": height, "width": width})
        for class_id in np.unique(truth[frame_index])[1:] if frame_index % 10 == 0 else ():
            encoded = run_lengths.encode(np.asfortranarray(truth[frame_index] == class_id, np.uint8))
            mask = {"size": [height, width], "counts": encoded["counts"].decode()}
            annotations.append({"image_id": frame_index, "category_id": int(class_id), "segmentation": mask})
    box = [width / 3, height / 3, width / 2, height / 3, width / 2, height / 2, width / 3, height / 2]
    annotations.append({"image_id": FRAMES // 2, "category_id": 99, "segmentation": [box]})
    annotations.append({"image_id": FRAMES // 2, "category_id": 99, "bbox": [0, 0, 9, 9], "segmentation": []})
    names = {c.id: c.name.lower().replace(" ", "_") for c in ENDOVIS2018} | {99: "swab"}
    categories = [{"id": class_id, "name": name} for class_id, name in names.items()]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


if __name__ == "__main__":
    for page in (annotating, first_real_video, importing):
        if page.__name__ in (sys.argv[1:] or [page.__name__]):
            with tempfile.TemporaryDirectory() as preferences:
                os.environ[VARIABLE] = str(Path(preferences) / "preferences.json")  # the user's own stay untouched
                page()
