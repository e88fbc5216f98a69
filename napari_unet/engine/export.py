"""A model in the formats of other tools."""

from __future__ import annotations

import errno
import io
import logging
import tempfile
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from napari_unet.core.errors import ModelError, about_file
from napari_unet.engine.openvino import can_compile, write_graph
from napari_unet.nets.folding import fold_norm
from napari_unet.nets.model import CARD, Model
from napari_unet.nets.unet import UNet

ENDINGS = {".zip": "bioimageio", ".onnx": "onnx", ".pt": "torchscript", ".xml": "openvino", ".pth": "pytorch"}
EXAMPLE = 4
"""Side of the picture with which a network is traced, in pixels of its coarsest level."""
Writer = Callable[[Model, Path], None]


def format_of(path: Path) -> str:
    """The format that a file's ending stands for; a bioimage.io package for a name without one.

    Raises
    ------
    ModelError
        If the ending stands for none.
    """
    ending = path.suffix.lower()
    if ending and ending not in ENDINGS:
        raise ModelError(
            f"The ending '{path.suffix}' stands for no format. Take one of {', '.join(ENDINGS)}, or give --format."
        )
    return ENDINGS.get(ending, "bioimageio")


def export(model: Model, path: Path, writer: Writer) -> list[Path]:
    """Write a model for other tools; a torn file never takes the place of a whole one.

    Parameters
    ----------
    model : Model
        On the CPU.
    path : Path
    writer : callable
        One of `write_onnx`, `write_torchscript`, `write_openvino`, `write_pytorch`, and `bioimageio.write_package`.
        All but the last two write the network as it predicts, its BatchNorm folded: (B, C, [Z,] Y, X) float32,
        each side a multiple of 2**depth, to logits (B, K, [Z,] Y, X) as `Model.net` gives them.

    Returns
    -------
    list of Path
        What was written: `path`; of OpenVINO two files.

    Raises
    ------
    ModelError
        If a package is missing, or the format cannot hold this network.
    """
    with about_file(path), tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        writer(model, Path(folder) / path.name)
        return [part.replace(path.parent / part.name) for part in sorted(Path(folder).iterdir())]


def write_pytorch(model: Model, path: Path) -> None:
    """The state dict of the network: tensors alone, which `UNet.load_state_dict` takes, and beside them the card."""
    buffer = io.BytesIO()  # torch's own writer says nothing of a full disk, or ends the process
    torch.save(state_with_card(model), buffer)
    path.write_bytes(buffer.getvalue())


def state_with_card(model: Model) -> OrderedDict[str, Tensor]:
    """The state dict of the network; our card lies where torch keeps the versions of modules, which others ignore."""
    state = model.net.state_dict()
    beside = {**getattr(state, "_metadata", {}), CARD: replace(model.card, click={}).to_json()}
    state = OrderedDict((name, value.contiguous()) for name, value in state.items())
    setattr(state, "_metadata", beside)  # noqa: B010 - mypy knows of no such attribute
    return state


def write_torchscript(model: Model, path: Path) -> None:
    """A program of TorchScript, for whoever has torch or its C++ library."""
    net, buffer = fold_norm(model.net), io.BytesIO()
    with _quiet(), torch.no_grad():
        torch.jit.save(torch.jit.trace(net, example_of(net)), buffer)
    path.write_bytes(buffer.getvalue())


def write_onnx(model: Model, path: Path) -> None:
    """A graph of ONNX: input `picture`, output `logits`."""
    for package in ("onnx", "onnxscript"):
        need(package)
    net = fold_norm(model.net)
    sides = {axis: 2**net.depth * torch.export.Dim(name) for axis, name in enumerate("zyx"[-net.ndim :], start=2)}
    with _quiet(), torch.no_grad():
        torch.onnx.export(
            net,
            (example_of(net),),
            path,
            dynamo=True,
            input_names=["picture"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch"), **sides},),
            external_data=False,
            verbose=False,
        )


def write_openvino(model: Model, path: Path) -> None:
    """A graph of OpenVINO: `path` names its .xml, and its weights lie beside it in a .bin."""
    need("openvino", extra="openvino")
    net = fold_norm(model.net)
    if not can_compile(net):
        raise ModelError("This network cannot be written for OpenVINO. Export it as onnx, which OpenVINO reads.")
    try:
        write_graph(net, path.with_suffix(".xml"))
    except RuntimeError as error:
        raise OSError(errno.EIO, "OpenVINO could not write its files") from error


def example_of(net: UNet) -> Tensor:
    """A small batch such as a network takes, (2, C, [Z,] Y, X)."""
    sides = [(EXAMPLE + axis) * 2**net.depth for axis in range(net.ndim)]
    return torch.rand(2, net.settings["in_channels"], *sides, generator=torch.Generator().manual_seed(0))


def need(package: str, *, extra: str = "export") -> None:
    """Say which extra brings a package that is missing."""
    if find_spec(package) is None:
        raise ModelError(f'This format needs {package}: pip install "napari-unet-live[{extra}]"')


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch has to say of its own exporters: it prefers others, and looks for packages we do not need."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
