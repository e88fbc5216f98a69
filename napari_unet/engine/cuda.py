"""A U-Net on a CUDA device: weights of a short number type, few kernels, and what comes again as one recorded graph."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_unet.nets.unet import UNet

Result = TypeVar("Result")

AGAIN = 8
"""Runs of a shape at which it is recorded: a first mask must not wait for that, and what comes only a few
times is not worth it."""
RECORDED = 6
"""Shapes whose graphs are kept."""
LARGEST = 2**21
"""Pixels up to which a run is recorded: with more of them the device is busy longer than it takes to tell it what to
do, and a graph would only keep memory."""
ALIKE = 0.02
"""Largest difference between two ways to compute a layer, as a share of the largest value."""
SIDES = 64
"""Sides of what is run are multiples of this: of fewer shapes, more were met before, and cuDNN has to plan for each."""
EIGHT = 8
"""Tensor cores take channels in eights; what has fewer is copied by cuDNN at each call."""
WIDE = torch.complex128
"""16 bytes, to copy several channels at once."""


def _are_alike(found: Tensor, wanted: Tensor) -> bool:
    """Whether two results are the same but for rounding; values that are not numbers never are."""
    return bool((found - wanted).abs().max() <= ALIKE * wanted.abs().max())


def _convolved(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A convolution and its ReLU, one after the other."""
    return F.relu_(F.conv2d(x, weight, bias, padding=1))


