"""Time until a real napari window shows the first mask, and until it shows another frame while scrubbing, at 1080p.

Needs a display:
`xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/speed/speed_window.py [--clip clip.mp4] [--json]`.

The clip is the phantom with a keyframe every 25 frames.

- `first_mask_ms`: from a click on Segment ("this frame", the embedding on disk) until the canvas shows the mask, OpenGL has
  finished and Qt has handled all waiting events. `first_mask_cold_ms` is the first click in the window.
  `first_mask_repaint_ms` is the part in which Qt paints the pressed button (and again the released one).
- `scrub_p95_ms`: from a move of napari's slider until the canvas shows the new frame and its labels: steps to the next
  frame, and jumps within 25 frames. `scrub_without_plugin…`: the same moves in a napari window with empty docks and the same
  frames and labels as arrays in memory, with equal sizes of window and canvas. This is napari's own share, which is large
  with software OpenGL. `scrub_own_ms` is the median of the differences.
- `…_computing_ms`: CPU time of this process on all cores, which depends less on other processes.

The pixels on the screen are compared with the labels on disk after the time is taken.
"""

from __future__ import annotations

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
from qtpy.QtCore import QEventLoop, Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget
from vispy.gloo import gl

sys.path.append(str(Path(__file__).parents[1]))
from common.options import new_parser, parse, print_json, require_display

from surgicalsam_napari.inference import embed_frames
from surgicalsam_napari.phantom import PhantomScene
from surgicalsam_napari.store import Project
from surgicalsam_napari.video import VideoReader
from surgicalsam_napari.widgets.demo import dock_plugin, segment_everything, wait_until
from surgicalsam_napari.widgets.main_widget import MainWidget
from surgicalsam_napari.widgets.parts.frame_scope import THIS_FRAME

SIZE, FRAMES, KEYFRAME_EVERY, SEED = (1080, 1920), 75, 25, 300_000
WINDOW, SETTLE_SECONDS, PATIENCE_SECONDS, PAINT_SECONDS = (1600, 960), 0.5, 600, 60
SAMPLED_EVERY = 8  # pixels of the canvas, in rows and columns
JUMP_WITHIN, MOVES = 25, 20  # frames; moves of each kind in a round (default)


def write_clip(path: Path, size: tuple[int, int], frame_count: int) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.gop_size = KEYFRAME_EVERY
        stream.options = {"crf": "18", "preset": "veryfast"}
        for rendered in PhantomScene(SEED, size, frame_count=frame_count):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(rendered.image, format="rgb24")))
        output.mux(stream.encode())


class Duration(NamedTuple):
    """Milliseconds of wall-clock time, and of CPU time of this process."""

    clock: float
    computing: float


