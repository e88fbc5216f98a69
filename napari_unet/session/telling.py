"""Calling listeners from a thread that must live on, whatever they raise."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


def tell(listener: Callable[..., object], *message: Any) -> None:
    """Call a listener. What it raises goes where uncaught errors of threads go (napari shows them); the caller goes on.

    Parameters
    ----------
    listener : callable
    *message
        Its arguments.
    """
    try:
        listener(*message)
    except Exception as error:  # noqa: BLE001  a listener's mistake must not end the thread that tells it
        what = (type(error), error, error.__traceback__, threading.current_thread())
        threading.excepthook(threading.ExceptHookArgs(what))
