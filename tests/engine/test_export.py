"""Models for other tools: what they compute is what ours computes."""

from dataclasses import replace

import openvino
import pytest
import torch

from napari_unet.core.card import ModelCard
from napari_unet.core.errors import ModelError
from napari_unet.engine import export as exporting
from napari_unet.engine.export import (
    export,
    format_of,
    state_with_card,
    write_onnx,
    write_openvino,
    write_pytorch,
    write_torchscript,
)
from napari_unet.nets.model import Model, load_model
from napari_unet.nets.unet import UNet
from tests.engine.conftest import run_torchscript

NETWORK = {"in_channels": 3, "out_channels": 2, "base_channels": 4, "depth": 2}


@pytest.fixture
def model() -> Model:
    """A small model whose BatchNorm has seen something."""
    made = Model.create(ModelCard(name="small", architecture=NETWORK), seed=0, device="cpu")
    random = torch.Generator().manual_seed(0)
    for key, value in made.net.state_dict().items():
        if "running" in key:
            value.copy_(torch.rand(value.shape, generator=random) + 0.5)
    return made


@pytest.fixture
def pictures() -> torch.Tensor:
    """A batch of another size than any that a network was traced with."""
    return torch.rand(3, 3, 36, 52, generator=torch.Generator().manual_seed(1))


def test_torchscript_gives_the_same(model, pictures, tmp_path):
    """The program computes the network's logits for any batch and size."""
    export(model, tmp_path / "net.pt", write_torchscript)
    with torch.no_grad():
        told = run_torchscript(tmp_path / "net.pt", pictures)
        torch.testing.assert_close(told, model.net(pictures), atol=1e-5, rtol=1e-5)


def in_openvino(path, pictures) -> torch.Tensor:
    """What a file gives in OpenVINO, in float32."""
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return torch.from_numpy(compiled([pictures.numpy()])[0])


def test_onnx_gives_the_same(model, pictures, tmp_path):
    """Another program that reads the graph computes the network's logits."""
    export(model, tmp_path / "net.onnx", write_onnx)
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]
    with torch.no_grad():
        torch.testing.assert_close(
            in_openvino(tmp_path / "net.onnx", pictures), model.net(pictures), atol=1e-5, rtol=1e-5
        )


def test_openvino_gives_the_same(model, pictures, tmp_path):
    """So does OpenVINO's own form, in its two files."""
    export(model, tmp_path / "net.xml", write_openvino)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.bin", "net.xml"]
    with torch.no_grad():
        torch.testing.assert_close(
            in_openvino(tmp_path / "net.xml", pictures), model.net(pictures), atol=1e-5, rtol=1e-5
        )


def test_a_state_dict_comes_back(model, tmp_path):
    """Tensors alone, which any program takes; with `load_model` it finds objects again, and knows their size."""
    model.card = replace(model.card, diameter=31.0)
    export(model, tmp_path / "net.pth", write_pytorch)
    again = load_model(tmp_path / "net.pth", device="cpu")
    assert again.card == model.card
    assert all(torch.equal(value, again.net.state_dict()[name]) for name, value in model.net.state_dict().items())
    UNet(**NETWORK).load_state_dict(state_with_card(model))  # it refuses names that are not its own


def test_a_state_dict_whose_card_is_none_is_a_sentence(model, tmp_path):
    """What another program laid there is no card, and is not believed."""
    state = state_with_card(model)
    state._metadata["card"] = "{}"
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(ModelError, match="card is none"):
        load_model(tmp_path / "net.pth", device="cpu")


def test_what_openvino_cannot_hold_is_said(tmp_path):
    """A 3-D network is not written for OpenVINO, and nothing is left behind."""
    deep = Model.create(ModelCard(architecture={**NETWORK, "ndim": 3}), device="cpu")
    with pytest.raises(ModelError, match="onnx"):
        export(deep, tmp_path / "net.xml", write_openvino)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("writer", "package", "extra"), [(write_onnx, "onnx", "export"), (write_openvino, "openvino", "openvino")]
)
def test_a_missing_package_is_named(model, tmp_path, monkeypatch, writer, package, extra):
    """The sentence says what to install, and nothing is written."""
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=rf'{package}: pip install "napari-unet-live\[{extra}\]"'):
        export(model, tmp_path / "net", writer)
    assert list(tmp_path.iterdir()) == []


def test_the_ending_tells_the_format(tmp_path):
    """As other tools name their files; a name without one is a package, and an ending of something else a mistake."""
    names = {"a.onnx": "onnx", "a.PT": "torchscript", "a.xml": "openvino", "a.pth": "pytorch", "a.zip": "bioimageio"}
    assert {name: format_of(tmp_path / name) for name in names} == names
    assert format_of(tmp_path / "a") == "bioimageio"
    with pytest.raises(ModelError, match=r"The ending '\.foo' stands for no format\. Take one of \.zip, \.onnx"):
        format_of(tmp_path / "a.foo")
