"""Importing the package is quick and loads neither torch nor Qt; its public names are where they should be."""

import importlib.metadata
import json
import os
import statistics
import subprocess
import sys

import pytest

import napari_unet

HEAVY = {"torch", "napari", "qtpy", "PyQt5", "PyQt6", "PySide6", "numpy", "scipy", "skimage", "zarr", "vispy"}
WAYS_TO_WAIT = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
SLOWEST_IMPORT = 0.1  # seconds; a promise to napari, which imports every plugin


def in_fresh_python(code: str, **environment: str) -> object:
    """Run code in an interpreter of its own; give what it prints, read as JSON."""
    own = {name: value for name, value in os.environ.items() if name not in WAYS_TO_WAIT} | environment
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=own)
    return json.loads(result.stdout)


def test_the_import_loads_no_heavy_package() -> None:
    """Torch, Qt and napari stay out of memory until a name that needs them is used."""
    loaded = in_fresh_python("import sys, json, napari_unet; print(json.dumps(sorted(sys.modules)))")
    assert not {module.split(".")[0] for module in loaded} & HEAVY


def test_the_import_is_quick() -> None:
    """The package is imported in less than 0.1 s (median of five interpreters, so that one hiccup says nothing)."""
    code = "import time; start = time.perf_counter(); import napari_unet; print(time.perf_counter() - start)"
    assert statistics.median(in_fresh_python(code) for _ in range(5)) < SLOWEST_IMPORT


def test_threads_wait_shortly_before_they_sleep() -> None:
    """OpenMP reads it when torch is loaded, which the package does not do before it has said so."""
    code = "import napari_unet, os, json; print(json.dumps(os.environ.get('GOMP_SPINCOUNT')))"
    assert in_fresh_python(code) == "1000"
    assert in_fresh_python(code, GOMP_SPINCOUNT="7") == "7"
    assert in_fresh_python(code, OMP_WAIT_POLICY="active") is None


def test_asking_for_light_names_loads_no_torch() -> None:
    """Records and metrics of the core can be used without torch, Qt or napari."""
    names = "n.Box, n.Correction, n.TrainStep, n.evaluate"
    code = f"import sys, json, napari_unet as n; {names}; print(json.dumps(sorted(sys.modules)))"
    loaded = in_fresh_python(code)
    assert not {module.split(".")[0] for module in loaded} & (HEAVY - {"numpy", "scipy", "skimage"})


@pytest.mark.parametrize("name", napari_unet.__all__)
def test_every_public_name_is_there_and_described(name: str) -> None:
    """A public name can be had from the package itself and bears a docstring."""
    assert getattr(napari_unet, name).__doc__


def test_completion_offers_names_that_are_not_loaded_yet() -> None:
    """`dir` lists every public name, used before or not."""
    assert set(napari_unet.__all__) <= set(dir(napari_unet))


def test_the_version_is_the_distributions() -> None:
    """`__version__` is the version that pip shows."""
    assert napari_unet.__version__ == importlib.metadata.version("napari-unet-live")


def test_an_unknown_name_is_refused_with_its_name() -> None:
    """A misspelt name gives Python's usual AttributeError, which names it."""
    with pytest.raises(AttributeError, match="sgment"):
        napari_unet.sgment  # noqa: B018 - looking it up is the test
