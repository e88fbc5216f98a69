"""Several processes train one model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from napari_unet.core.errors import DeviceError
from napari_unet.engine.ranks import Ranks, joined_ranks

ONE = """
import json, sys, torch
sys.path.insert(0, sys.argv[2])
from dataclasses import replace
from tests.engine.conftest import QUICK, correct_discs, make_tiny
from napari_unet.engine.click_student import ClickStudent, train_clicks
from napari_unet.engine.ranks import joined_ranks
from napari_unet.engine.student import Student
from napari_unet.engine.train import train

torch.set_num_threads(1)
with joined_ranks("cpu") as (ranks, device):
    recipe = replace(QUICK, micro=2, train_norm=True)
    student = Student(make_tiny(norm="batch"), recipe, 7, ranks=ranks)
    head = ClickStudent(make_tiny(norm="batch"), 7, ranks=ranks)
    list(train_clicks(head, [correct_discs(0), correct_discs(1)], steps=2))
    seconds = {"seconds": 3.0} if sys.argv[3] == "seconds" else {"steps": 4}
    losses = [event.loss for event in train(student, [correct_discs(0), correct_discs(1)], **seconds)]
    sums = {name: float(value.double().sum()) for name, value in student.net.state_dict().items()}
    heads = {name: float(value.double().sum()) for name, value in head.head.state_dict().items()}
    first = float(student._batch([correct_discs(0)]).images.sum())
    with open(f"{sys.argv[1]}/{ranks.number}.json", "w") as file:
        json.dump({"sums": sums, "losses": losses, "clicks": heads, "first": first, "count": ranks.count}, file)
"""


@pytest.fixture(params=["steps", "seconds"])
def told(request, tmp_path):
    """What two processes that torchrun started say after some steps."""
    script = tmp_path / "one.py"
    script.write_text(ONE)
    root = str(Path(__file__).parents[2])
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29541"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    run = subprocess.run(
        [*start, str(script), str(tmp_path), root, request.param],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment,
    )
    assert run.returncode == 0, run.stderr
    return [json.loads((tmp_path / f"{number}.json").read_text()) for number in range(2)]


def test_two_processes_hold_the_same_weights(told):
    """After any number of steps, by number or by time, both have the same weights and losses, of different crops."""
    one, two = told
    assert one["count"] == 2
    assert one["losses"] == two["losses"]
    assert len(one["losses"]) >= 1
    assert one["sums"] == two["sums"]
    assert one["first"] != two["first"]
    assert one["clicks"] == two["clicks"]
    assert len(one["clicks"]) > 10


def test_one_process_is_alone(monkeypatch):
    """Without torchrun nothing is joined, and a mean is the thing itself."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined_ranks("cpu") as (ranks, device):
        assert (ranks, device) == (Ranks(), "cpu")
        assert ranks.leads
    value = torch.ones(3)
    ranks.average([value])
    assert value.tolist() == [1, 1, 1]
    assert ranks.agreed(0.5) == 0.5


def test_the_mean_is_that_of_all(monkeypatch):
    """Tensors of any shape and type hold the mean of all processes afterwards."""
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda flat: flat.mul_(3))  # the other one holds twice as much
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: "gloo")
    tensors = [torch.ones(2, 3), torch.full((4,), 2.0, dtype=torch.float64)]
    Ranks(1, 2).average(tensors)
    assert tensors[0].tolist() == [[1.5] * 3] * 2
    assert tensors[1].tolist() == [3.0] * 4
    assert not Ranks(1, 2).leads


@pytest.mark.parametrize(("cards", "device", "backend"), [(4, "cuda:3", "nccl"), (2, "cuda:1", "gloo")])
def test_cards_are_shared_where_there_are_more_processes(monkeypatch, cards, device, backend):
    """Each of four processes has a card of its own, and NCCL; with fewer cards several share one, and not NCCL."""
    for name, value in {"WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 4, "LOCAL_RANK": 3}.items():
        monkeypatch.setenv(name, str(value))
    begun: list[object] = []
    monkeypatch.setattr("napari_unet.engine.ranks.pick_device", lambda name: torch.device(name.replace("auto", "cuda")))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: begun.append(str(device)))
    monkeypatch.setattr(torch.distributed, "init_process_group", begun.append)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 3)
    with joined_ranks("auto") as (ranks, own):
        assert (ranks, own) == (Ranks(3, 4), device)
    assert begun == [device, backend]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows gives no other parent to a process whose own was killed")
def test_processes_end_when_torchrun_was_killed(monkeypatch):
    """Whoever waits for the next mean sees it; a process that something else started does not care for its parent."""
    for name, value in {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "LOCAL_RANK": 1, "TORCHELASTIC_RUN_ID": "a"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend: None)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: "gloo")
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda flat: flat.mul_(2))
    with joined_ranks("cpu") as (ranks, _):
        ranks.average([torch.ones(2)])
        monkeypatch.setattr(os, "getppid", lambda: 1)
        with pytest.raises(DeviceError, match="torchrun was ended"):
            ranks.average([torch.ones(2)])
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    with joined_ranks("cpu") as (ranks, _):
        monkeypatch.setattr(os, "getppid", lambda: 2)
        ranks.average([torch.ones(2)])
