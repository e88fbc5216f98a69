"""Disk: writes in order, in a thread that no failure ends."""

import threading

import pytest

from napari_unet.session import disk as module
from napari_unet.session.disk import Disk

LONG = 20.0


@pytest.fixture
def failures():
    """What went wrong."""
    return []


@pytest.fixture
def disk(failures):
    """A disk that notes failures, closed at the end."""
    new = Disk(failures.append)
    yield new
    assert new.close(LONG)


def test_work_is_done_in_the_order_it_was_handed_in(disk):
    """What happened first is written first, whoever handed it in."""
    done = []
    for number in range(100):
        disk.submit(lambda number=number: done.append(number))
    assert disk.flush(LONG)
    assert done == list(range(100))


def test_a_failure_is_told_and_the_next_work_is_done(disk, failures):
    """Whatever a write raises is told once, never swallowed, and the thread goes on."""
    done = []
    disk.submit(lambda: 1 / 0)
    disk.submit(lambda: done.append("next"))
    assert disk.flush(LONG)
    assert [type(e) for e in failures] == [ZeroDivisionError]
    assert done == ["next"]


def test_a_listener_that_raises_does_not_end_the_thread(errors):
    """A mistake in whoever is told of a failure comes out like an uncaught error of a thread."""
    disk = Disk(lambda error: [][0])
    disk.submit(lambda: 1 / 0)
    assert disk.flush(LONG)
    assert disk.close(LONG)
    assert [type(e) for e in errors] == [IndexError]


def test_flushing_and_closing_keep_to_their_limits(disk):
    """A slow share makes nobody wait longer than was said; what waits is done all the same."""
    go, done = threading.Event(), []
    disk.submit(lambda: go.wait(LONG))
    disk.submit(lambda: done.append("late"))
    assert not disk.flush(0.01)
    assert not disk.close(0.01)
    assert not disk.submit(lambda: done.append("too late"))
    go.set()
    assert disk.close(LONG)
    assert done == ["late"]


def test_work_may_hand_in_more_work_and_close(disk):
    """Work that flushes or closes from inside does not wait for itself."""
    done = []

    def work():
        disk.submit(lambda: done.append("more"))
        done.append(disk.flush(LONG))
        done.append(disk.close(LONG))

    disk.submit(work)
    disk._thread.join(LONG)
    assert done == [False, False, "more"]


def test_after_a_while_without_work_it_is_asked_whether_there_is_any(monkeypatch):
    """The owner may try again what failed, without anything new being handed in."""
    monkeypatch.setattr(module, "IDLE_AFTER", 0.01)
    is_idle = threading.Event()
    disk = Disk(lambda error: None, is_idle.set)
    assert is_idle.wait(LONG)
    assert disk.close(LONG)


def test_what_was_written_is_not_held(disk):
    """The arrays of a write are free when it is done, not when the next one comes."""

    class Array:
        """Something large that says when it is gone."""

        gone = threading.Event()

        def __del__(self):
            self.gone.set()

    large = Array()
    disk.submit(lambda large=large: None)
    del large
    assert Array.gone.wait(LONG)
