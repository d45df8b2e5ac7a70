"""The public functions: rules, attacks and the simulator, on torch or numpy arrays."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar, Unpack, cast, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agrbench.cells import Cell
from agrbench.clients.insider import Insider, unpooled
from agrbench.clients.insider import forge as ask_for_rows
from agrbench.errors import AgrbenchError
from agrbench.layout import Layout
from agrbench.plugins.contract import Verdict
from agrbench.plugins.stack import Stack
from agrbench.randomness import generator
from agrbench.server import rounds
from agrbench.server.amplifier import Patches
from agrbench.server.checks import finite_rows
from agrbench.server.judge import Judge
from agrbench.server.rounds import Evaluate
from agrbench.server.updates import count, like, matrix, read
from agrbench.serving import (
    Asked,
    Files,
    Server,
    Shapes,
    array_of,
    check_keywords,
    judge_of,
    known_plugins,
    layout_of,
    means_of,
)
from agrbench.simulation.computing import compute

Array = TypeVar("Array", Tensor, NDArray[Any])
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


class Known(Asked, total=False):
    """What `weigh` and `aggregate` take by keyword.

    All that a rule may ask of the server, see `agrbench.serving.Asked`; `seed`: the seed of the stack's randomness, by
    default 0; `plugins`: plugin files to load in addition to the shipped and installed ones.
    """

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
    judge, server = _court(given.rows, defense, layout_of(layout, given), known)
    _say_if_it_remembers(judge.stack)
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
    server = Server(defense, byzantine, layout, seed=known.get("seed", 0), plugins=known.get("plugins", ()))
    _say_if_it_remembers(server.stack)
    return server.step(updates, **_asked(known))


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
    loaded = known_plugins(plugins).attack(attack)
    see: View = unpooled
    respond: View | None = None
    if defense is not None:
        stack = known_plugins(plugins).stack(defense)
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
        clean=array_of(clean, "clean", shape),
        poisoned=array_of(poisoned, "poisoned", shape),
        model=array_of(model, "model", shape[1:]),
        previous=array_of(previous, "previous", shape[1:]),
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
    known = known_plugins(plugins)
    return compute(known.canonical_cell(cell), known, alone=True)


def _say_if_it_remembers(stack: Stack) -> None:
    """Warn if the rule judges by rounds that one call does not have."""
    if stack.defense.record.family == "history":
        warnings.warn(
            f"{stack.defense.name} judges clients by their past, which a single call does not have; use "
            "agrbench.Server to keep it from round to round",
            stacklevel=3,
        )


def _court(rows: Tensor, defense: str, layout: Shapes | None, known: Known) -> tuple[Judge, rounds.Server]:
    """Make the judge of a stack in its first round, and what its rule may ask of the server."""
    stack = known_plugins(known.get("plugins", ())).stack(defense)
    means = means_of(rows, _asked(known), None, range(len(rows)))
    return judge_of(stack, layout, rows, known.get("seed", 0)), means


def _asked(known: Known) -> Asked:
    check_keywords(known, Known)
    return cast(Asked, {name: value for name, value in known.items() if name not in ("seed", "plugins")})


def _answers(honest: Tensor, defense: str, layout: Shapes | None, known: Known, bound: int) -> tuple[View, View]:
    """Return two functions that an attack may call: how the stack pools rows, and its step given forged rows."""
    judge = cache(lambda: _court(honest, defense, layout, known)[0])

    def respond(forged: Tensor) -> Tensor:
        together = torch.cat([honest, forged.to(honest)])
        fresh, server = _court(together, defense, layout, known)
        return fresh.step(together, bound, server, number=1).step

    return lambda rows: judge().pool(rows), respond
