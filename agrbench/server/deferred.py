"""A tensor that is made when its values are first asked for: how many rows there are is known without them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

KNOWN: set[Any] = {Tensor.__len__, Tensor.dim, Tensor.size}
KNOWN |= {vars(torch._C.TensorBase)[name].__get__ for name in ("device", "dtype", "ndim", "shape")}


class Deferred(Tensor):
    """Stand in for a tensor of known shape, and hand every operation on its values to the tensor itself."""

    make: Callable[[], Tensor]

    @classmethod
    def of(cls, make: Callable[[], Tensor], shape: tuple[int, ...], like: Tensor) -> Deferred:
        """Stand in for what `make` gives, of the dtype and device of `like`; what reads the stand-in itself reads NaN.

        `make` is called by each operation, so that it keeps what it made.
        """
        stand_in = like.new_full((1,) * len(shape), torch.nan).expand(shape).as_subclass(cls)
        stand_in.make = make
        return stand_in

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer what is known, and ask the tensor for the rest."""
        if func in KNOWN:
            return super().__torch_function__(func, types, args, kwargs)  # type: ignore[no-untyped-call]
        given, named = tree_map_only(cls, lambda stand_in: stand_in.make(), (args, kwargs or {}))
        return func(*given, **named)
