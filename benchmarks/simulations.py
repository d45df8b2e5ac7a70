"""How fast are whole simulations of LOCATION30, next to a plain PyTorch loop over clients and the machine's limits?

python benchmarks/simulations.py [THREADS [REPEATS]]

The loop is what one writes first: one module and one optimizer per client, one client after another, and one evaluation
per client for Fang's rule. Both train the same clients, take turns, and reach the same accuracy.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from tabulate import tabulate
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.profiler import ProfilerActivity, profile

from agrbench.cells import Cell
from agrbench.clients.federation import Federation
from agrbench.clients.models import named
from agrbench.clients.schedules import Schedule
from agrbench.data.examples import Examples
from agrbench.plugins.registry import Registry
from agrbench.simulation.preparation import Prepared, load, prepare
from agrbench.simulation.run import Run
from agrbench.threads import each, finish, using

RELEASED = {"schedule": "adam(epochs=2,batches=5)", "model": "mlp(512,1024)"}
PRODUCTS = ("aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm", "aten::addmv_", "aten::mv")
ROUNDS, SIDE = 3, 2048
CLIENTS = 8  # per thread: with their optimizer state they exceed a cache

Call = Callable[[], object]


class Plain:
    """A federation with one module and one optimizer per client."""

    def __init__(self, data: Federation, cell: Cell, rate: float) -> None:
        self.data, self.schedule, self.fang = data, Schedule.of(cell, rate), cell.defense == "fang"
        self.keep = cell.clients - cell.bound
        build = partial(named(cell.model or "mlp(512)"), tuple(data.test.features.shape[1:]), data.test.classes)
        self.modules = [build() for _ in data.shards]
        self.model, self.scratch = parameters_to_vector(build().parameters()).detach(), build()
        optimizer = torch.optim.Adam if self.schedule.optimizer == "adam" else torch.optim.SGD
        self.optimizers = [optimizer(module.parameters(), self.schedule.rate) for module in self.modules]

    def round(self) -> None:
        """Train client by client, and step by the mean of the updates kept."""
        updates = torch.stack([self.train(client) for client in range(len(self.modules))])
        if self.fang:
            updates = updates[self.trusted(updates)]
        self.model = self.model + updates.mean(0)

    def train(self, client: int) -> Tensor:
        """Train one client's module from the global model, and return its update."""
        module, optimizer, shard = self.modules[client], self.optimizers[client], self.data.shards[client]
        vector_to_parameters(self.model.clone(), module.parameters())
        for _ in range(self.schedule.epochs):
            for rows in torch.arange(len(shard.labels)).tensor_split(self.schedule.batches):
                optimizer.zero_grad()
                torch.autograd.backward(nn.functional.cross_entropy(module(shard.features[rows]), shard.labels[rows]))
                optimizer.step()
        return parameters_to_vector(module.parameters()).detach() - self.model

    @torch.no_grad()
    def trusted(self, updates: Tensor) -> Tensor:
        """Return the rows among both the lowest losses and the highest accuracies on the root set."""
        losses, accuracies = zip(*(self.score(self.model + row, self.data.root) for row in updates), strict=True)
        low = set(torch.tensor(losses).argsort()[: self.keep].tolist())
        high = set(torch.tensor(accuracies).argsort(descending=True, stable=True)[: self.keep].tolist())
        return torch.tensor(sorted(low & high))

    @torch.no_grad()
    def score(self, model: Tensor, examples: Examples) -> tuple[float, float]:
        """Return a model's loss and accuracy."""
        vector_to_parameters(model, self.scratch.parameters())
        logits = self.scratch(examples.features)
        hits = (logits.argmax(1) == examples.labels).float().mean()
        return float(nn.functional.cross_entropy(logits, examples.labels)), float(hits)


def main(threads: int, repeats: int) -> None:
    """Print the rows."""
    print(tabulate(rows(threads, repeats), headers=("what", "measured", "goal", "remark"), disable_numparse=True))


def rows(threads: int = 2, repeats: int = 5) -> Iterator[tuple[str, str, str, str]]:
    """Yield the ratio of seconds per round, with what it would be if ours took no more time than its kernels."""
    torch.set_num_threads(threads)
    registry = Registry()
    best = fastest()
    for name, defense, settings, goal in (
        ("released schedule, fedavg", "fedavg", RELEASED, "4x"),
        ("released schedule, fang", "fang", RELEASED, "10x"),
        ("full batch, fedavg", "fedavg", {}, "-"),
    ):
        cell = Cell("location30", defense, "none", rounds=10**6, threads=threads, **settings)  # type: ignore[arg-type]
        dataset = registry.dataset(cell.dataset)
        prepared = prepare(cell, dataset, load(dataset))
        run, plain = Run(cell, registry, prepared), Plain(prepared[0], cell, dataset.record.rate)
        ours, theirs = turns([partial(harness, run), partial(loop, plain)], repeats)
        ratios = [their / our for our, their in zip(ours, theirs, strict=True)]
        yield (
            f"LOCATION30, {name}, beside a plain loop over clients",
            f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})",
            goal,
            f"{statistics.median(theirs):.2f} s to {statistics.median(ours):.2f} s a round; "
            + limits(cell, prepared, best, threads, statistics.median(theirs)),
        )
    yield shares(registry, threads)


