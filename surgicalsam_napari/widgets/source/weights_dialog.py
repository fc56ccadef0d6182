"""Image encoders to download: what each costs on this machine, which to take, and one bar per file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QDialog, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from surgicalsam_napari.formatting import in_bytes, in_time
from surgicalsam_napari.inference.encoder_speed import guessed_seconds, probe
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.zoo import (
    KNOWN_WEIGHTS,
    OTHER_WEIGHTS,
    DownloadReport,
    KnownWeights,
    Weights,
    download_weights,
    find_weights,
    models_folder,
)
from surgicalsam_napari.session import Session
from surgicalsam_napari.store.embeddings import bytes_per_frame
from surgicalsam_napari.widgets.parts.message import Message, clear_message, show_failure
from surgicalsam_napari.widgets.parts.parts import SPACING, caption, note, thin_bar
from surgicalsam_napari.widgets.runs.background import run_in_background
from surgicalsam_napari.widgets.runs.run import Run

if TYPE_CHECKING:
    import torch

MOST_SECONDS = 1.0  # per frame, of the encoder that is recommended
FRAMES_WITHOUT_A_VIDEO = 1000
TITLE_WIDTH, SIZE_WIDTH = 150, 70
WHAT_IT_IS = (
    "An image encoder reads each frame once, and keeps what it sees on the disk. It does not find instruments by itself: "
    "masks also need a SurgicalSAM checkpoint that was trained with the same encoder (Model > Open model…), or a training "
    "of your own (Train > More > Image encoder). To start, you need no download: the bundled model has its own encoder, and "
    "learns from your corrected frames."
)
WHERE = "Kept in {folder}. Set SURGICALSAM_MODELS to use another folder, for example one with your files."
IN_A_BROWSER = (
    "The next ones are downloaded in a browser: this program knows no checksum to check them with. Move the file into the "
    "folder below, or choose it under Model > Weights."
)
PURPOSES = {
    "light": "The bundled model.",
    "vit_h": "The encoder of the paper and of the authors' checkpoints.",
    "vit_l": "Half the arithmetic of ViT-H.",
    "vit_b": "A sixth of the arithmetic of ViT-H.",
    "mobile_sam": "Small; imitates ViT-H.",
    "edge_sam": "The smallest one; imitates ViT-H. S-Lab License 1.0: not for commercial use.",
    "tiny_sam": "The layers of MobileSAM with other weights; imitates ViT-H.",
    "repvit_sam": "Only convolutions; imitates ViT-H.",
    "efficientvit_sam_l0": "Reads pictures of 512 pixels, the others of 1024; imitates ViT-H.",
}


class WeightsDialog(QDialog):
    """The image encoders: what each costs on this machine, which to take, and the download of their weights.

    Parameters
    ----------
    session : its video, if one is open, is what the costs are for
    """

    downloaded = Signal(str)  # name of the weights

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self.setWindowTitle("Image encoders")
        self.setMinimumWidth(780)
        self.rows: dict[str, EncoderRow] = {}
        self.message, self.advice, self.basis = Message(), caption(""), note()
        self.advice.setWordWrap(True)
        folder = note(WHERE.format(folder=models_folder()))
        folder.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        column = QVBoxLayout(self)
        column.setSpacing(10)
        for widget in (note(WHAT_IT_IS), self.advice):
            column.addWidget(widget)
        others = sorted(OTHER_WEIGHTS.values(), key=_arithmetic)
        for row in (EncoderRow("light"), *map(DownloadRow, by_size()), *map(BrowserRow, others)):
            if isinstance(row, BrowserRow) and row.weights is others[0]:
                column.addWidget(note(IN_A_BROWSER))
            self.rows[row.encoder_id] = row
            column.addWidget(row)
            if isinstance(row, DownloadRow):
                row.downloaded.connect(self.downloaded)
        for widget in (self.message, self.basis, folder):
            column.addWidget(widget)

    def show_costs(self, device: torch.device) -> None:
        """Say what each encoder costs on this device; a short test of its speed runs in the background first."""
        self.advice.setText("Testing how fast this machine is…")
        self._show_costs(device)
        self._device = device
        # methods, not local functions: Qt disconnects them if the dialog is gone before
        run_in_background(lambda: probe(device), self._on_probed, self._on_not_probed)

    def _on_not_probed(self, _error: Exception) -> None:
        self.advice.setText("")

    def _on_probed(self, _speed: float) -> None:
        from surgicalsam_napari.model.device import describe_device  # here: torch takes seconds to import

        device = self._device
        self._show_costs(device)
        self.advice.setText(advice(device))
        self.basis.setText(
            f"Times are estimated for {describe_device(device)}, from the arithmetic of each encoder and a test of half a "
            "second. Real runs may take twice as long. Disk: features of all frames, in the project's folder."
        )
        self._fit()

    def _show_costs(self, device: torch.device) -> None:
        project = self.session.project
        frames = project.video.info.frame_count if project is not None else FRAMES_WITHOUT_A_VIDEO
        what = "this video" if project is not None else f"{FRAMES_WITHOUT_A_VIDEO:,} frames"
        for encoder_id, row in self.rows.items():
            row.cost.setText(f"{PURPOSES[encoder_id]} {cost_text(encoder_id, device, frames, what)}")
        self._fit()

    def _fit(self) -> None:
        """Make room for all lines: a dialog does not follow wrapped text that changes."""
        for row in self.rows.values():
            row.fit()
        layout = self.layout()
        if layout is not None:
            layout.activate()
            self.setMinimumHeight(layout.totalHeightForWidth(self.width()))

    def refresh(self) -> None:
        """Check again which files exist."""
        for row in self.rows.values():
            row.refresh()

    def done(self, result: int) -> None:
        """Close the dialog and stop the downloads; the next download resumes them."""
        for row in self._downloads:
            row.stop()
        super().done(result)

    @property
    def _downloads(self) -> list[DownloadRow]:
        return [row for row in self.rows.values() if isinstance(row, DownloadRow)]


def by_size() -> list[KnownWeights]:
    """The known weights, from the fastest encoder to the slowest."""
    return sorted(KNOWN_WEIGHTS.values(), key=_arithmetic)


def _arithmetic(weights: Weights) -> float:
    return ENCODERS[weights.encoder_id].gigaflops


def cost_text(encoder_id: str, device: torch.device, frame_count: int, what: str) -> str:
    """ "About 4 s per frame; this video: 2 h 10 min and 3.9 GB of disk."; without the time before the test of the speed."""
    seconds = guessed_seconds(encoder_id, device)
    disk = in_bytes(frame_count * bytes_per_frame(ENCODERS[encoder_id].embedding_shape))
    if seconds is None:
        return f"{what[:1].upper()}{what[1:]}: {disk} of disk."
    per_frame = "Under 0.1 s" if seconds < 0.1 else f"About {seconds:.1f} s" if seconds < 10 else f"About {in_time(seconds)}"
    return f"{per_frame} per frame; {what}: {in_time(frame_count * seconds)} and {disk} of disk."


def advice(device: torch.device) -> str:
    """Which encoder to take: the largest that reads a frame in a second, of those that everybody may use."""
    free = [weights for weights in by_size() if weights.is_commercial]
    fast = [weights for weights in free if (guessed_seconds(weights.encoder_id, device) or MOST_SECONDS) < MOST_SECONDS]
    if not fast:
        return "On this machine: keep the bundled encoder. Each of the others takes more than a second per frame."
    return f"On this machine: take {fast[-1].title}, the largest that reads a frame in less than a second."


class EncoderRow(QWidget):
    """Title, size and state of an encoder; below them what it is for and what it costs."""

    def __init__(self, encoder_id: str, size: str = "") -> None:
        super().__init__()
        self.encoder_id = encoder_id
        title, size_label = caption(ENCODERS[encoder_id].title), caption(size)
        title.setFixedWidth(TITLE_WIDTH)
        size_label.setFixedWidth(SIZE_WIDTH)
        self.state, self.cost = caption("comes with the plugin"), note()
        self.row = QHBoxLayout()
        self.row.setSpacing(SPACING)
        for widget, stretch in ((title, 0), (size_label, 0), (self.state, 1)):
            self.row.addWidget(widget, stretch)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addLayout(self.row)
        column.addWidget(self.cost)
        self._column = column

    def refresh(self) -> None:
        """Check again whether the weights are there; the bundled ones always are."""

    def fit(self) -> None:
        """Let the layout around know at once that the text has changed."""
        self._column.activate()
        self.updateGeometry()


class BrowserRow(EncoderRow):
    """The row of an encoder whose weights a person downloads in a browser: their size or digest is not published."""

    def __init__(self, weights: Weights) -> None:
        super().__init__(weights.encoder_id)
        self.weights = weights
        self.button = QPushButton("Open in browser")
        self.button.setToolTip(weights.url)
        self.button.clicked.connect(lambda _checked: QDesktopServices.openUrl(QUrl(weights.url)))
        self.row.addWidget(self.button)
        self.refresh()

    def refresh(self) -> None:
        """Show whether the file is in the models folder, under its published name."""
        path = find_weights(self.weights.name)
        self.state.setText(f"{self.weights.file_name} is not here" if path is None else "on this disk")
        self.state.setToolTip(str(path or self.weights.url))


class DownloadRow(EncoderRow):
    """The row of an encoder whose weights can be downloaded."""

    downloaded = Signal(str)

    def __init__(self, weights: KnownWeights) -> None:
        super().__init__(weights.encoder_id, in_bytes(weights.size_bytes))
        self.weights = weights
        self.bar, self.button = thin_bar(), QPushButton()
        self.bar.setRange(0, 1000)
        self.row.addWidget(self.bar, 1)
        self.row.addWidget(self.button)
        self.button.clicked.connect(self._on_clicked)
        self.run = Run(self)
        self.run.reported.connect(self._on_report)
        self.run.failed.connect(lambda error: show_failure(error, self))
        self.run.finished.connect(self._on_finished)
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
