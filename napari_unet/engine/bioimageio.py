"""A model as a package of bioimage.io, for ilastik, deepImageJ, BioEngine and whoever else reads those.

References
----------
Ouyang et al. 2022, "BioImage Model Zoo: A Community-Driven Resource for Accessible Deep Learning in BioImage Analysis".
https://bioimage-io.github.io/spec-bioimage-io, models of format 0.5.
"""

from __future__ import annotations

import io
import json
import re
import tempfile
import zipfile
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_unet.core.card import ModelCard
from napari_unet.core.errors import ModelError
from napari_unet.core.intensity import (
    HIGH_PERCENTILE,
    HIGHEST,
    LOW_PERCENTILE,
    LOWEST,
    FloatArray,
    estimate_limits,
    fit_channels,
    normalize,
)
from napari_unet.core.synthetic import synthetic_pictures
from napari_unet.engine.export import write_torchscript
from napari_unet.nets.model import Model
from napari_unet.nets.packages import DESCRIPTIONS, OURS

EPS = 1e-6
"""What bioimage.io adds to the range of intensities."""
TEST_SIDE = 256
FORMAT = "0.5.4"
PROGRAM, README, PICTURE, LOGITS = "weights.pt", "README.md", "picture.npy", "logits.npy"


def write_package(model: Model, path: Path) -> None:
    """Write a package: the network in TorchScript, our own file, a made picture and what the network gives for it.

    The description is written as JSON, which every reader of YAML reads.

    Raises
    ------
    ModelError
        If the model is 3-D.
    """
    if model.net.ndim != 2:
        raise ModelError("Only 2-D models become packages of bioimage.io so far. Export it as onnx instead.")
    picture, logits = _test_pair(model)
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        program = Path(folder) / PROGRAM
        write_torchscript(model, program)
        contents = {
            PROGRAM: program.read_bytes(),
            OURS: model.to_bytes(),
            README: _readme(model.card).encode(),
            PICTURE: _npy(picture),
            LOGITS: _npy(logits),
        }
        description = _description(model, {name: sha256(data).hexdigest() for name, data in contents.items()})
        for name, data in {**contents, DESCRIPTIONS[0]: json.dumps(description, indent=1).encode()}.items():
            archive.writestr(name, data)


def _description(model: Model, hashes: dict[str, str]) -> dict[str, Any]:
    """What a package says of a model, given the fingerprints of its files."""
    files = {name: {"source": name, "sha256": value} for name, value in hashes.items()}
    kind = "instance" if model.card.kind == "objects" else "semantic"
    return {
        "type": "model",
        "format_version": FORMAT,
        "name": f"U-Net Live {model.card.name}",
        "description": f"A U-Net of U-Net Live, a plugin of napari. It finds {_found(model.card)}.",
        "authors": [{"name": "The U-Net Live developers"}],
        "cite": [{"text": "Ronneberger et al. 2015, U-Net", "doi": "10.1007/978-3-319-24574-4_28"}],
        "license": "BSD-3-Clause",
        "tags": ["unet", "napari", "segmentation", f"{kind}-segmentation", "2d", "pytorch"],
        "documentation": files[README],
        "attachments": [files[OURS]],
        "inputs": [_input(model, files[PICTURE])],
        "outputs": [_output(model, files[LOGITS])],
        "weights": {"torchscript": {**files[PROGRAM], "pytorch_version": version("torch").partition("+")[0]}},
    }


def _input(model: Model, test: dict[str, str]) -> dict[str, Any]:
    """The picture: channels as the network reads them, normalised as we do it."""
    step = 2**model.net.depth
    size = {"min": 2 * _halo(model) + step, "step": step}
    scale = {"axes": ["y", "x"], "min_percentile": LOW_PERCENTILE, "max_percentile": HIGH_PERCENTILE, "eps": EPS}
    return {
        "id": "picture",
        "description": "A picture; a grey one is given in all channels.",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": [f"channel{n}" for n in range(model.card.in_channels)]},
            *({"type": "space", "id": axis, "size": size} for axis in "yx"),
        ],
        "test_tensor": test,
        "data": {"type": "float32"},
        "preprocessing": [
            {"id": "scale_range", "kwargs": scale},
            {"id": "clip", "kwargs": {"min": LOWEST, "max": HIGHEST}},
            *([{"id": "scale_linear", "kwargs": {"gain": -1, "offset": 1}}] if model.card.is_inverted else []),
        ],
    }


def _output(model: Model, test: dict[str, str]) -> dict[str, Any]:
    """The logits."""
    names = [re.sub(r"\W", "_", name) for name in outputs_of(model)]
    size = {axis: {"tensor_id": "picture", "axis_id": axis} for axis in "yx"}
    return {
        "id": "logits",
        "description": "What each channel is stands in the documentation.",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": names},
            *({"type": "space", "id": axis, "size": size[axis], "halo": _halo(model)} for axis in "yx"),
        ],
        "test_tensor": test,
        "data": {"type": "float32"},
    }


def outputs_of(model: Model) -> tuple[str, ...]:
    """What each channel of the output is."""
    if model.card.kind == "objects":
        return ("foreground_logit", "distance")
    classes, count = model.card.classes, int(model.net.settings["out_channels"])
    return classes if len(classes) == count else tuple(f"class_{n + 1}" for n in range(count))


def _halo(model: Model) -> int:
    """How much of the rim of the output another picture around would change, in whole pixels of the coarsest level."""
    step: int = 2**model.net.depth
    return -(-model.net.reach // step) * step


def _test_pair(model: Model) -> tuple[FloatArray, FloatArray]:
    """A made picture (1, C, Y, X), and the logits that it gives (1, K, Y, X)."""
    made = next(synthetic_pictures(1, side=TEST_SIDE)).image
    raw = 100 * fit_channels(made, model.card.in_channels)
    limits = estimate_limits(raw).inverted() if model.card.is_inverted else estimate_limits(raw)
    with torch.no_grad():
        logits = model.net(torch.from_numpy(normalize(raw, limits))[None])
    return raw[None].astype(np.float32), logits.numpy()


def _npy(values: FloatArray) -> bytes:
    """An array as the content of a .npy file."""
    content = io.BytesIO()
    np.save(content, values, allow_pickle=False)
    return content.getvalue()


def _found(card: ModelCard) -> str:
    """What a model finds, in words."""
    return (
        f"objects of about {card.diameter:g} pixels"
        if card.kind == "objects"
        else "classes: " + ", ".join(card.classes)
    )


def _readme(card: ModelCard) -> str:
    """The page of a package."""
    if card.kind == "objects":
        outputs = (
            "The first channel of the output is the logit of the foreground, the second the distance to the object's"
            " rim (1 in its middle, 0 at its rim). Seeds are the maxima of the distance, and its watershed within the"
            f" foreground gives the objects. Scale the picture first, so that they are about {card.diameter:g} pixels"
            " wide."
        )
    else:
        outputs = f"The channels of the output are the logits of the classes {', '.join(card.classes)}."
    return f"""# {card.name}

A model of U-Net Live, a plugin of napari that learns from corrected masks. It finds {_found(card)}.

{outputs}

`{OURS}` is the model as U-Net Live keeps it, with all that it knows. It gives labels by
`unet-live predict PICTURE -o OUT --model THIS.zip`.

# Trained on

{card.trained_on or "Not recorded."}

# Validation

Look at the masks of your own pictures, and count how many you would correct. `unet-live evaluate` scores them where the
right labels are known.
"""
