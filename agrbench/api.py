"""The public functions: rules, attacks and the simulator, on torch or numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agrbench.cells import Cell
from agrbench.clients.insider import Insider, unpooled
from agrbench.clients.insider import forge as ask_for_rows
from agrbench.errors import AgrbenchError, Inapplicable
from agrbench.layout import Layout
from agrbench.plugins import registry
from agrbench.plugins.contract import Verdict
from agrbench.plugins.registry import Registry
from agrbench.randomness import generator
from agrbench.server.amplifier import Patches
from agrbench.server.checks import finite_rows
from agrbench.server.judge import Judge
from agrbench.server.rounds import Evaluate, Gradients, Server
from agrbench.server.updates import Updates, count, like, matrix, read, tensor
from agrbench.simulation import execution

T = TypeVar("T")
Array = TypeVar("Array", Tensor, NDArray[Any])
AnyArray = Tensor | NDArray[Any]
Shapes = Layout | Iterable[Sequence[int]]
Files = str | Path | tuple[str | Path, ...]
View = Callable[[Tensor], Tensor]


def amplify(updates: Array, layout: Shapes, kernel: int = 2, restore: bool = False, out: Array | None = None) -> Array:
    """Pool each layer's update over `kernel` x `kernel` patches (AgrAmplifier, 2022, Algorithm 1).

    Args:
        updates: `(clients, parameters)`, torch or numpy.
        layout: the layers' shapes, `[(446, 512), (512,), ...]`, or a `Layout`.
        kernel: side and stride of a patch, 1 or more.
        restore: keep each patch's largest entry in place and write 0 elsewhere.
        out: array to write into, of the result's shape and dtype.

    Returns:
        `(clients, patches)`, or `(clients, parameters)` if `restore`, in the kind and dtype of `updates`.

    Raises:
        AgrbenchError: `updates` is not a matrix of floats, or `layout` or `out` does not fit it.
    """
    rows = matrix(updates, "updates")
    patches = Patches.of(Layout.read(layout, rows.shape[1]), kernel)
    columns = patches.restored() if restore else patches.pooled()
    if isinstance(out, np.ndarray) and not (out.flags.c_contiguous and out.flags.writeable and out.dtype.isnative):
        raise AgrbenchError("out= cannot be written in place; pass an array that is C-contiguous, writable and native")
    into = None if out is None else matrix(out, "out")
    width = rows.shape[1] if restore else patches.shapes.parameters
    if into is not None and (into.shape != (len(rows), width) or into.dtype != rows.dtype):
        raise AgrbenchError(
            f"out= is {tuple(into.shape)} of {into.dtype}; write one of {(len(rows), width)} of {rows.dtype}"
        )
    view = columns.view(rows, out=into)
    return like(view, updates) if out is None else out


class Known(TypedDict, total=False):
    """What a rule may ask of the server, passed as keywords to `weigh` and `aggregate`.

    `root`: the server's own update `(parameters,)`, for rules such as FLTrust. `evaluate`:
    `(k, parameters) -> (loss, accuracy)` on trusted data, for rules such as Fang's. `gradients`: the global model's
    gradients as a function of examples, for FedInv. `model`: the global parameters `(parameters,)`. `previous`: the
    last combined step `(parameters,)`, by default 0. `sizes`: each client's number of examples `(clients,)`, for rules
    that weigh by it. `seed`: the seed of the stack's randomness, by default 0. `plugins`: plugin files to load in
    addition to the shipped and installed ones.
    """

    root: AnyArray | None
    evaluate: Evaluate | None
    gradients: Gradients | None
    model: AnyArray | None
    previous: AnyArray | None
    sizes: AnyArray | None
    seed: int
    plugins: Files


def weigh(
    updates: Any, defense: str, byzantine: int | None = None, layout: Shapes | None = None, **known: Unpack[Known]
) -> Verdict:
    """Return how much of each update a stack, such as `"amp+krum"`, would take.

    Args:
        updates: `(clients, parameters)`, all finite; or a list with one client's update each, as a vector, a state
            dict, or a list of arrays as torch orders them.
        defense: the stack's spec.
        byzantine: the bound on malicious clients; needed by rules that use it.
        layout: the layers' shapes; needed by stages that look at layers, unless the updates have shapes of their own.
        **known: what the rule may ask of the server; see `Known`.

    Raises:
        Inapplicable: the stack is not defined for this number of clients and this bound.
        AgrbenchError: a spec, a shape or a plugin is at fault; the message says which.
    """
    given = read(updates)
    if not finite_rows(given.rows).all():
        raise AgrbenchError("the squared norm of a row is not finite; drop such rows (aggregate does) and try again")
    bound = None if byzantine is None else count(byzantine, "byzantine")
    judge, server = _court(given.rows, defense, _layout(layout, given), known)
    return judge.weigh(given.rows, bound, server)


@overload
def aggregate(
    updates: Array, defense: str, byzantine: int | None = None, layout: Shapes | None = None, **known: Unpack[Known]
) -> Array: ...


@overload
def aggregate(
    updates: Sequence[Any],
    defense: str,
    byzantine: int | None = None,
    layout: Shapes | None = None,
    **known: Unpack[Known],
) -> Any: ...


def aggregate(
    updates: Any, defense: str, byzantine: int | None = None, layout: Shapes | None = None, **known: Unpack[Known]
) -> Any:
    """Combine updates by a stack: the step, in the form of one client's update, of its kind and dtype.

    Takes what `weigh` takes. Rows whose squared norm is not finite are left out, and the bound is lowered by their
    number.

    Raises:
        Inapplicable: no row remains, or the stack is not defined for those that remain.
        AgrbenchError: a spec, a shape or a plugin is at fault; the message says which.
    """
    given = read(updates)
    bound = None if byzantine is None else count(byzantine, "byzantine")
    judge, server = _court(given.rows, defense, _layout(layout, given), known)
    judge.stack.check(len(given.rows), bound or 0)
    outcome = judge.step(given.rows, bound, server, number=1)
    if outcome.empty is not None:
        raise Inapplicable(f"{defense}: {outcome.empty}")
    return given.back(outcome.step)


def forge(
    attack: str,
    honest: Array,
    malicious: int,
    *,
    clean: Array | None = None,
    poisoned: Array | None = None,
    layout: Shapes | None = None,
    byzantine: int | None = None,
    model: Array | None = None,
    previous: Array | None = None,
    defense: str | None = None,
    root: Array | None = None,
    evaluate: Evaluate | None = None,
    rng: int = 0,
    plugins: Files = (),
) -> Array:
    """Forge the rows that colluding clients send: `(malicious, parameters)`, in the kind and dtype of `honest`.

    Args:
        attack: the attack's spec.
        honest: the honest updates `(honest, parameters)`.
        malicious: the number of rows to forge.
        clean: what the malicious clients would send if they were honest `(malicious, parameters)`.
        poisoned: the updates trained on their poisoned data `(malicious, parameters)`.
        layout: the layers' shapes.
        byzantine: the server's bound, by default `malicious`.
        model: the global parameters `(parameters,)`.
        previous: the last combined step `(parameters,)`.
        defense: the stack's spec, for attacks that respond to it; `root` and `evaluate` are passed to its rule.
        rng: the seed of the attack's randomness.
        plugins: plugin files to load in addition to the shipped and installed ones.

    Raises:
        Inapplicable: the stack is not defined for these clients, or too slow for an attack that queries it often.
        AgrbenchError: the attack needs something that was not given; the message says what to pass.
    """
    rows = matrix(honest, "honest")
    malicious = count(malicious, "malicious")
    bound = malicious if byzantine is None else count(byzantine, "byzantine")
    loaded = _known_plugins(plugins).attack(attack)
    see: View = unpooled
    respond: View | None = None
    if defense is not None:
        stack = _known_plugins(plugins).stack(defense)
        stack.check(len(rows) + malicious, bound)
        stack.meet(loaded)
        known = Known(root=root, evaluate=evaluate, model=model, previous=previous, seed=rng, plugins=plugins)
        see, respond = _answers(rows, defense, layout, known, bound)
    shape = malicious, rows.shape[1]
    insider = Insider(
        malicious=malicious,
        clients=len(rows) + malicious,
        byzantine=bound,
        layout=None if layout is None else Layout.read(layout, rows.shape[1]),
        number=1,
        memory={},
        rng=generator(rng, "attack", 1),
        honest=lambda: rows,
        clean=_given(clean, "clean", shape),
        poisoned=_given(poisoned, "poisoned", shape),
        model=_given(model, "model", shape[1:]),
        previous=_given(previous, "previous", shape[1:]),
        see=see,
        respond=None if respond is None else lambda: respond,
    )
    forged = ask_for_rows(loaded, insider, rows.shape[1])
    return like(forged.clone(memory_format=torch.contiguous_format), honest)


def run(cell: Cell, plugins: Files = ()) -> dict[str, Any]:
    """Simulate one cell and return its record, as the grid would write it (docs/records.md).

    Computes with `cell.threads` threads, and restores torch's thread count afterwards.

    Raises:
        AgrbenchError: a spec, setting, plugin or data file is invalid; the message says which.
    """
    known = _known_plugins(plugins)
    return execution.compute(known.canonical_cell(cell), known, alone=True)


def _layout(layout: Shapes | None, given: Updates) -> Shapes | None:
    """Return the layout: the one that was passed, or the one that the updates' own shapes tell."""
    if layout is None or given.layout is None:
        return given.layout if layout is None else layout
    if not isinstance(layout, Layout):  # shapes as (d_in, d_out) would read torch's weights along the wrong axis
        raise AgrbenchError(
            "layout= lists shapes, but the updates have shapes of their own; leave layout= out, or pass "
            "layout=agrbench.Layout.of(module)"
        )
    return layout


