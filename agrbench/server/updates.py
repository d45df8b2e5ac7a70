"""Updates in the forms that callers hold: arrays, lists of arrays, state dicts; read as rows, and written back."""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeGuard, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agrbench.arrays import from_numpy
from agrbench.errors import AgrbenchError
from agrbench.layout import Layout

Array = Tensor | NDArray[Any]
Kind = TypeVar("Kind", Tensor, NDArray[Any], Array)
FORMS = "pass (clients, parameters) floats, or a list with an array, a state dict or a list of arrays for each client"


@dataclass(frozen=True)
class Updates:
    """Updates as rows `(clients, parameters)`, the layout that their shapes tell, and the way back.

    `parts` names what a row is made of, in order; it is empty for vectors. `back(vector)` writes a vector
    `(parameters,)` in the form of one client's update, of its kind and dtype.
    """

    rows: Tensor
    layout: Layout | None
    back: Callable[[Tensor], Any]
    parts: tuple[Hashable, ...] = ()


def read(updates: Any, name: str = "updates") -> Updates:
    """Read updates in any of the forms that callers hold.

    A matrix `(clients, parameters)`, or a sequence with one client's update each: a vector, a state dict, or a list of
    arrays. State dicts and lists of arrays follow torch: weights are `(out, in, ...)`, each before its bias.

    Raises:
        AgrbenchError: it is none of these, clients differ in names or shapes, or a part is not made of floats.
    """
    if is_array(updates):
        return Updates(matrix(updates, name), None, partial(like, given=updates))
    if isinstance(updates, (list, tuple)) and updates:
        first = updates[0]
        if is_array(first):
            rows = [_vector(each, f"{name}[{place}]", first) for place, each in enumerate(updates)]
            return Updates(matrix(torch.stack(rows), name), None, partial(like, given=first))
        if isinstance(first, Mapping):
            return _parts([_named(each, f"{name}[{place}]") for place, each in enumerate(updates)], name, dict)
        if isinstance(first, (list, tuple)):
            numbered = [_named(dict(enumerate(each)), f"{name}[{place}]") for place, each in enumerate(updates)]
            return _parts(numbered, name, lambda parts: list(parts.values()))
    raise AgrbenchError(f"{name} is a {type(updates).__name__}; {FORMS}")


def is_array(value: object) -> TypeGuard[Array]:
    """Return whether a value is a tensor or a numpy array."""
    return isinstance(value, (Tensor, np.ndarray))


def tensor(value: Array) -> Tensor:
    """Return a tensor, or a numpy array as one, sharing its memory if torch can."""
    if isinstance(value, Tensor):
        return value.detach()
    return from_numpy(value)


def matrix(value: Array, name: str) -> Tensor:
    """Read a matrix of floats.

    Raises:
        AgrbenchError: it is something else.
    """
    if not is_array(value):
        raise AgrbenchError(f"{name} is a {type(value).__name__}; pass floats of shape (clients, parameters)")
    rows = (
        tensor(value) if isinstance(value, Tensor) or value.dtype.kind in "biuf" else torch.empty(0, dtype=torch.long)
    )
    if rows.ndim != 2 or not rows.is_floating_point() or not rows.numel():
        raise AgrbenchError(
            f"{name} is {tuple(value.shape)} of {value.dtype}; pass floats of shape (clients, parameters)"
        )
    return rows


def like(result: Tensor, given: Kind) -> Kind:
    """Convert a tensor to the kind, dtype and device of a given array."""
    if isinstance(given, Tensor):
        return result.to(given)
    return result.cpu().numpy().astype(given.dtype, copy=False)


def count(value: Any, name: str) -> int:
    """Read a whole number from 0, of Python's or numpy's.

    Raises:
        AgrbenchError: it is something else, such as a share of the clients.
    """
    try:
        number = -1 if isinstance(value, (bool, np.bool_)) else operator.index(value)
    except TypeError:
        number = -1
    if number < 0:
        raise AgrbenchError(f"{name} is {value!r}; pass a number of clients, 0 or more, such as {name}=3")
    return number


def _vector(value: Any, name: str, first: Array) -> Tensor:
    if not is_array(value) or value.shape != first.shape or value.ndim != 1:
        shape = tuple(value.shape) if is_array(value) else f"a {type(value).__name__}"
        raise AgrbenchError(f"{name} is {shape}; pass one vector of the same length for each client")
    return tensor(value)


def _named(update: Any, name: str) -> dict[Any, Array]:
    """Check the parts of one client's update."""
    if not isinstance(update, Mapping) or not update:
        raise AgrbenchError(f"{name} is a {type(update).__name__}, unlike the first client's, or empty; {FORMS}")
    for part, value in update.items():
        if not is_array(value):
            raise AgrbenchError(f"{name}[{part!r}] is a {type(value).__name__}; pass arrays or tensors")
        if not (value.is_floating_point() if isinstance(value, Tensor) else value.dtype.kind == "f"):
            raise AgrbenchError(
                f"{name}[{part!r}] is of {value.dtype}; leave what is not made of floats, such as BatchNorm's "
                "num_batches_tracked, out of the updates"
            )
    return dict(update)


def _parts(clients: Sequence[dict[Any, Array]], name: str, join: Callable[[dict[Any, Any]], Any]) -> Updates:
    """Flatten each client's parts in the first client's order."""
    first = clients[0]
    shapes = {part: tuple(value.shape) for part, value in first.items()}
    for place, client in enumerate(clients):
        if {part: tuple(value.shape) for part, value in client.items()} != shapes:
            differing = [part for part in shapes if part not in client or tuple(client[part].shape) != shapes[part]]
            raise AgrbenchError(
                f"the parts of {name}[{place}] are not those of {name}[0], or differ in shape "
                f"({differing or list(client)!r:.80}); pass the same for each client"
            )
    rows = [torch.cat([tensor(client[part]).flatten() for part in shapes]) for client in clients]
    layout = Layout.of_stored(shape for shape in shapes.values() if 0 not in shape)

    def back(vector: Tensor) -> Any:
        pieces = torch.split(vector, [tensor(value).numel() for value in first.values()])
        joined = zip(first.items(), pieces, strict=True)
        return join({part: like(piece.view(shapes[part]), value) for (part, value), piece in joined})

    return Updates(matrix(torch.stack(rows), name), layout, back, tuple(shapes))
