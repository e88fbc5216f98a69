"""Project: where everything is kept, whether it is safe, and what has been done to each picture."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QAbstractItemView, QFileDialog, QHeaderView, QTableWidget, QTableWidgetItem, QWidget

from napari_unet.widgets.desk import desk_of
from napari_unet.widgets.forms import button, column, line, named, paint_text, row
from napari_unet.widgets.viewer_session import close_with_window, follow, listen

if TYPE_CHECKING:
    import napari

    from napari_unet.session.session import SessionState

SUFFIX = ".unetproj"


class ProjectPanel(QWidget):
    """Says where the work is saved; opens another project."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.desk = desk_of(napari_viewer)
        self.session = self.desk.session
        self._saved_at: float | None = None
        self.where = line("saved", "Where the project is, and when it was saved")
        self.new = button("New…", "new_project", "Begin another project; this one stays where it is saved", "folder")
        self.open = button("Open…", "open_project", "Open a project folder", "open")
        self.table = self._table()
        layout = column(self)
        for part in (self.where, row(self.new, self.open, stretch=-1), self.table):
            layout.addWidget(part)
        layout.addStretch(1)
        self._clock = QTimer(self)
        self._clock.setInterval(1000)
        self._clock.timeout.connect(self._tick)
        self._clock.start()
        self.new.clicked.connect(self._new)
        self.open.clicked.connect(self._open)
        follow(self.desk.picture_changed, self, self._fill_table)
        follow(self.desk.pictures_changed, self, self._fill_table)
        listen(self.session.state_changed, self, self._show_state)
        close_with_window(self, napari_viewer)
        self._show_state(self.session.state)

    @staticmethod
    def _table() -> QTableWidget:
        table = QTableWidget(0, 2)
        named(table, "pictures", "The pictures of this project")
        table.setHorizontalHeaderLabels(["Picture", "Corrections"])
        header = table.horizontalHeader()
        rows = table.verticalHeader()
        if header is not None and rows is not None:
            header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
            header.setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
            rows.setVisible(False)
            rows.setDefaultSectionSize(22)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        table.setShowGrid(False)
        return table

    def _tick(self) -> None:
        """The seconds since the last save."""
        if self.isVisible():
            self._show_where(self.session.state)

    def _new(self) -> None:
        start = self.session.state.project or Path.home() / f"my pictures{SUFFIX}"
        name, _ = QFileDialog.getSaveFileName(self, "Begin a project in this folder", str(start))
        if name:
            path = Path(name)
            self.desk.open_project(path if path.suffix == SUFFIX else path.with_name(path.name + SUFFIX))

    def _open(self) -> None:
        start = self.session.state.project
        name = QFileDialog.getExistingDirectory(
            self, "Open a project folder", str(start.parent if start is not None else Path.home())
        )
        if name:
            self.desk.open_project(Path(name))

    # --- what the session tells ---

    def _show_state(self, state: SessionState) -> None:
        if state.saved and state.project is not None and self._saved_at is None:
            self._saved_at = time.monotonic()
        elif not state.saved:
            self._saved_at = None
        self._show_where(state)
        self._fill_table()

    def _show_where(self, state: SessionState) -> None:
        """A lasting red line while saving fails, a sentence for a reader, else where and when."""
        if state.save_problem:
            manner, text = "error", state.save_problem
        elif state.read_only:
            manner, text = "plain", state.read_only
        elif state.project is None:
            manner, text = "faint", "Nothing to save yet. A project begins by itself with your first correction."
        else:
            manner, text = "faint", f"{state.project.name} · {self._when(saved=state.saved)}"
        if (manner, text) != (self.where.property("manner"), self.where.text()):
            paint_text(self.where, manner)
            self.where.setText(text)
            self.where.setToolTip(str(state.project or "Where the project is, and when it was saved"))

    def _when(self, *, saved: bool) -> str:
        if not saved or self._saved_at is None:
            return "saving…"
        seconds = int(time.monotonic() - self._saved_at)
        if seconds < 2:
            return "saved"
        return f"saved {seconds} s ago" if seconds < 100 else f"saved {seconds // 60} min ago"

    def _fill_table(self) -> None:
        pictures = list(self.session.pictures.values())
        self.table.setRowCount(len(pictures))
        for place, picture in enumerate(pictures):
            count = QTableWidgetItem(str(self.session.corrections_in(picture.key)))
            count.setTextAlignment(int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter))
            is_open = bool(self.desk.album.images_of(picture.key))
            name = QTableWidgetItem(picture.name if is_open else f"{picture.name} (not open)")
            name.setToolTip("" if is_open else "It is not in the viewer. Its corrections are kept, and learnt.")
            self.table.setItem(place, 0, name)
            self.table.setItem(place, 1, count)
        self.table.setVisible(bool(pictures))
        self.table.setFixedHeight(26 + 22 * min(6, max(1, len(pictures))))
