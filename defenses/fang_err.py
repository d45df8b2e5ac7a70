"""Fang's ERR: keep the updates of highest accuracy on trusted data (Fang et al., USENIX Security 2020)."""

from torch import Tensor

from agrbench.plugins import Defense
from agrbench.rounds import Round
from agrbench.selection import highest_accuracy


def fang_err(round: Round) -> Tensor:
    """Average the `n - f` updates of highest accuracy, each applied alone to the global model: `(rows,)`.

    This is AgrAmplifier's use of the rule; Fang et al. measure what the model of all updates gains by leaving one out.
    """
    loss, accuracy = round.server.evaluate(round.view)
    return highest_accuracy(loss, accuracy, round.byzantine)


defense = Defense(fang_err, family="prediction", requires=lambda n, f: 2 * f < n, amplifier="restored")
