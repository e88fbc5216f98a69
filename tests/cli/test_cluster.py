"""Processes to work with, and how they begin and end."""

import os
import signal
import threading
from unittest.mock import MagicMock

import pytest

from napari_unet.cli.cluster import cluster


def test_ctrl_c_waits_until_the_workers_have_begun(monkeypatch):
    """Pressed while workers begin, it neither cuts that short nor reaches them, and then stops the command."""
    seen = []

    def begins(**_):
        os.kill(os.getpid(), signal.SIGINT)
        # workers are begun by threads of dask's and take over what these block
        thread = threading.Thread(target=lambda: seen.append(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
        thread.start()
        thread.join()
        return MagicMock()

    monkeypatch.setattr("distributed.LocalCluster", begins)
    monkeypatch.setattr("distributed.Client", MagicMock())
    before = signal.getsignal(signal.SIGINT), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with pytest.raises(KeyboardInterrupt), cluster("", 2):
        seen.append("worked")
    assert len(seen) == 1
    assert signal.SIGINT in seen[0]
    assert (signal.getsignal(signal.SIGINT), signal.pthread_sigmask(signal.SIG_BLOCK, ())) == before
