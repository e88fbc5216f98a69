"""What runs where."""

from dataclasses import replace

import pytest
import torch

from napari_unet.core.errors import DeviceError
from napari_unet.engine import device
from napari_unet.engine.device import Backend, backend_for, device_names, usable_cores
from napari_unet.nets.model import pick_device


@pytest.mark.parametrize(("quick", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_bfloat16_where_the_processor_has_it(monkeypatch, quick, dtype):
    """Convolutions run in bfloat16 on processors that multiply it, in float32 on others."""
    monkeypatch.setattr(device, "_multiplies_bfloat16", lambda: quick)
    device._number_type.cache_clear()
    backend = backend_for("cpu")
    assert backend.dtype == dtype
    with backend.autocast():
        assert torch.nn.functional.conv2d(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 3, 3)).dtype == dtype


@pytest.mark.parametrize(
    ("cores", "line"), [(1, "CPU, 1 core, float32"), (2, "CPU, 2 cores, float32"), (16, "CPU, 16 cores, float32")]
)
def test_the_line_says_what_runs_where(monkeypatch, cores, line):
    """The processor's line names its cores and the number type."""
    monkeypatch.setattr(device, "usable_cores", lambda: cores)
    backend = Backend(torch.device("cpu"), torch.float32)
    assert backend.line == line
    assert replace(backend, form="openvino").line == f"{line}, OpenVINO"


@pytest.mark.parametrize(("installed", "form"), [(True, "openvino"), (False, "torch")])
def test_openvino_is_used_where_it_is_installed(monkeypatch, installed, form):
    """As long as nothing was measured, the extra is taken on the processor, and on no other device."""
    monkeypatch.setattr(device, "has_openvino", lambda: installed)
    assert backend_for("cpu").form == form
    assert backend_for(torch.device("mps")).form == "torch"


def test_the_line_of_a_graphics_card(monkeypatch):
    """A CUDA device's line names the card."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda which: "NVIDIA H200")
    assert Backend(torch.device("cuda"), torch.bfloat16).line == "CUDA: NVIDIA H200, bfloat16"
    assert Backend(torch.device("mps"), torch.float32).line == "Apple GPU, float32"


def test_tiles_while_nobody_watches_are_larger():
    """A tile in view is quickly done; one in the dark wastes less on its halo."""
    backend = backend_for("cpu")
    assert 0 < backend.core < backend.large_core


def test_every_name_that_is_offered_is_taken():
    """The names on offer are devices of this computer, the processor among them."""
    assert device_names()[-1] == "cpu"
    for name in device_names():
        assert backend_for(name).device == pick_device(name)
    assert backend_for(torch.device("cpu")).device.type == "cpu"


def test_a_device_that_is_not_here_is_a_sentence():
    """Asking for it says what to write instead."""
    with pytest.raises(DeviceError, match="--device auto"):
        backend_for("cuda:99")


def test_there_is_a_core():
    """At least one core can be used."""
    assert usable_cores() >= 1


def test_a_system_without_proc_has_no_bfloat16(monkeypatch):
    """Where the processor's flags cannot be read, float32 is taken."""
    monkeypatch.undo()

    def missing(self, **_):
        raise FileNotFoundError

    monkeypatch.setattr(device.Path, "read_text", missing)
    assert not device._multiplies_bfloat16()
