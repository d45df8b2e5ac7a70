"""What each side of a round sees, and what it says.

The attackers see an `Insider` and answer with rows; the server sees a `Round` and answers with a `Verdict`, by which
the harness combines the original updates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from agrbench.errors import AgrbenchError
from agrbench.layout import Layout
from agrbench.server.geometry import Geometry, row_norms

Memory = dict[str, Any]
"""What a plugin keeps from round to round: tensors and plain values."""

ByColumn = Callable[[Tensor], Tensor]
"""Weights of a block of columns of the view: `(rows, b) -> (rows, b)`."""


class Columns(NamedTuple):
    """What a column stage does to a view of `(rows, coordinates)`.

    `view(rows, out=None)` maps rows to features; `feature_of` maps each coordinate to its feature, -1 where it is
    dropped (`None`: every coordinate is its own feature); `layout` holds the layers of the features. `blocks(rows)`,
    if there is one, gives functions that each make some features of all rows, `(rows, some features)`, in order.
    """

    view: Callable[..., Tensor]
    feature_of: Tensor | None
    layout: Layout
    blocks: Callable[[Tensor], Sequence[Callable[[], Tensor]]] | None = None


@dataclass(frozen=True)
class Verdict:
    """How much of each update to take.

    `weights` is `(rows,)`; or `(rows, features)` of the view; or `(rows, layers)` of the originals; or a function of a
    block of columns of the view, `(rows, b) -> (rows, b)`. Any sign, any sum; Boolean weights mean equal shares among
    the True of each column. The step is

        sum_i W_i U_i + previous * last step + root * root update + N(0, noise^2)

    and `exclude` names clients that are heard no more from the next round on.
    """

    weights: Tensor | ByColumn
    previous: float = 0.0
    root: float = 0.0
    noise: float = 0.0
    exclude: Sequence[int] = ()


@dataclass(frozen=True)
class Gradients:
    """The gradients of the mean cross-entropy at the global model, as a function of examples.

    `of(features, labels)` takes `(k, rows, *shape)` features and `(k, rows, classes)` probabilities and gives
    `(k, parameters)`; it can itself be differentiated.
    """

    shape: tuple[int, ...]
    classes: int
    of: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Server:
    """What the server has of its own; each part is made when it is first asked for.

    `root` is its own update on the trusted root set `(parameters,)`, trained like a client's; `evaluate(updates)`
    applies each row of `(k, parameters)` alone to the global model and gives `(loss, accuracy)` on the root set, each
    `(k,)`; `gradients` differentiates the global model; `model` holds the global parameters and `previous` the last
    combined step, both `(parameters,)`; `sizes` says how many examples each client has, `(clients,)`.
    """

    sources: Mapping[str, Callable[[], Any]] = field(default_factory=dict)

    @cached_property
    def root(self) -> Tensor:
        """Train on the root set: `(parameters,)`."""
        return _tensor(self.sources, "root", "the server's own update, (parameters,)")

    @cached_property
    def evaluate(self) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """Give the function that measures updates on trusted data."""
        what = "a function (k, parameters) -> (loss, accuracy)"
        evaluate: Callable[[Tensor], tuple[Tensor, Tensor]] = _made(self.sources, "evaluate", what)
        return evaluate

    @cached_property
    def gradients(self) -> Gradients:
        """Give the gradients at the global model, as a function of examples."""
        gradients: Gradients = _made(self.sources, "gradients", "agrbench.Gradients(shape, classes, of)")
        return gradients

    @cached_property
    def model(self) -> Tensor:
        """Give the global model's parameters: `(parameters,)`."""
        return _tensor(self.sources, "model", "the global model, (parameters,)")

    @cached_property
    def previous(self) -> Tensor:
        """Give the last combined step: `(parameters,)`, 0 in the first round."""
        return _tensor(self.sources, "previous", "the last combined step, (parameters,)")

    @cached_property
    def sizes(self) -> Tensor:
        """Give how many examples each client says that it has: `(clients,)`."""
        return _tensor(self.sources, "sizes", "how many examples each client has, (clients,)")