def turns(sides: list[Callable[[], None]], repeats: int) -> list[list[float]]:
    """Let the sides take turns; return each one's seconds per round."""
    spent: list[list[float]] = [[] for _ in sides]
    for _ in range(repeats + 1):
        for side, mine in zip(sides, spent, strict=True):
            began = time.perf_counter()
            side()
            mine.append((time.perf_counter() - began) / ROUNDS)
    return [mine[1:] for mine in spent]  # the first repeat allocates


def harness(run: Run) -> None:
    """Play rounds of a run, and measure its model."""
    for number in range(run.played + 1, run.played + ROUNDS + 1):
        run.round(number)
    run.played += ROUNDS
    run.measure(run.played)


def loop(plain: Plain) -> None:
    """Play rounds of the plain loop, and measure its model."""
    for _ in range(ROUNDS):
        plain.round()
    plain.score(plain.model, plain.data.test)


def limits(cell: Cell, prepared: Prepared, best: float, threads: int, theirs: float) -> str:
    """Describe how many times as fast as the loop a round could be if nothing but its kernels took time."""
    data, learner = prepared
    schedule = Schedule.of(cell, 1.0)
    weights, first = learner.layout.parameters, learner.layout.layers[0].size
    judged = len(data.shards) * len(data.root.labels) if cell.defense == "fang" else 0
    measured = 2 * weights * (judged + len(data.test.labels) // ROUNDS) / best
    rows = len(data.shards[0].labels)
    if schedule.is_one_step:
        trained = len(data.shards) * rows * (6 * weights - 2 * first) / best
        return f"{theirs / (trained + measured):.1f}x if ours were its matrix products at {best / 1e9:.0f} GFLOP/s"
    size, steps = rows // schedule.batches, len(data.shards) * schedule.epochs * schedule.batches
    shapes = [(layer.rows, layer.columns) for layer in learner.layout.layers]
    with using(1):
        products, optimizer = (sum(map(quickest, calls)) for calls in one_client(size, shapes))
    together = side_by_side(size, shapes, threads, schedule.epochs * schedule.batches)
    alone, beside = (theirs / (steps * step / threads + measured) for step in (products + optimizer, together))
    return (
        f"{beside:.1f}x if ours were nothing but a client's products of {size} rows and its Adam, {threads} clients "
        f"side by side ({1e3 * together:.2f} ms a step); {alone:.1f}x if each call were as fast as one thread repeats "
        f"it alone ({1e3 * products:.2f} and {1e3 * optimizer:.2f} ms)"
    )


def one_client(rows: int, shapes: list[tuple[int, int]]) -> tuple[list[Call], list[Call]]:
    """Return the products of a client's step, forward and backward, and its Adam step, on separate memory."""
    sizes = [above * below for above, below in shapes]
    parameter, gradient = torch.rand(sum(sizes), requires_grad=True), torch.rand(sum(sizes))
    pieces = zip(torch.split(parameter.detach(), sizes), torch.split(gradient, sizes), shapes, strict=True)
    products: list[Call] = []
    for place, (weight, slope, (above, below)) in enumerate(pieces):
        inputs, outputs, error = torch.rand(rows, above), torch.empty(rows, below), torch.rand(rows, below)
        products += [
            partial(torch.mm, inputs, weight.view(above, below), out=outputs),
            partial(torch.mm, inputs.T, error, out=slope.view(above, below)),
        ]
        if place:
            products.append(partial(torch.mm, error, weight.view(above, below).T, out=torch.empty(rows, above)))
    parameter.grad = gradient
    return products, [torch.optim.Adam([parameter], lr=1e-9, fused=True).step]


def side_by_side(rows: int, shapes: list[tuple[int, int]], threads: int, steps: int) -> float:
    """Return the seconds per step if each thread takes one client after another, and `steps` steps with each."""
    clients = [[call for part in one_client(rows, shapes) for call in part] for _ in range(CLIENTS * threads)]

    def work(calls: list[Call]) -> None:
        for _ in range(steps):
            for call in calls:
                call()

    def all_of_them() -> None:
        finish(each(work, clients, torch.device("cpu")))

    all_of_them()
    return quickest(all_of_them, 10) / (CLIENTS * steps)


def quickest(call: Call, times: int = 100) -> float:
    """Return the seconds of a call: the first decile of `times` calls."""
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        spent.append(time.perf_counter() - began)
    return sorted(spent)[times // 10]


def fastest() -> float:
    """Return the operations per second of a large product."""
    left, right, out = (torch.rand(SIDE, SIDE) for _ in range(3))
    return 2 * SIDE**3 / quickest(partial(torch.mm, left, right, out=out), 10)


def shares(registry: Registry, threads: int) -> tuple[str, str, str, str]:
    """Measure the share and the speed of matrix products in a full-batch simulation, evaluations included."""
    cell = Cell("location30", "fedavg", "none", rounds=10**6, threads=threads)
    run = Run(cell, registry)
    run.play(10)
    with profile(activities=[ProfilerActivity.CPU], with_flops=True) as seen:
        began = time.perf_counter()
        run.play(40)
        spent = time.perf_counter() - began
    events = [event for event in seen.key_averages() if event.key in PRODUCTS]
    inside = sum(event.self_cpu_time_total for event in events) / 1e6
    rate = sum(event.flops for event in events) / inside / 1e9
    return (
        "LOCATION30, full batch, fedavg, rounds 11 to 40: share of time in matrix products",
        f"{inside / spent:.0%}",
        "80%",
        f"at {rate:.0f} GFLOP/s; a product of {SIDE} x {SIDE} reaches {fastest() / 1e9:.0f}",
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2, int(sys.argv[2]) if len(sys.argv) > 2 else 5)
