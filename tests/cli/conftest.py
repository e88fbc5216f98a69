"""A tiny model, two labelled pictures, and the command line in this process."""

import sys

import numpy as np
import pytest
import tifffile
import torch

from napari_unet import cli
from napari_unet.core.card import ModelCard
from napari_unet.nets.model import Model


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A tiny untrained model in a file: no shipped weights are needed."""
    architecture = {"in_channels": 3, "out_channels": 2, "base_channels": 4, "depth": 2}
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    Model.create(ModelCard(name="tiny", architecture=architecture), seed=0, device="cpu").save(path)
    return path


@pytest.fixture
def unet_live(monkeypatch, capsys):
    """Function that runs the command line in this process: (exit code, stdout, stderr)."""
    threads = torch.get_num_threads()

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["unet-live", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.run(cli.app)
        said = capsys.readouterr()
        return end.value.code, said.out, said.err

    yield run
    torch.set_num_threads(threads)


def discs(seed=0, side=64):
    """A picture of bright discs (Y, X), uint8, and its labels."""
    y, x = np.mgrid[:side, :side]
    labels = np.zeros((side, side), np.uint16)
    for number, (cy, cx) in enumerate([(14, 14), (14, 46), (44, 20), (46, 48)], start=1):
        labels[(y - cy) ** 2 + (x - cx) ** 2 < 64] = number
    noise = np.random.default_rng(seed).normal(0, 8, labels.shape)
    return (40 + 120 * (labels > 0) + noise).clip(0, 255).astype(np.uint8), labels


@pytest.fixture
def folders(tmp_path):
    """Folders of two pictures and of their labels."""
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    for seed, name in enumerate("ab"):
        image, truth = discs(seed)
        tifffile.imwrite(images / f"{name}.tif", image)
        tifffile.imwrite(labels / f"{name}.tif", truth)
    return images, labels


def assert_refused(result, *words):
    """Exit code 2, and one sentence on stderr that holds these words."""
    code, out, err = result
    assert (code, out) == (2, ""), err
    assert err.count("\n") == 1, err
    assert err.endswith(".\n")
    assert "Traceback" not in err
    for word in words:
        assert word in err
