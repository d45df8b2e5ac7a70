"""Cross-entropy as learners need it: its gradients by examples, and mean loss and accuracy of many models."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.func import grad, vmap


def gradients(scores: Callable[[Tensor, Tensor], Tensor], model: Tensor, features: Tensor, labels: Tensor) -> Tensor:
    """Differentiate the mean cross-entropy of each set of examples with respect to the model."""

    def loss(parameters: Tensor, rows: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(scores(parameters, rows), targets)

    found: Tensor = vmap(grad(loss), in_dims=(None, 0, 0))(model, features, labels)
    return found


def measure(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean cross-entropy and the accuracy of `(k, rows, classes)` scores, each `(k,)`."""
    losses = nn.functional.cross_entropy(logits.transpose(1, 2), labels.expand(len(logits), -1), reduction="none").mean(
        1
    )
    return losses, (logits.argmax(2) == labels).to(logits.dtype).mean(1)
