"""U-Net Live: a U-Net in napari that segments the open picture and learns from every mask you correct.

The public names stand here and are loaded when first used: importing this package loads neither
torch nor Qt, so that napari starts as fast with it as without.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_unet.core.corrections import Correction
    from napari_unet.core.events import Prediction, TrainStep, WeightsChanged
    from napari_unet.core.geometry import Box
    from napari_unet.core.metrics import evaluate
    from napari_unet.engine.click import ClickSegmenter
    from napari_unet.engine.segment import segment
    from napari_unet.engine.train import fine_tune
    from napari_unet.nets.model import Model, load_model
    from napari_unet.nets.unet import UNet
    from napari_unet.session.session import Session
    from napari_unet.store.project import Project
    from napari_unet.widgets.viewer_session import session_of

__all__ = [
    "Box",
    "ClickSegmenter",
    "Correction",
    "Model",
    "Prediction",
    "Project",
    "Session",
    "TrainStep",
    "UNet",
    "WeightsChanged",
    "evaluate",
    "fine_tune",
    "load_model",
    "segment",
    "session_of",
]

_HOME = {
    "Box": "core.geometry",
    "ClickSegmenter": "engine.click",
    "Correction": "core.corrections",
    "Model": "nets.model",
    "Prediction": "core.events",
    "Project": "store.project",
    "Session": "session.session",
    "TrainStep": "core.events",
    "UNet": "nets.unet",
    "WeightsChanged": "core.events",
    "evaluate": "core.metrics",
    "fine_tune": "engine.train",
    "load_model": "nets.model",
    "segment": "engine.segment",
    "session_of": "widgets.viewer_session",
}

# Threads of torch that wait for each other keep their cores busy for milliseconds, also where a core is needed by
# another program: then a step of learning takes thirty times as long. So they wait shortly, and sleep. OpenMP of GNU
# reads this when torch is loaded; whoever has chosen a way to wait keeps it.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def __getattr__(name: str) -> Any:
    """Load a public name from its file, once."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("napari-unet-live")
    elif name in _HOME:
        value = getattr(import_module(f"napari_unet.{_HOME[name]}"), name)
    else:
        raise AttributeError(f"module 'napari_unet' has no attribute '{name}'")
    globals()[name] = value  # the next look-up does not come here
    return value


def __dir__() -> list[str]:
    """Names for completion, loaded or not."""
    return sorted({*globals(), *__all__, "__version__"})
