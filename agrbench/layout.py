"""The layers of a flat parameter vector, and how each folds to `(d_in, d_out)` (AgrAmplifier, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import torch
from torch import Tensor, nn

from agrbench.errors import AgrbenchError


@dataclass(frozen=True)
class Layer:
    """One layer's stretch of the flat vector: its weights, then its bias if it has one.

    Folded, it is a `rows` x `columns` matrix: `d_in` rows (and one more for the bias) and `d_out` columns. `transposed`
    means that the weights are stored with the output dimension first, as torch does. `positions` counts the positions
    of a kernel that are stored last, as transposed convolutions store them: `(d_in, d_out, positions)`.
    """

    rows: int
    columns: int
    bias: bool = False
    transposed: bool = False
    positions: int = 1

    @property
    def size(self) -> int:
        """Count the layer's parameters."""
        return self.rows * self.columns

    def fold(self) -> Tensor:
        """Return where each folded entry is stored: `(rows, columns)` offsets from the layer's start."""
        weights = (self.rows - self.bias) * self.columns
        if self.transposed:
            folded = torch.arange(weights).view(self.columns, -1).T
        else:
            folded = torch.arange(weights).view(-1, self.columns, self.positions).mT.reshape(-1, self.columns)
        return torch.cat([folded, torch.arange(weights, self.size).view(-1, self.columns)])


@dataclass(frozen=True)
class Layout:
    """The layers of a flat parameter vector, in order."""

    layers: tuple[Layer, ...]

    @classmethod
    def of(cls, module: nn.Module) -> Layout:
        """Read the layout of a torch module, whose flat vector is its trained parameters in order (see `trained`).

        A weight of two or more dimensions is `(d_out, ...)`, as linear layers and convolutions store it, or `(d_in,
        d_out, ...)` in a transposed convolution, and a `bias` right after it is its bias. Any other parameter of one
        dimension, or of none, is a separate layer.
        """
        layers: list[Layer] = []
        weight_of = ""
        for name, parameter in trained(module).items():
            owner, _, kind = name.rpartition(".")
            shape = tuple(parameter.shape)
            if kind == "bias" and weight_of == f"{owner}.weight" and shape == (layers[-1].columns,):
                layers[-1] = replace(layers[-1], rows=layers[-1].rows + 1, bias=True)
            elif len(shape) >= 2 and isinstance(module.get_submodule(owner), nn.modules.conv._ConvTransposeNd):
                layers.append(Layer(shape[0] * prod(shape[2:]), shape[1], positions=prod(shape[2:])))
            elif len(shape) >= 2:
                layers.append(Layer(prod(shape[1:]), shape[0], transposed=True))
            else:
                layers.append(Layer(1, prod(shape)))
            weight_of = f"{owner}.weight" if len(shape) >= 2 and kind == "weight" else ""
        return cls(tuple(layers))

    @classmethod
    def of_shapes(cls, shapes: Iterable[Sequence[int]]) -> Layout:
        """Read the layout from the layers' shapes, `[(446, 512), (512,), (512, 30), (30,)]`.

        A linear weight is `(d_in, d_out)` and a convolution `(out, in, h, w)`. A shape of one dimension equal to the
        `d_out` just before it is that layer's bias; any other is a separate layer.

        Raises:
            AgrbenchError: a shape is none, or a linear weight is followed by a bias of its first size, as in torch.
        """
        layers: list[Layer] = []
        wants_bias = False
        before: tuple[int, ...] = ()
        for given in shapes:
            shape = tuple(given) if isinstance(given, Sequence) else ()
            if not shape or not all(isinstance(size, int) and size > 0 for size in shape):
                raise AgrbenchError(
                    f"a layout lists shapes of positive whole numbers; given {given!r}; write [(446, 512), (512,), ...]"
                )
            if wants_bias and shape == (layers[-1].columns,):
                layers[-1] = replace(layers[-1], rows=layers[-1].rows + 1, bias=True)
            elif len(before) == 2 and shape == before[:1]:
                raise AgrbenchError(
                    f"{before} before {shape} is a linear weight as torch stores it, (d_out, d_in), with its bias; "
                    f"transpose it and write {before[::-1]}, or write layout=agrbench.Layout.of(model)"
                )
            elif len(shape) == 1:
                layers.append(Layer(1, shape[0]))
            elif len(shape) == 2:
                layers.append(Layer(*shape))
            else:
                layers.append(Layer(prod(shape[1:]), shape[0], transposed=True))
            wants_bias, before = len(shape) > 1, shape
        return cls(tuple(layers))

    @classmethod
    def of_stored(cls, shapes: Iterable[Sequence[int]]) -> Layout:
        """Read the layout from the shapes of a state dict, whose weights torch stores as `(d_out, d_in, ...)`.

        A shape of one dimension equal to the `d_out` just before it is that layer's bias; any other, or one of no
        dimension, is a separate layer.
        """
        layers: list[Layer] = []
        wants_bias = False
        for shape in map(tuple, shapes):
            if wants_bias and shape == (layers[-1].columns,):
                layers[-1] = replace(layers[-1], rows=layers[-1].rows + 1, bias=True)
            elif len(shape) > 1:
                layers.append(Layer(prod(shape[1:]), shape[0], transposed=True))
            else:
                layers.append(Layer(1, prod(shape)))
            wants_bias = len(shape) > 1
        return cls(tuple(layers))

    @classmethod
    def read(cls, layout: Layout | Iterable[Sequence[int]], parameters: int) -> Layout:
        """Accept a `Layout` or shapes, and check that they hold `parameters` parameters."""
        layout = layout if isinstance(layout, Layout) else cls.of_shapes(layout)
        if layout.parameters != parameters:
            raise AgrbenchError(
                f"the layout holds {layout.parameters} parameters, the updates {parameters}; "
                f"layout= takes the shapes of all layers, biases included"
            )
        return layout

    @cached_property
    def parameters(self) -> int:
        """Count all parameters."""
        return sum(layer.size for layer in self.layers)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Return the offset at which each layer begins."""
        starts, start = [], 0
        for layer in self.layers:
            starts.append(start)
            start += layer.size
        return tuple(starts)

    @cached_property
    def folded(self) -> Tensor | None:
        """Return the flat vector's indices in folded order, `(parameters,)`; `None` if that is the stored order."""
        if not any(layer.transposed or layer.positions > 1 for layer in self.layers):
            return None
        return torch.cat([at + layer.fold().flatten() for at, layer in zip(self.starts, self.layers, strict=True)])

    @cached_property
    def layer_of(self) -> Tensor:
        """Map each coordinate to its layer: `(parameters,)`."""
        sizes = torch.tensor([layer.size for layer in self.layers])
        return torch.repeat_interleave(torch.arange(len(self.layers)), sizes)


def trained(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that training changes, by name: not frozen and not empty, tied ones once."""
    return {name: each for name, each in module.named_parameters() if each.requires_grad and each.numel()}
