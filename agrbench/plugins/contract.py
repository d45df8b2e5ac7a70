"""What a plugin is: one frozen record of plain functions, exported under the name of its kind.

A hyperparameter is a keyword-only argument of any function of the record; a spec such as `krum(neighbours=7)`
binds it in every function whose signature names it. Nothing here imports torch, so records are cheap to name.

The fields in `CLAIMS` say what a plugin promises, for `agrbench check`, and who sent it. They change no computed value
and no digest; some waivers also make the grid skip a combination.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from agrbench.data.examples import Examples
    from agrbench.data.sources import Source
    from agrbench.layout import Layout


Memory = dict[str, Any]
"""State that a plugin keeps from round to round: tensors and plain values."""

ByColumn = Callable[["Tensor"], "Tensor"]
"""A function that weighs a block of columns of the view: `(rows, b) -> (rows, b)`."""

CLAIMS = ("waives", "within", "bound", "proof", "author")


def always(n: int, f: int) -> bool:
    """Accept any number `n` of clients and any bound `f` on malicious ones."""
    return True


def unchanged(n: int) -> int:
    """Return `n`: the number of rows stays the same."""
    return n


class Columns(NamedTuple):
    """What a column stage does to a view of `(rows, coordinates)`.

    `view(rows, out=None)` maps rows to features. `feature_of` maps each coordinate to its feature, or to -1 if it is
    dropped (`None`: every coordinate is its own feature). `layout` holds the layers of the features. `blocks(rows)`, if
    set, returns functions that each compute some features of all rows, `(rows, some features)`, in order.
    """

    view: Callable[..., Tensor]
    feature_of: Tensor | None
    layout: Layout
    blocks: Callable[[Tensor], Sequence[Callable[[], Tensor]]] | None = None


@dataclass(frozen=True)
class Verdict:
    """How much of each update to take.

    `weights` is `(rows,)`; or `(rows, features)` of the view; or `(rows, layers)` of the originals; or a function of a
    block of columns of the view, `(rows, b) -> (rows, b)`. Weights may have any sign and any sum; Boolean weights mean
    equal shares among the True entries of each column. The step is

        sum_i W_i U_i + previous * last step + N(0, noise^2)

    and `exclude` lists clients that the server ignores from the next round on.
    """

    weights: Tensor | ByColumn
    previous: float = 0.0
    noise: float = 0.0
    exclude: Sequence[int] = ()


@dataclass(frozen=True)
class Step:
    """The step itself, `(parameters,)`, from a rule that cannot say how much of each update it took.

    Its log names no weights, and buffers are combined in equal shares.
    """

    vector: Tensor


@dataclass(frozen=True)
class Attack:
    """What malicious clients do from the first attacked round on; before that they behave honestly.

    `poison(shard, rng, attacker)` replaces a malicious client's `Examples` once, before training (`attacker.number`
    counts the malicious clients from 0, and `attacker.labels` holds the labels of all clients). `forge(insider)`
    returns the `(malicious, parameters)` rows that they send. `trigger(examples)`, for targeted attacks, returns
    stamped copies labelled with the target class. `rehearses` means that `forge` calls `insider.respond` many times a
    round, or is a function of hyperparameters that returns whether it does; a defense too slow for that waives
    `"rehearsed"`, and the two are never combined. `within(rows, insider)` returns whether forged rows satisfy the
    constraint that the attack declares, such as a distance (`None`: no constraint). `claim(sizes)` takes the malicious
    clients' numbers of examples, `(malicious,)` in float64, and returns those that they claim to have (`None`: the true
    ones). `author` is whom the leaderboard names beside rows that the attack lowers.
    """

    poison: Callable[..., Examples] | None = None
    forge: Callable[..., Tensor] | None = None
    trigger: Callable[..., Examples] | None = None
    rehearses: bool | Callable[..., bool] = False
    claim: Callable[..., Tensor] | None = None
    within: Callable[..., Tensor | bool] | None = None
    waives: Mapping[str, str] = field(default_factory=dict)
    author: str = ""

    @property
    def queries(self) -> bool:
        """Return whether `forge` queries the stack many times a round, with the hyperparameters that are bound."""
        return self.rehearses() if callable(self.rehearses) else self.rehearses


@dataclass(frozen=True)
class Defense:
    """An aggregation rule: how much of each update to take, judged on a view of the updates.

    `weigh(round)` returns weights or a `Verdict`, or a `Step` if the rule has no weights. `requires(n, f)` returns
    whether the rule is defined for `n` rows of which at most `f` are malicious. `amplifier` names the form of the
    amplified view that the rule reads, or is `None` if it has no amplified form. `waives` maps each property that the
    rule does not claim to the reason. `bound(n, f)` is the robustness coefficient that `proof` proves, or `None` for
    hyperparameters that the proof does not cover: for any `n - f` rows, `|step - their mean|^2` is at most this
    coefficient times their mean squared distance to their mean.
    """

    weigh: Callable[..., Tensor | ByColumn | Verdict | Step]
    family: str = "other"
    requires: Callable[..., bool] = always
    amplifier: Literal["pooled", "restored"] | None = "pooled"
    waives: Mapping[str, str] = field(default_factory=dict)
    bound: Callable[..., float | None] | None = None
    proof: str = ""


@dataclass(frozen=True)
class Stage:
    """A step before the defense that maps the columns of the view or mixes its rows.

    A column stage has `columns(layout, rng, restore) -> Columns`. A row stage has `mix(round) -> (rows, clients)`, each
    row holding the shares of the rows before it, and `rows(n)`, the number of rows that it leaves of `n`.
    `bound(n, f, kappa)` is the coefficient that `proof` proves for this stage before a rule of coefficient `kappa`.
    """

    columns: Callable[..., Columns] | None = None
    mix: Callable[..., Tensor] | None = None
    rows: Callable[..., int] = unchanged
    requires: Callable[..., bool] = always
    waives: Mapping[str, str] = field(default_factory=dict)
    bound: Callable[..., float] | None = None
    proof: str = ""

    def __post_init__(self) -> None:
        if (self.columns is None) == (self.mix is None):
            raise TypeError("a Stage has either columns= or mix=, not both and not neither")


@dataclass(frozen=True)
class Dataset:
    """Real examples and the defaults for training on them.

    `load() -> train, test` returns `Examples`; a `load(clients)` is told how many clients share the training rows.
    `reads()`, for files without a published checksum, lists the paths whose content counts in the digest. `model` is
    the default model, a spec such as `mlp(512)` or a function of an example's shape and the number of classes; `rate`
    is the default learning rate; `root_size` is the number of examples in the server's trusted root set.
    """

    load: Callable[..., tuple[Examples, Examples]]
    model: str | Callable[[tuple[int, ...], int], nn.Module]
    rate: float
    root_size: int
    source: Source
    reads: Callable[..., Sequence[Path]] | None = None
    waives: Mapping[str, str] = field(default_factory=dict)


Plugin = Attack | Defense | Stage | Dataset
KINDS: dict[str, type[Plugin]] = {"attack": Attack, "defense": Defense, "stage": Stage, "dataset": Dataset}
P = TypeVar("P", bound=Plugin)


def hyperparameters(record: Plugin) -> dict[str, inspect.Parameter]:
    """Return the keyword-only arguments of all functions of a record."""
    found: dict[str, inspect.Parameter] = {}
    for function in _functions(record).values():
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                found.setdefault(parameter.name, parameter)
    return found


def bind(record: P, arguments: Mapping[str, Any]) -> P:
    """Bind each argument in every function of the record whose signature names it."""
    changes: dict[str, Any] = {}
    for name, function in _functions(record).items():
        named = inspect.signature(function).parameters.values()
        keywords = {parameter.name for parameter in named if parameter.kind is inspect.Parameter.KEYWORD_ONLY}
        mine = {key: value for key, value in arguments.items() if key in keywords}
        if mine:
            changes[name] = functools.partial(function, **mine)
    return dataclasses.replace(record, **changes)


def _functions(record: Plugin) -> dict[str, Callable[..., Any]]:
    values = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
    return {name: value for name, value in values.items() if callable(value)}
