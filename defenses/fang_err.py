"""Fang's ERR: keep the updates of highest accuracy on trusted data (Fang et al., USENIX Security 2020)."""

from typing import Literal

from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.rounds import Round
from agrbench.server.scores import highest_accuracy, judged


def fang_err(round: Round, *, impact: Literal["alone", "leave_one_out", "released"] = "alone") -> Tensor:
    """Average the `n - f` updates of highest accuracy, each applied alone to the global model: `(rows,)`.

    AgrAmplifier uses the rule this way. Variants: `impact="leave_one_out"` judges as Fang et al. published, by how
    much the model of all updates gains when one is left out, with the mean as the aggregation rule;
    `impact="released"` is AgrAmplifier's code, which lets `torch.topk` choose among equal accuracies, not the loss.
    """
    loss, accuracy = judged(round, impact)
    return highest_accuracy(None if impact == "released" else loss, accuracy, round.byzantine)


defense = Defense(fang_err, family="prediction", requires=lambda n, f: 2 * f < n, amplifier="restored")
