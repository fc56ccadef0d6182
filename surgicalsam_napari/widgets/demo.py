"""The demo of `make demo` and `surgicalsam demo`: segment a clip in a real window."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import napari
import numpy as np
from PIL import Image as PILImage
from qtpy.QtWidgets import QApplication

from surgicalsam_napari.errors import WorkFailed
from surgicalsam_napari.overlay import write_overlay_video
from surgicalsam_napari.preferences import VARIABLE
from surgicalsam_napari.store import Project
from surgicalsam_napari.widgets.main_widget import MainWidget
from surgicalsam_napari.widgets.opening import PluginDock
from surgicalsam_napari.widgets.parts.frame_scope import WHOLE_VIDEO

WINDOW_SIZE = (1600, 1000)
OPENING_SECONDS = 120
RUN_SECONDS = 3600


def run_demo_window(clip: Path, output: Path | None) -> None:
    """Open napari with the plugin docked and the clip segmented.

    Parameters
    ----------
    clip : a video; its exact masks, if any, lie beside it in `<clip's name>_labels/frame00000.png`, …
    output : None leaves the window open. Else window.png and overlay.mp4 are written to this folder, and the IoU against the
        exact masks is printed; the project lies beside the clip

    Raises
    ------
    WorkFailed
        a step took too long, or the window showed an error
    """
    viewer = napari.Viewer(title="SurgicalSAM demo", show=True)
    viewer.window.resize(*WINDOW_SIZE)
    dock = dock_plugin(viewer)
    wait_until(lambda: not dock.is_busy, OPENING_SECONDS, "load the checkpoint")
    dock.open(Path(clip))
    wait_until(lambda: not dock.is_busy, OPENING_SECONDS, f"open {clip.name}")
    if dock.session.project is None or dock.session.model is None:
        raise WorkFailed(
            "The demo needs its clip and its checkpoint, but one of them did not open. Follow the message above."
        )
    truth = read_exact_masks(clip)
    frame_index = busiest_frame(truth)
    segment_everything(dock, frame_index, None if truth is None else largest_class(truth[frame_index]))
    if output is None:
        napari.run()
        return
    wait_until(lambda: not dock.is_busy, RUN_SECONDS, "segment the clip")
    write_results(viewer, dock.session.project, Path(output))
    if truth is not None:
        print_iou_table(dock.session.project, truth)
    viewer.close()


def dock_plugin(viewer: napari.Viewer) -> MainWidget:
    """Open the plugin as its menu entry does, as on a new installation: preferences are neither used nor changed."""
    os.environ.setdefault(VARIABLE, str(Path(tempfile.mkdtemp(prefix="surgicalsam_demo_")) / "preferences.json"))
    _, widget = viewer.window.add_plugin_dock_widget("surgicalsam-napari", "SurgicalSAM")
    assert isinstance(widget, PluginDock)
    opened: list[MainWidget] = []
    widget.opened.connect(opened.append)
    wait_until(lambda: bool(opened), OPENING_SECONDS, "open the plugin")
    return opened[0]


def segment_everything(dock: MainWidget, frame_index: int, class_id: int | None) -> None:
    """Go to this frame, choose this class in the dropdown, ask for all classes in the whole video, press Segment."""
    panel = dock.segment_panel
    dock.layers.show_frame(frame_index)
    if class_id is not None:
        panel.picker.setCurrentIndex(panel.picker.findData(class_id))
    panel.all_classes.click()
    panel.scope.choice.setCurrentText(WHOLE_VIDEO)
    # on a slow machine the run is long, and the panel asks first
    panel.run.confirmation_wanted.connect(lambda *_: panel.question.go_on.click())
    panel.segment.click()


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Process the window's events until the condition holds; WorkFailed after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise WorkFailed(f"Could not {what} within {seconds:.0f} s. Close other programs and try again.")
        QApplication.processEvents()
        time.sleep(0.01)
    QApplication.processEvents()


# Results -------------------------------------------------------------------------------------------------------------


def write_results(viewer: napari.Viewer, project: Project, output: Path) -> None:
    """Write window.png and overlay.mp4 to `output`."""
    output.mkdir(parents=True, exist_ok=True)
    for _ in range(20):  # let the layout settle and the last frame be drawn
        QApplication.processEvents()
        time.sleep(0.02)
    viewer.screenshot(output / "window.png", canvas_only=False, flash=False)
    for _report in write_overlay_video(project, output / "overlay.mp4", range(project.video.info.frame_count)):
        pass
    print(f"{output / 'window.png'}\n{output / 'overlay.mp4'}\n{project.folder}")


def read_exact_masks(clip: Path) -> np.ndarray | None:
    """(T, H, W) uint8 from the folder beside the clip; None if there is none."""
    files = sorted((clip.parent / f"{clip.stem}_labels").glob("frame*.png"))
    return np.stack([np.asarray(PILImage.open(file)) for file in files]) if files else None


def busiest_frame(truth: np.ndarray | None) -> int:
    """The frame with the most classes in view, and of these the one with most instrument pixels."""
    if truth is None:
        return 0
    return max(range(len(truth)), key=lambda t: (len(np.unique(truth[t])), np.count_nonzero(truth[t])))


def largest_class(label_map: np.ndarray) -> int | None:
    """The class id with the most pixels; None if there is no instrument."""
    counts = np.bincount(label_map.ravel())[1:]
    return int(counts.argmax()) + 1 if counts.any() else None


def print_iou_table(project: Project, truth: np.ndarray) -> None:
    """IoU per class over all pixels of the clip; a class that the clip does not show has none."""
    label_maps = np.stack([project.labels[index] for index in range(len(truth))])
    print(f"\n{'class':<28}{'IoU':>6}{'frames':>8}{'found in':>10}")
    scores = []
    for instrument in project.classes:
        exact, predicted = truth == instrument.id, label_maps == instrument.id
        union = np.count_nonzero(exact | predicted)
        shown = exact.any(axis=(1, 2))
        iou = 100 * np.count_nonzero(exact & predicted) / union if union else float("nan")
        scores += [iou] if shown.any() else []
        score = f"{iou:.1f}" if shown.any() else "–"
        print(f"{instrument.name:<28}{score:>6}{shown.sum():>8}{predicted.any(axis=(1, 2)).sum():>10}")
    print(f"{'mean of the classes shown':<28}{np.mean(scores):>6.1f}")
