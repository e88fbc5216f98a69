"""Learner: the model in use, its training in the background, and its versions."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_unet.core.card import whole_name
from napari_unet.core.errors import ProjectError
from napari_unet.core.events import Progress, TrainStep, WeightsChanged
from napari_unet.engine.pool import Lesson, Pool
from napari_unet.session.failures import sentence_of
from napari_unet.session.keeper import Event, Keeper
from napari_unet.session.ledger import Ledger
from napari_unet.session.state import Board, SessionState, Version
from napari_unet.session.worker import BACKGROUND, FIRST, GpuWorker

if TYPE_CHECKING:
    from napari_unet.engine.train import Control
    from napari_unet.nets.model import Model
    from napari_unet.session.jobs import Device

MODEL, LEARN, SPEEDS = "model", "learn", "speeds"
LONGEST_HISTORY = 4000
VERSIONS_KEPT = 10
"""Versions that can be gone back to, the first apart; as many as a project keeps."""


@dataclass(frozen=True, eq=False)
class Wish:
    """The model that is wanted, or in use.

    Attributes
    ----------
    name : str
        A shipped name, or a file.
    device : str
    version : int
    why : {'model', 'project', 'version', 'device'}
        What was chosen: another model (its versions begin anew), a project with its versions, another
        version, or another device alone.
    era : int
        Which of the projects that were opened one after the other it was chosen for.
    """

    name: str
    device: str
    version: int = 0
    why: str = "model"
    era: int = 0


@dataclass(frozen=True)
class Taken:
    """A wish that has come true.

    Attributes
    ----------
    asked, wish : Wish
        As it was asked for, and as it was when its turn came.
    model : Model
    """

    asked: Wish
    wish: Wish
    model: Model


class Learner:
    """Loads models, starts and stops their training, and keeps what comes of it.

    Parameters
    ----------
    worker, pool, keeper, ledger, board : GpuWorker, Pool, Keeper, Ledger, Board
        Of the session.
    emit : callable
        Passes on TrainStep, WeightsChanged and Progress events.
    """

    def __init__(
        self,
        worker: GpuWorker,
        pool: Pool,
        keeper: Keeper,
        ledger: Ledger,
        board: Board,
        emit: Callable[[Event | Progress], None],
    ) -> None:
        self.history: list[Event] = []
        self._worker, self._pool, self._keeper, self._ledger, self._board = worker, pool, keeper, ledger, board
        self._emit = emit
        self._device: Device | None = None
        self._control: Control | None = None
        self._weights: dict[int, bytes] = {}
        self._wish = self._in_use = Wish("", "auto")
        self._first = ""
        self._is_on, self._is_paused, self._is_stopping, self._has_news = True, False, False, False
        self._turn = threading.Lock()  # never held while anybody is told anything
        self._round = 0
        self._era = 0  # of the training that runs

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

    def use_model(self, name: str, device: str = "") -> None:
        """Take another model; its versions begin anew. Nothing changes before it is loaded, or if that fails."""
        self._first = self._first or name
        self._want(lambda wish: Wish(name, device or wish.device, era=self._keeper.era))

    def use_device(self, name: str) -> None:
        """Go on on another device, with the same weights."""
        # if the model itself is still to be loaded, that stays the reason
        self._want(lambda wish: replace(wish, device=name, why="device" if wish is self._in_use else wish.why))

    def revert(self, version: int) -> None:
        """Go back to an earlier version; what there is to learn waits for a new correction."""
        self._has_news = False

        def reverted(wish: Wish) -> Wish:
            if wish.why == "model":  # it is being loaded, and has no other version yet
                return wish
            why = "project" if wish.why == "project" else "version"
            return replace(wish, version=version, why=why, era=self._keeper.era)

        self._want(reverted)

    def take_project(self) -> None:
        """Take the versions, the curve and the model of the project that was just opened."""
        project = self._keeper.project
        if project is None:
            return
        self.history = self._keeper.history()
        with self._turn:
            self._has_news = False
            self._is_stopping = self._worker.is_busy(LEARN)  # what runs has learnt from the project before
        self._board.update(versions=self._keeper.versions())
        era = self._keeper.era
        self._want(lambda wish: Wish(project.model or wish.name, wish.device, project.current, "project", era))

    def _want(self, choose: Callable[[Wish], Wish]) -> None:
        """Load another model. What is being trained goes on until that is done."""
        with self._turn:
            wish = self._wish = choose(self._wish)
            self._worker.submit(MODEL, lambda: self._load(wish), FIRST)

    def _load(self, asked: Wish) -> Iterator[Taken]:
        """The job of loading a model. It is in use only when `on_taken` says so: the wish may change meanwhile."""
        from napari_unet.nets.model import load_model
        from napari_unet.session.jobs import load_version

        # a training may have taken over since another device was asked for
        wish = replace(asked, version=self._in_use.version) if asked.why == "device" else asked
        if wish.version == 0:
            yield Taken(asked, wish, load_model(wish.name, device=wish.device))
        else:
            yield Taken(asked, wish, load_version(self._bytes_of(wish), wish.device, wish.version, wish.name))

    def _bytes_of(self, wish: Wish) -> bytes:
        """The file of a version, from memory or from the project."""
        if wish.why != "project" and wish.version in self._weights:
            return self._weights[wish.version]
        if self._keeper.project is None:
            raise ProjectError(f"Version {wish.version} of the model was not kept. Choose another version.")
        return self._keeper.project.model_bytes(wish.version)

    def on_taken(self, taken: Taken) -> bool:
        """Another model, or another version of it, is in use (device thread); whether its weights are others."""
        wish, loaded = taken.wish, self.device().take(taken.model)
        was_learning = self._worker.cancel(LEARN)
        if was_learning:
            self._end_bar()
        with self._turn:
            self._in_use = replace(wish, why="device")
            if self._wish is taken.asked:
                self._wish = self._in_use
        self._pool.kind = self._ledger.kind = loaded.card.kind
        self._note_choice(wish)
        self._worker.submit(SPEEDS, lambda: self.device().find_fastest())
        self._board.update(
            model=loaded.card.name,
            model_source=wish.name,
            kind=loaded.card.kind,
            classes=loaded.card.classes,
            can_click=bool(loaded.card.click),
            diameter=loaded.card.diameter,
            version=loaded.version,
            device=loaded.device,
            devices=loaded.devices,
        )
        self.count()
        if (wish.why == "model" and wish.era == self._keeper.era) or (wish.why == "device" and was_learning):
            self._has_news = True  # a model that is new here learns from what there is
        self.start_if_wanted()
        self._show()
        return wish.why != "device"

    def _note_choice(self, wish: Wish) -> None:
        """Versions, project and ledger follow the choice."""
        if wish.why in ("model", "project"):
            self._weights.clear()
        project = self._keeper.project
        is_unknown = project is not None and not project.model and not project.versions
        if wish.why == "model" or (wish.why == "project" and is_unknown):
            # a file is found again from wherever the program is started next
            self._keeper.begin_model(whole_name(wish.name), wish.era)
            self._board.update(versions=(Version(0, None, 0),))
        elif wish.why == "project":
            self._board.update(versions=self._keeper.versions())
        if wish.why == "version" or (wish.why == "project" and project and project.current != wish.version):
            self._keeper.use_version(wish.version, wish.era)
        versions = self._board.state.versions or (Version(0, None, 0),)
        self._board.update(versions=versions)
        self.device().newest = max(version.number for version in versions)
        if wish.why != "device":
            self._ledger.go_back(next((v.learnt for v in versions if v.number == wish.version), 0))

    def on_not_taken(self) -> None:
        """A model could not be loaded (device thread): the one in use stays, or the one to begin with is loaded."""
        with self._turn:
            name, device = self._wish.name, self._wish.device
            if self._in_use.name:
                self._wish = self._in_use
        if not self._in_use.name and name != self._first:
            # the versions of a project whose model is gone are still its versions
            why = "model" if self._keeper.project is None else "device"
            self._want(lambda wish: Wish(self._first, device, why=why, era=self._keeper.era))

    def count(self) -> None:
        """Show how many corrections there are, and how many of them are learnt."""

        def counted(state: SessionState) -> SessionState:
            corrections, pictures, learnt = self._ledger.counts()
            recent = self._ledger.recent()
            return replace(state, corrections=corrections, pictures=pictures, learnt=learnt, recent=recent)

        self._board.change(counted)

    # --- the training --------------------------------------------------------

    def switch(self, on: bool) -> None:
        """Switch learning on or off."""
        with self._turn:
            # it ends by itself after the piece that runs: a take-over that has begun is still told
            self._is_on, self._is_stopping = on, not on
            if not on:
                self._is_paused = False
                self._has_news |= self._worker.is_busy(LEARN)
                self._worker.pause(LEARN, False)
        if not on:
            self._end_bar()
        self._show()
        self.start_if_wanted()

    def pause(self, paused: bool) -> None:
        """Hold the training where it is, and begin no other; or let it go on."""
        with self._turn:
            self._is_paused = paused and self._is_on
            self._worker.pause(LEARN, self._is_paused)
        self._show()
        self.start_if_wanted()

    def now(self) -> None:
        """End the round that runs and let it take over, or start a training at once."""
        self.pause(False)
        if self._control is not None:
            self._control.finish_round = True
        self._start(at_once=True)

    def on_kept(self) -> None:
        """A correction is on disk and in the pool (disk thread)."""
        self._has_news = True
        self.start_if_wanted()

    def start_if_wanted(self) -> None:
        """Start a training if learning is on, none runs, and there is something new."""
        self._start(at_once=False)

    def _start(self, at_once: bool) -> None:
        """Start a training, if none runs and there is something to learn from."""
        with self._turn:
            is_wanted = at_once or (self._is_on and not self._is_paused and self._has_news)
            if not is_wanted or self._worker.is_busy(LEARN) or not self._pool.can_teach:
                return
            self._is_stopping = False
            self._worker.submit(LEARN, self._training, BACKGROUND)
        self._show()

    def _show(self) -> None:
        """Show whether it learns. Whoever changes one of the facts comes here afterwards, so the last one is right."""

        def shown(state: SessionState) -> SessionState:
            is_learning = self._worker.is_busy(LEARN) and not self._is_stopping
            idle = "waiting" if self._is_on else "off"
            return replace(state, learning="paused" if self._is_paused else "learning" if is_learning else idle)

        self._board.change(shown)

    def _training(self) -> Iterator[Event]:
        """The training, begun in the device thread."""
        from napari_unet.engine.train import Control

        self._control = Control()
        self._round = 0
        self._era = self._keeper.era
        if not self._pool.can_teach:  # undone meanwhile
            return
        for event in self.device().learn(Lesson(self._pool), self._control):
            yield event
            is_taking_over = isinstance(event, TrainStep) and event.kept
            if not is_taking_over and (self._is_stopping or not self._pool.can_teach):
                return

    def on_step(self, step: TrainStep) -> None:
        """A piece of training is done (device thread)."""
        if self._is_of_another_project:
            return
        if step.round != self._round:
            self._round, self._has_news = step.round, False
            self._ledger.begin_round()
        if math.isfinite(step.loss) or step.kept is not None or step.skipped:
            self.history.append(step)
            del self.history[:-LONGEST_HISTORY]
        self._emit(step)
        text = f"Learning from {self._board.state.corrections} corrections, round {step.round}"
        self._emit(Progress("learn", text, min(99, round(step.progress * 100)), 100))
        if step.kept is not None:
            self._keeper.keep_points([step], self._era)

    def on_weights(self, change: WeightsChanged) -> None:
        """New weights have taken over (device thread)."""
        if self._is_of_another_project:
            return
        change = replace(change, learnt=self._ledger.take_over())
        data = self.device().weights()
        self._weights[change.version] = data
        while len(self._weights) > VERSIONS_KEPT:
            self._weights.pop(min(self._weights))
        self._keeper.keep_version(data, change, self._era)
        self._keeper.keep_points([change], self._era)
        self.history.append(change)
        first, *later = self._board.state.versions
        later.append(Version(change.version, change.score_after, change.learnt))
        self._board.update(version=change.version, versions=(first, *later[-VERSIONS_KEPT:]))
        with self._turn:
            is_last = self._wish is self._in_use
            self._in_use = replace(self._in_use, version=change.version)
            if is_last:
                self._wish = self._in_use
        self.count()
        self._emit(change)

    @property
    def _is_of_another_project(self) -> bool:
        """Whether another project was opened since the training began; its model is about to be loaded."""
        return self._era != self._keeper.era

    def on_end(self, error: Exception | None) -> None:
        """The training is through: nothing new to learn, or it failed (device thread)."""
        if error is not None:
            self._has_news = False  # or the same failure would come again and again
        self._board.update(learn_problem="" if error is None else sentence_of(error))
        self._end_bar()
        self._show()
        self.start_if_wanted()

    def _end_bar(self) -> None:
        """The bar of the training ends."""
        self._emit(Progress("learn", "", 100, 100))
