"""Disk: the one thread that writes the project, in the order in which things happened."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Lock
from typing import Any

from napari_unet.core.errors import UNetLiveError


class Disk:
    """Runs writes one after the other in a thread of its own, so that no share, however slow, stops the window.

    Parameters
    ----------
    on_state : callable
        Called after each write, and when one begins to wait, with (number of writes that wait, what
        is wrong with the last one or '').
    """

    def __init__(self, on_state: Callable[[int, str], None]) -> None:
        self._on_state = on_state
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="unet-live-disk")
        self._waiting: set[Future[None]] = set()
        self._lock = Lock()
        self._is_closed = False

    def submit(self, write: Callable[[], Any], then: Callable[[], None] | None = None) -> None:
        """Do `write` in turn, then `then`, which is not done if the write failed."""
        with self._lock:
            if self._is_closed:
                return
            future = self._thread.submit(self._do, write, then)
            self._waiting.add(future)
        future.add_done_callback(self._forget)

    def _do(self, write: Callable[[], Any], then: Callable[[], None] | None) -> None:
        """One write."""
        try:
            write()
        except (UNetLiveError, OSError) as error:
            # the sentence is the user's; work goes on, and what was not written stays in memory
            self._on_state(len(self._waiting), str(error))
            return
        if then is not None:
            then()
        self._on_state(len(self._waiting) - 1, "")

    def _forget(self, future: Future[None]) -> None:
        """Take a finished write off the list; an error that is no user's is not swallowed."""
        with self._lock:
            self._waiting.discard(future)
        error = future.exception() if not future.cancelled() else None
        if error is not None:
            self._on_state(len(self._waiting), f"Saving failed: {error}")

    def flush(self, timeout: float) -> bool:
        """Wait for everything handed in so far; whether it was done in time."""
        with self._lock:
            waiting = set(self._waiting)
        return not wait(waiting, timeout).not_done

    def close(self, timeout: float) -> bool:
        """Finish what waits, at most `timeout` seconds; whether all was done."""
        done = self.flush(timeout)
        with self._lock:
            self._is_closed = True
        self._thread.shutdown(wait=False)
        return done
