"""Board: all facts in one snapshot, changed and told by many threads."""

import threading
from dataclasses import replace

from napari_unet.session.state import Board


def test_a_change_is_told_and_no_change_is_not():
    """Listeners hear of a new state once, and nothing if nothing differs."""
    told = []
    board = Board(told.append)
    assert board.update(corrections=1)
    assert not board.update(corrections=1)
    assert [state.corrections for state in told] == [1]


def test_no_update_is_lost_and_the_last_told_is_the_state():
    """Threads that count up together lose no count, and the last thing that is told is what holds."""
    told = []
    board = Board(told.append)

    def count():
        for _ in range(300):
            board.change(lambda state: replace(state, learnt=state.learnt + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert board.state.learnt == 1200
    assert told[-1] is board.state
    counts = [state.learnt for state in told]
    assert counts == sorted(counts)


def test_no_lock_is_held_while_it_is_told():
    """A listener may wait for another thread that changes the state."""
    told = []

    def listen(state):
        told.append(state.learnt)
        if state.learnt == 1:
            other = threading.Thread(target=lambda: board.update(learnt=2))
            other.start()
            other.join(20)
            assert not other.is_alive()

    board = Board(listen)
    board.update(learnt=1)
    assert told == [1, 2]


def test_a_listener_that_changes_the_state_is_told_in_order():
    """A change made by a listener is told after the one it was told of."""
    told = []

    def listen(state):
        told.append(state.learnt)
        if state.learnt < 3:
            board.update(learnt=state.learnt + 1)

    board = Board(listen)
    board.update(learnt=1)
    assert told == [1, 2, 3]


def test_a_listener_that_raises_spoils_nothing(errors):
    """A listener's mistake is told elsewhere; the state changes, and the next change is told."""
    told = []

    def listen(state):
        told.append(state.learnt)
        raise ValueError("mistake")

    board = Board(listen)
    board.update(learnt=1)
    board.update(learnt=2)
    assert told == [1, 2]
    assert len(errors) == 2
