"""What a defense is timed on: the updates of a round of a given size, and a server that has a model and a root set.

Every defense of a size gets the same. The model is a perceptron of one hidden layer between 446 features and 30
classes, LOCATION30's, as wide as comes nearest to the wanted number of parameters; the root set has 300 examples. The
updates are the server's own (one gradient step) plus normal noise of the same norm, and its reverse plus such noise
from the malicious clients, who come last.
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
from agrbench.clients.local_training import Schedule, Trainer
from agrbench.clients.models import mlp
from agrbench.data.examples import Examples
from agrbench.errors import AgrbenchError
from agrbench.plugins.stack import Stack
from agrbench.randomness import generator
from agrbench.server.judge import Judge, Outcome
from agrbench.server.rounds import Gradients, Server

FEATURES, CLASSES, ROOT, SHARD, ONES, RATE = 446, 30, 300, 80, 0.12, 0.1
EACH = FEATURES + 1 + CLASSES  # parameters that a hidden unit adds


class Size(NamedTuple):
    """How many clients send how many parameters, and how many of them the server takes to be malicious."""

    clients: int
    parameters: int
    byzantine: int


def nearest(parameters: int) -> int:
    """Give the number of parameters, nearest to a wanted one, that a model of one hidden layer has.

    Raises:
        AgrbenchError: no such model is that small.
    """
    smallest = EACH + CLASSES
    if parameters < smallest:
        raise AgrbenchError(f"--parameters is {parameters}; the smallest model has {smallest}, write that or more")
    return round((parameters - CLASSES) / EACH) * EACH + CLASSES


def sizes(clients: Iterable[int], parameters: Iterable[int], byzantine: float | str) -> tuple[Size, ...]:
    """Combine numbers of clients and of parameters; a whole `byzantine` is a number, any other a share of the clients.

    Raises:
        AgrbenchError: a model is too small, or the malicious clients would not leave an honest one.
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
    """One size at work; `size.parameters` must be a number that `nearest` gives."""

    def __init__(self, size: Size, dtype: torch.dtype, device: torch.device) -> None:
        self.size, self.device, self.randomness = size, device, partial(generator, 0)
        self.learner = learner(mlp((size.parameters - CLASSES) // EACH), (FEATURES,), CLASSES, self.randomness("model"))
        self.learner.initial = self.model = self.learner.initial.to(device, dtype)
        rng = self.randomness("data")
        features = (torch.rand(ROOT, FEATURES, generator=rng) < ONES).to(dtype)
        self.root = Examples(features, torch.randint(CLASSES, (ROOT,), generator=rng), CLASSES).to(device)

    @cached_property
    def trainer(self) -> Trainer:
        """Train the root set like a client's shard: one gradient step."""
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
        """Put a stack to work, with nothing remembered, not even what a layout keeps of its folds."""
        return Judge(stack, replace(self.learner.layout), self.randomness, self.device)

    def rounds(self, judge: Judge) -> Callable[[], Outcome]:
        """Give a function that plays one more round and waits for its end, the server knowing nothing of it before."""
        numbers = itertools.count(1)

        def play() -> Outcome:
            number = next(numbers)
            outcome = judge.step(self.updates, self.size.byzantine, self.server(number), number)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            return outcome

        return play

    def server(self, number: int) -> Server:
        """Give a server that has yet to train and to evaluate; each round another update stands for its last step."""
        return Server(
            root=lambda: self.trainer.train(self.model)[0],
            evaluate=lambda: partial(self.learner.evaluate, self.model, examples=self.root),
            gradients=lambda: Gradients((FEATURES,), CLASSES, partial(self.learner.differentiate, self.model)),
            model=lambda: self.model,
            previous=lambda: self.updates[number % self.size.clients],
            sizes=lambda: torch.full((self.size.clients,), SHARD),
        )
