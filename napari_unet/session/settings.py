"""Settings: how objects are built, and at which size pictures are read; a project brings them back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from napari_unet.core.instances import InstanceSettings
from napari_unet.session.keeper import Keeper
from napari_unet.session.predictor import Predictor
from napari_unet.session.state import Board

DIAMETER = "diameter"


class Settings:
    """What the user chose for all pictures, in what predicts, on the board and in the project.

    Parameters
    ----------
    predictor, board, keeper : Predictor, Board, Keeper
        Of the session.
    fail : callable
        Tells the user a sentence.
    """

    def __init__(self, predictor: Predictor, board: Board, keeper: Keeper, fail: Callable[[str], object]) -> None:
        self._predictor, self._board, self._keeper, self._fail = predictor, board, keeper, fail

    def use(self, settings: InstanceSettings, diameter: float | None) -> None:
        """Have these hold from now on, and the project keep them.

        Parameters
        ----------
        settings : InstanceSettings
        diameter : float or None
            Of the objects, in pixels of the picture; None: it is measured.
        """
        self._predictor.settings, self._predictor.diameter = settings, diameter
        self._board.update(given=diameter)
        self._keeper.keep_settings(self._values())

    def take_project(self) -> None:
        """Have those of the project hold that was opened; what it says nothing of stays."""
        values = self._values()
        values.update({name: value for name, value in self._keeper.settings.items() if name in values})
        if wrong := [f"{name} cannot be {str(v)[:40]}" for name, v in values.items() if not _is_possible(name, v)]:
            self._fail(f"The settings of the project were left out: {', '.join(wrong)}.")
            return
        diameter = values.pop(DIAMETER)
        self.use(InstanceSettings(**values), diameter)

    def _values(self) -> dict[str, Any]:
        """Those that hold, by name."""
        return {**asdict(self._predictor.settings), DIAMETER: self._predictor.diameter}


def _is_possible(name: str, value: Any) -> bool:
    """Whether a setting can have this value: a stranger's project may say anything."""
    if name == "fill_holes":
        return isinstance(value, bool)
    if name == DIAMETER and value is None:
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if name == "min_area":
        return isinstance(value, int) and value >= 0
    return 1 <= value < math.inf if name == DIAMETER else 0 <= value <= 1
