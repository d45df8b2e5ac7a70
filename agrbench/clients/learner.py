"""Models as functions of a flat vector, and the gradients of many clients as one batched computation.

Every model is a `torch.nn.Module`. A multilayer perceptron takes a path of its own, in which all clients share their
products; any other module goes through `torch.func`, client by client in chunks of rows that memory holds.
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

BUDGET = 1 << 26  # bytes of activations that a backward pass keeps at once
CACHED = 1 << 24  # bytes of models and activations that a cache holds, where many models are evaluated
LINE = 16  # numbers; products into rows that all begin at a cache line are half as fast again as into rows of 513


class Learner(Protocol):
    """A model as a function of its flat parameters `(parameters,)`, laid out as `layout` says."""

    layout: Layout
    initial: Tensor
    apart: bool
    """Whether several threads may take gradients at once."""

    def prepared(self, batch: Batch) -> Batch:
        """Bring a batch into the form in which this learner takes its gradients: its own, for `gradients` alone."""

    def gradients(self, parameters: Tensor, out: Tensor, scale: float = 1.0) -> Callable[[Batch], Tensor]:
        """Give a function of a prepared batch that writes `scale` times each client's mean cross-entropy gradient.

        It writes into `out`, `(clients, parameters)`, and gives it. The clients share one model `(parameters,)`, or
        each has its own `(clients, parameters)`: what the parameters are whenever the function is called.
        """

    def differentiate(self, model: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        """Give the mean cross-entropy gradients of `(k, rows, *shape)` examples of one model: `(k, parameters)`.

        `labels` are probabilities `(k, rows, classes)`, and the result can be differentiated by both.
        """

    def logits(self, parameters: Tensor, features: Tensor) -> Tensor:
        """Score examples `(rows, *shape)`: `(rows, classes)`."""

    def evaluate(self, model: Tensor, updates: Tensor, examples: Examples) -> tuple[Tensor, Tensor]:
        """Apply each of `updates` `(k, parameters)` alone to the model: mean loss and accuracy, each `(k,)`."""


def learner(build: Builder, shape: tuple[int, ...], classes: int, rng: Generator) -> Learner:
    """Build a model, its initial parameters drawn by `rng` as its modules draw them, and choose how it is trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(1 << 62, (), generator=rng)))
        module = build(shape, classes)
    return Perceptron(module) if _is_perceptron(module) else Functional(module)


class Hidden(NamedTuple):
    """Buffers of a hidden layer: its activations, each row with a 1 behind it and without, and the error in them."""

    ones: Tensor
    values: Tensor
    error: Tensor

    @classmethod
    def of(cls, rows: tuple[int, ...], weight: Tensor) -> Hidden:
        """Make room for what so many rows come to; every row begins at a cache line."""
        columns = weight.shape[-1]
        ones = weight.new_empty(*rows, -(-(columns + 1) // LINE) * LINE)[..., : columns + 1]
        ones[..., -1] = 1
        return cls(ones, ones[..., :-1], weight.new_empty(*rows, columns))


class Perceptron:
    """A multilayer perceptron; a layer's bias is one more row of its weights, and every activation ends in a 1."""

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
        """See `Learner.prepared`: every row of features ends in a 1; labels are probabilities, class by class."""
        classes = nn.functional.one_hot(batch.labels, self.layout.layers[-1].columns).to(batch.share)
        parts = _with_ones(batch.features.flatten(2)), classes.mT.contiguous().mT, batch.share[..., None]
        features, labels, share = (part[0] if len(part) == 1 else part for part in parts)
        return Batch(features, labels, share, batch.sizes)

    def gradients(self, parameters: Tensor, out: Tensor, scale: float = 1.0) -> Callable[[Batch], Tensor]:
        """See `Learner.gradients`: one product for all clients forward and backward where they share the model."""
        alone, product = len(out) == 1, torch.mm if len(out) == 1 else torch.bmm  # batches of one take longer
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
        """Score the same examples by many models: `(k, rows, classes)`."""
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
    """Any other module, through `torch.func`; its flat vector is its `parameters()` one after the other.

    Clients take turns: on a CPU, convolutions with one set of weights a client are slower batched than one by one.
    """

    apart = False  # the module holds the parameters while it is called

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
        """Cut rows into stretches whose activations the memory budget holds."""
        step = max(BUDGET // self._row_bytes(features.shape[1:], features.dtype), 1)
        return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]

    def _measured(self, shape: torch.Size, dtype: torch.dtype) -> int:
        """Measure what one more example adds to what a backward pass must keep."""
        kept = [0, 0]
        for more in (0, 1):

            def note(tensor: Tensor, more: int = more) -> Tensor:
                kept[more] += tensor.numel() * tensor.element_size()
                return tensor

            with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
                self.module(torch.zeros(2 + more, *shape, dtype=dtype, device=next(self.module.parameters()).device))
        return max(kept[1] - kept[0], 1)


def _gradients(scores: Callable[[Tensor, Tensor], Tensor], model: Tensor, features: Tensor, labels: Tensor) -> Tensor:
    """Differentiate the mean cross-entropy by the model, one set of examples at a time."""

    def loss(parameters: Tensor, rows: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(scores(parameters, rows), targets)

    gradients: Tensor = vmap(grad(loss), in_dims=(None, 0, 0))(model, features, labels)
    return gradients


def _is_perceptron(module: nn.Module) -> bool:
    """Recognise `Flatten, Linear, ReLU, Linear, ...` with biases."""
    if not isinstance(module, nn.Sequential) or len(module) % 2 or not isinstance(module[0], nn.Flatten):
        return False
    layers = list(module)
    return all(type(layer) is nn.Linear and layer.bias is not None for layer in layers[1::2]) and all(
        type(layer) is nn.ReLU for layer in layers[2::2]
    )


def _hidden(weights: list[Tensor], rows: torch.Size) -> list[Hidden]:
    """Make room for the hidden layers of so many rows."""
    return [Hidden.of(rows, weight) for weight in weights[:-1]]


def _forward(weights: list[Tensor], features: Tensor, hidden: list[Hidden]) -> Tensor:
    """Fill the hidden layers from features that end in a 1, and give the logits: `(..., classes, rows)`.

    Softmax across ten classes takes far longer where they lie side by side in memory than where rows do.
    """
    for weight, layer in zip(weights, hidden, strict=False):  # the last weights give the logits
        torch.matmul(features, weight, out=layer.values).relu_()
        features = layer.ones
    return weights[-1].mT @ features.mT


def _with_ones(features: Tensor) -> Tensor:
    return torch.cat([features, features.new_ones(*features.shape[:-1], 1)], dim=-1)


def _by_blocks(
    score: Callable[[Tensor], Tensor], model: Tensor, updates: Tensor, wide: int, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Measure as many models at once as a cache holds."""
    size = updates.element_size() * (wide + updates.shape[1])
    blocks = torch.split(updates, max(CACHED // size, 1))
    parts = threads.each(lambda block: _measure(score(model + block), labels), blocks, updates.device)
    losses, accuracies = zip(*parts, strict=True)
    return torch.cat(losses), torch.cat(accuracies)


def _measure(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Give mean cross-entropy and accuracy of `(k, rows, classes)` scores."""
    losses = nn.functional.cross_entropy(logits.transpose(1, 2), labels.expand(len(logits), -1), reduction="none").mean(
        1
    )
    return losses, (logits.argmax(2) == labels).to(logits.dtype).mean(1)
