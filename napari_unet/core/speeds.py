"""How fast a model runs in each way that a computer offers, and which way is taken."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

ALIKE = 0.999
"""Share of pixels that must be the same as in float32."""
SCORE_ALIKE = 0.005
"""How much the score (ap50) may differ from that of float32."""
WORTH = 1.05
"""How much faster than the usual way another one must be: a busy computer decides nothing."""


@dataclass(frozen=True)
class Speed:
    """One way to run a network, as it was measured.

    Attributes
    ----------
    form : str
        What runs it: 'torch' or 'openvino'.
    number_type : str
        Of the convolutions: 'float32', 'bfloat16', 'float16'.
    seconds : float
        For a picture of 256 x 256 pixels, the median of a few.
    same : float
        Share of the pixels whose mask is as in float32, 0..1.
    score_change : float
        ap50 on made pictures less that of float32; 0 for a model of classes.
    """

    form: str
    number_type: str
    seconds: float
    same: float = 1.0
    score_change: float = 0.0

    @property
    def is_alike(self) -> bool:
        """Whether its masks count as those of float32."""
        return self.same >= ALIKE and abs(self.score_change) <= SCORE_ALIKE


def fastest(speeds: Sequence[Speed], usual: tuple[str, str]) -> Speed:
    """The way to take: the fastest whose masks are as in float32.

    Parameters
    ----------
    speeds : sequence of Speed
        The first one is the reference: torch in float32.
    usual : (str, str)
        Form and number type that are kept unless another way is clearly faster.
    """
    alike = [speed for speed in speeds if speed.is_alike]
    best = min(alike, key=lambda speed: speed.seconds)
    for speed in alike:
        if (speed.form, speed.number_type) == usual and speed.seconds < WORTH * best.seconds:
            return speed
    return best


def speeds_to_json(tables: dict[str, list[Speed]]) -> str:
    """Tables by what they were measured on, as JSON."""
    return json.dumps({key: [asdict(speed) for speed in speeds] for key, speeds in tables.items()}, indent=1)


def speeds_from_json(text: str) -> dict[str, list[Speed]]:
    """Tables from JSON.

    Raises
    ------
    ValueError
        If there are none in it.
    """
    try:
        tables: dict[str, Any] = json.loads(text)
        return {str(key): [_speed(**fields) for fields in speeds] for key, speeds in tables.items() if speeds}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("these are no tables of speeds") from error


def _speed(form: str, number_type: str, seconds: float, same: float, score_change: float) -> Speed:
    """One way, its fields as they should be."""
    return Speed(str(form), str(number_type), float(seconds), float(same), float(score_change))
