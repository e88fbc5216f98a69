"""Session: what is open and running in one viewer. Methods in, signals out; no Qt, no napari."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from psygnal import Signal

from napari_unet.core.corrections import Edit
from napari_unet.core.events import Prediction, Progress, TrainStep, WeightsChanged
from napari_unet.core.geometry import Box
from napari_unet.core.image import ImageSource
from napari_unet.core.instances import InstanceSettings
from napari_unet.session.keeper import Event, Keeper, sentence_of
from napari_unet.session.learner import LEARN, MODEL, Learner
from napari_unet.session.picture import Picture
from napari_unet.session.pool import Pool
from napari_unet.session.state import Board, SessionState, Version
from napari_unet.session.worker import BACKGROUND, INTERACTIVE, GpuWorker

__all__ = ["Picture", "Session", "SessionState", "Version"]

PREDICT = "predict"


class Session:
    """Predicts, keeps corrections and learns, for the pictures of one viewer.

    Every method returns at once and is called from the main thread; signals are emitted from
    other threads (connect through `widgets.viewer_session.listen`).

    Parameters
    ----------
    model, device : str
        What to begin with.

    Attributes
    ----------
    pictures : dict of str to Picture
    settings : InstanceSettings
    """

    prediction_ready = Signal(Prediction)
    progressed = Signal(Progress)
    stepped = Signal(TrainStep)
    weights_changed = Signal(WeightsChanged)
    state_changed = Signal(SessionState)
    failed = Signal(str)

    def __init__(self, model: str = "default", device: str = "auto") -> None:
        self.pictures: dict[str, Picture] = {}
        self.settings = InstanceSettings()
        self._diameter: float | None = None
        self._request, self._watched = 0, ""
        self._edits: dict[str, int] = {}
        self._is_closed = False
        self._board = Board(self.state_changed.emit)
        self._pool = Pool()
        self._keeper = Keeper(self._on_disk, self._on_kept)
        self._worker = GpuWorker(self._on_event, self._on_end, lambda active: self._learner.before_piece(active))
        self._learner = Learner(self._worker, self._pool, self._keeper, self._board, self._emit, device)
        self._learner.use_model(model)

    @property
    def state(self) -> SessionState:
        """All facts that the docks show."""
        return self._board.state

    @property
    def history(self) -> list[Event]:
        """The learning curve so far, for a dock that opens late and for a reopened project."""
        return self._learner.history

    # --- pictures ------------------------------------------------------------

    def open_picture(self, name: str, source: ImageSource, *, path: Path | None = None) -> Picture:
        """Take a picture in; one with the same content as an earlier one is that one again.

        Parameters
        ----------
        name : str
        source : ImageSource
        path : Path, optional
            Its file: a project that was begun for it is opened again.
        """
        key = source.key()
        if key in self.pictures:
            return self.pictures[key]
        truth, taught = np.zeros(source.shape, np.int32), np.zeros(source.shape, np.uint8)
        picture = Picture(key, name, source, truth, taught, path=str(path or ""))
        if self._keeper.project is None and (folder := self._keeper.find(path)) is not None:
            self._open_folder(folder)
        self.pictures[key] = picture
        self._restore(picture)
        return picture

    def close_picture(self, key: str) -> None:
        """Forget a picture; its corrections stay on disk and in the training."""
        if key == self._watched:
            self.cancel()
            self._watched = ""
        self.pictures.pop(key, None)

    def _restore(self, picture: Picture) -> None:
        """Bring back what the project knows of a picture."""
        edits = self._keeper.restore(picture)
        undone = sum(edit.taught is not None for edit in edits)
        self._edits[picture.key] = max(0, len(edits) - 2 * undone)
        for edit in edits:
            if edit.taught is None:
                self._pool.remember_side(edit.picture, edit.box, edit.held_out)
        for edit in edits:
            self._keeper.do(partial(self._pool.update, picture, edit.box))
        self._count()

    # --- predicting ----------------------------------------------------------

    def predict(self, key: str, view: Box) -> None:
        """Predict the plane that holds `view`, tiles in view first. Replaces an earlier request."""
        self.pictures[key].view = view
        self._watched = key
        self._submit_prediction()

    def look_at(self, key: str, view: Box) -> None:
        """The user moved: tiles of the new view come first."""
        if key in self.pictures:
            self.pictures[key].view = view
            self._worker.prioritize(PREDICT, INTERACTIVE)

    def cancel(self) -> None:
        """Stop predicting."""
        if self._worker.cancel(PREDICT):
            self._end_prediction()

    def rebuild(self, settings: InstanceSettings) -> None:
        """New thresholds: build the objects again from the outputs already computed."""
        self.settings = settings
        self._submit_prediction()

    def use_channels(self, key: str, channels: tuple[int, ...] | None) -> None:
        """Which channels of the picture the model reads; None: all."""
        self.pictures[key].channels = channels
        self._keeper.do(partial(self._pool.rebuild, dict(self.pictures)))

    def use_diameter(self, diameter: float | None) -> None:
        """Object diameter in the picture, in pixels; None: leave the picture's scale as it is."""
        self._diameter = diameter
        self._rescale()

    def _rescale(self) -> None:
        """Pictures are read at another size."""
        scale = self.state.diameter / self._diameter if self._diameter else 1.0
        changed = [picture for picture in self.pictures.values() if picture.scale != scale]
        for picture in changed:
            picture.scale = scale
        if changed:
            self._keeper.do(partial(self._pool.rebuild, dict(self.pictures)))

    def _submit_prediction(self) -> None:
        """Hand in the prediction of the picture that is watched."""
        picture = self.pictures.get(self._watched)
        if picture is None:
            return
        self._request += 1
        job = partial(self._prediction, picture, self._request, self.settings, self._diameter)
        self._board.update(predicting=True)
        self._worker.submit(PREDICT, job, INTERACTIVE)

    def _prediction(self, picture: Picture, number: int, settings: InstanceSettings, diameter: float | None) -> Any:
        """A prediction, begun in the device thread."""
        from napari_unet.session.jobs import Request

        return self._learner.device().predict(Request(picture, number, settings, diameter))

    def _end_prediction(self) -> None:
        """The bar ends."""
        self._board.update(predicting=False)
        self.progressed.emit(Progress("predict", "", 1, 1))

    # --- corrections ---------------------------------------------------------

    def add_edit(self, edit: Edit) -> None:
        """Keep what the user set: in memory now, on disk next, in training after that.

        On which side of the split it is, is decided here; what the edit says of it does not count.
        """
        picture = self.pictures[edit.picture]
        edit = replace(edit, held_out=self._pool.side_of(edit.picture, edit.box))
        self._edits[edit.picture] = self._edits.get(edit.picture, 0) + 1
        self._keep(edit, picture)

    def withdraw(self, key: str, box: Box, labels: npt.NDArray[np.int32], taught: npt.NDArray[np.uint8]) -> None:
        """An undo: put `labels` and `taught` back as they were in `box`."""
        everywhere = np.ones(box.shape, bool)
        self._edits[key] = max(0, self._edits.get(key, 0) - 1)
        self._keep(Edit(key, box, labels, everywhere, "undo", time=time.time(), taught=taught), self.pictures[key])

    def _keep(self, edit: Edit, picture: Picture) -> None:
        """Take an edit over, and hand it to the disk."""
        edit.apply(picture.truth, picture.taught)
        self._count(saved=False)
        self._keeper.keep_edit(edit, picture)

    def _count(self, **changes: Any) -> None:
        """Count the corrections."""
        counts = [n for n in self._edits.values() if n]
        self._board.update(corrections=sum(counts), pictures=len(counts), **changes)

    def _on_kept(self, edit: Edit) -> None:
        """An edit is on disk (disk thread): it may be learnt."""
        picture = self.pictures.get(edit.picture)
        if picture is not None:
            self._pool.update(picture, edit.box)
        project = self._keeper.project
        self._board.update(project=project.path if project else None, read_only=self._keeper.read_only)
        self._learner.start_if_wanted()

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

    def model_names(self) -> list[tuple[str, str]]:
        """The models that come with the package: (name, what the user reads)."""
        folder = Path(__file__).parents[1] / "weights"
        shown = {"default": "Generalist (shipped)"}
        return [(path.stem, shown.get(path.stem, path.stem)) for path in sorted(folder.glob("*.safetensors"))]

    def device_names(self) -> list[str]:
        """The names that `use_device` takes here, 'auto' apart."""
        return list(self.state.devices)

    def use_model(self, name_or_path: str) -> None:
        """Take another model. Corrections stay; the versions begin anew from it."""
        self._learner.use_model(name_or_path)

    def use_device(self, name: str) -> None:
        """'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'."""
        self._learner.use_device(name)

    def revert(self, version: int) -> None:
        """Go back to an earlier version of the model."""
        self._learner.revert(version)

    # --- project -------------------------------------------------------------

    def open_project(self, path: Path) -> None:
        """Open a project folder, or create it there; pictures that are open get what it knows of them.

        Raises
        ------
        ProjectError
            If it is no project, or cannot be read.
        """
        self._open_folder(path)
        self._pool.forget()
        for picture in self.pictures.values():
            picture.truth[...], picture.taught[...] = 0, 0
            self._restore(picture)

    def _open_folder(self, path: Path) -> None:
        """Open a project, and take its model and its curve."""
        for problem in self._keeper.open(path):
            self.failed.emit(problem)
        self._board.update(project=path, read_only=self._keeper.read_only)
        self._learner.take_project()

    def keep_masks(self, key: str, masks: npt.NDArray[np.int32]) -> None:
        """Save the label layer (a copy, taken by the caller), so that tomorrow starts with it."""
        if key in self.pictures:
            self._keeper.keep_masks(self.pictures[key], masks)

    def save_again(self) -> None:
        """Try again to save what could not be saved."""
        self._keeper.retry()

    # --- the rest ------------------------------------------------------------

    def user_is_active(self) -> None:
        """The user just did something: leave a core to the window for a while."""
        self._worker.user_is_active()

    def close(self, timeout: float = 2.0) -> None:
        """Stop everything, flush the disk, join the threads; at most `timeout` seconds."""
        if not self._is_closed:
            self._is_closed = True
            self._worker.close(timeout / 2)
            self._keeper.close(timeout / 2)

    # --- what the threads say ------------------------------------------------

    def _emit(self, event: Event | Progress) -> None:
        """Pass on an event of the training."""
        if isinstance(event, TrainStep):
            self.stepped.emit(event)
        elif isinstance(event, WeightsChanged):
            self.weights_changed.emit(event)
            self._submit_prediction()
        else:
            self.progressed.emit(event)

    def _on_event(self, job: str, event: Any) -> None:
        """A piece of work is done (device thread)."""
        if isinstance(event, Prediction):
            self.prediction_ready.emit(event)
            self._yield_to_training(event)
        elif isinstance(event, TrainStep):
            self._learner.on_step(event)
        elif isinstance(event, WeightsChanged):
            self._learner.on_weights(event)
        elif isinstance(event, Progress):
            self.progressed.emit(event)
        elif job == MODEL:
            self._learner.on_loaded(event)
            self._rescale()
            if self.state.predicting or event.version:
                self._submit_prediction()

    def _yield_to_training(self, event: Prediction) -> None:
        """Tiles out of view take turns with the training."""
        picture = self.pictures.get(event.picture)
        if picture is not None and picture.view is not None and event.core.intersect(picture.view).is_empty:
            self._worker.prioritize(PREDICT, BACKGROUND)

    def _on_end(self, job: str, error: BaseException | None) -> None:
        """A job is through, or failed (device thread)."""
        if job == PREDICT and error is not None and self._try_smaller_tiles(error):
            return
        if error is not None:
            self.failed.emit(sentence_of(error))
        if job == PREDICT:
            self._end_prediction()
        elif job == LEARN:
            self._learner.on_end()

    def _try_smaller_tiles(self, error: BaseException) -> bool:
        """Whether the device ran out of memory, and the prediction begins again with smaller tiles."""
        from napari_unet.session.jobs import OutOfMemory

        if not isinstance(error, OutOfMemory):
            return False
        core = self._learner.device().halve_tiles()
        if core <= 64:
            return False
        self.failed.emit(f"Not enough memory on the device for tiles of {2 * core}: using {core}.")
        self._submit_prediction()
        return True

    def _on_disk(self, waiting: int, problem: str) -> None:
        """A write is through, or failed (disk thread)."""
        self._board.update(saved=waiting == 0 and not problem, save_problem=problem)
