"""The network as it runs on a CUDA device; all but the recording runs on every processor, too."""

from dataclasses import replace

import pytest
import torch

from napari_unet.core.card import ModelCard
from napari_unet.engine import cuda
from napari_unet.engine import forward as forwarding
from napari_unet.engine.cuda import CudaRun, ShortNet
from napari_unet.engine.device import Backend, backend_for
from napari_unet.engine.forward import UnwantedError, forward, forward_with_features, while_wanted
from napari_unet.nets.folding import fold_norm
from napari_unet.nets.model import Model

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def made(device="cpu", base_channels=8, in_channels=3):
    """A network of the usual kind, with statistics as if it had been trained."""
    architecture = {"in_channels": in_channels, "out_channels": 2, "base_channels": base_channels, "depth": 3}
    model = Model.create(ModelCard("t", architecture=architecture), seed=0, device="cpu")
    for norm in model.net.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.2, generator=torch.Generator().manual_seed(1))
            norm.running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(2))
    return Model(model.net, model.card, device=device)


def picture(*size, device="cpu", seed=0):
    """Noise."""
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed)).to(device)


@pytest.mark.parametrize("base_channels", [8, 6])
@pytest.mark.parametrize("size", [(1, 3, 8, 8), (2, 3, 40, 72)])
def test_the_short_network_gives_what_the_network_gives(base_channels, size):
    """In float32 its logits and features are those of the network, whatever the size, the channels in eights or not."""
    model, x = made(base_channels=base_channels), picture(*size)
    with torch.no_grad():
        logits, features = CudaRun(fold_norm(model.net), torch.float32)(x, features=True)
        assert torch.allclose(logits, model.net(x), atol=1e-4)
        assert torch.allclose(features, model.net.features(x), atol=1e-4)


def test_its_number_type_is_short():
    """In bfloat16 it is near the network, its features are bfloat16 and its logits float32."""
    model, x = made(), picture(1, 3, 32, 32)
    net = ShortNet(fold_norm(model.net), torch.bfloat16)
    with torch.inference_mode():
        logits, features = net(net.laid_out(x))
        wanted = model.net(x)
    assert (logits.dtype, features.dtype) == (torch.float32, torch.bfloat16)
    assert (logits - wanted).abs().max() < 0.05 * wanted.abs().max()


def test_the_networks_own_weights_stay():
    """A network without normalisation, which needs no folding, is not changed by it."""
    settings = {"in_channels": 3, "out_channels": 2, "base_channels": 8, "depth": 2, "norm": "none"}
    model = Model.create(ModelCard("n", architecture=settings), seed=0, device="cpu")
    before = {name: value.clone() for name, value in model.net.state_dict().items()}
    CudaRun(fold_norm(model.net), torch.bfloat16)(picture(1, 3, 8, 8))
    assert all(torch.equal(value, before[name]) for name, value in model.net.state_dict().items())


class Replay:
    """A graph on a processor: it computes again."""

    def __init__(self, net, x, outputs, *, is_wrong=False):
        self.net, self.x, self.outputs, self.is_wrong = net, x, outputs, is_wrong

    def replay(self):
        for output, value in zip(self.outputs, self.net(self.x), strict=True):
            output.copy_(value + 5 * self.is_wrong)


@pytest.fixture
def recorded(monkeypatch):
    """Record on the processor; how: 'right', 'wrong' (a graph that gives something else) or 'fails'."""

    def make(how):
        model, made_of = made(), []

        def record(self, x):
            made_of.append(tuple(x.shape[2:]))
            if how == "fails":
                raise torch.OutOfMemoryError("no memory for a graph")
            x = x.clone(memory_format=torch.channels_last)
            outputs = self._net(x)
            return cuda._Recorded(Replay(self._net, x, outputs, is_wrong=how == "wrong"), x, outputs)

        monkeypatch.setattr(cuda, "_can_record", lambda x: True)
        monkeypatch.setattr(CudaRun, "_record", record)
        return model, CudaRun(fold_norm(model.net), torch.float32), made_of

    return make


def test_a_cuda_device_runs_it(monkeypatch):
    """What is chosen for a CUDA device runs so: with new weights anew, and not if nobody wants it; float32 does not."""
    short = Backend(torch.device("cuda"), torch.bfloat16)
    made_of, model, x = [], made(), picture(1, 3, 16, 16)
    monkeypatch.setattr(forwarding, "CudaRun", lambda *args: made_of.append(args[1]) or CudaRun(*args))
    for seed in (0, 5):
        model.replace_weights(Model.create(model.card, seed=seed, device="cpu").net.state_dict())
        with torch.no_grad():
            wanted = model.net(x)
        for _ in range(2):
            assert (forward(model, x, backend=short) - wanted).abs().max() < 0.05 * wanted.abs().max()
    assert made_of == [torch.bfloat16] * 2
    with pytest.raises(UnwantedError), while_wanted(lambda: False):
        forward(model, x, backend=short)
    assert torch.allclose(forward(model, x, backend=replace(short, dtype=torch.float32)), wanted, atol=1e-4)
    assert len(made_of) == 2


