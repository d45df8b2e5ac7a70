"""Real processes that start at once on one folder."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from typing import Any

CONTEXT = multiprocessing.get_context("spawn")


def together(tasks: list[Callable[..., object]], *words: Any) -> list[object]:
    """Run each task in a process of its own, all from the same moment on, and return what they return or raise."""
    barrier, answers = CONTEXT.Barrier(len(tasks)), CONTEXT.SimpleQueue()
    processes = [
        CONTEXT.Process(target=_run, args=(number, task, barrier, answers, words)) for number, task in enumerate(tasks)
    ]
    for process in processes:
        process.start()
    found = dict(answers.get() for _ in processes)
    for process in processes:
        process.join()
    return [found[number] for number in range(len(tasks))]


def _run(number: int, task: Callable[..., object], barrier: Barrier, answers: Any, words: tuple[Any, ...]) -> None:
    barrier.wait(60)
    try:
        answers.put((number, task(*words)))
    except Exception as error:
        answers.put((number, repr(error)))
