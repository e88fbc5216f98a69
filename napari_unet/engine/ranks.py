"""One training on several devices: `torchrun` starts a process for each, and they step together."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from napari_unet.core.errors import DeviceError
from napari_unet.nets.model import pick_device


@dataclass(frozen=True)
class Ranks:
    """The processes that train one model together.

    Attributes
    ----------
    number, count : int
        Which of them this is, from 0, and how many there are.
    parent : int or None
        Id of the process of `torchrun` that started this one, and watches over it as long as it lives.
    """

    number: int = 0
    count: int = 1
    parent: int | None = field(default=None, compare=False)

    def own_seed(self, seed: int, step: int = 0) -> int:
        """Each process draws other crops; from another step on, others again."""
        return seed + 1_000_003 * self.number * (step + 1)

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes files and tells the user."""
        return self.number == 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Give all processes the mean of theirs, in place: in one message, however many tensors there are.

        Raises
        ------
        DeviceError
            If `torchrun` was killed: nobody else would end its processes, and they would train on unseen.
        """
        if self.count == 1 or not tensors:
            return
        if self.parent not in (None, os.getppid()):
            raise DeviceError("torchrun was ended, and this ends with it. Give the same command again to go on.")
        flat = torch.cat([tensor.detach().reshape(-1).to(_own_device(), torch.float32) for tensor in tensors])
        torch.distributed.all_reduce(flat)
        flat /= self.count
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def agreed(self, value: float) -> float:
        """What the leading process says: clocks differ, and all must stop at the same step."""
        if self.count == 1:
            return value
        said = torch.tensor([value], dtype=torch.float64, device=_own_device())
        torch.distributed.broadcast(said, 0)
        return float(said)


@contextmanager
def joined_ranks(device: str) -> Iterator[tuple[Ranks, str]]:
    """The processes that `torchrun` has started, if it has, and the device of this one.

    Parameters
    ----------
    device : str
        As for `pick_device`; of several graphics cards each process takes its own. Where there are more processes
        than cards, several share one: teaching the click head takes more of the processor than of the card.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Ranks(), device
        return
    kind = pick_device(device).type
    backend = "gloo"
    if kind == "cuda":
        cards = torch.cuda.device_count()
        device = f"cuda:{int(os.environ['LOCAL_RANK']) % cards}"
        torch.cuda.set_device(pick_device(device))
        if int(os.environ["LOCAL_WORLD_SIZE"]) <= cards:  # NCCL wants a card for each
            backend = "nccl"
    torch.distributed.init_process_group(backend)
    try:
        parent = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None
        yield Ranks(torch.distributed.get_rank(), count, parent), device
    finally:
        torch.distributed.destroy_process_group()


def _own_device() -> str:
    """Where messages between the processes are made."""
    return "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"


ALONE = Ranks()
