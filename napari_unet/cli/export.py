"""unet-live export: a model for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_unet.cli.program import app, check_output, make_folder
from napari_unet.core.card import SHIPPED
from napari_unet.core.errors import ModelError


@app.command()
def export(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="A shipped name, or a file that --model takes.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write.")],
    kind: Annotated[
        str,
        typer.Option("--format", help="bioimageio, onnx, torchscript, openvino or pytorch; else by OUT's ending."),
    ] = "",
) -> None:
    """Write a model for other tools: a package of bioimage.io, a graph of ONNX or OpenVINO, TorchScript, a state dict.

    All but the state dict take float32 (batch, channels, Y, X), normalised to percentiles 1 and 99.8, each side a
    multiple of 16 (2 to the depth), and give logits. What learnt pictures inverted takes 1 less that; packages do so.
    """
    from napari_unet.engine import bioimageio, export  # torch: only when it is needed
    from napari_unet.nets.model import load_model

    writers = {
        "bioimageio": bioimageio.write_package,
        "onnx": export.write_onnx,
        "torchscript": export.write_torchscript,
        "openvino": export.write_openvino,
        "pytorch": export.write_pytorch,
    }
    kind = kind or export.format_of(output)
    if kind not in writers:
        raise ModelError(f"There is no format '{kind}'. Choose one with --format: {', '.join(writers)}.")
    check_output(output, "-o")
    if name not in SHIPPED and output.exists() and Path(name).exists() and output.samefile(name):
        raise ModelError(f"What is exported would take the place of the model '{name}'. Name another file with -o.")
    make_folder(output.parent)
    model = load_model(name, device="cpu")
    written = export.export(model, output, writers[kind])
    typer.echo(f"Wrote {' and '.join(map(str, written))}.")
    if model.card.is_inverted and kind != "bioimageio":
        typer.echo("It learnt pictures with dark and bright exchanged: give it 1 less what is normalised.")
