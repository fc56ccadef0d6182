"""The dialog *Classes*: show, add, rename, recolour, reorder and remove the classes of the open project, and their parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QHideEvent, QShowEvent
from qtpy.QtWidgets import QColorDialog, QDialog, QHBoxLayout, QLineEdit, QPushButton, QVBoxLayout, QWidget

from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.instruments import InstrumentClass
from surgicalsam_napari.session import Session
from surgicalsam_napari.store.project_classes import FormerNameError
from surgicalsam_napari.widgets.classes.class_counts import ClassCounts
from surgicalsam_napari.widgets.classes.class_list import NAME, ClassList
from surgicalsam_napari.widgets.classes.parts_editor import PartsEditor
from surgicalsam_napari.widgets.parts.file_dialogs import FileKind, ask_where_to_save
from surgicalsam_napari.widgets.parts.parts import SPACING, note
from surgicalsam_napari.widgets.parts.progress_strip import Question
from surgicalsam_napari.widgets.viewer.label_changes import LabelChanges
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers
from surgicalsam_napari.widgets.viewer.session_signals import SessionSignals

HELP = (
    "Double-click a name to change it. Labels stay, and a checkpoint or dataset with the earlier name still matches. "
    "The order here is the order everywhere. Tick the parts that a class has, if you label parts of instruments, too."
)
HELP_ON_PARTS = (
    "Double-click a name to change it. A new part is for all instruments that have parts; to choose the parts of each "
    "instrument, show the instruments (Labels, in the dock)."
)
SMALLEST_WIDTH = 400  # room for "Monopolar Curved Scissors"
NEW_CLASS, NEW_PART = "Name of a new class", "Name of a new part"


class ClassesDialog(QDialog):
    """Every change is made at once and can be undone; the dialog can stay open."""

    def __init__(self, session: Session, layers: ViewerLayers, changes: LabelChanges, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session, self.layers = session, layers
        self.counts = ClassCounts(changes, self)
        self._waits_for: str | None = None
        self._asked: Callable[[], None] | None = None  # what the question confirms
        self.setWindowTitle("Classes")
        self.setMinimumWidth(SMALLEST_WIDTH)
        self._build()
        self._connect()
        self.refresh()

    def subscribe(self, signals: SessionSignals) -> None:
        """Follow the open project and its classes."""
        for changed in (signals.project_changed, signals.contents_replaced):
            changed.connect(self.refresh)
        signals.class_selected.connect(lambda _class_id: self._show_classes())
        self.layers.hidden_changed.connect(self._show_classes)

    def open(self) -> None:
        """Show the dialog; it does not block the window."""
        self._close_question()
        self.show()
        self.raise_()
        self.activateWindow()

    def set_waiting(self, reason: str | None) -> None:
        """Show why classes cannot be reordered or removed while a run works on the project; None if they can."""
        self._waits_for = reason
        if self.isVisible():  # a hidden dialog is refreshed when it is shown
            self.refresh()

    def refresh(self) -> None:
        """Show the classes as they are, and what can be changed now."""
        project = self.session.project
        if self.isVisible():
            self.counts.follow(project)
        self._show_classes()
        can_write = project is not None and project.writable
        self.list.set_editable(can_write)
        for widget in (self.name, self.add_button, self.rename_button):
            widget.setEnabled(can_write)
        self.parts.setEnabled(can_write and self._waits_for is None)
        for widget in (self.up_button, self.down_button, self.remove_button):
            widget.setEnabled(can_write and self._waits_for is None)
        self.undo_button.setEnabled(can_write and self._waits_for is None and self.session.can_undo_classes)
        self.setWindowTitle("Parts" if self.session.shows_parts else "Classes")
        self.list.headerItem().setText(NAME, "Part" if self.session.shows_parts else "Class")
        self.name.setPlaceholderText(NEW_PART if self.session.shows_parts else NEW_CLASS)
        self.state.setText(self._what_is_missing() or (HELP_ON_PARTS if self.session.shows_parts else HELP))
        self._fit()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.refresh()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self.counts.follow(None)

    # Changes ------------------------------------------------------------------------------------------------------------

    def add(self) -> None:
        """Add a class with the name in the field."""
        name = self.name.text()

        def add(takes_over: bool) -> None:
            added = self.session.add_class(name, takes_over=takes_over)
            self.name.clear()
            self.list.choose(added.id)

        self._change_name(add)

    def rename(self, class_id: int, name: str) -> None:
        """Give a class another name."""
        self._change_name(lambda takes_over: self.session.rename_class(class_id, name, takes_over=takes_over))

    def recolour(self, class_id: int) -> None:
        """Ask for another colour of a class."""
        instrument = self.session.classes.by_id(class_id)
        color = QColorDialog.getColor(QColor(instrument.color), self, f"Colour of {instrument.name}")
        if color.isValid():
            self._change(lambda: self.session.recolour_class(class_id, color.name()))

    def move(self, step: int) -> None:
        """Move the class of the current row up (-1) or down (1)."""
        ids, chosen = list(self.session.classes.ids), self.list.current_id
        if chosen is not None and 0 <= ids.index(chosen) + step < len(ids):
            place = ids.index(chosen)
            ids.insert(place + step, ids.pop(place))
            self._change(lambda: self.session.reorder_classes(ids))

    def remove(self) -> None:
        """Remove the class of the current row; one with labels stays, and the dialog says what to do."""
        chosen = self.list.current_id
        if chosen is not None:
            self._change(lambda: self.session.remove_class(chosen))

    def add_part(self, name: str) -> None:
        """Add a part to the class of the current row."""

        def add(takes_over: bool) -> None:
            added = self.session.add_part(name, [self._edited_class().id], takes_over=takes_over)
            self.parts.clear_name()
            self.parts.choose(added.id)

        self._change_name(add)

    def rename_part(self, part_id: int, name: str) -> None:
        """Give a part another name."""
        self._change_name(lambda takes_over: self.session.rename_part(part_id, name, takes_over=takes_over))

    def recolour_part(self, part_id: int) -> None:
        """Ask for another colour of a part."""
        assert self.session.classes.parts is not None
        part = self.session.classes.parts.by_id(part_id)
        color = QColorDialog.getColor(QColor(part.color), self, f"Colour of {part.name}")
        if color.isValid():
            self._change(lambda: self.session.recolour_part(part_id, color.name()))

    def undo(self) -> None:
        """Undo the last change of the classes."""
        self._change(self.session.undo_classes)

    def save(self) -> None:
        """Ask for a file, and write the classes as a class set for other videos."""
        proposed = Path(f"{self.session.class_set_to_save.name}.yaml")
        path = ask_where_to_save(self, FileKind.CLASS_SETS, "Save the classes", proposed, "Class sets (*.yaml)")
        if path is not None:
            self._change(lambda: self.session.class_set_to_save.write_yaml(path))

    def toggle_eye(self, class_id: int) -> None:
        """Hide a class in the canvas, or show it again."""
        self.layers.hide_classes(self.layers.hidden_classes ^ {class_id})

    def _choose_parts(self, part_ids: list[int]) -> None:
        self._change(lambda: self.session.choose_parts(self._edited_class().id, part_ids))

    def _change(self, change: Callable[[], object]) -> None:
        self._close_question()
        try:
            change()
        except SurgicalSAMError as error:
            self._show_classes()  # without the refused name
            self.problem.setText(str(error))
        self.problem.setVisible(bool(self.problem.text()))
        self._fit()

    def _change_name(self, change: Callable[[bool], object]) -> None:
        """Change a name; ask before it takes over an earlier name of another class."""

        def ask_first() -> None:
            try:
                change(False)
            except FormerNameError as error:
                self._show_classes()
                self._asked = lambda: self._change(lambda: change(True))
                self.question.put(str(error).partition(" Choose another")[0], "Use it here from now on", "Cancel")
                self.question.show()

        self._change(ask_first)

    def _confirm(self) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            asked()

    def _close_question(self) -> None:
        self.question.hide()
        self.problem.setText("")
        self.problem.hide()

    # The window ---------------------------------------------------------------------------------------------------------

    def _show_classes(self) -> None:
        self.list.show_classes(self.session.classes, self.layers.hidden_classes, self.session.selected_class_id)
        self.list.show_counts(self.counts.counts)
        self._show_parts()

    def _show_parts(self) -> None:
        self.parts.setVisible(self.session.project is not None and not self.session.shows_parts)
        self.parts.show_parts(self.session.classes, self._edited_class())

    def _edited_class(self) -> InstrumentClass:
        """The class of the current row; else the one that the brush paints; else the first one."""
        classes = self.session.classes
        wanted = (self.list.current_id, self.session.selected_class_id, classes.ids[0])
        return classes.by_id(next(class_id for class_id in wanted if class_id in classes.ids))

    def _fit(self) -> None:
        """Make the dialog as high as its rows and wrapped texts need."""
        layout = self.layout()
        self.parts.layout().activate()  # else the size of its list before a part was added counts
        layout.activate()
        self.resize(self.width(), max(self.height(), layout.totalHeightForWidth(self.width())))

    def _what_is_missing(self) -> str | None:
        if self.session.project is None:
            return "Open a video first: each video has its own classes."
        if not self.session.project.writable:
            return "Read-only: the classes cannot be changed in this window. The eyes work."
        return self._waits_for

    def _build(self) -> None:
        self.list, self.name, self.parts = ClassList(), QLineEdit(), PartsEditor()
        self.name.setPlaceholderText(NEW_CLASS)
        self.add_button, self.rename_button = QPushButton("Add"), QPushButton("Rename")
        self.up_button, self.down_button = QPushButton("▲"), QPushButton("▼")
        self.remove_button, self.undo_button = QPushButton("Remove"), QPushButton("Undo")
        self.up_button.setToolTip("Move the class up")
        self.down_button.setToolTip("Move the class down")
        self.remove_button.setToolTip("Remove a class that no frame shows")
        self.undo_button.setToolTip("Undo the last change of the classes")
        self.save_button = QPushButton("Save…")
        self.save_button.setToolTip("Save these classes as a class set (YAML), to use them for other videos")
        self.state, self.problem, self.question = note(), note(), Question()
        self.problem.setStyleSheet("font-weight: bold; padding: 0px; margin: 0px;")
        buttons, new = QHBoxLayout(), QHBoxLayout()
        for row in (buttons, new):
            row.setSpacing(SPACING)
        for button in (self.up_button, self.down_button):
            button.setFixedWidth(34)
            buttons.addWidget(button)
        for button in (self.rename_button, self.remove_button, self.undo_button):
            buttons.addWidget(button, 1)
        new.addWidget(self.name, 1)
        new.addWidget(self.add_button)
        new.addSpacing(2 * SPACING)
        new.addWidget(self.save_button)
        column = QVBoxLayout(self)
        column.setSpacing(SPACING)
        column.addWidget(self.list, 1)
        column.addLayout(buttons)
        column.addLayout(new)
        column.addWidget(self.parts)
        for widget in (self.problem, self.question, self.state):
            column.addWidget(widget)
        self.problem.hide()
        self.question.hide()
        for button in self.findChildren(QPushButton):
            button.setAutoDefault(False)  # Enter ends the edit of a name, and adds only in the field
        self.setWindowFlag(Qt.WindowType.WindowContextHelpButtonHint, False)

    def _connect(self) -> None:
        self.counts.changed.connect(lambda: self.list.show_counts(self.counts.counts))
        self.list.eye_clicked.connect(self.toggle_eye)
        self.list.color_clicked.connect(self.recolour)
        self.list.renamed.connect(self.rename, Qt.ConnectionType.QueuedConnection)  # after the editor is closed
        self.list.currentItemChanged.connect(lambda *_items: self._show_parts())
        self.parts.added.connect(self.add_part)
        self.parts.renamed.connect(self.rename_part, Qt.ConnectionType.QueuedConnection)  # after the editor is closed
        self.parts.ticked.connect(self._choose_parts, Qt.ConnectionType.QueuedConnection)  # the list is filled again
        self.parts.color_wanted.connect(self.recolour_part)
        self.parts.removed.connect(lambda part_id: self._change(lambda: self.session.remove_part(part_id)))
        self.name.returnPressed.connect(self.add)
        self.add_button.clicked.connect(self.add)
        self.rename_button.clicked.connect(self.list.edit_name)
        self.up_button.clicked.connect(lambda: self.move(-1))
        self.down_button.clicked.connect(lambda: self.move(1))
        self.remove_button.clicked.connect(self.remove)
        self.undo_button.clicked.connect(self.undo)
        self.save_button.clicked.connect(self.save)
        self.question.confirmed.connect(self._confirm)
        self.question.declined.connect(self._close_question)
