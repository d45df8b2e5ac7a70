"""A cell of the grid: what is simulated, its settings and their defaults, and the key that names its record."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, cast

from agrbench import settings
from agrbench.errors import AgrbenchError
from agrbench.specs import LARGEST, Term

PROTOCOL = 1  # raised when results change on purpose
EVERY = 10  # rounds between evaluations
SHARE = 0.3  # of the clients are malicious by default
UNATTACKED = "none"
UNDEFENDED = "fedavg"
AMPLIFIER = "amp"


@dataclass(frozen=True)
class Cell:
    """One simulation: the specs of a dataset, a defense and an attack, a seed, and the settings.

    `malicious` is a share of the clients (a float), their number (a whole number), `"bernoulli(share=0.3)"`, which
    draws each client independently, `"owners('north')"`, the natural owners of these names, or `"ids(0,3)"`, the
    clients of these numbers. `sample` is the number or share of clients that take part in a round, or
    `"sample(100,by='size')"`, which draws them by their numbers of examples (default: all). `byzantine` is the server's
    bound on malicious clients in a round (default: `assumed`). The attack lasts from round `start` (default: a quarter
    of the rounds, rounded down to a multiple of 10, at least 10) to round `stop` (default: the last), in every
    `every`-th round. `rate` is the learning rate (default: the dataset's, or 0.001 with `adam`). `schedule`, `model`
    and `partition` are specs: how clients train, which model (default: the dataset's), and who holds which data.
    `server` is the spec of the optimizer that moves the global model (default: by the combined step itself). The
    server's root set is taken from the rows of `root`, `"train"` or `"test"`. The cell computes with `threads` threads
    on `device`.

    Raises:
        AgrbenchError: a setting is out of range; the message says which and what to write.
    """

    dataset: str
    defense: str
    attack: str
    seed: int = 0
    clients: int = 50
    malicious: float | str = SHARE
    byzantine: int | None = None
    rounds: int = 200
    start: int | None = None
    stop: int | None = None
    every: int = 1
    rate: float | None = None
    schedule: str = "sgd"
    model: str | None = None
    partition: str = "iid"
    sample: int | float | str | None = None
    server: str = "sgd"
    root: str = "train"
    threads: int = 1
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("dataset", "defense", "attack", "device"):
            given = getattr(self, name)
            _demand(isinstance(given, str) and given != "", name, given, "a text that is not empty")
        _demand(_whole(self.seed) and self.seed >= 0, "seed", self.seed, "a whole number from 0")
        for name in ("clients", "rounds", "threads", "every"):
            given = getattr(self, name)
            _demand(_whole(given) and given >= 1, name, given, "1 or more")
        self._settle()
        n, share = self.clients, self.malicious
        drawn = isinstance(share, str)
        whole = type(share) is int and 0 <= share < n
        part = isinstance(share, float) and 0 <= share < 1 and round(share * n) < n
        wanted = f"a share from 0 to below 1, such as 0.3, or a number from 0 to {n - 1}"
        _demand(whole or part or drawn, "malicious", share, wanted)
        named = self.owners or self.ids
        _demand(len(named) < n, "malicious", share, f"at most {n - 1} of {n} clients")
        _demand(max(self.ids, default=0) < n, "malicious", share, f"numbers of clients from 0 to {n - 1}")
        if self.owners:
            _demand(self.partition == "natural", "partition", self.partition, "natural, since owners are malicious")
        f, most = self.byzantine, self.participants - 1
        _demand(f is None or (_whole(f) and 0 <= f <= most), "byzantine", f, f"a number from 0 to {most}")
        for name in ("start", "stop"):
            given = getattr(self, name)
            _demand(given is None or (_whole(given) and given >= 1), name, given, "a round from 1")
        _demand(
            self.stop is None or self.stop >= self.first, "stop", self.stop, f"a round from {self.first}, the first"
        )
        if self.rate is not None:
            number = (_whole(self.rate) or isinstance(self.rate, float)) and 0 < self.rate < math.inf
            _demand(number, "rate", self.rate, "a number above 0")
            object.__setattr__(self, "rate", float(self.rate))  # 1 and 1.0 are one cell
        _demand(self.root in ("train", "test"), "root", self.root, "train or test")

    def _settle(self) -> None:
        """Write the settings that are specs in canonical form, and move a schedule's rate to the cell."""
        forms: dict[str, Any] = {}
        for name in ("model", "partition", "malicious", "server"):
            given = getattr(self, name)
            if isinstance(given, str):
                forms[name] = settings.canonical(name, given)
        _demand(self.model is None or "model" in forms, "model", self.model, "a spec such as mlp(512)")
        _demand("partition" in forms, "partition", self.partition, "a spec such as dirichlet(alpha=0.1)")
        _demand("server" in forms, "server", self.server, "a spec such as sgd(rate=0.5)")
        forms["sample"] = self._sample()
        forms["schedule"], rate = settings.without_rate(self.schedule)
        if rate is not None:
            _demand(self.rate in (None, rate), "rate", self.rate, f"it once: the schedule has {rate}")
            forms["rate"] = rate
        elif self.rate is None:
            forms["rate"] = settings.own_rate(forms["schedule"])
        for name, value in forms.items():
            object.__setattr__(self, name, value)

    def _sample(self) -> int | str | None:
        """Write who takes part in a round in canonical form, with a number for a share; `None` if all do."""
        given = self.sample
        if given is None:
            return None
        term = settings.read("sample", given if isinstance(given, str) else f"sample({given})")
        (size,) = term.values
        number = max(round(size * self.clients), 1) if isinstance(size, float) else size
        _demand(number <= self.clients, "sample", given, f"a number from 1 to {self.clients}, or a share up to 1.0")
        _demand(
            term.arguments["quantile"] is None or term.arguments["by"] == "uniform",
            "sample", given, "by='uniform' with a quantile, whose law holds for uniform draws, or --byzantine",
        )  # fmt: skip
        if number == self.clients:
            return None
        spec = settings.write("sample", Term("sample", term.arguments, (number,)))
        return number if spec == f"sample({number})" else spec

    @cached_property
    def sampling(self) -> Term | None:
        """Return how a round's clients are drawn, their number first among its values; `None` if all take part."""
        if self.sample is None:
            return None
        return settings.read("sample", self.sample if isinstance(self.sample, str) else f"sample({self.sample})")

    @property
    def participants(self) -> int:
        """Count the clients that take part in a round."""
        return self.clients if self.sampling is None else int(self.sampling.values[0])

    @property
    def draw(self) -> Term | None:
        """Return how each client is drawn to be malicious; `None` if it is fixed how many or which are."""
        term = self._named
        return term if term is not None and term.name == "bernoulli" else None

    @property
    def owners(self) -> tuple[str, ...]:
        """Return the names of the malicious owners, if they are named."""
        return self._values("owners")

    @property
    def ids(self) -> tuple[int, ...]:
        """Return the numbers of the malicious clients, if they are given."""
        return self._values("ids")

    def _values(self, name: str) -> tuple[Any, ...]:
        term = self._named
        return tuple(term.values) if term is not None and term.name == name else ()

    @cached_property
    def _named(self) -> Term | None:
        return settings.read("malicious", self.malicious) if isinstance(self.malicious, str) else None

    @property
    def attackers(self) -> int:
        """Count the malicious clients: the share times the clients, rounded as Python rounds (halves to even).

        If each client is drawn independently, this is the expected number.
        """
        if named := self.owners or self.ids:
            return len(named)
        if self.draw:
            share = cast(float, self.draw.arguments["share"])
            return min(round(share * self.clients), self.clients - 1)
        share = cast(float, self.malicious)
        return round(share * self.clients) if isinstance(share, float) else share

    @property
    def count(self) -> int | str:
        """Return the number of malicious clients, or the canonical spec that draws or names them."""
        return str(self.malicious) if isinstance(self.malicious, str) else self.attackers

    @property
    def bound(self) -> int:
        """Return the server's bound on malicious clients in a round."""
        return self.assumed if self.byzantine is None else self.byzantine

    @property
    def assumed(self) -> int:
        """Return the bound on malicious clients in a round that follows from the other settings.

        If all clients take part, it is the number of malicious ones. If some are drawn, it is the same share of them,
        rounded, or with `sample(quantile=q)` the number that a uniform draw exceeds with a probability of at most 1 - q
        (the quantile of the hypergeometric law).
        """
        sampling = self.sampling
        if sampling is None:
            return self.attackers
        drawn, quantile = self.participants, sampling.arguments["quantile"]
        expected = round(self.attackers * drawn / self.clients)
        bound = expected if quantile is None else _at_most(quantile, self.clients, self.attackers, drawn)
        return min(bound, drawn - 1)

    @property
    def first(self) -> int:
        """Return the first attacked round, counting from 1."""
        return self._usual_first if self.start is None else self.start

    @property
    def _usual_first(self) -> int:
        """Return the first attacked round where `start` does not say."""
        return max(self.rounds // 4 // EVERY * EVERY, EVERY)

    @property
    def trunk(self) -> Cell:
        """Return the unattacked cell, which has the same rounds before the attack as this cell."""
        return dataclasses.replace(self, attack=UNATTACKED)

    @property
    def settings(self) -> dict[str, Any]:
        """Return the settings that differ from their defaults, each in canonical form."""
        default: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(Cell)}
        meant = {name: getattr(self, name) for name in default} | {
            "malicious": self.count,
            "byzantine": self.bound,
            "start": self.first,
        }
        default["malicious"] = round(SHARE * self.clients)
        default["byzantine"] = self.assumed
        default["rate"] = settings.own_rate(self.schedule)
        default["start"] = self._usual_first
        identity = {"dataset", "defense", "attack", "seed"}
        return {key: value for key, value in meant.items() if key not in identity and value != default[key]}

    def as_json(self) -> dict[str, Any]:
        """Return the cell as its record stores it."""
        return {
            "dataset": self.dataset,
            "defense": self.defense,
            "attack": self.attack,
            "seed": self.seed,
            "settings": self.settings,
        }

    @classmethod
    def from_json(cls, cell: dict[str, Any]) -> Cell:
        """Read the cell of a record."""
        return cls(cell["dataset"], cell["defense"], cell["attack"], cell["seed"], **cell["settings"])

    @property
    def key(self) -> str:
        """Return ten hex digits that name the cell under this protocol."""
        return self.key_under(PROTOCOL)

    def key_under(self, protocol: int) -> str:
        """Return ten hex digits that name the cell under some protocol."""
        text = json.dumps(self.as_json() | {"protocol": protocol}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    def __str__(self) -> str:
        return f"{self.dataset} {self.defense} {self.attack} seed {self.seed}"


@cache
def _at_most(quantile: float, clients: int, malicious: int, drawn: int) -> int:
    """Return the quantile of the number of malicious clients among those drawn, uniformly, without replacement."""
    from scipy.stats import hypergeom  # slow to import

    return int(hypergeom.ppf(quantile, clients, malicious, drawn))


def _whole(value: object) -> bool:
    return type(value) is int and abs(value) < LARGEST


def _demand(holds: bool, name: str, given: object, wanted: str) -> None:
    if not holds:
        raise AgrbenchError(f"{name} is {given}; write {wanted}")
