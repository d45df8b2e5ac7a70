"""The training that a run's clients and its server do: who trains in a round, on which data, and from what state."""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from agrbench.clients.federation import Federation
from agrbench.clients.insider import Attacker
from agrbench.clients.learner import Learner
from agrbench.clients.local_training import States, Trainer
from agrbench.clients.schedules import Schedule
from agrbench.data.examples import Examples
from agrbench.errors import PluginError
from agrbench.plugins import Attack
from agrbench.plugins.stack import Loaded, blame
from agrbench.randomness import Randomness
from agrbench.simulation.sampling import Cohort


class Training:
    """The trainers of a run, made when first asked for: of clients, of their poisoned data, of the root set."""

    def __init__(self, data: Federation, learner: Learner, schedule: Schedule, randomness: Randomness) -> None:
        self.data, self.learner, self.schedule, self.randomness = data, learner, schedule, randomness
        self.trainers: dict[str, Trainer] = {}
        self.shards: dict[int, Examples] = {}  # poisoned ones
        self.inherited: States = {}

    def branch(self) -> Training:
        """Return a copy that continues from here, for another attack; both write into the same updates."""
        other = copy.copy(self)
        other.trainers = {name: trainer.branch() for name, trainer in self.trainers.items()}
        other.shards = {}
        return other

    @property
    def carried(self) -> tuple[Any, ...]:
        """Return the optimizer states, which are copied when another run branches off."""
        return tuple((trainer.state, trainer.away) for trainer in self.trainers.values())

    def clean(self, cohort: Cohort) -> Trainer:
        """Return the trainer of a round's clients on their own data."""
        return self._trainer("clean", cohort.clients, self.data.shards.__getitem__)

    def poisoned(self, cohort: Cohort, attack: Loaded[Attack]) -> Trainer:
        """Return the trainer of a round's malicious clients on their poisoned data."""
        return self._trainer("poisoned", cohort.attackers, partial(self._poisoned_shard, attack), self.inherited)

    def inherit(self) -> None:
        """Let poisoned training start from the optimizer states that clean training has now."""
        self.inherited = self.trainers["clean"].states(self.data.malicious)

    def root(self) -> Trainer:
        """Return the trainer of the server's root set, which is trained like a client's shard."""
        schedule = self.schedule.of_root(len(self.data.root.labels), self.data.shards.sizes)
        return self._trainer("root", (0,), lambda _: self.data.root, schedule=schedule)

    def poison(self, cohort: Cohort, attack: Loaded[Attack], model: Tensor, number: int, buffers: Tensor) -> Tensor:
        """Train the malicious clients on poisoned data, from the global model or from where clean training ended."""
        clean = self.clean(cohort)
        if attack.record.poison is not None and self.schedule.poisoned == "anew":
            return self.poisoned(cohort, attack).train(model, number, buffers)
        learned = clean.updates.index_select(0, cohort.malicious)
        if attack.record.poison is None:
            return learned
        poisoned = self.poisoned(cohort, attack)
        poisoned.take_over(clean, cohort.malicious)
        updates = poisoned.train(model + learned, number, clean.buffers[cohort.malicious])
        clean.take_over(poisoned, slice(None), cohort.malicious)
        return updates

    def _trainer(
        self,
        name: str,
        clients: tuple[int, ...],
        shard: Callable[[int], Examples],
        states: States | None = None,
        schedule: Schedule | None = None,
    ) -> Trainer:
        """Return a trainer with these clients enrolled; a new one starts from `states`."""
        trainer = self.trainers.get(name)
        if trainer is None:
            draw = partial(_seed, self.randomness, f"{name} training")  # not of self: a cycle would keep the run
            trainer = Trainer(self.learner, [*map(shard, clients)], schedule or self.schedule, draw, clients, states)
            self.trainers[name] = trainer
        elif trainer.clients != clients:
            trainer.enrol(clients, [*map(shard, clients)])
        return trainer

    def _poisoned_shard(self, attack: Loaded[Attack], client: int) -> Examples:
        """Return a malicious client's poisoned shard, which is made once.

        Raises:
            PluginError: the attack returned no examples.
        """
        if client not in self.shards:
            attacker = Attacker(bisect_left(self.data.malicious, client), self.data.shards.labels)
            with blame(attack, "poison"):
                assert attack.record.poison is not None
                shard = attack.record.poison(
                    self.data.shards[client].clone(), self.randomness("poison", 0, client), attacker
                )
            if not isinstance(shard, Examples) or not len(shard.labels):
                raise PluginError(f"{attack.path}: poison returned no examples; return Examples of one row or more")
            self.shards[client] = shard
        return self.shards[client]


def _seed(randomness: Randomness, purpose: str, number: int, client: int) -> int:
    """Return the seed from which a client's random layers draw in a round."""
    return randomness(purpose, number, client).initial_seed()
