"""Blind spot: change only what a max-pooled view cannot see (ours, 2026)."""

from torch import Tensor

from agrbench.clients.insider import Insider
from agrbench.clients.perturbations import unseen
from agrbench.errors import AgrbenchError
from agrbench.plugins import Attack


def blind_spot(insider: Insider, *, strength: float = 1.0, kernel: int = 2) -> Tensor:
    """Match the mean honest view, and lower every entry that the view does not show by `strength`.

    The first entry of each `kernel` x `kernel` patch is the mean of the honest clients' largest entries there. The
    other entries are `strength` less, so neither the pooled nor the restored view depends on `strength`.

    Knowledge: all honest updates and the layout; it assumes `amp(kernel)` before the rule, whatever the rule.
    Space: updates. Sign: below the entries shown. Goal: untargeted.
    """
    if strength < 0:
        raise AgrbenchError(f"strength is {strength}; write 0 or more, since more than a patch's largest entry is seen")
    seen, elsewhere = unseen(insider.honest.double(), insider.layout, kernel)
    return (seen - strength * elsewhere).expand(insider.malicious, -1)


attack = Attack(
    forge=blind_spot,
    within=lambda rows, insider, *, kernel=2: (
        (rows.double() - unseen(insider.honest.double(), insider.layout, kernel)[0])[
            :, unseen(insider.honest.double(), insider.layout, kernel)[1] == 0
        ].abs()
        <= 1e-9 * insider.honest.abs().max()
    ),
)
