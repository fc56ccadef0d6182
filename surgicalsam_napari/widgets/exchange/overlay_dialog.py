"""The dialog *Overlay*: save the video, or the frame in view, with its masks over it; a preview shows how it will look."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QCloseEvent, QImage, QPixmap
from qtpy.QtWidgets import (
    QCheckBox,
    QDialog,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QRadioButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.overlay import OverlayStyle, overlay_frame, write_overlay_picture, write_overlay_video
from surgicalsam_napari.store import Project
from surgicalsam_napari.widgets.parts.file_dialogs import FileKind, ask_where_to_save
from surgicalsam_napari.widgets.parts.frame_scope import EVERY_NTH, RANGE, WHOLE_VIDEO, FrameScope
from surgicalsam_napari.widgets.parts.parts import SPACING, Panel, caption, note, primary_button, swatch
from surgicalsam_napari.widgets.parts.progress_strip import ProgressStrip
from surgicalsam_napari.widgets.parts.theme import link
from surgicalsam_napari.widgets.runs.run import Run
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers

PREVIEW_SIZE = (560, 420)  # width, height
PREVIEW_DELAY_MS = 60  # quick changes are drawn once


class OverlayDialog(QDialog):
    """Style, classes and frames at the right, the preview of the frame in view at the left; can stay open.

    Parameters
    ----------
    run : writes the video in another thread
    """

    def __init__(self, run: Run, layers: ViewerLayers, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.run, self.layers = run, layers
        self._project: Project | None = None
        self._written = Path()
        self._preview_timer = QTimer(self, singleShot=True, interval=PREVIEW_DELAY_MS)
        self.setWindowTitle("Overlay")
        self._build()
        self._connect()

    def show_project(self, project: Project) -> None:
        """Offer the classes and frames of this project; the style stays as it was chosen before."""
        if project is not self._project or self._listed() != project.classes.names:
            self._project = project
            self.scope.set_frame_count(project.video.info.frame_count)
            self._list_classes(project)
            self.result.setText("")
        self._update()
        self.show()
        self.raise_()

    def style_chosen(self) -> OverlayStyle:
        """How the masks will be drawn."""
        outlines = self.outlines.isChecked()
        rows = (self.classes.item(row) for row in range(self.classes.count()))
        chosen = [item.data(Qt.ItemDataRole.UserRole) for item in rows if item.checkState() == Qt.CheckState.Checked]
        opacity = 1.0 if outlines else self.opacity.value() / 100
        return OverlayStyle(opacity, outlines, self.names.isChecked(), tuple(chosen))

    def save_picture(self) -> None:
        """Ask for a file, and write the frame in view to it."""
        project, frame = self._project, self.layers.current_frame
        path = self._ask("Save the picture", f"frame_{frame:05d}.png", "Pictures (*.png *.jpg)", ".png")
        if project is None or path is None:
            return
        try:
            write_overlay_picture(project, path, frame, self.style_chosen())
        except SurgicalSAMError as error:
            self.result.setText(escape(str(error)))
        else:
            self._show_written("Frame", f"{frame:,}", path)

    def save_video(self) -> None:
        """Ask for a file, and write the chosen frames to it."""
        project, style = self._project, self.style_chosen()
        path = self._ask("Save the video", "overlay.mp4", "Videos (*.mp4 *.mov *.mkv)", ".mp4")
        if project is None or path is None:
            return
        frames = self._frame_indices()
        self._written = path
        self.result.setText("")
        if self.run.start(lambda: write_overlay_video(project, path, frames, style)):
            self.progress.show_start()
            self._update()

    def closeEvent(self, event: QCloseEvent) -> None:
        self.run.cancel()
        super().closeEvent(event)

    def _build(self) -> None:
        self.preview = QLabel()
        self.preview.setFixedSize(*PREVIEW_SIZE)
        self.preview.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.preview.setStyleSheet("background-color: black;")
        row = QHBoxLayout(self)
        row.setSpacing(2 * SPACING)
        left = QVBoxLayout()
        self.preview_note = note()
        left.addWidget(self.preview)
        left.addWidget(self.preview_note)
        left.addStretch(1)
        row.addLayout(left)
        row.addWidget(self._build_options(), 1)

    def _build_options(self) -> QWidget:
        panel = Panel("Overlay")
        panel.heading.hide()
        self.filled, self.outlines = QRadioButton("filled"), QRadioButton("outlines")
        self.filled.setChecked(True)
        self.opacity = QSlider(Qt.Orientation.Horizontal)
        self.opacity.setRange(0, 100)
        self.opacity.setValue(50)
        self.percent = caption("50 %")
        self.percent.setFixedWidth(44)
        self.names = QCheckBox("with the names of the classes")
        self.names.setChecked(True)
        self.classes, self.scope = QListWidget(), FrameScope((WHOLE_VIDEO, RANGE, EVERY_NTH))
        grid = panel.add_grid()
        grid.addWidget(caption("Masks"), 0, 0)
        grid.addLayout(_row(self.filled, self.outlines), 0, 1)
        grid.addWidget(caption("Opacity"), 1, 0)
        grid.addLayout(_row(self.opacity, self.percent), 1, 1)
        grid.addWidget(self.names, 2, 1)
        grid.addWidget(caption("Classes"), 3, 0, Qt.AlignmentFlag.AlignTop)
        grid.addWidget(self.classes, 3, 1)
        frames = caption("Frames")
        frames.setContentsMargins(0, 5, 0, 0)  # level with the dropdown, not with the fields below it
        grid.addWidget(frames, 4, 0, Qt.AlignmentFlag.AlignTop)
        grid.addWidget(self.scope, 4, 1)
        self.picture_button, self.video_button = QPushButton("Save this frame…"), primary_button("Save video…")
        self.progress, self.result = ProgressStrip(), note()
        self.result.setOpenExternalLinks(True)
        panel.column.addLayout(_row(self.picture_button, self.video_button))
        panel.column.addWidget(self.progress)
        panel.column.addWidget(self.result)
        return panel

    def _connect(self) -> None:
        for button in (self.filled, self.names):
            button.toggled.connect(self._update)
        self.opacity.valueChanged.connect(self._update)
        self.classes.itemChanged.connect(self._update)
        self.scope.changed.connect(self._update)
        self.picture_button.clicked.connect(self.save_picture)
        self.video_button.clicked.connect(self.save_video)
        self.progress.cancelled.connect(self._on_cancel)
        self._preview_timer.timeout.connect(self._draw_preview)
        self.layers.viewer.dims.events.current_step.connect(self._on_frame)
        self.run.reported.connect(self._on_report)
        self.run.failed.connect(lambda error: self.result.setText(escape(str(error))))
        self.run.finished.connect(self._on_finished)

    def _listed(self) -> tuple[str, ...]:
        return tuple(self.classes.item(row).text() for row in range(self.classes.count()))

    def _list_classes(self, project: Project) -> None:
        self.classes.clear()
        for instrument in project.classes:
            item = QListWidgetItem(swatch(instrument.color), instrument.name)
            item.setData(Qt.ItemDataRole.UserRole, instrument.id)
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
            item.setCheckState(Qt.CheckState.Checked)
            self.classes.addItem(item)

    def _frame_indices(self) -> range:
        count = 0 if self._project is None else self._project.video.info.frame_count
        return self.scope.frame_indices(self.layers.current_frame, count)

    def _update(self, _value: Any = None) -> None:
        is_free = self._project is not None and not self.run.is_running
        self.opacity.setEnabled(self.filled.isChecked())
        self.percent.setText(f"{self.opacity.value()} %" if self.filled.isChecked() else "–")
        self.progress.setVisible(self.run.is_running)
        self.picture_button.setEnabled(is_free)
        self.video_button.setEnabled(is_free)
        self._preview_timer.start()

    def _on_frame(self, _event: Any) -> None:
        if self.isVisible():
            self._preview_timer.start()

    def _draw_preview(self) -> None:
        """Draw the frame in view at its own resolution, as it will be saved, and scale it to the room there is."""
        if self._project is None:
            return
        frame = self.layers.current_frame
        self.preview_note.setText(f"Frame {frame:,}. The file has the resolution and the speed of the video.")
        try:
            picture = overlay_frame(self._project, frame, self.style_chosen())
        except SurgicalSAMError as error:
            self.preview.setText(str(error))
            return
        height, width, _ = picture.shape
        image = QImage(picture.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
        mode = Qt.TransformationMode.SmoothTransformation
        self.preview.setPixmap(QPixmap.fromImage(image).scaled(*PREVIEW_SIZE, Qt.AspectRatioMode.KeepAspectRatio, mode))

    def _ask(self, title: str, name: str, filters: str, suffix: str) -> Path | None:
        """The file that the user chooses, with a suffix; None if the dialog was cancelled."""
        if self._project is None:
            return None
        video, parts = self._project.manifest.video_path, "" if self._project.whole is None else "parts_"
        path = ask_where_to_save(self, FileKind.EXPORTS, title, video.with_name(f"{video.stem}_{parts}{name}"), filters)
        if path is None:
            return None
        return path if path.suffix else path.with_suffix(suffix)

    def _on_report(self, report: Any) -> None:
        self.progress.show_progress(report.done, report.total, self.run.seconds_left)

    def _on_cancel(self) -> None:
        self.progress.show_stopping()
        self.run.cancel()

    def _on_finished(self, is_complete: bool) -> None:
        if is_complete:
            self._show_written("", counted(self.run.last_report.total, "frame"), self._written)
        elif self.run.is_cancelled:
            self.result.setText("Cancelled: nothing was written.")
        self._update()

    def _show_written(self, what: str, frames: str, path: Path) -> None:
        saved = link(escape(path.name), path.absolute().as_uri(), self)
        self.result.setText(f"{what} {frames} saved to {saved}.".strip())
        self.result.setToolTip(str(path))


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(SPACING)
    for widget in widgets:
        row.addWidget(widget)
    return row
