"""The icon of an eye, open or crossed out, in the colours of the theme."""

from __future__ import annotations

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPainterPath, QPen, QPixmap

SCALE = 3  # the picture is drawn larger, so that it is sharp on dense displays


def eye_icon(is_open: bool, color: QColor, side: int = 16) -> QIcon:
    """An eye of this colour; dim and crossed out if it is not open."""
    color = QColor(color)
    color.setAlpha(255 if is_open else 110)
    pixmap = QPixmap(side * SCALE, side * SCALE)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.scale(SCALE * side / 16, SCALE * side / 16)
    lids = QPainterPath(QPointF(1, 8))
    lids.quadTo(QPointF(8, 0.5), QPointF(15, 8))
    lids.quadTo(QPointF(8, 15.5), QPointF(1, 8))
    painter.setPen(QPen(color, 1.4))
    painter.drawPath(lids)
    painter.setBrush(color)
    painter.drawEllipse(QRectF(5.8, 5.8, 4.4, 4.4))
    if not is_open:
        painter.drawLine(QPointF(3, 14), QPointF(13, 2))
    painter.end()
    pixmap.setDevicePixelRatio(SCALE)
    return QIcon(pixmap)
