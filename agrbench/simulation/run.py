"""The round loop (train, attack, judge, step, measure): the only loop over rounds in the project."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from typing import Any

import torch
from torch import Tensor

from agrbench.cells import EVERY, UNATTACKED, Cell
from agrbench.clients.insider import Attacker, Insider, forge
from agrbench.clients.local_training import Schedule, Trainer
from agrbench.data.examples import Examples
from agrbench.errors import PluginError
from agrbench.plugins.contract import Memory
from agrbench.plugins.registry import Registry
from agrbench.plugins.stack import blame
from agrbench.randomness import Randomness, generator
from agrbench.server.combine import combine_buffers
from agrbench.server.judge import Judge, Outcome
from agrbench.server.rounds import Gradients, Server, was_read
from agrbench.simulation.log import Log
from agrbench.simulation.preparation import Prepared, load, prepare


@dataclass
class State:
    """What a run carries from round to round, apart from its trainers' optimizer states and its judge's memory."""

    model: Tensor
    previous: Tensor
    buffers: Tensor
    excluded: set[int] = field(default_factory=set)
    attack_memory: Memory = field(default_factory=dict)


class Run:
    """One running cell: its data, model, attack and judge; `played` counts its rounds."""

    def __init__(self, cell: Cell, registry: Registry, prepared: Prepared | None = None) -> None:
        self.cell = cell
        self.attack = registry.attack(cell.attack)
        self.device = torch.device(cell.device)
        self.randomness = partial(generator, cell.seed)
        stack = registry.stack(cell.defense)
        stack.check(cell.clients, cell.bound)
        stack.meet(self.attack)
        dataset = registry.dataset(cell.dataset)
        self.data, self.learner = prepared or prepare(cell, dataset, load(dataset))
        self.schedule = Schedule.of(cell, dataset.record.rate)
        self.judge = Judge(stack, self.learner.layout, self.randomness, self.device)
        initial = self.learner.initial.to(self.device, copy=True)
        self.state = State(initial, torch.zeros_like(initial), self.learner.buffers.to(self.device, copy=True))
        self.honest_ids = torch.tensor(self.data.honest, device=self.device)
        self.malicious_ids = torch.tensor(self.data.malicious, device=self.device, dtype=torch.long)
        self.trainers: dict[str, Trainer] = {}
        self.played, self.log = 0, Log(self.honest_ids, self.malicious_ids)

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
        other.trainers = {name: trainer.branch() for name, trainer in self.trainers.items()}
        return other

    @property
    def carried(self) -> tuple[Any, ...]:
        """Return everything that is copied when another run branches off."""
        return vars(self.state), self.judge.memories, *(trainer.state for trainer in self.trainers.values())

    @property
    def calm(self) -> int:
        """Count the initial rounds that no attack touches."""
        return min(self.cell.first - 1, self.cell.rounds) if self.data.malicious else self.cell.rounds

    def play(self, last: int) -> None:
        """Continue until round `last` has been played, measuring on the way."""
        if not self.played:
            self.log.measured(0, self.measure(0))
        for number in range(self.played + 1, last + 1):
            self.log.played(*self.round(number), self.attacked(number))
            if number % EVERY == 0 or number == self.cell.rounds:
                self.log.measured(number, self.measure(number))
            self.played = number
        self.log.stop()

    def measured(self) -> dict[str, Any]:
        """Return the measured part of the record."""
        training = {"rate": self.schedule.rate, "parameters": self.learner.layout.parameters}
        targeted = self.attack.record.trigger is not None
        return self.log.as_record(self.data.test.classes, targeted) | {"training": training}

    @property
    def clean(self) -> Trainer:
        """Return the trainer of all clients on their own data."""
        return self._trainer("clean", lambda: self.data.shards)

    @property
    def poisoned(self) -> Trainer:
        """Return the trainer of the malicious clients on their poisoned shards."""
        return self._trainer("poisoned", self._poisoned_shards)

    @property
    def root(self) -> Trainer:
        """Return the trainer of the server's root set, which is trained like a client's shard."""
        return self._trainer("root", lambda: [self.data.root])

    def _trainer(self, name: str, shards: Callable[[], Sequence[Examples]]) -> Trainer:
        if name not in self.trainers:
            ids = self.data.malicious if name == "poisoned" else None
            draw = partial(_seed, self.randomness, f"{name} training", ids)  # not of self: a cycle would keep the run
            self.trainers[name] = Trainer(self.learner, shards(), self.schedule, draw)
        return self.trainers[name]

    def _poisoned_shards(self) -> list[Examples]:
        """Poison the malicious clients' shards.

        Raises:
            PluginError: the attack returned no examples.
        """
        labels = torch.cat([shard.labels for shard in self.data.shards])
        shards = []
        for number, client in enumerate(self.data.malicious):
            with blame(self.attack, "poison"):
                assert self.attack.record.poison is not None
                shard = self.attack.record.poison(
                    self.data.shards[client].clone(), self.randomness("poison", 0, client), Attacker(number, labels)
                )
            if not isinstance(shard, Examples) or not len(shard.labels):
                raise PluginError(
                    f"{self.attack.path}: poison returned no examples; return Examples of one row or more"
                )
            shards.append(shard)
        return shards

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

    def attacked(self, number: int) -> bool:
        """Return whether the malicious clients attack in this round."""
        return self.cell.attack != UNATTACKED and number >= self.cell.first and bool(self.data.malicious)

    def round(self, number: int) -> tuple[Outcome, float]:
        """Play one round; return what the server decided and the seconds that it took."""
        state = self.state
        if number == self.cell.first and self.attacked(number) and self.attack.record.poison is not None:
            self.poisoned.take_over(self.clean, self.malicious_ids)
        updates, buffers = self.clean.train(state.model, number, state.buffers), self.clean.buffers
        if self.attacked(number):
            insider = self.insider(number)
            forged = forge(self.attack, insider, updates.shape[1])
            updates[self.malicious_ids] = forged.to(updates)
            if was_read(insider, "poisoned") and self.attack.record.poison is not None:
                buffers = buffers.index_copy(0, self.malicious_ids, self.poisoned.buffers)
        self._synchronize()
        began = time.perf_counter()
        outcome = self._step(self.judge, updates, self._server(lambda: self._train_root(self.root, number)), number)
        self._synchronize()
        spent = time.perf_counter() - began
        state.model = state.model + outcome.step
        state.previous = outcome.step
        if len(state.buffers) and outcome.empty is None:
            state.buffers = combine_buffers(state.buffers, buffers, outcome.weights)
        state.excluded |= set(outcome.exclude)
        return outcome, spent

    def measure(self, number: int) -> dict[str, float | None]:
        """Measure the global model on the test set and, once the attack has begun, under its trigger."""
        loss, accuracy = self._score(self.data.test)
        measured = {"accuracy": accuracy, "loss": loss, "success": None, "success_untriggered": None}
        if self.attacked(number) and self.probes is not None:
            measured["success"], measured["success_untriggered"] = (self._score(probe)[1] for probe in self.probes)
        return measured

    def insider(self, number: int) -> Insider:
        """Return what the colluding clients see of this round, in which all clients have trained."""
        state, updates, malicious = self.state, self.clean.updates, self.malicious_ids
        server = self._server(lambda: self._train_root(self.root.rehearse(), number))  # trained once for all rehearsals
        trial = cache(updates.clone)

        def respond(rows: Tensor) -> Tensor:
            trial()[malicious] = rows.to(updates)
            return self._step(self.judge.rehearse(), trial(), server, number).step

        return Insider(
            malicious=len(malicious),
            clients=self.cell.clients,
            byzantine=self.cell.bound,
            layout=self.learner.layout,
            number=number,
            memory=state.attack_memory,
            rng=self.randomness("attack", number),
            honest=lambda: updates.index_select(0, self.honest_ids),
            clean=self._learned_clean,
            poisoned=partial(self._learn_poison, number),
            model=lambda: state.model,
            previous=lambda: state.previous,
            respond=lambda: respond,
            see=self.judge.pool,
        )

    def _train_root(self, trainer: Trainer, number: int) -> Tensor:
        return trainer.train(self.state.model, number, self.state.buffers)[0]

    def _step(self, judge: Judge, updates: Tensor, server: Server, number: int) -> Outcome:
        return judge.step(updates, self.cell.bound, server, number, sorted(self.state.excluded))

    def _server(self, root: Callable[[], Tensor]) -> Server:
        state = self.state
        return Server(
            root=root,
            evaluate=lambda: partial(
                self.learner.evaluate, state.model, examples=self.data.root, buffers=state.buffers
            ),
            gradients=self._gradients,
            model=lambda: state.model,
            previous=lambda: state.previous,
            sizes=lambda: torch.tensor([len(shard.labels) for shard in self.data.shards]),
        )

    def _gradients(self) -> Gradients:
        """Let the server differentiate the global model; its root set provides only the examples' shape and classes."""
        shape, classes = tuple(self.data.root.features.shape[1:]), self.data.root.classes
        return Gradients(
            shape, classes, partial(self.learner.differentiate, self.state.model, buffers=self.state.buffers)
        )

    def _learned_clean(self) -> Tensor:
        """Return the malicious clients' updates, trained on their own data."""
        return self.clean.updates.index_select(0, self.malicious_ids)

    def _learn_poison(self, number: int) -> Tensor:
        """Train the malicious clients on poisoned data, from the global model or from where clean training ended."""
        if self.attack.record.poison is None:
            return self._learned_clean()
        if self.schedule.poisoned == "anew":
            return self.poisoned.train(self.state.model, number, self.state.buffers)
        self.poisoned.take_over(self.clean, self.malicious_ids)
        ahead = self.state.model + self._learned_clean(), number, self.clean.buffers[self.malicious_ids]
        learned = self.poisoned.train(*ahead)
        self.clean.take_over(self.poisoned, slice(None), self.malicious_ids)
        return learned

    def _score(self, examples: Examples) -> tuple[float, float]:
        logits = self.learner.logits(self.state.model, examples.features, self.state.buffers)
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


def _seed(randomness: Randomness, purpose: str, ids: tuple[int, ...] | None, number: int, client: int) -> int:
    """Return the seed from which a client's random layers draw in a round."""
    return randomness(purpose, number, client if ids is None else ids[client]).initial_seed()
