"""The one dock: predict, correct, learn, project, in sections that fold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.utils.notifications import show_error
from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import (
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QFileDialog,
    QFrame,
    QScrollArea,
    QScrollBar,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_unet.widgets.correct_panel import CorrectPanel
from napari_unet.widgets.desk import desk_of
from napari_unet.widgets.forms import button, column, line, paint_text, row
from napari_unet.widgets.icons import on_theme, theme_color
from napari_unet.widgets.learn_panel import LearnPanel
from napari_unet.widgets.predict_panel import PredictPanel
from napari_unet.widgets.project_panel import ProjectPanel
from napari_unet.widgets.samples import SAMPLES, open_sample
from napari_unet.widgets.shortcuts import register
from napari_unet.widgets.viewer_session import close_with_window, follow, listen

if TYPE_CHECKING:
    import napari

    from napari_unet.session.session import SessionState

_WIDTH = 290


class Section(QWidget):
    """A panel under a title that folds it away."""

    def __init__(self, title: str, panel: QWidget) -> None:
        super().__init__()
        self.panel = panel
        self.title = QToolButton()
        self.title.setObjectName(f"section_{title.lower()}")
        self.title.setText(title)
        self.title.setToolTip(f"Show or fold {title}")
        self.title.setCheckable(True)
        self.title.setChecked(True)
        self.title.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.title.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.title.toggled.connect(self.unfold)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.title)
        holder = QWidget()
        column(holder, 8, 3).addWidget(panel)
        self._holder = holder
        layout.addWidget(holder)
        self._paint()
        on_theme(self, self._paint)
        self.unfold(True)

    def unfold(self, on: bool) -> None:
        """Show the panel, or fold it away."""
        self.title.setArrowType(Qt.ArrowType.DownArrow if on else Qt.ArrowType.RightArrow)
        self._holder.setVisible(on)

    def _paint(self) -> None:
        back, text = theme_color("foreground", self).name(), theme_color("text", self).name()
        self.title.setStyleSheet(
            f"QToolButton {{ background: {back}; color: {text}; border: none; border-radius: 3px; "
            "font-weight: 600; padding: 1px 6px; text-align: left; }"
        )


class FirstRun(QWidget):
    """What to do first: shown while there is nothing to correct."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.desk = desk_of(napari_viewer)
        self.text = line("first_run", faint=False)
        self.sample = button("Open sample", "open_sample", "Stained nuclei, to try U-Net Live on", "sample")
        self.open = button("Open pictures…", "open_pictures", "Pictures of your own", "open")
        self.use = button("Use this picture", "use_picture", "Paint masks by hand, without predicting first")
        layout = column(self, 8)
        layout.addWidget(self.text)
        self.openers = row(self.sample, self.open, stretch=-1)
        layout.addWidget(self.openers)
        layout.addWidget(self.use)
        self.sample.clicked.connect(self._open_sample)
        self.open.clicked.connect(self._open_pictures)
        self.use.clicked.connect(self._use)
        follow(self.desk.picture_changed, self, self._show_what_to_do)
        follow(self.desk.pictures_changed, self, self._show_what_to_do)
        self._show_what_to_do()

    def _show_what_to_do(self) -> None:
        images = self.desk.images()
        self.setVisible(self.desk.masks is None)
        self.openers.setVisible(not images)
        self.use.setVisible(bool(images))
        if not images:
            self.text.setText("Open a picture, or start with a sample.")
        elif self.desk.image is None:
            self.text.setText(f"{images[-1].name} is not in use. Press 'Use this picture' to see why.")
        else:
            self.text.setText(f"{self.desk.image.name} is ready: press Predict to see masks, or paint your own.")

    def _use(self) -> None:
        self.desk.take_newest()
        self.desk.add_masks()

    def _open_sample(self) -> None:
        self._take_newest(open_sample(self.desk.viewer, next(iter(SAMPLES))))

    def _open_pictures(self) -> None:
        names, _ = QFileDialog.getOpenFileNames(self, "Open pictures")
        if not names:
            return
        try:
            self.desk.viewer.open(names, stack=False)
        except (OSError, ValueError, TypeError) as error:
            show_error(f"The picture cannot be opened: {error}")
        self._take_newest(bool(names))

    def _take_newest(self, opened: bool) -> None:
        if opened and (images := self.desk.images()):
            self.desk.take(images[-1])


class Trouble(QWidget):
    """What keeps the work from being saved, above all else: who corrects may have folded or scrolled Project away."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        session = desk_of(napari_viewer).session
        self.text = line("trouble")
        paint_text(self.text, "error")
        column(self, 8, 3).addWidget(self.text)
        listen(session.state_changed, self, self._show_state)
        self._show_state(session.state)

    def _show_state(self, state: SessionState) -> None:
        if state.save_problem:
            text, tip = state.save_problem, "Your corrections wait, and are saved as soon as that is possible"
        else:
            text, tip = state.read_only, "Your corrections are learnt, but end with this window"
        self.text.setText(text)
        self.text.setToolTip(tip)
        self.setVisible(bool(text))


class Workspace(QScrollArea):
    """All panels of U-Net Live in one dock."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        register()
        self.trouble = Trouble(napari_viewer)
        self.first_run = FirstRun(napari_viewer)
        self.predict = PredictPanel(napari_viewer)
        self.correct = CorrectPanel(napari_viewer)
        self.learn = LearnPanel(napari_viewer)
        self.project = ProjectPanel(napari_viewer)
        inside = QWidget()
        layout = column(inside, 3)
        layout.addWidget(self.trouble)
        layout.addWidget(self.first_run)
        self.sections = {
            title: Section(title, panel)
            for title, panel in (
                ("Predict", self.predict),
                ("Correct", self.correct),
                ("Learn", self.learn),
                ("Project", self.project),
            )
        }
        for section in self.sections.values():
            layout.addWidget(section)
        layout.addStretch(1)
        self.setObjectName("unet_live")
        self.setWidget(inside)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumWidth(_WIDTH)
        for kind in (QComboBox, QAbstractSpinBox, QAbstractSlider):
            for control in inside.findChildren(kind):
                if not isinstance(control, QScrollBar):
                    control.installEventFilter(self)
        close_with_window(self, napari_viewer)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802  Qt's name
        """The wheel scrolls, whatever it is over: it is to choose no other model. And larger letters need more room."""
        inside, bar = self.widget(), self.verticalScrollBar()
        if event is not None and inside is not None and bar is not None:
            if event.type() == QEvent.Type.Wheel and watched is not inside and not isinstance(watched, QScrollBar):
                return QApplication.sendEvent(bar, event)
            if event.type() == QEvent.Type.LayoutRequest and watched is inside:
                self.setMinimumWidth(max(_WIDTH, inside.minimumSizeHint().width() + bar.sizeHint().width()))
                self._share_height()
        return super().eventFilter(watched, event)

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802  Qt's name
        """A larger window has a larger curve."""
        super().resizeEvent(event)
        self._share_height()

    def _share_height(self) -> None:
        """What height is left over is the curve's."""
        inside, port = self.widget(), self.viewport()
        layout = inside.layout() if inside is not None else None
        if layout is not None and port is not None and not self.learn.plot.isHidden():
            self.learn.plot.grow(port.height() - layout.totalHeightForWidth(port.width()))

    def sizeHint(self) -> QSize:  # noqa: N802  Qt's name
        """As narrow as it can be without cutting text."""
        return QSize(_WIDTH + 20, 760)
