"""Run a stack on a round's updates: make the view, ask for the verdict, combine the step.

In a round on CUDA the judge itself reads back a few numbers per client, never rows: for example which rows are finite
and whether the step is, because they decide what happens next.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import Tensor

from agrbench.errors import AgrbenchError, Inapplicable
from agrbench.layout import Layout
from agrbench.plugins.contract import ByColumn, Columns, Memory, Step, Verdict
from agrbench.plugins.stack import Stack, blame
from agrbench.randomness import Randomness
from agrbench.server.checks import (
    all_finite,
    check_exclusions,
    check_weights,
    checked_block,
    checked_mixing,
    checked_step,
    finite_rows,
    is_yes_or_no,
    unwritten,
)
from agrbench.server.combine import FeatureMap, by_client, by_column, by_rank, ranked
from agrbench.server.ranks import Between
from agrbench.server.rounds import Round, Server
from agrbench.server.view import View
from agrbench.threads import using


@dataclass(frozen=True)
class Outcome:
    """The result of one round: the step, and which clients were heard.

    `tell` computes `weights`, as long as the updates have not changed; unless they are `named`, the rule told none, and
    they are equal shares of those that were heard. `distrusted` marks clients that were left out or that a 0/1 verdict
    weighed 0 (`None`: the verdict was not 0/1 per client). `rejected` marks rows whose squared norm was not finite.
    `empty` is the reason if no update was combined.
    """

    step: Tensor
    tell: Callable[[], Tensor]
    distrusted: Tensor | None
    rejected: Tensor
    exclude: tuple[int, ...] = ()
    empty: str | None = None
    named: bool = True

    @cached_property
    def weights(self) -> Tensor:
        """Return each client's weight, or mean absolute weight if weights differ by column: `(clients,)`.

        Finding the rank holders costs as much as the step, so it is computed lazily.
        """
        return self.tell()


@dataclass
class Judge:
    """A stack within one run, with its column stages, buffers, memories and randomness."""

    stack: Stack
    layout: Layout
    randomness: Randomness
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    memories: dict[int, Memory] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._buffers: dict[int, Tensor] = {}
        self._columns = self._lay_out(restore=self.stack.defense.record.amplifier == "restored")
        layout, feature_of = self.layout, None
        for columns in self._columns:
            if columns is not None:
                layout, feature_of = columns.layout, _compose(feature_of, columns.feature_of)
        self._feature_of, self._features = feature_of, layout.parameters

    @cached_property
    def feature_map(self) -> FeatureMap | None:
        """Return the coordinates of each feature of the view; `None`: each coordinate is a feature."""
        return None if self._feature_of is None else FeatureMap.of(self._feature_of.to(self.device), self._features)

    @cached_property
    def _pooled(self) -> list[Columns | None]:
        return self._lay_out(restore=False)

    def _lay_out(self, restore: bool) -> list[Columns | None]:
        """Build each column stage for the layout left before it, from randomness fixed per run: `see` must agree."""
        layout, found = self.layout, []
        for place, stage in enumerate(self.stack.stages):
            columns = None
            if stage.record.columns is not None:
                with blame(stage, "columns"):
                    columns = stage.record.columns(layout, self.randomness("stage", 0, place), restore)
                layout = columns.layout
            found.append(columns)
        return found

    def rehearse(self) -> Judge:
        """Return a judge that continues from here and leaves this one's memories alone."""
        # Columns and buffers are shared, because `adaptive` asks for 80 rehearsals a round.
        other = copy.copy(self)
        other.memories = copy.deepcopy(self.memories)
        return other

    def see(self, vectors: Tensor) -> Tensor:
        """Map server vectors `(k, parameters)` through the column stages: `(k, features)`."""
        return _through(self._columns, vectors)

    def pool(self, rows: Tensor) -> Tensor:
        """Map rows `(k, parameters)` through the column stages in pooled form, whichever form the defense reads."""
        return _through(self._pooled, rows)

    def step(
        self,
        updates: Tensor,
        byzantine: int | None,
        server: Server,
        number: int,
        excluded: Sequence[int] = (),
        senders: Sequence[int] | None = None,
    ) -> Outcome:
        """Judge `(clients, parameters)` updates and combine them; `senders` are the rows' clients, by default all.

        Rows of excluded clients, and rows whose squared norm is not finite, are left out. The step is zero if no row
        remains, if the stack is not defined for those that do, or if the result is not finite.
        """
        clients = len(updates)
        rejected = ~finite_rows(updates)
        left_out = rejected.clone()
        names = torch.arange(clients) if senders is None else torch.tensor(senders)
        left_out |= torch.isin(names, torch.tensor(excluded, dtype=torch.long)).to(self.device)
        heard = (~left_out).nonzero().flatten()
        nobody = updates.new_zeros(clients)

        def nothing(empty: str, exclude: Sequence[int] = ()) -> Outcome:
            return Outcome(torch.zeros_like(updates[0]), lambda: nobody, None, rejected, tuple(exclude), empty)

        if not len(heard):
            return nothing("no update remains")
        if len(heard) < clients:
            updates = updates.index_select(0, heard)
            byzantine = None if byzantine is None else max(byzantine - (clients - len(heard)), 0)
        try:
            verdict, sight = self._weigh(updates, byzantine, tuple(names[heard.cpu()].tolist()), server, number)
        except Inapplicable as reason:
            return nothing(str(reason))
        if isinstance(verdict, Step):
            if not all_finite(verdict.vector):
                return nothing("the step is not finite")
            equal = nobody.index_fill(0, heard, 1 / len(heard))
            return Outcome(verdict.vector, lambda: equal, None, rejected, named=False)
        with blame(self.stack.defense, "weigh"):
            check_exclusions(verdict, int(names.max()) + 1)
            step, tell = self._combine(verdict.weights, sight)
        step = self._with_extras(step, verdict, server, number)
        with using(1):  # threads that share so little spin for longer than the work takes
            finite = all_finite(step)
        if not finite:
            return nothing("the step is not finite", verdict.exclude)
        distrusted = None
        if is_yes_or_no(verdict.weights) and sight.mixing is None:
            distrusted = left_out.index_copy(0, heard, tell() == 0)
        return Outcome(step, lambda: nobody.index_copy(0, heard, tell()), distrusted, rejected, tuple(verdict.exclude))

    def weigh(self, updates: Tensor, byzantine: int | None, server: Server) -> Verdict:
        """Return the verdict on updates outside a run; all of them must be finite.

        Raises:
            AgrbenchError: the rule names no weights.
        """
        verdict = self._weigh(updates, byzantine, tuple(range(len(updates))), server, 1)[0]
        if isinstance(verdict, Step):
            raise AgrbenchError(f"{self.stack.defense.name} returns a step and no weights; write agrbench.aggregate")
        return verdict

    def _weigh(
        self, updates: Tensor, byzantine: int | None, clients: tuple[int, ...], server: Server, number: int
    ) -> tuple[Verdict | Step, View]:
        """Take the updates through the stages and ask the defense for its verdict, or for its step."""
        self.stack.check(len(updates), byzantine or 0)
        sight = View.of(updates, self.layout, clients)

        def now(place: int) -> Round:
            memory, rng = self.memories.setdefault(place, {}), self.randomness("defense", number, place)
            return sight.round(self.layout, byzantine, server, self.see, memory, number, rng)

        for place, (stage, columns) in enumerate(zip(self.stack.stages, self._columns, strict=True)):
            if columns is not None:
                out = self._buffer(place, sight.rows, columns.layout.parameters, updates)
                sight = sight.through(stage, columns, out)
            else:
                with blame(stage, "mix"), unwritten(stage, "mix", updates):
                    mix = checked_mixing(stage, now(place), sight.rows)
                sight = sight.mixed(mix.double())
        with blame(self.stack.defense, "weigh"), unwritten(self.stack.defense, "weigh", updates):
            answer = self.stack.defense.record.weigh(now(len(self.stack.stages)))
            if isinstance(answer, Step):
                return Step(checked_step(answer.vector, updates)), sight
            verdict = answer if isinstance(answer, Verdict) else Verdict(answer)
            check_weights(verdict.weights, sight.rows, sight.layout.parameters, len(self.layout.layers))
        return verdict, sight

    def _combine(self, weights: Tensor | ByColumn, sight: View) -> tuple[Tensor, Callable[[], Tensor]]:
        """Combine the originals by checked weights; return the step and a function for each client's weight."""
        if isinstance(weights, Between) and sight.made:
            return by_rank(weights.ranks, sight.updates), partial(ranked, weights.ranks, sight.updates)
        step, told = self._weighted(weights, sight)  # here the clients' weights come with the step
        return step, lambda: told

    def _weighted(self, weights: Tensor | ByColumn, sight: View) -> tuple[Tensor, Tensor]:
        """Combine by weights of rows or of blocks of columns; return the step and each client's weight."""
        features = sight.layout.parameters
        if not isinstance(weights, Tensor):
            view = sight.view()

            def block(first: int, last: int) -> Tensor:
                return checked_block(weights(view[:, first:last]), (sight.rows, last - first))

            return by_column(block, features, self.feature_map, sight.mixing, sight.updates)
        if weights.ndim == 1:
            return by_client(weights, sight.mixing, sight.updates)
        feature_map = self.feature_map
        if weights.shape[1] != features:
            feature_map = FeatureMap.of(self.layout.layer_of.to(self.device), weights.shape[1])
        return by_column(lambda a, b: weights[:, a:b], weights.shape[1], feature_map, sight.mixing, sight.updates)

    def _with_extras(self, step: Tensor, verdict: Verdict, server: Server, number: int) -> Tensor:
        """Add the verdict's share of the last step, and its noise."""
        if verdict.previous:
            step = step + verdict.previous * server.previous
        if verdict.noise:
            noise = torch.randn(step.shape, generator=self.randomness("noise", number), dtype=step.dtype)
            step = step + verdict.noise * noise.to(step.device)
        return step

    def _buffer(self, place: int, rows: int, features: int, like: Tensor) -> Tensor:
        kept = self._buffers.get(place)
        if kept is None or len(kept) < rows or kept.dtype != like.dtype:
            kept = self._buffers[place] = like.new_empty(rows, features)
        return kept[:rows]


def _through(stages: Sequence[Columns | None], rows: Tensor) -> Tensor:
    for columns in stages:
        if columns is not None:
            rows = columns.view(rows)
    return rows


def _compose(first: Tensor | None, then: Tensor | None) -> Tensor | None:
    """Compose two maps to features; a coordinate that either drops stays dropped."""
    if first is None or then is None:
        return then if first is None else first
    return torch.where(first >= 0, then[first.clamp(min=0)], -1)