def _convolved_at_once(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The same in one kernel: the outputs are written once and not three times."""
    return torch.cudnn_convolution_relu(x, weight, bias, (1, 1), (1, 1), (1, 1), 1)


@lru_cache
def _convolution_on(device: torch.device, dtype: torch.dtype) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """How convolutions are computed on a device: in one kernel where cuDNN has one that gives the same."""
    if device.type != "cuda":
        return _convolved
    x, weight, bias = (torch.randn(size, device=device).to(dtype) for size in ((1, 16, 32, 32), (16, 16, 3, 3), 16))
    x, weight = (each.contiguous(memory_format=torch.channels_last) for each in (x, weight))
    wanted = _convolved(x, weight, bias)
    try:
        # the fused kernel adds nought times what lies in the memory that it is given: it must not be noticed
        torch.full_like(wanted, torch.nan)
        same = _are_alike(_convolved_at_once(x, weight, bias), wanted)
    except RuntimeError:  # not for this number type, or not on this device
        return _convolved
    return _convolved_at_once if same else _convolved


Layer = tuple[Tensor, Tensor]
"""Kernel and bias."""


class ShortNet:
    """A U-Net that computes in one number type throughout, its weights laid out for that.

    Parameters
    ----------
    net : UNet
        2-D, without normalisation (see `fold_norm`); stays as it is.
    dtype : torch.dtype
    """

    def __init__(self, net: UNet, dtype: torch.dtype) -> None:
        self._dtype, self._outputs = dtype, int(net.settings["out_channels"])
        self._encoders = [self._block(block) for block in net.encoders]
        self._decoders = [self._block(block) for block in net.decoders]
        self._ups = [self._as_product(up) for up in net.ups]
        self._head = self._laid(_tensor(net.head.weight), _tensor(net.head.bias), outputs=EIGHT)
        first, bias = self._encoders[0][0]
        self._encoders[0][0] = self._laid(first, bias, inputs=EIGHT)

    def laid_out(self, x: Tensor) -> Tensor:
        """A picture as the network reads it: of its number type, its channels next to each other and in eights."""
        batch, channels, height, width = x.shape
        size = (batch, channels + -channels % EIGHT, height, width)
        laid = torch.empty(size, dtype=self._dtype, device=x.device, memory_format=torch.channels_last)
        laid.zero_()[:, :channels] = x
        return laid

    def __call__(self, x: Tensor) -> list[Tensor]:
        """Logits (B, K, Y, X) float32, and the last decoder's features (B, base_channels, Y, X).

        Parameters
        ----------
        x : (B, 8 n, Y, X)
            As `laid_out` gives it; 2**depth divides Y and X.
        """
        convolve = _convolution_on(x.device, x.dtype)
        skips: list[Tensor] = []
        for block in self._encoders:
            x = x if not skips else F.max_pool2d(x, 2)  # (B, C, Y/2, X/2)
            for layer in block:
                x = convolve(x, *layer)  # (B, base * 2^level, Y / 2^level, X / 2^level)
            skips.append(x)
        skips.pop()
        for up, block in zip(self._ups, self._decoders, strict=True):
            x = _up_beside(x, up, skips.pop())  # (B, C, 2Y, 2X)
            for layer in block:
                x = convolve(x, *layer)  # (B, C/2, 2Y, 2X)
        logits = F.conv2d(x, *self._head)[:, : self._outputs].float()  # (B, K, Y, X)
        return [logits, x]

    def _block(self, block: nn.Module) -> list[Layer]:
        """The convolutions of a block."""
        found = [layer for layer in block.children() if isinstance(layer, nn.Conv2d)]
        return [self._laid(_tensor(layer.weight), _tensor(layer.bias)) for layer in found]

    def _laid(self, weight: Tensor, bias: Tensor, *, inputs: int = 1, outputs: int = 1) -> Layer:
        """A convolution's weights, with noughts up to multiples of so many channels."""
        weight, bias = weight.to(self._dtype), bias.to(self._dtype)
        more, most = -weight.shape[1] % inputs, -weight.shape[0] % outputs
        weight = F.pad(weight, (0, 0, 0, 0, 0, more, 0, most))
        return weight.contiguous(memory_format=torch.channels_last), F.pad(bias, (0, most))

    def _as_product(self, up: nn.Module) -> Layer:
        """A transposed convolution as a matrix (C, 2 * 2 * C/2): its blocks of 2x2 pixels do not overlap."""
        weight, bias = _tensor(up.weight).to(self._dtype), _tensor(up.bias).to(self._dtype)
        return weight.permute(0, 2, 3, 1).flatten(1).contiguous(), bias.repeat(4)


def _tensor(value: Tensor | nn.Module | None) -> Tensor:
    """A weight without its history."""
    return cast("Tensor", value).detach()


def _up_beside(x: Tensor, up: Layer, skip: Tensor) -> Tensor:
    """One level up, and beside it the skip connection: each is written once, to where it is read.

    Parameters
    ----------
    x : (B, C, Y, X)
    up : (C, 2 * 2 * C/2) and (2 * 2 * C/2,)
    skip : (B, S, 2Y, 2X)

    Returns
    -------
    (B, S + C/2, 2Y, 2X)
    """
    weight, bias = up
    batch, channels, height, width = x.shape
    flat = x.permute(0, 2, 3, 1).reshape(-1, channels)  # (B * Y * X, C)
    pixels = torch.addmm(bias, flat, weight).view(batch, height, width, 2, 2, -1)  # (B, Y, X, 2, 2, C/2)
    beside = skip.shape[1]
    size = (batch, 2 * height, 2 * width, beside + pixels.shape[-1])
    both = torch.empty(size, dtype=x.dtype, device=x.device)  # (B, 2Y, 2X, S + C/2)
    _copy(both[..., :beside], skip.permute(0, 2, 3, 1))
    blocks = both[..., beside:].unflatten(1, (height, 2)).unflatten(3, (width, 2))  # (B, Y, 2, X, 2, C/2)
    _copy(blocks, pixels.permute(0, 1, 3, 2, 4, 5))
    return both.permute(0, 3, 1, 2)


def _copy(target: Tensor, source: Tensor) -> None:
    """Copy (..., C), many channels at a time if they are many: of short numbers one by one, it takes several times."""
    count = WIDE.itemsize // target.dtype.itemsize
    fits = all(each.stride(-1) == 1 and each.storage_offset() % count == 0 for each in (target, source))
    fits &= all(step % count == 0 for each in (target, source) for step in (each.shape[-1], *each.stride()[:-1]))
    if fits:
        target, source = target.view(WIDE), source.view(WIDE)
    target.copy_(source)


@dataclass(frozen=True)
class _Recorded:
    """A run that was recorded, from one place in memory to others."""

    graph: torch.cuda.CUDAGraph
    x: Tensor
    outputs: list[Tensor]

    def run(self, x: Tensor, count: int) -> list[Tensor]:
        """The first outputs for another picture; copies, for the next run writes over them."""
        self.x[:, : x.shape[1]] = x
        self.graph.replay()
        return [output.clone() for output in self.outputs[:count]]


@lru_cache
def recording_stream(device: torch.device) -> torch.cuda.Stream:
    """Where runs are recorded: one for all, for libraries keep memory for each."""
    return torch.cuda.Stream(device)


def recorded(
    compute: Callable[[], Result], device: torch.device, pool: Any = None
) -> tuple[torch.cuda.CUDAGraph, Result]:
    """A graph of what is computed, and where its result will lie; nothing is computed yet.

    Parameters
    ----------
    compute : callable
    device : torch.device
    pool : handle of memory, optional
        Which it shares with other graphs.

    Raises
    ------
    RuntimeError
        If it cannot be recorded: there is no memory for it, or something in it waits for the device.
    """
    stream, graph = recording_stream(device), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream(device))
    try:
        with torch.cuda.stream(stream):
            torch.cuda.synchronize(device)
            # not `torch.cuda.graph`, which collects garbage first; other threads may go on calling CUDA
            graph.capture_begin(pool, "thread_local")
            try:
                result = compute()
            finally:
                graph.capture_end()
    finally:
        torch.cuda.current_stream(device).wait_stream(stream)
    return graph, result


