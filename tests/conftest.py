"""What every test stands on: settings and folders of its own, never the user's."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings

import napari_unet  # noqa: F401  before torch, which reads how its threads shall wait when it is loaded

# Before the first import of napari, which reads where its settings lie when it is imported.
_HOME = Path(tempfile.mkdtemp(prefix="unet-live-tests-"))
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
    os.environ[name] = str(_HOME / name)
os.environ["NAPARI_CONFIG"] = str(_HOME / "napari.yaml")
# napari raises where a plugin touches the viewer from another thread, instead of letting it pass
os.environ["NAPARI_ENSURE_PLUGIN_MAIN_THREAD"] = "1"

# Slow, shared computers must not fail a property: what is asked is whether it holds, not how fast it is drawn.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