@dataclass(frozen=True)
class Round:
    """What a defense or a row stage sees of one round.

    `view_layout` holds the layers of the view; `clients` names the client of each row (`None` after a row stage that is
    not square); `byzantine` is the server's bound on malicious rows; `layout` describes the originals; `see` maps
    server vectors `(k, parameters)` through the same column stages; `memory` lives as long as the run; `number` counts
    from 1; `rng` is this plugin's own for this round.
    """

    view_layout: Layout
    layout: Layout
    byzantine: int
    clients: tuple[int, ...] | None
    geometry: Geometry
    server: Server
    sources: Mapping[str, Callable[[], Tensor]]
    see: Callable[[Tensor], Tensor]
    memory: Memory
    number: int
    rng: Generator

    @cached_property
    def view(self) -> Tensor:
        """Give what the stages before made of the updates: `(rows, features)`."""
        return self.sources["view"]()

    @cached_property
    def updates(self) -> Tensor:
        """Give the original updates, mixed by the row stages so far: `(rows, parameters)`."""
        return self.sources["updates"]()

    @cached_property
    def norms(self) -> Tensor:
        """Give the Euclidean norms of `updates`, never of the view: `(rows,)`."""
        return row_norms(self.updates)

    @cached_property
    def unit_geometry(self) -> Geometry:
        """Give the geometry of the view as it is where every update has norm 1, or 0."""
        norms = self.norms[:, None]
        return Geometry(lambda: torch.where(norms > 0, self.view / norms, 0.0))

    @cached_property
    def sizes(self) -> Tensor:
        """Give how many examples each row stands for, mixed as the rows are: `(rows,)`."""
        return self.sources["sizes"]()


@dataclass(frozen=True)
class Insider:
    """What the colluding clients see of one round.

    `malicious` is how many they are, among `clients`; `byzantine` is the server's bound; `model` and `previous` are the
    global parameters and the last combined step; `number` counts from 1; `memory` lives as long as the run. The updates
    are made when first asked for.
    """

    malicious: int
    clients: int
    byzantine: int
    layout: Layout | None
    number: int
    memory: Memory
    rng: Generator
    sources: Mapping[str, Callable[[], Any]]

    @cached_property
    def honest(self) -> Tensor:
        """Give the honest clients' updates: `(honest, parameters)`."""
        return _tensor(self.sources, "honest", "the honest updates, (honest, parameters)")

    @cached_property
    def clean(self) -> Tensor:
        """Give what the malicious clients would send if they were honest: `(malicious, parameters)`."""
        return _tensor(self.sources, "clean", "the malicious clients' honest updates, (malicious, parameters)")

    @cached_property
    def poisoned(self) -> Tensor:
        """Give what the malicious clients' poisoned data teaches: `(malicious, parameters)`."""
        return _tensor(self.sources, "poisoned", "updates trained on poisoned data, (malicious, parameters)")

    @cached_property
    def model(self) -> Tensor:
        """Give the global model's parameters: `(parameters,)`."""
        return _tensor(self.sources, "model", "the global model, (parameters,)")

    @cached_property
    def previous(self) -> Tensor:
        """Give the last combined step: `(parameters,)`, 0 in the first round."""
        return _tensor(self.sources, "previous", "the last combined step, (parameters,)")

    def see(self, rows: Tensor) -> Tensor:
        """Show `(k, parameters)` rows as the stack's column stages pool them, `(k, features)`, or as they are."""
        shown: Tensor = self.sources["see"]()(rows) if "see" in self.sources else rows
        return shown

    def respond(self, rows: Tensor) -> Tensor:
        """Ask what the whole stack would do with these `(malicious, parameters)` rows: the step, `(parameters,)`.

        The stack runs on copies of its memory and its random state; nothing that it would remember is kept.
        """
        answer: Callable[[Tensor], Tensor] = _made(self.sources, "respond", "the stack attacked, as a spec", "defense")
        return answer(rows)


def _tensor(sources: Mapping[str, Callable[[], Any]], name: str, what: str) -> Tensor:
    tensor: Tensor = _made(sources, name, what)
    return tensor


def _made(sources: Mapping[str, Callable[[], Any]], name: str, what: str, keyword: str = "") -> Any:
    if name not in sources:
        raise AgrbenchError(f"this plugin needs {name}, which was not given; pass {keyword or name}=: {what}")
    return sources[name]()