@pytest.mark.parametrize("how", ["right", "wrong", "fails"])
def test_what_comes_again_is_recorded_once(recorded, how):
    """Before and after it, and if it goes wrong, the outputs are the network's and each caller's own."""
    model, run, made_of = recorded(how)
    pictures = [picture(1, 3, 16, 24, seed=seed) for seed in range(2 * cuda.AGAIN)]
    found = [run(x, features=True) for x in pictures]
    for x, (logits, features) in zip(pictures, found, strict=True):
        with torch.no_grad():
            assert torch.allclose(logits, model.net(x), atol=1e-4)
            assert torch.allclose(features, model.net.features(x), atol=1e-4)
    assert made_of == [(16, 24)]
    assert len(run._recorded) == (how == "right")


def test_the_oldest_graph_goes(recorded, monkeypatch):
    """Of many shapes the last few are kept, and one that was given up is recorded anew when it comes again."""
    monkeypatch.setattr(cuda, "AGAIN", 2)
    _, run, made_of = recorded("right")
    for side in (*range(8, 8 * (cuda.RECORDED + 2), 8), 8):
        for _ in range(3):
            run(picture(1, 3, side, 8))
    assert len(run._recorded) == cuda.RECORDED
    assert made_of.count((8, 8)) == 2


def test_large_shapes_are_not_recorded(recorded, monkeypatch):
    """They run as they are."""
    monkeypatch.setattr(cuda, "LARGEST", 100)
    _, run, made_of = recorded("right")
    for _ in range(cuda.AGAIN + 1):
        assert run(picture(1, 3, 16, 16))[0].shape == (1, 2, 16, 16)
    assert not made_of


@needs_cuda
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_recorded_run_gives_the_same(dtype):
    """The runs after the recording are those before it, and what was given once is not written over."""
    model = made("cuda", base_channels=16)
    run = CudaRun(fold_norm(model.net), dtype)
    x, other = picture(1, 3, 64, 96, device="cuda"), picture(1, 3, 64, 96, device="cuda", seed=1)
    first, second = run(x, features=True), run(other, features=True)
    for _ in range(cuda.AGAIN):
        again, another = run(x, features=True), run(other, features=True)
    assert run._recorded
    for a, b in zip([*first, *second], [*again, *another], strict=True):
        assert (a - b).abs().max() <= 0.02 * b.abs().max()


@needs_cuda
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_convolution_and_its_relu_are_one_kernel(dtype):
    """CuDNN's gives what the two give, also where the memory that it is given holds no numbers."""
    convolve = cuda._convolution_on(torch.device("cuda"), dtype)
    x, weight, bias = (picture(*size, device="cuda").to(dtype) for size in ((2, 24, 40, 32), (16, 24, 3, 3), (16,)))
    x, weight = (each.contiguous(memory_format=torch.channels_last) for each in (x, weight))
    wanted = cuda._convolved(x, weight, bias)
    torch.full_like(wanted, torch.nan)
    assert cuda._are_alike(convolve(x, weight, bias), wanted)


@needs_cuda
def test_shapes_come_and_go():
    """Only so many graphs are kept, and a shape that was given up is answered all the same."""
    model = made("cuda")
    run = CudaRun(fold_norm(model.net), torch.bfloat16)
    for _ in range(2):
        for side in range(8, 8 * (cuda.RECORDED + 4), 8):
            x = picture(1, 3, side, 16, device="cuda")
            for _ in range(cuda.AGAIN + 1):
                (found,) = run(x)
            with torch.no_grad():
                wanted = model.net(x)
            assert (found - wanted).abs().max() < 0.05 * wanted.abs().max()
    assert len(run._recorded) == cuda.RECORDED


@needs_cuda
def test_new_weights_are_recorded_anew():
    """After weights have taken over, the old graph is not used any more; and what nobody wants does not run."""
    model, x = made("cuda"), picture(1, 3, 64, 64, device="cuda")
    for _ in range(cuda.AGAIN + 1):
        forward(model, x, backend=backend_for(model.device))
    model.replace_weights(Model.create(model.card, seed=5, device="cpu").net.state_dict())
    with torch.no_grad():
        wanted = model.net(x)
    for _ in range(cuda.AGAIN + 1):
        found, features = forward_with_features(model, x)
        assert (found - wanted).abs().max() < 0.05 * wanted.abs().max()
        assert features.shape == (1, 8, 64, 64)
    with pytest.raises(UnwantedError), while_wanted(lambda: False):
        forward(model, x)
