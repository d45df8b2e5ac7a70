"""The round loop (train, attack, judge, step, measure): the only loop over rounds in the project."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from typing import Any

import torch
from torch import Tensor

from agrbench.cells import EVERY, UNATTACKED, Cell
from agrbench.clients.insider import Insider, claim, forge
from agrbench.clients.local_training import Trainer
from agrbench.clients.schedules import Schedule
from agrbench.data.examples import Examples
from agrbench.plugins.contract import Memory
from agrbench.plugins.registry import Registry
from agrbench.plugins.stack import blame
from agrbench.randomness import generator
from agrbench.server import optimizers
from agrbench.server.checks import unwritten
from agrbench.server.combine import combine_buffers
from agrbench.server.judge import Judge, Outcome
from agrbench.server.rounds import Gradients, Server, was_read
from agrbench.simulation.log import Log
from agrbench.simulation.preparation import Prepared, load, prepare
from agrbench.simulation.sampling import draws
from agrbench.simulation.subgroups import by_subgroup
from agrbench.simulation.training import Training


@dataclass
class State:
    """What a run carries from round to round, apart from its trainers' optimizer states and its judge's memory.

    `previous` is the last combined step, and `server` what the server's optimizer keeps.
    """

    model: Tensor
    previous: Tensor
    buffers: Tensor
    excluded: set[int] = field(default_factory=set)
    server: optimizers.Kept = field(default_factory=dict)
    attack_memory: Memory = field(default_factory=dict)


class Run:
    """One running cell: its data, model, attack and judge; `played` counts its rounds."""

    def __init__(self, cell: Cell, registry: Registry, prepared: Prepared | None = None) -> None:
        self.cell = cell
        self.attack = registry.attack(cell.attack)
        self.device = torch.device(cell.device)
        self.randomness = partial(generator, cell.seed)
        stack = registry.stack(cell.defense)
        stack.check(cell.participants, cell.bound)
        stack.meet(self.attack)
        dataset = registry.dataset(cell.dataset)
        self.data, self.learner = prepared or prepare(cell, dataset, load(dataset, cell.clients))
        self.schedule = Schedule.of(cell, dataset.record.rate)
        self.move = optimizers.named(cell.server)
        self.judge = Judge(stack, self.learner.layout, self.randomness, self.device)
        initial = self.learner.initial.to(self.device, copy=True)
        self.state = State(initial, torch.zeros_like(initial), self.learner.buffers.to(self.device, copy=True))
        self.draw = draws(cell, self.data, self.randomness, self.device)
        self.cohort = self.draw(1)
        self.training = Training(self.data, self.learner, self.schedule, self.randomness)
        self.played, self.log = 0, Log()

    def branch(self, cell: Cell, registry: Registry) -> Run:
        """Fork this not-yet-attacked run under another attack. Forks share buffers: run one at a time.

        The state carried from round to round is copied; data, and buffers that every round overwrites, are shared.

        Raises:
            Inapplicable: the attack rehearses, which the defense does not support.
        """
        other = copy.copy(self)
        other.cell, other.attack = cell, registry.attack(cell.attack)
        self.judge.stack.meet(other.attack)
        other.state, other.judge, other.log = copy.deepcopy(self.state), self.judge.rehearse(), self.log.branch()
        other.training = self.training.branch()
        return other

    @property
    def carried(self) -> tuple[Any, ...]:
        """Return everything that is copied when another run branches off."""
        return vars(self.state), self.judge.memories, *self.training.carried

    @property
    def calm(self) -> int:
        """Count the initial rounds that no attack touches."""
        return min(self.cell.first - 1, self.cell.rounds) if self.data.malicious else self.cell.rounds

    def play(self, last: int) -> None:
        """Continue until round `last` has been played, measuring on the way."""
        if not self.log.rounds:
            self.log.measured(0, self.measure(0))
        for number in range(self.played + 1, last + 1):
            outcome, spent = self.round(number)
            self.log.played(self.cohort, outcome, spent, self.attacked(number))
            if number % EVERY == 0 or number == self.cell.rounds:
                self.log.measured(number, self.measure(number))
            self.played = number
        self.log.stop()

    def measured(self) -> dict[str, Any]:
        """Return the measured part of the record."""
        training = {"rate": self.schedule.rate, "parameters": self.learner.layout.parameters}
        targeted = self.attack.record.trigger is not None
        groups = by_subgroup(self._logits, self.data, self.cell, len(self.data.test.labels))
        return self.log.as_record(self.data.test.classes, targeted) | {"training": training, "groups": groups}

    @property
    def clean(self) -> Trainer:
        """Return the trainer of the round's clients on their own data."""
        return self.training.clean(self.cohort)

    @cached_property
    def probes(self) -> tuple[Examples, Examples] | None:
        """Return the test examples outside the target class, labelled as that class: stamped, and unstamped."""
        trigger = self.attack.record.trigger
        if trigger is None:
            return None
        with blame(self.attack, "trigger"):
            stamped: Examples = trigger(self.data.test.clone())
            if not isinstance(stamped, Examples) or len(stamped.labels) != len(self.data.test.labels):
                raise TypeError("trigger must return Examples, a stamped copy of each")
        others = stamped.labels != self.data.test.labels
        plain = self.data.test._replace(labels=stamped.labels)
        return stamped.take(others), plain.take(others)

    def begun(self, number: int) -> bool:
        """Return whether the attack has begun by this round."""
        return self.cell.attack != UNATTACKED and number >= self.cell.first and bool(self.data.malicious)

    def attacked(self, number: int) -> bool:
        """Return whether malicious clients attack in this round, the last one played or the one being played."""
        cell = self.cell
        due = (number - cell.first) % cell.every == 0 and number <= (cell.stop or cell.rounds)
        return self.begun(number) and due and len(self.cohort.malicious) > 0

    def round(self, number: int) -> tuple[Outcome, float]:
        """Play one round; return what the server decided and the seconds that it took."""
        state, self.cohort = self.state, self.draw(number)
        malicious, clean = self.cohort.malicious, self.clean
        if number == self.cell.first and self.begun(number):
            self.training.inherit()
        updates, buffers = clean.train(state.model, number, state.buffers), clean.buffers
        if self.attacked(number):
            insider = self.insider(number)
            with unwritten(self.attack, "forge", state.model, state.previous, updates):
                forged = forge(self.attack, insider, updates.shape[1])
            updates[malicious] = forged.to(updates)
            if was_read(insider, "poisoned") and self.attack.record.poison is not None:
                buffers = buffers.index_copy(0, malicious, self.training.poisoned(self.cohort, self.attack).buffers)
        self._synchronize()
        began = time.perf_counter()
        with unwritten(self.judge.stack.defense, "weigh", state.model, state.previous):
            outcome = self.step(self.judge, updates, self.server(self.training.root, number), number)
        self._synchronize()
        spent = time.perf_counter() - began
        if outcome.empty is None:
            state.model = state.model + self.move(outcome.step, state.server)
        state.previous = outcome.step
        if len(state.buffers) and outcome.empty is None:
            state.buffers = combine_buffers(state.buffers, buffers, outcome.weights)
        state.excluded |= set(outcome.exclude)
        return outcome, spent

    def measure(self, number: int) -> dict[str, float | None]:
        """Measure the global model on the test set and, once the attack has begun, under its trigger."""
        loss, accuracy = self._score(self.data.test)
        measured = {"accuracy": accuracy, "loss": loss, "success": None, "success_untriggered": None}
        if self.begun(number) and self.probes is not None:
            measured["success"], measured["success_untriggered"] = (self._score(probe)[1] for probe in self.probes)
        return measured

    def insider(self, number: int) -> Insider:
        """Return what the colluding clients see of this round, in which all clients have trained."""
        state, training, cohort = self.state, self.training, self.cohort
        updates = self.clean.updates
        server = self.server(lambda: training.root().rehearse(), number)  # trained once for all rehearsals
        trial = cache(updates.clone)

        def respond(rows: Tensor) -> Tensor:
            trial()[cohort.malicious] = rows.to(updates)
            return self.step(self.judge.rehearse(), trial(), server, number).step

        return Insider(
            malicious=len(cohort.malicious),
            clients=len(cohort.clients),
            ids=tuple(cohort.clients[row] for row in cohort.honest.tolist()),
            byzantine=self.cell.bound,
            layout=self.learner.layout,
            number=number,
            memory=state.attack_memory,
            rng=self.randomness("attack", number),
            honest=lambda: updates.index_select(0, cohort.honest),
            clean=lambda: updates.index_select(0, cohort.malicious),
            poisoned=lambda: training.poison(cohort, self.attack, state.model, number, state.buffers),
            model=lambda: state.model,
            previous=lambda: state.previous,
            respond=lambda: respond,
            see=self.judge.pool,
        )

    def step(self, judge: Judge, updates: Tensor, server: Server, number: int) -> Outcome:
        """Let a judge decide on the updates of the round's clients."""
        excluded, cohort = sorted(self.state.excluded), self.cohort
        return judge.step(updates, self.cell.bound, server, number, excluded, cohort.clients)

    def server(self, root: Callable[[], Trainer], number: int) -> Server:
        """Return what the server itself has in a round; `root` is asked for the trainer of its root set."""
        state = self.state
        return Server(
            root=lambda: root().train(state.model, number, state.buffers)[0],
            evaluate=lambda: partial(
                self.learner.evaluate, state.model, examples=self.data.root, buffers=state.buffers
            ),
            gradients=self._gradients,
            model=lambda: state.model,
            previous=lambda: state.previous,
            sizes=partial(self._claimed, number),
        )

    def _gradients(self) -> Gradients:
        """Let the server differentiate the global model; its root set provides only the examples' shape and classes."""
        shape, classes = tuple(self.data.root.features.shape[1:]), self.data.root.classes
        return Gradients(
            shape, classes, partial(self.learner.differentiate, self.state.model, buffers=self.state.buffers)
        )

    def _claimed(self, number: int) -> Tensor:
        """Return how many examples each client claims: the true number, unless the attack lies about it."""
        sizes = self.data.shards.sizes.double()
        attackers = list(self.cohort.attackers)
        if self.attacked(number):
            sizes[attackers] = claim(self.attack, sizes[attackers])
        return sizes

    def _logits(self, examples: Examples) -> Tensor:
        return self.learner.logits(self.state.model, examples.features, self.state.buffers)

    def _score(self, examples: Examples) -> tuple[float, float]:
        logits = self._logits(examples)
        loss = torch.nn.functional.cross_entropy(logits, examples.labels)
        hits = (logits.argmax(1) == examples.labels).sum()
        return float(loss), int(hits) / len(examples.labels)

    def _synchronize(self) -> None:
        """Wait for the device, because only the server's own seconds should be timed; nothing is read back."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def simulate(cell: Cell, registry: Registry, prepared: Prepared | None = None) -> dict[str, Any]:
    """Run a cell from beginning to end, sharing nothing; return the measured part of its record.

    Raises:
        Inapplicable: the stack is not defined for the cell's clients and bound.
        AgrbenchError: a plugin, a setting or a data file is at fault; the message says which.
    """
    run = Run(cell, registry, prepared)
    run.play(cell.rounds)
    return run.measured()
