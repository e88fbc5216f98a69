"""What the threads of a session have in common: telling listeners, whatever they raise, and seeing the program end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

LOOK_SECONDS = 1.0
"""How often a thread that waits for work looks whether the program has ended."""


def has_ended() -> bool:
    """Whether the program is through, and only waits for its threads: a script need not close its session."""
    return not threading.main_thread().is_alive()


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
