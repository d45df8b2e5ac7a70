"""AgrAmplifier: judge each k x k patch of a layer's update by its largest value (AgrAmplifier, 2022, Algorithm 1)."""

from typing import Literal

from torch import Generator

from agrbench.layout import Layout
from agrbench.plugins import Stage
from agrbench.plugins.contract import Columns
from agrbench.server.amplifier import Patches, magnitude, maximum


def amp(
    layout: Layout,
    rng: Generator,
    restore: bool,
    *,
    kernel: int = 2,
    by: Literal["value", "magnitude"] = "value",
    fold: Literal["layers", "released"] = "layers",
    shuffle: bool = False,
) -> Columns:
    """Pool each folded layer; for rules that apply updates to the model, keep the chosen entries in place instead.

    Variants: `by="magnitude"` takes the entry of largest absolute value, with its sign; `shuffle=True` cuts patches
    after one fixed random permutation of each layer; `fold="released"` folds the whole vector to the width of the first
    hidden layer, as the authors' code does.
    """
    patches = Patches.of(layout, kernel, fold, rng if shuffle else None)
    choose = maximum if by == "value" else magnitude
    return patches.restored(choose) if restore else patches.pooled(choose)


stage = Stage(columns=amp, waives={"translation": "moving coordinates differently changes which is the largest"})
