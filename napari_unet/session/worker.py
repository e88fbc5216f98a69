"""GpuWorker: the one thread that calls torch. It pulls iterators, one short piece of work at a time."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from napari_unet.session.telling import LOOK_SECONDS, has_ended, tell

ANSWER, FIRST, INTERACTIVE, BACKGROUND, IDLE = 0, 1, 2, 3, 4
"""Clicks; models to load; tiles in view; all else; what is done when nothing else is."""
SWITCH_SECONDS = 0.0005
ACTIVE_FOR = 1.5
"""Seconds after something the user did in which a core is left to the window."""
HUSH_SECONDS, SHORT_HUSH_SECONDS = 0.5, 0.25
"""After an ANSWER, seconds in which no background work begins, and in which no tile is refreshed either: whoever
clicks often clicks again at once, and would wait for a piece of it."""

_numbers = count()


@dataclass
class _Job:
    """A job that was handed in, and its iterator once it has begun."""

    name: str
    start: Callable[[], Iterator[Any]]
    priority: int
    number: int = field(default_factory=lambda: next(_numbers))
    pieces: Iterator[Any] | None = None
    turn: int = 0
    is_paused: bool = False


class GpuWorker:
    """Runs jobs piece by piece: those of a higher priority first, of these the newest, background ones in turn.

    A job is an iterator; one `next()` is one piece and gives one event, or None. Between two pieces anything
    may be paused, cancelled or replaced, and nothing else is ever half done.

    Parameters
    ----------
    on_event : callable
        Called in this thread with (job name, event); not for a job that was cancelled or replaced meanwhile.
    on_end : callable
        Called in this thread with (job name, error or None) when a job is through or failed. An
        error ends its job, not the thread.
    before : callable
        Called in this thread before each piece with whether the user is active.

    What these three raise is told like an uncaught error of a thread, and the thread goes on.
    """

    def __init__(
        self,
        on_event: Callable[[str, Any], None],
        on_end: Callable[[str, Exception | None], None],
        before: Callable[[bool], None] = lambda active: None,
    ) -> None:
        self._on_event, self._on_end, self._before = on_event, on_end, before
        self._jobs: dict[str, _Job] = {}
        self._change = threading.Condition()
        self._is_closing = False
        self._turns = count(1)
        self._active_until, self._answered, self._held_until = 0.0, -HUSH_SECONDS, 0.0
        # Python work in this thread (there is always some) must not hold the window for 5 ms at a time
        sys.setswitchinterval(SWITCH_SECONDS)
        # not a daemon: a daemon that is inside torch when the interpreter ends aborts the process
        self._thread = threading.Thread(target=self._run, name="unet-live-device", daemon=False)
        self._thread.start()

    def submit(self, name: str, start: Callable[[], Iterator[Any]], priority: int = BACKGROUND) -> None:
        """Hand in a job; one of the same name is replaced. `start` is called in the device thread."""
        with self._change:
            if not self._is_closing:
                self._jobs[name] = _Job(name, start, priority)
                self._change.notify()

    def cancel(self, name: str) -> bool:
        """Drop a job after the piece that is running; whether there was one."""
        with self._change:
            return self._jobs.pop(name, None) is not None

    def pause(self, name: str, paused: bool) -> None:
        """Stop pulling a job, or go on."""
        with self._change:
            if name in self._jobs:
                self._jobs[name].is_paused = paused
                self._change.notify()

    def prioritize(self, name: str, priority: int) -> None:
        """Move a job between the interactive and the background ones."""
        with self._change:
            if name in self._jobs:
                self._jobs[name].priority = priority

    def is_busy(self, name: str) -> bool:
        """Whether a job of this name waits or runs."""
        with self._change:
            return name in self._jobs

    def has_nothing_but(self, priority: int) -> bool:
        """Whether no job of a higher priority waits."""
        with self._change:
            waits = any(job.priority < priority and not job.is_paused for job in self._jobs.values())
            return not waits and not self._is_closing

    def user_is_active(self) -> None:
        """The user just did something."""
        self._active_until = time.monotonic() + ACTIVE_FOR

    def hold(self, seconds: float) -> None:
        """Begin no piece for so long, and perhaps a second more; 0: go on."""
        with self._change:
            self._held_until = time.monotonic() + seconds
            self._change.notify()

    def close(self, timeout: float) -> bool:
        """Stop after the piece that is running; whether the thread ended in `timeout` seconds."""
        with self._change:
            self._is_closing = True
            self._jobs.clear()
            self._change.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _next_job(self) -> _Job | None:
        """The job whose turn it is; waits for one; None at closing."""

        def order(job: _Job) -> tuple[int, int]:
            return job.priority, job.turn if job.priority == BACKGROUND else -job.number

        with self._change:
            while not self._is_closing and not has_ended():
                since = time.monotonic() - self._answered
                lowest = next(
                    (p for p, hush in ((FIRST, SHORT_HUSH_SECONDS), (INTERACTIVE, HUSH_SECONDS)) if since < hush),
                    IDLE,
                )
                ready = [job for job in self._jobs.values() if not job.is_paused and job.priority <= lowest]
                if ready and time.monotonic() >= self._held_until:
                    job = min(ready, key=order)
                    job.turn = next(self._turns)
                    return job
                hush = (SHORT_HUSH_SECONDS if lowest == FIRST else HUSH_SECONDS) - since
                self._change.wait(LOOK_SECONDS if lowest == IDLE else max(hush, 0.001))
        return None

    def _run(self) -> None:
        """The thread."""
        while (job := self._next_job()) is not None:
            tell(self._before, time.monotonic() < self._active_until)
            self._pull(job)
            if job.priority == ANSWER:
                self._answered = time.monotonic()
            del job  # or a cancelled job, and the memory it holds, would live until the next one comes

    def _pull(self, job: _Job) -> None:
        """One piece of a job."""
        error: Exception | None = None
        try:
            if job.pieces is None:
                job.pieces = iter(job.start())
            event = next(job.pieces)
        except StopIteration:
            self._end(job, None)
        except Exception as caught:  # noqa: BLE001  whatever a job raises must reach the user, and the others go on
            error = caught
        else:
            if event is not None and self._is_current(job):
                tell(self._on_event, job.name, event)
        if error is not None:
            # out here, for inside `except` the frames of the failed piece, and all their tensors, are held
            traceback.clear_frames(error.__traceback__)
            self._end(job, error)

    def _is_current(self, job: _Job) -> bool:
        """Whether the job was neither cancelled nor replaced while its piece ran."""
        with self._change:
            return self._jobs.get(job.name) is job

    def _end(self, job: _Job, error: Exception | None) -> None:
        """A job is through, or failed."""
        with self._change:
            if self._jobs.get(job.name) is not job:
                return
            del self._jobs[job.name]
        tell(self._on_end, job.name, error)
