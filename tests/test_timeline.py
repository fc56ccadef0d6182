"""The timeline in a real window: drawing, tooltips and mouse."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

pytest.importorskip("qtpy.QtWidgets")

from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QColor, QWheelEvent
from qtpy.QtWidgets import QApplication

from surgicalsam_napari.instruments import ENDOVIS2018, PALETTE, ClassSet, InstrumentClass
from surgicalsam_napari.store import Provenance
from surgicalsam_napari.widgets.timeline.colors import ABSENT_LINE, EDITED, PREDICTED_RAMP, TRACK, VERIFIED
from surgicalsam_napari.widgets.timeline.layout import AXIS_HEIGHT, MARKS_HEIGHT
from surgicalsam_napari.widgets.timeline.view import LARGEST_SCALE, FrameView
from surgicalsam_napari.widgets.timeline.widget import Timeline

WIDTH, HEIGHT = 1000, 180
SHORT, LONG = 100, 20_000
DRIVER = 2  # row of the Large Needle Driver
LEFT, MIDDLE = Qt.MouseButton.LeftButton, Qt.MouseButton.MiddleButton
WORST, BEST = PREDICTED_RAMP[0], PREDICTED_RAMP[-1]


@pytest.fixture
def timeline(qtbot) -> Timeline:
    widget = Timeline()
    qtbot.addWidget(widget)
    widget.resize(WIDTH, HEIGHT)
    widget.show()
    qtbot.waitExposed(widget)
    return widget


@pytest.fixture
def short(timeline) -> Timeline:
    """A timeline of 100 frames: a frame is several pixels wide."""
    return with_tables(timeline, SHORT)


@pytest.fixture
def long(timeline) -> Timeline:
    """A timeline of 20,000 frames: a column of pixels covers about twenty frames."""
    return with_tables(timeline, LONG)


def with_tables(timeline: Timeline, frames: int, classes: ClassSet = ENDOVIS2018, **cells) -> Timeline:
    timeline.show_tables(classes, *tables(frames, len(classes), **cells))
    return timeline


def tables(frames: int, classes: int, provenance: Provenance = Provenance.EMPTY, iou: float = np.nan):
    return np.full((frames, classes), provenance, np.uint8), np.full((frames, classes), iou, np.float32)


def change(timeline: Timeline, frame: int, row: int, provenance: Provenance, iou: float = np.nan) -> None:
    overview = timeline.strip.overview
    kinds, quality = overview.provenance[frame].copy(), overview.predicted_iou[frame].copy()
    kinds[row], quality[row] = provenance, iou
    timeline.update_frames([frame], kinds[None], quality[None])
    timeline.flush()


def at(timeline: Timeline, frame: int, row: int | None = None, y: int = 5) -> QPoint:
    """The viewport pixel in the middle of a frame, in the row of a class or at height y."""
    layout, columns = timeline.strip.layout_now, timeline.strip.view.columns_of(frame, frame)
    if row is not None:
        y = layout.top_of(row) + layout.row_height // 2
    return QPoint(layout.left + (columns.start + columns.stop) // 2, y)


def colors(timeline: Timeline, frame: int, row: int) -> list[str]:
    """The colours of a cell from top to bottom, without duplicates."""
    image = timeline.strip.viewport().grab().toImage()
    layout, x = timeline.strip.layout_now, at(timeline, frame, row).x()
    column = [image.pixelColor(x, layout.top_of(row) + y).name() for y in range(layout.row_height - 1)]
    return list(dict.fromkeys(column))


def wheel(timeline: Timeline, position: QPoint, notches: float, modifiers=Qt.KeyboardModifier.NoModifier) -> None:
    viewport = timeline.strip.viewport()
    event = QWheelEvent(
        QPointF(position),
        QPointF(viewport.mapToGlobal(position)),
        QPoint(),
        QPoint(0, round(120 * notches)),
        Qt.MouseButton.NoButton,
        modifiers,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(viewport, event)


def picked(signal) -> list[int]:
    values: list[int] = []
    signal.connect(values.append)
    return values


# Drawing -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provenance", "iou", "expected"),
    [
        (Provenance.EMPTY, np.nan, [TRACK]),
        (Provenance.ABSENT, 0.2, [TRACK, ABSENT_LINE]),
        (Provenance.PREDICTED, 1.0, [BEST]),
        (Provenance.PREDICTED, 0.5, [WORST]),
        (Provenance.EDITED, 0.5, [EDITED]),
        (Provenance.VERIFIED, 0.5, [VERIFIED]),
    ],
)
def test_each_provenance_has_its_own_look(short, provenance, iou, expected) -> None:
    change(short, 40, DRIVER, provenance, iou)
    assert colors(short, 40, DRIVER) == expected
    assert colors(short, 40, DRIVER + 1) == colors(short, 41, DRIVER) == [TRACK]


def test_better_predictions_are_brighter(short) -> None:
    lightness = []
    for iou in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        change(short, 40, DRIVER, Provenance.PREDICTED, iou)
        (color,) = colors(short, 40, DRIVER)
        lightness.append(lab(color, np.eye(3))[0])
    assert np.all(np.diff(lightness) > 2)


def test_a_single_edited_or_verified_frame_is_visible_among_twenty_predicted(timeline) -> None:
    with_tables(timeline, LONG, provenance=Provenance.PREDICTED, iou=1.0)
    change(timeline, 12_345, DRIVER, Provenance.EDITED)
    assert colors(timeline, 12_345, DRIVER) == [BEST, EDITED]
    frames = timeline.strip.view.frames_at(at(timeline, 12_345).x() - timeline.strip.layout_now.left)
    change(timeline, next(frame for frame in frames if frame != 12_345), DRIVER, Provenance.VERIFIED)
    assert colors(timeline, 12_345, DRIVER) == [BEST, EDITED, VERIFIED]


def test_the_worst_of_twenty_predictions_is_visible(timeline) -> None:
    with_tables(timeline, LONG, provenance=Provenance.PREDICTED, iou=1.0)
    change(timeline, 12_345, DRIVER, Provenance.PREDICTED, 0.4)
    assert colors(timeline, 12_345, DRIVER) == [WORST]


def test_colour_blind_people_can_distinguish_the_colours_of_provenance() -> None:
    for transform in COLOR_VISION.values():
        for hues in combinations((*PREDICTED_RAMP, EDITED, VERIFIED, TRACK), 2):
            if not set(hues) <= {*PREDICTED_RAMP}:
                assert np.linalg.norm(lab(hues[0], transform) - lab(hues[1], transform)) > 30, hues


def test_the_current_frame_is_a_bright_line_over_all_rows(long) -> None:
    long.set_current_frame(9000)
    layout, image = long.strip.layout_now, long.strip.viewport().grab().toImage()
    x = at(long, 9000).x()
    heights = [layout.top_of(row) + 3 for row in range(7)]
    assert {image.pixelColor(x, y).name() for y in heights} == {"#ffffff"}
    assert {image.pixelColor(x + 4, y).name() for y in heights} == {TRACK}


def test_higher_marks_are_brighter_and_no_mark_is_dark(short) -> None:
    marks = np.full(SHORT, np.nan)
    marks[[20, 60]] = 0.4, 1.0
    short.set_marks(marks)
    image = short.strip.viewport().grab().toImage()
    none, some, much = (QColor(image.pixelColor(at(short, frame, y=AXIS_HEIGHT + 3))) for frame in (40, 20, 60))
    assert none.name() == TRACK
    assert none.lightness() < some.lightness() < much.lightness()


def test_all_of_thirty_two_classes_can_be_reached(timeline) -> None:
    classes = ClassSet("many", tuple(InstrumentClass(i + 1, f"Instrument {i + 1}", PALETTE[i % 8]) for i in range(32)))
    with_tables(timeline, SHORT, classes)
    rows, chosen = timeline.strip.verticalScrollBar(), picked(timeline.class_picked)
    assert rows.maximum() > 0 and timeline.strip.layout_now.row_height >= 10
    wheel(timeline, QPoint(20, 80), -40)
    assert rows.value() == rows.maximum()
    timeline.strip.viewport().grab()
    position = QPoint(30, at(timeline, 50, 31).y())
    assert position.y() < timeline.strip.viewport().height()
    press_and_release(timeline, position)
    assert chosen == [32]


# The mouse -----------------------------------------------------------------------------------------------------------


def press_and_release(timeline: Timeline, position: QPoint) -> None:
    from qtpy.QtTest import QTest

    QTest.mouseClick(timeline.strip.viewport(), LEFT, pos=position)


def test_a_click_in_a_row_picks_the_frame_and_no_class(short) -> None:
    frames, classes = picked(short.frame_picked), picked(short.class_picked)
    press_and_release(short, at(short, 63, DRIVER))
    assert frames == [63] and classes == []


def test_a_click_on_the_axis_picks_only_the_frame(short) -> None:
    frames, classes = picked(short.frame_picked), picked(short.class_picked)
    press_and_release(short, at(short, 63))
    assert frames == [63] and classes == []


def test_a_click_on_a_name_picks_only_the_class(short) -> None:
    frames, classes = picked(short.frame_picked), picked(short.class_picked)
    press_and_release(short, QPoint(30, at(short, 0, DRIVER).y()))
    assert frames == [] and classes == [3]


def test_a_click_on_a_bin_goes_to_the_frame_that_makes_it_stand_out(timeline) -> None:
    with_tables(timeline, LONG, provenance=Provenance.PREDICTED, iou=0.9)
    change(timeline, 12_345, DRIVER, Provenance.PREDICTED, 0.4)
    frames = picked(timeline.frame_picked)
    press_and_release(timeline, at(timeline, 12_345, DRIVER))
    assert frames == [12_345]


def test_dragging_scrubs_through_the_frames(short, qtbot) -> None:
    frames, viewport = picked(short.frame_picked), short.strip.viewport()
    qtbot.mousePress(viewport, LEFT, pos=at(short, 10, DRIVER))
    for frame in (11, 12, 12, 15, 14):
        qtbot.mouseMove(viewport, at(short, frame, DRIVER))
    qtbot.mouseRelease(viewport, LEFT, pos=at(short, 14, DRIVER))
    qtbot.mouseMove(viewport, at(short, 50, DRIVER))
    assert frames == [10, 11, 12, 15, 14]


def test_scrubbing_reuses_the_drawn_cells(long, qtbot, monkeypatch) -> None:
    qtbot.wait(200)  # a late change of the window size would redraw the cells
    long.strip.viewport().repaint()
    binned = []
    monkeypatch.setattr(long.strip.overview, "binned", lambda edges: binned.append(edges))
    for frame in (10, 5000, 19_999):
        press_and_release(long, at(long, frame))
        long.strip.viewport().repaint()
    assert binned == []


def test_scrubbing_leaves_no_trail(long, qtbot) -> None:
    long.set_current_frame(15_000)
    qtbot.wait(30)
    long.set_current_frame(5_000)
    qtbot.wait(30)
    seen = long.screen().grabWindow(long.winId()).toImage()
    wanted = long.grab().toImage()
    y = long.strip.mapTo(long, at(long, 0, DRIVER)).y()
    layout = long.strip.layout_now
    columns = range(layout.left, layout.left + layout.columns)
    bright = [[x for x in columns if image.pixelColor(x, y).name() == "#ffffff"] for image in (seen, wanted)]
    assert bright[0] == bright[1] == [long.strip.mapTo(long, at(long, 5_000)).x()]


def test_the_wheel_zooms_around_the_pointer(long) -> None:
    position = at(long, 7000, DRIVER)
    wheel(long, position, 8)
    view = long.strip.view
    assert view.scale == pytest.approx(1.4**8 * FrameView.whole(LONG, view.width).scale)
    assert abs(view.frames_at(position.x() - long.strip.layout_now.left)[0] - 7000) < 25


def test_zoom_is_limited_to_eight_pixels_per_frame_and_the_whole_video(long) -> None:
    wheel(long, at(long, 7000), 100)
    assert long.strip.view.scale == LARGEST_SCALE
    wheel(long, at(long, int(long.strip.view.start) + 5), -100)
    assert long.strip.view.is_whole and long.strip.view.start == 0


def test_a_double_click_shows_the_whole_video(long, qtbot) -> None:
    wheel(long, at(long, 7000), 10)
    assert not long.strip.view.is_whole
    qtbot.mouseDClick(long.strip.viewport(), LEFT, pos=at(long, 7000))
    assert long.strip.view.is_whole


def test_shift_and_wheel_move_along_the_video(long) -> None:
    wheel(long, at(long, 7000), 10)
    before = long.strip.view
    wheel(long, at(long, 7000), -1, Qt.KeyboardModifier.ShiftModifier)
    assert long.strip.view.scale == before.scale and long.strip.view.start > before.start


def test_the_middle_button_drags_the_view_along_the_video(long, qtbot) -> None:
    wheel(long, at(long, 7000), 10)
    before, frames, viewport = long.strip.view, picked(long.frame_picked), long.strip.viewport()
    start = at(long, 7000)
    qtbot.mousePress(viewport, MIDDLE, pos=start)
    qtbot.mouseMove(viewport, start - QPoint(100, 0))
    qtbot.mouseRelease(viewport, MIDDLE, pos=start - QPoint(100, 0))
    assert long.strip.view.start == pytest.approx(before.start + 100 / before.scale)
    assert frames == []


def test_holding_the_pointer_beyond_the_edge_moves_the_view(long, qtbot) -> None:
    wheel(long, at(long, 7000), 100)
    viewport, frames = long.strip.viewport(), picked(long.frame_picked)
    end = int(long.strip.view.edges[-1])
    qtbot.mousePress(viewport, LEFT, pos=at(long, end - 5))
    qtbot.mouseMove(viewport, QPoint(viewport.width() + 60, 5))
    qtbot.waitUntil(lambda: frames[-1] > end + 10, timeout=3000)
    qtbot.mouseRelease(viewport, LEFT, pos=QPoint(viewport.width() + 60, 5))
    assert frames == sorted(frames)


def test_the_current_frame_stays_in_view_while_playing(long) -> None:
    wheel(long, at(long, 7000), 100)
    start = int(long.strip.view.edges[-1]) - 3
    for frame in range(start, start + 400):
        long.set_current_frame(frame)
        assert long.strip.view.columns_of(frame, frame) is not None
    long.set_current_frame(3)
    assert long.strip.view.columns_of(3, 3) is not None and long.strip.view.scale == LARGEST_SCALE


def test_the_scroll_bar_moves_along_the_video(long) -> None:
    bar = long.strip.horizontalScrollBar()
    assert bar.maximum() == 0
    wheel(long, at(long, 7000), 100)
    bar.setValue(bar.maximum())
    assert long.strip.view.frames_at(long.strip.view.width - 1)[-1] == LONG - 1


def test_the_timeline_does_not_take_the_keyboard_focus(short) -> None:
    press_and_release(short, at(short, 63, DRIVER))
    assert QApplication.focusWidget() not in (short, short.strip, short.strip.viewport())


# Tooltips ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provenance", "iou", "words"),
    [
        (Provenance.EMPTY, np.nan, "not segmented"),
        (Provenance.ABSENT, 0.2, "absent"),
        (Provenance.PREDICTED, 0.87, "predicted, confidence 0.87"),
        (Provenance.PREDICTED, np.nan, "predicted"),
        (Provenance.EDITED, 0.87, "edited"),
        (Provenance.VERIFIED, 0.87, "verified"),
    ],
)
def test_the_tooltip_shows_frame_class_and_quality(short, provenance, iou, words) -> None:
    change(short, 40, DRIVER, provenance, iou)
    assert short.strip.tooltip_at(at(short, 40, DRIVER)) == f"Frame 40 - Large Needle Driver: {words}"


def test_the_tooltip_of_a_bin_shows_counts(timeline) -> None:
    with_tables(timeline, LONG, provenance=Provenance.PREDICTED, iou=0.9)
    change(timeline, 12_345, DRIVER, Provenance.EDITED)
    frames = timeline.strip.view.frames_at(at(timeline, 12_345).x() - timeline.strip.layout_now.left)
    weakest = next(frame for frame in reversed(frames) if frame != 12_345)
    change(timeline, weakest, DRIVER, Provenance.PREDICTED, 0.61)
    assert timeline.strip.tooltip_at(at(timeline, 12_345, DRIVER)) == (
        f"Frames {frames[0]:,} to {frames[-1]:,} - Large Needle Driver: 1 edited, {len(frames) - 1} predicted, "
        f"lowest confidence 0.61 (frame {weakest:,})"
    )


def test_the_tooltip_of_a_triangle_shows_its_note(long) -> None:
    long.set_notes({7000: "Stopped: the mask no longer fits."})
    position = at(long, 7000, y=AXIS_HEIGHT + MARKS_HEIGHT // 2)
    assert "Frame 7,000 - Stopped: the mask no longer fits." in long.strip.tooltip_at(position)
    assert "Frame 7,000 - Stopped" in long.strip.tooltip_at(position + QPoint(4, 0))
    assert "Stopped" not in long.strip.tooltip_at(position + QPoint(20, 0))


def test_the_tooltip_of_a_mark_shows_its_value(short) -> None:
    marks = np.full(SHORT, np.nan)
    marks[20] = 0.83
    short.set_marks(marks)
    assert short.strip.tooltip_at(at(short, 20, y=AXIS_HEIGHT + 3)) == "Frame 20 - needs review: 83%"


# Live changes --------------------------------------------------------------------------------------------------------


def test_changes_are_drawn_automatically(short, qtbot) -> None:
    short.update_frames([40], np.full((1, 7), Provenance.EDITED), np.full((1, 7), np.nan))
    qtbot.waitUntil(lambda: colors(short, 40, DRIVER) == [EDITED], timeout=2000)


def test_many_changes_are_drawn_together(short, qtbot, monkeypatch) -> None:
    short.strip.viewport().repaint()
    drawn, show_changed = [], short.strip.show_changed
    monkeypatch.setattr(short.strip, "show_changed", lambda *frames: (drawn.append(frames), show_changed(*frames)))
    for frame in range(SHORT):
        short.update_frames([frame], np.full((1, 7), Provenance.EDITED), np.full((1, 7), np.nan))
    qtbot.waitUntil(lambda: bool(drawn), timeout=2000)
    assert drawn == [(0, SHORT - 1)]
    assert colors(short, 0, 0) == colors(short, 99, 6) == [EDITED]


@pytest.mark.parametrize("notches", [0, 5, 12, 30])
def test_a_live_change_looks_like_a_complete_redraw(long, notches) -> None:
    wheel(long, at(long, 7000), notches)
    long.strip.viewport().repaint()
    rng = np.random.default_rng(notches)
    frames = np.sort(rng.integers(6900, 7100, 40))
    long.update_frames(frames, rng.integers(0, 5, (40, 7)), rng.random((40, 7)))
    long.flush()
    live = long.grab().toImage()
    overview = long.strip.overview
    long.show_tables(ENDOVIS2018, overview.provenance, overview.predicted_iou)
    assert long.grab().toImage() == live


# Other videos --------------------------------------------------------------------------------------------------------


def test_the_view_stays_when_the_same_video_is_read_again(long) -> None:
    long.set_notes({7000: "Stopped."})
    wheel(long, at(long, 7000), 10)
    view = long.strip.view
    with_tables(long, LONG)
    assert long.strip.view == view and long.strip.notes
    with_tables(long, SHORT)
    assert long.strip.view.is_whole and long.strip.view.frame_count == SHORT and not long.strip.notes


def test_a_cleared_timeline_ignores_the_mouse(short) -> None:
    frames = picked(short.frame_picked)
    short.clear()
    short.update_frames([0], np.zeros((1, 7)), np.zeros((1, 7)))
    short.set_current_frame(5)
    press_and_release(short, QPoint(500, 60))
    wheel(short, QPoint(500, 60), 3)
    assert frames == [] and short.strip.tooltip_at(QPoint(500, 60)) == ""
    assert short.grab().toImage().pixelColor(500, 20) != QColor(TRACK)


def test_marks_of_wrong_length_are_refused(short) -> None:
    with pytest.raises(ValueError, match="100 frames; got shape"):
        short.set_marks(np.zeros(99))


def test_tables_of_other_classes_are_refused(timeline) -> None:
    with pytest.raises(ValueError, match="7 classes; got 5"):
        timeline.show_tables(ENDOVIS2018, *tables(SHORT, 5))


# The view ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame_count", [1, 7, 999, 1000, 1001, 1999, 123_457])
def test_every_frame_in_view_is_in_one_bin_and_every_column_shows_a_bin(frame_count) -> None:
    rng = np.random.default_rng(frame_count)
    view = FrameView.whole(frame_count, 1000)
    assert view.edges[0] == 0 and view.edges[-1] == frame_count
    for _ in range(50):
        assert np.all(np.diff(view.edges) > 0) and view.edges[0] >= 0 and view.edges[-1] <= frame_count
        assert np.array_equal(np.unique(view.bin_of_column), np.arange(len(view.edges) - 1))
        frame = int(rng.integers(view.edges[0], view.edges[-1]))
        assert all(frame in view.frames_at(x) for x in view.columns_of(frame, frame))
        view = view.zoomed(float(rng.uniform(0.5, 2.2)), float(rng.uniform(0, 1000))).panned(float(rng.uniform(-300, 300)))


# Colour vision -------------------------------------------------------------------------------------------------------

# Machado, Oliveira and Fernandes 2009, full severity, on linear RGB
COLOR_VISION = {
    "normal": np.eye(3),
    "protanopia": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "deuteranopia": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "tritanopia": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(color: str, transform: np.ndarray) -> np.ndarray:
    """CIELAB of an sRGB colour as seen with this colour vision."""
    encoded = np.array(QColor(color).getRgb()[:3]) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(transform @ linear, 0, 1) / TO_XYZ.sum(axis=1)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])
