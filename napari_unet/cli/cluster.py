"""Several processes or machines, through dask.distributed (extra `cluster`)."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

from napari_unet.core.errors import DeviceError

PATIENCE = 15
"""Seconds in which a scheduler must answer."""


@contextmanager
def cluster(scheduler: str, workers: int) -> Iterator[Any]:
    """A client of dask.distributed, or None where neither a scheduler nor workers are asked for.

    Parameters
    ----------
    scheduler : str
        The address of one that runs: tcp://host:8786. Its workers must see the same files under the same paths.
    workers : int
        Processes to start on this computer instead, of one core each.

    Raises
    ------
    DeviceError
        If the extra is not installed, or the scheduler does not answer.
    """
    if not scheduler and not workers:
        yield None
        return
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise DeviceError(
            "Several processes need dask.distributed; install it with pip install 'napari-unet-live[cluster]'."
        ) from error
    if scheduler:
        try:
            client = Client(scheduler, timeout=PATIENCE)
        except (OSError, ValueError) as error:
            raise DeviceError(
                f"No scheduler answers at '{scheduler}'. Start one with 'dask scheduler', or use --workers."
            ) from error
        with client:
            yield client
        return
    # what fails is told by the command, in a sentence; dask would add its own lines, and tracebacks
    with _ctrl_c_waits():
        own = LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
        )
    with own, Client(own) as client:
        yield client


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Ctrl+C is heard at the end of this, and never by processes that begin in it: they end with this one.

    dask cannot close workers that are half begun, and each would tell its end in a traceback.
    """
    if threading.current_thread() is not threading.main_thread():  # Python lets no other thread choose
        yield
        return
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    if sys.platform != "win32":
        resource_tracker.ensure_running()  # it lifts the block as it begins
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if sys.platform != "win32":
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def threads_of(client: Any) -> int:
    """How many threads a block may use: as many as each worker has. One of `--workers` has one."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return max(1, min((worker["nthreads"] for worker in workers), default=1))
