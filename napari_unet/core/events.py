"""What the engine yields and the widgets show: frozen records of numpy and plain Python."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_unet.core.geometry import Box


@dataclass(frozen=True)
class Prediction:
    """Labels of one tile of a picture.

    Attributes
    ----------
    picture : str
        Identity of the picture.
    window : Box
        Where `labels` lie in the picture; never reaches outside it.
    core : Box
        The part to write; the rest of `window` is there to join objects with the tiles beside it.
    labels : (*window) int32
        Objects 1..N numbered for this window alone (`objects`), or class ids (`classes`).
    kind : {'objects', 'classes'}
    doubt : (*window) float16
        0 where the network is sure, 1 where it might be either.
    request : int
        Number of the request that asked for it; older ones are dropped on arrival.
    version : int
        Version of the weights that made it.
    done, total : int
        Tiles finished, and tiles in all, of this request.
    """

    picture: str
    window: Box
    core: Box
    labels: npt.NDArray[np.int32]
    kind: str
    doubt: npt.NDArray[np.float16]
    request: int = 0
    version: int = 0
    done: int = 1
    total: int = 1


@dataclass(frozen=True)
class TrainStep:
    """One short piece of fine-tuning.

    Attributes
    ----------
    step : int
        Optimiser steps made so far in this training.
    round : int
        Number of the round, from 1.
    progress : float
        How far the round is, 0 to 1.
    loss : float
        Mean loss over trusted voxels of the pieces since the last step; NaN if the step was skipped.
    skipped : bool
        The loss or the gradient was not finite, so the step was not made.
    kept : bool or None
        None inside a round. At a round's end: whether its weights took over.
    score : float or None
        At a round's end: the candidate's score, as in `WeightsChanged` (0 to 1).
    reason : str
        At the end of a round that did not take over: why, in words.
    """

    step: int
    round: int
    progress: float
    loss: float
    skipped: bool = False
    kept: bool | None = None
    score: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class WeightsChanged:
    """New weights took over.

    Attributes
    ----------
    version : int
        The new version of the model.
    score_before, score_after : float
        Score with the old and the new weights (0 to 1), on the held-out corrections and, while those are few, on
        some of the taught ones.
    held_out : int
        Number of held-out corrections; 0 if there were none.
    learnt : int
        Number of corrections that the new weights have seen.
    """

    version: int
    score_before: float
    score_after: float
    held_out: int
    learnt: int


@dataclass(frozen=True)
class ObjectMask:
    """The mask of one clicked object.

    Attributes
    ----------
    picture : str
        Identity of the picture.
    box : Box
        Where `mask` lies in the picture.
    mask : (*box) bool
        Empty if there is no object.
    foreground : float
        How sure the network is, click or no click, that there is something (0 to 1).
    request : int
        Number of the click that asked for it.
    seconds : float
        From the click to the mask.
    """

    picture: str
    box: Box
    mask: npt.NDArray[np.bool_] = field(repr=False)
    foreground: float = 0.0
    request: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Progress:
    """How far a job is, for a bar and a sentence.

    Attributes
    ----------
    job : {'predict', 'learn'}
    text : str
        What is being done, in words: "Predicting", "Learning from 3 corrections".
    done, total : int
        Pieces finished and pieces in all; `done == total` ends the bar.
    seconds_left : float or None
        Estimated from the pieces so far; None while unknown.
    """

    job: str
    text: str
    done: int
    total: int
    seconds_left: float | None = None


@dataclass(frozen=True)
class Measured:
    """How the model sees a picture was measured.

    Attributes
    ----------
    picture : str
        Identity of the picture.
    diameter : float or None
        Of its objects, in pixels; None if there was nothing to see.
    is_inverted : bool or None
        Whether the model sees it better with dark and bright exchanged; None: that was not asked.
    """

    picture: str
    diameter: float | None
    is_inverted: bool | None = None
