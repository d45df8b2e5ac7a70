"""The amplifier's kernels: reduce or mask the k x k patches of a block of clients' grids, ragged edges included.

Every kernel uses operations that run in vector registers. To choose or mask numbers it computes with their bits as
integers: nothing is rounded, and `torch.where` by Booleans takes far longer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

BITS = {torch.float64: torch.int64, torch.float32: torch.int32, torch.float16: torch.int16, torch.bfloat16: torch.int16}
"""The integer type that holds a number's bits."""
PAIRS = {torch.int32: torch.int64, torch.int16: torch.int32}
"""The integer type that holds two of them side by side, the first in its lower half."""

keep_above = torch.ops.aten.threshold_backward.grad_input
"""`(values, where, threshold, grad_input=out)`: keep values at entries of `where` above the threshold, else write 0."""

Pool = Callable[[Tensor, int, Tensor], object]
"""Reduce `(clients, rows, columns)` over `k x k` patches, ragged edges included, into the last argument."""
Choose = Callable[..., object]
"""Combine two tensors entry by entry into `out`, which may be the first of them."""


def maximum(block: Tensor, kernel: int, out: Tensor) -> None:
    """Take the largest entry of each patch."""
    # Folding along rows first reads memory in order, which suits several threads; one writes less the other way round.
    along = kernel == 2 and _even(block) and torch.get_num_threads() > 1
    first, then = (2, 1) if along else (1, 2)
    _along(_along(block, kernel, torch.maximum, first), kernel, torch.maximum, then, out)


def total(block: Tensor, kernel: int, out: Tensor) -> None:
    """Add up the entries of each patch."""
    _along(_along(block, kernel, torch.add, 1), kernel, torch.add, 2, out)


def magnitude(block: Tensor, kernel: int, out: Tensor) -> None:
    """Take the entry of largest absolute value of each patch, sign included, the first on ties."""
    _along(_along(block, kernel, _larger, 2), kernel, _larger, 1, out)  # ties: the upper row, then the left entry


def keep_first(block: Tensor, chosen: Tensor, kernel: int, out: Tensor) -> None:
    """Keep the first entry of each patch that equals the chosen one, and write 0 elsewhere."""
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
    """Do the same for 2 x 2 patches: `pair & -pair` is the lower of a pair's two hits, which is the first."""
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
        if above is not None:  # negative: the row above has a hit
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
    """View every `kernel`-th entry of a dimension: from the first, from the second, and so on."""
    ahead = (slice(None),) * dim
    return [block[(*ahead, slice(at, None, kernel))] for at in range(min(kernel, block.shape[dim]))]


def _even(block: Tensor) -> bool:
    """Return whether rows consist of pairs of numbers that fit one integer."""
    return block.shape[2] % 2 == 0 and BITS.get(block.dtype) in PAIRS


def _in_pairs(block: Tensor, fold: Choose, out: Tensor | None) -> Tensor:
    """Fold pairs of neighbours in a row: fold each entry with the next, then drop every second result.

    Both run in vector registers; reading every second number does not.
    """
    bits, flat = BITS[block.dtype], block.flatten(1)
    each = torch.empty_like(flat, memory_format=torch.contiguous_format)
    fold(flat[:, :-1], flat[:, 1:], out=each[:, :-1])
    folded = block.new_empty(*block.shape[:2], block.shape[2] // 2) if out is None else out
    folded.view(bits).copy_(each.view(PAIRS[bits]).view(folded.shape))
    return folded


def _larger(first: Tensor, then: Tensor, out: Tensor) -> None:
    """Take the number of larger absolute value, the first on ties: without signs, bits are ordered like numbers."""
    bits = BITS[first.dtype]
    one, other, unsigned = first.view(bits), then.view(bits), torch.iinfo(bits).max
    further = (other & unsigned).sub_(one & unsigned)
    apart = other - one
    keep_above(apart, further, 0, grad_input=apart)
    torch.add(one, apart, out=out.view(bits))
