"""A server that aggregates round after round, for federations that run elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack

import numpy as np
import torch
from torch import Tensor

from agrbench.errors import AgrbenchError, Inapplicable
from agrbench.layout import Layout
from agrbench.plugins import registry
from agrbench.plugins.registry import Registry
from agrbench.plugins.stack import Stack
from agrbench.randomness import generator
from agrbench.server import rounds
from agrbench.server.judge import Judge, Outcome
from agrbench.server.updates import Array, Updates, count, read, tensor

T = TypeVar("T")
Shapes = Layout | Iterable[Sequence[int]]
Files = str | Path | tuple[str | Path, ...]


class Asked(TypedDict, total=False):
    """What a rule may ask of the server in a round, passed by keyword.

    `root`: the server's own update `(parameters,)`, for rules such as FLTrust. `evaluate`:
    `(k, parameters) -> (loss, accuracy)` on trusted data, for rules such as Fang's. `gradients`: the global model's
    gradients as a function of examples, for FedInv. `model`: the global parameters `(parameters,)`. `previous`: the
    last combined step `(parameters,)`, by default the one of the round before, and 0 in the first. `sizes`: each
    client's number of examples `(clients,)`, for rules that weigh by it.

    `root` may also be a function that returns the update; it is called only if the rule asks.
    """

    root: Array | Callable[[], Array] | None
    evaluate: rounds.Evaluate | None
    gradients: rounds.Gradients | None
    model: Array | None
    previous: Array | None
    sizes: Array | None


class Server:
    """A stack such as `"nnm+trimmed_mean"` that combines updates round after round.

    Rules that remember clients, such as `foolsgold` and `fldetector`, judge each round by those before it.

    Args:
        defense: the stack's spec.
        byzantine: the bound on malicious clients in a round; needed by rules that use it.
        layout: the layers' shapes; needed by stages that look at layers, unless the updates have shapes of their own.
        seed: the seed of the stack's randomness.
        plugins: plugin files to load in addition to the shipped and installed ones.

    Raises:
        AgrbenchError: a spec, the bound or a plugin is at fault; the message says which.
    """

    def __init__(
        self,
        defense: str,
        byzantine: int | None = None,
        layout: Shapes | None = None,
        *,
        seed: int = 0,
        plugins: Files = (),
    ) -> None:
        self.defense, self.stack = defense, known_plugins(plugins).stack(defense)
        self.byzantine = None if byzantine is None else count(byzantine, "byzantine")
        self.rounds = 0
        self._layout, self._seed = layout, seed
        self._judge: Judge | None = None
        self._parts: tuple[Hashable, ...] = ()
        self._previous: Tensor | None = None
        self._numbers: dict[Hashable, int] = {}
        self._excluded: set[int] = set()

    @property
    def excluded(self) -> list[Hashable]:
        """Return the clients that the rule has excluded for good; their updates are left out."""
        return [client for client, number in self._numbers.items() if number in self._excluded]

    def step(self, updates: Any, clients: Iterable[Hashable] | None = None, **asked: Unpack[Asked]) -> Any:
        """Combine a round's updates: the step, in the form of one client's update, of its kind and dtype.

        Updates whose squared norm is not finite, and those of excluded clients, are left out, and the bound is lowered
        by their number.

        Args:
            updates: `(clients, parameters)`; or a list with one client's update each, as a vector, a state dict, or a
                list of arrays as torch orders them.
            clients: who sent each update, in any hashable form; by default the same clients in the same order each
                round.
            **asked: what the rule may ask of the server; see `Asked`.

        Raises:
            Inapplicable: no update remains, or the stack is not defined for those that do.
            AgrbenchError: the updates, the clients or what was passed by keyword is at fault; the message says which.
        """
        given = read(updates)
        return given.back(self._decide(given, clients, asked).step)

    def decide(self, updates: Any, clients: Iterable[Hashable] | None = None, **asked: Unpack[Asked]) -> Outcome:
        """Judge a round's updates as `step` does; return the step as a vector, and what each client weighed in it."""
        return self._decide(read(updates), clients, asked)

    def _decide(self, given: Updates, clients: Iterable[Hashable] | None, asked: Asked) -> Outcome:
        rows, names = given.rows, self._named(clients, len(given.rows))
        self.stack.check(len(rows), self.byzantine or 0)
        judge = self._judge or judge_of(self.stack, layout_of(self._layout, given), rows, self._seed)
        if rows.shape[1] != judge.layout.parameters:
            raise AgrbenchError(
                f"the updates have {rows.shape[1]} parameters, and had {judge.layout.parameters} in the rounds before; "
                "make another Server for another model"
            )
        if self._judge is not None and given.parts != self._parts:
            raise AgrbenchError(
                f"the updates are made of {list(given.parts)!r:.80}, and of {list(self._parts)!r:.80} in the rounds "
                "before; pass the same parts in the same order"
            )
        self._judge, self._parts = judge, given.parts
        for name in names:
            self._numbers.setdefault(name, len(self._numbers))
        numbers = [self._numbers[name] for name in names]
        means = means_of(rows, asked, self._previous, numbers)
        outcome = judge.step(rows, self.byzantine, means, self.rounds + 1, sorted(self._excluded), numbers)
        self._excluded |= set(outcome.exclude)
        if outcome.empty is not None:
            raise Inapplicable(f"{self.defense}: {outcome.empty}")
        self.rounds, self._previous = self.rounds + 1, outcome.step
        return outcome

    def _named(self, clients: Iterable[Hashable] | None, rows: int) -> list[Hashable]:
        """Return who sent each row."""
        if clients is None:
            if self._numbers and list(self._numbers) != list(range(rows)):
                raise AgrbenchError(
                    f"there are {rows} updates, and the clients of the rounds before were "
                    f"{list(self._numbers)!r:.80}; pass clients=: who sent each update"
                )
            return list(range(rows))
        names = clients.tolist() if isinstance(clients, (Tensor, np.ndarray)) else list(clients)
        if not all(isinstance(name, Hashable) for name in names):
            raise AgrbenchError("clients= names clients by something that is not hashable; pass strings or numbers")
        if len(names) != rows or len(set(names)) != rows:
            raise AgrbenchError(
                f"clients= names {len(set(names))} different clients, and there are {rows} updates; pass one name for "
                "each update, and no name twice"
            )
        return names


