"""A worker on another machine: its address and certificates, a test of the line, and what leaves this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QDialog, QGridLayout, QHBoxLayout, QLineEdit, QPushButton, QVBoxLayout, QWidget

from surgicalsam_napari.preferences import read_preferences, remember_worker
from surgicalsam_napari.remote.certificates import default_certificates
from surgicalsam_napari.remote.connection import Connection
from surgicalsam_napari.remote.loading import bits_per_frame, what_leaves
from surgicalsam_napari.session import Session
from surgicalsam_napari.widgets.parts.file_dialogs import FileKind, ask_for_folder
from surgicalsam_napari.widgets.parts.message import Message, show_failure
from surgicalsam_napari.widgets.parts.parts import SPACING, caption, note, primary_button
from surgicalsam_napari.widgets.runs.background import run_in_background

WHAT_IT_IS = (
    "Another machine with a GPU can read the frames for this one. There, the command “surgicalsam worker” has to run, in "
    "the same version as here. Masks, labels and corrections stay on this machine."
)
CERTIFICATES = "The folder “client” that was made with the worker. Not needed for a worker on this machine."
DEFAULT_ENCODER = "light"


@dataclass(frozen=True)
class LineTest:
    """What a test found: the worker's device, seconds to it and back, bits per second."""

    device: str
    latency: float
    bits_per_second: float


class WorkerDialog(QDialog):
    """Asks for a worker, and lets a person test it before it is used.

    Signals
    -------
    chosen : HOST:PORT of the worker, which is remembered with its certificates
    """

    chosen = Signal(str)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self.setWindowTitle("A GPU on another machine")
        self.setMinimumWidth(520)
        self.message, self.result, self.leaves = Message(), note(), note()
        self.address, self.certificates = QLineEdit(), QLineEdit()
        self.address.setPlaceholderText("gpu-server:8786")
        self.certificates.setPlaceholderText(str(default_certificates()))
        self.choose = QPushButton("Choose…")
        self.test, self.use = QPushButton("Test the line"), primary_button("Use this worker")
        self._lay_out()
        self.address.textChanged.connect(self._on_address)
        self.choose.clicked.connect(self._choose_certificates)
        self.test.clicked.connect(self.test_line)
        self.use.clicked.connect(self._use)
        for button in (self.choose, self.test):
            button.setAutoDefault(False)
        self.use.setDefault(True)
        self.message.dismissed.connect(self._fit_soon)
        self._on_address()

    def refresh(self) -> None:
        """Show the worker used last, and what a frame of the open video is on the line."""
        workers = read_preferences().workers
        if workers and not self.address.text():
            self.address.setText(workers[0].address)
            self.certificates.setText(str(workers[0].certificates or ""))
        self.result.setText("")
        self.leaves.setText(what_leaves(self._video_size, self._encoder_id))
        self._fit_soon()

    def test_line(self) -> None:
        """Ask the worker who it is, and measure the line, in the background."""
        self.message.clear()
        self.result.setText("Testing…")
        self._set_enabled(False)
        address, folder = self.address.text().strip(), self._folder

        def measure() -> LineTest:
            line = Connection(address, folder)
            greeting = line.greet()
            return LineTest(greeting.device, greeting.latency, line.line_speed())

        run_in_background(measure, self._on_tested, self._on_failed)

    @property
    def _folder(self) -> Path | None:
        text = self.certificates.text().strip()
        return Path(text) if text else None

    @property
    def _encoder_id(self) -> str:
        return DEFAULT_ENCODER if self.session.model is None else self.session.model.encoder_id

    @property
    def _video_size(self) -> tuple[int, int] | None:
        return None if self.session.project is None else self.session.project.video.info.size

    def _lay_out(self) -> None:
        grid = QGridLayout()
        grid.setHorizontalSpacing(SPACING)
        grid.setColumnStretch(1, 1)
        grid.addWidget(caption("Address"), 0, 0)
        grid.addWidget(self.address, 0, 1, 1, 2)
        grid.addWidget(caption("Certificates"), 1, 0)
        grid.addWidget(self.certificates, 1, 1)
        grid.addWidget(self.choose, 1, 2)
        grid.addWidget(note(CERTIFICATES), 2, 1, 1, 2)
        buttons = QHBoxLayout()
        buttons.setSpacing(SPACING)
        buttons.addWidget(self.test)
        buttons.addStretch(1)
        buttons.addWidget(self.use)
        column = QVBoxLayout(self)
        column.setSpacing(12)
        column.addWidget(note(WHAT_IT_IS))
        column.addLayout(grid)
        for widget in (caption("What leaves this machine"), self.leaves, self.message, self.result):
            column.addWidget(widget)
        column.addLayout(buttons)

    def _on_address(self) -> None:
        self._set_enabled(bool(self.address.text().strip()))

    def _set_enabled(self, enabled: bool) -> None:
        self.test.setEnabled(enabled)
        self.use.setEnabled(enabled)

    def _choose_certificates(self) -> None:
        folder = ask_for_folder(self, FileKind.CERTIFICATES, "Choose the folder with this machine's certificates")
        if folder is not None:
            self.certificates.setText(str(folder))

    def _fit(self) -> None:
        """Make room for all lines: a dialog does not follow wrapped text that changes."""
        layout = self.layout()
        if layout is not None:
            layout.activate()
            self.resize(self.width(), layout.totalHeightForWidth(self.width()))

    def _fit_soon(self) -> None:
        QTimer.singleShot(0, self._fit)  # a message knows its height when its text is laid out

    def _on_tested(self, found: LineTest) -> None:
        self._set_enabled(True)
        most = found.bits_per_second / bits_per_frame(self._video_size, self._encoder_id)
        self.result.setText(
            f"{found.device}, {1000 * found.latency:.1f} ms away, {1e-6 * found.bits_per_second:.0f} Mbit/s: "
            f"the line carries about {most:.1f} frames a second."
        )
        self._fit_soon()

    def _on_failed(self, error: Exception) -> None:
        self._set_enabled(True)
        self.result.setText("")
        show_failure(error, self)
        self._fit_soon()

    def _use(self) -> None:
        address = self.address.text().strip()
        remember_worker(address, self._folder)
        self.accept()
        self.chosen.emit(address)