def _can_record(x: Tensor) -> bool:
    """Whether a run on a tensor's device can be recorded."""
    return x.device.type == "cuda"


class CudaRun:
    """A network as a function of pictures, on a CUDA device; a shape that comes again is recorded as a graph.

    Parameters
    ----------
    net : UNet
        2-D, without normalisation (see `fold_norm`).
    dtype : torch.dtype
        bfloat16 or float16.
    """

    def __init__(self, net: UNet, dtype: torch.dtype) -> None:
        self._net = ShortNet(net, dtype)
        self._met: Counter[torch.Size] = Counter()
        self._recorded: OrderedDict[torch.Size, _Recorded] = OrderedDict()

    def __call__(self, x: Tensor, *, features: bool = False) -> list[Tensor]:
        """(B, C, Y, X) to [logits (B, K, Y, X) float32], and the features (B, base_channels, Y, X) if asked for."""
        count = 2 if features else 1
        with torch.inference_mode():
            recorded = self._recorded.get(x.shape)
            if recorded is not None:
                self._recorded.move_to_end(x.shape)
                return recorded.run(x, count)
            self._met[x.shape] += 1
            laid = self._net.laid_out(x)
            is_small = x.shape[0] * x.shape[2] * x.shape[3] <= LARGEST
            if self._met[x.shape] == AGAIN and is_small and _can_record(x):
                self._prepare(x.shape, laid)
            return self._net(laid)[:count]

    def _prepare(self, shape: torch.Size, x: Tensor) -> None:
        """Record a run of a shape; what goes wrong there leaves everything as it was."""
        try:
            wanted = self._net(x)[0]
            recorded = self._record(x)
            recorded.graph.replay()
            if not _are_alike(recorded.outputs[0], wanted):
                return
        except RuntimeError:  # out of memory, or something that cannot be recorded here
            return
        self._recorded[shape] = recorded
        if len(self._recorded) > RECORDED:
            oldest, _ = self._recorded.popitem(last=False)
            del self._met[oldest]

    def _record(self, x: Tensor) -> _Recorded:
        """One run as a graph."""
        if self._recorded:  # graphs run one after the other, and what they gave is copied at once: they share memory
            pool = next(iter(self._recorded.values())).graph.pool()
        else:
            torch.cuda.empty_cache()  # graphs of weights that were given up give their memory back only here
            pool = torch.cuda.graph_pool_handle()
        x = x.clone(memory_format=torch.channels_last)
        stream = recording_stream(x.device)
        stream.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(stream):
            self._net(x)  # what libraries set up for a stream cannot be recorded
        graph, outputs = recorded(lambda: self._net(x), x.device, pool)
        return _Recorded(graph, x, outputs)
