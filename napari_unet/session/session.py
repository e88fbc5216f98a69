"""Session: what is open and running in one viewer. Methods in, signals out; no Qt, no napari."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from psygnal import Signal

from napari_unet.core.corrections import Edit, Mask
from napari_unet.core.events import Measured, ObjectMask, Prediction, Progress, TrainStep, WeightsChanged
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.instances import InstanceSettings
from napari_unet.core.picture import Picture, follow_sizes
from napari_unet.core.prompts import Prompts
from napari_unet.core.sizes import scale_for
from napari_unet.engine.pool import Pool
from napari_unet.session.failures import not_learnt, reason_of
from napari_unet.session.keeper import Draft, Event, Keeper
from napari_unet.session.learner import LEARN, MODEL, SPEEDS, Learner, Taken
from napari_unet.session.ledger import Ledger
from napari_unet.session.predictor import CLICK, HOVER, PREDICT, News, Predictor
from napari_unet.session.settings import Settings
from napari_unet.session.state import Board, SessionState, Version
from napari_unet.session.teaching import Teaching
from napari_unet.session.telling import tell
from napari_unet.session.worker import GpuWorker

__all__ = ["Picture", "Session", "SessionState", "Version"]


class Session:
    """Predicts, keeps corrections and learns, for the pictures of one viewer.

    Every method returns at once and is called from the main thread; signals are emitted from
    other threads (connect through `widgets.viewer_session.listen`). `restored` alone is emitted in the main thread,
    before the method returns: a project was opened, and the pictures that are open hold what it knows of them.

    Parameters
    ----------
    model, device : str
        What to begin with.

    Attributes
    ----------
    pictures : dict of str to Picture
    """

    prediction_ready = Signal(Prediction)
    object_found = Signal(ObjectMask)
    progressed = Signal(Progress)
    stepped = Signal(TrainStep)
    weights_changed = Signal(WeightsChanged)
    state_changed = Signal(SessionState)
    failed = Signal(str)
    restored = Signal()

    def __init__(self, model: str = "default", device: str = "auto") -> None:
        self.pictures: dict[str, Picture] = {}
        self._is_closed = False
        self._board = Board(self.state_changed.emit)
        self._ledger, pool = Ledger(), Pool()
        self._keeper = Keeper(self._show_saved, self._on_kept, self._fail)
        self._teaching = Teaching(self._keeper, pool, self._ledger, self._fail)
        self._worker = GpuWorker(self._on_event, self._on_end, lambda active: self._learner.before_piece(active))
        self._learner = Learner(self._worker, pool, self._keeper, self._ledger, self._board, self._emit)
        self._predictor = Predictor(self._worker, self._learner, self._board, self.pictures, self._emit)
        self._settings = Settings(self._predictor, self._board, self._keeper, self._fail)
        self._learner.use_model(model, device)

    @property
    def state(self) -> SessionState:
        """All facts that the docks show."""
        return self._board.state

    @property
    def history(self) -> list[Event]:
        """The learning curve so far, for a dock that opens late and for a reopened project."""
        return self._learner.history

    @property
    def settings(self) -> InstanceSettings:
        """How objects are built from what the network gives."""
        return self._predictor.settings

    # --- pictures ------------------------------------------------------------

    def open_picture(self, name: str, source: ImageSource, *, path: Path | None = None) -> Picture:
        """Take a picture in; one with the same content as an earlier one is that one again.

        Parameters
        ----------
        name : str
        source : ImageSource
        path : Path, optional
            Its file: a project that was begun for it, or knows it, is opened again.
        """
        self.turn()
        key = source.key()
        if key in self.pictures:
            return self.pictures[key]
        truth, taught = np.zeros(source.shape, np.int32), np.zeros(source.shape, np.uint8)
        picture = Picture(key, name, source, truth, taught, path=str(path or ""))
        # what waits to be written begins a project of its own this moment
        is_free = self._keeper.project is None and not self._keeper.drafts()
        if is_free and (folder := self._keeper.find(picture)) is not None:
            self.open_project(folder)
        self._teaching.restore(picture)
        self._tell_problems()
        self.pictures[key] = picture
        self._rescale()
        return picture

    def rename_picture(self, key: str, name: str) -> None:
        """The user calls a picture otherwise."""
        if name != self.pictures[key].name:
            self.pictures[key].name = name
            self._keeper.keep_picture(self.pictures[key])

    def close_picture(self, key: str) -> None:
        """Forget a picture; its corrections stay on disk and in the training."""
        self.leave_picture(key)
        self.pictures.pop(key, None)

    def leave_picture(self, key: str) -> None:
        """Predict a picture no more, for nobody sees it; all that is known of it stays."""
        if key == self._predictor.watched:
            self.cancel()
            self._predictor.watched = ""

    # --- predicting ----------------------------------------------------------

    def predict(self, key: str, view: Box) -> None:
        """Predict the plane that holds `view`, tiles in view first; ImageError if there is none. Replaces a request."""
        self._predictor.predict(key, view)

    def look_at(self, key: str, view: Box) -> None:
        """The user moved: tiles of the new view come first; another plane of what was predicted is predicted, too."""
        self._predictor.look_at(key, view)

    def keep_fresh(self, on: bool) -> None:
        """Whether what was predicted is predicted again when the model has learnt."""
        self._predictor.keep_fresh(on)

    def cancel(self) -> None:
        """Stop predicting."""
        self._predictor.cancel()

    def rebuild(self, settings: InstanceSettings) -> None:
        """New thresholds: build the objects again from the outputs already computed."""
        self._settings.use(settings, self.state.given)
        self._predictor.again()

    def click(
        self,
        key: str,
        lead: tuple[int, ...],
        prompts: Prompts,
        previous: tuple[Box, Mask] | None = None,
        *,
        hover: bool = False,
    ) -> int:
        """Find the object that clicks, a box or a scribble show; `object_found` answers, before any other work goes on.

        Parameters
        ----------
        key : str
            Of the picture.
        lead : tuple of int
            The plane of a stack: (time, z), as far as there are any.
        prompts : Prompts
            In pixels (y, x) of the plane.
        previous : (Box, mask), optional
            Its mask so far, to be mended, and where it lies in the plane.
        hover : bool
            Whether the mouse only rests there: then it takes the place of no click.

        Returns
        -------
        int
            The `request` of the answer; one that was asked for before it may never come.
        """
        return self._predictor.click(key, lead, prompts, previous, hover=hover)

    def use_channels(self, key: str, channels: tuple[int, ...] | None) -> None:
        """Which channels of the picture the model reads; None: all."""
        self.pictures[key].use_channels(channels)
        self._keeper.keep_picture(self.pictures[key])
        self._teaching.rebuild(self.pictures)
        self._board.update(channels=(key, channels))

    def invert(self, key: str, is_inverted: bool) -> None:
        """Have the model read a picture with dark and bright exchanged, or as it is; what the user says stays."""
        self.pictures[key].is_inverted = is_inverted
        self._keeper.keep_picture(self.pictures[key])
        self._rescale(is_new=True)
        self._predictor.again()

    def use_diameter(self, diameter: float | None) -> None:
        """Object diameter in the pictures, in pixels; None: as it is measured in each.

        Raises
        ------
        ImageError
            If it is no diameter.
        """
        if diameter is not None:
            scale_for(diameter, self.state.diameter)
        self._settings.use(self.settings, diameter)
        self._rescale()

    def _rescale(self, *, is_new: bool = False) -> None:
        """Pictures are read at the size that the model knows; perhaps one of them in another way anyhow."""
        pictures, known = list(self.pictures.values()), self.state.diameter
        self._predictor.usual = follow_sizes(pictures, self._predictor.usual)
        if [picture for picture in pictures if picture.rescale(self._predictor.diameter, known)] or is_new:
            self._teaching.rebuild(self.pictures)

    # --- corrections ---------------------------------------------------------

    def add_edit(self, edit: Edit) -> None:
        """Keep what the user set: in memory now, on disk next, in training after that.

        On which side of the split it is, and its time, are decided here; what the edit says of them does not count.
        Without a `kind` it is of that of the model in use.
        """
        if not edit.kind:
            self.turn()
        self._teaching.add(edit, self.pictures[edit.picture])
        self._rescale()
        self._learner.count()

    def turn(self) -> None:
        """Have the pictures hold what was set with models of the kind in use; the rest is set aside, and comes back."""
        if self._teaching.turn(self.pictures, self.state.kind):
            self.restored.emit()

    def withdraw(self, key: str, box: Box, labels: npt.NDArray[np.int32], taught: npt.NDArray[np.uint8]) -> None:
        """Take back the newest correction with this box: put `labels` and `taught` back as they were there.

        Voxels that the correction did not set, or that were set again after it, stay as they are.
        """
        self._teaching.withdraw(self.pictures[key], box, labels, taught)
        self._learner.count()

    def corrections_in(self, key: str) -> int:
        """How many corrections a picture has."""
        return self._ledger.count_in(key)

    def _on_kept(self, draft: Draft) -> None:
        """A correction is on disk (disk thread): it may be learnt."""
        self._show_project()
        if self._teaching.take(draft):
            self._learner.on_kept()

    # --- learning, model and device ------------------------------------------

    def learn(self, on: bool) -> None:
        """Switch learning on or off."""
        self._learner.switch(on)

    def pause(self, paused: bool) -> None:
        """Hold the training where it is, or let it go on."""
        self._learner.pause(paused)

    def learn_now(self) -> None:
        """End the round that runs and let it take over, or start one at once."""
        self._learner.now()

    def use_model(self, name_or_path: str) -> None:
        """Take another model. Corrections stay; the versions begin anew from it."""
        self._learner.use_model(name_or_path)

    def use_device(self, name: str) -> None:
        """'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'."""
        self._learner.use_device(name)

    def revert(self, version: int) -> None:
        """Go back to an earlier version of the model."""
        self._learner.revert(version)

    def user_is_active(self) -> None:
        """The user just did something: leave a core to the window for a while."""
        self._worker.user_is_active()

    def hold(self, seconds: float) -> None:
        """Begin no work for so long, unless it is called with 0 before."""
        self._worker.hold(seconds)

    # --- project -------------------------------------------------------------

    def open_project(self, path: Path | str) -> None:
        """Open a project folder, or create it there; its model comes, and open pictures get what it knows of them.

        Raises
        ------
        ProjectError
            If it is no project, or cannot be read.
        """
        if not self._keeper.open(path):
            return
        self._teaching.begin_project()
        self._settings.take_project()
        self._show_project()
        self._learner.take_project()
        self._learner.count()
        for picture in self.pictures.values():
            picture.truth[...], picture.taught[...] = 0, 0
            self._teaching.restore(picture)
        self._tell_problems()
        self.restored.emit()

    def _show_project(self) -> None:
        """Show where the project is, and whether it may be written."""
        project = self._keeper.project
        self._board.update(project=project.path if project else None, read_only=self._keeper.read_only)

    def _tell_problems(self) -> None:
        """Tell what was found damaged, each once."""
        for problem in self._keeper.new_problems():
            self._fail(problem)

    def keep_masks(self, key: str, masks: npt.NDArray[np.int32]) -> None:
        """Save the label layer (a copy, taken by the caller), so that tomorrow starts with it."""
        if key in self.pictures:
            self._keeper.keep_masks(self.pictures[key], masks, self._teaching.kind)

    def save_again(self) -> None:
        """Try again to save what could not be saved."""
        self._keeper.save()

    def close(self, timeout: float = 2.0) -> None:
        """Stop everything, flush the disk, join the threads; at most `timeout` seconds."""
        if not self._is_closed:
            self._is_closed = True
            self._worker.close(timeout / 2)
            self._keeper.close(timeout / 2)

    # --- what the threads say ------------------------------------------------

    def _fail(self, sentence: str) -> None:
        """Tell the user what went wrong."""
        tell(self.failed.emit, sentence)

    def _show_saved(self) -> None:
        """Show whether everything is on disk."""
        self._board.change(lambda now: replace(now, saved=self._keeper.waiting == 0, save_problem=self._keeper.problem))

    def _emit(self, event: Event | News) -> None:
        """Pass on an event of the training, or of a prediction."""
        signals = {
            TrainStep: self.stepped,
            WeightsChanged: self.weights_changed,
            Prediction: self.prediction_ready,
            ObjectMask: self.object_found,
            Progress: self.progressed,
        }
        tell(signals[type(event)].emit, event)
        # what is predicted this moment (`keep_fresh` was called in between) must not come from two versions
        if isinstance(event, WeightsChanged) and (self._predictor.is_fresh or self.state.predicting):
            self._predictor.again()

    def _on_event(self, job: str, event: Any) -> None:
        """A piece of work is done (device thread)."""
        if isinstance(event, TrainStep):
            self._learner.on_step(event)
        elif isinstance(event, WeightsChanged):
            self._learner.on_weights(event)
        elif isinstance(event, Taken):
            kind, is_other = self.state.kind, self._learner.on_taken(event)
            if kind != self.state.kind and (others := self._ledger.others()):
                self._fail(not_learnt(others, self.state.kind))
            self._rescale()
            if is_other or self.state.predicting:
                self._predictor.again()
        elif isinstance(event, Measured):
            known = self.pictures.get(event.picture)
            self._rescale(is_new=known is not None and known.note_sight(event.diameter, event.is_inverted))
            self._board.update(measured=event.diameter)
        elif job == SPEEDS:
            self._board.update(device=event)
        else:
            self._predictor.on_event(event)

    def _on_end(self, job: str, error: Exception | None) -> None:
        """A job is through, or failed (device thread)."""
        if error is not None:
            self._fail(reason_of(job, error, self._predictor.smaller_tiles if job == PREDICT else str))
        if job == PREDICT:
            self._predictor.on_end()
        elif job == LEARN:
            self._learner.on_end(error)
        elif job == MODEL and error is not None:
            self._learner.on_not_taken()
        elif job in (CLICK, HOVER) and error is not None:
            self._predictor.on_click_failed(job)
