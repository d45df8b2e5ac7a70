"""Control for AgrAmplifier: judge each patch by one fixed random entry, drawn once per run."""

from torch import Generator

from agrbench.layout import Layout
from agrbench.plugins import Stage
from agrbench.plugins.contract import Columns
from agrbench.server.amplifier import Patches


def sample(layout: Layout, rng: Generator, restore: bool, *, kernel: int = 2) -> Columns:
    """Read the same random entry of each patch in every update: the dimension shrinks, but nothing is amplified."""
    patches = Patches.of(layout, kernel)
    return patches.restored_at(patches.draw(rng)) if restore else patches.read_at(patches.draw(rng))


stage = Stage(columns=sample)
