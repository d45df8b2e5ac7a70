"""A CUDA device that is not there: its rules on a CPU, so that the path to a device is tested where there is none.

Tensors claim to be on `cuda:0` and hold their numbers in main memory. An operation that mixes the two devices as CUDA
does not allow is refused, and so are numpy and the CPU's random numbers; what the host reads back is noted. Of CUDA's
kernels, their rounding and their speed this says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeGuard
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("cuda:0")
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")
SIZED = ("nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "bincount")
"""Operations whose result is as large as numbers on the device say, for which the host waits."""


class Pretended(Tensor):
    """A tensor that claims to be on the device; `held` has its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Pretended:
        """Look like `inner`; what PyTorch asks of the device in C++ it asks of `meta`, which every build has."""
        assert inner.device.type == "cpu"
        made: Pretended = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=torch.device("meta"),
        )  # fmt: skip
        made.held = inner
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Refuse to work while nothing is pretended."""
        raise RuntimeError(f"{func} of a tensor on a device that is no longer there")


class Device(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Compute what is on the device, and note in `reads` how many numbers the host is told, each time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.reads: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation on what the tensors hold."""
        kwargs = kwargs or {}
        name, tensors = func.overloadpacket.__name__, [one for one in tree_leaves((args, kwargs)) if _is_tensor(one)]
        there = any(map(_is_there, tensors))
        stays = there if kwargs.get("device") is None else torch.device(kwargs["device"]).type != "cpu"
        if there:
            _refuse(name, args, tensors)
            self._note(name, args, stays)
        if stays and kwargs.get("generator") is not None:
            raise RuntimeError(f"{name}: the CPU's random numbers on the device")
        here = kwargs if kwargs.get("device") is None else {**kwargs, "device": "cpu"}
        result = func(*tree_map(_inner, args), **tree_map(_inner, here))
        if not stays:
            return result
        result = tree_map(lambda one: Pretended(one) if _is_tensor(one) else one, result)
        return return_and_correct_aliasing(func, args, kwargs, result) if there else result  # type: ignore[no-untyped-call]

    def _note(self, name: str, args: Any, stays: bool) -> None:
        masks = name in INDEXING and any(_is_there(one) and one.dtype == torch.bool for one in args[1])
        if name in SIZED or masks or name == "_local_scalar_dense":
            self.reads.append(1)
        elif name == "_to_copy" and not stays:
            self.reads.append(args[0].numel())
        elif name == "copy_" and not _is_there(args[0]):
            self.reads.append(args[1].numel())


class Calls(TorchFunctionMode):
    """What PyTorch answers before an operation begins: which device a tensor is on, and lists of its numbers."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer for the device, or let the call go on."""
        kwargs = kwargs or {}
        first = args[0] if args else None
        if func == Tensor.device.__get__:
            found = func(first)
            return DEVICE if found.type == "meta" else found
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            args = (first, _places(args[1]), *args[2:])
        if func is Tensor.tolist and _is_there(first):
            return func(first.cpu())
        if func is Tensor.numpy and _is_there(first):
            raise TypeError("a tensor on the device has no numpy array")
        args = tuple(map(_with_index, args))
        kwargs = {name: _with_index(given) for name, given in kwargs.items()}
        if func is torch.tensor and kwargs.get("device") == DEVICE:
            return func(*args, **{**kwargs, "device": "cpu"}).to(DEVICE)
        return func(*args, **kwargs)


@contextmanager
def device() -> Iterator[Device]:
    """Pretend that there is a CUDA device."""
    quiet: dict[str, Any] = {
        "_lazy_init": lambda: None,
        "synchronize": lambda device=None: None,
        "get_rng_state": lambda device=None: torch.get_rng_state(),  # layers on the device draw in main memory
        "set_rng_state": lambda state, device=None: torch.set_rng_state(state),
    }
    patched = patch.multiple(torch.cuda, **quiet), patch.object(Tensor, "as_subclass", _as_subclass)
    with patched[0], patched[1], Calls(), Device() as pretended:
        yield pretended


def _as_subclass(one: Tensor, cls: type[Tensor]) -> Tensor:
    """Make another kind of tensor, of no numbers; PyTorch asks no mode for it."""
    if isinstance(one, Pretended):
        with _disable_current_modes():
            one = torch.empty_like(one.held, device="meta")
    return torch._C.TensorBase.as_subclass(one, cls)


def _refuse(name: str, args: Any, tensors: list[Tensor]) -> None:
    """Raise what CUDA raises; single numbers in main memory, and places to look at, may be mixed in."""
    if name in ("copy_", "_to_copy"):
        return
    mixed = [args[0], *args[2:]] if name in INDEXING else tensors
    if any(_is_tensor(one) and one.ndim and not _is_there(one) for one in mixed):
        raise RuntimeError(f"{name}: some tensors are on the device, and some are not")


def _is_tensor(one: object) -> TypeGuard[Tensor]:
    return isinstance(one, Tensor)


def _is_there(one: object) -> TypeGuard[Pretended]:
    return isinstance(one, Pretended)


def _inner(one: Any) -> Any:
    return one.held if isinstance(one, Pretended) else one


def _places(index: Any) -> Any:
    """Write lists of places as tensors, which PyTorch would make on `meta`."""
    if isinstance(index, tuple):
        return tuple(map(_places, index))
    return torch.tensor(index, dtype=None if index else torch.long) if isinstance(index, list) else index


def _with_index(given: Any) -> Any:
    """Say which device is meant by `cuda`, as a build with CUDA does."""
    if isinstance(given, (torch.device, str)) and str(given) == "cuda":
        return DEVICE
    return given
