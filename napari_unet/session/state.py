"""SessionState: all facts that the docks show, in one snapshot."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_unet.session.telling import tell


@dataclass(frozen=True)
class Version:
    """One version of the model in this project.

    Attributes
    ----------
    number : int
        0 is the model the project started from.
    score : float or None
        Held-out score when it took over; None for version 0.
    learnt : int
        Corrections it has seen.
    """

    number: int
    score: float | None
    learnt: int


@dataclass(frozen=True)
class SessionState:
    """All facts that the docks show.

    Attributes
    ----------
    model : str
        Name of the model in use; '' while none is loaded.
    model_source : str
        What it was loaded from, as `Session.use_model` takes it: the name of one that is shipped, or a file.
    kind : {'objects', 'classes'}
    classes : tuple of str
        Names of the classes, background first (`classes` only).
    can_click : bool
        Whether the model finds objects from clicks.
    diameter : float
        Object diameter the model was trained on, in pixels.
    given : float or None
        Object diameter in the pictures, as the user gave it; None: it is measured.
    measured : float or None
        Object diameter in the picture that was measured last, in pixels.
    channels : (str, tuple of int or None)
        The picture whose channels were chosen last, and these; None: all.
    version : int
    versions : tuple of Version
    device : str
        What runs where, in words: "CPU, 2 cores, bfloat16".
    devices : tuple of str
        Names that `use_device` takes here, 'auto' apart.
    predicting : bool
    learning : {'off', 'waiting', 'learning', 'paused'}
        'waiting': on, but there is nothing new to learn.
    learn_problem : str
        Why the last training ended, as a sentence; '' if it did not fail.
    corrections, pictures, learnt : int
        Corrections made, the pictures they are in, and how many of them the model has seen.
    recent : (int, int)
        Of the last corrections: how many were right before the user touched them, and their number.
    project : Path or None
        The project folder; None until the first thing was saved.
    saved : bool
        Whether everything confirmed is on disk.
    save_problem : str
        The lasting sentence while saving fails; '' otherwise.
    read_only : str
        Who has the project open, as a sentence; '' if this session may write.
    """

    model: str = ""
    model_source: str = ""
    kind: str = "objects"
    classes: tuple[str, ...] = ()
    can_click: bool = False
    diameter: float = 24.0
    given: float | None = None
    measured: float | None = None
    channels: tuple[str, tuple[int, ...] | None] = ("", None)
    version: int = 0
    versions: tuple[Version, ...] = ()
    device: str = ""
    devices: tuple[str, ...] = ("cpu",)
    predicting: bool = False
    learning: str = "waiting"
    learn_problem: str = ""
    corrections: int = 0
    pictures: int = 0
    learnt: int = 0
    recent: tuple[int, int] = (0, 0)
    project: Path | None = None
    saved: bool = True
    save_problem: str = ""
    read_only: str = ""


class Board:
    """Holds the state; every part of a session reads it here, and changes it here, from any thread.

    Parameters
    ----------
    changed : callable
        Told of the state after it changed: in the order of the changes and by one thread at a time, never
        while a lock is held. Of changes that follow each other closely only the last may be told.
    """

    def __init__(self, changed: Callable[[SessionState], object]) -> None:
        self.state = SessionState()
        self._changed = changed
        self._told = self.state
        self._is_telling = False
        self._turn = threading.Lock()

    def update(self, **facts: Any) -> bool:
        """Change some facts, and say so unless nothing differs; whether something does."""
        return self.change(lambda state: replace(state, **facts))

    def change(self, change: Callable[[SessionState], SessionState]) -> bool:
        """Change the state depending on what it is now; whether something differs.

        Parameters
        ----------
        change : callable
            Gives the new state. Nobody else changes the state meanwhile, so it may look at a thing whose
            owner comes here after each change of it: the last one who looks sees it as it is.
        """
        with self._turn:
            state = change(self.state)
            if state == self.state:
                return False
            self.state = state
        self._tell()
        return True

    def _tell(self) -> None:
        """Say what has not been said, unless another thread is at it: that one goes on until all is said."""
        with self._turn:
            if self._is_telling:
                return
            self._is_telling = True
        while (state := self._next_news()) is not None:
            tell(self._changed, state)

    def _next_news(self) -> SessionState | None:
        """The state, if it has not been told."""
        with self._turn:
            if self._told is self.state:
                self._is_telling = False
                return None
            self._told = self.state
            return self.state
