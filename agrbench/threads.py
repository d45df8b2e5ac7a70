"""Work on blocks in as many threads as torch computes with, each block in one: results do not depend on how many."""

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
    """Let torch compute with so many threads, and afterwards with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def each(work: Callable[[T], R], items: Sequence[T], device: torch.device) -> Generator[R, None, None]:
    """Give what the work makes of each item, in their order; on a CPU, several at a time, one of them in this thread.

    Until the last is given, or the rest is given up (`close`), torch has one thread here, too.

    torch would split every single operation over its threads and have them wait for each other at its end, which for
    blocks that fit a cache takes longer than the operation, and many times as long beside other programs.
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
            finish(turns)  # where one fails, the others stop, too

    following, more = 0, min(threads, len(items)) - 1
    with using(1), ThreadPoolExecutor(more, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        helpers = [pool.submit(lambda: finish(take())) for _ in range(more)]
        for _ in take():  # the caller works, too: a thread that waits for every result keeps the others from theirs
            while following in made:
                yield made.pop(following)
                following += 1
        for helper in helpers:
            helper.result()
    yield from (made.pop(place) for place in range(following, len(items)))


def finish(results: Iterator[object]) -> None:
    """Wait for work that gives nothing."""
    for _ in results:
        pass
