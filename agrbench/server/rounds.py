"""What a rule can read in a round: `Server`, `Round`, and fields that are computed when first read (`Lazy`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar, cast, overload

import torch
from torch import Generator, Tensor

from agrbench.errors import AgrbenchError
from agrbench.layout import Layout
from agrbench.plugins.contract import Memory
from agrbench.server.geometry import Geometry, row_norms

T = TypeVar("T")
Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]
"""`(k, parameters) -> (loss, accuracy)`, each `(k,)`: each row applied alone to the global model, on trusted data."""


class Lazy(Generic[T]):
    """A dataclass field that is set to a function and read as its result; the function runs on the first read.

    Raises:
        AgrbenchError: if the field is read but was not set. The message asks for `keyword=` (by default the field's
            name) and describes it as `what`.
    """

    def __init__(self, what: str, keyword: str = "") -> None:
        self._what, self._keyword = what, keyword

    def __set_name__(self, owner: type, name: str) -> None:
        self._name, self._function = name, f"_{name}_function"

    @overload
    def __get__(self, holder: None, owner: type) -> None: ...

    @overload
    def __get__(self, holder: object, owner: type) -> T: ...

    def __get__(self, holder: object | None, owner: type) -> T | None:
        if holder is None:
            return None  # the field's default
        values = vars(holder)
        if self._name not in values:
            function = values[self._function]
            if function is None:
                keyword = self._keyword or self._name
                raise AgrbenchError(
                    f"this plugin needs {self._name}, which was not given; pass {keyword}=: {self._what}"
                )
            values[self._name] = function()
        return cast(T, values[self._name])

    def __set__(self, holder: object, function: Callable[[], T] | None) -> None:
        vars(holder)[self._function] = function


def was_read(holder: object, name: str) -> bool:
    """Return whether a lazy field has been read, and so computed."""
    return name in vars(holder)


@dataclass(frozen=True)
class Gradients:
    """The gradients of the mean cross-entropy at the global model, as a function of examples.

    `of(features, labels)` takes `(k, rows, *shape)` features and `(k, rows, classes)` probabilities and returns
    `(k, parameters)`; its result can be differentiated.
    """

    shape: tuple[int, ...]
    classes: int
    of: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Server:
    """What the server itself has; each part is set to a function and computed when a rule first reads it.

    `root` is its own update on the trusted root set `(parameters,)`, trained like a client's; `evaluate(updates)`
    applies each row of `(k, parameters)` alone to the global model and returns `(loss, accuracy)` on the root set,
    each `(k,)`; `gradients` differentiates the global model; `model` holds the global parameters and `previous` the
    last combined step (0 in the first round), both `(parameters,)`; `sizes` is the number of examples that each client
    claims to have, `(clients,)`.
    """

    root: Lazy[Tensor] = Lazy("the server's own update, (parameters,)")
    evaluate: Lazy[Evaluate] = Lazy("a function (k, parameters) -> (loss, accuracy)")
    gradients: Lazy[Gradients] = Lazy("agrbench.Gradients(shape, classes, of)")
    model: Lazy[Tensor] = Lazy("the global model, (parameters,)")
    previous: Lazy[Tensor] = Lazy("the last combined step, (parameters,)")
    sizes: Lazy[Tensor] = Lazy("how many examples each client has, (clients,)")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Round:
    """What a defense or a row stage sees of one round.

    `n` is the number of rows, which are on `device`. `view` `(n, features)` is the updates as the stages so far show
    them, and `view_layout` holds its layers; `updates` `(n, parameters)` are the originals, mixed by the row stages so
    far, and `layout` describes them; `sizes` `(n,)` is the number of examples claimed for each row, mixed like the
    rows: finite, from 0 and somewhere positive, whatever clients claim (`counted` in `agrbench.server.scores`).
    `clients` names the client of each row (`None` after a row stage that is not square); `byzantine` is the server's
    bound on malicious rows; `geometry` is that of the view; `see` maps server vectors `(k, parameters)` through the
    same column stages; `memory` lasts for the whole run; `number` counts rounds from 1; `rng` is this plugin's own in
    this round.
    """

    n: int
    device: torch.device
    view: Lazy[Tensor] = Lazy("the updates as the defense sees them, (n, features)")
    updates: Lazy[Tensor] = Lazy("the updates, (n, parameters)")
    sizes: Lazy[Tensor] = Lazy("how many examples each row stands for, (n,)")
    view_layout: Layout
    layout: Layout
    byzantine: Lazy[int] = Lazy("the bound on malicious clients, such as byzantine=3")
    clients: tuple[int, ...] | None
    geometry: Geometry
    server: Server
    see: Callable[[Tensor], Tensor]
    memory: Memory
    number: int
    rng: Generator

    @cached_property
    def norms(self) -> Tensor:
        """Return the Euclidean norms of `updates`, never of the view: `(n,)`."""
        return row_norms(self.updates)

    @cached_property
    def unit_geometry(self) -> Geometry:
        """Return the geometry of the view after scaling every update to norm 1; a row of norm 0 stays 0."""
        norms = self.norms[:, None]
        return Geometry(lambda: torch.where(norms > 0, self.view / norms, 0.0))
