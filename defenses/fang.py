"""Fang: keep the updates that harm neither loss nor accuracy on trusted data (Fang et al., USENIX Security 2020)."""

from typing import Literal

from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.rounds import Round
from agrbench.server.scores import highest_accuracy, judged, lowest_loss


def fang(round: Round, *, impact: Literal["alone", "leave_one_out", "released"] = "alone") -> Tensor:
    """Average the updates that both LRR and ERR keep, each applied alone to the global model: `(rows,)`.

    AgrAmplifier uses the rule this way. Variants: `impact="leave_one_out"` judges as Fang et al. published, by how
    much the model of all updates gains when one is left out, with the mean as the aggregation rule;
    `impact="released"` is AgrAmplifier's code, which lets `torch.topk` choose among equal accuracies, not the loss.
    """
    loss, accuracy = judged(round, impact)
    accurate = highest_accuracy(None if impact == "released" else loss, accuracy, round.byzantine)
    return lowest_loss(loss, round.byzantine) & accurate


defense = Defense(fang, family="prediction", requires=lambda n, f: 2 * f < n, amplifier="restored")
