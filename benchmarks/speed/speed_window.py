"""How soon the window shows the first mask, and a frame that one scrubs to: in a real napari window, at 1080p.

Needs a display:
`xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/speed/speed_window.py [--clip clip.mp4] [--json]`.

The clip is the phantom, a keyframe every 25 frames. `first_mask_ms` counts from a click on Segment ("this frame", the
embedding on disk) until the canvas is painted with the mask, OpenGL has finished and Qt has handled all that was waiting;
`first_mask_cold_ms` is the first click of the window, `first_mask_repaint_ms` what Qt takes to show that the button is down
(and again that it is up), which is a part of it. `scrub_p95_ms` counts from a move of napari's slider until the canvas
is painted with the new frame and its labels: steps to a neighbour, and jumps within 25 frames. The same moves in a napari
window with empty docks in place of the plugin's, with the same frames and labels as arrays in memory, window and canvas of
the same sizes, are napari's own share, large where OpenGL is software; `scrub_own_ms` is the median of the differences.
`…_computing_ms` is the time that this process was computing, on all cores: it depends less on what else the machine does.
What is on the screen is compared with what is on the disk, after the clock has stopped.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import av
import napari
import numpy as np
from qtpy.QtCore import QEventLoop, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget
from vispy.gloo import gl

sys.path.append(str(Path(__file__).parents[1]))
from common.options import new_parser, parse, require_display

from surgicalsam_napari.inference import embed_frames
from surgicalsam_napari.phantom import PhantomScene
from surgicalsam_napari.store import Project
from surgicalsam_napari.video import VideoReader
from surgicalsam_napari.widgets.demo import dock_plugin, segment_everything, wait_until
from surgicalsam_napari.widgets.main_widget import MainWidget
from surgicalsam_napari.widgets.parts.frame_scope import THIS_FRAME

SIZE, FRAMES, KEYFRAME_EVERY, SEED = (1080, 1920), 75, 25, 300_000
WINDOW, SETTLE_SECONDS, PATIENCE_SECONDS = (1600, 960), 0.5, 600
SAMPLED_EVERY = 8  # pixels of the canvas, in rows and columns
JUMP_WITHIN, MOVES = 25, 20  # frames; moves of each kind in a round


def write_clip(path: Path, size: tuple[int, int], frame_count: int) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.gop_size = KEYFRAME_EVERY
        stream.options = {"crf": "18", "preset": "veryfast"}
        for drawn in PhantomScene(SEED, size, frame_count=frame_count):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(drawn.image, format="rgb24")))
        output.mux(stream.encode())


class Taken(NamedTuple):
    """Milliseconds by the clock, and of this process's computing."""

    clock: float
    computing: float


