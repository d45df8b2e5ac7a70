"""The amplifier: cut layers into k x k patches, then pool each patch or keep one entry (AgrAmplifier, Algorithm 1).

A view is written into the caller's buffer in cache-sized blocks, one after another, and torch splits each operation
among its threads: a block takes many short operations, at each of which threads of our own would wait for the
interpreter's lock. No value depends on the split. Each layer is a grid of patches; a layer that is not stored in folded
order is gathered into it block by block. Restored views have full size, so coordinate-wise rules read pooled ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from math import prod
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor

from agrbench.errors import AgrbenchError
from agrbench.layout import Layer, Layout
from agrbench.machine import keep_freed
from agrbench.plugins.contract import Columns
from agrbench.server.pooling import Pool, keep_first, magnitude, maximum, total

__all__ = ["Grids", "Patches", "magnitude", "maximum", "pool", "pool_by_strips", "restore"]

BLOCK = 13 << 16  # entries processed at once, measured: intermediate results stay in a cache
STRIP = 1 << 20  # entries of all rows in a strip, whose pooled values are multiplied while still in a cache

Fold = Literal["layers", "released"]


class Strip(NamedTuple):
    """Whole rows of patches of one grid: the first entry and patch, then height and width in entries and in patches."""

    entry: int
    patch: int
    shape: tuple[int, int]
    pooled: tuple[int, int]

    @property
    def entries(self) -> slice:
        """Return the entries of a laid-out row that the strip covers."""
        return slice(self.entry, self.entry + prod(self.shape))

    @property
    def patches(self) -> slice:
        """Return the patches that the strip covers."""
        return slice(self.patch, self.patch + prod(self.pooled))


@dataclass(frozen=True)
class Grids:
    """A flat vector's coordinates, laid out as grids that are cut into patches.

    `order` lists the coordinates grid by grid (`None`: in stored order). Coordinates in no grid belong to no patch; of
    these, restored views are 0 at the `dropped` ones and keep the others.
    """

    shapes: tuple[tuple[int, int], ...]
    order: Tensor | None
    dropped: Tensor | None = None

    @classmethod
    def folded(cls, layout: Layout, shuffle: Generator | None = None) -> Grids:
        """Lay out each layer folded to `(d_in, d_out)`; if `shuffle` is given, permute its entries at random, once."""
        order = layout.folded
        if shuffle is not None:
            stored = torch.arange(layout.parameters) if order is None else order
            pieces = torch.split(stored, [layer.size for layer in layout.layers])
            order = torch.cat([piece[torch.randperm(len(piece), generator=shuffle)] for piece in pieces])
        return cls(tuple((layer.rows, layer.columns) for layer in layout.layers), order)

    @classmethod
    def released(cls, layout: Layout, kernel: int) -> Grids:
        """Lay out the whole vector, as torch stores it, at the width of the first hidden layer (released code).

        The output bias is set aside, and restored views keep it. Leftover entries that fill no whole patch are dropped.
        """
        width, last = layout.layers[0].columns, layout.layers[-1]
        folded = layout.parameters - last.bias * last.columns
        rows = folded // width // kernel * kernel
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
        stored = torch.cat(pieces)
        grid, edge = torch.split(stored[: rows * width].view(rows, width), [columns, width - columns], dim=1)
        dropped = torch.cat([edge.flatten(), stored[rows * width : folded]])
        return cls(((rows, columns),), grid.flatten(), dropped)

    def pooled(self, kernel: int) -> tuple[tuple[int, int], ...]:
        """Return each grid's shape, counted in patches."""
        return tuple((-(-rows // kernel), -(-columns // kernel)) for rows, columns in self.shapes)

    def patch_of(self, kernel: int, parameters: int) -> Tensor:
        """Map each of `parameters` coordinates to its patch, or to -1 if it is in none."""
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
        """Move the order to a device."""
        order, dropped = (each if each is None else each.to(device) for each in (self.order, self.dropped))
        return Grids(self.shapes, order, dropped)

    def strips(self, kernel: int, size: int) -> list[Strip]:
        """Cut the grids into strips, whole rows of patches with about `size` entries."""
        found, entry, patch = [], 0, 0
        for (high, wide), (_, across) in zip(self.shapes, self.pooled(kernel), strict=True):
            tall = min(high, max(size // wide // kernel, 1) * kernel)
            for top in range(0, high, tall):
                shape = (min(tall, high - top), wide)
                found.append(Strip(entry, patch, shape, (-(-shape[0] // kernel), across)))
                entry, patch = found[-1].entries.stop, found[-1].patches.stop
        return found

    def lay(self, rows: Tensor, strip: Strip) -> Tensor:
        """View a strip of each row in place, `(rows, high, wide)`; if it must be gathered, return the whole rows."""
        return rows[:, strip.entries].view(-1, *strip.shape) if self.order is None else rows

    def read(self, laid: Tensor, strip: Strip) -> Tensor:
        """Read a strip of each row from what `lay` returned: `(rows, high, wide)`."""
        if self.order is None:
            return laid
        return laid.index_select(1, self.order[strip.entries]).view(-1, *strip.shape)  # three times as fast as indexing

    def blocks(
        self, rows: Tensor, kernel: int, size: int, into: Callable[[Strip], Tensor]
    ) -> list[tuple[Strip, Tensor, Tensor]]:
        """List blocks of about `size` entries: each is a strip, some rows of it, and their part of `into(strip)`."""
        found = []
        for strip in self.strips(kernel, size):
            many = max(size // prod(strip.shape), 1)
            parts = zip(torch.split(self.lay(rows, strip), many), torch.split(into(strip), many), strict=True)
            found += [(strip, *part) for part in parts]
        return found


def pool(rows: Tensor, grids: Grids, kernel: int, reduce: Pool = maximum, out: Tensor | None = None) -> Tensor:
    """Reduce each patch of each row: `(clients, parameters)` to `(clients, patches)`."""
    width = sum(high * wide for high, wide in grids.pooled(kernel))
    pooled = rows.new_empty(len(rows), width) if out is None else out
    grids = grids.to(rows.device)

    def into(strip: Strip) -> Tensor:
        return pooled[:, strip.patches].view(-1, *strip.pooled)

    size = BLOCK if reduce is magnitude else 2 * BLOCK  # comparing magnitudes takes twice the space
    keep_freed()
    for strip, laid, there in grids.blocks(rows, kernel, size, into):
        reduce(grids.read(laid, strip), kernel, there)
    return pooled


def pool_by_strips(rows: Tensor, grids: Grids, kernel: int, reduce: Pool = maximum) -> list[Callable[[], Tensor]]:
    """Return functions that each pool some patches of all rows, `(clients, some patches)`, in patch order."""
    grids = grids.to(rows.device)

    def work(strip: Strip) -> Tensor:
        pooled = rows.new_empty(len(rows), *strip.pooled)
        reduce(grids.read(grids.lay(rows, strip), strip), kernel, pooled)
        return pooled.flatten(1)

    return [partial(work, strip) for strip in grids.strips(kernel, STRIP // len(rows))]


def restore(rows: Tensor, grids: Grids, kernel: int, choose: Pool = maximum, out: Tensor | None = None) -> Tensor:
    """Keep the chosen entry of each patch in place, the first on ties, and zero the others; the shape stays.

    Coordinates in no patch keep their values, but for those that the grids drop.
    """
    restored = torch.empty_like(rows) if out is None else out
    grids = grids.to(rows.device)
    if grids.order is not None:
        restored.copy_(rows)
    if grids.dropped is not None:
        restored.index_fill_(1, grids.dropped, 0.0)

    keep_freed()
    for strip, laid, there in grids.blocks(rows, kernel, BLOCK, partial(grids.lay, restored)):
        entries = grids.read(laid, strip)
        chosen = entries.new_empty(len(entries), *strip.pooled)
        choose(entries, kernel, chosen)
        kept = there if grids.order is None else torch.empty_like(entries)
        keep_first(entries, chosen, kernel, kept)
        if grids.order is not None:
            there.index_copy_(1, grids.order[strip.entries], kept.flatten(1))
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
        """Map each coordinate to its patch, or to -1 if it is in none: `(parameters,)`."""
        return self.grids.patch_of(self.kernel, self.layout.parameters)

    @cached_property
    def shapes(self) -> Layout:
        """Return the layout of the pooled view: one layer per grid."""
        return Layout(tuple(Layer(*shape) for shape in self.grids.pooled(self.kernel)))

    def pooled(self, reduce: Pool = maximum) -> Columns:
        """Return the column stage that reduces each patch to one feature."""
        return Columns(
            lambda rows, out=None: pool(rows, self.grids, self.kernel, reduce, out),
            self.patch_of,
            self.shapes,
            lambda rows: pool_by_strips(rows, self.grids, self.kernel, reduce),
        )

    def restored(self, choose: Pool = maximum) -> Columns:
        """Return the column stage that keeps one entry per patch in place."""
        return Columns(lambda rows, out=None: restore(rows, self.grids, self.kernel, choose, out), None, self.layout)

    def averaged(self) -> Columns:
        """Return the column stage that averages each patch."""
        share = 1 / self.patch_of.bincount().double()

        def view(rows: Tensor, out: Tensor | None = None) -> Tensor:
            return pool(rows, self.grids, self.kernel, total, out).mul_(share.to(rows))

        return Columns(view, self.patch_of, self.shapes)

    def draw(self, rng: Generator) -> Tensor:
        """Draw one random coordinate of each patch: `(patches,)`."""
        shuffled = torch.randperm(self.layout.parameters, generator=rng)
        patches, order = self.patch_of[shuffled].sort(stable=True)
        return shuffled[order[torch.searchsorted(patches, torch.arange(self.shapes.parameters))]]

    def read_at(self, chosen: Tensor) -> Columns:
        """Return the column stage that reads each patch at its chosen coordinate."""

        def view(rows: Tensor, out: Tensor | None = None) -> Tensor:
            return torch.index_select(rows, 1, chosen.to(rows.device), out=out)

        return Columns(view, self.patch_of, self.shapes)

    def restored_at(self, chosen: Tensor) -> Columns:
        """Return the column stage that keeps the chosen coordinates in place and zeroes all others."""

        def view(rows: Tensor, out: Tensor | None = None) -> Tensor:
            kept = torch.zeros_like(rows) if out is None else out.zero_()
            here = chosen.to(rows.device)
            return kept.index_copy_(1, here, rows.index_select(1, here))

        return Columns(view, None, self.layout)


@lru_cache(maxsize=8)
def _patches(layout: Layout, kernel: int, fold: Fold) -> Patches:
    """Build patches once for the rounds and calls that share them."""
    return Patches(layout, Grids.folded(layout) if fold == "layers" else Grids.released(layout, kernel), kernel)
