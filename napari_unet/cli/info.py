"""unet-live info: what a bug report needs."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from importlib.metadata import version

import typer

from napari_unet.cli.program import JsonOption, app, at_its_fastest
from napari_unet.core.speeds import Speed


@app.command()
def info(as_json: JsonOption = False) -> None:
    """Versions, devices, how fast the shipped model runs, and shipped models: what a bug report needs."""
    import torch

    from napari_unet.engine.device import backend_for, backend_of, device_names
    from napari_unet.nets.model import load_model, shipped_models

    model = load_model()
    speeds = at_its_fastest(model)
    packages = ("napari-unet-live", "torch", "napari", "numpy", "scikit-image", "zarr", "qtpy")
    facts = {
        "system": platform.platform(),
        "python": platform.python_version(),
        # which build of torch it is, its package does not always say
        "packages": {name: version(name) for name in packages} | {"torch": torch.__version__},
        "devices": {name: backend_for(name).line for name in device_names()},
        "chosen": backend_of(model).line,
        "speeds": [asdict(speed) for speed in speeds],
        "models": {name: f"{path.stat().st_size / 1e6:.1f} MB" for name, path in shipped_models().items()},
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
        return
    for name, value in {**facts, "speeds": ""}.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        typer.echo(f"{name:<9} {shown}".rstrip())
        for speed in speeds if name == "speeds" else ():
            typer.echo(f"  {_row(speed)}")


def _row(speed: Speed) -> str:
    """What was measured of one way."""
    masks = f"{speed.same:.2%} of pixels as in float32" + ("" if speed.is_alike else ": not alike enough")
    return f"{speed.form + ', ' + speed.number_type:<20} {1000 * speed.seconds:6.0f} ms for 256 x 256; {masks}"
