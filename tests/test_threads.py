"""Work shared among threads: results in order, failures passed on, the thread count as before, no bit changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import agrbench
from agrbench.server import amplifier, combine, geometry
from agrbench.threads import each, finish, using

CPU = torch.device("cpu")


@pytest.fixture
def two_threads() -> Iterator[None]:
    with using(2):
        yield


@pytest.mark.usefixtures("two_threads")
def test_results_come_in_order_from_threads_in_which_torch_has_one() -> None:
    assert list(each(lambda item: (item, torch.get_num_threads()), range(20), CPU)) == [(i, 1) for i in range(20)]
    assert torch.get_num_threads() == 2
    with ThreadPoolExecutor(1) as later:  # it would begin with the count that was set last, anywhere
        assert later.submit(torch.get_num_threads).result() == 2


@pytest.mark.usefixtures("two_threads")
def test_what_fails_in_a_thread_fails_here_and_the_count_is_as_before() -> None:
    with pytest.raises(ZeroDivisionError):
        finish(each(lambda item: 1 // item, [1, 0, 2], CPU))
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("items", [0, 1, 2, 5])
def test_no_thread_is_begun_that_would_find_nothing_to_do(items: int, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[threading.Thread] = []
    start = threading.Thread.start

    def counted(thread: threading.Thread) -> None:
        begun.append(thread)
        start(thread)

    def work(item: int) -> int:
        time.sleep(0.01)  # no thread is free when the next is asked for
        return item

    monkeypatch.setattr(threading.Thread, "start", counted)
    with using(3):
        assert list(each(work, range(items), CPU)) == list(range(items))
    assert len(begun) <= min(2, max(items - 1, 0))


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("wrong", [0, 1, 99])
def test_where_one_fails_the_others_stop_and_the_count_is_as_before(wrong: int) -> None:
    begun = []

    def work(item: int) -> None:
        begun.append(item)
        time.sleep(0.001)
        if item == wrong:
            raise LookupError(item)

    with pytest.raises(LookupError):
        finish(each(work, range(1000), CPU))
    assert len(begun) < wrong + 100
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_results_are_handed_on_while_others_are_made_and_leaving_early_stops_the_rest() -> None:
    begun = []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.001)
        return item

    results = each(work, range(1000), CPU)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert len(begun) < 500
    results.close()
    assert len(begun) < 500
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    "defense",
    ["krum", "multi_krum", "euden", "amp+cosden", "median", "trimmed_mean", "meamed", "amp+median", "nnm+krum"],
)
def test_the_number_of_threads_changes_no_bit(defense: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (amplifier, combine, geometry):
        monkeypatch.setattr(module, "BLOCK", 2048)
    monkeypatch.setattr(amplifier, "STRIP", 2048)
    rng = torch.Generator().manual_seed(3)
    rows = torch.randn(60 * 40, generator=rng) + 0.1 * torch.randn(12, 60 * 40, generator=rng)
    steps = []
    for threads in (1, 2, 3):
        with using(threads):
            steps.append(agrbench.aggregate(rows, defense, 2, [(60, 40)]))
    assert torch.equal(steps[0], steps[1])
    assert torch.equal(steps[0], steps[2])
