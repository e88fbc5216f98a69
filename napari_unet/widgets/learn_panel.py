"""Learn: whether the model learns, how far it is, how good it has become, and the way back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QComboBox, QWidget
from superqt import QToggleSwitch

from napari_unet.core.events import Progress, TrainStep, WeightsChanged
from napari_unet.widgets.desk import desk_of
from napari_unet.widgets.forms import button, column, duration, line, named, row
from napari_unet.widgets.icons import give_icon, on_theme, theme_color
from napari_unet.widgets.score_plot import ScorePlot
from napari_unet.widgets.viewer_session import close_with_window, follow, listen, once

if TYPE_CHECKING:
    import napari

    from napari_unet.session.session import SessionState, Version

FEW, ENOUGH = 5, 20
"""Corrections from which on they say something of the model, and from which on they may say that it is good."""
GOOD_ENOUGH = 0.9


class LearnPanel(QWidget):
    """Shows the learning in the background, and steers it."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.session = desk_of(napari_viewer).session
        self._round = 0
        self._left = ""
        self._brought, self._in_use_then = "", 0  # what the last round brought, and the version that was in use then
        self._anew = once(self, 0, self._show_history)
        self.learn = QToggleSwitch("Learn")
        named(self.learn, "learn", "Learn in the background from every correction")
        self.counts = line("counts", "What has been corrected and learnt", faint=False)
        self.news = line("news", "What the last round of learning brought, or which version you went back to")
        self.enough = line("enough", "How many of your last corrections the model had right by itself")
        self.now = button("Now", "learn_now", "Let what is being learnt take over now, or start a round", "now")
        self.pause = button("Pause", "pause", "Hold the learning where it is", "pause")
        on_theme(self, self._paint_switch)
        self._paint_switch()
        self.plot = ScorePlot()
        named(self.plot, "curve", "")
        self.version = QComboBox()
        named(self.version, "version", "Versions of the model in this project")
        self.revert = button("Revert", "revert", "Go back to the chosen version; your corrections stay")
        self.versions_row = row(self.version, self.revert, stretch=0)
        layout = column(self)
        for part in (
            row(self.learn, self.now, self.pause, stretch=0),
            self.counts,
            self.news,
            self.enough,
            self.plot,
            self.versions_row,
        ):
            layout.addWidget(part)
        layout.addStretch(1)
        self._connect()
        close_with_window(self, napari_viewer)
        self._show_history()

    def _connect(self) -> None:
        self.learn.clicked.connect(lambda: self.session.learn(self.learn.isChecked()))
        self.now.clicked.connect(lambda: self.session.learn_now())
        self.pause.clicked.connect(lambda: self.session.pause(self.session.state.learning != "paused"))
        self.revert.clicked.connect(self._revert)
        self.version.currentIndexChanged.connect(self._may_revert)
        listen(self.session.state_changed, self, self._show_state)
        listen(self.session.stepped, self, self._take)
        listen(self.session.weights_changed, self, self._take)
        listen(self.session.progressed, self, self._show_progress)
        follow(self.session.restored, self, self._on_restored)

    def _paint_switch(self) -> None:
        accent = theme_color("current", self)
        is_light = theme_color("background", self).lightnessF() > 0.5  # where the accent is as pale as the handle
        self.learn.setProperty("onColor", accent.darker(140) if is_light else accent)
        self.learn.setProperty("offColor", theme_color("secondary", self))

    def _revert(self) -> None:
        number = self.version.currentData()
        if number is not None and number != self.session.state.version:
            self.session.revert(int(number))

    def _may_revert(self) -> None:
        number = self.version.currentData()
        self.revert.setEnabled(number is not None and number != self.session.state.version)

    # --- what the session tells ---

    def _on_restored(self) -> None:
        """Another project was opened: what the training of the one before has said comes in first."""
        self._anew.start()

    def _show_history(self) -> None:
        """The learning so far, that of another project where one was opened."""
        self.plot.forget()
        self.plot.hide()
        self._tell("", 0)
        for event in list(self.session.history):
            self._take(event)
        self._show_state(self.session.state)

    def _take(self, event: TrainStep | WeightsChanged) -> None:
        self.plot.add(event)
        self.plot.show()
        if isinstance(event, TrainStep):
            self._round = event.round
            if event.kept is False:
                reason = event.reason or "The last round was no better, so its weights were not taken."
                self._tell(reason, self.session.state.version)
            self._show_counts(self.session.state)
            return
        corrections = _several(event.learnt, "correction")
        scores = f"{_score(event.score_before)} → {_score(event.score_after)}"
        self._tell(f"Learnt from {corrections} · score {scores}", event.version)

    def _tell(self, news: str, version: int) -> None:
        """What the last round brought, after which this version was in use."""
        self._brought, self._in_use_then = news, version
        self._show_news(news)

    def _show_news(self, news: str) -> None:
        self.news.setText(news)
        self.news.setVisible(bool(news))

    def _show_progress(self, event: Progress) -> None:
        if event.job == "learn":
            self._left = duration(event.seconds_left) if event.done < event.total else ""
            self._show_counts(self.session.state)

    def _show_state(self, state: SessionState) -> None:
        on = state.learning != "off"
        self.learn.setChecked(on)
        self.now.setEnabled(on and state.corrections > 0)
        self.pause.setEnabled(on and (state.learning == "paused" or state.corrections > 0))
        paused = state.learning == "paused"
        self.pause.setText("Go on" if paused else "Pause")
        give_icon(self.pause, "resume" if paused else "pause")
        self._show_counts(state)
        self.enough.setText(is_it_enough(*state.recent))
        self.enough.setVisible(bool(self.enough.text()))
        self._fill_versions(state)
        is_other = state.version != self._in_use_then and self.version.currentText()
        news = f"{self.version.currentText()} is in use." if is_other else self._brought
        self._show_news(state.learn_problem or news)

    def _show_counts(self, state: SessionState) -> None:
        if state.corrections == 0:
            is_off = state.learning == "off"
            self.counts.setText("Learning is off." if is_off else "Mend a mask: learning starts by itself.")
            return
        parts = [
            f"{_several(state.corrections, 'correction')} in {_several(state.pictures, 'picture')}",
            f"learnt {state.learnt}",
        ]
        if state.learning == "learning":
            parts.append(f"round\u00a0{max(1, self._round)}" + (f", {self._left}" if self._left else ""))
        elif state.learning in ("paused", "off"):
            parts.append(state.learning)
        self.counts.setText(" · ".join(parts))

    def _fill_versions(self, state: SessionState) -> None:
        known = [self.version.itemData(i) for i in range(self.version.count())]
        if known != [v.number for v in state.versions][::-1]:
            self.version.clear()
            best = max((v.score for v in state.versions if v.score is not None), default=None)
            for version in reversed(state.versions):
                self.version.addItem(_label(version, best), version.number)
        self.versions_row.setVisible(len(state.versions) > 1)
        self.version.setCurrentIndex(self.version.findData(state.version))
        self._may_revert()


def is_it_enough(right: int, known: int) -> str:
    """What the last corrections say of the model: each tested it before it was learnt. '' while they are few."""
    if known < FEW:
        return ""
    were = "was" if right == 1 else "were"
    sentence = f"Last {known} corrections: {right} {were} already right before you touched them."
    return f"{sentence} Good enough for counting?" if right >= GOOD_ENOUGH * known and known >= ENOUGH else sentence


def _label(version: Version, best: float | None) -> str:
    if version.number == 0:
        return "Version 0 (as it came)"
    score = f" · {_score(version.score)}" if version.score is not None else ""
    return f"Version {version.number}{score}" + (
        " (best)" if version.score is not None and version.score == best else ""
    )


def _several(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _score(score: float | None) -> str:
    """A score of 0..1 with two digits; "?" where there is none."""
    return "?" if score is None or not math.isfinite(score) else f"{score:.2f}"
