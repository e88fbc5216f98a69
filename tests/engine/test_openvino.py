"""OpenVINO tells nobody that it is used."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

COMPILE = """
import sys
import torch
from napari_unet.engine.openvino import compiled
from napari_unet.nets.folding import fold_norm
from napari_unet.nets.unet import UNet

compiled(fold_norm(UNet(base_channels=2, depth=1).eval()), torch.float32, 1)
print("openvino" in sys.modules, "openvino_telemetry" in sys.modules)
"""


@pytest.mark.skipif(not find_spec("openvino"), reason="an extra")
def test_nothing_is_sent_when_openvino_is_loaded(tmp_path):
    """Its telemetry, which is on unless it was forbidden, is not even loaded, and leaves no number of the user's."""
    # on a server that builds and tests it is off anyhow
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "PYTHONPATH", "OMP_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        env={**kept, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["True", "False"]
    assert not list(tmp_path.iterdir())
