"""The guided tour: the whole loop on a sample, played without a person in the real window."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.settings import get_settings
from qtpy.QtCore import QElapsedTimer, Qt, QTimer
from qtpy.QtWidgets import QApplication, QPushButton, QWidget
from skimage.io import imread
from skimage.measure import regionprops

from napari_unet.core.annotator import Fault, cutting_line, faults, point_inside
from napari_unet.core.corrections import Labels, Mask
from napari_unet.core.errors import UNetLiveError
from napari_unet.core.metrics import evaluate, overlap
from napari_unet.core.prompt_maps import next_click
from napari_unet.widgets.canvas import canvas_of
from napari_unet.widgets.desk import Desk, desk_of
from napari_unet.widgets.gestures import gestures_of
from napari_unet.widgets.hand import Hand, wait
from napari_unet.widgets.samples import FOLDER, open_sample
from napari_unet.widgets.viewer_session import listen
from napari_unet.widgets.workspace import Workspace

SAMPLE, UNSEEN = "brightfield", "brightfield_unseen"
CORRECTIONS = 38
SMALLEST, TRIES = 30, 2
"""Pixels of an outline that are wrong, below which it is left alone at this zoom, and how often an object is mended."""
THINK_MS = 700
CLICKS, CLICK_MS, RIGHT = 3, 300, 0.75
"""Clicks on an object until it is painted instead, a rest between two, and the overlap that will do."""
CLICK_SECONDS = 5
LEARN_SECONDS = 240
PREDICT_SECONDS = 120


class Ticks:
    """How late a timer of 10 ms comes while everything else goes on, in ms."""

    def __init__(self) -> None:
        self.late: list[float] = []
        self._clock = QElapsedTimer()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(10)
        self._timer.timeout.connect(self._tick)

    def start(self) -> None:
        """Begin to measure."""
        self._clock.start()
        self._timer.start()

    def stop(self) -> None:
        """Measure no more."""
        self._timer.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens meanwhile does not count; napari lets timers fire while it takes a screenshot."""
        was_on = self._timer.isActive()
        self.stop()
        yield
        if was_on:
            self.start()

    def _tick(self) -> None:
        self.late.append(max(0.0, self._clock.nsecsElapsed() / 1e6 - 10))
        self._clock.start()


