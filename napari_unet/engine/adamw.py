"""AdamW, in plain tensor operations.

torch has it too, but making one there imports torch's compiler: some 800 modules, two seconds and more of Python
in the device thread at the very moment when the user waits for the first thing to be learnt, and while the window
should be free to paint.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class AdamW:
    """Adam with weight decay that is no part of the gradient.

    Parameters
    ----------
    parameters : iterable of Parameter
    weight_decay : float
        Share of the learning rate by which each step shrinks the weights.

    References
    ----------
    Loshchilov & Hutter, "Decoupled Weight Decay Regularization", arXiv 1711.05101, algorithm 2.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], weight_decay: float) -> None:
        self.parameters, self.weight_decay = list(parameters), weight_decay
        self.means = [torch.zeros_like(p) for p in self.parameters]
        self.squares = [torch.zeros_like(p) for p in self.parameters]
        self.steps = 0

    @torch.no_grad()
    def step(self, learning_rate: float, healthy: Tensor | None = None) -> None:
        """One step down the gradients; a parameter without one stays.

        Parameters
        ----------
        learning_rate : float
        healthy : () bool tensor, optional
            False: everything stays as it is. Asked on its own device, so that nobody waits for it.
        """
        self.steps += 1
        (first, second), count = BETAS, self.steps
        correction = math.sqrt(1 - second**count)
        goes = 1.0 if healthy is None else healthy.to(torch.float32)
        slow, slower = goes * (1 - first), goes * (1 - second)
        size, shrink = -goes * learning_rate / (1 - first**count), 1 - goes * (learning_rate * self.weight_decay)
        for weight, mean, square in zip(self.parameters, self.means, self.squares, strict=True):
            if weight.grad is None:
                continue
            gradient = weight.grad if healthy is None else torch.where(healthy, weight.grad, 0.0)
            weight.mul_(shrink)
            mean.lerp_(gradient, slow)
            square.lerp_(gradient * gradient, slower)
            weight.add_(mean / square.sqrt().div_(correction).add_(EPSILON) * size)

    def forget_gradients(self) -> None:
        """Begin to sum gradients anew."""
        for weight in self.parameters:
            weight.grad = None

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on later, as tensors."""
        tensors = {f"mean.{n}": t for n, t in enumerate(self.means)}
        tensors |= {f"square.{n}": t for n, t in enumerate(self.squares)}
        return {**tensors, "steps": torch.tensor(self.steps)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from `state()`.

        Raises
        ------
        KeyError, RuntimeError
            If it is the state of other parameters.
        """
        for number, (mean, square) in enumerate(zip(self.means, self.squares, strict=True)):
            mean.copy_(tensors[f"mean.{number}"])
            square.copy_(tensors[f"square.{number}"])
        self.steps = int(tensors["steps"])