def known_plugins(plugins: Files) -> Registry:
    """Return the plugins, with those in the files that were named."""
    return registry.of((plugins,) if isinstance(plugins, (str, Path)) else plugins)


def layout_of(layout: Shapes | None, given: Updates) -> Shapes | None:
    """Return the layout: the one that was passed, or the one that the updates' own shapes tell."""
    if layout is None or given.layout is None:
        return given.layout if layout is None else layout
    if not isinstance(layout, Layout):  # shapes as (d_in, d_out) would read torch's weights along the wrong axis
        raise AgrbenchError(
            "layout= lists shapes, but the updates have shapes of their own; leave layout= out, or pass "
            "layout=agrbench.Layout.of(module)"
        )
    return layout


def judge_of(stack: Stack, layout: Shapes | None, rows: Tensor, seed: int) -> Judge:
    """Make the judge of a stack for rows `(clients, parameters)`."""
    looks = next((stage.name for stage in stack.stages if stage.record.columns), None)
    if layout is None and looks is not None:
        raise AgrbenchError(f"{looks} looks at layers; pass layout=: their shapes, [(446, 512), (512,), ...]")
    width = rows.shape[1]
    layers = Layout.read([(1, width)] if layout is None else layout, width)
    return Judge(stack, layers, partial(generator, seed), rows.device)


def means_of(rows: Tensor, asked: Asked, previous: Tensor | None, numbers: Sequence[int]) -> rounds.Server:
    """Gather what the rule may ask of the server, each checked when first read; `numbers` tells the rows' clients."""
    check_keywords(asked, Asked)
    n, width = rows.shape
    last = rows.new_zeros(width) if previous is None else previous.to(rows)
    sizes = array_of(asked.get("sizes"), "sizes", (n,))

    def by_number() -> Tensor:
        assert sizes is not None
        told = sizes().double().cpu()
        return told.new_zeros(max(numbers) + 1).index_copy(0, torch.tensor(numbers), told)

    return rounds.Server(
        root=array_of(asked.get("root"), "root", (width,)),
        evaluate=_itself(asked.get("evaluate")),
        gradients=_itself(asked.get("gradients")),
        model=array_of(asked.get("model"), "model", (width,)),
        previous=array_of(asked.get("previous"), "previous", (width,)) or (lambda: last),
        sizes=None if sizes is None else by_number,
    )


def check_keywords(given: Mapping[str, object], known: type) -> None:
    """Raise TypeError if a keyword is none of those of the typed dictionary `known`."""
    for name in set(given) - set(known.__annotations__):
        raise TypeError(f"unexpected keyword argument {name!r}; there are {', '.join(known.__annotations__)}")


def array_of(
    value: Array | Callable[[], Array] | None, name: str, shape: tuple[int, ...]
) -> Callable[[], Tensor] | None:
    """Return a function that checks an array when it is first needed, or `None` if no array was given."""
    return None if value is None else partial(_shaped, value, name, tuple(shape))


def _itself(value: T | None) -> Callable[[], T] | None:
    return None if value is None else lambda: value


def _shaped(value: Array | Callable[[], Array], name: str, shape: tuple[int, ...]) -> Tensor:
    found = tensor(value() if callable(value) else value)
    if found.shape != shape:
        raise AgrbenchError(f"{name} is of shape {tuple(found.shape)}; pass {name}= of shape {shape}")
    if name != "sizes" and not found.isfinite().all():  # sizes are claims, of which the rules make sense
        raise AgrbenchError(f"{name} holds NaN or infinity; pass {name}= of finite numbers")
    return found
