"""Models as files: what goes in comes out, and nothing else is ever opened."""

import json
import os
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch

from napari_unet.core.card import SHIPPED, ModelCard
from napari_unet.core.errors import DeviceError, ModelError
from napari_unet.nets.model import Model, load_model, model_from_bytes, pick_device, shipped_models
from napari_unet.nets.unet import UNet
from napari_unet.nets.weights import rounded

SMALL = {"in_channels": 2, "out_channels": 2, "base_channels": 4, "depth": 2}


def make(seed=0, **card) -> Model:
    """A small model with random weights and statistics."""
    model = Model.create(ModelCard(name="small", architecture=SMALL, **card), seed=seed, device="cpu")
    for key, value in model.net.state_dict().items():
        if "running" in key:
            value.copy_(torch.rand(value.shape, generator=torch.Generator().manual_seed(seed)) + 0.5)
    return model


def same_weights(a, b) -> bool:
    """Whether two state dicts are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


def snapshot(model):
    """A copy of a model's weights."""
    return {key: value.clone() for key, value in model.net.state_dict().items()}


# --- safetensors ------------------------------------------------------------------------------


def test_a_model_comes_back_with_its_card(tmp_path):
    """A saved model has the same card and the weights that `rounded` gives, bit for bit."""
    model = make(diameter=31.5, trained_on="test", parent="p", scores={"ap50": 0.5})
    model.save(tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors", device="cpu")
    assert again.card == model.card
    assert same_weights(again.net.state_dict(), rounded(model.net.state_dict()))
    assert not same_weights(again.net.state_dict(), model.net.state_dict())
    assert again.version == 0
    assert not again.net.training
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_a_model_that_was_read_is_written_as_it_was():
    """Rounding happens once: a file read and written again is the same file."""
    data = make().to_bytes()
    model = model_from_bytes(data)
    assert model.to_bytes() == data
    assert rounded(model.net.state_dict()).keys() == model.net.state_dict().keys()


def test_weights_of_a_file_are_the_models_own():
    """Changing a loaded model's weights changes neither the bytes it came from nor another model of them."""
    data = make().to_bytes()
    one, other = model_from_bytes(data), model_from_bytes(data)
    before = snapshot(other)
    with torch.no_grad():
        for value in one.net.state_dict().values():
            value.zero_()
    assert same_weights(other.net.state_dict(), before)
    assert same_weights(model_from_bytes(data).net.state_dict(), before)


def test_a_loaded_model_can_learn():
    """Its parameters take gradients."""
    assert all(p.requires_grad for p in model_from_bytes(make().to_bytes()).net.parameters())


def test_the_fingerprint_is_of_weights_and_card():
    """Equal models have equal fingerprints; other weights or another card change it."""
    assert make().sha256() == make().sha256()
    assert len({make().sha256(), make(seed=1).sha256(), make(diameter=9.0).sha256()}) == 3


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    """A save that breaks off in the middle does not touch the model that was there."""
    path = tmp_path / "m.safetensors"
    make().save(path)
    before = path.read_bytes()

    def break_off(self):
        raise OSError("disk full")

    (tmp_path / "m.part").write_text("another's")
    monkeypatch.setattr(os, "fsync", break_off)
    with pytest.raises(OSError, match="disk full"):
        make(seed=1).save(path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.part", "m.safetensors"]


def test_a_model_is_saved_only_where_it_can_be_loaded_from(tmp_path):
    """Another ending, a folder, and a file in a folder that is missing are refused, and nothing is written."""
    for name in ("", "mine", "mine.pth"):
        with pytest.raises(ModelError, match=r"A model is a \.safetensors file, and '.*' is none"):
            make().save(tmp_path / name)
    with pytest.raises(ModelError, match=r"There is no folder '.*new'"):
        make().save(tmp_path / "new" / "mine.safetensors")
    assert not list(tmp_path.iterdir())


def with_header(header, body=b"") -> bytes:
    """A file that begins like safetensors."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def with_card(tensors=None, **values) -> bytes:
    """A safetensors file with a card of these values."""
    card = json.dumps({"format": 1, "kind": "objects", **values})
    return safetensors.torch.save(tensors or {"a": torch.zeros(1)}, metadata={"card": card})


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "damaged"),
        (b"12345678", "damaged"),
        (b"\xff" * 64, "damaged"),
        (struct.pack("<Q", 2**40) + b"{}", "damaged"),
        (with_header(b"not json"), "damaged"),
        (with_header(b"[" * 50_000), "damaged"),
        (with_header([]), "damaged"),
        (with_header({}), "another program"),
        (with_header({"__metadata__": ["card"]}), "another program"),
        (with_header({"__metadata__": {"card": 5}}), "another program"),
        (safetensors.torch.save({"a": torch.zeros(3)}), "another program"),
        (safetensors.torch.save({"a": torch.zeros(3)}, metadata={"format": "pt"}), "another program"),
        (with_header({"__metadata__": {"card": "{}"}}), "none of U-Net Live"),
        (with_card(), "damaged, or not a model"),
        (with_card(architecture={"depth": 10**9}), "damaged, or not a model"),
        (with_card(architecture={"depth": "4"}), "damaged, or not a model"),
        (with_card(architecture={"base_channels": 2**20}), "damaged, or not a model"),
        (with_card(architecture={"base_channels": 2**60}), "damaged, or not a model"),
        (with_card(architecture={"in_channels": -1}), "damaged, or not a model"),
        (with_card(architecture={"ndim": 7}), "damaged, or not a model"),
        (with_card(architecture={"norm": "odd"}), "damaged, or not a model"),
        (with_card(architecture={"colour": "red"}), "damaged, or not a model"),
        (with_card(format=2), "newer U-Net Live"),
    ],
)
def test_what_is_no_model_is_a_sentence(data, sentence):
    """Damaged, foreign, newer and lying files are refused with one sentence, before any memory is taken."""
    with pytest.raises(ModelError, match=sentence) as caught:
        model_from_bytes(data, name="m.safetensors")
    assert len(str(caught.value)) < 300


def test_a_truncated_model_is_a_sentence():
    """Wherever a file was cut off, it is refused."""
    data = make().to_bytes()
    for length in [*range(0, 400, 37), *range(400, len(data), 4001), len(data) - 1]:
        with pytest.raises(ModelError):
            model_from_bytes(data[:length])


def test_weights_that_are_no_numbers_are_refused():
    """A file whose training went wrong says so when it is loaded."""
    model = make()
    model.net.head.bias.data[0] = torch.nan
    with pytest.raises(ModelError, match="not numbers"):
        model_from_bytes(model.to_bytes())


@pytest.mark.parametrize(
    ("kind", "settings", "sentence"),
    [("objects", {"out_channels": 3}, "2 channels"), ("classes", {"padding": "valid"}, "smaller than the picture")],
)
def test_a_network_that_gives_no_masks_is_no_model(kind, settings, sentence):
    """A network must give what its card promises, of the picture's size."""
    with pytest.raises(ModelError, match=sentence):
        Model(UNet(**SMALL | settings), ModelCard(kind=kind))


# --- state dicts of others --------------------------------------------------------------------


def test_a_plain_state_dict_is_a_model_of_classes(tmp_path):
    """A .pth of tensors alone is read as classes, with one name for each output."""
    net = UNet(3, 4, base_channels=4, depth=3, bilinear=True).eval()
    torch.save({**net.state_dict(), "mask_values": [0, 1, 2, 3]}, tmp_path / "carvana.PTH")
    model = load_model(tmp_path / "carvana.PTH", device="cpu")
    assert (model.card.name, model.card.kind) == ("carvana", "classes")
    assert model.card.classes == ("background", "class 1", "class 2", "class 3")
    assert model.card.in_channels == 3
    x = torch.rand(1, 3, 20, 24)
    assert torch.allclose(model.net(x), net(x), atol=1e-5)


def test_one_output_is_two_classes(tmp_path):
    """A binary network of one output has a background and one class."""
    torch.save(UNet(1, 1, base_channels=4, depth=2).state_dict(), tmp_path / "m.pt")
    assert load_model(tmp_path / "m.pt", device="cpu").card.classes == ("background", "class 1")


class Bomb:
    """Goes off when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("wrap", [lambda bomb: bomb, lambda bomb: {"encoders.0.0.weight": bomb}, lambda bomb: [bomb]])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_bomb_does_not_go_off(tmp_path, wrap, zipped):
    """A .pth that would run code is refused, and the code is not run."""
    mark = tmp_path / "boom"
    torch.save(wrap(Bomb(mark)), tmp_path / "bomb.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match="plain state dict, and nothing else is ever opened"):
        load_model(tmp_path / "bomb.pth", device="cpu")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([torch.zeros(1)], "more than tensors"),
        ({"epoch": 3, "net": {"a": torch.zeros(1)}}, "more than tensors"),
        ({}, "no U-Net of the seed's"),
        ({3: torch.zeros(1)}, "no U-Net of the seed's"),
        (
            {k: v * torch.nan for k, v in UNet(1, 2, base_channels=4).state_dict().items()},
            "values that are not numbers",
        ),
        ({"a": torch.zeros(1)}, "no U-Net of the seed's"),
        ({"inc.double_conv.0.weight": torch.zeros(4, 1, 3, 3)}, "no U-Net of the seed's"),
        ({"inc.double_conv.0.weight": torch.zeros(1).expand(2**20, 2**20, 3, 3)}, "more weights than it holds"),
    ],
)
def test_other_contents_of_a_pth_are_a_sentence(tmp_path, content, sentence):
    """Checkpoints, lists, other networks and tensors of pretended size are refused with one sentence."""
    torch.save(content, tmp_path / "m.pth")
    with pytest.raises(ModelError, match=sentence):
        load_model(tmp_path / "m.pth", device="cpu")


def test_garbage_in_a_pth_is_a_sentence(tmp_path):
    """A .pth that torch cannot read is refused."""
    (tmp_path / "m.pth").write_bytes(bytes(range(256)))
    with pytest.raises(ModelError, match="plain state dict"):
        load_model(tmp_path / "m.pth", device="cpu")


# --- names and devices ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nothing", "no model 'nothing'. Shipped are: .*; or name a file"),
        ("", "no model ''"),
        (".", "no model"),
        (None, "no model 'None'"),
        ("m.safetensors", "no model"),
        (__file__, "is no model: a model is a .safetensors or a .pth file"),
    ],
)
def test_what_is_not_there_is_a_sentence(tmp_path, monkeypatch, name, sentence):
    """A name that is neither shipped nor a file, and a file of another kind, are refused."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=sentence):
        load_model(name, device="cpu")


@pytest.mark.parametrize("name", sorted(shipped_models()))
def test_shipped_models_load_by_name(name):
    """Every model in the package loads by its name and is small enough to ship."""
    model = load_model(name, device="cpu")
    assert model.card.trained_on
    assert shipped_models()[name].stat().st_size < 16e6


@pytest.mark.parametrize(("name", "count"), [("classes", 2), ("classes3", 3), ("classes9", 9)])
def test_classes_begin_as_the_foreground_of_the_generalist(name, count):
    """Before anything is learnt, the background is as likely as it was, and all other classes are alike."""
    generalist, model = load_model(device="cpu"), load_model(name, device="cpu")
    assert (model.card.kind, len(model.card.classes), model.card.name) == ("classes", count, name)
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        foreground = torch.sigmoid(generalist.net(x)[:, 0])
        classes = torch.softmax(model.net(x), 1)
    assert torch.allclose(1 - classes[:, 0], foreground, atol=1e-4)
    assert torch.allclose(classes[:, 1], classes[:, -1], atol=1e-5)
    assert model_from_bytes(model.to_bytes()).card == model.card


def test_from_scratch_knows_nothing():
    """The generalist's network with other weights, the same each time."""
    generalist, scratch, again = (load_model(n, device="cpu") for n in ("default", "scratch", "scratch"))
    assert scratch.card.architecture == generalist.card.architecture
    states = [model.net.state_dict() for model in (generalist, scratch, again)]
    assert not torch.equal(states[0]["head.weight"], states[1]["head.weight"])
    assert all(torch.equal(states[1][k], states[2][k]) for k in states[1])


def test_every_name_that_is_shown_can_be_loaded():
    """The list that the dock shows holds no dead name, and models of two to nine classes."""
    assert all(load_model(name, device="cpu") for name in SHIPPED)
    assert sum(name.startswith("classes") for name in SHIPPED) == 8


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:²", "cpu:1", "cuda:999", "meta", None])
def test_no_such_device_is_a_sentence(name):
    """Names that are no device, and devices that are not here, are refused with what to write instead."""
    with pytest.raises(DeviceError, match="auto"):
        pick_device(name)


def test_devices_by_name():
    """The processor is always there, and 'auto' is something that is there."""
    assert pick_device("cpu").type == pick_device("cpu:0").type == "cpu"
    assert pick_device(pick_device("auto").type).type == pick_device("auto").type


# --- weights that change ----------------------------------------------------------------------


def test_a_copy_is_its_own():
    """A copy has the same weights, card and version; changing one leaves the other."""
    model = make()
    model.version = 3
    other = model.copy()
    assert same_weights(other.net.state_dict(), model.net.state_dict())
    assert (other.card, other.version, other.device) == (model.card, 3, model.device)
    before = snapshot(model)
    other.replace_weights(make(seed=5).net.state_dict())
    assert same_weights(model.net.state_dict(), before)


def test_new_weights_count_the_version_up():
    """Weights that take over are those that were given, and the version is one higher, or the one that is named."""
    model, other = make(), make(seed=1)
    model.replace_weights(other.net.state_dict())
    assert same_weights(model.net.state_dict(), other.net.state_dict())
    assert model.version == 1
    model.replace_weights(other.net.state_dict(), version=7)
    assert model.version == 7


@pytest.mark.parametrize("spoil", ["nan", "inf", "shape", "missing", "another name"])
def test_weights_that_do_not_fit_stay_outside(spoil):
    """Weights that are not finite or of another network are refused; the old ones and their version stay."""
    model, state = make(), dict(make(seed=1).net.state_dict())
    before = snapshot(model)
    if spoil in ("nan", "inf"):
        state["encoders.1.1.running_var"] = torch.full_like(state["encoders.1.1.running_var"], float(spoil))
    elif spoil == "shape":
        state["head.weight"] = torch.zeros(3, 4, 1, 1)
    else:
        value = state.pop("head.weight")
        if spoil == "another name":
            state["outc.conv.weight"] = value
    with pytest.raises(ModelError, match="old ones stay in use"):
        model.replace_weights(state)
    assert same_weights(model.net.state_dict(), before)
    assert model.version == 0


def test_the_same_seed_makes_the_same_model():
    """Random weights depend on the seed alone, and drawing them leaves torch's own random numbers as they were."""
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    one, other = make(), make()
    assert torch.equal(torch.rand(3), expected)
    assert same_weights(one.net.state_dict(), other.net.state_dict())
    assert not same_weights(one.net.state_dict(), make(seed=1).net.state_dict())
