"""The learner of multilayer perceptrons: all clients in one batched product per layer, differentiated by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from agrbench import threads
from agrbench.clients.scoring import gradients, measure
from agrbench.data.examples import Batch, Examples
from agrbench.layout import Layout

CACHED = 1 << 24  # bytes of models and activations evaluated at once, few enough to stay in cache
LINE = 16  # numbers per cache line; products are 1.5 times as fast into rows aligned to it as into rows of 513 numbers

relu_backward = torch.ops.aten.threshold_backward.grad_input
"""`(error, activations, 0, grad_input=out)`: the error where the activation is above 0, and 0 elsewhere."""


class Hidden(NamedTuple):
    """Buffers of a hidden layer: its activations, each row with and without a trailing 1, and their error."""

    ones: Tensor
    values: Tensor
    error: Tensor

    @classmethod
    def of(cls, rows: tuple[int, ...], weight: Tensor) -> Hidden:
        """Allocate the buffers for batches of shape `rows`; each row of activations starts at a cache line."""
        columns = weight.shape[-1]
        ones = weight.new_empty(*rows, -(-(columns + 1) // LINE) * LINE)[..., : columns + 1]
        ones[..., -1] = 1
        return cls(ones, ones[..., :-1], weight.new_empty(*rows, columns))


class Perceptron:
    """A multilayer perceptron; a layer's bias is the last row of its weights, and each row of activations ends in 1."""

    apart, random = True, False

    def __init__(self, module: nn.Module) -> None:
        linear = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
        shapes = [
            shape for layer in linear for shape in ((layer.in_features, layer.out_features), (layer.out_features,))
        ]
        self.layout = Layout.of_shapes(shapes)
        pieces = [piece.detach() for layer in linear for piece in (layer.weight.T.flatten(), layer.bias)]
        self.initial = torch.cat(pieces)
        self.buffers = self.initial.new_empty(0)

    def prepared(self, batch: Batch) -> Batch:
        """See `Learner.prepared`: each row of features ends in 1; labels are probabilities, stored class by class."""
        classes = nn.functional.one_hot(batch.labels, self.layout.layers[-1].columns).to(batch.share)
        parts = _with_ones(batch.features.flatten(2)), classes.mT.contiguous().mT, batch.share[..., None]
        features, labels, share = (part[0] if len(part) == 1 else part for part in parts)
        return Batch(features, labels, share, batch.sizes)

    def gradients(
        self, parameters: Tensor, out: Tensor, scale: float = 1.0, buffers: Tensor | None = None
    ) -> Callable[..., Tensor]:
        """See `Learner.gradients`: clients that share the model also share each layer's products with its weights."""
        # Views and buffers are made before the steps, since threads that train side by side share one interpreter.
        alone, product = len(out) == 1, torch.mm if len(out) == 1 else torch.bmm  # a bmm of one is slower than mm
        weights = self._weights(parameters.view(-1) if alone else parameters)
        turned = [weight[..., :-1, :].mT for weight in weights]
        gradients = self._weights(out[0] if alone else out)
        shared = weights[0].ndim == 2 and not alone
        room = cache(partial(_hidden, weights))

        def work(batch: Batch, seeds: Sequence[int] = ()) -> Tensor:
            features = batch.features.flatten(0, 1) if shared else batch.features
            hidden = room(features.shape[:-1])
            error = _forward(weights, features, hidden).softmax(-2).mT
            error.view(batch.labels.shape).sub_(batch.labels).mul_(scale * batch.share)
            for place in reversed(range(len(weights))):
                sides = hidden[place - 1].ones if place else features, error
                below, above = (side.view(*batch.labels.shape[:2], -1) for side in sides) if shared else sides
                product(below.mT, above, out=gradients[place])
                if place:
                    layer = hidden[place - 1]
                    torch.matmul(error, turned[place], out=layer.error)
                    error = relu_backward(layer.error, layer.values, 0, grad_input=layer.error)
            return out

        return work

    def differentiate(self, model: Tensor, features: Tensor, labels: Tensor, buffers: Tensor | None = None) -> Tensor:
        """See `Learner.differentiate`."""
        return gradients(lambda parameters, rows: self._many(parameters[None], rows)[0], model, features, labels)

    def logits(self, parameters: Tensor, features: Tensor, buffers: Tensor | None = None) -> Tensor:
        """See `Learner.logits`."""
        weights = self._weights(parameters)
        return _forward(weights, _with_ones(features.flatten(1)), _hidden(weights, features.shape[:1])).mT

    def evaluate(
        self, model: Tensor, updates: Tensor, examples: Examples, buffers: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See `Learner.evaluate`."""
        wide = max(layer.columns for layer in self.layout.layers) * len(examples.labels) * 2
        score = partial(self._many, features=examples.features)
        return _by_blocks(score, model, updates, wide, examples.labels)

    def _many(self, parameters: Tensor, features: Tensor) -> Tensor:
        """Score the same examples with many models: `(k, rows, classes)`."""
        scores = features.flatten(1).expand(len(parameters), -1, -1)
        *hidden, last = self._weights(parameters)
        for weight in hidden:
            scores = torch.baddbmm(weight[:, -1:], scores, weight[:, :-1]).relu_()
        return torch.baddbmm(last[:, -1:], scores, last[:, :-1])

    def _weights(self, parameters: Tensor) -> list[Tensor]:
        """View the flat parameters `(..., parameters)` as folded layers `(..., d_in + 1, d_out)`."""
        sizes = [layer.size for layer in self.layout.layers]
        pieces = torch.split(parameters, sizes, dim=-1)
        return [
            piece.view(*piece.shape[:-1], layer.rows, layer.columns)
            for piece, layer in zip(pieces, self.layout.layers, strict=True)
        ]


def is_perceptron(module: nn.Module) -> bool:
    """Return whether a module is `Flatten, Linear, ReLU, Linear, ...` with biases, all trained, and nothing else."""
    if type(module) is not nn.Sequential or len(module) % 2 or type(module[0]) is not nn.Flatten:
        return False
    layers = list(module)
    own = len(list(module.parameters())) == len(layers) and not vars(module).keys() & {"forward"}
    return (
        own
        and all(type(layer) is nn.Linear and layer.bias is not None for layer in layers[1::2])
        and all(type(layer) is nn.ReLU for layer in layers[2::2])
        and all(parameter.requires_grad for parameter in module.parameters())
        and len({parameter.dtype for parameter in module.parameters()}) == 1
        and not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    )


def _hidden(weights: list[Tensor], rows: torch.Size) -> list[Hidden]:
    """Allocate the buffers of all hidden layers for batches of shape `rows`."""
    return [Hidden.of(rows, weight) for weight in weights[:-1]]


def _forward(weights: list[Tensor], features: Tensor, hidden: list[Hidden]) -> Tensor:
    """Fill the hidden layers from features whose rows end in 1, and return the logits: `(..., classes, rows)`.

    They are stored class by class because softmax is vectorised across rows, but not across a few adjacent classes.
    """
    for weight, layer in zip(weights, hidden, strict=False):  # the last weights compute the logits
        torch.matmul(features, weight, out=layer.values).relu_()
        features = layer.ones
    return weights[-1].mT @ features.mT


def _with_ones(features: Tensor) -> Tensor:
    return torch.cat([features, features.new_ones(*features.shape[:-1], 1)], dim=-1)


def _by_blocks(
    score: Callable[[Tensor], Tensor], model: Tensor, updates: Tensor, wide: int, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Measure mean loss and accuracy of many models, in blocks that fit in cache."""
    size = updates.element_size() * (wide + updates.shape[1])
    blocks = torch.split(updates, max(CACHED // size, 1))
    parts = threads.each(lambda block: measure(score(model + block), labels), blocks, updates.device)
    losses, accuracies = zip(*parts, strict=True)
    return torch.cat(losses), torch.cat(accuracies)
