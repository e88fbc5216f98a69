"""unet-live info: what a bug report needs."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version

import typer

from napari_unet.cli.program import JsonOption, app


@app.command()
def info(as_json: JsonOption = False) -> None:
    """Versions, devices and shipped models: what a bug report needs."""
    from napari_unet.engine.device import backend_for, device_names
    from napari_unet.nets.model import shipped_models

    packages = ("napari-unet-live", "torch", "napari", "numpy", "scikit-image", "zarr", "qtpy")
    facts = {
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "devices": {name: backend_for(name).line for name in device_names()},
        "chosen": backend_for("auto").line,
        "models": {name: f"{path.stat().st_size / 1e6:.1f} MB" for name, path in shipped_models().items()},
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
        return
    for name, value in facts.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        typer.echo(f"{name:<9} {shown}")
