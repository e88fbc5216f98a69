"""ModelCard: what weights expect, what they give, and where they come from."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from napari_unet.core.errors import ModelError

FORMAT = 1
KINDS = ("objects", "classes")
SHIPPED = {
    "default": "Generalist (shipped)",
    "classes": "2 classes, to begin with",
    **{f"classes{count}": f"{count} classes, to begin with" for count in range(3, 10)},
    "scratch": "From scratch (untaught)",
}
"""Models that come with the package, and what the user reads."""
_TYPES: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "architecture": dict,
    "click": dict,
    "classes": list,
    "diameter": (int, float),
    "trained_on": str,
    "parent": str,
    "scores": dict,
    "is_inverted": bool,
    "foreground": (int, float),
    "separation": (int, float),
}


@dataclass(frozen=True)
class ModelCard:
    """What a file of weights is. It travels as JSON in the metadata of the safetensors file.

    Attributes
    ----------
    name : str
        What the user reads in the list of models.
    kind : {'objects', 'classes'}
        `objects`: output channels are foreground logit and distance to the object's rim (1 in its
        middle, 0 at its rim). `classes`: one logit a class, background first.
    architecture : dict
        The keyword arguments of `UNet`.
    click : dict
        Those of the click head; empty if there is none.
    classes : tuple of str
        Names of the classes, background first (`classes` only).
    diameter : float
        Typical diameter of the objects it was trained on, in pixels.
    trained_on : str
        Data, seed and command, in words.
    parent : str
        SHA-256 of the weights it was fine-tuned from; '' if from none.
    scores : dict of str to float
        Figures of quality, by name.
    is_inverted : bool
        Whether the pictures that it learnt last were seen with dark and bright exchanged; so others are first, too.
    foreground, separation : float
        How objects are built from its outputs where `InstanceSettings` say a half, as corrections have shown.
    """

    name: str = "untitled"
    kind: str = "objects"
    architecture: dict[str, Any] = field(default_factory=dict)
    click: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    diameter: float = 24.0
    trained_on: str = ""
    parent: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    is_inverted: bool = False
    foreground: float = 0.5
    separation: float = 0.5

    @property
    def in_channels(self) -> int:
        """Channels that the network reads."""
        return int(self.architecture.get("in_channels", 1))

    def to_json(self) -> str:
        """The card as one line of JSON."""
        return json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a card.

        Raises
        ------
        ModelError
            If it is no card, or one of a newer format.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"The model's card cannot be read ({error}). Export the model again.") from error
        if not isinstance(values, dict) or not isinstance(values.get("format"), int):
            raise ModelError("The model's card is none of U-Net Live. Export the model again.")
        if values["format"] != FORMAT:
            raise ModelError("This model was written by a newer U-Net Live. Update napari-unet-live to use it.")
        if values.get("kind") not in KINDS:
            raise ModelError("The model's card does not say whether it finds objects or classes.")
        wrong = [key for key, kind in _TYPES.items() if key in values and not isinstance(values[key], kind)]
        ranges = {"diameter": math.inf, "foreground": 1, "separation": 1}
        wrong = wrong or [key for key, end in ranges.items() if key in values and not 0 < values[key] < end]
        if wrong:
            which = ", ".join(wrong)
            raise ModelError(f"The model's card says something impossible ({which}). Export the model again.")
        values["classes"] = tuple(str(c) for c in values.get("classes", ()))
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})


def check_name(path: Path) -> None:
    """Refuse to write a model that would be no `.safetensors` file: nothing else would be read back."""
    if path.suffix.lower() != ".safetensors" or path.is_dir():
        raise ModelError(f"A model is a .safetensors file, and '{path}' is none. Name one, like mine.safetensors.")


def whole_name(name: str) -> str:
    """What a model is called from any folder: a shipped one by its name, whatever lies here; a file by its path."""
    return name if name in SHIPPED or not Path(name).exists() else str(Path(name).absolute())
