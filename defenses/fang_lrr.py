"""Fang's LRR: keep the updates of lowest loss on trusted data (Fang et al., USENIX Security 2020)."""

from torch import Tensor

from agrbench.plugins import Defense
from agrbench.rounds import Round
from agrbench.selection import lowest_loss


def fang_lrr(round: Round) -> Tensor:
    """Average the `n - f` updates of lowest loss, each applied alone to the global model: `(rows,)`.

    This is AgrAmplifier's use of the rule; Fang et al. measure what the model of all updates gains by leaving one out.
    """
    loss, _ = round.server.evaluate(round.view)
    return lowest_loss(loss, round.byzantine)


defense = Defense(fang_lrr, family="prediction", requires=lambda n, f: 2 * f < n, amplifier="restored")
