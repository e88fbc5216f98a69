"""Pictures block by block: the same labels however they were made, and whatever was killed on the way."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import tifffile
import torch
import zarr

from napari_unet.cli import large
from napari_unet.cli import predict as command
from napari_unet.core.errors import ProjectError
from napari_unet.core.metrics import evaluate
from napari_unet.engine import choice, device
from napari_unet.engine import segment as segmenting
from napari_unet.engine.device import backend_for
from napari_unet.store.blocks import Blocks
from napari_unet.store.pictures import read_labels
from tests.cli.conftest import assert_refused, discs

SIDE = 200


@pytest.fixture
def model():
    """The shipped one: it sees the discs."""
    return "default"


@pytest.fixture
def picture(tmp_path):
    """An OME-Zarr of discs, larger than some blocks."""
    path = tmp_path / "cells.ome.zarr"
    zarr.save_array(path, discs(seed=3, side=SIDE)[0])
    return path


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 64 pixels, so that nine of them cover the picture."""
    monkeypatch.setattr(device, "_chosen", {})
    real = backend_for("cpu")
    for module in (device, choice):
        monkeypatch.setattr(module, "backend_for", lambda device="cpu": replace(real, large_core=80))


def predict(unet_live, picture, out, model, *options):
    """Run the command; the labels."""
    code, _, err = unet_live("predict", picture, "-o", out, "--model", model, "--diameter", "24", *options)
    assert code == 0, err
    return read_labels(out / "cells.ome.zarr")


def test_blocks_give_what_one_piece_gives(unet_live, model, picture, small_blocks, tmp_path, monkeypatch):
    """The labels of nine blocks are those of the picture held in memory; nothing is left beside them."""
    found = predict(unet_live, picture, tmp_path / "out", model)
    assert found.shape == (SIDE, SIDE)
    assert found.max() > 0
    assert os.listdir(tmp_path / "out") == ["cells.ome.zarr"]
    tifffile.imwrite(tmp_path / "whole.tif", discs(seed=3, side=SIDE)[0])
    unet_live("predict", tmp_path / "whole.tif", "-o", tmp_path / "out", "--model", model, "--diameter", "24")
    assert np.array_equal(read_labels(tmp_path / "out" / "whole.tif"), found)


def test_a_large_tiff_becomes_an_ome_zarr(unet_live, model, tmp_path, monkeypatch):
    """Above the limit labels go straight to an OME-Zarr, and a second run leaves them alone."""
    monkeypatch.setattr(command, "LARGE", 1000)
    tifffile.imwrite(tmp_path / "wide.tif", discs()[0])
    assert unet_live("predict", tmp_path / "wide.tif", "-o", tmp_path / "out", "--model", model)[0] == 0
    assert read_labels(tmp_path / "out" / "wide.ome.zarr").shape == (64, 64)
    code, _, err = unet_live("predict", tmp_path / "wide.tif", "-o", tmp_path / "out", "--model", model)
    assert code == 0
    assert "1 of 1 pictures have masks" in err


def test_labels_bear_their_own_name(unet_live, model, tmp_path):
    """A viewer calls the labels as their folder is called, not as it was called while they were written."""
    zarr.save_array(tmp_path / "cells.ome.zarr", discs()[0])
    assert unet_live("predict", tmp_path / "cells.ome.zarr", "-o", tmp_path / "out", "--model", model)[0] == 0
    metadata = zarr.open_group(tmp_path / "out" / "cells.ome.zarr", mode="r").attrs["ome"]
    assert metadata["multiscales"][0]["name"] == "cells.ome.zarr"


def test_a_stopped_run_goes_on(unet_live, model, picture, small_blocks, tmp_path, monkeypatch):
    """What was predicted before an interruption is not predicted again, and the labels are the same."""
    expected = predict(unet_live, picture, tmp_path / "whole", model)
    assert expected.max() > 0
    real, runs = segmenting.outputs_of, []

    def stops(*arguments):
        runs.append(1)
        if len(runs) == 5:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(segmenting, "outputs_of", stops)
    arguments = ("predict", picture, "-o", tmp_path / "out", "--model", model, "--diameter", "24")
    assert unet_live(*arguments)[0] != 0
    kept = list((tmp_path / "out" / ".cells.ome.zarr.blocks").rglob("*.npz"))
    assert 0 < len(kept) < 5
    runs.clear()
    runs.extend([0] * 100)
    found = predict(unet_live, picture, tmp_path / "out", model)
    assert len(runs) - 100 == 9 - len(kept)
    assert np.array_equal(found, expected)
    assert os.listdir(tmp_path / "out") == ["cells.ome.zarr"]


