"""AdamW by the function that torch's own calls, without its class.

Making one of that class imports torch's compiler: some 800 modules, two seconds and more of Python in the device thread
at the very moment when the user waits for the first thing to be learnt, and while the window should be free to paint.
"""

from __future__ import annotations

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
        gradients = {n: weight.grad for n, weight in enumerate(self.parameters) if weight.grad is not None}
        if not gradients:
            return
        weights, means, squares = ([each[n] for n in gradients] for each in (self.parameters, self.means, self.squares))
        unfit = None
        if healthy is not None and healthy.device.type == "cuda":
            unfit = torch.where(healthy, 0.0, 1.0)
        elif healthy is not None and not healthy:
            return
        # as torch's own with fused=True: one call for all tensors, a third of the time
        torch._fused_adamw_(
            weights,
            [*gradients.values()],
            means,
            squares,
            [],
            [torch.full((), float(self.steps), device=weights[0].device)] * len(weights),
            lr=learning_rate,
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=self.weight_decay,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
            found_inf=unfit,
        )

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
