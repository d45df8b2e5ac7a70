"""Control for AgrAmplifier: judge each patch by its mean, which is linear and so amplifies nothing."""

from torch import Generator

from agrbench.layout import Layout
from agrbench.plugins import Stage
from agrbench.plugins.contract import Columns
from agrbench.server.amplifier import Patches


def mean_pool(layout: Layout, rng: Generator, restore: bool, *, kernel: int = 2) -> Columns:
    """Average each patch of the folded layers."""
    return Patches.of(layout, kernel).averaged()


stage = Stage(columns=mean_pool, waives={"restored": "a mean is no entry that could be put back in its place"})
