"""Parallel work on blocks, each in one of torch's number of threads: results do not depend on that number."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

from agrbench.machine import keep_freed

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def using(count: int) -> Iterator[None]:
    """Let torch compute with `count` threads, and restore the previous number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def each(work: Callable[[T], R], items: Sequence[T], device: torch.device) -> Generator[R, None, None]:
    """Yield the result of `work` on each item, in order; on a CPU several run at a time, one of them in this thread.

    Until the last result is yielded, or the generator is closed, torch uses one thread in this thread too.

    torch itself would split every single operation over its threads, which then wait for each other. For blocks that
    fit a cache, that takes longer than the operation, and many times as long while other programs run.
    """
    keep_freed()
    threads = torch.get_num_threads()
    if threads == 1 or len(items) < 2 or device.type != "cpu":
        yield from map(work, items)
        return
    turns, made = iter(enumerate(items)), dict[int, R]()

    def take() -> Iterator[int]:
        try:
            for place, item in turns:
                made[place] = work(item)
                yield place
        finally:
            finish(turns)  # if one fails, the others stop too

    following, more = 0, min(threads, len(items)) - 1
    with using(1), ThreadPoolExecutor(more, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        helpers = [pool.submit(lambda: finish(take())) for _ in range(more)]
        for _ in take():  # the caller works too: if it only waited for each result, it would hold up the others
            while following in made:
                yield made.pop(following)
                following += 1
        for helper in helpers:
            helper.result()
    yield from (made.pop(place) for place in range(following, len(items)))


def finish(results: Iterator[object]) -> None:
    """Run an iterator to its end, ignoring what it yields."""
    for _ in results:
        pass
