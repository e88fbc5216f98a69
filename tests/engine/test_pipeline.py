"""Reading, working and building beside each other."""

import threading
import time

import pytest

from napari_unet.engine.pipeline import AHEAD, in_order


def test_results_come_in_order():
    """However long each takes, the results are in the order of the items."""

    def finish(item, worked):
        time.sleep(0.01 if item % 3 else 0.0)
        return worked

    found = list(in_order(range(10), lambda i: i + 1, lambda i, x: (i, x * 2), finish))
    assert found == [(i, (i + 1) * 2) for i in range(10)]


def test_only_the_caller_works():
    """The device belongs to whoever pulls; reading and building happen in other threads, beside it."""
    where = {"prepare": set(), "work": set(), "finish": set()}

    def note(name):
        where[name].add(threading.get_ident())

    list(in_order(range(5), lambda i: note("prepare"), lambda i, x: note("work"), lambda i, x: note("finish")))
    assert where["work"] == {threading.get_ident()}
    assert not where["work"] & (where["prepare"] | where["finish"])
    assert all(len(threads) == 1 for threads in where.values())


def test_they_overlap():
    """While one item is worked on, the next one is prepared: each waits for the other, which would else be for ever."""
    prepared = [threading.Event() for _ in range(4)]
    worked = [threading.Event() for _ in range(4)]

    def prepare(i):
        prepared[i].set()

    def work(i, _):
        if i + 1 < 4:
            assert prepared[i + 1].wait(10)
        worked[i].set()

    def finish(i, _):
        return i + 1 == 4 or worked[i + 1].wait(10)

    assert all(in_order(range(4), prepare, work, finish))


def test_several_hands_finish_at_a_time():
    """Two items are finished beside each other, each waiting for the other; the results are in order all the same."""
    met = threading.Barrier(2)

    def finish(i, _):
        met.wait(10)
        return i

    assert list(in_order(range(6), lambda i: i, lambda i, x: x, finish, hands=2)) == list(range(6))


def test_little_is_held():
    """No more than a few items are prepared ahead, or wait to be built."""
    begun, ended = [], []

    def prepare(i):
        begun.append(i)
        return i

    for result in in_order(iter(range(50)), prepare, lambda i, x: x, lambda i, x: x):
        ended.append(result)
        time.sleep(0.002)
        assert len(begun) - len(ended) <= 2 * AHEAD + 2


@pytest.mark.parametrize("where", ["prepare", "work", "finish"])
def test_an_error_arrives_in_its_turn(where):
    """What was done before it is given, then the error is raised, and no thread is left."""
    before = threading.active_count()

    def step(name):
        def do(i, *_):
            if name == where and i == 3:
                raise RuntimeError("the third")
            return i

        return do

    found = []
    with pytest.raises(RuntimeError, match="the third"):
        found.extend(in_order(range(9), step("prepare"), step("work"), step("finish")))
    assert found == found[: len(found)] == list(range(len(found)))
    assert len(found) <= 3
    assert threading.active_count() == before


def test_stopping_in_the_middle_leaves_no_thread():
    """Closed early, nothing more is begun."""
    before, begun = threading.active_count(), []
    running = in_order(range(1000), begun.append, lambda i, x: x, lambda i, x: i)
    assert next(running) == 0
    running.close()
    assert threading.active_count() == before
    assert len(begun) < 10
