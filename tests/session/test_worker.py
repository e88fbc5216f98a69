"""GpuWorker: which job is pulled next, and that nothing ends its thread."""

import threading
import time

import pytest

from napari_unet.session import worker
from napari_unet.session.worker import ANSWER, BACKGROUND, FIRST, IDLE, INTERACTIVE, GpuWorker

LONG = 20.0


class Log:
    """What a worker says, and a worker."""

    def __init__(self, **kwargs):
        self.events, self.ends = [], []
        self.change = threading.Condition()
        self.worker = GpuWorker(self.on_event, self.on_end, **kwargs)

    def on_event(self, job, event):
        """Note an event."""
        self.note(self.events, (job, event))

    def on_end(self, job, error):
        """Note an end."""
        self.note(self.ends, (job, error))

    def note(self, where, what):
        """Note something."""
        with self.change:
            where.append(what)
            self.change.notify_all()

    def wait(self, fact):
        """Wait for something."""
        with self.change:
            assert self.change.wait_for(fact, LONG), (self.events, self.ends)

    def wait_for_ends(self, *jobs):
        """Wait until these jobs have ended."""
        self.wait(lambda: set(jobs) <= {job for job, _ in self.ends})

    def hold(self):
        """Keep the thread busy; the event that lets it go, once it is there."""
        is_there, go = threading.Event(), threading.Event()

        def held():
            is_there.set()
            assert go.wait(LONG)
            yield "held"

        self.worker.submit("hold", held, FIRST)
        assert is_there.wait(LONG)
        return go


@pytest.fixture
def log():
    """A worker with its log, closed at the end."""
    new = Log()
    yield new
    assert new.worker.close(LONG)


def pieces(name, count):
    """A job of some pieces."""
    return lambda: iter([f"{name}{n}" for n in range(count)])


def test_background_work_waits_a_moment_after_what_the_user_asked_first(log, monkeypatch):
    """The next click is answered at once; tiles in view do not wait, and the background goes on after a while."""
    monkeypatch.setattr(worker, "HUSH_SECONDS", 1.0)
    log.worker.submit("click", pieces("c", 1), ANSWER)
    log.wait_for_ends("click")
    start = time.monotonic()
    log.worker.submit("learn", pieces("l", 1), BACKGROUND)
    log.worker.submit("predict", pieces("p", 1), INTERACTIVE)
    log.wait_for_ends("learn", "predict")
    assert [event for _, event in log.events] == ["c0", "p0", "l0"]
    assert time.monotonic() - start > 0.5


def test_first_then_the_newest_interactive_then_background_in_turn(log):
    """What others need goes first, then the newest thing the user asked for; the rest shares what is left."""
    go = log.hold()
    log.worker.submit("a", pieces("a", 2), BACKGROUND)
    log.worker.submit("b", pieces("b", 2), BACKGROUND)
    log.worker.submit("old", pieces("old", 2), INTERACTIVE)
    log.worker.submit("new", pieces("new", 2), INTERACTIVE)
    log.worker.submit("load", pieces("load", 1), FIRST)
    go.set()
    log.wait_for_ends("a", "b")
    order = [event for _, event in log.events]
    assert order == ["held", "load0", "new0", "new1", "old0", "old1", "a0", "b0", "a1", "b1"]


def test_a_job_of_the_same_name_is_replaced_and_its_late_event_dropped(log):
    """The newer request of a name takes the place of the older one, even of one whose piece is running."""
    is_there, go = threading.Event(), threading.Event()

    def older():
        is_there.set()
        assert go.wait(LONG)
        yield "late"
        yield "never"

    log.worker.submit("predict", older)
    assert is_there.wait(LONG)
    log.worker.submit("predict", pieces("new", 2))
    go.set()
    log.wait_for_ends("predict")
    assert [event for _, event in log.events] == ["new0", "new1"]


def test_a_cancelled_job_says_nothing_any_more_and_is_closed(log):
    """Cancelling acts between two pieces: the piece that runs is finished, its event dropped, the iterator closed."""
    is_there, go, is_closed = threading.Event(), threading.Event(), threading.Event()

    def job():
        try:
            is_there.set()
            assert go.wait(LONG)
            yield "late"
        finally:
            is_closed.set()

    log.worker.submit("predict", job)
    assert is_there.wait(LONG)
    assert log.worker.cancel("predict")
    assert not log.worker.cancel("predict")
    go.set()
    assert is_closed.wait(LONG)
    log.worker.submit("other", pieces("o", 1))
    log.wait_for_ends("other")
    assert [job for job, _ in log.events] == ["other"]
    assert [job for job, _ in log.ends] == ["other"]


def test_a_paused_job_waits_and_goes_on_where_it_was(log):
    """A paused job is not pulled, others are; then it goes on with its next piece."""
    go = log.hold()
    log.worker.submit("learn", pieces("l", 2))
    log.worker.pause("learn", True)
    log.worker.submit("other", pieces("o", 1))
    go.set()
    log.wait_for_ends("other")
    assert log.worker.is_busy("learn")
    log.worker.pause("learn", False)
    log.wait_for_ends("learn")
    assert [event for _, event in log.events] == ["held", "o0", "l0", "l1"]


def test_idle_work_is_done_when_nothing_else_is_and_knows_it(log):
    """It comes after all others, is told what waits, and a piece without news says nothing."""
    go = log.hold()
    known = []

    def idle():
        known.append(log.worker.has_nothing_but(IDLE))
        log.worker.submit("late", pieces("late", 1), BACKGROUND)
        known.append(log.worker.has_nothing_but(IDLE))
        yield None
        known.append(log.worker.has_nothing_but(IDLE))
        yield "idle"

    log.worker.submit("idle", idle, IDLE)
    log.worker.submit("work", pieces("work", 2), BACKGROUND)
    go.set()
    log.wait_for_ends("idle")
    assert [event for _, event in log.events] == ["held", "work0", "work1", "late0", "idle"]
    assert known == [True, False, True]


