"""The network: the paper's and the common code's layers, sizes, reach, and others' weights."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from napari_unet.nets.unet import UNet, settings_of

# --- an independent network: a state dict and a few lines of arithmetic ------------------------

NEW = {"inc": "inc.double_conv", "down": "down{}.maxpool_conv.1.double_conv", "up": "up{}.conv.double_conv"}
OLD = {"inc": "inc.conv.conv", "down": "down{}.mpconv.1.conv", "up": "up{}.conv.conv"}


def foreign_state(*, bilinear, names=NEW, bias=False, channels=(3, 19), base=4, seed=0):
    """Random weights under the names and in the shapes of the common code, four levels deep."""
    random = torch.Generator().manual_seed(seed)
    state = {}

    def put(key, *shape, scale=1.0, shift=0.0):
        state[key] = torch.randn(shape, generator=random) * scale + shift

    def double(name, before, middle, after):
        for place, a, b in ((0, before, middle), (3, middle, after)):
            put(f"{name}.{place}.weight", b, a, 3, 3, scale=(2 / (9 * a)) ** 0.5)
            if bias:
                put(f"{name}.{place}.bias", b, scale=0.3)
            for key, scale, shift in (("weight", 0.2, 1.0), ("bias", 0.2, 0.0), ("running_mean", 0.2, 0.1)):
                put(f"{name}.{place + 1}.{key}", b, scale=scale, shift=shift)
            state[f"{name}.{place + 1}.running_var"] = torch.rand(b, generator=random) + 0.5
            state[f"{name}.{place + 1}.num_batches_tracked"] = torch.tensor(7)

    half = 2 if bilinear else 1
    double(names["inc"], channels[0], base, base)
    for level in range(1, 5):
        out = base * 2**level // (half if level == 4 else 1)
        double(names["down"].format(level), base * 2 ** (level - 1), out, out)
    for level in range(1, 5):
        wide = base * 2 ** (5 - level)
        out = wide // 2 // (half if level < 4 else 1)
        if not bilinear:
            put(f"up{level}.up.weight", wide, wide // 2, 2, 2, scale=wide**-0.5)
            put(f"up{level}.up.bias", wide // 2, scale=0.1)
        double(names["up"].format(level), wide, wide // 2 if bilinear else out, out)
    put("outc.conv.weight", channels[1], base, 1, 1)
    put("outc.conv.bias", channels[1])
    return state


def reference(state, x, names=NEW):
    """What the common code computes from such a state dict."""

    def double(name, x):
        for place in (0, 3):
            x = F.conv2d(x, state[f"{name}.{place}.weight"], state.get(f"{name}.{place}.bias"), padding=1)
            mean, var, weight, shift = (
                state[f"{name}.{place + 1}.{key}"][:, None, None]
                for key in ("running_mean", "running_var", "weight", "bias")
            )
            x = F.relu((x - mean) / torch.sqrt(var + 1e-5) * weight + shift)
        return x

    skips = [double(names["inc"], x)]
    for level in range(1, 5):
        skips.append(double(names["down"].format(level), F.max_pool2d(skips[-1], 2)))
    x = skips.pop()
    for level in range(1, 5):
        if f"up{level}.up.weight" in state:
            x = F.conv_transpose2d(x, state[f"up{level}.up.weight"], state[f"up{level}.up.bias"], stride=2)
        else:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        skip = skips.pop()
        dy, dx = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
        x = F.pad(x, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
        x = double(names["up"].format(level), torch.cat([skip, x], 1))
    return F.conv2d(x, state["outc.conv.weight"], state["outc.conv.bias"])


@pytest.mark.parametrize("bilinear", [False, True])
@pytest.mark.parametrize(("names", "bias"), [(NEW, False), (NEW, True), (OLD, True)])
@pytest.mark.parametrize("size", [(64, 64), (37, 53), (16, 95)])
def test_others_weights_give_the_same_output(bilinear, names, bias, size):
    """A state dict of the seed's or milesial's names loads and gives what their network gives, odd sizes included."""
    state = foreign_state(bilinear=bilinear, names=names, bias=bias)
    net = UNet(3, 19, base_channels=4, bilinear=bilinear).eval()
    net.load_state_dict(state)
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, theirs = net(x), reference(state, x, names)
    assert ours.shape == (2, 19, *size)
    assert theirs.std() > 0.1
    assert (ours - theirs).abs().max() < 1e-5 * max(1, theirs.abs().max())


@pytest.mark.parametrize("bilinear", [False, True])
def test_others_weights_say_which_network_they_need(bilinear):
    """The arguments of the network are read off a foreign state dict, also of one saved under DataParallel."""
    state = {f"module.{key}": value for key, value in foreign_state(bilinear=bilinear, names=OLD).items()}
    settings = settings_of(state)
    expected = {"in_channels": 3, "out_channels": 19, "base_channels": 4, "depth": 4, "ndim": 2}
    assert settings == {**expected, "bilinear": bilinear, "norm": "batch"}
    UNet(**settings).load_state_dict(state)


def test_loading_leaves_others_weights_as_they_were():
    """The state dict that is handed in keeps its names and values."""
    state = foreign_state(bilinear=True, bias=True)
    before = {key: value.clone() for key, value in state.items()}
    UNet(3, 19, base_channels=4, bilinear=True).load_state_dict(state)
    assert state.keys() == before.keys()
    assert all(torch.equal(state[key], before[key]) for key in state)


@pytest.mark.parametrize("spoil", ["missing", "too many", "another shape"])
def test_weights_of_another_network_are_refused(spoil):
    """A key too few, one too many or another shape is an error, not a half-loaded network."""
    state = foreign_state(bilinear=False)
    if spoil == "missing":
        del state["up2.up.weight"]
    elif spoil == "too many":
        state["down5.maxpool_conv.1.double_conv.0.weight"] = torch.zeros(1)
    else:
        state["outc.conv.weight"] = torch.zeros(2, 4, 1, 1)
    with pytest.raises(RuntimeError, match="state_dict"):
        UNet(3, 19, base_channels=4).load_state_dict(state)


# --- sizes ------------------------------------------------------------------------------------


def test_the_seeds_network():
    """UNet(3, 19) has as many parameters as the seed's, and gives 19 channels of the picture's size."""
    net = UNet(3, 19).eval()
    shapes = [v for k, v in foreign_state(bilinear=False, base=64).items() if "running" not in k and "num_" not in k]
    assert sum(p.numel() for p in net.parameters()) == sum(v.numel() for v in shapes) == 31_038_803
    with torch.inference_mode():
        assert net(torch.zeros(1, 3, 224, 224)).shape == (1, 19, 224, 224)


@pytest.mark.parametrize("bilinear", [False, True])
@pytest.mark.parametrize(
    ("norm", "size"),
    [
        *itertools.product(["batch", "group", "none"], [(32, 32), (33, 47), (5, 3), (1, 1)]),
        ("instance", (32, 32)),
        ("instance", (33, 47)),
    ],
)
def test_any_size_goes_in_and_comes_out(bilinear, norm, size):
    """Pictures of any size keep it, even a single pixel (of which InstanceNorm, by its nature, can make nothing)."""
    net = UNet(2, 3, base_channels=12, depth=3, bilinear=bilinear, norm=norm).eval()
    with torch.inference_mode():
        assert net(torch.rand(1, 2, *size)).shape == (1, 3, *size)


@pytest.mark.parametrize("bilinear", [False, True])
@pytest.mark.parametrize("norm", ["batch", "group", "instance", "none"])
def test_volumes(bilinear, norm):
    """With ndim=3 volumes of any size keep it, thin ones too."""
    net = UNet(1, 2, base_channels=4, depth=2, ndim=3, bilinear=bilinear, norm=norm).eval()
    with torch.inference_mode():
        assert net(torch.rand(1, 1, 3, 18, 13)).shape == (1, 2, 3, 18, 13)


def test_the_papers_sizes():
    """With valid convolutions 572 pixels give 388."""
    net = UNet(1, 2, base_channels=2, norm="none", padding="valid", dropout=0.5).eval()
    with torch.inference_mode():
        assert net(torch.zeros(1, 1, 572, 572)).shape == (1, 2, 388, 388)


def test_valid_convolutions_agree_with_padded_ones_inside():
    """The same weights give the same values where the picture's edge is out of reach."""
    valid = UNet(1, 2, base_channels=4, depth=2, norm="none", padding="valid").eval()
    padded = UNet(1, 2, base_channels=4, depth=2, norm="none").eval()
    padded.load_state_dict(valid.state_dict())
    x = torch.randn(1, 1, 92, 108, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        a = valid(x)
        b = padded(x[..., 2:-2, 2:-2])  # pools at the same pixels: two were lost before the first pooling
    assert a.shape == (1, 2, 52, 68)
    assert torch.allclose(a[..., 8:-8, 8:-8], b[..., 26:-26, 26:-26], atol=1e-5)


@pytest.mark.parametrize("depth", [-1, 0, 9, 10**9])
def test_no_network_is_bottomless(depth):
    """A depth that no picture can have is refused at once."""
    with pytest.raises(ValueError, match="depth"):
        UNet(depth=depth)


@pytest.mark.parametrize("settings", [{"ndim": 1}, {"ndim": 4}, {"base_channels": 0}, {"in_channels": -1}])
def test_no_network_is_without_axes_or_channels(settings):
    """It is refused when it is made, not when it is used."""
    with pytest.raises(ValueError, match="a U-Net of"):
        UNet(**settings)


@pytest.mark.parametrize("name", ["in_channels", "out_channels", "base_channels", "depth", "ndim"])
@pytest.mark.parametrize("value", ["x", 2.0, None, [2]])
def test_no_network_is_made_of_what_is_no_number(name, value):
    """The sentence names the argument; torch's own speaks of anything else. numpy's whole numbers are some, too."""
    with pytest.raises(TypeError, match=rf"Give {name} as a whole number\. This is of type {type(value).__name__}"):
        UNet(**{name: value})
    assert UNet(**{"base_channels": 4, name: np.int64(2)}).settings[name] == 2


@pytest.mark.parametrize("settings", [{"norm": "layer"}, {"norm": 1}, {"padding": "reflect"}, {"padding": ["same"]}])
def test_no_network_has_a_layer_that_nobody_knows(settings):
    """An unknown padding was taken for 'valid'."""
    with pytest.raises(ValueError, match="it must be one of"):
        UNet(**settings)


# --- what it is made of -----------------------------------------------------------------------


def positive(net):
    """The same network with weights that let every input through: nothing cancels, no ReLU is dead."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(0.1)
    return net.eval()


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_reach_is_how_far_the_network_sees(depth):
    """Of an aligned block everything that lies within `reach` is felt, up to 2 pixels, and nothing beyond."""
    net, step = positive(UNet(base_channels=2, depth=depth, norm="none")), 2**depth
    start = 8 * step
    x = torch.rand(1, 1, 17 * step, 17 * step, requires_grad=True)
    net(x)[..., start : start + step, start : start + step].sum().backward()
    felt = x.grad[0, 0].nonzero()
    assert net.reach - 2 <= start - felt.min() <= net.reach
    assert net.reach - 2 <= felt.max() - (start + step - 1) <= net.reach


def test_dropout_acts_in_training_alone():
    """Dropout at the bottom changes what a training network gives, and nothing else."""
    net = UNet(base_channels=4, depth=2, norm="none", dropout=0.5)
    x = torch.rand(1, 1, 32, 32)
    torch.manual_seed(0)
    with torch.no_grad():
        assert not torch.equal(net.train()(x), net(x))
        assert torch.equal(net.eval()(x), net(x))


def test_he_initialisation_keeps_the_signal():
    """3x3 convolutions start with variance 2 / fan-in and no bias, so that no layer fades or blows up the signal."""
    torch.manual_seed(0)
    net = UNet(base_channels=32, depth=2, norm="none")
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            fan_in = module.in_channels * 9
            assert float(module.weight.detach().var()) == pytest.approx(2 / fan_in, rel=0.3)
            assert not module.bias.any()


def test_normalised_convolutions_have_no_bias():
    """A bias before a normalisation would do nothing, so there is none."""
    for norm, expected in (("batch", False), ("group", False), ("instance", False), ("none", True)):
        net = UNet(base_channels=4, depth=1, norm=norm)
        biases = {m.bias is not None for m in net.encoders.modules() if isinstance(m, nn.Conv2d)}
        assert biases == {expected}


def test_settings_build_the_same_network_again():
    """What a network says of itself is enough to build one that takes its weights, 2-D and 3-D."""
    choices = itertools.product((2, 3), (False, True), ("batch", "none"))
    for ndim, bilinear, norm in choices:
        net = UNet(2, 5, base_channels=4, depth=2, ndim=ndim, bilinear=bilinear, norm=norm)
        UNet(**net.settings).load_state_dict(net.state_dict())
        UNet(**settings_of(net.state_dict())).load_state_dict(net.state_dict())


def test_frozen_statistics_stay():
    """After `freeze_norm` a training pass leaves BatchNorm's statistics alone, though its weights learn."""
    net = UNet(base_channels=4, depth=2).train()
    net.freeze_norm()
    before = {k: v.clone() for k, v in net.state_dict().items() if "running" in k or "num_" in k}
    net(torch.rand(2, 1, 16, 16) * 5).sum().backward()
    after = net.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())
    assert all(p.grad is not None for p in net.parameters())
