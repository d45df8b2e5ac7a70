"""Fang: keep the updates that harm neither loss nor accuracy on trusted data (Fang et al., USENIX Security 2020)."""

from torch import Tensor

from agrbench.plugins import Defense
from agrbench.rounds import Round
from agrbench.selection import highest_accuracy, lowest_loss


def fang(round: Round) -> Tensor:
    """Average the updates that LRR and ERR both keep, each applied alone to the global model: `(rows,)`.

    This is AgrAmplifier's use of the rule; Fang et al. measure what the model of all updates gains by leaving one out.
    """
    loss, accuracy = round.server.evaluate(round.view)
    return lowest_loss(loss, round.byzantine) & highest_accuracy(loss, accuracy, round.byzantine)


defense = Defense(fang, family="prediction", requires=lambda n, f: 2 * f < n, amplifier="restored")
