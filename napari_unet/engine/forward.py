"""The network in its fastest form, which is made anew when its weights have changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Lock
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from napari_unet.engine.cuda import CudaRun
from napari_unet.engine.device import Backend, backend_of
from napari_unet.engine.openvino import Run, can_compile, compiled
from napari_unet.nets.folding import fold_norm
from napari_unet.nets.model import Model
from napari_unet.nets.unet import UNet


class UnwantedError(Exception):
    """Nobody waits any more for what is computed: it was broken off."""


_is_wanted: ContextVar[Callable[[], bool] | None] = ContextVar("is_wanted", default=None)  # of each thread its own


@contextmanager
def while_wanted(is_wanted: Callable[[], bool]) -> Iterator[None]:
    """Within it, a network that this thread runs is broken off as soon as it is not wanted any more.

    Parameters
    ----------
    is_wanted : callable
        Asked between the layers, or every few milliseconds.

    Raises
    ------
    UnwantedError
        If it was broken off.
    """
    token = _is_wanted.set(is_wanted)
    try:
        yield
    finally:
        _is_wanted.reset(token)


def _check(*_: object) -> None:
    """Go on only if what is computed is wanted."""
    is_wanted = _is_wanted.get()
    if is_wanted is not None and not is_wanted():
        raise UnwantedError


@contextmanager
def _checked(net: UNet) -> Iterator[None]:
    """Within it, each layer of a network asks whether it is wanted."""
    layers = [] if _is_wanted.get() is None else [module for module in net.modules() if not any(module.children())]
    hooks = [layer.register_forward_pre_hook(_check) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@dataclass
class _Form:
    """One state of a model's weights, ready to run.

    Attributes
    ----------
    stamp : int
        Changes with the weights.
    backend : Backend
    net : UNet
        Its BatchNorm is folded into the convolutions.
    runs : dict of (threads, with features) to callable
        What OpenVINO made of it: for each number of threads something else.
    on_cuda : CudaRun or None
        What runs it on a CUDA device, once it has.
    lock : Lock
        Held while it runs: what OpenVINO and CUDA made of it keep what they are given and give, for one run at a time.
    """

    stamp: int
    backend: Backend
    net: UNet
    runs: dict[tuple[int, bool], Run] = field(default_factory=dict)
    on_cuda: CudaRun | None = None
    lock: Lock = field(default_factory=Lock)

    def run(self, x: Tensor, *, features: bool) -> list[Tensor]:
        """Logits, and the features if they are asked for; of several threads one after the other."""
        with self.lock:
            return self._run(x, features=features)

    def _run(self, x: Tensor, *, features: bool) -> list[Tensor]:
        """The same, in one thread at a time."""
        if self.backend.form == "openvino" and can_compile(self.net):
            threads = torch.get_num_threads()  # as many as the window leaves
            key = (threads, features)
            if key not in self.runs:
                self.runs[key] = compiled(self.net, self.backend.dtype, threads, features=features)
            try:
                return self.runs[key](x, _check if _is_wanted.get() is not None else None)
            except BaseException:
                # OpenVINO (2026.4) goes on with a part of the old shapes where a run was broken off
                del self.runs[key]
                raise
        is_short = self.backend.dtype != torch.float32  # float32 is what all others are compared with
        if self.backend.device.type == "cuda" and is_short and can_compile(self.net):
            _check()  # then nothing asks any more: it takes milliseconds
            self.on_cuda = self.on_cuda or CudaRun(self.net, self.backend.dtype)
            return self.on_cuda(x, features=features)
        with torch.inference_mode(), self.backend.autocast(), _checked(self.net):
            seen = self.net.features(x)
            return [self.net.head(seen).float(), *([seen] if features else [])]


_forms: WeakKeyDictionary[Model, _Form] = WeakKeyDictionary()


def forward(model: Model, x: Tensor, *, backend: Backend | None = None) -> Tensor:
    """Logits of a model, (B, C, [Z,] Y, X) to (B, K, [Z,] Y, X) float32.

    Parameters
    ----------
    model : Model
    x : Tensor
        On the model's device; 2**depth divides each side.
    backend : Backend, optional
        Another way than the one chosen, to try it.
    """
    return _form_of(model, backend or backend_of(model)).run(x, features=False)[0]


def forward_with_features(model: Model, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits as of `forward`, and the last decoder's features (B, base_channels, [Z,] Y, X)."""
    logits, features = _form_of(model, backend_of(model)).run(x, features=True)
    return logits, features


def _form_of(model: Model, backend: Backend) -> _Form:
    """The model as it is now in the form that a backend asks for."""
    # torch counts how often a tensor was written to; a version of the model may be set to any number
    stamp = sum(tensor._version for tensor in (*model.net.parameters(), *model.net.buffers()))
    form = _forms.get(model)
    if form is None or form.stamp != stamp or form.backend != backend:
        # torch would round float32 weights anew in every run; OpenVINO and CUDA make of them what they need
        dtype = backend.dtype if backend.form == "torch" and backend.device.type == "cpu" else torch.float32
        form = _forms[model] = _Form(stamp, backend, fold_norm(model.net, dtype))
    return form
