"""An aggregator for NVFLARE's workflows that aggregates by any stack: `Robust("amp+nnm+krum", byzantine=3)`."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import Any

from torch import nn

from agrbench.errors import AgrbenchError
from agrbench.layout import Layout
from agrbench.replies import Arrays, Federation, Reply, short
from agrbench.serving import Files

try:
    from nvflare.apis.fl_component import FLComponent
    from nvflare.apis.fl_constant import FLMetaKey, ReservedKey
    from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
    from nvflare.app_common.abstract.model import ModelLearnableKey
    from nvflare.app_common.aggregators.model_aggregator import ModelAggregator
    from nvflare.app_common.app_constant import AppConstants
    from nvflare.app_common.utils.fl_model_utils import FLModelUtils
except ImportError as error:
    raise ImportError(
        f"agrbench.nvflare needs NVFLARE ({error}); write `python -m pip install 'agrbench[nvflare]'`"
    ) from error


class Robust(ModelAggregator):  # type: ignore[misc]
    """An NVFLARE `ModelAggregator` that combines clients' models by a stack (docs/deploying.md).

    It takes whole models and differences, and returns what the first client sent of the two. A reply that is malformed
    or not finite is left out, counted and logged. If the stack is not defined for the replies that remain, the round is
    skipped: the global model stays. The attribute `metrics` holds the last round's `kept`, `rejected`, `skipped` and
    `weight-NAME`, the weight of each site that was judged; NVFLARE would send a model's metrics to all clients,
    attackers among them. An aggregator is not told who was asked and never answered.

    Args:
        defense: the stack's spec.
        byzantine: the bound on malicious clients in a round; needed by rules that use it.
        module: the torch module whose state dict is sent; by default, names and shapes tell what is a parameter.
        layout: the layers, for models that torch did not store; not together with `module`.
        root: `root(arrays) -> arrays`, the server's own training on trusted data, for rules such as FLTrust.
        evaluate: `evaluate(arrays) -> (loss, accuracy)` on trusted data, for rules such as Fang's.
        seed: the seed of the stack's randomness.
        plugins: plugin files to load in addition to the shipped and installed ones.
        initial: the arrays of the first global model, for workflows that do not tell their aggregator.

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
        initial: Arrays | None = None,
    ) -> None:
        super().__init__()
        FLComponent.__init__(self)  # which makes the logger, and which ModelAggregator leaves out
        self._federation = Federation(
            defense, byzantine, module=module, layout=layout, root=root, evaluate=evaluate, seed=seed, plugins=plugins
        )
        self._last = initial
        self.metrics: dict[str, int | float] = {}
        self.reset_stats()

    def reset_stats(self) -> None:
        """Forget the replies of a round; what a rule remembers of clients stays."""
        self._replies: dict[str, Reply] = {}
        self._left_out: dict[Hashable, str] = {}
        self._kind: Any = None

    def accept(self, shareable: Any, fl_ctx: Any) -> bool:
        """Take a reply under the name by which the server knows its client; return whether it can be read."""
        self.fl_ctx = fl_ctx
        name = str(shareable.get_peer_prop(ReservedKey.IDENTITY_NAME, AppConstants.CLIENT_UNKNOWN))
        try:
            model = FLModelUtils.from_shareable(shareable, fl_ctx)
            model.meta["client_name"] = name
            self.accept_model(model)
        except Exception as error:  # a client may send anything
            self._left_out[name] = short(f"{type(error).__name__}: {error}")
        return name in self._replies

    def accept_model(self, model: Any) -> None:
        """Take a client's reply; `meta["client_name"]` names the client, as NVFLARE's controllers see to."""
        name = str(model.meta.get("client_name", AppConstants.CLIENT_UNKNOWN))
        if not isinstance(model.params, dict):
            self._left_out[name] = "it sent no parameters"
            return
        claim = model.meta.get(FLMetaKey.NUM_STEPS_CURRENT_ROUND)
        examples = float(claim) if isinstance(claim, (int, float)) else math.nan
        self._kind = self._kind or model.params_type
        self._replies[name] = Reply(name, model.params, examples, model.params_type == ParamsType.DIFF)

    def aggregate_model(self) -> Any:
        """Combine the round's replies, and return the next global model or its difference from the last one.

        Raises:
            AgrbenchError: the global model is not known, or does not suit the module or the layout, or the rule lacks
                something.
        """
        arrays = self._global()
        replies = [self._replies[name] for name in sorted(self._replies)]
        combined = self._federation.combine(arrays, replies, self._left_out)
        for name, reason in combined.left_out.items():
            self.logger.warning(f"left {name} out: {reason}")
        if combined.skipped:
            self.logger.warning(f"skipped the round, the global model stays as it is: {combined.skipped}")
        self.metrics, self._last, kind = combined.metrics, combined.arrays, self._kind
        self.reset_stats()
        if kind != ParamsType.DIFF:
            return FLModel(ParamsType.FULL, dict(combined.arrays))
        moved = {name: each for name, each in combined.arrays.items() if each is not arrays[name]}
        return FLModel(ParamsType.DIFF, {name: each - arrays[name] for name, each in moved.items()})

    def _global(self) -> Arrays:
        """Return the arrays of the global model: the workflow's or, if it tells none, those of the last round."""
        told = self.fl_ctx.get_prop(AppConstants.GLOBAL_MODEL) if self.fl_ctx else None
        arrays: Arrays | None = told[ModelLearnableKey.WEIGHTS] if told else self._last
        if not arrays:
            raise AgrbenchError("the workflow told no global model; pass initial=: the first one's arrays by name")
        return arrays
