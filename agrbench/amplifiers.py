"""Pool each layer's update over k x k patches (AgrAmplifier, Algorithm 1): pooled, or restored to full size.

The work is done on cache-sized blocks and written into the caller's buffer. A layer's patches are the cells of a grid;
where a layer is not stored in its folded order, blocks are gathered into that order first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor

from agrbench.errors import AgrbenchError
from agrbench.layout import Layer, Layout
from agrbench.rounds import Columns
from agrbench.threads import each, finish

BLOCK = 1 << 21  # entries worked on at once: what they leave stays in a cache
STRIP = 1 << 20  # entries whose pooled values are multiplied while they are in a cache
PAIRS = {
    torch.float32: (torch.int64, torch.int32),
    torch.float16: (torch.int32, torch.int16),
    torch.bfloat16: (torch.int32, torch.int16),
}
"""Two numbers side by side as one integer, whose lower half is the first of them, and one of them."""

Fold = Literal["layers", "released"]
Pool = Callable[[Tensor, int, Tensor], object]
"""Reduce `(clients, rows, columns)` over `k x k` patches, ragged edges included, into the last argument."""


class Strip(NamedTuple):
    """Whole rows of patches of one grid: its first entry and patch, its height and width, how many patches."""

    entry: int
    patch: int
    shape: tuple[int, int]
    many: int

    @property
    def entries(self) -> slice:
        """Say which entries of a laid-out row it holds."""
        return slice(self.entry, self.entry + self.shape[0] * self.shape[1])

    @property
    def patches(self) -> slice:
        """Say which patches."""
        return slice(self.patch, self.patch + self.many)


@dataclass(frozen=True)
class Grids:
    """The coordinates of a flat vector laid out as grids to cut into patches.

    `order` lists the coordinates grid by grid (`None`: as stored); coordinates beyond the grids are in no patch.
    """

    shapes: tuple[tuple[int, int], ...]
    order: Tensor | None

    @classmethod
    def folded(cls, layout: Layout, shuffle: Generator | None = None) -> Grids:
        """Lay out each layer folded to `(d_in, d_out)`, or in one fixed random order where `shuffle` is given."""
        order = layout.folded
        if shuffle is not None:
            stored = torch.arange(layout.parameters) if order is None else order
            pieces = torch.split(stored, [layer.size for layer in layout.layers])
            order = torch.cat([piece[torch.randperm(len(piece), generator=shuffle)] for piece in pieces])
        return cls(tuple((layer.rows, layer.columns) for layer in layout.layers), order)

    @classmethod
    def released(cls, layout: Layout, kernel: int) -> Grids:
        """Lay out the whole vector, as torch stores it, at the width of the first hidden layer (released code).

        What does not fill whole patches, the output bias among it, is in no patch.
        """
        width = layout.layers[0].columns
        rows = layout.parameters // width // kernel * kernel
        columns = width // kernel * kernel
        if not rows or not columns:
            raise AgrbenchError(f"amp(fold='released') with kernel={kernel} leaves no patch in a width of {width}")
        pieces = []
        for at, layer in zip(layout.starts, layout.layers, strict=True):
            stored = torch.arange(at, at + layer.size)
            weights = layer.size - layer.bias * layer.columns
            if not layer.transposed:
                stored[:weights] = stored[:weights].view(-1, layer.columns).T.flatten()
            pieces.append(stored)
        grid = torch.cat(pieces)[: rows * width].view(rows, width)[:, :columns]
        return cls(((rows, columns),), grid.flatten())

    def pooled(self, kernel: int) -> tuple[tuple[int, int], ...]:
        """Give each grid's shape in patches."""
        return tuple((-(-rows // kernel), -(-columns // kernel)) for rows, columns in self.shapes)

    def patch_of(self, kernel: int, parameters: int) -> Tensor:
        """Map each of `parameters` coordinates to its patch, -1 where it is in none."""
        ids, start = [], 0
        for (rows, columns), (high, wide) in zip(self.shapes, self.pooled(kernel), strict=True):
            row = torch.arange(rows).div(kernel, rounding_mode="floor")[:, None]
            column = torch.arange(columns).div(kernel, rounding_mode="floor")
            ids.append((start + row * wide + column).flatten())
            start += high * wide
        if self.order is None:
            return torch.cat(ids)
        return torch.full((parameters,), -1).scatter_(0, self.order, torch.cat(ids))

    def to(self, device: torch.device) -> Grids:
        """Move to a device."""
        return self if self.order is None else Grids(self.shapes, self.order.to(device))

    def strips(self, kernel: int, size: int) -> list[Strip]:
        """Cut the grids into whole rows of patches, of about `size` entries."""
        found, entry, patch = [], 0, 0
        for (high, wide), (_, across) in zip(self.shapes, self.pooled(kernel), strict=True):
            tall = min(high, max(size // wide // kernel, 1) * kernel)
            for top in range(0, high, tall):
                shape = (min(tall, high - top), wide)
                count = -(-shape[0] // kernel) * across
                found.append(Strip(entry, patch, shape, count))
                entry, patch = entry + shape[0] * wide, patch + count
        return found

    def read(self, rows: Tensor, strip: Strip) -> Tensor:
        """Take a strip of each row: `(rows, high, wide)`."""
        entries = rows[:, strip.entries] if self.order is None else rows.index_select(1, self.order[strip.entries])
        return entries.view(-1, *strip.shape)

    def blocks(self, clients: int, kernel: int) -> list[tuple[slice, Strip]]:
        """List what is worked on at once: some clients' strips."""
        found = []
        for strip in self.strips(kernel, BLOCK):
            many = max(BLOCK // (strip.shape[0] * strip.shape[1]), 1)
            found += [(slice(one, one + many), strip) for one in range(0, clients, many)]
        return found


def maximum(block: Tensor, kernel: int, out: Tensor) -> None:
    """Take the largest entry of each patch."""
    _along(_along(block, kernel, torch.maximum, 1), kernel, torch.maximum, 2, out)


def total(block: Tensor, kernel: int, out: Tensor) -> None:
    """Add the entries of each patch."""
    _along(_along(block, kernel, torch.add, 1), kernel, torch.add, 2, out)


def magnitude(block: Tensor, kernel: int, out: Tensor) -> None:
    """Take the entry of the largest absolute value of each patch, sign kept, the first on ties."""
    _along(_along(block, kernel, _larger, 2), kernel, _larger, 1, out)  # row by row: the first is left of, then above


def pool(rows: Tensor, grids: Grids, kernel: int, reduce: Pool = maximum, out: Tensor | None = None) -> Tensor:
    """Reduce each patch of each row: `(clients, parameters)` to `(clients, patches)`."""
    width = sum(high * wide for high, wide in grids.pooled(kernel))
    pooled = rows.new_empty(len(rows), width) if out is None else out
    grids = grids.to(rows.device)

    def work(block: tuple[slice, Strip]) -> None:
        clients, strip = block
        entries = grids.read(rows[clients], strip)
        reduce(entries, kernel, _as_patches(pooled[clients, strip.patches], entries, kernel))

    finish(each(work, grids.blocks(len(rows), kernel), rows.device))
    return pooled


def pool_by_strips(rows: Tensor, grids: Grids, kernel: int, reduce: Pool = maximum) -> list[Callable[[], Tensor]]:
    """Give functions each of which pools some patches of all rows, `(clients, some patches)`, in order."""
    grids = grids.to(rows.device)

    def work(strip: Strip) -> Tensor:
        entries = grids.read(rows, strip)
        pooled = rows.new_empty(len(rows), strip.many)
        reduce(entries, kernel, _as_patches(pooled, entries, kernel))
        return pooled

    return [partial(work, strip) for strip in grids.strips(kernel, STRIP // len(rows))]


def restore(rows: Tensor, grids: Grids, kernel: int, choose: Pool = maximum, out: Tensor | None = None) -> Tensor:
    """Keep the chosen entry of each patch in place, the first on ties, and write 0 elsewhere: same shape.

    Coordinates in no patch are kept as they are.
    """
    restored = torch.empty_like(rows) if out is None else out
    grids = grids.to(rows.device)
    if grids.order is not None:
        restored.copy_(rows)

    def work(block: tuple[slice, Strip]) -> None:
        clients, strip = block
        entries = grids.read(rows[clients], strip)
        chosen = _as_patches(rows.new_empty(len(entries), strip.many), entries, kernel)
        choose(entries, kernel, chosen)
        if grids.order is None:
            _keep_first(entries, chosen, kernel, restored[clients, strip.entries].view(entries.shape))
        else:
            kept = torch.empty_like(entries)
            _keep_first(entries, chosen, kernel, kept)
            restored[clients].index_copy_(1, grids.order[strip.entries], kept.flatten(1))

    finish(each(work, grids.blocks(len(rows), kernel), rows.device))
    return restored


@dataclass(frozen=True)
class Patches:
    """One way to cut updates into `kernel` x `kernel` patches, shared by the amplifier and its controls."""

    layout: Layout
    grids: Grids
    kernel: int

    @classmethod
    def of(cls, layout: Layout, kernel: int, fold: Fold = "layers", shuffle: Generator | None = None) -> Patches:
        """Cut each folded layer (`"layers"`), or the vector as the released code folds it (`"released"`)."""
        if not isinstance(kernel, int) or kernel < 1:
            raise AgrbenchError(f"a kernel is a whole number, 1 or more; given {kernel}; write for example kernel=2")
        if fold == "released" and shuffle is not None:
            raise AgrbenchError("shuffle=True permutes inside layers; leave out fold='released'")
        return _patches(layout, kernel, fold) if shuffle is None else cls(layout, Grids.folded(layout, shuffle), kernel)

    @cached_property
    def patch_of(self) -> Tensor:
        """Map each coordinate to its patch, -1 where it is in none: `(parameters,)`."""
        return self.grids.patch_of(self.kernel, self.layout.parameters)

    @cached_property
    def shapes(self) -> Layout:
        """Give the layout of the pooled view: one layer a grid."""
        return Layout(tuple(Layer(*shape) for shape in self.grids.pooled(self.kernel)))

    def pooled(self, reduce: Pool = maximum) -> Columns:
        """Describe the stage that gives one feature a patch."""
        return Columns(
            lambda rows, out=None: pool(rows, self.grids, self.kernel, reduce, out),
            self.patch_of,
            self.shapes,
            lambda rows: pool_by_strips(rows, self.grids, self.kernel, reduce),
        )

    def restored(self, choose: Pool = maximum) -> Columns:
        """Describe the stage that keeps one entry a patch in place."""
        return Columns(lambda rows, out=None: restore(rows, self.grids, self.kernel, choose, out), None, self.layout)

    def averaged(self) -> Columns:
        """Describe the stage that gives each patch's mean."""
        share = 1 / self.patch_of.bincount().double()

        def view(rows: Tensor, out: Tensor | None = None) -> Tensor:
            return pool(rows, self.grids, self.kernel, total, out).mul_(share.to(rows))

        return Columns(view, self.patch_of, self.shapes)

    def draw(self, rng: Generator) -> Tensor:
        """Draw one coordinate of each patch: `(patches,)`."""
        shuffled = torch.randperm(self.layout.parameters, generator=rng)
        patches, order = self.patch_of[shuffled].sort(stable=True)
        return shuffled[order[torch.searchsorted(patches, torch.arange(self.shapes.parameters))]]

    def read_at(self, chosen: Tensor) -> Columns:
        """Describe the stage that reads each patch at its chosen coordinate."""

        def view(rows: Tensor, out: Tensor | None = None) -> Tensor:
            return torch.index_select(rows, 1, chosen.to(rows.device), out=out)

        return Columns(view, self.patch_of, self.shapes)

    def restored_at(self, chosen: Tensor) -> Columns:
        """Describe the stage that keeps the chosen coordinates in place and writes 0 elsewhere."""

        def view(rows: Tensor, out: Tensor | None = None) -> Tensor:
            kept = torch.zeros_like(rows) if out is None else out.zero_()
            here = chosen.to(rows.device)
            return kept.index_copy_(1, here, rows.index_select(1, here))

        return Columns(view, None, self.layout)


@lru_cache(maxsize=8)
def _patches(layout: Layout, kernel: int, fold: Fold) -> Patches:
    """Cut once what is asked for in every round, or by every call."""
    return Patches(layout, Grids.folded(layout) if fold == "layers" else Grids.released(layout, kernel), kernel)


def _as_patches(flat: Tensor, block: Tensor, kernel: int) -> Tensor:
    """See `(clients, patches)` as the grid of a block's patches."""
    return flat.view(len(block), -(-block.shape[1] // kernel), -(-block.shape[2] // kernel))


def _along(block: Tensor, kernel: int, fold: Callable[..., Tensor], dim: int, out: Tensor | None = None) -> Tensor:
    """Fold every `kernel` neighbours along one dimension, fewer at its end."""
    if (kernel, dim) == (2, 2) and not block.shape[2] % 2 and block.dtype in PAIRS:
        return _in_pairs(block, fold, out)
    ahead = (slice(None),) * dim
    parts = [block[(*ahead, slice(at, None, kernel))] for at in range(min(kernel, block.shape[dim]))]
    if len(parts) == 1:
        return parts[0] if out is None else out.copy_(parts[0])
    full = parts[1].shape[dim]
    folded = torch.empty_like(parts[0], memory_format=torch.contiguous_format) if out is None else out
    fold(parts[0].narrow(dim, 0, full), parts[1], out=folded.narrow(dim, 0, full))
    if full < parts[0].shape[dim]:
        folded[(*ahead, slice(full, None))] = parts[0][(*ahead, slice(full, None))]
    for part in parts[2:]:
        here = folded.narrow(dim, 0, part.shape[dim])
        fold(here, part, out=here)
    return folded


def _in_pairs(block: Tensor, fold: Callable[..., Tensor], out: Tensor | None) -> Tensor:
    """Fold every two neighbours of a row: each with the next, and then leave out every second.

    Both run in vector registers; reading every second number does not.
    """
    twice, once = PAIRS[block.dtype]
    each = torch.empty_like(block, memory_format=torch.contiguous_format)
    fold(block[..., :-1], block[..., 1:], out=each[..., :-1])
    folded = block.new_empty(*block.shape[:2], block.shape[2] // 2) if out is None else out
    folded.view(once).copy_(each.view(twice))
    return folded


def _larger(first: Tensor, then: Tensor, out: Tensor) -> Tensor:
    """Take the value of the larger absolute value, the first on ties."""
    return torch.where(then.abs() > first.abs(), then, first, out=out)


def _offsets(block: Tensor, kernel: int) -> Iterator[tuple[int, int]]:
    """Walk the places inside a patch, row by row."""
    for down in range(min(kernel, block.shape[1])):
        for across in range(min(kernel, block.shape[2])):
            yield down, across


def _keep_first(block: Tensor, chosen: Tensor, kernel: int, out: Tensor) -> None:
    free = torch.ones_like(chosen, dtype=torch.bool)
    nothing = block.new_zeros(())
    for down, across in _offsets(block, kernel):
        entry = block[:, down::kernel, across::kernel]
        here = (slice(None), slice(entry.shape[1]), slice(entry.shape[2]))
        hit = (entry == chosen[here]) & free[here]
        torch.where(hit, entry, nothing, out=out[:, down::kernel, across::kernel])
        free[here] &= ~hit
