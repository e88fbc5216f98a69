"""The headless commands: predict, train, evaluate, simulate, export, info."""

from napari_unet.cli import evaluate, export, info, predict, simulate, train
from napari_unet.cli.program import app, run

__all__ = ["app", "evaluate", "export", "info", "predict", "run", "simulate", "train"]
