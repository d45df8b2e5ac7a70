"""The round loop: train, attack, judge, step, measure; the only loop over rounds in the project."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from agrbench.cells import EVERY, UNATTACKED, Cell
from agrbench.errors import PluginError
from agrbench.federation import Batch, Examples, batch, federate
from agrbench.judging import Judge, Outcome, forge
from agrbench.logs import Log
from agrbench.plugins import Dataset
from agrbench.randomness import generator
from agrbench.registry import Registry
from agrbench.rounds import Insider, Memory, Server
from agrbench.stacks import Loaded, blame
from agrbench.training import learner


@dataclass
class State:
    """All that a run carries from round to round; copying it branches the run."""

    model: Tensor
    previous: Tensor
    excluded: set[int] = field(default_factory=set)
    attack_memory: Memory = field(default_factory=dict)


class Run:
    """One cell at work: its data, its model, its attack and its judge."""

    def __init__(self, cell: Cell, registry: Registry) -> None:
        self.cell = cell
        self.attack = registry.attack(cell.attack)
        self.device = torch.device(cell.device)
        self.randomness = partial(generator, cell.seed)
        stack = registry.stack(cell.defense)
        stack.check(cell.clients, cell.bound)
        dataset = registry.dataset(cell.dataset)
        train, test = _load(dataset)
        self.data = federate(
            train.to(self.device),
            test.to(self.device),
            dataset.record.root_size,
            cell.clients,
            cell.attackers,
            self.randomness,
        )
        self.rate = dataset.record.rate if cell.rate is None else cell.rate
        shape = tuple(train.features.shape[1:])
        with blame(dataset, "model"):
            self.learner = learner(dataset.record.model, shape, train.classes, self.randomness("model"))
        self.judge = Judge(stack, self.learner.layout, self.randomness, self.device)
        initial = self.learner.initial.to(self.device)
        self.state = State(initial, torch.zeros_like(initial))
        self.updates = initial.new_empty(cell.clients, len(initial))
        self.honest_ids = torch.tensor(self.data.honest, device=self.device)
        self.malicious_ids = torch.tensor(self.data.malicious, device=self.device, dtype=torch.long)

    @cached_property
    def clean_batch(self) -> Batch:
        """Hold all clients' own shards side by side."""
        return batch(self.data.shards)

    @cached_property
    def poisoned_batch(self) -> Batch:
        """Hold what the attack made of the malicious clients' shards."""
        shards = []
        for place, client in enumerate(self.data.malicious):
            shard = self.data.shards[client]
            if self.attack.record.poison is not None:
                with blame(self.attack, "poison"):
                    shard = self.attack.record.poison(shard, self.randomness("poison", 0, client), place)
                if not isinstance(shard, Examples) or not len(shard.labels):
                    raise PluginError(
                        f"{self.attack.path}: poison returned no examples; return Examples of one row or more"
                    )
            shards.append(shard)
        return batch(shards)

    @cached_property
    def root_batch(self) -> Batch:
        """Hold the server's root set as one client's shard."""
        return batch([self.data.root])

    @cached_property
    def probes(self) -> tuple[Examples, Examples] | None:
        """Hold the test examples not of the target class, labelled as it: stamped, and as they are."""
        trigger = self.attack.record.trigger
        if trigger is None:
            return None
        with blame(self.attack, "trigger"):
            stamped: Examples = trigger(self.data.test)
            if not isinstance(stamped, Examples) or len(stamped.labels) != len(self.data.test.labels):
                raise TypeError("trigger must return Examples, a stamped copy of each")
        others = stamped.labels != self.data.test.labels
        plain = self.data.test._replace(labels=stamped.labels)
        return stamped.take(others), plain.take(others)

    def attacked(self, number: int) -> bool:
        """Say whether the malicious clients attack in this round."""
        return self.cell.attack != UNATTACKED and number >= self.cell.first and self.cell.attackers > 0

    def round(self, number: int) -> tuple[Outcome, float]:
        """Play one round; give what the server decided and the seconds that it took."""
        state = self.state
        self.learner.updates(state.model, self.clean_batch, self.rate, self.updates)
        if self.attacked(number):
            self.updates[self.malicious_ids] = self._forge(number)
        began = time.perf_counter()
        outcome = self._step(self.judge, self.updates, number)
        self._synchronize()
        spent = time.perf_counter() - began
        state.model = state.model + outcome.step
        state.previous = outcome.step
        state.excluded |= set(outcome.exclude)
        return outcome, spent

    def measure(self, number: int) -> dict[str, float | None]:
        """Measure the global model on the test set, and under the trigger once the attack has begun."""
        loss, accuracy = self._score(self.data.test)
        measured = {"accuracy": accuracy, "loss": loss, "success": None, "success_untriggered": None}
        if self.attacked(number) and self.probes is not None:
            measured["success"], measured["success_untriggered"] = (self._score(probe)[1] for probe in self.probes)
        return measured

    def _step(self, judge: Judge, updates: Tensor, number: int) -> Outcome:
        state, learner = self.state, self.learner
        server = Server(
            {
                "root": self._root_update,
                "evaluate": lambda: partial(learner.evaluate, state.model, examples=self.data.root),
                "model": lambda: state.model,
                "previous": lambda: state.previous,
            }
        )
        return judge.step(updates, self.cell.bound, server, number, sorted(state.excluded))

    def _root_update(self) -> Tensor:
        out = self.updates.new_empty(1, self.updates.shape[1])
        return self.learner.updates(self.state.model, self.root_batch, self.rate, out)[0]

    def _forge(self, number: int) -> Tensor:
        state, updates, malicious = self.state, self.updates, self.malicious_ids

        def poisoned() -> Tensor:
            if self.attack.record.poison is None:
                return updates[malicious]
            out = updates.new_empty(len(malicious), updates.shape[1])
            return self.learner.updates(state.model, self.poisoned_batch, self.rate, out)

        def respond(rows: Tensor) -> Tensor:
            trial = updates.clone()
            trial[malicious] = rows.to(trial)
            return self._step(self.judge.rehearse(), trial, number).step

        sources = {
            "honest": lambda: updates[self.honest_ids],
            "clean": lambda: updates[malicious],
            "poisoned": poisoned,
            "model": lambda: state.model,
            "previous": lambda: state.previous,
            "respond": lambda: respond,
        }
        insider = Insider(
            len(malicious), self.cell.clients, self.cell.bound, self.learner.layout, number, state.attack_memory,
            self.randomness("attack", number), sources,
        )  # fmt: skip
        return forge(self.attack, insider, updates.shape[1]).to(updates)

    def _score(self, examples: Examples) -> tuple[float, float]:
        logits = self.learner.logits(self.state.model, examples.features)
        loss = torch.nn.functional.cross_entropy(logits, examples.labels)
        hits = (logits.argmax(1) == examples.labels).sum()
        return float(loss), int(hits) / len(examples.labels)

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def simulate(cell: Cell, registry: Registry) -> dict[str, Any]:
    """Run a cell and give the measured part of its record.

    Raises:
        Inapplicable: the stack is not defined for the cell's clients and bound.
        AgrbenchError: a plugin, a setting or a data file is at fault; the message says which.
    """
    run = Run(cell, registry)
    log = Log(run.honest_ids, run.malicious_ids)
    log.measured(0, run.measure(0))
    for number in range(1, cell.rounds + 1):
        log.played(*run.round(number), run.attacked(number))
        if number % EVERY == 0 or number == cell.rounds:
            log.measured(number, run.measure(number))
    return log.as_record(run.data.test.classes, run.attack.record.trigger is not None)


def _load(dataset: Loaded[Dataset]) -> tuple[Examples, Examples]:
    """Load a dataset and check what came."""
    with blame(dataset, "load"):
        train, test = dataset.record.load()
        for part in (train, test):
            if not isinstance(part, Examples) or len(part.features) != len(part.labels) or not len(part.labels):
                raise TypeError("load must return two Examples, train and test, each with as many features as labels")
    return train, test