def test_a_job_that_is_moved_to_the_background_takes_turns(log):
    """An interactive job whose urgent part is done lets background jobs in."""
    go = log.hold()
    log.worker.submit("learn", pieces("l", 2))
    log.worker.submit("predict", pieces("p", 2), INTERACTIVE)
    log.worker.prioritize("predict", BACKGROUND)
    log.worker.prioritize("nothing", BACKGROUND)
    go.set()
    log.wait_for_ends("learn", "predict")
    assert [event for _, event in log.events] == ["held", "l0", "p0", "l1", "p1"]


def test_what_is_held_begins_when_it_is_let_go(log):
    """Not before, and what came meanwhile in its order; the time that was given is the longest."""
    log.worker.hold(LONG)
    log.worker.submit("later", lambda: iter("b"))
    log.worker.submit("now", lambda: iter("a"), INTERACTIVE)
    time.sleep(0.05)
    assert not log.events
    log.worker.hold(0)
    log.wait(lambda: len(log.ends) == 2)
    assert [event for _, event in log.events] == ["a", "b"]
    log.worker.hold(0.1)
    start = time.monotonic()
    log.worker.submit("by itself", lambda: iter("c"))
    log.wait(lambda: len(log.ends) == 3)
    assert 0.1 <= time.monotonic() - start < LONG


@pytest.mark.parametrize("when", ["at the start", "in a piece"])
def test_an_error_ends_its_job_alone_and_arrives_once(log, when):
    """Whatever a job raises is told once, with the job's name; the next job runs."""

    def broken():
        if when == "at the start":
            raise ValueError("broken")

        def run():
            yield "fine"
            raise ValueError("broken")

        return run()

    log.worker.submit("broken", broken)
    log.wait_for_ends("broken")
    log.worker.submit("next", pieces("n", 1))
    log.wait_for_ends("next")
    (job, error), (other, none) = log.ends
    assert (job, str(error), other, none) == ("broken", "broken", "next", None)


def test_an_error_does_not_hold_what_the_failed_piece_held(log):
    """When a failure is told, the memory that the failed piece had taken is free: the next try needs it."""

    class Tensor:
        """Something large."""

        alive = 0

        def __init__(self):
            Tensor.alive += 1

        def __del__(self):
            Tensor.alive -= 1

    def greedy():
        large = Tensor()
        yield "one"
        raise MemoryError(f"{large is None}")

    counted = []
    log.on_end = None
    log.worker._on_end = lambda job, error: (counted.append(Tensor.alive), log.note(log.ends, (job, error)))
    log.worker.submit("greedy", greedy)
    log.wait_for_ends("greedy")
    assert counted == [0]


def test_a_listener_that_raises_does_not_end_the_thread(errors):
    """A mistake in whoever is told comes out like an uncaught error of a thread, and the job goes on."""
    log = Log(before=lambda active: 1 / 0)
    log.worker._on_event = lambda job, event: [][1]
    log.worker.submit("job", pieces("j", 2))
    log.wait_for_ends("job")
    assert log.worker.close(LONG)
    assert [type(e) for e in errors] == [ZeroDivisionError, IndexError] * 2 + [ZeroDivisionError]


def test_before_each_piece_it_is_told_whether_the_user_is_active():
    """After something the user did, the next pieces leave a core to the window."""
    told = []
    log = Log(before=told.append)
    log.worker.submit("calm", pieces("c", 1))
    log.wait_for_ends("calm")
    log.worker.user_is_active()
    log.worker.submit("busy", pieces("b", 1))
    log.wait_for_ends("busy")
    log.worker.close(LONG)
    assert told[0] is False
    assert told[-1] is True


def test_closing_ends_the_thread_after_the_piece_that_runs(log):
    """Closing waits as long as it is told to; what was handed in is dropped, and nothing is taken any more."""
    go = log.hold()
    log.worker.submit("later", pieces("l", 1))
    assert not log.worker.close(0.01)
    go.set()
    assert log.worker.close(LONG)
    log.worker.submit("too late", pieces("t", 1))
    assert not log.worker.is_busy("too late")
    assert log.events == []
    assert not any(thread is log.worker._thread for thread in threading.enumerate())


def test_it_can_be_closed_from_inside_its_thread():
    """A listener may close the worker: it does not wait for itself."""
    log = Log()
    answers = []
    log.worker._on_event = lambda job, event: answers.append(log.worker.close(LONG))
    log.worker.submit("job", pieces("j", 3))
    log.worker._thread.join(LONG)
    assert answers == [False]
    assert not log.worker._thread.is_alive()


def test_many_threads_may_ask_at_once(log):
    """Requests from many threads at once leave one job a name, and all of them end."""

    def ask(number):
        for turn in range(50):
            log.worker.submit(f"job {turn % 3}", pieces(f"{number}-", 2), turn % 3)
            log.worker.pause(f"job {turn % 3}", bool(turn % 2))
            log.worker.pause(f"job {turn % 3}", False)
            log.worker.prioritize(f"job {turn % 3}", BACKGROUND)
            log.worker.cancel(f"job {(turn + 1) % 3}")

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    log.worker.submit("last", pieces("l", 1))
    log.wait_for_ends("last")
    log.wait(lambda: not any(log.worker.is_busy(f"job {n}") for n in range(3)))