@dataclass
class Window:
    """A viewer, and when its canvas was painted with what.

    Attributes
    ----------
    image, labels : the layers to look at
    paintings : at each painting, the labels that it showed
    """

    viewer: napari.Viewer
    image: Any = None
    labels: Any = None
    paintings: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.canvas = self.viewer.window._qt_viewer.canvas
        self.canvas.events.draw.connect(self._on_painted, position="last")

    def _on_painted(self, _event: object) -> None:
        gl.glFinish()
        if self.labels is not None:
            self.paintings.append(self.labels._slice.image.raw)

    @property
    def slider(self) -> Any:
        return self.viewer.window._qt_viewer.dims.slider_widgets[0].slider

    @property
    def window_size(self) -> tuple[int, int]:
        size = self.viewer.window._qt_window.size()
        return size.height(), size.width()

    def live(self, seconds: float = SETTLE_SECONDS) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            QApplication.processEvents()
            time.sleep(0.002)

    def timed(self, act: Callable[[], object], is_done: Callable[[], bool]) -> Taken:
        """From the act until a painting after which it is done, and all that waited beside it."""
        self.paintings.clear()
        start, busy = time.perf_counter(), time.process_time()
        act()
        while not is_done():
            # sleeps until there is something to do, as the program does: in a busy loop this thread would hold the others up
            QApplication.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents)
            if time.perf_counter() - start > PATIENCE_SECONDS:
                raise SystemExit("The window did not show what it should. Try again on a machine with less to do.")
        return Taken(1000 * (time.perf_counter() - start), 1000 * (time.process_time() - busy))

    def wrong_label_pixels(self, expected: np.ndarray) -> int:
        """Of sampled canvas pixels, those that do not have the colour of the class that is there on the disk.

        Parameters
        ----------
        expected : (H, W) class ids
        """
        opacity, self.labels.opacity, self.image.visible = self.labels.opacity, 1.0, False
        self.live()
        picture = np.asarray(self.viewer.screenshot(canvas_only=True, flash=False))[..., :3].astype(int)
        self.labels.opacity, self.image.visible = opacity, True
        colors = np.zeros((256, 3), int)
        for class_id, color in self.labels.colormap.color_dict.items():
            if class_id:
                colors[class_id] = np.round(255 * np.asarray(color)[:3])
        height, width = picture.shape[:2]
        rows, columns = np.mgrid[0:height:SAMPLED_EVERY, 0:width:SAMPLED_EVERY]
        camera = getattr(self.viewer, "scene", self.viewer).camera  # napari 0.9 moved it
        zoom, (_, row, column) = camera.zoom, camera.center
        y = np.round((rows + 0.5 - height / 2) / zoom + row).astype(int)
        x = np.round((columns + 0.5 - width / 2) / zoom + column).astype(int)
        is_in_frame = (y >= 1) & (y < expected.shape[0] - 1) & (x >= 1) & (x < expected.shape[1] - 1)
        y, x, shown = y[is_in_frame], x[is_in_frame], picture[rows[is_in_frame], columns[is_in_frame]]
        # a pixel of the canvas lies between pixels of the frame: at the edge of a mask either is right
        neighbours = [expected[y + dy, x + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        is_right = np.any([np.abs(shown - colors[near]).max(axis=1) <= 3 for near in neighbours], axis=0)
        return int(np.count_nonzero(~is_right))


def opened(clip: Path) -> tuple[Window, MainWidget, Project]:
    """The plugin's window with the clip open and every frame embedded."""
    window = Window(napari.Viewer())
    window.viewer.window.resize(*WINDOW)
    dock = dock_plugin(window.viewer)
    wait_until(lambda: not dock.is_busy, PATIENCE_SECONDS, "load the checkpoint")
    dock.open(clip)
    wait_until(lambda: not dock.is_busy, PATIENCE_SECONDS, "open the clip")
    project, model = dock.session.project, dock.session.model
    assert project is not None and model is not None
    window.image, window.labels = dock.layers.image, dock.layers.labels
    for _ in embed_frames(project, model, range(len(project.video))):
        pass
    window.live(2)  # the trial frame that measures the speed
    return window, dock, project


def measure_first_mask(window: Window, dock: MainWidget, project: Project, repeats: int) -> dict[str, object]:
    """One class, this frame, a click: the first of the window, and `repeats` others in frames without labels."""
    panel = dock.segment_panel
    panel.scope.choice.setCurrentText(THIS_FRAME)
    panel.picker.setCurrentIndex(panel.picker.findData(visible_class(project)))
    taken, wrong = [], 0
    for frame_index in np.linspace(1, len(project.video) - 1, 1 + repeats).astype(int).tolist():
        dock.layers.show_frame(frame_index)
        window.live()
        click = partial(QTest.mouseClick, panel.segment, Qt.MouseButton.LeftButton)
        taken.append(window.timed(click, lambda: any(labels.any() for labels in window.paintings)))
        on_disk = np.asarray(project.labels[frame_index])
        wrong += int(np.count_nonzero(window.paintings[-1] != on_disk))
        wait_until(lambda: not dock.is_busy, PATIENCE_SECONDS, "end the run")
        wrong += window.wrong_label_pixels(on_disk)
    first, *rest = taken
    clock, computing = zip(*rest, strict=True)
    return {
        "first_mask_ms": rounded(np.median(clock)),
        "first_mask_ms_spread": [rounded(min(clock)), rounded(max(clock))],
        "first_mask_p95_ms": rounded(np.quantile(clock, 0.95)),
        "first_mask_computing_ms": rounded(np.median(computing)),
        "first_mask_cold_ms": rounded(first.clock),
        "first_mask_repaint_ms": rounded(np.median([repainted(window, panel.segment) for _ in range(20)])),
        "first_mask_wrong_pixels": wrong,
    }


def repainted(window: Window, button: Any) -> float:
    """Milliseconds until Qt has drawn a button and composed the window anew, as it does at each press and each release."""
    window.live(0.05)
    start = time.perf_counter()
    button.repaint()
    return 1000 * (time.perf_counter() - start)


def rounded(value: Any) -> float:
    return round(float(value), 1)


def visible_class(project: Project) -> int:
    """The class that most frames of the clip show."""
    count = len(project.video)
    scene = PhantomScene(SEED, project.video.info.size, frame_count=count)
    shown = [np.unique(scene.frame(index).labels) for index in np.linspace(0, count - 1, 4).astype(int).tolist()]
    return int(np.bincount(np.concatenate(shown), minlength=2)[1:].argmax()) + 1


@contextmanager
def plain_window(window: Window, dock: MainWidget, project: Project) -> Iterator[Window]:
    """napari with empty docks, with the same frames and labels as arrays in memory; window and canvas of the same sizes."""
    viewer = napari.Viewer()
    plain = Window(viewer)
    right, below = QWidget(), QWidget()
    right.setFixedWidth(dock.width())
    below.setFixedHeight(dock.timeline.timeline.height())
    viewer.window.add_dock_widget(right, area="right")
    viewer.window.add_dock_widget(below, area="bottom")
    viewer.window.resize(*WINDOW)
    plain.image = viewer.add_image(project.video[:], rgb=True, contrast_limits=(0, 255))
    plain.labels = viewer.add_labels(project.labels[:], opacity=window.labels.opacity, colormap=window.labels.colormap)
    for _ in range(3):  # a dock that is too high or too wide gives way only bit by bit
        plain.live()
        more = np.subtract(window.canvas.size, plain.canvas.size)
        height, width = plain.window_size
        viewer.window.resize(width + int(more[1]), height + int(more[0]))
    plain.live()
    try:
        yield plain
    finally:
        viewer.close()


def jumps(rng: np.random.Generator, count: int, frame_count: int) -> list[int]:
    """Frames one after the other, each within 25 of the one before."""
    frames = [int(rng.integers(frame_count))]
    while len(frames) <= count:
        low, high = max(frames[-1] - JUMP_WITHIN, 0), min(frames[-1] + JUMP_WITHIN, frame_count - 1)
        if (frame := int(rng.integers(low, high + 1))) != frames[-1]:
            frames.append(frame)
    return frames


def scrub(window: Window, frames: Sequence[int]) -> list[Taken]:
    """Each move but the first."""
    window.viewer.window.activate()
    window.slider.setValue(frames[0])
    window.live()
    return [window.timed(partial(window.slider.setValue, index), lambda: bool(window.paintings)) for index in frames[1:]]


def measure_scrubbing(window: Window, dock: MainWidget, project: Project, rounds: int) -> dict[str, object]:
    """All classes predicted in every frame; then the same moves here and in napari alone, in turn."""
    frame_count = len(project.video)
    segment_everything(dock, frame_count // 2, None)
    wait_until(lambda: not dock.is_busy, PATIENCE_SECONDS, "segment the clip")
    rng = np.random.default_rng(0)
    with plain_window(window, dock, project) as plain:
        sizes = [[*each.canvas.size, *each.window_size] for each in (window, plain)]
        taken: dict[str, list[Taken]] = {"ours_step": [], "ours_jump": [], "plain_step": [], "plain_jump": []}
        for _ in range(rounds):
            start = int(rng.integers(frame_count - MOVES))
            for kind, frames in {"step": range(start, start + MOVES + 1), "jump": jumps(rng, MOVES, frame_count)}.items():
                taken[f"ours_{kind}"] += scrub(window, frames)
                taken[f"plain_{kind}"] += scrub(plain, frames)
    ours, without = taken["ours_step"] + taken["ours_jump"], taken["plain_step"] + taken["plain_jump"]
    return {
        **quantiles("scrub", ours),
        **quantiles("scrub_step", taken["ours_step"]),
        **quantiles("scrub_jump", taken["ours_jump"]),
        **quantiles("scrub_without_plugin", without),
        "scrub_own_ms": rounded(np.median([mine.clock - other.clock for mine, other in zip(ours, without, strict=True)])),
        "scrub_canvas_and_window_sizes": sizes,
        **wrong_after_scrubbing(window, project, jumps(rng, 10, frame_count)),
    }


def wrong_after_scrubbing(window: Window, project: Project, frames: Sequence[int]) -> dict[str, object]:
    """Compare frame and labels in the canvas with a fresh reader's frame and with the disk."""
    wrong = 0
    with VideoReader(project.video.info.path) as reader:
        for index in frames:
            scrub(window, [(index + 7) % len(project.video), index])
            wrong += not np.array_equal(window.image._slice.image.raw, reader.frame(index))
            wrong += not np.array_equal(window.paintings[-1], project.labels[index])
    return {"scrub_wrong_frames": wrong, "scrub_wrong_pixels": window.wrong_label_pixels(project.labels[frames[-1]])}


def quantiles(key: str, taken: Sequence[Taken]) -> dict[str, object]:
    clock, computing = zip(*taken, strict=True)
    return {
        f"{key}_p95_ms": rounded(np.quantile(clock, 0.95)),
        f"{key}_median_ms": rounded(np.median(clock)),
        f"{key}_min_ms": rounded(min(clock)),
        f"{key}_computing_ms": rounded(np.median(computing)),
    }


def measure(repeats: int, clip: Path | None, size: tuple[int, int], frame_count: int) -> dict[str, object]:
    """All figures of this module, by name.

    Parameters
    ----------
    clip : where the clip is, or is to be kept; by default it is made and deleted again
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        if clip is None or not clip.exists():
            write_clip(clip or path, size, frame_count)
        if clip is not None:
            path.symlink_to(clip.absolute())  # the project beside it is made each time
        window, dock, project = opened(path)
        result = measure_first_mask(window, dock, project, 2 * repeats)
        result |= measure_scrubbing(window, dock, project, repeats)
        window.viewer.close()
        return result


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--clip", type=Path, help="where to keep the clip; used again if it is there")
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--frames", type=int, default=FRAMES, help="more than twenty")
    parser.add_argument("--repeats", type=int, default=5)
    options = parse(parser, quick={"repeats": 1, "size": (216, 384), "frames": 30})
    require_display()
    result = measure(options.repeats, options.clip, tuple(options.size), options.frames)
    for key, value in result.items():
        print(f"{key}: {value}")
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
