"""Learners: models as functions of a flat vector, with gradients and scores for many clients at once.

Every model is a `torch.nn.Module`. A multilayer perceptron is differentiated by hand, with all clients in one batched
product per layer; any other module goes through `torch.func`, client by client in chunks of rows that fit in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple, Protocol

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call, grad, vmap

from agrbench import threads
from agrbench.clients.models import Builder
from agrbench.data.examples import Batch, Examples
from agrbench.layout import Layout
from agrbench.server.pooling import keep_above

BUDGET = 1 << 26  # bytes of activations that one backward pass may keep
CACHED = 1 << 24  # bytes of models and activations evaluated at once, few enough to stay in cache
LINE = 16  # numbers per cache line; products are 1.5 times as fast into rows aligned to it as into rows of 513 numbers


class Learner(Protocol):
    """A model as a function of its flat parameters `(parameters,)`, arranged as `layout` describes."""

    layout: Layout
    initial: Tensor
    apart: bool
    """Whether several threads may compute gradients at the same time."""

    def prepared(self, batch: Batch) -> Batch:
        """Convert a batch to this learner's private format, which only `gradients` reads."""

    def gradients(self, parameters: Tensor, out: Tensor, scale: float = 1.0) -> Callable[[Batch], Tensor]:
        """Return a function of a prepared batch that writes `scale` times each client's mean cross-entropy gradient.

        It writes into `out`, `(clients, parameters)`, and returns it. `parameters` is one model for all clients,
        `(parameters,)`, or one for each, `(clients, parameters)`; every call reads its current values.
        """

    def differentiate(self, model: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        """Return one model's mean cross-entropy gradients on `(k, rows, *shape)` examples: `(k, parameters)`.

        `labels` are probabilities `(k, rows, classes)`. The result is differentiable in the features and the labels.
        """

    def logits(self, parameters: Tensor, features: Tensor) -> Tensor:
        """Score examples `(rows, *shape)`: `(rows, classes)`."""

    def evaluate(self, model: Tensor, updates: Tensor, examples: Examples) -> tuple[Tensor, Tensor]:
        """Return mean loss and accuracy, each `(k,)`, of the model plus each of `updates` `(k, parameters)` alone."""


def learner(build: Builder, shape: tuple[int, ...], classes: int, rng: Generator) -> Learner:
    """Build a model, initialised by its own modules under a seed from `rng`, and wrap it in its kind of learner."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(1 << 62, (), generator=rng)))
        module = build(shape, classes)
    return Perceptron(module) if _is_perceptron(module) else Functional(module)


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

    apart = True

    def __init__(self, module: nn.Module) -> None:
        linear = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
        shapes = [
            shape for layer in linear for shape in ((layer.in_features, layer.out_features), (layer.out_features,))
        ]
        self.layout = Layout.of_shapes(shapes)
        pieces = [piece.detach() for layer in linear for piece in (layer.weight.T.flatten(), layer.bias)]
        self.initial = torch.cat(pieces)

    def prepared(self, batch: Batch) -> Batch:
        """See `Learner.prepared`: each row of features ends in 1; labels are probabilities, stored class by class."""
        classes = nn.functional.one_hot(batch.labels, self.layout.layers[-1].columns).to(batch.share)
        parts = _with_ones(batch.features.flatten(2)), classes.mT.contiguous().mT, batch.share[..., None]
        features, labels, share = (part[0] if len(part) == 1 else part for part in parts)
        return Batch(features, labels, share, batch.sizes)

    def gradients(self, parameters: Tensor, out: Tensor, scale: float = 1.0) -> Callable[[Batch], Tensor]:
        """See `Learner.gradients`: clients that share the model also share each layer's products with its weights."""
        # Views and buffers are made before the steps, since threads that train side by side share one interpreter.
        alone, product = len(out) == 1, torch.mm if len(out) == 1 else torch.bmm  # a bmm of one is slower than mm
        weights = self._weights(parameters.view(-1) if alone else parameters)
        turned = [weight[..., :-1, :].mT for weight in weights]
        gradients = self._weights(out[0] if alone else out)
        shared = weights[0].ndim == 2 and not alone
        room = cache(partial(_hidden, weights))

        def work(batch: Batch) -> Tensor:
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
                    error = keep_above(layer.error, layer.values, 0, grad_input=layer.error)
            return out

        return work

    def differentiate(self, model: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        """See `Learner.differentiate`."""
        return _gradients(lambda parameters, rows: self._many(parameters[None], rows)[0], model, features, labels)

    def logits(self, parameters: Tensor, features: Tensor) -> Tensor:
        """See `Learner.logits`."""
        weights = self._weights(parameters)
        return _forward(weights, _with_ones(features.flatten(1)), _hidden(weights, features.shape[:1])).mT

    def evaluate(self, model: Tensor, updates: Tensor, examples: Examples) -> tuple[Tensor, Tensor]:
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


class Functional:
    """Any other module, through `torch.func`; its flat vector is the concatenation of its `parameters()`.

    Clients take turns: `vmap` makes clients with different weights groups of one convolution, far slower on a CPU.
    """

    apart = False  # `torch.func` writes the parameters into the module while it is called

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.layout = Layout.of(module)
        self.initial = torch.cat([parameter.detach().flatten() for parameter in module.parameters()])
        self._shapes = {name: parameter.shape for name, parameter in module.named_parameters()}
        self._gradient = grad(self._loss)
        self._row_bytes = cache(self._measured)

    def prepared(self, batch: Batch) -> Batch:
        """See `Learner.prepared`."""
        return batch

    def gradients(self, parameters: Tensor, out: Tensor, scale: float = 1.0) -> Callable[[Batch], Tensor]:
        """See `Learner.gradients`."""
        models = parameters.expand(len(out), -1)

        def work(batch: Batch) -> Tensor:
            for model, features, labels, share, size, mine in zip(models, *batch, out.zero_(), strict=True):
                for rows in self._chunks(size, features):
                    mine.add_(self._gradient(model, features[rows], labels[rows], share[rows]), alpha=scale)
            return out

        return work

    def differentiate(self, model: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        """See `Learner.differentiate`."""
        return _gradients(
            lambda parameters, rows: functional_call(self.module, self._named(parameters), (rows,)),
            model, features, labels,
        )  # fmt: skip

    def logits(self, parameters: Tensor, features: Tensor) -> Tensor:
        """See `Learner.logits`."""
        named = self._named(parameters)
        return torch.cat(
            [functional_call(self.module, named, (features[rows],)) for rows in self._chunks(len(features), features)]
        )

    def evaluate(self, model: Tensor, updates: Tensor, examples: Examples) -> tuple[Tensor, Tensor]:
        """See `Learner.evaluate`."""
        parts = [_measure(self.logits(model + row, examples.features)[None], examples.labels) for row in updates]
        losses, accuracies = zip(*parts, strict=True)
        return torch.cat(losses), torch.cat(accuracies)

    def _loss(self, parameters: Tensor, features: Tensor, labels: Tensor, share: Tensor) -> Tensor:
        logits = functional_call(self.module, self._named(parameters), (features,))
        losses = nn.functional.cross_entropy(logits, labels, reduction="none")
        return (losses * share).sum()

    def _named(self, parameters: Tensor) -> dict[str, Tensor]:
        pieces = torch.split(parameters, [shape.numel() for shape in self._shapes.values()])
        return {name: piece.view(shape) for (name, shape), piece in zip(self._shapes.items(), pieces, strict=True)}

    def _chunks(self, rows: int, features: Tensor) -> list[slice]:
        """Cut rows into stretches whose activations fit the memory budget."""
        step = max(BUDGET // self._row_bytes(features.shape[1:], features.dtype), 1)
        return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]

    def _measured(self, shape: torch.Size, dtype: torch.dtype) -> int:
        """Measure how many bytes one more example adds to what a backward pass keeps."""
        kept = [0, 0]
        for more in (0, 1):

            def note(tensor: Tensor, more: int = more) -> Tensor:
                kept[more] += tensor.numel() * tensor.element_size()
                return tensor

            with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
                self.module(torch.zeros(2 + more, *shape, dtype=dtype, device=next(self.module.parameters()).device))
        return max(kept[1] - kept[0], 1)


def _gradients(scores: Callable[[Tensor, Tensor], Tensor], model: Tensor, features: Tensor, labels: Tensor) -> Tensor:
    """Differentiate the mean cross-entropy of each set of examples with respect to the model."""

    def loss(parameters: Tensor, rows: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(scores(parameters, rows), targets)

    gradients: Tensor = vmap(grad(loss), in_dims=(None, 0, 0))(model, features, labels)
    return gradients


def _is_perceptron(module: nn.Module) -> bool:
    """Return whether a module is `Flatten, Linear, ReLU, Linear, ...` with biases."""
    if not isinstance(module, nn.Sequential) or len(module) % 2 or not isinstance(module[0], nn.Flatten):
        return False
    layers = list(module)
    return all(type(layer) is nn.Linear and layer.bias is not None for layer in layers[1::2]) and all(
        type(layer) is nn.ReLU for layer in layers[2::2]
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
    parts = threads.each(lambda block: _measure(score(model + block), labels), blocks, updates.device)
    losses, accuracies = zip(*parts, strict=True)
    return torch.cat(losses), torch.cat(accuracies)


def _measure(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean cross-entropy and the accuracy of `(k, rows, classes)` scores, each `(k,)`."""
    losses = nn.functional.cross_entropy(logits.transpose(1, 2), labels.expand(len(logits), -1), reduction="none").mean(
        1
    )
    return losses, (logits.argmax(2) == labels).to(logits.dtype).mean(1)
