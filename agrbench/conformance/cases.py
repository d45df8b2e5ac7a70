"""One round as a stack sees it, small enough to print: the input on which laws of defenses and stages are tested."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from agrbench.layout import Layout
from agrbench.plugins import registry
from agrbench.plugins.contract import Columns
from agrbench.randomness import generator
from agrbench.server.judge import Judge, Outcome
from agrbench.server.rounds import Gradients, Server

Shapes = tuple[tuple[int, ...], ...]
ASKED = ("root", "evaluate", "gradients", "model", "previous", "sizes")


class Violation(AssertionError):
    """A property is violated; the message says how, in one sentence."""


class Silent(Exception):
    """A property does not apply to this case, because a nudge changes the verdict and rounding may do so too."""


def require(condition: object) -> None:
    """Reject a case to which a property does not apply."""
    if not condition:
        raise Silent("the property does not speak of this case: a nudge of the updates turns the verdict")


@dataclass(frozen=True, eq=False)
class Case:
    """A stack and what it is shown in one round.

    `updates` are `(clients, parameters)`, rows of numbers or a tensor; `layout` lists the layers' shapes (by default
    one layer). `root` is the server's own update; it also serves as the model, and as the point from which the loss of
    an update is measured. `previous` is the last step (by default both are zeros). `sizes` counts examples per client.
    """

    stack: str
    updates: Any
    byzantine: int = 0
    layout: Shapes = ()
    root: Any = ()
    previous: Any = ()
    sizes: Any = ()
    seed: int = 0
    dtype: str = "float64"
    plugins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rows = self._tensor(self.updates)
        n, width = rows.shape
        made = {
            "updates": rows,
            "layout": tuple(map(tuple, self.layout)) or ((width,),),
            "root": self._tensor(self.root) if len(self.root) else rows.new_zeros(width),
            "previous": self._tensor(self.previous) if len(self.previous) else rows.new_zeros(width),
            "sizes": self.sizes if len(self.sizes) else torch.arange(1, n + 1),
        }
        for name, value in made.items():
            object.__setattr__(self, name, value)

    def _tensor(self, value: Any) -> Tensor:
        return torch.as_tensor(value, dtype=getattr(torch, self.dtype))

    def but(self, **changes: Any) -> Case:
        """Return a copy with these changes."""
        return replace(self, **changes)

    @cached_property
    def scale(self) -> float:
        """Return the largest absolute entry of everything that the stack may see."""
        return float(max(part.abs().max() for part in (self.updates, self.root, self.previous)))

    def judge(self) -> Judge:
        """Return the judge of a new run."""
        stack = registry.of(self.plugins).stack(self.stack)
        return Judge(stack, Layout.read(self.layout, self.updates.shape[1]), partial(generator, self.seed))

    def outcome(self, judge: Judge | None = None, number: int = 1, excluded: Sequence[int] = ()) -> Outcome:
        """Show the round to a judge, by default a new one; raise `Violation` if it combines no update."""
        judge = judge or self.judge()
        judge.stack.check(len(self.updates), self.byzantine)
        outcome = judge.step(self.updates, self.byzantine, self.server(), number, excluded)
        if outcome.empty is not None:
            raise Violation(f"no update was combined: {outcome.empty}")
        return outcome

    def step(self) -> Tensor:
        """Return the step of a new run's first round: `(parameters,)`."""
        return self.outcome().step

    def server(self) -> Server:
        """Return a server that offers everything a rule may ask for."""
        return Server(**{name: partial(self._ask, name, None) for name in ASKED})

    def trusts(self) -> bool:
        """Return whether the stack asks for anything that only the server knows."""
        asked: set[str] = set()
        judge = self.judge()
        judge.step(self.updates, self.byzantine, Server(**{name: partial(self._ask, name, asked) for name in ASKED}), 1)
        return bool(asked & {"root", "evaluate", "gradients"})

    def _ask(self, name: str, asked: set[str] | None) -> Any:
        if asked is not None:
            asked.add(name)
        if name == "evaluate":
            return partial(closeness, self.root)
        if name == "gradients":
            return softmax_regression(self.updates.shape[1])
        return self.root if name == "model" else getattr(self, name)

    def columns(self, restore: bool = False) -> Columns:
        """Return the columns of the column stage, the only part that `stack` names."""
        stage = registry.of(self.plugins).stage(self.stack)
        assert stage.record.columns is not None
        return stage.record.columns(self.shapes, generator(self.seed, "stage"), restore)

    @property
    def shapes(self) -> Layout:
        """Return the layout as a `Layout`."""
        return Layout.read(self.layout, self.updates.shape[1])


def closeness(root: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Measure updates by their distance from the server's own: a loss and an accuracy, each `(k,)`."""
    apart = rows - root.to(rows)
    return apart.square().sum(1), -apart.abs().amax(1)


def softmax_regression(parameters: int) -> Gradients:
    """Return the gradients of a two-class softmax regression at zero, cut to `parameters` entries."""
    size = -(-parameters // 2)

    def of(features: Tensor, labels: Tensor) -> Tensor:
        return torch.einsum("krc,krf->kcf", 0.5 - labels, features).flatten(1)[:, :parameters] / features.shape[1]

    return Gradients((size,), 2, of)


def literal(value: Any, indent: str = "    ") -> str:
    """Write a value as Python, one row per line; a case omits its zeros and defaults."""
    if isinstance(value, Tensor):
        return literal(value.tolist())
    if isinstance(value, list) and value and isinstance(value[0], list):
        return "[\n" + "".join(f"{indent}    {literal(row)},\n" for row in value) + f"{indent}]"
    if isinstance(value, (list, tuple)):
        inside = ", ".join(map(literal, value)) + "," * (isinstance(value, tuple) and len(value) == 1)
        return f"({inside})" if isinstance(value, tuple) else f"[{inside}]"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e16 and str(value) != "-0.0":
        return str(int(value))
    if hasattr(value, "__dataclass_fields__"):
        given = [(field.name, getattr(value, field.name), field.default) for field in fields(value)]
        kept = [(name, each) for name, each, default in given if not _is_left_out(name, each, default)]
        named = "".join(f"{indent}{name}={literal(each)},\n" for name, each in kept)
        return f"{type(value).__name__}(\n{named})"
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _is_left_out(name: str, value: Any, default: Any) -> bool:
    if isinstance(value, Tensor) and default == ():
        return name == "sizes" or not value.any()
    if name == "layout":
        return len(value) == 1 and len(value[0]) == 1
    return bool(value == default)
