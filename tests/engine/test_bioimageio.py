"""Packages of bioimage.io: they say what their files are, and the files do what they say."""

import hashlib
import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unet.core.card import ModelCard
from napari_unet.core.errors import ModelError
from napari_unet.engine.bioimageio import EPS, write_package
from napari_unet.nets.model import Model, load_model
from tests.engine.conftest import run_torchscript

NETWORK = {"in_channels": 3, "out_channels": 2, "base_channels": 4, "depth": 2}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The path of a package, and the model in it."""
    model = Model.create(ModelCard(name="small", architecture=NETWORK, diameter=17.0), seed=0, device="cpu")
    path = tmp_path_factory.mktemp("package") / "small.zip"
    write_package(model, path)
    return path, model


def contents(path):
    """The description, and the files."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    return json.loads(files.pop("bioimageio.yaml")), files


def named_in(description):
    """Every file that a description names, with its fingerprint."""
    if isinstance(description, dict):
        if "source" in description:
            yield description["source"], description["sha256"]
        for value in description.values():
            yield from named_in(value)
    elif isinstance(description, list):
        for value in description:
            yield from named_in(value)


def test_each_file_is_named_with_its_fingerprint(package):
    """What is in the package is in the description, and the other way round."""
    description, files = contents(package[0])
    assert dict(named_in(description)) == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


@pytest.mark.parametrize("is_inverted", [False, True])
def test_the_program_gives_what_the_package_promises(package, tmp_path, is_inverted):
    """The test picture, prepared as the description says, gives the test output; inverted, if so it was learnt."""
    path, model = package
    if is_inverted:
        path, model = tmp_path / "inverted.zip", model.copy()
        model.card = replace(model.card, is_inverted=True)
        write_package(model, path)
    description, files = contents(path)
    picture, logits = (np.load(io.BytesIO(files[name]), allow_pickle=False) for name in ("picture.npy", "logits.npy"))
    scale, clip, *inversion = (step["kwargs"] for step in description["inputs"][0]["preprocessing"])
    assert len(inversion) == is_inverted
    low, high = (
        np.percentile(picture, scale[f"{end}_percentile"], axis=(2, 3), keepdims=True) for end in ("min", "max")
    )
    prepared = np.clip((picture - low) / (high - low + EPS), clip["min"], clip["max"])
    for step in inversion:
        prepared = step["gain"] * prepared + step["offset"]
    told = run_torchscript(io.BytesIO(files["weights.pt"]), torch.from_numpy(prepared.astype(np.float32)))
    np.testing.assert_allclose(told.numpy(), logits, atol=1e-4)
    assert float(np.ptp(logits)) > 0.01


def test_sizes_are_those_that_the_network_takes(package):
    """The smallest picture and its steps are multiples of the coarsest pixel, and more than the halo comes out."""
    description, _ = contents(package[0])
    size = description["inputs"][0]["axes"][2]["size"]
    halo = description["outputs"][0]["axes"][2]["halo"]
    assert size == {"min": 2 * halo + 4, "step": 4}
    assert halo >= package[1].net.reach


def test_a_package_is_a_model_of_ours(package):
    """It loads as what it was made of."""
    assert load_model(package[0], device="cpu").to_bytes() == package[1].to_bytes()


def test_classes_are_named(tmp_path):
    """Channels of a model of classes bear their names."""
    card = ModelCard(kind="classes", classes=("background", "living cell"), architecture=NETWORK)
    write_package(Model.create(card, device="cpu"), tmp_path / "p.zip")
    description, _ = contents(tmp_path / "p.zip")
    assert description["outputs"][0]["axes"][1]["channel_names"] == ["background", "living_cell"]


def test_a_3d_model_is_refused(tmp_path):
    """One sentence says what to do instead."""
    deep = Model.create(ModelCard(architecture={**NETWORK, "ndim": 3}), device="cpu")
    with pytest.raises(ModelError, match="onnx"):
        write_package(deep, tmp_path / "p.zip")
