"""IPM: make the aggregate's inner product with the honest mean negative (Xie et al., UAI 2020)."""

from torch import Tensor

from agrbench.clients.insider import Insider
from agrbench.plugins import Attack


def ipm(insider: Insider, *, epsilon: float = 0.5) -> Tensor:
    """Send `-epsilon` times the honest mean.

    Knowledge: all honest updates. Space: updates. Sign: against the honest mean. Goal: untargeted.

    Variants: `epsilon=100` is the larger of the paper's two values.
    """
    return (-epsilon * insider.honest.double().mean(0)).expand(insider.malicious, -1)


attack = Attack(
    forge=ipm,
    within=lambda rows, insider, *, epsilon=0.5: rows.double() @ insider.honest.double().mean(0) * epsilon <= 0,
)
