"""Geometry of rows: norms, and squared distances and cosines from one Gram matrix, right to four digits per entry.

The four digits hold for float32 rows whose squared norms neither vanish nor overflow: norms from about 1e-15 to 1e18.

`|x|^2 + |y|^2 - 2 x.y` loses all digits for rows that nearly coincide, and one huge row would spoil centring on the
mean. Each group of rows that nearly coincide is therefore measured again by differences to one of its members. A
distance's error is a share of the two rows' own squared norms, so a huge row spoils only its own entries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial, reduce
from typing import TypeVar

import torch
from torch import Tensor

from agrbench.threads import each

BLOCK = 1 << 17  # entries multiplied at once: a block of all rows then stays in a core's cache
NARROW = 1 << 10  # the fewest columns worth a product, however many rows there are
PARTS = 32  # the most parts into which rows are split among threads
SHARED = 1e-8  # mixed rows with a distance below this share of its terms are measured by their difference
TINY = 2.0**-120  # its inverse still fits float32
# A squared distance below this share of |x|^2 + |y|^2 has lost too many digits. Just above a share of 0.001, float32
# products of 60,000 features still left errors of 5e-4; 1e-4 is promised.
NEAR = 3e-2

CPU = torch.device("cpu")

R = TypeVar("R")

Blocks = Callable[[], Sequence[Callable[[], Tensor]]]
"""List functions that each make some columns of all rows, `(rows, some features)`."""


class Geometry:
    """Gram matrix, squared Euclidean distances and cosines of `(rows, features)`, each `(rows, rows)` in float64.

    Each is computed once, when first read. `blocks` make the view's columns a few at a time, on `device`; inner
    products then need no view.
    """

    def __init__(self, view: Callable[[], Tensor], blocks: Blocks | None = None, device: torch.device = CPU) -> None:
        self._view, self._blocks, self._device = view, blocks, device

    @cached_property
    def gram(self) -> Tensor:
        """Return all inner products: `(rows, rows)`."""
        if self._blocks is None:
            return _gram(self._view())
        return _added_up(self._blocks(), self._device)

    @cached_property
    def distances(self) -> Tensor:
        """Return all squared Euclidean distances: `(rows, rows)`, exactly 0 between equal rows."""
        return _distances(self._view, self.gram)

    @cached_property
    def cosines(self) -> Tensor:
        """Return all cosines: `(rows, rows)`, exactly 1 on the diagonal; a row of norm 0 has cosine 0 with others."""
        norms = self.gram.diagonal().sqrt()
        scale = torch.where(norms > 0, 1 / norms, 0)
        cosines = (self.gram * scale[:, None] * scale).clamp_(-1, 1)
        return cosines.fill_diagonal_(1.0)

    @cached_property
    def angles(self) -> Tensor:
        """Return one minus each cosine, `(rows, rows)`, as precise for two rows that point nearly the same way."""
        squares = self.gram.diagonal()
        return angles(self.distances, squares, squares)

    def mixed(self, mixing: Tensor, view: Callable[[], Tensor]) -> Geometry:
        """Return the geometry of `mixing @ view`, derived from this one; `mixing` is `(new rows, rows)`."""
        return _Mixed(self, mixing.double(), view)


def by_columns(work: Callable[[slice], R], rows: Tensor) -> Iterator[R]:
    """Return the work's result for each block of columns, in order; a block stays in a core's cache."""
    return each(work, _blocks(rows), rows.device)


def row_norms(rows: Tensor) -> Tensor:
    """Measure the Euclidean norm of each row, in the rows' dtype: `(rows,)`."""
    # Norms come before every rule. If torch split them, its idle threads would then spin for milliseconds.
    some = torch.split(rows, max(-(-len(rows) // PARTS), BLOCK // max(rows.shape[1], 1)))
    return torch.cat(list(each(lambda part: torch.linalg.vector_norm(part, dim=1), some, rows.device)))


def distances_to(rows: Tensor, vector: Tensor) -> Tensor:
    """Measure the squared Euclidean distance of each row to one vector, in float64: `(rows,)`."""

    def block(columns: slice) -> Tensor:
        return (rows[:, columns].double() - vector[columns]).square_().sum(1)

    return _sum(by_columns(block, rows))


def products(rows: Tensor, vector: Tensor) -> Tensor:
    """Return each row's inner product with one vector, in float64: `(rows,)`."""
    return _sum(by_columns(lambda columns: rows[:, columns].double() @ vector[columns].double(), rows))


def angles(distances: Tensor, squares: Tensor, excess: Tensor) -> Tensor:
    """Return one minus each cosine, from squared distances `(rows, rows)` and squared norms `(rows,)`.

    For `a` and `b` it is `(|a - b|^2 - (|a| - |b|)^2) / 2|a||b|`, which loses no digits when they nearly coincide.
    `excess` is the squared norms minus a part common to all, if known more precisely. A row of norm 0 has cosine 0.
    """
    lengths = squares.clamp(min=0).sqrt()
    sums, scale = lengths[:, None] + lengths, 2 * lengths[:, None] * lengths
    difference = torch.where(sums > 0, (excess[:, None] - excess) / sums, 0.0)
    apart = torch.where(scale > 0, (distances - difference.square()) / scale, 1.0)
    return apart.clamp_(0, 2).fill_diagonal_(0)


class _Mixed(Geometry):
    """The geometry of mixed rows, from the unmixed ones: `-1/2 c.D.c`, with `c` the difference of two mixing rows.

    Expanded, it is three entries of one product. If these nearly cancel, the two rows share something large, which
    drops out of `c` exactly. If shares differ in sum (clipping), no such form exists; the mixed rows are measured.
    """

    def __init__(self, unmixed: Geometry, mixing: Tensor, view: Callable[[], Tensor]) -> None:
        super().__init__(view)
        self._unmixed = unmixed
        self._mixing = mixing

    @cached_property
    def gram(self) -> Tensor:
        return self._mixing @ self._unmixed.gram @ self._mixing.T

    @cached_property
    def distances(self) -> Tensor:
        mixing, unmixed = self._mixing, self._unmixed.distances
        total = mixing.sum(1)
        alike = torch.isclose(total[:, None], total, rtol=1e-12, atol=0)
        across = mixing @ unmixed @ mixing.T
        own = 0.5 * across.diagonal()
        squared = 0.5 * (across + across.T) - own[:, None] - own
        near = alike & (squared < SHARED * (own[:, None] + own))
        for pairs in torch.split(near.triu(1).nonzero(), max(BLOCK // len(unmixed), 1)):
            apart = mixing[pairs[:, 0]] - mixing[pairs[:, 1]]
            squared[pairs[:, 0], pairs[:, 1]] = squared[pairs[:, 1], pairs[:, 0]] = _spanned(apart, unmixed)
        if not alike.all():
            squared = torch.where(alike, squared, _distances(lambda: self._view().double(), self.gram))
        same = torch.unique(mixing, dim=0, return_inverse=True)[1]
        return squared.clamp_(min=0).masked_fill_(same[:, None] == same, 0)


def _sum(parts: Iterator[Tensor]) -> Tensor:
    """Add up in float64, in order."""
    total = next(parts).double()
    for part in parts:
        total += part
    return total


def _spanned(apart: Tensor, distances: Tensor) -> Tensor:
    """Return `-1/2 c.D.c` for each row `c` of differences."""
    squared: Tensor = -0.5 * ((apart @ distances) * apart).sum(1)
    return squared


def _blocks(rows: Tensor) -> list[slice]:
    """Cut the columns into blocks that stay in a core's cache, unless there are very many rows."""
    width = max(BLOCK // max(len(rows), 1), min(BLOCK, NARROW))
    return [slice(start, start + width) for start in range(0, rows.shape[1], width)]


def _gram(rows: Tensor) -> Tensor:
    """Return the Gram matrix, added up in float64 over blocks of columns."""
    return _added_up([partial(rows.__getitem__, (slice(None), columns)) for columns in _blocks(rows)], rows.device)


def _gram_around(rows: Tensor, members: Tensor, centre: int) -> Tensor:
    """Return the Gram matrix of some rows' differences to one of them, each scaled near 1 by a power of two.

    The difference of two floating-point numbers is right to their last digit, however much cancels, so the updates' own
    precision is enough for the differences.
    """

    def apart(columns: slice) -> Tensor:
        some = _single(rows[:, columns])
        return (some if len(members) == len(some) else some.index_select(0, members)) - some[centre]

    def size(columns: slice) -> Tensor:
        return apart(columns).abs_().amax(1).double()

    sizes = reduce(torch.maximum, by_columns(size, rows))
    unit = torch.where(sizes > 0, sizes / torch.frexp(sizes).mantissa, 1.0).clamp(min=TINY)
    scale = (1 / unit)[:, None]

    def block(columns: slice) -> Tensor:
        some = apart(columns)
        return some.mul_(scale.to(some))

    gram = _added_up([partial(block, columns) for columns in _blocks(rows)], rows.device)
    return gram.mul_(unit[:, None]).mul_(unit)


def _single(block: Tensor) -> Tensor:
    """Widen types shorter than float32, because their products would be as short."""
    return block if block.dtype == torch.float64 else block.float()


def _added_up(blocks: Sequence[Callable[[], Tensor]], device: torch.device) -> Tensor:
    """Add up, in float64, the Gram matrices of blocks of columns."""

    def multiply(block: Callable[[], Tensor]) -> Tensor:
        some = _single(block())
        return some @ some.T

    gram = _sum(each(multiply, blocks, device))
    return (gram + gram.T) / 2  # a block's product is symmetric only up to rounding, and equal scores must tie


def _distances(view: Callable[[], Tensor], gram: Tensor, members: Tensor | None = None) -> Tensor:
    """Turn a Gram matrix into squared distances; measure each group of rows that nearly coincide again.

    `members` are the rows of the view that the Gram matrix covers, by default all.
    """
    squares = gram.diagonal()
    sums = squares[:, None] + squares
    squared = (sums - 2 * gram).clamp_(min=0).fill_diagonal_(0)
    near = (squared < NEAR * sums).fill_diagonal_(False)
    if near.any():
        first = _first_of_group(near)
        for member in torch.unique(first[near.any(1)]):
            some = (first == member).nonzero().flatten()
            these = some if members is None else members[some]
            squared[some[:, None], some] = _around_a_member(view(), these, squares[some])
    return squared


def _first_of_group(near: Tensor) -> Tensor:
    """Label each row with the first row of its group, which near pairs connect: `(rows, rows)` to `(rows,)`."""
    near, first = near | near.T, torch.arange(len(near), device=near.device)
    while True:
        found = torch.where(near, first, len(near)).amin(1).minimum(first)
        found = found[found]
        if torch.equal(found, first):
            return first
        first = found


def _around_a_member(rows: Tensor, members: Tensor, squares: Tensor) -> Tensor:
    """Measure around the row of median norm: no row nearly coincides with an origin, so each recursion has fewer."""
    centre = int(members[squares.argsort()[len(members) // 2]])
    return _distances(lambda: rows, _gram_around(rows, members, centre), members)
