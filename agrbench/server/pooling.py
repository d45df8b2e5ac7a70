"""Reduce the k x k patches of a block of clients' grids, ragged edges included: what the amplifier does inside.

Each kernel is made of operations that run in vector registers. Where numbers are chosen or masked, their bits are
computed with as integers: nothing is rounded, and a choice by booleans, entry by entry, takes far longer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

BITS = {torch.float64: torch.int64, torch.float32: torch.int32, torch.float16: torch.int16, torch.bfloat16: torch.int16}
"""The integer that holds a number's bits."""
PAIRS = {torch.int32: torch.int64, torch.int16: torch.int32}
"""The integer that holds two of them side by side, the first in its lower half."""

keep_above = torch.ops.aten.threshold_backward.grad_input
"""`(values, where, threshold, grad_input=out)`: values where another tensor is above the threshold, and 0 elsewhere."""

Pool = Callable[[Tensor, int, Tensor], object]
"""Reduce `(clients, rows, columns)` over `k x k` patches, ragged edges included, into the last argument."""
Choose = Callable[..., object]
"""Make one tensor of two, entry by entry, into `out`, which may be the first."""


def maximum(block: Tensor, kernel: int, out: Tensor) -> None:
    """Take the largest entry of each patch."""
    along = kernel == 2 and _even(block) and torch.get_num_threads() > 1  # they read memory as it lies; one writes less
    first, then = (2, 1) if along else (1, 2)
    _along(_along(block, kernel, torch.maximum, first), kernel, torch.maximum, then, out)


def total(block: Tensor, kernel: int, out: Tensor) -> None:
    """Add the entries of each patch."""
    _along(_along(block, kernel, torch.add, 1), kernel, torch.add, 2, out)


def magnitude(block: Tensor, kernel: int, out: Tensor) -> None:
    """Take the entry of the largest absolute value of each patch, sign kept, the first on ties."""
    _along(_along(block, kernel, _larger, 2), kernel, _larger, 1, out)  # row by row: the first is left of, then above


def keep_first(block: Tensor, chosen: Tensor, kernel: int, out: Tensor) -> None:
    """Keep the first entry of each patch that is the chosen one, and write 0 elsewhere."""
    bits = BITS[block.dtype]
    entries, wanted, kept = block.view(bits), chosen.view(bits), out.view(bits)
    if kernel == 2 and _even(block):
        _keep_first_of_four(entries, wanted, kept)
        return
    free = torch.ones_like(wanted)
    for row, into in zip(_parts(entries, kernel, 1), _parts(kept, kernel, 1), strict=True):
        for entry, there in zip(_parts(row, kernel, 2), _parts(into, kernel, 2), strict=True):
            here = (slice(None), slice(entry.shape[1]), slice(entry.shape[2]))
            hit = torch.eq(entry, wanted[here], out=torch.empty_like(wanted[here])).mul_(free[here])
            torch.mul(entry, hit, out=there)
            free[here] -= hit


def _keep_first_of_four(entries: Tensor, wanted: Tensor, kept: Tensor) -> None:
    """Do so for 2 x 2: of a pair's two hits `pair & -pair` is the lower, which is the first."""
    bits, pairs = wanted.dtype, PAIRS[wanted.dtype]
    single = 8 * bits.itemsize
    twice = wanted.to(pairs)
    twice = (twice & ((1 << single) - 1)).bitwise_or_(twice << single).view(bits)
    free = None
    for row, into in zip(_parts(entries, 2, 1), _parts(kept, 2, 1), strict=True):
        hits = torch.eq(row, twice[:, : row.shape[1]], out=torch.empty_like(row, memory_format=torch.contiguous_format))
        first = hits.view(pairs)
        above, free = free, -first
        first &= free
        if above is not None:  # what was negative is taken
            keep_above(first, above[:, : row.shape[1]], -1, grad_input=first)
        torch.mul(row, hits, out=into)


def _along(block: Tensor, kernel: int, fold: Choose, dim: int, out: Tensor | None = None) -> Tensor:
    """Fold every `kernel` neighbours along one dimension, fewer at its end."""
    if (kernel, dim) == (2, 2) and _even(block):
        return _in_pairs(block, fold, out)
    parts = _parts(block, kernel, dim)
    if len(parts) == 1:
        return parts[0] if out is None else out.copy_(parts[0])
    folded = torch.empty_like(parts[0], memory_format=torch.contiguous_format) if out is None else out
    full = parts[1].shape[dim]
    fold(parts[0].narrow(dim, 0, full), parts[1], out=folded.narrow(dim, 0, full))
    if full < parts[0].shape[dim]:
        folded.narrow(dim, full, 1).copy_(parts[0].narrow(dim, full, 1))
    for part in parts[2:]:
        here = folded.narrow(dim, 0, part.shape[dim])
        fold(here, part, out=here)
    return folded


def _parts(block: Tensor, kernel: int, dim: int) -> list[Tensor]:
    """See every `kernel`-th of a dimension: from the first, from the second, and so on."""
    ahead = (slice(None),) * dim
    return [block[(*ahead, slice(at, None, kernel))] for at in range(min(kernel, block.shape[dim]))]


def _even(block: Tensor) -> bool:
    """Say whether its rows are pairs of numbers that one integer holds."""
    return block.shape[2] % 2 == 0 and BITS.get(block.dtype) in PAIRS


def _in_pairs(block: Tensor, fold: Choose, out: Tensor | None) -> Tensor:
    """Fold every two neighbours of a row: each with the next, and then leave out every second.

    Both run in vector registers; reading every second number does not.
    """
    bits, flat = BITS[block.dtype], block.flatten(1)
    each = torch.empty_like(flat, memory_format=torch.contiguous_format)
    fold(flat[:, :-1], flat[:, 1:], out=each[:, :-1])
    folded = block.new_empty(*block.shape[:2], block.shape[2] // 2) if out is None else out
    folded.view(bits).copy_(each.view(PAIRS[bits]).view(folded.shape))
    return folded


def _larger(first: Tensor, then: Tensor, out: Tensor) -> None:
    """Take the number of the larger absolute value, the first on ties: without their signs, bits rise with numbers."""
    bits = BITS[first.dtype]
    one, other, unsigned = first.view(bits), then.view(bits), torch.iinfo(bits).max
    further = (other & unsigned).sub_(one & unsigned)
    apart = other - one
    keep_above(apart, further, 0, grad_input=apart)
    torch.add(one, apart, out=out.view(bits))
