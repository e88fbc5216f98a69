"""A disk that is full, or takes nothing: one sentence that names the file, nothing torn, and nothing lost."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import zarr

from napari_unet.store.pictures import read_labels

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")


LIMITED = """
import resource, sys
count = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (count, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
from napari_unet.app import main
main()
"""


def with_files_of_at_most(count, *arguments):
    """Run the command line where no file can be larger than so many bytes: (exit code, stdout, stderr).

    In a process of its own: whatever else writes a file while the limit holds would write a part of it. Python itself
    would: it keeps what it compiled of a module, and crashes when it reads a part of that (so -B).
    """
    command = [sys.executable, "-B", "-c", LIMITED, str(count), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def assert_told(result, path):
    """One sentence on stderr that names the file, and that it is no mistake of the user; no traceback."""
    code, _, err = result
    assert code == 1
    assert err.count("\n") == 1, err
    assert str(path) in err or (path.name in err and str(path.parent) in err), err
    assert "inside U-Net Live" not in err
    assert "Traceback" not in err


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.zip", "a.onnx", "a.xml"])
def test_an_export_that_has_no_room(model, tmp_path, name):
    """Every format says so, also where its own writer would end the process; nothing half-written stays."""
    assert_told(with_files_of_at_most(9000, "export", model, "-o", tmp_path / name), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_training_goes_on_when_there_is_room_again(unet_live, model, folders, tmp_path):
    """Nothing half-written is left, and the same command goes on."""
    output, options = tmp_path / "out" / "m.safetensors", ("--from", model, "--steps", "2", "--device", "cpu")
    told = with_files_of_at_most(9000, "train", *folders, "-o", output, *options)
    assert_told(told, output.with_suffix(".checkpoint.safetensors"))
    assert not list(output.parent.glob("*.safetensors"))
    assert not list(output.parent.glob("*.part"))
    code, _, err = unet_live("train", *folders, "-o", output, *options, "--rehearsal", "1")
    assert code == 0, err


@pytest.mark.parametrize("option", ["-o", "--plot"])
def test_a_simulation_is_told_though_its_files_have_no_room(model, folders, tmp_path, option):
    """The figures of hours are printed before a file is written."""
    path = tmp_path / ("m.safetensors" if option == "-o" else "p.svg")
    options = ("--model", model, "--rounds", "1", "--steps", "1", "--json", option, path)
    code, out, err = with_files_of_at_most(500, "simulate", *folders, *options)
    assert len(json.loads(out)["seed 0"]) == 2
    assert_told((code, out, err.splitlines()[-1] + "\n"), path)
    assert not list(tmp_path.glob("*.s*"))


def test_masks_of_a_large_picture_are_finished_when_there_is_room_again(unet_live, model, tmp_path):
    """The sentence names the masks, no other file is taken for them, and the same command goes on."""
    path, out = tmp_path / "cells.ome.zarr", tmp_path / "out"
    zarr.save_array(path, np.random.default_rng(0).integers(0, 255, (300, 300)).astype(np.uint8))
    told = with_files_of_at_most(600, "predict", path, "-o", out, "--model", model, "--diameter", "20")
    assert_told(told, out / "cells.ome.zarr")
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