def _court(rows: Tensor, defense: str, layout: Shapes | None, known: Known) -> tuple[Judge, Server]:
    """Make the judge of a stack, and the server that its rule may query."""
    for name in set(known) - set(Known.__annotations__):
        raise TypeError(f"unexpected keyword argument {name!r}; there are {', '.join(Known.__annotations__)}")
    stack = _known_plugins(known.get("plugins", ())).stack(defense)
    if layout is None and any(stage.record.columns for stage in stack.stages):
        raise AgrbenchError(f"{defense} looks at layers; pass layout=: their shapes, [(446, 512), (512,), ...]")
    n, width = rows.shape
    server = Server(
        root=_given(known.get("root"), "root", (width,)),
        evaluate=_itself(known.get("evaluate")),
        gradients=_itself(known.get("gradients")),
        model=_given(known.get("model"), "model", (width,)),
        previous=_given(known.get("previous"), "previous", (width,)) or partial(rows.new_zeros, width),
        sizes=_given(known.get("sizes"), "sizes", (n,)),
    )
    layers = Layout.read([(1, width)] if layout is None else layout, width)
    return Judge(stack, layers, partial(generator, known.get("seed", 0)), rows.device), server


def _answers(honest: Tensor, defense: str, layout: Shapes | None, known: Known, bound: int) -> tuple[View, View]:
    """Return two functions that an attack may call: how the stack pools rows, and its step given forged rows."""
    judge = cache(lambda: _court(honest, defense, layout, known)[0])

    def respond(forged: Tensor) -> Tensor:
        together = torch.cat([honest, forged.to(honest)])
        fresh, server = _court(together, defense, layout, known)
        return fresh.step(together, bound, server, number=1).step

    return lambda rows: judge().pool(rows), respond


def _given(value: AnyArray | None, name: str, shape: tuple[int, ...]) -> Callable[[], Tensor] | None:
    """Return a function that checks an array when it is first needed, or `None` if no array was given."""
    return None if value is None else partial(_shaped, value, name, tuple(shape))


def _known_plugins(plugins: Files) -> Registry:
    return registry.of((plugins,) if isinstance(plugins, (str, Path)) else plugins)


def _itself(value: T | None) -> Callable[[], T] | None:
    return None if value is None else lambda: value


def _shaped(value: AnyArray, name: str, shape: tuple[int, ...]) -> Tensor:
    given = tensor(value)
    if given.shape != shape:
        raise AgrbenchError(f"{name} is of shape {tuple(given.shape)}; pass {name}= of shape {shape}")
    return given
