"""Entry point of `unet-live`: it loads next to nothing before Ctrl+C is obeyed."""

from __future__ import annotations

import os
import signal
import sys

from napari_unet.core.errors import STOPPED


def main() -> None:
    """Run the command line. Ctrl+C ends it with exit code 130 and without a traceback, also while it is loaded."""
    usual = signal.getsignal(signal.SIGINT)
    if usual is signal.default_int_handler:  # else it is ignored, as in the background of a script
        signal.signal(signal.SIGINT, _stop)
    from napari_unet.window import app, run

    try:
        signal.signal(signal.SIGINT, usual)
        run(app)
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        raise SystemExit(STOPPED) from None


def _stop(*_: object) -> None:
    """End at once: nothing is begun yet, and an exception might be lost in what is being loaded."""
    os.write(2, b"Stopped.\n")
    os._exit(STOPPED)
