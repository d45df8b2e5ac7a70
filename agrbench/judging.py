"""A stack at work: from updates to a view, a verdict and a step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial

import torch
from torch import Tensor

from agrbench.combining import Spread, by_client, by_column
from agrbench.errors import AgrbenchError, Inapplicable, PluginError
from agrbench.geometry import Geometry
from agrbench.layout import Layout
from agrbench.plugins import Attack, Defense, Stage
from agrbench.randomness import Randomness
from agrbench.rounds import Columns, Insider, Memory, Round, Server, Verdict
from agrbench.stacks import Loaded, Stack


@dataclass(frozen=True)
class Outcome:
    """What one round came to: the step, and who was heard.

    `weights` is each client's weight, or mean absolute weight where weights differ by column, `(clients,)`;
    `distrusted` marks the clients to whom a 0/1 verdict gave 0 (`None`: the verdict was not 0/1, client by client);
    `rejected` marks rows whose squared norm was not finite; `empty` says that no update was combined, and why.
    """

    step: Tensor
    weights: Tensor
    distrusted: Tensor | None
    rejected: Tensor
    exclude: tuple[int, ...] = ()
    empty: str | None = None


@dataclass
class Judge:
    """A stack in one run: what it computes once, its buffers, its memory, its randomness."""

    stack: Stack
    layout: Layout
    randomness: Randomness
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    memories: dict[int, Memory] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._columns: list[Columns | None] = []
        self._buffers: dict[int, Tensor] = {}
        layout, feature_of = self.layout, None
        restore = self.stack.defense.record.amplifier == "restored"
        for place, stage in enumerate(self.stack.stages):
            columns = None
            if stage.record.columns is not None:
                with blame(stage, "columns"):
                    columns = stage.record.columns(layout, self.randomness("stage", 0, place), restore)
                layout, feature_of = columns.layout, _compose(feature_of, columns.feature_of)
            self._columns.append(columns)
        self.view_layout = layout
        self.spread = Spread.of(None if feature_of is None else feature_of.to(self.device), layout.parameters)

    def rehearse(self) -> Judge:
        """Make a judge that decides alike and shares nothing that it could spoil."""
        return Judge(self.stack, self.layout, self.randomness, self.device, copy.deepcopy(self.memories))

    def see(self, vectors: Tensor) -> Tensor:
        """Map server vectors `(k, parameters)` through the column stages: `(k, features)`."""
        for columns in self._columns:
            if columns is not None:
                vectors = columns.view(vectors)
        return vectors

    def step(
        self, updates: Tensor, byzantine: int, server: Server, number: int, excluded: Sequence[int] = ()
    ) -> Outcome:
        """Judge `(clients, parameters)` updates and combine them.

        Rows that are excluded, or whose squared norm is not finite, are left out; where none remains or the stack is
        not
        defined for those that do, the step is zero.
        """
        clients = len(updates)
        rejected = ~torch.linalg.vector_norm(updates, dim=1).square().isfinite()
        out = rejected.clone()
        out[list(excluded)] = True
        heard = (~out).nonzero().flatten()
        nobody = updates.new_zeros(clients)
        nothing = partial(Outcome, torch.zeros_like(updates[0]), nobody, None, rejected)
        if not len(heard):
            return nothing(empty="no update remains")
        if len(heard) < clients:
            updates = updates[heard]
            byzantine = max(byzantine - (clients - len(heard)), 0)
        try:
            verdict, mixing, last = self._weigh(updates, byzantine, tuple(heard.tolist()), server, number)
            with blame(self.stack.defense, "weigh"):
                _check_exclusions(verdict, clients)
                step, weights = self._combine(verdict, mixing, last, updates)
        except Inapplicable as reason:
            return nothing(empty=str(reason))
        if verdict.previous:
            step = step + verdict.previous * server.previous
        if verdict.root:
            step = step + verdict.root * server.root
        if verdict.noise:
            noise = torch.randn(step.shape, generator=self.randomness("noise", number), dtype=step.dtype)
            step = step + verdict.noise * noise.to(step.device)
        if not torch.stack(torch.aminmax(step)).isfinite().all():
            return nothing(empty="the step is not finite", exclude=tuple(verdict.exclude))
        distrusted = None
        judged = verdict.weights
        if isinstance(judged, Tensor) and judged.dtype == torch.bool and judged.ndim == 1 and mixing is None:
            distrusted = torch.zeros_like(out).index_copy(0, heard, ~judged)
        return Outcome(step, nobody.index_copy(0, heard, weights), distrusted, rejected, tuple(verdict.exclude))

    def weigh(self, updates: Tensor, byzantine: int, server: Server) -> Verdict:
        """Judge updates that are all finite, outside a run: the verdict."""
        return self._weigh(updates, byzantine, tuple(range(len(updates))), server, 1)[0]

    def _weigh(
        self, updates: Tensor, byzantine: int, clients: tuple[int, ...] | None, server: Server, number: int
    ) -> tuple[Verdict, Tensor | None, Round]:
        self.stack.check(len(updates), byzantine)
        mixing: Tensor | None = None
        layout = self.layout
        view: Callable[[], Tensor] = lambda: updates  # noqa: E731
        geometry = Geometry(view)
        n = len(updates)

        def now(place: int) -> Round:
            sources = {
                "view": view,
                "updates": (lambda: updates) if mixing is None else cache(partial(torch.matmul, mixing, updates)),
            }
            memory = self.memories.setdefault(place, {})
            rng = self.randomness("defense", number, place)
            return Round(
                layout,
                self.layout,
                byzantine,
                clients,
                geometry,
                server,
                sources,
                self.see,
                memory,
                number,
                rng,
            )

        for place, (stage, columns) in enumerate(zip(self.stack.stages, self._columns, strict=True)):
            if columns is not None:
                layout = columns.layout
                out = self._buffer(place, n, layout.parameters, updates)
                view = cache(partial(_look, stage, columns, view, out))
                geometry = Geometry(view)
                continue
            with blame(stage, "mix"):
                mix = _checked_mixing(stage, now(place), n).to(updates)
            view = cache(partial(_mix, mix, view))
            geometry = geometry.mixed(mix, view)
            mixing = mix if mixing is None else mix @ mixing
            n, square = len(mix), len(mix) == n
            clients = clients if square else None
        last = now(len(self.stack.stages))
        with blame(self.stack.defense, "weigh"):
            answer = self.stack.defense.record.weigh(last)
            verdict = answer if isinstance(answer, Verdict) else Verdict(answer)
            _check_weights(verdict.weights, n, last)
        return verdict, mixing, last

    def _combine(self, verdict: Verdict, mixing: Tensor | None, last: Round, updates: Tensor) -> tuple[Tensor, Tensor]:
        weights = verdict.weights
        features = self.view_layout.parameters
        if isinstance(weights, Tensor) and weights.ndim == 1:
            return by_client(weights, mixing, updates)
        if not isinstance(weights, Tensor):
            rows = len(updates) if mixing is None else len(mixing)

            def block(first: int, end: int) -> Tensor:
                part = weights(last.view[:, first:end])
                return _checked_block(part, (rows, end - first))

            return by_column(block, features, self.spread, mixing, updates)
        spread = self.spread
        if weights.shape[1] != features:
            spread = Spread.of(self.layout.layer_of.to(self.device), weights.shape[1])
        return by_column(lambda first, end: weights[:, first:end], weights.shape[1], spread, mixing, updates)

    def _buffer(self, place: int, rows: int, features: int, like: Tensor) -> Tensor:
        kept = self._buffers.get(place)
        if kept is None or len(kept) < rows or kept.dtype != like.dtype:
            kept = self._buffers[place] = like.new_empty(rows, features)
        return kept[:rows]


@contextmanager
def blame(part: Loaded[Stage] | Loaded[Defense] | Loaded[Attack], action: str) -> Iterator[None]:
    """Turn whatever a plugin raises into a sentence that names its file."""
    try:
        yield
    except AgrbenchError as error:
        if isinstance(error, (Inapplicable, PluginError)):
            raise
        raise PluginError(f"{part.name}: {error}") from error
    except Exception as error:
        raise PluginError(
            f"{part.path}: {action} raised {type(error).__name__}: {error}; mend the file and try again"
        ) from error


def forge(attack: Loaded[Attack], insider: Insider, parameters: int) -> Tensor:
    """Ask an attack for its `(malicious, parameters)` rows; they may hold anything, NaN included."""
    if not insider.malicious:
        return torch.empty(0, parameters)
    with blame(attack, "forge"):
        rows = attack.record.forge(insider)
        if not isinstance(rows, Tensor) or rows.shape != (insider.malicious, parameters):
            raise TypeError(f"forge must return rows of shape ({insider.malicious}, {parameters}), not {_what(rows)}")
        return rows


def _look(stage: Loaded[Stage], columns: Columns, view: Callable[[], Tensor], out: Tensor) -> Tensor:
    rows = view()
    with blame(stage, "view"):
        return columns.view(rows, out=out)


def _mix(mix: Tensor, view: Callable[[], Tensor]) -> Tensor:
    return mix @ view()


def _compose(first: Tensor | None, then: Tensor | None) -> Tensor | None:
    """Map coordinates to the features of features; what is dropped once stays dropped."""
    if first is None or then is None:
        return then if first is None else first
    return torch.where(first >= 0, then[first.clamp(min=0)], -1)


def _checked_mixing(stage: Loaded[Stage], seen: Round, n: int) -> Tensor:
    assert stage.record.mix is not None
    mix = stage.record.mix(seen)
    rows = stage.record.rows(n)
    if not isinstance(mix, Tensor) or mix.shape != (rows, n) or not mix.isfinite().all():
        raise PluginError(f"{stage.path}: mix returned {_what(mix)}; return finite shares of shape ({rows}, {n})")
    return mix


def _check_weights(weights: object, rows: int, last: Round) -> None:
    if callable(weights) and not isinstance(weights, Tensor):
        return
    shapes = {(rows,), (rows, last.view_layout.parameters), (rows, len(last.layout.layers))}
    if not isinstance(weights, Tensor) or tuple(weights.shape) not in shapes:
        raise TypeError(
            f"weights must be a tensor of shape ({rows},), one weight a row of round.view, not {_what(weights)}"
        )
    if not weights.isfinite().all():
        raise ValueError("some weights are NaN or infinite; return finite weights")


def _check_exclusions(verdict: Verdict, clients: int) -> None:
    for client in verdict.exclude:
        if not 0 <= client < clients:
            raise ValueError(f"exclude names client {client}; clients are 0 to {clients - 1}, as round.clients says")


def _checked_block(weights: Tensor, shape: tuple[int, int]) -> Tensor:
    if not isinstance(weights, Tensor) or weights.shape != shape or not weights.isfinite().all():
        raise ValueError(
            f"a function of columns must return finite weights of the block's shape {shape}, not {_what(weights)}"
        )
    return weights


def _what(value: object) -> str:
    """Describe a wrong value in few words."""
    if isinstance(value, Tensor):
        finite = "" if value.isfinite().all() else " with values that are not finite"
        return f"a tensor of shape {tuple(value.shape)}{finite}"
    return f"a {type(value).__name__}"
