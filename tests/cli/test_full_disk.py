"""A disk that is full, or takes nothing: one sentence that names the file, nothing torn, and nothing lost."""

import json
import os
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import zarr

from napari_unet.store.pictures import read_labels

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")


@contextmanager
def files_of_at_most(count):
    """No file can be larger than so many bytes: a larger one ends as on a full disk."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python keeps what it compiled of a module even if it was written in part, and crashes when it reads that again
    compiled, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sys.dont_write_bytecode = compiled


def assert_told(result, path):
    """One sentence on stderr that names the file; no failure of our own, no traceback."""
    code, _, err = result
    assert code in (1, 2)
    assert err.count("\n") == 1, err
    assert str(path) in err or (path.name in err and str(path.parent) in err), err
    assert "inside U-Net Live" not in err
    assert "Traceback" not in err


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.zip", "a.onnx", "a.xml"])
def test_an_export_that_has_no_room(unet_live, model, tmp_path, name):
    """Every format says so, also where its own writer would end the process; nothing half-written stays."""
    with files_of_at_most(9000):
        assert_told(unet_live("export", model, "-o", tmp_path / name), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_training_goes_on_when_there_is_room_again(unet_live, model, folders, tmp_path):
    """Nothing half-written is left, and the same command goes on."""
    output, options = tmp_path / "out" / "m.safetensors", ("--from", model, "--steps", "2", "--device", "cpu")
    with files_of_at_most(9000):
        assert_told(unet_live("train", *folders, "-o", output, *options), output.with_suffix(".checkpoint.safetensors"))
    assert not list(output.parent.glob("*.safetensors"))
    assert not list(output.parent.glob("*.part"))
    code, _, err = unet_live("train", *folders, "-o", output, *options, "--rehearsal", "1")
    assert code == 0, err


@pytest.mark.parametrize("option", ["-o", "--plot"])
def test_a_simulation_is_told_though_its_files_have_no_room(unet_live, model, folders, tmp_path, option):
    """The figures of hours are printed before a file is written."""
    path = tmp_path / ("m.safetensors" if option == "-o" else "p.svg")
    options = ("--model", model, "--rounds", "1", "--steps", "1", "--json", option, path)
    with files_of_at_most(500):
        code, out, err = unet_live("simulate", *folders, *options)
    assert len(json.loads(out)["seed 0"]) == 2
    assert_told((code, out, err.splitlines()[-1] + "\n"), path)
    assert not list(tmp_path.glob("*.s*"))


def test_masks_of_a_large_picture_are_finished_when_there_is_room_again(unet_live, model, tmp_path):
    """The sentence names the masks, no other file is taken for them, and the same command goes on."""
    path, out = tmp_path / "cells.ome.zarr", tmp_path / "out"
    zarr.save_array(path, np.random.default_rng(0).integers(0, 255, (300, 300)).astype(np.uint8))
    with files_of_at_most(600):
        assert_told(unet_live("predict", path, "-o", out, "--model", model, "--diameter", "20"), out / "cells.ome.zarr")
    assert not (out / "cells.ome.zarr").exists()
    assert unet_live("predict", path, "-o", out, "--model", model, "--diameter", "20")[0] == 0
    assert os.listdir(out) == ["cells.ome.zarr"]
    assert read_labels(out / "cells.ome.zarr").shape == (300, 300)


@pytest.mark.parametrize(("command", "option"), [("export", "-o"), ("simulate", "--plot")])
def test_a_device_is_not_replaced(unet_live, model, folders, tmp_path, command, option):
    """A pipe, or a device such as /dev/null, is refused: a file would be put in its place."""
    given = (model, "--format", "onnx") if command == "export" else (*folders, "--model", model)
    os.mkfifo(tmp_path / "pipe")
    code, _, err = unet_live(command, *given, option, tmp_path / "pipe")
    assert code == 2
    assert err.endswith(f"'{tmp_path / 'pipe'}' is no plain file. Name the file to write with {option}.\n")
    assert (tmp_path / "pipe").is_fifo()
