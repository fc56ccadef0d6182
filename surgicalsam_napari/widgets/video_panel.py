"""Panel *Video*: what is open, and how to open another."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton

from surgicalsam_napari.store import Project
from surgicalsam_napari.video import VIDEO_SUFFIXES, VideoInfo
from surgicalsam_napari.widgets.parts import SPACING, ElidedLabel, Panel, note
from surgicalsam_napari.widgets.wording import counted, in_time

NOTHING_OPEN = "No video is open. Open one, or drop it on the viewer."


class VideoPanel(Panel):
    """File, size, frames and frame rate; two buttons."""

    open_requested = Signal(object)  # Path

    def __init__(self) -> None:
        super().__init__("Video")
        self.file_name = ElidedLabel()
        self.facts = note(NOTHING_OPEN)
        self.open_file = QPushButton("Open file…")
        self.open_folder = QPushButton("Open folder…")
        self.open_file.setToolTip("A video: " + ", ".join(suffix.lstrip(".") for suffix in VIDEO_SUFFIXES))
        self.open_folder.setToolTip("A folder of numbered images, or a project (*.surgicalsam)")
        self.open_file.clicked.connect(self._choose_file)
        self.open_folder.clicked.connect(self._choose_folder)
        buttons = QHBoxLayout()
        buttons.setSpacing(SPACING)
        buttons.addWidget(self.open_file, 1)
        buttons.addWidget(self.open_folder, 1)
        self.column.addWidget(self.file_name)
        self.column.addWidget(self.facts)
        self.column.addLayout(buttons)
        self.show_project(None)

    def show_project(self, project: Project | None) -> None:
        """Describe the open project's video."""
        self.file_name.setVisible(project is not None)
        if project is None:
            self.facts.setText(NOTHING_OPEN)
            return
        info = project.video.info
        self.file_name.setText(info.path.name)
        self.file_name.setToolTip(f"{info.path}\nLabels and embeddings are kept in {project.folder}")
        self.facts.setText(describe_video(info))

    def set_enabled(self, enabled: bool) -> None:
        """Locked while a run works on the video."""
        self.open_file.setEnabled(enabled)
        self.open_folder.setEnabled(enabled)

    def show_opening(self, path: Path) -> None:
        """Say that a video is being opened."""
        self.facts.setText(f"Opening {path.name}…")

    def _choose_file(self) -> None:
        patterns = " ".join(f"*{suffix} *{suffix.upper()}" for suffix in VIDEO_SUFFIXES)
        path, _ = QFileDialog.getOpenFileName(self, "Open a surgical video", "", f"Videos ({patterns});;All files (*)")
        if path:
            self.open_requested.emit(Path(path))

    def _choose_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Open a folder of numbered images, or a project (*.surgicalsam)")
        if path:
            self.open_requested.emit(Path(path))


def describe_video(info: VideoInfo) -> str:
    """ "1280 × 1024 · 90,000 frames · 25 fps · 1 h 00 min"; images in a folder have no rate."""
    height, width = info.size
    facts = [f"{width} × {height}", counted(info.frame_count, "frame")]
    if info.frame_rate:
        facts += [f"{info.frame_rate:.4g} fps", in_time(info.frame_count / info.frame_rate)]
    return " · ".join(facts)
