"""A step of learning on a CUDA device, recorded: its thousands of short kernels are told to the device as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from napari_unet.engine.cuda import recorded

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

AGAIN = 3
"""Steps of the same shapes at which it is recorded: what libraries set up in the first ones cannot be."""


class RecordedStep:
    """Gradients of a network by a function that ends in `backward`; on a CUDA device it is recorded as a graph.

    Each step has gradients of its own: they replace those of the step before.

    Parameters
    ----------
    net : nn.Module
        Stays where it is in memory; its weights may change.
    compute : callable
        Of tensors, which leaves gradients in the parameters of `net` and gives the loss. Nothing in it may depend on
        the values of the tensors but through other tensors.
    """

    def __init__(self, net: nn.Module, compute: Callable[..., Tensor]) -> None:
        self._compute, self._parameters = compute, [p for p in net.parameters() if p.requires_grad]
        self._sizes: list[torch.Size] = []
        self._met, self._refused = 0, False
        self._graph: torch.cuda.CUDAGraph | None = None
        self._given: list[Tensor] = []
        self._gradients: list[Tensor | None] = []
        self._loss: Tensor

    def __call__(self, *given: Tensor) -> Tensor:
        """The loss, and new gradients in the parameters; the next step writes over both."""
        sizes = [each.shape for each in given]
        if sizes != self._sizes:
            self._sizes, self._met, self._graph = sizes, 0, None
        self._met += 1
        if self._graph is None and self._met >= AGAIN and not self._refused:
            self._record(given)
        if self._graph is None:
            self._forget_gradients()
            return self._compute(*given)
        for place, each in zip(self._given, given, strict=True):
            place.copy_(each)
        self._graph.replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return self._loss

    def _record(self, given: tuple[Tensor, ...]) -> None:
        """Record a step; where that cannot be done, each is computed as it comes."""
        self._forget_gradients()
        self._given = [each.clone() for each in given]
        try:
            self._graph, self._loss = recorded(lambda: self._compute(*self._given), given[0].device)
        except RuntimeError:  # out of memory, or something that cannot be recorded here
            self._refused = True
        self._gradients = [parameter.grad for parameter in self._parameters]

    def _forget_gradients(self) -> None:
        """Begin anew."""
        for parameter in self._parameters:
            parameter.grad = None
