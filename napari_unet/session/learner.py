"""Learner: the model in use, its training in the background, and its versions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from napari_unet.core.errors import ProjectError
from napari_unet.core.events import Progress, TrainStep, WeightsChanged
from napari_unet.session.keeper import Event, Keeper
from napari_unet.session.pool import Pool
from napari_unet.session.state import Board, Version
from napari_unet.session.worker import BACKGROUND, FIRST, GpuWorker

if TYPE_CHECKING:
    from napari_unet.engine.train import Control
    from napari_unet.session.jobs import Device, Loaded

MODEL, LEARN = "model", "learn"
LONGEST_HISTORY = 4000
VERSIONS_IN_MEMORY = 10
"""Versions that can be gone back to without a project, or before its disk has them."""


class Learner:
    """Loads models, starts and stops their training, and keeps what comes of it.

    Parameters
    ----------
    worker, pool, keeper, board : GpuWorker, Pool, Keeper, Board
        Of the session.
    emit : callable
        Passes on TrainStep, WeightsChanged and Progress events.
    device_name : str
    """

    def __init__(
        self,
        worker: GpuWorker,
        pool: Pool,
        keeper: Keeper,
        board: Board,
        emit: Callable[[Event | Progress], None],
        device_name: str,
    ) -> None:
        self.history: list[Event] = []
        self._worker, self._pool, self._keeper, self._board = worker, pool, keeper, board
        self._emit = emit
        self._device_name, self._model_name = device_name, ""
        self._device: Device | None = None
        self._control: Control | None = None
        self._learnt_when_begun = 0
        self._weights: dict[int, bytes] = {}

    def device(self) -> Device:
        """What holds the model; made in the device thread, so that the window does not wait for torch."""
        if self._device is None:
            from napari_unet.session.jobs import Device

            self._device = Device()
        return self._device

    def before_piece(self, user_is_active: bool) -> None:
        """Before each piece of work (device thread)."""
        if self._device is not None:
            self._device.spare_cores(user_is_active)

    # --- the model -----------------------------------------------------------

    def use_model(self, name: str) -> None:
        """Take another model; the versions begin anew from it."""
        self._weights.clear()
        self._keeper.begin_model(name)
        self._board.update(versions=(Version(0, None, 0),), learnt=0)
        self._model_name = name
        self._go_to(0)

    def use_device(self, name: str) -> None:
        """Go on on another device, with the same weights."""
        self._device_name = name
        self._go_to(self._board.state.version)

    def revert(self, version: int) -> None:
        """Go back to an earlier version."""
        self._keeper.use_version(version)
        self._go_to(version)

    def take_project(self) -> None:
        """Take the versions, the curve and the model of the project that was just opened."""
        project = self._keeper.project
        if project is None:
            return
        self.history = self._keeper.history()
        versions = self._keeper.versions()
        learnt = next((v.learnt for v in versions if v.number == project.current), 0)
        self._board.update(versions=versions, learnt=learnt)
        self._weights.clear()
        if project.model or project.current:
            self._model_name = project.model or self._model_name
            self._go_to(project.current)

    def _go_to(self, version: int) -> None:
        """Load a version; what is being trained from another one ends."""
        self._worker.cancel(LEARN)
        self._rest()
        name, device = self._model_name, self._device_name

        def start() -> Iterator[Loaded]:
            if version == 0:
                return self.device().load(name, device)
            return self.device().load_bytes(self._bytes_of(version), device, version)

        self._worker.submit(MODEL, start, FIRST)

    def _bytes_of(self, version: int) -> bytes:
        """The file of a version, from memory or from the project."""
        if version in self._weights:
            return self._weights[version]
        if self._keeper.project is None:
            raise ProjectError(f"Version {version} of the model was not kept. Choose another version.")
        return self._keeper.project.model_bytes(version)

    def on_loaded(self, loaded: Loaded) -> None:
        """Another model, or another version of it, is in use (device thread)."""
        card = loaded.card
        versions = self._board.state.versions
        learnt = next((v.learnt for v in versions if v.number == loaded.version), 0)
        self._board.update(
            model=card.name,
            kind=card.kind,
            classes=card.classes,
            diameter=card.diameter,
            version=loaded.version,
            learnt=learnt,
            device=loaded.device,
            devices=loaded.devices,
        )

    # --- the training --------------------------------------------------------

    def switch(self, on: bool) -> None:
        """Switch learning on or off."""
        if on:
            self._board.update(learning="waiting")
            self.start_if_wanted()
        else:
            self._worker.cancel(LEARN)
            self._end_bar()
            self._board.update(learning="off")

    def pause(self, paused: bool) -> None:
        """Hold the training where it is, or let it go on."""
        if self._worker.is_busy(LEARN):
            self._worker.pause(LEARN, paused)
            self._board.update(learning="paused" if paused else "learning")

    def now(self) -> None:
        """End the round that runs and let it take over, or start a training at once."""
        if not self._worker.is_busy(LEARN):
            self._start()
            return
        self.pause(False)
        if self._control is not None:
            self._control.finish_round = True

    def start_if_wanted(self) -> None:
        """Start a training if learning is on, none runs, and there is something new."""
        state = self._board.state
        if state.learning == "waiting" and state.corrections > state.learnt:
            self._start()

    def _start(self) -> None:
        """Start a training, if there is something to learn from."""
        if self._worker.is_busy(LEARN) or all(correction.held_out for correction in self._pool):
            return
        self._worker.submit(LEARN, self._training, BACKGROUND)
        self._board.update(learning="learning")

    def _training(self) -> Iterator[Event]:
        """The training, begun in the device thread."""
        from napari_unet.engine.train import Control

        self._control = Control()
        return self.device().learn(self._pool, self._control)

    def on_step(self, step: TrainStep) -> None:
        """A piece of training is done (device thread)."""
        if step.progress < 0.05:
            self._learnt_when_begun = self._board.state.corrections
        if math.isfinite(step.loss) or step.kept is not None or step.skipped:
            self.history.append(step)
            del self.history[:-LONGEST_HISTORY]
        self._emit(step)
        text = f"Learning from {self._board.state.corrections} corrections, round {step.round}"
        self._emit(Progress("learn", text, min(99, round(step.progress * 100)), 100))
        if step.kept is not None:
            self._keeper.keep_points([step])

    def on_weights(self, change: WeightsChanged) -> None:
        """New weights have taken over (device thread)."""
        learnt = self._learnt_when_begun
        version = Version(change.version, change.score_after, learnt)
        data = self.device().weights()
        self._weights[change.version] = data
        while len(self._weights) > VERSIONS_IN_MEMORY:
            self._weights.pop(min(self._weights))
        self._keeper.keep_version(data, change, learnt)
        self._keeper.keep_points([change])
        self.history.append(change)
        versions = (*self._board.state.versions, version)
        self._board.update(version=change.version, versions=versions, learnt=learnt)
        self._emit(change)

    def on_end(self) -> None:
        """The training is through: nothing new to learn, or it failed (device thread)."""
        self._end_bar()
        self._rest()
        self.start_if_wanted()

    def _rest(self) -> None:
        """No training runs."""
        if self._board.state.learning in ("learning", "paused"):
            self._board.update(learning="waiting")

    def _end_bar(self) -> None:
        """The bar of the training ends."""
        self._emit(Progress("learn", "", 100, 100))
