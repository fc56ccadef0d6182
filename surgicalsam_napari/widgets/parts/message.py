"""Messages in the window: texts that stay in their panel until dismissed, and short notifications that point to them."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Any

from napari.utils.notifications import Notification, notification_manager
from qtpy.QtCore import QObject, QSize, Qt, Signal
from qtpy.QtGui import QTextOption
from qtpy.QtWidgets import QFrame, QHBoxLayout, QScrollArea, QSizePolicy, QTextEdit, QToolButton, QWidget

from surgicalsam_napari.errors import SurgicalSAMError

ERROR, NOTICE = "error", "notice"
STRIPES = {ERROR: "#d9534f", NOTICE: "#c98a1b"}
STYLE = """
QFrame#message {{ border: none; border-left: 3px solid {color}; background: rgba(127, 127, 127, 35); }}
QTextEdit {{ border: none; background: transparent; padding: 0px; margin: 0px; }}
"""
CLOSE_STYLE = """
QToolButton { border: none; background: transparent; padding: 0px 3px; }
QToolButton:hover { background: rgba(127, 127, 127, 80); border-radius: 2px; }
"""
UNEXPECTED = (
    "Unexpected error ({kind}: {error}). This is a fault of the program. What you painted is saved. Please report it, with "
    "the text of “View Traceback” in the notification."
)


class WholeText(QTextEdit):
    """A read-only text that can be selected; it wraps at every width, also inside long paths, and shows all its lines."""

    def __init__(self) -> None:
        super().__init__()
        self.setReadOnly(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        for set_policy in (self.setHorizontalScrollBarPolicy, self.setVerticalScrollBarPolicy):
            set_policy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setTabChangesFocus(True)
        document = self.document()
        document.setDocumentMargin(0)
        document.documentLayout().documentSizeChanged.connect(lambda size: self.setFixedHeight(ceil(size.height()) + 2))

    def minimumSizeHint(self) -> QSize:
        return QSize(40, 0)


class Message(QFrame):
    """Texts that a person has to read: each is shown whole, can be selected, and stays until the person dismisses it."""

    dismissed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("message")
        self._texts: list[tuple[str, str]] = []  # kind and text
        self.body, self.close_button = WholeText(), QToolButton()
        self.close_button.setText("×")
        self.close_button.setToolTip("Dismiss this message")
        self.close_button.setStyleSheet(CLOSE_STYLE)
        self.close_button.clicked.connect(self._dismiss)
        row = QHBoxLayout(self)
        row.setContentsMargins(8, 6, 4, 6)
        row.setSpacing(4)
        row.addWidget(self.body, 1)
        row.addWidget(self.close_button, 0, Qt.AlignmentFlag.AlignTop)
        self.hide()

    def text(self) -> str:
        """All texts that are shown; empty if there is none."""
        return "\n\n".join(text for _kind, text in self._texts)

    def add(self, text: str, kind: str = ERROR) -> None:
        """Show a text below those that are still there; a notice replaces the notice before it."""
        others = [(each, old) for each, old in self._texts if old != text and not each == kind == NOTICE]
        self._texts = [*others, (kind, text)]
        self._show()

    def clear(self) -> None:
        """Forget all texts, for example because the person tries again."""
        if self._texts:
            self._texts = []
            self._show()

    def _dismiss(self) -> None:
        self.clear()
        self.dismissed.emit()

    def _show(self) -> None:
        kinds = {kind for kind, _text in self._texts}
        self.setStyleSheet(STYLE.format(color=STRIPES[ERROR if ERROR in kinds else NOTICE]))
        self.body.setPlainText(self.text())
        self.setVisible(bool(self._texts))


class Pointer(Notification):
    """A notification that points to a message; napari would show its source, the notification manager, beside the button."""

    @property
    def source(self) -> None:
        return None


def show_failure(error: Exception, near: QObject) -> None:
    """Show an error in the panel where it arose, and point to it; only a fault of the program offers its traceback.

    Parameters
    ----------
    near : the widget, or the child of a widget, in which the error arose: the nearest message around it shows the text
    """
    if isinstance(error, SurgicalSAMError):
        _put(str(error), near, ERROR)
    else:
        _owner_near(near).message.add(UNEXPECTED.format(kind=type(error).__name__, error=error))
        notification_manager.receive_error(type(error), error, error.__traceback__)


def show_notice(text: str, near: QObject) -> None:
    """Show a text that is no error in the panel where it arose, and point to it."""
    _put(text, near, NOTICE)


def clear_message(near: QObject) -> None:
    """Forget what went wrong here, because the person tries again."""
    _owner_near(near).message.clear()


def bring_into_view(widget: QWidget) -> None:
    """Open the tab and the section that a widget is in, and scroll to it."""
    around = [each for each in _upward(widget) if isinstance(each, QWidget)]
    for container in around:
        if hasattr(container, "show_child"):
            container.show_child(widget)
    for container in around:
        if isinstance(container, QScrollArea):
            container.ensureWidgetVisible(widget)


def _put(text: str, near: QObject, kind: str) -> None:
    owner = _owner_near(near)
    message: Message = owner.message
    message.add(text, kind)
    title = getattr(owner, "title", "")  # of a panel; a dialog has its window's
    title = title if isinstance(title, str) and title else owner.windowTitle()
    pointer = "See the message in the panel" if not title else f"{title}: see the message in the panel"
    show = ("Show", lambda _dialog: bring_into_view(message))
    severity = "error" if kind == ERROR else "info"
    notification_manager.dispatch(Pointer(pointer, severity, actions=(show,)))


def _owner_near(near: QObject) -> Any:
    """The nearest panel or dialog that has a message."""
    for place in _upward(near):
        if isinstance(getattr(place, "message", None), Message):
            return place
    raise LookupError(f"No widget around {type(near).__name__} has a message.")


def _upward(start: QObject) -> Iterator[QObject]:
    """The object and all its parents."""
    place: QObject | None = start
    while place is not None:
        yield place
        place = place.parent()
