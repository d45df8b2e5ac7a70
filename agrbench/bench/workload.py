"""What defenses are timed on: the updates of a round of a given size, and a server with a model and a root set.

All defenses of a size share one workload. The model is a perceptron with one hidden layer between 446 features and 30
classes (those of LOCATION30), whose width brings it nearest to the wanted number of parameters; the root set has 300
examples. Honest clients send the server's own update (one gradient step) plus normal noise of the same norm; malicious
clients, who come last, send its reverse plus noise of that norm.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property, partial
from typing import NamedTuple

import torch
from torch import Tensor

from agrbench.clients.learner import learner
from agrbench.clients.local_training import Trainer
from agrbench.clients.models import mlp
from agrbench.clients.schedules import Schedule
from agrbench.data.examples import Examples
from agrbench.errors import AgrbenchError
from agrbench.plugins.stack import Stack
from agrbench.randomness import generator
from agrbench.server.judge import Judge, Outcome
from agrbench.server.rounds import Gradients, Server

FEATURES, CLASSES, ROOT, SHARD, ONES, RATE = 446, 30, 300, 80, 0.12, 0.1
EACH = FEATURES + 1 + CLASSES  # parameters that a hidden unit adds


class Size(NamedTuple):
    """How many clients send how many parameters, and how many of the clients the server assumes to be malicious."""

    clients: int
    parameters: int
    byzantine: int


def nearest(parameters: int) -> int:
    """Return the number of parameters nearest to `parameters` that a model with one hidden layer can have.

    Raises:
        AgrbenchError: even the smallest such model has more.
    """
    smallest = EACH + CLASSES
    if parameters < smallest:
        raise AgrbenchError(f"--parameters is {parameters}; the smallest model has {smallest}, write that or more")
    return round((parameters - CLASSES) / EACH) * EACH + CLASSES


def sizes(clients: Iterable[int], parameters: Iterable[int], byzantine: float | str) -> tuple[Size, ...]:
    """Combine numbers of clients and of parameters; an integer `byzantine` is a number, a float a share of the clients.

    Raises:
        AgrbenchError: a model is too small, or `byzantine` is not a number or share that leaves an honest client.
    """
    if isinstance(byzantine, str):
        raise AgrbenchError(f"--byzantine is {byzantine}; write a share such as 0.2, or a number such as 4")
    found = []
    for n, p in itertools.product(clients, dict.fromkeys(map(nearest, parameters))):
        f = byzantine if isinstance(byzantine, int) else round(byzantine * n)
        if not 0 <= f < n:
            raise AgrbenchError(f"--byzantine {byzantine} is {f} of {n} clients; write less, and not below 0")
        found.append(Size(n, p, f))
    return tuple(found)


class Workload:
    """The workload of one size; `size.parameters` must be a number that `nearest` returns."""

    def __init__(self, size: Size, dtype: torch.dtype, device: torch.device) -> None:
        self.size, self.device, self.randomness = size, device, partial(generator, 0)
        self.learner = learner(mlp((size.parameters - CLASSES) // EACH), (FEATURES,), CLASSES, self.randomness("model"))
        self.learner.initial = self.model = self.learner.initial.to(device, dtype)
        rng = self.randomness("data")
        features = (torch.rand(ROOT, FEATURES, generator=rng) < ONES).to(dtype)
        self.root = Examples(features, torch.randint(CLASSES, (ROOT,), generator=rng), CLASSES).to(device)

    @cached_property
    def trainer(self) -> Trainer:
        """Return the trainer of the root set, which trains like a client's shard: one gradient step."""
        return Trainer(self.learner, [self.root], Schedule("sgd", RATE))

    @cached_property
    def updates(self) -> Tensor:
        """Draw the updates: `(clients, parameters)`."""
        clients, parameters, byzantine = self.size
        common = self.trainer.train(self.model)[0].clone()
        rows = torch.empty(clients, parameters, dtype=common.dtype)
        rows.normal_(generator=self.randomness("updates"))
        rows = rows.to(self.device).mul_(torch.linalg.vector_norm(common) / math.sqrt(parameters))
        rows[: clients - byzantine] += common
        rows[clients - byzantine :] -= common
        return rows

    def judge(self, stack: Stack) -> Judge:
        """Make a stack's judge that remembers nothing, not even the folds that a layout caches."""
        return Judge(stack, replace(self.learner.layout), self.randomness, self.device)

    def rounds(self, judge: Judge) -> Callable[[], Outcome]:
        """Return a function that plays and awaits one more round, for which the server has precomputed nothing."""
        numbers = itertools.count(1)

        def play() -> Outcome:
            number = next(numbers)
            outcome = judge.step(self.updates, self.size.byzantine, self.server(number), number)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            return outcome

        return play

    def server(self, number: int) -> Server:
        """Return a server that has not trained or evaluated yet; its last step is a different update each round."""
        return Server(
            root=lambda: self.trainer.train(self.model)[0],
            evaluate=lambda: partial(self.learner.evaluate, self.model, examples=self.root),
            gradients=lambda: Gradients((FEATURES,), CLASSES, partial(self.learner.differentiate, self.model)),
            model=lambda: self.model,
            previous=lambda: self.updates[number % self.size.clients],
            sizes=lambda: torch.full((self.size.clients,), SHARD),
        )
