"""Download of known weights: a list with sizes, one bar per file."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QDialog, QGridLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from surgicalsam_napari.formatting import in_bytes
from surgicalsam_napari.model.zoo import (
    KNOWN_WEIGHTS,
    DownloadReport,
    KnownWeights,
    download_weights,
    find_weights,
    models_folder,
)
from surgicalsam_napari.widgets.parts.message import Message, clear_message, show_failure
from surgicalsam_napari.widgets.parts.parts import note, thin_bar
from surgicalsam_napari.widgets.runs.run import Run


class WeightsDialog(QDialog):
    """The image encoders of SAM and MobileSAM: on this disk, or to download."""

    downloaded = Signal(str)  # name of the weights

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Encoder weights")
        self.setMinimumWidth(460)
        self.rows: dict[str, DownloadRow] = {}
        self.message = Message()
        grid = QGridLayout()
        grid.setHorizontalSpacing(14)
        grid.setColumnStretch(2, 1)
        for position, weights in enumerate(KNOWN_WEIGHTS.values()):
            self.rows[weights.name] = DownloadRow(weights, grid, position, self)
            self.rows[weights.name].downloaded.connect(self.downloaded)
        folder = note(
            f"Kept in {models_folder()}. Set SURGICALSAM_MODELS to use another folder, for example one with your files."
        )
        folder.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        column = QVBoxLayout(self)
        column.setSpacing(12)
        column.addWidget(
            note("SurgicalSAM checkpoints need the image encoder they were trained with. The bundled one includes its own.")
        )
        column.addLayout(grid)
        column.addWidget(self.message)
        column.addWidget(folder)

    def refresh(self) -> None:
        """Check again which files exist."""
        for row in self.rows.values():
            row.refresh()

    def done(self, result: int) -> None:
        """Close the dialog and stop the downloads; the next download resumes them."""
        for row in self.rows.values():
            row.stop()
        super().done(result)


class DownloadRow(QWidget):
    """Title, size, state and button of one file; adds them to the dialog's grid."""

    downloaded = Signal(str)

    def __init__(self, weights: KnownWeights, grid: QGridLayout, position: int, parent: QWidget) -> None:
        super().__init__(parent)
        self.hide()  # only its parts are visible, in the grid of the dialog
        self.weights = weights
        self.bar, self.state, self.button = thin_bar(), QLabel(), QPushButton()
        self.bar.setRange(0, 1000)
        self.button.clicked.connect(self._on_clicked)
        self.run = Run(self)
        self.run.reported.connect(self._on_report)
        self.run.failed.connect(lambda error: show_failure(error, self))
        self.run.finished.connect(self._on_finished)
        size = QLabel(in_bytes(weights.size_bytes))
        size.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        for column, widget in enumerate((QLabel(weights.title), size, self.state, self.button)):
            grid.addWidget(widget, position, column)
        grid.addWidget(self.bar, position, 2)
        self.refresh()

    def refresh(self) -> None:
        """Show whether the file exists, is being downloaded, or can be downloaded."""
        is_downloading, path = self.run.is_running, find_weights(self.weights.name)
        self.bar.setVisible(is_downloading)
        self.state.setVisible(not is_downloading)
        self.state.setText("not downloaded" if path is None else "on this disk")
        self.state.setToolTip(str(path or self.weights.url))
        self.button.setText("Stop" if is_downloading else "Download")
        self.button.setEnabled(is_downloading or path is None)

    def stop(self) -> None:
        """Stop the download; the received part is kept."""
        self.run.cancel()

    def _on_clicked(self) -> None:
        if self.run.is_running:
            self.stop()
            return
        self.bar.setValue(0)
        clear_message(self)
        name = self.weights.name
        self.run.start(lambda: download_weights(name))
        self.refresh()

    def _on_report(self, report: DownloadReport) -> None:
        self.bar.setValue(round(1000 * report.done_bytes / max(report.total_bytes, 1)))
        self.bar.setToolTip(f"{in_bytes(report.done_bytes)} of {in_bytes(report.total_bytes)}")

    def _on_finished(self, _is_complete: bool) -> None:
        self.refresh()
        path: Path | None = find_weights(self.weights.name)
        if path is not None:
            self.downloaded.emit(self.weights.name)
