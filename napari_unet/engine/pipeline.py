"""Work in order on one device, while what comes before and after it is done beside it.

The only file of the engine with threads. While pictures are predicted they read and build, with numpy alone.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Worked = TypeVar("Worked")
Result = TypeVar("Result")

AHEAD = 2
"""Items that are prepared, and that wait to be finished, at most: the memory that it costs to overlap."""


def in_order(
    items: Iterable[Item],
    prepare: Callable[[Item], Prepared],
    work: Callable[[Item, Prepared], Worked],
    finish: Callable[[Item, Worked], Result],
    *,
    hands: int = 1,
) -> Iterator[Result]:
    """Prepare, work on and finish items; the results come in the items' order.

    Parameters
    ----------
    items : iterable
    prepare, finish : callable
        Called in threads of their own; `prepare` for one item after the other.
    work : callable
        Called in the thread that pulls.
    hands : int
        Items that are finished at a time, at most.

    Raises
    ------
    Exception
        What any of the three raises, when its item's turn comes; nothing is begun after that.
    """
    todo = iter(items)
    with ThreadPoolExecutor(1, "prepare") as preparing, ThreadPoolExecutor(hands, "finish") as finishing:
        ready: deque[tuple[Item, Future[Prepared]]] = deque()
        done: deque[Future[Result]] = deque()
        try:
            for item in itertools.islice(todo, AHEAD):
                ready.append((item, preparing.submit(prepare, item)))
            while ready:
                item, prepared = ready.popleft()
                what = prepared.result()
                ready.extend((coming, preparing.submit(prepare, coming)) for coming in itertools.islice(todo, 1))
                done.append(finishing.submit(finish, item, work(item, what)))
                while done and (done[0].done() or len(done) >= AHEAD + hands):
                    yield done.popleft().result()
            while done:
                yield done.popleft().result()
        finally:
            for pool in (preparing, finishing):
                pool.shutdown(wait=False, cancel_futures=True)
