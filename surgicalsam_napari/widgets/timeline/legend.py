"""The legend of the timeline's colours."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPixmap, QResizeEvent
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QWidget

from surgicalsam_napari.review.overview import QUALITY_LEVELS, VOTED
from surgicalsam_napari.store.provenance import Provenance
from surgicalsam_napari.widgets.timeline.colors import cell_codes, cell_pixels, image_over
from surgicalsam_napari.widgets.timeline.painting import draw_page
from surgicalsam_napari.widgets.timeline.tooltips import WORDS

CHIP_HEIGHT = 12
CHIP_EDGE = "#7f8591"  # separates chips from a background of similar brightness
CHIP_WIDTH, RAMP_WIDTH = 14, 3 * QUALITY_LEVELS
HELP = (
    "Click or drag to go to a frame. Turn the wheel to zoom; hold Shift to move along the video, "
    "or drag with the middle button. Double-click to see the whole video.\n\n"
    "A column of pixels can stand for several frames. Then it is divided into predicted, edited and verified, so that a "
    "single edited frame is visible. The shade shows the worst predicted frame, and a click goes to that frame.\n\n"
    "A white line above a cell: the vote over time changed what the model predicted there. The small arrow before a class "
    "opens its tracks, one row for each instrument.\n\n"
    "Confidence is the model's own guess of how well its mask overlaps the true one (the predicted IoU)."
)


class TimelineLegend(QWidget):
    """One line of colour chips and words, shorter words where there is less room; the question mark explains the rest."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._words: list[tuple[QLabel, str, str]] = []  # label, text, short text
        line = QHBoxLayout(self)
        line.setContentsMargins(6, 0, 6, 2)
        line.setSpacing(5)
        help_mark = _label("?")
        help_mark.setObjectName("timeline_help")
        help_mark.setToolTip(HELP)
        help_mark.setFixedSize(15, 15)
        help_mark.setAlignment(Qt.AlignmentFlag.AlignCenter)
        help_mark.setStyleSheet(
            "border: 1px solid rgba(127, 127, 127, 160); border-radius: 7px; font-size: 8pt; padding: 0px;"
        )
        line.addWidget(help_mark)
        line.addSpacing(8)
        for provenance in Provenance:
            is_predicted = provenance is Provenance.PREDICTED
            line.addWidget(_chip(provenance, RAMP_WIDTH if is_predicted else CHIP_WIDTH))
            words = WORDS[provenance]
            line.addWidget(self._word(f"{words}, confidence 0.5 to 1" if is_predicted else words, words))
            line.addSpacing(10)
        line.addWidget(_chip(Provenance.PREDICTED, CHIP_WIDTH, is_voted=True))
        line.addWidget(self._word("changed by the vote", "voted"))
        line.addSpacing(10)
        line.addWidget(self._word("▼  propagation stopped", "▼  stopped"))
        line.addSpacing(10)
        line.addWidget(_page())
        line.addWidget(_label("note"))
        line.addStretch(1)
        self._roomy = super().minimumSizeHint().width()

    def _word(self, text: str, short: str) -> QLabel:
        label = _label(text)
        label.setToolTip(text)
        self._words.append((label, text, short))
        return label

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        is_roomy = self.width() >= self._roomy
        for label, text, short in self._words:
            label.setText(text if is_roomy else short)

    def minimumSizeHint(self) -> QSize:
        return QSize(20, super().minimumSizeHint().height())


def _label(text: str) -> QLabel:
    label = QLabel(text)
    label.setStyleSheet("font-size: 8pt; padding: 0px; margin: 0px;")
    return label


def _page() -> QLabel:
    page = QLabel()
    pixmap = QPixmap(9, 10)
    painter = QPainter(pixmap)
    draw_page(painter, 0, 0)
    painter.end()
    page.setPixmap(pixmap)
    page.setStyleSheet("padding: 0px; margin: 0px;")
    return page


def _chip(provenance: Provenance, width: int, *, is_voted: bool = False) -> QLabel:
    chip = QLabel()
    chip.setPixmap(_chip_pixmap(provenance, width, is_voted=is_voted))
    chip.setStyleSheet("padding: 0px; margin: 0px;")
    return chip


def _chip_pixmap(provenance: Provenance, width: int, *, is_voted: bool) -> QPixmap:
    levels = (np.arange(width) * QUALITY_LEVELS // width).astype(np.uint8)
    codes = cell_codes(np.full(width, 1 << provenance | is_voted << VOTED, dtype=np.uint8), levels)
    pixels = np.ascontiguousarray(cell_pixels(CHIP_HEIGHT + 1)[:CHIP_HEIGHT, codes])
    image: QImage = image_over(pixels)
    pixmap = QPixmap(width, CHIP_HEIGHT)
    painter = QPainter(pixmap)
    painter.drawImage(0, 0, image)
    painter.setPen(QColor(CHIP_EDGE))
    painter.drawRect(0, 0, width - 1, CHIP_HEIGHT - 1)
    painter.end()
    return pixmap
