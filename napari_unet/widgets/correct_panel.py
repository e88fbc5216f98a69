"""Correct: our tools beside napari's brush, what was done last, and what has been taught."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import QCheckBox, QGridLayout, QPushButton, QSizePolicy, QToolButton, QWidget

from napari_unet.widgets.carrier import carrier_of
from napari_unet.widgets.desk import desk_of
from napari_unet.widgets.forms import GAP, button, column, line, named, row, small_button
from napari_unet.widgets.forms import tool as paint_tool
from napari_unet.widgets.gestures import gestures_of
from napari_unet.widgets.guide import guide_of
from napari_unet.widgets.icons import give_icon
from napari_unet.widgets.shortcuts import register, tip
from napari_unet.widgets.viewer_session import close_with_window, follow

if TYPE_CHECKING:
    import napari

_BUTTONS = {
    "click": ("Click", "Click an object to segment it; more clicks, a box or a scribble mend it"),
    "delete": ("Delete", "Delete objects: click them"),
    "join": ("Join", "Join objects: click two, or draw a line over them"),
    "cut": ("Cut", "Cut an object: draw a line across it"),
    "accept": ("Right", "Yes, right: click objects that are right as they are"),
    "region": ("Region", "Drag a rectangle in which everything is right, background too"),
    "nothing": ("Nothing", "Drag a rectangle in which there is nothing"),
    "onward": ("Carry on", "Carry the object that was kept last on through slices or frames; once more: stop"),
}
COLUMNS = 4
_PREDICT, _MEND = "Predict first.", "Mend the masks with the brush or a tool."


class CorrectPanel(QWidget):
    """Tools that mend masks. Each is one undo step, and each teaches."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        register()
        self.desk = desk_of(napari_viewer)
        self.gestures = gestures_of(napari_viewer)
        self.tools = {tool: self._tool_button(tool) for tool in _BUTTONS}
        self.accept = button(
            "Accept",
            "accept",
            "Keep the object in work, and teach what you painted, without the wait",
        )
        self.view_right = button("View is right", "view_right", "Everything in view is right: teach all of it", "view")
        self.suggest = button("Where to look next", "suggest", "")
        self.taught, self.doubt = self._overlay_button("taught"), self._overlay_button("doubt")
        self.new_objects = QCheckBox("Fresh numbers")
        self.may_replace = QCheckBox("May replace")
        self.last = line("last_action", "The last action, or what the tool in hand waits for")
        self.undo = small_button("undo", "undo", "Take back the last step (Ctrl+Z on the masks)")
        self._name_controls()
        self._lay_out()
        self._connect()
        close_with_window(self, napari_viewer)
        self._show_picture()
        self._show_overlays()
        self._show_tool(self.gestures.tool)  # a tool stays in hand while the dock is closed
        self.may_replace.setChecked(self.gestures.clicker.may_replace)
        self._say("")

    def _tool_button(self, tool: str) -> QToolButton:
        text, does = _BUTTONS[tool]
        made = QToolButton()
        made.setObjectName("click_tool" if tool == "click" else f"tool_{tool}")
        made.setText(text)
        made.setCheckable(tool != "onward")
        made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
        made.setIconSize(QSize(20, 20))
        made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        give_icon(made, tool)
        paint_tool(made)
        tip(made, tool, does)
        return made

    @staticmethod
    def _overlay_button(kind: str) -> QPushButton:
        made = QPushButton(kind.capitalize())
        made.setObjectName(kind)
        made.setCheckable(True)
        made.setMinimumHeight(24)
        paint_tool(made)
        return made

    def _name_controls(self) -> None:
        named(
            self.new_objects,
            "new_objects",
            "The brush and the polygon take a fresh number where they begin away from their object",
        )
        named(self.may_replace, "may_replace", "An object that is clicked may replace what you confirmed before")
        tip(self.suggest, "suggest", "Fly to the place where a correction helps most")
        tip(
            self.taught,
            "taught",
            "Show what is taught: a rim round everything that you have taught: the model never overwrites it",
        )
        tip(self.doubt, "doubt", "Show doubt: a soft heat where the model is in doubt")
        self.new_objects.setChecked(True)

    def _lay_out(self) -> None:
        grid = QGridLayout()
        grid.setSpacing(GAP)
        for place, made in enumerate(self.tools.values()):
            grid.addWidget(made, place // COLUMNS, place % COLUMNS)
            grid.setColumnStretch(place % COLUMNS, 1)
        layout = column(self)
        layout.addLayout(grid)
        layout.addWidget(row(self.accept, self.view_right, stretch=-1))
        layout.addWidget(row(self.suggest, self.taught, self.doubt, self.undo, stretch=0))
        layout.addWidget(row(self.new_objects, self.may_replace, stretch=-1))
        layout.addWidget(self.last)
        layout.addStretch(1)

    def _connect(self) -> None:
        for tool, made in self.tools.items():
            made.clicked.connect(lambda _=False, tool=tool: self._use(tool))
        self.accept.clicked.connect(lambda: self.gestures.clicker.keep_before(self.desk.settle))
        self.view_right.clicked.connect(self.gestures.accept_view)
        self.suggest.clicked.connect(guide_of(self.desk.viewer).go)
        self.undo.clicked.connect(self._undo)
        self.may_replace.toggled.connect(self._replace)
        self.taught.toggled.connect(lambda on: self.desk.show("taught", on))
        self.doubt.toggled.connect(lambda on: self.desk.show("doubt", on))
        self.new_objects.toggled.connect(self._number)
        follow(self.gestures.changed, self, self._show_tool)
        follow(self.gestures.said, self, self._say)
        follow(self.desk.acted, self, self._say)
        follow(self.desk.overlays_changed, self, self._show_overlays)
        follow(self.desk.picture_changed, self, self._show_picture)

    def _use(self, tool: str) -> None:
        if tool == "onward":
            carrier_of(self.desk.viewer).go()
        else:
            self.gestures.start(tool)

    def _undo(self) -> None:
        if self.desk.masks is not None:
            self.desk.masks.undo()

    def _number(self, on: bool) -> None:
        if self.desk.masks is not None:
            self.desk.masks.is_numbering = on

    def _replace(self, on: bool) -> None:
        self.gestures.clicker.may_replace = on

    def _show_tool(self, tool: str) -> None:
        for name, made in self.tools.items():
            made.setChecked(name == tool)

    def _show_overlays(self) -> None:
        self.taught.setChecked(self.desk.shows_taught)
        self.doubt.setChecked(self.desk.shows_doubt)

    def _show_picture(self) -> None:
        masks = self.desk.masks
        for control in (*self.tools.values(), self.accept, self.view_right, self.suggest, self.undo):
            control.setEnabled(masks is not None)
        self.tools["click"].setEnabled(self.desk.picture is not None)  # it needs no prediction
        if self.last.text() in (_MEND, _PREDICT):
            self._say("")
        if masks is not None:
            masks.is_numbering = self.new_objects.isChecked()

    def _say(self, sentence: str) -> None:
        self.last.setText(sentence or (_MEND if self.desk.masks is not None else _PREDICT))
