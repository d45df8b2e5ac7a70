"""A strategy for Flower's servers that aggregates by any stack: `Robust("amp+nnm+krum", byzantine=3)`."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from torch import nn

from agrbench.layout import Layout
from agrbench.replies import Arrays, Combined, Federation, Reply, short
from agrbench.serving import Files

try:
    from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
    from flwr.serverapp import Grid
    from flwr.serverapp.strategy import FedAvg
except ImportError as error:
    raise ImportError(
        f"agrbench.flower needs Flower ({error}); write `python -m pip install 'agrbench[flower]'`"
    ) from error

LOG = logging.getLogger("flwr")


class Robust(FedAvg):
    """Flower's `FedAvg`, whose clients' models are combined by a stack (docs/deploying.md).

    A reply that is missing, malformed or not finite is left out, counted and logged. If the stack is not defined for
    the replies that remain, the round is skipped: the global model stays. The metrics of a round of training are
    `kept`, `rejected`, `skipped` and `weight-ID`, the weight of each node that was judged. What clients measure
    themselves are claims; pass `train_metrics_aggr_fn=` to add them.

    Args:
        defense: the stack's spec.
        byzantine: the bound on malicious clients in a round; needed by rules that use it.
        module: the torch module whose state dict is sent; by default, names and shapes tell what is a parameter.
        layout: the layers, for models that torch did not store; not together with `module`.
        root: `root(arrays) -> arrays`, the server's own training on trusted data, for rules such as FLTrust.
        evaluate: `evaluate(arrays) -> (loss, accuracy)` on trusted data, for rules such as Fang's.
        seed: the seed of the stack's randomness.
        plugins: plugin files to load in addition to the shipped and installed ones.
        **fedavg: what Flower's `FedAvg` takes, such as `fraction_train` and `min_available_nodes`.

    Raises:
        AgrbenchError: a spec, the bound or a plugin is at fault; the message says which.
    """

    def __init__(
        self,
        defense: str,
        byzantine: int | None = None,
        *,
        module: nn.Module | None = None,
        layout: Layout | None = None,
        root: Callable[[Arrays], Arrays] | None = None,
        evaluate: Callable[[Arrays], tuple[float, float]] | None = None,
        seed: int = 0,
        plugins: Files = (),
        **fedavg: Any,
    ) -> None:
        super().__init__(**fedavg)
        self.defense, self.byzantine = defense, byzantine
        self._federation = Federation(
            defense, byzantine, module=module, layout=layout, root=root, evaluate=evaluate, seed=seed, plugins=plugins
        )
        self._reports = "train_metrics_aggr_fn" in fedavg
        self._model = ArrayRecord()
        self._asked: set[int] = set()

    def summary(self) -> None:
        """Log the stack, and what `FedAvg` logs."""
        LOG.info("\t├──> Robust: %s, byzantine=%s", self.defense, self.byzantine)
        super().summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask clients to train, as `FedAvg` does, and keep the global model and who was asked."""
        messages = list(super().configure_train(server_round, arrays, config, grid))
        self._model, self._asked = arrays, {message.metadata.dst_node_id for message in messages}
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Combine the replies; if the round is skipped, return the global model as it was."""
        if not self._asked:
            return None, None
        answered, left_out = dict[int, tuple[Reply, Message]](), dict[Hashable, str]()
        for message in replies:
            node = message.metadata.src_node_id
            try:
                answered[node] = self._read(message), message
            except Exception as error:  # a client may send anything
                left_out[node] = short(f"{type(error).__name__}: {error}")
        left_out |= dict.fromkeys(self._asked - answered.keys() - left_out.keys(), "it sent no reply")
        model = {name: array.numpy() for name, array in self._model.items()}
        combined = self._federation.combine(model, [answered[node][0] for node in sorted(answered)], left_out)
        self._say(server_round, combined)
        claimed = MetricRecord()
        if self._reports and (kept := self._alike(answered[node][1] for node in combined.kept)):
            claimed = self.train_metrics_aggr_fn([message.content for message in kept], self.weighted_by_key)
        if combined.skipped:
            return self._model, MetricRecord({**claimed, **combined.metrics})
        arrays = ArrayRecord({name: Array(array) for name, array in combined.arrays.items()})
        return arrays, MetricRecord({**claimed, **combined.metrics})

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Average what clients measured, as `FedAvg` does, over the replies that can be averaged."""
        return super().aggregate_evaluate(server_round, self._alike(replies))

    def _read(self, message: Message) -> Reply:
        """Read a reply.

        Raises:
            Exception: of any kind, if it is malformed.
        """
        if message.has_error():
            raise ValueError(message.error.reason)
        (record,) = message.content.array_records.values()
        arrays = {name: array.numpy() for name, array in record.items()}
        claims = [metrics.get(self.weighted_by_key) for metrics in message.content.metric_records.values()]
        numbers = [float(claim) for claim in claims if isinstance(claim, (int, float))]
        return Reply(message.metadata.src_node_id, arrays, numbers[0] if numbers else math.nan)

    def _say(self, number: int, combined: Combined) -> None:
        """Log who was left out and whether the round was skipped."""
        for node, reason in combined.left_out.items():
            LOG.warning("round %d: left node %d out: %s", number, node, reason)
        if combined.skipped:
            LOG.warning("round %d: skipped, the global model stays as it is: %s", number, combined.skipped)

    def _alike(self, replies: Iterable[Message]) -> list[Message]:
        """Return the replies whose metrics have the form that most have, and can be averaged."""
        forms = [(_form(message, self.weighted_by_key), message) for message in replies]
        counts = Counter(form for form, _ in forms if form is not None)
        common = counts.most_common(1)[0][0] if counts else ()
        alike = [message for form, message in forms if form is not None and form == common]
        if len(alike) < len(forms):
            LOG.warning("left out the metrics of %d nodes, which cannot be averaged", len(forms) - len(alike))
        return alike


def _form(message: Message, weight: str) -> tuple[tuple[str, int], ...] | None:
    """Return the names and lengths of a reply's metrics; `None` if they cannot be averaged."""
    if message.has_error() or len(message.content.metric_records) != 1:
        return None
    (metrics,) = message.content.metric_records.values()
    lists = {name: value if isinstance(value, list) else [value] for name, value in metrics.items()}
    if not all(math.isfinite(each) for values in lists.values() for each in values):
        return None
    claim = metrics.get(weight)
    if not isinstance(claim, (int, float)) or claim <= 0:
        return None
    return tuple(sorted((name, len(lists[name]) if isinstance(value, list) else -1) for name, value in metrics.items()))