class Tour:
    """Plays the loop in one window, with the mouse's own path.

    Parameters
    ----------
    folder : Path
        Where the screenshots, `tour.json` and the project go.
    size : (width, height)
        Of the window, in pixels.
    """

    def __init__(self, folder: Path, size: tuple[int, int]) -> None:
        self.folder = folder
        self.viewer = napari.Viewer(show=True)
        window = self.viewer.window
        window.resize(*size)
        self.workspace = Workspace(self.viewer)
        window.add_dock_widget(self.workspace, name="U-Net Live", area="right")
        self.desk: Desk = desk_of(self.viewer)
        self.hand = Hand(self.viewer, _canvas_of(self.workspace))
        self.ticks = Ticks()
        self.problems: list[str] = []
        self.corrections, self.clicked, self.rounds, self._shots = 0, 0, 0, 0
        listen(self.desk.session.failed, self.workspace, self.problems.append)
        listen(self.desk.session.weights_changed, self.workspace, self._count_round)
        self.desk.session.open_project(_free_folder(folder))

    def _count_round(self, _: object) -> None:
        self.rounds += 1

    def play(self) -> dict[str, float]:
        """The whole tour; what it measured."""
        start = time.monotonic()
        self.shoot("first_run")
        unseen_before = self.predict_unseen()
        open_sample(self.viewer, SAMPLE)
        truth = imread(FOLDER / f"{SAMPLE}_truth.tif").astype(np.int32)
        self.desk.take(self.desk.images()[-1])
        self.predict()
        before = self.score(truth)
        self.shoot("predicted")
        self.ticks.start()
        self.correct(truth)
        self.wait(lambda: self.desk.session.state.learning == "waiting", LEARN_SECONDS)
        self.ticks.stop()
        self.shoot("learnt")
        after = self.score(truth)
        unseen_after = self.predict_unseen()
        self.shoot("unseen")
        self.shoot_in_light()
        state = self.desk.session.state
        return {
            "ap50_before": round(before, 4),
            "ap50_after": round(after, 4),
            "unseen_ap50_before": round(unseen_before, 4),
            "unseen_ap50_after": round(unseen_after, 4),
            "corrections": self.corrections,
            "clicked": self.clicked,
            "learnt": state.learnt,
            "rounds": self.rounds,
            "seconds": round(time.monotonic() - start, 1),
            "worst_tick_ms": round(max(self.ticks.late), 1),
            "p99_tick_ms": round(float(np.percentile(self.ticks.late, 99)), 1),
        }

    # --- what a person does ---

    def predict(self) -> None:
        """Press Predict, and wait for the last mask."""
        done: list[bool] = []
        listen(self.desk.session.state_changed, self.workspace, lambda s: done.append(not s.predicting))
        self.wait(lambda: bool(self.desk.session.state.model) or bool(self.problems), PREDICT_SECONDS)
        _button(self.workspace, "predict").click()
        self.wait(lambda: any(done) and not self.desk.session.state.predicting, PREDICT_SECONDS)
        self.rest(300)

    def predict_unseen(self) -> float:
        """Predict the picture that is never corrected; its ap50."""
        name = UNSEEN
        layers = self.viewer.layers
        if name not in layers:
            layers.append(napari.layers.Image(imread(FOLDER / f"{name}.tif"), name=name))
        layers.selection.active = layers[name]
        self._show_only(name)
        self.desk.take(layers[name])
        self.predict()
        return self.score(imread(FOLDER / f"{name}_truth.tif").astype(np.int32))

    def _show_only(self, name: str) -> None:
        """Hide the layers of other pictures."""
        for layer in self.viewer.layers:
            layer.visible = layer.name.startswith(name)

    def correct(self, truth: Labels) -> None:
        """Mend the worst fault, again and again, while the model learns; if nothing is wrong at last, say so."""
        tries = Counter[int]()
        while self.corrections < CORRECTIONS and (wrong := self.wrong(truth)):
            fault = next((fault for fault in wrong if all(tries[n] < TRIES for n in fault.true)), None)
            if fault is None:
                return
            self.mend(fault, self.desk.masks.layer.data, truth, again=any(tries[n] for n in fault.true))  # type: ignore[union-attr]
            tries.update(fault.true)
            self.corrections += 1
            self.rest(THINK_MS)
            if self.corrections in (3, CORRECTIONS // 2):
                self.shoot("correcting")
        if not wrong:
            _button(self.workspace, "view_right").click()
            self.corrections += 1
            self.rest(1500)

    def wrong(self, truth: Labels) -> list[Fault]:
        """What is wrong with the masks, the worst first; without outlines that are nearly right."""
        shown = self.desk.masks.layer.data  # type: ignore[union-attr]
        return [fault for fault in faults(shown, truth) if fault.kind != "outline" or fault.area >= SMALLEST]

    def mend(self, fault: Fault, shown: Labels, truth: Labels, *, again: bool = False) -> None:
        """Mend a fault with the tool that a person would take; where that failed, paint its smallest object."""
        if fault.box is not None:
            (top, left), (bottom, right) = fault.box.start, fault.box.stop
            self.use("nothing", [(top, left), (bottom - 1, right - 1)])
        elif fault.kind == "false":
            self.use("delete", [point_inside(shown == fault.shown[0])])
        elif fault.kind == "merged" and not again:
            self.use("cut", cutting_line(truth, fault))
        elif fault.kind == "split" and not again:
            self.use("join", [point_inside(shown == number) for number in fault.shown])
        elif again or not self.click(truth == fault.true[-1]):
            self.paint(truth == fault.true[-1])

    def click(self, truth: Mask) -> bool:
        """Click an object until its mask is right, and keep it; False if a few clicks do not do."""
        gestures, clicker = gestures_of(self.viewer), gestures_of(self.viewer).clicker
        gestures.start("click")
        point, on_object, is_right = point_inside(truth), True, False
        for _ in range(CLICKS):
            self.hand.click(point, right=not on_object)
            self.wait(lambda: clicker.is_at_work and not clicker.is_waiting, CLICK_SECONDS)
            found = np.zeros(truth.shape, bool)
            if clicker.found is not None:
                found[clicker.found[0].slices] = clicker.found[1]
            is_right = overlap(found, truth) >= RIGHT
            following = next_click(found, truth)
            if is_right or following is None:
                break
            point, on_object = following
            self.rest(CLICK_MS)
        self.clicked += int(is_right)
        if is_right and self.clicked in (1, 3):
            self.shoot("clicked")
        self.hand.press(Qt.Key.Key_Return if is_right else Qt.Key.Key_Escape)
        gestures.stop()
        return is_right

    def use(self, tool: str, path: Sequence[Sequence[float]]) -> None:
        """Click with a tool of the dock, or drag it."""
        gestures_of(self.viewer).start(tool)
        if len(path) == 1:
            self.hand.click(path[0])
        else:
            self.hand.drag(path)
        gestures_of(self.viewer).stop()

    def paint(self, mask: Mask) -> None:
        """Paint an object with napari's brush, in strokes from side to side; first rub out what is in its place."""
        layer = self.desk.masks.layer  # type: ignore[union-attr]
        there = np.unique(layer.data[mask & (self.desk.masks.picture.taught == 0)])  # type: ignore[union-attr]
        for number in there[there > 0]:
            others = (layer.data == number) & ~mask
            if others.sum() > 0.3 * mask.sum():
                continue  # a larger object of its own: the brush takes from it what is not its
            self.use("delete", [point_inside(layer.data == number)])
        region = regionprops(mask.astype(np.uint8))[0]
        brush = max(3, round(region.axis_minor_length / 2))
        layer.selected_label = self.desk.masks.next_id  # type: ignore[union-attr]
        layer.mode, layer.brush_size = "paint", brush
        for stroke in strokes(mask, brush):
            self.hand.drag(stroke)
        layer.mode = "pan_zoom"
        self.desk.settle()

    # --- around it ---

    def score(self, truth: Labels) -> float:
        """ap50 of the masks as they are shown."""
        masks = self.desk.masks
        return evaluate(masks.layer.data, truth)["ap50"] if masks is not None else 0.0

    def rest(self, milliseconds: int) -> None:
        """Do nothing for a while, as a person who looks."""
        wait(milliseconds)

    def wait(self, is_true: Callable[[], bool], seconds: float) -> None:
        """Wait for something, at most so long."""
        end = time.monotonic() + seconds
        while not is_true() and time.monotonic() < end:
            wait(20)

    def shoot_in_light(self) -> None:
        """One more in the other theme; the user's choice comes back."""
        appearance = get_settings().appearance
        chosen, appearance.theme = appearance.theme, "light"
        try:
            self.shoot("light")
        finally:
            appearance.theme = chosen

    def shoot(self, name: str) -> None:
        """A screenshot of the whole window."""
        self._shots += 1
        QApplication.processEvents()
        path = self.folder / f"{self._shots:02d}_{name}.png"
        with self.ticks.paused():  # a screenshot is the tour's, not the user's
            self.viewer.screenshot(str(path), canvas_only=False, flash=False)


def play(folder: Path, size: tuple[int, int] = (1280, 720)) -> dict[str, float]:
    """Play the tour; screenshots and `tour.json` go to `folder`.

    Raises
    ------
    UNetLiveError
        If the app said that something failed on the way, or nothing was learnt.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tour = Tour(folder, size)
    try:
        facts = tour.play()
    finally:
        tour.viewer.close()
    (folder / "tour.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    if tour.problems:
        raise UNetLiveError("The tour met a problem: " + tour.problems[0])
    if not facts["rounds"]:
        raise UNetLiveError("In the tour no round of learning took over. Is this computer busy? Play it again.")
    return facts


def strokes(mask: Mask, brush: int) -> list[list[tuple[float, float]]]:
    """Paths of a round brush that fill an object: rows from side to side, the brush's width apart.

    Parameters
    ----------
    mask : (Y, X) bool
    brush : int
        Diameter of the brush, in pixels.
    """
    rows, half = np.flatnonzero(mask.any(axis=1)), brush / 2
    first, last = rows[0] + half - 0.5, rows[-1] - half + 0.5
    count = max(1, int(np.ceil((last - first) / (0.75 * brush))) + 1)
    paths = []
    for y in np.linspace(first, max(first, last), count):
        columns = np.flatnonzero(mask[int(np.clip(round(y), rows[0], rows[-1]))])
        a, b = columns[0] + half - 0.5, columns[-1] - half + 0.5
        middle = (a + b) / 2
        paths.append([(float(y), float(min(a, middle))), (float(y), float(max(b, middle)))])
    return paths


def _button(workspace: Workspace, name: str) -> QPushButton:
    """A button of the dock by its object name."""
    found = workspace.findChild(QPushButton, name)
    if found is None:
        raise UNetLiveError(f"The dock has no button '{name}'.")
    return found


def _canvas_of(workspace: QWidget) -> QWidget:
    """The widget that napari draws on."""
    canvas = canvas_of(workspace.window() or workspace)
    if canvas is None:
        raise UNetLiveError("napari's canvas was not found in the window. Update napari-unet-live.")
    return canvas


def _free_folder(folder: Path) -> Path:
    """A project folder that is not there yet."""
    number = 1
    while (folder / f"tour-{number}.unetproj").exists():
        number += 1
    return folder / f"tour-{number}.unetproj"


def print_facts(facts: dict[str, Any]) -> str:
    """The tour's figures in one paragraph."""
    return (
        f"{facts['corrections']} corrections ({facts['clicked']} by clicks), {facts['rounds']} rounds of learning: "
        f"ap50 of the corrected picture "
        f"{facts['ap50_before']:.2f} -> {facts['ap50_after']:.2f}, of one it never saw "
        f"{facts['unseen_ap50_before']:.2f} -> {facts['unseen_ap50_after']:.2f}; "
        f"worst tick {facts['worst_tick_ms']:.0f} ms."
    )
