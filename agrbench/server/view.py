"""The state passed from stage to stage: a matrix over rows and a view, which is made when first read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Generator, Tensor

from agrbench.layout import Layout
from agrbench.plugins import Stage
from agrbench.plugins.contract import Columns, Memory
from agrbench.plugins.stack import Loaded, blame
from agrbench.server.checks import checked_view
from agrbench.server.geometry import Geometry
from agrbench.server.rounds import Round, Server
from agrbench.server.scores import counted


@dataclass(frozen=True)
class View:
    """The updates of the clients `heard` after the stages so far: a matrix over rows and a view.

    The matrix `mixing` is `None` if it is the identity; `made` is true if the view already exists.
    """

    updates: Tensor
    heard: tuple[int, ...]
    mixing: Tensor | None
    rows: int
    clients: tuple[int, ...] | None
    view: Callable[[], Tensor]
    layout: Layout
    geometry: Geometry
    made: bool = True

    @classmethod
    def of(cls, updates: Tensor, layout: Layout, clients: tuple[int, ...]) -> View:
        """Start from the updates themselves."""

        def view() -> Tensor:
            return updates

        return cls(updates, clients, None, len(updates), clients, view, layout, Geometry(view))

    def through(self, stage: Loaded[Stage], columns: Columns, out: Tensor) -> View:
        """Apply a column stage; the view is written into `out` when first read."""

        def look() -> Tensor:
            before = self.view()
            with blame(stage, "view"):
                return checked_view(columns.view(before, out=out), (self.rows, columns.layout.parameters))

        view, blocks = cache(look), columns.blocks
        make = None if blocks is None else lambda: blocks(self.view())
        geometry = Geometry(view, make, self.updates.device)
        return replace(self, view=view, layout=columns.layout, geometry=geometry, made=False)

    def mixed(self, mix: Tensor) -> View:
        """Mix the rows by shares in float64, in which shares meant to add up to 1 do so."""
        view = cache(lambda: _mixed(mix, self.view()))
        return replace(
            self,
            mixing=mix if self.mixing is None else mix @ self.mixing,
            rows=len(mix),
            clients=self.clients if len(mix) == self.rows else None,
            view=view,
            geometry=self.geometry.mixed(mix, view),
            made=False,
        )

    def _claims(self, server: Server) -> Tensor:
        return server.sizes.to(self.updates.device, torch.float64)[list(self.heard)]

    def _mixed(self, values: Tensor) -> Tensor:
        return values if self.mixing is None else _mixed(self.mixing, values)

    def round(
        self,
        layout: Layout,
        byzantine: int | None,
        server: Server,
        see: Callable[[Tensor], Tensor],
        memory: Memory,
        number: int,
        rng: Generator,
    ) -> Round:
        """Return this state as the round that a plugin sees."""
        return Round(
            n=self.rows,
            device=self.updates.device,
            view=self.view,
            updates=lambda: self._mixed(self.updates),
            sizes=lambda: counted(self._mixed(counted(self._claims(server)))),
            view_layout=self.layout,
            layout=layout,
            byzantine=None if byzantine is None else lambda: byzantine,
            clients=self.clients,
            geometry=self.geometry,
            server=server,
            see=see,
            memory=memory,
            number=number,
            rng=rng,
        )


def _mixed(mixing: Tensor, values: Tensor) -> Tensor:
    """Mix rows; if each is only scaled, multiply it by its factor rather than by a matrix of zeros."""
    shares = mixing.to(values)
    own = shares.diagonal()
    if len(shares) != len(values) or shares.count_nonzero() > own.count_nonzero():
        return shares @ values
    return own[:, None] * values if values.ndim > 1 else own * values
