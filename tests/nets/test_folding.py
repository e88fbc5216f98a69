"""A network without its normalisation layers."""

import pytest
import torch

from napari_unet.nets.folding import fold_norm
from napari_unet.nets.unet import UNet


def trained(**settings):
    """A network whose BatchNorm has seen something."""
    torch.manual_seed(0)
    net = UNet(2, 3, base_channels=8, **settings).train()
    for _ in range(3):
        net(torch.randn(2, 2, *(32,) * net.ndim) * 3 + 1)
    return net.eval()


@pytest.mark.parametrize("settings", [{}, {"bilinear": True}, {"ndim": 3, "depth": 2}])
def test_folded_gives_the_same(settings):
    """The outputs agree to rounding, and nothing of the old network changed."""
    net = trained(**settings)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x = torch.randn(1, 2, *(32,) * net.ndim)
    folded = fold_norm(net)
    with torch.no_grad():
        assert torch.allclose(folded(x), net(x), atol=1e-4)
    assert folded.settings == {**net.settings, "norm": "none"}
    assert not any(isinstance(m, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d) for m in folded.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("norm", ["group", "instance", "none"])
def test_others_stay(norm):
    """A normalisation that depends on the picture cannot be folded."""
    net = trained(norm=norm)
    assert fold_norm(net, torch.bfloat16) is net
    assert all(tensor.dtype == torch.float32 for tensor in net.parameters())


def test_folded_weights_are_rounded_after_the_folding():
    """The short network has the folded weights in its number type; the old one stays float32."""
    net = trained()
    folded, short = fold_norm(net).state_dict(), fold_norm(net, torch.bfloat16).state_dict()
    assert all(torch.equal(short[name], value.bfloat16()) for name, value in folded.items())
    assert all(tensor.dtype == torch.float32 for tensor in net.parameters())
