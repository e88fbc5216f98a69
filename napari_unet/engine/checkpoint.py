"""What a training goes on from when it was stopped: all that learns, in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from napari_unet.core.errors import ModelError, about_file
from napari_unet.engine.adamw import AdamW
from napari_unet.engine.ranks import Ranks
from napari_unet.nets.unet import UNet


class Learning(Protocol):
    """A network that learns: `Student`, `ClickStudent`.

    Attributes
    ----------
    average : dict of Tensor
        The running average of its weights.
    optimizer : AdamW
    random : torch.Generator
        All chance there is.
    ranks : Ranks
        The processes that train the same.
    seed, step : int
    """

    average: dict[str, Tensor]
    optimizer: AdamW
    random: torch.Generator
    ranks: Ranks
    seed: int
    step: int

    @property
    def learns(self) -> UNet:
        """The network itself."""


def write_checkpoint(learning: Learning, path: Path, progress: float, of: str) -> None:
    """Write all that is needed to go on later; a torn file never takes the place of a whole one.

    Parameters
    ----------
    learning : Learning
    path : Path
    progress : float
        The share of the budget that is used.
    of : str
        Of which training.
    """
    tensors = {f"net.{k}": v for k, v in learning.learns.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in learning.average.items()}
    tensors |= {f"optimizer.{k}": v for k, v in learning.optimizer.state().items()}
    tensors |= {"step": torch.tensor(learning.step), "random": learning.random.get_state()}
    part = path.with_suffix(".part")
    data = safetensors.torch.save(
        {name: value.detach().cpu().contiguous() for name, value in tensors.items()},
        metadata={"progress": str(progress), "of": of},
    )
    with about_file(path):
        try:
            part.write_bytes(data)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def resume(learning: Learning, path: Path, of: str) -> float:
    """Go on from a checkpoint of a training if there is one; the share of the budget it has used.

    Raises
    ------
    ModelError
        If it is one of another training, or not whole.
    """
    if not path.exists():
        return 0.0
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            known = file.metadata()
        progress = float(known["progress"])
        if known["of"] != of:
            raise ValueError("begun by another command")
        _restore(learning, safetensors.torch.load_file(path))
    except (safetensors.SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"'{path.name}' is a checkpoint of another training. Delete it to start anew, or go on as it began."
        ) from error
    return progress


def _restore(learning: Learning, tensors: dict[str, Tensor]) -> None:
    """Take over what a checkpoint holds."""

    def part(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    learning.learns.load_state_dict(part("net."))
    learning.average = {k: v.to(learning.average[k].device) for k, v in part("average.").items()}
    learning.optimizer.restore(part("optimizer."))
    learning.step = int(tensors["step"])
    if learning.ranks.leads:
        learning.random.set_state(tensors["random"].cpu())
    else:
        learning.random.manual_seed(learning.ranks.own_seed(learning.seed, learning.step))
