"""One round as colluding clients see it, small enough to print: the input on which laws of attacks are tested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from agrbench.clients.insider import Attacker, Insider, forge
from agrbench.conformance.cases import Shapes
from agrbench.conformance.strategies import LAYOUTS, whole, width
from agrbench.data.examples import Examples
from agrbench.layout import Layout
from agrbench.plugins import Attack, registry
from agrbench.plugins.contract import Memory
from agrbench.plugins.stack import Loaded, blame
from agrbench.randomness import generator

ROWS, CLASSES = 24, 3
MOST = 5  # malicious clients
APART = 4  # columns: sums of whole numbers hardly coincide in all of them by chance


@dataclass(frozen=True, eq=False)
class Scene:
    """An attack and what its clients see.

    `honest` are the honest updates, `clean` what the malicious clients would send if they were honest, and `poisoned`
    what they learned from poisoned data; `model` and `previous` are vectors (by default zeros). The server averages.
    `images` makes the examples to poison images instead of tables; `seed` determines their values.
    """

    attack: str
    honest: Any
    clean: Any
    poisoned: Any
    layout: Shapes = ()
    model: Any = ()
    previous: Any = ()
    images: bool = False
    seed: int = 0
    dtype: str = "float64"
    plugins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        width = len(self.honest[0])
        for name in ("honest", "clean", "poisoned"):
            object.__setattr__(self, name, self._tensor(getattr(self, name)))
        for name in ("model", "previous"):
            given = getattr(self, name)
            object.__setattr__(self, name, self._tensor(given if len(given) else torch.zeros(width)))
        object.__setattr__(self, "layout", tuple(map(tuple, self.layout)) or ((width,),))

    def _tensor(self, value: Any) -> Tensor:
        return torch.as_tensor(value, dtype=getattr(torch, self.dtype))

    def but(self, **changes: Any) -> Scene:
        """Return a copy with these changes."""
        return replace(self, **changes)

    @property
    def loaded(self) -> Loaded[Attack]:
        """Return the attack, loaded."""
        return registry.of(self.plugins).attack(self.attack)

    @property
    def malicious(self) -> int:
        """Count the malicious clients."""
        return len(self.clean)

    def insider(self, memory: Memory, number: int = 1) -> Insider:
        """Return what the attack sees of the round."""
        return Insider(
            malicious=self.malicious,
            clients=self.malicious + len(self.honest),
            byzantine=self.malicious,
            layout=Layout.read(self.layout, self.honest.shape[1]),
            number=number,
            memory=memory,
            rng=generator(self.seed, "attack", number),
            respond=lambda: self.mean,
            honest=lambda: self.honest,
            clean=lambda: self.clean,
            poisoned=lambda: self.poisoned,
            model=lambda: self.model,
            previous=lambda: self.previous,
        )

    def mean(self, rows: Tensor) -> Tensor:
        """Average the honest updates and these rows: `(parameters,)`."""
        return torch.cat([self.honest, rows.to(self.honest)]).mean(0)

    def forge(self, memory: Memory | None = None, number: int = 1) -> Tensor:
        """Return the rows that the malicious clients send: `(malicious, parameters)`."""
        insider = self.insider({} if memory is None else memory, number)
        return forge(self.loaded, insider, self.honest.shape[1])

    def shard(self) -> Examples:
        """Make a malicious client's examples: tables of 12 columns, or images of 8 x 8."""
        rng = generator(self.seed, "examples")
        shape = (1, 8, 8) if self.images else (12,)
        return Examples(torch.rand(ROWS, *shape, generator=rng), torch.arange(ROWS) % CLASSES, CLASSES)

    def poison(self, shard: Examples) -> Examples:
        """Return the poisoned examples."""
        record = self.loaded.record
        if record.poison is None:
            return shard
        with blame(self.loaded, "poison"):
            return record.poison(shard, generator(self.seed, "poison"), Attacker(0, shard.labels))


class Scenes:
    """Strategies that draw scenes of one attack."""

    def __init__(self, spec: str, plugins: tuple[str, ...]) -> None:
        self.spec, self.plugins = spec, plugins
        self.record = registry.of(plugins).attack(spec).record

    def whole(self) -> Any:
        """Draw small whole numbers, with fewer malicious clients than honest ones."""
        return self._drawn(whole, LAYOUTS)

    def apart(self) -> Any:
        """Draw updates of random whole numbers, wide enough that they and their means differ in some column."""
        return self._drawn(
            lambda shape, largest: st.integers(0, 1 << 16).map(
                lambda seed: np.random.default_rng(seed).integers(1, largest, size=shape).astype(float)
            ),
            [layout for layout in LAYOUTS if width(layout) >= APART],
        )

    def _drawn(self, numbers: Any, layouts: Sequence[Shapes]) -> Any:
        @st.composite
        def inputs(draw: st.DrawFn) -> dict[str, Scene]:
            m = draw(st.integers(1, MOST))
            honest = draw(st.integers(m + 1, m + 4))
            layout = draw(st.sampled_from(layouts))
            lines = draw(numbers((honest + 2 * m + 2, width(layout)), 20))
            sent, clean, poisoned, (model, previous) = np.split(lines, np.cumsum([honest, m, m]))
            images, seed = draw(st.booleans()), draw(st.integers(0, 3))
            dtype = draw(st.sampled_from(["float64", "float32"]))
            given = self.spec, sent, clean, poisoned, layout, model, previous, images, seed, dtype, self.plugins
            scene = Scene(*given)
            return {"scene": scene}

        return inputs()
