"""A U-Net in OpenVINO (extra `openvino`), which convolves about a third faster than torch does on a processor."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_unet.nets.unet import UNet

Run = Callable[[Tensor, Callable[[], None] | None], list[Tensor]]
"""(B, C, Y, X) to [logits], or to [logits, features]; the callable is called while it runs, and may raise to end it."""
POLL_MS = 4
HINTS = {torch.float32: "f32", torch.bfloat16: "bf16"}


def can_compile(net: UNet) -> bool:
    """Whether a network, its BatchNorm folded, is one that `compiled` takes."""
    return net.ndim == 2 and net.settings["norm"] in ("batch", "none") and not net.bilinear


def compiled(net: UNet, dtype: torch.dtype, threads: int, *, features: bool = False) -> Run:
    """A network as a function of OpenVINO; to make one takes about a tenth of a second.

    The graph is written layer by layer and not traced: that takes 1.5 s, in which Python stands still.

    Parameters
    ----------
    net : UNet
        2-D, without normalisation (see `fold_norm`).
    dtype : torch.dtype
        Number type of the convolutions: float32 or bfloat16.
    threads : int
    features : bool
        Give the last decoder's features, too.

    Returns
    -------
    callable
        (B, C, Y, X) float32, Y and X multiples of 2**depth, to [logits (B, K, Y, X)], and the features
        (B, base_channels, Y, X) after them if they are asked for. All float32. The second argument is a callable or
        None: it is called every few milliseconds meanwhile, and what it raises breaks the run off.
    """
    graph = _model(net, features=features)
    config = {
        "INFERENCE_PRECISION_HINT": HINTS[dtype],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # two processes would share one core, and leave the other alone
    }
    request = _core().compile_model(graph, "CPU", config).create_infer_request()

    def run(x: Tensor, check: Callable[[], None] | None) -> list[Tensor]:
        request.start_async([x.contiguous().numpy()], share_inputs=True)
        try:
            while not request.wait_for(POLL_MS):
                if check is not None:
                    check()
        except BaseException:
            request.cancel()
            with suppress(RuntimeError):  # that it was cancelled
                request.wait()
            raise
        return [torch.from_numpy(request.get_output_tensor(n).data.copy()) for n in range(len(graph.outputs))]

    return run


def write_graph(net: UNet, path: Path) -> None:
    """Write a network, its BatchNorm folded, as OpenVINO's own files: `path`, an .xml, and a .bin beside it."""
    graph = _model(net)
    _openvino().save_model(graph, path, compress_to_fp16=False)


@lru_cache(maxsize=1)
def _openvino() -> Any:
    """OpenVINO, loaded without its telemetry.

    That sends a line to Google Analytics as it is imported, unless the user has found out how to forbid it; what is not
    there, OpenVINO does without. Whoever has loaded it before has chosen for themselves.
    """
    telemetry = "openvino_telemetry"
    if telemetry in sys.modules:
        return import_module("openvino")
    sys.modules.update({telemetry: None})  # type: ignore[dict-item]  # Python's way to say that there is no such module
    try:
        return import_module("openvino")
    finally:
        sys.modules.pop(telemetry, None)


@lru_cache(maxsize=1)
def _core() -> Any:
    """What compiles: one for the whole process.

    Each one (2026.4) gives its thread a stack for signals, and puts the one of before back as it ends. Of two that end
    in the order in which they began the second puts back what the first has freed, and the next Ctrl+C is a crash.
    """
    return _openvino().Core()


def _model(net: UNet, *, features: bool = False) -> Any:
    """The graph from a picture to logits, and to the last decoder's features if they are asked for."""
    openvino = _openvino()
    from openvino import opset13 as ops

    x = picture = ops.parameter([-1, net.settings["in_channels"], -1, -1], np.float32, "picture")
    skips = []
    for level, encoder in enumerate(net.encoders):
        x = _block(x, encoder)
        if level < net.depth:
            skips.append(x)
            x = ops.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0)
    for up, decoder in zip(net.ups, net.decoders, strict=True):
        up_kernel, up_bias = _weights(up)
        x = ops.convolution_backprop_data(x, up_kernel, [2, 2], pads_begin=[0, 0], pads_end=[0, 0], dilations=[1, 1])
        x = _block(ops.concat([skips.pop(), ops.add(x, up_bias)], 1), decoder)
    results = [_convolution(x, net.head), *([x] if features else [])]
    return openvino.Model(results, [picture])


def _block(x: Any, block: nn.Module) -> Any:
    """Twice: convolution and ReLU."""
    from openvino import opset13 as ops

    for layer in block.children():
        x = _convolution(x, layer) if isinstance(layer, nn.Conv2d) else ops.relu(x)
    return x


def _convolution(x: Any, layer: nn.Module) -> Any:
    """A convolution that keeps the size."""
    from openvino import opset13 as ops

    kernel, bias = _weights(layer)
    pad = [kernel.shape[-1] // 2] * 2
    return ops.add(ops.convolution(x, kernel, [1, 1], pad, pad, [1, 1]), bias)


def _weights(layer: nn.Module) -> tuple[Any, Any]:
    """Kernel, and bias as (1, channels, 1, 1)."""
    kernel, bias = (layer.get_parameter(name).detach() for name in ("weight", "bias"))
    return _constant(kernel), _constant(bias.reshape(1, -1, 1, 1))


def _constant(values: Tensor) -> Any:
    """A constant of the graph.

    Torch copies into memory that OpenVINO asked for, and lets other threads run. OpenVINO's own way of copying an array
    took up to 0.05 s a layer of the shipped network, in which Python stood still.
    """
    import openvino

    held = openvino.Tensor(openvino.Type.f32, openvino.Shape(values.shape))
    torch.from_numpy(held.data).copy_(values)
    return openvino.op.Constant(held)