def test_little_memory_means_smaller_blocks(unet_live, model, picture, small_blocks, tmp_path, monkeypatch):
    """Blocks are halved until they fit; where none does, a sentence says what to do."""
    expected = predict(unet_live, picture, tmp_path / "whole", model)
    real, sizes, most = segmenting.outputs_of, [], [60]

    def scarce(model, plane, tile, *rest):
        sizes.append(tile.core.shape[0])
        if sizes[-1] > most[0]:
            raise torch.OutOfMemoryError
        return real(model, plane, tile, *rest)

    monkeypatch.setattr(segmenting, "outputs_of", scarce)
    monkeypatch.setattr(segmenting, "SMALLEST_CORE", 40)
    found = predict(unet_live, picture, tmp_path / "out", model)
    assert max(sizes) > 60 >= min(sizes)
    assert evaluate(found, expected)["map"] > 0.95
    assert os.listdir(tmp_path / "out") == ["cells.ome.zarr"]
    most[0] = 0
    arguments = ("predict", picture, "-o", tmp_path / "none", "--model", model, "--diameter", "24")
    assert_refused(unet_live(*arguments), "--device cpu", "cells.ome.zarr")


def test_blocks_of_another_picture_are_not_taken(unet_live, model, picture, small_blocks, tmp_path, monkeypatch):
    """Where another picture took the name, a run that was stopped begins anew."""
    real = Blocks.write

    def stops(blocks, number, labels):
        if number == 4:
            raise KeyboardInterrupt
        real(blocks, number, labels)

    with monkeypatch.context() as stopped:
        stopped.setattr(Blocks, "write", stops)
        said = unet_live("predict", picture, "-o", tmp_path / "out", "--model", model, "--diameter", "24")
        assert said[0] != 0
    assert list((tmp_path / "out").rglob("*.npz"))
    shutil.rmtree(picture)
    zarr.save_array(picture, discs(seed=3, side=SIDE)[0][::-1].copy())
    found = predict(unet_live, picture, tmp_path / "out", model)
    assert np.array_equal(found, predict(unet_live, picture, tmp_path / "anew", model))


def test_blocks_of_another_wish_are_not_taken(tmp_path):
    """Another size of the objects, or another model, makes other blocks."""
    blocks = Blocks(tmp_path / "blocks")
    blocks.begin({"scale": 1.0})
    blocks.write(0, np.ones((3, 4), np.int32))
    blocks.begin({"scale": 1.0})
    assert blocks.has(0)
    assert np.array_equal(blocks.read(0, (3, 4)), np.ones((3, 4)))
    blocks.begin({"scale": 2.0})
    assert not blocks.has(0)


@pytest.mark.parametrize("bad", [b"", b"PK", b"x" * 100])
def test_a_damaged_block_is_told(tmp_path, bad):
    """A block that another program damaged ends in a sentence."""
    blocks = Blocks(tmp_path / "blocks")
    blocks.begin({})
    blocks.write(0, np.ones((3, 4), np.int32))
    (tmp_path / "blocks" / "0.npz").write_bytes(bad)
    with pytest.raises(ProjectError, match=r"0\.npz"):
        blocks.read(0, (3, 4))


