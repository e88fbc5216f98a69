"""The headless commands: predict, train, evaluate, simulate, info."""

from napari_unet.cli import evaluate, info, predict, simulate, train
from napari_unet.cli.program import STOPPED, app, run

__all__ = ["STOPPED", "app", "evaluate", "info", "predict", "run", "simulate", "train"]
