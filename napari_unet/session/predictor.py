"""Predictor: what is predicted, and what a click shows, in the pictures of a session."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from napari_unet.core.corrections import Mask
from napari_unet.core.events import Measured, ObjectMask, Prediction, Progress
from napari_unet.core.geometry import Box
from napari_unet.core.instances import InstanceSettings
from napari_unet.core.picture import Picture
from napari_unet.core.prompts import Prompts
from napari_unet.session.learner import Learner
from napari_unet.session.state import Board
from napari_unet.session.worker import ANSWER, BACKGROUND, IDLE, INTERACTIVE, GpuWorker

PREDICT, CLOSER, CLICK, HOVER = "predict", "look closer", "click", "hover"

News = Progress | Prediction | ObjectMask


class Predictor:
    """Hands predictions and clicks to the device thread; the newest question of each is the one that is answered.

    Parameters
    ----------
    worker, learner, board : GpuWorker, Learner, Board
        Of the session.
    pictures : mapping of str to Picture
        Those that are open.
    emit : callable
        Passes on Progress, Prediction and ObjectMask events.

    Attributes
    ----------
    settings : InstanceSettings
    diameter : float or None
        Of the objects, as the user gave it, in pixels.
    usual : float or None
        Of the objects that the user set so far, in pixels.
    watched : str
        The picture that is predicted; '' for none.
    is_fresh : bool
        Whether it is predicted again when the model has learnt.
    """

    def __init__(
        self,
        worker: GpuWorker,
        learner: Learner,
        board: Board,
        pictures: Mapping[str, Picture],
        emit: Callable[[News], None],
    ) -> None:
        self.settings = InstanceSettings()
        self.diameter: float | None = None
        self.usual: float | None = None
        self.watched = ""
        self.is_fresh = True
        self._worker, self._learner, self._board, self._pictures, self._emit = worker, learner, board, pictures, emit
        self._request, self._answered, self._clicks = 0, 0, 0
        self._asked: dict[str, tuple[str, int]] = {}  # the newest question of each kind
        self._looked_at: set[str] = set()
        self._asking = threading.Lock()

    # --- masks of a whole plane ------------------------------------------------

    def predict(self, key: str, view: Box) -> None:
        """Predict the plane that holds `view`, tiles in view first. Replaces an earlier request."""
        self._pictures[key].check_view(view)
        self._pictures[key].view = view
        self.watched = key
        self.again()

    def again(self) -> None:
        """Predict the picture that is watched anew."""
        picture = self._pictures.get(self.watched)
        if picture is None:
            return
        with self._asking:
            self._request += 1
            self._answered = self._request
            self._worker.cancel(CLOSER)
            self._worker.submit(PREDICT, partial(self._prediction, picture, self._request), INTERACTIVE)
        self._show()

    def look_at(self, key: str, view: Box) -> None:
        """The user moved: tiles of the new view come first; another plane of what is watched is predicted, too."""
        picture = self._pictures.get(key)
        if picture is None:
            return
        picture.check_view(view)
        before, picture.view = picture.view, view
        is_other = before is not None and before.start[:-2] != view.start[:-2]
        if is_other and key == self.watched and self._answered:
            self.again()
        else:
            self._worker.prioritize(PREDICT, INTERACTIVE)

    def keep_fresh(self, on: bool) -> None:
        """Whether what was predicted is predicted again when the model has learnt.

        If not, a prediction that has begun is ended first, out of view too: new weights would begin it anew.
        """
        self.is_fresh = on
        if not on:
            self._worker.prioritize(PREDICT, INTERACTIVE)

    def cancel(self) -> None:
        """Stop predicting."""
        with self._asking:
            self._answered = 0
            self._worker.cancel(CLOSER)
            was_predicting = self._worker.cancel(PREDICT)
        if was_predicting:
            self._show()

    def _prediction(self, picture: Picture, number: int) -> Iterator[Progress | Measured | Prediction]:
        """A prediction, begun in the device thread."""
        from napari_unet.session.jobs import Request

        request = Request(picture, number, self.settings, self._is_unseen(picture), self.usual, self.diameter)
        return self._learner.device().predict(request)

    def _is_unseen(self, picture: Picture) -> bool:
        """Whether it is not known yet how the model sees a picture."""
        return picture.is_inverted is None or (self.diameter is None and picture.measured is None)

    def _closer_look(self, picture: Picture, number: int) -> Iterator[Prediction | None]:
        """A closer look at what was predicted, begun in the device thread."""
        from napari_unet.session.jobs import Request

        request = Request(picture, number, self.settings, False, self.usual)
        return self._learner.device().look_closer(request, partial(self._worker.has_nothing_but, IDLE))

    # --- one object --------------------------------------------------------------

    def click(
        self,
        key: str,
        lead: tuple[int, ...],
        prompts: Prompts,
        previous: tuple[Box, Mask] | None = None,
        *,
        hover: bool = False,
    ) -> int:
        """Find the object that prompts show, before any other work; the number of the answer.

        An earlier question that has no answer yet gets none any more; but hovering takes the place of no click.
        """
        self._clicks += 1
        name = HOVER if hover else CLICK
        self._asked[name] = key, self._clicks
        job = partial(self._click, self._pictures[key], lead, prompts, previous, self._clicks, time.monotonic())
        self._worker.cancel(HOVER)
        self._worker.submit(name, job, ANSWER)
        return self._clicks

    def _click(
        self,
        picture: Picture,
        lead: tuple[int, ...],
        prompts: Prompts,
        previous: tuple[Box, Mask] | None,
        number: int,
        asked: float,
    ) -> Iterator[Progress | Measured | ObjectMask]:
        """The answer to a click, begun in the device thread; a picture that was not predicted yet is measured first."""
        picture.check_plane(lead)
        device = self._learner.device()
        if self._is_unseen(picture) and picture.key not in self._looked_at:
            plane = Box((*lead, 0, 0), (*(i + 1 for i in lead), *picture.source.shape[-2:]))
            yield from device.measure(picture, plane, self.usual, self.diameter)
            self._looked_at.add(picture.key)  # where there is nothing to see, it is not looked for at each click
        found = device.click(picture, lead, prompts, previous)
        yield replace(found, request=number, seconds=time.monotonic() - asked)

    # --- what the device thread says ---------------------------------------------

    def on_event(self, event: Progress | Prediction | ObjectMask) -> None:
        """A tile or an object is done, or a part of the work for it."""
        if isinstance(event, ObjectMask):
            self._emit(event)
        elif isinstance(event, Progress):
            self._emit(event)
            self._end_bar()  # if it was cancelled this moment, the bar must not come back
        elif event.request == self._answered:
            self._emit(event)
            self._yield_to_training(event)

    def on_click_failed(self, job: str) -> None:
        """A click cannot be answered: that is said as an object that is not there, so that nobody waits for it."""
        key, number = self._asked[job]
        self._emit(ObjectMask(key, Box((0, 0), (1, 1)), np.zeros((1, 1), bool), request=number))

    def on_end(self) -> None:
        """The prediction is through, or failed; once nothing else is to be done, a closer look follows."""
        with self._asking:
            picture = self._pictures.get(self.watched)
            if picture is not None and self._answered and not self._worker.is_busy(PREDICT):
                self._worker.submit(CLOSER, partial(self._closer_look, picture, self._answered), IDLE)
        self._show()

    def _yield_to_training(self, event: Prediction) -> None:
        """Tiles out of view take turns with the training, where they are refreshed after it."""
        if not self.is_fresh:
            return
        view = self._pictures[event.picture].view if event.picture in self._pictures else None
        if view is not None and event.core.intersect(view).is_empty:
            self._worker.prioritize(PREDICT, BACKGROUND)

    def _show(self) -> None:
        """Show whether it predicts: looked at when it is shown, so the last one to come here is right."""
        self._board.change(lambda state: replace(state, predicting=self._worker.is_busy(PREDICT)))
        self._end_bar()

    def _end_bar(self) -> None:
        """End the bar, unless something is predicted."""
        if not self._worker.is_busy(PREDICT):
            self._emit(Progress("predict", "", 1, 1))

    def smaller_tiles(self) -> str:
        """Predict anew with smaller tiles, for memory was short; what to tell the user, '' if they are the smallest."""
        before, now = self._learner.device().halve_tiles()
        if now >= before:
            return ""
        self.again()
        return f"Not enough memory on the device for tiles of {before}: using {now}."