def test_two_processes_give_the_same(unet_live, model, picture, tmp_path):
    """Two workers predict the blocks of a large picture and, beside it, small ones; one bad picture is told."""
    expected = predict(unet_live, picture, tmp_path / "alone", model)
    tifffile.imwrite(tmp_path / "a.tif", discs()[0])
    (tmp_path / "b.tif").write_bytes(b"no picture")
    inputs = [picture, tmp_path / "a.tif", tmp_path / "b.tif"]
    out = tmp_path / "out"
    run = subprocess.run(
        [*unet_live_command(), "predict", *inputs, "-o", out, "--model", model, "--diameter", "24", "--workers", "2"],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 2, run.stderr
    assert "b.tif" in run.stderr
    assert "Traceback" not in run.stderr
    assert sorted(os.listdir(out)) == ["a.tif", "cells.ome.zarr"]
    assert evaluate(read_labels(out / "cells.ome.zarr"), expected)["map"] > 0.99


def test_processes_share_a_picture_that_becomes_a_tiff(tmp_path, unet_live, monkeypatch):
    """A picture of some blocks is shared by the processes; its labels are a TIFF all the same, and nothing is left.

    What a stopped run left on the way to it does not count as masks.
    """
    tifffile.imwrite(tmp_path / "a.tif", discs(seed=3, side=SIDE)[0])
    monkeypatch.setattr(command, "SHARED", 1000)
    monkeypatch.setattr(
        large, "_made_elsewhere", lambda plan, tiles, pool: large._made_here(*large.opened(plan), plan, tiles)
    )
    monkeypatch.setattr(command, "cluster", lambda *_: nullcontext(object()))
    out = tmp_path / "out"
    arguments = ("predict", tmp_path / "a.tif", "-o", out, "--diameter", "24", "--workers", "2")
    with monkeypatch.context() as stopped:
        stopped.setattr(large, "write_labels", Mock(side_effect=KeyboardInterrupt))
        assert unet_live(*arguments)[0] != 0
    code, _, err = unet_live(*arguments)
    assert code == 0, err
    assert "already" not in err
    assert os.listdir(out) == ["a.tif"]
    assert read_labels(out / "a.tif").max() > 0


def unet_live_command():
    """The program, whatever is on the PATH."""
    return [sys.executable, "-c", "from napari_unet.app import main; main()"]


@pytest.fixture
def plan(model, tmp_path):
    """What a process must know to predict a picture of discs."""
    zarr.save_array(tmp_path / "cells.ome.zarr", discs(seed=3, side=500)[0])
    return large.Plan(
        picture=str(tmp_path / "cells.ome.zarr"),
        key="",
        model=str(model),
        device="cpu",
        way=("torch", "float32"),
        sha256="",
        channels=None,
        is_inverted=False,
        scale=1.0,
        core=128,
        folder=str(tmp_path / "blocks"),
    )


@pytest.mark.parametrize("is_inverted", [False, True])
def test_each_process_sees_the_picture_from_the_same_side(plan, is_inverted):
    """Inverted, if the one that began saw it so."""
    assert large.opened(replace(plan, is_inverted=is_inverted))[1].is_inverted == is_inverted


def test_a_killed_worker_loses_nothing(plan, tmp_path):
    """A worker killed in the middle: the block is predicted by another one, and the labels are the same."""
    from distributed import Client, LocalCluster

    labels = []
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as own, Client(own) as client:
        for pool, name in ((None, "alone"), (client, "killed")):
            folder = str(tmp_path / f"blocks-{name}")
            own_plan = replace(plan, folder=folder)
            killed = []

            def report(done, total, pool=pool, killed=killed):
                if pool is not None and done == 3:
                    os.kill(killed.append(1) or next(iter(own.workers.values())).pid, signal.SIGKILL)

            loaded, source = large.opened(own_plan)
            large.predict_large(loaded, source, own_plan, tmp_path / f"{name}.ome.zarr", pool=pool, report=report)
            assert bool(killed) == (pool is not None)
            labels.append(read_labels(tmp_path / f"{name}.ome.zarr"))
            assert not (tmp_path / f"blocks-{name}").exists()
    assert labels[0].max() > 0
    assert np.array_equal(*labels)


def test_no_scheduler_is_a_sentence(unet_live, model, picture, tmp_path, monkeypatch):
    """Where none answers, the error says how to start one."""
    monkeypatch.setattr("napari_unet.cli.cluster.PATIENCE", 0.5)
    start = time.monotonic()
    said = unet_live("predict", picture, "-o", tmp_path / "out", "--model", model, "--scheduler", "tcp://127.0.0.1:1")
    assert_refused(said, "dask scheduler")
    assert time.monotonic() - start < 60


def test_without_the_extra_it_says_what_to_install(unet_live, model, picture, tmp_path, monkeypatch):
    """Workers need the extra `cluster`."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert_refused(
        unet_live("predict", picture, "-o", tmp_path / "out", "--model", model, "--workers", "2"), "[cluster]"
    )
