"""Disk: the one thread that writes the project, in the order in which things happened."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from napari_unet.session.telling import LOOK_SECONDS, has_ended, tell

IDLE_AFTER = 10.0
"""Seconds without work after which the owner may look whether something is to be tried again."""


class Disk:
    """Does work one after the other in a thread of its own, so that no share, however slow, stops the window.

    Parameters
    ----------
    on_error : callable
        Called in this thread with whatever a piece of work raised; the next piece is done all the same.
    on_idle : callable
        Called in this thread each time that nothing was handed in for a while.
    on_exit : callable
        Called in this thread when the program has ended and nobody closed this: its last work.
    """

    def __init__(
        self,
        on_error: Callable[[Exception], object],
        on_idle: Callable[[], object] = lambda: None,
        on_exit: Callable[[], object] = lambda: None,
    ) -> None:
        self._on_error, self._on_idle, self._on_exit = on_error, on_idle, on_exit
        self._queue: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._waiting = 0
        self._change = threading.Condition()
        self._is_closed = False
        # not a daemon: what was confirmed is written even if the program ends first
        self._thread = threading.Thread(target=self._run, name="unet-live-disk", daemon=False)
        self._thread.start()

    def submit(self, work: Callable[[], Any]) -> bool:
        """Do `work` when its turn comes; False after closing, when nothing is taken any more."""
        with self._change:
            if not self._is_closed:
                self._waiting += 1
                self._queue.put(work)
            return not self._is_closed

    def flush(self, timeout: float) -> bool:
        """Wait until nothing waits; whether that was within `timeout` seconds."""
        if threading.current_thread() is self._thread:
            return False  # it would wait for itself
        with self._change:
            return self._change.wait_for(lambda: self._waiting == 0, timeout)

    def close(self, timeout: float) -> bool:
        """Finish what waits and end; whether that was within `timeout` seconds. If not, it goes on by itself."""
        with self._change:
            if not self._is_closed:
                self._is_closed = True
                self._queue.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        """The thread."""
        idle_since = time.monotonic()
        while True:
            try:
                work = self._queue.get(timeout=min(LOOK_SECONDS, IDLE_AFTER))
            except queue.Empty:
                if has_ended():
                    tell(self._on_exit)
                    return
                if time.monotonic() - idle_since >= IDLE_AFTER:
                    tell(self._on_idle)
                    idle_since = time.monotonic()
                continue
            if work is None:
                return
            self._do(work)
            del work  # or an array would be held until the next one comes
            idle_since = time.monotonic()

    def _do(self, work: Callable[[], Any]) -> None:
        """One piece of work."""
        try:
            work()
        except Exception as error:  # noqa: BLE001  whatever it is must be told, and the next piece done
            tell(self._on_error, error)
        finally:
            with self._change:
                self._waiting -= 1
                self._change.notify_all()