@dataclass
class Window:
    """A viewer, and the labels that its canvas showed.

    Attributes
    ----------
    image, labels : the layers of the frame and of its labels
    paintings : the shown labels (H, W), one entry for each time that the canvas was painted
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

    def timed(self, action: Callable[[], object], is_done: Callable[[], bool]) -> Duration:
        """Time from the action until `is_done`, with all waiting events handled."""
        self.paintings.clear()
        alarm = QTimer(singleShot=True)  # ends the wait below even if no event arrives
        alarm.start(1000 * PAINT_SECONDS)
        start, busy = time.perf_counter(), time.process_time()
        action()
        while not is_done():
            # sleep until there is an event, as the program does: a busy loop would slow the other threads down
            QApplication.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents)
            if not alarm.isActive():
                raise SystemExit(
                    f"The window did not show the expected image within {PAINT_SECONDS} s. "
                    "Run this again on a less busy machine."
                )
        return Duration(1000 * (time.perf_counter() - start), 1000 * (time.process_time() - busy))

    def wrong_label_pixels(self, expected: np.ndarray) -> int:
        """Count the sampled canvas pixels whose colour is not that of their class on disk.

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
        camera = getattr(self.viewer, "scene", self.viewer).camera  # moved in napari 0.9
        zoom, (_, row, column) = camera.zoom, camera.center
        y = np.round((rows + 0.5 - height / 2) / zoom + row).astype(int)
        x = np.round((columns + 0.5 - width / 2) / zoom + column).astype(int)
        is_in_frame = (y >= 1) & (y < expected.shape[0] - 1) & (x >= 1) & (x < expected.shape[1] - 1)
        y, x, shown = y[is_in_frame], x[is_in_frame], picture[rows[is_in_frame], columns[is_in_frame]]
        # a canvas pixel lies between pixels of the frame: at a mask's edge the colour of each neighbour is correct
        neighbours = [expected[y + dy, x + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        is_correct = np.any([np.abs(shown - colors[near]).max(axis=1) <= 3 for near in neighbours], axis=0)
        return int(np.count_nonzero(~is_correct))


def opened(clip: Path) -> tuple[Window, MainWidget, Project]:
    """The plugin's window, with the clip open and every frame embedded."""
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
    window.live(2)  # waits for the trial frame that measures the speed
    return window, dock, project


def measure_first_mask(window: Window, dock: MainWidget, project: Project, repeats: int) -> dict[str, object]:
    """Segment one class in the current frame by a click: the first click, and `repeats` others in frames without labels."""
    panel = dock.segment_panel
    panel.scope.choice.setCurrentText(THIS_FRAME)
    panel.picker.setCurrentIndex(panel.picker.findData(visible_class(project)))
    durations, wrong = [], 0
    for frame_index in np.linspace(1, len(project.video) - 1, 1 + repeats).astype(int).tolist():
        dock.layers.show_frame(frame_index)
        window.live()
        click = partial(QTest.mouseClick, panel.segment, Qt.MouseButton.LeftButton)
        durations.append(window.timed(click, lambda: any(labels.any() for labels in window.paintings)))
        on_disk = np.asarray(project.labels[frame_index])
        wrong += int(np.count_nonzero(window.paintings[-1] != on_disk))
        wait_until(lambda: not dock.is_busy, PATIENCE_SECONDS, "end the run")
        wrong += window.wrong_label_pixels(on_disk)
    first, *rest = durations
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
    """Milliseconds until Qt has painted a button and composed the window, as it does at each press and release."""
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
    """napari with empty docks, the same frames and labels as arrays in memory, and equal sizes of window and canvas."""
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
    for _ in range(3):  # a dock that is too large shrinks in several steps
        plain.live()
        difference = np.subtract(window.canvas.size, plain.canvas.size)
        height, width = plain.window_size
        viewer.window.resize(width + int(difference[1]), height + int(difference[0]))
    plain.live()
    try:
        yield plain
    finally:
        viewer.close()


def jumps(rng: np.random.Generator, count: int, frame_count: int) -> list[int]:
    """`count` + 1 frames, each at most 25 frames from the previous one."""
    frames = [int(rng.integers(frame_count))]
    while len(frames) <= count:
        low, high = max(frames[-1] - JUMP_WITHIN, 0), min(frames[-1] + JUMP_WITHIN, frame_count - 1)
        if (frame := int(rng.integers(low, high + 1))) != frames[-1]:
            frames.append(frame)
    return frames


def scrub(window: Window, frames: Sequence[int]) -> list[Duration]:
    """The duration of each move after the first frame."""
    window.viewer.window.activate()
    window.slider.setValue(frames[0])
    window.live()
    return [window.timed(partial(window.slider.setValue, index), lambda: bool(window.paintings)) for index in frames[1:]]


def measure_scrubbing(window: Window, dock: MainWidget, project: Project, rounds: int, moves: int) -> dict[str, object]:
    """Predict all classes in every frame; then make the same moves in this window and in plain napari, in turn."""
    frame_count = len(project.video)
    segment_everything(dock, frame_count // 2, None)
    wait_until(lambda: not dock.is_busy, PATIENCE_SECONDS, "segment the clip")
    rng = np.random.default_rng(0)
    with plain_window(window, dock, project) as plain:
        sizes = [[*each.canvas.size, *each.window_size] for each in (window, plain)]
        durations: dict[str, list[Duration]] = {"ours_step": [], "ours_jump": [], "plain_step": [], "plain_jump": []}
        for _ in range(rounds):
            start = int(rng.integers(frame_count - moves))
            for kind, frames in {"step": range(start, start + moves + 1), "jump": jumps(rng, moves, frame_count)}.items():
                durations[f"ours_{kind}"] += scrub(window, frames)
                durations[f"plain_{kind}"] += scrub(plain, frames)
    ours = durations["ours_step"] + durations["ours_jump"]
    without = durations["plain_step"] + durations["plain_jump"]
    return {
        **quantiles("scrub", ours),
        **quantiles("scrub_step", durations["ours_step"]),
        **quantiles("scrub_jump", durations["ours_jump"]),
        **quantiles("scrub_without_plugin", without),
        "scrub_own_ms": rounded(np.median([a.clock - b.clock for a, b in zip(ours, without, strict=True)])),
        "scrub_canvas_and_window_sizes": sizes,
        **wrong_after_scrubbing(window, project, jumps(rng, moves // 2, frame_count)),
    }


def wrong_after_scrubbing(window: Window, project: Project, frames: Sequence[int]) -> dict[str, object]:
    """Compare the shown frame with that of a new reader, and the shown labels with the disk."""
    wrong = 0
    with VideoReader(project.video.info.path) as reader:
        for index in frames:
            scrub(window, [(index + 7) % len(project.video), index])
            wrong += not np.array_equal(window.image._slice.image.raw, reader.frame(index))
            wrong += not np.array_equal(window.paintings[-1], project.labels[index])
    return {"scrub_wrong_frames": wrong, "scrub_wrong_pixels": window.wrong_label_pixels(project.labels[frames[-1]])}


def quantiles(key: str, durations: Sequence[Duration]) -> dict[str, object]:
    clock, computing = zip(*durations, strict=True)
    return {
        f"{key}_p95_ms": rounded(np.quantile(clock, 0.95)),
        f"{key}_median_ms": rounded(np.median(clock)),
        f"{key}_min_ms": rounded(min(clock)),
        f"{key}_computing_ms": rounded(np.median(computing)),
    }


def measure(repeats: int, clip: Path | None, size: tuple[int, int], frame_count: int, moves: int) -> dict[str, object]:
    """All figures of this script, by name.

    Parameters
    ----------
    clip : the file of the clip, which is made if it does not exist; None for a temporary file
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        if clip is None or not clip.exists():
            write_clip(clip or path, size, frame_count)
        if clip is not None:
            path.symlink_to(clip.absolute())  # so that the project next to it is new each time
        window, dock, project = opened(path)
        result = measure_first_mask(window, dock, project, 2 * repeats)
        result |= measure_scrubbing(window, dock, project, repeats, moves)
        window.viewer.close()
        return result


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--clip", type=Path, help="the file of the clip; it is kept, and used again if it exists")
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--frames", type=int, default=FRAMES, help="of the clip; more than --moves")
    parser.add_argument("--moves", type=int, default=MOVES, help="moves of each kind in a round")
    parser.add_argument("--repeats", type=int, default=5)
    options = parse(parser, quick={"repeats": 1, "size": (216, 384), "frames": 5, "moves": 2})
    require_display()
    result = measure(options.repeats, options.clip, tuple(options.size), options.frames, options.moves)
    for key, value in result.items():
        print(f"{key}: {value}")
    if options.json:
        print_json(result)


if __name__ == "__main__":
    main()
