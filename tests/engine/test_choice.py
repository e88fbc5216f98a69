"""The fastest way is measured, and taken if its masks are those of float32."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unet.core.speeds import Speed
from napari_unet.engine import choice, device
from napari_unet.engine.choice import measure_speeds, measured_on, take_fastest, ways_on
from napari_unet.engine.device import backend_for, backend_of

CPU = torch.device("cpu")


def run(measuring):
    """What a measurement gives in the end, and how many pieces it took."""
    pieces = 0
    while True:
        try:
            next(measuring)
        except StopIteration as end:
            return end.value, pieces
        pieces += 1


def test_float32_is_the_reference(monkeypatch):
    """It comes first on every device, and each way once."""
    for quick, extra in ((False, False), (True, False), (False, True), (True, True)):
        monkeypatch.setattr(device, "_multiplies_bfloat16", lambda quick=quick: quick)
        monkeypatch.setattr(device, "has_openvino", lambda extra=extra: extra)
        device._number_type.cache_clear()
        ways = ways_on(CPU)
        assert (ways[0].form, ways[0].dtype) == ("torch", torch.float32)
        assert len({(way.form, way.dtype) for way in ways}) == len(ways) == (1 + quick) * (1 + extra)


@pytest.mark.parametrize("kind", ["objects", "classes"])
def test_every_way_is_measured(make_model, kind, monkeypatch):
    """A row for each, in pieces of one picture; the reference is like itself."""
    monkeypatch.setattr(device, "_multiplies_bfloat16", lambda: True)
    device._number_type.cache_clear()
    speeds, pieces = run(measure_speeds(make_model(kind)))
    assert [speed.number_type for speed in speeds] == ["float32", "bfloat16"]
    assert pieces == 2 * choice.PICTURES
    assert speeds[0].same == 1.0
    assert speeds[0].score_change == 0.0
    assert all(0 < speed.seconds < 60 for speed in speeds)


def test_other_masks_are_noticed(make_model, monkeypatch):
    """A way that finds something else is measured as one."""
    real = choice.run_network

    def wrong(model, x, *, backend):
        outputs = real(model, x, backend=backend)
        return outputs if backend.dtype == torch.float32 else np.ones_like(outputs)

    monkeypatch.setattr(choice, "run_network", wrong)
    monkeypatch.setattr(device, "_multiplies_bfloat16", lambda: True)
    device._number_type.cache_clear()
    speeds, _ = run(measure_speeds(make_model()))
    assert speeds[1].same < 0.99
    assert not speeds[1].is_alike


def test_the_fastest_is_what_predicts(make_model):
    """After it was taken, models of these layers run so."""
    model = make_model()
    assert backend_of(model) == backend_for(CPU)
    best = take_fastest(model, [Speed("torch", "float32", 0.2), Speed("torch", "bfloat16", 0.1)])
    assert best.number_type == "bfloat16"
    assert backend_of(model) == replace(backend_for(CPU), dtype=torch.bfloat16)


def test_a_table_counts_for_this_computer_and_this_training(make_model, monkeypatch):
    """Another network or training, another number of cores or another version is measured anew; learning is not."""
    model = make_model()
    known = measured_on(model)
    model.replace_weights(make_model(seed=3).net.state_dict())
    assert measured_on(model) == known
    other = make_model()
    other.card = replace(other.card, trained_on="other pictures")
    assert measured_on(other) != known
    assert measured_on(make_model(base_channels=8)) != known
    assert measured_on(make_model("classes")) != known
    monkeypatch.setattr(choice, "usable_cores", lambda: 99)
    assert measured_on(model) != known
    monkeypatch.undo()
    monkeypatch.setattr(choice, "_version", lambda name: "9.9")
    assert measured_on(model) != known
