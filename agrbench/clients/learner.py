"""Learners: models as functions of a flat vector, with gradients and scores for many clients at once.

Every model is a `torch.nn.Module` (docs/models.md). A multilayer perceptron has a learner that trains all clients in
one batched product per layer; any other module is called client by client.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Generator, Tensor
from torch.nn.parameter import is_lazy

from agrbench.clients.models import Builder
from agrbench.clients.modules import Functional
from agrbench.clients.perceptron import Perceptron, is_perceptron
from agrbench.data.examples import Batch, Examples, batch
from agrbench.errors import AgrbenchError
from agrbench.layout import Layout


class Learner(Protocol):
    """A model as a function of its flat parameters `(parameters,)`, arranged as `layout` describes.

    `buffers` `(buffers,)` are what the model keeps besides its parameters, such as running means; methods that take
    `buffers` use the initial ones if they are not given.
    """

    layout: Layout
    initial: Tensor
    buffers: Tensor
    apart: bool
    """Whether several threads may compute gradients at the same time."""
    random: bool
    """Whether training draws random numbers, as Dropout does."""

    def prepared(self, batch: Batch) -> Batch:
        """Convert a batch to this learner's private format, which only `gradients` reads."""

    def gradients(
        self, parameters: Tensor, out: Tensor, scale: float = 1.0, buffers: Tensor | None = None
    ) -> Callable[..., Tensor]:
        """Return `differentiate(batch, seeds=())`, which writes `scale` times each client's mean gradient into `out`.

        `out` is `(clients, parameters)`. `parameters` is one model for all clients, `(parameters,)`, or one for each,
        `(clients, parameters)`; every call reads its current values. `buffers` `(clients, buffers)` are updated in
        place. `seeds` holds a seed for each client if the learner is random.
        """

    def differentiate(self, model: Tensor, features: Tensor, labels: Tensor, buffers: Tensor | None = None) -> Tensor:
        """Return one model's mean cross-entropy gradients on `(k, rows, *shape)` examples: `(k, parameters)`.

        `labels` are probabilities `(k, rows, classes)`. The result is differentiable in the features and the labels.
        """

    def logits(self, parameters: Tensor, features: Tensor, buffers: Tensor | None = None) -> Tensor:
        """Score examples `(rows, *shape)`: `(rows, classes)`."""

    def evaluate(
        self, model: Tensor, updates: Tensor, examples: Examples, buffers: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return mean loss and accuracy, each `(k,)`, of the model plus each of `updates` `(k, parameters)` alone."""


def learner(build: Builder, shape: tuple[int, ...], classes: int, rng: Generator) -> Learner:
    """Build a model, initialised by its own modules under a seed from `rng`, and wrap it in its kind of learner.

    Raises:
        TypeError: the model is not a module that can be trained; the message says what to write instead.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(1 << 62, (), generator=rng)))
        module = build(shape, classes)
        if isinstance(module, torch.nn.Module) and any(map(is_lazy, module.parameters())):
            module.eval()(torch.zeros(2, *shape))
    return Perceptron(module) if is_perceptron(module) else Functional(module)


def fitted(made: Learner, examples: Examples) -> Examples:
    """Return examples in a type that the model takes, after scoring and training on two of them.

    Floats become the model's own; whole numbers stay (for embeddings) or become floats, whichever the model takes.

    Raises:
        AgrbenchError: the model takes neither, or does not return a score for each class.
    """
    features, wanted = examples.features, made.initial.dtype
    if features.is_floating_point():
        ways = [wanted, torch.long] if torch.equal(features[:2], features[:2].round()) else [wanted]
    else:
        ways = [torch.long, wanted]
    errors: list[Exception] = []
    for dtype in ways:
        try:
            _try(made, examples.take(torch.tensor([0, -1], device=features.device)), dtype)
        except AgrbenchError:
            raise
        except Exception as error:  # a module may raise anything
            errors.append(error)
            continue
        return examples if features.dtype == dtype else examples._replace(features=features.to(dtype))
    shape, first = tuple(features.shape[1:]), errors[0]
    raise AgrbenchError(
        f"the model cannot be trained on examples of shape {shape} ({type(first).__name__}: {first})"
    ) from first


def _try(made: Learner, two: Examples, dtype: torch.dtype) -> None:
    two, start = two._replace(features=two.features.to(dtype)), made.initial.to(two.features.device)
    if isinstance(made, Functional):
        made.observe(two.features)
    logits = made.logits(start, two.features)
    if logits.ndim != 2 or len(logits) != 2 or logits.shape[1] < two.classes or not logits.is_floating_point():
        raise AgrbenchError(
            f"the model scores 2 examples as {tuple(logits.shape)} of {logits.dtype}; "
            f"return floats of shape (rows, {two.classes}), a score for each of the {two.classes} classes"
        )
    made.gradients(start, start.new_empty(1, len(start)))(made.prepared(batch([two])), [0])
